//! The configuration file as people write it.
//!
//! Every key is optional here, so that a missing one is found by the check, together with all other
//! mistakes. Keys are read one by one for the same reason: serde stops at its first error.

use super::mistake::{Mistake, Mistakes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Most mistakes worth telling about one file; the rest shows when these are mended.
const MISTAKES_MAX: usize = 100;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Who this gateway is.
    pub device: RawDevice,
    /// Its certificates and keys.
    pub identity: RawIdentity,
    /// Where captures are sent.
    pub uplink: RawUplink,
    /// What links may cost; one `[[link]]` for each kind of interface.
    pub link: Vec<RawLink>,
    /// Where the time comes from.
    pub clock: RawClock,
    /// Where captures are kept until the collector has them.
    pub spool: RawSpool,
    /// How captures are put into messages.
    pub batch: RawBatch,
    /// Where the agent says how it is.
    pub status: RawStatus,
    /// What it captures; one `[[source]]` each.
    pub source: Vec<RawSource>,
}

/// `[device]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawDevice {
    /// Owner: O of the certificates. Required.
    pub tenant: Option<String>,
    /// Name: CN of the certificates. Required.
    pub name: Option<String>,
}

/// `[identity]`: PEM files, as `headwater pki issue` writes them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawIdentity {
    /// Certificates of the fleet's roots. Required.
    pub ca: Option<String>,
    /// TLS certificate of this gateway. Required.
    pub tls_cert: Option<String>,
    /// Its private key, PKCS#8. Required.
    pub tls_key: Option<String>,
    /// Ed25519 certificate that signs messages, with intermediates. Required.
    pub sign_cert: Option<String>,
    /// Its private key, PKCS#8. Required.
    pub sign_key: Option<String>,
    /// Revocation lists of collectors, as `headwater pki revoke` writes them (`collectors.crl`). Not needed: collectors
    /// bring them too.
    pub crl: Option<String>,
    /// Where certificates are renewed, `https://host:8443`, as `headwater-agent enroll` writes it. Without it they
    /// are renewed by hand.
    pub renew: Option<String>,
}

/// `[uplink]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawUplink {
    /// MQTT broker: `mqtts://host:8883`, or `wss://host/mqtt` for MQTT in a WebSocket; `mqtt://` and `ws://` on loopback
    /// only. Required, unless there is a list.
    pub broker: Option<String>,
    /// Several, tried in this order from the last good one on.
    pub brokers: Option<Vec<String>>,
    /// What the brokers are known to take: `"default"`, `"aws"` (AWS IoT Core), `"azure"` (Azure Event Grid) or `"slow"`
    /// (a link of a few KB/s). Default `"default"`. Each number can be set by itself; what the broker says goes first.
    pub profile: Option<String>,
    /// Largest message, such as `"96KiB"`, 8 KiB to 96 KiB. Default by profile.
    #[schemars(with = "Option<String>")]
    pub message_bytes_max: Option<Value>,
    /// Most bytes the broker has not taken yet, such as `"4MiB"`; at least one message. Default by profile.
    #[schemars(with = "Option<String>")]
    pub window_bytes_max: Option<Value>,
    /// Most messages the broker has not taken yet, 1 to 60. Default by profile.
    pub inflight_max: Option<i64>,
    /// MQTT keep-alive, seconds, 5 to 3600. Default by profile: 60, slow 120.
    pub keepalive_s: Option<i64>,
    /// Version of MQTT: `"auto"` (5, else 3.1.1), `"5"` or `"3.1.1"`. Default `"auto"`.
    pub mqtt: Option<String>,
    /// ALPN name in the TLS handshake. Default `"mqtt"` on port 443 (aws: `"x-amzn-mqtt-ca"`), none elsewhere.
    pub alpn: Option<String>,
    /// Proxy on the way: `http://user:password@host:3128` or `socks5://host:1080`. Default none.
    pub proxy: Option<String>,
    /// File with `user:password` for the proxy, so that they need not stand here.
    pub proxy_credentials: Option<String>,
    /// Network interface to go out of, such as `"wwan0"`. Default the system's choice.
    pub interface: Option<String>,
    /// True if bytes are paid for: captures wait longer for company and are packed harder. Default false.
    /// True if bytes are paid for, on whatever link: captures wait longer for company and are packed harder. Default
    /// false; `[[link]]` says it of one interface.
    pub metered: Option<bool>,
    /// Age up to which captures are live, s, 5 to 86 400: what is older waits as backlog and takes its share of the link
    /// beside them. Default 30.
    pub live_window_s: Option<i64>,
    /// Which backlog goes first: the `oldest` or the `newest`. Default `oldest`.
    pub backlog_first: Option<String>,
}

