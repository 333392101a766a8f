//! What is protected, as the lake stores it: a create-only numbered log, so that who protected what stays told, and two
//! people who change it at once both get what they asked for.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Protected, RefPatterns, Warrant};
use crate::error::LakeError;
use crate::history::walk;
use crate::lake::Lake;
use crate::names::{CommitId, RefName};
use crate::repo::{canonical, seq_of};
use crate::store::LakeStore;

/// Folder of the log.
const FOLDER: &str = "_repo/protection";

/// Version of its form.
const VERSION: u32 = 1;

/// Patterns that may be stored: each is looked at for every move.
const PATTERNS_MAX: usize = 100;

/// Bytes of the gate's own settings as JSON, files of rules among them: read once by each process that opens the lake.
const GATE_BYTES_MAX: usize = 1 << 20;

/// Times a change is sent before it is given up: so many others changed it meanwhile, or the store does not answer.
const TRIES_MAX: u32 = 8;

/// Which refs are protected, and what the gate before them asks; nothing until somebody says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Protection {
    /// Number of the change that made it so, from 1; 0 if there never was one.
    pub seq: u64,
    /// The refs.
    pub patterns: RefPatterns,
    /// Settings of the gate, in the form of whoever judges; null if nothing was said.
    pub gate: Value,
    /// Who said so.
    pub author: String,
    /// When, UTC µs.
    pub time_us: i64,
    /// Why, for people.
    pub reason: String,
}

impl Protection {
    /// # Errors
    /// [`Protected`] if `name` may not be moved directly.
    pub fn check(&self, name: &RefName) -> Result<(), Protected> {
        match self.patterns.matching(name) {
            Some(pattern) => Err(Protected { name: name.clone(), pattern: pattern.clone() }),
            None => Ok(()),
        }
    }
}

/// A change of what is protected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProtectionChange {
    /// Patterns to add.
    pub protect: RefPatterns,
    /// Patterns to take away, as they were written.
    pub unprotect: RefPatterns,
    /// New settings of the gate; none leaves them.
    pub gate: Option<Value>,
    /// Only if nothing was ever said: a default that a person may take away for good.
    pub only_first: bool,
    /// Why, for people.
    pub reason: String,
}

impl ProtectionChange {
    /// What becomes of `before`.
    fn on(&self, before: &Protection, author: &str, time_us: i64) -> Result<Protection, LakeError> {
        let refuse = |reason: String| Err(LakeError::Protection { reason });
        let mut patterns = before.patterns.clone();
        for pattern in &self.unprotect.0 {
            let Some(at) = patterns.0.iter().position(|known| known == pattern) else {
                return refuse(format!(
                    "{pattern} is no pattern that protects anything; there are: {}",
                    if patterns.0.is_empty() { "none".to_owned() } else { patterns.to_string() }
                ));
            };
            patterns.0.remove(at);
        }
        for pattern in &self.protect.0 {
            if !patterns.0.contains(pattern) {
                patterns.0.push(pattern.clone());
            }
        }
        if patterns.0.len() > PATTERNS_MAX {
            return refuse(format!("at most {PATTERNS_MAX} patterns are kept; join some with *"));
        }
        let gate = self.gate.clone().unwrap_or_else(|| before.gate.clone());
        if gate.to_string().len() > GATE_BYTES_MAX {
            return refuse(format!("settings of the gate take more than {GATE_BYTES_MAX} bytes"));
        }
        let (author, reason) = (author.to_owned(), self.reason.clone());
        Ok(Protection { seq: before.seq + 1, patterns, gate, author, time_us, reason })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Form {
    v: u32,
    seq: u64,
    patterns: RefPatterns,
    #[serde(default)]
    gate: Value,
    author: String,
    write_id: Uuid,
    time_us: i64,
    reason: String,
}

/// The newest change that was seen: a look for a newer one is then one request.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Option<Arc<Protection>>>);

impl Known {
    fn get(&self) -> Option<Arc<Protection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, newer: &Arc<Protection>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| known.seq < newer.seq) {
            *known = Some(Arc::clone(newer));
        }
    }
}

