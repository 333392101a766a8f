//! One sentence: its checksum, its address and its fields.

use chrono::NaiveDate;

/// What a sentence says, as far as fixes go. Missing fields are `None`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sentence {
    /// Recommended minimum.
    Rmc {
        /// Time of day, ns.
        tod: Option<i64>,
        /// Status A.
        valid: bool,
        /// Latitude and longitude, degrees.
        position: Option<(f64, f64)>,
        /// Speed over ground, m/s.
        sog: Option<f64>,
        /// Course over ground, degrees.
        cog: Option<f64>,
        /// Date.
        date: Option<NaiveDate>,
    },
    /// Fix.
    Gga {
        /// Time of day, ns.
        tod: Option<i64>,
        /// Latitude and longitude, degrees.
        position: Option<(f64, f64)>,
        /// Fix quality, 0 = none.
        quality: Option<u8>,
        /// Satellites used.
        satellites: Option<u8>,
        /// Horizontal dilution.
        hdop: Option<f64>,
        /// Altitude above mean sea level, m.
        alt_msl: Option<f64>,
        /// Geoid above ellipsoid, m.
        geoid_sep: Option<f64>,
    },
    /// Speed and course.
    Vtg {
        /// Speed over ground, m/s.
        sog: Option<f64>,
        /// Course over ground, degrees.
        cog: Option<f64>,
    },
    /// Dilution.
    Gsa {
        /// Horizontal dilution.
        hdop: Option<f64>,
    },
    /// Time and date.
    Zda {
        /// Time of day, ns.
        tod: Option<i64>,
        /// Date.
        date: Option<NaiveDate>,
    },
    /// A good sentence of no use here.
    Other,
}

/// m/s of a knot: 1852 m an hour.
const KNOT: f64 = 1_852.0 / 3_600.0;
/// Years of two digits below this are of this century.
const PIVOT: i32 = 80;
const NS_PER_MINUTE: i64 = 60_000_000_000;

/// The body of `line` (without `$`) if its checksum is there and right; else why not.
pub(super) fn checked(line: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(line).map_err(|_| "sentence is no text".to_owned())?;
    let Some((body, claimed)) = text.rsplit_once('*') else {
        return Err("sentence has no checksum".to_owned());
    };
    let sum = body.bytes().fold(0_u8, |sum, byte| sum ^ byte);
    match u8::from_str_radix(claimed, 16) {
        Ok(claimed) if claimed == sum && body.len() >= 5 => Ok(body),
        Ok(claimed) if claimed != sum => {
            Err(format!("sentence claims checksum {claimed:02X} but its bytes give {sum:02X}"))
        }
        _ => Err("sentence has no readable checksum".to_owned()),
    }
}

/// Last three letters of an address such as `GPRMC`; nothing for proprietary sentences.
pub(super) fn formatter(body: &str) -> &str {
    let address = body.split(',').next().unwrap_or_default();
    match address.as_bytes() {
        [b'P', ..] => "",
        [_, _, _, _, _] => address.get(2..).unwrap_or_default(),
        _ => "",
    }
}

/// Reads a body whose checksum was right.
pub(super) fn parse(body: &str) -> Sentence {
    let fields: Vec<&str> = body.split(',').collect();
    let at = |i: usize| fields.get(i).copied().unwrap_or_default();
    match formatter(body) {
        "RMC" => Sentence::Rmc {
            tod: time_of_day(at(1)),
            valid: at(2) == "A",
            position: position(at(3), at(4), at(5), at(6)),
            sog: number(at(7)).map(|knots| knots * KNOT),
            cog: number(at(8)).filter(|cog| (0.0..=360.0).contains(cog)),
            date: short_date(at(9)),
        },
        "GGA" => Sentence::Gga {
            tod: time_of_day(at(1)),
            position: position(at(2), at(3), at(4), at(5)),
            quality: at(6).parse().ok(),
            satellites: at(7).parse().ok(),
            hdop: number(at(8)),
            alt_msl: number(at(9)),
            geoid_sep: number(at(11)),
        },
        "VTG" => Sentence::Vtg {
            sog: number(at(5)).map(|knots| knots * KNOT),
            cog: number(at(1)).filter(|cog| (0.0..=360.0).contains(cog)),
        },
        "GSA" => Sentence::Gsa { hdop: number(at(16)) },
        "ZDA" => {
            let date = at(4).parse().ok().zip(at(3).parse().ok()).zip(at(2).parse().ok());
            let date = date.and_then(|((year, month), day)| NaiveDate::from_ymd_opt(year, month, day));
            Sentence::Zda { tod: time_of_day(at(1)), date: date.filter(plausible) }
        }
        _ => Sentence::Other,
    }
}

