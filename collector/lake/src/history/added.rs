//! Rows that came to a table between two commits.

use super::files::delta;
use super::side::state_in;
use crate::error::LakeError;
use crate::lake::{BatchStream, Lake, ScanOptions};
use crate::names::{CommitId, TableName};
use crate::scan;

impl Lake {
    /// Reads the rows of a table in `to` that lie in data files which the table has not in `from`: what came since, what was
    /// changed, and what was only put into other files; rows that were deleted are left out. As [`Lake::scan`] otherwise.
    ///
    /// # Errors
    /// As [`Lake::scan`].
    pub async fn scan_added(
        &self,
        from: &CommitId,
        to: &CommitId,
        table: &TableName,
        options: ScanOptions,
    ) -> Result<BatchStream, LakeError> {
        let (from, to) = (self.commit_object(from).await?, self.commit_object(to).await?);
        let unknown = || LakeError::UnknownTable { table: table.clone(), commit: to.id.clone() };
        let entry = to.tables.get(table).ok_or_else(unknown)?;
        let before = state_in(self, table, Some(&from)).await?;
        let after = state_in(self, table, Some(&to)).await?;
        let added = delta(self.store(), table, before.as_ref(), after.as_ref()).await?.added;
        scan::scan(self.store(), table, entry, options, Some(added.into_keys().collect())).await
    }
}
