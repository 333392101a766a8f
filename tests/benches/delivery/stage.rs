//! mosquitto, collector and agent of one case, each a process of its own, with their CPU and memory.

use super::child::{Task, WORD};
use super::client::Door;
use super::fill::BYTES_MAX;
use anyhow::{Context, Result, ensure};
use headwater_tests::fleet::mosquitto_program;
use headwater_tests::procs::Proc;
use headwater_tests::proxy::Proxy;
use headwater_tests::ticks::{now, wait_until};
use headwater_tests::world::{DEVICE, MOSQUITTO_ACL, MOSQUITTO_SETTINGS, TENANT, World, role_args};
use std::ffi::OsString;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest start of a process.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Commit cadence: the collector's default.
const COMMIT_INTERVAL_MS: u64 = 10_000;
/// Longest time captures wait for company on the agent.
pub(super) const LINGER_MS: u64 = 200;
/// How soon captures are synced on the agent, and so may be shipped.
pub(super) const SYNC_INTERVAL_MS: u64 = 200;
/// Between two looks at what is awaited: short beside what is measured.
const LOOK: Duration = Duration::from_millis(2);

/// Names the agent to measure, for example `target/release/headwater-agent`; else this program plays it.
const AGENT_VARIABLE: &str = "HEADWATER_AGENT";

/// CPU of the three, s.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cpu {
    pub(super) agent: f64,
    pub(super) broker: f64,
    pub(super) collector: f64,
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            agent: self.agent - before.agent,
            broker: self.broker - before.broker,
            collector: self.collector - before.collector,
        }
    }
}

/// One case's processes; what was not started has no figures.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) world: World,
    tls: bool,
    program: PathBuf,
    broker: Proc,
    collector: Option<Proc>,
    agent: Option<Proc>,
    _dir: tempfile::TempDir,
}

impl Stage {
    /// Makes the world of a case below `home` and starts its broker.
    pub(super) fn new(home: &Path, tls: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("measure-delivery-").tempdir_in(home)?;
        let world = World::create(dir.path(), COMMIT_INTERVAL_MS)?;
        let args = vec!["-c".into(), mosquitto_conf(&world, tls)?.into_os_string()];
        let mut broker = Proc::new("broker", mosquitto_program(), args, world.path("logs/broker.log"));
        broker
            .start()
            .context("failed to start mosquitto; install it, for example with `apt install mosquitto`")?;
        let program = std::env::current_exe()?;
        let mut stage = Self { world, tls, program, broker, collector: None, agent: None, _dir: dir };
        let address = stage.world.broker.clone();
        stage.wait(START_LIMIT, "broker", |_| Ok(TcpStream::connect(&address).is_ok()))?;
        Ok(stage)
    }

    /// How clients of the measurement reach the broker, as this member of the fleet.
    pub(super) fn door(&self, who: &str) -> Door {
        Door { broker: self.world.broker.clone(), identity: self.tls.then(|| self.world.path(who)) }
    }

    /// Starts the collector and waits until it listens to the broker.
    pub(super) fn start_collector(&mut self) -> Result<()> {
        let path = self.world.write_collector()?;
        if !self.tls {
            let text = std::fs::read_to_string(&path)?;
            std::fs::write(&path, text.replace("mqtts://", "mqtt://"))?;
        }
        let args = role_args("collector", "run", &path);
        let mut proc =
            Proc::new("collector", self.program.clone(), args, self.world.path("logs/collector.log"))
                .in_own_group();
        proc.start()?;
        self.collector = Some(proc);
        let http = self.world.http.clone();
        self.wait(START_LIMIT, "collector", |_| Ok(metric(&http, "headwater_mqtt_connected") == Some(1.0)))
    }

    /// Starts the agent on the spool that lies there; with `live` a sensor says numbers, noted in that file.
    pub(super) fn start_agent(&mut self, proxy: Option<&Proxy>, live: Option<&Path>) -> Result<()> {
        let broker = proxy.map_or_else(|| self.world.broker.clone(), Proxy::address);
        let config = agent_toml(&self.world, &self.program, self.tls, &broker, live)?;
        // This program is all parts of the product in one; a gateway's own is smaller, and its memory with it.
        let (program, args) = match std::env::var_os(AGENT_VARIABLE) {
            Some(program) => (program.into(), role_args("agent", "run", &config).split_off(2)),
            None => (self.program.clone(), role_args("agent", "run", &config)),
        };
        let mut proc = Proc::new("agent", program, args, self.world.path("logs/agent.log")).in_own_group();
        proc.start()?;
        self.agent = Some(proc);
        Ok(())
    }

    /// Another process of the measurement, for `name`'s log.
    pub(super) fn child(&self, name: &'static str, task: &Task) -> Result<(Proc, PathBuf)> {
        let log = self.world.path(&format!("logs/{name}.log"));
        let args = vec![OsString::from(WORD), serde_json::to_string(task)?.into()];
        let mut proc = Proc::new(name, self.program.clone(), args, log.clone());
        proc.start()?;
        Ok((proc, log))
    }

