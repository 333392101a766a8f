//! `setup`: finds what a gateway has, asks, writes a configuration, and checks it.

use super::{check_with, https_url, runtime, say};
use crate::clock::BootClock;
use crate::config::{self, GPSD_DEFAULT, Settings};
use crate::enroll::{self, HttpsUrl};
use crate::setup::{
    Basis, Captured, Findings, Heard, Offer, Ttys, Written, add, ask_gpsd, candidates, compose, create,
    extend, look, offers, probe_all,
};
use crate::source::sys::SysTree;
use anyhow::{Context, Result, bail};
use clap::Args;
use headwater_core::id::{DeviceId, TenantId};
use headwater_core::ports::Clock;
use serde::Serialize;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Where programs are that sources run.
const PROGRAMS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];
/// Answers to one question that are not understood before it is given up.
const TRIES_MAX: usize = 3;

/// Flags of `setup`.
#[derive(Debug, Args)]
pub(super) struct SetupArgs {
    /// Configuration to write.
    #[arg(long, default_value = super::CONFIG)]
    config: PathBuf,
    /// Asks nothing: captures all that works as it is.
    #[arg(long, short)]
    yes: bool,
    /// Enrols this gateway first: https://HOST:PORT of the fleet's enrolment service.
    #[arg(long, value_name = "URL", value_parser = https_url)]
    enroll: Option<HttpsUrl>,
    /// The token to enrol with, or - to read it from standard input.
    #[arg(long, env = "HEADWATER_TOKEN", hide_env_values = true, requires = "enroll")]
    token: Option<String>,
    /// With --enroll: this gateway takes the place of one that is enrolled by its name.
    #[arg(long, requires = "enroll")]
    replace: bool,
    /// Name of this gateway; the host's name if left out.
    #[arg(long)]
    name: Option<DeviceId>,
    /// Without --enroll: owner of this gateway, O of its certificates.
    #[arg(long, conflicts_with = "enroll")]
    tenant: Option<TenantId>,
    /// Broker, such as mqtts://collector.example:8883; with --enroll the service names it.
    #[arg(long)]
    broker: Option<String>,
    /// Folder of certificates and keys.
    #[arg(long, default_value = "/var/lib/headwater/pki")]
    dir: PathBuf,
    /// Folder of the spool, if not /var/lib/headwater.
    #[arg(long)]
    spool: Option<PathBuf>,
    /// Does not listen to serial ports.
    #[arg(long)]
    no_probe: bool,
    /// Adds to a configuration that is there; a copy of it is kept.
    #[arg(long)]
    force: bool,
    /// Shows what would be written, and writes nothing.
    #[arg(long, conflicts_with = "enroll")]
    dry_run: bool,
    /// Prints JSON; implies --yes.
    #[arg(long)]
    json: bool,
    /// The folder that stands for /, in tests.
    #[arg(long, hide = true, default_value = "/")]
    root: PathBuf,
}

/// What came of it, as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    found: &'a Findings,
    sources: &'a [Offer],
    config: &'a Path,
    written: bool,
    backup: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    ok: bool,
    next: &'a str,
}

/// Somebody who answers.
trait Person {
    /// The answer to a question, without blanks around it; empty for the default.
    fn ask(&mut self, question: &str) -> Result<String>;
}

/// Whoever sits at the terminal.
struct Terminal;

impl Person for Terminal {
    fn ask(&mut self, question: &str) -> Result<String> {
        let mut out = io::stdout().lock();
        write!(out, "{question} ").and_then(|()| out.flush()).map_err(super::OutputError)?;
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line).context("failed to read the answer")? == 0 {
            bail!("no answer; say --yes to be asked nothing");
        }
        Ok(line.trim().to_owned())
    }
}

/// Nobody: only flags count.
struct Nobody;

impl Person for Nobody {
    fn ask(&mut self, _: &str) -> Result<String> {
        Ok(String::new())
    }
}

/// True if all is well.
pub(super) fn setup(args: &SetupArgs) -> Result<bool> {
    let alone = args.yes || args.json;
    if alone || !io::stdin().is_terminal() {
        if !alone {
            bail!("nobody to ask, for this is no terminal: say --yes");
        }
        return run(args, &mut Nobody, None);
    }
    run(args, &mut Terminal, None)
}

