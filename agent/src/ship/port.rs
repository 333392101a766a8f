//! The spool as the shipper needs it, so that tests can put a model in its place.

use crate::spool::SpoolHandle;
use headwater_core::id::{Epoch, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, SpoolError, SpoolLane, SpooledSlab, StreamState};
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
