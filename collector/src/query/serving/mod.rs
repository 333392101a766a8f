//! `headwater serve` and `headwater token`: a lake for other people's engines, from a laptop or a host of its own.

use super::QueryError;
use crate::inbound::TlsFiles;
use crate::receive::clock::SystemClock;
use crate::serve::access::{Access, Role, Token, TokenSource, TokenText, read_tokens};
use crate::serve::audit::AuditLog;
use crate::serve::{self, CatalogSettings, LakePages};
use crate::telemetry;
use clap::Subcommand;
use headwater_core::id::{Sha256, TenantId};
use headwater_core::ports::Clock;
use headwater_lake::{Lake, RefName, RefPattern, RefPatterns};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Verbs that open the lake to other programs.
#[derive(Debug, Subcommand)]
pub(super) enum ServingVerb {
    /// Serves the lake as an Iceberg REST catalog: DuckDB, pyiceberg, Spark and others attach a branch, tag or commit.
    ///
    /// Clients read and write data files themselves, so they must reach the store the lake lies in. Protected branches
    /// are read only; every change becomes a commit of the branch it was made on.
    #[command(
        after_help = "Examples:\n  headwater --lake lake serve\n  headwater --lake lake serve --listen 0.0.0.0:8181 --tokens tokens.toml --audit audit.jsonl\nThen in DuckDB:\n  ATTACH 'main' AS lake (TYPE iceberg, ENDPOINT 'http://127.0.0.1:8181', AUTHORIZATION_TYPE 'none');\n  SELECT count(*) FROM lake.raw.imu;"
    )]
    Serve {
        /// Address to listen on; beyond loopback tokens are needed.
        #[arg(long, default_value = "127.0.0.1:8181", value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
        /// Branches nobody writes, * for anything; may be repeated.
        #[arg(long, default_value = "main", value_name = "REF")]
        protect: Vec<RefPattern>,
        /// File of [[token]] tables, as `headwater token new` prints them.
        #[arg(long, value_name = "FILE")]
        tokens: Option<PathBuf>,
        /// Certificate with its chain, PEM: HTTPS instead of HTTP. A renewed one is used from the next connection on.
        #[arg(long, value_name = "FILE", requires = "tls_key")]
        tls_cert: Option<PathBuf>,
        /// Its private key, PEM.
        #[arg(long, value_name = "FILE", requires = "tls_cert")]
        tls_key: Option<PathBuf>,
        /// File that every change is written down in; left out, changes are told on standard error.
        #[arg(long, value_name = "FILE")]
        audit: Option<PathBuf>,
    },
    /// Tokens for the catalog.
    Token {
        #[command(subcommand)]
        verb: TokenVerb,
    },
}

