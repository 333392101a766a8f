//! Every golden recipe in words, as files.

use super::super::tests::{goldens, same_as_golden};
use super::*;

#[test]
fn golden_recipes_are_explained() {
    for (name, text) in goldens().into_iter().filter(|(name, _)| !name.starts_with("invalid")) {
        let recipe = Recipe::parse(&text).unwrap();
        same_as_golden(&format!("{name}.explain"), &recipe.explain().to_string());
    }
}

#[test]
fn what_differs_is_told_differently() {
    // Whatever changes rows must change the words, or people are told something wrong.
    let full = goldens().into_iter().find(|(name, _)| name == "full").unwrap().1;
    let words = |text: &str| Recipe::parse(text).unwrap().explain().sections;
    let told = words(&full);
    for (from, to) in [
        ("\"250ms\"", "\"251ms\""),
        ("\"estimated\"", "\"guaranteed\""),
        ("\"point\"", "\"certain\""),
        ("\"-3.2ms\"", "\"3.2ms\""),
        ("\"skip\"", "\"take\""),
        ("\"50ms\"", "\"51ms\""),
        ("\"wgs84\"", "\"great_circle\""),
        ("datum = \"msl\"", "datum = \"hae\""),
        ("uncertainty = true", "uncertainty = false"),
        ("\"30s\"", "\"31s\""),
        ("{ locf = \"10min\" }", "\"drop\""),
        ("\"2s\"", "\"3s\""),
        ("\"30d\"", "\"31d\""),
        ("\"recommit\"", "\"side_stream\""),
        ("\"exposure_mid\"", "\"exposure_start\""),
        ("temperature = \"K\"", "temperature = \"[degF]\""),
    ] {
        assert!(full.contains(from), "{from}");
        // But for the id, which always differs.
        let other = words(&full.replacen(from, to, 1));
        let lines = |sections: &[Section]| -> Vec<String> {
            let lines = sections.iter().flat_map(|section| &section.lines);
            lines.filter(|line| !line.starts_with("Recipe id")).cloned().collect()
        };
        assert_ne!(lines(&told), lines(&other), "{from} -> {to}");
    }
}
