//! Writing one object: a single create-only request while it is small, parts beyond that.
//!
//! Stores have no create-only form of a completed multipart upload that all of them share. So a large object is looked
//! for first; its name carries a uuid or its hash, which leaves nothing for a race to spoil.

use bytes::{Bytes, BytesMut};
use object_store::{
    Error, MultipartUpload, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, Result,
    WriteMultipart,
};

use super::{Inner, parse};

/// Largest object sent by one request: a lost connection costs that much again, and more are seldom in flight at once.
pub(crate) const SINGLE_PUT_BYTES_MAX: usize = 32 << 20;

/// Bytes of one part. S3 wants at least 5 MiB; what is in flight stays in memory.
pub(crate) const PART_BYTES: usize = 8 << 20;

/// Parts of one object in flight at once: they hide the latency, and memory stays below 32 MiB a writer.
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// Most parts of an object, S3's own bound: 78 GiB of ours.
const PARTS_MAX: usize = 10_000;

/// Writes `bytes` under `key` unless something is there. A disk has no part uploads worth the name, and takes any size
/// at once.
pub(super) async fn create(inner: &Inner, key: &str, bytes: Bytes) -> Result<()> {
    if bytes.len() <= SINGLE_PUT_BYTES_MAX || inner.root.is_some() {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        return inner.objects.put_opts(&parse(key)?, PutPayload::from(bytes), options).await.map(|_| ());
    }
    let mut parts = Parts::begin(inner, key).await?;
    parts.push(bytes).await?;
    parts.finish().await
}

/// An object on its way in parts: there as a whole once it is finished, and gone if it never is.
#[derive(Debug)]
struct Parts {
    key: String,
    bytes: usize,
    /// None once it was finished or given up.
    live: Option<WriteMultipart>,
}

impl Parts {
    async fn begin(inner: &Inner, key: &str) -> Result<Parts> {
        let path = parse(key)?;
        match inner.objects.head(&path).await {
            Ok(_) => {
                let source = "it was there before the first part".into();
                return Err(Error::AlreadyExists { path: key.to_owned(), source });
            }
            Err(Error::NotFound { .. }) => {}
            Err(e) => return Err(e),
        }
        let upload: Box<dyn MultipartUpload> =
            inner.objects.put_multipart_opts(&path, PutMultipartOptions::default()).await?;
        let live = Some(WriteMultipart::new_with_chunk_size(upload, PART_BYTES));
        Ok(Parts { key: key.to_owned(), bytes: 0, live })
    }

    async fn push(&mut self, mut bytes: Bytes) -> Result<()> {
        let Some(live) = &mut self.live else { return Err(given_up(&self.key)) };
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > PARTS_MAX * PART_BYTES {
            let reason = format!("{} grows beyond {PARTS_MAX} parts of {PART_BYTES} bytes", self.key);
            return self.give_up(Error::Generic { store: "lake", source: reason.into() }).await;
        }
        while !bytes.is_empty() {
            if let Err(e) = live.wait_for_capacity(PARTS_IN_FLIGHT_MAX).await {
                return self.give_up(e).await;
            }
            live.put(bytes.split_to(bytes.len().min(PART_BYTES)));
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<()> {
        // It aborts by itself when a part or the end of it fails.
        match self.live.take() {
            Some(live) => live.finish().await.map(|_| ()),
            None => Err(given_up(&self.key)),
        }
    }

    async fn give_up(&mut self, cause: Error) -> Result<()> {
        if let Some(live) = self.live.take() {
            abort(&self.key, live).await;
        }
        Err(cause)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        let key = std::mem::take(&mut self.key);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { abort(&key, live).await })),
            Err(_) => tracing::warn!(key, "an unfinished upload is left to the store's own clean-up"),
        }
    }
}

async fn abort(key: &str, live: WriteMultipart) {
    if let Err(error) = live.abort().await {
        tracing::warn!(key, %error, "an unfinished upload is left to the store's own clean-up");
    }
}

fn given_up(key: &str) -> Error {
    Error::Generic { store: "lake", source: format!("the upload of {key} was given up before").into() }
}

/// An object that grows while it is written: kept in memory while one request can carry it, then sent in parts.
#[derive(Debug)]
pub(super) struct Growing {
    key: String,
    held: BytesMut,
    parts: Option<Parts>,
}

impl Growing {
    pub(super) fn new(key: String) -> Growing {
        Growing { key, held: BytesMut::new(), parts: None }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) async fn push(&mut self, inner: &Inner, bytes: Bytes) -> Result<()> {
        if let Some(parts) = &mut self.parts {
            return parts.push(bytes).await;
        }
        self.held.extend_from_slice(&bytes);
        if self.held.len() > SINGLE_PUT_BYTES_MAX {
            let mut parts = Parts::begin(inner, &self.key).await?;
            parts.push(std::mem::take(&mut self.held).freeze()).await?;
            self.parts = Some(parts);
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self, inner: &Inner) -> Result<()> {
        match self.parts.take() {
            Some(parts) => parts.finish().await,
            None => create(inner, &self.key, std::mem::take(&mut self.held).freeze()).await,
        }
    }
}
