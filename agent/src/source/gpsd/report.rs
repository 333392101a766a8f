//! gpsd's reports as rows: TPV becomes fixes as the NMEA decoder makes them, SKY what the satellites are like. Pure.
//!
//! Reports and their fields: gpsd_json(5). Of several receivers one is captured: the one named, else the first that tells
//! of itself; two in one stream would be one that jumps.

use super::super::arrival::{Arrivals, ReadAt};
use super::super::framing::{Decoded, Notice};
use crate::config::GpsdSettings;
use crate::gpsd::{class, garbled};
use crate::telemetry::Counter;
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::{Field, Logical, Modality, Schema, builtin};
use headwater_core::time::{BootNanos, ClockDomain, NS_PER_S, StampKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A view of the sky belongs to fixes for so long, ns: receivers that tell of it rarely do so each 5 s.
const SKY_NS_MAX: i64 = 6 * NS_PER_S;
/// Satellites counted of one view: all there are in five systems would not be seen at once.
const SATELLITES_MAX: usize = 255;

/// A fix; what is not known is left out by gpsd.
#[derive(Debug, Deserialize)]
struct Tpv {
    #[serde(default)]
    mode: u8,
    #[serde(default)]
    status: u8,
    time: Option<String>,
    lat: Option<f64>,
    lon: Option<f64>,
    /// Above mean sea level, since 3.20.
    #[serde(rename = "altMSL")]
    alt_msl: Option<f64>,
    /// The same before that.
    alt: Option<f64>,
    #[serde(rename = "geoidSep")]
    geoid_sep: Option<f64>,
    speed: Option<f64>,
    track: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Sky {
    hdop: Option<f64>,
    vdop: Option<f64>,
    pdop: Option<f64>,
    tdop: Option<f64>,
    gdop: Option<f64>,
    satellites: Option<Vec<Satellite>>,
    /// Since 3.22; else they are counted.
    #[serde(rename = "nSat")]
    seen: Option<u32>,
    #[serde(rename = "uSat")]
    used: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Satellite {
    #[serde(default)]
    used: bool,
    ss: Option<f64>,
}

/// What a fix takes from the sky.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: BootNanos,
    used: Option<i64>,
    hdop: Option<f64>,
}

/// The schema of views of the sky.
pub(super) fn sky_schema() -> Schema {
    let field = |(name, logical, unit): (&str, Logical, &str)| Field {
        name: name.parse().expect("built-in field names follow the rule"),
        logical,
        nullable: true,
        unit: unit.to_owned(),
    };
    let fields = [
        ("seen", Logical::U8, "1"),
        ("used", Logical::U8, "1"),
        ("hdop", Logical::F64, "1"),
        ("vdop", Logical::F64, "1"),
        ("pdop", Logical::F64, "1"),
        ("tdop", Logical::F64, "1"),
        ("gdop", Logical::F64, "1"),
        ("cn0_used_mean", Logical::F64, "dB{Hz}"),
        ("cn0_max", Logical::F64, "dB{Hz}"),
    ];
    let kind = "gps_sky".parse().expect("built-in kinds follow the rule");
    Schema { salt: 0, kind, modality: Modality::Scalars, time_exp: 3, fields: fields.map(field).to_vec() }
}

/// State of one gpsd.
#[derive(Debug)]
pub(super) struct GpsdDecoding {
    stream: StreamName,
    sky: StreamName,
    arrivals: Arrivals,
    /// Named in the configuration.
    named: bool,
    receiver: Option<String>,
    /// UTC of the last fix, ns.
    last: Option<i64>,
    seen: Option<Seen>,
    declared: [bool; 2],
}

impl GpsdDecoding {
    pub(super) fn new(stream: StreamName, arrivals: Arrivals, settings: GpsdSettings) -> Self {
        let GpsdSettings { receiver, sky, .. } = settings;
        let named = receiver.is_some();
        Self { stream, sky, arrivals, named, receiver, last: None, seen: None, declared: [false; 2] }
    }

    /// The connection is a new one: a receiver nobody named may be another now.
    pub(super) fn reopened(&mut self) {
        if !self.named {
            self.receiver = None;
        }
        self.seen = None;
    }

    /// Takes a line.
    pub(super) fn line(&mut self, line: &[u8], read: ReadAt, out: &mut Decoded) {
        if let Err(why) = self.report(line, read, out) {
            let (stream, bytes) = (self.stream.clone(), line.trim_ascii_end().to_vec());
            out.events.push_back(SourceEvent::SetAside { stream, why, bytes, at: read.at });
        }
    }

    fn report(&mut self, line: &[u8], read: ReadAt, out: &mut Decoded) -> Result<(), String> {
        let of = class(line)?;
        let wanted = matches!(of.class.as_str(), "TPV" | "SKY");
        if !wanted {
            return Ok(());
        }
        // With one receiver its name may be left out.
        let nameless = of.device.is_empty() && !self.named;
        if !nameless && *self.receiver.get_or_insert_with(|| of.device.clone()) != of.device {
            out.notices.push(Notice::Count(Counter::GpsdOthers, 1));
            return Ok(());
        }
        match of.class.as_str() {
            "TPV" => self.fix(&parsed(line)?, read, out),
            _ => self.view(&parsed(line)?, read, out),
        }
        Ok(())
    }

    fn declare(&mut self, sky: bool, out: &mut Decoded) -> StreamName {
        let (name, schema) = match sky {
            true => (&self.sky, sky_schema as fn() -> Schema),
            false => (&self.stream, builtin::gps_fix as fn() -> Schema),
        };
        if let Some(declared) = self.declared.get_mut(usize::from(sky))
            && !std::mem::replace(declared, true)
        {
            out.events.push_back(SourceEvent::Stream { name: name.clone(), schema: schema() });
        }
        name.clone()
    }

    fn row(&mut self, sky: bool, values: Vec<Value>, read: ReadAt, out: &mut Decoded) {
        let stream = self.declare(sky, out);
        let (kind, domain) = (StampKind::Arrival, ClockDomain::BOOT);
        let latency = self.arrivals.latency(read, 0, 0);
        out.reading(stream, Reading { t: read.at, latency, kind, domain, values, blob: None });
    }

    fn fix(&mut self, tpv: &Tpv, read: ReadAt, out: &mut Decoded) {
        let utc = tpv.time.as_deref().and_then(utc_ns);
        if utc.is_some() && utc == self.last {
            out.notices.push(Notice::Count(Counter::GpsdRepeats, 1));
            return;
        }
        self.last = utc.or(self.last);
        let fixed = tpv.mode >= 2;
        let plain = |value: Option<f64>, least: f64, most: f64| match value {
            Some(value) if fixed && (least..=most).contains(&value) => Value::F64(value),
            _ => Value::Null,
        };
        let any = |value: Option<f64>| plain(value, f64::MIN, f64::MAX);
        let (lat, lon) = match (plain(tpv.lat, -90.0, 90.0), plain(tpv.lon, -180.0, 180.0)) {
            (lat, lon) if lat == Value::Null || lon == Value::Null => (Value::Null, Value::Null),
            both => both,
        };
        let sky = self.seen.filter(|seen| read.at.since(seen.at) <= SKY_NS_MAX);
        let whole = |n: Option<i64>| n.map_or(Value::Null, Value::I64);
        let values = vec![
            lat,
            lon,
            if tpv.mode >= 3 { any(tpv.alt_msl.or(tpv.alt)) } else { Value::Null },
            any(tpv.geoid_sep),
            plain(tpv.speed, 0.0, f64::MAX),
            plain(tpv.track, 0.0, 360.0),
            any(sky.and_then(|sky| sky.hdop)),
            whole(sky.and_then(|sky| sky.used)),
            Value::I64(if fixed { quality(tpv.status) } else { 0 }),
            whole(utc),
        ];
        self.row(false, values, read, out);
    }

    fn view(&mut self, sky: &Sky, read: ReadAt, out: &mut Decoded) {
        let all = sky.satellites.as_ref().map(|all| all.iter().take(SATELLITES_MAX));
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let told = |n: Option<u32>| n.map(|n| i64::from(n.min(255)));
        let seen = told(sky.seen).or(all.clone().map(|all| count(all.count())));
        let used = told(sky.used).or(all.clone().map(|all| count(all.filter(|one| one.used).count())));
        // A report may hold the dilutions alone, or the satellites alone.
        let before = self.seen.filter(|seen| read.at.since(seen.at) <= SKY_NS_MAX);
        self.seen = Some(Seen {
            at: read.at,
            used: used.or(before.and_then(|seen| seen.used)),
            hdop: sky.hdop.or(before.and_then(|seen| seen.hdop)),
        });
        let strengths = |used: bool| {
            let heard = all.clone().into_iter().flatten().filter(move |one| one.used || !used);
            heard.filter_map(|one| one.ss).filter(|ss| *ss > 0.0)
        };
        let (sum, n) = strengths(true).fold((0.0, 0_u32), |(sum, n), ss| (sum + ss, n.saturating_add(1)));
        let float = |value: Option<f64>| value.map_or(Value::Null, Value::F64);
        let whole = |value: Option<i64>| value.map_or(Value::Null, Value::I64);
        let values = vec![
            whole(seen),
            whole(used),
            float(sky.hdop),
            float(sky.vdop),
            float(sky.pdop),
            float(sky.tdop),
            float(sky.gdop),
            float((n > 0).then(|| sum / f64::from(n))),
            float(strengths(false).reduce(f64::max)),
        ];
        self.row(true, values, read, out);
    }
}

fn parsed<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| garbled(&error))
}

