//! Ref logs: gapless where nothing was pruned, each entry following from the one before it.

use super::{CheckOptions, Checking, Needed, Problem, Severity};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::RefName;
use crate::reach::Kind;
use crate::repo::{entry_key, heads_folder, seq_of, tag_key, tags_folder};

/// Newest entries of a log that pruning leaves: below them an entry may be gone.
const ENTRIES_KEPT: usize = 100;

/// Entries of a log that are read: its newest, which everything else hangs on.
const ENTRIES_READ: usize = 10_000;

pub(super) async fn check(
    lake: &Lake,
    _options: &CheckOptions,
    checking: &mut Checking,
) -> Result<(), LakeError> {
    let store = lake.store();
    for folder in store.folders_in(heads_folder()).await? {
        let within = format!("{}/{folder}", heads_folder());
        let Ok(name) = RefName::from_key(&folder) else {
            checking.wrong(
                Problem::Unreadable,
                Severity::Warning,
                entry(within),
                "it is no ref's name".to_owned(),
            );
            continue;
        };
        let mut seqs: Vec<u64> =
            store.names_in(&within).await?.iter().filter_map(|file| seq_of(file)).collect();
        seqs.sort_unstable_by(|a, b| b.cmp(a));
        gaps(&name, &seqs, checking);
        chain(lake, &name, checking).await?;
    }
    for file in store.names_in(tags_folder()).await? {
        let name = file.strip_suffix(".json").and_then(|key| RefName::from_key(key).ok());
        let Some(name) = name else { continue };
        if let Err(LakeError::Corrupt { reason, .. }) = lake.refs().tagged(&name).await {
            let tag = Needed { kind: Kind::Tag, ..entry(tag_key(&name)) };
            checking.wrong(Problem::Unreadable, Severity::Error, tag, reason);
        }
    }
    Ok(())
}

fn entry(key: String) -> Needed {
    Needed { key, kind: Kind::RefEntry, commit: None, table: None, says: None }
}

fn gaps(name: &RefName, seqs: &[u64], checking: &mut Checking) {
    for pair in seqs.windows(2).take(ENTRIES_KEPT) {
        let (newer, older) = (pair[0], pair[1]);
        if newer - older > 1 {
            let reason = format!("entries {} to {} of {name} are not there", older + 1, newer - 1);
            checking.wrong(Problem::LogGap, Severity::Error, entry(entry_key(name, older + 1)), reason);
        }
    }
    // A short log was never pruned, so it begins at 1.
    if let Some(oldest) = seqs.last().filter(|oldest| seqs.len() < ENTRIES_KEPT && **oldest > 1) {
        let reason = format!("entries 1 to {} of {name} are not there", oldest - 1);
        checking.wrong(Problem::LogGap, Severity::Error, entry(entry_key(name, 1)), reason);
    }
}

async fn chain(lake: &Lake, name: &RefName, checking: &mut Checking) -> Result<(), LakeError> {
    let entries = match lake.refs().history(name, ENTRIES_READ).await {
        Ok(entries) => entries,
        Err(LakeError::Corrupt { path, reason }) => {
            checking.wrong(Problem::Unreadable, Severity::Error, entry(path), reason);
            return Ok(());
        }
        Err(other) => return Err(other),
    };
    for pair in entries.windows(2) {
        let (newer, older) = (&pair[0], &pair[1]);
        if newer.seq == older.seq + 1 && newer.prev_commit != older.commit {
            let reason = format!("entry {} of {name} does not follow from the entry before it", newer.seq);
            checking.wrong(Problem::LogBroken, Severity::Error, entry(entry_key(name, newer.seq)), reason);
        }
    }
    Ok(())
}
