//! Chips behind the kernel's industrial I/O: accelerometers, converters, weather sensors, light, gas.
//!
//! Files, names and units: Linux `Documentation/ABI/testing/sysfs-bus-iio`. A channel is `in_<name>_input`, which is in the
//! unit of its type already, or `in_<name>_raw`, of which the value is `(raw + offset) * scale`. Offset and scale are the
//! channel's own, or shared by all of its type. What the ABI gives in thousandths (°C, V, A, W, % of humidity) is told in
//! whole units here. Counts without a scale have no unit: their field ends in `_raw`.

use super::look::{Fault, Gauge, Looked, Reader, device_name};
use super::tree::{SysTree, decimal, field_part};
use headwater_core::ports::Clock;
use headwater_core::sample::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const PLACE: &str = "/sys/bus/iio/devices";
/// Table of its rows.
pub(super) const KIND: &str = "iio";

/// Type, how many of the ABI's unit are one of ours, our unit (UCUM).
const TYPES: [(&str, f64, &str); 35] = [
    ("accel", 1.0, "m/s2"),
    ("activity", 1.0, "%"),
    ("altvoltage", 1_000.0, "V"),
    ("angl", 1.0, "rad"),
    ("anglvel", 1.0, "rad/s"),
    ("capacitance", 1.0, "nF"),
    ("chromaticity", 1.0, "1"),
    ("colortemp", 1.0, "K"),
    ("concentration", 1.0, "%"),
    ("count", 1.0, "1"),
    ("current", 1_000.0, "A"),
    ("deltaangl", 1.0, "rad"),
    ("deltavelocity", 1.0, "m/s"),
    ("distance", 1.0, "m"),
    ("electricalconductivity", 1.0, "S/m"),
    ("energy", 1.0, "J"),
    ("gravity", 1.0, "m/s2"),
    ("humidityrelative", 1_000.0, "%"),
    ("illuminance", 1.0, "lx"),
    ("incli", 1.0, "deg"),
    ("intensity", 1.0, "1"),
    ("magn", 1.0, "G"),
    ("massconcentration", 1.0, "ug/m3"),
    ("ph", 1.0, "[pH]"),
    ("phase", 1.0, "rad"),
    ("positionrelative", 1_000.0, "%"),
    ("power", 1_000.0, "W"),
    ("pressure", 1.0, "kPa"),
    ("proximity", 1.0, "m"),
    ("resistance", 1.0, "Ohm"),
    ("steps", 1.0, "1"),
    ("temp", 1_000.0, "Cel"),
    ("uvindex", 1.0, "1"),
    ("velocity", 1.0, "m/s"),
    ("voltage", 1_000.0, "V"),
];

/// Names that are no measurement of now, or no single number.
const LEFT_OUT: [&str; 5] = ["_mean", "_peak", "_trough", "_quadrature_correction", "_quaternion"];

/// One channel of a chip.
#[derive(Debug, Clone, PartialEq)]
struct Channel {
    field: String,
    unit: &'static str,
    /// How many of the file's unit are one of ours.
    per_unit: f64,
    file: String,
    offset: Option<String>,
    scale: Option<String>,
}

/// The parts of a channel's name, such as `voltage`, `0` and `-voltage1`.
struct Parts<'a> {
    kind: &'a str,
    index: &'a str,
    rest: &'a str,
}

fn parts(name: &str) -> Parts<'_> {
    let kind_ends = name.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(name.len());
    let (kind, tail) = name.split_at(kind_ends);
    let index_ends = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
    let (index, rest) = tail.split_at(index_ends);
    Parts { kind, index, rest }
}

/// The channels that files of these names are.
fn channels(files: &[String]) -> Vec<Channel> {
    let have: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    // What is ready wins over what is raw.
    let mut found: BTreeMap<&str, bool> = BTreeMap::new();
    for file in &have {
        let Some(name) = file.strip_prefix("in_") else { continue };
        if let Some(name) = name.strip_suffix("_input") {
            found.insert(name, true);
        } else if let Some(name) = name.strip_suffix("_raw") {
            found.entry(name).or_insert(false);
        }
    }
    let wanted = found.into_iter().filter(|(name, _)| {
        !name.starts_with("timestamp") && !LEFT_OUT.iter().any(|end| name.ends_with(end))
    });
    wanted.map(|(name, ready)| channel(name, ready, &have)).collect()
}

fn channel(name: &str, ready: bool, have: &BTreeSet<&str>) -> Channel {
    let parts = parts(name);
    let factor = |what: &str| {
        let Parts { kind, index, rest } = &parts;
        let own = [format!("in_{name}_{what}"), format!("in_{kind}{index}_{what}")];
        let shared = match rest.strip_prefix('-') {
            Some(_) => format!("in_{kind}-{kind}_{what}"),
            None => format!("in_{kind}{rest}_{what}"),
        };
        let wide = [shared, format!("in_{kind}_{what}"), format!("in_{what}"), what.to_owned()];
        own.into_iter().chain(wide).find(|file| have.contains(file.as_str()))
    };
    let (offset, scale) = if ready { (None, None) } else { (factor("offset"), factor("scale")) };
    // A current without both is in mA already, says the ABI.
    let in_unit = ready || scale.is_some() || (parts.kind == "current" && offset.is_none());
    let known = TYPES.iter().find(|(kind, _, _)| *kind == parts.kind).filter(|_| in_unit);
    let (per_unit, unit) = known.map_or((1.0, "1"), |(_, per_unit, unit)| (*per_unit, *unit));
    let (file, end) = if ready { ("input", "") } else { ("raw", if in_unit { "" } else { "_raw" }) };
    Channel {
        field: format!("{}{end}", field_part(name)),
        unit,
        per_unit,
        file: format!("in_{name}_{file}"),
        offset,
        scale,
    }
}

