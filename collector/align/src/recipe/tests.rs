//! Recipes as files: the goldens fix ids for ever, and every mistake is named at once.

use super::*;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/recipe/v1")
}

fn golden(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every golden recipe: its name and text.
pub(crate) fn goldens() -> Vec<(String, String)> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|ext| ext == "toml"));
    let mut names: Vec<String> =
        files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), golden(&format!("{name}.toml")))).collect()
}

/// Compares with `<name>.txt`; `HEADWATER_GOLDEN_NEW=1` writes a missing one.
pub(crate) fn same_as_golden(name: &str, found: &str) {
    let path = folder().join(format!("{name}.txt"));
    if !path.exists() && std::env::var_os("HEADWATER_GOLDEN_NEW").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    assert_eq!(found, golden(&format!("{name}.txt")), "{name}");
}

#[test]
fn golden_recipes_keep_their_canonical_form_and_id() {
    let valid = goldens().into_iter().filter(|(name, _)| !name.starts_with("invalid"));
    for (name, text) in valid {
        let recipe = Recipe::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        same_as_golden(&name, &format!("{}\n{}\n", recipe.id(), recipe.canonical()));
        // Canonical means sorted and without white space: another writer of JSON agrees.
        let again: serde_json::Value = serde_json::from_str(&recipe.canonical()).unwrap();
        assert_eq!(again.to_string(), recipe.canonical(), "{name}");
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    for (name, text) in goldens().into_iter().filter(|(name, _)| name.starts_with("invalid")) {
        let error = Recipe::parse(&text).unwrap_err();
        same_as_golden(&name, &format!("{error}\n"));
    }
}

#[test]
fn one_meaning_is_one_id() {
    let one = Recipe::parse(&golden("minimal.toml")).unwrap();
    let text = "name = 'minimal'\nheadwater_recipe = 1\ndoc = \"said otherwise\"\n[[column]]\ntolerance = \"1000ms\" # one second\nmethod = 'previous'\nselect=['accel_x']\nstream = 'imu'\nname='motion'\ndup = 'last'\ntie_ = ''\noffset = '0s'\nfallback = 'null'\nuncertainty_ = 0\n[watermark]\nidle_timeout='600s'\nmax_out_of_order = '2000ms'\n[spine]\nstream = 'camera/front'\nmin_grade='estimated'\n[time]\nmode = 'point'\n[keys]\nentity = ['device']\n[output]\nsort = ['device', 'ts_ns', 'row_key']\n[late]\npolicy = 'recommit'\n";
    let text = text.replace("tie_ = ''\n", "").replace("uncertainty_ = 0\n", "");
    let other = Recipe::parse(&text).unwrap();
    assert_eq!((one.id(), &one.columns), (other.id(), &other.columns));
    for (from, to) in [
        ("1000ms", "1001ms"),
        ("offset = '0s'", "offset = '1ns'"),
        ("'point'", "'certain'"),
        ("dup = 'last'", "dup = 'first'"),
        ("'recommit'", "'side_stream'"),
        ("'device', 'ts_ns', 'row_key'", "'ts_ns', 'row_key'"),
        ("2000ms", "2001ms"),
        ("fallback = 'null'", "fallback = 'drop'"),
    ] {
        assert!(text.contains(from), "{from}");
        assert_ne!(one.id(), Recipe::parse(&text.replace(from, to)).unwrap().id(), "{to}");
    }
}

#[test]
fn a_set_has_one_order_and_a_list_its_own() {
    let (site, grid) = (golden("site.toml"), golden("grid.toml"));
    let id = |text: &str| Recipe::parse(text).unwrap().id();
    assert_eq!(id(&site), id(&site.replace(r#""pi-2", "pi-1""#, r#""pi-1", "pi-2""#)));
    assert_eq!(id(&site), id(&site.replace(r#""lidar", "camera/gate""#, r#""camera/gate", "lidar""#)));
    let swapped = r#""std", "mean", "count""#;
    assert_ne!(id(&grid), id(&grid.replace(r#""mean", "std", "count""#, swapped)), "order of output columns");
}

#[test]
fn every_key_that_is_known_is_read() {
    // A key the reader ignored would be a setting without effect: each one in the goldens changes the model.
    let known =
        [keys::RECIPE, keys::SPINE, keys::COLUMN, keys::WATERMARK, keys::LATE, keys::OUTPUT, keys::KEYS];
    let texts: String = goldens().into_iter().map(|(_, text)| text).collect();
    for key in known.into_iter().flatten() {
        assert!(texts.contains(key.name), "{} stands in no golden recipe", key.name);
    }
}
