//! Entries of a ref's log and tags as they are stored, and where.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Head, RefOp, RefUpdate};
use crate::error::LakeError;
use crate::names::{CommitId, RefName};
use crate::repo::canonical;

/// Version of the form of ref entries and tags.
const VERSION: u32 = 1;

/// Folder of all ref logs.
pub(super) const HEADS: &str = "_repo/refs/heads";

/// Folder of all tags.
pub(super) const TAGS: &str = "_repo/refs/tags";

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    v: u32,
    seq: u64,
    r#ref: RefName,
    commit: Option<CommitId>,
    prev_commit: Option<CommitId>,
    /// The write that made the entry below: it tells a link of the log from a sleeper's write beside it.
    #[serde(default)]
    prev_write_id: Option<Uuid>,
    op: RefOp,
    writer: String,
    write_id: Uuid,
    time_us: i64,
    reason: String,
}

/// The entry after `expect`, and its bytes.
pub(super) fn next(
    name: &RefName,
    expect: Option<&Head>,
    update: &RefUpdate,
) -> Result<(Head, Bytes), LakeError> {
    let head = Head {
        seq: expect.map_or(1, |head| head.seq + 1),
        commit: update.commit.clone(),
        prev_commit: expect.and_then(|head| head.commit.clone()),
        op: update.op,
        writer: update.writer.clone(),
        write_id: update.write_id,
        time_us: update.time_us,
        reason: update.reason.clone(),
    };
    let entry = Entry {
        v: VERSION,
        seq: head.seq,
        r#ref: name.clone(),
        commit: head.commit.clone(),
        prev_commit: head.prev_commit.clone(),
        prev_write_id: expect.map(|head| head.write_id),
        op: head.op,
        writer: head.writer.clone(),
        write_id: head.write_id,
        time_us: head.time_us,
        reason: head.reason.clone(),
    };
    let bytes = canonical::to_bytes(&entry);
    let bytes = bytes.map_err(|reason| LakeError::corrupt(entry_key(name, head.seq), reason))?;
    Ok((head, Bytes::from(bytes)))
}

/// Reads entry `seq` of `name`.
pub(super) fn read(name: &RefName, seq: u64, bytes: &[u8]) -> Result<Head, LakeError> {
    let key = entry_key(name, seq);
    let entry: Entry = canonical::read_versioned(&key, bytes, VERSION)?;
    if entry.seq != seq || &entry.r#ref != name {
        return Err(LakeError::corrupt(
            &key,
            format!("it says it is entry {} of {}", entry.seq, entry.r#ref),
        ));
    }
    Ok(Head {
        seq,
        commit: entry.commit,
        prev_commit: entry.prev_commit,
        op: entry.op,
        writer: entry.writer,
        write_id: entry.write_id,
        time_us: entry.time_us,
        reason: entry.reason,
    })
}

/// True if the entry in `bytes` was put on top of `below`.
pub(super) fn follows(name: &RefName, below: &Head, bytes: &[u8]) -> Result<bool, LakeError> {
    let entry: Entry = canonical::read_versioned(&entry_key(name, below.seq + 1), bytes, VERSION)?;
    Ok(entry.prev_write_id.map_or(entry.prev_commit == below.commit, |id| id == below.write_id))
}

/// A tag: a name that a commit has for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: RefName,
    /// The commit.
    pub commit: CommitId,
    /// Who set it.
    pub author: String,
    /// When, UTC µs.
    pub time_us: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct TagForm {
    v: u32,
    tag: RefName,
    commit: CommitId,
    author: String,
    time_us: i64,
}

impl Tag {
    pub(super) fn to_bytes(&self) -> Result<Bytes, LakeError> {
        let form = TagForm {
            v: VERSION,
            tag: self.name.clone(),
            commit: self.commit.clone(),
            author: self.author.clone(),
            time_us: self.time_us,
        };
        let bytes = canonical::to_bytes(&form);
        bytes.map(Bytes::from).map_err(|reason| LakeError::corrupt(tag_key(&self.name), reason))
    }

    pub(super) fn read(name: &RefName, bytes: &[u8]) -> Result<Tag, LakeError> {
        let key = tag_key(name);
        let form: TagForm = canonical::read_versioned(&key, bytes, VERSION)?;
        if &form.tag != name {
            return Err(LakeError::corrupt(&key, format!("it says it is tag {}", form.tag)));
        }
        Ok(Tag { name: form.tag, commit: form.commit, author: form.author, time_us: form.time_us })
    }
}

pub(super) fn log_key(name: &RefName) -> String {
    format!("{HEADS}/{}", name.key())
}

pub(crate) fn entry_key(name: &RefName, seq: u64) -> String {
    format!("{}/{:020}.json", log_key(name), u64::MAX - seq)
}

/// The folder of all ref logs.
pub(crate) fn heads_folder() -> &'static str {
    HEADS
}

/// Folders of refs that are made once, under an id no other ever gets: staging branches and what a gate holds.
const SINGLE_USE: [&str; 2] = ["wap/", "quarantine/"];

/// Whether a ref is made once and, when it is gone, never again.
pub(crate) fn is_single_use(name: &RefName) -> bool {
    SINGLE_USE.iter().any(|folder| name.as_str().starts_with(folder))
}

/// The folder of all tags.
pub(crate) fn tags_folder() -> &'static str {
    TAGS
}

pub(crate) fn tag_key(name: &RefName) -> String {
    format!("{TAGS}/{}.json", name.key())
}

pub(crate) fn seq_of(file: &str) -> Option<u64> {
    let digits = file.strip_suffix(".json")?;
    let reversed: u64 = digits.parse().ok().filter(|_| digits.len() == 20)?;
    Some(u64::MAX - reversed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_newest_first() {
        let main = RefName::main();
        assert_eq!(entry_key(&main, 1), "_repo/refs/heads/main/18446744073709551614.json");
        assert!(entry_key(&main, 10) < entry_key(&main, 9));
        assert_eq!(seq_of("18446744073709551614.json"), Some(1));
        assert_eq!(seq_of("18446744073709551614.json#1"), None);
    }

    #[test]
    fn truncated_foreign_and_newer_entries_are_told_apart() {
        let main = RefName::main();
        let update = RefUpdate {
            commit: None,
            op: RefOp::Delete,
            writer: "w".to_owned(),
            write_id: Uuid::nil(),
            time_us: 1,
            reason: String::new(),
        };
        let (head, bytes) = next(&main, None, &update).unwrap();
        assert_eq!(read(&main, 1, &bytes).unwrap(), head);
        for cut in 0..bytes.len() {
            assert!(matches!(read(&main, 1, &bytes[..cut]), Err(LakeError::Corrupt { .. })), "{cut}");
        }
        assert!(matches!(read(&main, 2, &bytes), Err(LakeError::Corrupt { .. })));
        assert!(matches!(read(&RefName::new("x").unwrap(), 1, &bytes), Err(LakeError::Corrupt { .. })));
        let newer = br#"{"v":2,"what":"nobody knows yet"}"#;
        let error = read(&main, 1, newer).unwrap_err();
        assert!(matches!(error, LakeError::Newer { found: 2, known: 1, .. }), "{error}");
    }
}
