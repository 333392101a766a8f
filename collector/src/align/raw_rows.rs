//! Rows of raw tables as stamps and values, column by column: the rows of a commit and those read back from the lake take
//! the same way, so that a value does not depend on which of the two brought it (L2).

use super::buffer::{Run, Values, pick};
use crate::dedup::StreamKey;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType};
use headwater_align::sample::Stamps;
use headwater_core::id::{BootOrdinal, DeviceId, Epoch, FieldName, KindName};
use headwater_core::time::{ClockDomain, Grade, event_time};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Columns of a raw table that say whose a row is and when.
pub const STAMP_COLUMNS: [&str; 14] = [
    "device",
    "stream",
    "epoch",
    "seq",
    "boot_ordinal",
    "boot_ns",
    "lat_lo_ns",
    "lat_hi_ns",
    "stamp_kind",
    "domain",
    "ts_ns",
    "ts_err_ns",
    "grade",
    "schema_fp",
];

/// Units that stamps were floored to, ns, by fingerprint of the declaration.
pub type StampUnits = HashMap<i64, i64>;

/// Knows the clocks of attached devices.
pub trait DeviceClocks: Sync {
    /// Places moments of a device's clock on the boot line of its gateway: boot time and half width of the bound, ns; none
    /// if the device never answered a ping.
    fn on_boot(
        &self,
        whose: (&DeviceId, Epoch, BootOrdinal),
        domain: ClockDomain,
        moments: &[i64],
    ) -> Option<Vec<(i64, i64)>>;
}

/// What is taken of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenField {
    /// The field.
    pub field: FieldName,
    /// Its column in the raw table of each kind that has it.
    pub columns: BTreeMap<KindName, String>,
    /// As it is in the aligned table; none while nobody has declared it.
    pub known: Option<KnownField>,
}

/// A declared field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownField {
    /// What aligned columns of it are named after: the field, or `<field>_hash` of an object, which never enters here.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Its UCUM unit.
    pub unit: String,
}

impl TakenField {
    /// Of a field that nobody has declared yet.
    #[must_use]
    pub fn new(field: FieldName) -> Self {
        Self { field, columns: BTreeMap::new(), known: None }
    }
}

/// Rows of one stream on one boot line, as they stand in a raw table.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Whose.
    pub key: StreamKey,
    /// Boot.
    pub boot: BootOrdinal,
    /// Kind of their stamps.
    pub stamp_kind: String,
    /// When; `line` is the boot ordinal.
    pub stamps: Stamps,
    rows: RecordBatch,
}

impl Piece {
    /// The rows for which `wanted` says so; none if that is none.
    ///
    /// # Errors
    /// Arrow's, which only a bug brings about.
    pub fn filtered(&self, wanted: &[bool]) -> Result<Option<Self>, ArrowError> {
        if wanted.iter().all(|wanted| *wanted) {
            return Ok(Some(self.clone()));
        }
        let order: Vec<usize> =
            wanted.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(at, _)| at).collect();
        if order.is_empty() {
            return Ok(None);
        }
        let rows =
            arrow_select::filter::filter_record_batch(&self.rows, &BooleanArray::from(wanted.to_vec()))?;
        Ok(Some(Self { stamps: pick(&self.stamps, &order), rows, ..self.clone() }))
    }

    /// The rows with these fields of theirs.
    ///
    /// # Errors
    /// When a column cannot be read in the type it has in the aligned table.
    pub fn run(&self, kind: &KindName, fields: &[TakenField]) -> Result<Run, ArrowError> {
        let value = |taken: &TakenField| -> Result<Option<ArrayRef>, ArrowError> {
            let Some(wanted) = taken.known.as_ref().map(|known| &known.data_type) else { return Ok(None) };
            let array = taken.columns.get(kind).and_then(|name| self.rows.column_by_name(name));
            let Some(array) = array else { return Ok(None) };
            if array.data_type() == wanted {
                return Ok(Some(ArrayRef::clone(array)));
            }
            arrow_cast::cast(array.as_ref(), wanted).map(Some)
        };
        let values: Values = fields.iter().map(value).collect::<Result<_, _>>()?;
        Ok(Run { stamps: self.stamps.clone(), values })
    }
}

/// The columns every row is placed by.
struct Columns<'a> {
    device: &'a StringArray,
    stream: &'a StringArray,
    epoch: &'a StringArray,
    domain: &'a StringArray,
    stamp_kind: &'a StringArray,
    grade: &'a StringArray,
    boot: &'a Int64Array,
    boot_ns: &'a Int64Array,
    latency: (&'a Int64Array, &'a Int64Array),
    seq: &'a Int64Array,
    ts_ns: &'a Int64Array,
    err_ns: &'a Int64Array,
    fingerprint: &'a Int64Array,
}

impl<'a> Columns<'a> {
    fn of(rows: &'a RecordBatch) -> Result<Self, ArrowError> {
        let missing =
            |name: &str| ArrowError::SchemaError(format!("raw rows have no column {name} of its type"));
        let text = |name: &str| {
            rows.column_by_name(name)
                .and_then(|column| column.as_string_opt::<i32>())
                .ok_or_else(|| missing(name))
        };
        let long = |name: &str| {
            let column = rows.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            column.ok_or_else(|| missing(name))
        };
        Ok(Self {
            device: text("device")?,
            stream: text("stream")?,
            epoch: text("epoch")?,
            domain: text("domain")?,
            stamp_kind: text("stamp_kind")?,
            grade: text("grade")?,
            boot: long("boot_ordinal")?,
            boot_ns: long("boot_ns")?,
            latency: (long("lat_lo_ns")?, long("lat_hi_ns")?),
            seq: long("seq")?,
            ts_ns: long("ts_ns")?,
            err_ns: long("ts_err_ns")?,
            fingerprint: long("schema_fp")?,
        })
    }

