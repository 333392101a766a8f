//! Moves of refs that make no commit: taking a branch away, and names nobody else gives.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use uuid::Uuid;

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, NameError, RefName};
use crate::protect::overridden;
use crate::repo::{Head, PublishError, RefOp, RefUpdate, heads_folder};

/// Heads read at once.
const READS_MAX: usize = 16;

/// Crockford's digits in lower case, as ref names must be.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A ULID in lower case: 48 bits of `time_us` in ms and 80 random bits, 26 digits, in order of time
/// (<https://github.com/ulid/spec>).
#[must_use]
pub fn ulid(time_us: i64) -> String {
    let ms = u128::from(time_us.div_euclid(1_000).max(0).unsigned_abs()) & ((1 << 48) - 1);
    let (high, low) = (Uuid::new_v4().as_u128(), Uuid::new_v4().as_u128());
    // The upper half of a v4 uuid has fixed bits; two lower ends give eighty random ones.
    let random = ((high & 0xffff_ffff_ffff) << 32) | (low & 0xffff_ffff);
    let bits = (ms << 80) | random;
    (0..26)
        .rev()
        .map(|place| char::from(DIGITS[usize::try_from((bits >> (place * 5)) & 31).unwrap_or(0)]))
        .collect()
}

impl RefName {
    /// A name below `folder` that nobody else gives: `<folder>/<ulid>`.
    ///
    /// # Errors
    /// [`NameError::Ref`] when the folder is no ref name.
    pub fn unique_below(folder: &str, time_us: i64) -> Result<RefName, NameError> {
        RefName::new(format!("{folder}/{}", ulid(time_us)))
    }
}

impl Lake {
    /// Takes a ref away by a tombstone entry; its log stays, and its commits as long as anything names them. With
    /// `expect` only if it still names that commit. One that is gone already is fine: none is given then.
    ///
    /// # Errors
    /// [`PublishError::Conflict`] when it names another commit than expected; [`LakeError::Protected`]; when the store fails.
    pub async fn drop_ref(
        &self,
        name: &RefName,
        expect: Option<&CommitId>,
        author: &str,
        time_us: i64,
        reason: &str,
    ) -> Result<Option<Head>, PublishError> {
        let over = self.may_move(name).await.map_err(PublishError::Failed)?;
        let update = RefUpdate {
            commit: None,
            op: RefOp::Delete,
            writer: author.to_owned(),
            write_id: Uuid::new_v4(),
            time_us,
            reason: overridden(reason, over.as_ref()),
        };
        loop {
            let head = self.head(name).await.map_err(PublishError::Failed)?;
            let Some(head) = head.filter(|head| head.commit.is_some()) else { return Ok(None) };
            if expect.is_some_and(|expect| head.commit.as_ref() != Some(expect)) {
                return Err(PublishError::Conflict(Box::new(head)));
            }
            match self.refs().publish(name, Some(&head), &update).await {
                Ok(head) => return Ok(Some(head)),
                // It moved meanwhile; look again.
                Err(PublishError::Conflict(_)) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Refs below `folder/`, as [`RefStore::list`](crate::RefStore::list) gives them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn refs_below(&self, folder: &str) -> Result<Vec<(RefName, Head)>, LakeError> {
        let below = format!("{folder}/");
        let names = self.store().folders_in(heads_folder()).await?;
        let names = names.iter().filter_map(|key| RefName::from_key(key).ok());
        // Only the heads of these are read: of other refs there may be thousands.
        let heads: Vec<BoxFuture<'_, Result<_, LakeError>>> = names
            .filter(|name| name.as_str().starts_with(&below))
            .map(|name| async move { Ok((self.head(&name).await?, name)) }.boxed())
            .collect();
        let found: Vec<(Option<Head>, RefName)> =
            futures::stream::iter(heads).buffered(READS_MAX).try_collect().await?;
        let live =
            |(head, name): (Option<Head>, RefName)| Some((name, head.filter(|head| head.commit.is_some())?));
        let mut refs: Vec<(RefName, Head)> = found.into_iter().filter_map(live).collect();
        refs.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(refs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulids_are_ref_names_in_order_of_time() {
        let names: Vec<RefName> = (0..5)
            .map(|n| RefName::unique_below("wap", 1_795_435_200_000_000 + n * 1_000).unwrap())
            .collect();
        assert!(names.is_sorted() && names.iter().all(|name| name.as_str().len() == 4 + 26));
        // The specification's own example of a time: 1469918176385 ms is 01ARYZ6S41.
        assert!(ulid(1_469_918_176_385_000).starts_with("01aryz6s41"));
        assert_ne!(ulid(0), ulid(0));
    }
}
