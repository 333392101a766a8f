//! Going through the table with late rows and without lost ones gives what the whole would have given (L2).

use super::*;
use arrow_array::{Float64Array, Int64Array, StringArray};
use arrow_schema::DataType;
use proptest::prelude::*;

const RECIPE: &str = "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 'cam'\n[[column]]\nname = 'p'\nstream = 'gps'\nselect = ['lat', 'lon']\nmethod = 'previous'\ntolerance = '1s'\n\
[[derive]]\nname = 'way'\nmotion = { lat = 'p_lat', lon = 'p_lon', feature = 'distance', max_gap = '11h' }\n\
[[derive]]\nname = 'is_far'\nexpression = 'way > 150000'\n\
[episode]\ngap = '15h'\nbegin = 'is_far'\ntrip = { lat = 'p_lat', lon = 'p_lon', radius_m = 30000, rest = '20h' }\n";
/// Between two rows.
const STEP_NS: i64 = 5 * 3_600 * NS_PER_S;

fn rows(which: &[(usize, f64)]) -> RecordBatch {
    let times: Vec<i64> = which.iter().map(|(at, _)| i64::try_from(*at).unwrap() * STEP_NS).collect();
    let keys: StringArray = which.iter().map(|(at, _)| Some(format!("0000000000000001/cam/{at}"))).collect();
    let lats: Float64Array = which.iter().map(|(_, lat)| Some(*lat)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("device", Arc::new(StringArray::from(vec!["pi-1"; which.len()])) as ArrayRef, true),
        ("ts_ns", Arc::new(Int64Array::from(times)), true),
        ("row_key", Arc::new(keys), true),
        ("p_lat", Arc::new(lats.clone()), true),
        ("p_lon", Arc::new(lats), true),
    ])
    .unwrap()
}

fn derives() -> Derives {
    let recipe = Recipe::parse(RECIPE).unwrap();
    Derives::new(&recipe, rows(&[]).schema_ref()).unwrap().unwrap()
}

/// Rows with the chain's columns, as the table would hold them.
fn whole(derives: &Derives, which: &[(usize, f64)]) -> (RecordBatch, End) {
    let rows = rows(which);
    let links = by_device(&rows).unwrap().into_values().flatten().collect::<Vec<_>>();
    let (made, end) = follow(derives, &End::default(), &rows, &links).unwrap();
    (beside(&rows, &made).unwrap(), end)
}

fn days(rows: &RecordBatch) -> Vec<(i64, RecordBatch)> {
    let times = rows.column_by_name("ts_ns").unwrap().as_primitive::<arrow_array::types::Int64Type>();
    let mut days: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        days.entry(times.value(row).div_euclid(NS_PER_DAY)).or_default().push(row);
    }
    let day = |(day, places): (i64, Vec<usize>)| {
        ((day + 1) * NS_PER_DAY, picked(rows, places.into_iter()).unwrap())
    };
    days.into_iter().map(day).collect()
}

/// The chain's columns by row key.
fn told(rows: &RecordBatch, outputs: &RecordBatch) -> BTreeMap<String, Vec<String>> {
    let value = |column: &ArrayRef, at| arrow_cast::display::array_value_to_string(column, at).unwrap();
    let values = |at| outputs.columns().iter().map(|column| value(column, at)).collect();
    texts(rows, "row_key").unwrap().into_iter().enumerate().map(|(at, key)| (key, values(at))).collect()
}

fn outputs(derives: &Derives, rows: &RecordBatch) -> RecordBatch {
    let places = derives
        .chain_outputs()
        .iter()
        .map(|name| rows.schema_ref().index_of(name).unwrap())
        .collect::<Vec<_>>();
    rows.project(&places).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn late_and_lost_rows_leave_the_chain_of_the_whole(
        fates in proptest::collection::vec((0_u8..8, 0_u8..4), 1..40),
    ) {
        let derives = derives();
        let mut lat = 0.0;
        // Of each row: whether it was there, and whether it is.
        let all: Vec<((usize, f64), bool, bool)> = fates.iter().enumerate().map(|(at, (fate, move_by))| {
            lat += f64::from(*move_by) * 0.5;
            ((at, lat), *fate != 0, *fate != 1)
        }).collect();
        let some = |keep: &dyn Fn(bool, bool) -> bool| -> Vec<(usize, f64)> {
            all.iter().filter(|(_, was, is)| keep(*was, *is)).map(|(row, _, _)| *row).collect()
        };
        let (stored, _) = whole(&derives, &some(&|was, _| was));
        let (wanted, end) = whole(&derives, &some(&|_, is| is));
        let late = rows(&some(&|was, is| is && !was));
        let gone = keys_of(&rows(&some(&|was, is| was && !is))).unwrap();
        let links = by_device(&late).unwrap().into_values().flatten().collect::<Vec<_>>();
        let new = (!links.is_empty()).then_some((&late, links.as_slice()));

        let mut walk = Walk::new(&derives, new, &gone).unwrap();
        let mut found = told(&stored, &outputs(&derives, &stored));
        found.retain(|key, _| !gone.contains(key));
        let mut written = 0;
        for (end_ns, day) in days(&stored) {
            if let Some((keys, new)) = walk.step(&day, end_ns).unwrap() {
                let value = |column: &ArrayRef, at| arrow_cast::display::array_value_to_string(column, at).unwrap();
                for (at, (_, key)) in keys.iter().enumerate() {
                    let values = new.columns().iter().map(|column| value(column, at)).collect();
                    let before = found.insert(key.clone(), values);
                    prop_assert!(before != found.get(key).cloned(), "{key} is written though it is the same");
                    written += 1;
                }
            }
        }
        let (made, at) = walk.finish().unwrap();
        if let Some(made) = made {
            found.extend(told(&late, &made));
        }
        prop_assert_eq!(found, told(&wanted, &outputs(&derives, &wanted)));
        prop_assert!(at.memory == end.memory);
        prop_assert!(written <= stored.num_rows());
    }
}

#[test]
fn types_of_the_table_are_those_rows_are_made_in() {
    let of = derives().schema().field_with_name("episode_index").unwrap().data_type().clone();
    assert_eq!(of, DataType::Int64);
}
