//! A gateway that counts, takes pictures and raises an alarm, behind a link that a scenario makes bad.

use crate::other_host::OtherHost;
use crate::setup::{http_get, program};
use headwater_core::id::Sha256;
use headwater_lake::Lake;
use headwater_tests::fleet::mosquitto_program;
use headwater_tests::procs::Proc;
use headwater_tests::proxy::{Mode, Proxy, Random};
use headwater_tests::status::AgentStatus;
use headwater_tests::ticks::{now, wait_until};
use headwater_tests::truth::Table;
use headwater_tests::world::{DEVICE, TENANT, World, role_args};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// Longest start of a process: debug builds on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Every row is in the spool, and every ack in the status, within this.
const QUIET: Duration = Duration::from_secs(3);

/// What differs between sites.
pub(crate) struct Plan<'a> {
    pub(crate) keepalive_s: u32,
    /// The link while everything starts.
    pub(crate) link: Mode,
    /// Seed of the link's mishaps.
    pub(crate) seed: u64,
    /// A library that is loaded before the agent's own.
    pub(crate) preload: Option<std::path::PathBuf>,
    /// Environment of the agent.
    pub(crate) env: Vec<(&'static str, std::path::PathBuf)>,
    /// Its sources; `DIR` stands for the world's folder.
    pub(crate) sources: &'static str,
    /// `[clock]` of its configuration.
    pub(crate) clock: String,
    /// Another host on which it runs.
    pub(crate) host: Option<&'a OtherHost>,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            keepalive_s: 10,
            link: Mode::Open(Default::default()),
            seed: 1,
            preload: None,
            env: Vec::new(),
            sources: SOURCES,
            clock: String::new(),
            host: None,
        }
    }
}

/// mosquitto, a collector beside it, and the gateway behind the proxy.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) proxy: Proxy,
    pictures: BTreeSet<String>,
    broker: Proc,
    collector: Proc,
    agent: Proc,
    _dir: tempfile::TempDir,
}

/// Twenty numbers a second until told to stop, and an alarm each time a file asks for one.
const SOURCES: &str = r#"
[[source]]
type = "exec"
stream = "count"
kind = "count"
command = ["sh", "-c", "n=0; while [ ! -e DIR/stop ] && echo $n; do n=$((n+1)); sleep 0.05; done"]
format = "csv"
once = true
fields = [ { name = "n", type = "i64", unit = "1" } ]

[[source]]
type = "exec"
stream = "door"
kind = "door"
alarm = true
command = ["sh", "-c", "n=0; while [ ! -e DIR/stop ]; do if rm DIR/ring 2>/dev/null; then echo $n; n=$((n+1)); fi; sleep 0.05; done"]
format = "csv"
once = true
fields = [ { name = "n", type = "i64", unit = "1" } ]

[[source]]
type = "camera_dir"
stream = "camera/front"
dir = "camera"
"#;

impl Site {
    pub(crate) fn start(plan: &Plan<'_>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::create(dir.path(), 1_000).unwrap();
        let proxy = Proxy::start(&world.broker, plan.seed).unwrap();
        proxy.set(plan.link);
        let collector_toml = world.write_collector().unwrap();
        let mosquitto_conf = world.write_mosquitto().unwrap();
        let agent_toml = write_agent(&world, &proxy, plan);
        let log = |name: &str| world.path(&format!("logs/{name}.log"));
        let proc = |name, role, config: &Path| {
            Proc::new(name, program(), role_args(role, "run", config), log(name)).in_own_group()
        };
        let args = vec!["-c".into(), mosquitto_conf.into_os_string()];
        let mut agent = proc("agent", "agent", &agent_toml);
        if let Some(host) = plan.host {
            host.forward_tcp(proxy.address().parse().unwrap());
            let (program, words) = host.command(&program(), &role_args("agent", "run", &agent_toml));
            agent = Proc::new("agent", program, words, log("agent")).in_own_group();
        }
        if let Some(library) = &plan.preload {
            agent = agent.with_env("LD_PRELOAD", library.clone().into_os_string());
        }
        for (key, value) in &plan.env {
            agent = agent.with_env(key, value.clone().into_os_string());
        }
        let mut site = Self {
            broker: Proc::new("broker", mosquitto_program(), args, log("broker")),
            collector: proc("collector", "collector", &collector_toml),
            agent,
            proxy,
            pictures: BTreeSet::new(),
            world,
            _dir: dir,
        };
        site.broker.start().unwrap();
        assert!(wait_until(START_LIMIT, || TcpStream::connect(&site.world.broker).is_ok()));
        site.collector.start().unwrap();
        site.agent.start().unwrap();
        site
    }

