//! Ctrl-C in the demo, as a terminal sends it: to the whole foreground group.

use crate::setup::program;
use headwater_tests::ticks::wait_until;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longest wait for a demo to play, and to end after it was asked to: debug builds on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A demo in a process group of its own, which ends with the test.
struct Demo(Child);

impl Demo {
    fn interrupt(&self) {
        let group = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Its children end with it.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn ctrl_c_ends_the_playing_and_shows_the_figures() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let child = Command::new(program())
        .args(["--for", "10m", "--json", "--dir"])
        .arg(&run)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut demo = Demo(child);
    let status = run.join("status.json");
    let committed = wait_until(LIMIT, || {
        headwater_tests::status::AgentStatus::read(&status).is_some_and(|status| status.acked_rows() > 0)
    });
    assert!(committed, "the demo commits nothing");
    demo.interrupt();
    let lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let last = lines.map(Result::unwrap).last().unwrap_or_default();
    let figures: Value = serde_json::from_str(&last).unwrap_or_else(|e| panic!("{e}: {last:?}"));
    assert!(demo.0.wait().unwrap().success(), "{figures}");
    assert_eq!((&figures["lost"], &figures["duplicate"]), (&Value::from(0), &Value::from(0)), "{figures}");
    assert_eq!(figures["drained"], Value::from(true));
    assert!(run.join("report.html").exists());
}
