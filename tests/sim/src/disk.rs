//! A disk in memory that loses what was not synced: power cuts, failing syncs, full and rotting media.
//!
//! It is harsher than file systems are: of everything not synced each write is kept, lost, torn or
//! turned to garbage on its own, and each entry of a directory likewise kept or lost, in any order. A folder
//! whose own name was not synced may be lost with everything below it, synced or not.

use headwater_core::ports::{Disk, DiskFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A small deterministic generator (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n` (0 if `n` is).
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.roll() % (n.max(1) as u64)).unwrap_or(0)
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Op>,
    /// Ranges that cannot be read.
    bad: Vec<std::ops::Range<usize>>,
}

#[derive(Debug, Clone)]
enum NameOp {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl NameOp {
    fn parents(&self) -> Vec<&Path> {
        match self {
            Self::Link(path, _) | Self::Unlink(path) => path.parent().into_iter().collect(),
            Self::Rename(from, to, _) => from.parent().into_iter().chain(to.parent()).collect(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

/// Calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `read_at`.
    Read,
    /// `write_at`; any part of the bytes is written all the same, maybe all of them.
    Write,
    /// `sync`: the bytes written since the last one will never be durable, though they are read.
    Sync,
    /// Changes of names: `create`, `rename`, `unlink` and `sync_dir`.
    Name,
}

/// Which calls of a kind fail.
#[derive(Debug, Clone, Copy)]
struct Failing {
    after: u32,
    left: u32,
    dice: u64,
}

/// What was done to the disk so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls of `read_at`.
    pub reads: u64,
    /// Bytes they gave.
    pub read_bytes: u64,
    /// Calls that change something, syncs among them.
    pub changes: u64,
    /// Calls of `sync` on files.
    pub syncs: u64,
}

#[derive(Debug, Clone)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    unsynced_names: Vec<NameOp>,
    dirs: BTreeSet<PathBuf>,
    /// Folders whose name may not survive.
    unsynced_dirs: BTreeSet<PathBuf>,
    capacity: u64,
    read_only: bool,
    failing: BTreeMap<Call, Failing>,
    power_left: Option<u64>,
    counts: Counts,
}

/// The disk. Clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// A file on it.
#[derive(Debug)]
pub struct SimFile {
    state: Arc<Mutex<State>>,
    inode: u64,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn eio(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

impl State {
    fn change(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.power_left {
            *left = left.checked_sub(1).ok_or_else(|| eio("power is off"))?;
        }
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.counts.changes += 1;
        Ok(())
    }

    /// A roll of the dice if a call of this kind fails now.
    fn fails(&mut self, call: Call) -> Option<Dice> {
        let failing = self.failing.get_mut(&call)?;
        if failing.after > 0 {
            failing.after -= 1;
            return None;
        }
        failing.left = failing.left.checked_sub(1)?;
        failing.dice = failing.dice.wrapping_add(1);
        Some(Dice::new(failing.dice))
    }

    fn change_name(&mut self) -> io::Result<()> {
        self.change()?;
        self.fails(Call::Name).map_or(Ok(()), |_| Err(eio("the folder cannot be changed")))
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|inode| self.inodes.get(inode))
            .map(|inode| inode.now.len() as u64)
            .sum()
    }

    fn name_op(&mut self, op: NameOp) {
        op.apply(&mut self.names);
        self.unsynced_names.push(op);
    }
}

fn write(data: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if data.len() < end {
        data.resize(end, 0);
    }
    if let Some(place) = data.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

impl SimDisk {
    /// An empty disk of 1 TiB.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            dirs: BTreeSet::new(),
            unsynced_dirs: BTreeSet::new(),
            capacity: 1 << 40,
            read_only: false,
            failing: BTreeMap::new(),
            power_left: None,
            counts: Counts::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk as it is found after the power was cut now: a new disk, deterministic by `seed`. The
    /// original goes on, so that one run can be cut in many ways.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut state = lock(&self.state).clone();
        let mut dice = Dice::new(seed);
        for inode in state.inodes.values_mut() {
            for op in std::mem::take(&mut inode.unsynced) {
                survive(&mut inode.durable, &op, &mut dice);
            }
            inode.now = inode.durable.clone();
        }
        let ops = std::mem::take(&mut state.unsynced_names);
        for op in ops.iter().filter(|_| dice.roll() & 1 == 0) {
            op.apply(&mut state.durable_names);
        }
        let gone: Vec<PathBuf> =
            std::mem::take(&mut state.unsynced_dirs).into_iter().filter(|_| dice.roll() & 1 == 0).collect();
        let stays = |path: &Path| !gone.iter().any(|dir| path.starts_with(dir));
        state.durable_names.retain(|path, _| stays(path));
        state.dirs.retain(|path| stays(path));
        state.names = state.durable_names.clone();
        state.power_left = None;
        state.read_only = false;
        state.failing.clear();
        state.counts = Counts::default();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Every change after the next `changes` fails: the power goes off in the middle of something.
    pub fn cut_power_after(&self, changes: u64) {
        lock(&self.state).power_left = Some(changes);
    }

    /// True once a change failed for want of power.
    #[must_use]
    pub fn power_is_off(&self) -> bool {
        lock(&self.state).power_left == Some(0)
    }

    /// The next `n` syncs of files fail; what they should have made durable never will be.
    pub fn fail_syncs(&self, n: u32) {
        self.fail(Call::Sync, 0, n);
    }

    /// After the next `after` calls of a kind, `n` of them fail.
    pub fn fail(&self, call: Call, after: u32, n: u32) {
        let dice = u64::from(after) << 32 | u64::from(n);
        lock(&self.state).failing.insert(call, Failing { after, left: n, dice });
    }

    /// Nothing may be changed, or all of it again.
    pub fn set_read_only(&self, read_only: bool) {
        lock(&self.state).read_only = read_only;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        lock(&self.state).used()
    }

    /// Size of the disk, bytes.
    pub fn set_capacity(&self, bytes: u64) {
        lock(&self.state).capacity = bytes;
    }

    /// Flips one bit of a stored file, for good.
    pub fn flip(&self, path: &Path, bit: u64) {
        self.edit(path, |data| {
            if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| data.get_mut(at)) {
                *byte ^= 1 << (bit % 8);
            }
        });
    }

    /// Makes a range of a stored file unreadable, for good.
    pub fn spoil(&self, path: &Path, range: std::ops::Range<usize>) {
        let mut state = lock(&self.state);
        let inode = state.names.get(path).copied();
        if let Some(inode) = inode.and_then(|inode| state.inodes.get_mut(&inode)) {
            inode.bad.push(range);
        }
    }

    /// Changes a stored file behind everyone's back, for good.
    pub fn edit(&self, path: &Path, change: impl Fn(&mut Vec<u8>)) {
        let mut state = lock(&self.state);
        let inode = state.names.get(path).copied();
        if let Some(inode) = inode.and_then(|inode| state.inodes.get_mut(&inode)) {
            change(&mut inode.now);
            change(&mut inode.durable);
        }
    }

    /// Removes a file or everything below a folder behind everyone's back, for good.
    pub fn wipe(&self, path: &Path) {
        let mut state = lock(&self.state);
        state.names.retain(|name, _| !name.starts_with(path));
        state.durable_names.retain(|name, _| !name.starts_with(path));
        state.unsynced_names.retain(|op| !op.parents().iter().any(|parent| parent.starts_with(path)));
    }

    /// The bytes of a file as a reader sees them.
    #[must_use]
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = lock(&self.state);
        state.names.get(path).and_then(|inode| state.inodes.get(inode)).map(|inode| inode.now.clone())
    }

    /// All files, by path.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        lock(&self.state).names.keys().cloned().collect()
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.state).counts
    }
}

/// What a power cut leaves of one unsynced change.
fn survive(data: &mut Vec<u8>, op: &Op, dice: &mut Dice) {
    match op {
        Op::Truncate(len) => {
            if dice.roll() & 1 == 0 {
                data.resize(*len, 0);
            }
        }
        Op::Write { offset, bytes } => match dice.below(5) {
            0 => {}
            1 | 2 => write(data, *offset, bytes),
            3 => write(data, *offset, bytes.get(..dice.below(bytes.len())).unwrap_or_default()),
            _ => {
                let from = dice.below(bytes.len());
                let garbage: Vec<u8> = bytes
                    .iter()
                    .enumerate()
                    .map(|(at, byte)| if at < from { *byte } else { dice.roll().to_le_bytes()[0] })
                    .collect();
                write(data, *offset, &garbage);
            }
        },
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = lock(&self.state);
        state.change_name()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|parent| state.dirs.contains(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.name_op(NameOp::Link(path.to_owned(), inode));
        Ok(SimFile { state: Arc::clone(&self.state), inode })
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let inode = lock(&self.state).names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFile { state: Arc::clone(&self.state), inode })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        for dir in path.ancestors().filter(|dir| dir.parent().is_some()) {
            if !state.dirs.contains(dir) {
                state.change()?;
                state.dirs.insert(dir.to_owned());
                state.unsynced_dirs.insert(dir.to_owned());
            }
        }
        state.dirs.insert(PathBuf::from("/"));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.change_name()?;
        let inode = state.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        state.name_op(NameOp::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.change_name()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name_op(NameOp::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.change_name()?;
        state.unsynced_dirs.retain(|dir| dir.parent() != Some(path));
        let ops = std::mem::take(&mut state.unsynced_names);
        let (now, later): (Vec<_>, Vec<_>) = ops.into_iter().partition(|op| op.parents().contains(&path));
        now.iter().for_each(|op| op.apply(&mut state.durable_names));
        state.unsynced_names = later;
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = lock(&self.state);
        let below = |entry: &&PathBuf| entry.parent() == Some(path);
        Ok(state.names.keys().chain(&state.dirs).filter(below).cloned().collect())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let state = lock(&self.state);
        Ok(state.capacity.saturating_sub(state.used()))
    }
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        act(&mut lock(&self.state), self.inode)
    }
}

fn inode(state: &mut State, inode: u64) -> io::Result<&mut Inode> {
    state.inodes.get_mut(&inode).ok_or_else(|| eio("file of another life"))
}

fn size(n: u64) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|state, id| inode(state, id).map(|inode| inode.now.len() as u64))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|state, id| {
            state.counts.reads += 1;
            state.counts.read_bytes += buf.len() as u64;
            if state.fails(Call::Read).is_some() {
                return Err(eio("read failed"));
            }
            let from = size(offset)?;
            let inode = inode(state, id)?;
            let to = from.saturating_add(buf.len());
            if inode.bad.iter().any(|bad| bad.start < to && from < bad.end) {
                return Err(eio("bad sector"));
            }
            let data = &inode.now;
            let found = data.get(from..from.saturating_add(buf.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
            buf.copy_from_slice(found);
            Ok(())
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|state, id| {
            state.change()?;
            let (from, used, capacity) = (size(offset)?, state.used(), state.capacity);
            let fails = state.fails(Call::Write);
            let inode = inode(state, id)?;
            let grows = (from + bytes.len()).saturating_sub(inode.now.len()) as u64;
            let fits = grows == 0 || used.saturating_add(grows) <= capacity;
            // A full disk takes the first half: what a short write leaves behind.
            let mut taken = if fits { bytes } else { bytes.get(..bytes.len() / 2).unwrap_or_default() };
            if let Some(mut dice) = fails.clone() {
                taken = taken.get(..dice.below(taken.len() + 1)).unwrap_or_default();
            }
            write(&mut inode.now, from, taken);
            inode.unsynced.push(Op::Write { offset: from, bytes: taken.to_vec() });
            if fails.is_some() {
                return Err(eio("write failed"));
            }
            if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.with(|state, id| {
            state.change()?;
            let len = size(len)?;
            let inode = inode(state, id)?;
            inode.now.resize(len, 0);
            inode.unsynced.push(Op::Truncate(len));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, id| {
            state.change()?;
            state.counts.syncs += 1;
            let fails = state.fails(Call::Sync).is_some();
            let inode = inode(state, id)?;
            let ops = std::mem::take(&mut inode.unsynced);
            if fails {
                // The pages are marked clean and never written: a later sync succeeds and proves nothing.
                return Err(eio("sync failed"));
            }
            for op in ops {
                match op {
                    Op::Write { offset, bytes } => write(&mut inode.durable, offset, &bytes),
                    Op::Truncate(len) => inode.durable.resize(len, 0),
                }
            }
            Ok(())
        })
    }
}

/// What every [`Disk`] promises, real or not. Panics with what is broken.
///
/// # Panics
/// If a promise is broken.
#[expect(clippy::unwrap_used, reason = "a conformance suite is test code")]
pub fn conformance<D: Disk>(disk: &D, root: &Path) {
    let dir = root.join("a/b");
    assert!(disk.list(&dir).unwrap().is_empty(), "a missing folder lists as empty");
    disk.create_dir_all(&dir).unwrap();
    disk.create_dir_all(&dir).unwrap();
    let path = dir.join("one");
    assert_eq!(disk.open(&path).map(drop).unwrap_err().kind(), io::ErrorKind::NotFound);
    let file = disk.create(&path).unwrap();
    assert_eq!(disk.create(&path).map(drop).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(file.is_empty().unwrap());
    file.write_at(b"hello", 3).unwrap();
    assert_eq!(file.len().unwrap(), 8);
    let mut all = [9; 8];
    file.read_at(&mut all, 0).unwrap();
    assert_eq!(&all, b"\0\0\0hello");
    let past = file.read_at(&mut all, 1).unwrap_err();
    assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
    let again = disk.open(&path).unwrap();
    again.write_at(b"J", 3).unwrap();
    file.truncate(5).unwrap();
    let mut two = [0; 2];
    file.read_at(&mut two, 3).unwrap();
    assert_eq!(&two, b"Je", "two handles see one file");
    file.sync().unwrap();
    disk.sync_dir(&dir).unwrap();
    let other = dir.join("two");
    disk.create(&other).unwrap().write_at(b"x", 0).unwrap();
    disk.rename(&path, &other).unwrap();
    assert_eq!(disk.list(&dir).unwrap(), std::slice::from_ref(&other));
    assert_eq!(disk.open(&other).unwrap().len().unwrap(), 5, "a rename replaces its target");
    assert_eq!(disk.rename(&path, &other).unwrap_err().kind(), io::ErrorKind::NotFound);
    disk.unlink(&other).unwrap();
    assert_eq!(disk.unlink(&other).unwrap_err().kind(), io::ErrorKind::NotFound);
    file.write_at(b"!", 0).unwrap();
    assert_eq!(file.len().unwrap(), 5, "an open file outlives its name");
    assert!(disk.free_bytes(root).unwrap() > 0);
    disk.sync_dir(root).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulated_disk_conforms() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/root")).unwrap();
        conformance(&disk, Path::new("/root"));
    }

    fn disk_with(path: &Path) -> (SimDisk, SimFile) {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.create(path).unwrap();
        (disk, file)
    }

    #[test]
    fn synced_bytes_and_names_survive_and_others_may_not() {
        let path = Path::new("/d/f");
        let (disk, file) = disk_with(path);
        file.write_at(b"kept", 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        assert!((0..20).any(|seed| disk.crash(seed).open(path).is_err()), "the name was not synced");
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(b"lost?", 4).unwrap();
        let found: BTreeSet<Vec<u8>> = (0..200).map(|seed| disk.crash(seed).bytes(path).unwrap()).collect();
        assert!(found.iter().all(|bytes| bytes.starts_with(b"kept")));
        assert!(found.contains(&b"kept"[..]) && found.contains(&b"keptlost?"[..]) && found.len() > 4);
        assert_eq!(disk.crash(7).bytes(path), disk.crash(7).bytes(path), "deterministic by seed");
    }

    #[test]
    fn a_failed_sync_is_never_made_good() {
        let path = Path::new("/d/f");
        let (disk, file) = disk_with(path);
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        file.write_at(b"gone", 0).unwrap();
        disk.fail_syncs(1);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(disk.bytes(path).unwrap(), b"gone");
        assert!((0..20).all(|seed| disk.crash(seed).bytes(path).unwrap().is_empty()));
    }

    #[test]
    fn calls_fail_as_asked_and_read_only_is_told() {
        let path = Path::new("/d/f");
        let (disk, file) = disk_with(path);
        disk.fail(Call::Write, 1, 1);
        file.write_at(b"one", 0).unwrap();
        assert!(file.write_at(b"two", 3).is_err());
        file.write_at(b"three", 3).unwrap();
        disk.fail(Call::Read, 0, 1);
        let mut back = [0; 8];
        assert!(file.read_at(&mut back, 0).is_err());
        file.read_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"onethree");
        disk.fail(Call::Name, 0, 1);
        assert!(disk.unlink(path).is_err());
        disk.set_read_only(true);
        assert_eq!(disk.unlink(path).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert!(file.sync().is_err());
        disk.set_read_only(false);
        disk.unlink(path).unwrap();
    }

    #[test]
    fn a_folder_without_a_synced_name_takes_its_files_along() {
        let path = Path::new("/d/f");
        let (disk, file) = disk_with(path);
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        assert!((0..20).any(|seed| disk.crash(seed).open(path).is_err()));
        disk.sync_dir(Path::new("/")).unwrap();
        assert!((0..20).all(|seed| disk.crash(seed).open(path).is_ok()));
    }

    #[test]
    fn full_cut_and_flipped() {
        let path = Path::new("/d/f");
        let (disk, file) = disk_with(path);
        disk.set_capacity(4);
        assert_eq!(file.write_at(b"12345678", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.cut_power_after(1);
        file.sync().unwrap();
        assert!(file.sync().is_err());
        disk.flip(path, 0);
        assert_eq!(disk.bytes(path).unwrap(), b"0234");
    }
}
