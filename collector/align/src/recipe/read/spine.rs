//! `[spine]`: what gives the instants.

use super::super::keys;
use super::super::model::{Spine, SpineSource};
use super::super::reader::Reader;
use headwater_core::id::FieldName;
use headwater_core::time::{Grade, StampKind};
use toml::value::{Datetime, Offset};
use toml::{Table, Value};

/// Shortest period of a grid, ns: 10 kHz, above which a day is a thousand million rows.
const GRID_PERIOD_MIN_NS: i64 = 100_000;
/// Ways to give instants.
const SOURCES: [&str; 4] = ["stream", "grid", "union", "event"];
const NS_PER_S: i128 = 1_000_000_000;

impl Reader {
    pub(super) fn spine(&mut self, table: &Table) -> Option<Spine> {
        self.known(table, "spine.", keys::SPINE);
        let source = self.spine_source(table);
        let grades = [Grade::Guaranteed, Grade::Estimated, Grade::OrderingOnly];
        let min_grade = self.word(table, "spine.", "min_grade", keys::GRADES);
        let min_grade = min_grade.and_then(|place| grades.get(place)).copied().unwrap_or(Grade::Estimated);
        let max_err_ns = self.optional_duration(table, "spine.", "max_err");
        Some(Spine { source: source?, min_grade, max_err_ns })
    }

    fn spine_source(&mut self, table: &Table) -> Option<SpineSource> {
        let given: Vec<&str> = SOURCES.into_iter().filter(|key| table.contains_key(*key)).collect();
        let one = match given.as_slice() {
            [] => {
                self.mistake("spine", "missing its source: write one of stream, grid, union, event; e.g. `stream = \"camera/front\"`");
                return None;
            }
            [one] => *one,
            more => {
                self.mistake("spine", format!("{} exclude each other; keep one", more.join(" and ")));
                return None;
            }
        };
        if one != "stream" && table.contains_key("at") {
            self.mistake(
                "spine.at",
                format!("asks one stream for its stamp kind, and the spine is a {one}; leave it out"),
            );
        }
        let has_fields = matches!(one, "stream" | "event");
        if !has_fields && table.contains_key("select") {
            let text = format!(
                "a {one} has no fields of its own; take them by a [[column]] with method \"previous\" and tolerance \"0s\""
            );
            self.mistake("spine.select", text);
        }
        let mut select: Vec<FieldName> = Vec::new();
        if has_fields && table.contains_key("select") {
            select = self.names(table, "spine.", "select", "\"image\"");
        }
        match one {
            "stream" => {
                let kinds = (0..=4).filter_map(StampKind::from_code);
                let at = self.word(table, "spine.", "at", keys::STAMP_KINDS);
                let at = at.and_then(|place| keys::STAMP_KINDS.get(place));
                let at = at.and_then(|name| kinds.into_iter().find(|kind| kind.as_str() == *name));
                let stream = self.name(table, "spine.", "stream", "camera/front")?;
                Some(SpineSource::Stream { stream, at, select })
            }
            "grid" => self.grid(table),
            "union" => self.union(table),
            _ => self.event(table, select),
        }
    }

    fn union(&mut self, table: &Table) -> Option<SpineSource> {
        let mut streams = self.names(table, "spine.", "union", "\"imu\", \"gps\"");
        let listed = table.get("union").and_then(Value::as_array).map_or(0, Vec::len);
        if listed == 1 {
            self.mistake("spine.union", "names one stream; write `stream = \"…\"` instead");
        }
        streams.sort();
        (streams.len() > 1).then_some(SpineSource::Union { streams })
    }

    fn event(&mut self, table: &Table, select: Vec<FieldName>) -> Option<SpineSource> {
        let hint = "event = { stream = \"button\", where = \"pressed = true\" }";
        let event = self.table(table, "spine.", "event", hint)?;
        self.known(event, "spine.event.", keys::EVENT);
        let stream = self.name(event, "spine.event.", "stream", "button");
        if !event.contains_key("where") {
            self.mistake("spine.event.where", "missing; e.g. `where = \"speed > 5\"`");
        }
        let when = self.condition(event, "spine.event.", "where");
        Some(SpineSource::Event { stream: stream?, when: when?, select })
    }

    fn grid(&mut self, table: &Table) -> Option<SpineSource> {
        let grid = self.table(table, "spine.", "grid", "grid = { period = \"100ms\" }")?;
        self.known(grid, "spine.grid.", keys::GRID);
        let period = self.duration(grid, "spine.grid.", "period", "100ms");
        let phase_ns = self.optional_duration(grid, "spine.grid.", "phase").unwrap_or(0);
        let epoch_ns = self.moment(grid, "spine.grid.", "epoch").unwrap_or(0);
        let period_ns = period?;
        if period_ns < GRID_PERIOD_MIN_NS {
            self.mistake(
                "spine.grid.period",
                "below 100us, which is ten thousand rows a second of one entity",
            );
        } else if phase_ns >= period_ns {
            self.mistake("spine.grid.phase", "not below the period; take whole periods away");
        }
        Some(SpineSource::Grid { period_ns, phase_ns, epoch_ns })
    }

    /// A UTC instant, ns.
    fn moment(&mut self, table: &Table, within: &str, key: &str) -> Option<i64> {
        let read = match table.get(key)? {
            Value::Datetime(moment) => nanos(moment),
            // As the canonical form has it: ns since 1970.
            Value::String(text) if text.ends_with("ns") => super::super::duration::parse(text),
            Value::String(text) => text.parse::<Datetime>().ok().as_ref().and_then(nanos),
            _ => None,
        };
        if read.is_none() {
            let text = "expected an instant with its zone, 1678 to 2261, e.g. 2026-01-01T00:00:00Z";
            self.mistake(format!("{within}{key}"), text);
        }
        read
    }
}

/// UTC ns of a date, a time and a zone; `None` if one of them is missing or it is out of range.
fn nanos(moment: &Datetime) -> Option<i64> {
    let (date, time) = (moment.date?, moment.time?);
    let offset_min = match moment.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i128::from(minutes),
    };
    // Days from the civil calendar: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    let (y, m, d) = (i128::from(date.year), i128::from(date.month), i128::from(date.day));
    let y = if m <= 2 { y - 1 } else { y };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * (m + if m > 2 { -3 } else { 9 }) + 2) / 5 + d - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let (hour, minute) = (i128::from(time.hour), i128::from(time.minute));
    let second = i128::from(time.second.unwrap_or(0));
    let seconds = days * 86_400 + hour * 3_600 + (minute - offset_min) * 60 + second;
    i64::try_from(seconds * NS_PER_S + i128::from(time.nanosecond.unwrap_or(0))).ok()
}

#[cfg(test)]
mod tests {
    use super::nanos;

    #[test]
    fn instants_are_utc() {
        for (text, ns) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-28T16:30:00.5Z", Some(1_795_883_400_500_000_000)),
            ("2024-02-29T23:00:00-02:00", Some(1_709_254_800_000_000_000)),
            ("1969-12-31T23:59:59Z", Some(-1_000_000_000)),
            ("2026-11-28T16:30:00", None),
            ("2026-11-28", None),
            ("9999-01-01T00:00:00Z", None),
        ] {
            assert_eq!(nanos(&text.parse().unwrap()), ns, "{text}");
        }
    }
}
