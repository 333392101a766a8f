//! A gateway's card: an index in memory that outlives the spool, and the real spool as the shipper sees it.

use super::director::Incident;
use super::oracle::Oracle;
use headwater_agent::ship::ShipSpool;
use headwater_agent::spool::DiskSpool;
use headwater_agent::spool::index::{Entry, IndexError, SpoolIndex, Tree};
use headwater_core::id::{DevicePath, Epoch, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, SlabTime, Spool, SpoolError, SpoolLane, SpooledSlab, StreamState};
use headwater_sim::disk::SimDisk;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

type Entries = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

/// An index in memory that outlives the spool.
#[derive(Debug, Clone, Default)]
pub(super) struct MemIndex(Arc<Mutex<Entries>>);

impl SpoolIndex for MemIndex {
    fn load(&mut self) -> Result<Vec<Entry>, IndexError> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(entries.iter().map(|((tree, key), value)| (*tree, key.clone(), value.clone())).collect())
    }
    fn put(&mut self, tree: Tree, key: &[u8], value: Option<&[u8]>) -> Result<(), IndexError> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match value {
            Some(value) => entries.insert((tree, key.to_vec()), value.to_vec()),
            None => entries.remove(&(tree, key.to_vec())),
        };
        Ok(())
    }
    fn flush(&mut self) -> Result<(), IndexError> {
        Ok(())
    }
}

/// The real spool in the hands of the shipper, without its thread.
#[derive(Clone)]
pub(super) struct WorldSpool {
    pub(super) spool: Arc<Mutex<DiskSpool<SimDisk>>>,
    pub(super) synced: watch::Sender<u64>,
    pub(super) epoch: Epoch,
    pub(super) gateway: usize,
    pub(super) path: DevicePath,
    pub(super) durable: bool,
    pub(super) oracle: Oracle,
    pub(super) disk: SimDisk,
    pub(super) incidents: mpsc::Sender<Incident>,
}

impl WorldSpool {
    pub(super) fn lock(&self) -> MutexGuard<'_, DiskSpool<SimDisk>> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Trims, under the eyes of the oracle.
    pub(super) fn let_go(&self, id: StreamId, set: &IntervalSet) -> Result<(), SpoolError> {
        let mut oracle = self.oracle.lock();
        if let Some(key) = oracle.name_of(&self.path.device, self.epoch, id) {
            oracle.lets_go(&key, id, set, self.durable);
        }
        drop(oracle);
        self.lock().trim(id, set)
    }

    /// Tells the director if this failed because the power is off.
    pub(super) fn noticed<T>(&self, outcome: Result<T, SpoolError>) -> Result<T, SpoolError> {
        if outcome.is_err() && self.disk.power_is_off() {
            Incident::GatewayOff(self.gateway).tell(&self.incidents);
        }
        outcome
    }
}

impl ShipSpool for WorldSpool {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn read(
        &self,
        lane: SpoolLane,
        after: Cursor,
        limit_bytes: usize,
    ) -> Result<Vec<SpooledSlab>, SpoolError> {
        self.noticed(self.lock().read(lane, after, limit_bytes))
    }

    async fn seek(&self, lane: SpoolLane, since: SlabTime) -> Result<Cursor, SpoolError> {
        self.noticed(self.lock().seek(lane, since))
    }

    async fn stretch_before(
        &self,
        lane: SpoolLane,
        before: Cursor,
        bytes: u64,
    ) -> Result<Cursor, SpoolError> {
        Ok(self.lock().stretch_before(lane, before, bytes))
    }

    async fn bytes_between(&self, lane: SpoolLane, from: Cursor, until: Cursor) -> Result<u64, SpoolError> {
        Ok(self.lock().bytes_between(lane, from, until))
    }

    async fn note(&self, key: &'static str, value: Vec<u8>) -> Result<(), SpoolError> {
        self.lock().note(key, value);
        Ok(())
    }

    async fn noted(&self, key: &'static str) -> Result<Option<Vec<u8>>, SpoolError> {
        Ok(self.lock().noted(key))
    }

    async fn trim(&self, acked: Vec<(StreamId, IntervalSet)>) -> Result<(), SpoolError> {
        let mut outcome = Ok(());
        for (id, set) in acked {
            outcome = outcome.and(self.let_go(id, &set));
        }
        self.noticed(outcome)
    }

    async fn streams(&self) -> Result<Vec<StreamState>, SpoolError> {
        Ok(self.lock().streams())
    }

    fn synced(&self) -> watch::Receiver<u64> {
        self.synced.subscribe()
    }
}
