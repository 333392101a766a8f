//! What was emitted against what the lake holds: the loss figures, computed from the rows themselves.
//!
//! *captured* = its append was acknowledged by the spool; *lost* = captured, not in the lake, and not
//! covered by a gap record: always 0. `emitted − captured` can be above 0 only while the agent is dead
//! or within its loss window, or where a mishap was played on purpose.

use crate::players::Emitted;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use futures::TryStreamExt;
use headwater_core::interval::IntervalSet;
use headwater_lake::{CommitId, Lake, LakeError, ScanOptions, TableName};
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
    /// Emitted and never captured.
    pub emitted_not_captured: u64,
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

/// Rows of one table as plain columns.
#[derive(Debug)]
pub struct Table {
    name: String,
    batches: Vec<RecordBatch>,
}

impl Table {
    /// Reads the whole of `name` at `commit`; `None` if the commit has no such table.
    ///
    /// # Errors
    /// [`TruthError::Lake`].
    pub async fn read(lake: &Lake, commit: &CommitId, name: &str) -> Result<Option<Self>, TruthError> {
        Self::read_with(lake, commit, name, ScanOptions::default()).await
    }

    /// Reads some columns of `name` at `commit`.
    ///
    /// # Errors
    /// [`TruthError::Lake`].
    pub async fn read_columns(
        lake: &Lake,
        commit: &CommitId,
        name: &str,
        columns: &[&str],
    ) -> Result<Option<Self>, TruthError> {
        let columns = Some(columns.iter().map(|c| (*c).to_owned()).collect());
        Self::read_with(lake, commit, name, ScanOptions { columns, ..ScanOptions::default() }).await
    }

