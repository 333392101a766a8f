//! Recordings of real receivers, out of gpsd's corpus (`tests/data/gpsd`), and what gpsd makes of them.

use crate::kit::{Shown, expect, feed, read, show};
use headwater_shims::vendor::FrameError;
use headwater_shims::vendor::nmea::Proprietary;
use headwater_shims::vendor::ubx::{FRAME_BYTES_MAX, Ubx};

pub(crate) const AEK_4T: &[u8] = include_bytes!("../../../tests/data/gpsd/ublox-aek-4t.ubx");
pub(crate) const M8_TIME: &[u8] = include_bytes!("../../../tests/data/gpsd/ublox-8-time.ubx");
pub(crate) const M8T: &[u8] = include_bytes!("../../../tests/data/gpsd/ublox-neo-m8t-s.ubx");
pub(crate) const ZOE: &[u8] = include_bytes!("../../../tests/data/gpsd/ublox-zoe-m8b.ubx");
const SENTENCES: &str = include_str!("../../../tests/data/gpsd/proprietary.nmea");

fn of(log: &[u8], kind: &str) -> Vec<Shown> {
    let fed = feed::<_, FRAME_BYTES_MAX>(Ubx, log, 64, true);
    // The extracts are cut where they are cut: in the middle of a frame, at most.
    assert!(fed.errors.iter().all(|error| *error == FrameError::Cut), "{:?}", fed.errors);
    fed.frames.iter().flat_map(|frame| read(&Ubx, frame)).filter(|shown| shown.0 == kind).collect()
}

/// gpsd: time 2017-12-01T17:22:37Z, mode 2, 6 satellites used; leap seconds 18.
#[test]
fn a_time_receiver() {
    let sol = &of(M8_TIME, "ubx_nav_sol")[0];
    expect(sol, "week=1977 time_valid=true fix_type=2 satellites=6");
    expect(&of(M8_TIME, "ubx_nav_timegps")[0], "week=1977 leap_s=18 time_valid=true");
    let (sat, dop) = (of(M8_TIME, "ubx_nav_svinfo"), of(M8_TIME, "ubx_nav_dop"));
    assert!(!sat.is_empty() && !dop.is_empty());
}

/// gpsd: 2007-12-23T23:11:20Z at 20.62928 N, 87.06808 W; with the 18 leap seconds of its own time, not the 14 of 2007.
#[test]
fn an_old_timing_receiver() {
    expect(&of(AEK_4T, "ubx_nav_timeutc")[0], "utc_ns=1198451483998999131");
    expect(&of(AEK_4T, "ubx_nav_status")[0], "fix_type=3 fix_ok=true time_valid=true");
    let sol = &of(AEK_4T, "ubx_nav_sol")[0];
    expect(sol, "fix_type=3 fix_ok=true satellites=7");
    let number =
        |name: &str| sol.1.iter().find(|(field, _)| field == name).and_then(|(_, v)| v.parse::<f64>().ok());
    let (x, y, z) = (number("ecef_x_m").unwrap(), number("ecef_y_m").unwrap(), number("ecef_z_m").unwrap());
    assert!((y.atan2(x).to_degrees() + 87.068_08).abs() < 1e-4);
    assert!((6_371_000.0 - (x * x + y * y + z * z).sqrt()).abs() < 20_000.0);
    expect(&of(AEK_4T, "ubx_tim_tp")[0], "utc=true");
    assert!(!of(AEK_4T, "ubx_nav_clock").is_empty());
}

#[test]
fn positions_and_velocities_in_earth_centred_coordinates() {
    assert!(!of(M8T, "ubx_nav_posecef").is_empty());
    assert!(!of(M8T, "ubx_nav_velecef").is_empty());
}

/// gpsd: {"class":"LOG","time":"2020-01-30T22:36:12.000Z","idx":150,"mode":3,"lat":46.542016600,"lon":6.653092200,
/// "altHAE":780.9410,"altMSL":733.7110,"velN":0.071,"velE":-0.015,"velD":0.000,"pDOP":2.7}
#[test]
fn a_batch_of_fixes() {
    let shown = &of(ZOE, "ubx_log_batch")[0];
    expect(shown, "utc_ns=1580423772000000000 count=150 fix_type=3 lat_deg=46.5420166 lon_deg=6.6530922");
    expect(shown, "height_m=780.941 height_msl_m=733.711 pdop=2.7");
    expect(shown, "velocity_north_m_s=0.071 velocity_east_m_s=-0.015 velocity_down_m_s=0");
}

fn sentence(start: &str) -> Shown {
    let line =
        SENTENCES.lines().find(|line| line.strip_prefix('$').is_some_and(|line| line.starts_with(start)));
    let (body, sum) = line.and_then(|line| line[1..].rsplit_once('*')).expect("it was recorded");
    assert_eq!(body.bytes().fold(0, |sum, byte| sum ^ byte), u8::from_str_radix(sum, 16).expect("hex"));
    show(Proprietary::parse(body).expect("it is known").view())
}

#[test]
fn proprietary_sentences_of_receivers() {
    expect(&sentence("PGRME,15.0"), "horizontal_error_m=15 vertical_error_m=22.5 position_error_m=27");
    expect(
        &sentence("PGRME,,M"),
        "horizontal_error_m=missing vertical_error_m=missing position_error_m=missing",
    );
    expect(&sentence("PGRMZ,-30"), "altitude_m=-9.144 fix_dimension=2");
    expect(&sentence("PMTK001"), "command=604 flag=1");
    expect(
        &sentence("PASHR,POS"),
        "mode=0 satellites=3 time_of_day_s=66930 lat_deg=20.629335333333334 lon_deg=-87.0678955 altitude_m=58.48 \
         course_deg=359.4 ground_speed_m_s=0 velocity_up_m_s=0 pdop=2.2 hdop=2.2 vdop=0 tdop=1",
    );
    expect(
        &sentence("PTNTHTM"),
        "heading_deg=14223 heading_status=N pitch_deg=169 roll_deg=-43 dip_deg=13641",
    );
    expect(
        &sentence("PSTI,030"),
        "time_of_day_s=66099 valid=true lat_deg=44.06860850333333 lon_deg=-121.31450783666667 altitude_msl_m=1215.141 \
         velocity_east_m_s=0.01 velocity_north_m_s=-0.04 velocity_up_m_s=0.07 mode=D",
    );
}