/// `[[link]]`: what links over an interface may cost. The first entry that fits is in force; alarms are never held back.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawLink {
    /// Name of the interface, its beginning as in `wwan*`, or `*` for any. Required.
    pub interface: Option<String>,
    /// True if bytes are paid for. Default as in `[uplink]`.
    pub metered: Option<bool>,
    /// Most bytes per second, such as `"200kB/s"`. Default no limit.
    #[schemars(with = "Option<String>")]
    pub rate: Option<Value>,
    /// Bytes that may go at once after a pause, such as `"1MB"`. Default 256 KiB.
    #[schemars(with = "Option<String>")]
    pub burst: Option<Value>,
    /// Bytes a UTC day may take, such as `"50MB"`; what is left is there the day after, up to as much again.
    #[schemars(with = "Option<String>")]
    pub day: Option<Value>,
    /// Bytes a month may take, such as `"1GB"`.
    #[schemars(with = "Option<String>")]
    pub month: Option<Value>,
    /// Day on which the provider's month begins, 1 to 28. Default 1.
    pub month_day: Option<i64>,
    /// Share at the end of each budget that is live telemetry's alone, percent, 0 to 90. Default 10.
    pub reserve_percent: Option<i64>,
    /// When pictures may go: `"always"`, `"never"`, hours in UTC such as `"22:00-06:00"`, or a list of these. Default
    /// `"always"`.
    #[schemars(with = "Option<String>")]
    pub media: Option<Value>,
    /// When backlog may go, in the same words. Default `"always"`.
    #[schemars(with = "Option<String>")]
    pub backlog: Option<Value>,
}

/// `[clock]`: sources of time beside the collector. By itself the agent uses whatever is there; none of them is ever
/// taken for true, and the clock is never set.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawClock {
    /// chronyd: `"auto"`, `"off"`, or its address or socket for `chronyc -h`. Default `"auto"`.
    pub chrony: Option<String>,
    /// The configuration chronyd runs with; its bound is guaranteed if that says `maxclockerror 50` or more. Default
    /// `/etc/chrony/chrony.conf` or `/etc/chrony.conf`.
    pub chrony_conf: Option<String>,
    /// systemd-timesyncd: `"auto"` or `"off"`. Default `"auto"`.
    pub timesyncd: Option<String>,
    /// gpsd on this host: `"auto"`, `"off"` or `"127.0.0.1:2947"`. Default `"auto"`.
    pub gpsd: Option<String>,
    /// Pulses of a GPS receiver: `"auto"`, `"off"` or a device such as `"/dev/pps0"`. Default `"auto"`.
    pub pps: Option<String>,
    /// Which edge is the second: `"assert"` or `"clear"`. Default `"assert"`.
    pub pps_edge: Option<String>,
    /// Most time from the second to the stamp of its pulse, µs, 0 to 500 000: receiver, cable and interrupt. Only with
    /// it are pulses guaranteed. Default none, taken for 2 ms.
    pub pps_latency_us: Option<i64>,
    /// Sentences of the receivers among the sources (`framing = "nmea"`): `"auto"` or `"off"`. Default `"auto"`.
    pub gps_serial: Option<String>,
    /// Hardware clock: `"auto"` (the host's, in a virtual machine), `"off"`, or a device such as `"/dev/ptp0"`. Default
    /// `"auto"`.
    pub ptp: Option<String>,
    /// What it counts: `"tai"`, `"utc"` or `"auto"` (a host's UTC, others TAI). Default `"auto"`.
    pub ptp_scale: Option<String>,
    /// How far it may be off, µs. Default 100 000.
    pub ptp_error_us: Option<i64>,
    /// Largest deviation of a time service that smears leap seconds, ms: every source but pulses, sentences and the
    /// collector is taken for as much worse. Default 0.
    pub smear_ms: Option<i64>,
    /// Most by which this board's crystal is off, ppb, as its data sheet says over all temperatures: 50 000 is 50 ppm.
    /// Default unknown, taken for 50 ppm.
    pub rho_ppb: Option<i64>,
}

