//! The small readers of the check: a name, a number in a range, a word, a size in bytes.

use super::mistake::{Mistake, Mistakes};
use std::ops::RangeInclusive;
use std::str::FromStr;
use toml::Value;

/// Reads a required name by its own rule.
pub(super) fn name<T>(
    value: Option<&str>,
    path: &str,
    expected: &str,
    hint: &str,
    mistakes: &mut Mistakes,
) -> Option<T>
where
    T: FromStr<Err = headwater_core::id::NameError>,
{
    let Some(value) = value else {
        mistakes.push(Mistake::new(path, expected, "nothing").hint(hint));
        return None;
    };
    value
        .parse()
        .map_err(|error: headwater_core::id::NameError| {
            mistakes.push(Mistake::new(path, error.rule, format!("{value:?}")).hint(hint));
        })
        .ok()
}

/// Reads an optional number within `range`.
pub(super) fn number<T: TryFrom<i64>>(
    value: Option<i64>,
    default: i64,
    range: RangeInclusive<i64>,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<T> {
    let value = value.unwrap_or(default);
    match T::try_from(value) {
        Ok(number) if range.contains(&value) => Some(number),
        _ => {
            let expected = format!("a number from {} to {}", range.start(), range.end());
            mistakes.push(Mistake::new(path, expected, value.to_string()));
            None
        }
    }
}

/// Reads one word of a list.
pub(super) fn word<T: Copy>(
    value: Option<&str>,
    words: &[(&str, T)],
    default: Option<T>,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<T> {
    let Some(value) = value else {
        if default.is_none() {
            mistakes.push(Mistake::new(path, one_of(words), "nothing"));
        }
        return default;
    };
    let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
    if found.is_none() {
        mistakes.push(Mistake::new(path, one_of(words), format!("{value:?}")));
    }
    found
}

fn one_of<T>(words: &[(&str, T)]) -> String {
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    format!("one of {}", words.join(", "))
}

/// Reads an optional size of at least `least`; `(default, least, what is expected)`.
pub(super) fn size(
    value: Option<&Value>,
    (default, least, expected): (u64, u64, &str),
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<u64> {
    let Some(value) = value else { return Some(default) };
    let found = bytes(value).filter(|bytes| *bytes >= least);
    if found.is_none() {
        let mistake = Mistake::new(path, expected, super::raw::shown(value));
        mistakes.push(mistake.hint("write it with its unit, such as \"4GiB\""));
    }
    found
}

/// Reads a size such as `4GiB`, `500MB` or a plain number of bytes.
pub(super) fn bytes(value: &Value) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    match value {
        Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        Value::String(text) => {
            let text = text.trim();
            let (number, unit) = UNITS
                .iter()
                .find_map(|(unit, bytes)| text.strip_suffix(unit).map(|number| (number, *bytes)))
                .unwrap_or((text, 1));
            number.trim_end().parse::<u64>().ok()?.checked_mul(unit)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        let size = |text: &str| bytes(&Value::String(text.into()));
        assert_eq!(size("4GiB"), Some(4 << 30));
        assert_eq!(size("500 MB"), Some(500_000_000));
        assert_eq!(size("17"), Some(17));
        assert_eq!(size("4 gigs"), None);
        assert_eq!(size("99999999TiB"), None);
        assert_eq!(bytes(&Value::Integer(-1)), None);
    }
}
