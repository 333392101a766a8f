//! Chips behind the kernel's hardware monitoring: temperatures, voltages, currents, power, fans.
//!
//! Files and units: Linux `Documentation/hwmon/sysfs-interface.rst`. `<type><n>_input` is a whole number; `<type><n>_label`
//! says what it is of, `<type><n>_fault` is 1 where the sensor is broken or not there.

use super::look::{Fault, Gauge, Looked, Reader, device_name};
use super::tree::{SysTree, field_part};
use headwater_core::ports::Clock;
use headwater_core::sample::Value;
use std::collections::BTreeSet;

pub(super) const PLACE: &str = "/sys/class/hwmon";
/// Table of its rows.
pub(super) const KIND: &str = "hwmon";

/// Type, how many of the file's unit are one of ours, our unit (UCUM).
const TYPES: [(&str, f64, &str); 8] = [
    ("curr", 1e3, "A"),
    ("energy", 1e6, "J"),
    ("fan", 1.0, "/min"),
    ("freq", 1.0, "Hz"),
    ("humidity", 1e3, "%"),
    ("in", 1e3, "V"),
    ("power", 1e6, "W"),
    ("temp", 1e3, "Cel"),
];

#[derive(Debug, Clone, PartialEq)]
struct Channel {
    /// `temp1`.
    name: String,
    kind: &'static str,
    unit: &'static str,
    per_unit: f64,
    faulty: bool,
}

/// The channels that files of these names are, in the order of their names.
fn channels(files: &[String]) -> Vec<Channel> {
    let have: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    let of = |file: &&str| {
        let name = file.strip_suffix("_input")?;
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let &(kind, per_unit, unit) =
            TYPES.iter().find(|(known, _, _)| *known == kind && kind.len() < name.len())?;
        let faulty = have.contains(format!("{name}_fault").as_str());
        Some(Channel { name: name.to_owned(), kind, unit, per_unit, faulty })
    };
    have.iter().filter_map(of).collect()
}

/// Names of fields: by label where there is one nobody else has, else by number. The type stands first, so that a name has one
/// unit over all chips.
fn field_names(channels: &[Channel], label: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut name = |channel: &Channel| {
        let label = label(&channel.name).map(|label| field_part(&label)).filter(|label| !label.is_empty());
        let labelled = label.map(|label| format!("{}_{label}", channel.kind));
        let name = labelled.filter(|name| !taken.contains(name)).unwrap_or_else(|| channel.name.clone());
        taken.insert(name.clone());
        name
    };
    channels.iter().map(&mut name).collect()
}

impl Channel {
    fn value(&self, text: &str) -> Option<f64> {
        text.parse::<i64>().ok().map(|whole| whole as f64 / self.per_unit)
    }

    fn read(&self, tree: &SysTree, dir: &str) -> Result<f64, Fault> {
        if self.faulty && tree.text(format!("{dir}/{}_fault", self.name)).as_deref() == Some("1") {
            return Err(Fault::told(format!("{} is faulty, or not there", self.name)));
        }
        let file = format!("{}_input", self.name);
        let text = tree.read(format!("{dir}/{file}")).map_err(|error| Fault::read(&file, &error))?;
        self.value(&text).ok_or_else(|| Fault::garbled(&file))
    }
}

/// Reads every chip once.
pub(super) fn look<C: Clock>(tree: &SysTree, reader: &Reader<C>) -> Looked {
    let mut looked = Looked::default();
    for device in tree.names(PLACE).into_iter().filter(|name| name.starts_with("hwmon")) {
        let dir = format!("{PLACE}/{device}");
        let channels = channels(&tree.names(&dir));
        if channels.is_empty() {
            continue;
        }
        let called = tree.text(format!("{dir}/name")).unwrap_or_default();
        let names = field_names(&channels, |name| tree.text(format!("{dir}/{name}_label")));
        let gauges = names.iter().zip(&channels).map(|(name, channel)| Gauge::number(name, channel.unit));
        let device = device_name(&called, tree.owner(&dir).as_deref(), &device);
        looked.add(device, || {
            reader.device(KIND, gauges.collect(), |at| match channels.get(at) {
                Some(channel) => channel.read(tree, &dir).map(Value::F64),
                None => Ok(Value::Null),
            })
        });
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::schema::check_unit;
    use proptest::prelude::*;

    fn of(files: &[&str]) -> Vec<Channel> {
        channels(&files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn every_unit_is_ucum() {
        TYPES.iter().for_each(|(kind, _, unit)| assert_eq!(check_unit(unit), Ok(()), "{kind}"));
    }

    #[test]
    fn each_type_has_its_unit_and_scale() {
        let found = of(&[
            "temp1_input",
            "temp1_max",
            "in0_input",
            "in0_label",
            "curr2_input",
            "power1_input",
            "fan1_input",
            "humidity1_input",
            "energy1_input",
            "pwm1",
            "input",
            "temp_input",
            "intrusion0_alarm",
        ]);
        let found: Vec<_> = found.iter().map(|c| (c.name.as_str(), c.unit, c.value("-1500000"))).collect();
        assert_eq!(
            found,
            [
                ("curr2", "A", Some(-1_500.0)),
                ("energy1", "J", Some(-1.5)),
                ("fan1", "/min", Some(-1_500_000.0)),
                ("humidity1", "%", Some(-1_500.0)),
                ("in0", "V", Some(-1_500.0)),
                ("power1", "W", Some(-1.5)),
                ("temp1", "Cel", Some(-1_500.0)),
            ]
        );
        let temp = &of(&["temp1_input"])[0];
        assert_eq!((temp.value("48312"), temp.value(""), temp.value("48.3")), (Some(48.312), None, None));
        assert_eq!(temp.value("9000000000000"), Some(9e9));
        assert_eq!(temp.value("99999999999999999999"), None);
    }

    #[test]
    fn labels_name_fields_and_twins_keep_their_number() {
        let found = of(&["in1_input", "temp1_input", "temp2_input", "temp3_input", "temp4_input"]);
        let label = |name: &str| match name {
            "temp1" | "temp2" => Some("Core 0".to_owned()),
            "temp3" => Some("  ".to_owned()),
            "in1" => Some("Core 0".to_owned()),
            _ => None,
        };
        assert_eq!(field_names(&found, label), ["in_core_0", "temp_core_0", "temp2", "temp3", "temp4"]);
    }

    proptest! {
        #[test]
        fn nothing_panics(names in proptest::collection::vec("\\PC{0,20}", 0..10), text in "\\PC{0,30}") {
            for channel in channels(&names).iter().chain(&of(&["temp1_input"])) {
                channel.value(&text);
            }
        }
    }
}
