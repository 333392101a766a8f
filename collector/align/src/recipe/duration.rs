//! Durations as people write them: `50ms`, `1.5s`, `-10min`.

const UNITS: [(&str, i128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads a duration with its sign, ns; exact, so more digits than nanoseconds have are refused.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at_checked(split)?;
    let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, part) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), ""));
    let digits = |text: &str| text.len() <= 19 && text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || (part.is_empty() && number.contains('.')) {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(part.len()).ok()?);
    let part: i128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let whole = whole.parse::<i128>().ok()?.checked_mul(scale)?.checked_add(part)?;
    let ns = whole.checked_mul(*unit_ns)? * sign;
    if ns % scale != 0 {
        return None;
    }
    i64::try_from(ns / scale).ok()
}

/// A duration in the largest unit that needs no fraction: `50ms`, `90s`, `0s`.
#[must_use]
pub fn show(ns: i64) -> String {
    if ns == 0 {
        return "0s".to_owned();
    }
    let whole = UNITS.iter().rev().find(|(_, unit_ns)| i128::from(ns) % unit_ns == 0);
    let (unit, unit_ns) = whole.copied().unwrap_or(("ns", 1));
    format!("{}{unit}", i128::from(ns) / unit_ns)
}

#[cfg(test)]
mod tests {
    use super::{parse, show};

    #[test]
    fn durations_are_exact() {
        let cases = [
            ("50ms", Some(50_000_000)),
            ("1s", Some(1_000_000_000)),
            ("1000ms", Some(1_000_000_000)),
            ("1.5 s", Some(1_500_000_000)),
            ("0.1us", Some(100)),
            ("30d", Some(2_592_000_000_000_000)),
            ("10min", Some(600_000_000_000)),
            ("-3.2ms", Some(-3_200_000)),
            ("+5s", Some(5_000_000_000)),
            ("0.1ns", None),
            ("5", None),
            ("--5s", None),
            ("s", None),
            ("1.s", None),
            ("999999999999d", None),
            ("9999999999999999999.9999999999999999999d", None),
            ("5 weeks", None),
            ("5\u{b5}s", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for (ns, text) in [
            (0, "0s"),
            (50_000_000, "50ms"),
            (1_000_000_000, "1s"),
            (90_000_000_000, "90s"),
            (-3_200_000, "-3200us"),
            (86_400_000_000_000, "1d"),
            (i64::MIN, "-9223372036854775808ns"),
        ] {
            assert_eq!((show(ns).as_str(), parse(text)), (text, Some(ns)));
        }
    }
}
