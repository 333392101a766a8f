//! The plan of a correcting commit: files with corrected rows take the place of theirs, and what is told of it goes along,
//! in one commit.

use std::collections::BTreeMap;

use async_trait::async_trait;
use iceberg::spec::Operation;

use super::CommitRequest;
use super::appends::{Appends, Removal};
use super::base::Base;
use super::plan::{Draft, Drafting, Plan};
use crate::compact::{FileIndex, Overtaken, Replacement, check, link};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::repo::RefOp;
use crate::table::TableError;

/// Rewritten tables and the rows that go with them.
#[derive(Debug)]
pub(crate) struct Rewriting<'a> {
    request: &'a CommitRequest,
    appends: Appends,
    tables: BTreeMap<TableName, Replacement>,
    index: FileIndex,
}

impl<'a> Rewriting<'a> {
    pub(crate) fn new(
        request: &'a CommitRequest,
        tables: BTreeMap<TableName, Replacement>,
        index: FileIndex,
        removes: bool,
    ) -> Result<Rewriting<'a>, LakeError> {
        let both = request.appends.iter().find(|append| tables.contains_key(&append.spec.name));
        if let Some(both) = both.filter(|_| !removes) {
            let reason = "the same commit brings rows for it; they go into a commit of their own".to_owned();
            return Err(TableError::Rewrite { table: both.spec.name.clone(), reason }.into());
        }
        Ok(Rewriting {
            request,
            appends: Appends::new(request.appends.clone(), &request.anew)?,
            tables,
            index,
        })
    }
}

#[async_trait]
impl Plan for Rewriting<'_> {
    fn time_us(&self) -> i64 {
        self.request.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        self.appends.prepare(lake, base).await?;
        let mut drafting = Drafting::on(lake, author, base, self.request.kind, self.request.time_us);
        base.need_all(lake, self.tables.keys()).await?;
        let mut removals = BTreeMap::new();
        for (name, one) in &self.tables {
            let fits = check(lake, base, &mut self.index, name, std::slice::from_ref(one)).await?;
            if let Some(why) = fits.into_iter().find_map(Result::err) {
                return Err(overtaken(name, why));
            }
            if self.appends.has_rows_for(name) {
                removals.insert(name.clone(), removed(lake, base, &mut self.index, name, one).await?);
            }
        }
        let (rows, mut bytes) = self.appends.link(lake, base, &mut drafting, &removals).await?;
        for (name, one) in self.tables.iter().filter(|(name, _)| !removals.contains_key(*name)) {
            bytes +=
                link(lake, base, &mut self.index, &mut drafting, name, &[one], Operation::Overwrite).await?;
        }
        drafting.describe(self.request, rows, bytes);
        drafting.seal(lake, RefOp::Commit).map(Some)
    }

    fn stored(&mut self) {
        self.appends.written();
    }
}

/// What a replacement takes from a table that gets rows in the same commit, and what it puts in.
async fn removed(
    lake: &Lake,
    base: &Base,
    index: &mut FileIndex,
    name: &TableName,
    one: &Replacement,
) -> Result<Removal, LakeError> {
    let Some(state) = base.tables.get(name) else {
        return Err(LakeError::corrupt(name, "it is gone between a check and its use"));
    };
    let files = index.of(lake.store(), name, state).await?;
    let mut removed = one.inputs.clone();
    // Deletes that nothing needs any more go with the files they were about.
    removed.extend(files.deletes_done(&removed));
    Ok(Removal { removed, added: one.added.clone() })
}

fn overtaken(table: &TableName, why: Overtaken) -> LakeError {
    TableError::Overtaken { table: table.clone(), why }.into()
}
