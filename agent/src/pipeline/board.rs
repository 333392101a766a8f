//! Writes the status file, every second and whenever the link changes, and tells the service manager that we live.
//!
//! We live as long as the spool answers: without it nothing is kept, and only a new start can help. A link that is down or
//! a status file that cannot be written is no reason for one.

use super::keeper::IdentityStatus;
use crate::config::Settings;
use crate::notify::{ServiceManager, State};
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
    pub(super) manager: ServiceManager,
}

/// What was said in vain is said once: a full or read-only disk, or a deaf manager, would have it said every second.
#[derive(Debug, Default)]
struct Complaint {
    open: bool,
}

impl Complaint {
    fn about(&mut self, outcome: io::Result<()>, complain: impl FnOnce(io::Error)) {
        let failed = outcome.is_err();
        match outcome {
            Err(error) if !self.open => complain(error),
            _ => {}
        }
        self.open = failed;
    }
}

/// One line for `systemctl status`.
fn in_short(status: &AgentStatus) -> String {
    let link = match status.link.connected {
        true => "connected to",
        false => "no link to",
    };
    format!("{link} {}, {} rows held", status.link.broker, status.spool.rows)
}

impl Board {
    /// Every second and whenever the link changes, and once more after the drain.
    pub(super) async fn run<C: Clock>(
        mut self,
        clock: C,
        cancel: CancellationToken,
        last_look: CancellationToken,
    ) {
        let (mut of_file, mut of_manager) = (Complaint::default(), Complaint::default());
        let mut state = State::Ready;
        loop {
            let last = last_look.is_cancelled();
            let written = match self.look(&clock, cancel.is_cancelled()).await {
                Ok(status) => {
                    let next = if cancel.is_cancelled() { State::Stopping } else { state };
                    of_manager.about(self.manager.tell(next, &in_short(&status)), |error| {
                        tracing::warn!(%error, "the service manager cannot be told that the agent lives");
                    });
                    // Told that we are ready in vain, we try again.
                    state = if of_manager.open { state } else { State::Alive };
                    self.write(status).await
                }
                Err(error) => Err(error),
            };
            of_file.about(written, |error| {
                let file = self.settings.status_file.display();
                tracing::warn!(%error, %file, "status cannot be written");
            });
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

    async fn write(&self, status: AgentStatus) -> io::Result<()> {
        let file = self.settings.status_file.clone();
        tokio::task::spawn_blocking(move || status.write(&file)).await.map_err(io::Error::other)?
    }

    async fn look<C: Clock>(&self, clock: &C, stopping: bool) -> io::Result<AgentStatus> {
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
        Ok(AgentStatus::of(Parts {
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
        }))
    }
}
