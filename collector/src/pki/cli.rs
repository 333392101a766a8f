//! `headwater pki`: the words of the command line, and what each prints.

use super::authority::check;
use super::serve::{self, ServeError, ServeSettings};
use super::{
    Authority, NewToken, Offer, PkiError, Reason, Subject, create_token, init, intermediate, issue_for,
    issued, renew, revoke, revoke_token, revoked, tokens,
};
use clap::{Args, Subcommand};
use headwater_core::time::{NS_PER_S, UtcNanos};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What to do with the fleet's certificates.
#[derive(Debug, Subcommand)]
pub enum PkiVerb {
    /// Makes the fleet's CA. Keep ca.key where few can read it.
    #[command(after_help = "Example:\n  headwater pki init --dir pki --tenant acme")]
    Init {
        /// Folder for ca.pem and ca.key.
        #[arg(long)]
        dir: PathBuf,
        /// Owner of the fleet; letters and digits if the embedded broker is used.
        #[arg(long)]
        tenant: String,
    },
    /// Makes a CA below the fleet's, for a site or a service of its own.
    ///
    /// What it issues is trusted like the root's, and can be revoked as a whole by revoking its name at the root.
    #[command(
        after_help = "Example:\n  headwater pki intermediate --dir pki --name site-1 --out site-1/\n  headwater pki issue --dir site-1 --device pi-7 --out pi-7/"
    )]
    Intermediate {
        /// Folder of the fleet's CA.
        #[arg(long)]
        dir: PathBuf,
        /// Name of the new CA.
        #[arg(long)]
        name: String,
        /// Folder for ca.pem, issuer.pem and ca.key.
        #[arg(long)]
        out: PathBuf,
    },
    /// Issues the TLS and signing pairs of a device or a collector.
    #[command(
        after_help = "Examples:\n  headwater pki issue --dir pki --device pi-1 --out pi-1/\n  headwater pki issue --dir pki --collector hq --host collector.example --out hq/"
    )]
    Issue(Pair),
    /// Renews the pairs of a device or a collector; the old ones stay valid beside the new.
    ///
    /// Agents and collectors read changed files by themselves: no restart, and nothing under way is lost.
    #[command(
        after_help = "Examples:\n  headwater pki renew --dir pki --device pi-1 --out pi-1/\n  headwater pki renew --dir pki --collector hq --out hq/ --same-key"
    )]
    Renew {
        /// Whose, and where.
        #[command(flatten)]
        pair: Pair,
        /// Keep the keys, renew the certificates only.
        #[arg(long)]
        same_key: bool,
    },
    /// Revokes a certificate, or all of a device, collector or intermediate, and writes the lists.
    ///
    /// Copy ca.crl and collectors.crl beside the collectors' ca.pem: they take them up within a second.
    /// Brokers read ca.crl too (mosquitto: crlfile).
    #[command(
        after_help = "Examples:\n  headwater pki revoke pi-7 --dir pki --reason key_compromise\n  headwater pki revoke 4f1e22c09a --dir pki"
    )]
    Revoke {
        /// Name or serial number.
        who: String,
        /// Folder of the CA that issued it.
        #[arg(long)]
        dir: PathBuf,
        /// Why.
        #[arg(long, value_enum, default_value_t)]
        reason: Reason,
    },
    /// Tokens with which gateways get their first certificates.
    #[command(
        after_help = "Example:\n  headwater pki token create --dir pki --name 'pi-*' --expires 24h   # on a gateway: headwater-agent enroll URL --token …"
    )]
    Token {
        /// What to do with them.
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Runs the enrolment service: gateways get and renew their certificates from it over HTTPS.
    ///
    /// It needs the CA's key, so it belongs on a machine of its own or beside the collector, never on one that devices
    /// can log in to.
    #[command(
        after_help = "Example:\n  headwater pki serve --dir pki --listen 0.0.0.0:8443 --cert hq/tls.pem --key hq/tls.key --broker mqtts://hq.example:8883"
    )]
    Serve {
        /// Folder of the CA.
        #[arg(long)]
        dir: PathBuf,
        /// Address and port.
        #[arg(long, default_value = "0.0.0.0:8443")]
        listen: std::net::SocketAddr,
        /// TLS certificate of the service; a collector's will do.
        #[arg(long)]
        cert: PathBuf,
        /// Its key.
        #[arg(long)]
        key: PathBuf,
        /// Broker that new gateways ship to; may be repeated, the first is used.
        #[arg(long = "broker", required = true, value_name = "URL", value_parser = broker)]
        brokers: Vec<String>,
        /// Days that certificates are valid; gateways renew them at two thirds of it.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
    },
    /// Lists what a CA issued, and what of it is revoked or has ended.
    #[command(
        after_help = "Examples:\n  headwater pki list --dir pki\n  headwater --json pki list --dir pki | jq '.[] | select(.days_left < 30)'"
    )]
    List {
        /// Folder of the CA.
        #[arg(long)]
        dir: PathBuf,
    },
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Makes a token and prints it once; only its SHA-256 is kept.
    #[command(
        after_help = "Examples:\n  headwater pki token create --dir pki --name pi-7\n  headwater pki token create --dir pki --name 'pi-*' --expires 24h --uses 10"
    )]
    Create {
        /// Folder of the CA.
        #[arg(long)]
        dir: PathBuf,
        /// Name of the gateway, in which * stands for any characters.
        #[arg(long, value_parser = pattern)]
        name: String,
        /// For how long: minutes, hours or days, such as 30m, 24h or 7d.
        #[arg(long, default_value = "24h", value_parser = seconds)]
        expires: i64,
        /// How many gateways.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        uses: u32,
    },
    /// Lists tokens: for which names, until when, how often still, and whom they admitted.
    #[command(after_help = "Example:\n  headwater pki token list --dir pki")]
    List {
        /// Folder of the CA.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Takes a token back; certificates that it brought stay.
    #[command(after_help = "Example:\n  headwater pki token revoke 0a1b2c3d4e5f6071 --dir pki")]
    Revoke {
        /// Its id, the first part after hwt1-.
        id: String,
        /// Folder of the CA.
        #[arg(long)]
        dir: PathBuf,
    },
}

