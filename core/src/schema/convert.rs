//! From one unit to another: what UCUM says two units have in common, as exact rational numbers.
//!
//! Every atom that [`check_unit`](super::check_unit) takes is defined here by others, down to the base units, as in
//! The Unified Code for Units of Measure; so the two lists cannot disagree (a test walks them). Factors are ratios of
//! integers and a power of pi, so the only rounding is the one of the final value.
//!
//! Kept apart though UCUM would join them: moles and numbers, bels and numbers, bits and numbers, pH. Annotations
//! (`{pulses}`) say nothing about size. Cel and `[degF]` have an offset when they stand alone; within a product
//! (`W/m2/Cel`) they are differences.

use super::check_unit;
use std::collections::BTreeMap;
use std::fmt;

/// Atom and definition; a base unit is defined by itself. Digits alone are a factor, `[pi]` is the number.
const ATOMS: &[(&str, &str)] = &[
    ("m", "m"),
    ("g", "g"),
    ("s", "s"),
    ("A", "A"),
    ("K", "K"),
    ("mol", "mol"),
    ("cd", "cd"),
    ("rad", "rad"),
    ("bit", "bit"),
    ("B", "B"),
    ("u", "u"),
    ("[pH]", "[pH]"),
    ("Hz", "/s"),
    ("N", "kg.m/s2"),
    ("Pa", "N/m2"),
    ("J", "N.m"),
    ("W", "J/s"),
    ("C", "A.s"),
    ("V", "W/A"),
    ("F", "C/V"),
    ("Ohm", "V/A"),
    ("S", "A/V"),
    ("Wb", "V.s"),
    ("T", "Wb/m2"),
    ("H", "Wb/A"),
    ("Cel", "K"),
    ("lm", "cd.sr"),
    ("lx", "lm/m2"),
    ("Bq", "/s"),
    ("Gy", "J/kg"),
    ("Sv", "J/kg"),
    ("sr", "rad2"),
    ("L", "dm3"),
    ("l", "dm3"),
    ("bar", "100000.Pa"),
    ("eV", "1602176634.J.10*-28"),
    ("G", "10*-4.T"),
    ("t", "1000.kg"),
    ("By", "8.bit"),
    ("Bd", "/s"),
    ("cal", "4184.J/1000"),
    ("%", "10*-2"),
    ("deg", "[pi].rad/180"),
    ("'", "deg/60"),
    ("''", "'/60"),
    ("circ", "2.[pi].rad"),
    ("min", "60.s"),
    ("h", "60.min"),
    ("d", "24.h"),
    ("wk", "7.d"),
    ("a", "31557600.s"),
    ("[ppth]", "10*-3"),
    ("[ppm]", "10*-6"),
    ("[ppb]", "10*-9"),
    ("[g]", "980665.m/s2/100000"),
    ("[degF]", "5.K/9"),
    ("[in_i]", "254.m/10000"),
    ("[ft_i]", "3048.m/10000"),
    ("[mi_i]", "1609344.m/1000"),
    ("[nmi_i]", "1852.m"),
    ("[kn_i]", "[nmi_i]/h"),
    ("[lb_av]", "45359237.g/100000"),
    ("[psi]", "[lb_av].[g]/[in_i]2"),
    ("atm", "101325.Pa"),
    ("ha", "10000.m2"),
];

/// Where the zero of a scale lies above absolute zero, K, as a ratio.
const ZEROS: &[(&str, i128, i128)] = &[("Cel", 27_315, 100), ("[degF]", 229_835, 900)];

const PREFIXES: &[(&str, i32)] = &[
    ("da", 1),
    ("Y", 24),
    ("Z", 21),
    ("E", 18),
    ("P", 15),
    ("T", 12),
    ("G", 9),
    ("M", 6),
    ("k", 3),
    ("h", 2),
    ("d", -1),
    ("c", -2),
    ("m", -3),
    ("u", -6),
    ("n", -9),
    ("p", -12),
    ("f", -15),
    ("a", -18),
];

/// A ratio in lowest terms, `den` > 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ratio {
    num: i128,
    den: i128,
}

impl Ratio {
    const ZERO: Ratio = Ratio { num: 0, den: 1 };
    const ONE: Ratio = Ratio { num: 1, den: 1 };

    fn new(num: i128, den: i128) -> Option<Ratio> {
        let (mut a, mut b) = (num.checked_abs()?, den.checked_abs()?);
        while b != 0 {
            (a, b) = (b, a.checked_rem(b)?);
        }
        let sign = if den < 0 { -1 } else { 1 };
        let common = a.checked_mul(sign)?;
        Some(Ratio { num: num.checked_div(common)?, den: den.checked_div(common)? })
    }