/// Finds, asks, writes, checks. `found` stands for what is there, in tests.
fn run(args: &SetupArgs, person: &mut dyn Person, found: Option<Findings>) -> Result<bool> {
    let before = existing(args)?;
    if before.is_some() && args.enroll.is_some() {
        let config = args.config.display();
        bail!(
            "{config} is there: enrol with `headwater-agent enroll`, which keeps it; then --force adds to it"
        );
    }
    let findings = match found {
        Some(found) => found,
        None => find(args)?,
    };
    if !args.json {
        tell(&findings)?;
    }
    let name = match (&args.name, &before) {
        (Some(name), _) => name.clone(),
        (None, Some((_, settings))) => settings.device.device.clone(),
        (None, None) => named(findings.host.as_deref(), person)?,
    };
    let tree = SysTree::at(&args.root);
    let real = |path: &Path| std::fs::canonicalize(tree.path(path)).unwrap_or_else(|_| path.to_path_buf());
    let captured =
        before.as_ref().map_or_else(Captured::default, |(_, settings)| Captured::by(settings, &real));
    let offered = offers(&findings, &captured, &real);
    let chosen = choose(offered, person)?;
    let basis = match &before {
        Some(_) => None,
        None => Some(basis(args, &name, person)?),
    };
    let text = match (&before, &basis) {
        (None, Some(basis)) => compose(basis, &findings, &chosen),
        (Some((text, _)), _) => extend(text, &chosen),
        (None, None) => bail!("nothing to write"),
    };
    let written = match (&before, args.dry_run) {
        (_, true) => None,
        (Some(_), _) if chosen.is_empty() => None,
        (Some(_), _) => Some(add(&args.config, &text)),
        (None, _) if args.config.exists() => Some(replace_own(&args.config, &text)),
        (None, _) => Some(create(&args.config, &text)),
    };
    let written = written.transpose().with_context(|| {
        format!("failed to write {}; run as root, or as whoever may write there", args.config.display())
    })?;
    finish(args, &findings, &chosen, written.as_ref(), &text)
}

/// The configuration that is there, which only --force adds to.
fn existing(args: &SetupArgs) -> Result<Option<(String, Settings)>> {
    let file = &args.config;
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("failed to read {}", file.display()))?,
    };
    // A package's is nothing but comments.
    if text.parse::<toml::Table>().is_ok_and(|table| table.is_empty()) {
        return Ok(None);
    }
    if !args.force && !args.dry_run {
        bail!(
            "{} is there and is not overwritten; --force adds to it what it does not capture yet and keeps a copy, \
             --dry-run shows what that would be",
            file.display()
        );
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let settings = config::read(&text, folder, &|_| Ok(()))
        .with_context(|| format!("{} cannot be added to; mend it, or move it away", file.display()))?;
    Ok(Some((text, settings)))
}

fn find(args: &SetupArgs) -> Result<Findings> {
    let tree = SysTree::at(&args.root);
    let listens = args.root == Path::new("/");
    let mut findings = look(&tree, &PROGRAMS.map(PathBuf::from), &BootClock);
    let runtime = runtime()?;
    let (gpsd, ports) = runtime.block_on(async {
        let gpsd = if listens { ask_gpsd(&BootClock, GPSD_DEFAULT).await } else { None };
        let receivers = gpsd.as_ref().map(|gpsd| gpsd.receivers.clone()).unwrap_or_default();
        let ports = candidates(&tree, &receivers);
        let probing = probe_all(&Ttys { clock: BootClock }, &BootClock, &tree, ports, !args.no_probe);
        (gpsd, probing.await)
    });
    // A port that hangs in the kernel holds nobody up.
    runtime.shutdown_background();
    (findings.gpsd, findings.ports) = (gpsd, ports);
    Ok(findings)
}

