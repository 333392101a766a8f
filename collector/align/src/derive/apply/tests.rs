//! All methods at once, commands that fail, and batches against the whole.

use super::*;
use crate::derive::port::{NoCommands, NoPictures};
use arrow_array::builder::{Float32Builder, ListBuilder};
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::{BinaryArray, ListArray};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::DataType;
use proptest::prelude::*;

/// The recipe of every method, as its golden.
fn recipe() -> Recipe {
    Recipe::parse(include_str!("../../../../../tests/golden/recipe/v1/derived.toml")).unwrap()
}

/// Grey pictures, as bright as their digest is long; `gone` has expired.
struct Grey;

impl Pictures for Grey {
    fn picture(&self, hash: &str) -> Result<Option<Arc<[u8]>>, String> {
        if hash == "gone" {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 4, 4);
        encoder.set_color(png::ColorType::Grayscale);
        let samples: Vec<u8> =
            (0..16).map(|at| if at % 3 == 0 { 0 } else { hash.bytes().map(|_| 1).sum() }).collect();
        encoder.write_header().unwrap().write_image_data(&samples).unwrap();
        Ok(Some(bytes.into()))
    }
}

/// Answers eight times the bytes of `small`; fails for batches whose first `shake` is null.
#[derive(Default)]
struct Embeds {
    calls: usize,
}

impl Commands for Embeds {
    fn run(&mut self, command: &Command, request: &[u8]) -> Result<Vec<u8>, String> {
        self.calls += 1;
        assert!(matches!(command.output, crate::derive::CommandType::Float32List { length: Some(8) }));
        let rows = StreamReader::try_new(request, None).unwrap().next().unwrap().unwrap();
        if rows.column_by_name("shake").unwrap().is_null(0) {
            return Err("exit status 1: no shake".to_owned());
        }
        let mut lists = ListBuilder::new(Float32Builder::new());
        for bytes in rows.column_by_name("small").unwrap().as_binary::<i32>() {
            lists.append_option(bytes.map(|bytes| vec![Some(bytes.len() as f32); 8]));
        }
        let answer = RecordBatch::try_from_iter([("y", Arc::new(lists.finish()) as ArrayRef)]).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), answer.schema_ref()).unwrap();
        writer.write(&answer).unwrap();
        Ok(writer.into_inner().unwrap())
    }
}

#[derive(Debug, Clone)]
struct Given {
    device: &'static str,
    apart_ms: i64,
    fix: Option<(f64, f64)>,
    air: Option<f64>,
    z: Option<Vec<Option<f64>>>,
    hash: Option<&'static str>,
}

fn batch(given: &[Given]) -> RecordBatch {
    let mut now = 0;
    let times: Vec<i64> = given
        .iter()
        .map(|row| {
            now += row.apart_ms * 1_000_000;
            now
        })
        .collect();
    let dt = |row: &Given| {
        row.z.as_ref().map(|z| (0..z.len() as i64).map(|n| Some(n * 4_000_000)).collect::<Vec<_>>())
    };
    let keys: StringArray = (0..given.len()).map(|n| Some(format!("e/cam/{n}"))).collect();
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("device", Arc::new(StringArray::from_iter_values(given.iter().map(|row| row.device))), false),
        ("ts_ns", Arc::new(Int64Array::from(times)), false),
        ("row_key", Arc::new(keys), false),
        ("image_hash", Arc::new(given.iter().map(|row| row.hash).collect::<StringArray>()), true),
        (
            "motion_accel_z",
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(
                given.iter().map(|row| row.z.clone()),
            )),
            true,
        ),
        (
            "motion_dt_ns",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(given.iter().map(dt))),
            true,
        ),
        (
            "place_lat",
            Arc::new(given.iter().map(|row| row.fix.map(|fix| fix.0)).collect::<Float64Array>()),
            true,
        ),
        (
            "place_lon",
            Arc::new(given.iter().map(|row| row.fix.map(|fix| fix.1)).collect::<Float64Array>()),
            true,
        ),
        ("air_temperature", Arc::new(given.iter().map(|row| row.air).collect::<Float64Array>()), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

const WARM: Given = Given {
    device: "a",
    apart_ms: 1000,
    fix: Some((0.5, 179.9999)),
    air: Some(300.15),
    z: None,
    hash: Some("grey"),
};

fn float(rows: &RecordBatch, name: &str, row: usize) -> Option<f64> {
    let column = rows.column_by_name(name).unwrap().as_primitive::<Float64Type>();
    column.is_valid(row).then(|| column.value(row))
}

fn text<'a>(rows: &'a RecordBatch, name: &str, row: usize) -> Option<&'a str> {
    let column = rows.column_by_name(name).unwrap().as_string::<i32>();
    column.is_valid(row).then(|| column.value(row))
}

