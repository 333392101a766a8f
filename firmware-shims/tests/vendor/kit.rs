//! What all tests here need: a stream through a feeder, and messages as text.

use headwater_shims::vendor::{FeedStats, Feeder, FrameError, Message, Protocol, Read, Value};

/// What a feeder made of a stream.
#[derive(Debug, PartialEq)]
pub(crate) struct Fed {
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) errors: Vec<FrameError>,
    pub(crate) stats: FeedStats,
}

/// Feeds `bytes` in pieces of `chunk`, then lets the line fall silent if `close`. Checks the account at each step.
pub(crate) fn feed<P: Protocol, const N: usize>(protocol: P, bytes: &[u8], chunk: usize, close: bool) -> Fed {
    let mut feeder = Feeder::<P, N>::new(protocol);
    let mut fed = Fed { frames: Vec::new(), errors: Vec::new(), stats: FeedStats::default() };
    for mut piece in bytes.chunks(chunk.max(1)) {
        drain(&mut feeder, &mut piece, &mut fed);
        assert!(piece.is_empty());
    }
    if close {
        feeder.close();
        drain(&mut feeder, &mut &[][..], &mut fed);
        assert_eq!(feeder.stats().pending_bytes, 0);
    }
    fed.stats = feeder.stats();
    assert_eq!(fed.stats.bytes, bytes.len() as u64);
    assert_eq!(fed.stats.frames, fed.frames.len() as u64);
    assert_eq!(fed.stats.errors(), fed.errors.len() as u64);
    fed
}

fn drain<P: Protocol, const N: usize>(feeder: &mut Feeder<P, N>, input: &mut &[u8], fed: &mut Fed) {
    loop {
        let found = feeder.next_frame(input).map(|found| found.map(|found| found.bytes.to_vec()));
        let stats = feeder.stats();
        assert_eq!(stats.bytes, stats.accounted_bytes(), "{stats:?}");
        assert!(stats.pending_bytes <= N as u64);
        match found {
            None => return,
            Some(Ok(frame)) => fed.frames.push(frame),
            Some(Err(error)) => fed.errors.push(error),
        }
    }
}

/// A message as `(name, value)` pairs.
pub(crate) type Shown = (String, Vec<(String, String)>);

pub(crate) fn show(message: &dyn Message) -> Shown {
    let fields = (0..).map_while(|at| {
        let field = message.field(at)?;
        let value = match message.value(at) {
            Value::Missing => {
                assert!(field.nullable, "{} of {} is missing but not nullable", field.name, message.kind());
                "missing".to_owned()
            }
            Value::Bool(value) => value.to_string(),
            Value::Unsigned(value) => value.to_string(),
            Value::Signed(value) => value.to_string(),
            Value::F32(value) => value.to_string(),
            Value::F64(value) => value.to_string(),
            Value::Text(value) => value.to_owned(),
        };
        Some((field.name.to_owned(), value))
    });
    (message.kind().to_owned(), fields.collect())
}

/// All messages in a frame.
pub(crate) fn read<R: Read + ?Sized>(protocol: &R, frame: &[u8]) -> Vec<Shown> {
    let mut all = Vec::new();
    let known = protocol.read(frame, &mut |message| all.push(show(message)));
    assert_eq!(known, !all.is_empty());
    all
}

/// All messages in a stream that holds nothing else.
pub(crate) fn messages<R: Read + Copy, const N: usize>(protocol: R, bytes: &[u8]) -> Vec<Shown> {
    let fed = feed::<R, N>(protocol, bytes, 7, true);
    assert_eq!(fed.stats.frame_bytes, bytes.len() as u64, "{fed:?}");
    fed.frames.iter().flat_map(|frame| read(&protocol, frame)).collect()
}

/// Checks the `name=value` pairs of `expected`; floats by nine digits.
pub(crate) fn expect(shown: &Shown, expected: &str) {
    for pair in expected.split_whitespace() {
        let (name, want) = pair.split_once('=').expect("name=value");
        let found = shown.1.iter().find(|(field, _)| field == name);
        let (_, value) = found.unwrap_or_else(|| panic!("{} has no {name}", shown.0));
        let close = match (value.parse::<f64>(), want.parse::<f64>()) {
            (Ok(value), Ok(want)) => (value - want).abs() <= 1e-9 * want.abs().max(1.0),
            _ => false,
        };
        assert!(close || value == want, "{name} of {} is {value}, not {want}", shown.0);
    }
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair =
        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits");
    digits.chunks(2).map(pair).collect()
}

/// A VE.Direct block of these lines, with its checksum.
pub(crate) fn vedirect_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block: Vec<u8> =
        fields.iter().flat_map(|(label, value)| format!("\r\n{label}\t{value}").into_bytes()).collect();
    block.extend(b"\r\nChecksum\t");
    let sum = block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    block.push(sum.wrapping_neg());
    block
}

/// An SBUS frame.
pub(crate) fn sbus_frame(channels: [u16; 16], flags: u8) -> Vec<u8> {
    let mut bits = [0_u8; 22];
    for (channel, value) in channels.iter().enumerate() {
        for bit in 0..11 {
            let at = channel * 11 + bit;
            bits[at / 8] |= u8::from(value >> bit & 1 == 1) << (at % 8);
        }
    }
    [&[0x0F], bits.as_slice(), &[flags, 0]].concat()
}

/// A PMS5003 frame of these thirteen words.
pub(crate) fn pms_frame(words: &[u16]) -> Vec<u8> {
    let mut frame = vec![0x42, 0x4D];
    frame.extend(u16::try_from(words.len() * 2 + 2).expect("short").to_be_bytes());
    words.iter().for_each(|word| frame.extend(word.to_be_bytes()));
    let sum = frame.iter().fold(0_u16, |sum, byte| sum.wrapping_add(u16::from(*byte)));
    frame.extend(sum.to_be_bytes());
    frame
}