/// A broker's address as gateways take it: what is wrong in it would be found on each of them.
fn broker(text: &str) -> Result<String, String> {
    let wrong = || "write mqtts://HOST:PORT or wss://HOST/PATH, such as mqtts://hq.example:8883".to_owned();
    let authority = text.strip_prefix("wss://").map(|rest| rest.split('/').next().unwrap_or_default());
    let sound = match authority {
        Some(authority) => !authority.is_empty() && !authority.contains([' ', '@']),
        None => text.parse::<crate::config::BrokerUrl>().is_ok_and(|url| url.tls || url.is_loopback()),
    };
    if sound { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// The names a token is for: a device's, in which * stands for any characters.
fn pattern(text: &str) -> Result<String, String> {
    let stands_for: String = text.replace('*', "x");
    match stands_for.parse::<headwater_core::id::DeviceId>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("no gateway can be called so: {error}")),
    }
}

fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || "write minutes, hours or days, such as 30m, 24h or 7d".to_owned();
    let unit = match text.chars().last() {
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<i64>().ok());
    // A year is more than anyone should leave lying about.
    let seconds =
        number.and_then(|number| number.checked_mul(unit)).filter(|s| (60..=366 * 86_400).contains(s));
    seconds.ok_or_else(wrong)
}

/// Whose pair.
#[derive(Debug, Args)]
pub struct Pair {
    /// Folder with ca.pem and ca.key.
    #[arg(long)]
    dir: PathBuf,
    /// Name of the device.
    #[arg(long, conflicts_with = "collector", required_unless_present = "collector")]
    device: Option<String>,
    /// Name of the collector.
    #[arg(long)]
    collector: Option<String>,
    /// Host names and addresses of the collector's broker role.
    #[arg(long = "host", requires = "collector")]
    hosts: Vec<String>,
    /// Days of validity.
    #[arg(long, default_value_t = super::LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
    /// Folder for ca.pem, tls.pem, tls.key, sign.pem, sign.key.
    #[arg(long)]
    out: PathBuf,
}

