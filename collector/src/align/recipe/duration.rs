//! Durations as people write them: `50ms`, `1.5s`, `10min`.

const UNITS: [(&str, i128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads a duration that is not negative, ns; exact, so more digits than nanoseconds have are refused.
pub(super) fn parse(text: &str) -> Option<i64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, part) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), ""));
    let digits = |text: &str| text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || (part.is_empty() && number.contains('.')) {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(part.len()).ok()?);
    let part: i128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let ns = (whole.parse::<i128>().ok()? * scale + part) * unit_ns;
    if ns % scale != 0 {
        return None;
    }
    i64::try_from(ns / scale).ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

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
            ("0.1ns", None),
            ("5", None),
            ("-5s", None),
            ("s", None),
            ("1.s", None),
            ("999999999999d", None),
            ("5 weeks", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse(text), wanted, "{text}");
        }
    }
}
