//! `method` and the keys that belong to it.

use super::super::duration::show;
use super::super::keys::{self, METHOD_KEYS, METHOD_NAMES, METHODS, MethodKeys};
use super::super::model::{AltitudeDatum, Between, EarthModel, Method, WindowStat};
use super::super::reader::Reader;
use super::COLUMN_REACH_MAX_NS;
use headwater_core::id::FieldName;
use toml::Table;

/// Statistics in the order of [`keys::STATS`].
const STATS: [WindowStat; 8] = [
    WindowStat::Mean,
    WindowStat::Min,
    WindowStat::Max,
    WindowStat::Std,
    WindowStat::Sum,
    WindowStat::Count,
    WindowStat::First,
    WindowStat::Last,
];

impl Reader {
    pub(super) fn method(&mut self, table: &Table, within: &str, select: &[FieldName]) -> Option<Method> {
        if !table.contains_key("method") {
            let text = format!("missing; write one of {}", METHOD_NAMES.join(", "));
            self.mistake(format!("{within}method"), text);
        }
        let place = self.word(table, within, "method", &METHOD_NAMES)?;
        let keys = METHODS.get(place)?;
        self.foreign_keys(table, within, keys);
        for needed in keys.needs.iter().filter(|key| !table.contains_key(**key)) {
            let text = format!("missing; {} needs it, e.g. `{}`", keys.name, example(needed));
            self.mistake(format!("{within}{needed}"), text);
        }
        match keys.name {
            "previous" | "next" | "nearest" => self.single(table, within, keys.name),
            "linear" => Some(Method::Linear(self.between(table, within)?)),
            "slerp" => {
                if !select.is_empty() && select.len() != 4 {
                    let text = format!(
                        "slerp turns a unit quaternion: four fields in the order w, x, y, z, found {}",
                        select.len()
                    );
                    self.mistake(format!("{within}select"), text);
                }
                Some(Method::Slerp(self.between(table, within)?))
            }
            "geodesic" => self.geodesic(table, within, select),
            "window" => self.window(table, within),
            _ => self.list(table, within),
        }
    }

    /// Keys of other methods, with what this one takes instead.
    fn foreign_keys(&mut self, table: &Table, within: &str, method: &MethodKeys) {
        let own = |key: &str| method.needs.contains(&key) || method.takes.contains(&key);
        for key in METHOD_KEYS.into_iter().filter(|key| table.contains_key(*key) && !own(key)) {
            let name = method.name;
            let text = match (key, name) {
                ("tolerance", "linear" | "slerp" | "geodesic") => format!(
                    "{name} lies between two neighbours and takes max_gap, their greatest distance; tolerance bounds one match"
                ),
                ("max_gap", "previous" | "next" | "nearest") => format!(
                    "{name} takes one sample and a tolerance, its greatest distance; max_gap bounds two neighbours"
                ),
                ("tolerance" | "max_gap", _) => format!("{name} takes the span of its window and no {key}"),
                _ => {
                    let takers =
                        METHODS.iter().filter(|of| of.needs.contains(&key) || of.takes.contains(&key));
                    let takers: Vec<&str> = takers.map(|of| of.name).collect();
                    format!("{name} does not take it; it belongs to {}", takers.join(", "))
                }
            };
            self.mistake(format!("{within}{key}"), text);
        }
    }

    fn reach(&mut self, table: &Table, within: &str, key: &str) -> Option<i64> {
        let ns = self.optional_duration(table, within, key)?;
        if ns > COLUMN_REACH_MAX_NS {
            self.mistake(format!("{within}{key}"), "beyond a year, the furthest a column may reach");
        }
        Some(ns)
    }

    fn single(&mut self, table: &Table, within: &str, name: &str) -> Option<Method> {
        let tolerance_ns = self.reach(table, within, "tolerance")?;
        Some(match name {
            "previous" => Method::Previous { tolerance_ns },
            "next" => Method::Next { tolerance_ns },
            _ => Method::Nearest { tolerance_ns },
        })
    }

    fn between(&mut self, table: &Table, within: &str) -> Option<Between> {
        let extrapolate_ns = self.reach(table, within, "extrapolate").unwrap_or(0);
        let max_gap_ns = self.reach(table, within, "max_gap")?;
        if max_gap_ns == 0 {
            let text =
                "leaves nothing but exact hits; write method \"previous\" with tolerance \"0s\" for those";
            self.mistake(format!("{within}max_gap"), text);
        }
        if extrapolate_ns > max_gap_ns {
            let text = format!(
                "{} is beyond the gap of {}: what is too far apart to interpolate is too far to extrapolate",
                show(extrapolate_ns),
                show(max_gap_ns)
            );
            self.mistake(format!("{within}extrapolate"), text);
        }
        Some(Between { max_gap_ns, extrapolate_ns })
    }

