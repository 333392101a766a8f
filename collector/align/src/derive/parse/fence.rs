//! Fences, as GeoJSON (RFC 7946) or written in the recipe.

use crate::derive::port::{Files, RECIPE_FILE_BYTES_MAX};
use crate::derive::{Fence, Fences, Ring};
use crate::json::{Json, number_text};
use crate::recipe::reader::Reader;
use headwater_core::id::Sha256;
use serde_json::Value as JsonValue;
use std::sync::Arc;
use toml::{Table, Value};

/// Most fences: a row is asked against each of them.
const FENCES_MAX: usize = 10_000;
/// Most corners of all fences of a column: the same.
const FENCE_CORNERS_MAX: usize = 1_000_000;
/// Longest name of a fence, bytes: it stands in every row.
const FENCE_NAME_BYTES_MAX: usize = 128;

pub(super) fn read(
    reader: &mut Reader,
    table: &Table,
    within: &str,
    files: &dyn Files,
) -> Option<Arc<Fences>> {
    let found = reader.mistakes.len();
    let fences = match (table.get("file"), table.contains_key("fence")) {
        (Some(_), false) => {
            let path = reader.text(table, within, "file")?;
            match from_file(&path, files) {
                Ok(fences) => fences,
                Err(why) => {
                    reader.mistake(format!("{within}file"), format!("{path}: {why}"));
                    return None;
                }
            }
        }
        (None, true) => written(reader, table, within),
        _ => {
            reader.mistake(
                format!("{within}file"),
                "expected `file` with a GeoJSON, or `fence` with polygons; one of both",
            );
            return None;
        }
    };
    for why in bounds(&fences) {
        reader.mistake(within.trim_end_matches('.'), why);
    }
    for (place, fence) in fences.iter().enumerate() {
        for why in wrongs(fence) {
            reader.mistake(format!("{within}fence[{place}]"), format!("{:?} {why}", fence.name));
        }
    }
    (reader.mistakes.len() == found).then(|| Arc::new(Fences { sha256: sha256(&fences), fences }))
}

/// The hash of what the fences say, wherever they were written.
fn sha256(fences: &[Fence]) -> Sha256 {
    let corner = |(lon, lat): &(f64, f64)| Json::texts([number_text(*lon), number_text(*lat)]);
    let ring = |ring: &Ring| Json::list(ring.iter().map(corner));
    let polygon = |rings: &Vec<Ring>| Json::list(rings.iter().map(ring));
    let fence = |fence: &Fence| {
        let polygons = Json::list(fence.polygons.iter().map(polygon));
        Json::object([("name", Json::text(fence.name.as_str())), ("polygons", polygons)])
    };
    Sha256::of(Json::list(fences.iter().map(fence)).canonical().as_bytes())
}

fn bounds(fences: &[Fence]) -> Vec<String> {
    let corners: usize = fences.iter().flat_map(|fence| fence.polygons.iter().flatten()).map(Vec::len).sum();
    let mut wrongs = Vec::new();
    if fences.is_empty() {
        wrongs.push("holds no polygon".to_owned());
    }
    if fences.len() > FENCES_MAX {
        wrongs.push(format!("holds {} fences, at most {FENCES_MAX}", fences.len()));
    }
    if corners > FENCE_CORNERS_MAX {
        wrongs.push(format!("holds {corners} corners, at most {FENCE_CORNERS_MAX}; simplify the polygons"));
    }
    wrongs
}

fn wrongs(fence: &Fence) -> Vec<String> {
    let mut wrongs = Vec::new();
    if fence.name.is_empty() || fence.name.len() > FENCE_NAME_BYTES_MAX {
        wrongs.push(format!("is no name: 1 to {FENCE_NAME_BYTES_MAX} bytes"));
    }
    for ring in fence.polygons.iter().flatten() {
        let out = ring.iter().find(|(lon, lat)| !(lon.abs() <= 360.0 && lat.abs() <= 90.0));
        if let Some((lon, lat)) = out {
            wrongs.push(format!("has a corner [{lon}, {lat}]: longitude first, then latitude within 90"));
            continue;
        }
        if ring.len() < 3 {
            wrongs.push(format!("has a ring of {} corners; three enclose something", ring.len()));
            continue;
        }
        if let Some((from, to)) = crate::derive::place::halfway(ring) {
            wrongs.push(format!(
                "has an edge over half the globe, from longitude {from} to {to}: it could go either way round; put a \
                 corner between"
            ));
        }
    }
    wrongs
}

