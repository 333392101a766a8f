//! The writer: appends groups of records to its own incarnation's log and syncs each group.

use super::record::RECORD_HEAD_BYTES;
use super::{LandError, LandRecord, LandingPosition, RECORD_BYTES_MAX};
use headwater_core::id::IncarnationId;
use headwater_core::ports::{Disk, DiskFile};
use headwater_core::time::UtcNanos;
use std::path::{Path, PathBuf};

/// A segment is closed above this: small enough to be read at once and trimmed early, and a whole blob
/// of 64 MiB still fits one.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Version of the format. A build that knows only version 1 would step over blobs of one part.
pub(super) const VERSION: u16 = 2;
/// Oldest version that is read.
pub(super) const VERSION_MIN: u16 = 1;
/// Memory kept for writing groups; what a larger one took is given back.
const BUFFER_BYTES_MAX: usize = 8 << 20;
/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 64;
pub(super) const MAGIC: [u8; 4] = *b"HWLL";

/// Where a landed record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where it starts.
    pub position: LandingPosition,
    /// Position after it.
    pub end: LandingPosition,
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) generation: u64,
    pub(super) incarnation: IncarnationId,
    pub(super) segment: u64,
    pub(super) created: UtcNanos,
}

impl SegmentHeader {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.0);
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.created.0.to_le_bytes());
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let mut out = [0; HEADER_BYTES];
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = from;
        }
        out
    }
}

/// Path of a segment.
pub(super) fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:08}.log"))
}

/// The open log of one incarnation.
pub struct Log<D: Disk> {
    disk: D,
    dir: PathBuf,
    generation: u64,
    incarnation: IncarnationId,
    file: D::File,
    path: PathBuf,
    segment: u64,
    /// Everything below is synced.
    offset: u64,
    segment_bytes_max: u64,
    /// Bytes of a group: kept, since a fresh buffer for each costs more than what is written into it.
    buffer: Vec<u8>,
}

