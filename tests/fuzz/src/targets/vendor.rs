//! Protocols of vendors: any byte stream before each decoder, and any text as a proprietary sentence.

use crate::probe::Probe;
use crate::{Target, outcome};
use headwater_shims::vendor::mavlink::Mavlink;
use headwater_shims::vendor::mhz19::Mhz19;
use headwater_shims::vendor::modbus::{ReadFunction, ReadRequest, Reply, Rtu, Tcp};
use headwater_shims::vendor::nmea::Proprietary;
use headwater_shims::vendor::pms::Pms;
use headwater_shims::vendor::sbus::Sbus;
use headwater_shims::vendor::scd30::{READ_REQUEST, Scd30};
use headwater_shims::vendor::sds011::Sds011;
use headwater_shims::vendor::senseair::Senseair;
use headwater_shims::vendor::spec::{
    Bits, ByteOrder, Checksum, Fixed, FrameSpec, Layout, Length, LengthPlace, Raw, Slot, SpecField, Sum,
};
use headwater_shims::vendor::ubx::{FRAME_BYTES_MAX, Ubx};
use headwater_shims::vendor::vedirect::VeDirect;
use headwater_shims::vendor::{FeedStats, Feeder, Message, Protocol, Read};

/// Bytes of headers in which a length lies: beyond it no description looks for one.
const HEAD_BYTES: u8 = 32;

/// Longest stream, bytes: what a fast serial line carries in a second. Looking again inside false frames takes time by the
/// byte, which a line gives.
const STREAM_BYTES_MAX: usize = 16 * 1_024;

const DUST: &[u8] = &[0xAA, 0xC0, 0xD4, 0x04, 0x3A, 0x0A, 0xA1, 0x60, 0x1D, 0xAB];
const CO2: &[u8] = &[0xFF, 0x86, 0x02, 0x60, 0x47, 0x00, 0x00, 0x00, 0xD1];
const SCD30: &[u8] =
    &[0x61, 0x03, 0x0C, 0x43, 0xDB, 0x8C, 0x2E, 0x41, 0xD9, 0xE7, 0xFF, 0x42, 0x43, 0x3A, 0x1B, 0x50, 0x07];
const SENSEAIR: &[u8] = &[0xFE, 0x04, 0x08, 0, 0, 0, 0, 0, 0, 0x01, 0x90, 0x16, 0xE6];
const HEARTBEAT: &[u8] =
    &[0xFE, 0x09, 0xFA, 0x07, 0xC8, 0x00, 0x05, 0, 0, 0, 0x02, 0x03, 0x51, 0x04, 0x03, 0x5F, 0x8E];
const PMS_ANSWER: &[u8] = &[0x42, 0x4D, 0x00, 0x04, 0xE1, 0x00, 0x01, 0x74];
const LOGS: [&[u8]; 2] = [
    include_bytes!("../../../data/gpsd/ublox-aek-4t.ubx"),
    include_bytes!("../../../data/gpsd/ublox-zoe-m8b.ubx"),
];
const SENTENCES: &str = include_str!("../../../data/gpsd/proprietary.nmea");

/// One target per decoder.
pub(super) const ALL: [Target; 12] = [
    Target { name: "vendor_ubx", run: stream::<Ubx, FRAME_BYTES_MAX>, seeds: logs },
    Target { name: "vendor_pms", run: stream::<Pms, 64>, seeds: || vec![PMS_ANSWER.into(), pms()] },
    Target { name: "vendor_sds011", run: stream::<Sds011, 16>, seeds: || vec![DUST.repeat(2)] },
    Target { name: "vendor_mhz19", run: stream::<Mhz19, 16>, seeds: || vec![CO2.repeat(2)] },
    Target { name: "vendor_scd30", run: stream::<Scd30, 64>, seeds: || vec![SCD30.repeat(2)] },
    Target { name: "vendor_senseair", run: stream::<Senseair, 64>, seeds: || vec![SENSEAIR.repeat(2)] },
    Target { name: "vendor_mavlink", run: stream::<Mavlink, 280>, seeds: || vec![HEARTBEAT.repeat(2)] },
    Target {
        name: "vendor_vedirect",
        run: stream::<VeDirect, 1_024>,
        seeds: || vec![block(), b":154\n".into()],
    },
    Target { name: "vendor_sbus", run: stream::<Sbus, 32>, seeds: || vec![sbus().repeat(3)] },
    Target { name: "vendor_modbus", run: modbus, seeds: || vec![[&[1], SCD30].concat()] },
    Target { name: "vendor_nmea", run: sentence, seeds: sentences },
    Target { name: "vendor_spec", run: described, seeds: || vec![[&[8, 10, 2, 2, 4], DUST, DUST].concat()] },
];

