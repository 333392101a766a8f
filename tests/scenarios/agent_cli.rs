//! The agent's command line as a field engineer types it: what is printed, and what a script sees in the exit code.

use crate::setup::{Output, program, run_role};
use headwater_tests::procs::Proc;
use headwater_tests::ticks::wait_until;
use headwater_tests::world::{DEVICE, TENANT, World, role_args};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for an agent of a debug build to come up, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A folder with this fleet's certificates; nothing listens at the broker's address.
pub(crate) struct Gateway {
    pub(crate) world: World,
    _dir: tempfile::TempDir,
}

impl Gateway {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { world: World::create(dir.path(), 1_000).unwrap(), _dir: dir }
    }

    /// Writes a configuration with these sources.
    pub(crate) fn config(&self, sources: &str) -> PathBuf {
        let text = format!(
            r#"[device]
tenant = "{TENANT}"
name = "{DEVICE}"
[identity]
ca = "gateway/ca.pem"
tls_cert = "gateway/tls.pem"
tls_key = "gateway/tls.key"
sign_cert = "gateway/sign.pem"
sign_key = "gateway/sign.key"
[uplink]
broker = "mqtts://{}"
[spool]
dir = "spool"
max_bytes = "64MiB"
sync_interval_ms = 100
[status]
file = "status.json"
{sources}"#,
            self.world.broker
        );
        let path = self.world.path("agent.toml");
        fs::write(&path, text).unwrap();
        path
    }

    fn agent(&self, verb: &str, config: &Path, more: &[&str]) -> Output {
        let mut words = vec![verb, "--config", config.to_str().unwrap()];
        words.extend(more);
        run_role("agent", &words)
    }
}

/// Prints a reading each 200 ms until it is ended.
pub(crate) const ROOM: &str = r#"
[[source]]
type = "exec"
stream = "env/room"
kind = "env"
command = ["sh", "-c", "while echo 21.5,40; do sleep 0.2; done"]
format = "csv"
fields = [ { name = "temperature", type = "f64", unit = "Cel" }, { name = "humidity", type = "f64", unit = "%" } ]
"#;

pub(crate) const CAMERA: &str = r#"
[[source]]
type = "camera_dir"
stream = "camera/front"
dir = "camera"
"#;

const NO_SUCH_PORT: &str = r#"
[[source]]
type = "serial"
stream = "scale"
port = "/dev/headwater-no-such-port"
framing = "lines"
kind = "scale"
fields = [ { name = "mass", type = "f64", unit = "kg" } ]
"#;

