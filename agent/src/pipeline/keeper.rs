//! Looks after certificates while the agent ships: changed files are read again, ends announced, renewals fetched in time.
//!
//! Nothing here can hold capture back, and little can hold shipping back: what cannot be used is told, and what was in
//! use stays so.

use super::shipping::{Prepared, ShipTemplate, prepare};
use crate::config::{Identity, Settings};
use crate::enroll;
use crate::ship::mqtt::MqttUplink;
use crate::ship::{CertTime, Renewal};
use crate::trust::{BroughtLists, TrustFiles};
use headwater_core::ports::Clock;
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_core::wire::chain::{expiry_notice, not_before};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Between two looks at the files, ms.
const LOOK_MS: u64 = 5_000;
/// Least time between two tries to renew, ns: the service may be away for days, and there is a third of the validity left.
const RENEW_AGAIN_NS: i64 = 3_600 * NS_PER_S;
/// Between two tries to read files again that could not be used, ns, unless they change before.
const RELOAD_AGAIN_NS: i64 = 60 * NS_PER_S;
const DAY_NS: i64 = 86_400 * NS_PER_S;

/// How our certificates are, for the status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct IdentityStatus {
    /// The nearest end of ours.
    pub(super) ends: Option<UtcNanos>,
    /// Days to it.
    pub(super) days_left: Option<i64>,
    /// What is wrong with files or renewal, for a person.
    pub(super) problem: Option<String>,
}

/// What the keeper works with.
pub(super) struct Keeper<C> {
    pub(super) settings: Settings,
    pub(super) template: ShipTemplate,
    pub(super) identity: Identity,
    /// How the files were when they were read.
    pub(super) used: Stamps,
    pub(super) trust: TrustFiles,
    pub(super) time: CertTime,
    pub(super) clock: C,
    pub(super) tasks: TaskTracker,
    pub(super) renewals: mpsc::Sender<Renewal<MqttUplink<C>>>,
    pub(super) revoked: mpsc::Receiver<BroughtLists>,
    pub(super) floor: watch::Receiver<UtcNanos>,
    pub(super) status: watch::Sender<IdentityStatus>,
    pub(super) cancel: CancellationToken,
}

/// Length, time of change and number of each file: what tells that one changed.
pub(super) type Stamps = Vec<Option<(u64, i64, i64, u64)>>;

impl<C: Clock> Keeper<C> {
    /// Until cancelled.
    pub(super) async fn run(mut self) {
        let files = self.settings.identity.all();
        // As they were when they were read: a change since then is one.
        let (mut used, mut before) = (self.used.clone(), stamps(&files));
        let (mut told, mut renew_at, mut reload_at, mut problem) = (None, None, None, None);
        loop {
            let boot = self.clock.boot();
            let now = self.time.at(boot, self.clock.read().real);
            self.announce(now, &mut told, problem.clone());
            if self.is_renewal_due(now) && renew_at.is_none_or(|at| boot >= at) {
                renew_at = Some(boot.plus_ns(RENEW_AGAIN_NS));
                problem = self.fetch(now).await.err();
            }
            let again = self.clock.boot().plus_ms(LOOK_MS);
            tokio::select! {
                () = self.cancel.cancelled() => return,
                Some(lists) = self.revoked.recv() => self.keep_lists(&lists),
                Ok(()) = self.floor.changed() => {
                    let floor = *self.floor.borrow_and_update();
                    if let Err(error) = self.trust.raise_floor(floor) {
                        tracing::warn!(%error, "time floor cannot be kept");
                    }
                    continue;
                }
                () = self.clock.sleep_until(again) => {}
            }
            let seen = stamps(&files);
            let still = seen == before;
            before.clone_from(&seen);
            let boot = self.clock.boot();
            // A renewal writes several files: they are read once they keep still.
            if !still {
                reload_at = None;
            } else if seen != used && reload_at.is_none_or(|at| boot >= at) {
                problem = self.reload().await.err();
                if problem.is_none() {
                    used = seen;
                    (told, renew_at, reload_at) = (None, None, None);
                } else {
                    reload_at = Some(boot.plus_ns(RELOAD_AGAIN_NS));
                }
            }
        }
    }

    async fn reload(&mut self) -> Result<(), String> {
        let prepared =
            prepare(&self.settings, &self.template, &self.trust, &self.clock, &self.tasks, Some(&self.time));
        let Prepared { identity, me, uplink, .. } = prepared.inspect_err(|why| {
            tracing::error!(why, "changed certificates cannot be used; those of before stay in use");
        })?;
        self.time.renewed(identity.time_floor, identity.ends);
        tracing::info!(serial = identity.signer.serial, "certificates were read again");
        self.identity = identity;
        let renewal = Renewal { identity: me, uplink };
        tokio::select! {
            () = self.cancel.cancelled() => Ok(()),
            // Shipping ends on the same word.
            sent = self.renewals.send(renewal) => sent.map_err(|_| "shipping has ended".to_owned()),
        }
    }

    fn announce(&self, now: UtcNanos, told: &mut Option<u32>, problem: Option<String>) {
        let ends = self.identity.ends;
        let days_left = ends.since(now).div_euclid(DAY_NS);
        let notice = expiry_notice(ends, now);
        if notice != *told {
            *told = notice;
            match notice {
                Some(0) => tracing::error!(
                    "our certificate has ended; renew it: `headwater-agent enroll` with a new token"
                ),
                Some(_) => tracing::warn!(days_left, "our certificate ends soon"),
                None => {}
            }
        }
        let status = IdentityStatus { ends: Some(ends), days_left: Some(days_left), problem };
        self.status.send_if_modified(|shown| {
            let news = *shown != status;
            *shown = status;
            news
        });
    }

    fn is_renewal_due(&self, now: UtcNanos) -> bool {
        let start = self.identity.sign_chain.first().and_then(|leaf| not_before(leaf).ok());
        self.settings.identity.renew.is_some()
            && start.is_some_and(|start| is_due(start, self.identity.ends, now))
    }

    /// Fetches new certificates; that files changed is seen at the next look, as if a person had done it.
    async fn fetch(&self, now: UtcNanos) -> Result<(), String> {
        let Some(url) = self.settings.identity.renew.clone() else { return Ok(()) };
        let (files, time, identity) =
            (self.settings.identity.clone(), self.time.clone(), self.identity.clone());
        let fetched =
            tokio::task::spawn_blocking(move || enroll::renew(&url, &files, &identity, time, now)).await;
        let told = match fetched {
            Ok(Ok(signer)) => {
                tracing::info!(serial = signer.serial, "certificates were renewed");
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(why = told, "certificates cannot be renewed yet");
        Err(format!("certificates cannot be renewed yet: {told}"))
    }

    fn keep_lists(&self, brought: &BroughtLists) {
        let above = self.identity.sign_chain.get(1..).unwrap_or_default();
        if let Err(error) = self.trust.keep_revocations(&self.identity.roots, above, brought) {
            tracing::warn!(%error, "revocation lists cannot be kept; those of before stay in use");
        }
    }
}

/// Two thirds of the validity are over.
fn is_due(start: UtcNanos, end: UtcNanos, now: UtcNanos) -> bool {
    now.since(start) / 2 >= end.since(start) / 3
}

pub(super) fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino()))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_renewed_at_two_thirds_of_their_validity() {
        let day = |n: i64| UtcNanos(n * DAY_NS);
        assert!(!is_due(day(0), day(90), day(59)));
        assert!(is_due(day(0), day(90), day(60)));
        assert!(is_due(day(0), day(90), day(400)));
        assert!(!is_due(day(0), day(90), day(-5)));
    }
}