/// `[spool]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawSpool {
    /// Folder of the spool. Default `/var/lib/headwater`.
    pub dir: Option<String>,
    /// Most bytes it may take, such as `"4GiB"`. Default 4 GiB, at least 64 MiB.
    #[schemars(with = "Option<String>")]
    pub max_bytes: Option<Value>,
    /// Bytes of the file system it leaves to others, such as `"256MiB"`: below it old captures make way for new
    /// ones, though the budget would allow more. Default 256 MiB.
    #[schemars(with = "Option<String>")]
    pub min_free: Option<Value>,
    /// Longest time captures stay unsynced, ms, 10 to 60 000: what a power cut may cost. Default 1000, with
    /// `wear = "gentle"` 10 000.
    pub sync_interval_ms: Option<i64>,
    /// `"normal"`, or `"gentle"` to a card: it is written to in larger pieces, and a power cut costs up to ten seconds.
    /// Default `"normal"`.
    pub wear: Option<String>,
    /// When captures may go: `"committed"` once they are in the lake, `"durable"` once the collector has them on
    /// disk. Default `"committed"`.
    pub retain_until: Option<String>,
}

/// `[batch]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawBatch {
    /// Longest time captures wait for company in a message, ms, 0 to 60 000. Default 1000, on a metered link 10 000.
    pub linger_ms: Option<i64>,
    /// Whether JPEGs travel as Lepton, a fifth smaller and without loss: `"metered"` (only on a metered link),
    /// `"always"` or `"never"`. Default `"metered"`. Needs a build with `--features lepton`.
    pub lepton: Option<String>,
}

/// `[status]`
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawStatus {
    /// Status file. Default `<spool.dir>/status.json`.
    pub file: Option<String>,
}

/// `[[source]]`: the keys of every type; which are for which is checked later.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawSource {
    /// `serial`, `camera_dir`, `camera_command`, `exec`, `iio`, `hwmon`, `w1`, `host` or `gpsd`. Required.
    pub r#type: Option<String>,
    /// Stream name, such as `imu` or `camera/front`. Required.
    pub stream: Option<String>,
    /// True for streams that are synced and sent at once, before all others. Default false.
    pub alarm: Option<bool>,
    /// What its captures are worth when the spool is full: `keep` (never evicted), `normal`, `thin` (of pictures every
    /// second goes first, then every fourth) or `scrap` (first to go). By default alarms are kept, pictures thinned,
    /// all else normal.
    pub class: Option<String>,
    /// Which of them go first: the `oldest` or the `newest`. Default `oldest`.
    pub evict_first: Option<String>,
    /// What eviction leaves of each of its streams, such as `"64MiB"`. Default nothing.
    #[schemars(with = "Option<String>")]
    pub keep_min: Option<Value>,
    /// Greatest delay between event and arrival, ms, 0 to 4000. Where it is not said it follows from the type, the time
    /// bytes take on the wire and how long the adapter holds them. With a board's own clock: between event and stamp,
    /// default 0.
    pub latency_ms: Option<i64>,
    /// Least delay between event and arrival, ms, not above `latency_ms`. Default 0.
    pub latency_min_ms: Option<i64>,
    /// serial: the port, such as `/dev/ttyUSB0`.
    pub port: Option<String>,
    /// serial: baud rate. Default 115200; for nmea, ubx, pms5003, sds011, mhz19, senseair and modbus 9600, for scd30 and
    /// vedirect 19200, for mavlink 57600, for sbus 100000.
    pub baud: Option<i64>,
    /// serial: `none`, `even` or `odd`. Default none, for sbus even.
    pub parity: Option<String>,
    /// serial: 1 or 2. Default 1, for sbus 2.
    pub stop_bits: Option<i64>,
    /// serial: true if a real UART at this rate lies between (ttyS, ttyAMA, FTDI, CP210x, CH340), so that bytes cannot
    /// come faster and their time on the wire is taken off. Never for USB-CDC (most ttyACM). Default false.
    pub paced: Option<bool>,
    /// link: samples are stamped by the `device`, whose clock is compared with ours all the time, or by `arrival`.
    /// Default `device`.
    pub clock: Option<String>,
    /// serial: `link`, `nmea`, `lines`, or the protocol of a device: `ubx`, `pms5003`, `sds011`, `mavlink`, `vedirect`,
    /// `sbus`, `frames` (described by `frame`); of devices that are asked: `mhz19`, `scd30`, `senseair`, `modbus`.
    pub framing: Option<String>,
    /// modbus, mhz19, scd30, senseair: from one question to the next, ms, 100 to 3600000. Default 1000, for carbon
    /// dioxide 2000.
    pub interval_ms: Option<i64>,
    /// frames: what frames look like; several kinds may share a line.
    pub frame: Option<Vec<RawFrame>>,
    /// modbus: what is read; several reads take turns.
    pub read: Option<Vec<RawRead>>,
    /// lines and exec: schema family, such as `env`.
    pub kind: Option<String>,
    /// lines and exec: what a line holds.
    pub fields: Option<Vec<RawField>>,
    /// lines and exec: between fields. Default `,`.
    pub separator: Option<String>,
    /// exec: `csv` or `json` (one object per line). Default `csv`.
    pub format: Option<String>,
    /// camera_command: the program writes when each frame was exposed to the file `{stamps}` in its command: `rpicam`
    /// (`rpicam-vid --metadata {stamps}`) or `v4l2-ctl` (`v4l2-ctl --verbose … 2> {stamps}`). Default none: arrival.
    pub stamps: Option<String>,
    /// camera_command and exec: program and arguments.
    pub command: Option<Vec<String>>,
    /// exec: do not start it again when it ends. Default false.
    pub once: Option<bool>,
    /// iio, hwmon, w1 and host: from one look to the next, such as `"10s"`, `"500ms"` or `"5min"`; 100 ms to 1 h. Default
    /// 10 s.
    pub every: Option<String>,
    /// gpsd: where it listens. Default `127.0.0.1:2947`.
    pub address: Option<String>,
    /// gpsd: the one of its receivers that is captured, such as `/dev/ttyACM0`. Default the first that tells of itself.
    pub receiver: Option<String>,
    /// camera_dir: the folder pictures appear in. host: a folder on the disk whose room is told, default `/`.
    pub dir: Option<String>,
    /// camera_dir: `delete` a captured picture, or `keep` it in `done/`. Default `delete`.
    pub after: Option<String>,
    /// camera_dir and camera_command: longer side of small previews, pixels, 32 to 640. At most one a second becomes a
    /// row of the stream `<stream>/preview`, which goes with numbers. Default none.
    pub preview: Option<i64>,
}