#[test]
fn help_shows_the_verbs_with_examples() {
    let help = run_role("agent", &["--help"]);
    assert!(help.success, "{help:?}");
    for word in ["run", "check", "test", "status", "Examples:", "headwater-agent check --config agent.toml"] {
        assert!(help.out.contains(word), "{word} is not in\n{}", help.out);
    }
    let wrong = run_role("agent", &["chekc"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.err.contains("check"), "the verb that was meant: {}", wrong.err);
}

#[test]
fn check_says_who_this_gateway_is() {
    let gateway = Gateway::new();
    let config = gateway.config(&format!("{ROOM}{CAMERA}"));
    let found = gateway.agent("check", &config, &[]);
    assert!(found.success && found.err.is_empty(), "{found:?}");
    let broker = format!("ships to mqtts://{}", gateway.world.broker);
    for word in [
        &format!("this gateway is {TENANT}/{DEVICE}"),
        "is valid until 20",
        &broker,
        "captures env/room from exec",
        "captures camera/front from camera_dir",
        "all is well",
    ] {
        assert!(found.out.contains(word), "{word} is not in\n{}", found.out);
    }
    assert!(!found.out.contains('!'), "{}", found.out);
}

#[test]
fn check_tells_all_mistakes_at_once_with_place_and_hint() {
    let gateway = Gateway::new();
    let config = gateway.config(
        "[batch]\nlinger_s = 5\n[[source]]\ntype = \"serial\"\nstream = \"imu\"\nframing = \"link\"\nbaud = \"fast\"\n\
         [[source]]\ntype = \"exec\"\nstream = \"env/room\"\nkind = \"env\"\ncommand = [\"x\"]\nformat = \"csv\"\n\
         fields = [ { name = \"accel\", unit = \"m/s^2\" } ]\n",
    );
    let found = gateway.agent("check", &config, &[]);
    assert_eq!(found.code, Some(1), "{found:?}");
    for word in [
        "mistakes in the configuration",
        "batch.linger_s: expected a known key",
        "did you mean `linger_ms`?",
        "source[0].port:",
        "source[0].baud:",
        "source[1].fields[0].unit: expected a UCUM unit, found \"m/s^2\"",
        "hint: write \"m/s2\"",
    ] {
        assert!(found.err.contains(word), "{word} is not in\n{}", found.err);
    }
    let missing = gateway.agent("check", &gateway.world.path("nowhere.toml"), &[]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.err.contains("nowhere.toml") && missing.err.contains("No such file"), "{}", missing.err);
}

#[test]
fn check_tells_all_that_is_wrong_with_the_certificates() {
    let gateway = Gateway::new();
    let config = gateway.config(ROOM);
    // Another fleet member's signing certificate, and a TLS key that is none.
    fs::copy(gateway.world.path("hq/sign.pem"), gateway.world.path("gateway/sign.pem")).unwrap();
    fs::write(gateway.world.path("gateway/tls.key"), "no key\n").unwrap();
    let found = gateway.agent("check", &config, &[]);
    assert_eq!(found.code, Some(1), "{found:?}");
    for word in
        ["! ", "gateway/tls.key holds no private key", "headwater pki issue", "gateway/sign.pem is not"]
    {
        assert!(found.out.contains(word), "{word} is not in\n{}", found.out);
    }
    assert!(found.out.contains("there is something to mend"), "{}", found.out);
}

#[test]
fn check_prints_the_schema_of_the_configuration() {
    let found = run_role("agent", &["check", "--schema"]);
    assert!(found.success, "{found:?}");
    let schema: Value = serde_json::from_str(&found.out).unwrap();
    assert!(schema["properties"]["source"].is_object(), "{schema}");
}

/// `… | head`: the reader has gone, and that is no mishap to tell of.
#[test]
fn output_that_nobody_reads_is_no_failure() {
    let gateway = Gateway::new();
    let config = gateway.config(ROOM);
    let config = config.to_str().unwrap();
    for words in [&["check", "--config", config][..], &["check", "--schema"], &["test", "--config", config]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = std::process::Command::new(program())
            .args([headwater_tests::roles::ROLE, "agent"])
            .args(words)
            .stdout(writer)
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && told.is_empty(), "{words:?}: {told}");
    }
}

#[test]
fn test_prints_a_reading_of_every_source_and_names_the_one_that_has_none() {
    let gateway = Gateway::new();
    let config = gateway.config(&format!("{NO_SUCH_PORT}{ROOM}{CAMERA}"));
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo/camera/0001.jpg");
    let bytes = fs::metadata(&picture).unwrap().len();
    fs::copy(picture, gateway.world.path("camera/0001.jpg")).unwrap();

    let found = gateway.agent("test", &config, &["--for", "10s"]);
    assert_eq!(found.code, Some(1), "a source without a reading: {found:?}");
    let line = |stream: &str| {
        let lines: Vec<&str> = found.out.lines().filter(|line| line.contains(stream)).collect();
        assert_eq!(lines.len(), 1, "one line for {stream}: {}", found.out);
        lines[0].to_owned()
    };
    let room = line("env/room (exec)");
    assert!(room.contains("temperature 21.5 Cel") && room.contains("humidity 40 %"), "{room}");
    let camera = line("camera/front (camera_dir)");
    assert!(camera.contains(&format!("{bytes} bytes")) && camera.contains("0001.jpg"), "{camera}");
    let scale = line("scale (serial)");
    assert!(scale.starts_with("! "), "{scale}");
    for word in ["/dev/headwater-no-such-port", "is it plugged in?", "/dev/serial/by-id"] {
        assert!(scale.contains(word), "the fix is named: {scale}");
    }
    assert!(gateway.world.path("camera/0001.jpg").exists(), "a test removes nothing");
    assert!(!gateway.world.path("status.json").exists(), "a test is no run");
    assert_eq!(fs::read_dir(gateway.world.path("spool")).unwrap().count(), 0, "a test stores nothing");

    let found = gateway.agent("test", &config, &["--for", "10s", "--json"]);
    assert_eq!(found.code, Some(1), "{found:?}");
    let rows: Vec<Value> = found.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |stream: &str| rows.iter().find(|row| row["stream"] == stream).unwrap();
    assert_eq!(
        (rows.len(), &of("env/room")["ok"], &of("camera/front")["ok"]),
        (3, &true.into(), &true.into())
    );
    assert_eq!(of("env/room")["values"]["temperature"], "21.5 Cel");
    assert_eq!(of("scale")["ok"], Value::Bool(false));
    assert!(of("scale")["problem"].as_str().unwrap().contains("/dev/headwater-no-such-port"), "{rows:?}");
}

