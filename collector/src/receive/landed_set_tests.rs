//! The landed set against a plain model, and what is withheld until it is whole.

use super::*;
use crate::land::LandingCursors;
use crate::receive::testkit::{number_rows, numbers, path, rows};
use headwater_core::batch::{Column, Values};
use headwater_core::gap::GapCause;
use headwater_core::id::{BootOrdinal, Epoch, IncarnationId};
use headwater_core::sample::Value;
use headwater_core::time::BootNanos;
use proptest::prelude::*;

fn owner() -> DeviceEpoch {
    (path("pi-1"), Epoch(7))
}

fn at(n: u64) -> LandingPosition {
    LandingPosition { incarnation: IncarnationId([1; 16]), segment: 0, offset: n }
}

fn cursors(n: u64) -> CommitMark {
    let cursors = LandingCursors::from([(IncarnationId([1; 16]), at(n))]);
    CommitMark { cursors, ..CommitMark::default() }
}

fn declared(stream: u16, name: &str, schema: &Schema) -> DeclaredStream {
    DeclaredStream {
        stream: StreamId(stream),
        name: name.parse().unwrap(),
        fingerprint: schema.fingerprint(),
        schema: Arc::new(schema.clone()),
    }
}

fn run(stream: u16, first: u64, n: u64) -> RowRun {
    RowRun::of(&number_rows(stream, first, n))
}

fn picture(bytes: &[u8]) -> BlobRef {
    BlobRef::to(bytes)
}

fn image_run(stream: u16, first: u64, blobs: &[BlobRef]) -> RowRun {
    let values = blobs
        .iter()
        .map(|blob| match blob.to_value() {
            Value::Bytes(bytes) => bytes,
            other => panic!("{other:?}"),
        })
        .collect();
    let n = blobs.len();
    let columns = vec![
        Column { values: Values::Bytes(values), valid: None },
        Column { values: Values::Utf8(vec!["image/jpeg".into(); n]), valid: None },
        Column::integers(vec![1; n]),
        Column::integers(vec![1; n]),
        Column { values: Values::Utf8(vec![String::new(); n]), valid: None },
    ];
    RowRun::of(&rows(stream, &builtin::image(), first, columns))
}

fn gap_run(stream: u16, first: u64, of: &str, seqs: Range<u64>) -> RowRun {
    let record = GapRecord {
        stream: of.parse().unwrap(),
        boot_ordinal: BootOrdinal(1),
        seq_first: Seq(seqs.start),
        seq_last: Seq(seqs.end - 1),
        cause: GapCause::Overrun,
        stride: 0,
        phase: 0,
        rows: seqs.end - seqs.start,
        bytes: 0,
        b_first: BootNanos(0),
        b_last: BootNanos(0),
        policy_version: 0,
        note: String::new(),
    };
    let schema = builtin::gaps();
    let mut columns: Vec<Column> =
        schema.fields.iter().map(|field| Column::new(field.logical.physical())).collect();
    for (column, value) in columns.iter_mut().zip(record.to_values()) {
        assert!(column.push(&value));
    }
    RowRun::of(&rows(stream, &schema, first, columns))
}

#[derive(Debug, Clone)]
enum Op {
    Rows(u64, u64),
    Commit(u64),
}

