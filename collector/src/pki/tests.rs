//! Certificates in their role, renewed, revoked and below an intermediate.

use super::*;
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_core::wire::SigningKey;
use headwater_core::wire::chain::{FleetRoots, Role, Signer, verify_chain};
use headwater_core::wire::revocation::RevocationList;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const NOW: UtcNanos = UtcNanos(1_790_000_000 * NS_PER_S);

fn der(path: PathBuf) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

#[test]
fn issued_signing_pairs_verify_in_their_role_only() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), "acme", NOW).unwrap();
    let (pi, hq) = (dir.path().join("pi"), dir.path().join("hq"));
    issue(dir.path(), &Subject::Device("pi-1".into()), &pi, NOW).unwrap();
    let hosts = vec!["127.0.0.1".into(), "localhost".into()];
    issue(dir.path(), &Subject::Collector { name: "hq".into(), hosts }, &hq, NOW).unwrap();
    let roots = FleetRoots::new(&[der(pi.join("ca.pem"))]).unwrap();
    let device = verify_chain(&[der(pi.join("sign.pem"))], &roots, Role::Device, NOW).unwrap();
    assert_eq!(device.path.to_string(), "acme/pi-1");
    let key = PrivateKeyDer::from_pem_file(pi.join("sign.key")).unwrap();
    assert_eq!(SigningKey::from_pkcs8(key.secret_der()).unwrap().key_id(), device.key.key_id());
    assert!(verify_chain(&[der(hq.join("sign.pem"))], &roots, Role::Collector, NOW).is_ok());
    assert!(verify_chain(&[der(hq.join("sign.pem"))], &roots, Role::Device, NOW).is_err());
    assert!(verify_chain(&[der(pi.join("sign.pem"))], &roots, Role::Collector, NOW).is_err());
    for key in ["tls.key", "sign.key"] {
        assert_eq!(fs::metadata(pi.join(key)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_second_ca_and_a_missing_one_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let missing = issue(dir.path(), &Subject::Device("pi-1".into()), dir.path(), NOW).unwrap_err();
    assert!(missing.to_string().contains("ca.pem"), "{missing}");
    init(dir.path(), "acme", NOW).unwrap();
    assert!(matches!(init(dir.path(), "acme", NOW), Err(PkiError::Exists(_))));
    assert!(matches!(
        issue(dir.path(), &Subject::Device("Pi 1".into()), dir.path(), NOW),
        Err(PkiError::Name(_))
    ));
    assert!(matches!(init(&dir.path().join("b"), "A/B", NOW), Err(PkiError::Name(_))));
}

fn chain(path: PathBuf) -> Vec<Vec<u8>> {
    CertificateDer::pem_file_iter(path).unwrap().map(|der| der.unwrap().to_vec()).collect()
}

fn signer(dir: &Path, root: &Path, role: Role) -> Signer {
    let roots = FleetRoots::new(&[der(root.join("ca.pem"))]).unwrap();
    verify_chain(&chain(dir.join("sign.pem")), &roots, role, NOW).unwrap()
}

fn list(dir: &Path, name: &str) -> RevocationList {
    let lists: Vec<Vec<u8>> = CertificateRevocationListDer::pem_file_iter(dir.join(name))
        .unwrap()
        .map(|der| der.unwrap().to_vec())
        .collect();
    let issuer = dir.join("issuer.pem");
    let issuers = if issuer.exists() { chain(issuer) } else { Vec::new() };
    RevocationList::read(&lists, &chain(dir.join("ca.pem")), &issuers).unwrap()
}

#[test]
fn a_renewed_pair_has_its_own_serial_whatever_its_key() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), "acme", NOW).unwrap();
    let (pi, device) = (dir.path().join("pi"), Subject::Device("pi-1".into()));
    issue(dir.path(), &device, &pi, NOW).unwrap();
    let first = signer(&pi, dir.path(), Role::Device);
    renew(dir.path(), &device, &pi, 90, true, NOW).unwrap();
    let same = signer(&pi, dir.path(), Role::Device);
    assert_eq!(same.key, first.key);
    assert_ne!(same.serial, first.serial);
    renew(dir.path(), &device, &pi, 90, false, NOW).unwrap();
    let other = signer(&pi, dir.path(), Role::Device);
    assert_ne!(other.key, first.key);
    let key = PrivateKeyDer::from_pem_file(pi.join("sign.key")).unwrap();
    assert_eq!(SigningKey::from_pkcs8(key.secret_der()).unwrap().key_id(), other.key.key_id());
    let names: Vec<String> = issued(dir.path()).unwrap().into_iter().map(|entry| entry.key_use).collect();
    assert_eq!(names, ["tls", "sign", "tls", "sign", "tls", "sign"]);
    assert!(fs::read_dir(&pi).unwrap().all(|file| file.unwrap().path().extension().unwrap() != "new"));
}

