//! A folder in which another program leaves pictures.
//!
//! A picture is taken when it was closed or moved in, and removed only after the spool has it on
//! disk. Power loss between the two makes it be captured twice, never not at all.

use super::RECEIPTS_MAX;
use super::backoff::Backoff;
use super::frame_stamp::FrameTime;
use super::image::{self, IMAGE_BYTES_MAX, ImageFault};
use crate::config::After;
use crate::receipt::Receipt;
use crate::telemetry::{SourceDown, SourceUp};
use headwater_core::gap::GapCause;
use headwater_core::id::StreamName;
use headwater_core::ports::{Clock, Source, SourceError, SourceEvent};
use headwater_core::schema::builtin;
use headwater_core::time::{BootNanos, Latency, StampKind};
use inotify::{EventMask, Inotify, WatchMask};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Pictures handed on and not yet on disk: bounds memory, and nothing is shed while files can wait.
const IN_FLIGHT_MAX: usize = 4;
/// A picture found at start that is not whole may still be written: it is looked at again after this, ms.
const GRACE_MS: u64 = 5_000;
/// A picture the spool had no room for is offered again after this, ms.
const AGAIN_MS: u64 = 2_000;
/// Bytes kept of a file that is larger than any picture.
const HEAD_BYTES: u64 = 64 * 1_024;
/// How long the end of the agent waits for receipts, ms: a sync or two.
const CLOSE_MS: u64 = 3_000;
const EVENT_BYTES: usize = 8 * 1_024;

/// A file that may be a picture.
#[derive(Debug, Clone)]
struct Candidate {
    name: String,
    seen: BootNanos,
    due: BootNanos,
    /// Nobody said that it is finished: its length when it was last looked at and not whole.
    doubtful: Option<Option<u64>>,
}

/// A file that was handed on, as it was then.
#[derive(Debug)]
struct InFlight {
    name: String,
    identity: (u64, u64, i64, i64),
    folder: Option<&'static str>,
}

