//! Spans of time and conditions as people write them.

use chrono::DateTime;
use headwater_lake::{Compare, Condition};
use std::str::FromStr;

/// A moment: RFC 3339, or so long before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::query) enum Moment {
    /// UTC µs.
    At(i64),
    /// µs before now.
    Before(i64),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no moment: write RFC 3339 such as 2026-11-28T10:00:00Z, a day such as 2026-11-28, or -2h, -30min, -7d"
            )
        };
        if text == "now" {
            return Ok(Self::Before(0));
        }
        if let Some(rest) = text.strip_prefix('-') {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (count, unit) = rest.split_at(digits);
            let unit_us: i64 = match unit {
                "s" => 1_000_000,
                "m" | "min" => 60_000_000,
                "h" => 3_600_000_000,
                "d" => 86_400_000_000,
                "w" => 604_800_000_000,
                _ => return Err(wrong()),
            };
            let count: i64 = count.parse().map_err(|_| wrong())?;
            return count.checked_mul(unit_us).map(Self::Before).ok_or_else(wrong);
        }
        let day = format!("{text}T00:00:00Z");
        let full = if text.len() == "2026-11-28".len() { day.as_str() } else { text };
        DateTime::parse_from_rfc3339(full).map(|t| Self::At(t.timestamp_micros())).map_err(|_| wrong())
    }
}

impl Moment {
    /// UTC µs.
    pub(in crate::query) fn micros(self, now_us: i64) -> i64 {
        match self {
            Self::At(us) => us,
            Self::Before(us) => now_us.saturating_sub(us),
        }
    }
}

/// From one moment up to another, the end not included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::query) struct Span {
    /// UTC µs.
    pub(in crate::query) from_us: Option<i64>,
    /// UTC µs.
    pub(in crate::query) to_us: Option<i64>,
}

impl Span {
    /// Both moments by one now.
    pub(in crate::query) fn new(from: Option<Moment>, to: Option<Moment>, now_us: i64) -> Self {
        Self { from_us: from.map(|m| m.micros(now_us)), to_us: to.map(|m| m.micros(now_us)) }
    }

    /// The part of a UTC day that is within; none if nothing is.
    pub(in crate::query) fn within_day(self, day: i32) -> Option<Self> {
        const DAY_US: i64 = 86_400_000_000;
        let start = i64::from(day).saturating_mul(DAY_US);
        let end = start.saturating_add(DAY_US);
        let from = self.from_us.map_or(start, |from| from.max(start));
        let to = self.to_us.map_or(end, |to| to.min(end));
        (from < to).then_some(Self { from_us: Some(from), to_us: Some(to) })
    }
}

/// `column>=value` and its like.
pub(in crate::query) fn condition(text: &str) -> Result<Condition, String> {
    let signs = [
        ("!=", Compare::NotEqual),
        (">=", Compare::GreaterOrEqual),
        ("<=", Compare::LessOrEqual),
        ("=", Compare::Equal),
        (">", Compare::Greater),
        ("<", Compare::Less),
    ];
    // The first sign counts: a value may hold any.
    let found = signs.iter().filter_map(|(sign, compare)| Some((text.find(sign)?, sign, *compare)));
    let found = found.min_by_key(|(place, sign, _)| (*place, std::cmp::Reverse(sign.len())));
    let Some((place, sign, compare)) = found else {
        return Err("write COLUMN, one of = != < <= > >=, and a value, such as accel_x>=9.5".to_owned());
    };
    let (column, value) = (text.get(..place).unwrap_or_default().trim(), text.get(place + sign.len()..));
    let value = value.unwrap_or_default().trim().trim_matches('\'').to_owned();
    if column.is_empty() {
        return Err("there is no column before the sign".to_owned());
    }
    Ok(Condition { column: column.to_owned(), compare, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_absolute_or_before_now() {
        let at = |text: &str| text.parse::<Moment>().unwrap().micros(1_000_000_000_000);
        assert_eq!(at("1970-01-01T00:00:01.5Z"), 1_500_000);
        assert_eq!(at("1970-01-02"), 86_400_000_000);
        assert_eq!(at("1970-01-01T02:00:00+01:00"), 3_600_000_000);
        assert_eq!(
            (at("-2h"), at("-30min"), at("now")),
            (992_800_000_000, 998_200_000_000, 1_000_000_000_000)
        );
        for bad in ["", "yesterday", "-2", "-h", "2h", "-99999999999999w", "2026-13-01", "-1.5h"] {
            let said = bad.parse::<Moment>().unwrap_err();
            assert!(said.contains("RFC 3339"), "{said}");
        }
    }

    #[test]
    fn days_are_cut_to_the_span() {
        let day = 86_400_000_000;
        let span = Span { from_us: Some(day + 5), to_us: Some(2 * day) };
        assert_eq!(span.within_day(1), Some(Span { from_us: Some(day + 5), to_us: Some(2 * day) }));
        assert_eq!((span.within_day(0), span.within_day(2)), (None, None));
        assert_eq!(Span::default().within_day(-1), Some(Span { from_us: Some(-day), to_us: Some(0) }));
    }

    #[test]
    fn the_first_sign_divides_column_and_value() {
        for (text, column, compare, value) in [
            ("a=1", "a", Compare::Equal, "1"),
            ("a >= 1.5", "a", Compare::GreaterOrEqual, "1.5"),
            ("note!='x = y'", "note", Compare::NotEqual, "x = y"),
            ("note=a<b", "note", Compare::Equal, "a<b"),
            ("n<-3", "n", Compare::Less, "-3"),
        ] {
            let (column, value) = (column.to_owned(), value.to_owned());
            assert_eq!(condition(text).unwrap(), Condition { column, compare, value });
        }
        assert!(condition("a").unwrap_err().contains("accel_x>=9.5"));
        assert!(condition("=1").is_err());
    }
}
