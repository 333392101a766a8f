//! `stat`: how much lies on a card, what is set aside, and what the running agent says of wear and of a power cut now.

use super::disk::CardDisk;
use super::survey::Card;
use crate::status::AgentStatus;
use headwater_core::id::BootId;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::Disk;
use headwater_core::time::{BootNanos, NS_PER_S};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::Path;

/// A status older than this is of an agent that hangs or ended; it writes one each second.
const STALE_S: i64 = 15;
/// Deepest folder of the quarantine that is looked into.
const QUARANTINE_DEPTH_MAX: usize = 4;

/// How much lies on a card.
#[derive(Debug, Serialize)]
pub struct Stat {
    /// Life of the spool, if its file is sound.
    pub epoch: Option<String>,
    /// Newest boot, if its file is sound.
    pub boot: Option<u32>,
    /// Bytes of segment files.
    pub bytes: u64,
    /// By series.
    pub series: BTreeMap<String, SeriesHeld>,
    /// By stream.
    pub streams: BTreeMap<String, StreamTotal>,
    /// What is set aside.
    pub quarantine: SetAside,
    /// Segments whose header is damaged, and files that cannot be read.
    pub unreadable: u64,
    /// What only a running agent knows.
    pub agent: Option<Running>,
    /// Why that cannot be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_unknown: Option<String>,
}

/// Segments of a series.
#[derive(Debug, Default, Serialize)]
pub struct SeriesHeld {
    /// Segment files.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A stream over all boots of all lives on the card.
#[derive(Debug, Default, Serialize)]
pub struct StreamTotal {
    /// Rows.
    pub rows: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// What is in `quarantine/`.
#[derive(Debug, Default, Serialize)]
pub struct SetAside {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Files by what they are.
    pub kinds: BTreeMap<String, u64>,
}

/// What the agent says that runs on this spool.
#[derive(Debug, Serialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// Bytes written to the spool since it started.
    pub written_bytes: u64,
    /// Of these slabs and blobs.
    pub payload_bytes: u64,
    /// One by the other.
    pub write_amplification: Option<f64>,
    /// Bytes that a power cut now would take.
    pub unsynced_bytes: u64,
    /// Longest stretch of rows that a power cut now would take, ms; 0 on lane control.
    pub loss_ms: Option<u64>,
}

/// Looks at a card; `status` is the file of the agent that may run on it, `boot_id` this machine's.
#[must_use]
pub fn stat(card: &Card, status: &Path, boot_id: Option<BootId>, now: BootNanos) -> Stat {
    let names = card.names();
    let mut series: BTreeMap<String, SeriesHeld> = BTreeMap::new();
    let mut streams: BTreeMap<String, StreamTotal> = BTreeMap::new();
    let mut seqs: BTreeMap<(String, _), IntervalSet> = BTreeMap::new();
    for segment in &card.segments {
        let held = series.entry(segment.series.clone()).or_default();
        held.segments = held.segments.saturating_add(1);
        held.bytes = held.bytes.saturating_add(segment.len);
        let epoch = segment.summary.epoch;
        for (id, part) in &segment.summary.streams {
            let name =
                names.get(&(epoch, *id)).map_or_else(|| format!("stream {}", id.0), |(n, _)| n.to_string());
            let total = streams.entry(name.clone()).or_default();
            total.bytes = total.bytes.saturating_add(part.bytes);
            seqs.entry((name, epoch)).or_default().union_with(&part.seqs);
        }
    }
    for ((name, _), seqs) in seqs {
        let total = streams.entry(name).or_default();
        total.rows = total.rows.saturating_add(seqs.count());
    }
    let mut quarantine = SetAside::default();
    set_aside(&card.dir.join("quarantine"), 0, &mut quarantine);
    let damaged = card.segments.iter().filter(|segment| segment.header.is_none()).count();
    let (agent, agent_unknown) = match running(card, status, boot_id, now) {
        Ok(agent) => (Some(agent), None),
        Err(why) => (None, Some(why)),
    };
    Stat {
        epoch: card.identity.epoch.map(|epoch| epoch.to_string()),
        boot: card.identity.boot.map(|(ordinal, _)| ordinal.0),
        bytes: card.bytes(),
        series,
        streams,
        quarantine,
        unreadable: damaged.saturating_add(card.unreadable.len()) as u64,
        agent,
        agent_unknown,
    }
}

fn running(card: &Card, file: &Path, boot_id: Option<BootId>, now: BootNanos) -> Result<Running, String> {
    if !card.in_use {
        return Err("no agent runs on this spool".to_owned());
    }
    let status = AgentStatus::read(file).map_err(|error| {
        format!("its agent's status in {} cannot be read ({error}); name its --config", file.display())
    })?;
    let ours = boot_id.is_some_and(|boot_id| boot_id.to_string() == status.boot_id);
    if !ours || now.since(BootNanos(status.at_boot_ns)) > STALE_S.saturating_mul(NS_PER_S) {
        return Err(format!("the status in {} is not of the agent that runs", file.display()));
    }
    let spool = &status.spool;
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let ratio = (spool.payload_bytes > 0).then(|| spool.written_bytes as f64 / spool.payload_bytes as f64);
    let loss = if spool.unsynced_bytes > 0 { spool.sync_interval_ms } else { Some(0) };
    Ok(Running {
        pid: status.pid,
        written_bytes: spool.written_bytes,
        payload_bytes: spool.payload_bytes,
        write_amplification: ratio,
        unsynced_bytes: spool.unsynced_bytes,
        loss_ms: loss,
    })
}

fn set_aside(dir: &Path, depth: usize, found: &mut SetAside) {
    if depth > QUARANTINE_DEPTH_MAX {
        return;
    }
    for path in CardDisk.list(dir).unwrap_or_default() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            set_aside(&path, depth.saturating_add(1), found);
        } else {
            found.files = found.files.saturating_add(1);
            found.bytes = found.bytes.saturating_add(meta.len());
            let kind = found.kinds.entry(kind_of(&path).to_owned()).or_default();
            *kind = kind.saturating_add(1);
        }
    }
}