    async fn read_with(
        lake: &Lake,
        commit: &CommitId,
        name: &str,
        options: ScanOptions,
    ) -> Result<Option<Self>, TruthError> {
        let table = TableName::new(name).map_err(|_| TruthError::Name(name.to_owned()))?;
        if !lake.tables(commit).await?.contains_key(&table) {
            return Ok(None);
        }
        let stream = lake.scan(commit, &table, options).await?;
        let batches = stream.try_collect().await?;
        Ok(Some(Self { name: name.to_owned(), batches }))
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    fn cast(&self, column: &str, to: &DataType) -> Result<Vec<arrow_array::ArrayRef>, TruthError> {
        let missing = || TruthError::Column { table: self.name.clone(), column: column.to_owned() };
        self.batches
            .iter()
            .map(|batch| {
                let array = column.split('.').try_fold(None, |at: Option<arrow_array::ArrayRef>, part| {
                    match at {
                        None => batch.column_by_name(part).cloned(),
                        Some(array) => array.as_struct_opt()?.column_by_name(part).cloned(),
                    }
                    .map(Some)
                });
                let array = array.flatten().ok_or_else(missing)?;
                arrow_cast::cast(&array, to).map_err(|_| missing())
            })
            .collect()
    }

    /// A column as integers; nulls are `None`. `a.b` reaches into a struct.
    ///
    /// # Errors
    /// [`TruthError::Column`].
    pub fn integers(&self, column: &str) -> Result<Vec<Option<i64>>, TruthError> {
        let arrays = self.cast(column, &DataType::Int64)?;
        Ok(arrays.iter().flat_map(|a| a.as_primitive::<Int64Type>().iter().collect::<Vec<_>>()).collect())
    }

    /// A column as doubles.
    ///
    /// # Errors
    /// [`TruthError::Column`].
    pub fn doubles(&self, column: &str) -> Result<Vec<Option<f64>>, TruthError> {
        let arrays = self.cast(column, &DataType::Float64)?;
        Ok(arrays.iter().flat_map(|a| a.as_primitive::<Float64Type>().iter().collect::<Vec<_>>()).collect())
    }

    /// A column as text.
    ///
    /// # Errors
    /// [`TruthError::Column`].
    pub fn texts(&self, column: &str) -> Result<Vec<Option<String>>, TruthError> {
        let arrays = self.cast(column, &DataType::Utf8)?;
        Ok(arrays
            .iter()
            .flat_map(|a| a.as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect::<Vec<_>>())
            .collect())
    }

    /// A column of bytes.
    ///
    /// # Errors
    /// [`TruthError::Column`].
    pub fn bytes(&self, column: &str) -> Result<Vec<Option<Vec<u8>>>, TruthError> {
        let arrays = self.cast(column, &DataType::LargeBinary)?;
        Ok(arrays
            .iter()
            .flat_map(|a| {
                let a = a.as_binary::<i64>();
                (0..a.len()).map(|i| a.is_valid(i).then(|| a.value(i).to_vec())).collect::<Vec<_>>()
            })
            .collect())
    }
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

/// Judges the lake at `location` against what was emitted and what the spool says it captured.
///
/// # Errors
/// [`TruthError`] if the lake or a file cannot be read.
pub async fn judge(
    location: &str,
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
    let imu = Table::read(&lake, &commit, "raw.imu").await?;
    let gps = Table::read(&lake, &commit, "raw.gps_fix").await?;
    let image = Table::read(&lake, &commit, "raw.image").await?;
    let env = Table::read(&lake, &commit, "raw.env").await?;
    for table in [&imu, &gps, &image, &env].into_iter().flatten() {
        seen.add(table)?;
    }
    figures.duplicate = seen.duplicate;
    figures.committed = seen.seqs.values().map(IntervalSet::count).sum();

    let env_rows = read_env(env_truth)?;
    let gps_emitted: u64 = emitted.gps.values().map(|(n, ..)| n).sum();
    figures.emitted = emitted.imu.len() as u64
        + gps_emitted
        + emitted.camera.len() as u64
        + emitted.camera_broken
        + env_rows.len() as u64;
    figures.wrong = wrong_imu(imu.as_ref(), emitted)?
        + wrong_gps(gps.as_ref(), emitted)?
        + wrong_images(image.as_ref(), emitted)?
        + wrong_env(env.as_ref(), &env_rows)?;

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
    figures.emitted_not_captured = figures.emitted.saturating_sub(figures.captured);
    figures.quarantined = figures.tables.get("ops.quarantine").copied().unwrap_or_default();
    figures.aligned_rows = figures.tables.get("aligned.drive").copied().unwrap_or_default();
    Ok(figures)
}

fn wrong_imu(table: Option<&Table>, emitted: &Emitted) -> Result<u64, TruthError> {
    let Some(table) = table else { return Ok(0) };
    let n = table.integers("n")?;
    let columns = ["accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z"]
        .iter()
        .map(|name| table.doubles(name))
        .collect::<Result<Vec<_>, _>>()?;
    let wrong = n.iter().enumerate().filter(|(row, n)| {
        let truth = n.and_then(|n| u32::try_from(n).ok()).and_then(|n| emitted.imu.get(&n));
        !truth.is_some_and(|bits| {
            columns.iter().zip(bits).all(|(column, bits)| {
                column[*row].is_some_and(|x| x.to_bits() == f64::from(f32::from_bits(*bits)).to_bits())
            })
        })
    });
    Ok(wrong.count() as u64)
}

fn wrong_gps(table: Option<&Table>, emitted: &Emitted) -> Result<u64, TruthError> {
    let Some(table) = table else { return Ok(0) };
    let mut left: BTreeMap<i64, u64> = emitted.gps.iter().map(|(utc, (n, ..))| (*utc, *n)).collect();
    let rows = table.integers("utc")?.into_iter().zip(table.doubles("lat")?).zip(table.doubles("lon")?);
    let wrong = rows.filter(|((utc, lat), lon)| {
        let Some(truth) = utc.and_then(|utc| emitted.gps.get(&utc).map(|t| (utc, t))) else { return true };
        let (utc, (_, true_lat, true_lon)) = truth;
        let room = left.get_mut(&utc).is_some_and(|n| n.checked_sub(1).map(|m| *n = m).is_some());
        let near = |x: &Option<f64>, truth: &f64| x.is_some_and(|x| (x - truth).abs() < 1e-9);
        !(room && near(lat, true_lat) && near(lon, true_lon))
    });
    Ok(wrong.count() as u64)
}

fn wrong_images(table: Option<&Table>, emitted: &Emitted) -> Result<u64, TruthError> {
    let Some(table) = table else { return Ok(0) };
    let rows = table.texts("name")?.into_iter().zip(table.texts("hash")?).zip(table.bytes("image.bytes")?);
    let wrong = rows.filter(|((name, hash), bytes)| {
        let truth = name.as_ref().and_then(|name| emitted.camera.get(name));
        let digest = bytes.as_ref().map(|bytes| headwater_core::id::Sha256::of(bytes));
        !truth.is_some_and(|t| digest == Some(*t) && hash.as_deref() == Some(t.to_string().as_str()))
    });
    Ok(wrong.count() as u64)
}

fn wrong_env(table: Option<&Table>, truth: &BTreeMap<i64, Vec<f64>>) -> Result<u64, TruthError> {
    let Some(table) = table else { return Ok(0) };
    let columns = ["temperature", "humidity", "wind_speed", "pressure"]
        .iter()
        .map(|name| table.doubles(name))
        .collect::<Result<Vec<_>, _>>()?;
    let wrong = table.integers("n")?.into_iter().enumerate().filter(|(row, n)| {
        let values = n.and_then(|n| truth.get(&n));
        !values.is_some_and(|values| {
            columns
                .iter()
                .zip(values)
                .all(|(column, x)| column[*row].is_some_and(|y| y.to_bits() == x.to_bits()))
        })
    });
    Ok(wrong.count() as u64)
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

/// True if every picture of the branch's head has its aligned row.
///
/// # Errors
/// [`TruthError`] if the lake cannot be read.
pub async fn is_aligned(location: &str) -> Result<bool, TruthError> {
    let lake = Lake::open(location).await?;
    let commit = lake.resolve("main").await?;
    let rows: BTreeMap<String, _> =
        lake.tables(&commit).await?.into_iter().map(|(name, entry)| (name.to_string(), entry.rows)).collect();
    Ok(rows.contains_key("raw.image") && rows.get("raw.image") == rows.get("aligned.drive"))
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
