//! Times and durations as people read them.

use headwater_core::time::{NS_PER_MS, NS_PER_S, UtcNanos};

/// UTC to the second, or the plain number where no calendar reaches.
pub(super) fn utc(at: UtcNanos) -> String {
    chrono::DateTime::from_timestamp_micros(at.micros())
        .map_or_else(|| format!("{} ns", at.0), |t| t.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// The time of day alone.
pub(super) fn time_of_day(at: UtcNanos) -> String {
    chrono::DateTime::from_timestamp_micros(at.micros())
        .map_or_else(|| format!("{} s", at.0 / NS_PER_S), |t| t.format("%H:%M:%S").to_string())
}

/// A duration in the unit it is best read in, three digits or so.
pub(super) fn duration(ns: i64) -> String {
    const DAY: i64 = 86_400 * NS_PER_S;
    let sign = if ns < 0 { "−" } else { "" };
    let size = ns.saturating_abs();
    let units = [
        (365 * DAY, "years"),
        (DAY, "d"),
        (3_600 * NS_PER_S, "h"),
        (60 * NS_PER_S, "min"),
        (NS_PER_S, "s"),
        (NS_PER_MS, "ms"),
        (1_000, "µs"),
    ];
    // A unit is used from twice its size on, so that 1.5 min reads as 90 s; seconds and below from once.
    let fits = |(unit, _): &&(i64, &str)| if *unit > NS_PER_S { size >= 2 * unit } else { size >= *unit };
    match units.iter().find(fits) {
        None => format!("{sign}{size} ns"),
        Some((unit, name)) => {
            let value = float(size) / float(*unit);
            let digits = if value >= 100.0 {
                0
            } else if value >= 10.0 {
                1
            } else {
                2
            };
            format!("{sign}{value:.digits$} {name}")
        }
    }
}

/// Parts per billion as ppm, with its sign.
pub(super) fn ppm(ppb: i64) -> String {
    let sign = if ppb < 0 { "−" } else { "+" };
    format!("{sign}{:.2} ppm", float(ppb.saturating_abs()) / 1_000.0)
}

/// For drawing and reading, where 53 bits are enough.
#[expect(clippy::cast_precision_loss, reason = "what is drawn or read has three digits")]
pub(super) fn float(n: i64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_in_their_own_unit() {
        for (ns, words) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (12_345, "12.3 µs"),
            (-25_700_000, "−25.7 ms"),
            (1_500_000_000, "1.50 s"),
            (90 * NS_PER_S, "90.0 s"),
            (7_200 * NS_PER_S, "2.00 h"),
            (-56 * 365 * 86_400 * NS_PER_S, "−56.0 years"),
            (i64::MIN, "−292 years"),
        ] {
            assert_eq!(duration(ns), words, "{ns}");
        }
        assert_eq!((ppm(-23_104), ppm(500)), ("−23.10 ppm".into(), "+0.50 ppm".into()));
        assert_eq!(utc(UtcNanos(0)), "1970-01-01 00:00:00");
    }
}
