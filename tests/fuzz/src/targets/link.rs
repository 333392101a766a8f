//! Link frames of microcontrollers: any byte stream, and payloads in frames that are right.

use crate::corpus::golden;
use crate::probe::Probe;
use crate::{letters, outcome};
use headwater_shims::link::{
    FieldType, Flags, Header, Hello, HelloBody, HelloReq, LinkDecoder, LinkFrame, LinkType, Log,
    PAYLOAD_BYTES_MAX, Ping, Pong, RAW_BYTES_MAX, Sample, WIRE_BYTES_MAX, encode,
};

/// Two decoders, one with a small buffer; every byte ends in one counter; frames encode to what decodes again.
pub(super) fn stream(input: &[u8], probe: &mut Probe) -> u64 {
    let mut seen = Vec::new();
    let stats = probe.decode(|| {
        seen.clear();
        let mut decoder = LinkDecoder::<RAW_BYTES_MAX>::new();
        let mut small = LinkDecoder::<64>::new();
        for byte in input {
            match decoder.push(*byte) {
                Some(Ok(frame)) if seen.len() < 64 => seen.push(Ok((frame.header, frame.payload.to_vec()))),
                Some(Err(error)) if seen.len() < 64 => seen.push(Err(error)),
                _ => {}
            }
            if let Some(Ok(frame)) = small.push(*byte) {
                assert!(frame.payload.len() < 64);
            }
        }
        assert_eq!(small.stats().accounted_bytes(), small.stats().bytes);
        decoder.stats()
    });
    assert_eq!((stats.accounted_bytes(), stats.bytes), (input.len() as u64, input.len() as u64));
    for (header, payload) in seen.iter().flatten() {
        round_trip(*header, payload);
        read(&LinkFrame { header: *header, payload });
    }
    let kinds: Vec<_> = seen.iter().take(3).map(|frame| frame.as_ref().map(|(h, _)| h.link_type)).collect();
    outcome(&[&kinds])
}

fn round_trip(header: Header, payload: &[u8]) {
    let mut out = [0; WIRE_BYTES_MAX];
    let n = encode(&mut out, header, payload).expect("it came in a frame");
    let mut decoder = LinkDecoder::<RAW_BYTES_MAX>::new();
    assert!(decoder.push(0).is_none());
    let (last, before) = out[..n].split_last().expect("a frame has a delimiter");
    assert!(before.iter().all(|byte| decoder.push(*byte).is_none()));
    let frame = decoder.push(*last).expect("the delimiter ends it").expect("it is right");
    assert_eq!((frame.header, frame.payload), (header, payload));
}

/// Reads a payload as its type says; what is read must write to the same bytes.
fn read(frame: &LinkFrame<'_>) -> u64 {
    let payload = frame.payload;
    let mut out = [0; PAYLOAD_BYTES_MAX];
    match frame.header.link_type {
        LinkType::Hello => {
            let hello = Hello::parse(payload);
            if let Ok(hello) = &hello {
                let n = hello.encode(&mut out).expect("it was read");
                assert_eq!(&out[..n], payload);
            }
            outcome(&[&hello.map(|hello| matches!(hello.body, HelloBody::Identity(_)))])
        }
        LinkType::Sample => {
            let sample = Sample::parse(payload);
            // The widest field of a golden descriptor is unknown here: bytes suit any row width.
            if let Ok(sample) = &sample {
                let width = sample.values().len() / usize::from(sample.count());
                let fields = vec![FieldType::U8; width];
                if let Ok(rows) = sample.rows(&fields) {
                    assert_eq!(rows.len(), usize::from(sample.count()));
                    rows.for_each(|row| assert_eq!(row.values().count(), fields.len()));
                }
            }
            outcome(&[&sample.map(|sample| sample.count() > 1)])
        }
        LinkType::Log => {
            let log = Log::parse(payload);
            if let Ok(log) = &log {
                let n = log.encode(&mut out).expect("it was read");
                assert_eq!(&out[..n], payload);
            }
            outcome(&[&log.map(|log| log.level)])
        }
        LinkType::Pong => {
            let pong = Pong::parse(payload);
            if let Ok(pong) = &pong {
                let n = pong.encode(&mut out).expect("it was read");
                assert_eq!(&out[..n], payload);
            }
            outcome(&[&pong.is_ok()])
        }
        LinkType::Ping => outcome(&[&Ping::parse(payload).is_ok()]),
        LinkType::HelloReq => outcome(&[&HelloReq::parse(payload).is_ok()]),
        other => outcome(&[&other]),
    }
}

pub(super) fn stream_seeds() -> Vec<Vec<u8>> {
    let frames = golden("link/v1", "bin");
    let mut all: Vec<Vec<u8>> = frames.iter().map(|frame| [&[0], frame.as_slice()].concat()).collect();
    all.push(frames.concat());
    all
}

/// First byte: type; the rest is the payload, framed with a right checksum.
pub(super) fn payload(input: &[u8], probe: &mut Probe) -> u64 {
    let Some((kind, payload)) = input.split_first() else { return 0 };
    let payload = &payload[..payload.len().min(PAYLOAD_BYTES_MAX)];
    let header = Header { link_type: LinkType::from_code(*kind), flags: Flags::NONE, seq: 1, t_us: 2 };
    if probe.thorough {
        round_trip(header, payload);
    }
    let told = probe.decode(|| read(&LinkFrame { header, payload }));
    outcome(&[&header.link_type, &letters(told)])
}

pub(super) fn payload_seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for stream in stream_seeds() {
        let mut decoder = LinkDecoder::<RAW_BYTES_MAX>::new();
        for byte in stream {
            if let Some(Ok(frame)) = decoder.push(byte) {
                all.push([&[frame.header.link_type.code()], frame.payload].concat());
            }
        }
    }
    all
}
