//! The one place that names the shapes of the real agent and the real collector: how their parts are put together here.

use super::card::WorldSpool;
use super::fleet::{fleet, tenant};
use super::link::WatchedUplink;
use super::plan::Shape;
use headwater_agent::ship::{
    self, BacklogOrder, ClockExchange, RetainUntil, Rng, ShipIdentity, ShipSettings, ShipStatus, ShipTask,
};
use headwater_collector::ingest::IngestSettings;
use headwater_collector::land::CommitMark;
use headwater_collector::receive::{Admission, ClockQuality, Receiver, ReceiverIdentity};
use headwater_collector::registry::Registry;
use headwater_core::gap::GapRecord;
use headwater_core::id::{BootId, BootOrdinal, DeviceId, DevicePath, Epoch, IncarnationId};
use headwater_core::time::{Grade, UtcNanos};
use headwater_lake::RefName;
use headwater_sim::clock::SimClock;
use headwater_sim::disk::Dice;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Name of the receiver.
pub(super) const RECEIVER: &str = "hq";

/// A boot of a gateway.
pub(super) struct Boot {
    pub(super) gateway: usize,
    pub(super) epoch: Epoch,
    pub(super) ordinal: BootOrdinal,
    pub(super) id: BootId,
    pub(super) clock: SimClock,
    pub(super) seed: u64,
}

/// What comes back from a shipping task.
pub(super) struct Shipping {
    pub(super) gaps: mpsc::Receiver<GapRecord>,
    pub(super) exchanges: mpsc::Receiver<ClockExchange>,
    pub(super) status: watch::Receiver<ShipStatus>,
}

/// The agent's shipping, ready to run, with what it gives back.
pub(super) fn shipping(
    shape: &Shape,
    boot: Boot,
    uplink: WatchedUplink,
    spool: WorldSpool,
) -> Option<(impl Future<Output = ()> + Send + 'static, Shipping)> {
    let signer = fleet().gateways.get(boot.gateway)?;
    let (gaps_in, gaps) = mpsc::channel(64);
    let (exchanges_in, exchanges) = mpsc::channel(64);
    let (shown, status) = watch::channel(ShipStatus::default());
    let mut dice = Dice::new(boot.seed);
    let rng = Rng::new(dice.roll());
    let task = ShipTask {
        clock: boot.clock,
        uplink,
        spool,
        settings: ShipSettings {
            retain_until: if shape.durable { RetainUntil::Durable } else { RetainUntil::Committed },
            message_bytes_max: shape.message_bytes_max,
            linger_ms: shape.linger_ms,
            live_window_ms: if boot.seed.is_multiple_of(2) { 5_000 } else { 30_000 },
            backlog_order: if boot.seed.is_multiple_of(3) {
                BacklogOrder::Newest
            } else {
                BacklogOrder::Oldest
            },
            ..ShipSettings::default()
        },
        identity: ShipIdentity {
            path: signer.path.clone(),
            epoch: boot.epoch,
            boot_ordinal: boot.ordinal,
            boot_id: boot.id,
            key: Arc::new(signer.key()),
            chain: signer.chain.clone(),
            roots: fleet().roots.clone(),
            software: "headwater-agent world".into(),
        },
        // What the build knows: without it a gateway of 1970 would find every certificate too young.
        cert_time: UtcNanos(super::START_UTC_NS).into(),
        rules: Vec::new(),
        renewals: mpsc::channel(1).1,
        revoked: mpsc::channel(1).0,
        floor: watch::channel(UtcNanos(super::START_UTC_NS)).0,
        rng,
        nonces: Box::new(move || {
            let mut nonce = [0; 16];
            let rolls = [dice.roll(), dice.roll()];
            let bytes = rolls.iter().flat_map(|roll| roll.to_le_bytes());
            nonce.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
            nonce
        }),
        gaps: gaps_in,
        exchanges: exchanges_in,
        status: shown,
        cancel: CancellationToken::new(),
    };
    Some((ship::run(task), Shipping { gaps, exchanges, status }))
}

/// A receiver of a new incarnation that has landed nothing.
pub(super) fn receiver(registry: Registry, incarnation: IncarnationId, mark: &CommitMark) -> Receiver {
    let admission = Admission { tenant: tenant(), roots: fleet().roots.clone(), registry };
    let signer = &fleet().collector;
    let identity = ReceiverIdentity {
        incarnation,
        key: Arc::new(signer.key().into()),
        chain: signer.chain.clone(),
        software: "headwater-collector world".into(),
    };
    Receiver::new(admission, identity, mark)
}

/// How good the collector says its clock is.
pub(super) const QUALITY: ClockQuality =
    ClockQuality { e_c_ns: 1_000_000, grade: Grade::Guaranteed, source_id: 1 };

/// What ingest is told.
pub(super) fn ingest() -> IngestSettings {
    let mut settings = IngestSettings::new(tenant(), RECEIVER, RefName::main());
    settings.clock_half_ns = QUALITY.e_c_ns;
    settings.clock_grade = QUALITY.grade;
    settings
}

/// A device's path: all are of one tenant.
pub(super) fn path_of(device: &DeviceId) -> DevicePath {
    DevicePath { tenant: tenant(), device: device.clone() }
}

/// The first gateway's path.
pub(super) fn path_of_first() -> DevicePath {
    fleet().gateways[0].path.clone()
}
