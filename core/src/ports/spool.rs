//! The spool: what the agent keeps until the collector has it.

use crate::batch::Rows;
use crate::id::{BootOrdinal, Epoch, Seq, StreamId, StreamName};
use crate::interval::IntervalSet;
use crate::sample::Blob;
use crate::schema::Schema;
use crate::time::{BootNanos, ClockDomain};
use std::io;
use std::sync::Arc;

/// Storage lane: its own files, loss window and quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpoolLane {
    /// Clock, gaps, alarms: synced at once.
    Control,
    /// Numbers and fixes.
    Telemetry,
    /// Pictures.
    Media,
}

impl SpoolLane {
    /// All lanes.
    pub const ALL: [SpoolLane; 3] = [Self::Control, Self::Telemetry, Self::Media];

    /// Name in paths and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Telemetry => "telemetry",
            Self::Media => "media",
        }
    }
}

/// What rows are worth when room runs short: the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamClass {
    /// Nice to have: first to go.
    Scrap,
    /// May be thinned: of blobs every second goes first, then every fourth, then every eighth.
    Thin,
    /// Goes when nothing of less worth is left.
    Normal,
    /// Never evicted.
    Keep,
}

impl StreamClass {
    /// All classes, least first.
    pub const ALL: [StreamClass; 4] = [Self::Scrap, Self::Thin, Self::Normal, Self::Keep];

    /// Name in settings, paths and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scrap => "scrap",
            Self::Thin => "thin",
            Self::Normal => "normal",
            Self::Keep => "keep",
        }
    }
}

/// Which rows of a class go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum EvictFirst {
    /// The oldest: the present matters.
    #[default]
    Oldest,
    /// The newest: what was there at the beginning matters.
    Newest,
}

/// How the spool treats a stream. Says nothing about its rows, so it may change from one start to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamPolicy {
    /// Storage lane.
    pub lane: SpoolLane,
    /// What its rows are worth.
    pub class: StreamClass,
    /// Which of them go first.
    pub evict_first: EvictFirst,
    /// Bytes of it that eviction leaves.
    pub keep_bytes_min: u64,
}

impl From<SpoolLane> for StreamPolicy {
    /// What suits a lane: control is kept, pictures are thinned.
    fn from(lane: SpoolLane) -> Self {
        let class = match lane {
            SpoolLane::Control => StreamClass::Keep,
            SpoolLane::Telemetry => StreamClass::Normal,
            SpoolLane::Media => StreamClass::Thin,
        };
        Self { lane, class, evict_first: EvictFirst::Oldest, keep_bytes_min: 0 }
    }
}

/// At most a second of one stream, or one row with its blob.
#[derive(Debug, Clone)]
pub struct Slab {
    /// Rows; their stream reference is the id.
    pub rows: Rows,
    /// The blob of the only row.
    pub blob: Option<Blob>,
    /// Boot times at which the first and the last row came, of rows stamped by an attached device's clock: what their
    /// age is judged by. `None` for stamps in boot time, and where it is not known.
    pub arrived: Option<(BootNanos, BootNanos)>,
}

/// A place in one series of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// Segment number.
    pub segno: u64,
    /// Byte offset in it.
    pub offset: u64,
}

/// Series a lane may have: seven ranks (scrap, four layers of thin, normal, keep), each evicted from either end.
pub const SERIES_PER_LANE: usize = 14;

/// Where a reader of a lane stands, in each of its series. Starts at `Cursor::default()`; grows with what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cursor([Position; SERIES_PER_LANE]);

impl Cursor {
    /// Where it stands in a series; at the end of everything for a series no lane has.
    #[must_use]
    pub fn at(&self, series: usize) -> Position {
        self.0.get(series).copied().unwrap_or(Position { segno: u64::MAX, offset: u64::MAX })
    }

    /// The series in which this cursor stands elsewhere than `before`; the first of them.
    #[must_use]
    pub fn series_moved(&self, before: &Cursor) -> Option<usize> {
        self.0.iter().zip(&before.0).position(|(now, then)| now != then)
    }

    /// The further of both in each series.
    #[must_use]
    pub fn max(mut self, other: &Cursor) -> Self {
        for (at, theirs) in self.0.iter_mut().zip(&other.0) {
            *at = (*at).max(*theirs);
        }
        self
    }

    /// The same, further on in one series.
    #[must_use]
    pub fn moved(mut self, series: usize, to: Position) -> Self {
        if let Some(at) = self.0.get_mut(series) {
            *at = to;
        }
        self
    }
}