impl Pair {
    fn subject(&self) -> Subject {
        match (&self.device, &self.collector) {
            (Some(device), _) => Subject::Device(device.clone()),
            (None, name) => {
                Subject::Collector { name: name.clone().unwrap_or_default(), hosts: self.hosts.clone() }
            }
        }
    }

    fn name(&self) -> &str {
        self.device.as_deref().or(self.collector.as_deref()).unwrap_or_default()
    }
}

/// Does it at time `now`, and prints what was done to `out`.
///
/// # Errors
/// [`PkiError`] names the file or name at fault.
pub fn run(verb: &PkiVerb, as_json: bool, now: UtcNanos, out: &mut dyn Write) -> Result<(), PkiError> {
    let answer = answer(verb, now)?;
    let printed = if as_json { writeln!(out, "{}", answer.json) } else { writeln!(out, "{}", answer.text) };
    printed.map_err(|source| PkiError::File { what: "write to", path: "standard output".into(), source })
}

struct Answer {
    text: String,
    json: Value,
}

fn answer(verb: &PkiVerb, now: UtcNanos) -> Result<Answer, PkiError> {
    let made = |what: String, dir: &PathBuf| Answer {
        text: format!("{what} written to {}", dir.display()),
        json: json!({"made": what, "dir": dir.display().to_string()}),
    };
    Ok(match verb {
        PkiVerb::Init { dir, tenant } => {
            init(dir, tenant, now)?;
            made(format!("fleet CA of {tenant}"), dir)
        }
        PkiVerb::Intermediate { dir, name, out } => {
            intermediate(dir, name, out, now)?;
            made(format!("CA {name}"), out)
        }
        PkiVerb::Issue(pair) => {
            issue_for(&pair.dir, &pair.subject(), &pair.out, pair.days, now)?;
            made(format!("certificates of {}", pair.name()), &pair.out)
        }
        PkiVerb::Renew { pair, same_key } => {
            renew(&pair.dir, &pair.subject(), &pair.out, pair.days, *same_key, now)?;
            made(format!("renewed certificates of {}", pair.name()), &pair.out)
        }
        PkiVerb::Revoke { who, dir, reason } => {
            let new = revoke(dir, who, *reason, now)?;
            let serials: Vec<&str> = new.iter().map(|entry| entry.serial.as_str()).collect();
            let text = match serials.len() {
                0 => format!("{who} was revoked before; the lists in {} are written anew", dir.display()),
                n => format!(
                    "{n} certificates of {who} revoked: {}\ncopy {} and {} beside the collectors' ca.pem",
                    serials.join(", "),
                    dir.join(super::ALL_LIST).display(),
                    dir.join(super::COLLECTORS_LIST).display()
                ),
            };
            Answer { text, json: json!({"revoked": serials, "dir": dir.display().to_string()}) }
        }
        PkiVerb::Token { verb } => token(verb, now)?,
        PkiVerb::Serve { dir, listen, cert, key, brokers, days } => {
            let offer = Offer { brokers: brokers.clone(), days: *days };
            let settings = ServeSettings {
                dir: dir.clone(),
                listen: *listen,
                cert: cert.clone(),
                key: key.clone(),
                offer,
            };
            serve_until_told(&settings)?;
            Answer { text: "the service has ended".to_owned(), json: json!({"ended": true}) }
        }
        PkiVerb::List { dir } => listed(dir, now)?,
    })
}