#[test]
fn a_collector_keeps_its_hosts_when_it_is_renewed() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), "acme", NOW).unwrap();
    let out = dir.path().join("hq");
    let hosts = vec!["hq.example".to_owned()];
    let nameless = Subject::Collector { name: "hq".into(), hosts: Vec::new() };
    let missing = renew(dir.path(), &nameless, &out, 90, false, NOW);
    assert!(matches!(missing, Err(PkiError::NoHosts(_))));
    issue(dir.path(), &Subject::Collector { name: "hq".into(), hosts: hosts.clone() }, &out, NOW).unwrap();
    renew(dir.path(), &nameless, &out, 90, false, NOW).unwrap();
    let tls = issued(dir.path()).unwrap().into_iter().rev().find(|entry| entry.key_use == "tls").unwrap();
    assert_eq!(tls.hosts, hosts);
}

#[test]
fn revoking_a_name_takes_every_certificate_of_it() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), "acme", NOW).unwrap();
    let (pi, hq) = (dir.path().join("pi"), dir.path().join("hq"));
    let device = Subject::Device("pi-1".into());
    issue(dir.path(), &device, &pi, NOW).unwrap();
    let old = chain(pi.join("sign.pem"));
    renew(dir.path(), &device, &pi, 90, false, NOW).unwrap();
    let hosts = vec!["localhost".into()];
    issue(dir.path(), &Subject::Collector { name: "hq".into(), hosts }, &hq, NOW).unwrap();
    assert!(matches!(revoke(dir.path(), "pi-9", Reason::default(), NOW), Err(PkiError::Unknown(_))));
    assert_eq!(revoke(dir.path(), "pi-1", Reason::KeyCompromise, NOW).unwrap().len(), 4);
    assert_eq!(revoke(dir.path(), "pi-1", Reason::KeyCompromise, NOW).unwrap().len(), 0, "already");
    let all = list(dir.path(), ALL_LIST);
    assert_eq!((all.len(), all.number()), (4, 2));
    for chain in [old, chain(pi.join("sign.pem")), chain(pi.join("tls.pem"))] {
        assert_eq!(all.find(&chain).unwrap().reason, "key_compromise");
    }
    assert!(list(dir.path(), COLLECTORS_LIST).is_empty(), "gateways need not know of each other");
    let serial = signer(&hq, dir.path(), Role::Collector).serial;
    assert_eq!(revoke(dir.path(), &serial.to_uppercase(), Reason::default(), NOW).unwrap().len(), 1);
    let collectors = list(dir.path(), COLLECTORS_LIST);
    assert!(collectors.find(&chain(hq.join("sign.pem"))).is_some());
    assert!(collectors.find(&chain(hq.join("tls.pem"))).is_none(), "only the serial that was named");
    assert!(list(dir.path(), ALL_LIST).covers(&collectors));
}

#[test]
fn an_intermediate_issues_and_revokes_what_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (root, site) = (dir.path().join("root"), dir.path().join("site"));
    init(&root, "acme", NOW).unwrap();
    intermediate(&root, "site-1", &site, NOW).unwrap();
    assert!(matches!(intermediate(&root, "site-1", &site, NOW), Err(PkiError::Exists(_))));
    let deeper = intermediate(&site, "site-2", &dir.path().join("deeper"), NOW);
    assert!(matches!(deeper, Err(PkiError::Deep(_))));
    let pi = dir.path().join("pi");
    issue(&site, &Subject::Device("pi-1".into()), &pi, NOW).unwrap();
    assert_eq!(chain(pi.join("sign.pem")).len(), 2, "the leaf and its issuer");
    assert_eq!(chain(pi.join("tls.pem")).len(), 2);
    assert_eq!(signer(&pi, &root, Role::Device).path.to_string(), "acme/pi-1");
    revoke(&site, "pi-1", Reason::Superseded, NOW).unwrap();
    assert!(list(&site, ALL_LIST).find(&chain(pi.join("sign.pem"))).is_some());
    // The root takes the whole site out.
    revoke(&root, "site-1", Reason::CaCompromise, NOW).unwrap();
    assert_eq!(list(&root, ALL_LIST).find(&chain(pi.join("sign.pem"))).unwrap().reason, "ca_compromise");
    assert_eq!(list(&root, COLLECTORS_LIST).len(), 1);
}

