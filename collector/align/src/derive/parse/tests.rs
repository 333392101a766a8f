//! Declarations as people write them: what they mean, what is wrong with them, which id they have.

use super::*;
use crate::derive::Derivation;
use crate::recipe::{Recipe, RecipeError};
use headwater_core::id::Sha256;
use std::collections::BTreeMap;

const HEAD: &str = "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 'cam'\n[[column]]\nname = 'place'\n\
                    stream = 'gps'\nselect = ['lat', 'lon']\nmethod = 'geodesic'\nmax_gap = '3s'\n";

/// Files in memory.
struct Held(BTreeMap<&'static str, &'static str>);

impl Files for Held {
    fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
        let text = self.0.get(path).ok_or("no such file")?;
        if text.len() as u64 > bytes_max { Err("too long".to_owned()) } else { Ok(text.as_bytes().to_vec()) }
    }

    fn sha256(&self, path: &str) -> Result<Sha256, String> {
        self.read(path, u64::MAX).map(|bytes| Sha256::of(&bytes))
    }
}

fn read(tail: &str, files: &[(&'static str, &'static str)]) -> Result<Recipe, RecipeError> {
    Recipe::parse_with(&format!("{HEAD}{tail}"), &Held(files.iter().copied().collect()))
}

fn said(tail: &str, files: &[(&'static str, &'static str)]) -> String {
    read(tail, files).unwrap_err().to_string()
}

const ZONE: &str =
    "[[derive]]\nname = 'zone'\ngeofence = { lat = 'place_lat', lon = 'place_lon', file = 'z.geojson' }\n";
const YARD: &str = r#"{"type":"FeatureCollection","features":[
  {"type":"Feature","properties":{"name":"yard","colour":"red"},"geometry":{"type":"Polygon","coordinates":
    [[[0,0,12],[2,0],[2,2],[0,2],[0,0]],[[0.5,0.5],[1,0.5],[1,1],[0.5,0.5]]]}},
  {"type":"Feature","properties":{"name":"isles"},"geometry":{"type":"MultiPolygon","coordinates":
    [[[[179,0],[-179,0],[-179,1],[179,0]]],[[[5,5],[6,5],[6,6],[5,5]]]]}}]}"#;

#[test]
fn a_geojson_is_its_polygons() {
    let recipe = read(ZONE, &[("z.geojson", YARD)]).unwrap();
    let Derivation::Geofence { fences, .. } = &recipe.derived[0].by else { panic!("a fence") };
    let shape: Vec<(&str, Vec<Vec<usize>>)> = fences
        .fences
        .iter()
        .map(|fence| {
            (
                fence.name.as_str(),
                fence.polygons.iter().map(|rings| rings.iter().map(Vec::len).collect()).collect(),
            )
        })
        .collect();
    assert_eq!(shape, [("yard", vec![vec![4, 3]]), ("isles", vec![vec![3], vec![3]])]);
}

#[test]
fn fences_are_one_wherever_they_are_written() {
    let square = r#"{"type":"Feature","properties":{"name":"yard"},"geometry":{"type":"Polygon","coordinates":[[[0,0],[2.0,0],[2,2],[0,0]]]}}"#;
    let file = read(ZONE, &[("z.geojson", square)]).unwrap();
    let inline =
        ZONE.replace("file = 'z.geojson'", "fence = [{ name = 'yard', ring = [[0, 0], [2, 0], [2.0, 2]] }]");
    assert_eq!(file.id(), read(&inline, &[]).unwrap().id());
    let moved = ZONE.replace("z.geojson", "zones/all.geojson");
    assert_eq!(file.id(), read(&moved, &[("zones/all.geojson", square)]).unwrap().id());
    assert_ne!(file.id(), read(&inline.replace("2.0, 2", "2.0, 2.5"), &[]).unwrap().id());
}

