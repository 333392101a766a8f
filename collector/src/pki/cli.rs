//! `headwater pki`: the words of the command line, and what each prints.

use super::{PkiError, Reason, Subject, init, intermediate, issue_for, issued, renew, revoke, revoked};
use clap::{Args, Subcommand};
use headwater_core::time::{NS_PER_S, UtcNanos};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

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
    #[command(after_help = "Example:\n  headwater pki intermediate --dir pki --name site-1 --out site-1/\n  headwater pki issue --dir site-1 --device pi-7 --out pi-7/")]
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
    #[command(after_help = "Examples:\n  headwater pki issue --dir pki --device pi-1 --out pi-1/\n  headwater pki issue --dir pki --collector hq --host collector.example --out hq/")]
    Issue(Pair),
    /// Renews the pairs of a device or a collector; the old ones stay valid beside the new.
    ///
    /// Agents and collectors read changed files by themselves: no restart, and nothing under way is lost.
    #[command(after_help = "Examples:\n  headwater pki renew --dir pki --device pi-1 --out pi-1/\n  headwater pki renew --dir pki --collector hq --out hq/ --same-key")]
    Renew {
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
    #[command(after_help = "Examples:\n  headwater pki revoke pi-7 --dir pki --reason key_compromise\n  headwater pki revoke 4f1e22c09a --dir pki")]
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
    /// Lists what a CA issued, and what of it is revoked or has ended.
    List {
        /// Folder of the CA.
        #[arg(long)]
        dir: PathBuf,
    },
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
            (None, name) => Subject::Collector {
                name: name.clone().unwrap_or_default(),
                hosts: self.hosts.clone(),
            },
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
        PkiVerb::List { dir } => listed(dir, now)?,
    })
}

fn listed(dir: &std::path::Path, now: UtcNanos) -> Result<Answer, PkiError> {
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
        lines.push(format!("{:<20} {:<5} {state:<8} until {until}  {}", entry.name, entry.key_use, entry.serial));
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
