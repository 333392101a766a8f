//! A disk of its own for the agent's spool, so that `--chaos` can cut its power.

use crate::Args;
use crate::console::Console;
use headwater_sim::loop_disk::LoopDisk;
use headwater_tests::world::World;
use std::io;
use std::path::Path;

/// Room for an hour of playing, if nothing is acknowledged. The file behind it is as large as what is written.
const DISK_BYTES: u64 = 2 << 30;

/// An ext4 in a file of the run, mounted where the spool is.
pub(crate) struct SpoolDisk {
    pub(crate) disk: LoopDisk,
}

impl SpoolDisk {
    /// Makes it for a run with `--chaos`; says so, or why there is none.
    pub(crate) fn lay(args: &Args, world: &World, console: &Console) -> io::Result<Option<Self>> {
        if !args.chaos {
            return Ok(None);
        }
        if let Some(why) = LoopDisk::why_not() {
            console.say(&format!("  power           is not cut: {why}"));
            return Ok(None);
        }
        let disk = LoopDisk::make(&world.path("disk"), DISK_BYTES)?;
        let spool = world.path("spool");
        std::fs::remove_dir(&spool)?;
        std::os::unix::fs::symlink(disk.path(), &spool)?;
        console.say("  power           will be cut: the spool lies on an ext4 of its own, in a file");
        Ok(Some(Self { disk }))
    }

    /// Puts the spool's files where they are without this disk, and takes the disk away. The agent has ended.
    pub(crate) fn leaves_its_files(self, world: &World) -> io::Result<()> {
        let spool = world.path("spool");
        std::fs::remove_file(&spool)?;
        copy_tree(&self.disk.path(), &spool)?;
        drop(self.disk);
        std::fs::remove_dir(world.path("disk"))
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
