//! Reassembly against a plain vector: any order, overlap, repetition and bound.

use super::*;
use crate::receive::testkit::path;
use proptest::prelude::*;

fn owner() -> DeviceEpoch {
    (path("pi-1"), Epoch(7))
}

fn object(seq: u64, len: usize) -> Vec<u8> {
    let bytes: Vec<u8> =
        (0..len).map(|i| u8::try_from((i * 31 + usize::try_from(seq).unwrap()) % 251).unwrap()).collect();
    BlobObject {
        stream: StreamId(3),
        seq: Seq(seq),
        reference: BlobRef::to(&bytes),
        mime: "image/jpeg",
        bytes: (&bytes).into(),
    }
    .to_bytes()
}

fn part<'a>(object: &'a [u8], id: ObjectId, range: Range<usize>) -> Part<'a> {
    Part { object: id, total_len: object.len() as u64, offset: range.start as u64, bytes: &object[range] }
}

const T: BootNanos = BootNanos(0);

proptest! {
    /// Parts in any order, repeated and overlapping, against a plain buffer with a map of what arrived.
    #[test]
    fn any_order_and_overlap_gives_the_object(
        len in 1_usize..400,
        cuts in proptest::collection::vec((0_usize..600, 1_usize..200), 0..40),
    ) {
        let object = object(9, len);
        let id = object_id(&object);
        let mut staging = Reassembler::new(StagingLimits::V1);
        let mut have = vec![false; object.len()];
        let mut done = false;
        let sweep = (0..object.len()).step_by(50).map(|at| (at, 50));
        for (at, n) in cuts.into_iter().chain(sweep) {
            let start = at.min(object.len() - 1);
            let end = (start + n).min(object.len());
            let new = have[start..end].iter().any(|byte| !byte);
            have[start..end].fill(true);
            let outcome = staging.take(&owner(), &part(&object, id, start..end), T);
            if done || !new {
                prop_assert_eq!(outcome, PartOutcome::Known);
            } else if have.iter().all(|byte| *byte) {
                done = true;
                let PartOutcome::Finished(blob) = outcome else { panic!("{outcome:?}") };
                prop_assert_eq!(&blob.bytes[..], &object[..]);
                prop_assert_eq!((blob.stream, blob.seq), (StreamId(3), Seq(9)));
                prop_assert_eq!(staging.cost(), 0);
            } else {
                prop_assert_eq!(outcome, PartOutcome::Held);
                let late = BootNanos(T.0 + 3_000_000_000);
                let missing = staging.devices[&owner().0].partials[&(Epoch(7), id)].have.missing_in(0..object.len() as u64);
                let model: Vec<u64> = have.iter().enumerate().filter(|(_, h)| !**h).map(|(i, _)| i as u64).collect();
                prop_assert_eq!(missing.into_iter().flatten().collect::<Vec<_>>(), model);
                prop_assert!(staging.ask_at(&owner()).is_some_and(|at| at <= late));
            }
        }
        prop_assert!(done);
    }
}

#[test]
fn a_contradiction_discards_and_the_third_gives_up() {
    let good = object(4, 300);
    let id = object_id(&good);
    let mut bad = good.clone();
    bad[80] ^= 1;
    let mut staging = Reassembler::new(StagingLimits::V1);
    assert_eq!(staging.take(&owner(), &part(&good, id, 0..100), T), PartOutcome::Held);
    assert_eq!(
        staging.take(&owner(), &part(&bad, id, 50..150), T),
        PartOutcome::Discarded,
        "overlap differs"
    );
    assert_eq!(staging.cost(), 0);
    // Whole, but not what its id says.
    assert_eq!(staging.take(&owner(), &part(&bad, id, 0..bad.len()), T), PartOutcome::Discarded);
    assert_eq!(
        staging.take(&owner(), &part(&bad, id, 0..bad.len()), T),
        PartOutcome::GivenUp(Some((StreamId(3), Seq(4))))
    );
    assert_eq!(staging.cost(), 0);
    // A later honest try starts anew.
    assert!(matches!(staging.take(&owner(), &part(&good, id, 0..good.len()), T), PartOutcome::Finished(_)));
}

#[test]
fn another_length_discards() {
    let object = object(4, 300);
    let id = object_id(&object);
    let mut staging = Reassembler::new(StagingLimits::V1);
    staging.take(&owner(), &part(&object, id, 0..100), T);
    let longer = Part { total_len: object.len() as u64 + 1, ..part(&object, id, 100..200) };
    assert_eq!(staging.take(&owner(), &longer, T), PartOutcome::Discarded);
}

#[test]
fn bounds_drop_the_oldest_and_count_it() {
    let limits = StagingLimits { objects_per_device_max: 3, bytes_per_device_max: 10_000, bytes_max: 12_000 };
    let mut staging = Reassembler::new(limits);
    let objects: Vec<Vec<u8>> = (0..20).map(|seq| object(seq, 4_000)).collect();
    let ids: Vec<ObjectId> = objects.iter().map(|object| object_id(object)).collect();
    for (object, id) in objects.iter().zip(&ids) {
        staging.take(&owner(), &part(object, *id, 0..3_000), T);
        assert!(staging.cost() <= 10_000);
    }
    assert_eq!(staging.dropped(), 17);
    // Another device's object makes the oldest of all go.
    let other = (path("pi-2"), Epoch(1));
    staging.take(&other, &part(&objects[0], ids[0], 0..3_000), T);
    assert!(staging.cost() <= 12_000);
    assert_eq!(staging.dropped(), 18);
    // The survivors can be finished.
    assert!(matches!(
        staging.take(&owner(), &part(&objects[19], ids[19], 3_000..objects[19].len()), T),
        PartOutcome::Finished(_)
    ));
}

#[test]
fn holes_are_told_when_quiet_and_then_ever_more_rarely() {
    let object = object(4, 300);
    let id = object_id(&object);
    let mut staging = Reassembler::new(StagingLimits::V1);
    let s = |n: i64| BootNanos(n * 1_000_000_000);
    staging.take(&owner(), &part(&object, id, 100..200), s(0));
    assert!(staging.missing(&owner(), s(1)).is_empty(), "parts may be on their way");
    let missing = staging.missing(&owner(), s(2));
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].ranges, vec![0..100, 200..object.len() as u64]);
    assert!(staging.missing(&owner(), s(5)).is_empty());
    assert_eq!(staging.missing(&owner(), s(6)).len(), 1);
    assert!(staging.missing(&owner(), s(13)).is_empty());
    // A part starts the pause again.
    staging.take(&owner(), &part(&object, id, 0..50), s(13));
    assert_eq!(staging.missing(&owner(), s(15)).len(), 1);
    // Given up on after ten minutes.
    staging.take(&owner(), &part(&object, ObjectId([1; 16]), 0..50), s(14 + 600));
    assert_eq!(staging.dropped(), 1);
}