/// Verbs of tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// Makes a token and prints it once, with the lines the server needs to know it.
    #[command(
        after_help = "Examples:\n  headwater token new --name alice --role writer --refs 'exp/*' --refs main\n  headwater token new --name grafana --role reader --json | jq -r .token"
    )]
    New {
        /// Whose it is: told in commits and in the audit log.
        #[arg(long)]
        name: String,
        /// reader, writer (of unprotected branches) or admin (a writer of every ref).
        #[arg(long, value_parser = role)]
        role: Role,
        /// Branches and tags it is for, * for anything; may be repeated. A pinned commit needs '*'.
        #[arg(long, default_value = "*", value_name = "REF")]
        refs: Vec<RefPattern>,
        /// The lake's tenant, so that a token brought to another one is told apart.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

fn role(text: &str) -> Result<Role, String> {
    text.parse()
}

/// Does what `verb` says with the lake at `place`.
pub(super) fn run(
    verb: &ServingVerb,
    place: &str,
    json: bool,
    out: &mut impl Write,
) -> Result<(), QueryError> {
    match verb {
        ServingVerb::Serve { listen, protect, tokens, tls_cert, tls_key, audit } => {
            let access = Access {
                tokens: tokens.as_deref().map_or_else(|| Ok(Vec::new()), read_tokens)?,
                protected: RefPatterns(protect.clone()),
                tenant: None,
                source: tokens.clone().map(|file| TokenSource { fixed: Vec::new(), file }),
            };
            let tls = tls_cert.clone().zip(tls_key.clone());
            let tls = tls.map(|(cert, key)| TlsFiles { cert, key, more: None });
            let audit = audit.as_deref().map_or_else(AuditLog::default, AuditLog::in_file);
            serve(*listen, place, access, tls.as_ref(), audit, out)
        }
        ServingVerb::Token { verb: TokenVerb::New { name, role, refs, tenant } } => {
            let text = TokenText::random(tenant.as_ref().map_or("", TenantId::as_str))
                .map_err(|_| QueryError::Start("the system gives no random numbers".to_owned()))?;
            let token = Token {
                name: name.clone(),
                role: *role,
                refs: RefPatterns(refs.clone()),
                sha256: text.sha256(),
            };
            tell(&token, &text, json, out)
        }
    }
}

fn tell(token: &Token, text: &TokenText, json: bool, out: &mut impl Write) -> Result<(), QueryError> {
    let digest = Sha256(token.sha256).to_string();
    let refs: Vec<&str> = token.refs.0.iter().map(RefPattern::as_str).collect();
    if json {
        let told = serde_json::json!({
            "token": text.secret(), "name": token.name, "role": token.role.as_str(), "refs": refs, "sha256": digest,
        });
        writeln!(out, "{told}")?;
        return Ok(());
    }
    // Debug texts of Rust are valid texts of TOML for what names and patterns may hold.
    writeln!(out, "# The token, told once: keep it like a password.\n{}\n", text.secret())?;
    writeln!(out, "# For the collector's configuration ([[token]] in a file of tokens):\n[[http.token]]")?;
    let name = toml::Value::from(token.name.as_str());
    writeln!(out, "name = {name}\nrole = {:?}\nrefs = {refs:?}\nsha256 = {digest:?}", token.role.as_str())?;
    Ok(())
}

fn serve(
    listen: SocketAddr,
    place: &str,
    access: Access,
    tls: Option<&TlsFiles>,
    audit: AuditLog,
    out: &mut impl Write,
) -> Result<(), QueryError> {
    telemetry::init_logging();
    let failed = |error: std::io::Error| QueryError::Start(error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let lake = Lake::open(place).await?;
        let metrics = PrometheusBuilder::new()
            .install_recorder()
            .map_err(|error| QueryError::Start(error.to_string()))?;
        audit
            .ready()
            .map_err(|error| QueryError::Start(format!("the audit log cannot be written: {error}")))?;
        let listener = serve::bind(listen, &access, tls).await?;
        let url = listener.url().map_err(failed)?;
        let stored = lake.protection().await?;
        let protected: RefPatterns =
            RefPatterns(access.protected.0.iter().chain(&stored.patterns.0).cloned().collect());
        let tasks = TaskTracker::new();
        let pages = LakePages::new(CatalogSettings {
            lake: lake.clone(),
            branch: RefName::main(),
            access,
            audit,
            now: Arc::new(|| SystemClock.read().real.0.div_euclid(1_000)),
            tasks: tasks.clone(),
        });
        writeln!(out, "serving {} at {url} (protected: {protected}); end with Ctrl-C", lake.location())?;
        out.flush()?;
        let cancel = CancellationToken::new();
        let (mut term, mut int) = (
            signal(SignalKind::terminate()).map_err(failed)?,
            signal(SignalKind::interrupt()).map_err(failed)?,
        );
        let served = serve::run_lake(listener, metrics, pages, cancel.clone());
        tokio::pin!(served);
        let ended = tokio::select! {
            ended = &mut served => ended,
            _ = term.recv() => { cancel.cancel(); served.await }
            _ = int.recv() => { cancel.cancel(); served.await }
        };
        ended?;
        // Changes under way end before the process does.
        tasks.close();
        tasks.wait().await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn what_a_new_token_prints_is_what_the_configuration_reads() {
        let mut out = Vec::new();
        let refs = RefPatterns::of(&["exp/*", "main"]).0;
        let verb = TokenVerb::New { name: "alice \"a\"".into(), role: Role::Writer, refs, tenant: None };
        run(&ServingVerb::Token { verb }, "", false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let secret = text.lines().nth(1).unwrap().to_owned();
        let base = include_str!("../../../../tests/golden/collector_config/valid/full.toml");
        let base = base.split("[[http.token]]").next().unwrap();
        let table = text.split_once("[[http.token]]").unwrap().1;
        let settings = config::parse_text(&format!("{base}\n[[http.token]]{table}")).unwrap();
        let http = settings.http.unwrap();
        let access = http.access(&settings.tenant, settings.protected.as_ref()).unwrap();
        let caller = access.by_secret(&secret).unwrap();
        assert_eq!((caller.name.as_str(), caller.role), ("alice \"a\"", Role::Writer));
        assert_eq!(caller.refs.to_string(), "exp/*, main");
    }
}
