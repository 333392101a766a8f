//! Writes the status file, every second and whenever the link changes.

use super::keeper::IdentityStatus;
use crate::config::Settings;
use crate::observe::ClockStatus;
use crate::ship::ShipStatus;
use crate::spool::{Opened, SpoolHandle};
use crate::status::{AgentStatus, DeliveryStatus, LinkStatus, Parts};
use headwater_core::id::BootId;
use headwater_core::ports::Clock;
use headwater_core::time::{BootNanos, NS_PER_MS};
use std::io;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two status files, ms.
const STATUS_MS: u64 = 1_000;
/// Least time between two status files, ms: changes of the link come in bursts.
const STATUS_LEAST_MS: u64 = 200;

/// Writes the status file.
pub(super) struct Board {
    pub(super) settings: Settings,
    pub(super) opened: Opened,
    pub(super) boot_id: BootId,
    pub(super) spool: SpoolHandle,
    pub(super) ship: watch::Receiver<ShipStatus>,
    pub(super) certificates: watch::Receiver<IdentityStatus>,
    pub(super) clock: watch::Receiver<ClockStatus>,
}

impl Board {
    /// Every second and whenever the link changes, and once more after the drain.
    pub(super) async fn run<C: Clock>(
        mut self,
        clock: C,
        cancel: CancellationToken,
        last_look: CancellationToken,
    ) {
        let mut failed = false;
        loop {
            let last = last_look.is_cancelled();
            match self.write(&clock, cancel.is_cancelled()).await {
                Ok(()) => failed = false,
                // Said once: a full or read-only disk would say it every second.
                Err(error) if !failed => {
                    failed = true;
                    tracing::warn!(%error, file = %self.settings.status_file.display(), "status cannot be written");
                }
                Err(_) => {}
            }
            if last {
                return;
            }
            let now = clock.boot();
            let (soonest, latest) = (now.plus_ms(STATUS_LEAST_MS), now.plus_ms(STATUS_MS));
            let connected = self.ship.borrow_and_update().connected;
            let changed = async {
                clock.sleep_until(soonest).await;
                if self.ship.wait_for(|status| status.connected != connected).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = changed => {}
                () = clock.sleep_until(latest) => {}
                () = last_look.cancelled() => {}
            }
        }
    }

    async fn write<C: Clock>(&self, clock: &C, stopping: bool) -> io::Result<()> {
        let streams = self.spool.streams().await.map_err(io::Error::other)?;
        let usage = self.spool.usage().await.map_err(io::Error::other)?;
        let now = clock.boot();
        let ship = self.ship.borrow().clone();
        let age_ms = |since: BootNanos| now.since(since) / NS_PER_MS;
        let counters = ship.counters;
        let delivery = DeliveryStatus::of(&ship);
        let certificates = self.certificates.borrow().clone();
        let link = LinkStatus {
            delivery,
            broker: ship.peer.unwrap_or_else(|| self.settings.uplink.told()),
            cause: ship.down.map(|down| down.cause.as_str().to_owned()),
            cause_for_ms: ship.down.map(|down| age_ms(down.since)),
            cause_tries: ship.down.map_or(0, |down| down.tries),
            connected: ship.connected,
            since_ms: ship.since.map(age_ms),
            last_ack_ms: ship.last_ack.map(age_ms),
            last_error: ship.last_error,
            incarnation: ship.incarnation.map(|id| id.to_string()),
            last_commit: ship.last_commit.map(|id| id.to_string()),
            restored_card: ship.restored_card,
            shut_out: ship.shut_out,
            certificate_ends_ns: certificates.ends.map(|ends| ends.0),
            certificate_days_left: certificates.days_left,
            certificate_problem: certificates.problem,
            in_flight_bytes: ship.in_flight_bytes,
            messages: counters.messages,
            bytes_sent: counters.bytes_sent,
            resends: counters.resends,
            acks: counters.acks,
            acks_rejected: counters.acks_rejected,
            rows_refused: counters.rows_refused,
            blobs_packed: counters.blobs_packed,
            blob_bytes_saved: counters.blob_bytes_saved,
            blobs_over_budget: counters.blobs_over_budget,
            reconnects: counters.reconnects,
            connect_failures: counters.connect_failures,
            publishes_refused: counters.publishes_refused,
            publishes_invalid: counters.publishes_invalid,
            ack_rtt_ms: ship.ack_rtt_ns.map(|ns| ns / NS_PER_MS),
        };
        let status = AgentStatus::of(Parts {
            device: &self.settings.device,
            epoch: self.opened.epoch,
            boot_ordinal: self.opened.boot_ordinal,
            boot_id: self.boot_id,
            now,
            streams: &streams,
            usage,
            health: self.spool.health().await.map_err(io::Error::other)?,
            spool: &self.settings.spool,
            link,
            clock: self.clock.borrow().clone(),
            stopping,
        });
        let file = self.settings.status_file.clone();
        tokio::task::spawn_blocking(move || status.write(&file)).await.map_err(io::Error::other)?
    }
}