/// Digits, one point and a sign only: `nan`, `inf` and `1e9` are not what receivers send.
fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && digits.len() <= 20;
    text.parse().ok().filter(|_| plain)
}

fn digits(text: &str, from: usize, to: usize) -> Option<i64> {
    let text = text.get(from..to)?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `hhmmss[.fff…]`, ns since midnight; a leap second (60) is read as such.
fn time_of_day(text: &str) -> Option<i64> {
    let (hours, minutes, seconds) = (digits(text, 0, 2)?, digits(text, 2, 4)?, digits(text, 4, 6)?);
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let fraction = match text.get(6..)?.strip_prefix('.') {
        Some(fraction) if !fraction.is_empty() && fraction.len() <= 9 => {
            let power = u32::try_from(fraction.len()).ok()?;
            digits(fraction, 0, fraction.len())? * 10_i64.pow(9 - power)
        }
        Some("") => 0,
        None if text.len() == 6 => 0,
        _ => return None,
    };
    Some((hours * 60 + minutes) * NS_PER_MINUTE + seconds * 1_000_000_000 + fraction)
}

/// `ddmmyy`.
fn short_date(text: &str) -> Option<NaiveDate> {
    if text.len() != 6 {
        return None;
    }
    let (day, month, year) = (digits(text, 0, 2)?, digits(text, 2, 4)?, digits(text, 4, 6)?);
    let year = i32::try_from(year).ok()?;
    let year = if year < PIVOT { 2_000 + year } else { 1_900 + year };
    NaiveDate::from_ymd_opt(year, u32::try_from(month).ok()?, u32::try_from(day).ok()?)
}

fn plausible(date: &NaiveDate) -> bool {
    use chrono::Datelike;
    (1_980..2_200).contains(&date.year())
}

/// `ddmm.mmm,N,dddmm.mmm,E` in degrees.
fn position(lat: &str, ns: &str, lon: &str, ew: &str) -> Option<(f64, f64)> {
    let lat = angle(lat, 90.0)?
        * if ns == "S" {
            -1.0
        } else if ns == "N" {
            1.0
        } else {
            return None;
        };
    let lon = angle(lon, 180.0)?
        * if ew == "W" {
            -1.0
        } else if ew == "E" {
            1.0
        } else {
            return None;
        };
    Some((lat, lon))
}

fn angle(text: &str, degrees_max: f64) -> Option<f64> {
    let whole = text.split('.').next()?;
    let split = whole.len().checked_sub(2)?;
    let degrees = number(text.get(..split).filter(|d| !d.is_empty()).unwrap_or("0"))?;
    let minutes = number(text.get(split..)?)?;
    let angle = degrees + minutes / 60.0;
    (minutes < 60.0 && angle <= degrees_max).then_some(angle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_angles_are_read_exactly_or_not_at_all() {
        assert_eq!(time_of_day("081412.000"), Some(((8 * 60 + 14) * 60 + 12) * 1_000_000_000));
        assert_eq!(time_of_day("235960.5"), Some(86_400_500_000_000));
        for bad in ["", "1", "246000", "08:14:12", "081412x", "081412.1234567890", "０８１４１２"] {
            assert_eq!(time_of_day(bad), None, "{bad}");
        }
        assert_eq!(short_date("260514"), NaiveDate::from_ymd_opt(2014, 5, 26));
        assert_eq!(short_date("310299"), None);
        assert_eq!(
            position("5541.1956", "N", "03737.2877", "E").map(|p| (p.0 * 1e6).round()),
            Some(55_686_593.0)
        );
        assert!(position("3030.0", "S", "00015.0", "W").is_some_and(|p| p == (-30.5, -0.25)));
        for bad in
            [("9130.0", "N"), ("5560.0", "N"), ("", "N"), ("5541.1", "X"), ("nan", "N"), ("5é41.1", "N")]
        {
            assert_eq!(position(bad.0, bad.1, "00015.0", "W"), None, "{bad:?}");
        }
        assert_eq!(number("inf"), None);
        assert_eq!(number("-1.5"), Some(-1.5));
    }

    #[test]
    fn checksums_are_wanted_and_checked() {
        assert!(checked(b"GPZDA,081411.000,26,05,2014,,*5D").is_ok());
        assert!(checked(b"GPZDA,081411.000,26,05,2014,,*5E").unwrap_err().contains("5D"));
        assert!(checked(b"GPZDA,081411.000,26,05,2014,,").unwrap_err().contains("no checksum"));
        assert!(checked(b"*").is_err());
        assert!(checked(b"").is_err());
        assert_eq!(formatter("PUBX,00"), "");
        assert_eq!(formatter("GNRMC,1"), "RMC");
    }
}
