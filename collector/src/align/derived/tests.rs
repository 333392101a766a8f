//! Columns that wait for their inputs, and the order of a chain.

use super::chain::Link;
use super::*;
use arrow_schema::Field;

const RECIPE: &str = "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 'cam'\n[[column]]\nname = 'p'\nstream = 'gps'\nselect = ['lat', 'lon']\nmethod = 'previous'\ntolerance = '1s'\n\
[[derive]]\nname = 'speed'\nmotion = { lat = 'p_lat', lon = 'p_lon', feature = 'speed', max_gap = '2s' }\n\
[[derive]]\nname = 'north'\nexpression = 'p_lat > 0'\n[episode]\nbegin = 'speed > 1'\n";

fn rows(columns: &[(&str, DataType)]) -> Schema {
    let own = [("device", DataType::Utf8), ("ts_ns", DataType::Int64), ("row_key", DataType::Utf8)];
    let all = own.iter().chain(columns);
    Schema::new(all.map(|(name, of)| Field::new(*name, of.clone(), true)).collect::<Vec<_>>())
}

#[test]
fn what_rests_on_a_field_that_nobody_declared_waits_for_it() {
    let recipe = Recipe::parse(RECIPE).unwrap();
    assert!(Derives::new(&recipe, &rows(&[])).unwrap().is_none());
    let lat = ("p_lat", DataType::Float64);
    let some = Derives::new(&recipe, &rows(std::slice::from_ref(&lat))).unwrap().unwrap();
    assert!(some.schema().field_with_name("north").is_ok() && !some.is_chained());
    let whole = Derives::new(&recipe, &rows(&[lat, ("p_lon", DataType::Float64)])).unwrap().unwrap();
    assert_eq!(whole.chain_outputs(), ["speed", "episode_id", "episode_index"]);
    assert_eq!(whole.chain_reach_ns(), None);
    let wrong = rows(&[("p_lat", DataType::Utf8), ("p_lon", DataType::Float64)]);
    let said = Derives::new(&recipe, &wrong).unwrap_err();
    assert!(said.0.iter().any(|one| one.path == "derive[0].motion.lat"), "{said}");
}

#[test]
fn a_chain_counts_seqs_and_not_their_digits() {
    let mut links = [
        Link::new(5, "0000000000000001/camera/front/10"),
        Link::new(5, "0000000000000001/camera/front/9"),
        Link::new(4, "0000000000000002/camera/front/0"),
        Link::new(5, "grid/-3"),
        Link::new(5, "grid/-12"),
    ];
    links.sort();
    let wanted = [
        Link::new(4, "0000000000000002/camera/front/0"),
        Link::new(5, "0000000000000001/camera/front/9"),
        Link::new(5, "0000000000000001/camera/front/10"),
        Link::new(5, "grid/-12"),
        Link::new(5, "grid/-3"),
    ];
    assert_eq!(links, wanted);
}
