//! Certificates of a running fleet: renewed on both sides, revoked, replaced; and enrolled over HTTPS. No row is lost.

use crate::setup::{Run, assert_whole, http_get, run_role};
use headwater_agent::config::{self, identity};
use headwater_agent::enroll::{EnrollError, Enrolling, HttpsUrl, Token, enroll, renew};
use headwater_agent::ship::CertTime;
use headwater_collector::pki::{self, Reason, Subject, serve};
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_tests::fleet::Broker;
use headwater_tests::ticks::{unix_seconds, wait_until};
use headwater_tests::world::DEVICE;
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A revocation and a renewal are to be taken up within this.
const TAKEN_UP: Duration = Duration::from_secs(60);

fn now() -> UtcNanos {
    UtcNanos(unix_seconds().saturating_mul(NS_PER_S))
}

fn shut_out(run: &Run) -> Option<String> {
    let status = run.status()?;
    status.json()["link"]["shut_out"].as_str().map(str::to_owned)
}

/// Key serials that the collector knows of the gateway.
fn serials(run: &Run) -> usize {
    let text = http_get(&run.world.http, "/api/status");
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let status: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    status["devices"][0]["key_serials"].as_array().map_or(0, Vec::len)
}

#[test]
fn renewed_on_both_sides_then_revoked_then_replaced_and_no_row_is_lost() {
    let mut run = Run::start(Broker::Embedded);
    run.wait_for_first_commit();
    let (fleet, hq, gateway) = (run.world.path("pki"), run.world.path("hq"), run.world.path("gateway"));

    // Both keys are renewed while rows flow.
    let collector = Subject::Collector { name: "hq".into(), hosts: Vec::new() };
    pki::renew(&fleet, &collector, &hq, 90, false, now()).unwrap();
    pki::renew(&fleet, &Subject::Device(DEVICE.into()), &gateway, 90, false, now()).unwrap();
    let renewed = wait_until(TAKEN_UP, || serials(&run) >= 2);
    assert!(renewed, "the gateway shows its new key\n{}", run.logs());
    let before = run.status().unwrap().acked_rows();
    let goes_on =
        wait_until(TAKEN_UP, || run.status().is_some_and(|status| status.acked_rows() > before + 200));
    assert!(goes_on, "{:?}\n{}", run.status(), run.logs());
    assert_eq!(shut_out(&run), None);

    // Revoked: refused, told, and visible on both sides.
    pki::revoke(&fleet, DEVICE, Reason::KeyCompromise, now()).unwrap();
    std::fs::copy(fleet.join("ca.crl"), hq.join("ca.crl")).unwrap();
    let told = wait_until(TAKEN_UP, || shut_out(&run).is_some_and(|why| why.contains("key_compromise")));
    assert!(told, "{:?}\n{}", run.status(), run.logs());
    assert!(run.metric("headwater_revoked_certificates") >= 4.0);
    // It may have been told by an ack that was due, with nothing refused yet: started again, it says hello.
    run.fleet.restart_agent().unwrap();
    let refused = wait_until(TAKEN_UP, || {
        let metrics = http_get(&run.world.http, "/metrics");
        metrics.lines().any(|line| line.contains(r#"reason="revoked""#) && !line.ends_with(" 0"))
    });
    assert!(refused, "{}", run.logs());
    let lake = run.world.path("lake").display().to_string();
    let noted = wait_until(TAKEN_UP, || {
        run_role("headwater", &["--lake", &lake, "--json", "devices"]).out.contains(r#""state":"revoked""#)
    });
    assert!(noted, "ops.devices says so");

    // Replaced, by a CA below the fleet's: everything that waited goes, also over a new connection.
    let site = run.world.path("site");
    pki::intermediate(&fleet, "site-1", &site, now()).unwrap();
    pki::issue(&site, &Subject::Device(DEVICE.into()), &gateway, now()).unwrap();
    let back = wait_until(TAKEN_UP, || run.status().is_some() && shut_out(&run).is_none());
    assert!(back, "{:?}\n{}", run.status(), run.logs());
    run.fleet.restart_agent().unwrap();
    let figures = run.finish();
    assert_whole(&figures);
}

/// An enrolment service of a fleet in `dir`, in a runtime of its own.
struct Service {
    url: HttpsUrl,
    runtime: tokio::runtime::Runtime,
    cancel: CancellationToken,
}

impl Service {
    fn start(dir: &Path) -> Self {
        pki::init(&dir.join("pki"), "acme", now()).unwrap();
        let hosts = vec!["localhost".to_owned()];
        let hq = Subject::Collector { name: "hq".into(), hosts };
        pki::issue(&dir.join("pki"), &hq, &dir.join("hq"), now()).unwrap();
        let settings = serve::ServeSettings {
            dir: dir.join("pki"),
            listen: "127.0.0.1:0".parse().unwrap(),
            cert: dir.join("hq/tls.pem"),
            key: dir.join("hq/tls.key"),
            offer: pki::Offer { brokers: vec!["mqtts://hq.example:8883".into()], days: 90 },
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let service = runtime.block_on(serve::bind(&settings)).unwrap();
        let url = HttpsUrl { host: "localhost".into(), port: service.address().port() };
        let cancel = CancellationToken::new();
        let running = service.run(cancel.clone());
        runtime.handle().spawn(async move { running.await.unwrap() });
        Self { url, runtime, cancel }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.cancel.cancel();
        let _end = self.runtime.enter();
    }
}

fn token(dir: &Path, name: &str, uses: u32) -> Token {
    let new = pki::NewToken { name: name.into(), valid_s: 3_600, uses };
    Token::parse(&pki::create_token(&dir.join("pki"), &new, now()).unwrap().1).unwrap()
}

#[test]
fn a_gateway_enrols_with_a_token_and_renews_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let url = &service.url;
    let (config, folder) = (dir.path().join("etc/agent.toml"), dir.path().join("gateway"));
    let once = token(dir.path(), "pi-*", 1);
    let enrolling = Enrolling {
        url,
        token: &once,
        name: "pi-7".parse().unwrap(),
        config: &config,
        dir: &folder,
        replace: false,
    };
    let enrolled = enroll(&enrolling, now()).unwrap();
    assert_eq!((enrolled.device.as_str(), enrolled.config_written), ("acme/pi-7", true));
    let settings = config::load(&config).unwrap();
    assert_eq!(settings.uplink.brokers[0].host, "hq.example");
    assert_eq!(settings.identity.renew.as_ref(), Some(url));
    let first = identity::load(&settings.identity, &settings.device, now()).unwrap();

    // The token admitted one; another CA's token admits nobody to this service.
    let again = enroll(&enrolling, now()).unwrap_err();
    assert!(
        matches!(&again, EnrollError::Refused { status: 403, why, .. } if why.contains("used before")),
        "{again}"
    );
    let elsewhere = tempfile::tempdir().unwrap();
    pki::init(&elsewhere.path().join("pki"), "acme", now()).unwrap();
    let foreign = token(elsewhere.path(), "pi-*", 1);
    let refused = enroll(&Enrolling { token: &foreign, ..enrolling_of(&enrolling) }, now()).unwrap_err();
    assert!(refused.to_string().contains("not the service the token is for"), "{refused}");

    // Renewal by the key in use; the clock may show 1970.
    let time = CertTime::new(first.time_floor, first.ends);
    renew(url, &settings.identity, &first, time.clone(), UtcNanos(0)).unwrap();
    let second = identity::load(&settings.identity, &settings.device, now()).unwrap();
    assert_ne!(second.signer.key, first.signer.key);
    assert_ne!(second.signer.serial, first.signer.serial);

    // Another gateway of that name needs the word, and shuts the first out.
    let more = token(dir.path(), "pi-7", 2);
    let other = dir.path().join("other");
    let taken = Enrolling {
        token: &more,
        config: &other.join("agent.toml"),
        dir: &other,
        ..enrolling_of(&enrolling)
    };
    let refused = enroll(&taken, now()).unwrap_err();
    assert!(refused.to_string().contains("--replace"), "{refused}");
    enroll(&Enrolling { replace: true, ..enrolling_of(&taken) }, now()).unwrap();
    let refused = renew(url, &settings.identity, &second, time, now()).unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");
}

fn enrolling_of<'a>(other: &Enrolling<'a>) -> Enrolling<'a> {
    let Enrolling { url, token, name, config, dir, replace } = other;
    Enrolling { url, token, name: name.clone(), config, dir, replace: *replace }
}

#[test]
fn the_commands_enrol_a_gateway_from_end_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path());
    let (pki, config) = (dir.path().join("pki"), dir.path().join("agent.toml"));
    let (pki, config) = (pki.to_str().unwrap(), config.to_str().unwrap());
    let made = run_role(
        "headwater",
        &["pki", "token", "create", "--dir", pki, "--name", "pi-*", "--expires", "30m"],
    );
    assert!(made.success, "{made:?}");
    let folder = dir.path().join("identity");
    let url = service.url.to_string();
    let args = ["enroll", &url, "--token", made.out.trim(), "--name", "pi-3", "--config", config, "--dir"];
    let args: Vec<&str> = args.into_iter().chain([folder.to_str().unwrap()]).collect();
    let enrolled = run_role("agent", &args);
    assert!(enrolled.success && enrolled.out.contains("this gateway is acme/pi-3"), "{enrolled:?}");
    // What is certainly past: its own certificates, until a collector promises more; and a false promise is forgotten.
    let spool = dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let mut text = std::fs::read_to_string(config).unwrap();
    text.push_str(&format!("[spool]\ndir = {:?}\n", spool.to_str().unwrap()));
    std::fs::write(config, text).unwrap();
    let floor = |words: &[&str]| {
        let words: Vec<&str> =
            ["time-floor", "--json", "--config", config].iter().chain(words).copied().collect();
        let told = run_role("agent", &words);
        assert!(told.success, "{told:?}");
        serde_json::from_str::<serde_json::Value>(&told.out).unwrap()
    };
    let own = floor(&[]);
    assert!(own["promised_ns"].is_null() && own["floor_ns"] == own["own_certificates_ns"], "{own}");
    let false_promise = 3_790_000_000_000_000_000_i64;
    std::fs::write(spool.join("time-floor.json"), format!("{{\"utc_ns\":{false_promise}}}")).unwrap();
    assert_eq!(floor(&[])["floor_ns"], false_promise);
    floor(&["--reset"]);
    assert_eq!(floor(&[]), own);
    let again = run_role("agent", &args);
    assert!(!again.success && again.err.contains("used before"), "{again:?}");
    let listed = run_role("headwater", &["pki", "list", "--dir", pki]);
    assert!(
        listed.out.lines().filter(|line| line.starts_with("pi-3") && line.contains("valid")).count() == 2,
        "{listed:?}"
    );
    let tokens = run_role("headwater", &["pki", "token", "list", "--dir", pki]);
    assert!(tokens.out.contains("used by pi-3"), "{tokens:?}");
    let mistaken = run_role("agent", &["enroll", "http://hq", "--token", "x"]);
    assert!(mistaken.err.contains("https://HOST:PORT"), "{mistaken:?}");
}
