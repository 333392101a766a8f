//! Receivers as they talk: cycles in any order, half of them, damaged ones, and noise.
//!
//! Recordings: gpsd's `test/daemon` logs (BSD-2-Clause, see the folder's COPYING), without their heads.

use super::super::arrival::Declared;
use super::*;
use headwater_core::gap::GapCause;
use headwater_core::sample::Value;
use proptest::prelude::*;

fn decoding() -> NmeaDecoding {
    NmeaDecoding::new("gps".parse().unwrap(), Arrivals::of_program(Declared::default(), 1_000_000_000))
}

fn sentence(body: &str) -> String {
    let sum = body.bytes().fold(0_u8, |sum, byte| sum ^ byte);
    format!("${body}*{sum:02X}\r\n")
}

fn rmc(time: &str) -> String {
    sentence(&format!("GPRMC,{time},A,5541.1955,N,03737.2872,E,0.60,301.29,260514,,,A"))
}

fn gga(time: &str) -> String {
    sentence(&format!("GPGGA,{time},5541.1956,N,03737.2877,E,1,5,4.87,66.2,M,14.5,M,,"))
}

fn decode(text: &str) -> Vec<SourceEvent> {
    let (mut nmea, mut out) = (decoding(), Decoded::default());
    nmea.push(text.as_bytes(), ReadAt::prompt(BootNanos(7)), &mut out);
    nmea.poll(BootNanos(i64::MAX), &mut out);
    out.events.into_iter().skip(1).collect()
}

fn rows(events: &[SourceEvent]) -> Vec<Vec<Value>> {
    events
        .iter()
        .filter_map(|event| match event {
            SourceEvent::Reading { reading, .. } => Some(reading.values.clone()),
            _ => None,
        })
        .collect()
}

/// 2014-05-26 08:14:11 UTC.
const UTC: i64 = 1_401_092_051_000_000_000;

#[test]
fn rmc_and_gga_of_one_second_are_one_fix() {
    let events = decode(&(gga("081411.000") + &rmc("081411.000") + &rmc("081412.000") + &gga("081412.000")));
    let rows = rows(&events);
    assert_eq!(rows.len(), 2);
    let f64_at = |i: usize| match rows[0][i] {
        Value::F64(x) => x,
        ref other => panic!("field {i} is {other:?}"),
    };
    assert!((f64_at(0) - 55.686_593_333).abs() < 1e-8);
    assert!((f64_at(1) - 37.621_461_666).abs() < 1e-8);
    assert_eq!((f64_at(2), f64_at(3)), (66.2, 14.5));
    assert!((f64_at(4) - 0.308_666_666).abs() < 1e-8);
    assert_eq!((f64_at(5), f64_at(6)), (301.29, 4.87));
    assert_eq!(rows[0][7..], [Value::I64(5), Value::I64(1), Value::I64(UTC)]);
    assert_eq!(rows[1][9], Value::I64(UTC + 1_000_000_000));
}

#[test]
fn half_a_cycle_is_a_fix_with_what_it_has_after_half_a_second() {
    let (mut nmea, mut out) = (decoding(), Decoded::default());
    nmea.push(rmc("081411.000").as_bytes(), ReadAt::prompt(BootNanos(0)), &mut out);
    assert_eq!(nmea.deadline(), Some(BootNanos(500_000_000)));
    nmea.poll(BootNanos(499_999_999), &mut out);
    assert_eq!(out.events.len(), 1);
    nmea.poll(BootNanos(500_000_000), &mut out);
    let rows = rows(out.events.make_contiguous());
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0][2], &rows[0][8]), (&Value::Null, &Value::Null));
    assert_eq!(nmea.deadline(), None);
}

#[test]
fn gga_alone_takes_its_day_from_the_last_date_over_midnight() {
    let day = sentence("GPRMC,235959.000,A,5541.1955,N,03737.2872,E,0.60,301.29,260514,,,A");
    let rows = rows(&decode(&(day + &gga("235959.000") + &gga("000000.000"))));
    let Value::I64(first) = rows[0][9] else { panic!("no utc") };
    assert_eq!(rows[1][9], Value::I64(first + 1_000_000_000));
}

#[test]
fn without_a_fix_there_is_a_row_that_says_so() {
    let rmc = sentence("GPRMC,081411.000,V,,,,,,,260514,,,N");
    let gga = sentence("GPGGA,081411.000,,,,,0,0,,,M,,M,,");
    let rows = rows(&decode(&(rmc + &gga)));
    assert_eq!((&rows[0][0], &rows[0][8], &rows[0][9]), (&Value::Null, &Value::I64(0), &Value::I64(UTC)));
}

