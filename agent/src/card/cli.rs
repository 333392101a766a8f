//! `headwater-agent spool`: words to calls, findings to exit codes.

use super::{
    Card, CardError, FsckReport, MessageSigner, Place, Select, Severity, When, drop_rows, export_csv,
    export_messages, fsck, ls, repair, stat,
};
use crate::clock::BootClock;
use crate::config::identity;
use crate::status;
use clap::{Args, Subcommand, ValueEnum};
use headwater_core::id::{BootId, DevicePath, NameError, StreamName};
use headwater_core::ports::Clock;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Something was put right.
const REPAIRED: u8 = 1;
/// There is damage, or data that cannot be read.
const DAMAGED: u8 = 2;

/// Arguments of `headwater-agent spool`.
#[derive(Debug, Args)]
pub struct SpoolArgs {
    #[command(subcommand)]
    verb: SpoolVerb,
}

/// Where the spool lies.
#[derive(Debug, Args)]
struct Where {
    /// The spool's folder, or a copy of it. Otherwise what the configuration says, else /var/lib/headwater.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The gateway's configuration. Otherwise /etc/headwater/agent.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the gateway's card is mounted: configuration, keys and spool are looked for below it.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which rows.
#[derive(Debug, Args)]
struct Which {
    /// Only this stream.
    #[arg(long)]
    stream: Option<StreamName>,
    /// Not before: a UTC time by the gateway's own clock, or BOOT:SECONDS.
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    /// Before: as --since.
    #[arg(long, value_name = "WHEN")]
    until: Option<When>,
}

impl Which {
    fn select(self) -> Select {
        Select { stream: self.stream, since: self.since, until: self.until }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table per stream and pictures as files, into the folder --out.
    Csv,
    /// One file that `headwater import` takes in.
    Messages,
}

#[derive(Debug, Subcommand)]
enum SpoolVerb {
    /// Which rows are held, by stream and boot.
    #[command(
        after_help = "Examples:\n  headwater-agent spool ls\n  headwater-agent spool ls --root /mnt/card --stream imu --since 2026-11-27\n  headwater-agent spool ls --dir copy/ --segments --json | jq .segments"
    )]
    Ls {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        which: Which,
        /// Also by segment file.
        #[arg(long)]
        segments: bool,
    },
    /// How much is held and set aside; of a running agent also wear, and what a power cut now would take.
    #[command(
        after_help = "Examples:\n  headwater-agent spool stat\n  headwater-agent spool stat --dir copy/ --json | jq .streams"
    )]
    Stat {
        #[command(flatten)]
        place: Where,
    },
    /// Checks every sum, footers against frames, and that each missing row is accounted for.
    ///
    /// Exit code 0: sound; 1: repaired; 2: there is damage, or data that cannot be read.
    #[command(
        after_help = "Examples:\n  headwater-agent spool fsck --root /mnt/card\n  systemctl stop headwater-agent && headwater-agent spool fsck --repair"
    )]
    Fsck {
        #[command(flatten)]
        place: Where,
        /// Opens the spool as the agent's start does: cuts torn ends, sets aside what cannot be read, keeps all of it
        /// in quarantine/. The agent must be stopped.
        #[arg(long)]
        repair: bool,
    },
    /// Carries rows away: as CSV and pictures, or as messages that `headwater import` takes into the lake.
    ///
    /// Rows that the collector has already are exported too: only it knows which, and importing is harmless.
    #[command(
        after_help = "Examples:\n  headwater-agent spool export --root /mnt/card --format messages --out pi-1.hwx\n  headwater-agent spool export --dir copy/ --device acme/pi-1 --format messages --out pi-1.hwx\n  headwater-agent spool export --stream camera/front --since 2026-11-27T08:00 --until 2026-11-27T09:00 --out look/"
    )]
    Export {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        which: Which,
        /// The folder or file to make; must not exist yet.
        #[arg(long)]
        out: PathBuf,
        /// What to make. Otherwise messages if --out ends in .hwx, else CSV.
        #[arg(long)]
        format: Option<Format>,
        /// Whose card it is, if its configuration is not there.
        #[arg(long, value_name = "TENANT/DEVICE", value_parser = device_path)]
        device: Option<DevicePath>,
        /// Leaves messages unsigned although the gateway's key is there: whoever imports them signs.
        #[arg(long)]
        unsigned: bool,
    },
    /// Gives up unacked rows of a stream for good, and records that. The agent must be stopped.
    ///
    /// Only the index knows what is unacked, so it opens the spool, as the agent's start does, also to say what would go.
    #[command(
        after_help = "Examples:\n  headwater-agent spool drop --stream camera/front --before 2026-11-01         what would go\n  headwater-agent spool drop --stream camera/front --before 2026-11-01 --yes   and it goes"
    )]
    Drop {
        #[command(flatten)]
        place: Where,
        /// The stream.
        #[arg(long)]
        stream: StreamName,
        /// Only slabs that end before: as --since of the others.
        #[arg(long, value_name = "WHEN")]
        before: Option<When>,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
}

fn device_path(text: &str) -> Result<DevicePath, String> {
    let (tenant, device) = text.split_once('/').ok_or("write TENANT/DEVICE, such as acme/pi-1")?;
    let told = |error: NameError| error.to_string();
    Ok(DevicePath { tenant: tenant.parse().map_err(told)?, device: device.parse().map_err(told)? })
}