#[test]
fn what_is_no_fence_is_said() {
    for (file, wanted) in [
        ("{", "no JSON"),
        ("[]", "no GeoJSON FeatureCollection or Feature"),
        (r#"{"type":"FeatureCollection","features":[]}"#, "holds no polygon"),
        (r#"{"type":"Feature","geometry":{}}"#, "feature 0 has no text as its property `name`"),
        (
            r#"{"type":"Feature","properties":{"name":"x"},"geometry":{"type":"Point","coordinates":[1,2]}}"#,
            "\"x\" is a Point, no Polygon or MultiPolygon",
        ),
        (
            r#"{"type":"Feature","properties":{"name":"x"},"geometry":{"type":"Polygon","coordinates":[[[1],[2,2],[3,3]]]}}"#,
            "no rings of [longitude, latitude]",
        ),
        (
            r#"{"type":"Feature","properties":{"name":"x"},"geometry":{"type":"Polygon","coordinates":[[[52,13],[53,130],[52,14]]]}}"#,
            "longitude first, then latitude within 90",
        ),
    ] {
        let text = said(ZONE, &[("z.geojson", file)]);
        assert!(text.contains(wanted) && text.contains("derive[0].geofence"), "{text}");
    }
    assert!(said(ZONE, &[]).contains("z.geojson: no such file"));
}

#[test]
fn a_formula_has_one_form_in_the_id() {
    let id = |formula: &str| {
        read(&format!("[[derive]]\nname = 'x'\nexpression = '{formula}'\n"), &[]).unwrap().id()
    };
    assert_eq!(id("place_lat*2 > 1 && !(place_lon>3)"), id("((place_lat * 2) > 1) and not place_lon > 3"));
    assert_ne!(id("place_lat > 1"), id("place_lat >= 1"));
    let doc = |doc: &str| {
        read(&format!("[[derive]]\nname = 'x'\ndoc = '{doc}'\nexpression = '1'\n"), &[]).unwrap().id()
    };
    assert_eq!(doc("a"), doc("b"));
}

#[test]
fn derived_columns_read_what_stands_before_them() {
    let text = "[[derive]]\nname = 'a'\nexpression = 'b + 1'\n[[derive]]\nname = 'b'\nexpression = '1'\n[[derive]]\nname = 'b'\nexpression = 'a'\n";
    let text = said(text, &[]);
    assert!(text.contains("derive[0].expression: b is made later"), "{text}");
    assert!(text.contains("derive[2]: output column b is made by derive[1] too"), "{text}");
}

#[test]
fn what_could_not_be_read_is_not_missed_too() {
    let text = said(
        "[[derive]]\nname = 'speed'\nmotion = { }\n[[derive]]\nname = 'x'\nexpression = 'speed > 1'\n[episode]\nwithin = 'speed > 2'\n",
        &[],
    );
    assert!(text.starts_with("recipe has 4 mistakes") && !text.contains("no column is called"), "{text}");
}

#[test]
fn episodes_need_a_rule_and_whole_shares() {
    assert!(said("[episode]\n", &[]).contains("episode: nothing says where an episode ends"));
    let split = |split: &str| said(&format!("[episode]\ngap = '1s'\nsplit = {{ {split} }}\n"), &[]);
    assert!(split("train = 0.8, val = 0.1").contains("episode.split: the shares add up to 0.9, not to 1"));
    assert!(
        split("train = 1.5").contains("episode.split.train: expected a share above 0 in steps of 0.0001")
    );
    let whole = read("[episode]\ngap = '1s'\nsplit = { a = 0.3333, b = 0.3333, c = 0.3334 }\n", &[]).unwrap();
    assert_eq!(
        whole.episodes.unwrap().splits.iter().map(|split| split.share).sum::<u32>(),
        crate::derive::SPLIT_SHARES
    );
}

#[test]
fn the_readmes_recipe_is_one() {
    let readme = include_str!("../../../../../README.md");
    let (_, section) = readme.split_once("## Prepare, derive, cut into episodes").unwrap();
    let (_, toml) = section.split_once("```toml\n").unwrap();
    let (toml, _) = toml.split_once("```").unwrap();
    let files = [("zones.geojson", YARD), ("embed.py", "pass"), ("weights.txt", "1")];
    let recipe = read(toml, &files).unwrap();
    assert_eq!((recipe.columns[1].prepare.len(), recipe.derived.len()), (3, 5));
    assert!(recipe.episodes.is_some());
}
