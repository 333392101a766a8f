//! One run at a time, by leases in a create-only log; and the store's own time.
//!
//! The lease only avoids waste and torn thinning: every run by itself deletes nothing that is needed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::LakeError;
use crate::reach::HOUR_US;
use crate::repo::canonical;
use crate::store::{Created, LakeStore};

const FOLDER: &str = "_repo/gc/lease";

/// After so long without a word a run counts as dead, µs. One that lives on notices that it was taken over.
const LEASE_US: i64 = 2 * HOUR_US;

/// A lease as it is stored under `<number>.json`; `<number>.done` beside it gives it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    v: u32,
    number: u64,
    run: String,
    holder: String,
    taken_us: i64,
}

/// What the store's clock says: a probe is written, looked at and deleted.
pub(super) async fn store_time(store: &LakeStore) -> Result<i64, LakeError> {
    let key = format!("_repo/gc/clock/{}", Uuid::new_v4().simple());
    store.create(&key, Bytes::new()).await?;
    let probe = store.stat(&key).await?;
    store.delete_all(std::slice::from_ref(&key)).await?;
    probe
        .map(|probe| probe.stored_us)
        .ok_or_else(|| LakeError::corrupt(&key, "it was written and is not there"))
}

pub(super) fn lost(holder: &str) -> LakeError {
    LakeError::Collecting { holder: format!("another one than {holder}"), since_s: 0, left_s: 0 }
}

impl Lease {
    /// Takes the lease for a run at `store_us`, the store's time.
    pub(super) async fn take(
        store: &LakeStore,
        run: &str,
        holder: &str,
        store_us: i64,
    ) -> Result<Lease, LakeError> {
        let names = store.names_in(FOLDER).await?;
        let last = names.iter().filter_map(|name| number(name, ".json")).max();
        if let Some(last) = last
            && !names.iter().any(|name| number(name, ".done") == Some(last))
            && let Some(held) = read(store, last).await?
            && store_us < held.taken_us.saturating_add(LEASE_US)
        {
            let since_s = (store_us - held.taken_us) / 1_000_000;
            let left_s = (held.taken_us + LEASE_US - store_us) / 1_000_000;
            return Err(LakeError::Collecting { holder: held.holder, since_s, left_s });
        }
        let number = last.map_or(1, |last| last + 1);
        let (run, holder) = (run.to_owned(), holder.to_owned());
        let lease = Lease { v: 1, number, run, holder, taken_us: store_us };
        let bytes = canonical::to_bytes(&lease).map_err(|reason| LakeError::corrupt(FOLDER, reason))?;
        let created = store.create(&key(number, "json"), Bytes::from(bytes)).await;
        // Read back whatever the answer was: what is there counts.
        match (read(store, number).await?, created) {
            (Some(found), _) if found == lease => Ok(lease),
            (Some(found), Ok(Created::New | Created::Existing) | Err(_)) => {
                Err(LakeError::Collecting { holder: found.holder, since_s: 0, left_s: LEASE_US / 1_000_000 })
            }
            (None, Err(e)) => Err(e),
            (None, Ok(_)) => Err(LakeError::corrupt(key(number, "json"), "it was written and is not there")),
        }
    }

    /// Makes sure that nobody has taken the lease over.
    pub(super) async fn still_held(&self, store: &LakeStore) -> Result<(), LakeError> {
        let names = store.names_in(FOLDER).await?;
        match names.iter().filter_map(|name| number(name, ".json")).max() {
            Some(newest) if newest > self.number => Err(lost(&self.holder)),
            _ => Ok(()),
        }
    }

    /// Gives it back.
    pub(super) async fn release(&self, store: &LakeStore) -> Result<(), LakeError> {
        store.create(&key(self.number, "done"), Bytes::new()).await.map(|_| ())
    }
}

/// Deletes leases below the one that is held.
pub(super) async fn forget_older(store: &LakeStore, held: &Lease) -> Result<(), LakeError> {
    let names = store.names_in(FOLDER).await?;
    let older = |name: &&String| {
        let number = number(name, ".json").or_else(|| number(name, ".done"));
        number.is_some_and(|number| number < held.number)
    };
    let keys: Vec<String> = names.iter().filter(older).map(|name| format!("{FOLDER}/{name}")).collect();
    store.delete_all(&keys).await
}

async fn read(store: &LakeStore, number: u64) -> Result<Option<Lease>, LakeError> {
    let key = key(number, "json");
    let Some(bytes) = store.read(&key).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| LakeError::corrupt(&key, e))
}

fn key(number: u64, end: &str) -> String {
    format!("{FOLDER}/{number:020}.{end}")
}

fn number(name: &str, end: &str) -> Option<u64> {
    name.strip_suffix(end)?.parse().ok()
}
