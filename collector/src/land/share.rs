//! What several processes on one landing folder tell each other, in small files beside the logs.
//!
//! Nothing here decides what is durable or committed: a file that is late, lost or torn costs time only.

use super::log::io;
use super::{CommitMark, LandError, LandingPosition};
use headwater_core::id::{IncarnationId, Sha256, parse_hex};
use headwater_core::ports::{Disk, DiskFile};
use headwater_core::time::UtcNanos;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where receivers say that they live.
const PRESENCE_DIR: &str = ".receivers";
/// Where shards are leased, a folder per shard.
const LEASE_DIR: &str = ".leases";
/// What the newest commit holds.
const MARK_FILE: &str = ".committed";
/// Longest of these files that is read: a mark of some hundred thousand waiting messages.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A receiver that lives, for as long as it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Its name.
    pub receiver: String,
    /// Until when this holds, UTC.
    pub expires: UtcNanos,
    /// Synced end of its log: others read no further.
    pub end: LandingPosition,
}

/// The newest turn of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Grows with each holder: whoever sees a greater one than its own has lost the shard.
    pub turn: u64,
    /// Who took it; `None` = given back.
    pub holder: Option<IncarnationId>,
}

/// The files beside the logs of one landing folder.
#[derive(Debug, Clone)]
pub struct ShareBoard<D> {
    disk: D,
    root: PathBuf,
}

impl<D: Disk> ShareBoard<D> {
    /// The files beside the logs under `root`.
    #[must_use]
    pub fn new(disk: D, root: &Path) -> Self {
        Self { disk, root: root.to_owned() }
    }

    /// Says that a receiver lives, and how far its log is synced.
    ///
    /// # Errors
    /// [`LandError::Io`].
    pub fn say(&self, presence: &Presence) -> Result<(), LandError> {
        let Presence { receiver, expires, end } = presence;
        let text = json!({ "receiver": receiver, "expires": expires.0, "segment": end.segment, "offset": end.offset });
        let dir = self.root.join(PRESENCE_DIR);
        self.replace(&dir, &format!("{}.alive", end.incarnation), &text)
    }

