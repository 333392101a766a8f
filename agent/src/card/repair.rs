//! `fsck --repair`: opens the spool as the agent does, which is all the repair there is, and says what that did.

use super::CardError;
use super::fsck::{FsckReport, fsck};
use super::survey::Card;
use crate::spool::disk::RealDisk;
use crate::spool::{DiskSpool, Opened, Settings, SpoolLock, identity_of};
use headwater_core::id::BootId;
use headwater_core::ports::{Disk, DiskFile, Spool};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// What a repair did.
#[derive(Debug, Serialize)]
pub struct RepairReport {
    /// What was found before.
    pub before: FsckReport,
    /// What is found now.
    pub after: FsckReport,
    /// A new epoch was begun, since ids and seqs could not be proven.
    pub new_epoch: bool,
    /// Segments gone through frame by frame.
    pub scanned: u64,
    /// Segments set aside whole.
    pub set_aside: u64,
    /// Files that came to `quarantine/`, with what was cut.
    pub kept: Vec<String>,
    /// Losses that the agent records in `hw/gaps` at its next start.
    pub losses_to_record: u64,
}

impl RepairReport {
    /// True if something was put right.
    #[must_use]
    pub fn repaired(&self) -> bool {
        !self.before.is_clean() || self.new_epoch || self.set_aside > 0 || !self.kept.is_empty()
    }
}

/// Repairs the spool in `dir`; `boot_id` names the boot if the spool does not know its own.
///
/// # Errors
/// [`CardError::Lock`] while an agent holds it.
pub fn repair(dir: &Path, boot_id: BootId, mut seen: impl FnMut(u64)) -> Result<RepairReport, CardError> {
    if !dir.join("seg").is_dir() {
        return Err(CardError::NoSpool { dir: dir.to_owned() });
    }
    let _held = SpoolLock::take(dir)?;
    let before = look(dir, &mut seen)?;
    let quarantine = files(&dir.join("quarantine"));
    // Its own boot again: a repair is no start of the gateway.
    let identity =
        identity_of(&RealDisk, dir).map_err(|source| CardError::Read { path: dir.to_owned(), source })?;
    let boot_id = identity.boot.map_or(boot_id, |(_, boot_id)| boot_id);
    let (mut spool, opened) = open(dir, boot_id)?;
    let losses = spool.take_gaps().len() as u64;
    drop(spool);
    let after = look(dir, &mut seen)?;
    let kept = files(&dir.join("quarantine"))
        .into_iter()
        .filter(|(path, len)| quarantine.get(path) != Some(len))
        .map(|(path, _)| path.strip_prefix(dir).unwrap_or(&path).display().to_string())
        .collect();
    Ok(RepairReport {
        before,
        after,
        new_epoch: opened.new_epoch,
        scanned: opened.scanned,
        set_aside: opened.quarantined,
        kept,
        losses_to_record: losses,
    })
}

/// The lock is ours: the report need not say that the spool is in use.
fn look(dir: &Path, seen: &mut impl FnMut(u64)) -> Result<FsckReport, CardError> {
    let mut card = Card::open(dir, |_| ())?;
    card.in_use = false;
    Ok(fsck(&card, seen))
}

pub(super) fn open(dir: &Path, boot_id: BootId) -> Result<(DiskSpool<RealDisk>, Opened), CardError> {
    // Nothing is refused for room: what is here was admitted once, and gap records must fit.
    let settings = Settings { bytes_max: u64::MAX, free_bytes_min: 0, ..Settings::default() };
    DiskSpool::open(RealDisk, dir, boot_id, settings)
        .map_err(|source| CardError::Spool { dir: dir.to_owned(), source })
}

/// Files of a folder with their lengths; folders in it are others'.
fn files(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let paths = RealDisk.list(dir).unwrap_or_default().into_iter().filter(|path| path.is_file());
    let len = |path: &PathBuf| RealDisk.open(path).and_then(|file| file.len()).unwrap_or(0);
    paths.map(|path| (path.clone(), len(&path))).collect()
}

impl Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "before:\n{}", self.before)?;
        if self.new_epoch {
            writeln!(f, "ids and seqs could not be proven: the spool begins a new epoch")?;
        }
        if self.set_aside > 0 {
            writeln!(f, "{} segments were set aside whole", self.set_aside)?;
        }
        self.kept.iter().try_for_each(|file| writeln!(f, "kept what was cut in {file}"))?;
        if self.losses_to_record > 0 {
            writeln!(f, "{} losses get their gap records at the agent's next start", self.losses_to_record)?;
        }
        write!(f, "after:\n{}", self.after)?;
        if !self.after.is_clean() {
            writeln!(
                f,
                "what is left is recorded by the agent when it reads that far; nothing of it is removed"
            )?;
        }
        Ok(())
    }
}
