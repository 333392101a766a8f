//! The demo's bad gateway: all its sensors speak, and one of them says what cannot be. Its captures go into the lake like
//! anybody's; its aligned rows must not be published.

use crate::console::Console;
use crate::faults::Fault;
use anyhow::{Context, Result};
use headwater_lake::{CommitId, Lake};
use headwater_tests::players::{Emitted, Mishaps, Players, Rates};
use headwater_tests::procs::Proc;
use headwater_tests::recordings::Recordings;
use headwater_tests::status::AgentStatus;
use headwater_tests::ticks::wait_until;
use headwater_tests::truth::{self, Figures, NextSeqs, Table};
use headwater_tests::world::{Ports, Seat, World, role_args};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Where it keeps its things.
pub(crate) const BAD: Seat = Seat {
    device: "gateway-bad",
    config: "bad.toml",
    identity: "bad",
    spool: "bad/spool",
    status: "bad/status.json",
    camera: "bad/camera",
    env_truth: "bad/env.truth",
};
/// It is a small gateway: the machine has the others to run, too.
const RATES: Rates = Rates { imu: 50, gps: 2, camera: 2 };
/// Longest wait until its last row is committed.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// Longest orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Corrections of the clock between a picture's commit and its row's are smaller than this; pictures are farther apart.
const SAME_NS: i64 = 100_000_000;

/// The gateway, running.
#[derive(Debug)]
pub(crate) struct BadGateway {
    world: World,
    agent: Proc,
    players: Option<Players>,
    has_camera: bool,
    /// What is wrong with it.
    pub(crate) fault: &'static Fault,
}

impl BadGateway {
    /// Starts it.
    pub(crate) fn start(
        world: &World,
        program: &Path,
        mut recordings: Recordings,
        fault: &'static Fault,
        console: &Console,
    ) -> Result<Self> {
        world.add(&BAD).context("failed to lay out the bad gateway")?;
        (fault.spoil)(&mut recordings)?;
        let env = world.path("bad/env.csv");
        std::fs::write(&env, &recordings.env)?;
        let calm = Mishaps { broken_picture_at: None, noise_at: None };
        let players = Players::play(recordings, RATES, &world.path(BAD.camera), calm)
            .context("failed to start the players of the bad gateway")?;
        let ports = Ports { imu: players.imu_port.clone(), gps: players.gps_port.clone() };
        let config = world.write_gateway(&BAD, &ports, program, &env)?;
        let args = role_args("agent", "run", &config);
        let mut agent = Proc::new("bad", program.to_owned(), args, world.path("logs/bad.log")).in_own_group();
        agent.start().context("failed to start the bad gateway")?;
        console.say(&format!(
            "  {}     a further gateway with a fault: {} (rule demo.{} is to find it)",
            BAD.device, fault.name, fault.rule
        ));
        Ok(Self { world: world.clone(), agent, players: Some(players), has_camera: false, fault })
    }

    fn status(&self) -> Option<AgentStatus> {
        AgentStatus::read(&self.world.path(BAD.status))
    }

    /// Lets its camera go once its other sensors are heard: every picture has something beside it. An error with its last
    /// words if it ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        if !self.has_camera && self.status().is_some_and(|status| hears_all(&status)) {
            if let Some(players) = &self.players {
                players.start_camera();
            }
            self.has_camera = true;
        }
        Ok(self.agent.check()?)
    }

    /// Ends its camera; its other sensors go on.
    pub(crate) fn stop_camera(&mut self) {
        if let Some(players) = &mut self.players {
            players.stop_camera();
        }
    }

    /// Ends its players: what they emitted.
    pub(crate) fn silence(&mut self) -> Result<Emitted> {
        let emitted = self.players.take().map(Players::stop).unwrap_or_default();
        std::fs::write(self.world.path(BAD.env_truth).with_extension("stop"), "")?;
        Ok(emitted)
    }

    /// Waits until every row is acknowledged; `false` if that did not come about.
    pub(crate) fn wait_drained(&mut self) -> Result<bool> {
        let status = self.world.path(BAD.status);
        let mut trouble = Ok(());
        let drained = wait_until(DRAIN_LIMIT, || {
            trouble = self.agent.check();
            trouble.is_err() || AgentStatus::read(&status).is_some_and(|status| status.is_drained())
        });
        trouble?;
        Ok(drained)
    }

    /// Stops it: what its spool gave out.
    pub(crate) fn stop(&mut self) -> Result<NextSeqs> {
        self.agent.stop(STOP_LIMIT)?;
        Ok(self.status().context("the bad gateway left no status file")?.next_seqs())
    }
}

