//! How well a stream must be timed, and what happens to rows that are not: `[[time]]` of the configuration.

use headwater_core::id::{DeviceId, StreamName};
use std::fmt;
use std::str::FromStr;

/// Longest rows may be held for a better clock, ms: their landing log cannot be trimmed below them.
pub const HOLD_MS_MAX: u64 = 3_600_000;
/// Longest pattern, characters: a stream's name has at most 64.
const PATTERN_CHARS_MAX: usize = 128;

/// A name in which `*` stands for any characters, none included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// True if the name is one of those meant.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let mut last = None;
        for part in parts {
            // The part before the last `*` may stand anywhere; the one after it must end the name.
            if let Some(middle) = last.replace(part) {
                let Some((_, after)) = rest.split_once(middle) else { return false };
                rest = after;
            }
        }
        last.map_or(rest.is_empty(), |end: &str| rest.ends_with(end))
    }
}

impl FromStr for NamePattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/*".contains(c);
        let good = !text.is_empty() && text.len() <= PATTERN_CHARS_MAX && text.chars().all(allowed);
        if good { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What becomes of rows whose bound is beyond what is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// They go in, and are noted in `ops.verdicts`.
    Mark,
    /// They wait for a better clock, so long; then they go in and are noted.
    Hold {
        /// How long, ms.
        ms: u64,
    },
}

/// How well streams of one pattern must be timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeDemand {
    /// Of which devices; none = all.
    pub device: Option<NamePattern>,
    /// Which streams.
    pub stream: NamePattern,
    /// Greatest half width of a row's interval, ns.
    pub require_ns: i64,
    /// What becomes of rows beyond it.
    pub beyond: Beyond,
}

impl TimeDemand {
    /// The first demand that means this stream.
    #[must_use]
    pub fn of<'a>(demands: &'a [Self], device: &DeviceId, stream: &StreamName) -> Option<&'a Self> {
        demands.iter().find(|demand| {
            demand.device.as_ref().is_none_or(|pattern| pattern.fits(device.as_str()))
                && demand.stream.fits(stream.as_str())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, name: &str) -> bool {
        pattern.parse::<NamePattern>().unwrap().fits(name)
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name) in [
            ("imu", "imu"),
            ("*", "imu"),
            ("camera/*", "camera/front"),
            ("*/front", "camera/front"),
            ("c*a/*t", "camera/front"),
            ("a*b*b", "abb"),
            ("imu*", "imu"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("imu", "imu2"),
            ("imu", "im"),
            ("camera/*", "camera"),
            ("*/front", "camera/rear"),
            ("a*ab", "ab"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        assert!("".parse::<NamePattern>().is_err() && "Camera front".parse::<NamePattern>().is_err());
    }

    /// The plain definition, exponential and obvious.
    fn by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|at| by_definition(rest, &name[at..])),
            Some((c, rest)) => {
                name.split_first().is_some_and(|(n, tail)| n == c && by_definition(rest, tail))
            }
        }
    }

    proptest! {
        #[test]
        fn patterns_mean_what_they_are_defined_to(pattern in "[ab*]{1,6}", name in "[ab]{0,7}") {
            prop_assert_eq!(fits(&pattern, &name), by_definition(pattern.as_bytes(), name.as_bytes()));
        }
    }

    #[test]
    fn the_first_demand_that_fits_counts() {
        let demand = |device: Option<&str>, stream: &str, ms: i64| TimeDemand {
            device: device.map(|name| name.parse().unwrap()),
            stream: stream.parse().unwrap(),
            require_ns: ms,
            beyond: Beyond::Mark,
        };
        let demands = [demand(Some("pi-1"), "imu", 1), demand(None, "imu", 2), demand(None, "*", 3)];
        let of = |device: &str, stream: &str| {
            let (device, stream) = (device.parse().unwrap(), stream.parse().unwrap());
            TimeDemand::of(&demands, &device, &stream).map(|demand| demand.require_ns)
        };
        assert_eq!((of("pi-1", "imu"), of("pi-2", "imu"), of("pi-1", "gps")), (Some(1), Some(2), Some(3)));
    }
}