    /// True if a row goes with the one before it.
    fn continues(&self, row: usize, before: usize) -> bool {
        self.stream.value(row) == self.stream.value(before)
            && self.device.value(row) == self.device.value(before)
            && self.epoch.value(row) == self.epoch.value(before)
            && self.boot.value(row) == self.boot.value(before)
            && self.domain.value(row) == self.domain.value(before)
            && self.stamp_kind.value(row) == self.stamp_kind.value(before)
            && self.fingerprint.value(row) == self.fingerprint.value(before)
    }

    fn runs(&self, rows: usize) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for row in 0..rows {
            match runs.last_mut().filter(|run| self.continues(row, run.start)) {
                Some(run) => run.end = row.saturating_add(1),
                None => runs.push(row..row.saturating_add(1)),
            }
        }
        runs
    }

    /// Whose a row is; none if a name in it is none of ours.
    fn key(&self, row: usize) -> Option<(StreamKey, BootOrdinal, ClockDomain)> {
        let key = StreamKey {
            device: self.device.value(row).parse().ok()?,
            epoch: self.epoch.value(row).parse().ok()?,
            stream: self.stream.value(row).parse().ok()?,
        };
        let boot = BootOrdinal(u32::try_from(self.boot.value(row)).ok()?);
        Some((key, boot, domain_of(self.domain.value(row))?))
    }

    /// Stamps of rows as they stand: on the clock of their domain. A stamp was floored to the stream's unit, which widens
    /// the bound.
    fn stamps(&self, rows: Range<usize>, boot: BootOrdinal, unit_ns: i64) -> Option<Stamps> {
        let mut stamps = Stamps::default();
        let widened = unit_ns.saturating_sub(1);
        for row in rows {
            let (lo, hi) = (self.latency.0.value(row), self.latency.1.value(row));
            let (event_ns, half_ns) = event_time(self.boot_ns.value(row), lo, hi);
            stamps.line.push(boot.0);
            stamps.event_ns.push(event_ns);
            stamps.half_ns.push(half_ns.saturating_add(widened));
            stamps.ts_ns.push(self.ts_ns.value(row));
            stamps.err_ns.push(self.err_ns.value(row));
            stamps.grade.push(grade_of(self.grade.value(row))?);
            stamps.seq.push(u64::try_from(self.seq.value(row)).ok()?);
        }
        Some(stamps)
    }
}

/// The rows of a batch of a raw table, cut where stream, boot or clock change. Rows of a device whose clock is not known
/// are left out and counted.
///
/// # Errors
/// When the batch is not of a raw table.
pub fn pieces(
    rows: &RecordBatch,
    units: &StampUnits,
    clocks: &dyn DeviceClocks,
    wanted: impl Fn(&StreamKey) -> bool,
) -> Result<Vec<Piece>, ArrowError> {
    let columns = Columns::of(rows)?;
    let mut out = Vec::new();
    for run in columns.runs(rows.num_rows()) {
        let Some((key, boot, domain)) = columns.key(run.start) else {
            metrics::counter!("headwater_align_unreadable_rows_total").increment(run.len() as u64);
            continue;
        };
        if !wanted(&key) {
            continue;
        }
        let unit_ns = units.get(&columns.fingerprint.value(run.start)).copied().unwrap_or(1);
        let Some(mut stamps) = columns.stamps(run.clone(), boot, unit_ns) else {
            metrics::counter!("headwater_align_unreadable_rows_total").increment(run.len() as u64);
            continue;
        };
        if domain != ClockDomain::BOOT
            && !onto_boot(&mut stamps, (&key.device, key.epoch, boot), domain, clocks)
        {
            metrics::counter!("headwater_align_device_domain_rows_total").increment(run.len() as u64);
            continue;
        }
        let stamp_kind = columns.stamp_kind.value(run.start).to_owned();
        let rows = rows.slice(run.start, run.len());
        out.push(Piece { key, boot, stamp_kind, stamps, rows });
    }
    Ok(out)
}

/// Brings stamps of an attached device's clock onto the gateway's boot line; the map's bound adds to the event's.
fn onto_boot(
    stamps: &mut Stamps,
    whose: (&DeviceId, Epoch, BootOrdinal),
    domain: ClockDomain,
    clocks: &dyn DeviceClocks,
) -> bool {
    let Some(placed) = clocks.on_boot(whose, domain, &stamps.event_ns) else { return false };
    for ((event, half), (at, bound)) in stamps.event_ns.iter_mut().zip(&mut stamps.half_ns).zip(placed) {
        *event = at;
        *half = half.saturating_add(bound);
    }
    true
}

fn domain_of(name: &str) -> Option<ClockDomain> {
    if name == ClockDomain::BOOT.to_string() {
        return Some(ClockDomain::BOOT);
    }
    name.strip_prefix("device:")?.parse().ok().map(ClockDomain)
}

fn grade_of(name: &str) -> Option<Grade> {
    [Grade::Guaranteed, Grade::Estimated, Grade::OrderingOnly]
        .into_iter()
        .find(|grade| grade.as_str() == name)
}
