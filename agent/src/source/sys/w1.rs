//! Thermometers on a 1-Wire bus (DS18B20 and its family), as the kernel's `w1_therm` reads them.
//!
//! `w1_slave` converts and gives two lines: nine bytes of the scratchpad with `crc=.. YES` or `NO`, and the same with `t=`
//! in thousandths of a degree; after `NO` that is an older value. `temperature` gives the number alone. Sources: Linux
//! `Documentation/w1/slaves/w1_therm.rst`, Maxim's data sheet of the DS18B20 (19-7487).
//!
//! Three answers look like temperatures and are none: 85 °C is in the scratchpad since power-on if nothing was converted,
//! 127.94 °C if the supply broke down meanwhile, and a line that is held low gives nine zeros with a right checksum.

use super::look::{Fault, FaultKind, Gauge, Looked, Reader};
use super::tree::{SysTree, stream_part};
use headwater_core::ports::Clock;
use headwater_core::sample::Value;

pub(super) const PLACE: &str = "/sys/bus/w1/devices";
/// Table of its rows.
pub(super) const KIND: &str = "w1";
/// Families of thermometers: DS18S20, DS1822, DS18B20, DS1825, DS28EA00.
const FAMILIES: [&str; 5] = ["10-", "22-", "28-", "3b-", "42-"];
/// What no such chip can measure, thousandths of a degree.
const RANGE: std::ops::RangeInclusive<i32> = -55_000..=125_000;
/// In the scratchpad since power-on.
const POWER_ON: i32 = 85_000;
/// Left there if the supply broke down.
const BROWN_OUT: i32 = 127_937;
/// Byte 6 of a genuine chip after it converted to a whole multiple of a degree: 0x10 less the lowest four bits of the temperature.
const CONVERTED: u8 = 0x10;

/// Whether a name in the bus's folder is a thermometer's.
pub(super) fn is_thermometer(name: &str) -> bool {
    FAMILIES.iter().any(|family| name.to_ascii_lowercase().starts_with(family))
}

/// The temperature `w1_slave` tells, thousandths of a degree.
fn of_slave(text: &str) -> Result<i32, Fault> {
    let garbled = || Fault::garbled("w1_slave");
    let (first, second) = text.split_once('\n').ok_or_else(garbled)?;
    let bytes: Vec<u8> =
        first.split_whitespace().map_while(|byte| u8::from_str_radix(byte, 16).ok()).take(9).collect();
    if !first.trim_end().ends_with("YES") {
        let no = first.trim_end().ends_with("NO");
        return Err(if no {
            Fault::of(FaultKind::Crc, "checksum is wrong: check wiring and pull-up")
        } else {
            garbled()
        });
    }
    if bytes.len() == 9 && bytes.iter().all(|byte| *byte == 0) {
        return Err(Fault::of(
            FaultKind::NoAnswer,
            "nine zeros: the line is held low, or the sensor is gone",
        ));
    }
    let (_, number) = second.rsplit_once("t=").ok_or_else(garbled)?;
    let milli: i32 = number.trim().parse().map_err(|_| garbled())?;
    // A DS18S20 has another byte 6 (COUNT REMAIN): of it, too, the value is refused only if nothing says it was converted.
    believed(milli, bytes.get(6) == Some(&CONVERTED))
}

/// The temperature `temperature` tells: nothing in it tells a value since power-on from a real one.
fn of_number(text: &str) -> Result<i32, Fault> {
    let milli = text.trim().parse().map_err(|_| Fault::garbled("temperature"))?;
    believed(milli, false)
}

fn believed(milli: i32, converted: bool) -> Result<i32, Fault> {
    match milli {
        POWER_ON if !converted => {
            Err(Fault::of(FaultKind::PowerOn, "85 °C since power-on: it has not converted"))
        }
        BROWN_OUT => {
            Err(Fault::of(FaultKind::PowerOn, "127.94 °C: its supply breaks down while it converts"))
        }
        milli if RANGE.contains(&milli) => Ok(milli),
        _ => Err(Fault::told("a temperature no such sensor has".to_owned())),
    }
}

