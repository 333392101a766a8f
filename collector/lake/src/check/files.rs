//! Looking at files themselves: whether they are there, and whether they are what their names say.

use bytes::Bytes;
use futures::FutureExt;
use futures::StreamExt;
use futures::future::BoxFuture;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::{CheckProgress, Checking, Needed, Problem, Severity, TellCheck};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::sha256_hex;
use crate::reach::Kind;
use crate::store::LakeStore;

/// Files read at once: each is held whole while it is hashed.
const READS_MAX: usize = 4;

/// Files looked for at once.
const LOOKS_MAX: usize = 32;

/// Hex digits of a data file's hash in its name.
const NAME_DIGITS: usize = 32;

/// Tells of those that the listing did not have and that are still not there: others came after it was made.
pub(super) async fn missing_for_sure(lake: &Lake, checking: &mut Checking) -> Result<(), LakeError> {
    let store = lake.store();
    let looks: Vec<BoxFuture<'_, _>> = std::mem::take(&mut checking.absent)
        .into_iter()
        .map(|needed| async move { (store.stat(&needed.key).await, needed) }.boxed())
        .collect();
    let looked: Vec<_> = futures::stream::iter(looks).buffered(LOOKS_MAX).collect().await;
    for (found, needed) in looked {
        match found? {
            Some(object) => checking.report.reachable.entry(needed.kind).or_default().add(object.size),
            None => checking.wrong(Problem::Missing, Severity::Error, needed, "it is not there".to_owned()),
        }
    }
    Ok(())
}

/// Reads what is to be read and holds it against its name.
pub(super) async fn read(lake: &Lake, checking: &mut Checking, tell: TellCheck<'_>) -> Result<(), LakeError> {
    let store = lake.store();
    let todo = std::mem::take(&mut checking.to_read);
    let all: u64 = checking.report.reachable.values().map(|tally| tally.bytes).sum();
    let reads: Vec<BoxFuture<'_, _>> = todo
        .into_iter()
        .map(|needed| {
            async move {
                let judged = judge(store, &needed).await;
                (needed, judged)
            }
            .boxed()
        })
        .collect();
    let mut reads = futures::stream::iter(reads).buffer_unordered(READS_MAX);
    while let Some((needed, judged)) = reads.next().await {
        let (bytes, wrong) = judged?;
        checking.read_bytes += bytes;
        tell(CheckProgress::Reading(checking.read_bytes, all));
        if let Some((problem, reason)) = wrong {
            checking.wrong(problem, Severity::Error, needed, reason);
        }
    }
    Ok(())
}

/// Its size, and what is wrong with it.
async fn judge(store: &LakeStore, needed: &Needed) -> Result<(u64, Option<(Problem, String)>), LakeError> {
    let Some(bytes) = store.read(&needed.key).await? else {
        return Ok((0, Some((Problem::Missing, "it is not there".to_owned()))));
    };
    let size = bytes.len() as u64;
    let needed = needed.clone();
    let judge = tokio::task::spawn_blocking(move || wrong_with(&needed, bytes));
    let wrong = judge.await.map_err(|source| LakeError::Task { task: "the check of a file", source })?;
    Ok((size, wrong))
}

fn wrong_with(needed: &Needed, bytes: Bytes) -> Option<(Problem, String)> {
    let name = needed.key.rsplit('/').next().unwrap_or("");
    let found = sha256_hex(&bytes);
    match needed.kind {
        Kind::Blob | Kind::State if name != found => {
            return Some((Problem::Unreadable, format!("it hashes to {found}")));
        }
        Kind::Data => {
            // Files of other writers have names of their own; ours begin with their hash.
            let claimed = name.split_once('-').map(|(digits, _)| digits);
            let ours = claimed.filter(|digits| {
                digits.len() == NAME_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
            });
            if let Some(claimed) = ours
                && !found.starts_with(claimed)
            {
                return Some((
                    Problem::Unreadable,
                    format!("its bytes are not those it was made with: they hash to {found}"),
                ));
            }
            let rows = match SerializedFileReader::new(bytes) {
                Ok(reader) => u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0),
                Err(e) => return Some((Problem::Unreadable, e.to_string())),
            };
            if let Some((_, says)) = needed.says
                && rows != says
            {
                return Some((Problem::WrongCount, format!("it has {rows} rows, its manifest says {says}")));
            }
        }
        _ => {}
    }
    None
}
