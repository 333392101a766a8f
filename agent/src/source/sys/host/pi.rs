//! Heat and supply: thermal zones, and what a Raspberry Pi's firmware says of throttling.
//!
//! `get_throttled` is a hexadecimal number; its bits are those of `vcgencmd get_throttled`: 0 under-voltage, 1 frequency
//! capped, 2 throttled, 3 soft temperature limit, each now; 16 to 19 the same since boot. The driver `rpi_volt` clears and
//! asks the first of them every 2 s, so the alarm it shows is as old as that.

use super::super::tree::SysTree;

/// Bit of a capped frequency.
pub(super) const FREQUENCY_CAPPED: u32 = 1;
/// Bit of throttling.
pub(super) const THROTTLED: u32 = 2;
/// Bit of the soft temperature limit.
pub(super) const SOFT_LIMIT: u32 = 3;
/// Where the bits begin that stay until the next boot.
pub(super) const SINCE_BOOT: u32 = 16;

const PLATFORM: &str = "/sys/devices/platform";
/// Zones that are the processor's, as drivers call them; the Pi's first.
const SOC_ZONES: [&str; 5] = ["cpu-thermal", "soc-thermal", "cpu_thermal", "x86_pkg_temp", "cpu"];

/// °C of the processor: of the zone that is called so, else of the first.
pub(super) fn soc_temperature(tree: &SysTree) -> Option<f64> {
    let zones: Vec<String> = tree
        .names("/sys/class/thermal")
        .into_iter()
        .filter(|name| name.starts_with("thermal_zone"))
        .map(|name| format!("/sys/class/thermal/{name}"))
        .collect();
    let called =
        |zone: &String, name: &str| tree.text(format!("{zone}/type")).is_some_and(|t| t.starts_with(name));
    let known = SOC_ZONES.iter().find_map(|name| zones.iter().find(|zone| called(zone, name)));
    let milli: i32 = tree.text(format!("{}/temp", known.or(zones.first())?))?.parse().ok()?;
    Some(f64::from(milli) / 1e3)
}

/// The firmware's flags, wherever this kernel has put them.
pub(super) fn throttled(tree: &SysTree) -> Option<u32> {
    let below = |place: &str, like: &dyn Fn(&str) -> bool| -> Vec<String> {
        let names = tree.names(place).into_iter().filter(|name| like(name));
        names.map(|name| format!("{place}/{name}")).collect()
    };
    let firmware = |name: &str| name == "firmware" || name.ends_with(":firmware");
    let mut places = below(PLATFORM, &firmware);
    for soc in below(PLATFORM, &|name: &str| name.starts_with("soc")) {
        places.extend(below(&soc, &firmware));
    }
    places.iter().find_map(|place| flags(&tree.text(format!("{place}/get_throttled"))?))
}

fn flags(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// 1 if the supply was too low within the last 2 s, as `rpi_volt` says.
pub(super) fn under_voltage_alarm(tree: &SysTree) -> Option<i64> {
    let place = "/sys/class/hwmon";
    let chips = tree.names(place);
    let volt =
        chips.iter().find(|chip| tree.text(format!("{place}/{chip}/name")).as_deref() == Some("rpi_volt"))?;
    match tree.text(format!("{place}/{volt}/in0_lcrit_alarm"))?.as_str() {
        "0" => Some(0),
        "1" => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn flags_are_hexadecimal() {
        assert_eq!(flags("0"), Some(0));
        assert_eq!(flags("50005"), Some(0x5_0005));
        assert_eq!(flags("0x50000"), Some(0x5_0000));
        for bad in ["", "throttled", "-1", "123456789"] {
            assert_eq!(flags(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,20}") {
            flags(&text);
        }
    }
}
