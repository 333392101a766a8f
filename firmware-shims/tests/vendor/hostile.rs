//! Noise, damage and halves before every decoder: no panic, a fixed buffer, every byte accounted for, and the next
//! whole frame is found.

use crate::kit::{feed, hex, pms_frame, sbus_frame, vedirect_block};
use crate::recorded;
use crate::specs;
use crate::vectors::vectors;
use headwater_shims::vendor::mavlink::Mavlink;
use headwater_shims::vendor::mhz19::Mhz19;
use headwater_shims::vendor::modbus::{ReadFunction, ReadRequest, Rtu, Tcp};
use headwater_shims::vendor::nmea::Proprietary;
use headwater_shims::vendor::pms::Pms;
use headwater_shims::vendor::sbus::Sbus;
use headwater_shims::vendor::scd30::Scd30;
use headwater_shims::vendor::sds011::Sds011;
use headwater_shims::vendor::senseair::Senseair;
use headwater_shims::vendor::ubx::Ubx;
use headwater_shims::vendor::vedirect::VeDirect;
use headwater_shims::vendor::{Message, Read};
use proptest::prelude::*;

/// Cases of each property: fifty properties of streams are to stay a matter of seconds.
const CASES: u32 = 64;

const REQUEST: ReadRequest =
    ReadRequest { unit: 0x61, function: ReadFunction::HoldingRegisters, start: 0x28, count: 6 };

fn scd30() -> Vec<u8> {
    hex("61 03 0C 43 DB 8C 2E 41 D9 E7 FF 42 43 3A 1B 50 07")
}

fn of_ubx() -> Vec<u8> {
    vectors().find(|(kind, _, _)| *kind == "ubx_nav_pvt").expect("it has a vector").1
}

fn of_mavlink() -> Vec<u8> {
    vectors()
        .filter(|(kind, _, _)| kind.starts_with("mavlink_heart"))
        .flat_map(|(_, frame, _)| frame)
        .collect()
}

fn block() -> Vec<u8> {
    vedirect_block(&[("PID", "0xA053"), ("V", "12790"), ("I", "-800"), ("CS", "3")])
}

/// Noise that is rich in what begins frames.
fn noise(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let begins: &[u8] = &[
        0xB5, 0x62, 0x42, 0x4D, 0xAA, 0xC0, 0xFF, 0x86, 0x61, 0x03, 0x0C, 0xFE, 0x04, 0xFD, 0x0F, b'\r',
        b'\n', b':', b'\t', 0, 9, 28,
    ];
    prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(begins)], 0..max)
}

/// Reads all that was found in any bytes; what it says is other tests' business.
fn survives<R: Read, const N: usize>(protocol: R, bytes: &[u8], chunk: usize) {
    let fed = feed::<&R, N>(&protocol, bytes, chunk, true);
    for frame in &fed.frames {
        protocol.read(frame, &mut |message: &dyn Message| {
            (0..).take_while(|at| message.field(*at).is_some()).for_each(|at| {
                let _ = message.value(at);
            });
        });
    }
    // What was cut otherwise is decided otherwise only in what is pending: frames do not depend on the pieces.
    let again = feed::<&R, N>(&protocol, bytes, bytes.len(), true);
    assert_eq!(fed, again);
}

macro_rules! hostile {
    ($($name:ident: $protocol:expr, $frame:expr, $n:literal;)+) => {$(
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(CASES))]

                #[test]
                fn any_bytes(bytes in noise(700), chunk in 1_usize..80) {
                    survives::<_, $n>($protocol, &bytes, chunk);
                }

                #[test]
                fn small_buffers(bytes in noise(300), chunk in 1_usize..80) {
                    survives::<_, 0>($protocol, &bytes, chunk);
                    survives::<_, 1>($protocol, &bytes, chunk);
                    survives::<_, 13>($protocol, &bytes, chunk);
                }

                #[test]
                fn the_frame_after_noise(bytes in noise(200), chunk in 1_usize..40) {
                    let frame: Vec<u8> = $frame;
                    let stream = [bytes.as_slice(), &frame].concat();
                    let fed = feed::<_, $n>($protocol, &stream, chunk, true);
                    let found: Vec<u8> = fed.frames.concat();
                    prop_assert!(found.ends_with(&frame), "{fed:?}");
                }

                #[test]
                fn damage_costs_one_frame(at in any::<prop::sample::Index>(), to in any::<u8>(), chunk in 1_usize..40) {
                    let frame: Vec<u8> = $frame;
                    let mut stream = [frame.as_slice(), &frame, &frame].concat();
                    let whole = feed::<_, $n>($protocol, &frame, chunk, true).frames;
                    let at = at.index(stream.len());
                    let before = std::mem::replace(&mut stream[at], to);
                    let fed = feed::<_, $n>($protocol, &stream, chunk, true);
                    let least = if before == to { 3 } else { 2 } * whole.len();
                    prop_assert!(fed.frames.len() >= least, "{} of {least}: {fed:?}", fed.frames.len());
                }

                #[test]
                fn halves_and_swallowed_bytes(from in any::<prop::sample::Index>(), len in 1_usize..40) {
                    let frame: Vec<u8> = $frame;
                    let mut stream = [frame.as_slice(), &frame, &frame].concat();
                    let from = from.index(frame.len());
                    stream.drain(from..(from + len).min(frame.len()));
                    let fed = feed::<_, $n>($protocol, &stream, 5, true);
                    let whole = feed::<_, $n>($protocol, &frame, 5, true).frames.len();
                    prop_assert!(fed.frames.len() >= 2 * whole, "{fed:?}");
                }
            }
        }
    )+};
}

