//! Feeds the link decoder what a serial line can hold: frames, halves of frames, noise, nothing.

use headwater_shims::link::{
    Flags, Header, LinkDecoder, LinkError, LinkStats, LinkType, NoRoom, PAYLOAD_BYTES_MAX, RAW_BYTES_MAX,
    WIRE_BYTES_MAX, encode,
};
use proptest::prelude::*;

type Seen = Result<(Header, Vec<u8>), LinkError>;

fn feed<const N: usize>(decoder: &mut LinkDecoder<N>, bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for byte in bytes {
        if let Some(result) = decoder.push(*byte) {
            seen.push(result.map(|frame| (frame.header, frame.payload.to_vec())));
        }
        let stats = decoder.stats();
        assert_eq!(stats.bytes, stats.accounted_bytes(), "{stats:?}");
    }
    seen
}

fn decode<const N: usize>(bytes: &[u8]) -> (Vec<Seen>, LinkStats) {
    let mut decoder = LinkDecoder::<N>::new();
    let seen = feed(&mut decoder, bytes);
    (seen, decoder.stats())
}

fn header(code: u8, seq: u16) -> Header {
    Header {
        link_type: LinkType::from_code(code),
        flags: Flags::DROPPED_BEFORE,
        seq,
        t_us: 0x0102_0304_0506_0708,
    }
}

fn wire(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; WIRE_BYTES_MAX];
    let n = encode(&mut out, header, payload).expect("a buffer of WIRE_BYTES_MAX suffices");
    out.truncate(n);
    out
}

#[test]
fn hunting_is_not_an_error() {
    let head = header(0x10, 1);
    let mut bytes = wire(head, &[])[5..].to_vec();
    let cut = bytes.len() as u64;
    bytes.extend(wire(head, &[]));
    let (seen, stats) = decode::<64>(&bytes);
    assert_eq!(seen, [Ok((head, vec![]))]);
    assert_eq!((stats.hunted_bytes, stats.errors()), (cut, 0));
}

#[test]
fn sizes_on_the_wire_are_as_drawn() {
    assert_eq!(wire(header(0x10, 0), &[]).len(), 16);
    assert_eq!(wire(header(0x11, 0), &[1; 24]).len(), 40);
    assert_eq!(PAYLOAD_BYTES_MAX, 1010);
    let largest = wire(header(0x02, 0), &[1; PAYLOAD_BYTES_MAX]);
    assert!(largest.len() <= WIRE_BYTES_MAX);
    let (mut out, head) = ([0; 2048], header(0x02, 0));
    assert_eq!(encode(&mut out, head, &[1; 1011]), Err(NoRoom));
    assert_eq!(encode(&mut out[..largest.len() - 1], head, &[1; 1010]), Err(NoRoom));
}

#[test]
fn oversize_is_counted_once() {
    let mut bytes = vec![0];
    bytes.extend(wire(header(1, 0), &[0x55; 500]));
    bytes.extend(wire(header(1, 1), &[0x55; 50]));
    let (seen, stats) = decode::<64>(&bytes);
    assert_eq!(seen, [Err(LinkError::Oversize), Ok((header(1, 1), vec![0x55; 50]))]);
    assert_eq!((stats.oversize_errors, stats.errors()), (1, 1));
}

#[test]
fn endless_noise_is_one_error_and_keeps_nothing_pending() {
    let mut bytes = vec![0];
    bytes.extend([0x55; 10_000]);
    let (seen, stats) = decode::<64>(&bytes);
    assert_eq!(seen, [Err(LinkError::Oversize)]);
    assert_eq!((stats.rejected_bytes, stats.pending_bytes), (10_000, 0));
}

#[test]
fn a_frame_of_exactly_n_fits() {
    let mut bytes = vec![0];
    bytes.extend(wire(header(1, 0), &[3; 50]));
    assert!(matches!(decode::<64>(&bytes).0[..], [Ok(_)]));
    assert_eq!(decode::<63>(&bytes).0, [Err(LinkError::Oversize)]);
    assert_eq!(decode::<0>(&bytes).0, [Err(LinkError::Oversize)]);
}

