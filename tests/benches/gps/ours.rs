//! What our decoders make of a log: the agent's sentences and the shims' frames, as named values by time.

use headwater_agent::source::arrival::{Arrivals, Declared, ReadAt};
use headwater_agent::source::framing::Decoded;
use headwater_agent::source::nmea::NmeaDecoding;
use headwater_core::ports::SourceEvent;
use headwater_core::sample::{Reading, Value};
use headwater_core::time::BootNanos;
use headwater_shims::vendor::nmea::Proprietary;
use headwater_shims::vendor::ubx::{FRAME_BYTES_MAX, NavTimegps, Ubx, UbxFrame, UbxMessage};
use headwater_shims::vendor::{FeedStats, Feeder};
use std::collections::BTreeMap;

/// ms of UTC at GPS week 0, and of a week.
const GPS_EPOCH_MS: i64 = 315_964_800_000;
const WEEK_MS: i64 = 604_800_000;
/// Bytes of a read.
const READ_BYTES: usize = 512;
/// Time between two of them, ms: no fix waits for its other half beyond it.
const STEP_MS: u64 = 1;

/// Where values are compared: a time, or the number of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// ms of UTC since 1970.
    At(i64),
    /// Record of a receiver's own log.
    Logged(i64),
    /// The n-th attitude.
    Attitude(usize),
}

/// Named values at one place, in gpsd's names and units.
pub(crate) type Values = BTreeMap<&'static str, f64>;

/// Our decoding of one log.
#[derive(Debug, Default)]
pub(crate) struct Ours {
    pub(crate) sentences: u64,
    pub(crate) sentences_damaged: u64,
    pub(crate) fixes: u64,
    pub(crate) proprietary: u64,
    pub(crate) frames: FeedStats,
    pub(crate) messages: u64,
    /// Every fix and message with something to compare.
    pub(crate) all: Vec<(Place, Values)>,
}

/// Decodes a log twice: a receiver may send both, and each decoder passes over what the other takes.
pub(crate) fn decode(log: &[u8]) -> Ours {
    let mut ours = Ours::default();
    sentences(log, &mut ours);
    frames(log, &mut ours);
    ours
}

fn sentences(log: &[u8], ours: &mut Ours) {
    let arrivals = Arrivals::of_program(Declared::default(), 0);
    let mut decoding = NmeaDecoding::new("gps".parse().expect("a stream name"), arrivals);
    let mut out = Decoded::default();
    let mut now = BootNanos(0);
    for bytes in log.chunks(READ_BYTES) {
        now = now.plus_ms(STEP_MS);
        decoding.push(bytes, ReadAt::prompt(now), &mut out);
    }
    decoding.poll(now.plus_ms(10_000), &mut out);
    for event in out.events {
        match event {
            SourceEvent::Reading { stream, reading } if stream.as_str() == "gps" => {
                ours.fixes += 1;
                ours.all.extend(fix(&reading));
            }
            SourceEvent::SetAside { .. } => ours.sentences_damaged += 1,
            _ => {}
        }
    }
    let mut attitudes = 0;
    for body in bodies(log) {
        ours.sentences += 1;
        let Some(sentence) = Proprietary::parse(body) else { continue };
        ours.proprietary += 1;
        if let Proprietary::TrueNorthAttitude(attitude) = sentence {
            let values = [
                ("heading", attitude.heading_deg),
                ("pitch", attitude.pitch_deg),
                ("roll", attitude.roll_deg),
                ("dip", attitude.dip_deg),
                ("mag_x", attitude.horizontal_field),
            ];
            ours.all.push((Place::Attitude(attitudes), some(values)));
            attitudes += 1;
        }
    }
}

/// Bodies of all sentences with a right checksum.
fn bodies(log: &[u8]) -> impl Iterator<Item = &str> {
    log.split(|byte| matches!(byte, b'\r' | b'\n')).filter_map(|line| {
        let line = std::str::from_utf8(line).ok()?.strip_prefix('$')?;
        let (body, claimed) = line.rsplit_once('*')?;
        let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
        (u8::from_str_radix(claimed, 16) == Ok(sum)).then_some(body)
    })
}

