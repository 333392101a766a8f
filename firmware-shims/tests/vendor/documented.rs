//! Frames as the vendors' documents print them.

use crate::kit::{Shown, expect, feed, hex, messages, pms_frame, read, sbus_frame, show, vedirect_block};
use headwater_shims::vendor::mhz19::{self, Mhz19};
use headwater_shims::vendor::modbus::{
    Exception, ReadFunction, ReadRequest, RegisterMap, Reply, RequestError, Rtu, Tcp,
};
use headwater_shims::vendor::nmea::Proprietary;
use headwater_shims::vendor::pms::Pms;
use headwater_shims::vendor::sbus::Sbus;
use headwater_shims::vendor::scd30::{self, Scd30};
use headwater_shims::vendor::sds011::Sds011;
use headwater_shims::vendor::senseair::{self, Senseair};
use headwater_shims::vendor::spec::{Bits, ByteOrder, Raw, Slot, SpecField};
use headwater_shims::vendor::sum;
use headwater_shims::vendor::ubx::Ubx;
use headwater_shims::vendor::vedirect::VeDirect;
use headwater_shims::vendor::{Feeder, FrameError};

/// Check values over "123456789" of the catalogue of parametrised CRC algorithms (reveng).
#[test]
fn checksums_have_the_values_of_the_catalogue() {
    let text = b"123456789";
    assert_eq!(sum::crc16_modbus(text), 0x4B37);
    assert_eq!(sum::crc16_mcrf4xx(text), 0x6F91);
    assert_eq!(sum::crc8(text, 0x07, 0), 0xF4);
    assert_eq!(sum::crc8(&[0xBE, 0xEF], 0x31, 0xFF), 0x92, "Sensirion's example");
    assert_eq!((sum::sum8(text), sum::sum16(text), sum::xor8(text)), (0xDD, 0x1DD, 0x31));
    assert_eq!(sum::twos_complement8(text), 0x23);
    // CFG-MSG poll in u-blox' protocol description: B5 62 06 01 02 00 01 07 | 11 3A.
    assert_eq!(sum::fletcher8(&[0x06, 0x01, 0x02, 0x00, 0x01, 0x07]), [0x11, 0x3A]);
}

/// MODBUS over Serial Line V1.02, section 6.2.2: the CRC of 02 07 is 0x1241, sent 41 12.
#[test]
fn the_crc_of_the_modbus_guide() {
    assert_eq!(sum::crc16_modbus(&[0x02, 0x07]), 0x1241);
}

fn holding(unit: u8, start: u16, count: u16) -> ReadRequest {
    ReadRequest { unit, function: ReadFunction::HoldingRegisters, start, count }
}

/// MODBUS Application Protocol V1.1b3, section 6.3: registers 108 to 110 are 555, 0 and 100.
#[test]
fn registers_of_the_specification() {
    let request = holding(1, 0x6B, 3);
    let rtu = Rtu(request);
    assert_eq!(rtu.request()[..6], hex("01 03 00 6B 00 03"));
    let mut answer = hex("01 03 06 02 2B 00 00 00 64");
    answer.extend(sum::crc16_modbus(&answer).to_le_bytes());
    let fed = feed::<_, 260>(rtu, &answer, 1, true);
    assert_eq!(fed.frames, [answer.clone()]);
    let Some(Reply::Data(data)) = rtu.reply(&answer) else { panic!("it has data") };
    assert_eq!(data, hex("02 2B 00 00 00 64"));

    let tcp = Tcp { request, transaction: 0x1501 };
    assert_eq!(tcp.request(), *hex("15 01 00 00 00 06 01 03 00 6B 00 03"));
    let answer = hex("15 01 00 00 00 09 01 03 06 02 2B 00 00 00 64");
    assert_eq!(feed::<_, 260>(tcp, &answer, 4, true).frames, std::slice::from_ref(&answer));
    assert_eq!(tcp.reply(&answer), Some(Reply::Data(data)));
    // A late answer to another request is a frame but no reply.
    assert_eq!(Tcp { transaction: 0x1502, ..tcp }.reply(&answer), None);
}

/// Section 6.1: coils 20 to 38 are CD 6B 05; section 7: exception 02 to a read of coil 1186.
#[test]
fn coils_and_exceptions_of_the_specification() {
    let coils = ReadRequest { unit: 0x0A, function: ReadFunction::Coils, start: 0x13, count: 0x13 };
    let tcp = Tcp { request: coils, transaction: 1 };
    let answer = hex("00 01 00 00 00 06 0A 01 03 CD 6B 05");
    assert_eq!(tcp.reply(&answer), Some(Reply::Data(&[0xCD, 0x6B, 0x05])));

    let rtu = Rtu(ReadRequest { start: 0x04A1, count: 1, ..coils });
    let mut refusal = hex("0A 81 02");
    refusal.extend(sum::crc16_modbus(&refusal).to_le_bytes());
    assert_eq!(refusal, hex("0A 81 02 B0 53"));
    assert_eq!(feed::<_, 260>(rtu, &refusal, 1, true).frames, [refusal.clone()]);
    assert_eq!(rtu.reply(&refusal), Some(Reply::Exception(Exception::IllegalAddress)));
}

