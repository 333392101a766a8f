//! Ship, as soon as we know who we are: certificates that cannot be used hold it back, never capture.

use super::keeper::{IdentityStatus, Keeper, Stamps, stamps};
use crate::config::{Identity, IdentityError, Settings, identity};
use crate::ship::mqtt::{Credentials, MqttSettings, MqttUplink, Proxy};
use crate::ship::{
    self, CertTime, ClockExchange, Rng, ServerTrust, ShipIdentity, ShipSettings, ShipStatus, ShipTask,
    random_nonces,
};
use crate::spool::{Opened, SpoolHandle};
use crate::trust::TrustFiles;
use headwater_core::batch::Effort;
use headwater_core::gap::GapRecord;
use headwater_core::id::{BootId, BootOrdinal, DevicePath, Epoch};
use headwater_core::ports::Clock;
use headwater_core::time::UtcNanos;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How soon certificates that cannot be used are read again, ms.
const IDENTITY_AGAIN_MS: u64 = 60_000;
/// Width over which a fleet comes back after an outage of its broker or its power, s.
const SPREAD_S: u16 = 30;
/// What brokers were found to speak, in the spool's folder.
const MEMORY_FILE: &str = "uplink.json";

/// Revocation lists on their way to the disk.
const LISTS_MAX: usize = 4;

