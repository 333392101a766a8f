//! The index: a copy of what segments say, so that opening need not read them; and the acks.
//!
//! It may be lost, stale or damaged at any time: an index that fails is switched off until the next
//! start, and the spool goes on without it.

use super::frame::lane_from_code;
use super::payload::{Summary, put_set, read_set};
use super::series_id::SeriesId;
use headwater_core::id::{Epoch, STREAM_NAME_BYTES_MAX, Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::NOTE_BYTES_MAX;
use headwater_core::wire::primitives::{Reader, put_bytes, put_uv};
use std::collections::BTreeMap;
use std::fmt;

/// Longest value. Above 8 KiB a full leaf of sled's tree is written to a file of its own, without a sync.
pub const VALUE_BYTES_MAX: usize = 4096;
/// Most ranges of acked seqs kept per stream; what is beyond is sent again after a restart.
const ACK_RANGES_MAX: usize = 64;

/// What a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tree {
    /// Lane, class, segno → length and summary of a sealed segment.
    Segment,
    /// Stream id → next seq, name, acks.
    Stream,
    /// Facts about the device.
    Device,
}

impl Tree {
    /// All trees.
    pub const ALL: [Tree; 3] = [Self::Segment, Self::Stream, Self::Device];

    /// Name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Stream => "stream",
            Self::Device => "device",
        }
    }
}

/// An index that failed.
#[derive(Debug, thiserror::Error)]
#[error("index failed: {0}")]
pub struct IndexError(pub String);

/// One entry of a store: tree, key, value.
pub type Entry = (Tree, Vec<u8>, Vec<u8>);

/// A small key-value store. Nothing in it is needed to be right.
pub trait SpoolIndex: Send + fmt::Debug {
    /// Everything it holds.
    ///
    /// # Errors
    /// [`IndexError`].
    fn load(&mut self) -> Result<Vec<Entry>, IndexError>;
    /// Sets a key, or removes it. Durable after [`SpoolIndex::flush`].
    ///
    /// # Errors
    /// [`IndexError`].
    fn put(&mut self, tree: Tree, key: &[u8], value: Option<&[u8]>) -> Result<(), IndexError>;
    /// Makes everything durable.
    ///
    /// # Errors
    /// [`IndexError`].
    fn flush(&mut self) -> Result<(), IndexError>;
}

/// No index: every open rebuilds from the segments, and acks return with the collector's answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIndex;

impl SpoolIndex for NoIndex {
    fn load(&mut self) -> Result<Vec<Entry>, IndexError> {
        Ok(Vec::new())
    }
    fn put(&mut self, _: Tree, _: &[u8], _: Option<&[u8]>) -> Result<(), IndexError> {
        Ok(())
    }
    fn flush(&mut self) -> Result<(), IndexError> {
        Ok(())
    }
}

/// What the index remembers of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamMark {
    pub(super) name: StreamName,
    pub(super) next_seq: Seq,
    pub(super) acked: IntervalSet,
}

/// What was in the index when it was opened.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    pub(super) epoch: Option<Epoch>,
    pub(super) segments: BTreeMap<(SeriesId, u64), (u64, Summary)>,
    /// Keys that say nothing any more.
    stale: Vec<(Tree, Vec<u8>)>,
    pub(super) streams: BTreeMap<StreamId, StreamMark>,
    keys: Vec<(Tree, Vec<u8>)>,
}

/// The index with its types; switched off at the first failure.
#[derive(Debug)]
pub(super) struct Index {
    store: Option<Box<dyn SpoolIndex>>,
    written: BTreeMap<(Tree, Vec<u8>), Vec<u8>>,
    /// Facts about the device; they outlive an epoch.
    notes: BTreeMap<Vec<u8>, Vec<u8>>,
}

const EPOCH_KEY: &[u8] = b"epoch";

fn segment_key(series: SeriesId, segno: u64) -> Vec<u8> {
    let mut key = series.codes().to_vec();
    key.extend_from_slice(&segno.to_be_bytes());
    key
}

impl Index {
    pub(super) fn new(store: Box<dyn SpoolIndex>) -> Self {
        Self { store: Some(store), written: BTreeMap::new(), notes: BTreeMap::new() }
    }

    fn on(&mut self, act: impl FnOnce(&mut dyn SpoolIndex) -> Result<(), IndexError>) {
        if let Some(store) = &mut self.store
            && let Err(error) = act(store.as_mut())
        {
            tracing::warn!(%error, "spool index switched off until the next start; nothing is lost");
            self.store = None;
        }
    }