    fn procs(&mut self) -> impl Iterator<Item = &mut Proc> {
        std::iter::once(&mut self.broker).chain(self.collector.as_mut()).chain(self.agent.as_mut())
    }

    /// Waits until `done`; an error if that does not come about or a process ends.
    pub(super) fn wait(
        &mut self,
        limit: Duration,
        what: &str,
        mut done: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        let end = now() + limit;
        while !done(self)? {
            for proc in self.procs() {
                proc.check()?;
            }
            if now() >= end {
                let words: Vec<String> =
                    self.procs().map(|p| format!("{}:\n{}", p.name(), p.last_words())).collect();
                anyhow::bail!("{what} took longer than {limit:?}; last words of\n{}", words.join("\n"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// CPU so far.
    pub(super) fn cpu(&self) -> Cpu {
        let of = |proc: Option<&Proc>| proc.and_then(Proc::cpu_s).unwrap_or_default();
        Cpu {
            agent: of(self.agent.as_ref()),
            broker: of(Some(&self.broker)),
            collector: of(self.collector.as_ref()),
        }
    }

    /// Stops agent and collector, and gives the agent's greatest memory, bytes.
    pub(super) fn stop(&mut self) -> Result<u64> {
        for proc in [self.agent.as_mut(), self.collector.as_mut()].into_iter().flatten() {
            ensure!(proc.stop(STOP_LIMIT)?, "{} did not stop: {}", proc.name(), proc.last_words());
        }
        Ok(self.agent.as_ref().map_or(0, Proc::rss_max_bytes))
    }
}

/// mosquitto as production should have it; without TLS it knows nobody and lets everybody do everything.
fn mosquitto_conf(world: &World, tls: bool) -> Result<PathBuf> {
    let (host, port) = world.broker.split_once(':').context("the broker's address has no port")?;
    let kept = world.path("mosquitto");
    std::fs::create_dir_all(&kept)?;
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let mut text = format!("listener {port} {host}\nuser {user}\n");
    if tls {
        let acl = world.path("mosquitto.acl");
        std::fs::write(&acl, MOSQUITTO_ACL)?;
        let file = |name: &str| world.path(name).display().to_string();
        text += &format!(
            "cafile {}\ncertfile {}\nkeyfile {}\n{MOSQUITTO_SETTINGS}acl_file {}\n",
            file("hq/ca.pem"),
            file("hq/tls.pem"),
            file("hq/tls.key"),
            acl.display()
        );
    } else {
        let of_tls = ["require_certificate", "use_identity_as_username", "allow_anonymous"];
        let others =
            MOSQUITTO_SETTINGS.lines().filter(|line| !of_tls.iter().any(|word| line.starts_with(word)));
        text += &others.map(|line| format!("{line}\n")).collect::<String>();
        text += "allow_anonymous true\n";
    }
    text += &format!("persistence true\nautosave_interval 60\npersistence_location {}/\n", kept.display());
    let path = world.path("mosquitto.conf");
    std::fs::write(&path, text)?;
    Ok(path)
}

fn agent_toml(
    world: &World,
    program: &Path,
    tls: bool,
    broker: &str,
    live: Option<&Path>,
) -> Result<PathBuf> {
    let live = match live {
        Some(noted) => {
            let task = serde_json::to_string(&Task::Live { noted: noted.to_owned() })?;
            vec![program.display().to_string(), WORD.to_owned(), task]
        }
        // A gateway with nothing to say but what it holds.
        None => vec!["sleep".to_owned(), "infinity".to_owned()],
    };
    let text = format!(
        r#"[device]
tenant = "{TENANT}"
name = "{DEVICE}"
[identity]
ca = "gateway/ca.pem"
tls_cert = "gateway/tls.pem"
tls_key = "gateway/tls.key"
sign_cert = "gateway/sign.pem"
sign_key = "gateway/sign.key"
[uplink]
broker = "{scheme}://{broker}"
[spool]
dir = "spool"
max_bytes = "{BYTES_MAX}"
min_free = "64MiB"
sync_interval_ms = {SYNC_INTERVAL_MS}
retain_until = "durable"
[batch]
linger_ms = {LINGER_MS}
[status]
file = "status.json"
[[source]]
type = "exec"
stream = "live"
kind = "live"
command = {command}
format = "csv"
fields = [ {{ name = "n", type = "i64", unit = "1" }} ]
"#,
        scheme = if tls { "mqtts" } else { "mqtt" },
        command = serde_json::to_string(&live)?,
    );
    let path = world.path("agent.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// One value of the collector's `/metrics`; none while it does not answer.
fn metric(address: &str, name: &str) -> Option<f64> {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Waits for a child to end by itself and gives the last line of its log.
pub(super) fn last_line(proc: &mut Proc, log: &Path, limit: Duration) -> Result<String> {
    let mut over = Ok(false);
    let ended = wait_until(limit, || {
        over = proc.is_over();
        !matches!(over, Ok(false))
    });
    over?;
    ensure!(ended, "{} did not end: {}", proc.name(), proc.last_words());
    let text = std::fs::read_to_string(log)?;
    text.lines().last().map(str::to_owned).with_context(|| format!("{} said nothing", proc.name()))
}