#[test]
fn requests_no_device_can_answer_are_refused() {
    assert_eq!(holding(1, 0, 0).check(), Err(RequestError::Count));
    assert_eq!(holding(1, 0, 126).check(), Err(RequestError::Count));
    assert_eq!(holding(1, 65_535, 2).check(), Err(RequestError::Range));
    assert!(holding(1, 65_535, 1).check().is_ok());
}

/// A two-wire adapter echoes what was sent; the echo is no answer.
#[test]
fn the_echo_of_a_request_is_noise() {
    let rtu = Rtu(holding(1, 0x6B, 3));
    let mut stream = rtu.request().to_vec();
    let mut answer = hex("01 03 06 02 2B 00 00 00 64");
    answer.extend(sum::crc16_modbus(&answer).to_le_bytes());
    stream.extend(&answer);
    let fed = feed::<_, 260>(rtu, &stream, 2, true);
    assert_eq!(fed.frames, [answer]);
    assert_eq!((fed.stats.noise_bytes, fed.stats.errors()), (8, 0));
}

#[test]
fn registers_are_read_in_every_word_order() {
    let field =
        |name, at, raw, order| SpecField { name, unit: "1", slot: Slot { order, ..Slot::new(at, raw) } };
    // 123456.789 as a single is 47F12065; -2 as a signed 32-bit number.
    let data = hex("47 F1 20 65  20 65 47 F1  F1 47 65 20  65 20 F1 47  FF FE FF FF");
    let fields = [
        field("abcd", 0, Raw::F32, ByteOrder::Big),
        field("cdab", 4, Raw::F32, ByteOrder::BigSwappedWords),
        field("badc", 8, Raw::F32, ByteOrder::BigSwappedBytes),
        field("dcba", 12, Raw::F32, ByteOrder::Little),
        field("signed", 16, Raw::I32, ByteOrder::BigSwappedWords),
        field("beyond", 18, Raw::U32, ByteOrder::Big),
    ];
    let map = RegisterMap { kind: "meter", fields: fields.as_slice() };
    let shown = show(&map.message(&data));
    expect(&shown, "abcd=123456.79 cdab=123456.79 badc=123456.79 dcba=123456.79 signed=-2 beyond=missing");
    let wide = Slot { order: ByteOrder::BigSwappedWords, ..Slot::new(0, Raw::U64) };
    assert_eq!(wide.float(&hex("00 04 00 03 00 02 00 01")), Some(281_483_566_841_860.0));
    let part = Slot { bits: Some(Bits { first: 4, count: 3 }), ..Slot::new(0, Raw::U8) };
    assert_eq!(part.float(&[0b1101_0110]), Some(5.0));
}

/// Sensirion SCD30 interface description V1.0, section 1.4.5: 439.09 ppm, 27.2 °C, 48.8 %.
#[test]
fn an_scd30_reading() {
    assert_eq!(Rtu(scd30::READ_REQUEST).request(), *hex("61 03 00 28 00 06 4C 60"));
    assert_eq!(Rtu(scd30::READY_REQUEST).request(), *hex("61 03 00 27 00 01 3D A1"));
    let shown = messages::<_, 64>(Scd30, &hex("61 03 0C 43 DB 8C 2E 41 D9 E7 FF 42 43 3A 1B 50 07"));
    expect(
        &shown[0],
        "co2_ppm=439.09515380859375 temperature_cel=27.23827934265137 humidity_percent=48.80674362182617",
    );
}

/// Senseair TDE2067, section "Example": status 0, 400 ppm.
#[test]
fn a_senseair_reading() {
    assert_eq!(Rtu(senseair::READ_REQUEST).request(), *hex("FE 04 00 00 00 04 E5 C6"));
    let answer = hex("FE 04 08 00 00 00 00 00 00 01 90 16 E6");
    expect(&messages::<_, 64>(Senseair, &answer)[0], "co2_ppm=400 status=0");
    let mut failing = answer[..11].to_vec();
    failing[4] = 0x20;
    failing.extend(sum::crc16_modbus(&failing).to_le_bytes());
    expect(&messages::<_, 64>(Senseair, &failing)[0], "co2_ppm=missing status=32");
}

