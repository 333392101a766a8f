//! Days as people write them.

/// `2026-11-28` for days since 1970, or the number where no calendar reaches.
pub(super) fn text(day: i32) -> String {
    chrono::DateTime::from_timestamp(i64::from(day).saturating_mul(86_400), 0)
        .map_or_else(|| day.to_string(), |time| time.format("%Y-%m-%d").to_string())
}
