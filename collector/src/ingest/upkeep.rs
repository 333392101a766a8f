//! Ingest's turn at compaction and corrections: begins them when they are due, and publishes what they made while there is
//! room before the next commit of rows.

use super::compacting::Made;
use super::correcting::{Corrected, Correction};
use super::task::{IngestError, Task};
use headwater_core::ports::Clock;
use headwater_core::time::NS_PER_S;
use headwater_lake::{CommitId, CommitKind, CommitRequest, LakeError, Lineage, PreparedRewrite, Software};

const NS_PER_DAY: i64 = 86_400 * NS_PER_S;

impl<C: Clock> Task<C> {
    /// Publishes what is made, and begins what is due.
    pub(super) async fn upkeep(&mut self) -> Result<(), IngestError> {
        self.compacting.look();
        if self.compacting.has_made() && self.has_room() {
            let outcome = match self.compacting.take() {
                None | Some(Ok(Made::Nothing)) => {
                    self.compacting.nothing();
                    Ok(())
                }
                Some(Ok(Made::Merged(prepared))) => {
                    let now_us = self.clock.read().real.micros();
                    match self.committer.compact(prepared, now_us).await {
                        Ok(done) => {
                            if let Some(committed) = &done.committed {
                                self.advance(committed.id.clone()).await;
                            }
                            self.compacting.compacted(&done);
                            Ok(())
                        }
                        Err(error) => Err(error),
                    }
                }
                Some(Ok(Made::Corrected(prepared, corrected))) => self.correct(prepared, &corrected).await?,
                Some(Err(error)) => Err(error),
            };
            if let Err(error) = outcome {
                self.compacting.failed(&error, self.clock.boot());
            }
        }
        let now = self.clock.boot();
        if self.head.is_some() && self.compacting.is_due(now) {
            let utc = self.clock.read().real;
            let correction =
                if self.compacting.may_correct(now) { self.correction(utc.micros()) } else { None };
            let branch = self.committer.branch().clone();
            self.compacting.begin(branch, utc.micros(), now, correction);
        }
        Ok(())
    }

    /// A commit of ours that brings no rows is there. It may stand on others' that did (D1): those are read first, and the
    /// head stays where it was until they are, so that no commit of rows passes them by.
    async fn advance(&mut self, head: CommitId) {
        let moved = async {
            match &self.head {
                Some(known) if self.committer.lake.is_overtaken(known, &head, false).await? => {
                    self.follow(head).await
                }
                _ => {
                    self.head = Some(head);
                    Ok(())
                }
            }
        };
        let moved: Result<(), LakeError> = moved.await;
        if let Err(error) = moved {
            tracing::debug!(%error, "whether others moved the branch cannot be seen yet");
        }
    }

    /// True while half the commit interval is left: publishing takes as long as a small commit, and rows shall not wait
    /// for it.
    fn has_room(&self) -> bool {
        let half_ms = self.folder.settings.interval_ms / 2;
        let now = self.clock.boot();
        self.deadline().is_none_or(|due| now.plus_ms(half_ms) <= due)
    }

    /// What is due for correction on days that are over.
    fn correction(&mut self, now_us: i64) -> Option<Correction> {
        let settings = &self.compacting.settings;
        let close_after_ns = settings.policy.close_after_us.saturating_mul(1_000);
        let is_over = |day: i64| {
            let end = day.saturating_add(1).saturating_mul(86_400 * NS_PER_S);
            now_us.saturating_mul(1_000) >= end.saturating_add(close_after_ns)
        };
        let keys = self.folder.timing.due_on(is_over);
        self.folder.timing.begin(&keys);
        let folder = &self.folder;
        (!keys.is_empty())
            .then(|| Correction::new(keys, &folder.tracks, &folder.registry, &folder.settings.tenant))
    }

    /// Publishes corrected rows in one commit with the ledger's and what is no longer due.
    async fn correct(
        &mut self,
        prepared: PreparedRewrite,
        corrected: &Corrected,
    ) -> Result<Result<(), LakeError>, IngestError> {
        let settings = &self.folder.settings;
        // Newer than anything said of these rows in the same instant: the newest row of a log is the state.
        let now = self.clock.read().real.plus_ns(1);
        let (rows, moved) = corrected.rows();
        let done = prepared.done;
        let clock_tracks = corrected.keys().iter().map(|key| {
            let whose = crate::resolve::Incoming { device: &key.0, epoch: key.1, boot: key.2 };
            (key.0.to_string(), corrected.tracks().track_id(whose).cast_unsigned())
        });
        let request = CommitRequest {
            kind: CommitKind::Resolve,
            message: format!("times of {rows} rows corrected, {moved} of them on another day"),
            time_us: now.micros(),
            appends: corrected.appends(settings, now, |key| self.folder.timing.left_of(key))?,
            lineage: Lineage {
                clock_tracks: clock_tracks.collect(),
                software: Software { collector: env!("CARGO_PKG_VERSION").to_owned(), agents: Vec::new() },
                config_hash: settings.config_hash.clone(),
                ..Lineage::default()
            },
            ..CommitRequest::default()
        };
        let committed = match self.committer.rewrite(prepared, &request).await {
            Ok(committed) => committed,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(committed) = &committed {
            self.advance(committed.id.clone()).await;
        }
        for (device, day) in corrected.days() {
            let from = day.saturating_mul(NS_PER_DAY);
            self.aligning.mark(&device, (from, from.saturating_add(NS_PER_DAY)));
        }
        let stale = corrected.realign_days();
        if stale > 0 {
            metrics::counter!("headwater_corrections_realign_days_total").increment(stale);
            tracing::warn!(
                days = stale,
                "aligned rows were made from rows whose times are corrected now; ops.corrections says which (reason realign)"
            );
        }
        let Self { folder, compacting, .. } = self;
        folder.timing.corrected(corrected.keys(), corrected.tracks(), &folder.settings, now);
        compacting.corrected(rows, (done.files_in, done.files_out), done.bytes_out);
        Ok(Ok(()))
    }
}