#[test]
fn every_method_at_once() {
    let z = Some((0..50).map(|n| Some(f64::from(n % 10))).collect());
    let given = [
        Given { z: z.clone(), ..WARM },
        Given { z: z.clone(), fix: Some((0.5, -179.9999)), ..WARM },
        Given { z, air: Some(280.0), hash: Some("gone"), ..WARM },
        Given { hash: None, fix: None, air: None, ..WARM },
    ];
    let mut commands = Embeds::default();
    let recipe = recipe();
    let derived = apply(&recipe, batch(&given), &Grey, &mut commands).unwrap();
    let rows = &derived.rows;
    let schema =
        derived_schema(&recipe.derived, recipe.episodes.as_ref(), batch(&given).schema_ref()).unwrap();
    assert_eq!(rows.schema_ref(), &schema);
    let warm: Vec<Option<bool>> = rows.column_by_name("is_warm").unwrap().as_boolean().iter().collect();
    assert_eq!(warm, [Some(true), Some(true), Some(false), Some(false)]);
    assert_eq!(float(rows, "air_celsius", 0), Some(27.0));
    assert_eq!(float(rows, "shake", 0), Some(28.5f64.sqrt()));
    // 25 Hz and its harmonics, at 250 Hz: the band holds the first, and the timed one agrees but for its taper.
    assert!(float(rows, "rumble", 0).unwrap() > 5.0 && float(rows, "rumble_timed", 0).unwrap() > 5.0);
    assert_eq!(float(rows, "rumble", 3), None);
    assert!(float(rows, "sharpness", 0).unwrap() > 0.0);
    assert_eq!([float(rows, "sharpness", 2), float(rows, "sharpness", 3)], [None, None]);
    let speed = float(rows, "speed", 1).unwrap();
    assert!(
        (speed - 6_378_137.0 * 0.0002f64.to_radians() * 0.5f64.to_radians().cos()).abs() < 0.01,
        "{speed}"
    );
    assert_eq!(
        [text(rows, "zone", 0), text(rows, "zone", 1), text(rows, "zone", 3)],
        [Some("date line"), Some("date line"), None]
    );
    assert_eq!(text(rows, "hash7", 0).map(str::len), Some(7));
    assert_eq!(text(rows, "cell", 0).map(str::len), Some(15));
    let embedding = rows.column_by_name("embedding").unwrap().as_list::<i32>();
    assert!(embedding.is_valid(0) && embedding.value(0).len() == 8 && embedding.is_null(2));
    let flags = rows.column_by_name("embedding_flag").unwrap().as_primitive::<Int32Type>();
    assert_eq!(flags.values(), &[0, 0, 0, 0]);
    // Speed is above 1 on the second row for the first time; the third is not warm.
    let ids: Vec<Option<&str>> = (0..4).map(|row| text(rows, "episode_id", row)).collect();
    assert_eq!(ids, [Some("a/e/cam/0"), Some("a/e/cam/1"), None, None]);
    assert!(["train", "val", "test"].contains(&text(rows, "episode_split", 0).unwrap()));
    assert_eq!((commands.calls, derived.held.num_rows(), derived.failures.len()), (1, 0, 0));
    assert_eq!(rows.schema_ref().field_with_name("speed").unwrap().metadata()["unit"], "m/s");
}

