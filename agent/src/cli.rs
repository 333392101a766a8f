//! The command line of `headwater-agent`: run, check, test, status.

use crate::clock::BootClock;
use crate::config::{self, Settings};
use crate::pipeline::{self, STATUS_AGE_MAX};
use crate::source::AnySource;
use crate::status::Status;
use clap::{Parser, Subcommand};
use headwater_core::ports::{Clock, Source, SourceEvent};
use headwater_core::sample::{BlobRef, Value};
use headwater_core::schema::Schema;
use headwater_core::time::NS_PER_S;
use serde_json::{Map, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// Captures sensors, GPS and cameras on a gateway and ships them to a collector.
#[derive(Debug, Parser)]
#[command(
    name = "headwater-agent",
    version,
    after_help = "Examples:\n  headwater-agent check --config agent.toml   every mistake at once, and who we are\n  headwater-agent test --config agent.toml    one reading of every source\n  headwater-agent run --config agent.toml     until told to stop\n  headwater-agent status --config agent.toml  what is held, acknowledged and wrong"
)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// Where the configuration lies if nobody says.
const CONFIG: &str = "/etc/headwater/agent.toml";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Captures and ships until told to stop (SIGTERM or Ctrl-C).
    Run {
        /// Configuration file.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Checks the configuration, the certificates and the keys.
    Check {
        /// Configuration file.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Prints one reading of every source.
    Test {
        /// Configuration file.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// How long to wait for a source, seconds.
        #[arg(long = "for", default_value_t = 5, value_name = "SECONDS")]
        wait_s: u64,
        /// One line of JSON per source.
        #[arg(long)]
        json: bool,
    },
    /// Tells how a running agent stands.
    Status {
        /// Configuration file.
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// The status file as it is.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command line `args` (the program's name first).
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output with code 0, mistakes to standard error with 2.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match args.verb {
        Verb::Run { config } => run(&config),
        Verb::Check { config } => check(&config),
        Verb::Test { config, wait_s, json } => test(&config, wait_s, json),
        Verb::Status { config, json } => status(&config, json),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("headwater-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load(config: &Path) -> anyhow::Result<Settings> {
    config::load(config)
        .map_err(|mistakes| anyhow::anyhow!("{} cannot be used:\n{mistakes}", config.display()))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // Two workers keep the memory of a small gateway small; the spool has a thread of its own.
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn run(config: &Path) -> anyhow::Result<bool> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let settings = load(config)?;
    runtime()?.block_on(async {
        let cancel = CancellationToken::new();
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let running = pipeline::run(settings, cancel.clone());
        tokio::pin!(running);
        loop {
            tokio::select! {
                done = &mut running => {
                    done?;
                    return Ok(true);
                }
                _ = terminate.recv() => cancel.cancel(),
                done = tokio::signal::ctrl_c() => {
                    done?;
                    cancel.cancel();
                }
            }
        }
    })
}

fn check(config: &Path) -> anyhow::Result<bool> {
    let settings = load(config)?;
    let (identity, _) = pipeline::load_identity(&settings)?;
    let days = (identity.signer.not_after.0 - BootClock.read().real.0) / (86_400 * NS_PER_S);
    println!("{} is good", config.display());
    println!(
        "  we are     {} (signing certificate {}, {days} days left)",
        identity.signer.path, identity.signer.serial
    );
    let scheme = if settings.broker.tls { "mqtts" } else { "mqtt" };
    println!("  broker     {scheme}://{}:{}", settings.broker.host, settings.broker.port);
    println!("  spool      {} (at most {} bytes)", settings.spool.dir.display(), settings.spool.bytes_max);
    for source in &settings.sources {
        println!("  source     {} ({})", source.stream, source.kind.as_str());
    }
    Ok(true)
}

fn test(config: &Path, wait_s: u64, json: bool) -> anyhow::Result<bool> {
    let settings = load(config)?;
    runtime()?.block_on(async {
        let mut all = true;
        for source in &settings.sources {
            let (mut adapter, _receipts) = AnySource::new(source, BootClock);
            let until = BootClock.boot().plus_ms(wait_s.saturating_mul(1_000));
            let found = first_reading(&mut adapter, until).await;
            adapter.close().await;
            let name = source.stream.as_str();
            match (&found, json) {
                (Ok(reading), true) => {
                    println!("{}", json!({"source": name, "ok": true, "reading": reading}))
                }
                (Ok(reading), false) => println!("{name:<24} {reading}"),
                (Err(why), true) => println!("{}", json!({"source": name, "ok": false, "why": why})),
                (Err(why), false) => println!("{name:<24} NOTHING: {why}"),
            }
            all &= found.is_ok();
        }
        Ok(all)
    })
}

/// The first reading of a source as an object, or why there was none.
async fn first_reading(
    source: &mut AnySource<BootClock>,
    until: headwater_core::time::BootNanos,
) -> Result<serde_json::Value, String> {
    let mut schema: Option<Schema> = None;
    let mut set_aside = None;
    loop {
        let event = tokio::select! {
            event = source.next() => event.map_err(|error| error.to_string())?,
            () = BootClock.sleep_until(until) => {
                let why = set_aside.map(|why| format!("; set aside: {why}")).unwrap_or_default();
                return Err(format!("no reading in time; check port, cable and settings{why}"));
            }
        };
        match event {
            SourceEvent::Stream { schema: declared, .. } => schema = Some(declared),
            SourceEvent::SetAside { why, .. } => set_aside = Some(why),
            SourceEvent::Lost { .. } => {}
            SourceEvent::Reading { stream, reading } => {
                let mut object = Map::new();
                object.insert("stream".to_owned(), json!(stream.as_str()));
                let fields = schema.iter().flat_map(|schema| &schema.fields);
                for (field, value) in fields.zip(&reading.values) {
                    let text = if field.unit == "1" {
                        field.name.to_string()
                    } else {
                        format!("{} [{}]", field.name, field.unit)
                    };
                    object.insert(text, shown(value));
                }
                return Ok(serde_json::Value::Object(object));
            }
        }
    }
}

fn shown(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::I64(n) => json!(n),
        Value::F64(x) => json!(x),
        Value::F32(x) => json!(x),
        Value::Utf8(text) => json!(text),
        Value::Bytes(bytes) => match BlobRef::from_bytes(bytes) {
            Some(blob) => json!(format!("{} bytes", blob.len)),
            None => json!(format!("{} bytes", bytes.len())),
        },
    }
}

fn status(config: &Path, json: bool) -> anyhow::Result<bool> {
    let settings = load(config)?;
    let file = &settings.status_file;
    let bytes = std::fs::read(file).map_err(|error| {
        anyhow::anyhow!(
            "{} cannot be read ({error}); is the agent running? start it with `headwater-agent run`",
            file.display()
        )
    })?;
    if json {
        println!("{}", String::from_utf8_lossy(&bytes));
        return Ok(true);
    }
    let status: Status = serde_json::from_slice(&bytes)?;
    let age_ns = BootClock.read().real.0.saturating_sub(status.written_utc_ns);
    if u128::from(age_ns.unsigned_abs()) > STATUS_AGE_MAX.as_nanos() {
        println!(
            "!  this status is {} s old: the agent does not run, or the clock stepped",
            age_ns / NS_PER_S
        );
    }
    print!("{}", status.for_people());
    Ok(true)
}
