//! Units as UCUM writes them, checked by shape and by the atoms sensors use.
//!
//! Source: The Unified Code for Units of Measure, case-sensitive form. The check knows products,
//! quotients, exponents, metric prefixes, annotations and the atoms below; `convert` says what they are made of.

/// Longest unit, bytes.
pub const UNIT_BYTES_MAX: usize = 64;

/// A unit that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unit {unit:?} is not UCUM ({at:?}){hint}")]
pub struct UnitError {
    /// The whole unit.
    pub unit: String,
    /// The part that is not understood.
    pub at: String,
    /// What to write instead, when that can be guessed; else empty.
    pub hint: String,
}

pub(super) const METRIC: &[&str] = &[
    "m", "g", "s", "A", "K", "mol", "cd", "Hz", "N", "Pa", "J", "W", "C", "V", "F", "Ohm", "S", "Wb", "T",
    "H", "Cel", "lm", "lx", "Bq", "Gy", "Sv", "rad", "sr", "L", "l", "bar", "eV", "G", "t", "B", "By", "bit",
    "Bd", "cal", "u",
];
pub(super) const PLAIN: &[&str] = &[
    "1", "%", "deg", "'", "''", "min", "h", "d", "wk", "a", "[ppm]", "[ppb]", "[ppth]", "[pH]", "[g]",
    "[degF]", "[mi_i]", "[ft_i]", "[in_i]", "[kn_i]", "[nmi_i]", "[psi]", "atm", "circ", "10*", "10^", "ha",
    "[lb_av]",
];
pub(super) const PREFIXES: &[&str] =
    &["da", "Y", "Z", "E", "P", "T", "G", "M", "k", "h", "d", "c", "m", "u", "n", "p", "f", "a"];
const COMMON_MISTAKES: &[(&str, &str)] = &[
    ("°C", "Cel"),
    ("degC", "Cel"),
    ("C°", "Cel"),
    ("°", "deg"),
    ("degrees", "deg"),
    ("m/s^2", "m/s2"),
    ("m/s²", "m/s2"),
    ("ppm", "[ppm]"),
    ("ppb", "[ppb]"),
    ("kn", "[kn_i]"),
    ("knots", "[kn_i]"),
    ("ug/m³", "ug/m3"),
    ("µg/m³", "ug/m3"),
    ("°F", "[degF]"),
    ("ohm", "Ohm"),
    ("none", "1"),
    ("", "1"),
    ("percent", "%"),
    ("hz", "Hz"),
    ("mins", "min"),
];

/// Accepts `unit` if it is UCUM as far as this module knows it.
///
/// # Errors
/// [`UnitError`] with the part that is not understood and, for common slips, the right spelling.
pub fn check_unit(unit: &str) -> Result<(), UnitError> {
    let refuse = |at: &str| UnitError {
        unit: unit.chars().take(UNIT_BYTES_MAX).collect(),
        at: at.chars().take(UNIT_BYTES_MAX).collect(),
        hint: COMMON_MISTAKES
            .iter()
            .find(|(wrong, _)| *wrong == unit)
            .map(|(_, right)| format!("; write {right:?}"))
            .unwrap_or_default(),
    };
    if unit.is_empty() || unit.len() > UNIT_BYTES_MAX || !unit.is_ascii() {
        return Err(refuse(unit));
    }
    for term in unit.strip_prefix('/').unwrap_or(unit).split(['.', '/']) {
        let (symbol, annotation) = match term.split_once('{') {
            Some((symbol, rest)) => (symbol, rest.strip_suffix('}').map(Some).ok_or_else(|| refuse(term))?),
            None => (term, None),
        };
        let atom = symbol.trim_end_matches(|c: char| c.is_ascii_digit());
        let atom = atom.strip_suffix(['+', '-']).unwrap_or(atom);
        let number = atom.is_empty() && !symbol.is_empty();
        let known = number || is_atom(atom) || is_atom(symbol) || (symbol.is_empty() && annotation.is_some());
        if !known {
            return Err(refuse(term));
        }
    }
    Ok(())
}

fn is_atom(symbol: &str) -> bool {
    PLAIN.contains(&symbol)
        || METRIC.contains(&symbol)
        || PREFIXES
            .iter()
            .any(|prefix| symbol.strip_prefix(prefix).is_some_and(|rest| METRIC.contains(&rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_sensors_pass() {
        for unit in [
            "1",
            "m",
            "m/s2",
            "rad/s",
            "deg",
            "Cel",
            "K",
            "hPa",
            "%",
            "ug/m3",
            "[ppm]",
            "W/m2",
            "mW/m2",
            "/min",
            "10*-3",
            "uT",
            "mV",
            "kHz",
            "[kn_i]",
            "{count}",
            "1/s{pulses}",
            "m.s-1",
            "mol/L",
            "By",
            "G",
        ] {
            assert_eq!(check_unit(unit), Ok(()), "{unit}");
        }
    }

    #[test]
    fn slips_are_answered_with_the_right_spelling() {
        for (wrong, right) in [("°C", "Cel"), ("m/s^2", "m/s2"), ("knots", "[kn_i]"), ("", "1")] {
            let error = check_unit(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("{right:?}")), "{error}");
        }
        assert!(check_unit("furlongs").is_err());
        assert!(check_unit("m/{x").is_err());
        assert!(check_unit(&"m".repeat(65)).is_err());
    }
}
