//! Who gets certificates at the desk, and who does not.

use super::*;
use crate::pki::token::{NewToken, create};
use crate::pki::{Subject, init, intermediate, issue, revoke};
use headwater_core::wire::SigningKey;
use headwater_core::wire::request::{new_key, pem};
use ring::rand::SystemRandom;
use std::sync::Arc;

const NOW: UtcNanos = UtcNanos(1_790_000_000 * NS_PER_S);

fn at(s: i64) -> UtcNanos {
    UtcNanos(NOW.0 + s * NS_PER_S)
}

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

struct Bench {
    dir: tempfile::TempDir,
    desk: Desk,
}

/// What a gateway asks with, and the signing key it keeps.
struct Asking {
    request: EnrollRequest,
    key: SigningKey,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "acme", NOW).unwrap();
        let desk = Desk::new(dir.path(), Offer { brokers: vec!["mqtts://hq:8883".into()], days: 90 });
        Self { dir, desk }
    }

    fn token(&self, name: &str, uses: u32) -> String {
        create(self.dir.path(), &NewToken { name: name.into(), valid_s: 3_600, uses }, NOW).unwrap().1
    }

    fn signer(&self, granted: &Granted) -> Signer {
        let roots = FleetRoots::new(&certificates(&granted.ca)).unwrap();
        verify_chain(&certificates(&granted.sign_cert), &roots, SignerRole::Device, NOW).unwrap()
    }
}

fn requests(name: &str) -> (String, String, SigningKey) {
    let make = |key_use| new_key(key_use, &name.parse().unwrap(), &SystemRandom::new()).unwrap();
    let (tls, sign) = (make(KeyUse::Tls), make(KeyUse::Sign));
    let text = |der: &[u8]| pem("CERTIFICATE REQUEST", der);
    (text(&tls.request), text(&sign.request), SigningKey::from_pkcs8(&sign.pkcs8).unwrap())
}

fn asking(token: &str, name: &str) -> Asking {
    let (tls_request, sign_request, key) = requests(name);
    let request =
        EnrollRequest { token: token.into(), name: name.into(), tls_request, sign_request, replace: false };
    Asking { request, key }
}

fn renewal(granted: &Granted, key: &SigningKey, name: &str) -> (RenewRequest, SigningKey) {
    let (tls_request, sign_request, next) = requests(name);
    let certificate = granted.sign_cert.clone();
    let signed = format!("{RENEW_CONTEXT}{tls_request}{sign_request}{certificate}");
    let signature = key.sign(&Sha256::of(signed.as_bytes())).iter().map(|b| format!("{b:02x}")).collect();
    (RenewRequest { certificate, tls_request, sign_request, signature }, next)
}

#[test]
fn a_token_gives_certificates_for_the_keys_that_were_made() {
    let bench = Bench::new();
    let asking = asking(&bench.token("pi-*", 1), "pi-1");
    let granted = bench.desk.enroll(address(1), &asking.request, NOW).unwrap();
    let signer = bench.signer(&granted);
    assert_eq!(
        (signer.path.to_string().as_str(), signer.key),
        ("acme/pi-1", asking.key.verifying_key().unwrap())
    );
    assert_eq!(granted.brokers, ["mqtts://hq:8883"]);
}

/// The answer was lost, or the gateway's power was: it has its keys and asks again.
#[test]
fn the_same_token_and_keys_get_the_same_certificates_and_others_get_none() {
    let bench = Bench::new();
    let token = bench.token("pi-*", 1);
    let first = asking(&token, "pi-1");
    let granted = bench.desk.enroll(address(1), &first.request, NOW).unwrap();
    for later in [0, 60, 7_200] {
        assert_eq!(
            bench.desk.enroll(address(2), &first.request, at(later)).unwrap(),
            granted,
            "at {later} s"
        );
    }
    assert_eq!(issued(bench.dir.path()).unwrap().len(), 2, "one pair was issued");
    let refused = |request: &EnrollRequest| bench.desk.enroll(address(3), request, NOW).unwrap_err();
    let used = EnrollError::Token(TokenRefusal::Used);
    assert_eq!(refused(&asking(&token, "pi-1").request).to_string(), used.to_string(), "other keys");
    assert_eq!(refused(&asking(&token, "pi-2").request).to_string(), used.to_string(), "another name");
    let mut half = asking(&token, "pi-1").request;
    half.sign_request = first.request.sign_request.clone();
    assert_eq!(refused(&half).to_string(), used.to_string(), "half of the keys");
    // Revoked, it is not given out again; and with the token goes what was kept for it.
    revoke(bench.dir.path(), &bench.signer(&granted).serial, Reason::KeyCompromise, NOW).unwrap();
    assert!(matches!(refused(&first.request), EnrollError::Revoked));
    let id = crate::pki::tokens(bench.dir.path()).unwrap()[0].id.clone();
    let kept = || std::fs::read_dir(bench.dir.path().join("granted")).unwrap().count();
    assert_eq!(kept(), 1);
    crate::pki::revoke_token(bench.dir.path(), &id).unwrap();
    assert_eq!(kept(), 0);
    assert!(matches!(refused(&first.request), EnrollError::Token(TokenRefusal::Unknown)));
}