hostile! {
    ubx: Ubx, of_ubx(), 4104;
    pms: Pms, pms_frame(&[5, 8, 9, 6, 10, 11, 1_035, 316, 75, 5, 2, 1, 0x9700]), 64;
    sds011: Sds011, hex("AA C0 D4 04 3A 0A A1 60 1D AB"), 16;
    mhz19: Mhz19, hex("FF 86 02 60 47 00 00 00 D1"), 16;
    scd30_modbus: Scd30, scd30(), 64;
    senseair: Senseair, hex("FE 04 08 00 00 00 00 00 00 01 90 16 E6"), 64;
    mavlink: Mavlink, of_mavlink(), 280;
    vedirect: VeDirect, block(), 1024;
    described: &specs::sds011(), hex("AA C0 D4 04 3A 0A A1 60 1D AB"), 64;
    described_length: &specs::pms(), pms_frame(&[1, 2, 3, 4, 55, 6, 0, 0, 0]), 64;
}

/// What has no checksum cannot promise as much: here, that it survives, and is back after a frame.
mod unchecked {
    use super::*;

    proptest! {
        #[test]
        fn sbus_survives(bytes in noise(300), chunk in 1_usize..80) {
            survives::<_, 32>(Sbus, &bytes, chunk);
        }

        #[test]
        fn sbus_is_back_after_damage(at in 0_usize..50, to in any::<u8>(), channel in 16_u16..2_048) {
            let frame = sbus_frame([channel & 0x7F0; 16], 0);
            let mut stream = frame.repeat(8);
            stream[at] = to;
            let fed = feed::<_, 32>(Sbus, &stream, 3, false);
            prop_assert!(fed.frames.ends_with(&vec![frame; 4]), "{fed:?}");
        }

        #[test]
        fn modbus_over_tcp_survives(bytes in noise(300), chunk in 1_usize..80) {
            let tcp = Tcp { request: REQUEST, transaction: 7 };
            let fed = feed::<_, 260>(tcp, &bytes, chunk, true);
            prop_assert!(fed.frames.iter().all(|frame| tcp.reply(frame).is_none() || frame.starts_with(&[0, 7])));
        }

        #[test]
        fn modbus_replies_of_any_bytes(bytes in noise(60)) {
            let _ = Rtu(REQUEST).reply(&bytes);
        }

        #[test]
        fn sentences_of_any_text(text in "P(UBX,0[04]|GRM[EZT]|ASHR|MTK001|TNTHTM|STI,030)(,[-+0-9.NSEWMAfé]{0,12}){0,20}") {
            if let Some(sentence) = Proprietary::parse(&text) {
                crate::kit::show(sentence.view());
            }
        }
    }
}

/// Every byte of a recording flipped, and the recording cut at every byte: only frames that hold it are lost.
#[test]
fn a_recording_damaged_at_every_byte() {
    let log = &recorded::AEK_4T[..1_400];
    let whole = feed::<_, 4104>(Ubx, log, 64, true);
    for at in 0..log.len() {
        let mut damaged = log.to_vec();
        damaged[at] ^= 0x55;
        let fed = feed::<_, 4104>(Ubx, &damaged, 64, true);
        assert!(
            fed.frames.len() + 1 >= whole.frames.len(),
            "byte {at}: {} of {}",
            fed.frames.len(),
            whole.frames.len()
        );
        let cut = feed::<_, 4104>(Ubx, &log[at..], 64, true);
        assert!(whole.frames.ends_with(&cut.frames), "cut at {at}");
    }
}