fn identity(metadata: &Metadata) -> (u64, u64, i64, i64) {
    (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

/// The source.
#[derive(Debug)]
pub struct CameraDirSource<C> {
    clock: C,
    stream: StreamName,
    latency: Latency,
    dir: PathBuf,
    after: After,
    watch: Option<AsyncFd<Inotify>>,
    open_at: Option<BootNanos>,
    backoff: Backoff,
    queue: VecDeque<Candidate>,
    /// Names queued or handed on.
    known: BTreeSet<String>,
    in_flight: BTreeMap<u64, InFlight>,
    receipts: mpsc::Receiver<Receipt>,
    events: VecDeque<SourceEvent>,
    pushed: u64,
    buffer: Vec<u8>,
}

impl<C: Clock> CameraDirSource<C> {
    pub(super) fn new(
        clock: C,
        stream: StreamName,
        latency: Latency,
        dir: PathBuf,
        after: After,
    ) -> (Self, mpsc::Sender<Receipt>) {
        let (sender, receipts) = mpsc::channel(RECEIPTS_MAX);
        let mut source = Self {
            clock,
            stream: stream.clone(),
            latency,
            dir,
            after,
            watch: None,
            open_at: None,
            backoff: Backoff::default(),
            queue: VecDeque::new(),
            known: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            receipts,
            events: VecDeque::new(),
            pushed: 0,
            buffer: vec![0; EVENT_BYTES],
        };
        source.push(SourceEvent::Stream { name: stream, schema: builtin::image() });
        (source, sender)
    }

    /// Queues an event; gives its number, by which receipts speak of it.
    fn push(&mut self, event: SourceEvent) -> u64 {
        let number = self.pushed;
        self.pushed = number.saturating_add(1);
        self.events.push_back(event);
        number
    }

    /// Waits a little for the receipts of what was handed on, so that it is not captured twice.
    pub(super) async fn close(&mut self) {
        let given = self.pushed.saturating_sub(self.events.len() as u64);
        let late = self.clock.boot().plus_ms(CLOSE_MS);
        while self.in_flight.keys().any(|number| *number < given) {
            tokio::select! {
                receipt = self.receipts.recv() => match receipt {
                    Some(receipt) => self.receipt(receipt),
                    None => return,
                },
                () = self.clock.sleep_until(late) => return,
            }
        }
    }

    async fn open(&mut self) {
        if let Some(at) = self.open_at {
            self.clock.sleep_until(at).await;
        }
        let opened = (|| -> io::Result<AsyncFd<Inotify>> {
            let inotify = Inotify::init()?;
            let mask = WatchMask::CLOSE_WRITE
                | WatchMask::MOVED_TO
                | WatchMask::DELETE_SELF
                | WatchMask::MOVE_SELF
                | WatchMask::ONLYDIR;
            inotify.watches().add(&self.dir, mask)?;
            #[expect(
                deprecated,
                reason = "the replacement is unsafe; inotify owns its descriptor and gives no other"
            )]
            AsyncFd::new(inotify)
        })();
        match opened.and_then(|watch| self.scan().map(|()| watch)) {
            Ok(watch) => {
                self.watch = Some(watch);
                self.backoff.up(self.clock.boot());
                SourceUp { stream: &self.stream, what: &self.dir.display().to_string() }.emit();
            }
            Err(error) => self.down(&error.to_string()),
        }
    }

    fn down(&mut self, why: &str) {
        self.watch = None;
        let now = self.clock.boot();
        let (retry_ms, tries) = self.backoff.failed(now);
        self.open_at = Some(now.plus_ms(retry_ms));
        let why = format!("{}: {why}", self.dir.display());
        SourceDown { stream: &self.stream, why: &why, retry_ms, tries }.emit();
    }

    /// Queues what is in the folder, in the order of names.
    fn scan(&mut self) -> io::Result<()> {
        let mut names: Vec<String> = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            names.extend(entry?.file_name().into_string().ok().filter(|name| is_picture_name(name)));
        }
        names.sort();
        let now = self.clock.boot();
        for name in names {
            if self.known.insert(name.clone()) {
                self.queue.push_back(Candidate { name, seen: now, due: now, doubtful: Some(None) });
            }
        }
        Ok(())
    }

    /// Reads what the kernel says about the folder.
    fn changes(&mut self) -> Result<(), String> {
        let now = self.clock.boot();
        let mut rescan = false;
        // The kernel wakes us once for all it has to say: read until it has no more.
        while let Some(watch) = &mut self.watch {
            let events = match watch.get_mut().read_events(&mut self.buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.to_string()),
            };
            for event in events {
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    rescan = true;
                    continue;
                }
                if event.mask.intersects(EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED) {
                    return Err("the folder is gone".to_owned());
                }
                let name = event.name.and_then(|name| name.to_str()).filter(|name| is_picture_name(name));
                let Some(name) = name else { continue };
                let finished = Candidate { name: name.to_owned(), seen: now, due: now, doubtful: None };
                if self.known.insert(name.to_owned()) {
                    self.queue.push_back(finished);
                } else if let Some(queued) = self.queue.iter_mut().find(|queued| queued.name == name) {
                    *queued = finished;
                }
                // Else it is in flight and was written again: its receipt finds that out.
            }
        }
        if rescan { self.scan().map_err(|error| error.to_string()) } else { Ok(()) }
    }

    /// Reads the first candidate that is due. It stays queued until it was read.
    async fn take(&mut self) {
        let now = self.clock.boot();
        let Some(at) = self.queue.iter().position(|candidate| candidate.due <= now) else { return };
        let Some(candidate) = self.queue.get(at).cloned() else { return };
        let path = self.dir.join(&candidate.name);
        let read = tokio::task::spawn_blocking(move || read_picture(&path)).await;
        self.queue.remove(at);
        let (metadata, bytes) = match read.map_err(io::Error::other).and_then(|read| read) {
            Ok(read) => read,
            Err(error) => {
                // Gone again, a folder, or not ours to read: nothing was captured and nothing removed.
                self.known.remove(&candidate.name);
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(stream = %self.stream, file = candidate.name, %error, "file cannot be read");
                }
                return;
            }
        };
        self.judge(candidate, &metadata, bytes);
    }

    fn judge(&mut self, candidate: Candidate, metadata: &Metadata, bytes: Vec<u8>) {
        let now = self.clock.boot();
        let too_large = metadata.len() > IMAGE_BYTES_MAX as u64;
        let verdict = if too_large {
            Err(ImageFault::Broken { at: IMAGE_BYTES_MAX, what: "picture is larger than any camera's" })
        } else {
            image::check(&bytes)
        };
        let stream = self.stream.clone();
        let (number, folder) = match verdict {
            Ok(picture) => {
                let t = self.arrival(&candidate, metadata);
                let time = FrameTime { t, latency: self.latency, kind: StampKind::Arrival };
                let reading = image::reading(&picture, bytes, Some(candidate.name.clone()), time);
                let folder = (self.after == After::Keep).then_some("done");
                (self.push(SourceEvent::Reading { stream, reading }), folder)
            }
            Err(_) if candidate.doubtful.is_some_and(|len| len != Some(metadata.len())) => {
                let due = now.plus_ms(GRACE_MS);
                let doubtful = Some(Some(metadata.len()));
                self.queue.push_back(Candidate { due, doubtful, ..candidate });
                return;
            }
            Err(fault) => {
                let why = format!("{}: {fault}", candidate.name);
                let (at, cause) = (now, GapCause::RejectedQuarantine);
                self.push(SourceEvent::SetAside { stream: stream.clone(), why: why.clone(), bytes, at });
                // Only the head of a large file is in quarantine: the file itself is put aside.
                let folder = too_large.then_some("rejected");
                (self.push(SourceEvent::Lost { stream, rows: 1, cause, at, note: why }), folder)
            }
        };
        let in_flight = InFlight { name: candidate.name, identity: identity(metadata), folder };
        self.in_flight.insert(number, in_flight);
    }

    /// When a picture arrived: when it was closed or, for one found at start, its age by the file
    /// system if that lies within this boot. (The age trusts the wall clock not to have stepped since.)
    fn arrival(&self, candidate: &Candidate, metadata: &Metadata) -> BootNanos {
        if candidate.doubtful.is_none() {
            return candidate.seen;
        }
        let now = self.clock.read();
        let written = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        let age = now.real.0.saturating_sub(written);
        if (0..now.b1.0).contains(&age) { now.b1.plus_ns(age.saturating_neg()) } else { candidate.seen }
    }

    fn receipt(&mut self, receipt: Receipt) {
        let Some(file) = self.in_flight.remove(&receipt.event) else { return };
        let path = self.dir.join(&file.name);
        self.known.remove(&file.name);
        let now = self.clock.boot();
        let same = std::fs::symlink_metadata(&path).is_ok_and(|now| identity(&now) == file.identity);
        if !receipt.captured || !same {
            if path.exists() {
                let due = if receipt.captured { now } else { now.plus_ms(AGAIN_MS) };
                self.known.insert(file.name.clone());
                self.queue.push_back(Candidate { name: file.name, seen: now, due, doubtful: Some(None) });
            }
            return;
        }
        let done = match file.folder {
            None => std::fs::remove_file(&path),
            Some(folder) => {
                let folder = self.dir.join(folder);
                std::fs::create_dir_all(&folder)
                    .and_then(|()| std::fs::rename(&path, folder.join(&file.name)))
            }
        };
        if let Err(error) = done {
            // It stays known, so that it is captured again only after a restart.
            self.known.insert(file.name.clone());
            tracing::error!(stream = %self.stream, file = file.name, %error,
                "captured picture cannot be removed; let the agent's user write in its folder");
        }
    }
}