/// What shipping needs before it knows who we are.
pub(super) struct Shipping {
    pub(super) settings: Settings,
    pub(super) opened: Opened,
    pub(super) boot_id: BootId,
    pub(super) spool: SpoolHandle,
    pub(super) gaps: mpsc::Sender<GapRecord>,
    pub(super) exchanges: mpsc::Sender<ClockExchange>,
    pub(super) status: watch::Sender<ShipStatus>,
    pub(super) certificates: watch::Sender<IdentityStatus>,
    pub(super) cancel: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Shipping {
    /// Ships until cancelled. Certificates that cannot be used hold shipping back, never capture (A3).
    pub(super) async fn run<C: Clock>(self, clock: C) {
        let trust = TrustFiles::of_spool(&self.settings.spool.dir);
        let template = ShipTemplate {
            path: self.settings.device.clone(),
            epoch: self.opened.epoch,
            boot_ordinal: self.opened.boot_ordinal,
            boot_id: self.boot_id,
        };
        let prepared = loop {
            match prepare(&self.settings, &template, &trust, &clock, &self.tasks, None) {
                Ok(ready) => break ready,
                Err(why) => {
                    tracing::error!(why, "cannot ship; capture goes on");
                    self.certificates.send_modify(|status| status.problem = Some(why.clone()));
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
            message_bytes_max: self.settings.uplink.limits.message_bytes_max,
            window_bytes_max: self.settings.uplink.limits.window_bytes_max,
            keepalive_s: self.settings.uplink.limits.keepalive_s,
            // A broker of our own has no fleet that would come back together.
            spread_s: if prepared.uplink.is_loopback() { 0 } else { SPREAD_S },
            linger_ms: u64::try_from(self.settings.linger.as_millis()).unwrap_or(u64::MAX),
            metered_linger_ms: u64::try_from(self.settings.metered_linger.as_millis()).unwrap_or(u64::MAX),
            effort: if self.settings.metered { Effort::Metered } else { Effort::Wire },
            live_window_ms: u64::try_from(self.settings.live_window.as_millis()).unwrap_or(u64::MAX),
            backlog_order: self.settings.backlog_order,
            lepton: self.settings.lepton,
            retain_until: self.settings.spool.retain_until,
        };
        let Prepared { identity, me, uplink, time, used } = prepared;
        let (renewed, renewals) = mpsc::channel(1);
        let (revoked, lists) = mpsc::channel(LISTS_MAX);
        let (floor, floor_seen) = watch::channel(time.floor());
        let rules = self.settings.links.clone();
        let keeper = Keeper {
            settings: self.settings,
            template,
            used,
            identity,
            trust,
            time: time.clone(),
            clock: clock.clone(),
            tasks: self.tasks,
            renewals: renewed,
            revoked: lists,
            floor: floor_seen,
            status: self.certificates,
            cancel: self.cancel.clone(),
        };
        let task = ShipTask {
            rules,
            clock,
            uplink,
            spool: self.spool,
            settings,
            identity: me,
            cert_time: time,
            renewals,
            revoked,
            floor,
            rng: Rng::new(seed),
            nonces: random_nonces(),
            gaps: self.gaps,
            exchanges: self.exchanges,
            status: self.status,
            cancel: self.cancel,
        };
        tokio::join!(ship::run(task), keeper.run());
    }
}

/// What of our identity no certificate changes.
#[derive(Debug, Clone)]
pub(super) struct ShipTemplate {
    path: DevicePath,
    epoch: Epoch,
    boot_ordinal: BootOrdinal,
    boot_id: BootId,
}

/// Certificates that can be used, and what is made of them.
pub(super) struct Prepared<C> {
    pub(super) identity: Identity,
    pub(super) me: ShipIdentity,
    pub(super) uplink: MqttUplink<C>,
    pub(super) time: CertTime,
    pub(super) used: Stamps,
}

/// Reads certificates, with what is remembered of time and revocations. `time` is that of certificates in use.
pub(super) fn prepare<C: Clock>(
    settings: &Settings,
    template: &ShipTemplate,
    trust: &TrustFiles,
    clock: &C,
    tasks: &TaskTracker,
    time: Option<&CertTime>,
) -> Result<Prepared<C>, String> {
    crate::enroll::finish_replacing(&settings.identity);
    let used = stamps(&settings.identity.all());
    let known = time.map(CertTime::floor).or_else(|| trust.floor()).unwrap_or(UtcNanos(i64::MIN));
    let now = match time {
        Some(time) => time.at(clock.boot(), clock.read().real),
        None => clock.read().real,
    };
    let mut identity = identity::load_since(&settings.identity, &settings.device, now, known)
        .map_err(|errors| told(&errors))?;
    let above = identity.sign_chain.get(1..).unwrap_or_default();
    let kept = trust.revocations(&identity.roots, above);
    identity.roots.revoke(&kept);
    let time = time.cloned().unwrap_or_else(|| CertTime::new(identity.time_floor, identity.ends));
    let mqtt = mqtt_settings_at(settings, &identity, time.clone())?;
    let me = ShipIdentity {
        path: template.path.clone(),
        epoch: template.epoch,
        boot_ordinal: template.boot_ordinal,
        boot_id: template.boot_id,
        key: Arc::clone(&identity.sign_key),
        chain: identity.sign_chain.clone(),
        roots: identity.roots.clone(),
        software: concat!("headwater-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let uplink =
        MqttUplink::new(mqtt, me.clone(), clock.clone(), tasks.clone()).map_err(|error| error.to_string())?;
    Ok(Prepared { identity, me, uplink, time, used })
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
    mqtt_settings_at(settings, identity, CertTime::new(identity.time_floor, identity.ends))
}

fn mqtt_settings_at(
    settings: &Settings,
    identity: &Identity,
    time: CertTime,
) -> Result<MqttSettings, String> {
    let uplink = &settings.uplink;
    let tls = uplink
        .brokers
        .iter()
        .any(|broker| broker.tls)
        .then(|| {
            let Identity { ca_pem, tls_cert_pem, tls_key_pem, .. } = identity;
            let trust = ServerTrust { time, revocations: identity.roots.revocations().clone() };
            ship::tls::client_config(ca_pem, tls_cert_pem, tls_key_pem, trust)
        })
        .transpose()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(MqttSettings {
        brokers: uplink.brokers.clone(),
        tls,
        versions: uplink.versions,
        keepalive_s: uplink.limits.keepalive_s,
        message_bytes_max: uplink.limits.message_bytes_max,
        inflight_max: uplink.limits.inflight_max,
        retain: uplink.limits.retain,
        alpn: uplink.alpn.clone(),
        alpn_443: uplink.limits.alpn_443,
        proxy: uplink.proxy.clone().map(|proxy| with_credentials(proxy, settings)).transpose()?,
        interface: uplink.interface.clone(),
        memory: Some(settings.spool.dir.join(MEMORY_FILE)),
    })
}

/// The proxy with the credentials of their file, if there is one.
fn with_credentials(proxy: Proxy, settings: &Settings) -> Result<Proxy, String> {
    let Some(file) = &settings.uplink.proxy_credentials else { return Ok(proxy) };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let credentials = Credentials::parse(text.trim_end())
        .ok_or_else(|| format!("{} holds no line user:password", file.display()))?;
    Ok(Proxy { credentials: Some(credentials), ..proxy })
}
