//! What was emitted against what the lake holds: the loss figures, computed from the rows themselves.
//!
//! *captured* = its append was acknowledged by the spool; *lost* = captured, not in the lake, and not
//! covered by a gap record: always 0. `emitted − captured` can be above 0 only while the agent is dead
//! or within its loss window, or where a mishap was played on purpose.

mod file;
mod rows;
mod table;

pub use file::write_truth;
pub use table::Table;

use crate::players::Emitted;
use headwater_core::interval::IntervalSet;
use headwater_lake::{CommitId, Lake, LakeError};
use rows::RowsJudged;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The figures of one run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// Rows the players put on their media.
    pub emitted: u64,
    /// Rows the spool acknowledged.
    pub captured: u64,
    /// Distinct rows in the lake.
    pub committed: u64,
    /// Rows in the lake more than once.
    pub duplicate: u64,
    /// Captured, not in the lake, not covered by a gap record.
    pub lost: u64,
    /// Rows in the lake whose values are not what was emitted, or that nobody emitted.
    pub wrong: u64,
    /// Rows covered by gap records.
    pub gaps_recorded: u64,
    /// Emitted and not in the lake.
    pub emitted_not_captured: u64,
    /// Rows that say what another row of the lake says already: captured twice, each time in full, as a
    /// camera's folder is after a kill between a picture's capture and the note of it.
    pub captured_again: u64,
    /// Entries of `ops.quarantine` and of the agent's own quarantine.
    pub quarantined: u64,
    /// Rows of the aligned table.
    pub aligned_rows: u64,
    /// Commits on the branch.
    pub commits: u64,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
    /// The commit that was read.
    pub commit: String,
}

/// A run that could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// The lake cannot be read.
    #[error("failed to read the lake")]
    Lake(#[from] LakeError),
    /// A table lacks a column or has another type than expected.
    #[error("table {table} has no usable column {column}")]
    Column {
        /// Table.
        table: String,
        /// Column.
        column: String,
    },
    /// A file of the run cannot be read.
    #[error("failed to read {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A name that cannot be.
    #[error("{0} is no table's name")]
    Name(String),
}

/// A stream's key in the lake: (epoch, stream).
type StreamKey = (String, String);

/// Seqs seen in rows, and how many rows came again.
#[derive(Debug, Default)]
struct Seen {
    seqs: BTreeMap<StreamKey, IntervalSet>,
    duplicate: u64,
}

impl Seen {
    fn add(&mut self, table: &Table) -> Result<(), TruthError> {
        let columns =
            table.texts("epoch")?.into_iter().zip(table.texts("stream")?).zip(table.integers("seq")?);
        for ((epoch, stream), seq) in columns {
            let (Some(epoch), Some(stream), Some(seq)) = (epoch, stream, seq) else { continue };
            let seq = seq.cast_unsigned();
            let set = self.seqs.entry((epoch, stream)).or_default();
            if set.contains(seq) {
                self.duplicate += 1;
            }
            set.insert(seq..seq + 1);
        }
        Ok(())
    }
}

async fn ranges(
    lake: &Lake,
    commit: &CommitId,
    table: &str,
) -> Result<BTreeMap<StreamKey, IntervalSet>, TruthError> {
    let mut sets: BTreeMap<StreamKey, IntervalSet> = BTreeMap::new();
    let Some(table) = Table::read(lake, commit, table).await? else { return Ok(sets) };
    let keys = table.texts("epoch")?.into_iter().zip(table.texts("stream")?);
    let spans = table.integers("seq_lo")?.into_iter().zip(table.integers("seq_hi")?);
    for ((epoch, stream), (lo, hi)) in keys.zip(spans) {
        if let (Some(epoch), Some(stream), Some(lo), Some(hi)) = (epoch, stream, lo, hi) {
            sets.entry((epoch, stream)).or_default().insert(lo.cast_unsigned()..hi.cast_unsigned() + 1);
        }
    }
    Ok(sets)
}

/// Next seq of each stream of the agent's spool, as `(epoch, stream) → next_seq`.
pub type NextSeqs = BTreeMap<StreamKey, u64>;

