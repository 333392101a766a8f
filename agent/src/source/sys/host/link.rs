//! Network interfaces that are hardware: whether they are up, what they carried, how well radio is heard.
//!
//! Sources: Linux `Documentation/ABI/testing/sysfs-class-net`; `/proc/net/wireless` has two lines of headings, then
//! `wlan0: 0000   54.  -56.  -256  …`: status, quality of the link (of 70 with most drivers), signal and noise level, dBm.

use super::super::tree::{SysTree, decimal};
use super::{Asked, fit, number, whole};
use headwater_core::schema::Logical;

pub(super) const PLACE: &str = "/sys/class/net";

/// Bridges, tunnels and the loopback have no device below them.
pub(super) fn is_hardware(tree: &SysTree, interface: &str) -> bool {
    tree.has(format!("{PLACE}/{interface}/device"))
}

/// What radio hears.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Radio {
    quality: f64,
    /// dBm; none if the driver counts in units of its own.
    signal: Option<f64>,
}

fn radio(text: &str, interface: &str) -> Option<Radio> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    let mut words = line.split_ascii_whitespace().skip(1);
    let mut next = || decimal(words.next()?.trim_end_matches('.'));
    let quality = next()?;
    Some(Radio { quality, signal: next().filter(|dbm| (-200.0..0.0).contains(dbm)) })
}

/// 1 up, 0 not; `unknown` (some USB modems) says nothing.
fn up(operstate: &str) -> Option<i64> {
    match operstate {
        "up" => Some(1),
        "unknown" | "" => None,
        _ => Some(0),
    }
}

pub(super) fn asked<'a>(tree: &'a SysTree, interface: &'a str) -> Vec<Asked<'a>> {
    let dir = format!("{PLACE}/{interface}");
    let radio = tree.text("/proc/net/wireless").and_then(|text| radio(&text, interface));
    let count = |name: &'static str, unit, file: &str| {
        let file = format!("{dir}/{file}");
        whole(name, Logical::I64, unit, move || tree.text(&file)?.parse().ok().map(fit))
    };
    let state = format!("{dir}/operstate");
    vec![
        whole("up", Logical::Bool, "1", move || up(&tree.text(&state)?)),
        count("received", "By", "statistics/rx_bytes"),
        count("sent", "By", "statistics/tx_bytes"),
        count("receive_errors", "1", "statistics/rx_errors"),
        count("send_errors", "1", "statistics/tx_errors"),
        count("carrier_changes", "1", "carrier_changes"),
        number("radio_quality", "1", move || radio.map(|radio| radio.quality)),
        number("radio_signal", "dB{mW}", move || radio.and_then(|radio| radio.signal)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::schema::check_unit;
    use proptest::prelude::*;

    const WIRELESS: &str = "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n \
        face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n \
        wlan0: 0000   54.  -56.  -256        0      0      0      0     50        0\n";

    #[test]
    fn radio_is_read_of_the_right_interface() {
        assert_eq!(radio(WIRELESS, "wlan0"), Some(Radio { quality: 54.0, signal: Some(-56.0) }));
        assert_eq!(
            (radio(WIRELESS, "wlan"), radio(WIRELESS, "eth0"), radio("wlan0: 0000", "wlan0")),
            (None, None, None)
        );
        let own = WIRELESS.replace("-56.", " 180.");
        assert_eq!(radio(&own, "wlan0").map(|radio| radio.signal), Some(None), "no dBm");
        assert_eq!((up("up"), up("dormant"), up("unknown")), (Some(1), Some(0), None));
        assert_eq!(check_unit("dB{mW}"), Ok(()));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(wlan0:)?\\PC{0,60}") {
            radio(&text, "wlan0");
            up(&text);
        }
    }
}
