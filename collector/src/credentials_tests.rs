//! Files that change under a running collector.

use super::*;
use crate::config::SignKey;
use crate::pki::{self, Reason, Subject};
use crate::receive::clock::SystemClock;
use std::fs;

struct Bench {
    dir: tempfile::TempDir,
    registry: Registry,
    renewals: watch::Receiver<Option<Renewal>>,
    tls: watch::Receiver<Arc<rustls::ClientConfig>>,
    credentials: Credentials,
    identity: Identity,
}

fn now() -> UtcNanos {
    SystemClock.read().real
}

fn collector() -> Subject {
    Subject::Collector { name: "hq".into(), hosts: vec!["localhost".into()] }
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki::init(&dir.path().join("pki"), "acme", now()).unwrap();
        pki::issue(&dir.path().join("pki"), &collector(), &dir.path().join("hq"), now()).unwrap();
        fs::create_dir(dir.path().join("landing")).unwrap();
        Self::of(dir)
    }

    /// A process that starts on these files.
    fn of(dir: tempfile::TempDir) -> Self {
        let hq = dir.path().join("hq");
        let paths = IdentityPaths {
            ca: hq.join("ca.pem"),
            tls_cert: hq.join("tls.pem"),
            tls_key: hq.join("tls.key"),
            sign_cert: hq.join("sign.pem"),
            sign_key: SignKey::File(hq.join("sign.key")),
            crl: hq.join("ca.crl"),
            crl_needed: false,
        };
        let tenant: TenantId = "acme".parse().unwrap();
        let identity = Identity::load(&paths, &tenant, now()).unwrap();
        let (renewals_tx, renewals) = watch::channel(None);
        let (tls_tx, tls) = watch::channel(Arc::clone(&identity.tls));
        let registry = Registry::new();
        let credentials = Credentials {
            paths,
            tenant,
            landing_dir: dir.path().join("landing"),
            registry: registry.clone(),
            renewals: renewals_tx,
            tls: tls_tx,
        };
        Self { dir, registry, renewals, tls, credentials, identity }
    }

    fn revoke(&self, who: &str) {
        let pki = self.dir.path().join("pki");
        pki::revoke(&pki, who, Reason::KeyCompromise, now()).unwrap();
        for list in [pki::ALL_LIST, pki::COLLECTORS_LIST] {
            fs::copy(pki.join(list), self.dir.path().join("hq").join(list)).unwrap();
        }
    }

    fn issue(&self, name: &str) {
        let pki = self.dir.path().join("pki");
        pki::issue(&pki, &Subject::Device(name.into()), &self.dir.path().join(name), now()).unwrap();
    }
}

#[test]
fn an_older_list_brings_nobody_back_not_even_after_a_restart() {
    let bench = Bench::new();
    bench.issue("pi-1");
    bench.issue("pi-2");
    bench.revoke("pi-1");
    let hq = bench.dir.path().join("hq");
    let older = fs::read(hq.join(pki::ALL_LIST)).unwrap();
    bench.revoke("pi-2");
    let bench = Bench::of(bench.dir);
    bench.credentials.begin(&bench.identity);
    assert_eq!(bench.registry.revocations().len(), 4);
    for list in [Some(older), None] {
        match list {
            Some(list) => fs::write(bench.dir.path().join("hq").join(pki::ALL_LIST), list).unwrap(),
            None => fs::remove_file(bench.dir.path().join("hq").join(pki::ALL_LIST)).unwrap(),
        }
        let paths = bench.credentials.paths.clone();
        let identity = Identity::load(&paths, &bench.credentials.tenant, now()).unwrap();
        let credentials = Credentials { registry: Registry::new(), ..copy(&bench) };
        credentials.begin(&identity);
        assert_eq!(credentials.registry.revocations().len(), 4, "what was revoked stays so");
    }
}

