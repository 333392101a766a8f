//! Blobs in other forms than their own, on real pictures: not a bit is lost, and hostile bytes are errors.
#![cfg(feature = "lepton")]
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use headwater_core::id::{Seq, StreamId};
use headwater_core::sample::BlobRef;
use headwater_core::wire::blob::BlobCodec;
use headwater_core::wire::object::{BlobObject, ObjectError};
use proptest::prelude::*;

fn jpeg(n: u32) -> Vec<u8> {
    let path = format!("{}/../tests/data/demo/camera/{n:04}.jpg", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

/// The object that brings `payload` for `original`.
fn object(original: &[u8], codec: BlobCodec, payload: &[u8]) -> Vec<u8> {
    let reference = BlobRef::to(original);
    let blob = BlobObject {
        stream: StreamId(1),
        seq: Seq(9),
        reference,
        mime: "image/jpeg",
        bytes: original.into(),
    };
    blob.with_payload(codec, payload)
}

fn comes_back(original: &[u8], packed: &[u8]) {
    let object = object(original, BlobCodec::Lepton, packed);
    assert_eq!(&*BlobObject::from_bytes(&object).unwrap().bytes, original);
}

#[test]
fn a_jpeg_loses_a_fifth_and_no_bit() {
    let (mut before, mut after) = (0, 0);
    for n in 1..=30 {
        let original = jpeg(n);
        let packed = BlobCodec::Lepton.pack(&original).unwrap();
        comes_back(&original, &packed);
        before += original.len();
        after += packed.len();
    }
    assert!(after * 100 < before * 82, "{after} of {before} bytes");
}

#[test]
fn what_is_no_whole_jpeg_comes_back_or_goes_as_it_is() {
    let whole = jpeg(1);
    for original in [&whole[..3], &whole[..40], &[0xff, 0xd8, 0xff, 0xd9], &[0xff; 5000]] {
        if let Some(packed) = BlobCodec::Lepton.pack(original) {
            comes_back(original, &packed);
        }
    }
    // Trailing bytes, as some cameras leave them, come back too.
    let trailing = [&whole[..], b"maker's note"].concat();
    comes_back(&trailing, &BlobCodec::Lepton.pack(&trailing).unwrap());
}

#[test]
fn another_picture_under_a_digest_is_found_out() {
    let (one, other) = (jpeg(1), jpeg(2));
    let packed = BlobCodec::Lepton.pack(&other).unwrap();
    assert_eq!(BlobObject::from_bytes(&object(&one, BlobCodec::Lepton, &packed)), Err(ObjectError::Digest));
    assert_eq!(BlobObject::from_bytes(&object(&one, BlobCodec::Zstd, &packed)), Err(ObjectError::Digest));
    assert_eq!(BlobObject::from_bytes(&object(&one, BlobCodec::Raw, &packed)), Err(ObjectError::Digest));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Hostile Lepton ends in an error, never in a panic or in other bytes than the digest names.
    #[test]
    fn a_changed_file_is_an_error(at in 0_usize..40_000, to: u8, cut in 0_usize..40_000, small: bool) {
        let original = jpeg(1);
        let mut packed = BlobCodec::Lepton.pack(&original).unwrap();
        let at = at % if small { 200 } else { packed.len() };
        packed[at] = to;
        let keep = packed.len() - cut % (packed.len() / 8);
        if let Ok(blob) = BlobObject::from_bytes(&object(&original, BlobCodec::Lepton, &packed[..keep])) {
            prop_assert_eq!(&*blob.bytes, &original[..]);
        }
    }

    /// Hostile pictures are packed so that they come back, or not at all.
    #[test]
    fn a_changed_jpeg_comes_back_or_goes_as_it_is(at in 2_usize..2_000, to: u8, cut in 0_usize..10_000) {
        let mut original = jpeg(1);
        let n = original.len();
        original[at % n] = to;
        original.truncate(n - cut % (n / 2));
        if let Some(packed) = BlobCodec::Lepton.pack(&original) {
            comes_back(&original, &packed);
        }
    }
}
