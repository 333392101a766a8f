//! Rows of the lake held against what was emitted.

use super::{Table, TruthError};
use crate::players::Emitted;
use std::collections::BTreeMap;

/// Measured fields of the slow sensor, in the order it prints them after `n`.
const ENV_FIELDS: [&str; 4] = ["temperature", "humidity", "wind_speed", "pressure"];

/// Rows held against what was emitted.
#[derive(Debug, Default)]
pub(super) struct RowsJudged {
    /// Rows whose values are not what was emitted, or that nobody emitted.
    pub(super) wrong: u64,
    /// Right rows, each emission once.
    pub(super) distinct: u64,
    /// Right rows whose emission had a row already.
    pub(super) again: u64,
}

impl RowsJudged {
    /// `key` had `allowed` emissions; `seen` counts its rows so far.
    fn row<K: Ord>(&mut self, right: bool, seen: &mut BTreeMap<K, u64>, key: Option<K>, allowed: u64) {
        let Some(key) = key.filter(|_| right) else {
            self.wrong += 1;
            return;
        };
        let rows = seen.entry(key).or_default();
        *rows += 1;
        if *rows > allowed {
            self.again += 1;
        } else {
            self.distinct += 1;
        }
    }

    pub(super) fn imu(&mut self, table: Option<&Table>, emitted: &Emitted) -> Result<(), TruthError> {
        let Some(table) = table else { return Ok(()) };
        let columns = ["accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z"]
            .iter()
            .map(|name| table.doubles(name))
            .collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeMap::new();
        for (row, n) in table.integers("n")?.into_iter().enumerate() {
            let truth = n.and_then(|n| u32::try_from(n).ok()).and_then(|n| emitted.imu.get(&n));
            let right = truth.is_some_and(|bits| {
                columns.iter().zip(bits).all(|(column, bits)| {
                    column[row].is_some_and(|x| x.to_bits() == f64::from(f32::from_bits(*bits)).to_bits())
                })
            });
            self.row(right, &mut seen, n, 1);
        }
        Ok(())
    }

    pub(super) fn gps(&mut self, table: Option<&Table>, emitted: &Emitted) -> Result<(), TruthError> {
        let Some(table) = table else { return Ok(()) };
        let mut seen = BTreeMap::new();
        let rows = table.integers("utc")?.into_iter().zip(table.doubles("lat")?).zip(table.doubles("lon")?);
        for ((utc, lat), lon) in rows {
            let truth = utc.and_then(|utc| emitted.gps.get(&utc));
            let same = |x: Option<f64>, truth: f64| x.is_some_and(|x| x.to_bits() == truth.to_bits());
            let right = truth.is_some_and(|t| same(lat, t.lat) && same(lon, t.lon));
            self.row(right, &mut seen, utc, truth.map_or(0, |t| t.times));
        }
        Ok(())
    }

    pub(super) fn images(&mut self, table: Option<&Table>, emitted: &Emitted) -> Result<(), TruthError> {
        let Some(table) = table else { return Ok(()) };
        let mut seen = BTreeMap::new();
        let rows =
            table.texts("name")?.into_iter().zip(table.texts("hash")?).zip(table.bytes("image.bytes")?);
        for ((name, hash), bytes) in rows {
            let truth = name.as_ref().and_then(|name| emitted.camera.get(name));
            let digest = bytes.as_ref().map(|bytes| headwater_core::id::Sha256::of(bytes));
            let right =
                truth.is_some_and(|t| digest == Some(*t) && hash.as_deref() == Some(t.to_string().as_str()));
            self.row(right, &mut seen, name, 1);
        }
        Ok(())
    }

    pub(super) fn env(
        &mut self,
        table: Option<&Table>,
        truth: &BTreeMap<i64, Vec<f64>>,
    ) -> Result<(), TruthError> {
        let Some(table) = table else { return Ok(()) };
        let columns = ENV_FIELDS.iter().map(|name| table.doubles(name)).collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeMap::new();
        for (row, n) in table.integers("n")?.into_iter().enumerate() {
            let values = n.and_then(|n| truth.get(&n));
            let right = values.is_some_and(|values| {
                columns
                    .iter()
                    .zip(values)
                    .all(|(column, x)| column[row].is_some_and(|y| y.to_bits() == x.to_bits()))
            });
            self.row(right, &mut seen, n, 1);
        }
        Ok(())
    }
}
