//! The reader: everything landed after a set of cursors, for the committer and for a restart.

use super::log::{HEADER_BYTES, MAGIC, SegmentHeader, VERSION, VERSION_MIN, io, segment_path};
use super::record::{RECORD_HEAD_BYTES, RecordFault, check_body, read_body, read_head};
use super::{LandError, Landed, LandedWatch, LandingCursors, LandingPosition};
use headwater_core::id::{IncarnationId, parse_hex};
use headwater_core::ports::{Disk, DiskFile};
use headwater_core::time::UtcNanos;
use headwater_core::wire::primitives::{PrimitiveError, Reader};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a reader had to step over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Damage {
    /// Records whose checksum was false and that had a good one behind them.
    pub records: u64,
    /// Segments that ended in bytes which are no record, though a later segment exists.
    pub segments: u64,
}

/// Reads the landing logs of all incarnations under one directory. Read-only; another process may be writing.
#[derive(Debug)]
pub struct LandingReader<D: Disk> {
    disk: D,
    root: PathBuf,
    live: Option<LandedWatch>,
    shared: Option<Shared>,
    damage: Damage,
}

/// How a log that another process may be writing is read: to the end it told, or, if its writer is gone, to where
/// this process synced it.
#[derive(Debug)]
struct Shared {
    now: fn() -> UtcNanos,
    skip: Option<IncarnationId>,
    sealed: BTreeMap<IncarnationId, LandingPosition>,
}

#[derive(Debug, Clone)]
struct LogDir {
    generation: u64,
    created: UtcNanos,
    incarnation: IncarnationId,
    imported: bool,
    dir: PathBuf,
}

/// What stands at a place in a segment.
enum Found {
    Record(Box<Landed>),
    /// A record that is rotten, with a good one at the offset.
    Rotten(u64),
    End,
}

impl<D: Disk> LandingReader<D> {
    /// A reader of every log under `root` (which may not exist yet).
    #[must_use]
    pub fn new(disk: D, root: &Path) -> Self {
        Self { disk, root: root.to_owned(), live: None, shared: None, damage: Damage::default() }
    }

    /// The same, in the process that writes one of the logs: of that one only what is synced is given out.
    #[must_use]
    pub fn with_live(mut self, live: LandedWatch) -> Self {
        self.live = Some(live);
        self
    }

    /// The same, where other processes write logs too, at `now`: of each only what is synced is given out, and
    /// nothing of `skip`, one's own.
    #[must_use]
    pub fn shared(mut self, now: fn() -> UtcNanos, skip: Option<IncarnationId>) -> Self {
        self.shared = Some(Shared { now, skip, sealed: BTreeMap::new() });
        self
    }

    /// The synced end of the live log, to wait on; `None` in another process.
    #[must_use]
    pub fn landed_watch(&self) -> Option<LandedWatch> {
        self.live.clone()
    }

    /// What had to be stepped over so far.
    #[must_use]
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// Incarnations with a log, oldest first.
    ///
    /// # Errors
    /// [`LandError`].
    pub fn incarnations(&self) -> Result<Vec<IncarnationId>, LandError> {
        Ok(self.logs()?.into_iter().map(|log| log.incarnation).collect())
    }

    /// The generation a new incarnation takes: one above all there are.
    ///
    /// # Errors
    /// [`LandError`].
    pub fn next_generation(&self) -> Result<u64, LandError> {
        Ok(self.logs()?.iter().map(|log| log.generation).max().unwrap_or(0).saturating_add(1))
    }

    /// Makes what can be read durable. A writer killed between write and sync leaves records that only the
    /// system's cache holds; whoever reads them and acks them *durable* must sync them first (S1).
    ///
    /// # Errors
    /// [`LandError`].
    pub fn make_durable(&self) -> Result<(), LandError> {
        for log in self.logs()? {
            // All of them: also one that was given up after a failed sync can be read. A clean file costs little.
            for path in self.segments(&log.dir)?.values() {
                let file = self.disk.open(path).map_err(|e| io("open", path, e))?;
                file.sync().map_err(|e| io("sync", path, e))?;
            }
            self.disk.sync_dir(&log.dir).map_err(|e| io("sync", &log.dir, e))?;
        }
        Ok(())
    }

    /// Records after `cursors`, oldest incarnation first and in order within each, about `limit_bytes` of
    /// payload (at least one record, if there is one). Empty = nothing more for now.
    ///
    /// # Errors
    /// [`LandError`]; what was read before is then not given out and can be read again.
    pub fn next_after(
        &mut self,
        cursors: &LandingCursors,
        limit_bytes: usize,
    ) -> Result<Vec<Landed>, LandError> {
        let mut out = Vec::new();
        let mut left = limit_bytes;
        let ends = match &self.shared {
            Some(shared) => {
                Some(super::ShareBoard::new(self.disk.clone(), &self.root).present((shared.now)())?)
            }
            None => None,
        };
        for log in self.logs()? {
            let end = match &ends {
                Some(_) if self.shared.as_ref().is_some_and(|s| s.skip == Some(log.incarnation)) => continue,
                Some(ends) => match ends.get(&log.incarnation) {
                    Some(presence) => Some(presence.end),
                    None => Some(self.seal(&log)?),
                },
                None => None,
            };
            self.read_log(&log, cursors.get(&log.incarnation).copied(), end, &mut left, &mut out)?;
            if left == 0 && !out.is_empty() {
                break;
            }
        }
        Ok(out)
    }

