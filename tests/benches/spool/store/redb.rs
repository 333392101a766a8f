//! redb, durable at every commit.

use super::{Pieces, RIVAL_CACHE_BYTES, Store};
use anyhow::Result;
use redb::{Database, Durability, ReadableTable as _, TableDefinition, WriteTransaction};
use std::path::Path;

const QUEUE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("queue");

pub(super) struct Redb {
    // Before the database, which must outlive it.
    group: Option<WriteTransaction>,
    db: Database,
    pieces: Pieces,
}

impl Redb {
    pub(super) fn open(dir: &Path, pieces: Pieces) -> Result<Self> {
        let db = Database::builder().set_cache_size(RIVAL_CACHE_BYTES).create(dir.join("queue.redb"))?;
        Ok(Self { group: None, db, pieces })
    }

    fn begin(&mut self) -> Result<()> {
        if self.group.is_none() {
            let mut group = self.db.begin_write()?;
            group.set_durability(Durability::Immediate)?;
            self.group = Some(group);
        }
        Ok(())
    }
}

impl Store for Redb {
    fn append(&mut self) -> Result<()> {
        self.begin()?;
        let Some(group) = &self.group else { return Ok(()) };
        let mut queue = group.open_table(QUEUE)?;
        for (key, value) in self.pieces.append() {
            queue.insert(key, value)?;
        }
        Ok(())
    }

    fn read_next(&mut self) -> Result<Option<u64>> {
        self.begin()?;
        let Some(group) = &self.group else { return Ok(None) };
        let queue = group.open_table(QUEUE)?;
        let mut bytes = 0;
        for key in self.pieces.read() {
            match queue.get(key)? {
                Some(value) => bytes += value.value().len() as u64,
                None => return Ok(None),
            }
        }
        Ok(Some(bytes))
    }

    fn delete_oldest(&mut self) -> Result<()> {
        self.begin()?;
        let Some(group) = &self.group else { return Ok(()) };
        let mut queue = group.open_table(QUEUE)?;
        for key in self.pieces.delete() {
            queue.remove(key)?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        if let Some(group) = self.group.take() {
            group.commit()?;
        }
        Ok(())
    }
}