    /// Puts another picture of so many bytes into the camera's folder; what follows a JPEG's end is no part of it.
    pub(crate) fn take_picture(&mut self, bytes: usize) {
        let n = self.pictures.len() as u64;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo/camera/0001.jpg");
        let mut picture = fs::read(file).unwrap();
        let mut random = Random::new(n + 1);
        while picture.len() < bytes {
            picture.push(u8::try_from(random.below(256)).unwrap());
        }
        self.pictures.insert(Sha256::of(&picture).to_string());
        let draft = self.world.path("draft.jpg");
        fs::write(&draft, picture).unwrap();
        fs::rename(&draft, self.world.path(&format!("camera/{n:04}.jpg"))).unwrap();
    }

    /// Raises an alarm and waits until it is in the lake; how long that took.
    pub(crate) fn raise_alarm(&mut self, limit: Duration) -> Duration {
        let before = self.stream("door").map_or(0, |door| door.1);
        let start = now();
        fs::write(self.world.path("ring"), "").unwrap();
        self.wait(limit, "the alarm", |site| site.stream("door").is_some_and(|door| door.1 > before));
        start.elapsed()
    }

    pub(crate) fn status(&self) -> Option<AgentStatus> {
        AgentStatus::read(&self.world.path("status.json"))
    }

    /// Rows of a stream that were captured, and of these acknowledged.
    pub(crate) fn stream(&self, name: &str) -> Option<(u64, u64)> {
        let status = self.status()?;
        let stream = status.json()["streams"].as_array()?.iter().find(|s| s["name"] == name)?.clone();
        Some((stream["next_seq"].as_u64()?, stream["acked_rows"].as_u64()?))
    }

    /// A number of the agent's clock.
    pub(crate) fn clock(&self, name: &str) -> u64 {
        self.status().and_then(|status| status.json()["clock"][name].as_u64()).unwrap_or(0)
    }

    /// Cuts the agent's power, and starts it again after `off`.
    pub(crate) fn reboot(&mut self, off: impl FnOnce()) {
        self.agent.kill().unwrap();
        off();
        self.agent.start().unwrap();
    }

    pub(crate) fn link(&self, name: &str) -> u64 {
        self.status().and_then(|status| status.json()["link"][name].as_u64()).unwrap_or(0)
    }

    /// Waits for `done`; panics with everybody's last words if that does not come about or a process ends.
    pub(crate) fn wait(&mut self, limit: Duration, what: &str, done: impl Fn(&Self) -> bool) {
        let mut trouble = None;
        let came = wait_until(limit, || {
            trouble = [&mut self.broker, &mut self.collector, &mut self.agent]
                .into_iter()
                .find_map(|p| p.check().err());
            trouble.is_some() || done(self)
        });
        assert!(came && trouble.is_none(), "no {what}: {trouble:?}\n{}", self.words());
    }

    /// What everybody said last.
    pub(crate) fn words(&self) -> String {
        let words = [&self.broker, &self.collector, &self.agent].map(Proc::last_words).join("\n---\n");
        format!("{words}\n{:?}\n{:?}", self.proxy.counts(), self.status())
    }

