//! Corrections of a small table: rows move to their day, others stay, and nothing half is ever seen.

use super::*;
use crate::repo::CommitKind;
use crate::{
    ColumnSpec, ColumnType, Overtaken, RefName, ScanOptions, TS, TableAppend, TableError, TableSpec, UTC,
    testing,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use futures::TryStreamExt;
use std::sync::Mutex;

const DAY: i64 = 86_400_000_000;

fn name() -> TableName {
    TableName::new("raw.imu").unwrap()
}

fn spec() -> TableSpec {
    let columns = vec![
        ColumnSpec::required("device", ColumnType::String),
        ColumnSpec::required("seq", ColumnType::Long),
        ColumnSpec::required(TS, ColumnType::Timestamptz),
        ColumnSpec::required("ts_ns", ColumnType::Long),
        ColumnSpec::required("grade", ColumnType::String),
    ];
    TableSpec::new(name(), columns, &["device", TS, "seq"])
}

fn rows(seqs: std::ops::Range<i64>, from_us: i64, grade: &str) -> RecordBatch {
    let us = |seq: i64| from_us + seq;
    let n = seqs.clone().count();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("device", Arc::new(StringArray::from(vec!["pi-1"; n]))),
        ("seq", Arc::new(Int64Array::from_iter_values(seqs.clone()))),
        (TS, Arc::new(TimestampMicrosecondArray::from_iter_values(seqs.clone().map(us)).with_timezone(UTC))),
        ("ts_ns", Arc::new(Int64Array::from_iter_values(seqs.map(|seq| us(seq) * 1_000)))),
        ("grade", Arc::new(StringArray::from(vec![grade; n]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Rows of a grade that only orders become good, a day later.
#[derive(Debug, Default)]
struct ADayLater {
    told: Mutex<Vec<i64>>,
    /// A column it should not touch.
    meddles: bool,
}

impl Derive for ADayLater {
    fn reads(&self) -> &[&'static str] {
        &["seq"]
    }

    fn derive(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>, String> {
        let grades = rows.column_by_name("grade").unwrap().as_string::<i32>();
        if grades.iter().all(|grade| grade != Some("ordering_only")) {
            return Ok(None);
        }
        let ts = rows.column_by_name(TS).unwrap().as_primitive::<TimestampMicrosecondType>();
        let bad = |row: usize| grades.value(row) == "ordering_only";
        let new = (0..rows.num_rows()).map(|row| ts.value(row) + if bad(row) { DAY } else { 0 });
        let new: Vec<i64> = new.collect();
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            (TS, Arc::new(TimestampMicrosecondArray::from(new.clone()).with_timezone(UTC))),
            ("ts_ns", Arc::new(Int64Array::from_iter_values(new.iter().map(|us| us * 1_000)))),
            ("grade", Arc::new(StringArray::from(vec!["guaranteed"; rows.num_rows()]))),
        ];
        if self.meddles {
            columns.push(("seq", Arc::new(Int64Array::from(new))));
        }
        Ok(Some(RecordBatch::try_from_iter(columns).unwrap()))
    }

    fn rewritten(&self, before: &RecordBatch, after: &RecordBatch) {
        assert_eq!(before.column_by_name("seq"), after.column_by_name("seq"));
        let seqs = after.column_by_name("seq").unwrap().as_primitive::<Int64Type>();
        self.told.lock().unwrap().extend(seqs.values());
    }
}

async fn commit(writer: &mut LakeWriter, batches: Vec<RecordBatch>) -> Committed {
    let appends = vec![TableAppend { spec: spec(), batches }];
    writer.commit(CommitRequest { appends, ..CommitRequest::default() }).await.unwrap()
}

async fn table(lake: &Lake, at: &CommitId) -> Vec<(i64, i64, String)> {
    let batches: Vec<RecordBatch> =
        lake.scan(at, &name(), ScanOptions::default()).await.unwrap().try_collect().await.unwrap();
    let mut out = Vec::new();
    for batch in batches {
        let seqs = batch.column_by_name("seq").unwrap().as_primitive::<Int64Type>();
        let ts = batch.column_by_name(TS).unwrap().as_primitive::<TimestampMicrosecondType>();
        let grades = batch.column_by_name("grade").unwrap().as_string::<i32>();
        for row in 0..batch.num_rows() {
            out.push((seqs.value(row), ts.value(row) / DAY, grades.value(row).to_owned()));
        }
    }
    out.sort();
    out
}

fn asked(derive: &Arc<ADayLater>) -> Vec<RewriteTable> {
    let derive = Arc::clone(derive) as Arc<dyn Derive>;
    vec![RewriteTable { table: name(), days: BTreeSet::from([0, 1]), whole: BTreeSet::new(), derive }]
}

fn request() -> CommitRequest {
    CommitRequest { kind: CommitKind::Resolve, message: "corrected".to_owned(), ..CommitRequest::default() }
}

#[tokio::test]
async fn corrected_rows_move_to_their_day_and_others_stay_where_they_are() {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    commit(&mut writer, vec![rows(0..10, 0, "ordering_only")]).await;
    commit(&mut writer, vec![rows(10..20, 0, "guaranteed")]).await;
    let before = commit(&mut writer, vec![rows(20..30, DAY, "guaranteed")]).await.id;

    let derive = Arc::new(ADayLater::default());
    let prepared = lake.prepare_rewrite(&before, &asked(&derive), &StopFlag::default()).await.unwrap();
    // One file of three holds rows that change.
    let done = prepared.done;
    assert_eq!((done.rows, done.files_in, done.files_out), (10, 1, 1));
    assert_eq!(*derive.told.lock().unwrap(), (0..10).collect::<Vec<_>>());
    // Rows that come meanwhile do not stand in its way.
    let mut other = lake.writer(RefName::main(), "other".to_owned());
    commit(&mut other, vec![rows(30..40, DAY, "guaranteed")]).await;
    let done = writer.rewrite(prepared, &request()).await.unwrap().unwrap();
    assert_eq!((done.commit.kind, done.commit.message.as_str()), (CommitKind::Resolve, "corrected"));

    let after = table(&lake, &done.id).await;
    let day = |seq: i64| if (10..20).contains(&seq) { 0 } else { 1 };
    let expected: Vec<_> = (0..40).map(|seq| (seq, day(seq), "guaranteed".to_owned())).collect();
    assert_eq!(after, expected);
    assert_eq!(done.commit.tables[&name()].rows, 40);
    let state = crate::table::load(lake.store(), &name(), &done.commit.tables[&name()]).await.unwrap();
    let files = FileIndex::default().of(lake.store(), &name(), &state).await.unwrap();
    let mut of_day: BTreeMap<i32, u64> = BTreeMap::new();
    files.data.values().for_each(|file| *of_day.entry(file.day.unwrap()).or_default() += file.rows);
    assert_eq!(of_day, BTreeMap::from([(0, 10), (1, 30)]), "partitions follow the new times");
    assert_eq!(table(&lake, &before).await[0], (0, 0, "ordering_only".to_owned()));
    // Done once, there is nothing more to do.
    let again = lake.prepare_rewrite(&done.id, &asked(&derive), &StopFlag::default()).await.unwrap();
    assert!(again.is_empty());
}

#[tokio::test]
async fn a_whole_day_goes_along_where_its_compaction_is_due() {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    commit(&mut writer, vec![rows(0..10, 0, "guaranteed")]).await;
    commit(&mut writer, vec![rows(10..20, 0, "guaranteed")]).await;
    let at = commit(&mut writer, vec![rows(20..30, 0, "ordering_only")]).await.id;
    let derive = Arc::new(ADayLater::default());
    let mut asked = asked(&derive);
    asked[0].whole = BTreeSet::from([0]);
    let prepared = lake.prepare_rewrite(&at, &asked, &StopFlag::default()).await.unwrap();
    assert_eq!((prepared.done.files_in, prepared.done.files_out, prepared.done.rows), (3, 2, 30));
    let done = writer.rewrite(prepared, &request()).await.unwrap().unwrap();
    assert_eq!(table(&lake, &done.id).await.len(), 30);
}

#[tokio::test]
async fn what_was_overtaken_or_meddles_is_refused_and_changes_nothing() {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    let at = commit(&mut writer, vec![rows(0..10, 0, "ordering_only")]).await.id;
    let derive = Arc::new(ADayLater::default());
    let first = lake.prepare_rewrite(&at, &asked(&derive), &StopFlag::default()).await.unwrap();
    let second = lake.prepare_rewrite(&at, &asked(&derive), &StopFlag::default()).await.unwrap();
    let done = writer.rewrite(first, &request()).await.unwrap().unwrap();
    let refused = writer.rewrite(second, &request()).await.unwrap_err();
    let CommitError::Failed { source: LakeError::Table(TableError::Overtaken { why, .. }), .. } = refused
    else {
        panic!("{refused}")
    };
    assert_eq!(why, Overtaken::FilesGone);
    assert_eq!(lake.resolve("main").await.unwrap(), done.id);

    let meddler = Arc::new(ADayLater { meddles: true, ..ADayLater::default() });
    let refused = lake.prepare_rewrite(&at, &asked(&meddler), &StopFlag::default()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "rewrite raw.imu: seq is no derived column; a correction never changes it"
    );
    let stop = StopFlag::default();
    stop.stop();
    assert!(lake.prepare_rewrite(&at, &asked(&derive), &stop).await.is_err());

    let own = TableAppend { spec: spec(), batches: vec![rows(50..60, 0, "guaranteed")] };
    let third = lake.prepare_rewrite(&at, &asked(&derive), &StopFlag::default()).await.unwrap();
    let both = CommitRequest { appends: vec![own], ..request() };
    assert!(writer.rewrite(third, &both).await.is_err());
}

/// Rows of a small table whose `grade` names them.
fn named(names: &[&str], from_us: i64) -> RecordBatch {
    let n = names.len();
    let seqs = 0..i64::try_from(n).unwrap();
    let whole = rows(seqs, from_us, "x");
    let mut columns = whole.columns().to_vec();
    columns[4] = Arc::new(StringArray::from(names.to_vec()));
    RecordBatch::try_new(whole.schema(), columns).unwrap()
}

fn removal(days: &[i32], names: &[&str]) -> RemoveRows {
    RemoveRows {
        table: name(),
        days: (!days.is_empty()).then(|| days.iter().copied().collect()),
        by: vec!["device".to_owned(), "grade".to_owned()],
        rows: names.iter().map(|name| vec!["pi-1".to_owned(), (*name).to_owned()]).collect(),
    }
}

fn names_of(rows: Vec<(i64, i64, String)>) -> Vec<String> {
    let mut names: Vec<String> = rows.into_iter().map(|(_, _, name)| name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn rows_give_way_to_others_in_one_commit_also_when_a_column_comes_along() {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    commit(&mut writer, vec![named(&["a", "b"], 5), named(&["c"], DAY + 5)]).await;
    let head = commit(&mut writer, vec![named(&["d"], 7)]).await.id;
    let prepared =
        lake.prepare_removal(&head, &removal(&[0, 1], &["b", "c", "z"]), &StopFlag::default()).await;
    let prepared = prepared.unwrap();
    assert_eq!((prepared.done.removed, prepared.done.rows, prepared.done.files_in), (2, 1, 2));

    let mut wider = spec();
    wider.columns.push(ColumnSpec::optional("note", ColumnType::String));
    let batch = named(&["b2"], 6);
    let mut fields: Vec<(String, ArrayRef)> = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| (field.name().clone(), Arc::clone(column)))
        .collect();
    fields.push(("note".to_owned(), Arc::new(StringArray::from(vec!["new"]))));
    let appends =
        vec![TableAppend { spec: wider, batches: vec![RecordBatch::try_from_iter(fields).unwrap()] }];
    let request = CommitRequest { kind: CommitKind::Align, appends, ..CommitRequest::default() };
    let done = writer.rewrite(prepared, &request).await.unwrap().unwrap();
    assert_eq!((done.commit.kind, done.rows), (CommitKind::Align, 1));
    assert_eq!(names_of(table(&lake, &head).await), ["a", "b", "c", "d"], "the past stays as it was");
    assert_eq!(names_of(table(&lake, &done.id).await), ["a", "b2", "d"]);
    assert_eq!(done.commit.tables[&name()].rows, 3);
}

#[tokio::test]
async fn a_removal_that_was_overtaken_publishes_nothing() {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    let head = commit(&mut writer, vec![named(&["a", "b"], 5)]).await.id;
    let prepared = |names: &'static [&str]| {
        let (lake, head) = (lake.clone(), head.clone());
        async move { lake.prepare_removal(&head, &removal(&[0], names), &StopFlag::default()).await.unwrap() }
    };
    let everywhere = lake.prepare_removal(&head, &removal(&[], &["b"]), &StopFlag::default()).await.unwrap();
    assert_eq!(everywhere.done.removed, 1);
    assert!(prepared(&["nobody"]).await.is_empty(), "what is not there needs no commit");
    let (first, second) = (prepared(&["a"]).await, prepared(&["b"]).await);
    let done = writer.rewrite(first, &CommitRequest::default()).await.unwrap().unwrap();
    let error = writer.rewrite(second, &CommitRequest::default()).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("overtaken"), "{error:?}");
    assert_eq!(names_of(table(&lake, &done.id).await), ["b"]);
}
