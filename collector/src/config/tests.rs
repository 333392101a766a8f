//! Every sample of the golden folders, and what its mistakes are called.

use super::*;
use crate::ingest::Beyond;
use headwater_core::time::Grade;
use headwater_lake::{Keep, RetentionRule};
use std::time::Duration;

fn samples(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/collector_config").join(kind);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

#[test]
fn valid_samples_are_taken() {
    for path in samples("valid") {
        let settings = load(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(settings.tenant.as_str(), "acme");
        assert_eq!(settings.config_hash.len(), 64);
    }
}

/// Each invalid sample has its words beside it; `HEADWATER_BLESS=1` writes them, to be read before they are kept.
#[test]
fn invalid_samples_say_every_mistake() {
    for path in samples("invalid") {
        let said = format!("{}\n", load(&path).unwrap_err());
        let words = path.with_extension("txt");
        if std::env::var_os("HEADWATER_BLESS").is_some() {
            std::fs::write(&words, &said).unwrap();
        }
        assert_eq!(said, std::fs::read_to_string(&words).unwrap(), "{}", path.display());
    }
}

#[test]
fn the_full_sample_means_what_it_says() {
    let path = samples("valid").into_iter().find(|path| path.ends_with("full.toml")).unwrap();
    let folder = path.parent().unwrap().to_owned();
    let settings = load(&path).unwrap();
    assert_eq!(settings.identity.ca, folder.join("pki/ca.pem"), "relative to the file's folder");
    assert_eq!(settings.broker_url, BrokerUrl { host: "127.0.0.1".into(), port: 8883, tls: true });
    assert_eq!((settings.client_id.as_str(), settings.keepalive_s), ("collector-1", 30));
    assert!(Role::ALL.iter().all(|role| settings.receive.does(*role)));
    assert_eq!((settings.receive.share, settings.receive.credit_bytes), (Share::None, 56 << 20));
    let quotas = settings.receive.quotas;
    assert_eq!(quotas.device.bytes_per_s, Some(1_000_000));
    assert_eq!(quotas.tenant.bytes_per_day, Some(500_000_000_000));
    let broker = BrokerSection {
        listen: "127.0.0.1:8883".parse().unwrap(),
        plain: false,
        version: headwater_mqtt::Version::V5,
    };
    assert_eq!(settings.broker, Some(broker));
    assert_eq!((settings.landing_dir, settings.sync_ms), (folder.join("landing"), 30));
    assert_eq!(
        (settings.lake.as_str(), &settings.branch),
        (folder.join("lake").to_str().unwrap(), &RefName::main())
    );
    let commit =
        CommitSettings { interval_ms: 10_000, bytes: 33_554_432, rows: 500_000, clock_wait_ms: 5_000 };
    assert_eq!(settings.commit, commit);
    let policy = &settings.compact.policy;
    assert_eq!(
        (settings.compact.enabled, settings.compact.correct, settings.compact.every_commits),
        (true, true, 8)
    );
    assert_eq!((policy.fan_in, policy.full_bytes, policy.close_after_us), (8, 134_217_728, 3_600_000_000));
    assert_eq!(policy.round_bytes_max, 1_073_741_824);
    let day_us = 86_400_000_000;
    let keep = Keep { full_us: 14 * day_us, hourly_us: 180 * day_us, reflog_us: 10 * day_us };
    let rule = |tables: &str, keep_days| RetentionRule { tables: tables.parse().unwrap(), keep_days };
    let upkeep = UpkeepSettings {
        enabled: true,
        at_hour: 3,
        keep,
        grace_us: 4 * day_us,
        settle: Duration::from_secs(1200),
        retention: vec![rule("raw.image", 30), rule("raw.*", 730)],
    };
    assert_eq!(settings.upkeep, upkeep);
    let clock = ClockSettings { assumed: Some((5_000_000, Grade::Guaranteed)), alarm_ns: 50_000_000 };
    assert_eq!(settings.clock, clock);
    let demand = |device: Option<&str>, stream: &str, ms: i64, beyond| TimeDemand {
        device: device.map(|name| name.parse().unwrap()),
        stream: stream.parse().unwrap(),
        require_ns: ms * 1_000_000,
        beyond,
    };
    let held = Beyond::Hold { ms: 60_000 };
    assert_eq!(
        settings.time,
        [demand(Some("pi-*"), "camera/*", 20, held), demand(None, "imu", 5, Beyond::Mark)]
    );
    let http = settings.http.unwrap();
    assert_eq!(http.listen, "127.0.0.1:9464".parse().unwrap());
    assert_eq!((http.tokens[0].name.as_str(), http.audit.ends_with("audit.jsonl")), ("alice", true));
    assert_eq!(http.tls.unwrap().key, folder.join("pki/tls.key"));
    assert_eq!(settings.protected.unwrap().to_string(), "main, release/*");
    assert_eq!(settings.recipes, vec![folder.join("recipes/drive.toml")]);
}

#[test]
fn broker_addresses() {
    let parse = |text: &str| text.parse::<BrokerUrl>().map(|url| (url.host, url.port, url.tls));
    assert_eq!(parse("mqtts://a.example"), Ok(("a.example".into(), 8883, true)));
    assert_eq!(parse("mqtt://localhost:18"), Ok(("localhost".into(), 18, false)));
    assert_eq!(parse("mqtts://[::1]:7"), Ok(("::1".into(), 7, true)));
    for wrong in
        ["a.example", "http://a", "mqtts://", "mqtts://a:0", "mqtts://a:b", "mqtts://a/b", "mqtts://a:99999"]
    {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn gates_and_events_are_read_with_their_defaults() {
    use crate::gate::GateMode;
    let path = samples("valid").into_iter().find(|path| path.ends_with("full.toml")).unwrap();
    let folder = path.parent().unwrap().to_owned();
    let Settings { gate, event, .. } = load(&path).unwrap();
    assert_eq!((gate.mode, gate.keep, gate.limits.unmatched_fail_percent), (GateMode::Branch, 8, 90));
    assert_eq!(gate.limits.gap_warn_percent, 10);
    assert_eq!((gate.hooks[0].timeout_s, gate.hooks[0].recipes.len()), (120, 1));
    let secret = Some(folder.join("pki/review.secret"));
    assert_eq!(
        gate.hooks[1].way,
        HookWay::Webhook("https://review.example.org/gate".parse().unwrap(), secret)
    );
    assert_eq!((event.webhooks[0].refs.len(), event.ca_file), (2, Some(folder.join("pki/partners.pem"))));
    let least = samples("valid").into_iter().find(|path| path.ends_with("least.toml")).unwrap();
    let least = load(&least).unwrap();
    assert_eq!((least.gate.mode, least.event), (GateMode::Inline, EventSettings::default()));
}

#[test]
fn a_lake_in_a_bucket_keeps_its_url_and_commits_less_often() {
    let path = samples("valid").into_iter().find(|path| path.ends_with("object_store.toml")).unwrap();
    let settings = load(&path).unwrap();
    assert_eq!((settings.lake.as_str(), settings.commit.interval_ms), ("s3://acme-lake/fleet", 30_000));
}
