//! What of a recipe a query cannot say as the aligner does.

use crate::recipe::{Entity, Method, Mistake, Mode, Recipe, SpineSource};

/// Everything at once.
pub(super) fn refusals(recipe: &Recipe) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut refuse = |path: String, why: &str| {
        let text = format!(
            "cannot be said in SQL: {why}; leave it to the collector, which aligns beside ingest, or take it out"
        );
        found.push(Mistake { path, text });
    };
    if let SpineSource::Union { .. } = recipe.spine.source {
        refuse(
            "spine.union".to_owned(),
            "rows of several streams at one instant are one, by an order of boots and UTC at once",
        );
    }
    if recipe.entity != Entity::Device {
        refuse(
            "keys.entity".to_owned(),
            "a site is ordered by boot time within a device and by UTC between them",
        );
    }
    if recipe.mode == Mode::Certain {
        refuse("time.mode".to_owned(), "certain asks of every other sample whether it could be the match");
    }
    if !recipe.derived.is_empty() {
        refuse("derive".to_owned(), "derived columns are computed by the aligner");
    }
    if recipe.episodes.is_some() {
        refuse("episode".to_owned(), "episodes are cut by the aligner");
    }
    for (place, column) in recipe.columns.iter().enumerate() {
        let at = |key: &str| format!("column[{place}].{key}");
        if !column.prepare.is_empty() {
            refuse(at("prepare"), "samples are prepared by the aligner");
        }
        if column.uncertainty {
            refuse(at("uncertainty"), "a value's uncertainty is computed by the aligner");
        }
        match &column.method {
            Method::Slerp(_) | Method::Geodesic { .. } => {
                let why = "its sines and cosines have other last bits in every engine";
                refuse(at("method"), why);
            }
            Method::List { .. } => refuse(at("method"), "engines do not keep the order of lists in windows"),
            Method::Linear(between) if between.extrapolate_ns > 0 => {
                refuse(at("extrapolate"), "it needs the two samples before, not the newest only");
            }
            _ => {}
        }
    }
    found
}
