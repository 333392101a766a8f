//! Decimal numbers of other programs, exactly or not at all: as integers of a billionth, never as floats.

/// A billionth of what stands there, rounded away from zero; none if it is no plain decimal number, or too large.
pub(super) fn billionths(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.len() <= 24 && part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let (kept, cut) = fraction.split_at(fraction.len().min(9));
    let number = |part: &str| if part.is_empty() { Some(0) } else { part.parse::<i64>().ok() };
    let power = 10_i64.checked_pow(u32::try_from(9 - kept.len()).ok()?)?;
    let rest = number(kept)?.checked_mul(power)?;
    let up = i64::from(cut.bytes().any(|b| b != b'0'));
    let sum = number(whole)?.checked_mul(1_000_000_000)?.checked_add(rest)?.checked_add(up)?;
    Some(if negative { -sum } else { sum })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_numbers_are_read_and_nothing_else() {
        assert_eq!(billionths("0.000001234"), Some(1_234));
        assert_eq!(billionths("-1.5"), Some(-1_500_000_000));
        assert_eq!(billionths("+3"), Some(3_000_000_000));
        assert_eq!(billionths(".0000000001"), Some(1), "rounded away from zero");
        assert_eq!(billionths("1782000000.123456789"), Some(1_782_000_000_123_456_789));
        for bad in ["", ".", "-", "1e9", "nan", "inf", "0x1", "1.2.3", " 1", "1 ", "９", "99999999999", "--1"]
        {
            assert_eq!(billionths(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_integers_come_back(n in -9_000_000_000_i64..9_000_000_000, junk in "\\PC{0,40}") {
            prop_assert_eq!(billionths(&n.to_string()), Some(n * 1_000_000_000));
            billionths(&junk);
        }
    }
}
