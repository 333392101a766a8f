//! What is wrong with the demo's bad gateway: faults of the gate's catalogue that a sensor can play, each with the rule of
//! `demo/gate.toml` that must find it.

use anyhow::{Context, Result};
use headwater_tests::recordings::Recordings;

/// One fault.
#[derive(Debug)]
pub(crate) struct Fault {
    /// As the gate's catalogue calls it (`collector/align/tests/gate_faults/faults.rs`).
    pub(crate) name: &'static str,
    /// The rule that must find it.
    pub(crate) rule: &'static str,
    /// Spoils what the sensors play.
    pub(crate) spoil: fn(&mut Recordings) -> Result<()>,
}

/// The one that is played unless another is asked for.
pub(crate) const DEFAULT: &str = "acceleration in g";
/// Standard gravity, m/s2 (CGPM 1901).
const G: f32 = 9.806_65;
/// Size of a picture that is one shade, pixels: the recording's.
const PICTURE: (u16, u16) = (854, 480);

const fn fault(name: &'static str, rule: &'static str, spoil: fn(&mut Recordings) -> Result<()>) -> Fault {
    Fault { name, rule, spoil }
}

/// All that can be played.
pub(crate) const FAULTS: &[Fault] = &[
    fault("acceleration in g", "gravity", |played| {
        each(played, |values, _| values.iter_mut().take(3).for_each(|value| *value /= G))
    }),
    fault("stuck imu", "imu_alive", |played| each(played, |values, first| *values = *first)),
    fault("stuck accel_z", "imu_alive", |played| each(played, |values, first| values[2] = first[2])),
    fault("accelerometer asleep", "imu_alive", |played| {
        let held = played.imu.first().context("no IMU row")?[0];
        for (n, values) in (0_u16..).zip(&mut played.imu) {
            values[0] = held + f32::from(n) * 1e-6;
        }
        Ok(())
    }),
    fault("axes x and z swapped", "upright", |played| {
        each(played, |values, _| {
            values.swap(0, 2);
            values.swap(3, 5);
        })
    }),
    fault("axes x and y swapped", "upright", |played| {
        each(played, |values, _| {
            values.swap(0, 1);
            values.swap(3, 4);
        })
    }),
    fault("rates in deg/s", "rates", |played| {
        each(played, |values, _| values.iter_mut().skip(3).for_each(|value| *value = value.to_degrees()))
    }),
    fault("null island", "where_it_flies", |played| moved(played, |_, _| (0.0, 0.0))),
    fault("on the other side of the world", "where_it_flies", |played| {
        moved(played, |lat, lon| (lat, lon - 120.0))
    }),
    fault("latitude and longitude exchanged", "where_it_flies", |played| {
        moved(played, |lat, lon| (lon, lat))
    }),
    fault("temperature in K", "air_range", |played| {
        let rows = played.env.lines().enumerate().map(|(at, line)| match line.split_once(',') {
            Some((celsius, rest)) if at > 0 => {
                let celsius: f64 = celsius.parse().context("a temperature")?;
                Ok(format!("{:.2},{rest}", celsius + 273.15))
            }
            _ => Ok(line.to_owned()),
        });
        let rows = rows.collect::<Result<Vec<_>>>()?;
        played.env = rows.join("\n");
        Ok(())
    }),
    fault("black camera", "pictures", |played| shade(played, 1)),
    fault("white camera", "pictures", |played| shade(played, 254)),
];

/// The fault of a name.
pub(crate) fn named(name: &str) -> Option<&'static Fault> {
    FAULTS.iter().find(|fault| fault.name == name)
}

/// One line per fault, for people.
pub(crate) fn list() -> String {
    let line = |fault: &Fault| {
        let mark = if fault.name == DEFAULT { " (default)" } else { "" };
        format!("  {:<34} found by demo.{}{mark}\n", fault.name, fault.rule)
    };
    FAULTS.iter().map(line).collect()
}

/// Every row of the IMU, beside the first as it was recorded.
fn each(played: &mut Recordings, mut of: impl FnMut(&mut [f32; 6], &[f32; 6])) -> Result<()> {
    let first = *played.imu.first().context("no IMU row")?;
    played.imu.iter_mut().for_each(|values| of(values, &first));
    Ok(())
}

/// Every fix at another place, degrees.
fn moved(played: &mut Recordings, to: impl Fn(f64, f64) -> (f64, f64)) -> Result<()> {
    for cycle in &mut played.cycles {
        let (lat, lon) = to(cycle.lat, cycle.lon);
        *cycle = cycle.moved_to(lat, lon);
    }
    Ok(())
}