impl Channel {
    fn value(&self, raw: f64, offset: f64, scale: f64) -> f64 {
        (raw + offset) * scale / self.per_unit
    }

    fn read(&self, tree: &SysTree, dir: &str) -> Result<f64, Fault> {
        let number = |file: &str| {
            let text = tree.read(format!("{dir}/{file}")).map_err(|error| Fault::read(file, &error))?;
            decimal(&text).ok_or_else(|| Fault::garbled(file))
        };
        let factor = |file: &Option<String>, default| file.as_deref().map_or(Ok(default), number);
        Ok(self.value(number(&self.file)?, factor(&self.offset, 0.0)?, factor(&self.scale, 1.0)?))
    }
}

/// Reads every chip once.
pub(super) fn look<C: Clock>(tree: &SysTree, reader: &Reader<C>) -> Looked {
    let mut looked = Looked::default();
    for device in tree.names(PLACE).into_iter().filter(|name| name.starts_with("iio:device")) {
        let dir = format!("{PLACE}/{device}");
        let channels = channels(&tree.names(&dir));
        if channels.is_empty() {
            continue;
        }
        let called = tree.text(format!("{dir}/name")).unwrap_or_default();
        let gauges = channels.iter().map(|channel| Gauge::number(&channel.field, channel.unit));
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

    fn of(files: &[&str]) -> Vec<(String, &'static str, f64)> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let value = |c: &Channel| {
            c.value(
                1_000.0,
                if c.offset.is_some() { 24.0 } else { 0.0 },
                if c.scale.is_some() { 0.5 } else { 1.0 },
            )
        };
        channels(&files).iter().map(|c| (c.field.clone(), c.unit, value(c))).collect()
    }

    #[test]
    fn every_unit_is_ucum_and_types_are_sorted() {
        for (kind, per_unit, unit) in TYPES {
            assert_eq!(check_unit(unit), Ok(()), "{kind}");
            assert!(per_unit >= 1.0);
        }
        assert!(TYPES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    /// The files of a BME280 as `bmp280` of Linux 6.6 shows them.
    #[test]
    fn a_weather_chip_tells_ready_values() {
        let files = [
            "in_humidityrelative_input",
            "in_humidityrelative_raw",
            "in_humidityrelative_oversampling_ratio",
            "in_pressure_input",
            "in_pressure_scale",
            "in_temp_input",
            "name",
        ];
        let found = of(&files);
        let found: Vec<_> = found.iter().map(|(name, unit, value)| (name.as_str(), *unit, *value)).collect();
        assert_eq!(
            found,
            [("humidityrelative", "%", 1.0), ("pressure", "kPa", 1_000.0), ("temp", "Cel", 1.0)]
        );
    }

    /// An MPU-6050: axes share a scale, the temperature has an offset too.
    #[test]
    fn offset_comes_before_scale_and_both_may_be_shared() {
        let found = of(&[
            "in_accel_x_raw",
            "in_accel_y_raw",
            "in_accel_scale",
            "in_anglvel_z_raw",
            "in_anglvel_scale",
            "in_temp_raw",
            "in_temp_offset",
            "in_temp_scale",
            "in_timestamp_raw",
        ]);
        let found: Vec<_> = found.iter().map(|(name, unit, value)| (name.as_str(), *unit, *value)).collect();
        assert_eq!(
            found,
            [
                ("accel_x", "m/s2", 500.0),
                ("accel_y", "m/s2", 500.0),
                ("anglvel_z", "rad/s", 500.0),
                ("temp", "Cel", 0.512)
            ]
        );
    }

    /// An ADS1115 (own scales and differential inputs), and converters whose reference nobody knows.
    #[test]
    fn a_converter_without_a_scale_gives_counts() {
        let found = of(&[
            "in_voltage0-voltage1_raw",
            "in_voltage-voltage_scale",
            "in_voltage2_raw",
            "in_voltage2_scale",
            "in_voltage3_supply_raw",
            "in_voltage3_raw",
        ]);
        let found: Vec<_> = found.iter().map(|(name, unit, value)| (name.as_str(), *unit, *value)).collect();
        assert_eq!(
            found,
            [
                ("voltage0_voltage1", "V", 0.5),
                ("voltage2", "V", 0.5),
                ("voltage3_raw", "1", 1_000.0),
                ("voltage3_supply_raw", "1", 1_000.0)
            ]
        );
        let current = of(&["in_current0_raw"]);
        assert_eq!(
            (current[0].0.as_str(), current[0].1, current[0].2),
            ("current0", "A", 1.0),
            "mA, says the ABI"
        );
        assert!(
            of(&["in_temp_peak_raw", "in_rot_quaternion_raw", "out_voltage0_raw", "in_accel_x_calibbias"])
                .is_empty()
        );
        assert_eq!(of(&["in_ph_raw"])[0].0, "ph_raw");
        assert_eq!(of(&["in_velocity_sqrt(x^2+y^2+z^2)_input"])[0].0, "velocity_sqrt_x_2_y_2_z_2");
    }

    proptest! {
        #[test]
        fn no_names_panic(names in proptest::collection::vec("(in_)?[a-z0-9_:^ -]{0,30}(_raw|_input|_scale)?", 0..20)) {
            for channel in channels(&names) {
                channel.value(1.0, 2.0, 3.0);
            }
        }
    }
}
