//! The command line: run, check, test, status, enroll, setup, time-floor, spool, decode, selftest.

mod generate;
mod online;
mod selftest;
mod setup;

use crate::card::{self, SpoolArgs};
use crate::config::{self, Settings, identity};
use crate::decode::{self, Item, Values};
use crate::domains::DomainNumbers;
use crate::enroll::{self, HttpsUrl};
use crate::observe;
use crate::source::AnySource;
use crate::status::{self, AgentStatus};
use crate::trust::TrustFiles;
use crate::{clock::BootClock, pipeline};
use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use headwater_core::id::DeviceId;
use headwater_core::ports::{Clock, Source, SourceError, SourceEvent};
use headwater_core::sample::{Reading, Value};
use headwater_core::schema::{Logical, Schema};
use headwater_core::time::{NS_PER_S, UtcNanos};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const CONFIG: &str = "/etc/headwater/agent.toml";

/// Captures sensors, fixes and pictures, keeps them safe and ships them.
#[derive(Debug, Parser)]
#[command(
    name = "headwater-agent",
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  headwater-agent check --config agent.toml   every mistake at once, and who we are\n  headwater-agent test --config agent.toml    one reading of every source\n  headwater-agent run --config agent.toml     until told to stop\n  headwater-agent status --config agent.toml  what is held, acknowledged and wrong\n  headwater-agent spool ls                    which rows lie on this gateway, or on a card\n  headwater-agent decode FILE                 what a segment or a message holds\n  headwater-agent selftest                    whether this build works on this machine"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Captures and ships until told to end.
    Run {
        /// Configuration.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Reports every mistake of the configuration and its certificates, or who this gateway is.
    ///
    /// With --online it goes the way to each broker hop by hop (DNS, TCP, proxy, TLS, WebSocket, MQTT, subscription)
    /// and says which one fails, why, and what to do. It does so under another client id and sends nothing, so that
    /// a running agent is not disturbed. The exit code is 1 if anything is to be mended.
    #[command(
        after_help = "Examples:\n  headwater-agent check --config agent.toml\n  headwater-agent check --online\n  headwater-agent check --online --json | jq '.steps[] | select(.ok | not)'\n  headwater-agent check --schema > agent.schema.json"
    )]
    Check {
        /// Configuration.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// Prints the JSON schema of the configuration instead.
        #[arg(long, conflicts_with = "online")]
        schema: bool,
        /// Goes to each broker as well.
        #[arg(long)]
        online: bool,
        /// With --online: one JSON object a line for each broker, and nothing else.
        #[arg(long, requires = "online")]
        json: bool,
    },
    /// Opens every source and prints a reading of each; stores and removes nothing.
    Test {
        /// Configuration.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// How long to wait for a reading of each source, such as 5s.
        #[arg(long = "for", default_value = "5s", value_parser = seconds)]
        wait: u64,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Says how the running agent is, what is wrong and what to do.
    Status {
        /// Configuration.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// The status file as it is.
        #[arg(long)]
        json: bool,
    },
    /// Gets this gateway's certificates from the fleet's enrolment service, with a token.
    ///
    /// Makes both keys here, has them certified, and writes certificates, keys and, if there is none, the configuration.
    /// Certificates are renewed by themselves from then on. A name that is enrolled already needs --replace: the
    /// certificates it has are revoked then.
    #[command(
        after_help = "Examples:\n  sudo headwater-agent enroll https://hq.example:8443 --token hwt1-…\n  headwater-agent enroll https://hq.example:8443 --token - --name pi-7 --config ./agent.toml < token.txt\nTokens are made with:\n  headwater pki token create --dir pki --name 'pi-*' --expires 24h"
    )]
    Enroll {
        /// The service: https://HOST:PORT.
        #[arg(value_parser = https_url)]
        url: HttpsUrl,
        /// The token, or - to read it from standard input.
        #[arg(long, env = "HEADWATER_TOKEN", hide_env_values = true)]
        token: String,
        /// Name of this gateway; the host's name if left out.
        #[arg(long)]
        name: Option<DeviceId>,
        /// Configuration: kept if there is one, else written.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// Folder for certificates and keys, if the configuration names none.
        #[arg(long, default_value = "/var/lib/headwater/pki")]
        dir: PathBuf,
        /// This gateway takes the place of one that is enrolled by this name.
        #[arg(long)]
        replace: bool,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Finds what this gateway has (sensors, ports, cameras, gpsd), and writes a configuration that captures it.
    ///
    /// Listens to serial ports for some seconds each and sends nothing; opening one may start a board anew. Asks before
    /// each source, unless told --yes. A configuration that is there is only added to, with --force, and a copy is kept.
    #[command(
        after_help = "Examples:\n  sudo headwater-agent setup --enroll https://hq.example:8443 --token hwt1-…\n  headwater-agent setup --dry-run --yes --tenant acme --broker mqtts://hq.example:8883\n  sudo headwater-agent setup --force          adds what was plugged in since\n  headwater-agent setup --json --dry-run --tenant acme --broker mqtts://hq.example:8883 | jq .found"
    )]
    Setup(setup::SetupArgs),
    /// Shows the time that is certainly past, by which certificates are checked; or forgets it.
    ///
    /// It comes from our own certificates and from collectors that promise their time. Reset it if such a promise was
    /// false and lay in the future, so that certificates seem to have ended.
    #[command(
        after_help = "Examples:\n  headwater-agent time-floor\n  headwater-agent time-floor --reset && systemctl restart headwater-agent"
    )]
    TimeFloor {
        /// Configuration.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// Forgets it: it starts from our own certificates again.
        #[arg(long)]
        reset: bool,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// What lies in a spool, whether it is sound, and how to carry it away: also of a copy or a pulled card.
    Spool(SpoolArgs),
    /// Shows what a file of ours holds: a spool segment, a message, the body of a batch or a slab.
    ///
    /// Names every frame, section and column, and how each column is written. Damage is shown where it is;
    /// the exit code is 1 if there was any. Signatures are not checked: that takes the fleet's keys.
    #[command(
        after_help = "Examples:\n  headwater-agent decode /var/lib/headwater/spool/seg/telemetry/0000000000000001.seg\n  headwater-agent decode --rows all message.hw\n  cat declaration.hw batch.hw | headwater-agent decode -       columns get the names declared before them\n  headwater-agent decode --json segment.seg | jq 'select(.what == \"slab\") | .rows'"
    )]
    Decode {
        /// The file, or - for standard input.
        file: PathBuf,
        /// How many values of each column are shown: a number, or all.
        #[arg(long, default_value = "3", value_parser = shown)]
        rows: Values,
        /// One JSON document a line: of a segment its header and each frame, else each message.
        #[arg(long)]
        json: bool,
    },
    /// Tries whether this build works on this machine: spool, codec, TLS, clocks.
    ///
    /// Needs no configuration, no network and no rights; writes into a folder of its own, which is removed. The exit
    /// code is 1 if anything does not work.
    #[command(
        after_help = "Examples:\n  headwater-agent selftest\n  headwater-agent selftest --dir /mnt/card     the disk that is to hold the spool\n  headwater-agent selftest --json | jq '.checks[] | select(.ok | not)'"
    )]
    Selftest {
        /// Where to make the folder; the system's folder for temporary files if left out.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the man page or a shell's completions, for packages.
    #[command(hide = true)]
    Generate {
        /// Which.
        what: generate::Generated,
    },
}

