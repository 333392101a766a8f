//! Frames by description: that the description of a known device decodes as its own decoder does, and bad ones.

use crate::kit::{expect, feed, hex, read, sbus_frame};
use headwater_shims::vendor::FrameError;
use headwater_shims::vendor::spec::{
    Bits, ByteOrder, Checksum, Fixed, FrameSpec, Layout, Length, LengthPlace, Raw, Slot, SpecError,
    SpecField, Sum,
};

fn fixed(bytes: &[u8]) -> Fixed {
    Fixed::new(bytes).expect("at most eight")
}

fn layout(sync: &[u8], len: u16, sum: Sum) -> Layout {
    let checksum = Checksum { sum, from: 0, order: ByteOrder::Big };
    Layout { sync: fixed(sync), length: Length::Fixed(len), checksum, tail: Fixed::NONE }
}

fn field(name: &'static str, slot: Slot) -> SpecField<&'static str> {
    SpecField { name, unit: "1", slot }
}

/// The SDS011, described.
pub(crate) fn sds011() -> FrameSpec<&'static str, Vec<SpecField<&'static str>>> {
    let tenth = |at| Slot { scale: 0.1, ..Slot::new(at, Raw::U16) };
    FrameSpec {
        kind: "dust",
        layout: Layout {
            sync: fixed(&[0xAA, 0xC0]),
            length: Length::Fixed(10),
            checksum: Checksum { sum: Sum::Sum8, from: 2, order: ByteOrder::Big },
            tail: fixed(&[0xAB]),
        },
        fields: vec![field("pm2_5", tenth(2)), field("pm10", tenth(4))],
    }
}

/// Plantower frames of any length, described.
pub(crate) fn pms() -> FrameSpec<&'static str, Vec<SpecField<&'static str>>> {
    let word = |at| Slot { order: ByteOrder::Big, ..Slot::new(at, Raw::U16) };
    FrameSpec {
        kind: "dust",
        layout: Layout {
            length: Length::Field {
                place: LengthPlace { at: 2, bytes: 2, order: ByteOrder::Big },
                plus: 4,
                most: 40,
            },
            ..layout(b"BM", 0, Sum::Sum16)
        },
        fields: vec![field("pm2_5", word(12)), field("humidity", Slot { scale: 0.1, ..word(32) })],
    }
}

#[test]
fn described_sensors_decode_like_known_ones() {
    let sds = sds011();
    assert_eq!(sds.check(), Ok(()));
    let frame = hex("AA C0 D4 04 3A 0A A1 60 1D AB");
    let fed = feed::<_, 64>(&sds, &frame, 1, true);
    expect(&read(&sds, &fed.frames[0])[0], "pm2_5=123.6 pm10=261.8");
    let mut tail = frame.clone();
    tail[9] = 0;
    assert_eq!(feed::<_, 64>(&sds, &tail, 1, true).errors, [FrameError::Malformed]);

    let pms = pms();
    assert_eq!(pms.check(), Ok(()));
    let short = crate::kit::pms_frame(&[1, 2, 3, 4, 55, 6, 0, 0, 0]);
    let long = crate::kit::pms_frame(&[1, 2, 3, 4, 66, 6, 7, 8, 9, 10, 11, 12, 31, 0xFFF6, 512, 0, 0x9100]);
    let fed = feed::<_, 64>(&pms, &[short, long].concat(), 9, true);
    expect(&read(&pms, &fed.frames[0])[0], "pm2_5=55 humidity=missing");
    expect(&read(&pms, &fed.frames[1])[0], "pm2_5=66 humidity=51.2");
}

#[test]
fn every_checksum_is_checked() {
    let sums = [
        (Sum::Sum8, "55 01 02 58"),
        (Sum::Xor8, "55 01 02 56"),
        (Sum::TwosComplement8, "55 01 02 A8"),
        (Sum::Crc8 { poly: 0x07, init: 0 }, "55 01 02 F5"),
        (Sum::Sum16, "55 01 02 00 58"),
        (Sum::Crc16Modbus, "55 01 02 30 31"),
        (Sum::Crc16Ccitt, "55 01 02 3C 8D"),
        (Sum::Fletcher8, "55 01 02 58 03"),
    ];
    for (sum, text) in sums {
        let mut frame = hex(text);
        let layout = layout(&[0x55], u16::try_from(frame.len()).expect("short"), sum);
        // Their own implementations are checked against the catalogue; here, that each is the one that is used.
        let body = &frame[..3];
        let expected = match sum {
            Sum::Crc8 { poly, init } => vec![headwater_shims::vendor::sum::crc8(body, poly, init)],
            Sum::Crc16Modbus => headwater_shims::vendor::sum::crc16_modbus(body).to_be_bytes().to_vec(),
            Sum::Crc16Ccitt => headwater_shims::crc::crc16(body).to_be_bytes().to_vec(),
            Sum::Fletcher8 => headwater_shims::vendor::sum::fletcher8(body).to_vec(),
            _ => frame[3..].to_vec(),
        };
        frame.truncate(3);
        frame.extend(expected);
        assert_eq!(feed::<_, 64>(layout, &frame, 1, true).frames, [frame.clone()], "{sum:?}");
        let last = frame.len() - 1;
        frame[last] ^= 1;
        assert_eq!(feed::<_, 64>(layout, &frame, 1, true).errors, [FrameError::Checksum], "{sum:?}");
    }
}

/// An unchecked frame that begins within another is not believed, since nothing follows it.
#[test]
fn unchecked_frames_are_believed_in_a_row() {
    let sbus = layout(&[0x0F], 25, Sum::None);
    let sbus = Layout { tail: fixed(&[0]), ..sbus };
    // Channels that hold the header's byte and the tail's again and again.
    let mut tricky = sbus_frame([0x0F; 16], 0);
    tricky[3] = 0x0F;
    let row = [&[0x0F, 1, 2], tricky.as_slice(), &tricky, &tricky].concat();
    let fed = feed::<_, 64>(sbus, &row, 1, false);
    assert_eq!(fed.frames, vec![tricky.clone(); 3]);
    // The last of a row is in sync and needs no next one; a lone one is not believed.
    assert!(feed::<_, 64>(sbus, &tricky, 1, true).frames.is_empty());
}

#[test]
fn two_kinds_on_one_line() {
    let mut other = sds011();
    other.kind = "answer";
    other.layout.sync = fixed(&[0xAA, 0xC5]);
    let both = [sds011(), other];
    let both = both.as_slice();
    let stream = hex("AA C5 06 01 01 00 A1 60 09 AB  00 AA  AA C0 D4 04 3A 0A A1 60 1D AB");
    let fed = feed::<_, 64>(both, &stream, 3, true);
    let kinds: Vec<String> =
        fed.frames.iter().flat_map(|frame| read(both, frame)).map(|shown| shown.0).collect();
    assert_eq!(kinds, ["answer", "dust"]);
}

#[test]
fn descriptions_that_find_nothing_are_refused() {
    let good = sds011();
    let mut bad = good.clone();
    bad.layout.sync = Fixed::NONE;
    assert_eq!(bad.check(), Err(SpecError::NoSync));
    let mut bad = good.clone();
    bad.layout.length = Length::Fixed(3);
    assert_eq!(bad.check(), Err(SpecError::Length));
    bad.layout.length = Length::Fixed(2_000);
    assert_eq!(bad.check(), Err(SpecError::Length));
    let mut bad = good.clone();
    bad.layout.checksum.from = 8;
    assert_eq!(bad.check(), Err(SpecError::Checksum));
    let mut bad = good.clone();
    bad.fields[1].slot.at = 7;
    assert_eq!(bad.check(), Err(SpecError::Beyond(1)));
    bad.fields[1].slot.at = 6;
    assert_eq!(bad.check(), Ok(()));
    bad.fields[0].slot.bits = Some(Bits { first: 15, count: 2 });
    assert_eq!(bad.check(), Err(SpecError::Bits(0)));
    let mut bad = pms();
    bad.layout.length =
        Length::Field { place: LengthPlace { at: 2, bytes: 3, order: ByteOrder::Big }, plus: 4, most: 40 };
    assert_eq!(bad.check(), Err(SpecError::LengthPlace));
    assert_eq!(Fixed::new(&[0; 9]), None);
}
