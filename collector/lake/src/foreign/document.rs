//! Table metadata as clients get it: the very bytes of the metadata file, proven to be metadata once.

use bytes::Bytes;
use iceberg::spec::TableMetadata;

use super::create;
use super::request::TableCreate;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::repo::TableEntry;

/// A table's metadata file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDocument {
    /// Where it lies; none for a table that is only staged.
    pub location: Option<String>,
    /// Its JSON.
    pub json: Bytes,
}

impl Lake {
    /// Reads the metadata file an entry names. Such a file never changes, so the answer may be kept by its location.
    ///
    /// # Errors
    /// [`LakeError::Corrupt`] when it is gone or no metadata of a table; when the store fails.
    pub async fn table_document(&self, entry: &TableEntry) -> Result<TableDocument, LakeError> {
        let location = entry.metadata_location.clone();
        let key = self.store().key_of(&location)?;
        let json = self.store().read(&key).await?;
        let json = json.ok_or_else(|| LakeError::corrupt(&key, "the metadata file is gone"))?;
        let metadata: TableMetadata =
            serde_json::from_slice(&json).map_err(|e| LakeError::corrupt(&key, e))?;
        if metadata.uuid() != entry.uuid {
            return Err(LakeError::corrupt(&key, "it is another table's metadata"));
        }
        Ok(TableDocument { location: Some(location), json })
    }

    /// The metadata a table would begin with. Nothing names it: its client commits it together with its first rows.
    ///
    /// # Errors
    /// As [`LakeWriter::apply`](crate::LakeWriter::apply) for a table to be made; when the store fails.
    pub async fn stage_table(&self, create: &TableCreate) -> Result<TableDocument, LakeError> {
        let metadata = create::metadata(self.location(), create)?;
        let json = serde_json::to_vec(&metadata).map_err(|e| LakeError::corrupt(&create.table, e))?;
        let json = Bytes::from(json);
        // Object stores have no folders; on a disk clients expect that of the metadata to be there.
        if self.location().starts_with("file://") {
            let key = self.store().key_of(metadata.location())?;
            self.store().create(&format!("{key}/metadata/staged.json"), json.clone()).await?;
        }
        Ok(TableDocument { location: None, json })
    }
}
