//! Which columns a derived one reads, and which it gives.

use super::{Derivation, Derived, Episodes, Sampling};
use crate::expr::Expr;

/// Name of an episode: the device and the key of its first row.
pub const EPISODE_ID: &str = "episode_id";
/// Place of the row in its episode, from 0.
pub const EPISODE_INDEX: &str = "episode_index";
/// The share its episode fell into.
pub const EPISODE_SPLIT: &str = "episode_split";

impl Derived {
    /// Columns it gives: its own, and a command's flag.
    pub fn outputs(&self) -> impl Iterator<Item = String> + use<> {
        let flag = matches!(self.by, Derivation::Command(_)).then(|| self.flag_name());
        [self.name.to_string()].into_iter().chain(flag)
    }

    /// Name of the column that says why a command gave no value.
    #[must_use]
    pub fn flag_name(&self) -> String {
        format!("{}_flag", self.name)
    }

    /// Columns it reads, with the key of the recipe that names them.
    #[must_use]
    pub fn inputs(&self) -> Vec<(String, &str)> {
        let at = |key: &str| format!("{}.{key}", self.by.word());
        match &self.by {
            Derivation::Expression { formula } => named("expression", formula),
            Derivation::Convert { column, .. }
            | Derivation::List { column, .. }
            | Derivation::Picture { column, .. } => vec![(at("column"), column)],
            Derivation::Band(band) => {
                let mut inputs = vec![(at("column"), band.column.as_str())];
                if let Sampling::Times(times) = &band.sampling {
                    inputs.push((at("times"), times));
                }
                inputs
            }
            Derivation::Motion { fix, .. }
            | Derivation::Geohash { fix, .. }
            | Derivation::H3 { fix, .. }
            | Derivation::Geofence { fix, .. } => vec![(at("lat"), &fix.lat), (at("lon"), &fix.lon)],
            Derivation::Command(command) => {
                let inputs = command.inputs.iter().enumerate();
                inputs.map(|(place, input)| (at(&format!("inputs[{place}]")), input.as_str())).collect()
            }
        }
    }
}

impl Episodes {
    /// Columns it gives.
    pub fn outputs(&self) -> impl Iterator<Item = &'static str> + use<> {
        let split = (!self.splits.is_empty()).then_some(EPISODE_SPLIT);
        [EPISODE_ID, EPISODE_INDEX].into_iter().chain(split)
    }

    /// Columns it reads, with the key of the recipe that names them.
    #[must_use]
    pub fn inputs(&self) -> Vec<(String, &str)> {
        let formulas = [("begin", &self.begin), ("within", &self.within)];
        let formulas = formulas.into_iter().filter_map(|(key, formula)| formula.as_ref().map(|f| (key, f)));
        let mut inputs: Vec<_> = formulas.flat_map(|(key, formula)| named(key, formula)).collect();
        if let Some(trip) = &self.trip {
            inputs.extend([
                ("trip.lat".to_owned(), trip.fix.lat.as_str()),
                ("trip.lon".to_owned(), trip.fix.lon.as_str()),
            ]);
        }
        inputs
    }
}

fn named<'a>(key: &str, formula: &'a Expr) -> Vec<(String, &'a str)> {
    formula.columns().into_iter().map(|column| (key.to_owned(), column)).collect()
}