/// Says what was found.
fn tell(findings: &Findings) -> Result<()> {
    for port in &findings.ports {
        let heard = match &port.heard {
            Heard::Link { baud } => format!("a board with the link protocol, {baud} baud"),
            Heard::Nmea { baud } => format!("a GPS receiver, {baud} baud"),
            Heard::Protocol { baud, framing } => format!("a device that speaks {framing}, {baud} baud"),
            Heard::Numbers { baud, columns, .. } => format!("lines of {columns} numbers, {baud} baud"),
            Heard::Text { baud } => format!("text, {baud} baud"),
            Heard::Noise => "bytes that make no sense at the usual rates".to_owned(),
            Heard::Silence => "nothing is sent there by itself".to_owned(),
            Heard::NotListened { why } => format!("not listened to: {why}"),
            Heard::Failed { why } => format!("! {why}"),
        };
        say(format_args!("port {} ({}): {heard}", port.path.display(), port.kind))?;
    }
    if let Some(gpsd) = &findings.gpsd {
        say(format_args!("gpsd {} at {} with {} receivers", gpsd.release, gpsd.at, gpsd.receivers.len()))?;
    }
    for camera in &findings.cameras {
        match camera {
            crate::setup::FoundCamera::Pi { program } => {
                let program = program.as_deref().unwrap_or("no program for it: sudo apt install rpicam-apps");
                say(format_args!("camera of the Raspberry Pi ({program})"))?;
            }
            crate::setup::FoundCamera::Usb { device, name, .. } => {
                say(format_args!("camera {}: {name}", device.display()))?;
            }
        }
    }
    for sensors in &findings.sensors {
        for device in &sensors.devices {
            let fields: Vec<String> = device
                .fields
                .iter()
                .map(|(name, unit)| if unit == "1" { name.clone() } else { format!("{name} {unit}") })
                .collect();
            let slash = if device.name.is_empty() { "" } else { "/" };
            say(format_args!("{}{slash}{}: {}", sensors.source, device.name, fields.join(", ")))?;
        }
    }
    Ok(())
}

fn named(host: Option<&str>, person: &mut dyn Person) -> Result<DeviceId> {
    let host: Option<DeviceId> = host.and_then(|host| host.parse().ok());
    let default = host.as_ref().map_or_else(String::new, |host| format!(" [{host}]"));
    for _ in 0..TRIES_MAX {
        let answer = person.ask(&format!("Name of this gateway{default}?"))?;
        match (answer.as_str(), &host) {
            ("", Some(host)) => return Ok(host.clone()),
            ("", None) => break,
            (answer, _) => match answer.parse() {
                Ok(name) => return Ok(name),
                Err(error) => say(format_args!("! {error}"))?,
            },
        }
    }
    bail!("this host's name cannot be a gateway's; give one with --name")
}

/// Which offers are taken: all, unless the person says otherwise. Those that need a hand go in as comments.
fn choose(offered: Vec<Offer>, person: &mut dyn Person) -> Result<Vec<Offer>> {
    let mut chosen = Vec::new();
    for offer in offered {
        let wanted =
            !offer.ready || yes(person, &format!("{}\n  capture it as {} [Y/n]?", offer.told, offer.stream))?;
        if wanted {
            chosen.push(offer);
        }
    }
    Ok(chosen)
}

fn yes(person: &mut dyn Person, question: &str) -> Result<bool> {
    for _ in 0..TRIES_MAX {
        match person.ask(question)?.to_lowercase().as_str() {
            "" | "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => say("! write y or n")?,
        }
    }
    bail!("no answer that is yes or no; say --yes to be asked nothing")
}

/// Who the gateway is: by enrolling, or from flags and answers.
fn basis(args: &SetupArgs, name: &DeviceId, person: &mut dyn Person) -> Result<Basis> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let spool = args.spool.as_deref().map(absolute);
    if let Some(url) = &args.enroll {
        return enrolled(args, url, name, person).map(|basis| Basis { spool, ..basis });
    }
    let tenant = match &args.tenant {
        Some(tenant) => tenant.clone(),
        None => {
            let answer = person.ask("Tenant, O of the certificates?")?;
            answer
                .parse()
                .context("who owns this gateway? give --tenant and --broker, or --enroll URL --token TOKEN")?
        }
    };
    let broker = match &args.broker {
        Some(broker) => broker.clone(),
        None => person.ask("Broker, such as mqtts://collector.example:8883?")?,
    };
    if broker.is_empty() {
        bail!("where is it to send to? give --broker, or --enroll URL --token TOKEN");
    }
    let (tenant, name) = (tenant.to_string(), name.to_string());
    Ok(Basis { tenant, name, identity: absolute(&args.dir), renew: None, brokers: vec![broker], spool })
}