proptest! {
    /// Against plain sets: durable is what landed, committed what landed below the cursor; neither shrinks.
    #[test]
    fn behaves_like_two_sets(ops in proptest::collection::vec(
        prop_oneof![
            (0_u64..60, 1_u64..10).prop_map(|(first, n)| Op::Rows(first, n)),
            (0_u64..50).prop_map(Op::Commit),
        ], 0..40)
    ) {
        let mut set = LandedSet::default();
        set.land_declaration(&owner(), &declared(1, "imu", &numbers()), at(1));
        let mut landed: Vec<(u64, Range<u64>)> = Vec::new();
        let (mut position, mut cursor, mut upto) = (1, 0, (0, 0));
        for op in ops {
            match op {
                Op::Rows(first, n) => {
                    position += 1;
                    prop_assert!(set.land_run(&owner(), run(1, first, n), at(position)).is_none());
                    landed.push((position, first..first + n));
                }
                Op::Commit(to) => {
                    cursor = cursor.max(to);
                    set.commit(&cursors(to));
                }
            }
            let durable: BTreeSet<u64> = landed.iter().flat_map(|(_, seqs)| seqs.clone()).collect();
            let committed: BTreeSet<u64> =
                landed.iter().filter(|(end, _)| *end <= cursor).flat_map(|(_, seqs)| seqs.clone()).collect();
            prop_assert_eq!(set.durable(&owner(), StreamId(1)).iter().flatten().collect::<BTreeSet<_>>(), durable);
            prop_assert_eq!(set.committed(&owner(), StreamId(1)).iter().flatten().collect::<BTreeSet<_>>(), committed);
            let marks = &set.watermarks(&owner(), 0)[0];
            prop_assert!((marks.durable_upto.0, marks.committed_upto.0) >= upto);
            upto = (marks.durable_upto.0, marks.committed_upto.0);
            prop_assert!(marks.durable.len() <= 16 && marks.committed.len() <= 16);
            prop_assert!(marks.durable.iter().all(|range| range.start > marks.durable_upto.0));
        }
    }
}

#[test]
fn rows_without_declaration_are_withheld_and_asked_for() {
    let mut set = LandedSet::default();
    assert!(set.land_run(&owner(), run(1, 0, 5), at(1)).is_none());
    assert!(set.watermarks(&owner(), 0).is_empty());
    let wanted = (StreamId(1), numbers().fingerprint());
    assert_eq!(set.needed_schemas(&owner()).into_iter().collect::<Vec<_>>(), vec![wanted]);
    set.commit(&cursors(1));
    assert!(set.land_declaration(&owner(), &declared(1, "imu", &numbers()), at(2)).is_empty());
    assert!(set.needed_schemas(&owner()).is_empty());
    let marks = &set.watermarks(&owner(), 0)[0];
    assert_eq!(
        (marks.durable_upto, marks.committed_upto),
        (Seq(5), Seq(0)),
        "its declaration is not committed"
    );
    set.commit(&cursors(2));
    assert_eq!(set.watermarks(&owner(), 0)[0].committed_upto, Seq(5));
}

/// Seventeen holes that nobody ever explains (a card that lost them without a word) would keep every row
/// behind the sixteenth range from being acked, and the spool from ever letting go of it.
#[test]
fn more_holes_than_an_ack_holds_keep_no_row_from_being_acked() {
    let mut set = LandedSet::default();
    assert!(set.land_declaration(&owner(), &declared(1, "imu", &numbers()), at(1)).is_empty());
    for n in 0..40 {
        assert!(set.land_run(&owner(), run(1, n * 10, 5), at(2 + n)).is_none());
    }
    let mut heard = headwater_core::interval::IntervalSet::new();
    for turn in 0..3 {
        let marks = &set.watermarks(&owner(), turn)[0];
        assert!(marks.durable.len() <= RANGES_MAX && marks.durable_upto == Seq(5));
        marks.durable.iter().for_each(|range| heard.insert(range.clone()));
    }
    assert_eq!(heard.count(), 39 * 5);
}

#[test]
fn rows_that_do_not_follow_their_schema_are_refused() {
    let mut set = LandedSet::default();
    let mut misfit = run(1, 0, 5);
    misfit.shape = vec![(headwater_core::schema::Physical::F64, false)];
    assert!(set.land_run(&owner(), misfit.clone(), at(1)).is_none());
    let refused = set.land_declaration(&owner(), &declared(1, "imu", &numbers()), at(2));
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].seq_lo, refused[0].seq_hi), (Seq(0), Seq(4)));
    assert_eq!(refused[0].refusal.reason, RefusalReason::SchemaMismatch);
    assert!(set.land_run(&owner(), misfit, at(3)).is_some());
    assert!(set.durable(&owner(), StreamId(1)).is_empty());
}