/// Largest fact kept by [`Spool::note`]: the index is to stay small.
pub const NOTE_BYTES_MAX: usize = 4096;

/// When rows were captured, in an order that holds over boots.
pub type SlabTime = (BootOrdinal, BootNanos);

/// A durable slab, with where to go on reading and when it was written.
#[derive(Debug, Clone)]
pub struct SpooledSlab {
    /// The epoch its stream ids and seqs belong to (differs from the spool's for segments of an older life).
    pub epoch: Epoch,
    /// The slab.
    pub slab: Slab,
    /// The schema it was declared with, if that is not the newest of its stream: without it rows of an older
    /// schema could not be declared again after a restart.
    pub older_schema: Option<Arc<Schema>>,
    /// Position after it.
    pub next: Cursor,
}

impl Slab {
    /// When its newest row was captured, or came if an attached device's clock stamped it; `None` if neither is known.
    #[must_use]
    pub fn time(&self) -> Option<SlabTime> {
        self.span().map(|(_, last)| (self.rows.boot_ordinal, last))
    }

    /// The same, read back with the boot times that were kept beside it.
    #[must_use]
    pub fn dated(self, times: Option<(BootNanos, BootNanos)>) -> Self {
        let foreign = self.rows.domain != ClockDomain::BOOT;
        Self { arrived: times.filter(|_| foreign), ..self }
    }

    /// Boot times of its first and last row: of capture, or of arrival if an attached device's clock stamped them.
    #[must_use]
    pub fn span(&self) -> Option<(BootNanos, BootNanos)> {
        if self.rows.domain != ClockDomain::BOOT {
            return self.arrived;
        }
        let last = self.rows.len().checked_sub(1)?;
        Some((BootNanos(self.rows.t_ns(0)?), BootNanos(self.rows.t_ns(last)?)))
    }
}

/// What the spool knows of one stream.
#[derive(Debug, Clone)]
pub struct StreamState {
    /// Id in this epoch.
    pub id: StreamId,
    /// Name.
    pub name: StreamName,
    /// Newest declared schema.
    pub schema: Schema,
    /// How it is treated.
    pub policy: StreamPolicy,
    /// Next seq to be given.
    pub next_seq: Seq,
    /// Seqs held and not yet released.
    pub held: IntervalSet,
    /// Seqs the collector said it has, to the level of `retain_until`.
    pub acked: IntervalSet,
}

/// How full the spool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpoolUsage {
    /// Bytes of segment files.
    pub bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Rows held and not released.
    pub rows: u64,
    /// Boot time of the oldest unreleased row, if any of this boot; as near as the spool knows it without reading.
    pub oldest: Option<BootNanos>,
    /// Bytes appended and not yet synced.
    pub unsynced_bytes: u64,
    /// Bytes given to the device since start, payload and framing.
    pub written_bytes: u64,
    /// Of these, slabs and blobs that became durable.
    pub payload_bytes: u64,
    /// Segments given up for want of room since start.
    pub evicted_segments: u64,
    /// Captured rows in them that the collector had not.
    pub evicted_rows: u64,
    /// Rows that waited in memory for a disk that refused them, until memory was full.
    pub refused_rows: u64,
}

/// Why the spool could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The disk failed; the segment concerned is given up and its unsynced slabs are kept for another.
    #[error("spool failed to {what}")]
    Io {
        /// What it was doing.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No room within budget or on disk. Nothing was written.
    #[error("spool is full: {used} of {budget} bytes")]
    Full {
        /// Used.
        used: u64,
        /// Budget.
        budget: u64,
    },
    /// A slab larger than any segment may be. It can never be kept.
    #[error(
        "slab of {bytes} bytes is above the limit of {limit} bytes; a blob that large must be split at its source"
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A 257th stream.
    #[error("a device may have {limit} streams; {name} is one more")]
    Streams {
        /// The stream.
        name: StreamName,
        /// The limit.
        limit: u16,
    },
    /// A slab that does not continue its stream.
    #[error("slab of stream {stream:?} starts at {found:?}, expected {expected:?}")]
    OutOfOrder {
        /// Stream.
        stream: StreamId,
        /// First seq of the slab.
        found: Seq,
        /// Expected first seq.
        expected: Seq,
    },
    /// A stream nobody declared.
    #[error("stream {0:?} was not declared")]
    Unknown(StreamId),
    /// An ack beyond what was ever given out: this card was restored or cloned.
    #[error("ack of stream {stream:?} reaches {acked}, beyond next seq {next:?}")]
    BeyondNext {
        /// Stream.
        stream: StreamId,
        /// One past the greatest acked seq.
        acked: u64,
        /// Next seq.
        next: Seq,
    },
}

