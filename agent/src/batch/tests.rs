//! The batcher's promises: everything fits, reads back, and no row is lost or doubled.

use super::*;
use headwater_core::batch::{
    Announced, Column, Effort, Encoder, Limits, Rows, Section, StreamRef, Values, decode_batch,
};
use headwater_core::id::{BootOrdinal, Epoch, Seq, Sha256, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Slab, SpooledSlab};
use headwater_core::sample::Blob;
use headwater_core::schema::Fingerprint;
use headwater_core::time::{BootNanos, ClockDomain, StampKind};
use headwater_core::wire::ENVELOPE_BYTES;
use headwater_core::wire::object::{BlobObject, object_id};
use proptest::prelude::*;
use std::collections::BTreeMap;

const EPOCH: Epoch = Epoch(7);

fn rows(stream: u16, first: u64, n: usize, noise: u64) -> Rows {
    let mut state = noise | 1;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 11
    };
    Rows {
        stream: StreamRef::Id(StreamId(stream)),
        fingerprint: Fingerprint(u32::from(stream)),
        boot_ordinal: BootOrdinal(3),
        first_seq: Seq(first),
        time_exp: 3,
        stamp_kind: StampKind::Arrival,
        domain: ClockDomain::BOOT,
        t: (0..n as i64).map(|i| (first as i64 + i) * 4_000).collect(),
        lat_lo: vec![0; n],
        lat_hi: vec![2_000_000; n],
        fields: vec![
            Column { values: Values::F64((0..n).map(|_| next() as f64 / 3.0).collect()), valid: None },
            Column::integers((0..n as i64).collect()),
        ],
    }
}

fn spooled(rows: Rows) -> SpooledSlab {
    SpooledSlab {
        epoch: EPOCH,
        slab: Slab { rows, blob: None, arrived: None },
        older_schema: None,
        next: Cursor::default(),
    }
}

fn batches(sealed: &[Sealed]) -> Vec<&SealedBatch> {
    sealed.iter().filter_map(|s| if let Sealed::Batch(b) = s { Some(b) } else { None }).collect()
}

#[test]
fn slabs_of_a_stream_are_joined_and_streams_share_a_batch() {
    let mut batcher =
        Batcher::new(BatchSettings { linger_ms: 1_000, message_bytes_max: 96 * 1024, effort: Effort::Wire });
    let t0 = BootNanos(0);
    for second in 0..5 {
        for stream in 1..=3 {
            let out = batcher.push(t0, spooled(rows(stream, second * 10, 10, second + 1)));
            assert!(out.is_empty());
        }
    }
    assert_eq!(batcher.deadline(), Some(t0.plus_ms(1_000)));
    assert!(batcher.poll(t0.plus_ms(999)).is_empty());
    let out = batcher.poll(t0.plus_ms(1_000));
    let [batch] = batches(&out)[..] else { panic!("one batch") };
    assert_eq!(batch.holds.len(), 3);
    assert!(batch.holds.iter().all(|hold| hold.seqs == (0..50)));
    let read = decode_batch(&batch.body, &Limits::V1).unwrap();
    let beats: Vec<_> = read
        .sections
        .iter()
        .filter_map(|s| if let Section::Heartbeat(b) = s { Some(b) } else { None })
        .collect();
    assert_eq!(beats.len(), 3, "one heartbeat per stream with rows");
    // Last stamp 49 * 4 ms less 2 ms of latency.
    assert!(
        beats.iter().all(|b| b.next_seq == Seq(50) && b.promise_b == BootNanos(49 * 4_000_000 - 2_000_000))
    );
    assert_eq!(batcher.deadline(), None);
}

#[test]
fn another_epoch_never_shares_a_batch() {
    let mut batcher =
        Batcher::new(BatchSettings { linger_ms: 1_000, message_bytes_max: 96 * 1024, effort: Effort::Wire });
    assert!(batcher.push(BootNanos(0), spooled(rows(1, 0, 4, 1))).is_empty());
    let other = SpooledSlab { epoch: Epoch(8), ..spooled(rows(1, 0, 4, 1)) };
    let first = batcher.push(BootNanos(0), other);
    assert_eq!(batches(&first)[0].epoch, EPOCH);
    let second = batcher.flush();
    assert_eq!(batches(&second)[0].epoch, Epoch(8));
}

#[test]
fn a_blob_becomes_an_object_beside_its_row() {
    let mut batcher =
        Batcher::new(BatchSettings { linger_ms: 0, message_bytes_max: 96 * 1024, effort: Effort::Wire });
    let blob = Blob { mime: "image/jpeg".into(), bytes: vec![7; 200_000].into() };
    let slab = SpooledSlab {
        slab: Slab { rows: rows(2, 9, 1, 1), blob: Some(blob), arrived: None },
        ..spooled(rows(2, 9, 1, 1))
    };
    let out = batcher.push(BootNanos(0), slab);
    let [Sealed::Blob(blob)] = &out[..] else { panic!("the blob at once, the row with its batch") };
    assert_eq!(blob.id, object_id(&blob.object));
    let object = BlobObject::from_bytes(&blob.object).unwrap();
    assert_eq!((object.stream, object.seq, object.bytes.len()), (StreamId(2), Seq(9), 200_000));
    assert_eq!(batches(&batcher.poll(BootNanos(0)))[0].holds[0].seqs, 9..10);
}

