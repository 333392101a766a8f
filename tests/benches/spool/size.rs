//! Sizes as people write them: `1GB`, `64KiB`, `200kB`.

/// Units by their letters, longest first.
const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

/// Bytes of `text`; a number alone counts bytes.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_lowercase();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(letters, unit)| lower.strip_suffix(letters).map(|number| (number.to_owned(), *unit)))
        .unwrap_or((lower, 1));
    let whole: Option<u64> = number.trim().parse().ok();
    whole
        .and_then(|whole| whole.checked_mul(unit))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("{text:?} is no size; write for example 1GB or 64MiB"))
}

/// `bytes` for people, in decimal units.
pub(crate) fn shown(bytes: u64) -> String {
    let (_, (letters, unit)) = [("B", 1), ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000_u64)]
        .into_iter()
        .enumerate()
        .rfind(|(at, (_, unit))| *at == 0 || bytes >= *unit)
        .unwrap_or((0, ("B", 1)));
    if bytes.is_multiple_of(unit) {
        format!("{} {letters}", bytes / unit)
    } else {
        format!("{:.1} {letters}", bytes as f64 / unit as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_kinds_of_units() {
        assert_eq!(parse("1GB"), Ok(1_000_000_000));
        assert_eq!(parse(" 64 KiB "), Ok(65_536));
        assert_eq!(parse("200kb"), Ok(200_000));
        assert_eq!(parse("17"), Ok(17));
        assert_eq!(parse("17b"), Ok(17));
        for wrong in ["", "GB", "1.5GB", "-1MB", "0", "1XB", "99999999999TB"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown_short() {
        assert_eq!(shown(17), "17 B");
        assert_eq!(shown(10_000_000_000), "10 GB");
        assert_eq!(shown(196_608), "196.6 kB");
    }
}
