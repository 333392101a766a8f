//! Certificates while the collector runs: files that changed are read again, revocations take effect, ends are announced.
//!
//! Renewing and revoking need no restart: each second the files of `[identity]` are looked at, and once they have kept
//! still for a second they are read and checked as at the start. What cannot be used is told and changes nothing.
//! A list that revokes less than one before it brings nobody back: what was revoked is kept beside the landing logs.

use crate::config::{AckSigner, Identity, IdentityError, IdentityPaths, stamps};
use crate::land::StdDisk;
use crate::registry::Registry;
use crate::telemetry;
use headwater_core::id::TenantId;
use headwater_core::ports::{Clock, Disk, DiskFile};
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_core::wire::chain::expiry_notice;
use headwater_core::wire::request::pem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two looks at the files, ms. A revocation is to take effect within 60 s.
const LOOK_MS: u64 = 1_000;
/// Files that could not be used are read again after this many looks, changed or not.
const AGAIN_LOOKS: u32 = 60;
/// Ends of devices' certificates are counted once in this many looks.
const LOOKS_PER_COUNT: u64 = 60;
/// Name of the kept copy of revocation lists, beside the landing logs.
const KEPT: &str = ".revoked.crl";

/// What the receiver is to sign and answer with from now on.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// Signs acks.
    pub key: Arc<AckSigner>,
    /// Its chain, leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// Lists of revoked collectors (CRLs, DER), for the answers to hellos.
    pub revocations: Vec<Vec<u8>>,
}

/// Where certificates come from and who is told of changes.
#[derive(Debug)]
pub struct Credentials {
    /// The files.
    pub paths: IdentityPaths,
    /// Whose they must be.
    pub tenant: TenantId,
    /// Folder in which revocations are kept.
    pub landing_dir: PathBuf,
    /// Told of revocations.
    pub registry: Registry,
    /// Told of keys and lists.
    pub renewals: watch::Sender<Option<Renewal>>,
    /// Told of TLS towards the broker; taken at the next connection.
    pub tls: watch::Sender<Arc<rustls::ClientConfig>>,
}

impl Credentials {
    /// Takes over what was read at the start, with what was revoked in an earlier life.
    pub fn begin(&self, identity: &Identity) {
        self.take_revocations(identity);
        if !identity.collector_lists.is_empty() {
            self.renewals.send_replace(Some(renewal(identity)));
        }
    }

    /// Looks after the files until `cancel`.
    pub async fn watch<C: Clock>(self, clock: C, identity: Identity, cancel: CancellationToken) {
        let files = self.paths.all();
        // As they were when they were read: a change since then is one.
        let (mut used, mut before) = (identity.stamps.clone(), stamps(&files));
        let mut current = Ends::of(&identity);
        let mut failed_looks: Option<u32> = None;
        let mut told = [None; 2];
        telemetry::certificates_usable(true);
        for look in 0_u64.. {
            let now = clock.read().real;
            current.announce(now, &mut told);
            if look.is_multiple_of(LOOKS_PER_COUNT) {
                telemetry::certificates(current.sign, current.tls, &self.registry.newest_ends(), now);
            }
            let again = clock.boot().plus_ms(LOOK_MS);
            tokio::select! {
                () = cancel.cancelled() => return,
                () = clock.sleep_until(again) => {}
            }
            let seen = stamps(&files);
            let still = seen == before;
            before.clone_from(&seen);
            let due = failed_looks.is_some_and(|looks| looks >= AGAIN_LOOKS);
            failed_looks = failed_looks.map(|looks| looks.saturating_add(1));
            if !still || (seen == used && !due) {
                continue;
            }
            used = seen;
            match Identity::load(&self.paths, &self.tenant, clock.read().real) {
                Ok(identity) => {
                    failed_looks = None;
                    current = Ends::of(&identity);
                    self.take(&identity);
                }
                Err(error) => {
                    failed_looks = Some(0);
                    told_failure(&error);
                }
            }
            telemetry::certificates_usable(failed_looks.is_none());
        }
    }