/// The service dies after each of its writes: the gateway asks again, gets certificates that the register has, and
/// the token is used once.
#[test]
fn an_enrolment_cut_at_any_step_is_finished_by_the_next_try() {
    for cut in 0..4 {
        let bench = Bench::new();
        let dir = bench.dir.path();
        let path = |name: &str| dir.join(name);
        let token = bench.token("pi-*", 1);
        let first = asking(&token, "pi-1");
        let tokens_before = std::fs::read_to_string(path("tokens.json")).unwrap();
        let granted = bench.desk.enroll(address(1), &first.request, NOW).unwrap();
        // Kept, then one line of the register, then the other, then the token: what came after the cut is undone.
        std::fs::write(path("tokens.json"), tokens_before).unwrap();
        let lines: Vec<String> = std::fs::read_to_string(path("issued.jsonl"))
            .unwrap()
            .lines()
            .map(|l| format!("{l}\n"))
            .collect();
        std::fs::write(path("issued.jsonl"), lines[..cut.min(2)].concat()).unwrap();
        if cut == 3 {
            std::fs::remove_dir_all(path("granted")).unwrap();
            std::fs::write(path("issued.jsonl"), "").unwrap();
        }
        let again = bench.desk.enroll(address(1), &first.request, NOW).unwrap();
        assert_eq!(again == granted, cut != 3, "cut {cut}: the same certificates, if they were made");
        let register = issued(dir).unwrap();
        assert_eq!(register.len(), 2, "cut {cut}");
        assert!(register.iter().any(|entry| entry.serial == bench.signer(&again).serial));
        assert_eq!(bench.desk.enroll(address(1), &first.request, NOW).unwrap(), again);
        let other = bench.desk.enroll(address(1), &asking(&token, "pi-2").request, NOW);
        assert!(matches!(other, Err(EnrollError::Token(TokenRefusal::Used))), "cut {cut}: used once");
    }
}

#[test]
fn of_two_at_once_with_one_token_exactly_one_wins() {
    let bench = Arc::new(Bench::new());
    let token = bench.token("pi-*", 1);
    let threads: Vec<_> = (0..8_u8)
        .map(|n| {
            let (bench, asking) = (Arc::clone(&bench), asking(&token, &format!("pi-{n}")));
            std::thread::spawn(move || bench.desk.enroll(address(n), &asking.request, NOW).is_ok())
        })
        .collect();
    let won = threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count();
    assert_eq!(won, 1);
    let names = issued(bench.dir.path()).unwrap();
    assert_eq!(names.len(), 2, "one pair was issued");
}

#[test]
fn names_are_checked_and_a_refusal_uses_nothing_up() {
    let bench = Bench::new();
    let hosts = vec!["localhost".to_owned()];
    let hq = Subject::Collector { name: "pi-hq".into(), hosts };
    issue(bench.dir.path(), &hq, &bench.dir.path().join("hq"), NOW).unwrap();
    let token = bench.token("pi-*", 1);
    let refused = |request: &EnrollRequest| bench.desk.enroll(address(1), request, NOW).unwrap_err();
    assert!(matches!(refused(&asking(&token, "cam-1").request), EnrollError::Token(TokenRefusal::Name)));
    assert!(matches!(refused(&asking(&token, "pi-hq").request), EnrollError::Reserved(_)));
    let mut other = asking(&token, "pi-1").request;
    other.sign_request = asking(&token, "pi-2").request.sign_request;
    assert!(matches!(refused(&other), EnrollError::Request(_)), "a request of another name");
    let mut swapped = asking(&token, "pi-1").request;
    std::mem::swap(&mut swapped.tls_request, &mut swapped.sign_request);
    assert!(matches!(refused(&swapped), EnrollError::Request(_)));
    let mut nameless = asking(&token, "pi-1").request;
    nameless.name = "Pi 1".into();
    assert!(matches!(refused(&nameless), EnrollError::Request(_)));
    assert!(bench.desk.enroll(address(1), &asking(&token, "pi-1").request, NOW).is_ok());
}