fn key(seq: u64) -> String {
    format!("{FOLDER}/{:020}.json", u64::MAX - seq)
}

async fn read(store: &LakeStore, seq: u64) -> Result<Option<(Protection, Uuid)>, LakeError> {
    let key = key(seq);
    let Some(bytes) = store.read(&key).await? else { return Ok(None) };
    let form: Form = canonical::read_versioned(&key, &bytes, VERSION)?;
    if form.seq != seq {
        return Err(LakeError::corrupt(key, format!("it says it is number {}", form.seq)));
    }
    let Form { patterns, gate, author, time_us, reason, write_id, .. } = form;
    Ok(Some((Protection { seq, patterns, gate, author, time_us, reason }, write_id)))
}

impl Lake {
    /// What is protected now. The first look lists, later ones ask for the next change only.
    ///
    /// # Errors
    /// When the store fails, or what is stored is not whole or newer than this build.
    pub async fn protection(&self) -> Result<Arc<Protection>, LakeError> {
        let store = self.store();
        let mut newest = match self.known_protection().get() {
            Some(known) => known,
            None => {
                let names = store.names_in(FOLDER).await?;
                let Some(seq) = names.iter().filter_map(|file| seq_of(file)).max() else {
                    return Ok(Arc::default());
                };
                let found = read(store, seq).await?;
                let gone = || LakeError::corrupt(key(seq), "it was there and is gone");
                Arc::new(found.ok_or_else(gone)?.0)
            }
        };
        // Its log has no gaps and is never shortened.
        while let Some((newer, _)) = read(store, newest.seq + 1).await? {
            newest = Arc::new(newer);
        }
        self.known_protection().set(&newest);
        Ok(newest)
    }

    /// Changes what is protected; gives what holds then. A change that changes nothing is not written.
    ///
    /// # Errors
    /// [`LakeError::Protection`] when it cannot be, or others keep changing it; when the store fails.
    pub async fn protect(
        &self,
        change: &ProtectionChange,
        author: &str,
        time_us: i64,
    ) -> Result<Arc<Protection>, LakeError> {
        let store = self.store();
        let write_id = Uuid::new_v4();
        let mut tries = 0;
        loop {
            let before = self.protection().await?;
            if change.only_first && before.seq > 0 {
                return Ok(before);
            }
            let after = change.on(&before, author, time_us)?;
            if (&after.patterns, &after.gate) == (&before.patterns, &before.gate) {
                return Ok(before);
            }
            let form = Form {
                v: VERSION,
                seq: after.seq,
                patterns: after.patterns.clone(),
                gate: after.gate.clone(),
                author: author.to_owned(),
                write_id,
                time_us,
                reason: change.reason.clone(),
            };
            let key = key(after.seq);
            let bytes = canonical::to_bytes(&form).map_err(|reason| LakeError::corrupt(&key, reason))?;
            let sent = store.create_raw(&key, Bytes::from(bytes)).await;
            tries += 1;
            // What is there counts, whatever the answer was: a lost response is one's own, an error may have been applied.
            match (read(store, after.seq).await?, sent) {
                (Some((_, found)), _) if found == write_id => {
                    let after = Arc::new(after);
                    self.known_protection().set(&after);
                    return Ok(after);
                }
                (None, Err(e)) if tries >= TRIES_MAX => return Err(store.failed("write", &key, e)),
                (_, _) if tries >= TRIES_MAX => {
                    let reason = "others keep changing what is protected; say it again".to_owned();
                    return Err(LakeError::Protection { reason });
                }
                _ => {}
            }
        }
    }

    /// Asks whether this handle may move `name`, by its warrant; gives the pattern it overrides, if it does.
    ///
    /// # Errors
    /// [`LakeError::Protected`]; when the store fails.
    pub(crate) async fn may_move(&self, name: &RefName) -> Result<Option<Protected>, LakeError> {
        match self.warrant() {
            Warrant::Ingest | Warrant::Upkeep | Warrant::Judged => Ok(None),
            Warrant::Own => {
                self.protection().await?.check(name)?;
                Ok(None)
            }
            Warrant::Override => Ok(self.protection().await?.check(name).err()),
        }
    }

