//! `[episode]`.

use super::{formula, method, optional_span, positive, span};
use crate::derive::keys::{EPISODE, TRIP};
use crate::derive::{Episodes, SPLIT_SHARES, Split, Trip};
use crate::recipe::reader::Reader;
use toml::{Table, Value};

const WITHIN: &str = "episode.";

pub(super) fn read(reader: &mut Reader, table: &Table) -> Option<Episodes> {
    reader.known(table, WITHIN, EPISODE);
    let rules = ["gap", "begin", "within", "trip", "duration_max"];
    if !rules.iter().any(|rule| table.contains_key(*rule)) {
        let text = format!(
            "nothing says where an episode ends; write one of {}, e.g. `gap = \"30s\"`",
            rules.join(", ")
        );
        reader.mistake("episode", text);
    }
    let gap_ns = optional_span(reader, table, WITHIN, "gap");
    let begin = formula(reader, table, WITHIN, "begin");
    let within = formula(reader, table, WITHIN, "within");
    let trip = match reader.table(table, WITHIN, "trip", "write `trip = { lat = \"place_lat\", ... }`") {
        Some(table) => Some(trip(reader, table)?),
        None => None,
    };
    let duration_max_ns = optional_span(reader, table, WITHIN, "duration_max");
    let splits = splits(reader, table);
    let salt = reader.text(table, WITHIN, "salt").unwrap_or_default();
    if splits.is_empty() && table.contains_key("salt") && !table.contains_key("split") {
        reader.mistake(
            "episode.salt",
            "there is no split it could be mixed into; write `split = { train = 0.8, val = 0.2 }`",
        );
    }
    Some(Episodes { gap_ns, begin, within, trip, duration_max_ns, splits, salt })
}

fn trip(reader: &mut Reader, table: &Table) -> Option<Trip> {
    let within = "episode.trip.";
    reader.known(table, within, TRIP);
    let fix = method::fix(reader, table, within);
    let radius_m = positive(reader, table, within, "radius_m", "50");
    let rest_ns = span(reader, table, within, "rest", "5min");
    Some(Trip { fix: fix?, radius_m: radius_m?, rest_ns: rest_ns? })
}

/// Shares in the order of their names, in units of 1 / [`SPLIT_SHARES`].
fn splits(reader: &mut Reader, table: &Table) -> Vec<Split> {
    let Some(shares) =
        reader.table(table, WITHIN, "split", "write `split = { train = 0.8, val = 0.1, test = 0.1 }`")
    else {
        return Vec::new();
    };
    let mistakes = reader.mistakes.len();
    let mut splits = Vec::new();
    for (name, share) in shares {
        match share_of(share) {
            Some(share) => splits.push(Split { name: name.clone(), share }),
            None => reader.mistake(
                format!("episode.split.{name}"),
                format!("expected a share above 0 in steps of {}, e.g. 0.1", 1.0 / f64::from(SPLIT_SHARES)),
            ),
        }
    }
    let sum: u64 = splits.iter().map(|split| u64::from(split.share)).sum();
    if reader.mistakes.len() == mistakes && sum != u64::from(SPLIT_SHARES) {
        let text = format!(
            "the shares add up to {}, not to 1",
            f64::from(u32::try_from(sum).unwrap_or(u32::MAX)) / f64::from(SPLIT_SHARES)
        );
        reader.mistake("episode.split", text);
    }
    splits
}

/// 0.8 is 8000; a share that is no whole number of units is refused rather than rounded.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "held between 1 and SPLIT_SHARES"
)]
fn share_of(value: &Value) -> Option<u32> {
    let share = match value {
        Value::Float(share) => *share,
        Value::Integer(1) => 1.0,
        _ => return None,
    };
    let units = (share * f64::from(SPLIT_SHARES)).round();
    let is_whole = (share * f64::from(SPLIT_SHARES) - units).abs() < 1e-6;
    (is_whole && units >= 1.0 && units <= f64::from(SPLIT_SHARES)).then_some(units as u32)
}