#[test]
fn an_enrolled_name_is_replaced_only_when_asked_for() {
    let bench = Bench::new();
    let token = bench.token("pi-1", 2);
    let first = bench.desk.enroll(address(1), &asking(&token, "pi-1").request, NOW).unwrap();
    let mut second = asking(&token, "pi-1").request;
    assert!(matches!(bench.desk.enroll(address(1), &second, NOW), Err(EnrollError::Taken(_))));
    second.replace = true;
    let mut wide = asking(&bench.token("pi-*", 1), "pi-1").request;
    wide.replace = true;
    assert!(matches!(bench.desk.enroll(address(1), &wide, NOW), Err(EnrollError::TooWide(_))));
    bench.desk.enroll(address(1), &second, NOW).unwrap();
    let revoked = revoked(bench.dir.path()).unwrap();
    assert_eq!(revoked.len(), 2, "both certificates of the gateway that was there");
    assert!(revoked.iter().any(|entry| entry.serial == bench.signer(&first).serial));
}

#[test]
fn wrong_tokens_are_limited_and_right_ones_are_not() {
    let bench = Bench::new();
    let wrong = asking("hwt1-00-00-00", "pi-1");
    let refusals = |from| bench.desk.enroll(from, &wrong.request, NOW).unwrap_err();
    for _ in 0..WRONG_PER_ADDRESS {
        assert!(matches!(refusals(address(1)), EnrollError::Token(TokenRefusal::Unknown)));
    }
    assert!(matches!(refusals(address(1)), EnrollError::TooMany));
    let token = bench.token("pi-*", 2);
    assert!(bench.desk.enroll(address(2), &asking(&token, "pi-1").request, NOW).is_ok());
    assert!(bench.desk.enroll(address(1), &asking(&token, "pi-2").request, at(WRONG_WINDOW_S)).is_ok());
}

#[test]
fn the_key_in_use_renews_and_no_other() {
    let bench = Bench::new();
    let asking = asking(&bench.token("pi-1", 1), "pi-1");
    let granted = bench.desk.enroll(address(1), &asking.request, NOW).unwrap();
    let (request, next) = renewal(&granted, &asking.key, "pi-1");
    let renewed = bench.desk.renew(&request, NOW).unwrap();
    assert_eq!(bench.signer(&renewed).key, next.verifying_key().unwrap());
    let refused = |request: &RenewRequest, now| bench.desk.renew(request, now).unwrap_err();
    let (forged, _) = renewal(&granted, &next, "pi-1");
    assert!(matches!(refused(&forged, NOW), EnrollError::Request(_)), "signed by another key");
    let (other, _) = renewal(&granted, &asking.key, "pi-2");
    assert!(matches!(refused(&other, NOW), EnrollError::Request(_)), "for another name");
    let (late, _) = renewal(&granted, &asking.key, "pi-1");
    assert!(matches!(refused(&late, at(91 * DAY_S)), EnrollError::Certificate(_)), "after its end");
    let foreign = Bench::new();
    assert!(matches!(foreign.desk.renew(&late, NOW), Err(EnrollError::Certificate(_))));
    revoke(bench.dir.path(), &bench.signer(&granted).serial, Reason::KeyCompromise, NOW).unwrap();
    assert!(matches!(refused(&late, NOW), EnrollError::Revoked));
    // The renewed one is good, until it is asked for too often.
    let mut last = Ok(());
    for _ in 0..ISSUED_PER_DAY {
        let (request, _) = renewal(&renewed, &next, "pi-1");
        last = bench.desk.renew(&request, NOW).map(drop);
        if last.is_err() {
            break;
        }
    }
    assert!(matches!(last, Err(EnrollError::TooOften(_))));
}

#[test]
fn only_what_this_very_ca_issued_is_renewed() {
    let bench = Bench::new();
    let out = bench.dir.path().join("site");
    intermediate(bench.dir.path(), "site", &out, NOW).unwrap();
    let site = Desk::new(&out, Offer { brokers: Vec::new(), days: 90 });
    let token = create(&out, &NewToken { name: "pi-1".into(), valid_s: 3_600, uses: 1 }, NOW).unwrap().1;
    let asking = asking(&token, "pi-1");
    let granted = site.enroll(address(1), &asking.request, NOW).unwrap();
    let (request, _) = renewal(&granted, &asking.key, "pi-1");
    assert!(matches!(bench.desk.renew(&request, NOW), Err(EnrollError::Certificate(_))), "another CA's");
    assert!(site.renew(&request, NOW).is_ok());
    std::fs::write(out.join("issued.jsonl"), "").unwrap();
    assert!(matches!(site.renew(&request, NOW), Err(EnrollError::Unknown(_))), "not in its register");
}