/// Every byte ends in one counter, whatever the pieces; messages read what they claim to have.
fn stream<R: Read + Default, const N: usize>(input: &[u8], probe: &mut Probe) -> u64 {
    let input = input.get(..STREAM_BYTES_MAX).unwrap_or(input);
    let (stats, told) = probe.decode(|| fed::<&R, N>(&R::default(), input));
    outcome(&[&(stats.frames > 0), &(stats.unknown_frames > 0), &errors(stats), &told])
}

fn errors(stats: FeedStats) -> [bool; 4] {
    [stats.checksum_errors, stats.length_errors, stats.malformed_errors, stats.cut_errors]
        .map(|count| count > 0)
}

/// Feeds all of it; the kind of the last message, and a count of fields and values that were there.
fn fed<R: Read + Copy, const N: usize>(protocol: R, input: &[u8]) -> (FeedStats, Option<(String, usize)>) {
    let mut feeder = Feeder::<R, N>::new(protocol);
    let mut told = None;
    let (half, rest) = input.split_at(input.len() / 2);
    for (mut piece, last) in [(half, false), (rest, false), (&[][..], true)] {
        if last {
            feeder.close();
        }
        while let Some(found) = feeder.next_frame(&mut piece) {
            let Ok(found) = found else { continue };
            protocol.read(found.bytes, &mut |message: &dyn Message| {
                let there = (0..).take_while(|at| message.field(*at).is_some());
                let values = there.filter(|at| message.value(*at) != headwater_shims::vendor::Value::Missing);
                told = Some((message.kind().chars().take(24).collect(), values.count()));
            });
        }
    }
    let stats = feeder.stats();
    assert_eq!((stats.bytes, stats.accounted_bytes()), (input.len() as u64, input.len() as u64));
    assert_eq!(stats.pending_bytes, 0);
    (stats, told)
}

/// First byte: which request; the rest goes through its RTU and TCP answers.
fn modbus(input: &[u8], probe: &mut Probe) -> u64 {
    let Some((first, rest)) = input.split_first() else { return 0 };
    let rest = rest.get(..STREAM_BYTES_MAX).unwrap_or(rest);
    let request = match first & 3 {
        0 => ReadRequest { unit: 1, function: ReadFunction::Coils, start: 0, count: u16::from(*first) },
        _ => ReadRequest { count: u16::from(first >> 1).max(1), ..READ_REQUEST },
    };
    let tcp = Tcp { request, transaction: 1 };
    let frames = probe.decode(|| [answers(Rtu(request), rest), answers(tcp, rest)]);
    let said = [Rtu(request).reply(rest).is_some(), tcp.reply(rest).is_some()];
    for reply in [Rtu(request).reply(rest), tcp.reply(rest)].into_iter().flatten() {
        if let Reply::Data(data) = reply {
            assert_eq!(data.len(), request.data_bytes());
        }
    }
    outcome(&[&frames, &said])
}

fn answers<P: Protocol>(protocol: P, input: &[u8]) -> bool {
    let mut feeder = Feeder::<P, 260>::new(protocol);
    let mut rest = input;
    while feeder.next_frame(&mut rest).is_some() {}
    let stats = feeder.stats();
    assert_eq!(stats.accounted_bytes(), input.len() as u64);
    stats.frames > 0
}