    /// Ends the sources, waits until every row and picture is in the lake, stops everything, and holds the lake
    /// against what was emitted: each once, and nothing else.
    pub(crate) fn finish(mut self, limit: Duration) {
        let captured = self.drain(limit, &["count", "door", "camera/front"]);
        let pictures = self.pictures.len() as u64;
        let metrics = http_get(&self.world.http, "/metrics");
        let conflicts =
            metrics.lines().find(|line| line.starts_with("headwater_dedup_content_conflicts_total"));
        assert!(conflicts.is_none_or(|line| line.ends_with(" 0")), "{conflicts:?}");
        self.stop();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lake = runtime.block_on(Found::read(&self.world.path("lake").display().to_string()));
        // A counter says its seq, so a row under another's seq is seen too.
        let once = |n: u64| (0..i64::try_from(n).unwrap()).map(|n| (n, n)).collect::<Vec<_>>();
        assert_eq!(lake.count, once(captured["count"]));
        assert_eq!(lake.door, once(captured["door"]));
        assert!(lake.count.len() > 20, "{captured:?}");
        let seqs: Vec<i64> = lake.pictures.iter().map(|picture| picture.0).collect();
        assert_eq!(seqs, (0..i64::try_from(pictures).unwrap()).collect::<Vec<_>>());
        assert_eq!(
            lake.pictures.into_iter().map(|picture| picture.1).collect::<BTreeSet<_>>(),
            self.pictures
        );
    }

    /// Ends the sources and waits until every row and picture is in the lake; how many rows each stream has.
    pub(crate) fn drain<'a>(&mut self, limit: Duration, streams: &[&'a str]) -> BTreeMap<&'a str, u64> {
        fs::write(self.world.path("stop"), "").unwrap();
        let pictures = self.pictures.len() as u64;
        let mut empty_since = None;
        let drained = wait_until(limit, || {
            let empty = self.status().is_some_and(|status| status.is_drained())
                && self.stream("camera/front").map_or(0, |camera| camera.1) >= pictures;
            empty_since = if empty { empty_since.or_else(|| Some(now())) } else { None };
            empty_since.is_some_and(|since: std::time::Instant| since.elapsed() > QUIET)
        });
        assert!(drained, "not drained:\n{}", self.words());
        streams.iter().map(|name| (*name, self.stream(name).map_or(0, |stream| stream.0))).collect()
    }

    /// Stops everything in order.
    pub(crate) fn stop(&mut self) {
        for (proc, limit) in [
            (&mut self.agent, STOP_LIMIT),
            (&mut self.collector, STOP_LIMIT),
            (&mut self.broker, Duration::from_secs(5)),
        ] {
            assert!(proc.stop(limit).unwrap(), "{} did not stop: {}", proc.name(), proc.last_words());
        }
    }
}

/// What the lake holds, by seq.
struct Found {
    count: Vec<(i64, i64)>,
    door: Vec<(i64, i64)>,
    pictures: Vec<(i64, String)>,
}

impl Found {
    async fn read(location: &str) -> Self {
        let lake = Lake::open(location).await.unwrap();
        let commit = lake.resolve("main").await.unwrap();
        let table = async |name| Table::read(&lake, &commit, name).await.unwrap();
        let numbers = |table: Option<Table>| {
            let Some(table) = table else { return Vec::new() };
            let (seqs, n) = (table.integers("seq").unwrap(), table.integers("n").unwrap());
            let mut rows: Vec<_> =
                seqs.into_iter().zip(n).map(|(seq, n)| (seq.unwrap(), n.unwrap())).collect();
            rows.sort_unstable();
            rows
        };
        let pictures = |table: Option<Table>| {
            let Some(table) = table else { return Vec::new() };
            let bytes = table.bytes("image.bytes").unwrap();
            let digest = |bytes: Option<Vec<u8>>| Sha256::of(&bytes.unwrap()).to_string();
            let seqs = table.integers("seq").unwrap().into_iter();
            let mut rows: Vec<_> = seqs.zip(bytes).map(|(seq, b)| (seq.unwrap(), digest(b))).collect();
            rows.sort_unstable();
            rows
        };
        Self {
            count: numbers(table("raw.count").await),
            door: numbers(table("raw.door").await),
            pictures: pictures(table("raw.image").await),
        }
    }
}

fn write_agent(world: &World, proxy: &Proxy, plan: &Plan<'_>) -> std::path::PathBuf {
    let sources = plan.sources.replace("DIR", &world.dir.display().to_string());
    let Plan { keepalive_s, clock, .. } = plan;
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
broker = "mqtts://{}"
keepalive_s = {keepalive_s}
[spool]
dir = "spool"
max_bytes = "64MiB"
sync_interval_ms = 100
[batch]
linger_ms = 200
[status]
file = "status.json"
{clock}{sources}"#,
        proxy.address()
    );
    let path = world.path("agent.toml");
    fs::write(&path, text).unwrap();
    path
}