#[test]
fn a_command_that_fails_gives_nulls_with_a_flag_or_holds_its_rows() {
    let z = Some(vec![Some(1.0)]);
    let given: Vec<Given> =
        (0..5).map(|n| Given { z: if n / 2 == 1 { None } else { z.clone() }, ..WARM }).collect();
    let mut recipe = recipe();
    let set = |recipe: &mut Recipe, on_failure| {
        for derived in &mut recipe.derived {
            if let Derivation::Command(command) = &mut derived.by {
                (command.on_failure, command.batch_rows_max) = (on_failure, 2);
            }
        }
    };
    set(&mut recipe, OnFailure::Null);
    let nulled = apply(&recipe, batch(&given), &Grey, &mut Embeds::default()).unwrap();
    let flags = nulled.rows.column_by_name("embedding_flag").unwrap().as_primitive::<Int32Type>();
    assert_eq!(flags.values(), &[0, 0, 1, 1, 0]);
    assert_eq!(nulled.rows.column_by_name("embedding").unwrap().null_count(), 2);
    let why =
        CommandFailure { column: "embedding".to_owned(), rows: 2, why: "exit status 1: no shake".to_owned() };
    assert_eq!(nulled.failures, [why]);
    set(&mut recipe, OnFailure::Hold);
    let held = apply(&recipe, batch(&given), &Grey, &mut Embeds::default()).unwrap();
    assert_eq!((held.rows.num_rows(), held.held.num_rows()), (3, 2));
    assert_eq!(text(&held.held, "row_key", 0), Some("e/cam/2"));
    // What a command could do does not change where episodes begin.
    assert_eq!(text(&held.rows, "episode_id", 2), text(&nulled.rows, "episode_id", 4));
    let none = apply(&recipe, batch(&given), &Grey, &mut NoCommands).unwrap();
    assert_eq!((none.rows.num_rows(), none.failures[0].rows), (0, 5));
    assert_eq!(none.failures[0].why, "no programs are run here");
}

#[test]
fn a_store_that_is_away_gives_no_rows_and_is_asked_again() {
    let recipe = recipe();
    let mut deriver = Deriver::new(&recipe.derived, recipe.episodes.as_ref());
    let error = deriver.apply(batch(&[WARM]), &NoPictures, &mut Embeds::default()).unwrap_err();
    assert_eq!(error.to_string(), "failed to read a picture of image: no pictures can be read here");
    let again = deriver.apply(batch(&[WARM]), &Grey, &mut Embeds::default()).unwrap();
    assert_eq!(float(&again.rows, "speed", 0), None);
    assert_eq!(again.rows.column_by_name("episode_index").unwrap().as_primitive::<Int64Type>().value(0), 0);
}

#[test]
fn rows_that_do_not_fit_are_refused_with_every_reason() {
    let recipe = recipe();
    let whole = batch(&[WARM]);
    let swapped: Vec<(&str, ArrayRef)> = vec![
        ("device", Arc::clone(whole.column(0))),
        ("ts_ns", Arc::clone(whole.column(2))),
        ("image", Arc::new(Int64Array::from(vec![1]))),
        ("motion_accel_z", Arc::new(Float64Array::from(vec![1.0]))),
        ("place_lat", Arc::new(StringArray::from(vec!["1"]))),
        ("place_lon", Arc::new(Float64Array::from(vec![1.0]))),
        ("air_temperature", Arc::new(StringArray::from(vec!["warm"]))),
        ("embedding", Arc::new(BinaryArray::from(vec![b"".as_slice()]))),
    ];
    let odd = RecordBatch::try_from_iter(swapped).unwrap();
    let mistakes = derived_schema(&recipe.derived, recipe.episodes.as_ref(), odd.schema_ref()).unwrap_err();
    let said: Vec<String> = mistakes.iter().map(|m| format!("{}: {}", m.path, m.text)).collect();
    for wanted in [
        "derive[0].expression: text and an integer are never compared",
        "derive[1].convert.column: wants numbers, but air_temperature holds Utf8",
        "derive[2].list.column: wants a list of numbers, but motion_accel_z holds Float64",
        "derive[4].band.times: no column is called motion_dt_ns",
        "derive[5].picture.column: image is no picture: neither image_hash with digests nor image with bytes is there",
        "derive[7].motion.lat: wants numbers, but place_lat holds Utf8",
        "derive[11].name: embedding is a column already; take another name",
    ] {
        assert!(said.iter().any(|line| line.starts_with(wanted)), "{wanted}\n{said:#?}");
    }
    let error = apply(&recipe, odd, &Grey, &mut NoCommands).unwrap_err();
    assert!(matches!(error, DeriveError::Columns(RecipeError(found)) if found == mistakes));
}