#[test]
fn a_row_that_fits_no_message_stays_in_the_spool_and_the_others_go() {
    let mut batcher =
        Batcher::new(BatchSettings { linger_ms: 0, message_bytes_max: 32 * 1024, effort: Effort::Wire });
    let mut wide = rows(1, 0, 3, 1);
    let noise: Vec<u8> = (0..1_875_u32).flat_map(|i| Sha256::of(&i.to_le_bytes()).0).collect();
    wide.fields.push(Column { values: Values::Bytes(vec![vec![1], noise, vec![2]]), valid: None });
    let mut out = batcher.push(BootNanos(0), spooled(wide));
    out.extend(batcher.flush());
    let stays: Vec<_> =
        out.iter().filter_map(|s| if let Sealed::Withheld(w) = s { Some(w.clone()) } else { None }).collect();
    assert_eq!(stays.len(), 1);
    assert_eq!(stays[0].seqs, 1..2);
    assert!(matches!(stays[0].why, WithheldWhy::RowTooLarge { found, .. } if found > 32 * 1024));
    let sent: IntervalSet =
        batches(&out).iter().flat_map(|b| b.holds.iter().map(|h| h.seqs.clone())).collect();
    assert!(sent.covers(0..1) && sent.covers(2..3) && !sent.contains(1));
    assert_eq!(batcher.stats().withheld, 1);
}

/// Breaks one value whenever rows of two slabs were joined.
fn lies_about_joined_rows(encoder: &mut Encoder, sections: &[Section]) -> Vec<u8> {
    let mut sections = sections.to_vec();
    for section in &mut sections {
        if let Section::Rows(rows) = section
            && rows.len() > 10
        {
            rows.t[0] += 1;
        }
    }
    encoder.encode(&sections)
}

#[test]
fn verify_catches_corrupt_encoder() {
    let mut batcher =
        Batcher::new(BatchSettings { linger_ms: 0, message_bytes_max: 96 * 1024, effort: Effort::Wire });
    batcher.set_encode(lies_about_joined_rows);
    for second in 0..3 {
        assert!(batcher.push(BootNanos(0), spooled(rows(1, second * 10, 10, 1))).is_empty());
    }
    let out = batcher.flush();
    assert_eq!(batcher.stats().codec_mismatches, 1);
    let seqs: Vec<_> = batches(&out).iter().map(|b| b.holds[0].seqs.clone()).collect();
    assert_eq!(seqs, [0..10, 10..20, 20..30], "slab by slab, and nothing false was let out");
    assert!(batcher.push(BootNanos(0), spooled(rows(1, 30, 11, 1))).is_empty());
    let out = batcher.flush();
    assert!(matches!(&out[..], [Sealed::Withheld(w)] if w.why == WithheldWhy::Codec && w.seqs == (30..41)));
}

/// Breaks one value in whatever is not of the baseline.
fn lies_in_new_codecs(encoder: &mut Encoder, sections: &[Section]) -> Vec<u8> {
    let body = encoder.encode(sections);
    let baseline = Encoder::new(Effort::Wire, Announced::BASELINE).encode(sections);
    if body == baseline { body } else { baseline.iter().map(|byte| byte ^ 1).collect() }
}

#[test]
fn a_codec_that_does_not_read_back_gives_way_to_the_baseline() {
    let mut batcher =
        Batcher::new(BatchSettings { linger_ms: 0, message_bytes_max: 96 * 1024, effort: Effort::Wire });
    batcher.announce(Announced::OURS);
    batcher.set_encode(lies_in_new_codecs);
    assert!(batcher.push(BootNanos(0), spooled(rows(1, 0, 300, 1))).is_empty());
    let out = batcher.flush();
    assert_eq!(batcher.stats().codec_mismatches, 1);
    assert_eq!(batches(&out)[0].holds[0].seqs, 0..300);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn everything_fits_and_no_row_is_lost_doubled_or_changed(
        slabs in proptest::collection::vec((1_u16..5, 1_usize..400, any::<u64>(), any::<bool>()), 1..40),
        message_bytes_max in 2_000_usize..40_000,
        announced in prop_oneof![Just(Announced::BASELINE), Just(Announced::OURS)],
    ) {
        let mut batcher = Batcher::new(BatchSettings { linger_ms: 1_000, message_bytes_max, effort: Effort::Wire });
        batcher.announce(announced);
        let mut next = BTreeMap::new();
        let mut given: BTreeMap<(u16, u64), Rows> = BTreeMap::new();
        let mut out = Vec::new();
        for (stream, n, noise, hole) in slabs {
            let at = next.entry(stream).or_insert(0_u64);
            if hole { *at += 3; }
            let slab = rows(stream, *at, n, noise);
            for row in 0..n {
                given.insert((stream, *at + row as u64), slab.slice(row..row + 1));
            }
            *at += n as u64;
            out.extend(batcher.push(BootNanos(0), spooled(slab)));
        }
        out.extend(batcher.flush());
        for sealed in out {
            let Sealed::Batch(batch) = sealed else { return Err(TestCaseError::fail("withheld")) };
            prop_assert!(batch.body.len() + ENVELOPE_BYTES <= message_bytes_max);
            let read = decode_batch(&batch.body, &Limits::V1).unwrap();
            let held: Vec<_> = read.rows().map(|r| Hold::of(r).unwrap()).collect();
            prop_assert_eq!(&held, &batch.holds);
            for section in read.rows() {
                let StreamRef::Id(stream) = section.stream else { panic!("id") };
                for (row, seq) in section.seqs().enumerate() {
                    let was = given.remove(&(stream.0, seq));
                    prop_assert!(was.is_some_and(|was| was.same_bits(&section.slice(row..row + 1))));
                }
            }
        }
        prop_assert!(given.is_empty(), "{} rows lost", given.len());
    }
}
