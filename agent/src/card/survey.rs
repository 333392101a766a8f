//! Everything on a card at a glance: its series as they lie there, their segments, and whose they are.

use super::CardError;
use super::disk::CardDisk;
use super::segment::Segment;
use crate::spool::{SpoolIdentity, SpoolLock, identity_of};
use headwater_core::id::{BootOrdinal, Epoch, StreamId, StreamName};
use headwater_core::ports::{Disk, SpoolLane};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A spool's folder, read without its agent and without its index.
#[derive(Debug)]
pub struct Card {
    pub(super) dir: PathBuf,
    pub(super) identity: SpoolIdentity,
    /// Control first, since clock and gaps explain the rest; then by epoch, boot and number.
    pub(super) segments: Vec<Segment>,
    /// Files that could not even be read, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
    /// An agent holds the folder: the ends of its open segments may be on their way.
    pub(super) in_use: bool,
}

/// A stream in one life of the spool.
pub(super) type StreamOfEpoch = (Epoch, StreamId);

impl Card {
    /// Looks at the spool in `dir`. `seen` is told of each segment, for a progress bar.
    ///
    /// # Errors
    /// [`CardError::NoSpool`] if there is none; a segment that cannot be read is no error.
    pub fn open(dir: &Path, mut seen: impl FnMut(u64)) -> Result<Self, CardError> {
        let io = |source| CardError::Read { path: dir.to_owned(), source };
        let seg = dir.join("seg");
        if !seg.is_dir() {
            return Err(CardError::NoSpool { dir: dir.to_owned() });
        }
        let in_use = SpoolLock::is_held(dir);
        let identity = identity_of(&CardDisk, dir).map_err(io)?;
        let (mut segments, mut unreadable) = (Vec::new(), Vec::new());
        for series in CardDisk.list(&seg).map_err(io)? {
            let Some(name) = series.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
                continue;
            };
            let files = match CardDisk.list(&series) {
                Ok(files) => files,
                Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => continue,
                Err(error) => {
                    unreadable.push((series, error.to_string()));
                    continue;
                }
            };
            for path in files {
                let Some(segno) = segno_of(&path) else { continue };
                match Segment::read(&name, segno, &path) {
                    Ok(segment) => {
                        seen(segment.len);
                        segments.push(segment);
                    }
                    // The agent let go of it meanwhile.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => unreadable.push((path, error.to_string())),
                }
            }
        }
        segments.sort_by_cached_key(|segment| {
            let lane = segment.header.map(|header| header.series.lane);
            let summary = &segment.summary;
            (lane.is_none(), lane, summary.epoch, summary.boot_ordinal, segment.series.clone(), segment.segno)
        });
        unreadable.sort();
        Ok(Self { dir: dir.to_owned(), identity, segments, unreadable, in_use })
    }

    /// Names of streams, by life and id: from declarations, and from tables where those are gone.
    pub(super) fn names(&self) -> BTreeMap<StreamOfEpoch, (StreamName, SpoolLane)> {
        let mut names = BTreeMap::new();
        for segment in &self.segments {
            let epoch = segment.summary.epoch;
            for (id, entry) in segment.table.iter().flat_map(|table| &table.streams) {
                names.entry((epoch, *id)).or_insert_with(|| (entry.name.clone(), entry.lane));
            }
            for (id, declared) in &segment.declared {
                names.insert((epoch, *id), (declared.name.clone(), declared.lane));
            }
        }
        names
    }

    /// Next seqs as the newest tables and rows know them.
    pub(super) fn next_seqs(&self) -> BTreeMap<StreamOfEpoch, u64> {
        let mut next: BTreeMap<StreamOfEpoch, u64> = BTreeMap::new();
        for segment in &self.segments {
            let epoch = segment.summary.epoch;
            let tables = segment.table.iter().flat_map(|table| &table.streams);
            let tables = tables.map(|(id, entry)| (*id, entry.next_seq.0));
            let rows = segment.summary.streams.iter().map(|(id, part)| (*id, part.seqs.end()));
            for (id, end) in tables.chain(rows) {
                let known = next.entry((epoch, id)).or_default();
                *known = end.max(*known);
            }
        }
        next
    }

    /// Boots with rows on the card.
    pub(super) fn boots(&self) -> impl Iterator<Item = (Epoch, BootOrdinal)> {
        let held = self.segments.iter().filter(|segment| !segment.summary.streams.is_empty());
        held.map(|segment| (segment.summary.epoch, segment.summary.boot_ordinal))
    }

    /// Bytes of all segment files.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }
}

pub(super) fn segno_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok())?
}
