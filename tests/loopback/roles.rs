//! One binary, many processes: the demo, the scenarios and the measurements start themselves again as
//! broker, collector, agent, `headwater` or slow sensor, so nothing has to be built or found beside them.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The word that makes a binary one of its roles.
pub const ROLE: &str = "--role";

/// Runs the role named on the command line; `None` if there is none.
///
/// `--role agent ARGS…` is `headwater-agent ARGS…`, and likewise `collector` and `headwater`.
#[must_use]
pub fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != ROLE {
        return None;
    }
    let role = args.next()?;
    let rest: Vec<OsString> = std::iter::once(role.clone()).chain(args).collect();
    if matches!(role.to_str(), Some("agent" | "collector")) {
        // In a group of its own it hears no Ctrl-C: it must not outlive a run that was killed.
        let told = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
        if let Err(error) = told {
            eprintln!("{}: will not notice the end of its run: {error}", role.display());
        }
    }
    Some(match role.to_str() {
        Some("agent") => headwater_agent::cli::main(rest),
        Some("collector") => headwater_collector::cli::main(rest),
        Some("headwater") => headwater_collector::query::cli::main(rest),
        Some("slow-sensor") => slow_sensor(&rest),
        Some("flood") => flood(),
        Some("witness") => match rest.get(1) {
            Some(stop) => crate::clockless::witness(std::path::Path::new(stop)),
            None => {
                eprintln!("witness needs the path that tells it to stop");
                ExitCode::from(2)
            }
        },
        _ => {
            eprintln!("unknown role {}", role.display());
            ExitCode::from(2)
        }
    })
}

/// Prints one CSV line of a recording after the other, two a second, and notes each in a truth file, so
/// that a restarted sensor goes on where the last one was. The truth file's neighbour `.times` says when each was.
///
/// Arguments: recording, truth file. It falls silent while the truth file's neighbour `.stop` exists.
fn slow_sensor(args: &[OsString]) -> ExitCode {
    let [_, recording, truth] = args else {
        eprintln!("slow-sensor needs a recording and a truth file");
        return ExitCode::from(2);
    };
    match play_slowly(&PathBuf::from(recording), &PathBuf::from(truth)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slow-sensor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints rows of six numbers for a while, as fast as the reader takes them.
fn flood() -> ExitCode {
    let end = crate::ticks::now() + Duration::from_secs(20);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut n = 0_u32;
    while crate::ticks::now() < end {
        for _ in 0..1_000 {
            n = n.wrapping_add(1);
            let x = f64::from(n % 10_007) / 8.0;
            if writeln!(out, "{x},{},{},{},{},{}", x + 0.25, x * 2.0, 9.81 - x, x / 4.0, f64::from(n % 7))
                .is_err()
            {
                return ExitCode::SUCCESS;
            }
        }
    }
    ExitCode::SUCCESS
}

fn play_slowly(recording: &std::path::Path, truth: &std::path::Path) -> std::io::Result<()> {
    let text = std::fs::read_to_string(recording)?;
    let rows: Vec<&str> = text.lines().skip(1).collect();
    let appended = |path| std::fs::OpenOptions::new().create(true).append(true).open(path);
    let mut noted = appended(truth.to_owned())?;
    let mut times = appended(truth.with_extension("times"))?;
    let done = std::fs::read_to_string(truth)?.lines().count();
    let mut pace = crate::ticks::Pace::new(Duration::from_millis(500));
    let mut out = std::io::stdout().lock();
    let stop = truth.with_extension("stop");
    for (n, row) in rows.iter().cycle().enumerate().skip(done) {
        pace.tick();
        while stop.exists() {
            pace.tick();
        }
        // Noted first: what was noted and not captured is counted as emitted, never the other way round.
        writeln!(noted, "{n},{row}")?;
        let at = crate::ticks::Moment::now();
        writeln!(times, "{n},{},{}", at.boot_ns, at.utc_ns)?;
        writeln!(out, "{n},{row}")?;
        out.flush()?;
    }
    Ok(())
}