fn hears_all(status: &AgentStatus) -> bool {
    let hears = |stream: &str| status.next_seq(stream).is_some_and(|next| next > 0);
    ["imu", "gps", "env/roof"].into_iter().all(hears)
}

/// True if the gate has judged the bad gateway's last picture.
pub(crate) async fn is_judged(lake: &Lake, commit: &CommitId) -> Result<bool> {
    let Some(pictures) = Table::read_of(lake, commit, "raw.image", BAD.device).await? else {
        return Ok(false);
    };
    let last = pictures.integers("ts_ns")?.into_iter().flatten().max();
    let held = verdicts(lake, commit).await?;
    let until = held.iter().filter(|told| told.fails.contains(BAD.device)).map(|told| told.until_ns).max();
    Ok(last.zip(until).is_some_and(|(last, until)| until + SAME_NS >= last))
}

/// A verdict that is a fail.
#[derive(Debug)]
struct Refusal {
    gate: String,
    /// The staging branch the rows were on.
    branch: String,
    rows: u64,
    until_ns: i64,
    /// Devices it fails.
    fails: BTreeSet<String>,
    evidence: Value,
}

async fn verdicts(lake: &Lake, commit: &CommitId) -> Result<Vec<Refusal>> {
    let Some(table) = Table::read(lake, commit, "ops.verdicts").await? else { return Ok(Vec::new()) };
    let (gate, branch, verdict) = (table.texts("gate")?, table.texts("ref")?, table.texts("verdict")?);
    let (rows, until, evidence) =
        (table.integers("rows")?, table.integers("t_max_ns")?, table.texts("evidence")?);
    let refusal = |row: usize| {
        let evidence: Value = serde_json::from_str(evidence[row].as_ref()?).ok()?;
        let devices = evidence["devices"].as_object();
        let fails = devices.into_iter().flatten().filter(|(_, told)| told["verdict"] == "fail");
        let fails = fails.map(|(device, _)| device.clone()).collect();
        (verdict[row].as_deref() == Some("fail")).then_some(Refusal {
            gate: gate[row].clone()?,
            branch: branch[row].clone()?,
            rows: rows[row]?.unsigned_abs(),
            until_ns: until[row].unwrap_or(i64::MIN),
            fails,
            evidence,
        })
    };
    Ok((0..gate.len()).filter_map(refusal).collect())
}

/// What became of the bad gateway's rows.
#[derive(Debug)]
pub(crate) struct Held {
    fault: &'static Fault,
    /// Its captures held against what its sensors said.
    raw: Figures,
    /// Aligned rows on `main`.
    published: u64,
    /// Aligned rows that were refused, as candidates count them.
    refused: u64,
    /// Candidates each rule refused.
    rules: BTreeMap<String, u64>,
    /// What the fault's rule said first.
    evidence: Option<Value>,
    /// A candidate to look at.
    candidate: Option<String>,
    /// Candidates of other gateways that were refused.
    others: u64,
}

