//! A recipe against what the fleet declares: unknown streams and fields, types a method cannot bear, units that do not meet.

use super::declared::{Class, Declared, DeclaredField};
use super::mistake::Mistake;
use super::model::{
    AltitudeDatum, Column, Condition, Constant, Entity, Fallback, Method, Recipe, SpineSource, WindowStat,
};
use super::nearest;
use headwater_core::id::{FieldName, StreamName};
use headwater_core::schema::conversion;

/// Names listed where nothing is near.
const NAMES_SHOWN: usize = 12;
/// Fields whose values turn over at a full circle.
const ROUND: [&str; 8] = ["cog", "course", "heading", "yaw", "azimuth", "bearing", "lon", "longitude"];

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The recipe cannot do what it says.
    pub mistakes: Vec<Mistake>,
    /// It can, and may not mean it.
    pub warnings: Vec<Mistake>,
}

impl Findings {
    fn mistake(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.mistakes.push(Mistake { path: path.into(), text: text.into() });
    }

    fn warn(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.warnings.push(Mistake { path: path.into(), text: text.into() });
    }
}

impl Recipe {
    /// Compares it with what the fleet declares.
    #[must_use]
    pub fn check(&self, declared: &Declared) -> Findings {
        let mut findings = Findings::default();
        let mut check = Check { declared, findings: &mut findings };
        check.spine(&self.spine.source);
        for (place, column) in self.columns.iter().enumerate() {
            check.column(&format!("column[{place}]"), column);
        }
        check.together(self);
        findings
    }
}

struct Check<'a> {
    declared: &'a Declared,
    findings: &'a mut Findings,
}

