//! gpsd's words: PPS and TOFF, each a pair of UTC and the wall clock. Seconds are whole numbers here: as 32-bit floats
//! they would be 128 s apart.

use crate::gpsd::{class, garbled};
use headwater_core::time::{NS_PER_S, UtcNanos};
use serde::Deserialize;

/// What asks it for reports.
pub(super) const WATCH: &[u8] = b"?WATCH={\"enable\":true,\"json\":true,\"pps\":true};\n";
/// Longest device name kept.
const NAME_BYTES_MAX: usize = 64;

/// A line that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// A pulse: the wall clock showed `wall` when `utc` came.
    Pulse { device: String, utc: UtcNanos, wall: UtcNanos },
    /// Sentences of `utc` came when the wall clock showed `wall`.
    TimeOffset { device: String, utc: UtcNanos, wall: UtcNanos },
    /// Something else.
    Other,
}

#[derive(Deserialize)]
struct Pair {
    #[serde(default)]
    device: String,
    real_sec: i64,
    real_nsec: i64,
    clock_sec: i64,
    clock_nsec: i64,
}

/// Reads a line.
///
/// # Errors
/// Why it is none of gpsd's, for a person.
pub(super) fn read(line: &[u8]) -> Result<Said, String> {
    let class = class(line)?.class;
    match class.as_str() {
        "PPS" | "TOFF" => {
            let pair: Pair = serde_json::from_slice(line).map_err(|error| garbled(&error))?;
            let utc = instant(pair.real_sec, pair.real_nsec);
            let wall = instant(pair.clock_sec, pair.clock_nsec);
            let (Some(utc), Some(wall)) = (utc, wall) else {
                return Err(format!("gpsd sent a {class} of an impossible time"));
            };
            let device = cut(&pair.device);
            Ok(if class == "PPS" {
                Said::Pulse { device, utc, wall }
            } else {
                Said::TimeOffset { device, utc, wall }
            })
        }
        _ => Ok(Said::Other),
    }
}

fn instant(sec: i64, nsec: i64) -> Option<UtcNanos> {
    let nsec = (0..NS_PER_S).contains(&nsec).then_some(nsec)?;
    sec.checked_mul(NS_PER_S)?.checked_add(nsec).map(UtcNanos)
}

fn cut(text: &str) -> String {
    headwater_core::gap::truncated(text, NAME_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PPS: &str = r#"{"class":"PPS","device":"/dev/pps0","real_sec":1795860209,"real_nsec":0,"clock_sec":1795860209,"clock_nsec":4021,"precision":-20,"shm":"NTP2"}"#;

    #[test]
    fn pairs_are_read_to_the_nanosecond() {
        let (utc, wall) = (UtcNanos(1_795_860_209_000_000_000), UtcNanos(1_795_860_209_000_004_021));
        let device = "/dev/pps0".to_owned();
        assert_eq!(read(PPS.as_bytes()), Ok(Said::Pulse { device: device.clone(), utc, wall }));
        let toff = PPS.replace("PPS\"", "TOFF\"");
        assert_eq!(read(toff.as_bytes()), Ok(Said::TimeOffset { device, utc, wall }));
        let version =
            br#"{"class":"VERSION","release":"3.22","rev":"3.22","proto_major":3,"proto_minor":14}"#;
        assert_eq!(read(version), Ok(Said::Other), "read with the connection");
        assert_eq!(read(br#"{"class":"SKY","satellites":[]}"#), Ok(Said::Other));
    }

    #[test]
    fn garbled_lines_say_so() {
        for bad in [
            "",
            "{}",
            "GET / HTTP/1.1",
            "{\"class\":\"PPS\"}",
            &PPS.replace("4021", "-1"),
            &PPS.replace("4021", "1000000000"),
            &PPS.replace("1795860209,\"real", "9223372036854775807,\"real"),
            &PPS.replace("4021", "40.21"),
            &PPS.replace("4021", "1e30"),
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(junk in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..150, byte: u8) {
            if let Ok(said) = read(&junk) {
                prop_assert_eq!(said, Said::Other);
            }
            let mut bytes = PPS.as_bytes().to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Ok(Said::Pulse { device, .. }) = read(&bytes) {
                prop_assert!(device.len() <= NAME_BYTES_MAX);
            }
        }
    }
}