#[test]
fn each_kind_of_damage_has_its_counter() {
    let good = wire(header(0x10, 9), &[]);
    let mut bytes = vec![0, 0, 0];
    bytes.extend([3, 1, 0]); // a block that promises more
    bytes.extend([2, 1, 0]); // one raw byte
    let mut flipped = good.clone();
    flipped[3] ^= 0x40; // the low byte of seq
    bytes.extend(&flipped);
    bytes.extend(wire(header(0x55, 2), &[1]));
    bytes.extend(&good);
    bytes.extend(&good[..7]);
    let (seen, stats) = decode::<RAW_BYTES_MAX>(&bytes);
    assert!(matches!(
        seen[..],
        [Err(LinkError::Stuffing), Err(LinkError::TooShort { raw_bytes: 1 }), Err(_), Ok(_), Ok(_)]
    ));
    assert_eq!(stats.hunted_bytes, 1);
    assert_eq!(stats.idle_bytes, 2);
    assert_eq!(stats.pending_bytes, 7);
    assert_eq!((stats.frames, stats.unknown_frames), (2, 1));
    assert_eq!((stats.stuffing_errors, stats.short_errors), (1, 1));
    assert_eq!(stats.errors(), 3);
    assert_eq!(stats.bytes, bytes.len() as u64);
}

#[test]
fn reopening_the_port_hunts_again() {
    let good = wire(header(0x10, 9), &[]);
    let mut decoder = LinkDecoder::<64>::new();
    assert!(feed(&mut decoder, &[0, 5, 6, 7]).is_empty());
    decoder.hunt();
    assert!(feed(&mut decoder, &good[8..]).is_empty());
    assert_eq!(feed(&mut decoder, &good).len(), 1);
    assert_eq!(decoder.stats().errors(), 0);
}

#[test]
fn a_frame_with_a_trailing_block_is_accepted() {
    // A frame whose last 254 raw bytes hold no zero ends at a full block.
    let found = (1..=255u8).find_map(|fill| {
        let mut payload = vec![0];
        payload.extend([fill; 252]);
        let bytes = wire(header(1, 1), &payload);
        (bytes[bytes.len() - 256] == 0xFF).then_some((payload, bytes))
    });
    let (payload, mut bytes) = found.expect("some checksum has no zero in it");
    assert_eq!(bytes.pop(), Some(0));
    bytes.extend([1, 0]);
    bytes.insert(0, 0);
    assert_eq!(decode::<512>(&bytes).0, [Ok((header(1, 1), payload))]);
}

fn arb_bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![4 => any::<u8>(), 1 => Just(0), 1 => Just(0xFF)], 0..max)
}

fn arb_frame() -> impl Strategy<Value = (Header, Vec<u8>)> {
    (any::<[u8; 12]>(), arb_bytes(300)).prop_map(|(head, payload)| (Header::from_bytes(head), payload))
}

proptest! {
    #[test]
    fn decoder_survives_anything(noise in arb_bytes(2000), frame in arb_frame()) {
        let mut decoder = LinkDecoder::<256>::new();
        feed(&mut decoder, &noise);
        feed(&mut decoder, &[0]);
        let errors = decoder.stats().errors();
        let seen = feed(&mut decoder, &wire(frame.0, &frame.1));
        if frame.1.len() + 14 <= 256 {
            prop_assert_eq!(seen, [Ok(frame)]);
            prop_assert_eq!(decoder.stats().errors(), errors);
        } else {
            prop_assert_eq!(seen, [Err(LinkError::Oversize)]);
        }
        prop_assert_eq!(decoder.stats().pending_bytes, 0);
    }

    #[test]
    fn frames_round_trip_in_order(frames in prop::collection::vec(arb_frame(), 0..6)) {
        let mut bytes = vec![0];
        for (head, payload) in &frames {
            bytes.extend(wire(*head, payload));
        }
        let (seen, stats) = decode::<RAW_BYTES_MAX>(&bytes);
        prop_assert_eq!(stats.frames, frames.len() as u64);
        prop_assert_eq!(stats.frame_bytes + 1, bytes.len() as u64);
        prop_assert_eq!(seen, frames.into_iter().map(Ok).collect::<Vec<_>>());
    }

    #[test]
    fn a_damaged_frame_never_harms_its_neighbours(
        first in arb_frame(), hit in arb_frame(), last in arb_frame(),
        at in any::<prop::sample::Index>(), flip in 1..=255u8,
    ) {
        let mut middle = wire(hit.0, &hit.1);
        let end = middle.len() - 1; // not the delimiter: that would join two frames
        middle[at.index(end)] ^= flip;
        let mut bytes = vec![0];
        bytes.extend(wire(first.0, &first.1));
        bytes.extend(middle);
        bytes.extend(wire(last.0, &last.1));
        let (seen, _) = decode::<RAW_BYTES_MAX>(&bytes);
        prop_assert_eq!(seen.first(), Some(&Ok(first)));
        prop_assert_eq!(seen.last(), Some(&Ok(last)));
        // One damaged byte is a burst of at most 16 bits unless it moves the zeros of the frame.
        prop_assert!(seen.len() >= 2);
    }

    #[test]
    fn headers_round_trip(bytes in any::<[u8; 12]>()) {
        prop_assert_eq!(Header::from_bytes(bytes).to_bytes(), bytes);
    }
}