/// The list was proven by the site's CA in our own chain; the next certificate is of the root, and the kept list still
/// counts.
#[test]
fn a_kept_list_of_a_site_is_proven_whatever_our_chain_has_become() {
    let bench = Bench::new();
    let (pki, hq) = (bench.dir.path().join("pki"), bench.dir.path().join("hq"));
    let site = bench.dir.path().join("site");
    pki::intermediate(&pki, "site", &site, now()).unwrap();
    pki::issue(&site, &collector(), &hq, now()).unwrap();
    pki::issue(&site, &Subject::Device("pi-1".into()), &bench.dir.path().join("pi-1"), now()).unwrap();
    pki::revoke(&site, "pi-1", Reason::KeyCompromise, now()).unwrap();
    // The bare list, as other tools write it.
    let text = fs::read_to_string(site.join(pki::ALL_LIST)).unwrap();
    let bare =
        text.split_inclusive("-----END X509 CRL-----\n").find(|part| part.contains("X509 CRL")).unwrap();
    let bare = bare.get(bare.find("-----BEGIN X509 CRL").unwrap()..).unwrap();
    fs::write(hq.join(pki::ALL_LIST), bare).unwrap();
    let bench = Bench::of(bench.dir);
    bench.credentials.begin(&bench.identity);
    assert_eq!(bench.registry.revocations().len(), 2);
    pki::issue(&pki, &collector(), &hq, now()).unwrap();
    fs::remove_file(hq.join(pki::ALL_LIST)).unwrap();
    let bench = Bench::of(bench.dir);
    bench.credentials.begin(&bench.identity);
    assert_eq!(bench.registry.revocations().len(), 2, "kept with the CA that proves it");
}

fn copy(bench: &Bench) -> Credentials {
    Credentials {
        paths: bench.credentials.paths.clone(),
        tenant: bench.credentials.tenant.clone(),
        landing_dir: bench.credentials.landing_dir.clone(),
        registry: bench.registry.clone(),
        renewals: watch::channel(None).0,
        tls: watch::channel(Arc::clone(&bench.identity.tls)).0,
    }
}

#[test]
fn a_list_that_is_damaged_or_anothers_is_a_mistake_and_not_an_empty_list() {
    let bench = Bench::new();
    let crl = bench.dir.path().join("hq").join(pki::ALL_LIST);
    let load = || Identity::load(&bench.credentials.paths, &bench.credentials.tenant, now());
    fs::write(&crl, "not a list").unwrap();
    assert!(matches!(load(), Err(IdentityError::Pem { .. })));
    let foreign = Bench::new();
    foreign.issue("pi-1");
    foreign.revoke("pi-1");
    fs::copy(foreign.dir.path().join("hq").join(pki::ALL_LIST), &crl).unwrap();
    assert!(matches!(load(), Err(IdentityError::Revocations { .. })));
    fs::remove_file(&crl).unwrap();
    assert!(load().is_ok());
    let needed = IdentityPaths { crl_needed: true, ..bench.credentials.paths.clone() };
    assert!(Identity::load(&needed, &bench.credentials.tenant, now()).is_err());
}

async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.expect("it comes in time")
}

#[tokio::test]
async fn renewed_files_are_taken_up_while_it_runs() {
    let bench = Bench::new();
    let Bench { dir, registry, mut renewals, mut tls, credentials, identity } = bench;
    let before = identity.key.key_id();
    credentials.begin(&identity);
    let cancel = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "the test waits for the task it spawns")]
    let watching = tokio::spawn(credentials.watch(SystemClock, identity, cancel.clone()));
    // A key beside another's certificate, as in the middle of a renewal, changes nothing.
    let pki = dir.path().join("pki");
    pki::issue(&pki, &collector(), &dir.path().join("next"), now()).unwrap();
    fs::copy(dir.path().join("next/sign.key"), dir.path().join("hq/sign.key")).unwrap();
    pki::renew(&pki, &collector(), &dir.path().join("hq"), 90, false, now()).unwrap();
    within(renewals.changed()).await.unwrap();
    let renewal = renewals.borrow_and_update().clone().unwrap();
    assert_ne!(renewal.key.key_id(), before);
    assert!(tls.has_changed().unwrap());
    tls.mark_unchanged();
    // A collector that is revoked: every device will be given the list.
    pki::issue(&pki, &Subject::Device("pi-1".into()), &dir.path().join("pi-1"), now()).unwrap();
    pki::revoke(&pki, "pi-1", Reason::Superseded, now()).unwrap();
    for list in [pki::COLLECTORS_LIST, pki::ALL_LIST] {
        fs::copy(pki.join(list), dir.path().join("hq").join(list)).unwrap();
    }
    within(renewals.changed()).await.unwrap();
    assert_eq!(renewals.borrow_and_update().clone().unwrap().revocations.len(), 1);
    assert_eq!(registry.revocations().len(), 2);
    cancel.cancel();
    watching.await.unwrap();
}
