//! A run for a scenario: players, fleet, and the judgement at the end.

use headwater_tests::fleet::{Broker, Fleet};
use headwater_tests::players::{Mishaps, Players};
use headwater_tests::status::AgentStatus;
use headwater_tests::ticks::wait_until;
use headwater_tests::truth::{Figures, judge};
use headwater_tests::world::{DEVICE, Ports, World};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for the last row to be committed: resends double up to five minutes, and a row that just missed
/// a restarted receiver may have to wait for one.
const DRAIN_LIMIT: Duration = Duration::from_secs(400);

/// A running world.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) fleet: Fleet,
    players: Option<Players>,
    dir: tempfile::TempDir,
}

/// The binary that is every role.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_demo"))
}

/// What a command line printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs one role to its end, without a terminal and whatever the caller's environment says of logs.
pub(crate) fn run_role(role: &str, words: &[&str]) -> Output {
    let output = std::process::Command::new(program())
        .args([headwater_tests::roles::ROLE, role])
        .args(words)
        .stdin(std::process::Stdio::null())
        .env_remove("RUST_LOG")
        .env_remove("HEADWATER_LAKE")
        .output()
        .unwrap();
    Output {
        success: output.status.success(),
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Run {
    /// Starts everything with commits each second.
    pub(crate) fn start(broker: Broker) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::create(dir.path(), 1_000).unwrap();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo");
        let mishaps = Mishaps { broken_picture_at: Some(3), noise_at: Some(500) };
        let players = Players::start(&data, &world.path("camera"), mishaps).unwrap();
        let ports = Ports { imu: players.imu_port.clone(), gps: players.gps_port.clone() };
        let fleet = Fleet::start(&world, &ports, &program(), &data, broker).unwrap();
        Self { world, fleet, players: Some(players), dir }
    }

    /// What the agent says of itself.
    pub(crate) fn status(&self) -> Option<AgentStatus> {
        AgentStatus::read(&self.world.path("status.json"))
    }

    /// Waits until the agent has had rows committed.
    pub(crate) fn wait_for_first_commit(&mut self) {
        let fleet = &mut self.fleet;
        let status = self.world.path("status.json");
        let mut trouble = None;
        let flowing = wait_until(DRAIN_LIMIT, || {
            trouble = fleet.check().err();
            trouble.is_some() || AgentStatus::read(&status).is_some_and(|s| s.acked_rows() > 0)
        });
        assert!(trouble.is_none(), "{trouble:?}");
        assert!(flowing, "nothing was committed; logs:\n{}", self.logs());
    }

    /// Stops the players, waits until all is committed, stops the fleet, judges.
    pub(crate) fn finish(mut self) -> Figures {
        let emitted = self.players.take().unwrap().stop();
        self.world.silence_slow_sensor().unwrap();
        let drained = self.fleet.wait_drained(DRAIN_LIMIT, || false).unwrap();
        assert!(drained, "not drained: {:?}; logs:\n{}", self.status(), self.logs());
        self.fleet.stop().unwrap();
        let spool = self.status().unwrap().next_seqs();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let location = self.world.path("lake").display().to_string();
        let figures = runtime
            .block_on(judge(&location, DEVICE, &emitted, &self.world.path("env.truth"), &spool))
            .unwrap();
        drop(self.dir);
        figures
    }

    /// The ends of all logs.
    pub(crate) fn logs(&self) -> String {
        ["broker", "collector", "agent"]
            .iter()
            .map(|name| {
                let text =
                    std::fs::read_to_string(self.world.path(&format!("logs/{name}.log"))).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(15)..].join("\n"))
            })
            .collect()
    }

    /// One value of the collector's `/metrics`, summed over labels; 0 if it was never counted.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = http_get(&self.world.http, "/metrics");
        text.lines()
            .filter(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// A GET without a client library: the collector speaks plain HTTP/1.1 on loopback.
pub(crate) fn http_get(address: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// No row lost (A1, S1), doubled (D1), altered or unexplained (D2).
pub(crate) fn assert_whole(figures: &Figures) {
    assert_eq!((figures.lost, figures.duplicate, figures.wrong), (0, 0, 0), "{figures:#?}");
    assert!(figures.committed > 0, "{figures:#?}");
    assert_eq!(figures.captured, figures.committed, "{figures:#?}");
}