/// A description out of the first five bytes, if it is one; the rest is its stream.
fn described(input: &[u8], probe: &mut Probe) -> u64 {
    let Some(([sum, len, sync, at, from], rest)) = input.split_first_chunk() else { return 0 };
    let rest = rest.get(..STREAM_BYTES_MAX).unwrap_or(rest);
    let sums = [
        Sum::None,
        Sum::Sum8,
        Sum::Xor8,
        Sum::TwosComplement8,
        Sum::Crc8 { poly: *from, init: *len },
        Sum::Sum16,
        Sum::Crc16Modbus,
        Sum::Crc16Ccitt,
        Sum::Fletcher8,
    ];
    let sum = sums.get(usize::from(*sum) % sums.len()).copied().unwrap_or(Sum::None);
    let length = if len & 0x80 == 0 {
        Length::Fixed((*len).into())
    } else {
        let place = LengthPlace { at: (at % HEAD_BYTES).into(), bytes: 1 + (len & 1), order: ByteOrder::Big };
        Length::Field { place, plus: 4, most: 200 }
    };
    let raws = [Raw::U8, Raw::I16, Raw::U32, Raw::I64, Raw::F32, Raw::F64];
    let field = |raw: Raw| {
        let bits = (raw == Raw::U32).then_some(Bits { first: at & 31, count: 1 + (from & 31) });
        let order = if from & 1 == 0 { ByteOrder::BigSwappedWords } else { ByteOrder::BigSwappedBytes };
        SpecField { name: "x", unit: "1", slot: Slot { order, bits, ..Slot::new((*at).into(), raw) } }
    };
    let sync = rest.get(..usize::from(sync & 7)).unwrap_or_default();
    let spec = FrameSpec {
        kind: "frame",
        layout: Layout {
            sync: Fixed::new(sync).expect("at most seven"),
            length,
            checksum: Checksum { sum, from: (from & 7).into(), order: ByteOrder::Little },
            tail: Fixed::NONE,
        },
        fields: raws.map(field),
    };
    let checked = spec.check();
    // One that was refused must not hurt either.
    let (stats, told) = probe.decode(|| fed::<&FrameSpec<&str, [SpecField<&str>; 6]>, 1_024>(&spec, rest));
    outcome(&[&checked, &(stats.frames > 0), &told.is_some()])
}

fn sentence(input: &[u8], probe: &mut Probe) -> u64 {
    let text = String::from_utf8_lossy(input);
    let seen = probe.decode(|| {
        Proprietary::parse(&text).map(|sentence| {
            let message = sentence.view();
            let values = (0..).take_while(|at| message.field(*at).is_some());
            values.filter(|at| message.value(*at) != headwater_shims::vendor::Value::Missing).count()
        })
    });
    outcome(&[&seen.map(|values| vec![(); values])])
}

fn logs() -> Vec<Vec<u8>> {
    LOGS.iter().map(|log| log.to_vec()).collect()
}

fn sentences() -> Vec<Vec<u8>> {
    let body = |line: &str| Some(line.strip_prefix('$')?.split('*').next()?.as_bytes().to_vec());
    let mut all: Vec<Vec<u8>> = SENTENCES.lines().filter_map(body).collect();
    all.push(
        b"PUBX,00,081350.00,4717.113210,N,00833.915187,E,546.589,G3,2.1,2.0,0.007,77.52,0.007,,0.92".to_vec(),
    );
    all.push(b"PUBX,04,073731.00,091202,113851.00,1196,15D,1930035,-2660.664,43".to_vec());
    all
}

fn pms() -> Vec<u8> {
    let mut frame = [&[0x42, 0x4D, 0, 28][..], &[7; 26]].concat();
    let sum = frame.iter().fold(0_u16, |sum, byte| sum.wrapping_add(u16::from(*byte)));
    frame.extend(sum.to_be_bytes());
    frame
}

fn block() -> Vec<u8> {
    let mut block = b"\r\nPID\t0xA053\r\nV\t12790\r\nI\t-800\r\nLOAD\tON\r\nChecksum\t".to_vec();
    block.push(block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg());
    block
}

fn sbus() -> Vec<u8> {
    [&[0x0F][..], &[0x55; 22], &[0, 0]].concat()
}
