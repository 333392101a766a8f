//! The way from one fix to the next, by the model of the earth a recipe names.

use super::super::place::Degrees;
use crate::earth::{Line, on_ellipsoid, on_sphere, turned};
use crate::recipe::EarthModel;

/// The shortest line from one fix to another; `None` between near antipodes, where nothing that moves gets between two rows.
pub(super) fn way(model: EarthModel, from: Degrees, to: Degrees) -> Option<Line> {
    let turn = turned(to.1 - from.1);
    match model {
        EarthModel::Wgs84 => on_ellipsoid(from.0, to.0, turn),
        EarthModel::GreatCircle => Some(on_sphere(from.0, to.0, turn)),
    }
}