/// gpsd's status in the words of NMEA's fix quality: 0 unknown and 1 normal are 1; 2 differential is 2; 3 and 4, RTK fixed and
/// float, are 4 and 5; 5 and 6, dead reckoning without and with satellites, are 6; 7 surveyed is 7; 8 simulated is 8; 9, military
/// code, is 3.
fn quality(status: u8) -> i64 {
    match status {
        2 => 2,
        3 => 4,
        4 => 5,
        5 | 6 => 6,
        7 => 7,
        8 => 8,
        9 => 3,
        _ => 1,
    }
}

fn utc_ns(time: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(time).ok()?.timestamp_nanos_opt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GPSD_DEFAULT;
    use crate::source::arrival::Declared;
    use proptest::prelude::*;

    fn decoding(receiver: Option<&str>) -> GpsdDecoding {
        let sky = "gps/sky".parse().unwrap();
        let settings = GpsdSettings { at: GPSD_DEFAULT, receiver: receiver.map(str::to_owned), sky };
        GpsdDecoding::new(
            "gps".parse().unwrap(),
            Arrivals::of_program(Declared::default(), 1_000_000_000),
            settings,
        )
    }

    fn rows(decoding: &mut GpsdDecoding, lines: &[&str]) -> (Vec<(String, Vec<Value>)>, Decoded) {
        let mut out = Decoded::default();
        for (at, line) in lines.iter().enumerate() {
            let at = BootNanos(i64::try_from(at).unwrap() * NS_PER_S);
            decoding.line(line.as_bytes(), ReadAt::prompt(at), &mut out);
        }
        let row = |event: &SourceEvent| match event {
            SourceEvent::Reading { stream, reading } => Some((stream.to_string(), reading.values.clone())),
            _ => None,
        };
        (out.events.iter().filter_map(row).collect(), out)
    }

    /// As gpsd 3.22 sends them.
    const TPV: &str = r#"{"class":"TPV","device":"/dev/ttyACM0","mode":3,"time":"2026-11-29T01:02:03.000Z","ept":0.005,"lat":47.396,"lon":8.545,"altHAE":455.1,"altMSL":407.6,"alt":407.6,"track":86.1,"speed":1.25,"geoidSep":47.5}"#;
    const SKY: &str = r#"{"class":"SKY","device":"/dev/ttyACM0","hdop":0.9,"pdop":1.7,"satellites":[{"PRN":3,"ss":40.0,"used":true},{"PRN":4,"ss":30.0,"used":true},{"PRN":9,"ss":44.0,"used":false},{"PRN":11,"used":false}]}"#;

    #[test]
    fn a_fix_takes_its_satellites_from_the_sky_before_it() {
        let (rows, out) = rows(&mut decoding(None), &[SKY, TPV]);
        let f = Value::F64;
        assert_eq!(rows[0].0, "gps/sky");
        assert_eq!(
            rows[0].1,
            [
                Value::I64(4),
                Value::I64(2),
                f(0.9),
                Value::Null,
                f(1.7),
                Value::Null,
                Value::Null,
                f(35.0),
                f(44.0)
            ]
        );
        assert_eq!(rows[1].0, "gps");
        let utc = Value::I64(1_795_914_123_000_000_000);
        assert_eq!(
            rows[1].1,
            [
                f(47.396),
                f(8.545),
                f(407.6),
                f(47.5),
                f(1.25),
                f(86.1),
                f(0.9),
                Value::I64(2),
                Value::I64(1),
                utc
            ]
        );
        for event in &out.events {
            if let SourceEvent::Stream { schema, .. } = event {
                schema.check().unwrap();
            }
        }
        let fields = builtin::gps_fix().fields;
        assert!(rows[1].1.iter().zip(&fields).all(|(value, field)| value.fits(field)));
        assert!(rows[0].1.iter().zip(&sky_schema().fields).all(|(value, field)| value.fits(field)));
    }

    #[test]
    fn without_a_fix_there_is_a_row_that_says_so() {
        let none = r#"{"class":"TPV","device":"/dev/ttyACM0","mode":1,"lat":1.0,"lon":2.0}"#;
        let (rows, _) = rows(&mut decoding(None), &[none, none]);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (&rows[0].1[0], &rows[0].1[8], &rows[0].1[9]),
            (&Value::Null, &Value::I64(0), &Value::Null)
        );
    }

    #[test]
    fn what_cannot_be_is_missing_and_a_half_position_is_none() {
        let beyond = TPV.replace("47.396", "147.396").replace("86.1", "-1.0");
        let (rows, _) = rows(&mut decoding(None), &[&beyond]);
        assert_eq!((&rows[0].1[0], &rows[0].1[1], &rows[0].1[5]), (&Value::Null, &Value::Null, &Value::Null));
    }

    #[test]
    fn one_receiver_is_captured_and_the_same_second_once() {
        let other = TPV.replace("ttyACM0", "ttyUSB0");
        let later = TPV.replace("02:03", "02:04");
        let (first, out) = rows(&mut decoding(None), &[TPV, &other, TPV, &later]);
        assert_eq!(first.len(), 2);
        assert!(out.notices.contains(&Notice::Count(Counter::GpsdOthers, 1)));
        assert!(out.notices.contains(&Notice::Count(Counter::GpsdRepeats, 1)));
        assert_eq!(rows(&mut decoding(Some("/dev/ttyUSB0")), &[TPV, &other]).0.len(), 1);
        let mut again = decoding(None);
        assert_eq!(rows(&mut again, &[TPV]).0.len(), 1);
        again.reopened();
        assert_eq!(
            rows(&mut again, &[&other.replace("02:03", "02:05")]).0.len(),
            1,
            "another receiver after a new start"
        );
    }

    #[test]
    fn a_sky_that_is_old_belongs_to_no_fix() {
        let mut decoding = decoding(None);
        rows(&mut decoding, &[SKY]);
        let mut out = Decoded::default();
        decoding.line(TPV.as_bytes(), ReadAt::prompt(BootNanos(SKY_NS_MAX + 1)), &mut out);
        let Some(SourceEvent::Reading { reading, .. }) = out.events.back() else { panic!("{out:?}") };
        assert_eq!((&reading.values[6], &reading.values[7]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn rubbish_is_set_aside_and_other_reports_are_left_alone() {
        let devices = r#"{"class":"DEVICES","devices":[{"path":"/dev/ttyACM0"}]}"#;
        let (rows, out) =
            rows(&mut decoding(None), &[devices, "rubbish", r#"{"class":"TPV","mode":"3d"}"#, TPV]);
        let aside = out.events.iter().filter(|event| matches!(event, SourceEvent::SetAside { .. })).count();
        assert_eq!((rows.len(), aside), (1, 2), "a report that names no receiver is not the one captured");
    }

    proptest! {
        #[test]
        fn nothing_panics_and_rows_fit(at in 0_usize..250, byte: u8, junk in "\\PC{0,60}", sky: bool) {
            let mut bytes = if sky { SKY } else { TPV }.as_bytes().to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let mut out = Decoded::default();
            let mut decoding = decoding(None);
            decoding.line(&bytes, ReadAt::prompt(BootNanos(0)), &mut out);
            decoding.line(junk.as_bytes(), ReadAt::prompt(BootNanos(1)), &mut out);
            for event in out.events {
                if let SourceEvent::Reading { stream, reading } = event {
                    let fields = if stream.as_str() == "gps" { builtin::gps_fix() } else { sky_schema() }.fields;
                    prop_assert!(reading.values.iter().zip(&fields).all(|(value, field)| value.fits(field)));
                }
            }
        }
    }
}
