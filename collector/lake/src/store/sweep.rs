//! Listing, ageing and deleting: what only the garbage collector does to a store that is otherwise write-once.

use std::path::PathBuf;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};

use super::{LakeStore, parse};
use crate::error::LakeError;

/// Folders listed at once: a lake has some dozen tables, and stores answer so many listings without a word.
const LISTS_MAX: usize = 16;

/// One object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its key below the root.
    pub(crate) key: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// When the store took it, by the store's own clock, UTC µs.
    pub(crate) stored_us: i64,
}

impl From<ObjectMeta> for Listed {
    fn from(meta: ObjectMeta) -> Listed {
        Listed {
            key: meta.location.to_string(),
            size: meta.size,
            stored_us: meta.last_modified.timestamp_micros(),
        }
    }
}

impl LakeStore {
    /// Every object below a folder key, however deep, in no order, read page by page.
    pub(crate) fn list(&self, folder: &str) -> BoxStream<'static, Result<Listed, LakeError>> {
        let fail = {
            let folder = folder.to_owned();
            move |e| LakeError::store("list", &folder, e)
        };
        match parse(folder) {
            Ok(prefix) => self.inner.objects.list(Some(&prefix)).map_ok(Listed::from).map_err(fail).boxed(),
            Err(e) => futures::future::ready(Err(fail(e))).into_stream().boxed(),
        }
    }

    /// As [`LakeStore::list`], with the folders `levels` below listed at the same time, some at once.
    pub(crate) async fn list_apart(
        &self,
        folder: &str,
        levels: u32,
    ) -> Result<BoxStream<'static, Result<Listed, LakeError>>, LakeError> {
        let mut folders = vec![folder.to_owned()];
        let mut between: Vec<Result<Listed, LakeError>> = Vec::new();
        for _ in 0..levels {
            let lists: Vec<BoxFuture<'_, _>> =
                folders.iter().map(|folder| self.level(folder).boxed()).collect();
            let mut lists = futures::stream::iter(lists).buffer_unordered(LISTS_MAX);
            let mut below = Vec::new();
            while let Some((objects, folders)) = lists.try_next().await? {
                between.extend(objects.into_iter().map(Ok));
                below.extend(folders);
            }
            drop(lists);
            folders = below;
        }
        let lists: Vec<_> = folders.iter().map(|folder| self.list(folder)).collect();
        let below = futures::stream::iter(lists).flatten_unordered(LISTS_MAX);
        Ok(futures::stream::iter(between).chain(below).boxed())
    }

    /// Objects and folders directly below a folder key.
    async fn level(&self, folder: &str) -> Result<(Vec<Listed>, Vec<String>), LakeError> {
        let fail = |e| LakeError::store("list", folder, e);
        let path = parse(folder).map_err(fail)?;
        let listed = self.inner.objects.list_with_delimiter(Some(&path)).await.map_err(fail)?;
        let folders = listed.common_prefixes.iter().map(ToString::to_string).collect();
        Ok((listed.objects.into_iter().map(Listed::from).collect(), folders))
    }

    /// One object's size and age; none if it is not there.
    pub(crate) async fn stat(&self, key: &str) -> Result<Option<Listed>, LakeError> {
        let fail = |e| LakeError::store("look at", key, e);
        match self.inner.objects.head(&parse(key).map_err(fail)?).await {
            Ok(meta) => Ok(Some(meta.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(fail(e)),
        }
    }

    /// Deletes objects, in batches where the store can. One that is gone already is as good as deleted.
    pub(crate) async fn delete_all(&self, keys: &[String]) -> Result<(), LakeError> {
        let paths: Vec<_> = keys.iter().map(|key| parse(key)).collect();
        let mut deleted = self.inner.objects.delete_stream(futures::stream::iter(paths).boxed());
        while let Some(answer) = deleted.next().await {
            match answer {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(LakeError::store("delete", keys.first().map_or("", String::as_str), e)),
            }
        }
        Ok(())
    }

    /// Writes the same bytes over a content-addressed object, which makes it young again: the collector takes nothing
    /// young. The one overwrite there is.
    pub(crate) async fn renew(&self, key: &str, bytes: Bytes) -> Result<(), LakeError> {
        let fail = |e| LakeError::store("write", key, e);
        let put = self.inner.objects.put(&parse(key).map_err(fail)?, PutPayload::from(bytes)).await;
        put.map(|_| ()).map_err(fail)
    }

    /// The folder on this machine, if the lake is in one.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        self.location().strip_prefix("file://").map(PathBuf::from)
    }
}