/// One of `source.fields`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawField {
    /// Name. Required.
    pub name: Option<String>,
    /// `bool`, `i8` … `u64`, `f32`, `f64`, `utf8`. Default `f64`.
    pub r#type: Option<String>,
    /// UCUM unit, `1` for none. Required.
    pub unit: Option<String>,
    /// May be empty in a line. Default false.
    pub optional: Option<bool>,
}

/// One of `source.frame`: sync bytes, fields, a checksum and tail bytes, in this order.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawFrame {
    /// Table the rows go to. Required.
    pub kind: Option<String>,
    /// How each frame begins, at most 8 bytes. Required.
    pub sync: Option<Vec<i64>>,
    /// Bytes of each frame, all included. Either this or `length_at`.
    pub length: Option<i64>,
    /// The byte at which a frame says its length.
    pub length_at: Option<i64>,
    /// Type of that length: `u8` or `u16`. Default `u8`.
    pub length_type: Option<String>,
    /// Its order of bytes. Default `little`.
    pub length_order: Option<String>,
    /// What it does not count. Default 0.
    pub length_plus: Option<i64>,
    /// Longest frame there is: a sync with more is none. Default 256.
    pub length_max: Option<i64>,
    /// `none`, `sum8`, `xor8`, `twos_complement8`, `crc8`, `sum16`, `crc16_modbus`, `crc16_ccitt` or `fletcher8`. Required.
    pub checksum: Option<String>,
    /// First byte it covers. Default 0.
    pub checksum_from: Option<i64>,
    /// Its order of bytes. Default `big`, of crc16_modbus `little`.
    pub checksum_order: Option<String>,
    /// crc8: polynomial. Default 0x07.
    pub crc_poly: Option<i64>,
    /// crc8: start. Default 0.
    pub crc_init: Option<i64>,
    /// How each frame ends, behind its checksum, at most 8 bytes. Default nothing.
    pub tail: Option<Vec<i64>>,
    /// Order of bytes of fields that say none. Default `little`.
    pub order: Option<String>,
    /// What is read of a frame; `at` counts bytes from the first sync byte.
    pub fields: Vec<RawSlot>,
}