    /// Records of one incarnation from `position` on, about `limit_bytes` of payload (at least one).
    ///
    /// # Errors
    /// [`LandError`].
    pub fn read_from(
        &mut self,
        position: LandingPosition,
        limit_bytes: usize,
    ) -> Result<Vec<Landed>, LandError> {
        let mut out = Vec::new();
        let mut left = limit_bytes;
        if let Some(log) = self.logs()?.into_iter().find(|log| log.incarnation == position.incarnation) {
            self.read_log(&log, Some(position), None, &mut left, &mut out)?;
        }
        Ok(out)
    }

    /// The end of a log whose writer is gone, synced by us: it may have died between write and sync.
    fn seal(&mut self, log: &LogDir) -> Result<LandingPosition, LandError> {
        let segments = self.segments(&log.dir)?;
        let mut end = LandingPosition::start_of(log.incarnation);
        let mut files = Vec::new();
        for (n, path) in &segments {
            let file = self.disk.open(path).map_err(|e| io("open", path, e))?;
            let len = file.len().map_err(|e| io("measure", path, e))?;
            end = LandingPosition { incarnation: log.incarnation, segment: *n, offset: len };
            files.push((path, file));
        }
        let Some(shared) = &mut self.shared else { return Ok(end) };
        if shared.sealed.get(&log.incarnation) != Some(&end) {
            for (path, file) in files {
                file.sync().map_err(|e| io("sync", path, e))?;
            }
            self.disk.sync_dir(&log.dir).map_err(|e| io("sync", &log.dir, e))?;
            shared.sealed.insert(log.incarnation, end);
        }
        Ok(end)
    }

    /// True if the segment that `position` lies in is there: not trimmed, nor carried away.
    ///
    /// # Errors
    /// [`LandError`].
    pub fn holds(&self, position: &LandingPosition) -> Result<bool, LandError> {
        let Some(log) = self.logs()?.into_iter().find(|log| log.incarnation == position.incarnation) else {
            return Ok(false);
        };
        Ok(self.segments(&log.dir)?.contains_key(&position.segment))
    }