fn some<const N: usize>(values: [(&'static str, Option<f64>); N]) -> Values {
    values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// A row of kind `gps_fix`, if it has a time.
fn fix(reading: &Reading) -> Option<(Place, Values)> {
    let [lat, lon, alt_msl, _, sog, cog, hdop, _, quality, utc] = reading.values.as_slice() else {
        return None;
    };
    let float = |value: &Value| if let Value::F64(value) = value { Some(*value) } else { None };
    let Value::I64(utc) = utc else { return None };
    let fixed = matches!(quality, Value::Null | Value::I64(1..));
    let values = some([
        ("lat", float(lat)),
        ("lon", float(lon)),
        ("altMSL", float(alt_msl)),
        ("speed", float(sog)),
        ("track", float(cog)),
        ("hdop", float(hdop).filter(|_| fixed)),
    ]);
    Some((Place::At(utc.div_euclid(1_000_000)), values))
}

/// Values of one epoch gathered over its messages.
#[derive(Default)]
struct Epochs {
    /// By time of week, ms.
    open: BTreeMap<u32, Values>,
    week: Option<i64>,
    /// GPS minus UTC: of the receiver, where it tells.
    leap_ms: i64,
    /// A position of UBX-NAV-SOL was taken.
    placed: bool,
}

fn frames(log: &[u8], ours: &mut Ours) {
    let mut feeder = Feeder::<_, FRAME_BYTES_MAX>::new(Ubx);
    let mut epochs = Epochs { leap_ms: 18_000, ..Epochs::default() };
    let mut input = log;
    loop {
        let found = feeder.next_frame(&mut input);
        let Some(found) = found else { break };
        let Some(message) = found.ok().and_then(|found| UbxFrame::new(found.bytes)?.message()) else {
            continue;
        };
        ours.messages += 1;
        take(&message, &mut epochs, &mut ours.all);
    }
    feeder.close();
    while feeder.next_frame(&mut &[][..]).is_some() {}
    ours.frames = feeder.stats();
    let Some(week) = epochs.week else { return };
    for (itow_ms, values) in epochs.open {
        let ms = GPS_EPOCH_MS + week * WEEK_MS + i64::from(itow_ms) - epochs.leap_ms;
        ours.all.push((Place::At(ms), values));
    }
}

fn take(message: &UbxMessage, epochs: &mut Epochs, all: &mut Vec<(Place, Values)>) {
    let open = &mut epochs.open;
    let mut add = |itow_ms: u32, values: Values| open.entry(itow_ms).or_default().extend(values);
    match message {
        UbxMessage::NavSol(sol) => {
            if sol.time_valid {
                epochs.week = Some(sol.week.into());
            }
            if sol.fix_type >= 2 && sol.fix_ok {
                add(sol.itow_ms, some([("pdop", Some(sol.pdop))]));
                // gpsd 3.22 turns the first such position of a log into degrees and repeats them for all that follow.
                if !std::mem::replace(&mut epochs.placed, true) {
                    add(sol.itow_ms, geodetic([sol.ecef_x_m, sol.ecef_y_m, sol.ecef_z_m]));
                }
                add(sol.itow_ms, [("mode", if sol.fix_type == 2 { 2.0 } else { 3.0 })].into());
            }
        }
        UbxMessage::NavPosecef(pos) => {
            let ecef = [pos.ecef_x_m, pos.ecef_y_m, pos.ecef_z_m];
            add(pos.itow_ms, [("ecefx", ecef[0]), ("ecefy", ecef[1]), ("ecefz", ecef[2])].into());
            add(pos.itow_ms, [("ecefpAcc", pos.position_accuracy_m)].into());
        }
        UbxMessage::NavVelecef(vel) => {
            let values = [
                ("ecefvx", vel.ecef_vx_m_s),
                ("ecefvy", vel.ecef_vy_m_s),
                ("ecefvz", vel.ecef_vz_m_s),
                ("ecefvAcc", vel.speed_accuracy_m_s),
            ];
            add(vel.itow_ms, values.into());
        }
        UbxMessage::NavPvt(pvt) if pvt.fix_ok => {
            let values = [
                ("lat", pvt.lat_deg),
                ("lon", pvt.lon_deg),
                ("altHAE", pvt.height_m),
                ("altMSL", pvt.height_msl_m),
                ("speed", pvt.ground_speed_m_s),
                ("track", pvt.heading_deg),
                ("velN", pvt.velocity_north_m_s),
                ("velE", pvt.velocity_east_m_s),
                ("velD", pvt.velocity_down_m_s),
            ];
            add(pvt.itow_ms, values.into());
        }
        UbxMessage::NavDop(dop) => {
            let values = [
                ("gdop", dop.gdop),
                ("pdop", dop.pdop),
                ("tdop", dop.tdop),
                ("vdop", dop.vdop),
                ("hdop", dop.hdop),
            ];
            add(dop.itow_ms, values.into());
        }
        UbxMessage::NavTimegps(time) => {
            let NavTimegps { itow_ms, week, leap_s, time_valid, .. } = *time;
            if time_valid {
                epochs.week = Some(week.into());
            }
            if let Some(leap_s) = leap_s {
                epochs.leap_ms = i64::from(leap_s) * 1_000;
                add(itow_ms, [("leapseconds", f64::from(leap_s))].into());
            }
        }
        UbxMessage::LogBatch(batch) => {
            let values = [
                ("lat", batch.lat_deg),
                ("lon", batch.lon_deg),
                ("altHAE", batch.height_m),
                ("altMSL", batch.height_msl_m),
                ("velN", batch.velocity_north_m_s),
                ("velE", batch.velocity_east_m_s),
                ("velD", batch.velocity_down_m_s),
                ("pDOP", batch.pdop),
            ];
            all.push((Place::Logged(batch.count.into()), values.into()));
        }
        _ => {}
    }
}

/// Latitude, longitude and height above the WGS 84 ellipsoid; by Bowring's formula, which is good to a micrometre near
/// the earth.
///
/// Source: B. R. Bowring, "Transformation from spatial to geographical coordinates", Survey Review 181, 1976.
fn geodetic([x, y, z]: [f64; 3]) -> Values {
    const A: f64 = 6_378_137.0;
    const F: f64 = 1.0 / 298.257_223_563;
    const B: f64 = A * (1.0 - F);
    const E2: f64 = F * (2.0 - F);
    const EP2: f64 = E2 / (1.0 - E2);
    let p = x.hypot(y);
    if p < 1.0 {
        return Values::new();
    }
    let (sin, cos) = (z * A).atan2(p * B).sin_cos();
    let lat = (z + EP2 * B * sin.powi(3)).atan2(p - E2 * A * cos.powi(3));
    let n = A / (1.0 - E2 * lat.sin().powi(2)).sqrt();
    let height = p / lat.cos() - n;
    [("lat", lat.to_degrees()), ("lon", y.atan2(x).to_degrees()), ("altHAE", height)].into()
}