/// One of `source.read`: registers that are read at once.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawRead {
    /// Table the rows go to. Required.
    pub kind: Option<String>,
    /// Address of the device on the bus. Default 1.
    pub device: Option<i64>,
    /// `holding`, `input`, `coils` or `discrete`. Required.
    pub registers: Option<String>,
    /// Order of bytes of fields that say none. Default `big`.
    pub order: Option<String>,
    /// What is read; `at` is the address in the protocol: register 40001 of a manual is 0.
    pub fields: Vec<RawSlot>,
}

/// One of the fields of a frame or of registers: `(number, or its bits) * scale + offset`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawSlot {
    /// Name. Required.
    pub name: Option<String>,
    /// Where it begins. Required.
    pub at: Option<i64>,
    /// `u8` … `u64`, `i8` … `i64`, `f32`, `f64`. Default `u16`; of coils and discrete inputs a bit.
    pub r#type: Option<String>,
    /// `big` (abcd), `little` (dcba), `cdab` (low word first) or `badc` (bytes swapped in words).
    pub order: Option<String>,
    /// Bits that count: the lowest, and how many. Default all.
    pub bits: Option<Vec<i64>>,
    /// Factor. Default 1.
    pub scale: Option<f64>,
    /// What is added. Default 0.
    pub offset: Option<f64>,
    /// UCUM unit, `1` for none. Required.
    pub unit: Option<String>,
}

/// Reads the text key by key; `None` if it is no TOML at all.
pub(super) fn read(text: &str, mistakes: &mut Mistakes) -> Option<RawConfig> {
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => {
            let found = error.message().to_owned();
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            mistakes.push(Mistake::new(format!("line {line}"), "TOML", found));
            return None;
        }
    };
    let mut raw = RawConfig::default();
    for (key, value) in table {
        match (key.as_str(), value) {
            ("device", Value::Table(table)) => raw.device = keys(table, "device", mistakes),
            ("identity", Value::Table(table)) => raw.identity = keys(table, "identity", mistakes),
            ("uplink", Value::Table(table)) => raw.uplink = keys(table, "uplink", mistakes),
            ("clock", Value::Table(table)) => raw.clock = keys(table, "clock", mistakes),
            ("spool", Value::Table(table)) => raw.spool = keys(table, "spool", mistakes),
            ("batch", Value::Table(table)) => raw.batch = keys(table, "batch", mistakes),
            ("status", Value::Table(table)) => raw.status = keys(table, "status", mistakes),
            ("source", Value::Array(sources)) => {
                for (at, source) in sources.into_iter().enumerate() {
                    raw.source.push(source_of(source, &format!("source[{at}]"), mistakes));
                }
            }
            ("link", Value::Array(links)) => {
                for (at, link) in links.into_iter().enumerate() {
                    let path = format!("link[{at}]");
                    match link {
                        Value::Table(link) => raw.link.push(keys(link, &path, mistakes)),
                        other => {
                            mistakes
                                .push(Mistake::new(path, "a table", shown(&other)).hint("write [[link]]"));
                        }
                    }
                }
            }
            ("link", value) => {
                mistakes
                    .push(Mistake::new("link", "a list", shown(&value)).hint("write [[link]], not [link]"));
            }
            ("source", value) => mistakes
                .push(Mistake::new("source", "a list", shown(&value)).hint("write [[source]], not [source]")),
            (key @ ("device" | "identity" | "uplink" | "clock" | "spool" | "batch" | "status"), value) => {
                mistakes.push(Mistake::new(key, "a table", shown(&value)).hint(format!("write [{key}]")));
            }
            (key, _) => {
                let known =
                    ["device", "identity", "uplink", "link", "clock", "spool", "batch", "status", "source"];
                mistakes.push(unknown(key, key, &known));
            }
        }
    }
    mistakes.0.truncate(MISTAKES_MAX);
    Some(raw)
}

