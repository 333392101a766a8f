//! Several receivers of one fleet on one landing folder: each says that it lives, takes its share, and reads what
//! the others land, so that watermarks are those of all. The shell; [`Leases`] and the receiver decide.
//!
//! Rules, of which correctness needs only the first two:
//! 1. What a device is told durable is in a synced log: of another's log only what that one called synced, or,
//!    once it is gone, what was synced here.
//! 2. Every log is ingested, and the ledger takes each sample once, however often it was landed.
//! 3. One receiver speaks to a device: the holder of its shard, or, in a group, the one that got its newest hello.
//! 4. Who takes over asks for a hello, and answers once it has read the others' logs: watermarks it gives are
//!    then no lower than those the device knew, or the device sends the rows between once more.

use super::acks::Standing;
use super::leases::{LeaseStep, Leases, SHARDS};
use crate::land::{LandError, Landed, LandedWatch, LandingCursors, LandingReader, Presence, ShareBoard};
use headwater_core::id::{IncarnationId, TenantId};
use headwater_core::ports::{Clock, Disk};
use headwater_core::time::{NS_PER_S, UtcNanos};
use std::collections::BTreeSet;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Between two looks into the others' logs: well below the second that a take-over waits.
const LOOK_MS: u64 = 200;
/// Looks between two plans of the leases: a second.
const PLAN_LOOKS: u64 = 5;
/// A presence holds this long after it was said.
const PRESENCE_NS: i64 = 10 * NS_PER_S;
/// Others' records read in one look.
const TAIL_BYTES: usize = 8 << 20;
/// Looks under way to the receiver.
pub const NEWS_MAX: usize = 4;

/// What the receiver is told of the others.
#[derive(Debug)]
pub enum News {
    /// Whom it answers from now on.
    Standing(Standing),
    /// What others landed, in order of each log.
    Landed(Vec<Landed>),
    /// Another look was taken.
    Look,
}

/// How the fleet is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By leases of shards.
    Shards,
    /// By the broker.
    Group,
}

/// What the shell works with.
#[derive(Debug)]
pub struct Sharing<D: Disk> {
    /// The files beside the logs.
    pub board: ShareBoard<D>,
    /// Reads the others' logs.
    pub reader: LandingReader<D>,
    /// How far they were read.
    pub cursors: LandingCursors,
    /// This life.
    pub me: IncarnationId,
    /// This receiver's name.
    pub receiver: String,
    /// Whose fleet.
    pub tenant: TenantId,
    /// How it is shared.
    pub mode: Mode,
    /// Synced end of our log.
    pub landed: LandedWatch,
    /// Topics to listen to.
    pub filters: watch::Sender<BTreeSet<String>>,
    /// To the receiver.
    pub news: mpsc::Sender<News>,
}

/// Topics of these shards.
#[must_use]
pub fn shard_filters(tenant: &TenantId, shards: &BTreeSet<u8>) -> BTreeSet<String> {
    if shards.len() == usize::from(SHARDS) {
        return BTreeSet::from([format!("hw/1/in/+/{tenant}/+/+")]);
    }
    shards.iter().map(|shard| format!("hw/1/in/{shard:02}/{tenant}/+/+")).collect()
}

/// Topics of a group of receivers.
#[must_use]
pub fn group_filters(tenant: &TenantId) -> BTreeSet<String> {
    BTreeSet::from([format!("$share/headwater-{tenant}/hw/1/in/+/{tenant}/+/+")])
}

struct Look<D: Disk> {
    sharing: Sharing<D>,
    leases: Leases,
    looks: u64,
    standing: Option<Standing>,
}

impl<D: Disk> Sharing<D> {
    /// Shares until `cancel`, then gives everything back. A look that fails is told and taken again.
    ///
    /// # Errors
    /// If the thread that looks is gone.
    pub async fn run<C: Clock>(
        self,
        clock: C,
        cancel: CancellationToken,
    ) -> Result<(), tokio::task::JoinError> {
        let leases = Leases::new(self.me);
        let mut look = Look { leases, looks: 0, standing: None, sharing: self };
        loop {
            let utc = clock.read().real;
            let outcome;
            (look, outcome) = tokio::task::spawn_blocking(move || {
                let outcome = look.take(utc);
                (look, outcome)
            })
            .await?;
            match outcome {
                Ok(news) => {
                    for news in news {
                        if look.sharing.news.send(news).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                Err(error) => {
                    metrics::counter!("headwater_sharing_errors_total").increment(1);
                    tracing::error!(%error, "other receivers cannot be looked at, trying again");
                }
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                () = clock.sleep_until(clock.boot().plus_ms(LOOK_MS)) => {}
            }
        }
        let left = tokio::task::spawn_blocking(move || look.leave()).await?;
        if let Err(error) = left {
            tracing::warn!(%error, "leases were not given back; they end by themselves");
        }
        Ok(())
    }
}

impl<D: Disk> Look<D> {
    fn take(&mut self, utc: UtcNanos) -> Result<Vec<News>, LandError> {
        let sharing = &mut self.sharing;
        let end = *sharing.landed.borrow();
        let expires = UtcNanos(utc.0.saturating_add(PRESENCE_NS));
        sharing.board.say(&Presence { receiver: sharing.receiver.clone(), expires, end })?;
        let mut news = Vec::new();
        if self.looks.is_multiple_of(PLAN_LOOKS) {
            let live: BTreeSet<IncarnationId> = sharing.board.present(utc)?.into_keys().collect();
            metrics::gauge!("headwater_receivers_alive").set(u32::try_from(live.len()).unwrap_or(u32::MAX));
            let standing = match sharing.mode {
                Mode::Group => Standing::Group(live),
                Mode::Shards => {
                    let newest = sharing.board.leases()?;
                    for step in self.leases.look(&live, &newest) {
                        let (shard, turn, holder) = match step {
                            LeaseStep::Take { shard, turn } => (shard, turn, Some(sharing.me)),
                            LeaseStep::GiveBack { shard, turn } => (shard, turn, None),
                        };
                        if sharing.board.take_turn(shard, turn, holder)? {
                            tracing::info!(shard, turn, taken = holder.is_some(), "shard lease");
                        }
                    }
                    let held = self.leases.held().clone();
                    metrics::gauge!("headwater_shards_held")
                        .set(u32::try_from(held.len()).unwrap_or(u32::MAX));
                    let filters = shard_filters(&sharing.tenant, &self.leases.subscribed());
                    sharing.filters.send_if_modified(|old| {
                        *old != filters && {
                            *old = filters;
                            true
                        }
                    });
                    Standing::Shards(held)
                }
            };
            if self.standing.as_ref() != Some(&standing) {
                self.standing = Some(standing.clone());
                news.push(News::Standing(standing));
            }
        }
        self.looks = self.looks.wrapping_add(1);
        let landed = sharing.reader.next_after(&sharing.cursors, TAIL_BYTES)?;
        for record in &landed {
            sharing.cursors.insert(record.end().incarnation, record.end());
        }
        if !landed.is_empty() {
            metrics::counter!("headwater_tailed_records_total").increment(landed.len() as u64);
            news.push(News::Landed(landed));
        }
        news.push(News::Look);
        Ok(news)
    }

    fn leave(&mut self) -> Result<(), LandError> {
        let newest = self.sharing.board.leases()?;
        for step in self.leases.give_all_back(&newest) {
            if let LeaseStep::GiveBack { shard, turn } = step {
                self.sharing.board.take_turn(shard, turn, None)?;
            }
        }
        self.sharing.board.leave(self.sharing.me)
    }
}

#[cfg(test)]
#[path = "sharing_tests.rs"]
mod tests;
