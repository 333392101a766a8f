//! The spool as the shipper needs it, so that tests can put a model in its place.

use crate::spool::SpoolHandle;
use headwater_core::id::{Epoch, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, SlabTime, SpoolError, SpoolLane, SpooledSlab, StreamState};
use std::future::Future;
use tokio::sync::watch;

/// Durable slabs out, acked sets in.
pub trait ShipSpool: Clone + Send + Sync + 'static {
    /// The spool's life.
    fn epoch(&self) -> Epoch;

    /// Durable, unreleased slabs of a lane from `after` on, oldest first, about `limit_bytes` of them.
    ///
    /// # Errors
    /// [`SpoolError`]; reading again later is safe.
    fn read(
        &self,
        lane: SpoolLane,
        after: Cursor,
        limit_bytes: usize,
    ) -> impl Future<Output = Result<Vec<SpooledSlab>, SpoolError>> + Send;

    /// Where reading a lane is to start to find what is not older than `since`.
    ///
    /// # Errors
    /// [`SpoolError`]; asking again later is safe.
    fn seek(
        &self,
        lane: SpoolLane,
        since: SlabTime,
    ) -> impl Future<Output = Result<Cursor, SpoolError>> + Send;

    /// The start of about `bytes` of segments before `before`; `Cursor::default()` once there are no more.
    ///
    /// # Errors
    /// [`SpoolError`] if the spool is gone.
    fn stretch_before(
        &self,
        lane: SpoolLane,
        before: Cursor,
        bytes: u64,
    ) -> impl Future<Output = Result<Cursor, SpoolError>> + Send;

    /// Bytes of segments between two places.
    ///
    /// # Errors
    /// [`SpoolError`] if the spool is gone.
    fn bytes_between(
        &self,
        lane: SpoolLane,
        from: Cursor,
        until: Cursor,
    ) -> impl Future<Output = Result<u64, SpoolError>> + Send;

    /// Keeps a fact about the device over restarts, until the index is lost.
    ///
    /// # Errors
    /// [`SpoolError`] if the spool is gone.
    fn note(&self, key: &'static str, value: Vec<u8>) -> impl Future<Output = Result<(), SpoolError>> + Send;

    /// What was noted under `key`.
    ///
    /// # Errors
    /// [`SpoolError`] if the spool is gone.
    fn noted(&self, key: &'static str) -> impl Future<Output = Result<Option<Vec<u8>>, SpoolError>> + Send;

    /// Frees what the collector has. Idempotent.
    ///
    /// # Errors
    /// [`SpoolError::BeyondNext`] frees nothing of that stream.
    fn trim(
        &self,
        acked: Vec<(StreamId, IntervalSet)>,
    ) -> impl Future<Output = Result<(), SpoolError>> + Send;

    /// Every stream.
    ///
    /// # Errors
    /// [`SpoolError`] if the spool is gone.
    fn streams(&self) -> impl Future<Output = Result<Vec<StreamState>, SpoolError>> + Send;

    /// Grows with each sync that made slabs durable.
    fn synced(&self) -> watch::Receiver<u64>;
}

impl ShipSpool for SpoolHandle {
    fn epoch(&self) -> Epoch {
        SpoolHandle::epoch(self)
    }

    async fn read(
        &self,
        lane: SpoolLane,
        after: Cursor,
        limit_bytes: usize,
    ) -> Result<Vec<SpooledSlab>, SpoolError> {
        SpoolHandle::read(self, lane, after, limit_bytes).await
    }

    async fn seek(&self, lane: SpoolLane, since: SlabTime) -> Result<Cursor, SpoolError> {
        SpoolHandle::seek(self, lane, since).await
    }

    async fn stretch_before(
        &self,
        lane: SpoolLane,
        before: Cursor,
        bytes: u64,
    ) -> Result<Cursor, SpoolError> {
        SpoolHandle::stretch_before(self, lane, before, bytes).await
    }

    async fn bytes_between(&self, lane: SpoolLane, from: Cursor, until: Cursor) -> Result<u64, SpoolError> {
        SpoolHandle::bytes_between(self, lane, from, until).await
    }

    async fn note(&self, key: &'static str, value: Vec<u8>) -> Result<(), SpoolError> {
        SpoolHandle::note(self, key, value).await
    }

    async fn noted(&self, key: &'static str) -> Result<Option<Vec<u8>>, SpoolError> {
        SpoolHandle::noted(self, key).await
    }

    async fn trim(&self, acked: Vec<(StreamId, IntervalSet)>) -> Result<(), SpoolError> {
        SpoolHandle::trim(self, acked).await
    }

    async fn streams(&self) -> Result<Vec<StreamState>, SpoolError> {
        SpoolHandle::streams(self).await
    }

    fn synced(&self) -> watch::Receiver<u64> {
        SpoolHandle::synced(self)
    }
}
