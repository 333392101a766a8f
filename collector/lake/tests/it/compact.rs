//! Compaction and corrections as their users hold them: killed at every write, raced by appends, and never a row lost or
//! doubled.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, RecordBatch};
use common::{DAY_US, NOON_US, both, count, imu, imu_rows, name, read};
use headwater_lake::testing::{self, Fault, FaultStore};
use headwater_lake::{
    CommitError, CommitId, CommitKind, CommitRequest, CompactPolicy, CompactScope, Compactor, Derive, Lake,
    LakeWriter, RefName, RewriteTable, StopFlag, TableAppend,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use proptest::prelude::*;

fn policy() -> CompactPolicy {
    CompactPolicy { fan_in: 2, tens_per_hour: 2, quiet_bytes: 0, ..CompactPolicy::default() }
}

async fn head(lake: &Lake) -> CommitId {
    lake.resolve("main").await.unwrap()
}

/// The rows of a table, by seq, with their time.
async fn rows(lake: &Lake, at: &CommitId, table: &str) -> BTreeMap<i64, i64> {
    let mut found = BTreeMap::new();
    for batch in read(lake, at, table).await {
        let seqs = batch.column_by_name("seq").unwrap().as_primitive::<Int64Type>();
        let ts = batch.column_by_name("ts").unwrap().as_primitive::<TimestampMicrosecondType>();
        for row in 0..batch.num_rows() {
            assert!(found.insert(seqs.value(row), ts.value(row)).is_none(), "a row is there twice");
        }
    }
    found
}

async fn compact(
    lake: &Lake,
    writer: &mut LakeWriter,
    compactor: &mut Compactor,
) -> Result<bool, CommitError> {
    let policy = policy();
    let failed = |source| CommitError::Failed { name: RefName::main(), source };
    let at = lake.resolve("main").await.map_err(failed)?;
    let survey = compactor.survey(&at, &policy, &CompactScope::default(), NOON_US).await.map_err(failed)?;
    if survey.is_empty() {
        return Ok(false);
    }
    let prepared = lake.prepare_compaction(survey, &policy, &StopFlag::default(), |_, _| ()).await;
    writer.compact(prepared.map_err(failed)?, NOON_US).await.map(|done| done.committed.is_some())
}

/// Rows with an even seq belong a day later.
#[derive(Debug)]
struct EvenLater;

impl Derive for EvenLater {
    fn reads(&self) -> &[&'static str] {
        &["seq"]
    }

    fn derive(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>, String> {
        let seqs = rows.column_by_name("seq").unwrap().as_primitive::<Int64Type>();
        let ts = rows.column_by_name("ts").unwrap().as_primitive::<TimestampMicrosecondType>();
        let due = |row: usize| seqs.value(row) % 2 == 0 && ts.value(row) < NOON_US + DAY_US / 2;
        if !(0..rows.num_rows()).any(due) {
            return Ok(None);
        }
        let new = (0..rows.num_rows()).map(|row| ts.value(row) + if due(row) { DAY_US } else { 0 });
        let columns: Vec<(&str, ArrayRef)> = vec![("ts", common::ts(new.collect()))];
        Ok(Some(RecordBatch::try_from_iter(columns).unwrap()))
    }

    fn rewritten(&self, _before: &RecordBatch, _after: &RecordBatch) {}
}

async fn correct(lake: &Lake, writer: &mut LakeWriter) -> Result<bool, CommitError> {
    let failed = |source| CommitError::Failed { name: RefName::main(), source };
    let at = lake.resolve("main").await.map_err(failed)?;
    let day = i32::try_from(NOON_US / DAY_US).unwrap();
    let asked = RewriteTable {
        table: name("raw.imu"),
        days: BTreeSet::from([day, day + 1]),
        whole: BTreeSet::new(),
        derive: Arc::new(EvenLater),
    };
    let prepared = lake.prepare_rewrite(&at, &[asked], &StopFlag::default()).await.map_err(failed)?;
    if prepared.is_empty() {
        return Ok(false);
    }
    let told = common::ledger_rows(-1, NOON_US);
    let request = CommitRequest {
        kind: CommitKind::Resolve,
        time_us: NOON_US,
        appends: vec![TableAppend { spec: common::ledger(), batches: vec![told] }],
        ..CommitRequest::default()
    };
    writer.rewrite(prepared, &request).await.map(|done| done.is_some())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Compact,
    Correct,
}

/// Does the verb in a store that fails at its n-th write, and looks at what is there afterwards, from another process.
async fn killed(verb: Verb, fault: Fault) -> (bool, u64) {
    let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = Arc::new(FaultStore::new(Arc::clone(&disk)));
    let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    for n in 0..2 {
        writer.commit(both(n * 10, 10, NOON_US + n)).await.unwrap();
    }
    let old = head(&lake).await;
    let before = rows(&lake, &old, "raw.imu").await;

    store.set(fault.clone());
    let done = match verb {
        Verb::Compact => compact(&lake, &mut writer, &mut lake.compactor()).await,
        Verb::Correct => correct(&lake, &mut writer).await,
    };
    let writes = store.writes();
    store.set(Fault::None);
    let after = testing::open_on(disk).await.unwrap();
    let now = head(&after).await;
    let found = rows(&after, &now, "raw.imu").await;
    let ledger = count(&after, &now, "ops.ledger").await;
    let moved = |ts: &i64, seq: i64| *ts + if verb == Verb::Correct && seq % 2 == 0 { DAY_US } else { 0 };
    if now == old {
        assert!(done.is_err(), "{verb:?} {fault:?} said it was done and is not there");
        assert_eq!((&found, ledger), (&before, 2), "{verb:?} {fault:?}");
    } else {
        let expected: BTreeMap<i64, i64> = before.iter().map(|(seq, ts)| (*seq, moved(ts, *seq))).collect();
        let told = if verb == Verb::Correct { 3 } else { 2 };
        assert_eq!((&found, ledger), (&expected, told), "{verb:?} {fault:?}");
    }
    assert_eq!(rows(&after, &old, "raw.imu").await, before, "the old commit keeps its own");

    // The same process goes on, whatever happened, and so does another.
    writer.settle().await.unwrap();
    writer.commit(both(100, 10, NOON_US + 9)).await.unwrap();
    let at = head(&lake).await;
    assert_eq!(count(&lake, &at, "raw.imu").await, 30);
    if matches!(fault, Fault::CrashAfter(_)) {
        let mut next = after.writer(RefName::main(), "next".to_owned());
        while compact(&after, &mut next, &mut after.compactor()).await.unwrap() {}
    }
    assert_eq!(count(&after, &head(&after).await, "raw.imu").await, 30);
    (now != old, writes)
}

#[tokio::test]
async fn killed_at_every_write_it_is_there_whole_or_not_at_all() {
    for verb in [Verb::Compact, Verb::Correct] {
        let mut survived = 0;
        for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::FailWrite] {
            for n in 1.. {
                let (is_there, writes) = killed(verb, fault(n)).await;
                survived += u32::from(is_there);
                if n > writes {
                    assert!(is_there, "beyond the last write nothing was hit");
                    assert!(writes >= 9, "{verb:?} wrote {writes} objects");
                    break;
                }
            }
        }
        // Each round survives once without a fault, once when only the answer was lost, and once when the ref write itself
        // failed and was repeated.
        assert_eq!(survived, 5, "{verb:?}");
    }
}

/// What the property does to a lake.
#[derive(Debug, Clone)]
enum Step {
    Append {
        rows: i64,
        days: i64,
    },
    Compact,
    Correct,
    /// A merge is begun, an append lands, and only then the merge is published.
    Race {
        rows: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1i64..30, 0i64..3).prop_map(|(rows, days)| Step::Append { rows, days }),
        3 => Just(Step::Compact),
        1 => Just(Step::Correct),
        2 => (1i64..30).prop_map(|rows| Step::Race { rows }),
    ]
}