#[test]
fn a_torn_line_of_the_register_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), "acme", NOW).unwrap();
    let issue_for = |name: &str| {
        issue(dir.path(), &Subject::Device(name.into()), &dir.path().join(name), NOW).unwrap();
        issued(dir.path()).unwrap().len()
    };
    assert_eq!(issue_for("pi-1"), 2);
    let path = dir.path().join("issued.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}{{\"serial\":\"4a")).unwrap();
    assert_eq!(issued(dir.path()).unwrap().len(), 2);
    assert_eq!(issue_for("pi-2"), 4);
    assert!(fs::read_to_string(&path).unwrap().starts_with(&format!("{whole}{{\"serial\":\"")));
    revoke(dir.path(), "pi-2", Reason::KeyCompromise, NOW).unwrap();
}

/// What a person mistypes is told with what to write instead, before anything is written.
#[test]
fn likely_mistakes_on_the_command_line_are_told_with_their_cure() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        verb: cli::PkiVerb,
    }
    use clap::Parser;
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki").display().to_string();
    init(&dir.path().join("pki"), "acme", NOW).unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let file = file.display().to_string();
    let told = |words: &[&str]| {
        let line = std::iter::once("pki").chain(words.iter().copied());
        match Line::try_parse_from(line) {
            Err(error) => error.to_string(),
            Ok(line) => {
                let error = cli::run(&line.verb, false, NOW, &mut Vec::new()).unwrap_err();
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                format!("{error}: {source}")
            }
        }
    };
    let serve = ["serve", "--dir", &pki, "--cert", &file, "--key", &file, "--listen", "127.0.0.1:0"];
    let with = |more: &[&'static str]| [&serve[..], more].concat();
    let out = dir.path().join("out").display().to_string();
    for (words, cure) in [
        (vec!["token", "create", "--dir", &pki, "--name", "Pi 7"], "no gateway can be called so"),
        (vec!["token", "create", "--dir", &pki, "--name", "pi-*", "--expires", "24"], "30m, 24h or 7d"),
        (vec!["token", "create", "--dir", "nowhere", "--name", "pi-*"], "check --dir"),
        (vec!["token", "list", "--dir", "nowhere"], "check --dir"),
        (vec!["token", "revoke", "beef", "--dir", &pki], "pki token list"),
        (vec!["list", "--dir", "nowhere"], "check --dir"),
        (vec!["list", "--dir", &file], "failed to read"),
        (vec!["issue", "--dir", &pki, "--device", "pi-1", "--out", &file], "name a folder"),
        (vec!["issue", "--dir", "nowhere", "--device", "pi-1", "--out", &out], "check --dir"),
        (vec!["renew", "--dir", &pki, "--device", "pi-9", "--out", &out], "pki list"),
        (vec!["revoke", "pi-9", "--dir", &pki], "pki list"),
        (with(&["--broker", "hq:8883"]), "mqtts://HOST:PORT"),
        (with(&["--broker", "mqtt://hq"]), "mqtts://HOST:PORT"),
        (with(&["--broker", "wss:///mqtt"]), "mqtts://HOST:PORT"),
        (with(&[]), "--broker"),
        (with(&["--broker", "mqtts://hq"]), "pki issue --collector"),
    ] {
        let told = told(&words);
        assert!(told.contains(cure), "{words:?}: {told}");
    }
    for sound in ["mqtts://hq:8883", "mqtts://[::1]", "wss://hq/mqtt", "mqtt://localhost:1883"] {
        assert!(!told(&with(&[sound])).contains("write mqtts"), "{sound}");
    }
    assert!(!dir.path().join("out").join("tls.key").exists(), "nothing was made");
    std::fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
    let told = told(&["issue", "--dir", &pki, "--device", "pi-1", "--out", &out]);
    assert!(told.contains("its key is not here"), "{told}");
}