/// Judges what the lake at `location` has of `device` against what was emitted and what the spool says it captured.
///
/// # Errors
/// [`TruthError`] if the lake or a file cannot be read.
pub async fn judge(
    location: &str,
    device: &str,
    emitted: &Emitted,
    env_truth: &Path,
    spool: &NextSeqs,
) -> Result<Figures, TruthError> {
    let lake = Lake::open(location).await?;
    let commit = lake.resolve("main").await?;
    let mut figures = Figures { commit: commit.to_string(), ..Figures::default() };
    for (name, entry) in lake.tables(&commit).await? {
        figures.tables.insert(name.to_string(), entry.rows);
    }
    figures.commits = lake.log("main", usize::MAX).await?.len() as u64;

    let mut seen = Seen::default();
    let imu = Table::read_of(&lake, &commit, "raw.imu", device).await?;
    let gps = Table::read_of(&lake, &commit, "raw.gps_fix", device).await?;
    let image = Table::read_of(&lake, &commit, "raw.image", device).await?;
    let env = Table::read_of(&lake, &commit, "raw.env", device).await?;
    for table in [&imu, &gps, &image, &env].into_iter().flatten() {
        seen.add(table)?;
    }
    figures.duplicate = seen.duplicate;
    figures.committed = seen.seqs.values().map(IntervalSet::count).sum();

    let env_rows = read_env(env_truth)?;
    let gps_emitted: u64 = emitted.gps.values().map(|c| c.times).sum();
    figures.emitted = emitted.imu.len() as u64
        + gps_emitted
        + emitted.camera.len() as u64
        + emitted.camera_broken
        + env_rows.len() as u64;
    let mut rows = RowsJudged::default();
    rows.imu(imu.as_ref(), emitted)?;
    rows.gps(gps.as_ref(), emitted)?;
    rows.images(image.as_ref(), emitted)?;
    rows.env(env.as_ref(), &env_rows)?;
    figures.wrong = rows.wrong;
    figures.captured_again = rows.again;
    figures.emitted_not_captured = figures.emitted.saturating_sub(rows.distinct);

    let ledger = ranges(&lake, &commit, "ops.ledger").await?;
    let gaps = ranges(&lake, &commit, "ops.gaps").await?;
    for (key, next) in spool {
        let gap = gaps.get(key).cloned().unwrap_or_default();
        let in_ledger = ledger.get(key).cloned().unwrap_or_default();
        let in_rows = seen.seqs.get(key);
        let gap_rows = gap.present_in(0..*next).iter().map(|r| r.end - r.start).sum::<u64>();
        figures.gaps_recorded += gap_rows;
        // Built-in streams have no raw table; the ledger speaks for them.
        let builtin = key.1.starts_with("hw/");
        let mut held = if builtin { in_ledger.clone() } else { in_rows.cloned().unwrap_or_default() };
        if !builtin {
            figures.captured += next - gap_rows.min(*next);
            // The ledger must not claim a row the table does not hold.
            figures.wrong +=
                in_ledger.iter().flat_map(|r| held.missing_in(r)).map(|r| r.end - r.start).sum::<u64>();
        }
        held.union_with(&gap);
        figures.lost += held.missing_in(0..*next).iter().map(|r| r.end - r.start).sum::<u64>();
    }
    figures.quarantined = figures.tables.get("ops.quarantine").copied().unwrap_or_default();
    figures.aligned_rows = figures.tables.get("aligned.drive").copied().unwrap_or_default();
    Ok(figures)
}

fn read_env(path: &Path) -> Result<BTreeMap<i64, Vec<f64>>, TruthError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| TruthError::File { path: path.display().to_string(), source })?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let (n, rest) = line.split_once(',')?;
            Some((n.parse().ok()?, rest.split(',').filter_map(|x| x.parse().ok()).collect()))
        })
        .collect())
}

/// True if every picture of the device has its final row in `table`, at this commit.
///
/// # Errors
/// [`TruthError`] if the lake cannot be read.
pub async fn is_aligned(
    lake: &Lake,
    commit: &CommitId,
    table: &str,
    device: &str,
) -> Result<bool, TruthError> {
    let pictures = rows_of(lake, commit, "raw.image", device).await?;
    let columns = ["device", "provisional"];
    let Some(rows) = Table::read_columns_of(lake, commit, table, &columns, device).await? else {
        return Ok(false);
    };
    let finals = rows.integers("provisional")?.into_iter().filter(|provisional| *provisional == Some(0));
    Ok(pictures > 0 && pictures == finals.count() as u64)
}

/// Rows that a table has of a device; 0 without the table.
///
/// # Errors
/// [`TruthError`] if the lake cannot be read.
pub async fn rows_of(lake: &Lake, commit: &CommitId, table: &str, device: &str) -> Result<u64, TruthError> {
    let table = Table::read_columns_of(lake, commit, table, &["device"], device).await?;
    Ok(table.map_or(0, |table| table.rows()))
}

/// What the agent's sources set aside: one line of stream and reason per entry of its quarantine.
#[must_use]
pub fn set_aside(spool: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(spool.join("quarantine/sources")) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    paths.sort();
    let first_line = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).ok()?;
        let line = bytes.split(|byte| *byte == b'\n').next()?;
        Some(String::from_utf8_lossy(line).into_owned())
    };
    paths.iter().filter_map(first_line).collect()
}
