//! What a scan can be asked: a device, a span of time, conditions, an order that is the same each time.

use crate::common;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use common::{DAY_US, NOON_US, both, name};
use futures::TryStreamExt;
use headwater_lake::{Compare, Condition, Lake, RefName, ScanOptions, testing};

/// Thirty rows on two days, a millisecond apart from noon of each.
async fn world() -> Lake {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    writer.commit(both(0, 10, NOON_US)).await.unwrap();
    writer.commit(both(10, 10, NOON_US + DAY_US)).await.unwrap();
    writer.commit(both(20, 10, NOON_US + 10_000)).await.unwrap();
    lake
}

async fn seqs(lake: &Lake, options: ScanOptions) -> Result<Vec<i64>, headwater_lake::LakeError> {
    let id = lake.resolve("main").await?;
    let rows: Vec<_> = lake.scan(&id, &name("raw.imu"), options).await?.try_collect().await?;
    Ok(rows
        .iter()
        .flat_map(|batch| batch.column_by_name("seq").unwrap().as_primitive::<Int64Type>().values().to_vec())
        .collect())
}

fn condition(column: &str, compare: Compare, value: &str) -> ScanOptions {
    let condition = Condition { column: column.to_owned(), compare, value: value.to_owned() };
    ScanOptions { conditions: vec![condition], ..ScanOptions::default() }
}

#[tokio::test]
async fn a_span_of_time_is_half_open() {
    let lake = world().await;
    let span = |from, to| ScanOptions { from_us: Some(from), to_us: Some(to), ..ScanOptions::default() };
    let mut found = seqs(&lake, span(NOON_US + 8_000, NOON_US + 12_000)).await.unwrap();
    found.sort_unstable();
    assert_eq!(found, [8, 9, 20, 21]);
    assert_eq!(seqs(&lake, span(NOON_US + DAY_US, i64::MAX)).await.unwrap().len(), 10);
    assert!(seqs(&lake, span(NOON_US, NOON_US)).await.unwrap().is_empty());
}

#[tokio::test]
async fn conditions_compare_in_the_columns_own_type_and_nulls_meet_none() {
    let lake = world().await;
    assert_eq!(seqs(&lake, condition("seq", Compare::GreaterOrEqual, "28")).await.unwrap(), [28, 29]);
    assert_eq!(seqs(&lake, condition("device", Compare::Equal, "dev-1")).await.unwrap().len(), 15);
    // `n` is null in every fourth of the thirty rows and equals its own seq elsewhere.
    assert_eq!(seqs(&lake, condition("n", Compare::NotEqual, "1")).await.unwrap().len(), 21);
    assert_eq!(seqs(&lake, condition("late", Compare::Equal, "true")).await.unwrap().len(), 10);
    assert_eq!(
        seqs(&lake, condition("ts", Compare::Less, "2026-11-23T12:00:00.002Z")).await.unwrap(),
        [0, 1]
    );
    for (column, value, words) in [
        ("seq", "three", "no value of its type, long"),
        ("x_src", "1", "name a plain column"),
        ("nix", "1", "no such column"),
        ("payload", "1", "no value of its type"),
    ] {
        let refused = seqs(&lake, condition(column, Compare::Equal, value)).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

#[tokio::test]
async fn an_ordered_scan_gives_the_same_rows_in_the_same_order() {
    let lake = world().await;
    let ordered = ScanOptions { in_order: true, ..ScanOptions::default() };
    let first = seqs(&lake, ordered.clone()).await.unwrap();
    assert_eq!(first.len(), 30);
    for _ in 0..5 {
        assert_eq!(seqs(&lake, ordered.clone()).await.unwrap(), first);
    }
}

#[tokio::test]
async fn rows_that_came_between_two_commits() {
    let lake = world().await;
    let added = async |from: &str, to: &str, options: ScanOptions| -> Vec<i64> {
        let (from, to) = (lake.resolve(from).await.unwrap(), lake.resolve(to).await.unwrap());
        let rows = lake.scan_added(&from, &to, &name("raw.imu"), options).await.unwrap();
        let rows: Vec<_> = rows.try_collect().await.unwrap();
        let seqs = |batch: &RecordBatch| {
            batch.column_by_name("seq").unwrap().as_primitive::<Int64Type>().values().to_vec()
        };
        let mut seqs: Vec<i64> = rows.iter().flat_map(seqs).collect();
        seqs.sort_unstable();
        seqs
    };
    assert_eq!(added("main~2", "main", ScanOptions::default()).await, (10..30).collect::<Vec<_>>());
    assert_eq!(added("main~1", "main", condition("seq", Compare::Less, "22")).await, [20, 21]);
    // Seen backwards nothing came.
    assert!(added("main", "main~1", ScanOptions::default()).await.is_empty());
    let (head, unknown) = (lake.resolve("main").await.unwrap(), name("raw.no"));
    assert!(lake.scan_added(&head, &head, &unknown, ScanOptions::default()).await.is_err());
}
