//! Holds byte stuffing and checksum against vectors and against a second, naive implementation.

use headwater_shims::cobs::{CobsError, decode, encode, encoded_bytes_max};
use headwater_shims::crc::crc16;
use headwater_shims::link::NoRoom;
use proptest::prelude::*;

/// Block by block over whole slices: slow, and unlike the code under test.
fn naive(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut pieces = raw.split(|byte| *byte == 0).peekable();
    while let Some(piece) = pieces.next() {
        let mut rest = piece;
        while rest.len() > 254 {
            out.push(0xFF);
            out.extend(&rest[..254]);
            rest = &rest[254..];
        }
        if rest.len() == 254 {
            out.push(0xFF);
            out.extend(rest);
            // Only a zero that follows needs another block; at the end none is written.
            if pieces.peek().is_some() {
                out.push(1);
            }
            continue;
        }
        out.push(u8::try_from(rest.len() + 1).expect("rest is below 254"));
        out.extend(rest);
    }
    out.push(0);
    out
}

fn stuffed(raw: &[u8]) -> Vec<u8> {
    let mut out = vec![0xAA; encoded_bytes_max(raw.len())];
    let n = encode(raw, &mut out).expect("the documented maximum suffices");
    out.truncate(n);
    out
}

fn unstuffed(wire: &[u8]) -> Result<Vec<u8>, CobsError> {
    let mut out = vec![0; wire.len()];
    let n = decode(wire, &mut out)?;
    out.truncate(n);
    Ok(out)
}

#[test]
fn crc_check_value() {
    assert_eq!(crc16(b"123456789"), 0x29B1);
    assert_eq!(crc16(b""), 0xFFFF);
}

#[test]
fn edges_of_blocks() {
    for len in [0, 1, 253, 254, 255, 508, 509] {
        let zeros = vec![0; len];
        let none: Vec<u8> = (1..=255).cycle().take(len).collect();
        let mixed: Vec<u8> = (0..=255u8).cycle().map(|i| i.wrapping_mul(i)).take(len).collect();
        for raw in [zeros, none, mixed] {
            let wire = stuffed(&raw);
            assert_eq!(wire, naive(&raw), "{len} bytes");
            assert_eq!(unstuffed(&wire[..wire.len() - 1]), Ok(raw));
        }
    }
    assert_eq!(stuffed(&[]), [1, 0]);
    assert_eq!(stuffed(&[0]), [1, 1, 0]);
    assert_eq!(stuffed(&[5]), [2, 5, 0]);
    assert_eq!(stuffed(&[1; 254]).len(), 256);
    assert_eq!(stuffed(&[1; 255])[255..], [2, 1, 0]);
}

#[test]
fn trailing_cobs_block_is_accepted_but_never_written() {
    for blocks in [1, 2] {
        let raw = vec![7; 254 * blocks];
        let mut wire = stuffed(&raw);
        assert_eq!(wire.pop(), Some(0));
        assert_eq!(wire.last(), Some(&7));
        wire.push(1);
        assert_eq!(unstuffed(&wire), Ok(raw));
    }
}

#[test]
fn broken_stuffing_is_refused() {
    assert_eq!(unstuffed(&[3, 1]), Err(CobsError::Truncated));
    assert_eq!(unstuffed(&[3, 1, 0]), Err(CobsError::Zero));
    assert_eq!(decode(&[3, 1, 2], &mut [0]), Err(CobsError::NoRoom));
    assert_eq!(unstuffed(&[]), Ok(vec![]));
}

#[test]
fn no_room_is_an_answer_at_every_length() {
    let raw: Vec<u8> = (0..=255).chain(1..=255).collect();
    let full = stuffed(&raw);
    for len in 0..full.len() {
        assert_eq!(encode(&raw, &mut vec![0; len]), Err(NoRoom));
    }
    assert_eq!(encode(&raw, &mut vec![0; full.len()]), Ok(full.len()));
}

proptest! {
    #[test]
    fn round_trip(raw in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0)], 0..1100)) {
        let wire = stuffed(&raw);
        prop_assert_eq!(&wire, &naive(&raw));
        prop_assert!(!wire[..wire.len() - 1].contains(&0));
        prop_assert_eq!(unstuffed(&wire[..wire.len() - 1]), Ok(raw));
    }

    #[test]
    fn long_runs_round_trip(len in 200..800usize, zero_at in 0..900usize) {
        let mut raw = vec![9; len];
        if let Some(byte) = raw.get_mut(zero_at) {
            *byte = 0;
        }
        let wire = stuffed(&raw);
        prop_assert_eq!(&wire, &naive(&raw));
        prop_assert_eq!(unstuffed(&wire[..wire.len() - 1]), Ok(raw));
    }

    #[test]
    fn decode_survives_anything(wire in prop::collection::vec(any::<u8>(), 0..600), room in 0..600usize) {
        if let Ok(n) = decode(&wire, &mut vec![0; room]) {
            prop_assert!(n <= room);
        }
    }
}
