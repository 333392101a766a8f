//! `headwater-agent selftest`: does this build work on this machine?
//!
//! What differs from one processor, kernel or file system to the next is tried for real, in a folder of its own that is
//! removed again: unwinding (the spool's index may panic and is caught), the spool through a kill, the codec and the
//! signatures in the width of this machine's integers, TLS over loopback, and the clocks. It needs no configuration, no
//! network and no rights, and touches nothing of a running agent.

mod codec;
mod index;
mod panics;
mod rows;
mod spool;
mod time;
mod tls;

use crate::clock::BootClock;
use headwater_core::ports::Clock;
use headwater_core::time::NS_PER_MS;
use serde::Serialize;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// What a check found; else what is wrong.
type Found = Result<String, String>;

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Short name.
    pub name: &'static str,
    /// True if all is well.
    pub ok: bool,
    /// What was found, or what is wrong.
    pub told: String,
    /// How long it took, ms.
    pub took_ms: i64,
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// True if every check is.
    pub ok: bool,
    /// Version of the agent.
    pub version: &'static str,
    /// Processor this build is for.
    pub arch: &'static str,
    /// Width of its addresses, bits.
    pub pointer_bits: u32,
    /// The checks, in their order.
    pub checks: Vec<Check>,
}

/// Does all checks, with a new folder in `parent` for what is written.
///
/// # Errors
/// What the system says if that folder cannot be made.
pub fn run(parent: &Path) -> io::Result<Report> {
    let folder = Folder::within(parent)?;
    let dir = &folder.0;
    type Try<'a> = (&'static str, &'a dyn Fn() -> Found);
    let tries: [Try<'_>; 7] = [
        ("unwind", &panics::caught),
        ("spool", &|| spool::survives_a_kill(dir)),
        ("index", &|| index::is_rebuilt(dir)),
        ("codec", &codec::reads_back),
        ("keys", &codec::signatures_hold),
        ("tls", &tls::shakes_hands),
        ("time", &time::goes_on),
    ];
    let checks: Vec<Check> = tries.iter().map(|&(name, check)| done(name, check)).collect();
    Ok(Report {
        ok: checks.iter().all(|check| check.ok),
        version: env!("CARGO_PKG_VERSION"),
        arch: std::env::consts::ARCH,
        pointer_bits: usize::BITS,
        checks,
    })
}

fn done(name: &'static str, check: &dyn Fn() -> Found) -> Check {
    let began = BootClock.boot();
    // A check that breaks down is one that failed; the others are still of interest.
    let found = catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| Err("it panicked".to_owned()));
    let took_ms = BootClock.boot().since(began) / NS_PER_MS;
    let ok = found.is_ok();
    let (Ok(told) | Err(told)) = found;
    Check { name, ok, told, took_ms }
}

/// For `map_err`: what failed, and why.
fn because<E: std::error::Error>(what: &str) -> impl Fn(E) -> String + '_ {
    move |error| {
        let mut text = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(why) = source {
            text.push_str(&format!(": {why}"));
            source = why.source();
        }
        text
    }
}

/// A folder that goes with its owner.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn within(parent: &Path) -> io::Result<Self> {
        let mut salt = [0; 8];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut salt)
            .map_err(|_| io::Error::other("no randomness"))?;
        let path = parent.join(format!("headwater-selftest-{:016x}", u64::from_le_bytes(salt)));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("headwater-agent: {} could not be removed: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_well_here_and_nothing_is_left() {
        let parent = tempfile::tempdir().unwrap();
        let report = run(parent.path()).unwrap();
        let failed: Vec<&Check> = report.checks.iter().filter(|check| !check.ok).collect();
        assert!(report.ok && failed.is_empty(), "{failed:#?}");
        assert_eq!(report.checks.len(), 7);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_check_that_fails_or_panics_is_told() {
        let failed = done("unwind", &|| Err("no".to_owned()));
        assert_eq!((failed.ok, failed.told.as_str()), (false, "no"));
        let broken = done("spool", &|| panic!("on purpose, in a test"));
        assert_eq!((broken.ok, broken.told.as_str()), (false, "it panicked"));
        assert!(run(Path::new("/nonexistent/folder")).is_err());
    }
}
