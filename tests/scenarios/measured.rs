//! `cargo measure delivery` from end to end, so small that its figures mean nothing: it runs, and says everything.

use serde_json::Value;
use std::process::{Command, Stdio};

/// Every metric, with the number of cases it is said for.
const METRICS: [(&str, usize); 10] = [
    ("agent → mosquitto → landed", 6),
    ("CPU of the agent", 6),
    ("CPU of mosquitto", 6),
    ("CPU of the collector", 6),
    ("agent → link → mosquitto → landed", 3),
    ("agent memory at most", 13),
    ("capture to landed beside the backlog, p50", 1),
    ("capture to landed beside the backlog, p99", 1),
    ("time to catch up", 1),
    ("bytes on the wire per payload byte", 3),
];

#[test]
fn measure_delivery_says_every_figure() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_measure"))
        .args(["delivery", "--mb", "1", "--json", "--dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    let figures: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (metric, cases) in METRICS {
        let said: Vec<&Value> = figures.iter().filter(|figure| figure["metric"] == metric).collect();
        assert_eq!(said.len(), cases, "{metric}: {out}");
        for figure in said {
            assert_eq!(figure["measure"], "delivery");
            assert!(figure["value"].as_f64().is_some_and(|value| value >= 0.0), "{figure}");
        }
    }
    assert_eq!(figures.len(), METRICS.iter().map(|(_, cases)| cases).sum::<usize>(), "{out}");
    let wire = figures.iter().find(|figure| figure["metric"] == METRICS[9].0).unwrap();
    assert!(wire["value"].as_f64() > Some(1.0), "payload is incompressible: {wire}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves nothing behind");
}
