//! Samples of one stream of one entity: stamps as columns of integers, values as Arrow.

use arrow_array::RecordBatch;
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
}

/// Samples of one stream of one entity.
#[derive(Debug, Clone)]
pub struct Samples {
    /// When.
    pub stamps: Stamps,
    /// The selected fields, one row a sample.
    pub values: RecordBatch,
}
