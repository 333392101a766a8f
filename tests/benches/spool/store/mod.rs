//! One face for every store: a queue of pieces, durable in groups.

mod ours;
mod redb;
mod sled;
mod sqlite;

use super::task::{StoreKind, Task};
use super::workload::{Pool, Workload};
use anyhow::Result;

/// Memory each rival may use for its cache: what a gateway could spare. sled exceeds it.
const RIVAL_CACHE_BYTES: usize = 16 << 20;

/// A durable queue of pieces. Piece `n` is the n-th that was ever appended.
pub(super) trait Store {
    /// Adds the next piece to the present group.
    fn append(&mut self) -> Result<()>;

    /// Reads the next piece, from the oldest on; its payload bytes, or `None` at the end. Only what is
    /// committed is sure to be found.
    fn read_next(&mut self) -> Result<Option<u64>>;

    /// Deletes the oldest piece as part of the present group.
    fn delete_oldest(&mut self) -> Result<()>;

    /// Makes the present group durable.
    fn commit(&mut self) -> Result<()>;

    /// Segment files, where a store has such.
    fn segments(&self) -> Option<u64> {
        None
    }
}

/// Opens or makes the store of a task.
pub(super) fn open(task: &Task) -> Result<Box<dyn Store>> {
    let pieces = Pieces::new(task.workload);
    Ok(match task.store {
        StoreKind::Spool => Box::new(ours::Ours::open(&task.dir, pieces)?),
        StoreKind::Sqlite => Box::new(sqlite::Sqlite::open(&task.dir, pieces)?),
        StoreKind::Redb => Box::new(redb::Redb::open(&task.dir, pieces)?),
        StoreKind::Sled => Box::new(sled::Sled::open(&task.dir, pieces)?),
    })
}

/// Which pieces were appended, read and deleted.
#[derive(Debug)]
struct Pieces {
    workload: Workload,
    pool: Pool,
    appended: u64,
    read: u64,
    deleted: u64,
}

impl Pieces {
    fn new(workload: Workload) -> Self {
        Self { workload, pool: Pool::new(), appended: 0, read: 0, deleted: 0 }
    }

    /// Keys and values of the next piece.
    fn append(&mut self) -> impl Iterator<Item = (u64, &[u8])> {
        let n = self.appended;
        self.appended += 1;
        let values = self.pool.piece(self.workload, n).chunks(self.workload.value_bytes());
        self.workload.keys(n).zip(values)
    }

    fn delete(&mut self) -> std::ops::Range<u64> {
        self.deleted += 1;
        self.workload.keys(self.deleted - 1)
    }

    fn read(&mut self) -> std::ops::Range<u64> {
        self.read += 1;
        self.workload.keys(self.read - 1)
    }
}
