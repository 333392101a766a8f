//! Checks `[[source]]`: which keys a type wants, which it does not know, and names used twice.

use super::builtin::{self, Builtin};
use super::mistake::{Mistake, Mistakes};
use super::protocols;
use super::raw::{RawField, RawSource};
use super::settings::{
    After, Characters, CommandLine, FrameStamps, Framing, LineFormat, LineSettings, Parity, PreviewSettings,
    Retention, SerialLine, SourceKind, SourceSettings,
};
use super::value;
use crate::source::STAMPS_PLACE;
use crate::source::arrival::Declared;
use crate::source::vendor::VendorProtocol;
use headwater_core::id::{FieldName, KindName, StreamName};
use headwater_core::ports::{EvictFirst, StreamClass};
use headwater_core::schema::{Field, Logical, Modality, Schema, check_unit};
use std::collections::BTreeMap;
use std::path::Path;

/// Stamps of lines travel in µs: arrival is not known better.
const TIME_EXP: u8 = 3;
/// Names below it are the agent's own.
const RESERVED: &str = "hw";
/// Kinds the agent defines itself.
const RESERVED_KINDS: [&str; 10] =
    ["clock", "gaps", "gps_fix", "gps_sky", "host_health", "host_link", "hwmon", "iio", "image", "w1"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Type {
    Serial,
    CameraDir,
    CameraCommand,
    Exec,
    Builtin(Builtin),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bytes {
    Link,
    Nmea,
    Lines,
    Ubx,
    Pms5003,
    Sds011,
    Mavlink,
    Vedirect,
    Sbus,
    Frames,
    Mhz19,
    Scd30,
    Senseair,
    Modbus,
}

impl Bytes {
    const ALL: [(&'static str, Self); 14] = [
        ("link", Self::Link),
        ("nmea", Self::Nmea),
        ("lines", Self::Lines),
        ("ubx", Self::Ubx),
        ("pms5003", Self::Pms5003),
        ("sds011", Self::Sds011),
        ("mavlink", Self::Mavlink),
        ("vedirect", Self::Vedirect),
        ("sbus", Self::Sbus),
        ("frames", Self::Frames),
        ("mhz19", Self::Mhz19),
        ("scd30", Self::Scd30),
        ("senseair", Self::Senseair),
        ("modbus", Self::Modbus),
    ];

    /// What such devices mostly speak at.
    const fn usual_baud(self) -> i64 {
        match self {
            Self::Nmea
            | Self::Ubx
            | Self::Pms5003
            | Self::Sds011
            | Self::Mhz19
            | Self::Senseair
            | Self::Modbus => 9_600,
            Self::Scd30 | Self::Vedirect => 19_200,
            Self::Mavlink => 57_600,
            Self::Sbus => 100_000,
            Self::Link | Self::Lines | Self::Frames => 115_200,
        }
    }

    /// Whether such devices have to be asked.
    const fn is_asked(self) -> bool {
        matches!(self, Self::Mhz19 | Self::Scd30 | Self::Senseair | Self::Modbus)
    }
}

/// Checks every source.
pub(super) fn sources(
    raw: &[RawSource],
    folder: &Path,
    mistakes: &mut Mistakes,
) -> Option<Vec<SourceSettings>> {
    let mut seen: BTreeMap<StreamName, usize> = BTreeMap::new();
    let mut good = Vec::new();
    for (at, source) in raw.iter().enumerate() {
        let path = format!("source[{at}]");
        let stream = stream(source, &path, mistakes);
        if let Some(stream) = &stream
            && let Some(first) = seen.insert(stream.clone(), at)
        {
            let found = format!("{:?}, which source[{first}] has already", stream.as_str());
            mistakes.push(Mistake::new(format!("{path}.stream"), "a name of its own", found));
        }
        let kind = kind(source, &path, folder, mistakes);
        let delay = delay(source, &path, mistakes);
        let retention = retention(source, &path, mistakes);
        let preview = stream.as_ref().and_then(|stream| preview(source, stream, &path, mistakes));
        if let (Some(stream), Some(kind), Some(delay), Some(retention), Some(preview)) =
            (stream, kind, delay, retention, preview)
        {
            good.push(SourceSettings { stream, retention, preview, delay, kind });
        }
    }
    (good.len() == raw.len()).then_some(good)
}

/// `Some(None)` if none are asked for.
fn preview(
    raw: &RawSource,
    stream: &StreamName,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<Option<PreviewSettings>> {
    if raw.preview.is_none() {
        return Some(None);
    }
    let path = format!("{path}.preview");
    let side = value::number(raw.preview, 160, 32..=640, &path, mistakes)?;
    match format!("{stream}/preview").parse() {
        Ok(stream) => Some(Some(PreviewSettings { stream, side })),
        Err(_) => {
            let found = format!("{:?}", stream.as_str());
            let mistake = Mistake::new(path, "a stream whose name leaves room for /preview", found);
            mistakes.push(mistake.hint("shorten source.stream"));
            None
        }
    }
}

fn retention(raw: &RawSource, path: &str, mistakes: &mut Mistakes) -> Option<Retention> {
    let classes = StreamClass::ALL.map(|class| (class.as_str(), Some(class)));
    let class = value::word(raw.class.as_deref(), &classes, Some(None), &format!("{path}.class"), mistakes);
    let ends = [("oldest", EvictFirst::Oldest), ("newest", EvictFirst::Newest)];
    let oldest = Some(EvictFirst::Oldest);
    let evict_first =
        value::word(raw.evict_first.as_deref(), &ends, oldest, &format!("{path}.evict_first"), mistakes);
    let keep_min = (0, 0, "a size");
    let keep_bytes_min = value::size(raw.keep_min.as_ref(), keep_min, &format!("{path}.keep_min"), mistakes);
    Some(Retention {
        alarm: raw.alarm.unwrap_or(false),
        class: class?,
        evict_first: evict_first?,
        keep_bytes_min: keep_bytes_min?,
        lane: None,
    })
}

/// What is said of the delay between event and arrival.
fn delay(raw: &RawSource, path: &str, mistakes: &mut Mistakes) -> Option<Declared> {
    let ns = |ms: Option<i64>, key: &str, mistakes: &mut Mistakes| {
        let ms: u32 = value::number(ms, 0, 0..=4_000, &format!("{path}.{key}"), mistakes)?;
        Some(ms.saturating_mul(1_000_000))
    };
    let most = ns(raw.latency_ms, "latency_ms", mistakes);
    let least = ns(raw.latency_min_ms, "latency_min_ms", mistakes);
    let (most_ns, least_ns) = (most?, least?);
    match raw.latency_ms {
        Some(greatest) if least_ns > most_ns => {
            let expected = format!("a number from 0 to latency_ms, {greatest}");
            let found = raw.latency_min_ms.unwrap_or_default().to_string();
            mistakes.push(Mistake::new(format!("{path}.latency_min_ms"), expected, found));
            None
        }
        None if least_ns > 0 => {
            let hint = "a least delay says nothing of the greatest: write both";
            mistakes
                .push(Mistake::new(format!("{path}.latency_ms"), "the greatest delay", "nothing").hint(hint));
            None
        }
        said => Some(Declared { least_ns, most_ns: said.map(|_| most_ns) }),
    }
}

fn stream(raw: &RawSource, path: &str, mistakes: &mut Mistakes) -> Option<StreamName> {
    let path = format!("{path}.stream");
    let name: StreamName = value::name(
        raw.stream.as_deref(),
        &path,
        "a stream name",
        "a name such as \"imu\" or \"camera/front\"",
        mistakes,
    )?;
    if name.as_str().split('/').next() == Some(RESERVED) {
        let found = format!("{:?}", name.as_str());
        mistakes
            .push(Mistake::new(path, "a name outside hw/", found).hint("hw/ is for the agent's own streams"));
        return None;
    }
    Some(name)
}

fn kind(raw: &RawSource, path: &str, folder: &Path, mistakes: &mut Mistakes) -> Option<SourceKind> {
    let types = [
        ("serial", Type::Serial),
        ("camera_dir", Type::CameraDir),
        ("camera_command", Type::CameraCommand),
        ("exec", Type::Exec),
        ("iio", Type::Builtin(Builtin::Iio)),
        ("hwmon", Type::Builtin(Builtin::Hwmon)),
        ("w1", Type::Builtin(Builtin::W1)),
        ("host", Type::Builtin(Builtin::Host)),
        ("gpsd", Type::Builtin(Builtin::Gpsd)),
    ];
    let kind = value::word(raw.r#type.as_deref(), &types, None, &format!("{path}.type"), mistakes)?;
    let framing = match kind {
        Type::Serial => {
            value::word(raw.framing.as_deref(), &Bytes::ALL, None, &format!("{path}.framing"), mistakes)
        }
        _ => None,
    };
    only_known_keys(raw, kind, framing, path, mistakes);
    match kind {
        Type::Serial => {
            let port =
                required(raw.port.as_deref(), path, "port", "a port such as \"/dev/ttyUSB0\"", mistakes);
            let default = framing.map_or(115_200, Bytes::usual_baud);
            let baud = value::number(raw.baud, default, 300..=4_000_000, &format!("{path}.baud"), mistakes);
            let clocks = [("device", true), ("arrival", false)];
            let device_clock =
                value::word(raw.clock.as_deref(), &clocks, Some(true), &format!("{path}.clock"), mistakes);
            let characters = characters(raw, framing == Some(Bytes::Sbus), path, mistakes);
            let framing = match framing? {
                Bytes::Link => device_clock.map(|device_clock| Framing::Link { device_clock }),
                Bytes::Nmea => Some(Framing::Nmea),
                Bytes::Lines => lines(raw, path, LineFormat::Csv(b','), mistakes).map(Framing::Lines),
                of_a_device => protocol(raw, of_a_device, path, mistakes).map(Framing::Vendor),
            };
            let paced = raw.paced.unwrap_or(false);
            let line = SerialLine { port: folder.join(port?), baud: baud?, paced, characters: characters? };
            Some(SourceKind::Serial { line, framing: framing? })
        }
        Type::CameraDir => {
            let dir = required(raw.dir.as_deref(), path, "dir", "the folder pictures appear in", mistakes);
            let words = [("delete", After::Delete), ("keep", After::Keep)];
            let after = value::word(
                raw.after.as_deref(),
                &words,
                Some(After::Delete),
                &format!("{path}.after"),
                mistakes,
            );
            Some(SourceKind::CameraDir { dir: folder.join(dir?), after: after? })
        }
        Type::CameraCommand => {
            let command = command(raw, path, mistakes);
            let stamps = stamps(raw, path, mistakes);
            Some(SourceKind::CameraCommand { command: command?, stamps: stamps? })
        }
        Type::Exec => {
            let command = command(raw, path, mistakes);
            let formats = [("csv", LineFormat::Csv(b',')), ("json", LineFormat::Json)];
            let format = value::word(
                raw.format.as_deref(),
                &formats,
                Some(LineFormat::Csv(b',')),
                &format!("{path}.format"),
                mistakes,
            );
            let lines = lines(raw, path, format.unwrap_or(LineFormat::Json), mistakes);
            let once = raw.once.unwrap_or(false);
            Some(SourceKind::Exec { command: command?, once, lines: lines.filter(|_| format.is_some())? })
        }
        Type::Builtin(of) => builtin::kind(of, raw, path, folder, mistakes),
    }
}

/// The protocol of a device.
fn protocol(raw: &RawSource, framing: Bytes, path: &str, mistakes: &mut Mistakes) -> Option<VendorProtocol> {
    let mut asked = || protocols::interval(raw, 2_000, path, mistakes);
    Some(match framing {
        Bytes::Link | Bytes::Nmea | Bytes::Lines => return None,
        Bytes::Ubx => VendorProtocol::Ubx,
        Bytes::Pms5003 => VendorProtocol::Pms5003,
        Bytes::Sds011 => VendorProtocol::Sds011,
        Bytes::Mavlink => VendorProtocol::Mavlink,
        Bytes::Vedirect => VendorProtocol::Vedirect,
        Bytes::Sbus => VendorProtocol::Sbus,
        Bytes::Mhz19 => VendorProtocol::Mhz19(asked()?),
        Bytes::Scd30 => VendorProtocol::Scd30(asked()?),
        Bytes::Senseair => VendorProtocol::Senseair(asked()?),
        Bytes::Frames => return protocols::frames(raw, path, mistakes),
        Bytes::Modbus => return protocols::modbus(raw, path, mistakes),
    })
}

fn characters(raw: &RawSource, sbus: bool, path: &str, mistakes: &mut Mistakes) -> Option<Characters> {
    let words = [("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)];
    let usual = if sbus { Parity::Even } else { Parity::None };
    let parity = value::word(raw.parity.as_deref(), &words, Some(usual), &format!("{path}.parity"), mistakes);
    let bits: Option<u8> =
        value::number(raw.stop_bits, if sbus { 2 } else { 1 }, 1..=2, &format!("{path}.stop_bits"), mistakes);
    Some(Characters { parity: parity?, two_stop_bits: bits? == 2 })
}

fn only_known_keys(raw: &RawSource, kind: Type, framing: Option<Bytes>, path: &str, mistakes: &mut Mistakes) {
    let lines = kind == Type::Exec || framing == Some(Bytes::Lines);
    let command = matches!(kind, Type::CameraCommand | Type::Exec);
    // With an unknown framing nobody can say which keys belong to it.
    let unsure = kind == Type::Serial && framing.is_none();
    let json = kind == Type::Exec && raw.format.as_deref() == Some("json");
    let keys = [
        ("port", raw.port.is_some(), kind == Type::Serial),
        ("baud", raw.baud.is_some(), kind == Type::Serial),
        ("parity", raw.parity.is_some(), kind == Type::Serial),
        ("stop_bits", raw.stop_bits.is_some(), kind == Type::Serial),
        ("interval_ms", raw.interval_ms.is_some(), framing.is_some_and(Bytes::is_asked) || unsure),
        ("frame", raw.frame.is_some(), framing == Some(Bytes::Frames) || unsure),
        ("read", raw.read.is_some(), framing == Some(Bytes::Modbus) || unsure),
        ("paced", raw.paced.is_some(), kind == Type::Serial),
        ("clock", raw.clock.is_some(), framing == Some(Bytes::Link) || unsure),
        ("stamps", raw.stamps.is_some(), kind == Type::CameraCommand),
        ("framing", raw.framing.is_some(), kind == Type::Serial),
        ("kind", raw.kind.is_some(), lines || unsure),
        ("fields", raw.fields.is_some(), lines || unsure),
        ("separator", raw.separator.is_some(), (lines && !json) || unsure),
        ("format", raw.format.is_some(), kind == Type::Exec),
        ("command", raw.command.is_some(), command),
        ("once", raw.once.is_some(), kind == Type::Exec),
        ("dir", raw.dir.is_some(), matches!(kind, Type::CameraDir | Type::Builtin(Builtin::Host))),
        ("every", raw.every.is_some(), matches!(kind, Type::Builtin(of) if of != Builtin::Gpsd)),
        ("address", raw.address.is_some(), kind == Type::Builtin(Builtin::Gpsd)),
        ("receiver", raw.receiver.is_some(), kind == Type::Builtin(Builtin::Gpsd)),
        ("after", raw.after.is_some(), kind == Type::CameraDir),
        ("preview", raw.preview.is_some(), matches!(kind, Type::CameraDir | Type::CameraCommand)),
    ];
    for (key, _, _) in keys.iter().filter(|(_, set, allowed)| *set && !*allowed) {
        let what = raw.framing.as_deref().filter(|_| kind == Type::Serial).or(raw.r#type.as_deref());
        let expected = format!("only keys for {}", what.unwrap_or("this type"));
        mistakes.push(Mistake::new(format!("{path}.{key}"), expected, format!("`{key}`")));
    }
}

fn required<'a>(
    value: Option<&'a str>,
    path: &str,
    key: &str,
    expected: &str,
    mistakes: &mut Mistakes,
) -> Option<&'a str> {
    let value = value.filter(|value| !value.is_empty());
    if value.is_none() {
        mistakes.push(Mistake::new(format!("{path}.{key}"), expected, "nothing"));
    }
    value
}

fn command(raw: &RawSource, path: &str, mistakes: &mut Mistakes) -> Option<CommandLine> {
    match raw.command.as_deref().and_then(<[String]>::split_first) {
        Some((program, args)) if !program.is_empty() => {
            Some(CommandLine { program: program.clone(), args: args.to_vec() })
        }
        _ => {
            let expected = "a program and its arguments, such as [\"sh\", \"-c\", \"…\"]";
            mistakes.push(Mistake::new(format!("{path}.command"), expected, "nothing"));
            None
        }
    }
}

/// Who says when frames were exposed, if anybody; the command must name the file it says it in.
fn stamps(raw: &RawSource, path: &str, mistakes: &mut Mistakes) -> Option<Option<FrameStamps>> {
    let words = [("rpicam", Some(FrameStamps::Rpicam)), ("v4l2-ctl", Some(FrameStamps::V4l2Ctl))];
    let path = format!("{path}.stamps");
    let stamps = value::word(raw.stamps.as_deref(), &words, Some(None), &path, mistakes)?;
    let named = raw.command.iter().flatten().any(|arg| arg.contains(STAMPS_PLACE));
    match (stamps, named) {
        (Some(_), false) => {
            let mistake = Mistake::new(path, format!("a command with {STAMPS_PLACE} in it"), "none");
            let hint = "\"--metadata\", \"{stamps}\" for rpicam-vid; sh -c \"exec v4l2-ctl --verbose … 2> {stamps}\"";
            mistakes.push(mistake.hint(hint));
            None
        }
        (None, true) => {
            let found = format!("nothing, though the command has {STAMPS_PLACE}");
            mistakes.push(Mistake::new(path, "one of rpicam, v4l2-ctl", found));
            None
        }
        (stamps, _) => Some(stamps),
    }
}

fn lines(raw: &RawSource, path: &str, format: LineFormat, mistakes: &mut Mistakes) -> Option<LineSettings> {
    let kind: Option<KindName> =
        kind_name(raw.kind.as_deref(), &format!("{path}.kind"), mistakes).and_then(|kind| kind.parse().ok());
    let format = match (format, raw.separator.as_deref()) {
        (LineFormat::Csv(_), Some(separator)) => match separator.as_bytes() {
            [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\r\n.+-".contains(byte) => {
                Some(LineFormat::Csv(*byte))
            }
            _ => {
                let found = format!("{separator:?}");
                let expected = "one character that is no letter, digit or sign";
                mistakes.push(Mistake::new(format!("{path}.separator"), expected, found));
                None
            }
        },
        (format, _) => Some(format),
    };
    let fields = fields(raw.fields.as_deref().unwrap_or_default(), path, mistakes);
    let schema =
        Schema { salt: 0, kind: kind?, modality: Modality::Scalars, time_exp: TIME_EXP, fields: fields? };
    if let Err(error) = schema.check() {
        mistakes.push(Mistake::new(format!("{path}.fields"), "a valid schema", error.to_string()));
        return None;
    }
    Some(LineSettings { schema, format: format? })
}

/// The table rows go to, which is none of the agent's own.
pub(super) fn kind_name(raw: Option<&str>, path: &str, mistakes: &mut Mistakes) -> Option<String> {
    let expected = "the table these rows go to, such as \"env\"";
    let kind: KindName = value::name(raw, path, expected, "streams of one kind share a table", mistakes)?;
    if RESERVED_KINDS.contains(&kind.as_str()) {
        let found = format!("{:?}", kind.as_str());
        mistakes.push(Mistake::new(path, "a kind of your own", found).hint("this one is built in"));
        return None;
    }
    Some(kind.to_string())
}

fn fields(raw: &[RawField], path: &str, mistakes: &mut Mistakes) -> Option<Vec<Field>> {
    if raw.is_empty() {
        let expected = "at least one field";
        let hint = "write fields = [ { name = \"temperature\", type = \"f64\", unit = \"Cel\" } ]";
        mistakes.push(Mistake::new(format!("{path}.fields"), expected, "nothing").hint(hint));
        return None;
    }
    let mut seen: BTreeMap<FieldName, usize> = BTreeMap::new();
    let fields: Vec<Option<Field>> = raw
        .iter()
        .enumerate()
        .map(|(at, raw)| {
            let path = format!("{path}.fields[{at}]");
            let name_path = format!("{path}.name");
            let name: Option<FieldName> =
                value::name(raw.name.as_deref(), &name_path, "a field name", "", mistakes);
            if let Some(name) = &name
                && let Some(first) = seen.insert(name.clone(), at)
            {
                let found = format!("{:?}, as fields[{first}] is named", name.as_str());
                mistakes.push(Mistake::new(name_path, "a name of its own", found));
            }
            let logical = logical(raw, &path, mistakes);
            let unit = unit_of(raw.unit.as_deref(), &format!("{path}.unit"), mistakes);
            Some(Field {
                name: name?,
                logical: logical?,
                nullable: raw.optional.unwrap_or(false),
                unit: unit?,
            })
        })
        .collect();
    fields.into_iter().collect()
}

fn logical(raw: &RawField, path: &str, mistakes: &mut Mistakes) -> Option<Logical> {
    let name = raw.r#type.as_deref().unwrap_or("f64");
    let logical = Logical::from_name(name).filter(|l| !matches!(l, Logical::Bytes | Logical::Blob));
    if logical.is_none() {
        let expected = "one of bool, i8, i16, i32, i64, u8, u16, u32, u64, f32, f64, utf8";
        mistakes.push(Mistake::new(format!("{path}.type"), expected, format!("{name:?}")));
    }
    logical
}

pub(super) fn unit_of(raw: Option<&str>, path: &str, mistakes: &mut Mistakes) -> Option<String> {
    let Some(unit) = raw else {
        let hint = "\"1\" for a number without a unit";
        mistakes.push(Mistake::new(path, "a UCUM unit such as \"Cel\" or \"m/s2\"", "nothing").hint(hint));
        return None;
    };
    match check_unit(unit) {
        Ok(()) => Some(unit.to_owned()),
        Err(error) => {
            let mut mistake = Mistake::new(path, "a UCUM unit", format!("{unit:?}"));
            if !error.hint.is_empty() {
                mistake = mistake.hint(error.hint.trim_start_matches("; "));
            }
            mistakes.push(mistake);
            None
        }
    }
}