    fn take(&self, identity: &Identity) {
        self.take_revocations(identity);
        self.tls.send_replace(Arc::clone(&identity.tls));
        tracing::info!(
            serial = identity.signer.serial,
            revoked = identity.revocations.len(),
            "certificates were read again"
        );
        self.renewals.send_replace(Some(renewal(identity)));
    }

    fn take_revocations(&self, identity: &Identity) {
        let kept = self.landing_dir.join(KEPT);
        let earlier = match identity.earlier_revocations(&kept) {
            Ok(earlier) => earlier,
            Err(error) => {
                told_failure(&error);
                None
            }
        };
        let known = self.registry.revocations();
        if !identity.revocations.covers(&known)
            || earlier.as_ref().is_some_and(|earlier| !identity.revocations.covers(earlier))
        {
            tracing::error!(crl = %self.paths.crl.display(), "revocation list names less than one before it; what was revoked stays so");
        } else if !identity.revocations.is_empty()
            && let Err(error) = keep(&self.paths.crl, identity.chain.get(1..).unwrap_or_default(), &kept)
        {
            tracing::error!(%error, kept = %kept.display(), "revocation list cannot be kept");
        }
        let mut all = identity.revocations.clone();
        if let Some(earlier) = &earlier {
            all.extend(earlier);
        }
        let keys = self.registry.revoke(&all);
        if keys > 0 {
            tracing::warn!(keys, "keys of devices are revoked: their messages are refused from now on");
        }
        if let Some(why) = identity.own_revocation() {
            tracing::error!(
                why,
                "our own certificate is revoked: no device will believe our acks; renew it with `headwater pki renew`"
            );
        }
        telemetry::revoked_certificates(
            self.registry.revocations().len(),
            identity.own_revocation().is_some(),
        );
    }
}

fn renewal(identity: &Identity) -> Renewal {
    Renewal {
        key: Arc::clone(&identity.key),
        chain: identity.chain.clone(),
        revocations: identity.collector_lists.clone(),
    }
}

fn told_failure(error: &IdentityError) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, cause, "certificates cannot be used; those of before stay in use");
}

/// Copies a list beside the landing logs, whole or not at all, with the CAs (DER) that may have signed it: after the next
/// renewal our own chain may be another, and the list must still be proven.
fn keep(from: &Path, issuers: &[Vec<u8>], to: &Path) -> std::io::Result<()> {
    let mut bytes = std::fs::read(from)?;
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    for issuer in issuers {
        bytes.extend(pem("CERTIFICATE", issuer).bytes());
    }
    let disk = StdDisk;
    let fresh = to.with_extension("crl.new");
    match disk.unlink(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&fresh)?;
    file.write_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(&fresh, to)?;
    disk.sync_dir(to.parent().unwrap_or(Path::new("")))
}

/// Ends of our own certificates.
#[derive(Debug, Clone, Copy)]
struct Ends {
    sign: UtcNanos,
    tls: UtcNanos,
}

impl Ends {
    fn of(identity: &Identity) -> Self {
        Self { sign: identity.signer.not_after, tls: identity.tls_not_after }
    }

    /// One line each time a notice begins: 30, 7 and 1 days before the end, and at it.
    fn announce(self, now: UtcNanos, told: &mut [Option<u32>; 2]) {
        for ((which, end), told) in [("sign_cert", self.sign), ("tls_cert", self.tls)].into_iter().zip(told) {
            let notice = expiry_notice(end, now);
            if notice != *told {
                *told = notice;
                let days = end.since(now) / (86_400 * NS_PER_S);
                match notice {
                    Some(0) => tracing::error!(
                        which,
                        "our certificate has ended; renew it with `headwater pki renew`"
                    ),
                    Some(_) => tracing::warn!(
                        which,
                        days,
                        "our certificate ends soon; renew it with `headwater pki renew`"
                    ),
                    None => {}
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
