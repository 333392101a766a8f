//! What chrony says of this host's clock: the line of `chronyc -c tracking`, and one setting of its configuration.
//!
//! Its own greatest error is |offset| + root dispersion + root delay / 2. The dispersion grows by `maxclockerror`, the
//! crystal's worst rate, and that is 1 ppm unless configured: real crystals reach 50. So only with 50 or more is the sum a
//! promise; below it the collector's clock is *estimated*.

use headwater_core::time::NS_PER_S;

/// Least `maxclockerror` of a bound that may be promised, ppm: datasheet of the crystals in servers and boards.
pub const MAX_CLOCK_ERROR_PPM_MIN: f64 = 50.0;
/// `maxclockerror` where the configuration does not say, ppm (chrony.conf(5)).
pub const MAX_CLOCK_ERROR_PPM_DEFAULT: f64 = 1.0;
/// Where distributions keep the configuration.
pub const CONFIG_FILES: [&str; 2] = ["/etc/chrony/chrony.conf", "/etc/chrony.conf"];
/// Where they keep its fragments.
pub const CONFIG_FOLDERS: [&str; 2] = ["/etc/chrony/conf.d", "/etc/chrony.d"];

/// `chronyc -c tracking`, as far as it is needed.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracking {
    /// The server chrony follows, by name or address.
    pub reference: String,
    /// False while it follows none.
    pub synchronised: bool,
    /// Greatest error of UTC, ns, as chrony sums it.
    pub bound_ns: i64,
}

impl Tracking {
    /// Reads the line: 14 fields, of which 1 is the reference, 4 the offset, 10 and 11 root delay and dispersion in
    /// seconds, and 13 the leap status. `None` if it is none.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.trim().split(',').collect();
        let seconds = |at: usize| fields.get(at)?.parse::<f64>().ok().filter(|s| s.is_finite());
        let (offset, delay, dispersion) = (seconds(4)?, seconds(10)?, seconds(11)?);
        let leap = *fields.get(13)?;
        Some(Self {
            reference: (*fields.get(1)?).to_owned(),
            synchronised: leap != "Not synchronised" && *fields.first()? != "00000000",
            bound_ns: ns_up(offset.abs() + dispersion.abs() + delay.abs() / 2.0),
        })
    }
}

/// Seconds as ns, rounded up, at most what fits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "clamped to what fits first"
)]
fn ns_up(seconds: f64) -> i64 {
    let most = i64::MAX / NS_PER_S;
    (seconds.clamp(0.0, most as f64) * NS_PER_S as f64).ceil() as i64
}

/// The last `maxclockerror` in a configuration's text, ppm.
#[must_use]
pub fn max_clock_error_ppm(config: &str) -> Option<f64> {
    let setting = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next().filter(|name| name.eq_ignore_ascii_case("maxclockerror"));
        name.and_then(|_| words.next()?.parse().ok())
    };
    config.lines().filter_map(setting).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_host_that_follows_a_server() {
        let line = "A9FEA97B,169.254.169.123,4,1790000000.123456789,-0.000012000,0.000004,0.000020,-7.25,0.001,0.03,\
                    0.000450000,0.000113000,16.1,Normal\n";
        let tracking = Tracking::parse(line).unwrap();
        assert_eq!(tracking.reference, "169.254.169.123");
        assert!(tracking.synchronised);
        assert_eq!(tracking.bound_ns, 350_000, "12 + 113 + 450 / 2 µs");
    }

    #[test]
    fn a_host_that_follows_nobody_says_so() {
        let line = "00000000,,0,0.000000000,0.000000000,0.0,0.0,0.0,0.0,0.0,1.000000000,1.000000000,0.0,Not synchronised";
        let tracking = Tracking::parse(line).unwrap();
        assert!(!tracking.synchronised);
        assert_eq!(tracking.bound_ns, 1_500_000_000);
    }

    #[test]
    fn anything_else_is_no_line() {
        for line in [
            "",
            "506 Cannot talk to daemon",
            "A,b,1,2,x,0,0,0,0,0,0,0,0,Normal",
            "A,b,1,2,nan,0,0,0,0,0,0,0,0,Normal",
        ] {
            assert_eq!(Tracking::parse(line), None, "{line}");
        }
        let absurd = Tracking::parse("A,b,1,2,1e300,0,0,0,0,0,0,0,0,Normal").unwrap();
        assert!(absurd.bound_ns > i64::MAX / 2);
    }

    #[test]
    fn the_setting_that_makes_it_a_promise() {
        assert_eq!(max_clock_error_ppm("pool 2.pool.ntp.org iburst\nmaxclockerror 50\n"), Some(50.0));
        assert_eq!(
            max_clock_error_ppm("# maxclockerror 50\nMaxClockError 5\nmaxclockerror 60 # later wins"),
            Some(60.0)
        );
        assert_eq!(max_clock_error_ppm("maxdistance 3\nmaxclockerror fifty"), None);
    }
}