fn https_url(text: &str) -> Result<HttpsUrl, String> {
    HttpsUrl::parse(text).ok_or_else(|| "write https://HOST:PORT, such as https://hq.example:8443".to_owned())
}

fn shown(text: &str) -> Result<Values, String> {
    match text {
        "all" => Ok(Values::All),
        text => text.parse().map(Values::First).map_err(|_| "write a number, or all".to_owned()),
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    text.strip_suffix('s')
        .unwrap_or(text)
        .parse()
        .ok()
        .filter(|seconds| (1..=3_600).contains(seconds))
        .ok_or_else(|| "write seconds, such as 5s".to_owned())
}

/// Runs `headwater-agent` with these arguments, the first of which is the program's name.
///
/// Exit code 0: well; 1: it failed, or there is something to mend; 2: wrong arguments.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::FAILURE };
        }
    };
    let outcome = match cli.verb {
        // It has exit codes of its own.
        Verb::Spool(args) => return card::main(args),
        verb => act(verb),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // `headwater-agent … | head` closes our output early: that is no failure.
        Err(error) if error.downcast_ref::<OutputError>().is_some_and(OutputError::is_closed) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("headwater-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the output")]
struct OutputError(#[source] io::Error);

impl OutputError {
    fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Prints a line.
fn say(line: impl Display) -> Result<(), OutputError> {
    writeln!(io::stdout().lock(), "{line}").map_err(OutputError)
}

/// True if all is well.
fn act(verb: Verb) -> Result<bool> {
    match verb {
        Verb::Run { config } => run(&config).map(|()| true),
        Verb::Check { schema: true, .. } => {
            say(serde_json::to_string_pretty(&schemars::schema_for!(config::raw::RawConfig))?)?;
            Ok(true)
        }
        Verb::Check { config, schema: false, online, json } => check(&config, online, json),
        Verb::Test { config, wait, json } => {
            let settings = config::load(&config)?;
            log_to_stderr("warn")?;
            runtime()?.block_on(test(&settings, wait, json))
        }
        Verb::Status { config, json } => show_status(&config, json),
        Verb::Enroll { url, token, name, config, dir, replace, json } => {
            enroll_here(&url, &token, name, (&config, &dir), replace, json)
        }
        Verb::Setup(args) => setup::setup(&args),
        Verb::TimeFloor { config, reset, json } => time_floor(&config, reset, json),
        Verb::Spool(args) => Ok(card::main(args) == ExitCode::SUCCESS),
        Verb::Decode { file, rows, json } => decode(&file, rows, json),
        Verb::Selftest { dir, json } => selftest::selftest(dir.as_deref(), json),
        Verb::Generate { what } => generate::generate(what).map(|()| true),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    // Two workers: sources and ship beside each other; heavy work has threads of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("failed to start the runtime")
}

/// Logs to stderr, at the level of `RUST_LOG` or `default`.
fn log_to_stderr(default: &str) -> Result<()> {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))
}

fn run(config: &Path) -> Result<()> {
    let settings = config::load(config)?;
    log_to_stderr("info")?;
    let runtime = runtime()?;
    let cancel = CancellationToken::new();
    let ended = runtime.block_on(async {
        let signals = TaskTracker::new();
        pipeline::end_on_signals(&signals, cancel.clone()).context("failed to listen for signals")?;
        pipeline::run(settings, cancel).await.map_err(anyhow::Error::from)
    });
    // A late task may hang in the kernel; it must not hold the process.
    runtime.shutdown_background();
    ended
}

fn check(config: &Path, online: bool, json: bool) -> Result<bool> {
    let settings = config::load(config)?;
    if json {
        return online::check(&settings, true);
    }
    let mut good = check_with(&settings, &mut |line: &dyn Display| say(line))?;
    if online && good {
        good = online::check(&settings, false)?;
    }
    say(if good { "all is well" } else { "there is something to mend" })?;
    Ok(good)
}

/// Tells who we are, what is captured and what is wrong, a line at a time; true if nothing is.
fn check_with(
    settings: &Settings,
    say: &mut dyn FnMut(&dyn Display) -> Result<(), OutputError>,
) -> Result<bool> {
    let now = BootClock.read().real;
    let mut good = true;
    match identity::load(&settings.identity, &settings.device, now) {
        Ok(identity) => {
            let signer = &identity.signer;
            say(&format_args!("this gateway is {} (signing key {})", settings.device, signer.key.key_id()))?;
            say(&format_args!("certificate {} is valid until {}", signer.serial, date(signer.not_after)))?;
            if identity.ends < now {
                good = false;
                say(&format_args!(
                    "! by this clock its certificates ended on {}: set the clock, or renew them",
                    date(identity.ends)
                ))?;
            }
            if let Err(why) = pipeline::mqtt_settings(settings, &identity) {
                good = false;
                say(&format_args!("! {why}"))?;
            }
        }
        Err(errors) => {
            good = false;
            errors.iter().try_for_each(|error| say(&format_args!("! {error}")))?;
        }
    }
    say(&format_args!("ships to {}", settings.uplink.told()))?;
    if let Err(error) = pipeline::folder_is_writable(&settings.spool.dir) {
        good = false;
        say(&format_args!("! spool folder {} is not writable: {error}", settings.spool.dir.display()))?;
    }
    for source in &settings.sources {
        say(&format_args!("captures {} from {}", source.stream, source.kind.as_str()))?;
    }
    for found in runtime()?.block_on(observe::find(&settings.clock, &settings.sources)) {
        good &= !found.is_problem;
        say(&format_args!("{}time from {}", if found.is_problem { "! " } else { "" }, found.told))?;
    }
    Ok(good)
}

fn enroll_here(
    url: &HttpsUrl,
    token: &str,
    name: Option<DeviceId>,
    (config, dir): (&Path, &Path),
    replace: bool,
    json: bool,
) -> Result<bool> {
    let token = match token {
        "-" => {
            io::read_to_string(io::stdin().lock()).context("failed to read the token from standard input")?
        }
        token => token.to_owned(),
    };
    let token = enroll::Token::parse(&token)?;
    let name = match name {
        Some(name) => name,
        None => {
            enroll::host_name().context("this host's name cannot be a gateway's; give one with --name")?
        }
    };
    let enrolling = enroll::Enrolling { url, token: &token, name, config, dir, replace };
    let enrolled = enroll::enroll(&enrolling, BootClock.read().real)?;
    if json {
        say(serde_json::to_string(&enrolled)?)?;
        return Ok(true);
    }
    say(format_args!("this gateway is {}", enrolled.device))?;
    say(format_args!("certificates and keys are in {}", enrolled.identity.display()))?;
    say(format_args!("they are valid until {} and renew themselves", date(UtcNanos(enrolled.ends_ns))))?;
    let file = enrolled.config.display();
    match enrolled.config_written {
        true => say(format_args!(
            "{file} was written: add a [[source]] for each sensor, then `headwater-agent check`"
        ))?,
        false => say(format_args!(
            "{file} was kept; for renewal it needs renew = \"{url}\" in [identity], if that is not there"
        ))?,
    }
    Ok(true)
}

fn time_floor(config: &Path, reset: bool, json: bool) -> Result<bool> {
    let settings = config::load(config)?;
    let files = TrustFiles::of_spool(&settings.spool.dir);
    let kept = files.floor();
    if reset {
        files.reset_floor().with_context(|| format!("failed to remove {}", files.floor_file().display()))?;
    }
    let kept = kept.filter(|_| !reset);
    let own = identity::load(&settings.identity, &settings.device, BootClock.read().real).ok();
    let own = own.map(|identity| identity.time_floor);
    let floor = kept.max(own);
    if json {
        let ns = |utc: Option<UtcNanos>| utc.map(|utc| utc.0);
        say(
            serde_json::json!({"floor_ns": ns(floor), "promised_ns": ns(kept), "own_certificates_ns": ns(own), "reset": reset}),
        )?;
        return Ok(true);
    }
    if reset {
        say("forgotten; a running agent keeps its own until it is restarted")?;
    }
    say(format_args!("it is later than {}", floor.map_or_else(|| "?".to_owned(), moment)))?;
    say(format_args!("promised by collectors: {}", kept.map_or_else(|| "nothing yet".to_owned(), moment)))?;
    say(format_args!(
        "own certificates begin: {}",
        own.map_or_else(|| "they cannot be used".to_owned(), moment)
    ))?;
    Ok(true)
}

fn moment(utc: UtcNanos) -> String {
    chrono::DateTime::from_timestamp(utc.0.div_euclid(NS_PER_S), 0)
        .map_or_else(|| "?".to_owned(), |date| date.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

fn date(utc: UtcNanos) -> String {
    chrono::DateTime::from_timestamp(utc.0.div_euclid(NS_PER_S), 0)
        .map_or_else(|| "?".to_owned(), |date| date.format("%Y-%m-%d").to_string())
}

fn show_status(config: &Path, json: bool) -> Result<bool> {
    let settings = config::load(config)?;
    let file = &settings.status_file;
    let read = AgentStatus::read(file);
    let status = read.with_context(|| {
        format!(
            "no status in {}: is the agent running? try `systemctl status headwater-agent`",
            file.display()
        )
    })?;
    let (now, boot_id) = (status::now(), status::boot_id().context("failed to read the boot id")?);
    if json {
        say(serde_json::to_string(&status)?)?;
    } else {
        say(status.to_text(now, boot_id).trim_end())?;
    }
    Ok(status.problems(now, boot_id).is_empty())
}

fn decode(file: &Path, rows: Values, json: bool) -> Result<bool> {
    let bytes = match file.to_str() {
        Some("-") => decode::read_input(std::io::stdin().lock()),
        _ => std::fs::File::open(file).and_then(decode::read_input),
    };
    let bytes = bytes.with_context(|| format!("failed to read {}", file.display()))?;
    if bytes.is_empty() {
        bail!("{} is empty", file.display());
    }
    let items = decode::decode(&bytes, rows);
    match print_items(&items, json) {
        // `head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        printed => printed.context("failed to write")?,
    }
    Ok(!items.iter().any(Item::is_damaged))
}

fn print_items(items: &[Item], json: bool) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for item in items {
        if json {
            serde_json::to_writer(&mut out, item)?;
            writeln!(out)?;
        } else {
            write!(out, "{item}")?;
        }
    }
    out.flush()
}

/// What `test` found of one source.
#[derive(Debug, Serialize)]
struct Tested {
    stream: String,
    source: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    values: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

async fn test(settings: &Settings, wait_s: u64, json: bool) -> Result<bool> {
    if settings.sources.is_empty() {
        bail!("no [[source]] in the configuration");
    }
    let tasks = settings.sources.iter().map(|settings| async move {
        let (mut source, _receipts) = AnySource::new(settings, BootClock, &DomainNumbers::from_reserved(1));
        let until = BootClock.boot().plus_ms(wait_s.saturating_mul(1_000));
        let found = first_readings(&mut source, until).await;
        source.close().await;
        (settings, found)
    });
    let mut good = true;
    for (settings, (readings, problem)) in join_all(tasks).await {
        let (stream, source) = (settings.stream.to_string(), settings.kind.as_str());
        let mut found: Vec<Tested> = readings
            .into_iter()
            .map(|(stream, (schema, reading))| Tested {
                stream,
                source,
                ok: true,
                kind: Some(schema.kind.to_string()),
                values: named(&schema, &reading),
                problem: None,
            })
            .collect();
        if found.is_empty() {
            good = false;
            let away = crate::telemetry::sources_down().remove(&stream);
            let problem = problem.or(away).unwrap_or_else(|| {
                format!("nothing came within {wait_s} s: check cable, baud rate and framing, or wait longer with --for")
            });
            let values = BTreeMap::new();
            found.push(Tested { stream, source, ok: false, kind: None, values, problem: Some(problem) });
        }
        for tested in found {
            if json {
                say(serde_json::to_string(&tested)?)?;
            } else {
                print_tested(&tested)?;
            }
        }
    }
    Ok(good)
}

/// Waits for all of them; there are as many as sources.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, done) in &mut waiting {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if waiting.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

type Readings = BTreeMap<String, (Schema, Reading)>;

/// The first reading of every stream of a source; stops when all declared streams have one.
async fn first_readings<C: Clock>(
    source: &mut AnySource<C>,
    until: headwater_core::time::BootNanos,
) -> (Readings, Option<String>) {
    let mut schemas: BTreeMap<String, Schema> = BTreeMap::new();
    let (mut readings, mut problem) = (Readings::new(), None);
    loop {
        let event = tokio::select! {
            event = source.next() => event,
            () = BootClock.sleep_until(until) => return (readings, problem),
        };
        match event {
            Ok(SourceEvent::Stream { name, schema }) => {
                schemas.insert(name.to_string(), schema);
            }
            Ok(SourceEvent::Reading { stream, reading }) => {
                if let Some(schema) = schemas.get(stream.as_str()) {
                    readings.entry(stream.to_string()).or_insert_with(|| (schema.clone(), reading));
                }
                if readings.len() == schemas.len() {
                    return (readings, problem);
                }
            }
            Ok(SourceEvent::SetAside { why, .. }) => problem = Some(why),
            Ok(SourceEvent::Lost { .. } | SourceEvent::DeviceClock(_)) => {}
            Err(SourceError::Ended) => return (readings, problem),
            Err(error) => return (readings, Some(error.to_string())),
        }
    }
}

fn named(schema: &Schema, reading: &Reading) -> BTreeMap<String, String> {
    schema
        .fields
        .iter()
        .zip(&reading.values)
        .map(|(field, value)| {
            let unit = if field.unit == "1" { String::new() } else { format!(" {}", field.unit) };
            let text = match (value, &field.logical) {
                (Value::Null, _) => "missing".to_owned(),
                (Value::I64(raw), Logical::Scaled { num, den, .. }) => {
                    format!("{}e{}{unit}", raw.saturating_mul(*num), -i64::from(den.max(&1).ilog10()))
                }
                (Value::I64(n), _) => format!("{n}{unit}"),
                (Value::F64(x), _) => format!("{x}{unit}"),
                (Value::F32(x), _) => format!("{x}{unit}"),
                (Value::Utf8(text), _) => text.clone(),
                (Value::Bytes(bytes), Logical::Blob) => {
                    let len = reading.blob.as_ref().map_or(bytes.len(), |blob| blob.bytes.len());
                    format!("{len} bytes")
                }
                (Value::Bytes(bytes), _) => format!("{} bytes", bytes.len()),
            };
            (field.name.to_string(), text)
        })
        .collect()
}

fn print_tested(tested: &Tested) -> Result<(), OutputError> {
    let Tested { stream, source, values, problem, .. } = tested;
    match problem {
        Some(problem) => say(format_args!("! {stream} ({source}): {problem}")),
        None => {
            let values: Vec<String> = values.iter().map(|(name, value)| format!("{name} {value}")).collect();
            say(format_args!("  {stream} ({source}): {}", values.join(", ")))
        }
    }
}
