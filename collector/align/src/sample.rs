//! Samples of one stream of one entity: stamps as columns of integers, values as Arrow.

use arrow_array::{BooleanArray, RecordBatch};
use headwater_core::id::{BootOrdinal, DeviceId, Epoch};
use headwater_core::time::Grade;

/// A boot line: samples on one line are ordered and measured in boot time, those on two in UTC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The gateway.
    pub device: DeviceId,
    /// Its installation.
    pub epoch: Epoch,
    /// Its boot.
    pub boot: BootOrdinal,
}

/// Stamps of samples, one entry a sample, all of one length, in total order.
///
/// Total order: within one device and epoch (boot, event time, seq), which no wall clock disturbs; across them
/// (`ts_ns`, device, epoch, seq).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stamps {
    /// Index into the entity's lines.
    pub line: Vec<u32>,
    /// Event time on that line, boot ns.
    pub event_ns: Vec<i64>,
    /// Half width of the event from the capture latency (and of a device clock's map), ns.
    pub half_ns: Vec<i64>,
    /// Resolved UTC, ns.
    pub ts_ns: Vec<i64>,
    /// Its half width, `half_ns` included, ns.
    pub err_ns: Vec<i64>,
    /// Its grade.
    pub grade: Vec<Grade>,
    /// Number in the stream.
    pub seq: Vec<u64>,
}

impl Stamps {
    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ts_ns.len()
    }

    /// True without samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts_ns.is_empty()
    }

    /// Adds samples that follow.
    pub fn append(&mut self, mut more: Self) {
        if self.is_empty() {
            *self = more;
            return;
        }
        self.line.append(&mut more.line);
        self.event_ns.append(&mut more.event_ns);
        self.half_ns.append(&mut more.half_ns);
        self.ts_ns.append(&mut more.ts_ns);
        self.err_ns.append(&mut more.err_ns);
        self.grade.append(&mut more.grade);
        self.seq.append(&mut more.seq);
    }

    /// Keeps the samples that are true in `keep`, which is as long.
    pub fn keep(&mut self, keep: &BooleanArray) {
        fn thin<T>(column: &mut Vec<T>, keep: &BooleanArray) {
            let mut places = keep.values().iter();
            column.retain(|_| places.next().unwrap_or(false));
        }
        thin(&mut self.line, keep);
        thin(&mut self.event_ns, keep);
        thin(&mut self.half_ns, keep);
        thin(&mut self.ts_ns, keep);
        thin(&mut self.err_ns, keep);
        thin(&mut self.grade, keep);
        thin(&mut self.seq, keep);
    }

    /// Those at `places`, in that order.
    #[must_use]
    pub fn picked(&self, places: &[usize]) -> Self {
        fn pick<T: Copy>(column: &[T], places: &[usize]) -> Vec<T> {
            places.iter().filter_map(|place| column.get(*place).copied()).collect()
        }
        Self {
            line: pick(&self.line, places),
            event_ns: pick(&self.event_ns, places),
            half_ns: pick(&self.half_ns, places),
            ts_ns: pick(&self.ts_ns, places),
            err_ns: pick(&self.err_ns, places),
            grade: pick(&self.grade, places),
            seq: pick(&self.seq, places),
        }
    }

    /// Takes the first `n` away, or all.
    pub fn drop_first(&mut self, n: usize) {
        let n = n.min(self.len());
        self.line.drain(..n);
        self.event_ns.drain(..n);
        self.half_ns.drain(..n);
        self.ts_ns.drain(..n);
        self.err_ns.drain(..n);
        self.grade.drain(..n);
        self.seq.drain(..n);
    }
}

/// Samples of one stream of one entity.
#[derive(Debug, Clone)]
pub struct Samples {
    /// When.
    pub stamps: Stamps,
    /// The selected fields, one row a sample.
    pub values: RecordBatch,
}