impl Held {
    pub(crate) async fn read(
        location: &str,
        table: &str,
        fault: &'static Fault,
        emitted: &Emitted,
        (env_truth, spool): (&Path, &NextSeqs),
    ) -> Result<Self> {
        let raw = truth::judge(location, BAD.device, emitted, env_truth, spool).await?;
        let lake = Lake::open(location).await?;
        let commit = lake.resolve("main").await?;
        let published = truth::rows_of(&lake, &commit, table, BAD.device).await?;
        let all = verdicts(&lake, &commit).await?;
        let is_own = |refusal: &&Refusal| refusal.fails.iter().map(String::as_str).eq([BAD.device]);
        let branches: BTreeSet<String> =
            all.iter().filter(is_own).map(|refusal| refusal.branch.clone()).collect();
        let (own, others): (Vec<Refusal>, Vec<Refusal>) =
            all.into_iter().partition(|refusal| branches.contains(&refusal.branch));
        let candidates: BTreeMap<&str, u64> =
            own.iter().map(|refusal| (refusal.branch.as_str(), refusal.rows)).collect();
        let mut rules = BTreeMap::new();
        own.iter().for_each(|refusal| *rules.entry(refusal.gate.clone()).or_default() += 1);
        let named = format!("demo.{}", fault.rule);
        let first = own.iter().find(|refusal| refusal.gate == named);
        let id = |refusal: &Refusal| refusal.branch.rsplit('/').next().map(str::to_owned);
        Ok(Self {
            fault,
            raw,
            published,
            refused: candidates.values().sum(),
            evidence: first.map(|refusal| refusal.evidence.clone()),
            candidate: first.and_then(id),
            rules,
            others: others.len() as u64,
        })
    }

    /// True if its captures are in the lake as they were, none of its aligned rows is published, the rule named said why,
    /// and nobody else was held.
    pub(crate) fn is_right(&self) -> bool {
        self.is_captured()
            && self.published == 0
            && self.refused > 0
            && self.rules.contains_key(&format!("demo.{}", self.fault.rule))
            && self.others == 0
    }

    /// True if what it captured is in the lake, once and as it was.
    pub(crate) fn is_captured(&self) -> bool {
        let raw = &self.raw;
        raw.committed > 0 && raw.lost == 0 && raw.duplicate == 0 && raw.wrong == 0
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "device": BAD.device,
            "fault": self.fault.name,
            "rule": format!("demo.{}", self.fault.rule),
            "is_right": self.is_right(),
            "captured": self.raw.captured,
            "committed": self.raw.committed,
            "lost": self.raw.lost,
            "duplicate": self.raw.duplicate,
            "wrong": self.raw.wrong,
            "aligned_rows_published": self.published,
            "aligned_rows_refused": self.refused,
            "candidates_by_rule": self.rules,
            "candidates_of_others_refused": self.others,
            "evidence": self.evidence,
        })
    }

    pub(crate) fn print(&self, lake: &Path) {
        println!("\n{} had a fault: {}.", BAD.device, self.fault.name);
        println!(
            "  its captures: {} in the lake, {} lost, {} wrong; raw rows never wait for a verdict",
            self.raw.committed, self.raw.lost, self.raw.wrong
        );
        println!(
            "  its aligned rows: {} published, {} refused by the gate; candidates of other gateways refused: {}",
            self.published, self.refused, self.others
        );
        for (rule, candidates) in &self.rules {
            println!("    {rule:<24} refused {candidates} candidates");
        }
        if let Some(evidence) = &self.evidence {
            let (rows, offending) = (&evidence["rows"], &evidence["offending"]);
            let keys: Vec<&str> =
                evidence["row_keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            println!(
                "  evidence of demo.{}: {offending} of {rows} rows offend, such as {}",
                self.fault.rule,
                keys.first().unwrap_or(&"none")
            );
        }
        if let Some(candidate) = &self.candidate {
            let lake = lake.display();
            println!("  all of it: headwater --lake {lake} gate show {candidate}");
            println!(
                "  publish it all the same: headwater --lake {lake} gate waive {candidate} --reason '…'"
            );
        }
    }
}
