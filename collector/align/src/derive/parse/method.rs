//! The method of a `[[derive]]` table.

use super::{command, fence, formula, needed, number, positive, span};
use crate::derive::keys::{self, METHODS};
use crate::derive::port::Files;
use crate::derive::{Band, Derivation, Fix, ListStat, MotionFeature, PictureFeature, Sampling, Taper};
use crate::recipe::EarthModel;
use crate::recipe::reader::Reader;
use headwater_core::schema::{check_unit, conversion};
use toml::{Table, Value};

/// Methods whose result has the unit that is declared; the others' is fixed.
const WITH_UNIT: [&str; 4] = ["expression", "convert", "list", "command"];

pub(super) fn unit(reader: &mut Reader, table: &Table, within: &str) -> Option<String> {
    let unit = reader.text(table, within, "unit")?;
    let fixed = METHODS.iter().find(|method| table.contains_key(**method) && !WITH_UNIT.contains(*method));
    if let Some(method) = fixed {
        reader.mistake(format!("{within}unit"), format!("the unit of {method} is its own; leave it out"));
        return None;
    }
    match check_unit(&unit) {
        Ok(()) => Some(unit),
        Err(error) => {
            reader.mistake(format!("{within}unit"), format!("{error}"));
            None
        }
    }
}

pub(super) fn read(
    reader: &mut Reader,
    table: &Table,
    within: &str,
    unit: Option<&str>,
    files: &dyn Files,
) -> Option<Derivation> {
    let given: Vec<&str> = METHODS.iter().copied().filter(|method| table.contains_key(*method)).collect();
    let [method] = given.as_slice() else {
        let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
        let text = format!("expected one of {}; found {found}", METHODS.join(", "));
        reader.mistake(within.trim_end_matches('.'), text);
        return None;
    };
    if *method == "expression" {
        return Some(Derivation::Expression { formula: formula(reader, table, within, "expression")? });
    }
    let (method, place) = (*method, format!("{within}{method}."));
    let known = keys::DERIVE.iter().find(|key| key.name == method)?;
    let inner = reader.table(table, within, method, &format!("write `{method} = {{ ... }}`"))?;
    if let crate::recipe::keys::Shape::Table(known) = known.shape {
        reader.known(inner, &place, known);
    }
    match method {
        "convert" => convert(reader, inner, &place, unit),
        "list" => {
            let column = needed(reader, inner, &place, "column", "motion_accel_x");
            let stat = stat(reader, inner, &place);
            Some(Derivation::List { column: column?, stat: stat? })
        }
        "band" => band(reader, inner, &place).map(Derivation::Band),
        "picture" => picture(reader, inner, &place),
        "motion" => motion(reader, inner, &place),
        "geohash" => {
            let length = small(reader, inner, &place, "length", (1, 12), 7);
            Some(Derivation::Geohash { fix: fix(reader, inner, &place)?, length: length? })
        }
        "h3" => {
            let resolution = small(reader, inner, &place, "resolution", (0, 15), 9);
            Some(Derivation::H3 { fix: fix(reader, inner, &place)?, resolution: resolution? })
        }
        "geofence" => {
            let fences = fence::read(reader, inner, &place, files);
            Some(Derivation::Geofence { fix: fix(reader, inner, &place)?, fences: fences? })
        }
        _ => command::read(reader, inner, &place, files).map(Derivation::Command),
    }
}

/// A small number with a default; `None` if what is written is wrong.
fn small(
    reader: &mut Reader,
    table: &Table,
    within: &str,
    key: &str,
    bounds: (u32, u32),
    default: u8,
) -> Option<u8> {
    if !table.contains_key(key) {
        return Some(default);
    }
    reader.count(table, within, key, bounds).and_then(|value| u8::try_from(value).ok())
}

pub(super) fn fix(reader: &mut Reader, table: &Table, within: &str) -> Option<Fix> {
    let lat = needed(reader, table, within, "lat", "place_lat");
    let lon = needed(reader, table, within, "lon", "place_lon");
    Some(Fix { lat: lat?, lon: lon? })
}

fn convert(reader: &mut Reader, table: &Table, within: &str, unit: Option<&str>) -> Option<Derivation> {
    let column = needed(reader, table, within, "column", "air_temperature");
    let from = needed(reader, table, within, "from", "K")?;
    let Some(unit) = unit else {
        let path = within.strip_suffix("convert.").unwrap_or(within);
        reader.mistake(format!("{path}unit"), "convert needs the unit wanted, e.g. `unit = \"Cel\"`");
        return None;
    };
    match (check_unit(&from), conversion(&from, unit)) {
        (Err(error), _) => reader.mistake(format!("{within}from"), format!("{error}")),
        (_, None) => {
            reader.mistake(format!("{within}from"), format!("UCUM knows no way from {from} to {unit}"))
        }
        _ => return Some(Derivation::Convert { column: column?, from }),
    }
    None
}