    fn times(self, other: Ratio) -> Option<Ratio> {
        // Across first: the products stay as small as they can be.
        let a = Ratio::new(self.num, other.den)?;
        let b = Ratio::new(other.num, self.den)?;
        Ratio::new(a.num.checked_mul(b.num)?, a.den.checked_mul(b.den)?)
    }

    fn over(self, other: Ratio) -> Option<Ratio> {
        self.times(Ratio::new(other.den, other.num)?)
    }

    fn minus(self, other: Ratio) -> Option<Ratio> {
        let left = self.num.checked_mul(other.den)?;
        let right = other.num.checked_mul(self.den)?;
        Ratio::new(left.checked_sub(right)?, self.den.checked_mul(other.den)?)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.den {
            1 => write!(f, "{}", self.num),
            den => write!(f, "{}/{den}", self.num),
        }
    }
}

/// A unit in base units.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Measure {
    factor: Ratio,
    pi: i32,
    bases: BTreeMap<&'static str, i32>,
    /// Zero of the scale, K; of a unit that stands alone only.
    zero: Ratio,
}

impl Measure {
    fn number(factor: Ratio) -> Self {
        Self { factor, pi: 0, bases: BTreeMap::new(), zero: Ratio::ZERO }
    }

    fn times(&mut self, other: &Measure, exponent: i32) -> Option<()> {
        for _ in 0..exponent.unsigned_abs() {
            self.factor = match exponent > 0 {
                true => self.factor.times(other.factor)?,
                false => self.factor.over(other.factor)?,
            };
        }
        self.pi = self.pi.checked_add(other.pi.checked_mul(exponent)?)?;
        for (base, power) in &other.bases {
            let held = self.bases.entry(base).or_insert(0);
            *held = held.checked_add(power.checked_mul(exponent)?)?;
        }
        self.bases.retain(|_, power| *power != 0);
        Some(())
    }
}

/// Greatest exponent of a term: a hostile one would else take time.
const EXPONENT_MAX: i32 = 99;

fn measure(unit: &str) -> Option<Measure> {
    let mut whole = Measure::number(Ratio::ONE);
    let mut rest = unit;
    let mut sign = 1;
    if let Some(after) = rest.strip_prefix('/') {
        (rest, sign) = (after, -1);
    }
    let alone = sign == 1 && !rest.contains(['.', '/']);
    loop {
        let end = rest.find(['.', '/']).unwrap_or(rest.len());
        let (term, after) = rest.split_at_checked(end)?;
        let symbol = term.split_once('{').map_or(term, |(symbol, _)| symbol);
        let (of, exponent) = self::term(symbol)?;
        if alone && exponent == 1 {
            whole.zero = of.zero;
        }
        whole.times(&of, exponent.checked_mul(sign)?)?;
        let mut chars = after.chars();
        sign = match chars.next() {
            None => return Some(whole),
            Some('/') => -1,
            Some(_) => 1,
        };
        rest = chars.as_str();
    }
}

/// What a term measures, and its exponent.
fn term(symbol: &str) -> Option<(Measure, i32)> {
    if symbol.is_empty() {
        return Some((Measure::number(Ratio::ONE), 1));
    }
    if symbol.bytes().all(|b| b.is_ascii_digit()) {
        return Some((Measure::number(Ratio::new(symbol.parse().ok()?, 1)?), 1));
    }
    let letters = symbol.trim_end_matches(|c: char| c.is_ascii_digit());
    let atom = letters.strip_suffix(['+', '-']).unwrap_or(letters);
    let exponent = symbol.strip_prefix(atom)?;
    let exponent: i32 = if exponent.is_empty() { 1 } else { exponent.parse().ok()? };
    if exponent.checked_abs()? > EXPONENT_MAX {
        return None;
    }
    Some((prefixed(atom)?, exponent))
}

fn prefixed(symbol: &str) -> Option<Measure> {
    match symbol {
        "10*" | "10^" => return Some(Measure::number(Ratio::new(10, 1)?)),
        "[pi]" => return Some(Measure { pi: 1, ..Measure::number(Ratio::ONE) }),
        _ => {}
    }
    if let Some(found) = atom(symbol) {
        return found;
    }
    let (mut of, tens) = PREFIXES.iter().find_map(|(prefix, tens)| {
        let of = atom(symbol.strip_prefix(prefix)?)??;
        Some((of, *tens))
    })?;
    let (ten, one) = (Measure::number(Ratio::new(10, 1)?), of.zero);
    of.times(&ten, tens)?;
    of.zero = one;
    Some(of)
}