fn serve_until_told(settings: &ServeSettings) -> Result<(), PkiError> {
    crate::telemetry::init_logging();
    // What is wrong with the CA is told now, not to the first gateway.
    Authority::open(&settings.dir)?;
    let broken = |source| ServeError::Serve(source);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(broken)?;
    runtime.block_on(async {
        let service = serve::bind(settings).await?;
        tracing::info!(listen = %service.address(), "enrolment service runs");
        let (mut term, mut int) = (
            signal(SignalKind::terminate()).map_err(broken)?,
            signal(SignalKind::interrupt()).map_err(broken)?,
        );
        let cancel = CancellationToken::new();
        let running = service.run(cancel.clone());
        let told = async {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            cancel.cancel();
        };
        let (ran, ()) = tokio::join!(running, told);
        Ok(ran?)
    })
}

fn token(verb: &TokenVerb, now: UtcNanos) -> Result<Answer, PkiError> {
    let day = |at_s: i64| {
        chrono::DateTime::from_timestamp(at_s, 0)
            .map_or_else(|| "?".to_owned(), |date| date.format("%Y-%m-%d %H:%M UTC").to_string())
    };
    Ok(match verb {
        TokenVerb::Create { dir, name, expires, uses } => {
            let new = NewToken { name: name.clone(), valid_s: *expires, uses: *uses };
            let (token, text) = create_token(dir, &new, now)?;
            let json = json!({"token": text, "id": token.id, "name": token.name, "ends_s": token.ends_s, "uses": uses});
            Answer { text, json }
        }
        TokenVerb::List { dir } => {
            check(dir)?;
            let (mut lines, mut rows) = (Vec::new(), Vec::new());
            for token in tokens(dir)? {
                let state = token.state(now);
                let used =
                    if token.used_by.is_empty() { "nobody yet".to_owned() } else { token.used_by.join(", ") };
                lines.push(format!(
                    "{} {state:<5} for {:<16} until {}, {} uses left, used by {used}",
                    token.id,
                    token.name,
                    day(token.ends_s),
                    token.uses_left
                ));
                rows.push(json!({
                    "id": token.id, "state": state, "name": token.name, "ends_s": token.ends_s,
                    "uses_left": token.uses_left, "used_by": token.used_by,
                }));
            }
            if lines.is_empty() {
                lines.push("no tokens".to_owned());
            }
            Answer { text: lines.join("\n"), json: Value::Array(rows) }
        }
        TokenVerb::Revoke { id, dir } => {
            revoke_token(dir, id)?;
            Answer { text: format!("token {id} is taken back"), json: json!({"revoked": id}) }
        }
    })
}

fn listed(dir: &std::path::Path, now: UtcNanos) -> Result<Answer, PkiError> {
    check(dir)?;
    let revoked = revoked(dir)?;
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for entry in issued(dir)? {
        let revoked = revoked.iter().find(|revoked| revoked.serial == entry.serial);
        let state = match revoked {
            Some(_) => "revoked",
            None if entry.is_current(now) => "valid",
            None => "ended",
        };
        let until = chrono::DateTime::from_timestamp(entry.not_after_s, 0)
            .map_or_else(|| "?".to_owned(), |date| date.format("%Y-%m-%d").to_string());
        let days = entry.not_after_s.saturating_sub(now.0.div_euclid(NS_PER_S)).div_euclid(86_400);
        lines.push(format!(
            "{:<20} {:<5} {state:<8} until {until}  {}",
            entry.name, entry.key_use, entry.serial
        ));
        let mut row = serde_json::to_value(&entry).unwrap_or_default();
        if let Value::Object(fields) = &mut row {
            fields.insert("state".to_owned(), json!(state));
            fields.insert("days_left".to_owned(), json!(days));
            fields.insert("reason".to_owned(), json!(revoked.map(|revoked| revoked.reason)));
        }
        rows.push(row);
    }
    if lines.is_empty() {
        lines.push("nothing was issued here yet, or only before there was a register".to_owned());
    }
    Ok(Answer { text: lines.join("\n"), json: Value::Array(rows) })
}