fn read(tree: &SysTree, dir: &str) -> Result<f64, Fault> {
    let slave = tree.read(format!("{dir}/w1_slave"));
    let milli = match slave {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = tree.read(format!("{dir}/temperature"));
            of_number(&text.map_err(|error| Fault::read("temperature", &error))?)?
        }
        text => of_slave(&text.map_err(|error| Fault::read("w1_slave", &error))?)?,
    };
    Ok(f64::from(milli) / 1e3)
}

/// Has every thermometer convert, one after the other: 0.75 s each.
pub(super) fn look<C: Clock>(tree: &SysTree, reader: &Reader<C>) -> Looked {
    let mut looked = Looked::default();
    for device in tree.names(PLACE).into_iter().filter(|name| is_thermometer(name)) {
        let dir = format!("{PLACE}/{device}");
        looked.add(stream_part(&device), || {
            let gauges = vec![Gauge::number("temperature", "Cel")];
            reader.device(KIND, gauges, |_| read(tree, &dir).map(Value::F64))
        });
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a DS18B20 on Linux 6.1 answers.
    const GOOD: &str = "6e 01 4b 46 7f ff 02 10 71 : crc=71 YES\n6e 01 4b 46 7f ff 02 10 71 t=22875";

    fn kind(text: &str) -> Result<i32, FaultKind> {
        of_slave(text).map_err(|fault| fault.kind)
    }

    #[test]
    fn a_good_answer_is_a_temperature() {
        assert_eq!(kind(GOOD), Ok(22_875));
        assert_eq!(kind(&GOOD.replace("22875", "-10062")), Ok(-10_062));
        assert_eq!(of_number("22875\n").map_err(|fault| fault.kind), Ok(22_875));
    }

    #[test]
    fn after_a_wrong_checksum_the_old_value_is_not_told_again() {
        assert_eq!(kind(&GOOD.replace("YES", "NO")), Err(FaultKind::Crc));
    }

    #[test]
    fn the_value_since_power_on_is_none_and_a_real_85_degrees_is_one() {
        let power_on = "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000";
        assert_eq!(kind(power_on), Err(FaultKind::PowerOn));
        assert_eq!(kind(&power_on.replace("ff 0c 10", "ff 10 10")), Ok(85_000));
        assert_eq!(of_number("85000").map_err(|fault| fault.kind), Err(FaultKind::PowerOn));
        let brown = "ff 07 4b 46 7f ff 0c 10 00 : crc=00 YES\nff 07 4b 46 7f ff 0c 10 00 t=127937";
        assert_eq!(kind(brown), Err(FaultKind::PowerOn));
    }

    #[test]
    fn a_line_held_low_is_no_zero_degrees() {
        let low = "00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0";
        assert_eq!(kind(low), Err(FaultKind::NoAnswer));
        assert_eq!(kind("00 00 4b 46 7f ff 10 10 00 : crc=00 YES\n00 00 4b 46 7f ff 10 10 00 t=0"), Ok(0));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for bad in [
            "",
            "t=1",
            "YES\n",
            "YES\nt=",
            "x YES\nt=12 C",
            "YES\nt=125001",
            "YES\nt=99999999999",
            "MAYBE\nt=1",
        ] {
            assert_eq!(kind(bad), Err(FaultKind::Read), "{bad}");
        }
        assert!(is_thermometer("28-0316a2795dff") && is_thermometer("3B-0000000000aa"));
        assert!(!is_thermometer("w1_bus_master1") && !is_thermometer("26-000000000001"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_only_believable_values_pass(text in "\\PC{0,60}(YES|NO)?\n?\\PC{0,40}(t=-?[0-9]{0,8})?") {
            if let Ok(milli) = of_slave(&text) {
                prop_assert!(RANGE.contains(&milli));
            }
            if let Ok(milli) = of_number(&text) {
                prop_assert!(RANGE.contains(&milli) && milli != POWER_ON);
            }
        }
    }
}