#[test]
fn test_is_content_if_every_source_is() {
    let gateway = Gateway::new();
    let found = gateway.agent("test", &gateway.config(ROOM), &["--for", "30s"]);
    assert!(found.success && found.out.contains("temperature 21.5 Cel"), "{found:?}");
}

#[test]
fn status_without_an_agent_says_so() {
    let gateway = Gateway::new();
    let config = gateway.config(ROOM);
    for more in [&[][..], &["--json"][..]] {
        let found = gateway.agent("status", &config, more);
        assert_eq!((found.code, found.out.as_str()), (Some(1), ""), "{found:?}");
        for word in ["status.json", "is the agent running?", "systemctl status headwater-agent"] {
            assert!(found.err.contains(word), "{word} is not in\n{}", found.err);
        }
    }
}

#[test]
fn status_of_a_run_without_a_broker_shows_what_is_held_and_what_to_do() {
    let gateway = Gateway::new();
    let config = gateway.config(&format!("{ROOM}{NO_SUCH_PORT}"));
    let (args, log) = (role_args("agent", "run", &config), gateway.world.path("logs/agent.log"));
    let mut agent = Proc::new("agent", program(), args, log).in_own_group();
    agent.start().unwrap();
    let json = || -> Option<Value> {
        let found = gateway.agent("status", &config, &["--json"]);
        serde_json::from_str(&found.out).ok()
    };
    let held = |status: &Value| {
        let streams = status["streams"].as_array().unwrap();
        let room = streams.iter().find(|stream| stream["name"] == "env/room");
        room.and_then(|room| room["held_rows"].as_u64()).unwrap_or(0)
    };
    let mut trouble = None;
    let holds = wait_until(START_LIMIT, || {
        trouble = agent.check().err();
        // A row has an age once it is on disk, and the port is missed once it was tried.
        trouble.is_some()
            || json().is_some_and(|status| {
                held(&status) > 2
                    && status["spool"]["oldest_age_ms"].as_i64().is_some_and(|age| age > 1_000)
                    && status["link"]["last_error"].is_string()
                    && status["sources_down"]["scale"].is_string()
            })
    });
    assert!(trouble.is_none() && holds, "{trouble:?} {:?}\n{}", json(), agent.last_words());

    let found = gateway.agent("status", &config, &[]);
    assert_eq!(found.code, Some(1), "there is something to mend: {found:?}");
    let broker = &gateway.world.broker;
    for word in [
        &format!("{TENANT}/{DEVICE} (epoch "),
        &format!("not connected to mqtts://{broker}, last ack none yet"),
        "env/room (env): ",
        " held, 0 acked",
        " of 64.0 MiB, ",
        " rows waiting, the oldest for ",
        &format!("no connection to mqtts://{broker}"),
        "check the network",
        "source of scale is away",
        "/dev/headwater-no-such-port",
    ] {
        assert!(found.out.contains(word), "{word} is not in\n{}", found.out);
    }

    assert!(agent.stop(Duration::from_secs(30)).unwrap(), "{}", agent.last_words());
    let found = gateway.agent("status", &config, &["--json"]);
    let last: Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!((last["state"].as_str(), found.code), (Some("stopping"), Some(1)), "{found:?}");
    assert!(held(&last) > 2, "what was captured stays: {last}");
    let found = gateway.agent("status", &config, &[]);
    assert!(found.out.contains("the agent was told to end"), "{}", found.out);
    // Killed or gone without a word, it is not taken for running.
    let mut stale = last;
    stale["at_boot_ns"] = 0.into();
    fs::write(gateway.world.path("status.json"), stale.to_string()).unwrap();
    let found = gateway.agent("status", &config, &[]);
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(found.out.contains("the agent is not running, or hangs"), "{}", found.out);
}
