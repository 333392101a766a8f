//! The files `epoch`, `boot` and `domains`: which life of the spool this is, which boot of the gateway, and which
//! clocks of attached devices had a number already.

use headwater_core::id::{BootId, BootOrdinal, Epoch};
use headwater_core::ports::{Disk, DiskFile};
use std::io;
use std::path::Path;

const EPOCH_MAGIC: &[u8; 8] = b"HWEPOCH1";
const BOOT_MAGIC: &[u8; 8] = b"HWBOOT_1";
const DOMAINS_MAGIC: &[u8; 8] = b"HWDOMNS1";
/// Longest identity file; anything longer is damaged.
const IDENT_BYTES_MAX: u64 = 64;

/// What the identity files say; `None` where they are missing or damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolIdentity {
    /// Which life of the spool.
    pub epoch: Option<Epoch>,
    /// Newest boot, and the kernel's name for it.
    pub boot: Option<(BootOrdinal, BootId)>,
}

/// Reads the identity files of the spool in `dir`; changes nothing.
///
/// # Errors
/// What the disk says; damage is none.
pub fn identity_of<D: Disk>(disk: &D, dir: &Path) -> io::Result<SpoolIdentity> {
    load(disk, dir)
}

pub(super) fn load<D: Disk>(disk: &D, dir: &Path) -> io::Result<SpoolIdentity> {
    let epoch = read(disk, &dir.join("epoch"), EPOCH_MAGIC)?
        .and_then(|body| Some(Epoch(u64::from_le_bytes(body.try_into().ok()?))));
    let boot = read(disk, &dir.join("boot"), BOOT_MAGIC)?.and_then(|body| {
        let (ordinal, id) = body.split_first_chunk::<4>()?;
        Some((BootOrdinal(u32::from_le_bytes(*ordinal)), BootId(id.try_into().ok()?)))
    });
    Ok(SpoolIdentity { epoch, boot })
}

pub(super) fn store_epoch<D: Disk>(disk: &D, dir: &Path, epoch: Epoch) -> io::Result<()> {
    store(disk, dir, "epoch", EPOCH_MAGIC, &epoch.0.to_le_bytes())
}

pub(super) fn store_boot<D: Disk>(disk: &D, dir: &Path, ordinal: BootOrdinal, id: BootId) -> io::Result<()> {
    let mut body = ordinal.0.to_le_bytes().to_vec();
    body.extend_from_slice(&id.0);
    store(disk, dir, "boot", BOOT_MAGIC, &body)
}

/// Sets `count` numbers for clocks of attached devices aside, of which none was given before, and gives the first. They
/// are set aside durably before one of them is used: a power cut gives no number twice. A damaged file begins anew at
/// `elsewhere`, a random place, since what it held is not known.
///
/// # Errors
/// What the disk says.
pub fn reserve_domains<D: Disk>(disk: &D, dir: &Path, count: u32, elsewhere: u32) -> io::Result<u32> {
    let path = dir.join("domains");
    let missing = matches!(disk.open(&path), Err(error) if error.kind() == io::ErrorKind::NotFound);
    let kept =
        read(disk, &path, DOMAINS_MAGIC)?.and_then(|body| Some(u32::from_le_bytes(body.try_into().ok()?)));
    let first = kept.unwrap_or(if missing { 1 } else { elsewhere }).max(1);
    // 0 is the gateway's own clock: after four thousand million of them they begin again.
    let (first, next) =
        first.checked_add(count).map_or((1, 1_u32.saturating_add(count)), |next| (first, next));
    store(disk, dir, "domains", DOMAINS_MAGIC, &next.to_le_bytes())?;
    Ok(first)
}

fn read<D: Disk>(disk: &D, path: &Path, magic: &[u8; 8]) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path) {
        Ok(file) => file,
        // A folder in its place is damage like any other; it is set aside when the file is written.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > IDENT_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_at(&mut bytes, 0)?;
    let body = bytes.split_last_chunk::<4>().filter(|(all, crc)| crc32c::crc32c(all).to_le_bytes() == **crc);
    Ok(body.and_then(|(all, _)| all.strip_prefix(magic)).map(<[u8]>::to_vec))
}

/// Moves what lies at `path` out of the way if it is a folder, where a file belongs.
pub(super) fn set_folder_aside<D: Disk>(disk: &D, dir: &Path, path: &Path) -> io::Result<()> {
    let is_folder =
        |path: &Path| matches!(disk.open(path), Err(error) if error.kind() == io::ErrorKind::IsADirectory);
    if !is_folder(path) {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut places = (0..=u8::MAX).map(|n| dir.join("quarantine").join(format!("folder-{n}-{name}")));
    let aside = places.find(|place| !is_folder(place)).ok_or(io::ErrorKind::AlreadyExists)?;
    tracing::warn!(path = %path.display(), aside = %aside.display(), "a folder lies where a file belongs");
    disk.rename(path, &aside)
}

fn store<D: Disk>(disk: &D, dir: &Path, name: &str, magic: &[u8; 8], body: &[u8]) -> io::Result<()> {
    let (path, tmp) = (dir.join(name), dir.join(format!("{name}.tmp")));
    for path in [&path, &tmp] {
        set_folder_aside(disk, dir, path)?;
    }
    match disk.unlink(&tmp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut bytes = magic.to_vec();
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    let made = disk.create(&tmp).and_then(|file| {
        file.write_at(&bytes, 0)?;
        file.sync()
    });
    match made {
        Ok(()) => {
            disk.rename(&tmp, &path)?;
            disk.sync_dir(dir)
        }
        // A full disk must not keep the agent from starting: the old file's place is large enough. Torn by a
        // power cut, it costs the epoch and nothing else.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            disk.unlink(&tmp)?;
            let file = disk.open(&path).map_err(|_| error)?;
            file.write_at(&bytes, 0)?;
            file.sync()
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_sim::disk::SimDisk;

    #[test]
    fn a_clock_of_a_device_never_gets_a_name_twice() {
        let (disk, dir) = (SimDisk::new(), Path::new("/spool"));
        disk.create_dir_all(dir).unwrap();
        let reserve = |count| reserve_domains(&disk, dir, count, 1 << 31).unwrap();
        assert_eq!((reserve(10), reserve(5), reserve(1)), (1, 11, 16));
        // Damaged: nobody knows what was given, so it begins where nobody was.
        let file = disk.open(&dir.join("domains")).unwrap();
        file.write_at(&[0xff], 9).unwrap();
        assert_eq!((reserve(10), reserve(10)), (1 << 31, (1 << 31) + 10));
        // After the last name the first ones come again, and never the gateway's own clock.
        store(&disk, dir, "domains", DOMAINS_MAGIC, &(u32::MAX - 1).to_le_bytes()).unwrap();
        assert_eq!((reserve(10), reserve(1)), (1, 11));
    }
}