    fn logs(&self) -> Result<Vec<LogDir>, LandError> {
        let mut logs = Vec::new();
        for receiver in self.disk.list(&self.root).map_err(|e| io("list", &self.root, e))? {
            // Files beside the receivers' directories are no logs; listing one fails with `NotADirectory`.
            let entries = match self.disk.list(&receiver) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => continue,
                Err(error) => return Err(io("list", &receiver, error)),
            };
            for dir in entries {
                let named = dir.file_name().and_then(|name| name.to_str());
                let Some(incarnation) = named.and_then(|name| parse_hex(name.as_bytes())) else { continue };
                let incarnation = IncarnationId(incarnation);
                let segments = self.segments(&dir)?;
                let Some((_, path)) = segments.first_key_value() else { continue };
                // A log whose first header was torn was never acked from.
                let Some(header) = self.header(path)? else { continue };
                logs.push(LogDir {
                    generation: header.generation,
                    created: header.created,
                    incarnation,
                    imported: receiver.file_name().is_some_and(|name| name == super::IMPORTED),
                    dir,
                });
            }
        }
        logs.sort_by_key(|log| (log.generation, log.created, log.incarnation));
        Ok(logs)
    }

    fn segments(&self, dir: &Path) -> Result<BTreeMap<u64, PathBuf>, LandError> {
        let paths = self.disk.list(dir).map_err(|e| io("list", dir, e))?;
        Ok(paths
            .into_iter()
            .filter_map(|path| {
                let n = path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()?;
                (segment_path(dir, n) == path).then_some((n, path))
            })
            .collect())
    }

    /// The header; `None` if the file ends before it or it is torn.
    fn header(&self, path: &Path) -> Result<Option<SegmentHeader>, LandError> {
        let file = self.disk.open(path).map_err(|e| io("open", path, e))?;
        let len = file.len().map_err(|e| io("measure", path, e))?;
        if len < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_BYTES];
        file.read_at(&mut bytes, 0).map_err(|e| io("read", path, e))?;
        let foreign = || LandError::Foreign { path: path.to_owned(), version: VERSION };
        let mut reader = Reader::new(&bytes);
        let mut fields = || -> Result<_, PrimitiveError> {
            reader.take(8)?;
            let generation = reader.u64()?;
            let incarnation = IncarnationId(reader.array()?);
            let segment = reader.u64()?;
            let created = UtcNanos(reader.i64()?);
            reader.take(12)?;
            Ok((SegmentHeader { generation, incarnation, segment, created }, reader.u32()?))
        };
        let (header, crc) = fields().map_err(|_| foreign())?;
        let whole = crc32c::crc32c(bytes.get(..60).unwrap_or_default()) == crc;
        // A record is written behind a header that is synced: without one, a header that adds up to nothing was torn by
        // a power cut, whatever it looks like.
        if !is_ours_or_torn(&bytes) && (whole || len > HEADER_BYTES as u64) {
            return Err(foreign());
        }
        Ok(whole.then_some(header))
    }

    fn read_log(
        &mut self,
        log: &LogDir,
        from: Option<LandingPosition>,
        told: Option<LandingPosition>,
        left: &mut usize,
        out: &mut Vec<Landed>,
    ) -> Result<(), LandError> {
        let synced = self.live.as_ref().map(|live| *live.borrow());
        let synced = synced.filter(|end| end.incarnation == log.incarnation).or(told);
        let first = from.map_or(0, |position| position.segment);
        let segments = self.segments(&log.dir)?;
        let last = segments.keys().next_back().copied().unwrap_or(0);
        for (n, path) in segments.range(first..) {
            if synced.is_some_and(|end| *n > end.segment) {
                break;
            }
            let file = self.disk.open(path).map_err(|e| io("open", path, e))?;
            let mut len = file.len().map_err(|e| io("measure", path, e))?;
            if let Some(end) = synced.filter(|end| end.segment == *n) {
                len = len.min(end.offset);
            }
            let start = from.filter(|position| position.segment == *n).map_or(0, |position| position.offset);
            let mut offset = start.max(HEADER_BYTES as u64);
            if offset == HEADER_BYTES as u64 && self.header(path)?.is_none() {
                continue;
            }
            loop {
                let at = |offset| LandingPosition { incarnation: log.incarnation, segment: *n, offset };
                match find(&file, path, at(offset), len)? {
                    Found::Record(mut landed) => {
                        if let Landed::Message(message) = landed.as_mut() {
                            message.imported = log.imported;
                        }
                        offset = landed.end().offset;
                        *left = left.saturating_sub(landed.bytes());
                        out.push(*landed);
                        if *left == 0 {
                            return Ok(());
                        }
                    }
                    Found::Rotten(next) => {
                        self.damage.records = self.damage.records.saturating_add(1);
                        tracing::error!(path = %path.display(), offset, "landing log record is rotten, stepped over");
                        offset = next;
                    }
                    Found::End => {
                        if offset < len && *n < last {
                            self.damage.segments = self.damage.segments.saturating_add(1);
                            tracing::warn!(path = %path.display(), offset, len, "landing segment ends in bytes that are no record");
                        }
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// True if magic and version are ours, or stop being ours where zeros begin: a header whose write was cut off.
fn is_ours_or_torn(header: &[u8; HEADER_BYTES]) -> bool {
    (VERSION_MIN..=VERSION).any(|version| {
        let mut ours = true;
        MAGIC.iter().chain(&version.to_le_bytes()).zip(header).all(|(expected, found)| {
            ours = ours && expected == found;
            ours || *found == 0
        })
    })
}

/// What stands at `at` in a file of which `len` bytes count.
fn find<F: DiskFile>(file: &F, path: &Path, at: LandingPosition, len: u64) -> Result<Found, LandError> {
    let (body, end) = match read_record(file, path, at.offset, len)? {
        Ok((body, end)) => (body, end),
        Err((_, Some(next))) if read_record(file, path, next, len)?.is_ok() => {
            return Ok(Found::Rotten(next));
        }
        Err(_) => return Ok(Found::End),
    };
    let end = LandingPosition { offset: end, ..at };
    match read_body(&body, at, end) {
        Ok(landed) => Ok(Found::Record(Box::new(landed))),
        // The checksum is right, so this was written so: by a bug or another version. Stepped over, counted.
        Err(_) => Ok(Found::Rotten(end.offset)),
    }
}

/// A body whose checksum is right with the offset after it; else why not, and where the next record would be.
type RecordRead = Result<(Vec<u8>, u64), (RecordFault, Option<u64>)>;

fn read_record<F: DiskFile>(file: &F, path: &Path, offset: u64, len: u64) -> Result<RecordRead, LandError> {
    let head_end = offset.saturating_add(RECORD_HEAD_BYTES as u64);
    if head_end > len {
        return Ok(Err((RecordFault::Short, None)));
    }
    let mut head = [0; RECORD_HEAD_BYTES];
    file.read_at(&mut head, offset).map_err(|e| io("read", path, e))?;
    let (n, crc) = match read_head(head) {
        Ok(head) => head,
        Err(fault) => return Ok(Err((fault, None))),
    };
    let end = head_end.saturating_add(n as u64);
    if end > len {
        return Ok(Err((RecordFault::Short, None)));
    }
    let mut body = vec![0; n];
    file.read_at(&mut body, head_end).map_err(|e| io("read", path, e))?;
    Ok(match check_body(&body, crc) {
        Ok(()) => Ok((body, end)),
        Err(fault) => Err((fault, Some(end))),
    })
}
