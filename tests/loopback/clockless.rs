//! A gateway without a battery clock: it wakes in 1970, and its wall clock is put right later. Its wall clock alone is false;
//! boot time is what it is. A library loaded before the C library's own makes it so, and no code of the agent knows of it.

use crate::ticks::{Moment, unix_nanos, unix_seconds};
use headwater_core::time::{NS_PER_S, UtcNanos};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Its name.
pub const CLOCKLESS: &str = "gateway-1970";
/// Rows its witness gives each second.
pub const WITNESS_HZ: u32 = 4;
/// Within which its lines are at the agent, ms, as its configuration declares: true on a machine that is not too busy.
pub const WITNESS_LATENCY_MS: i64 = 100;
/// What its wall clock shows when it wakes, s since 1970.
const WAKES_AT_S: i64 = 60;

/// A wall clock that is false for whoever loads its library, until it is put right.
#[derive(Debug)]
pub struct FalseClock {
    library: PathBuf,
    shifts: PathBuf,
}

impl FalseClock {
    /// One that wakes now, a minute after 1970. Its library is made below `dir` with the compiler driver that every Rust
    /// toolchain on Linux links by.
    ///
    /// # Errors
    /// The compiler's words, or that there is none.
    pub fn of_1970(dir: &Path) -> io::Result<Self> {
        let clock = Self { library: dir.join("false_clock.so"), shifts: dir.join("clock") };
        let since_1970 = unix_seconds().saturating_sub(WAKES_AT_S).saturating_mul(NS_PER_S);
        // What is added to the wall clock, and to the boot line, ns.
        let shifts = [since_1970.saturating_neg().to_ne_bytes(), [0; 8]].concat();
        std::fs::write(&clock.shifts, shifts)?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/false_clock.c");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&clock.library, &source])
            .output()?;
        if made.status.success() {
            Ok(clock)
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()))
        }
    }

    /// What a process needs in its environment to see it.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        [("LD_PRELOAD", self.library.clone().into()), ("HEADWATER_CLOCK", self.shifts.clone().into())]
    }

    /// It shows the right time from now on.
    ///
    /// # Errors
    /// What the system says.
    pub fn put_right(&self) -> io::Result<()> {
        // In place: who runs with it has the file mapped.
        std::fs::OpenOptions::new().write(true).open(&self.shifts)?.write_all_at(&[0; 8], 0)
    }
}

/// The witness on that gateway: prints what its wall clock shows, what time it is and since when it is awake, four times a
/// second, until `stop` is there.
#[must_use]
pub fn witness(stop: &Path) -> ExitCode {
    let mut pace = crate::ticks::Pace::new(Duration::from_secs(1) / WITNESS_HZ);
    let mut out = io::stdout().lock();
    let mut n = 0_u64;
    while !stop.exists() {
        pace.tick();
        let (wall, Moment { boot_ns: boot, utc_ns: truth }) = (unix_nanos(), Moment::now());
        if writeln!(out, "{n},{wall},{truth},{boot}").and_then(|()| out.flush()).is_err() {
            break;
        }
        n += 1;
    }
    ExitCode::SUCCESS
}

/// One of its rows as the lake has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witnessed {
    /// Seq.
    pub seq: i64,
    /// Resolved time.
    pub ts: UtcNanos,
    /// Its bound, ns.
    pub err_ns: i64,
    /// What its wall clock showed.
    pub wall: UtcNanos,
    /// What time it was.
    pub truth: UtcNanos,
    /// How long its line took to the agent, ns, by the boot time of both.
    pub delay_ns: i64,
}

impl Witnessed {
    /// Resolved time minus truth, ns.
    #[must_use]
    pub fn off_ns(&self) -> i64 {
        self.ts.since(self.truth)
    }

    /// True if its line came within what is declared: else its bound rests on what is not so.
    #[must_use]
    pub fn is_on_time(&self) -> bool {
        self.delay_ns <= WITNESS_LATENCY_MS * 1_000_000
    }

    /// True if the truth lies within the bound.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.off_ns().saturating_abs() <= self.err_ns
    }

    /// True if a stamp by the wall clock would have been of another day.
    #[must_use]
    pub fn is_of_1970(&self) -> bool {
        self.truth.since(self.wall) > 86_400 * NS_PER_S
    }
}
