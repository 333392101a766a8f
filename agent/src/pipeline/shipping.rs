//! Ship, as soon as we know who we are: certificates that cannot be used hold it back, never capture.

use crate::config::{Broker, Identity, IdentityError, Settings, identity};
use crate::ship::mqtt::{BrokerUrl, MqttSettings, MqttUplink};
use crate::ship::{
    self, ClockExchange, Rng, ShipIdentity, ShipSettings, ShipStatus, ShipTask, random_nonces,
};
use crate::spool::{Opened, SpoolHandle};
use headwater_core::batch::Effort;
use headwater_core::gap::GapRecord;
use headwater_core::id::BootId;
use headwater_core::ports::Clock;
use headwater_core::time::UtcNanos;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How soon certificates that cannot be used are read again, ms.
const IDENTITY_AGAIN_MS: u64 = 60_000;

/// What shipping needs before it knows who we are.
pub(super) struct Shipping {
    pub(super) settings: Settings,
    pub(super) opened: Opened,
    pub(super) boot_id: BootId,
    pub(super) spool: SpoolHandle,
    pub(super) gaps: mpsc::Sender<GapRecord>,
    pub(super) exchanges: mpsc::Sender<ClockExchange>,
    pub(super) status: watch::Sender<ShipStatus>,
    pub(super) cancel: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Shipping {
    /// Ships until cancelled. Certificates that cannot be used hold shipping back, never capture (A3).
    pub(super) async fn run<C: Clock>(self, clock: C) {
        let (identity, uplink) = loop {
            match self.prepare(&clock) {
                Ok(ready) => break ready,
                Err(why) => {
                    tracing::error!(why, "cannot ship; capture goes on");
                    self.status.send_modify(|status| status.last_error = Some(why));
                }
            }
            let again = clock.boot().plus_ms(IDENTITY_AGAIN_MS);
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = clock.sleep_until(again) => {}
            }
        };
        let mut seed = [0; 8];
        let seeded = {
            use ring::rand::{SecureRandom, SystemRandom};
            SystemRandom::new().fill(&mut seed).is_ok()
        };
        let seed = if seeded { u64::from_le_bytes(seed) } else { self.opened.epoch.0 };
        let settings = ShipSettings {
            keepalive_s: self.settings.keepalive_s,
            linger_ms: u64::try_from(self.settings.linger.as_millis()).unwrap_or(u64::MAX),
            metered_linger_ms: u64::try_from(self.settings.metered_linger.as_millis()).unwrap_or(u64::MAX),
            effort: if self.settings.metered { Effort::Metered } else { Effort::Wire },
            live_window_ms: u64::try_from(self.settings.live_window.as_millis()).unwrap_or(u64::MAX),
            backlog_order: self.settings.backlog_order,
            lepton: self.settings.lepton,
            retain_until: self.settings.spool.retain_until,
            ..ShipSettings::default()
        };
        let task = ShipTask {
            rules: self.settings.links.clone(),
            clock,
            uplink,
            spool: self.spool,
            settings,
            identity: identity.0,
            time_floor: identity.1,
            rng: Rng::new(seed),
            nonces: random_nonces(),
            gaps: self.gaps,
            exchanges: self.exchanges,
            status: self.status,
            cancel: self.cancel,
        };
        ship::run(task).await;
    }

    fn prepare<C: Clock>(&self, clock: &C) -> Result<((ShipIdentity, UtcNanos), MqttUplink<C>), String> {
        let settings = &self.settings;
        let identity = identity::load(&settings.identity, &settings.device, clock.read().real)
            .map_err(|errors| told(&errors))?;
        let mqtt = mqtt_settings(settings, &identity)?;
        let me = ShipIdentity {
            path: settings.device.clone(),
            epoch: self.opened.epoch,
            boot_ordinal: self.opened.boot_ordinal,
            boot_id: self.boot_id,
            key: Arc::clone(&identity.sign_key),
            chain: identity.sign_chain,
            roots: identity.roots,
            software: concat!("headwater-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let uplink = MqttUplink::new(mqtt, me.clone(), clock.clone(), self.tasks.clone())
            .map_err(|error| error.to_string())?;
        Ok(((me, identity.time_floor), uplink))
    }
}

/// All errors in one line.
#[must_use]
pub fn told(errors: &[IdentityError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The broker and its TLS, as the configuration and the identity say.
///
/// # Errors
/// What is wrong, for a person.
pub fn mqtt_settings(settings: &Settings, identity: &Identity) -> Result<MqttSettings, String> {
    let Broker { host, port, tls } = &settings.broker;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let tls = tls
        .then(|| {
            let Identity { ca_pem, tls_cert_pem, tls_key_pem, time_floor, .. } = identity;
            ship::tls::client_config(ca_pem, tls_cert_pem, tls_key_pem, *time_floor)
        })
        .transpose()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let broker = BrokerUrl { host, port: *port, tls: tls.is_some() };
    Ok(MqttSettings { broker, tls, keepalive_s: settings.keepalive_s })
}
