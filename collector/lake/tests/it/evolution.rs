//! Tables that grow under several writers: nobody's column is lost, old rows read as the new types, and what does not
//! fit is refused to the one who brings it.

use crate::common;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_select::concat::concat_batches;
use common::{NOON_US, imu, imu_rows, name, read, ts};
use headwater_lake::{
    ColumnSpec, ColumnType, CommitError, CommitRequest, Lake, LakeWriter, RefName, TableAppend, TableSpec,
    testing,
};

fn request(spec: &TableSpec, rows: RecordBatch, time_us: i64) -> CommitRequest {
    let appends = vec![TableAppend { spec: spec.clone(), batches: vec![rows] }];
    CommitRequest { time_us, appends, ..CommitRequest::default() }
}

/// One row of the common table with one more column.
fn row(seq: i64, column: &str, value: ArrayRef) -> RecordBatch {
    let device: ArrayRef = Arc::new(StringArray::from(vec!["dev-0"]));
    let seqs: ArrayRef = Arc::new(Int64Array::from(vec![seq]));
    RecordBatch::try_from_iter([
        ("device", device),
        ("seq", seqs),
        ("ts", ts(vec![NOON_US + seq])),
        (column, value),
    ])
    .unwrap()
}

fn with(column: ColumnSpec) -> TableSpec {
    let mut spec = imu();
    spec.columns.retain(|known| known.name != column.name);
    spec.columns.push(column);
    spec
}

async fn two_writers(lake: &Lake) -> (LakeWriter, LakeWriter) {
    let writer = |who: &str| lake.writer(RefName::main(), who.to_owned());
    let (mut a, mut b) = (writer("a"), writer("b"));
    a.commit(request(&imu(), imu_rows(0, 8, NOON_US), NOON_US)).await.unwrap();
    // Both hold the same base in memory from here on.
    b.commit(request(&imu(), imu_rows(8, 8, NOON_US), NOON_US)).await.unwrap();
    (a, b)
}

#[tokio::test]
async fn two_writers_grow_one_table_at_once_and_the_second_follows_the_first() {
    let lake = testing::memory().await.unwrap();
    let (mut a, mut b) = two_writers(&lake).await;
    let unit = ColumnSpec::optional("t", ColumnType::Double).with_unit("Cel");
    let first = a.commit(request(
        &with(ColumnSpec::optional("n", ColumnType::Long)),
        row(100, "n", Arc::new(Int64Array::from(vec![1 << 40]))),
        NOON_US,
    ));
    first.await.unwrap();
    let done = b
        .commit(request(&with(unit), row(101, "t", Arc::new(Float64Array::from(vec![20.5]))), NOON_US))
        .await;
    let done = done.unwrap();
    assert_eq!(done.conflicts, 1, "linked anew on what the first has made");

    let columns = lake.columns(&done.id, &name("raw.imu")).await.unwrap();
    let found = |name: &str| columns.iter().find(|column| column.name == name).unwrap().clone();
    assert_eq!(found("n").column_type, ColumnType::Long, "the wide type stays though b knows the narrow one");
    assert_eq!((found("t").column_type.clone(), found("t").unit()), (ColumnType::Double, Some("Cel")));
    let batches = read(&lake, &done.id, "raw.imu").await;
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    let column = |name: &str| Arc::clone(all.column_by_name(name).unwrap());
    let (seq, n, t) = (column("seq"), column("n"), column("t"));
    let (seq, n) = (seq.as_primitive::<Int64Type>(), n.as_primitive::<Int64Type>());
    assert_eq!(all.num_rows(), 18);
    for at in 0..18 {
        let wanted = match seq.value(at) {
            100 => Some(1 << 40),
            101 => None,
            // Old rows, promoted.
            small => (small % 4 != 0).then_some(small),
        };
        assert_eq!(n.is_valid(at).then(|| n.value(at)), wanted, "seq {}", seq.value(at));
        let t = t.as_primitive::<Float64Type>();
        assert_eq!(t.is_valid(at).then(|| t.value(at)), (seq.value(at) == 101).then_some(20.5));
    }
}

#[tokio::test]
async fn a_column_made_differently_meanwhile_refuses_the_second_writer_whole() {
    let cel = ColumnSpec::optional("t", ColumnType::Double).with_unit("Cel");
    let double = |x: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![x])) };
    let text: ArrayRef = Arc::new(StringArray::from(vec!["warm"]));
    for (second, value, reason) in [
        (
            ColumnSpec::optional("t", ColumnType::String),
            text,
            "it is double in the table and String is asked for",
        ),
        (cel.clone().with_unit("K"), double(293.0), "it is in Cel in the table and K is asked for"),
    ] {
        let lake = testing::memory().await.unwrap();
        let (mut a, mut b) = two_writers(&lake).await;
        a.commit(request(&with(cel.clone()), row(100, "t", double(20.0)), NOON_US)).await.unwrap();
        let before = lake.head(&RefName::main()).await.unwrap();
        let refused = b.commit(request(&with(second), row(101, "t", value), NOON_US)).await.unwrap_err();
        let CommitError::Failed { source, .. } = refused else { panic!("{refused}") };
        assert!(source.to_string().contains(reason), "{source}");
        assert_eq!(lake.head(&RefName::main()).await.unwrap(), before, "nothing happened");
        // And the writer goes on with what fits.
        b.commit(request(&with(cel.clone()), row(102, "t", double(21.0)), NOON_US)).await.unwrap();
    }
}