#[test]
fn a_row_is_durable_only_with_its_blob_in_either_order() {
    let (a, b) = (picture(b"a"), picture(b"b"));
    let mut set = LandedSet::default();
    set.land_declaration(&owner(), &declared(2, "camera/front", &builtin::image()), at(1));
    set.land_run(&owner(), image_run(2, 0, &[a, b]), at(2));
    assert!(set.durable(&owner(), StreamId(2)).is_empty());
    set.land_blob(&owner(), b, (StreamId(2), Seq(1)), at(3));
    assert_eq!(set.durable(&owner(), StreamId(2)), std::iter::once(1..2).collect());
    set.commit(&cursors(2));
    assert!(set.committed(&owner(), StreamId(2)).is_empty(), "the blob is not below the cursor");
    set.commit(&cursors(3));
    assert_eq!(set.committed(&owner(), StreamId(2)), std::iter::once(1..2).collect());
    // Blob first.
    let c = picture(b"c");
    set.land_blob(&owner(), c, (StreamId(2), Seq(2)), at(4));
    set.land_run(&owner(), image_run(2, 2, &[c]), at(5));
    set.land_blob(&owner(), a, (StreamId(2), Seq(0)), at(6));
    assert_eq!(set.durable(&owner(), StreamId(2)).upto(), 3);
    set.commit(&cursors(6));
    assert_eq!(set.committed(&owner(), StreamId(2)).upto(), 3);
    // What is settled is not remembered.
    let epoch = &set.epochs[&owner()];
    assert!(epoch.blobs.is_empty() && epoch.blobless.is_empty() && epoch.uncommitted.is_empty());
}

/// A camera that sees nothing move sends the same bytes for many rows. One row's copy once stood in for another's, whose
/// blob was then never sent: the committer waited for it, and nothing landed after it was ever acked *committed*.
#[test]
fn a_row_is_not_durable_by_the_blob_of_another_row_with_the_same_bytes() {
    let same = picture(b"a still scene");
    let mut set = LandedSet::default();
    set.land_declaration(&owner(), &declared(2, "camera/front", &builtin::image()), at(1));
    set.land_blob(&owner(), same, (StreamId(2), Seq(0)), at(2));
    set.land_run(&owner(), image_run(2, 1, &[same]), at(3));
    assert!(set.durable(&owner(), StreamId(2)).is_empty(), "row 1 has no blob yet");
    set.land_blob(&owner(), same, (StreamId(2), Seq(1)), at(4));
    assert_eq!(set.durable(&owner(), StreamId(2)), std::iter::once(1..2).collect());
    set.land_run(&owner(), image_run(2, 0, &[same]), at(5));
    assert_eq!(set.durable(&owner(), StreamId(2)).upto(), 2);
}

/// The other half of the same mistake: a landed blob was forgotten once an earlier row with the same bytes was committed.
#[test]
fn a_landed_blob_is_kept_for_its_row_although_its_twin_is_committed() {
    let same = picture(b"a still scene");
    let mut set = LandedSet::default();
    set.land_declaration(&owner(), &declared(2, "camera/front", &builtin::image()), at(1));
    set.land_blob(&owner(), same, (StreamId(2), Seq(1)), at(2));
    set.land_blob(&owner(), same, (StreamId(2), Seq(0)), at(3));
    set.land_run(&owner(), image_run(2, 0, &[same]), at(4));
    set.commit(&cursors(4));
    set.land_run(&owner(), image_run(2, 1, &[same]), at(5));
    assert_eq!(set.durable(&owner(), StreamId(2)).upto(), 2);
}

#[test]
fn halves_of_a_row_that_a_gap_record_explains_are_let_go() {
    let mut set = LandedSet::default();
    set.land_declaration(&owner(), &declared(2, "camera/front", &builtin::image()), at(1));
    set.land_declaration(&owner(), &declared(9, "hw/gaps", &builtin::gaps()), at(2));
    set.land_blob(&owner(), picture(b"a"), (StreamId(2), Seq(0)), at(3));
    set.land_run(&owner(), image_run(2, 1, &[picture(b"b")]), at(4));
    set.land_run(&owner(), gap_run(9, 0, "camera/front", 0..2), at(5));
    set.commit(&cursors(5));
    assert_eq!(set.committed(&owner(), StreamId(2)).upto(), 2);
    let epoch = &set.epochs[&owner()];
    assert!(epoch.blobs.is_empty() && epoch.blobless.is_empty());
}