fn source_of(source: Value, path: &str, mistakes: &mut Mistakes) -> RawSource {
    let Value::Table(mut source) = source else {
        mistakes.push(Mistake::new(path, "a table", shown(&source)).hint("write [[source]]"));
        return RawSource::default();
    };
    let fields = tables(source.remove("fields"), &format!("{path}.fields"), FIELD_EXAMPLE, mistakes);
    let fields =
        fields.map(|all| all.into_iter().map(|(path, table)| keys(table, &path, mistakes)).collect());
    let frame = tables(source.remove("frame"), &format!("{path}.frame"), "[[source.frame]]", mistakes);
    let frame = frame.map(|all| {
        let of = |(path, mut table): (String, Table)| RawFrame {
            fields: slots_of(&mut table, &path, mistakes),
            ..keys(table, &path, mistakes)
        };
        all.into_iter().map(of).collect()
    });
    let read = tables(source.remove("read"), &format!("{path}.read"), "[[source.read]]", mistakes);
    let read = read.map(|all| {
        let of = |(path, mut table): (String, Table)| RawRead {
            fields: slots_of(&mut table, &path, mistakes),
            ..keys(table, &path, mistakes)
        };
        all.into_iter().map(of).collect()
    });
    RawSource { fields, frame, read, ..keys(source, path, mistakes) }
}

const FIELD_EXAMPLE: &str = "{ name = \"temperature\", type = \"f64\", unit = \"Cel\" }";
const SLOT_EXAMPLE: &str = "{ name = \"level\", at = 2, type = \"u16\", unit = \"mm\" }";

fn slots_of(table: &mut Table, path: &str, mistakes: &mut Mistakes) -> Vec<RawSlot> {
    let fields = tables(table.remove("fields"), &format!("{path}.fields"), SLOT_EXAMPLE, mistakes);
    fields.unwrap_or_default().into_iter().map(|(path, table)| keys(table, &path, mistakes)).collect()
}

/// A list of tables, each with its path; what is none is a mistake, and an empty table instead.
fn tables(
    value: Option<Value>,
    path: &str,
    example: &str,
    mistakes: &mut Mistakes,
) -> Option<Vec<(String, Table)>> {
    match value? {
        Value::Array(all) => {
            let table = |(at, value)| {
                let path = format!("{path}[{at}]");
                match value {
                    Value::Table(table) => (path, table),
                    other => {
                        let expected = format!("a table such as {example}");
                        mistakes.push(Mistake::new(path.as_str(), expected, shown(&other)));
                        (path, Table::new())
                    }
                }
            };
            Some(all.into_iter().enumerate().map(table).collect())
        }
        other => {
            mistakes.push(Mistake::new(path, "a list of tables", shown(&other)));
            None
        }
    }
}

/// Reads each key of a flat table alone, so that a wrong one hides no other.
fn keys<T: DeserializeOwned + Default>(table: Table, path: &str, mistakes: &mut Mistakes) -> T {
    let mut good = Table::new();
    for (key, value) in table {
        let alone = Table::from_iter([(key.clone(), value.clone())]);
        match Value::Table(alone).try_into::<T>() {
            Ok(_) => {
                good.insert(key, value);
            }
            Err(error) => mistakes.push(from_serde(&format!("{path}.{key}"), &key, &value, &error)),
        }
    }
    Value::Table(good).try_into().unwrap_or_default()
}

fn from_serde(path: &str, key: &str, value: &Value, error: &toml::de::Error) -> Mistake {
    let message = error.message();
    if message.starts_with("unknown field") {
        let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        return unknown(path, key, &known);
    }
    let expected = message.rsplit_once("expected ").map_or("another value", |(_, expected)| expected);
    let expected = match expected.lines().next().unwrap_or_default() {
        "i64" => "a whole number",
        other => other,
    };
    Mistake::new(path, expected, shown(value))
}

fn unknown(path: &str, key: &str, known: &[&str]) -> Mistake {
    let near = known.iter().min_by_key(|name| distance(key, name)).filter(|name| distance(key, name) <= 2);
    let hint = near.map_or_else(
        || format!("known keys here: {}", known.join(", ")),
        |name| format!("did you mean `{name}`?"),
    );
    Mistake::new(path, "a known key", format!("`{key}`")).hint(hint)
}

/// Edits (insert, drop, change a letter) between two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let changed = diagonal.saturating_add(usize::from(x != *y));
            diagonal = *cell;
            left = changed.min(cell.saturating_add(1)).min(left.saturating_add(1));
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// A value as people wrote it, cut to a line.
pub(super) fn shown(value: &Value) -> String {
    let text = match value {
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    };
    text.chars().take(80).collect()
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_near() {
        assert_eq!(distance("buad", "baud"), 2);
        assert_eq!(distance("stream", "stream"), 0);
        assert_eq!(distance("strem", "stream"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