#[test]
fn no_rows_give_no_rows() {
    let recipe = recipe();
    let mut commands = Embeds::default();
    let none = apply(&recipe, batch(&[]), &Grey, &mut commands).unwrap();
    assert_eq!((none.rows.num_rows(), commands.calls), (0, 0));
    assert_eq!(none.rows.schema().field_with_name("small").unwrap().data_type(), &DataType::Binary);
}

fn any_row() -> impl Strategy<Value = Given> {
    let number = || prop_oneof![6 => (-9f64..9.0).prop_map(Some), 1 => Just(None), 1 => Just(Some(f64::NAN)), 1 => Just(Some(f64::INFINITY))];
    (
        prop::sample::select(vec!["a", "b"]),
        prop_oneof![8 => 1i64..3000, 1 => Just(40_000), 1 => Just(0)],
        proptest::option::weighted(0.8, (-0.002f64..0.002, 179.998f64..180.002)),
        number().prop_map(|x| x.map(|x| x * 5.0 + 300.0)),
        proptest::option::weighted(0.9, prop::collection::vec(number(), 0..9)),
        prop::sample::select(vec![Some("grey"), Some("brighter"), Some("gone"), None]),
    )
        .prop_map(|(device, apart_ms, fix, air, z, hash)| Given { device, apart_ms, fix, air, z, hash })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn batches_that_follow_each_other_give_the_whole(given in prop::collection::vec(any_row(), 1..40), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let mut recipe = recipe();
        // Each row alone, so that a failure of the fake does not depend on who its neighbours are.
        for derived in &mut recipe.derived {
            if let Derivation::Command(command) = &mut derived.by {
                command.batch_rows_max = 1;
            }
        }
        let all = batch(&given);
        let whole = apply(&recipe, all.clone(), &Grey, &mut Embeds::default()).unwrap();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(given.len())).collect();
        places.extend([0, given.len()]);
        places.sort_unstable();
        let mut deriver = Deriver::new(&recipe.derived, recipe.episodes.as_ref());
        let parts: Vec<RecordBatch> = places.windows(2).map(|two| {
            deriver.apply(all.slice(two[0], two[1] - two[0]), &Grey, &mut Embeds::default()).unwrap().rows
        }).collect();
        let joined = arrow_select::concat::concat_batches(whole.rows.schema_ref(), &parts).unwrap();
        prop_assert_eq!(joined, whole.rows);
    }

    #[test]
    fn one_devices_rows_do_not_depend_on_anothers(given in prop::collection::vec(any_row(), 1..40)) {
        let mut recipe = recipe();
        recipe.derived.retain(|derived| !matches!(derived.by, Derivation::Command(_)));
        let all = batch(&given);
        let only: BooleanArray = given.iter().map(|row| Some(row.device == "a")).collect();
        let whole = apply(&recipe, all.clone(), &Grey, &mut NoCommands).unwrap().rows;
        let alone = apply(&recipe, filter_record_batch(&all, &only).unwrap(), &Grey, &mut NoCommands).unwrap().rows;
        prop_assert_eq!(filter_record_batch(&whole, &only).unwrap(), alone);
    }
}
