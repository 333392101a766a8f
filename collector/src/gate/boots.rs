//! Of which boot stored rows are: an aligned row names its spine sample by epoch, stream and seq, and the raw row of that
//! says its boot.

use super::looking::{AROUND_US, LookError};
use crate::commit::read::ScannedRows;
use arrow_array::RecordBatch;
use futures::TryStreamExt;
use headwater_align::gate::{Check, RuleSet};
use headwater_lake::{CommitId, Compare, Condition, Lake, ScanOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// What is read of raw rows.
const COLUMNS: [&str; 5] = ["device", "epoch", "stream", "seq", "boot_ordinal"];

/// Device, epoch and stream.
type Line = (String, String, String);

/// Seqs of each boot of the lines of rows: a stream's numbers rise over the boots of an epoch, so first and last say all.
#[derive(Debug, Default)]
struct Boots(BTreeMap<Line, BTreeMap<i64, RangeInclusive<i64>>>);

impl Boots {
    fn note(&mut self, rows: &ScannedRows<'_>, at: usize) {
        let text = |name| rows.text(name, at);
        let (Some(device), Some(epoch), Some(stream)) = (text("device"), text("epoch"), text("stream"))
        else {
            return;
        };
        let (Some(boots), Some(seq), Some(boot)) =
            (self.0.get_mut(&(device, epoch, stream)), rows.long("seq", at), rows.long("boot_ordinal", at))
        else {
            return;
        };
        let seqs = boots.entry(boot).or_insert(seq..=seq);
        *seqs = seq.min(*seqs.start())..=seq.max(*seqs.end());
    }

    /// The boot of a row; none if no boot, or more than one, has its number.
    fn of(&self, line: &Line, seq: i64) -> Option<i64> {
        let mut found = self.0.get(line)?.iter().filter(|(_, seqs)| seqs.contains(&seq));
        match (found.next(), found.next()) {
            (Some((boot, _)), None) => Some(*boot),
            _ => None,
        }
    }
}

/// The spine sample of an aligned row.
fn sample(rows: &ScannedRows<'_>, at: usize) -> Option<(Line, i64)> {
    let (device, key) = (rows.text("device", at)?, rows.text("row_key", at)?);
    let (epoch, rest) = key.split_once('/')?;
    let (stream, seq) = rest.rsplit_once('/')?;
    Some(((device, epoch.to_owned(), stream.to_owned()), seq.parse().ok()?))
}

/// Boots of rows of an aligned table, by place; empty if no rule asks for the order of times, or the table says it itself.
/// Reads five narrow columns of the raw rows of those streams, over the time of the rows.
///
/// # Errors
/// When the lake cannot be read.
pub async fn boots(
    lake: &Lake,
    at: &CommitId,
    rules: &[&RuleSet],
    batches: &[RecordBatch],
) -> Result<Vec<Option<i64>>, LookError> {
    let is_asked = rules.iter().flat_map(|set| &set.rules).any(|rule| matches!(rule.check, Check::TimeOrder));
    if !is_asked || batches.iter().any(|batch| batch.column_by_name("boot_ordinal").is_some()) {
        return Ok(Vec::new());
    }
    let places =
        || batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| (ScannedRows(batch), at)));
    let (mut known, mut span): (Boots, Option<(i64, i64)>) = (Boots::default(), None);
    for (rows, at) in places() {
        let Some(((line, _), ts_ns)) = sample(&rows, at).zip(rows.long("ts_ns", at)) else { continue };
        known.0.entry(line).or_default();
        span = Some(span.map_or((ts_ns, ts_ns), |(lo, hi)| (lo.min(ts_ns), hi.max(ts_ns))));
    }
    let Some((lo, hi)) = span else { return Ok(Vec::new()) };
    let streams: BTreeSet<String> = known.0.keys().map(|(.., stream)| stream.clone()).collect();
    for table in lake.tables(at).await?.into_keys().filter(|table| table.namespace() == "raw") {
        let columns = lake.columns(at, &table).await?;
        if !COLUMNS.iter().all(|name| columns.iter().any(|column| column.name == *name)) {
            continue;
        }
        for stream in &streams {
            let value = stream.clone();
            let of_stream = Condition { column: "stream".to_owned(), compare: Compare::Equal, value };
            let options = ScanOptions {
                columns: Some(COLUMNS.map(str::to_owned).to_vec()),
                from_us: Some(lo.div_euclid(1_000).saturating_sub(AROUND_US)),
                to_us: Some(hi.div_euclid(1_000).saturating_add(AROUND_US)),
                conditions: vec![of_stream],
                ..ScanOptions::default()
            };
            let mut read = lake.scan(at, &table, options).await?;
            while let Some(batch) = read.try_next().await? {
                let rows = ScannedRows(&batch);
                (0..rows.len()).for_each(|at| known.note(&rows, at));
            }
        }
    }
    Ok(places().map(|(rows, at)| sample(&rows, at).and_then(|(line, seq)| known.of(&line, seq))).collect())
}