/// What a file in quarantine is, by its name and folder.
fn kind_of(path: &Path) -> &'static str {
    let text = path.to_string_lossy();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name {
        name if name.starts_with("tail-") => "torn tail",
        name if name.starts_with("rot-") => "damaged frames",
        name if name.ends_with(".seg") => "unreadable segment",
        _ if text.contains("quarantine/idx") => "index",
        _ if text.contains("quarantine/sources") => "reading",
        _ => "other",
    }
}

impl Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::status::bytes;
        let unknown = || "unknown".to_owned();
        writeln!(
            f,
            "spool     epoch {}, boot {}, {} in {} segments",
            self.epoch.clone().unwrap_or_else(unknown),
            self.boot.map_or_else(unknown, |boot| boot.to_string()),
            bytes(self.bytes),
            self.series.values().map(|series| series.segments).sum::<u64>(),
        )?;
        for (name, series) in &self.series {
            writeln!(f, "series    {name}: {} segments, {}", series.segments, bytes(series.bytes))?;
        }
        for (name, total) in &self.streams {
            writeln!(f, "stream    {name}: {} rows, {}", total.rows, bytes(total.bytes))?;
        }
        let kinds: Vec<String> =
            self.quarantine.kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        match kinds.is_empty() {
            true => writeln!(f, "set aside nothing")?,
            false => writeln!(f, "set aside {} in {}", bytes(self.quarantine.bytes), kinds.join(", "))?,
        }
        if let Some(agent) = &self.agent {
            let ratio = agent.write_amplification.map_or_else(unknown, |ratio| format!("{ratio:.2}"));
            let loss = match (agent.loss_ms, agent.unsynced_bytes) {
                (Some(0), _) => "nothing".to_owned(),
                (Some(ms), unsynced) => format!("at most the last {ms} ms ({})", bytes(unsynced)),
                (None, unsynced) => bytes(unsynced),
            };
            writeln!(
                f,
                "writes    {} for {} of payload since the agent started: {ratio} bytes a byte",
                bytes(agent.written_bytes),
                bytes(agent.payload_bytes)
            )?;
            writeln!(f, "power cut now loses {loss}; lane control loses nothing that was acknowledged")?;
        }
        if let Some(why) = &self.agent_unknown {
            writeln!(f, "writes and what a power cut takes cannot be known: {why}")?;
        }
        if self.unreadable > 0 {
            writeln!(f, "! {} files cannot be read; run `headwater-agent spool fsck`", self.unreadable)?;
        }
        Ok(())
    }
}
