//! The service's command line: `run`, `check`, `broker` and `requeue`.

use crate::config::{self, Identity, Settings};
use crate::inbound::TlsFiles;
use crate::ingest::{self, Request};
use crate::receive::broker::{self, BrokerSettings, BrokerTls};
use crate::receive::clock::SystemClock;
use crate::{pipeline, telemetry};
use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use headwater_core::id::{DeviceId, FieldName, KindName, NameError};
use headwater_core::ports::Clock;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Parser)]
#[command(
    name = "headwater-collector",
    version,
    about = "Receives, lands, aligns and commits what agents ship."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the collector
    Run(ConfigArg),
    /// Check configuration, certificates and keys, and say every mistake
    Check(ConfigArg),
    /// Run the embedded broker (one machine, development, demos)
    Broker(ConfigArg),
    /// Have quarantined rows folded again, once what was wrong is put right; rows that are in the lake stay as they are
    Requeue(RequeueArgs),
}

#[derive(Debug, clap::Args)]
struct RequeueArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Only rows of this device
    #[arg(long)]
    device: Option<DeviceId>,
    /// Only rows of streams of this name
    #[arg(long)]
    stream: Option<String>,
    /// Only what was set aside for this reason, as `headwater quarantine` shows it
    #[arg(long)]
    reason: Option<String>,
    /// Column that a refused field goes to instead, from now on too; may be repeated
    #[arg(long, value_name = "FIELD=COLUMN", value_parser = renaming)]
    rename: Vec<(FieldName, FieldName)>,
    /// Kind that refused rows go to instead, from now on too
    #[arg(long)]
    kind: Option<KindName>,
}

fn renaming(text: &str) -> Result<(FieldName, FieldName), String> {
    let (field, column) = text.split_once('=').ok_or("write FIELD=COLUMN, such as t=t_text")?;
    let name = |name: &str| name.parse().map_err(|error: NameError| error.to_string());
    Ok((name(field)?, name(column)?))
}

#[derive(Debug, clap::Args)]
struct ConfigArg {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "collector.toml")]
    config: PathBuf,
}

/// Runs the service with these arguments (the program's name first).
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failures, and come this way too.
            let code = if error.use_stderr() { 2 } else { 0 };
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    telemetry::init_logging();
    let outcome = match cli.verb {
        Verb::Run(arg) => run(&arg),
        Verb::Check(arg) => check(&arg),
        Verb::Broker(arg) => run_broker(&arg),
        Verb::Requeue(args) => requeue(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater-collector: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arg: &ConfigArg) -> anyhow::Result<()> {
    let settings = load(arg)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("collector")
        .build()
        .context("failed to start the runtime")?;
    let outcome = runtime.block_on(async {
        let cancel = CancellationToken::new();
        let on_signal = cancel.clone();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let signals = async move {
            let name = tokio::select! { _ = term.recv() => "SIGTERM", _ = int.recv() => "SIGINT" };
            tracing::info!(
                signal = name,
                "stopping: nothing more is taken, what was taken is landed and committed"
            );
            on_signal.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            outcome = pipeline::run(settings, cancel) => outcome.map_err(anyhow::Error::from),
            () = signals => Ok(()),
        }
    });
    // A late stage must not hold the process: what it holds is in the landing log.
    runtime.shutdown_background();
    outcome
}

fn check(arg: &ConfigArg) -> anyhow::Result<()> {
    let settings = load(arg)?;
    let identity = Identity::load(&settings.identity, &settings.tenant, SystemClock.read().real)?;
    if let Some(http) = &settings.http {
        http.access(&settings.tenant, settings.protected.as_ref())?;
        http.tls.as_ref().map(TlsFiles::load).transpose()?;
    }
    println!(
        "{} is fine: collector {}, tenant {}",
        arg.config.display(),
        identity.signer.path.device,
        settings.tenant
    );
    Ok(())
}

fn run_broker(arg: &ConfigArg) -> anyhow::Result<()> {
    let settings = load(arg)?;
    let Some(section) = &settings.broker else {
        bail!("{} has no [broker] table; add listen = \"127.0.0.1:8883\"", arg.config.display());
    };
    let tls = if section.plain {
        None
    } else {
        broker::check_tenant(settings.tenant.as_str())?;
        let paths = settings.identity.clone();
        Some(BrokerTls { ca: paths.ca, cert: paths.tls_cert, key: paths.tls_key })
    };
    tracing::info!(listen = %section.listen, tls = tls.is_some(), "embedded broker starts");
    match broker::run(&BrokerSettings { listen: section.listen, tls, version: section.version })? {}
}

fn requeue(args: RequeueArgs) -> anyhow::Result<()> {
    let settings = load(&args.config)?;
    let (named, device, stream) =
        (!args.rename.is_empty() || args.kind.is_some(), &args.device, &args.stream);
    if named && device.is_none() && stream.is_none() {
        bail!("another name is given to the fields of a device or a stream: add --device or --stream");
    }
    let request = Request {
        device: args.device,
        stream: args.stream,
        reason: args.reason,
        rename: args.rename.into_iter().collect(),
        kind: args.kind,
    };
    let id = format!("{}-{}", SystemClock.read().real.0, std::process::id());
    let file = ingest::ask(&settings.landing_dir, &request, &id)
        .with_context(|| format!("request cannot be left in {}", settings.landing_dir.display()))?;
    println!(
        "asked: the collector answers within {} s of running, in {}; headwater quarantine shows what is left",
        settings.commit.interval_ms.div_ceil(1_000),
        file.with_extension("done").display()
    );
    Ok(())
}

fn load(arg: &ConfigArg) -> anyhow::Result<Settings> {
    config::load(&arg.config).with_context(|| format!("{} cannot be used", arg.config.display()))
}
