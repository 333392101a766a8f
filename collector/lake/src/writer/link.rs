//! Linking: everything of an appending commit that depends on the base it lands on, built in memory and cheap to build
//! again.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::appends::Appends;
use super::base::Base;
use super::plan::{Draft, Drafting, Plan};
use super::{CommitRequest, TableAppend};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::repo::RefOp;

/// The plan of [`LakeWriter::commit`](super::LakeWriter::commit): rows on top of whatever is there.
#[derive(Debug)]
pub(super) struct Appending<'a> {
    request: &'a CommitRequest,
    appends: Appends,
}

impl<'a> Appending<'a> {
    /// Of a request whose rows stand apart from the rest of it.
    pub(super) fn new(
        request: &'a CommitRequest,
        appends: Vec<TableAppend>,
    ) -> Result<Appending<'a>, LakeError> {
        Ok(Appending { request, appends: Appends::new(appends, &request.anew)? })
    }
}

#[async_trait]
impl Plan for Appending<'_> {
    fn time_us(&self) -> i64 {
        self.request.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        let request = self.request;
        if let Some(known) = &request.known {
            let aligned = !request.coverage.is_empty();
            super::known::check(lake, base.commit.as_ref(), known, aligned).await?;
        }
        self.appends.prepare(lake, base).await?;
        let mut drafting = Drafting::on(lake, author, base, request.kind, request.time_us);
        let (rows, bytes) = self.appends.link(lake, base, &mut drafting, &BTreeMap::new()).await?;
        for name in request.anew.iter().filter(|name| !self.appends.has_rows_for(name)) {
            drafting.point(name, None);
        }
        drafting.describe(request, rows, bytes);
        drafting.seal(lake, RefOp::Commit).map(Some)
    }

    fn stored(&mut self) {
        self.appends.written();
    }
}