fn atom(symbol: &str) -> Option<Option<Measure>> {
    let (name, definition) = ATOMS.iter().find(|(name, _)| *name == symbol)?;
    if name == definition {
        let bases = BTreeMap::from([(*name, 1)]);
        return Some(Some(Measure { bases, ..Measure::number(Ratio::ONE) }));
    }
    let zero = ZEROS.iter().find(|(name, ..)| *name == symbol);
    let zero = zero.map_or(Some(Ratio::ZERO), |(_, num, den)| Ratio::new(*num, *den));
    Some(measure(definition).zip(zero).map(|(of, zero)| Measure { zero, ..of }))
}

/// How a value in one unit becomes one in another: `(x × num + offset) / den × pi^n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    num: i128,
    offset: i128,
    den: i128,
    pi: i32,
}

/// How a value in unit `from` becomes one in `to`; `None` if UCUM does not call them compatible, or the factor is
/// beyond what can be held exactly.
#[must_use]
pub fn conversion(from: &str, to: &str) -> Option<Conversion> {
    if from == to && check_unit(from).is_ok() {
        return Some(Conversion { num: 1, offset: 0, den: 1, pi: 0 });
    }
    let (from, to) = (measure(from)?, measure(to)?);
    if from.bases != to.bases {
        return None;
    }
    let factor = from.factor.over(to.factor)?;
    let shift = from.zero.minus(to.zero)?.over(to.factor)?;
    // One denominator for both, so that a value is divided once.
    let common = Ratio::new(factor.den, shift.den)?;
    let den = factor.den.checked_mul(common.den)?;
    Some(Conversion {
        num: factor.num.checked_mul(common.den)?,
        offset: shift.num.checked_mul(den.checked_div(shift.den)?)?,
        den,
        pi: from.pi.checked_sub(to.pi)?,
    })
}