/// Durable FIFO per stream. Synchronous: the shell chooses where to block.
pub trait Spool: Send {
    /// This spool's life.
    fn epoch(&self) -> Epoch;

    /// Gives a stream its id, or finds it; records a changed schema and how it is treated. Durable before the first slab of it is.
    ///
    /// # Errors
    /// [`SpoolError::Streams`] for one too many.
    fn declare(
        &mut self,
        name: &StreamName,
        schema: &Schema,
        policy: StreamPolicy,
    ) -> Result<StreamId, SpoolError>;

    /// Every declared stream.
    fn streams(&self) -> Vec<StreamState>;

    /// Writes a slab. It continues its stream (seqs skipped by a recorded gap are skipped with
    /// [`Spool::skip`]). Durable after the next [`Spool::sync`]; full is an answer, not a block.
    ///
    /// # Errors
    /// [`SpoolError`]; the slab is then not written.
    fn append(&mut self, slab: Slab) -> Result<(), SpoolError>;

    /// Consumes seqs without rows (a recorded gap): the next slab of the stream starts `n` later.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`].
    fn skip(&mut self, stream: StreamId, n: u64) -> Result<(), SpoolError>;

    /// Makes everything appended durable: only now is it *captured*, and only now can it be read.
    ///
    /// # Errors
    /// [`SpoolError::Io`]; slabs not proven durable stay queued for the next call.
    fn sync(&mut self) -> Result<(), SpoolError>;

    /// Durable, unreleased slabs of a lane from `after` on, oldest first as their boot times say, about `limit_bytes`
    /// of them (at least one). Each stream comes in the order of its seqs, but for blobs that are thinned: these
    /// come in the order of their times as far as the lane's series were written evenly.
    ///
    /// # Errors
    /// [`SpoolError::Io`]. Damaged frames are skipped, set aside and become gap records.
    fn read(
        &mut self,
        lane: SpoolLane,
        after: Cursor,
        limit_bytes: usize,
    ) -> Result<Vec<SpooledSlab>, SpoolError>;

    /// Where reading a lane is to start to find what is not older than `since`: in each series the first slab whose
    /// newest row is as young. Every row of an earlier boot is older. A spool that cannot tell says *from the start*.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    fn seek(&mut self, _lane: SpoolLane, _since: SlabTime) -> Result<Cursor, SpoolError> {
        Ok(Cursor::default())
    }

    /// The start of about `bytes` of segments that lie before `before`, the newest of them; `Cursor::default()` once
    /// there are no more.
    fn stretch_before(&self, _lane: SpoolLane, _before: Cursor, _bytes: u64) -> Cursor {
        Cursor::default()
    }

    /// Bytes of segments between two places, acked ones that are still there included.
    fn bytes_between(&self, _lane: SpoolLane, _from: Cursor, _until: Cursor) -> u64 {
        0
    }

    /// Keeps a fact about the device beside the index, at most [`NOTE_BYTES_MAX`]; a larger one, and one that meets a lost
    /// index, is forgotten. On disk within seconds.
    fn note(&mut self, _key: &str, _value: Vec<u8>) {}

    /// What was noted under `key`.
    fn noted(&self, _key: &str) -> Option<Vec<u8>> {
        None
    }

    /// Frees what the collector has. Idempotent; takes sets with holes. Segments wholly released are unlinked.
    ///
    /// # Errors
    /// [`SpoolError::BeyondNext`] frees nothing.
    fn trim(&mut self, stream: StreamId, acked: &IntervalSet) -> Result<(), SpoolError>;

    /// [`Spool::trim`] for segments of an older life: frees what the collector has of stream `stream` of
    /// `epoch`. What is not held is ignored.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    fn trim_older(&mut self, epoch: Epoch, stream: StreamId, acked: &IntervalSet) -> Result<(), SpoolError>;

    /// Gap records the spool itself made (torn tails, rot, eviction) since the last call.
    fn take_gaps(&mut self) -> Vec<crate::gap::GapRecord>;

    /// Looks after the disk: finds room before there is none, frees what gap records account for. To be called
    /// every few seconds, since others fill the disk too.
    fn maintain(&mut self) {}

    /// How full it is.
    fn usage(&self) -> SpoolUsage;
}