    /// Says that it does so no more.
    ///
    /// # Errors
    /// [`LandError::Io`].
    pub fn leave(&self, incarnation: IncarnationId) -> Result<(), LandError> {
        let path = self.root.join(PRESENCE_DIR).join(format!("{incarnation}.alive"));
        match self.disk.unlink(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &path, error)),
            _ => Ok(()),
        }
    }

    /// Receivers that live at `now`. What expired an hour ago is cleared away.
    ///
    /// # Errors
    /// [`LandError::Io`].
    pub fn present(&self, now: UtcNanos) -> Result<BTreeMap<IncarnationId, Presence>, LandError> {
        let dir = self.root.join(PRESENCE_DIR);
        let mut present = BTreeMap::new();
        for path in self.disk.list(&dir).map_err(|e| io("list", &dir, e))? {
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".alive"));
            let Some(incarnation) = name.and_then(|name| parse_hex(name.as_bytes())).map(IncarnationId)
            else {
                continue;
            };
            let Some(presence) = self.read(&path)?.and_then(|value| presence_of(incarnation, &value)) else {
                continue;
            };
            if presence.expires > now {
                present.insert(incarnation, presence);
            } else if now.since(presence.expires) > FORGET_NS {
                self.leave(incarnation)?;
            }
        }
        Ok(present)
    }

    /// The newest turn of each shard that ever was leased.
    ///
    /// # Errors
    /// [`LandError::Io`].
    pub fn leases(&self) -> Result<BTreeMap<u8, Lease>, LandError> {
        let dir = self.root.join(LEASE_DIR);
        let mut leases = BTreeMap::new();
        for shard_dir in self.disk.list(&dir).map_err(|e| io("list", &dir, e))? {
            let Some(shard) = number(&shard_dir) else { continue };
            let turns = self.disk.list(&shard_dir).map_err(|e| io("list", &shard_dir, e))?;
            let newest = turns.iter().filter_map(|path| Some((number(path)?, path))).max();
            let Some((turn, path)) = newest else { continue };
            // One that is torn, or being written, is nobody's: at worst two take turns, and the later one counts.
            let holder = self.read(path)?.and_then(|value| holder_of(&value));
            leases.insert(shard, Lease { turn, holder });
        }
        Ok(leases)
    }

    /// Takes a turn of a shard (`None` = gives it back). False if another was first.
    ///
    /// # Errors
    /// [`LandError::Io`].
    pub fn take_turn(&self, shard: u8, turn: u64, holder: Option<IncarnationId>) -> Result<bool, LandError> {
        let dir = self.root.join(LEASE_DIR).join(format!("{shard:02}"));
        self.disk.create_dir_all(&dir).map_err(|e| io("create", &dir, e))?;
        let path = dir.join(format!("{turn:08}"));
        let file = match self.disk.create(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
            made => made.map_err(|e| io("create", &path, e))?,
        };
        let text = json!({ "holder": holder.map(|holder| holder.to_string()) }).to_string();
        file.write_at(text.as_bytes(), 0).map_err(|e| io("write", &path, e))?;
        for old in self.disk.list(&dir).map_err(|e| io("list", &dir, e))? {
            // Another may clear away the same.
            if number::<u64>(&old).is_some_and(|n| n < turn)
                && let Err(error) = self.disk.unlink(&old)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(io("remove", &old, error));
            }
        }
        Ok(true)
    }

    /// Tells what the newest commit holds.
    ///
    /// # Errors
    /// [`LandError::Io`].
    pub fn publish_mark(&self, mark: &CommitMark) -> Result<(), LandError> {
        let place = |at: &LandingPosition| json!([at.incarnation.to_string(), at.segment, at.offset]);
        let text = json!({
            "commit": mark.commit.map(|commit| commit.to_string()),
            "at": mark.at.map(|at| at.0),
            "cursors": mark.cursors.values().map(place).collect::<Vec<_>>(),
            "waiting": mark.waiting.iter().map(place).collect::<Vec<_>>(),
        });
        self.replace(&self.root, MARK_FILE, &text)
    }

    /// What the newest commit holds, as far as it was told.
    ///
    /// # Errors
    /// [`LandError::Io`].
    pub fn mark(&self) -> Result<Option<CommitMark>, LandError> {
        Ok(self.read(&self.root.join(MARK_FILE))?.and_then(|value| mark_of(&value)))
    }

    fn replace(&self, dir: &Path, name: &str, value: &Value) -> Result<(), LandError> {
        self.disk.create_dir_all(dir).map_err(|e| io("create", dir, e))?;
        let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
        match self.disk.unlink(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("remove", &new, error));
            }
            _ => {}
        }
        let file = self.disk.create(&new).map_err(|e| io("create", &new, e))?;
        file.write_at(value.to_string().as_bytes(), 0).map_err(|e| io("write", &new, e))?;
        self.disk.rename(&new, &path).map_err(|e| io("rename", &new, e))
    }

    /// `None`: not there, or not to be read.
    fn read(&self, path: &Path) -> Result<Option<Value>, LandError> {
        let file = match self.disk.open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|e| io("open", path, e))?,
        };
        let len = file.len().map_err(|e| io("measure", path, e))?.min(FILE_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        file.read_at(&mut bytes, 0).map_err(|e| io("read", path, e))?;
        Ok(serde_json::from_slice(&bytes).ok())
    }
}

/// An expired presence is kept for this long, for people who look.
const FORGET_NS: i64 = 3_600 * headwater_core::time::NS_PER_S;

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    path.file_name()?.to_str()?.parse().ok()
}

fn incarnation_of(value: &Value) -> Option<IncarnationId> {
    parse_hex(value.as_str()?.as_bytes()).map(IncarnationId)
}

fn holder_of(value: &Value) -> Option<IncarnationId> {
    incarnation_of(value.get("holder")?)
}

fn presence_of(incarnation: IncarnationId, value: &Value) -> Option<Presence> {
    Some(Presence {
        receiver: value.get("receiver")?.as_str()?.to_owned(),
        expires: UtcNanos(value.get("expires")?.as_i64()?),
        end: LandingPosition {
            incarnation,
            segment: value.get("segment")?.as_u64()?,
            offset: value.get("offset")?.as_u64()?,
        },
    })
}

fn place_of(value: &Value) -> Option<LandingPosition> {
    Some(LandingPosition {
        incarnation: incarnation_of(value.get(0)?)?,
        segment: value.get(1)?.as_u64()?,
        offset: value.get(2)?.as_u64()?,
    })
}

fn mark_of(value: &Value) -> Option<CommitMark> {
    let places = |key: &str| value.get(key)?.as_array()?.iter().map(place_of).collect::<Option<Vec<_>>>();
    let commit = value.get("commit").and_then(Value::as_str);
    Some(CommitMark {
        cursors: places("cursors")?.into_iter().map(|at| (at.incarnation, at)).collect(),
        waiting: places("waiting")?.into_iter().collect(),
        commit: commit.and_then(|hex| parse_hex(hex.as_bytes())).map(Sha256),
        at: value.get("at").and_then(Value::as_i64).map(UtcNanos),
    })
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