fn is_picture_name(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    !name.starts_with('.') && extension.is_some_and(|e| matches!(e.as_str(), "jpg" | "jpeg" | "png"))
}

fn read_picture(path: &std::path::Path) -> io::Result<(Metadata, Vec<u8>)> {
    use std::io::Read;
    let metadata = std::fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    let mut bytes = Vec::new();
    let limit = if metadata.len() > IMAGE_BYTES_MAX as u64 { HEAD_BYTES } else { IMAGE_BYTES_MAX as u64 };
    std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok((metadata, bytes))
}

impl<C: Clock> Source for CameraDirSource<C> {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            while let Ok(receipt) = self.receipts.try_recv() {
                self.receipt(receipt);
            }
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.watch.is_none() {
                self.open().await;
                continue;
            }
            let room = self.in_flight.len() < IN_FLIGHT_MAX;
            let next_due = self.queue.iter().map(|candidate| candidate.due).min().filter(|_| room);
            if next_due.is_some_and(|due| due <= self.clock.boot()) {
                self.take().await;
                continue;
            }
            let Some(watch) = &mut self.watch else { continue };
            let due = async {
                match next_due {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let ready = tokio::select! {
                ready = watch.readable_mut() => match ready {
                    Ok(mut ready) => {
                        // More may come while we read: readiness is cleared first.
                        ready.clear_ready();
                        true
                    }
                    Err(_) => true,
                },
                Some(receipt) = self.receipts.recv(), if !self.in_flight.is_empty() => {
                    self.receipt(receipt);
                    false
                }
                () = due => false,
            };
            if ready && let Err(why) = self.changes() {
                self.down(&why);
            }
        }
    }
}

#[cfg(test)]
mod tests;