    /// As [`Lake::may_move`], of a branch that is to be made at `commit`: a protected one may begin where a protected one
    /// is or was, since all that lies there was judged.
    ///
    /// # Errors
    /// As [`Lake::may_move`].
    pub(crate) async fn may_make(
        &self,
        name: &RefName,
        commit: &CommitId,
    ) -> Result<Option<Protected>, LakeError> {
        let refused = match self.may_move(name).await {
            Err(LakeError::Protected(refused)) => refused,
            answer => return answer,
        };
        let protection = self.protection().await?;
        for (other, head) in self.branches().await? {
            let Some(tip) = head.commit.filter(|_| protection.patterns.fits(&other)) else { continue };
            if walk::has_ancestor(self, &tip, commit).await? == Some(true) {
                return Ok(None);
            }
        }
        Err(refused.into())
    }
}

/// What a ref log says of a move that went over a protection.
pub(crate) fn overridden(reason: &str, over: Option<&Protected>) -> String {
    match over {
        Some(over) => format!("over protection {}: {reason}", over.pattern),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn change(protect: &[&str], unprotect: &[&str]) -> ProtectionChange {
        ProtectionChange {
            protect: RefPatterns::of(protect),
            unprotect: RefPatterns::of(unprotect),
            ..ProtectionChange::default()
        }
    }

    #[tokio::test]
    async fn changes_are_numbered_and_each_handle_sees_the_newest() {
        let lake = testing::memory().await.unwrap();
        let other = lake.clone();
        assert_eq!(*lake.protection().await.unwrap(), Protection::default());
        let first = lake.protect(&change(&["main", "release/*"], &[]), "anna", 1).await.unwrap();
        assert_eq!((first.seq, first.patterns.to_string().as_str()), (1, "main, release/*"));
        // Said again it is no change; taken away it is the next one.
        assert_eq!(lake.protect(&change(&["main"], &[]), "bob", 2).await.unwrap().seq, 1);
        let second = other.protect(&change(&[], &["main"]), "bob", 3).await.unwrap();
        assert_eq!((second.seq, second.author.as_str()), (2, "bob"));
        assert_eq!(*lake.protection().await.unwrap(), *second);
        let text = lake.protect(&change(&[], &["main"]), "bob", 4).await.unwrap_err().to_string();
        assert!(text.contains("there are: release/*"), "{text}");
        // A default never comes back over what a person said.
        let default = ProtectionChange { only_first: true, ..change(&["main"], &[]) };
        assert_eq!(lake.protect(&default, "collector", 5).await.unwrap().seq, 2);
        assert!(second.check(&RefName::new("release/1").unwrap()).is_err());
    }

    #[tokio::test]
    async fn of_changes_made_at_once_none_is_lost() {
        let lake = testing::memory().await.unwrap();
        let say = |n: usize| {
            let lake = lake.clone();
            async move { lake.protect(&change(&[&format!("b{n}")], &[]), "w", 1).await }
        };
        for answer in futures::future::join_all((0..6).map(say)).await {
            answer.unwrap();
        }
        let held = lake.protection().await.unwrap();
        assert_eq!((held.seq, held.patterns.0.len()), (6, 6));
    }

    #[test]
    fn a_protected_ref_says_what_to_do_instead() {
        let protection = Protection { patterns: RefPatterns::of(&["main"]), ..Protection::default() };
        let text = protection.check(&RefName::main()).unwrap_err().to_string();
        assert!(text.contains("headwater branch NAME main") && text.contains("--unprotect 'main'"), "{text}");
        assert!(protection.check(&RefName::new("dev").unwrap()).is_ok());
        assert!(Protection::default().check(&RefName::main()).is_ok());
    }
}