#[test]
fn a_bad_checksum_is_set_aside_and_a_fix_lost_by_it_is_counted() {
    let cycle = |s: u32| rmc(&format!("0814{s:02}.000")) + &gga(&format!("0814{s:02}.000"));
    let damaged = cycle(13).replace("03737", "03738");
    let events = decode(&(cycle(11) + &cycle(12) + &damaged + &cycle(14)));
    assert_eq!(rows(&events).len(), 3);
    let aside =
        events.iter().filter(|e| matches!(e, SourceEvent::SetAside { why, .. } if why.contains("checksum")));
    assert_eq!(aside.count(), 2);
    assert!(
        events.iter().any(|e| matches!(e, SourceEvent::Lost { rows: 1, cause: GapCause::LinkCorrupt, .. }))
    );
}

#[test]
fn noise_is_counted_and_an_endless_sentence_is_bounded() {
    let (mut nmea, mut out) = (decoding(), Decoded::default());
    let mut bytes = vec![0xb5, 0x62, b'$', 1, 2, 3];
    bytes.push(b'$');
    bytes.extend(vec![b'A'; 5_000]);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice((rmc("081411.000") + &gga("081411.000")).as_bytes());
    nmea.push(&bytes, ReadAt::prompt(BootNanos(0)), &mut out);
    assert_eq!(rows(out.events.make_contiguous()).len(), 1);
    let noise: u64 = out
        .notices
        .iter()
        .map(|notice| match notice {
            super::super::framing::Notice::Noise(bytes) => *bytes,
            _ => 0,
        })
        .sum();
    assert_eq!(noise, 6 + 5_001);
}

/// A recording, its fixes with a position, and the first and last of them (gpsd's own decoding of it).
fn recorded(bytes: &[u8]) -> Vec<Vec<Value>> {
    let (mut nmea, mut out) = (decoding(), Decoded::default());
    for (chunk, at) in bytes.chunks(64).zip(0..) {
        nmea.push(chunk, ReadAt::prompt(BootNanos(at)), &mut out);
    }
    nmea.poll(BootNanos(i64::MAX), &mut out);
    rows(out.events.make_contiguous())
}

/// gpsd moves dates by whole rollovers of the GPS week counter (1024 weeks) where it thinks best.
const ROLLOVER_NS: i64 = 1_024 * 7 * 86_400 * 1_000_000_000;

#[test]
fn recordings_of_receivers_give_the_fixes_gpsd_finds() {
    for (log, check) in [
        (
            &include_bytes!("../../../../tests/golden/nmea/bu353-glonass.log")[..],
            include_str!("../../../../tests/golden/nmea/bu353-glonass.chk"),
        ),
        (
            include_bytes!("../../../../tests/golden/nmea/gr601-w.log"),
            include_str!("../../../../tests/golden/nmea/gr601-w.chk"),
        ),
    ] {
        let rows = recorded(log);
        let mut checked = 0;
        for line in check.lines().filter(|line| line.contains("\"class\":\"TPV\"")) {
            let tpv: serde_json::Value = serde_json::from_str(line).unwrap();
            let (Some(time), Some(lat), Some(lon)) =
                (tpv["time"].as_str(), tpv["lat"].as_f64(), tpv["lon"].as_f64())
            else {
                continue;
            };
            let utc = chrono::DateTime::parse_from_rfc3339(time).unwrap().timestamp_nanos_opt().unwrap();
            let Some(row) =
                rows.iter().find(|row| matches!(row[9], Value::I64(ours) if (ours - utc) % ROLLOVER_NS == 0))
            else {
                panic!("no fix at {time}");
            };
            let (Value::F64(x), Value::F64(y)) = (&row[0], &row[1]) else { panic!("no position at {time}") };
            assert!((x - lat).abs() < 1e-6 && (y - lon).abs() < 1e-6, "{time}: {x},{y} is not {lat},{lon}");
            checked += 1;
        }
        assert!(checked >= 6, "only {checked} fixes compared");
    }
}

proptest! {
    #[test]
    fn never_panics_on_noise(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        recorded(&bytes);
    }

    #[test]
    fn never_panics_on_absurd_sentences(fields in proptest::collection::vec("[-+.0-9NSEWAV\\PC]{0,12}", 0..24), kind in 0_usize..5) {
        let kind = ["GPRMC", "GPGGA", "GPVTG", "GPGSA", "GPZDA"][kind];
        decode(&(rmc("081411.000") + &sentence(&format!("{kind},{}", fields.join(",")))));
    }
}
