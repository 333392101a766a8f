//! The sections beside spine and columns: `[keys]`, `[time]`, `[watermark]`, `[late]`, `[output]`.

use super::super::keys;
use super::super::model::{Entity, LatePolicy, Mode, Output, Watermark};
use super::super::reader::Reader;
use headwater_core::id::{DeviceId, StreamName};
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// How much samples may be out of order when the recipe does not say, ns.
pub(in crate::recipe) const MAX_OUT_OF_ORDER_DEFAULT_NS: i64 = 2_000_000_000;
/// How long a spine row waits for silent streams when the recipe does not say, ns.
pub(in crate::recipe) const IDLE_TIMEOUT_DEFAULT_NS: i64 = 600_000_000_000;
/// How late a change may reach final rows when the recipe does not say, ns: a month.
pub(in crate::recipe) const ALLOWED_LATENESS_DEFAULT_NS: i64 = 30 * 86_400_000_000_000;
/// Order of rows when the recipe does not say.
pub(in crate::recipe) const SORT_DEFAULT: [&str; 3] = ["device", "ts_ns", "row_key"];
/// Most devices of all sites: their samples are held in memory together.
const SITE_DEVICES_MAX: usize = 1_000;

impl Reader {
    pub(super) fn entity(&mut self, table: &Table) -> Option<Entity> {
        let Some(keys) = self.table(table, "", "keys", "[keys]") else { return Some(Entity::Device) };
        self.known(keys, "keys.", keys::KEYS);
        let mut named = Vec::new();
        if keys.contains_key("entity") {
            named = self.words(keys, "keys.", "entity", &["device", "site"])?;
        }
        match named.as_slice() {
            [] | [0] => {
                if keys.contains_key("sites") {
                    self.mistake("keys.sites", "only a site has devices; write entity = [\"site\"]");
                }
                Some(Entity::Device)
            }
            [1] => Some(Entity::Site { sites: self.sites(keys)? }),
            _ => {
                self.mistake("keys.entity", "rows are of a device or of a site, not of both; keep one");
                None
            }
        }
    }

    fn sites(&mut self, keys: &Table) -> Option<BTreeMap<String, Vec<DeviceId>>> {
        let hint = "sites = { \"berlin\" = [\"pi-1\", \"pi-2\"] }";
        if !keys.contains_key("sites") {
            self.mistake("keys.sites", format!("missing; a site names its devices: {hint}"));
        }
        let table = self.table(keys, "keys.", "sites", hint)?;
        let mut sites = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for site in table.keys() {
            let path = format!("keys.sites.{site}");
            if site.parse::<StreamName>().is_err() {
                self.mistake(path.clone(), "a site is named by segments of a-z 0-9 . _ - joined by /");
            }
            let mut devices: Vec<DeviceId> = self.names(table, "keys.sites.", site, "\"pi-1\"");
            devices.sort();
            for device in &devices {
                if !seen.insert(device.clone()) {
                    self.mistake(path.clone(), format!("{device} is in two sites; a device belongs to one"));
                }
            }
            sites.insert(site.clone(), devices);
        }
        if seen.len() > SITE_DEVICES_MAX {
            self.mistake("keys.sites", format!("{} devices, at most {SITE_DEVICES_MAX}", seen.len()));
        }
        Some(sites)
    }

    pub(super) fn time(&mut self, table: &Table) -> Mode {
        let Some(time) = self.table(table, "", "time", "[time]") else { return Mode::Point };
        self.known(time, "time.", keys::TIME);
        self.word(time, "time.", "track", &["latest"]);
        match self.word(time, "time.", "mode", &["point", "certain"]) {
            Some(1) => Mode::Certain,
            _ => Mode::Point,
        }
    }

    pub(super) fn watermark(&mut self, table: &Table) -> Watermark {
        let mut read = Watermark {
            max_out_of_order_ns: MAX_OUT_OF_ORDER_DEFAULT_NS,
            idle_timeout_ns: IDLE_TIMEOUT_DEFAULT_NS,
            allowed_lateness_ns: ALLOWED_LATENESS_DEFAULT_NS,
            late: LatePolicy::Recommit,
        };
        if let Some(mark) = self.table(table, "", "watermark", "[watermark]") {
            self.known(mark, "watermark.", keys::WATERMARK);
            let mut set = |key: &str, to: &mut i64| {
                *to = self.optional_duration(mark, "watermark.", key).unwrap_or(*to);
            };
            set("max_out_of_order", &mut read.max_out_of_order_ns);
            set("idle_timeout", &mut read.idle_timeout_ns);
            set("allowed_lateness", &mut read.allowed_lateness_ns);
            if read.max_out_of_order_ns > read.allowed_lateness_ns {
                let text =
                    "beyond allowed_lateness: a sample would be in order and too late at once; raise that";
                self.mistake("watermark.max_out_of_order", text);
            }
        }
        if let Some(late) = self.table(table, "", "late", "[late]") {
            self.known(late, "late.", keys::LATE);
            let policies = [LatePolicy::Recommit, LatePolicy::SideStream, LatePolicy::DropAndCount];
            let place = self.word(late, "late.", "policy", keys::LATE_POLICIES);
            read.late = place.and_then(|place| policies.get(place).copied()).unwrap_or(read.late);
        }
        read
    }

    pub(super) fn output(&mut self, table: &Table) -> Output {
        let default = || SORT_DEFAULT.map(str::to_owned).to_vec();
        let Some(output) = self.table(table, "", "output", "[output]") else {
            return Output { sort: default() };
        };
        self.known(output, "output.", keys::OUTPUT);
        if output.contains_key("partition") {
            self.words(output, "output.", "partition", &["day(ts)"]);
        }
        self.word(output, "output.", "floats", &["canonical"]);
        let sort = match output.get("sort") {
            None => default(),
            Some(Value::Array(items)) if items.is_empty() => {
                self.mistake("output.sort", "expected at least row_key, which makes the order one");
                default()
            }
            Some(_) => {
                let names =
                    self.names::<headwater_core::id::FieldName>(output, "output.", "sort", "\"device\"");
                names.iter().map(ToString::to_string).collect()
            }
        };
        Output { sort }
    }
}