fn enrolled(args: &SetupArgs, url: &HttpsUrl, name: &DeviceId, person: &mut dyn Person) -> Result<Basis> {
    let token = match args.token.as_deref() {
        Some("-") => {
            io::read_to_string(io::stdin().lock()).context("failed to read the token from standard input")?
        }
        Some(token) => token.to_owned(),
        None => person.ask("Token to enrol with?")?,
    };
    let token = enroll::Token::parse(&token).context("give the token with --token, or in HEADWATER_TOKEN")?;
    let (config, dir) = (args.config.as_path(), args.dir.as_path());
    let enrolling =
        enroll::Enrolling { url, token: &token, name: name.clone(), config, dir, replace: args.replace };
    let enrolled = enroll::enroll(&enrolling, BootClock.read().real)?;
    if !args.json {
        say(format_args!("enrolled as {}", enrolled.device))?;
    }
    let (tenant, name) = enrolled.device.split_once('/').context("the service named no tenant")?;
    let brokers = match &args.broker {
        Some(broker) => vec![broker.clone()],
        None => enrolled.brokers.clone(),
    };
    if brokers.is_empty() {
        bail!("the service names no broker: give one with --broker");
    }
    let identity = std::path::absolute(&enrolled.identity).unwrap_or_else(|_| enrolled.identity.clone());
    let (tenant, name) = (tenant.to_owned(), name.to_owned());
    Ok(Basis { tenant, name, identity, renew: Some(url.to_string()), brokers, spool: None })
}

/// There is one that says nothing, or enrolling wrote one without sources a moment ago: this takes its place.
fn replace_own(file: &Path, text: &str) -> io::Result<Written> {
    enroll::put_config(file, text)?;
    Ok(Written { file: file.to_path_buf(), backup: None })
}