/// `[[derive]] geofence = { fence = [{ name = "depot", ring = [[13.3, 52.5], ...] }] }`
fn written(reader: &mut Reader, table: &Table, within: &str) -> Vec<Fence> {
    let Some(Value::Array(items)) = table.get("fence") else {
        reader.mistake(
            format!("{within}fence"),
            "expected a list, e.g. `fence = [{ name = \"depot\", ring = [[13.3, 52.5], ...] }]`",
        );
        return Vec::new();
    };
    let mut fences = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let at = format!("{within}fence[{place}].");
        let Value::Table(item) = item else {
            reader.mistake(at.trim_end_matches('.'), "expected a table with `name` and `ring`");
            continue;
        };
        reader.known(item, &at, crate::derive::keys::FENCE);
        let name = super::needed(reader, item, &at, "name", "depot");
        let ring = item.get("ring").and_then(ring_of_toml);
        if ring.is_none() {
            reader.mistake(format!("{at}ring"), "expected corners [longitude, latitude] in degrees, e.g. [[13.3, 52.5], [13.4, 52.5], [13.4, 52.6]]");
        }
        if let (Some(name), Some(ring)) = (name, ring) {
            fences.push(Fence { name, polygons: vec![vec![open(ring)]] });
        }
    }
    fences
}

#[expect(clippy::cast_precision_loss, reason = "degrees: whole ones are exact")]
fn ring_of_toml(value: &Value) -> Option<Ring> {
    let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    let corner = |corner: &Value| match corner.as_array()?.as_slice() {
        [lon, lat] => Some((number(lon)?, number(lat)?)),
        _ => None,
    };
    value.as_array()?.iter().map(corner).collect()
}

/// GeoJSON closes its rings with the first corner; ours are joined without it.
fn open(mut ring: Ring) -> Ring {
    if ring.len() > 1 && ring.first() == ring.last() {
        ring.pop();
    }
    ring
}

fn from_file(path: &str, files: &dyn Files) -> Result<Vec<Fence>, String> {
    let bytes = files.read(path, RECIPE_FILE_BYTES_MAX)?;
    let json: JsonValue = serde_json::from_slice(&bytes).map_err(|error| format!("no JSON: {error}"))?;
    let features = match json.get("type").and_then(JsonValue::as_str) {
        Some("FeatureCollection") => {
            json.get("features").and_then(JsonValue::as_array).cloned().unwrap_or_default()
        }
        Some("Feature") => vec![json],
        _ => return Err("no GeoJSON FeatureCollection or Feature".to_owned()),
    };
    features
        .iter()
        .enumerate()
        .map(|(place, feature)| of_feature(feature).map_err(|why| format!("feature {place} {why}")))
        .collect()
}

fn of_feature(feature: &JsonValue) -> Result<Fence, String> {
    let name = feature.pointer("/properties/name").and_then(JsonValue::as_str);
    let name = name.ok_or_else(|| "has no text as its property `name`".to_owned())?.to_owned();
    let coordinates = feature.pointer("/geometry/coordinates");
    let polygons = match feature.pointer("/geometry/type").and_then(JsonValue::as_str) {
        Some("Polygon") => coordinates.and_then(polygon_of).map(|polygon| vec![polygon]),
        Some("MultiPolygon") => {
            coordinates.and_then(JsonValue::as_array).and_then(|list| list.iter().map(polygon_of).collect())
        }
        other => {
            return Err(format!("{name:?} is a {}, no Polygon or MultiPolygon", other.unwrap_or("nothing")));
        }
    };
    let polygons = polygons
        .ok_or_else(|| format!("{name:?} has coordinates that are no rings of [longitude, latitude]"))?;
    Ok(Fence { name, polygons })
}

fn polygon_of(value: &JsonValue) -> Option<Vec<Ring>> {
    let corner = |corner: &JsonValue| Some((corner.get(0)?.as_f64()?, corner.get(1)?.as_f64()?));
    let ring = |ring: &JsonValue| ring.as_array()?.iter().map(corner).collect::<Option<Ring>>().map(open);
    let rings: Vec<Ring> = value.as_array()?.iter().map(ring).collect::<Option<_>>()?;
    (!rings.is_empty()).then_some(rings)
}