    /// The one place where values are written, so the one place where their bound is kept.
    fn put(&mut self, tree: Tree, key: Vec<u8>, value: Vec<u8>) {
        if value.len() > VALUE_BYTES_MAX {
            tracing::debug!(tree = tree.as_str(), bytes = value.len(), "entry too large for the index");
            self.remove(tree, key);
            return;
        }
        let at = (tree, key);
        if self.written.get(&at) != Some(&value) {
            self.on(|store| store.put(tree, &at.1, Some(&value)));
            if tree == Tree::Stream {
                self.written.insert(at, value);
            }
        }
    }

    fn remove(&mut self, tree: Tree, key: Vec<u8>) {
        self.on(|store| store.put(tree, &key, None));
        self.written.remove(&(tree, key));
    }

    pub(super) fn load(&mut self) -> Remembered {
        let mut known = Remembered::default();
        let mut entries = Vec::new();
        self.on(|store| store.load().map(|loaded| entries = loaded));
        for (tree, key, value) in entries {
            // An entry that cannot be read says nothing, and is removed.
            if read_entry(&mut known, tree, &key, &value).is_none() {
                tracing::debug!(tree = tree.as_str(), "entry of the spool index is not understood");
                known.stale.push((tree, key.clone()));
            }
            if tree == Tree::Device && key != EPOCH_KEY {
                self.notes.insert(key, value);
                continue;
            }
            known.keys.push((tree, key));
        }
        for (tree, key) in std::mem::take(&mut known.stale) {
            self.remove(tree, key);
        }
        known
    }

    /// Forgets everything and starts for `epoch`.
    pub(super) fn restart(&mut self, known: &Remembered, epoch: Epoch) {
        for (tree, key) in &known.keys {
            self.remove(*tree, key.clone());
        }
        self.put(Tree::Device, EPOCH_KEY.to_vec(), epoch.0.to_be_bytes().to_vec());
    }

    pub(super) fn put_segment(&mut self, series: SeriesId, segno: u64, len: u64, summary: &Summary) {
        let mut value = Vec::new();
        put_uv(&mut value, len);
        value.extend_from_slice(&summary.to_bytes());
        self.put(Tree::Segment, segment_key(series, segno), value);
    }

    pub(super) fn remove_segment(&mut self, series: SeriesId, segno: u64) {
        self.remove(Tree::Segment, segment_key(series, segno));
    }

    pub(super) fn put_stream(&mut self, id: StreamId, name: &StreamName, next_seq: Seq, acked: &IntervalSet) {
        let mut value = Vec::new();
        put_uv(&mut value, next_seq.0);
        put_bytes(&mut value, name.as_str().as_bytes());
        let mut kept = IntervalSet::new();
        acked.iter().take(ACK_RANGES_MAX).for_each(|range| kept.insert(range));
        put_set(&mut value, &kept);
        self.put(Tree::Stream, id.0.to_be_bytes().to_vec(), value);
    }

    /// Keeps a fact about the device.
    pub(super) fn note(&mut self, key: &str, value: Vec<u8>) {
        let key = key.as_bytes();
        if key != EPOCH_KEY && value.len() <= NOTE_BYTES_MAX {
            self.put(Tree::Device, key.to_vec(), value.clone());
            self.notes.insert(key.to_vec(), value);
        }
    }

    /// What was noted.
    pub(super) fn noted(&self, key: &str) -> Option<Vec<u8>> {
        self.notes.get(key.as_bytes()).cloned()
    }

    pub(super) fn flush(&mut self) {
        self.on(|store| store.flush());
    }
}

fn read_entry(known: &mut Remembered, tree: Tree, key: &[u8], value: &[u8]) -> Option<()> {
    let mut reader = Reader::new(value);
    match tree {
        Tree::Device => {
            if key == EPOCH_KEY {
                known.epoch = Some(Epoch(u64::from_be_bytes(value.try_into().ok()?)));
            }
        }
        Tree::Segment => {
            let (codes, segno) = key.split_first_chunk::<2>()?;
            let series = SeriesId::from_codes(lane_from_code(codes[0])?, codes[1])?;
            let len = reader.uv().ok()?;
            let summary = Summary::from_bytes(reader.take_rest())?;
            known.segments.insert((series, u64::from_be_bytes(segno.try_into().ok()?)), (len, summary));
        }
        Tree::Stream => {
            let id = StreamId(u16::from_be_bytes(key.try_into().ok()?));
            let next_seq = Seq(reader.uv().ok()?);
            let name = reader.text(STREAM_NAME_BYTES_MAX).ok()?.parse().ok()?;
            let acked = read_set(&mut reader)?;
            known.streams.insert(id, StreamMark { name, next_seq, acked });
        }
    }
    Some(())
}