/// Says what was written, checks it, and names the next command.
fn finish(
    args: &SetupArgs,
    findings: &Findings,
    chosen: &[Offer],
    written: Option<&Written>,
    text: &str,
) -> Result<bool> {
    let config = args.config.display();
    let backup = written.and_then(|written| written.backup.as_deref());
    let mut lines = Vec::new();
    let good = match (args.dry_run, config::load(&args.config)) {
        (true, _) => true,
        (_, Ok(settings)) => check_with(&settings, &mut |line: &dyn std::fmt::Display| {
            lines.push(line.to_string());
            Ok(())
        })?,
        (_, Err(mistakes)) => {
            lines.push(format!("! {}", mistakes.to_string().trim_end()));
            false
        }
    };
    let next = match (args.dry_run, good) {
        (true, _) => "the same without --dry-run".to_owned(),
        (_, true) => {
            format!("headwater-agent test --config {config}, then sudo systemctl restart headwater-agent")
        }
        (_, false) if args.enroll.is_none() => {
            format!(
                "headwater-agent enroll https://HOST:8443 --token TOKEN --config {config}, or mend what is marked !"
            )
        }
        (_, false) => format!("mend what is marked !, then headwater-agent check --config {config}"),
    };
    if args.json {
        let text = args.dry_run.then_some(text);
        let report = Report {
            found: findings,
            sources: chosen,
            config: &args.config,
            written: written.is_some(),
            backup,
            text,
            ok: good,
            next: &next,
        };
        say(serde_json::to_string(&report)?)?;
        return Ok(good);
    }
    match (args.dry_run, written, backup) {
        (true, _, _) => say(text.trim_end())?,
        (_, None, _) => say(format_args!("{config} captures all of it already; nothing was written"))?,
        (_, Some(_), Some(backup)) => {
            say(format_args!("{config} was added to; as it was it lies in {}", backup.display()))?;
        }
        (_, Some(_), None) => say(format_args!("{config} was written"))?,
    }
    lines.iter().try_for_each(say)?;
    say(format_args!("next: {next}"))?;
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::FoundPort;
    use clap::Parser;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
        PKCS_ED25519, date_time_ymd,
    };
    use std::collections::VecDeque;
    use std::fs;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SetupArgs,
    }

    fn args(line: &[&str]) -> SetupArgs {
        Line::try_parse_from(std::iter::once(&"setup").chain(line)).unwrap().args
    }

    /// Answers in order, and what was asked.
    struct Script(VecDeque<&'static str>, Vec<String>);

    impl Person for Script {
        fn ask(&mut self, question: &str) -> Result<String> {
            self.1.push(question.to_owned());
            self.0.pop_front().map(str::to_owned).context("one question too many")
        }
    }

    /// Certificates of acme/pi-7 as a fleet's CA issues them.
    fn issue(dir: &Path) {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let leaf = |key: &KeyPair| {
            let mut leaf = CertificateParams::new(vec![]).unwrap();
            leaf.distinguished_name.push(DnType::CommonName, "pi-7");
            leaf.distinguished_name.push(DnType::OrganizationName, "acme");
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            (leaf.not_before, leaf.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2099, 1, 1));
            leaf.signed_by(key, &issuer).unwrap().pem()
        };
        let (tls, sign) = (KeyPair::generate().unwrap(), KeyPair::generate_for(&PKCS_ED25519).unwrap());
        fs::create_dir_all(dir).unwrap();
        for (name, text) in [
            ("ca.pem", root.pem()),
            ("tls.pem", leaf(&tls)),
            ("tls.key", tls.serialize_pem()),
            ("sign.pem", leaf(&sign)),
            ("sign.key", sign.serialize_pem()),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
    }

    /// A folder that stands for a Pi.
    fn pi(root: &Path) {
        for (path, text) in [
            ("proc/sys/kernel/hostname", "pi-7\n"),
            ("proc/stat", "cpu  1 2 3 4\n"),
            ("sys/bus/w1/devices/28-0001/temperature", "21500\n"),
            ("sys/bus/iio/devices/iio:device0/name", "bme280\n"),
            ("sys/bus/iio/devices/iio:device0/in_temp_input", "23450\n"),
        ] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
    }

    struct Place {
        dir: tempfile::TempDir,
        line: Vec<String>,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        pi(&dir.path().join("root"));
        issue(&dir.path().join("pki"));
        fs::create_dir_all(dir.path().join("spool")).unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let line = [
            "--config",
            &at("agent.toml"),
            "--dir",
            &at("pki"),
            "--spool",
            &at("spool"),
            "--root",
            &at("root"),
        ];
        Place { line: line.map(str::to_owned).to_vec(), dir }
    }

    impl Place {
        fn args(&self, more: &[&str]) -> SetupArgs {
            let line: Vec<&str> = self.line.iter().map(String::as_str).chain(more.iter().copied()).collect();
            args(&line)
        }

        fn text(&self) -> String {
            fs::read_to_string(self.dir.path().join("agent.toml")).unwrap()
        }
    }

    const OWNER: [&str; 4] = ["--tenant", "acme", "--broker", "mqtts://collector.example:8883"];

    #[test]
    fn what_setup_writes_passes_check() {
        let place = place();
        assert!(setup(&place.args(&[&OWNER[..], &["--yes"]].concat())).unwrap(), "{}", place.text());
        let settings = config::load(&place.dir.path().join("agent.toml")).unwrap();
        let captured: Vec<&str> = settings.sources.iter().map(|source| source.kind.as_str()).collect();
        assert_eq!(captured, ["iio", "w1", "host"]);
        assert_eq!(settings.device.to_string(), "acme/pi-7", "the host's name");
    }

    #[test]
    fn a_configuration_that_is_there_is_kept_and_added_to_only_by_force() {
        let place = place();
        assert!(setup(&place.args(&[&OWNER[..], &["--yes"]].concat())).unwrap());
        let first = place.text();
        let told = setup(&place.args(&["--yes"])).unwrap_err().to_string();
        assert!(told.contains("is not overwritten") && place.text() == first, "{told}");
        // All is captured: nothing is written.
        assert!(setup(&place.args(&["--yes", "--force"])).unwrap());
        assert!(place.text() == first && !place.dir.path().join("agent.toml.bak").exists());
        // A person took a source out and changed another.
        let own = first.replace("stream = \"w1\"", "stream = \"cellar\"   # down there");
        let own = own.split("\n# How this machine is").next().unwrap().to_owned();
        fs::write(place.dir.path().join("agent.toml"), &own).unwrap();
        assert!(setup(&place.args(&["--yes", "--force"])).unwrap());
        assert!(place.text().starts_with(own.trim_end()) && place.text().ends_with("every = \"10s\"\n"));
        assert_eq!(fs::read_to_string(place.dir.path().join("agent.toml.bak")).unwrap(), own);
        // One with mistakes is left alone.
        fs::write(place.dir.path().join("agent.toml"), "[device]\ntenant = 5\n").unwrap();
        assert!(setup(&place.args(&["--yes", "--force"])).is_err());
        assert_eq!(place.text(), "[device]\ntenant = 5\n");
    }

    /// A package's is a file of comments, so that dpkg never asks.
    #[test]
    fn a_configuration_that_says_nothing_is_none() {
        let place = place();
        fs::write(place.dir.path().join("agent.toml"), "# Configuration of headwater-agent.\n# [device]\n")
            .unwrap();
        assert!(setup(&place.args(&[&OWNER[..], &["--yes"]].concat())).unwrap(), "{}", place.text());
        assert!(place.text().contains("[[source]]") && !place.dir.path().join("agent.toml.bak").exists());
    }

    #[test]
    fn a_person_is_asked_and_may_say_no() {
        let place = place();
        let answers = ["", "y", "perhaps", "n", "no", "acme", "mqtts://b.example:8883"];
        let mut person = Script(answers.into(), Vec::new());
        assert!(run(&place.args(&[]), &mut person, None).unwrap());
        assert!(person.0.is_empty() && person.1[0].contains("[pi-7]"), "{:?}", person.1);
        let settings = config::load(&place.dir.path().join("agent.toml")).unwrap();
        assert_eq!(settings.sources.len(), 1);
        assert_eq!(settings.uplink.told(), "mqtts://b.example:8883");
    }

    #[test]
    fn what_is_missing_names_the_flag_and_nothing_is_written() {
        let place = place();
        for (more, wanted) in [
            (&["--yes"][..], "--tenant"),
            (&["--yes", "--tenant", "acme"], "--broker"),
            (&["--yes", "--enroll", "https://127.0.0.1:1"], "--token"),
        ] {
            let told = format!("{:#}", setup(&place.args(more)).unwrap_err());
            assert!(told.contains(wanted), "{told}");
        }
        let odd = Findings { host: None, ..Findings::default() };
        let told = run(&place.args(&OWNER), &mut Nobody, Some(odd)).unwrap_err().to_string();
        assert!(told.contains("--name"), "{told}");
        assert!(!place.dir.path().join("agent.toml").exists());
    }

    #[test]
    fn a_dry_run_writes_nothing_and_certificates_that_are_missing_are_told() {
        let place = place();
        assert!(setup(&place.args(&[&OWNER[..], &["--yes", "--dry-run"]].concat())).unwrap());
        assert!(!place.dir.path().join("agent.toml").exists());
        fs::remove_dir_all(place.dir.path().join("pki")).unwrap();
        assert!(
            !setup(&place.args(&[&OWNER[..], &["--json"]].concat())).unwrap(),
            "check finds no certificates"
        );
        assert!(place.text().contains("[[source]]"), "it is written all the same: enrolling comes next");
    }

    #[test]
    fn a_port_that_failed_is_a_comment() {
        let place = place();
        let heard = Heard::Failed { why: "Permission denied".into() };
        let port = FoundPort { path: "/dev/ttyUSB0".into(), tty: "ttyUSB0".into(), kind: "uart", heard };
        let found = Findings { host: Some("pi-7".into()), ports: vec![port], ..Findings::default() };
        assert!(run(&place.args(&OWNER), &mut Nobody, Some(found)).unwrap());
        assert!(place.text().contains("# /dev/ttyUSB0: not opened: Permission denied"));
    }
}
