//! Broker, collector and agent of one run, each a process of its own.

use crate::procs::Proc;
use crate::status::AgentStatus;
use crate::ticks::{now, wait_until};
use crate::world::{Ports, World, role_args};
use headwater_sim::loop_disk::LoopDisk;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest start of a process: debug builds on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Slab span (1 s), sync interval (0.5 s) and status interval (up to 2 s), and some.
const QUIET: Duration = Duration::from_secs(5);

/// Which broker a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broker {
    /// The collector's own broker role.
    Embedded,
    /// The same, speaking MQTT 3.1.1 and nothing else.
    Embedded311,
    /// mosquitto, configured as the README says.
    Mosquitto,
}

/// The processes of a run, in the order they start.
#[derive(Debug)]
pub struct Fleet {
    world: World,
    broker: Proc,
    collector: Proc,
    agent: Proc,
    /// Bytes sent by lives of the agent that are over.
    sent_before: u64,
    sent_now: u64,
}

impl Fleet {
    /// Writes the configuration and starts everything.
    ///
    /// # Errors
    /// What the system says, or the last words of a process that ended.
    pub fn start(
        world: &World,
        ports: &Ports,
        program: &Path,
        data: &Path,
        broker: Broker,
    ) -> io::Result<Self> {
        let collector_toml = world.write_collector()?;
        if broker == Broker::Embedded311 {
            let text = std::fs::read_to_string(&collector_toml)?;
            std::fs::write(&collector_toml, text.replace("[broker]\n", "[broker]\nversion = \"3.1.1\"\n"))?;
        }
        let agent_toml = world.write_agent(ports, program, data)?;
        let log = |name: &str| world.path(&format!("logs/{name}.log"));
        let proc = |name, role, verb, config: &Path| {
            Proc::new(name, program.to_owned(), role_args(role, verb, config), log(name)).in_own_group()
        };
        let broker = match broker {
            Broker::Embedded | Broker::Embedded311 => proc("broker", "collector", "broker", &collector_toml),
            Broker::Mosquitto => {
                let config = world.write_mosquitto()?;
                let args = vec!["-c".into(), config.into_os_string()];
                Proc::new("broker", mosquitto_program(), args, log("broker"))
            }
        };
        let mut fleet = Self {
            broker,
            collector: proc("collector", "collector", "run", &collector_toml),
            agent: proc("agent", "agent", "run", &agent_toml),
            world: world.clone(),
            sent_before: 0,
            sent_now: 0,
        };
        fleet.start_broker()?;
        fleet.collector.start()?;
        fleet.agent.start()?;
        Ok(fleet)
    }

    fn start_broker(&mut self) -> io::Result<()> {
        self.broker.start()?;
        let address = self.world.broker.clone();
        let broker = &mut self.broker;
        let mut ended = None;
        let up = wait_until(START_LIMIT, || {
            ended = broker.check().err();
            ended.is_some() || TcpStream::connect(&address).is_ok()
        });
        match ended {
            Some(error) => Err(error),
            None if up => Ok(()),
            None => Err(io::Error::other(format!("broker does not listen on {address}"))),
        }
    }

    fn named(&mut self, name: &str) -> &mut Proc {
        match name {
            "broker" => &mut self.broker,
            "collector" => &mut self.collector,
            _ => &mut self.agent,
        }
    }

    /// Kills one process with SIGKILL.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(&mut self, name: &str) -> io::Result<()> {
        if name == "agent" {
            self.note_sent();
            self.sent_before += std::mem::take(&mut self.sent_now);
        }
        self.named(name).kill()
    }

    /// Kills one process with SIGKILL and starts it again at once.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill_and_restart(&mut self, name: &str) -> io::Result<()> {
        self.kill(name)?;
        self.restart(name)
    }

    /// Cuts the power of the agent's disk and of the agent, and switches both on again. What the agent wrote and did
    /// not sync is gone. The agent dies first: a process that outlives the power could act on what is lost.
    ///
    /// # Errors
    /// What the system says.
    pub fn cut_power(&mut self, disk: &LoopDisk) -> io::Result<()> {
        self.kill("agent")?;
        disk.cut_power()?;
        disk.remount()?;
        self.restart("agent")
    }

    /// Starts a killed process again.
    ///
    /// # Errors
    /// What the system says.
    pub fn restart(&mut self, name: &str) -> io::Result<()> {
        if name == "broker" { self.start_broker() } else { self.named(name).start() }
    }

    /// Stops the agent in order and starts it again, with its configuration as it is now.
    ///
    /// # Errors
    /// What the system says.
    pub fn restart_agent(&mut self) -> io::Result<()> {
        self.note_sent();
        self.sent_before += std::mem::take(&mut self.sent_now);
        self.agent.stop(STOP_LIMIT)?;
        self.agent.start()
    }

    /// Waits until every row that reached the gateway is acknowledged; the sources must be silent. `false`
    /// if that did not come about within `limit`.
    ///
    /// A row may still be on its way from its source for as long as a slab, a sync and a status take, so
    /// the gateway has to be empty for longer than that. `give_up` ends the wait early.
    ///
    /// # Errors
    /// Names a process that ended by itself.
    pub fn wait_drained(&mut self, limit: Duration, give_up: impl Fn() -> bool) -> io::Result<bool> {
        let status = self.world.path("status.json");
        let mut trouble = Ok(());
        let mut empty_since = None;
        let mut drained = false;
        let ended = wait_until(limit, || {
            trouble = self.check();
            let empty = AgentStatus::read(&status).is_some_and(|s| s.is_drained());
            empty_since = if empty { empty_since.or_else(|| Some(now())) } else { None };
            drained = empty_since.is_some_and(|since: std::time::Instant| since.elapsed() > QUIET);
            trouble.is_err() || drained || give_up()
        });
        trouble.map(|()| ended && drained)
    }

    /// Looks after all processes: one that ended by itself is an error with its last words.
    ///
    /// # Errors
    /// Names the process.
    pub fn check(&mut self) -> io::Result<()> {
        self.note_sent();
        for proc in [&mut self.broker, &mut self.collector, &mut self.agent] {
            proc.measure();
            proc.check()?;
        }
        Ok(())
    }

    fn note_sent(&mut self) {
        if let Some(status) = AgentStatus::read(&self.world.path("status.json")) {
            self.sent_now = self.sent_now.max(status.bytes_sent());
        }
    }

    /// Bytes the agent handed to the broker, over all its lives. A life that was killed counts up to its
    /// last status, so this is a lower bound under kills.
    #[must_use]
    pub fn bytes_on_wire(&self) -> u64 {
        self.sent_before + self.sent_now
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> &Proc {
        &self.agent
    }

    /// Stops all in order: agent, collector, broker. Gives the agent's greatest memory, bytes.
    ///
    /// # Errors
    /// Names a process that did not stop when asked.
    pub fn stop(&mut self) -> io::Result<u64> {
        self.note_sent();
        for (proc, limit) in [
            (&mut self.agent, STOP_LIMIT),
            (&mut self.collector, STOP_LIMIT),
            (&mut self.broker, Duration::from_secs(5)),
        ] {
            if !proc.stop(limit)? {
                return Err(io::Error::other(format!(
                    "{} did not stop when asked: {}",
                    proc.name(),
                    proc.last_words()
                )));
            }
        }
        Ok(self.agent.rss_max_bytes())
    }
}

/// mosquitto: Debian installs it where a user's path does not look.
#[must_use]
pub fn mosquitto_program() -> PathBuf {
    let sbin = PathBuf::from("/usr/sbin/mosquitto");
    if sbin.exists() { sbin } else { PathBuf::from("mosquitto") }
}