/// Winsen MH-Z14A / MH-Z19 manual, command 0x86: FF 86 02 60 47 00 00 00 D1 is 608 ppm.
#[test]
fn an_mhz19_reading() {
    assert_eq!(sum::twos_complement8(&mhz19::READ_REQUEST[1..8]), mhz19::READ_REQUEST[8]);
    for on in [true, false] {
        let request = mhz19::self_calibration_request(on);
        assert_eq!(sum::twos_complement8(&request[1..8]), request[8]);
    }
    let shown = messages::<_, 16>(Mhz19, &hex("FF 86 02 60 47 00 00 00 D1"));
    assert_eq!(shown, [("mhz19".to_owned(), vec![("co2_ppm".to_owned(), "608".to_owned())])]);
}

/// Laser Dust Sensor Control Protocol V1.3, section "report": 123.6 and 261.8 µg/m³, sensor A160.
#[test]
fn an_sds011_reading() {
    let shown = messages::<_, 16>(Sds011, &hex("AA C0 D4 04 3A 0A A1 60 1D AB"));
    expect(&shown[0], "pm2_5_ug_m3=123.6 pm10_ug_m3=261.8 device_id=41312");
    // The answer to "set sleep and work" of the same document is a frame, but no reading.
    let fed = feed::<_, 16>(Sds011, &hex("AA C5 06 01 01 00 A1 60 09 AB"), 1, true);
    assert_eq!(fed.frames.len(), 1);
    assert!(read(&Sds011, &fed.frames[0]).is_empty());
}

/// Laid out as in PMS5003 data manual V2.3, appendix I; no document prints a whole frame.
#[test]
fn plantower_readings() {
    let counts = [5, 8, 9, 6, 10, 11, 1_035, 316, 75, 5, 2, 1, 0x9700];
    let shown = messages::<_, 64>(Pms, &pms_frame(&counts));
    expect(
        &shown[0],
        "pm1_0_factory_ug_m3=5 pm2_5_factory_ug_m3=8 pm10_factory_ug_m3=9 pm1_0_ug_m3=6 pm2_5_ug_m3=10",
    );
    expect(
        &shown[0],
        "pm10_ug_m3=11 above_0_3_um_dl=1035 above_10_um_dl=1 formaldehyde_ug_m3=missing error_code=0",
    );
    let full = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 31, 0xFFF6, 512, 0, 0x9100];
    let shown = messages::<_, 64>(Pms, &pms_frame(&full));
    expect(&shown[0], "formaldehyde_ug_m3=31 temperature_cel=-1 humidity_percent=51.2");
    let old = [1, 2, 3, 4, 5, 6, 0, 0, 0];
    expect(
        &messages::<_, 64>(Pms, &pms_frame(&old))[0],
        "pm10_ug_m3=6 above_0_3_um_dl=missing error_code=missing",
    );
    // The answer to "passive mode" (same manual, appendix II) is a frame, but no reading.
    assert_eq!(feed::<_, 64>(Pms, &hex("42 4D 00 04 E1 00 01 74"), 1, true).frames.len(), 1);
}

const CHARGER: &[(&str, &str)] = &[
    ("PID", "0xA053"),
    ("FW", "150"),
    ("SER#", "HQ1328A1B2C"),
    ("V", "12790"),
    ("I", "-800"),
    ("VPV", "38870"),
    ("PPV", "13"),
    ("CS", "3"),
    ("MPPT", "2"),
    ("OR", "0x00000001"),
    ("ERR", "0"),
    ("LOAD", "ON"),
    ("IL", "200"),
    ("H19", "417"),
    ("HSDS", "8"),
];

/// Fields and units of VE.Direct Protocol 3.29, section "Field description".
#[test]
fn a_solar_charger() {
    let shown = messages::<_, 1_024>(VeDirect, &vedirect_block(CHARGER));
    expect(
        &shown[0],
        "battery_v=12.79 battery_a=-0.8 panel_v=38.87 panel_w=13 operation_state=3 tracker_mode=2",
    );
    expect(
        &shown[0],
        "off_reason=1 error_code=0 load_on=true load_a=0.2 yield_total_kwh=4.17 day=8 product_id=41043",
    );
    expect(&shown[0], "serial_number=HQ1328A1B2C state_of_charge_percent=missing");
}

/// BlueSolar HEX protocol, section "Ping": `:154\n` is answered by `:51641F9\n`, version 1.16 of 0x4F.
#[test]
fn hex_messages_within_and_between_blocks_are_passed_over() {
    let block = vedirect_block(CHARGER);
    let mut mixed = b":154\n".to_vec();
    mixed.extend(&block[..40]);
    mixed.extend(b":A0002000148\n");
    mixed.extend(&block[40..]);
    let fed = feed::<_, 1_024>(VeDirect, &mixed, 5, true);
    assert_eq!((fed.stats.frames, fed.stats.errors()), (2, 0), "{fed:?}");
    let plain: Vec<Shown> = messages::<_, 1_024>(VeDirect, &block);
    assert_eq!(read(&VeDirect, &fed.frames[1]), plain);
    assert!(read(&VeDirect, &fed.frames[0]).is_empty());
}

