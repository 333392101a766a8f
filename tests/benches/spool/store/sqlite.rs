//! SQLite in WAL mode, synced at every commit.

use super::{Pieces, RIVAL_CACHE_BYTES, Store};
use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::Path;

#[derive(Debug)]
pub(super) struct Sqlite {
    db: Connection,
    in_group: bool,
    pieces: Pieces,
}

impl Sqlite {
    pub(super) fn open(dir: &Path, pieces: Pieces) -> Result<Self> {
        let db = Connection::open(dir.join("queue.sqlite"))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        let cache_kib = i64::try_from(RIVAL_CACHE_BYTES / 1_024)?;
        db.pragma_update(None, "cache_size", -cache_kib)?;
        db.execute_batch("CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)")?;
        Ok(Self { db, in_group: false, pieces })
    }

    fn begin(&mut self) -> Result<()> {
        if !self.in_group {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
            self.in_group = true;
        }
        Ok(())
    }
}

impl Store for Sqlite {
    fn append(&mut self) -> Result<()> {
        self.begin()?;
        let mut insert = self.db.prepare_cached("INSERT INTO queue (id, payload) VALUES (?1, ?2)")?;
        for (key, value) in self.pieces.append() {
            insert.execute(params![i64::try_from(key)?, value])?;
        }
        Ok(())
    }

    fn read_next(&mut self) -> Result<Option<u64>> {
        let mut select = self.db.prepare_cached("SELECT payload FROM queue WHERE id = ?1")?;
        let mut bytes = 0;
        for key in self.pieces.read() {
            let found = select.query_row([i64::try_from(key)?], |row| Ok(row.get_ref(0)?.as_blob()?.len()));
            match found.optional().context("failed to read a row")? {
                Some(len) => bytes += len as u64,
                None => return Ok(None),
            }
        }
        Ok(Some(bytes))
    }

    fn delete_oldest(&mut self) -> Result<()> {
        self.begin()?;
        let keys = self.pieces.delete();
        let mut delete = self.db.prepare_cached("DELETE FROM queue WHERE id >= ?1 AND id < ?2")?;
        delete.execute([i64::try_from(keys.start)?, i64::try_from(keys.end)?])?;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        if std::mem::take(&mut self.in_group) {
            self.db.execute_batch("COMMIT")?;
        }
        Ok(())
    }
}
