//! Recipes as files: the goldens fix ids for ever, and every mistake is named at once.

use super::*;

fn golden(name: &str) -> String {
    let path = format!("{}/../tests/golden/recipe/v1/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn golden_recipes_keep_their_canonical_form_and_id() {
    for name in ["drive", "minimal"] {
        let recipe = Recipe::parse(&golden(&format!("{name}.toml"))).unwrap();
        assert_eq!(
            format!("{}\n{}\n", recipe.id(), recipe.canonical()),
            golden(&format!("{name}.txt")),
            "{name}"
        );
    }
}

#[test]
fn one_meaning_is_one_id() {
    let one = Recipe::parse(&golden("minimal.toml")).unwrap();
    let other = Recipe::parse(
        "doc = \"said otherwise\"\n[[column]]\ntolerance = \"1000ms\" # one second\nmethod = 'previous'\nselect=['accel_x']\nstream = 'imu'\nname='motion'\n[watermark]\nidle_timeout='600s'\n[spine]\nstream = 'camera/front'\nmin_grade='estimated'\n",
    );
    // Top-level keys must stand before the tables in TOML, so the rest is put in front.
    assert!(other.is_err());
    let text = "name = 'minimal'\nheadwater_recipe = 1\ndoc = \"said otherwise\"\n[[column]]\ntolerance = \"1000ms\"\nmethod = 'previous'\nselect=['accel_x']\nstream = 'imu'\nname='motion'\n[watermark]\nidle_timeout='600s'\n[spine]\nstream = 'camera/front'\nmin_grade='estimated'\n";
    let other = Recipe::parse(text).unwrap();
    assert_eq!(one.id(), other.id());
    assert_ne!(one.id(), Recipe::parse(&text.replace("1000ms", "1001ms")).unwrap().id());
}

#[test]
fn every_mistake_is_named_at_once() {
    let error = Recipe::parse(&golden("invalid.toml")).unwrap_err();
    assert_eq!(error.to_string() + "\n", golden("invalid.txt"));
}