    fn geodesic(&mut self, table: &Table, within: &str, select: &[FieldName]) -> Option<Method> {
        let within_geodesic = format!("{within}geodesic.");
        let (mut model, mut datum) = (EarthModel::Wgs84, None);
        let hint = "geodesic = { model = \"wgs84\", datum = \"msl\" }";
        if let Some(inner) = self.table(table, within, "geodesic", hint) {
            self.known(inner, &within_geodesic, keys::GEODESIC);
            if self.word(inner, &within_geodesic, "model", &["wgs84", "great_circle"]) == Some(1) {
                model = EarthModel::GreatCircle;
            }
            self.word(inner, &within_geodesic, "altitude", &["linear"]);
            let place = self.word(inner, &within_geodesic, "datum", &["hae", "msl"]);
            datum = place.and_then(|place| [AltitudeDatum::Hae, AltitudeDatum::Msl].get(place).copied());
        }
        let names: Vec<&str> = select.iter().map(FieldName::as_str).collect();
        match names.as_slice() {
            [] => {}
            [first, second, ..] if first.starts_with("lon") && second.starts_with("lat") => {
                let text = format!("geodesic takes latitude first; write [\"{second}\", \"{first}\", …]");
                self.mistake(format!("{within}select"), text);
            }
            [_, _] if datum.is_some() => {
                self.mistake(format!("{within_geodesic}datum"), "no altitude is selected; leave it out");
            }
            [_, _, _] if datum.is_none() => {
                let text = "missing; altitudes of two datums are never mixed: write \"hae\" (above the ellipsoid) or \"msl\"";
                self.mistake(format!("{within_geodesic}datum"), text);
            }
            [_, _] | [_, _, _] => {}
            more => {
                let text = format!(
                    "geodesic takes latitude, longitude and perhaps altitude, found {} fields",
                    more.len()
                );
                self.mistake(format!("{within}select"), text);
            }
        }
        Some(Method::Geodesic { between: self.between(table, within)?, model, datum })
    }

    fn span(&mut self, table: &Table, within: &str) -> Option<(i64, i64)> {
        let inner = self.table(table, within, "window", example("window"))?;
        let within = format!("{within}window.");
        self.known(inner, &within, keys::WINDOW);
        for key in ["from", "to"] {
            if !inner.contains_key(key) {
                self.mistake(format!("{within}{key}"), format!("missing; e.g. `{}`", example("window")));
            }
        }
        let (from_ns, to_ns) = (self.shift(inner, &within, "from"), self.shift(inner, &within, "to"));
        let (from_ns, to_ns) = (from_ns?, to_ns?);
        if from_ns >= to_ns {
            let text = format!("{} is not after from, {}: the window is empty", show(to_ns), show(from_ns));
            self.mistake(format!("{within}to"), text);
        }
        for (key, ns) in [("from", from_ns), ("to", to_ns)] {
            if ns.unsigned_abs() > COLUMN_REACH_MAX_NS.unsigned_abs() {
                self.mistake(format!("{within}{key}"), "beyond a year, the furthest a column may reach");
            }
        }
        Some((from_ns, to_ns))
    }

    fn window(&mut self, table: &Table, within: &str) -> Option<Method> {
        let span = self.span(table, within);
        let places = self.words(table, within, "stats", keys::STATS);
        let min_count = self.count(table, within, "min_count", (1, 1_000_000)).unwrap_or(1);
        let stats = places?.iter().filter_map(|place| STATS.get(*place)).copied().collect();
        let (from_ns, to_ns) = span?;
        Some(Method::Window { from_ns, to_ns, stats, min_count })
    }

    fn list(&mut self, table: &Table, within: &str) -> Option<Method> {
        let span = self.span(table, within);
        let max_items = self.count(table, within, "max_items", (1, keys::LIST_ITEMS_MAX));
        let ((from_ns, to_ns), max_items) = (span?, max_items?);
        Some(Method::List { from_ns, to_ns, max_items })
    }
}

/// How a key of a method is written.
fn example(key: &str) -> &'static str {
    match key {
        "tolerance" => "tolerance = \"1s\"",
        "max_gap" => "max_gap = \"50ms\"",
        "window" => "window = { from = \"-1s\", to = \"0s\" }",
        "stats" => "stats = [\"mean\", \"std\"]",
        _ => "max_items = 50",
    }
}