/// Every picture of one shade of grey.
fn shade(played: &mut Recordings, grey: u8) -> Result<()> {
    let (width, height) = PICTURE;
    let pixels = vec![grey; usize::from(width) * usize::from(height)];
    let mut picture = Vec::new();
    jpeg_encoder::Encoder::new(&mut picture, 90)
        .encode(&pixels, width, height, jpeg_encoder::ColorType::Luma)
        .context("failed to encode a picture of one shade")?;
    played.pictures = vec![picture];
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
    use headwater_align::gate::{Context as Known, RuleSet, Seen, Verdict, judge, look};
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;
    use std::sync::Arc;

    /// Samples of the window that `demo/drive.toml` takes at its rarest, and at the good gateway's rate.
    const SAMPLES: [usize; 2] = [20, 200];

    fn recordings() -> Recordings {
        Recordings::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo")).unwrap()
    }

    fn mean_and_std(values: &[f64]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt())
    }

    /// What `aligned.drive` holds of the recordings, at every hundredth sample.
    fn rows(played: &Recordings, samples: usize) -> RecordBatch {
        let starts: Vec<usize> = (0..played.imu.len()).step_by(100).collect();
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        let keys: Vec<String> = (0..starts.len()).map(|n| format!("e/camera/front/{n}")).collect();
        columns.push(("device".to_owned(), Arc::new(StringArray::from(vec!["bad"; starts.len()]))));
        columns.push(("row_key".to_owned(), Arc::new(StringArray::from(keys.clone()))));
        columns.push(("image_hash".to_owned(), Arc::new(StringArray::from(keys))));
        for (at, name) in [(0, "accel_x"), (1, "accel_y"), (2, "accel_z"), (5, "gyro_z")] {
            let windows: Vec<(f64, f64)> = starts
                .iter()
                .map(|&start| {
                    let window = played.imu.iter().cycle().skip(start).take(samples);
                    mean_and_std(&window.map(|values| f64::from(values[at])).collect::<Vec<_>>())
                })
                .collect();
            let (means, stds): (Vec<f64>, Vec<f64>) = windows.into_iter().unzip();
            columns.push((format!("shake_{name}_mean"), Arc::new(Float64Array::from(means))));
            columns.push((format!("shake_{name}_std"), Arc::new(Float64Array::from(stds))));
        }
        let of_cycles = |of: fn(&headwater_tests::recordings::Cycle) -> f64| -> ArrayRef {
            let cycles = played.cycles.iter().step_by(20).cycle().take(starts.len());
            Arc::new(cycles.map(of).collect::<Float64Array>())
        };
        columns.push(("place_lat".to_owned(), of_cycles(|cycle| cycle.lat)));
        columns.push(("place_lon".to_owned(), of_cycles(|cycle| cycle.lon)));
        let air = played.env.lines().skip(1).step_by(10).cycle().take(starts.len());
        let air = air.map(|line| line.split(',').next().unwrap().parse::<f64>().unwrap());
        columns.push(("air_temperature".to_owned(), Arc::new(air.collect::<Float64Array>())));
        RecordBatch::try_from_iter(columns).unwrap()
    }

    /// The rules that refuse a window.
    fn failing(played: &Recordings, samples: usize) -> BTreeSet<String> {
        let set = RuleSet::parse(include_str!("gate.toml")).unwrap();
        let batch = rows(played, samples);
        let seen: Vec<Seen> =
            played.pictures.iter().step_by(29).map(|picture| look(picture).unwrap()).collect();
        let looks = (0..batch.num_rows()).zip(seen.iter().cycle()).map(|(row, seen)| (row, Ok(seen.clone())));
        let looks: BTreeMap<usize, Result<Seen, String>> = looks.collect();
        let none = BTreeMap::new();
        let known = Known { now_ns: 0, known: None, looks: Some(&looks), references: &none };
        let found = judge(&set, &[batch], &known).unwrap();
        found.into_iter().filter(|found| found.verdict == Verdict::Fail).map(|found| found.rule).collect()
    }

    #[test]
    fn every_fault_is_found_by_its_rule_and_what_was_recorded_passes() {
        let mut played = recordings();
        played.pictures.truncate(1);
        for samples in SAMPLES {
            assert_eq!(failing(&played, samples), BTreeSet::new(), "what was recorded, {samples} samples");
            for fault in FAULTS {
                let mut spoilt = played.clone();
                (fault.spoil)(&mut spoilt).unwrap();
                let failing = failing(&spoilt, samples);
                let rule = format!("demo.{}", fault.rule);
                assert!(failing.contains(&rule), "{} with {samples} samples: {failing:?}", fault.name);
            }
        }
    }

    #[test]
    fn the_default_is_one_of_them_and_each_has_a_name_of_its_own() {
        assert!(named(DEFAULT).is_some());
        let names: BTreeSet<&str> = FAULTS.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), FAULTS.len());
    }
}