fn stat(reader: &mut Reader, table: &Table, within: &str) -> Option<ListStat> {
    needed(reader, table, within, "stat", "mean")?;
    Some(match reader.word(table, within, "stat", keys::LIST_STATS)? {
        0 => ListStat::Mean,
        1 => ListStat::Min,
        2 => ListStat::Max,
        3 => ListStat::Std,
        4 => ListStat::Sum,
        5 => ListStat::Count,
        6 => ListStat::First,
        7 => ListStat::Last,
        8 => ListStat::Median,
        9 => ListStat::Rms,
        10 => ListStat::Range,
        _ => ListStat::Energy,
    })
}

fn band(reader: &mut Reader, table: &Table, within: &str) -> Option<Band> {
    let column = needed(reader, table, within, "column", "motion_accel_z");
    let sampling = match (table.contains_key("rate_hz"), table.contains_key("times")) {
        (true, false) => positive(reader, table, within, "rate_hz", "250").map(Sampling::Rate),
        (false, true) => reader.text(table, within, "times").map(Sampling::Times),
        _ => {
            reader.mistake(
                format!("{within}rate_hz"),
                "expected `rate_hz`, or `times` with the list of times; one of both",
            );
            None
        }
    };
    if !table.contains_key("lo_hz") {
        reader.mistake(format!("{within}lo_hz"), "missing; e.g. `lo_hz = 10`");
    }
    let lo_hz = number(reader, table, within, "lo_hz");
    let hi_hz = positive(reader, table, within, "hi_hz", "50");
    let taper = match reader.word(table, within, "taper", keys::TAPERS) {
        Some(0) => Taper::None,
        _ => Taper::Hann,
    };
    let (lo_hz, hi_hz) = (lo_hz?, hi_hz?);
    if lo_hz < 0.0 || lo_hz >= hi_hz {
        reader.mistake(
            format!("{within}lo_hz"),
            format!("expected a frequency from 0 to below hi_hz = {hi_hz}"),
        );
        return None;
    }
    if let Some(Sampling::Rate(rate_hz)) = sampling
        && lo_hz > rate_hz / 2.0
    {
        let text =
            format!("{lo_hz} Hz is above half of rate_hz = {rate_hz}: samples that slow cannot show it");
        reader.mistake(format!("{within}lo_hz"), text);
    }
    Some(Band { column: column?, sampling: sampling?, lo_hz, hi_hz, taper })
}

fn picture(reader: &mut Reader, table: &Table, within: &str) -> Option<Derivation> {
    let column = needed(reader, table, within, "column", "frame_image");
    needed(reader, table, within, "feature", "sharpness")?;
    let place = reader.word(table, within, "feature", keys::PICTURE_FEATURES)?;
    let mut side = |key: &str| match table.get(key) {
        None => Some(320),
        Some(_) => reader.count(table, within, key, (1, 4_096)).and_then(|side| u16::try_from(side).ok()),
    };
    let (width_max, height_max) = (side("width_max"), side("height_max"));
    let quality = small(reader, table, within, "quality", (1, 100), 80);
    let feature = match place {
        0 => PictureFeature::Width,
        1 => PictureFeature::Height,
        2 => PictureFeature::Brightness,
        3 => PictureFeature::Contrast,
        4 => PictureFeature::Sharpness,
        5 => PictureFeature::Hash,
        _ => PictureFeature::Thumbnail { width_max: width_max?, height_max: height_max?, quality: quality? },
    };
    if !matches!(feature, PictureFeature::Thumbnail { .. }) {
        for key in ["width_max", "height_max", "quality"].into_iter().filter(|key| table.contains_key(*key)) {
            reader.mistake(format!("{within}{key}"), "only a thumbnail has it");
        }
    }
    Some(Derivation::Picture { column: column?, feature })
}

fn motion(reader: &mut Reader, table: &Table, within: &str) -> Option<Derivation> {
    let fix = fix(reader, table, within);
    let feature = needed(reader, table, within, "feature", "speed")
        .and_then(|_| reader.word(table, within, "feature", keys::MOTION_FEATURES));
    let max_gap_ns = span(reader, table, within, "max_gap", "3s");
    let model = match reader.word(table, within, "model", keys::EARTH) {
        Some(1) => EarthModel::GreatCircle,
        _ => EarthModel::Wgs84,
    };
    let feature = match feature? {
        0 => MotionFeature::Speed,
        1 => MotionFeature::Distance,
        _ => MotionFeature::Heading,
    };
    Some(Derivation::Motion { fix: fix?, feature, max_gap_ns: max_gap_ns?, model })
}

/// Texts of a list that may be there.
pub(super) fn texts(reader: &mut Reader, table: &Table, within: &str, key: &str) -> Vec<String> {
    let items = match table.get(key) {
        None => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => {
            reader.mistake(format!("{within}{key}"), "expected a list of texts");
            return Vec::new();
        }
    };
    let mut read = Vec::new();
    for (place, item) in items.iter().enumerate() {
        match item.as_str() {
            Some(text) => read.push(text.to_owned()),
            None => reader.mistake(format!("{within}{key}[{place}]"), "expected text in quotes"),
        }
    }
    read
}