impl Conversion {
    /// True if values stay what they are: `mL` and `cm3`.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        (self.num, self.offset, self.den, self.pi) == (1, 0, 1, 0)
    }

    /// The same for differences of values, such as uncertainties: without the offset.
    #[must_use]
    pub fn of_difference(self) -> Self {
        Self { offset: 0, ..self }
    }

    /// True if every integer becomes an integer.
    #[must_use]
    pub fn is_integral(&self) -> bool {
        (self.den, self.pi) == (1, 0)
    }

    /// The converted value.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "rounds at most once where an integer is beyond 2^53")]
    pub fn apply(&self, x: f64) -> f64 {
        // A factor of one and an offset of zero are left out: they would turn -0.0 into 0.0.
        let mut y = if self.num == 1 { x } else { x * self.num as f64 };
        if self.offset != 0 {
            y += self.offset as f64;
        }
        if self.den != 1 {
            y /= self.den as f64;
        }
        if self.pi == 0 { y } else { y * std::f64::consts::PI.powi(self.pi) }
    }

    /// The converted integer, if it is one and fits.
    #[must_use]
    pub fn apply_integer(&self, x: i64) -> Option<i64> {
        if !self.is_integral() {
            return None;
        }
        let y = i128::from(x).checked_mul(self.num)?.checked_add(self.offset)?;
        i64::try_from(y).ok()
    }

    /// Numerator, offset, denominator and power of pi: `(x × num + offset) / den × pi^n`.
    #[must_use]
    pub fn parts(&self) -> (i128, i128, i128, i32) {
        (self.num, self.offset, self.den, self.pi)
    }

    /// The factor as text: `1000`, `5/9`, `1/180 pi`.
    #[must_use]
    pub fn factor(&self) -> String {
        let ratio = Ratio::new(self.num, self.den).unwrap_or(Ratio::ONE);
        match self.pi {
            0 => ratio.to_string(),
            1 => format!("{ratio} pi"),
            n => format!("{ratio} pi^{n}"),
        }
    }

    /// What is added after the factor, as text; `0` for most units.
    #[must_use]
    pub fn offset(&self) -> String {
        Ratio::new(self.offset, self.den).unwrap_or(Ratio::ZERO).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::unit::{METRIC, PLAIN, PREFIXES as NAMES};
    use super::*;

    #[test]
    fn a_difference_has_no_offset() {
        let kelvin = conversion("[degF]", "K").unwrap();
        assert_eq!(kelvin.of_difference().apply(1.8), 1.0);
        assert!(kelvin.apply(1.8) > 250.0);
    }

    fn convert(x: f64, from: &str, to: &str) -> f64 {
        conversion(from, to).unwrap_or_else(|| panic!("{from} to {to}")).apply(x)
    }

    #[test]
    fn every_unit_that_is_taken_is_known_here() {
        for symbol in METRIC.iter().chain(PLAIN) {
            assert_eq!(check_unit(symbol), Ok(()), "{symbol}");
            assert!(measure(symbol).is_some(), "{symbol} is not defined");
        }
        for symbol in METRIC {
            for prefix in NAMES {
                let unit = format!("{prefix}{symbol}");
                // Some 1e-34 J and less have more digits than can be held exactly.
                let minute = ["feV", "aeV", "peV"].contains(&unit.as_str());
                assert!(measure(&unit).is_some() || minute, "{unit}");
                assert!(conversion(&unit, &unit).is_some_and(|same| same.is_identity()), "{unit}");
            }
        }
        let mut ours: Vec<&str> = PREFIXES.iter().map(|(name, _)| *name).collect();
        let mut theirs = NAMES.to_vec();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn what_sensors_send_is_converted_exactly() {
        for (x, from, to, y) in [
            (20.0, "Cel", "K", 293.15),
            (293.15, "K", "Cel", 20.0),
            (68.0, "[degF]", "Cel", 20.0),
            (-40.0, "Cel", "[degF]", -40.0),
            (212.0, "[degF]", "K", 373.15),
            (1500.0, "mCel", "Cel", 1.5),
            (1013.25, "hPa", "Pa", 101_325.0),
            (1.0, "atm", "mbar", 1013.25),
            (29.0, "[psi]", "[psi]", 29.0),
            (36.0, "km/h", "m/s", 10.0),
            (1.0, "[kn_i]", "m/s", 1852.0 / 3600.0),
            (1.0, "[g]", "m/s2", 9.80665),
            (2.0, "m/s2", "cm.s-2", 200.0),
            (180.0, "deg", "rad", std::f64::consts::PI),
            (60.0, "/min", "Hz", 1.0),
            (1.0, "kW.h", "MJ", 3.6),
            (5.0, "ug/m3", "mg/m3", 0.005),
            (45.0, "%", "1", 0.45),
            (400.0, "[ppm]", "%", 0.04),
            (2.0, "L/min", "m3/h", 0.12),
            (3.0, "uT", "mG", 30.0),
            (1.0, "kBy", "bit", 8000.0),
            (7.0, "1/s{pulses}", "Hz", 7.0),
            (2.5, "10*-3", "1", 0.0025),
            (5.0, "K/m", "Cel/m", 5.0),
            (1.0, "[ft_i]", "m", 0.3048),
            (60.0, "'", "deg", 1.0),
        ] {
            assert_eq!(convert(x, from, to), y, "{from} to {to}");
        }
        let psi = convert(1.0, "[psi]", "Pa");
        assert!((psi - 6_894.757_293_168_361).abs() < 1e-9, "{psi}");
        assert!(convert(-0.0, "m", "km").is_sign_negative() && convert(f64::NAN, "m", "km").is_nan());
    }

    #[test]
    fn integers_stay_integers_where_the_factor_is_one() {
        let volts = conversion("V", "mV").unwrap();
        assert_eq!((volts.apply_integer(-3), volts.is_integral()), (Some(-3000), true));
        assert_eq!(volts.apply_integer(i64::MAX), None, "an overflow is no value");
        assert_eq!(conversion("mV", "V").unwrap().apply_integer(3000), None);
        assert!(conversion("mL", "cm3").unwrap().is_identity());
        let texts = |from, to| conversion(from, to).map(|c| (c.factor(), c.offset()));
        assert_eq!(texts("[degF]", "Cel"), Some(("5/9".to_owned(), "-160/9".to_owned())));
        assert_eq!(texts("deg", "rad"), Some(("1/180 pi".to_owned(), "0".to_owned())));
    }

    #[test]
    fn what_measures_something_else_is_not_converted() {
        for (from, to) in [
            ("m", "s"),
            ("m/s", "m/s2"),
            ("1", "rad"),
            ("mol", "1"),
            ("dB", "1"),
            ("[pH]", "1"),
            ("Cel", "Pa"),
            ("kg", "N"),
            ("bit", "1"),
        ] {
            assert_eq!(conversion(from, to), None, "{from} to {to}");
        }
        // What cannot be held exactly, or was never a unit, is refused too.
        assert_eq!(conversion("10*99", "1"), None);
        assert_eq!(conversion("furlongs", "m"), None);
        assert_eq!(conversion("m999999", "m"), None);
    }
}
