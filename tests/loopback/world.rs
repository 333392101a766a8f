//! The folders, certificates and configuration of one run: what a field engineer and an operator would write.

use crate::clockless::{CLOCKLESS, WITNESS_LATENCY_MS};
use crate::ticks::unix_seconds;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Owner of the demo's lake. Letters and digits only: the embedded broker's tenants are.
pub const TENANT: &str = "demo";
/// The gateway's name.
pub const DEVICE: &str = "gateway-1";
/// Quarantined candidates a run keeps: of a minute and more of a bad gateway.
const QUARANTINED_KEPT: usize = 64;
/// Every seq below is synced at least this often on the gateway: what a power cut may cost.
pub const SYNC_INTERVAL_MS: u64 = 500;

/// What mosquitto must be told beside its address and certificates; the README shows the same lines.
pub const MOSQUITTO_SETTINGS: &str = "\
require_certificate true
use_identity_as_username true
allow_anonymous false
max_inflight_messages 100
max_queued_messages 0
max_queued_bytes 268435456
max_packet_size 262144
";

/// Its access list: the collector's name is `hq`, a device may write and read its own topics only.
pub const MOSQUITTO_ACL: &str = "\
user hq
topic read hw/1/in/#
topic write hw/1/ack/#
topic read hw/1/status/#

pattern write hw/1/in/+/+/%u/+
pattern read hw/1/ack/+/%u
pattern readwrite hw/1/status/+/%u
";

/// Where a gateway keeps its things, below the run's folder.
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// The gateway's name.
    pub device: &'static str,
    /// Its agent's configuration.
    pub config: &'static str,
    /// Folder of its certificates.
    pub identity: &'static str,
    /// Folder of its spool.
    pub spool: &'static str,
    /// What its agent says of itself.
    pub status: &'static str,
    /// Folder its camera writes to.
    pub camera: &'static str,
    /// What its slow sensor notes.
    pub env_truth: &'static str,
}

/// The first gateway's.
pub const FIRST: Seat = Seat {
    device: DEVICE,
    config: "agent.toml",
    identity: "gateway",
    spool: "spool",
    status: "status.json",
    camera: "camera",
    env_truth: "env.truth",
};

/// Where a run lives.
#[derive(Debug, Clone)]
pub struct World {
    /// Its folder.
    pub dir: PathBuf,
    /// Address of the broker.
    pub broker: String,
    /// Address of the collector's HTTP side.
    pub http: String,
    /// Commit cadence, ms.
    pub commit_interval_ms: u64,
    /// Batch linger on the agent, ms.
    pub linger_ms: u64,
    /// JPEGs travel as Lepton.
    pub lepton: bool,
    /// Files of recipes the collector is given.
    pub recipes: Vec<PathBuf>,
    /// Files of gate rules; with some, aligned rows are staged before they are judged.
    pub rules: Vec<PathBuf>,
}

/// Sources an agent gets.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Microcontroller.
    pub imu: PathBuf,
    /// Receiver.
    pub gps: PathBuf,
}

