//! sled with the payload in it: `flush`, then `fdatasync`, since its flush alone is not durable.

use super::{Pieces, RIVAL_CACHE_BYTES, Store};
use anyhow::Result;
use std::fs::File;
use std::path::Path;

#[derive(Debug)]
pub(super) struct Sled {
    db: sled::Db,
    file: File,
    pieces: Pieces,
}

impl Sled {
    pub(super) fn open(dir: &Path, pieces: Pieces) -> Result<Self> {
        let path = dir.join("queue.sled");
        let db = sled::Config::new()
            .path(&path)
            .cache_capacity(RIVAL_CACHE_BYTES as u64)
            .flush_every_ms(None)
            .open()?;
        let file = File::options().read(true).write(true).open(path.join("db"))?;
        Ok(Self { db, file, pieces })
    }
}

impl Store for Sled {
    fn append(&mut self) -> Result<()> {
        for (key, value) in self.pieces.append() {
            self.db.insert(key.to_be_bytes(), value)?;
        }
        Ok(())
    }

    fn read_next(&mut self) -> Result<Option<u64>> {
        let mut bytes = 0;
        for key in self.pieces.read() {
            match self.db.get(key.to_be_bytes())? {
                Some(value) => bytes += value.len() as u64,
                None => return Ok(None),
            }
        }
        Ok(Some(bytes))
    }

    fn delete_oldest(&mut self) -> Result<()> {
        for key in self.pieces.delete() {
            self.db.remove(key.to_be_bytes())?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.db.flush()?;
        Ok(self.file.sync_data()?)
    }
}