#[test]
fn what_waits_below_the_cursor_is_not_committed_and_holds_nothing_else_back() {
    let mut set = LandedSet::default();
    set.land_declaration(&owner(), &declared(1, "imu", &numbers()), at(1));
    set.land_run(&owner(), run(1, 0, 5), at(2));
    set.land_run(&owner(), run(1, 5, 5), at(3));
    set.commit(&CommitMark { waiting: [at(2)].into(), ..cursors(3) });
    assert_eq!(set.committed(&owner(), StreamId(1)), std::iter::once(5..10).collect());
    set.commit(&cursors(4));
    assert_eq!(set.committed(&owner(), StreamId(1)).upto(), 10);
}

#[test]
fn the_kept_rows_of_a_thinned_gap_are_not_durable() {
    let mut set = LandedSet::default();
    set.land_declaration(&owner(), &declared(1, "imu", &numbers()), at(1));
    set.land_declaration(&owner(), &declared(9, "hw/gaps", &builtin::gaps()), at(2));
    let mut thinned = gap_run(9, 0, "imu", 10..20);
    (thinned.gaps[0].stride, thinned.gaps[0].phase) = (4, 1);
    set.land_run(&owner(), thinned, at(3));
    assert_eq!(set.durable(&owner(), StreamId(1)), [10..11, 12..15, 16..19].into_iter().collect());
}

#[test]
fn declared_gaps_advance_the_named_stream() {
    let mut set = LandedSet::default();
    set.land_declaration(&owner(), &declared(1, "imu", &numbers()), at(1));
    set.land_declaration(&owner(), &declared(9, "hw/gaps", &builtin::gaps()), at(2));
    set.land_run(&owner(), run(1, 0, 5), at(3));
    set.land_run(&owner(), run(1, 8, 2), at(4));
    set.land_run(&owner(), gap_run(9, 0, "imu", 5..8), at(5));
    let marks = set.watermarks(&owner(), 0);
    assert_eq!((marks[0].id, marks[0].durable_upto), (StreamId(1), Seq(10)));
    assert_eq!((marks[1].id, marks[1].durable_upto), (StreamId(9), Seq(1)));
    // A gap of a stream that is declared later.
    set.land_run(&owner(), gap_run(9, 1, "gps", 0..4), at(6));
    set.land_declaration(&owner(), &declared(3, "gps", &builtin::gps_fix()), at(7));
    assert_eq!(set.durable(&owner(), StreamId(3)).upto(), 4);
    // Rows that only look like gaps are none.
    set.land_declaration(&owner(), &declared(4, "own/gaps", &builtin::gaps()), at(8));
    set.land_run(&owner(), gap_run(4, 0, "gps", 4..9), at(9));
    assert_eq!(set.durable(&owner(), StreamId(3)).upto(), 4);
}

#[test]
fn epochs_devices_and_incarnations_do_not_mix() {
    let mut set = LandedSet::new(cursors(100));
    let other = (path("pi-1"), Epoch(8));
    set.land_declaration(&owner(), &declared(1, "imu", &numbers()), at(1));
    set.land_run(&other, run(1, 0, 5), at(2));
    assert!(set.durable(&owner(), StreamId(1)).is_empty());
    let elsewhere = LandingPosition { incarnation: IncarnationId([2; 16]), segment: 0, offset: 3 };
    set.land_run(&owner(), run(1, 0, 5), elsewhere);
    assert_eq!(set.durable(&owner(), StreamId(1)).upto(), 5);
    assert!(set.committed(&owner(), StreamId(1)).is_empty(), "another incarnation's cursor says nothing");
    set.land_run(&owner(), run(1, 5, 5), at(3));
    assert_eq!(set.committed(&owner(), StreamId(1)), std::iter::once(5..10).collect());
}

#[test]
fn withheld_runs_are_bounded_and_counted() {
    let mut set = LandedSet::default();
    let template = run(1, 0, 1);
    for n in 0..=WITHHELD_RUNS_MAX as u64 {
        set.land_run(&owner(), RowRun { seqs: n..n + 1, ..template.clone() }, at(n));
    }
    assert_eq!(set.forgotten(), 1);
}
