//! Where a row is, as keys: geohash, H3 cell, fence.

mod fence;
mod geohash;
#[cfg(test)]
mod tests;

pub use fence::{contains, halfway};
pub use geohash::geohash;

use super::{Fences, Fix, numbers::floats};
use arrow_array::{RecordBatch, StringArray};
use h3o::{LatLng, Resolution};

/// A fix, degrees: latitude within 90, longitude in [-180, 180).
pub(super) type Degrees = (f64, f64);

/// The fix of every row; `None` where one of both is null, no number, or beyond the globe. Longitudes up to a turn beyond
/// 180 are turned back.
pub(super) fn fixes(rows: &RecordBatch, fix: &Fix) -> Vec<Option<Degrees>> {
    let column = |name: &str| rows.column_by_name(name).and_then(floats);
    let (Some(lats), Some(lons)) = (column(&fix.lat), column(&fix.lon)) else {
        return vec![None; rows.num_rows()];
    };
    lats.iter().zip(&lons).map(|(lat, lon)| on_globe(lat?, lon?)).collect()
}

fn on_globe(lat: f64, lon: f64) -> Option<Degrees> {
    if !(lat.abs() <= 90.0 && lon.abs() <= 540.0) {
        return None;
    }
    let turned = if (-180.0..180.0).contains(&lon) { lon } else { (lon + 180.0).rem_euclid(360.0) - 180.0 };
    Some((lat, turned))
}

/// The geohash of every fix.
pub(super) fn geohashes(fixes: &[Option<Degrees>], length: u8) -> StringArray {
    fixes.iter().map(|fix| fix.map(|(lat, lon)| geohash(lat, lon, length))).collect()
}

/// The H3 cell of every fix. The crate takes its sines from libm, as built here: cells do not depend on the machine.
pub(super) fn cells(fixes: &[Option<Degrees>], resolution: u8) -> StringArray {
    let resolution = Resolution::try_from(resolution).ok();
    let cell = |(lat, lon)| Some(LatLng::new(lat, lon).ok()?.to_cell(resolution?).to_string());
    fixes.iter().map(|fix| fix.and_then(cell)).collect()
}

/// The first fence around every fix.
pub(super) fn zones(fixes: &[Option<Degrees>], fences: &Fences) -> StringArray {
    let boxes: Vec<fence::Bounds> = fences.fences.iter().map(fence::Bounds::of).collect();
    let zone = |(lat, lon): Degrees| {
        let around = |(fence, bounds): &(&super::Fence, &fence::Bounds)| {
            bounds.may_hold(lat) && fence.polygons.iter().any(|polygon| contains(polygon, lat, lon))
        };
        fences.fences.iter().zip(&boxes).find(around).map(|(fence, _)| fence.name.as_str())
    };
    fixes.iter().map(|fix| fix.and_then(zone)).collect()
}