impl Check<'_> {
    fn spine(&mut self, source: &SpineSource) {
        match source {
            SpineSource::Stream { stream, at, select } => {
                if !self.stream("spine.stream", stream) {
                    return;
                }
                self.select("spine", stream, select);
                let kinds = self.declared.streams.get(stream).into_iter().flatten();
                let stamps: Vec<_> = kinds.flat_map(|(_, of)| &of.stamps).collect();
                if let Some(at) = at
                    && !stamps.is_empty()
                    && !stamps.contains(&at)
                {
                    let given: Vec<&str> = stamps.iter().map(|kind| kind.as_str()).collect();
                    let (at, given) = (at.as_str(), given.join(", "));
                    self.findings.mistake(
                        "spine.at",
                        format!("{stream} is stamped at {given}, never at {at}: no row would be left; write at = \"{given}\", or leave it out"),
                    );
                }
            }
            SpineSource::Union { streams } => {
                for (place, stream) in streams.iter().enumerate() {
                    self.stream(&format!("spine.union[{place}]"), stream);
                }
            }
            SpineSource::Event { stream, when, select } => {
                if self.stream("spine.event.stream", stream) {
                    self.select("spine", stream, select);
                    self.condition(stream, when);
                }
            }
            SpineSource::Grid { .. } => {}
        }
    }

    fn stream(&mut self, path: &str, stream: &StreamName) -> bool {
        let Some(kinds) = self.declared.streams.get(stream) else {
            let names = || self.declared.streams.keys().map(StreamName::as_str);
            let hint = nearest::hint(stream.as_str(), names());
            let shown: Vec<&str> = names().take(NAMES_SHOWN).collect();
            let more = self.declared.streams.len().saturating_sub(shown.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let known = if shown.is_empty() { "none yet".to_owned() } else { shown.join(", ") + &more };
            self.findings.mistake(path, format!("no device declares {stream}{hint}; declared: {known}"));
            return false;
        };
        if kinds.len() > 1 {
            let names: Vec<&str> = kinds.keys().map(|kind| kind.as_str()).collect();
            let text = format!("{stream} is of several kinds ({}), each read where it is", names.join(", "));
            self.findings.warn(path, text);
        }
        true
    }

    fn select(&mut self, within: &str, stream: &StreamName, select: &[FieldName]) {
        for (place, field) in select.iter().enumerate() {
            self.field(&format!("{within}.select[{place}]"), stream, field);
        }
    }

    fn field(&mut self, path: &str, stream: &StreamName, field: &FieldName) -> bool {
        if self.declared.fields(stream, field).next().is_some() {
            return true;
        }
        let kinds = self.declared.streams.get(stream).into_iter().flatten();
        let known: Vec<&str> = kinds.flat_map(|(_, of)| of.fields.keys().map(FieldName::as_str)).collect();
        let hint = nearest::hint(field.as_str(), known.iter().copied());
        let text = format!("{stream} has no field {field}{hint}; it has {}", known.join(", "));
        self.findings.mistake(path, text);
        false
    }

    fn condition(&mut self, stream: &StreamName, when: &Condition) {
        let path = "spine.event.where";
        if !self.field(path, stream, &when.field) {
            return;
        }
        let declared = self.declared;
        for (_, found) in declared.fields(stream, &when.field) {
            let (class, name) = (Class::of(&found.logical), found.logical.name());
            let fits = match &when.value {
                Constant::Number(_) => class == Class::Number,
                Constant::Text(_) => class == Class::Text,
                Constant::Bool(_) => class == Class::Truth,
            };
            if !fits {
                self.findings
                    .mistake(path, format!("{} is {name} and is compared with another type", when.field));
            }
        }
    }

    fn column(&mut self, within: &str, column: &Column) {
        if !self.stream(&format!("{within}.stream"), &column.stream) {
            return;
        }
        if let Some(device) = &column.device
            && !self.declared.devices(&column.stream).contains(device)
        {
            self.findings
                .mistake(format!("{within}.device"), format!("{device} declares no {}", column.stream));
        }
        let declared = self.declared;
        for (place, field) in column.select.iter().enumerate() {
            let path = format!("{within}.select[{place}]");
            if !self.field(&path, &column.stream, field) {
                continue;
            }
            for (_, found) in declared.fields(&column.stream, field) {
                self.method(&path, column, place, field, found);
                self.unit(within, column, field, found);
                self.fallback(within, column, field, found);
            }
        }
    }

    /// Whether the method can bear the field's type.
    fn method(
        &mut self,
        path: &str,
        column: &Column,
        place: usize,
        field: &FieldName,
        found: &DeclaredField,
    ) {
        use WindowStat::{Count, First, Last};
        let class = Class::of(&found.logical);
        let (name, method) = (found.logical.name(), column.method.as_str());
        let any =
            matches!(column.method, Method::Previous { .. } | Method::Nearest { .. } | Method::Next { .. });
        if class == Class::Object {
            if !any || matches!(column.method, Method::Next { .. }) {
                let text = format!(
                    "{field} is a {name}: nothing lies between two of them; write \"nearest\" or \"previous\", not {method}"
                );
                self.findings.mistake(path, text);
            }
            return;
        }
        let computes = match &column.method {
            Method::Window { stats, .. } => stats.iter().any(|stat| !matches!(stat, Count | First | Last)),
            Method::List { .. } => false,
            _ => !any,
        };
        if computes && class != Class::Number {
            let why = if class == Class::Decimal { ", which tables hold as a decimal" } else { "" };
            let text = format!(
                "{field} is {name}{why}: {method} computes with numbers; write \"nearest\" or \"previous\""
            );
            self.findings.mistake(path, text);
            return;
        }
        if let Method::Geodesic { datum, .. } = &column.method {
            self.position(path, column, place, field, found, *datum);
        }
        let averages = match &column.method {
            Method::Linear(_) => true,
            Method::Window { stats, .. } => stats.iter().any(|stat| matches!(stat, WindowStat::Mean)),
            _ => false,
        };
        if averages && ROUND.contains(&field.as_str()) && conversion(&found.unit, "deg").is_some() {
            let text = format!(
                "{field} turns over at a full circle: between 359 and 1 {method} gives 180; take its sine and cosine, or a position by geodesic"
            );
            self.findings.warn(path, text);
        }
        if column.uncertainty
            && any
            && self.declared.streams.get(&column.stream).is_some_and(|kinds| {
                !kinds.values().any(|of| of.fields.keys().any(|known| known.as_str() == format!("{field}_u")))
            })
        {
            let text = format!(
                "{} has no {field}_u, so a sample's own uncertainty is not known and the column stays null",
                column.stream
            );
            self.findings.warn(path, text);
        }
    }

    fn position(
        &mut self,
        path: &str,
        column: &Column,
        place: usize,
        field: &FieldName,
        found: &DeclaredField,
        datum: Option<AltitudeDatum>,
    ) {
        let wanted = if place < 2 { "deg" } else { "m" };
        let unit = column.units.get(field).unwrap_or(&found.unit);
        if unit != wanted {
            let text = match conversion(&found.unit, wanted) {
                Some(_) => format!(
                    "{field} is in {unit}, geodesic reckons in {wanted}; write unit = {{ {field} = \"{wanted}\" }}"
                ),
                None => format!(
                    "{field} is in {unit}, which is no {wanted}: geodesic takes latitude, longitude, altitude"
                ),
            };
            self.findings.mistake(path, text);
        }
        let other = match datum {
            Some(AltitudeDatum::Hae) => "msl",
            Some(AltitudeDatum::Msl) => "hae",
            None => return,
        };
        if place == 2 && field.as_str().contains(other) {
            self.findings
                .warn(path, format!("{field} looks like {other}, and the column says the other datum"));
        }
    }

    fn unit(&mut self, within: &str, column: &Column, field: &FieldName, found: &DeclaredField) {
        let Some(wanted) = column.units.get(field) else { return };
        let path = format!("{within}.unit.{field}");
        if Class::of(&found.logical) != Class::Number {
            let text = format!("{field} is {}, which has no unit to convert", found.logical.name());
            self.findings.mistake(path, text);
        } else if conversion(&found.unit, wanted).is_none() {
            let text = format!("{field} is in {}, which cannot become {wanted}", found.unit);
            self.findings.mistake(path, text);
        }
    }

    fn fallback(&mut self, within: &str, column: &Column, field: &FieldName, found: &DeclaredField) {
        let Fallback::Const(constants) = &column.fallback else { return };
        let Some(constant) = constants.get(field) else { return };
        let class = Class::of(&found.logical);
        let fits = match constant {
            Constant::Number(value) => {
                let is_float = found.logical.integer_range().is_none() || !column.units.is_empty();
                let computed = !matches!(
                    column.method,
                    Method::Previous { .. } | Method::Next { .. } | Method::Nearest { .. }
                );
                class == Class::Number && (is_float || computed || value.fract() == 0.0)
            }
            Constant::Text(_) => class == Class::Text,
            Constant::Bool(_) => class == Class::Truth,
        };
        if !fits {
            let text = format!("is not of the type of {field}, {}", found.logical.name());
            self.findings.mistake(format!("{within}.fallback.const.{field}"), text);
        }
    }

    /// Streams that meet in a row must come from devices that meet in it.
    fn together(&mut self, recipe: &Recipe) {
        let spine: Vec<&StreamName> = match &recipe.spine.source {
            SpineSource::Stream { stream, .. } | SpineSource::Event { stream, .. } => vec![stream],
            SpineSource::Union { streams } => streams.iter().collect(),
            SpineSource::Grid { .. } => recipe.columns.iter().map(|column| &column.stream).collect(),
        };
        let of_spine: Vec<_> = spine.iter().flat_map(|stream| self.declared.devices(stream)).collect();
        if let Entity::Site { sites } = &recipe.entity {
            for device in sites.values().flatten() {
                let known = self.declared.streams.values().flat_map(|kinds| kinds.values());
                if !known.into_iter().any(|of| of.devices.contains(device)) {
                    self.findings.warn("keys.sites", format!("{device} declares nothing yet"));
                }
            }
            return;
        }
        for (place, column) in recipe.columns.iter().enumerate() {
            let devices = self.declared.devices(&column.stream);
            if devices.is_empty()
                || of_spine.is_empty()
                || of_spine.iter().any(|device| devices.contains(device))
            {
                continue;
            }
            let list: Vec<&str> = devices.iter().map(|device| device.as_str()).take(NAMES_SHOWN).collect();
            let text = format!(
                "{} comes from {}, and no device has it beside the spine: every row would be without; write [keys] entity = [\"site\"] to join devices",
                column.stream,
                list.join(", ")
            );
            self.findings.warn(format!("column[{place}].stream"), text);
        }
    }
}

#[cfg(test)]
mod tests;
