//! The plan of a correcting commit: files with corrected rows take the place of theirs, and what is told of it goes along,
//! in one commit.

use std::collections::BTreeMap;

use async_trait::async_trait;
use iceberg::spec::Operation;

use super::CommitRequest;
use super::appends::Appends;
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
    appends: Appends<'a>,
    tables: BTreeMap<TableName, Replacement>,
    index: FileIndex,
}

impl<'a> Rewriting<'a> {
    pub(crate) fn new(
        request: &'a CommitRequest,
        tables: BTreeMap<TableName, Replacement>,
        index: FileIndex,
    ) -> Result<Rewriting<'a>, LakeError> {
        if let Some(both) = request.appends.iter().find(|append| tables.contains_key(&append.spec.name)) {
            let reason = "the same commit brings rows for it; they go into a commit of their own".to_owned();
            return Err(TableError::Rewrite { table: both.spec.name.clone(), reason }.into());
        }
        Ok(Rewriting { request, appends: Appends::new(&request.appends)?, tables, index })
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
        let (rows, mut bytes) = self.appends.link(lake, base, &mut drafting).await?;
        base.need_all(lake, self.tables.keys()).await?;
        for (name, one) in &self.tables {
            let fits = check(lake, base, &mut self.index, name, std::slice::from_ref(one)).await?;
            if let Some(why) = fits.into_iter().find_map(Result::err) {
                return Err(overtaken(name, why));
            }
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

fn overtaken(table: &TableName, why: Overtaken) -> LakeError {
    TableError::Overtaken { table: table.clone(), why }.into()
}