impl World {
    /// Makes the folders, certificates and configuration below `dir`, on free loopback ports.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(dir: &Path, commit_interval_ms: u64) -> io::Result<Self> {
        for part in ["camera", "spool", "pki", "gateway", "clockless", "hq", "recipes", "logs"] {
            std::fs::create_dir_all(dir.join(part))?;
        }
        let dir = dir.canonicalize()?;
        let drive = dir.join("recipes/drive.toml");
        let [broker, http] = free_ports()?.map(|port| format!("127.0.0.1:{port}"));
        let world = Self {
            dir,
            broker,
            http,
            commit_interval_ms,
            linger_ms: 500,
            lepton: false,
            recipes: vec![drive.clone()],
            rules: Vec::new(),
        };
        world.issue().map_err(io::Error::other)?;
        std::fs::write(drive, RECIPE)?;
        std::fs::write(world.path("recipes/wake.toml"), WAKE_RECIPE)?;
        Ok(world)
    }

    /// Tells the slow sensor to fall silent.
    ///
    /// # Errors
    /// What the system says.
    pub fn silence_slow_sensor(&self) -> io::Result<()> {
        std::fs::write(self.path("env.stop"), "")
    }

    /// A path of the run.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes the folders and certificates of a further gateway.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&self, seat: &Seat) -> io::Result<()> {
        use headwater_collector::pki::{self, Subject};
        use headwater_core::time::{NS_PER_S, UtcNanos};
        for part in [seat.identity, seat.spool, seat.camera] {
            std::fs::create_dir_all(self.path(part))?;
        }
        let now = UtcNanos(unix_seconds().saturating_mul(NS_PER_S));
        let subject = Subject::Device(seat.device.to_owned());
        pki::issue(&self.path("pki"), &subject, &self.path(seat.identity), now).map_err(io::Error::other)
    }

    fn issue(&self) -> Result<(), headwater_collector::pki::PkiError> {
        use headwater_collector::pki::{self, Subject};
        use headwater_core::time::{NS_PER_S, UtcNanos};
        let now = UtcNanos(unix_seconds().saturating_mul(NS_PER_S));
        let fleet = self.path("pki");
        pki::init(&fleet, TENANT, now)?;
        pki::issue(&fleet, &Subject::Device(DEVICE.to_owned()), &self.path("gateway"), now)?;
        pki::issue(&fleet, &Subject::Device(CLOCKLESS.to_owned()), &self.path("clockless"), now)?;
        let hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        pki::issue(&fleet, &Subject::Collector { name: "hq".to_owned(), hosts }, &self.path("hq"), now)
    }

    /// Writes `collector.toml` and gives its path.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_collector(&self) -> io::Result<PathBuf> {
        let path = self.path("collector.toml");
        let mut text = format!(
            r#"recipes = [{recipes}]
[tenant]
name = "{TENANT}"
[identity]
ca = "hq/ca.pem"
tls_cert = "hq/tls.pem"
tls_key = "hq/tls.key"
sign_cert = "hq/sign.pem"
sign_key = "hq/sign.key"
[mqtt]
broker = "mqtts://{broker}"
client_id = "hq"
[clock]
# One host, so the collector's UTC is the reference itself; a real one states what its NTP promises.
bound_ms = 1
assume = "guaranteed"
[broker]
listen = "{broker}"
[landing]
dir = "landing"
[lake]
location = "lake"
branch = "main"
[commit]
interval_ms = {interval}
[http]
listen = "{http}"
"#,
            recipes = quoted(&self.recipes),
            broker = self.broker,
            http = self.http,
            interval = self.commit_interval_ms
        );
        if !self.rules.is_empty() {
            write!(
                text,
                "[gate]\nmode = \"branch\"\nrules = [{}]\nkeep = {QUARANTINED_KEPT}\n",
                quoted(&self.rules)
            )
            .map_err(io::Error::other)?;
        }
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Writes `mosquitto.conf` and its access list, as production should have them, and gives its path.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_mosquitto(&self) -> io::Result<PathBuf> {
        let acl = self.path("mosquitto.acl");
        std::fs::write(&acl, MOSQUITTO_ACL)?;
        let (host, port) = self.broker.split_once(':').unwrap_or(("127.0.0.1", "8883"));
        let text = format!(
            "listener {port} {host}\ncafile {ca}\ncertfile {cert}\nkeyfile {key}\n{MOSQUITTO_SETTINGS}\
             acl_file {acl}\nuser {user}\npersistence false\n",
            ca = self.path("hq/ca.pem").display(),
            cert = self.path("hq/tls.pem").display(),
            key = self.path("hq/tls.key").display(),
            acl = acl.display(),
            user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned()),
        );
        let path = self.path("mosquitto.conf");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Writes `agent.toml` and gives its path. `program` is this binary, which is the slow sensor too.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_agent(&self, ports: &Ports, program: &Path, data: &Path) -> io::Result<PathBuf> {
        self.write_gateway(&FIRST, ports, program, &data.join("env.csv"))
    }

    /// Writes the configuration of the gateway at `seat`, whose slow sensor plays `env`, and gives its path.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_gateway(
        &self,
        seat: &Seat,
        ports: &Ports,
        program: &Path,
        env: &Path,
    ) -> io::Result<PathBuf> {
        let path = self.path(seat.config);
        let Seat { device, identity, spool, status, camera, .. } = seat;
        let mut text = format!(
            r#"[device]
tenant = "{TENANT}"
name = "{device}"
[identity]
ca = "{identity}/ca.pem"
tls_cert = "{identity}/tls.pem"
tls_key = "{identity}/tls.key"
sign_cert = "{identity}/sign.pem"
sign_key = "{identity}/sign.key"
[uplink]
broker = "mqtts://{broker}"
keepalive_s = 10
[spool]
dir = "{spool}"
max_bytes = "1GiB"
sync_interval_ms = {SYNC_INTERVAL_MS}
[batch]
linger_ms = {linger}
lepton = "{lepton}"
[status]
file = "{status}"

[[source]]
type = "serial"
stream = "imu"
port = "{imu}"
framing = "link"
# The recipe places samples on the gateway's own line, and players share a busy machine with the agent.
clock = "arrival"
latency_ms = 20

[[source]]
type = "serial"
stream = "gps"
port = "{gps}"
framing = "nmea"
# This receiver's sentences are here within 100 ms of its fix.
latency_ms = 100

[[source]]
type = "camera_dir"
stream = "camera/front"
dir = "{camera}"
# This camera's pictures are in the folder within 50 ms of their exposure.
latency_ms = 50
"#,
            broker = self.broker,
            linger = self.linger_ms,
            lepton = if self.lepton { "always" } else { "never" },
            imu = ports.imu.display(),
            gps = ports.gps.display(),
        );
        let words = [
            program.display().to_string(),
            crate::roles::ROLE.to_owned(),
            "slow-sensor".to_owned(),
            env.display().to_string(),
            self.path(seat.env_truth).display().to_string(),
        ];
        let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        write!(
            text,
            r#"
[[source]]
type = "exec"
stream = "env/roof"
kind = "env"
command = [{}]
format = "csv"
# Its line is here within 200 ms of the measurement.
latency_ms = 200
fields = [
  {{ name = "n", type = "i64", unit = "1" }},
  {{ name = "temperature", type = "f64", unit = "Cel" }},
  {{ name = "humidity", type = "f64", unit = "%" }},
  {{ name = "wind_speed", type = "f64", unit = "m/s" }},
  {{ name = "pressure", type = "f64", unit = "hPa" }},
]
"#,
            words.join(", ")
        )
        .map_err(io::Error::other)?;
        if self.path("flood").exists() {
            let words = [program.display().to_string(), crate::roles::ROLE.to_owned(), "flood".to_owned()];
            let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            let fields: Vec<String> = ["a", "b", "c", "d", "e", "f"]
                .iter()
                .map(|n| format!("{{ name = {n:?}, type = \"f64\", unit = \"1\" }}"))
                .collect();
            write!(
                text,
                "\n[[source]]\ntype = \"exec\"\nstream = \"flood\"\nkind = \"flood\"\nonce = true\ncommand = [{}]\nformat = \"csv\"\nfields = [{}]\n",
                words.join(", "),
                fields.join(", ")
            )
            .map_err(io::Error::other)?;
        }
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Writes the configuration of the gateway that wakes in 1970 and gives its path.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_clockless(&self, program: &Path) -> io::Result<PathBuf> {
        let path = self.path("clockless.toml");
        let stop = self.path("clockless.stop");
        let words = [
            program.display().to_string(),
            crate::roles::ROLE.to_owned(),
            "witness".to_owned(),
            stop.display().to_string(),
        ];
        let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        let text = format!(
            r#"[device]
tenant = "{TENANT}"
name = "{CLOCKLESS}"
[identity]
ca = "clockless/ca.pem"
tls_cert = "clockless/tls.pem"
tls_key = "clockless/tls.key"
sign_cert = "clockless/sign.pem"
sign_key = "clockless/sign.key"
[uplink]
broker = "mqtts://{broker}"
keepalive_s = 10
[spool]
dir = "clockless/spool"
max_bytes = "64MiB"
sync_interval_ms = {SYNC_INTERVAL_MS}
[batch]
linger_ms = {linger}
[status]
file = "clockless/status.json"

# What its wall clock shows, beside what time it is.
[[source]]
type = "exec"
stream = "witness"
kind = "witness"
command = [{0}]
format = "csv"
once = true
# A line is at the agent within this, unless the machine is very busy.
latency_ms = {WITNESS_LATENCY_MS}
fields = [
  {{ name = "n", type = "i64", unit = "1" }},
  {{ name = "wall_ns", type = "i64", unit = "ns" }},
  {{ name = "true_ns", type = "i64", unit = "ns" }},
  {{ name = "seen_b_ns", type = "i64", unit = "ns" }},
]

# A second one, to be aligned with the first.
[[source]]
type = "exec"
stream = "beat"
kind = "beat"
command = [{0}]
format = "csv"
once = true
latency_ms = {WITNESS_LATENCY_MS}
fields = [
  {{ name = "n", type = "i64", unit = "1" }},
  {{ name = "wall_ns", type = "i64", unit = "ns" }},
  {{ name = "true_ns", type = "i64", unit = "ns" }},
  {{ name = "seen_b_ns", type = "i64", unit = "ns" }},
]
"#,
            words.join(", "),
            broker = self.broker,
            linger = self.linger_ms,
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Adds a source that never pauses to the agent's configuration (before it is written).
    ///
    /// # Errors
    /// What the system says.
    pub fn flood_file(&self) -> io::Result<()> {
        std::fs::write(self.path("flood"), "")
    }
}

/// Files as a list in TOML.
fn quoted(files: &[PathBuf]) -> String {
    let files: Vec<String> = files.iter().map(|file| format!("{:?}", file.display().to_string())).collect();
    files.join(", ")
}

/// Words that make `program` a role with a configuration file.
#[must_use]
pub fn role_args(role: &str, verb: &str, config: &Path) -> Vec<OsString> {
    [crate::roles::ROLE, role, verb, "--config"]
        .iter()
        .map(OsString::from)
        .chain([config.as_os_str().to_owned()])
        .collect()
}

/// Two ports that were free a moment ago.
///
/// # Errors
/// What the system says.
pub fn free_ports() -> io::Result<[u16; 2]> {
    let (a, b) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok([a.local_addr()?.port(), b.local_addr()?.port()])
}

/// One row per line of the witness that woke in 1970, with the beat before it.
const WAKE_RECIPE: &str = r#"headwater_recipe = 1
name = "wake"
doc = "what the witness of a gateway without a clock saw, with the beat before it"

[spine]
stream = "witness"
select = ["wall_ns", "true_ns"]

[watermark]
idle_timeout = "10s"

[[column]]
name = "beat"
stream = "beat"
select = ["true_ns"]
method = "previous"
tolerance = "2s"
"#;

/// One row per camera frame with motion, place and air as they last were.
const RECIPE: &str = r#"headwater_recipe = 1
name = "drive"
doc = "one row per front camera frame with motion, place and air as they last were"

[spine]
stream = "camera/front"
select = ["image", "name", "width", "height"]

[watermark]
idle_timeout = "10s"

[[column]]
name = "motion"
stream = "imu"
select = ["n", "accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z"]
method = "previous"
tolerance = "200ms"

[[column]]
name = "place"
stream = "gps"
select = ["lat", "lon", "alt_msl", "sog", "utc"]
method = "previous"
tolerance = "2s"

[[column]]
name = "air"
stream = "env/roof"
select = ["temperature", "humidity"]
method = "previous"
tolerance = "5s"
"#;