async fn append(writer: &mut LakeWriter, model: &mut BTreeMap<i64, i64>, rows: i64, at_us: i64) {
    let first = model.keys().next_back().map_or(0, |last| last + 1);
    let batch = imu_rows(first, rows, at_us);
    let ts = batch.column_by_name("ts").unwrap().as_primitive::<TimestampMicrosecondType>();
    model.extend((first..first + rows).zip(ts.values().iter().copied()));
    let append = TableAppend { spec: imu(), batches: vec![batch] };
    let request = CommitRequest { time_us: NOON_US, appends: vec![append], ..CommitRequest::default() };
    writer.commit(request).await.unwrap();
}

async fn run(steps: Vec<Step>) {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    let mut other = lake.writer(RefName::main(), "other".to_owned());
    let mut compactor = lake.compactor();
    let mut model = BTreeMap::new();
    append(&mut writer, &mut model, 5, NOON_US).await;
    for step in steps {
        match step {
            Step::Append { rows, days } => {
                append(&mut other, &mut model, rows, NOON_US + days * DAY_US).await;
            }
            Step::Compact => drop(compact(&lake, &mut writer, &mut compactor).await.unwrap()),
            Step::Correct => {
                correct(&lake, &mut writer).await.unwrap();
                for (seq, ts) in &mut model {
                    if seq % 2 == 0 && *ts < NOON_US + DAY_US / 2 {
                        *ts += DAY_US;
                    }
                }
            }
            Step::Race { rows } => {
                let policy = policy();
                let at = head(&lake).await;
                let scope = CompactScope::default();
                let survey = compactor.survey(&at, &policy, &scope, NOON_US).await.unwrap();
                let stop = StopFlag::default();
                let prepared = lake.prepare_compaction(survey, &policy, &stop, |_, _| ()).await.unwrap();
                append(&mut other, &mut model, rows, NOON_US).await;
                writer.compact(prepared, NOON_US).await.unwrap();
            }
        }
        let at = head(&lake).await;
        assert_eq!(rows(&lake, &at, "raw.imu").await, model);
        let entry = lake.tables(&at).await.unwrap()[&name("raw.imu")].clone();
        assert_eq!(entry.rows, model.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Compaction, appends and corrections in any order never lose a row and never double one.
    #[test]
    fn no_row_is_lost_or_doubled(steps in prop::collection::vec(step(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

/// L2: files of a day depend on its rows alone, not on how they came and in which files they lay.
#[tokio::test]
async fn bytes_reproducible() {
    let mut images = Vec::new();
    for order in [[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]] {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::init(folder.path().to_str().unwrap()).await.unwrap();
        let mut writer = lake.writer(RefName::main(), "test".to_owned());
        let parts = [0, 1, 2, 3, 4, 5].map(|n| imu_rows(n * 3_000, 3_000, NOON_US + n * 3_000_000));
        for n in order {
            let append = TableAppend { spec: imu(), batches: vec![parts[n].clone()] };
            let request = CommitRequest { appends: vec![append], ..CommitRequest::default() };
            writer.commit(request).await.unwrap();
        }
        let policy = CompactPolicy::default();
        let far = NOON_US + 9 * DAY_US;
        let scope = CompactScope::default();
        let done = lake.compact(&RefName::main(), "test", &policy, &scope, far, |_, _| ()).await.unwrap();
        assert_eq!((done.as_ref().unwrap().files_in, done.unwrap().files_out), (6, 1));
        images.push(day_file(folder.path()));
    }
    assert_eq!(images[0], images[1]);
}

fn day_file(root: &std::path::Path) -> Vec<u8> {
    let mut folders = vec![root.join("t/raw")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with("-day.parquet") {
                found.push(std::fs::read(path).unwrap());
            }
        }
    }
    assert_eq!(found.len(), 1);
    found.remove(0)
}