#[test]
fn a_block_joined_in_the_middle_is_no_error() {
    let block = vedirect_block(CHARGER);
    let stream = [&block[30..], &block].concat();
    let fed = feed::<_, 1_024>(VeDirect, &stream, 11, false);
    assert_eq!((fed.frames, fed.stats.errors()), (vec![block.clone()], 0));
    assert_eq!(fed.stats.noise_bytes, block.len() as u64 - 30);
}

#[test]
fn radio_control_channels() {
    let channels = std::array::from_fn(|at| 172 + 100 * u16::try_from(at).expect("16"));
    let frame = sbus_frame(channels, 0b1101);
    let fed = feed::<_, 32>(Sbus, &[frame.clone(), frame.clone()].concat(), 1, false);
    assert_eq!(fed.frames, [frame.clone(), frame.clone()]);
    let shown = &read(&Sbus, &frame)[0];
    expect(
        shown,
        "channel_1=172 channel_2=272 channel_9=972 channel_16=1672 channel_17=true channel_18=false",
    );
    expect(shown, "frame_lost=true failsafe=true");
}

/// u-blox protocol description, sections PUBX,00 and PUBX,04, "Example".
#[test]
fn sentences_of_u_blox() {
    let parse = |body: &str| show(Proprietary::parse(body).expect("known").view());
    expect(
        &parse(
            "PUBX,00,081350.00,4717.113210,N,00833.915187,E,546.589,G3,2.1,2.0,0.007,77.52,0.007,,0.92,1.19,0.77,9,0,0",
        ),
        "time_of_day_s=29630 lat_deg=47.2852201667 lon_deg=8.56525311667 height_m=546.589 status=G3 \
         horizontal_accuracy_m=2.1 vertical_accuracy_m=2 ground_speed_m_s=0.001944444444 course_deg=77.52 \
         velocity_down_m_s=0.007 correction_age_s=missing hdop=0.92 vdop=1.19 tdop=0.77 satellites=9",
    );
    expect(
        &parse("PUBX,04,073731.00,091202,113851.00,1196,15D,1930035,-2660.664,43"),
        "time_of_day_s=27451 tow_s=113851 week=1196 leap_s=15 leap_is_default=true clock_bias_ns=1930035 \
         clock_drift_ns_s=-2660.664",
    );
    // Garmin's technical specification: "$PGRMT,GPS 15x Ver. 2.20,P,P,R,R,P,,23,R*08" in its fields.
    expect(
        &parse("PGRMT,GPS15xH,P,F,R,L,P,,23,R"),
        "product=GPS15xH rom_ok=true receiver_ok=false clock_kept=false board_cel=23",
    );
    expect(
        &parse("PASHR,085335.000,224.19,T,-01.26,+00.83,+00.00,0.101,0.113,0.267,1,0"),
        "time_of_day_s=32015 heading_deg=224.19 heading_true=true roll_deg=-1.26 pitch_deg=0.83 heave_m=0 \
         heading_accuracy_deg=0.267 quality=1",
    );
    assert!(Proprietary::parse("GPGGA,1").is_none() && Proprietary::parse("PUBX,40,GLL").is_none());
}

#[test]
fn a_lying_length_costs_no_frame_behind_it() {
    let poll = hex("B5 62 06 01 02 00 01 07 11 3A");
    let mut stream = hex("B5 62 01 07 00 0F");
    stream.extend(&poll);
    // 3840 bytes are believed until they are there, or the line falls silent.
    assert_eq!(feed::<_, 4_104>(Ubx, &stream, 1, false).frames, [] as [Vec<u8>; 0]);
    let fed = feed::<_, 4_104>(Ubx, &stream, 1, true);
    assert_eq!((fed.frames, fed.errors), (vec![poll.clone()], vec![FrameError::Cut]));
    // A buffer that cannot hold it says so at once.
    let fed = feed::<_, 64>(Ubx, &stream, 1, false);
    assert_eq!((fed.frames, fed.errors), (vec![poll], vec![FrameError::Length]));
}

#[test]
fn a_found_frame_tells_what_lies_behind_it() {
    let frame = hex("AA C0 D4 04 3A 0A A1 60 1D AB");
    let stream = [&[0xAA, 0xC0], frame.as_slice(), &[1, 2, 3]].concat();
    let mut feeder = Feeder::<_, 16>::new(Sds011);
    let mut input = stream.as_slice();
    assert_eq!(feeder.next_frame(&mut input), Some(Err(FrameError::Malformed)));
    let found = feeder.next_frame(&mut input).expect("decided").expect("right");
    assert_eq!((found.bytes, found.behind), (frame.as_slice(), 0));
    assert_eq!(input, [1, 2, 3]);
}