/// Runs `headwater-agent spool`.
///
/// Exit code 0: well; 1: it failed, or `fsck --repair` put something right; 2: there is damage or data that cannot be
/// read.
#[must_use]
pub fn main(args: SpoolArgs) -> ExitCode {
    let fsck = matches!(args.verb, SpoolVerb::Fsck { .. });
    match act(args.verb) {
        Ok(code) => ExitCode::from(code),
        // `… | head` has seen enough.
        Err(Failed::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("headwater-agent: {:#}", anyhow::Error::from(failed));
            ExitCode::from(if fsck { DAMAGED } else { 1 })
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Card(#[from] CardError),
    #[error("failed to write the output")]
    Output(#[source] io::Error),
    #[error("the kernel's boot id cannot be read; is /proc mounted?")]
    BootId(#[source] io::Error),
}

/// Prints a report, as JSON or for people.
fn print(report: &(impl Serialize + Display), json: bool) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    let written = match json {
        true => serde_json::to_writer(&mut out, report).map_err(io::Error::from).and_then(|()| writeln!(out)),
        false => write!(out, "{report}"),
    };
    written.map_err(Failed::Output)
}

/// A bar over bytes; hidden where nobody watches.
fn bar(what: &'static str, bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {eta}");
    let bar = ProgressBar::new(bytes).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn open(place: &Where) -> Result<(Place, Card), Failed> {
    let found = find(place);
    let card = Card::open(&found.dir, |_| ())?;
    Ok((found, card))
}

fn find(place: &Where) -> Place {
    Place::find(place.dir.as_deref(), place.config.as_deref(), place.root.as_deref())
}

fn boot_id() -> Result<BootId, Failed> {
    status::boot_id().map_err(Failed::BootId)
}

fn act(verb: SpoolVerb) -> Result<u8, Failed> {
    match verb {
        SpoolVerb::Ls { place, which, segments } => {
            let (_, card) = open(&place)?;
            let listing = ls(&card, &which.select(), segments)?;
            print(&listing, place.json)?;
            Ok(if listing.unreadable.is_empty() { 0 } else { DAMAGED })
        }
        SpoolVerb::Stat { place } => {
            let (found, card) = open(&place)?;
            let report = stat(&card, &found.status_file(), status::boot_id().ok(), BootClock.boot());
            print(&report, place.json)?;
            Ok(if report.unreadable == 0 { 0 } else { DAMAGED })
        }
        SpoolVerb::Fsck { place, repair: false } => {
            let (_, card) = open(&place)?;
            let bar = bar("checking", card.bytes());
            let report = fsck(&card, |bytes| bar.inc(bytes));
            bar.finish_and_clear();
            print(&report, place.json)?;
            Ok(code(&report))
        }
        SpoolVerb::Fsck { place, repair: true } => {
            let dir = find(&place).dir;
            let boot_id = boot_id()?;
            let bar = bar("checking", 0);
            let report = repair(&dir, boot_id, |bytes| bar.inc(bytes))?;
            bar.finish_and_clear();
            print(&report, place.json)?;
            Ok(match (report.after.is_clean(), report.repaired()) {
                (false, _) => DAMAGED,
                (true, true) => REPAIRED,
                (true, false) => 0,
            })
        }
        SpoolVerb::Export { place, which, out, format, device, unsigned } => {
            let (found, card) = open(&place)?;
            let hwx = out.extension().is_some_and(|extension| extension == "hwx");
            let format = format.unwrap_or(if hwx { Format::Messages } else { Format::Csv });
            let bar = bar("exporting", card.bytes());
            let select = which.select();
            let damaged = match format {
                Format::Csv => {
                    let report = export_csv(&card, &select, &out, |bytes| bar.inc(bytes))?;
                    bar.finish_and_clear();
                    print(&report, place.json)?;
                    report.damaged > 0 || report.undeclared > 0
                }
                Format::Messages => {
                    let whose = found.device(device.as_ref())?;
                    let signer = if unsigned { None } else { signer(&found, &whose) };
                    let report =
                        export_messages(&card, &select, &whose, signer, &out, |bytes| bar.inc(bytes))?;
                    bar.finish_and_clear();
                    print(&report, place.json)?;
                    report.damaged > 0 || report.withheld > 0
                }
            };
            Ok(if damaged { DAMAGED } else { 0 })
        }
        SpoolVerb::Drop { place, stream, before, yes } => {
            let dir = find(&place).dir;
            let report = drop_rows(&dir, &stream, before, yes, (boot_id()?, BootClock.boot()))?;
            print(&report, place.json)?;
            Ok(0)
        }
    }
}

fn code(report: &FsckReport) -> u8 {
    match report.worst() {
        None | Some(Severity::Note) => 0,
        Some(_) => DAMAGED,
    }
}

/// The gateway's own key, if it can be used; else says why not.
fn signer(place: &Place, device: &DevicePath) -> Option<MessageSigner> {
    let without = |why: &str| {
        eprintln!("not signed by the gateway's key ({why}); whoever imports it signs it");
    };
    let Some(settings) = &place.settings else {
        without(place.config_problem.as_deref().unwrap_or("no configuration"));
        return None;
    };
    let identity = match identity::load(&settings.identity, device, BootClock.read().real) {
        Ok(identity) => identity,
        Err(errors) => {
            without(&crate::pipeline::told(&errors));
            return None;
        }
    };
    let mut nonce = [0; 16];
    if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut nonce).is_err() {
        without("the system gives no random numbers");
        return None;
    }
    Some(MessageSigner { key: identity.sign_key, chain: identity.sign_chain, nonce })
}
