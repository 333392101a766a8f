//! The agent's way to a real broker: version by version, and seen from its command line.

use crate::setup::{Run, assert_whole, run_role};
use headwater_tests::fleet::Broker;
use headwater_tests::ticks::wait_until;
use serde_json::Value;
use std::time::Duration;

/// Longest wait for a link in another version to bring rows to the collector.
const LIMIT: Duration = Duration::from_secs(60);

fn link(run: &Run) -> Value {
    run.status().map(|status| status.json()["link"].clone()).unwrap_or_default()
}

/// `check --online` beside the running agent, which must not notice.
fn goes_all_the_way(run: &Run) {
    let config = run.world.path("agent.toml").display().to_string();
    let before = link(run)["reconnects"].clone();
    let found = run_role("agent", &["check", "--online", "--json", "--config", &config]);
    assert!(found.success, "{found:?}");
    let probe: Value = serde_json::from_str(&found.out).unwrap();
    let hops: Vec<&str> =
        probe["steps"].as_array().unwrap().iter().filter_map(|step| step["hop"].as_str()).collect();
    assert_eq!(hops, ["dns", "tcp", "tls", "mqtt", "subscribe"], "{probe}");
    let told = run_role("agent", &["check", "--online", "--config", &config]);
    assert!(told.success && told.out.contains("valid until") && told.out.contains("all is well"), "{told:?}");
    assert_eq!(link(run)["reconnects"], before, "the agent kept its link");
}

#[test]
fn mosquitto_is_reached_in_both_versions_of_mqtt() {
    let mut run = Run::start(Broker::Mosquitto);
    run.wait_for_first_commit();
    assert!(link(&run)["broker"].as_str().unwrap().ends_with("(MQTT 5)"), "{}", link(&run));
    goes_all_the_way(&run);
    run.fleet.kill("agent").unwrap();
    let config = run.world.path("agent.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[uplink]\n", "[uplink]\nmqtt = \"3.1.1\"\n")).unwrap();
    run.fleet.restart("agent").unwrap();
    let acked = wait_until(LIMIT, || {
        let link = link(&run);
        link["broker"].as_str().is_some_and(|broker| broker.ends_with("(MQTT 3.1.1)"))
            && link["acks"].as_u64() > Some(0)
    });
    assert!(acked, "{}\n{}", link(&run), run.logs());
    goes_all_the_way(&run);
    assert_whole(&run.finish());
}

#[test]
fn the_embedded_broker_is_reached() {
    let mut run = Run::start(Broker::Embedded);
    run.wait_for_first_commit();
    goes_all_the_way(&run);
    assert_whole(&run.finish());
}

/// Both ends find out by themselves, remember it, and keep every promise: also when one of them or the broker dies.
#[test]
fn a_broker_of_311_only_serves_both_ends() {
    let mut run = Run::start(Broker::Embedded311);
    run.wait_for_first_commit();
    assert!(link(&run)["broker"].as_str().unwrap().ends_with("(MQTT 3.1.1)"), "{}", link(&run));
    let log = |run: &Run| std::fs::read_to_string(run.world.path("logs/collector.log")).unwrap();
    let spoken = |run: &Run| log(run).lines().filter(|line| line.contains("version=3.1.1")).count();
    assert_eq!(spoken(&run), 1, "{}", log(&run));
    goes_all_the_way(&run);
    // A collector that is gone for a moment: its session is found again, or what it held is sent again.
    run.fleet.kill_and_restart("collector").unwrap();
    assert!(wait_until(LIMIT, || spoken(&run) == 2), "{}", run.logs());
    // A broker that forgets everything: 3.1.1 is what both ask for now.
    let refused = |run: &Run| log(run).matches("instead of").count();
    let before = refused(&run);
    run.fleet.kill_and_restart("broker").unwrap();
    assert!(wait_until(LIMIT, || spoken(&run) == 3), "{}", run.logs());
    assert_eq!(refused(&run), before, "the version was remembered: {}", log(&run));
    assert_whole(&run.finish());
}

#[test]
fn mosquitto_serves_both_ends_in_311() {
    let mut run = Run::start(Broker::Mosquitto);
    run.wait_for_first_commit();
    for (name, config, from, to) in [
        ("agent", "agent.toml", "[uplink]\n", "[uplink]\nmqtt = \"3.1.1\"\n"),
        ("collector", "collector.toml", "[mqtt]\n", "[mqtt]\nversion = \"3.1.1\"\n"),
    ] {
        run.fleet.kill(name).unwrap();
        let config = run.world.path(config);
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace(from, to)).unwrap();
        run.fleet.restart(name).unwrap();
    }
    let acked = wait_until(LIMIT, || {
        let link = link(&run);
        link["broker"].as_str().is_some_and(|broker| broker.ends_with("(MQTT 3.1.1)"))
            && link["acks"].as_u64() > Some(0)
    });
    assert!(acked, "{}\n{}", link(&run), run.logs());
    let log = std::fs::read_to_string(run.world.path("logs/collector.log")).unwrap();
    assert!(log.contains("version=3.1.1"), "{log}");
    assert_whole(&run.finish());
}