impl<D: Disk> Log<D> {
    /// Starts the log of a new incarnation under `root`; durable when this returns.
    ///
    /// # Errors
    /// [`LandError::Io`], also if this incarnation exists already.
    pub fn create(
        disk: D,
        root: &Path,
        receiver: &str,
        incarnation: IncarnationId,
        generation: u64,
        now: UtcNanos,
    ) -> Result<Self, LandError> {
        let receiver_dir = root.join(receiver);
        let dir = receiver_dir.join(incarnation.to_string());
        disk.create_dir_all(&dir).map_err(|e| io("create", &dir, e))?;
        for parent in [&receiver_dir, &root.to_path_buf()] {
            disk.sync_dir(parent).map_err(|e| io("sync", parent, e))?;
        }
        // The root itself may be new, and those it lies in; not all of them are ours to open.
        for above in root.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            if let Err(error) = disk.sync_dir(above) {
                tracing::debug!(%error, dir = %above.display(), "folder above the landing log cannot be synced");
            }
        }
        let header = SegmentHeader { generation, incarnation, segment: 0, created: now };
        let (file, path) = start_segment(&disk, &dir, header)?;
        Ok(Self {
            disk,
            dir,
            generation,
            incarnation,
            file,
            path,
            segment: 0,
            offset: HEADER_BYTES as u64,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            buffer: Vec::new(),
        })
    }

    /// The same with a smaller segment, for tests of segment borders.
    #[cfg(test)]
    pub(crate) fn with_segment_bytes_max(mut self, bytes: u64) -> Self {
        self.segment_bytes_max = bytes;
        self
    }

    /// The synced end.
    #[must_use]
    pub fn end(&self) -> LandingPosition {
        self.at(self.offset)
    }

    /// Writes `group` and syncs it; when this returns, every record lies where its span says and survives
    /// power loss. If a sync fails, the group is written once more to a new segment before giving up: what a
    /// failed sync left behind proves nothing.
    ///
    /// # Errors
    /// [`LandError::Io`]; then nothing of the group may be acked, and this log must be given up.
    /// [`LandError::TooLarge`] before anything was written.
    pub fn append(&mut self, group: &[LandRecord], now: UtcNanos) -> Result<Vec<Span>, LandError> {
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.clear();
        let spans = self.append_by(group, now, &mut bytes);
        bytes.shrink_to(BUFFER_BYTES_MAX);
        self.buffer = bytes;
        spans
    }

    fn append_by(
        &mut self,
        group: &[LandRecord],
        now: UtcNanos,
        bytes: &mut Vec<u8>,
    ) -> Result<Vec<Span>, LandError> {
        let mut ends = Vec::with_capacity(group.len());
        for record in group {
            let start = bytes.len();
            record.put(bytes);
            let found = bytes.len().saturating_sub(start).saturating_sub(RECORD_HEAD_BYTES);
            if found > RECORD_BYTES_MAX {
                return Err(LandError::TooLarge { found, limit: RECORD_BYTES_MAX });
            }
            ends.push(bytes.len() as u64);
        }
        if self.offset >= self.segment_bytes_max {
            self.next_segment(now)?;
        }
        if let Err(error) = self.write_synced(bytes) {
            tracing::warn!(path = %self.path.display(), %error, "landing segment given up after a failed sync");
            let (path, end) = (self.path.clone(), self.offset);
            let again = self
                .next_segment(now)
                .and_then(|()| self.write_synced(bytes).map_err(|e| io("write and sync", &self.path, e)));
            if again.is_err() {
                self.cut(&path, end);
                if self.path != path {
                    self.cut(&self.path, self.offset);
                }
            }
            again?;
        }
        let start = self.offset;
        let mut spans = Vec::with_capacity(group.len());
        for end in ends {
            let position = self.end();
            self.offset = start.saturating_add(end);
            spans.push(Span { position, end: self.end() });
        }
        Ok(spans)
    }

    fn write_synced(&self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_at(bytes, self.offset)?;
        self.file.sync()
    }

    /// Takes a group that was given up out of its segment: what lies in the system's cache would read as landed to a
    /// later process, and may never reach the disk.
    fn cut(&self, path: &Path, end: u64) {
        let cut = self.disk.open(path).and_then(|file| {
            file.truncate(end)?;
            file.sync()
        });
        if let Err(error) = cut {
            tracing::warn!(path = %path.display(), %error, "landing segment given up may keep records that are not synced");
        }
    }

    fn next_segment(&mut self, now: UtcNanos) -> Result<(), LandError> {
        let segment = self.segment.saturating_add(1);
        let header = SegmentHeader {
            generation: self.generation,
            incarnation: self.incarnation,
            segment,
            created: now,
        };
        (self.file, self.path) = start_segment(&self.disk, &self.dir, header)?;
        self.segment = segment;
        self.offset = HEADER_BYTES as u64;
        Ok(())
    }

    fn at(&self, offset: u64) -> LandingPosition {
        LandingPosition { incarnation: self.incarnation, segment: self.segment, offset }
    }
}

impl<D: Disk> std::fmt::Debug for Log<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log({}, {})", self.path.display(), self.offset)
    }
}

fn start_segment<D: Disk>(
    disk: &D,
    dir: &Path,
    header: SegmentHeader,
) -> Result<(D::File, PathBuf), LandError> {
    let path = segment_path(dir, header.segment);
    let file = disk.create(&path).map_err(|e| io("create", &path, e))?;
    file.write_at(&header.to_bytes(), 0).map_err(|e| io("write", &path, e))?;
    file.sync().map_err(|e| io("sync", &path, e))?;
    disk.sync_dir(dir).map_err(|e| io("sync", dir, e))?;
    Ok((file, path))
}

pub(super) fn io(what: &'static str, path: &Path, source: std::io::Error) -> LandError {
    LandError::Io { what, path: path.to_owned(), source }
}
