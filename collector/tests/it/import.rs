//! Cards in a file: signed by their gateway or not, whole or damaged, new or partly known; each row lands once. What they
//! became is verified against what was signed.

use crate::ingest_world;

use headwater_collector::config::{self, Settings};
use headwater_collector::import::{ImportOptions, ImportReport, RECEIVER, State, import};
use headwater_collector::ingest::{self, IngestDeps, IngestSettings, IngestTurn};
use headwater_collector::land::{CommitMark, LandingReader, StdDisk};
use headwater_collector::pki::{self, Subject};
use headwater_collector::receive::clock::SystemClock;
use headwater_collector::registry::Registry;
use headwater_collector::verify::{Report, VerifyOptions, verify};
use headwater_core::export::{ExportWriter, Exported, Origin};
use headwater_core::id::BootId;
use headwater_core::ports::Clock;
use headwater_core::wire::object::{Part, object_id};
use headwater_core::wire::{Capabilities, Envelope, Hello, Lane, MessageKind, Sent, SigningKey, Unsigned};
use headwater_lake::Lake;
use ingest_world::*;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

struct World {
    dir: tempfile::TempDir,
    settings: Settings,
}

/// A key and the chain that proves it.
struct Signing {
    key: SigningKey,
    chain: Vec<Vec<u8>>,
}

fn signing(dir: &Path) -> Signing {
    let key = PrivatePkcs8KeyDer::from_pem_file(dir.join("sign.key")).unwrap();
    let chain = CertificateDer::pem_file_iter(dir.join("sign.pem")).unwrap().map(|der| der.unwrap().to_vec());
    Signing { key: SigningKey::from_pkcs8(key.secret_pkcs8_der()).unwrap(), chain: chain.collect() }
}

/// A fleet below `dir`: its CA, gateway pi-1 and collector hq.
fn fleet(dir: &Path) {
    let now = SystemClock.read().real;
    pki::init(&dir.join("pki"), "acme", now).unwrap();
    pki::issue(&dir.join("pki"), &Subject::Device("pi-1".into()), &dir.join("pi-1"), now).unwrap();
    let hq = Subject::Collector { name: "hq".into(), hosts: vec!["localhost".into()] };
    pki::issue(&dir.join("pki"), &hq, &dir.join("hq"), now).unwrap();
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fleet(dir.path());
        let file = dir.path().join("collector.toml");
        let identity = [
            "ca = \"hq/ca.pem\"",
            "tls_cert = \"hq/tls.pem\"",
            "tls_key = \"hq/tls.key\"",
            "sign_cert = \"hq/sign.pem\"",
            "sign_key = \"hq/sign.key\"",
        ]
        .join("\n");
        let text = format!(
            "[tenant]\nname = \"acme\"\n[identity]\n{identity}\n[mqtt]\nbroker = \"mqtt://localhost:1883\"\n\
             client_id = \"hq\"\n[landing]\ndir = \"landing\"\n[lake]\nlocation = \"lake\"\n[commit]\ninterval_ms = 200\n"
        );
        fs::write(&file, text).unwrap();
        let settings = config::load(&file).unwrap();
        Self { dir, settings }
    }

    fn device(&self) -> Signing {
        signing(&self.dir.path().join("pi-1"))
    }

    fn write(&self, name: &str, signed: bool, messages: &[Exported]) -> PathBuf {
        let device = Gateway::new("pi-1", 7).path;
        let origin = Origin { device, software: "test".into(), signed };
        let mut writer = ExportWriter::new(Vec::new(), &origin).unwrap();
        messages.iter().for_each(|message| writer.add(message, 0, 0).unwrap());
        let path = self.dir.path().join(name);
        fs::write(&path, writer.finish().unwrap()).unwrap();
        path
    }

    async fn import(&self, files: &[&PathBuf]) -> ImportReport {
        let options = ImportOptions { files: files.iter().map(|file| (*file).clone()).collect(), wait_s: 30 };
        import(&self.settings, &options, |_| ()).await.unwrap()
    }

    async fn lake(&self) -> Lake {
        Lake::open(&self.settings.lake).await.unwrap()
    }

    async fn head(&self) -> String {
        let head = self.lake().await.head(&self.settings.branch).await.unwrap();
        head.and_then(|head| head.commit).map(|commit| commit.to_string()).unwrap_or_default()
    }

    fn imported_logs(&self) -> usize {
        fs::read_dir(self.settings.landing_dir.join(RECEIVER)).map_or(0, Iterator::count)
    }

    /// Rows of the lake, each once.
    async fn assert_rows(&self, imu: u64, frames: u64) {
        let lake = self.lake().await;
        for (name, expected) in [("raw.imu", imu), ("raw.image", frames)] {
            let rows = table(&lake, name).await;
            let seqs: BTreeSet<i64> = rows.iter().map(|row| long(row, "seq")).collect();
            assert_eq!((rows.len() as u64, seqs.len() as u64), (expected, expected), "{name}");
        }
    }
}

/// Records as an export holds them.
fn exported(records: &[Record], signing: Option<&Signing>) -> Vec<Exported> {
    let gateway = Gateway::new("pi-1", 7);
    let mut out = Vec::new();
    let mut put = |kind: MessageKind, body: &[u8], sent: Sent| {
        let lane = Lane::BacklogTelemetry;
        out.push(match signing {
            Some(signing) => {
                let unsigned = Unsigned::new(kind, &gateway.path, gateway.epoch, body).unwrap();
                Exported::Message { lane, message: unsigned.sign(sent, &signing.key) }
            }
            None => Exported::Unsigned { lane, kind, epoch: gateway.epoch, sent, body: body.to_vec() },
        });
    };
    let sent = Sent { boot_ordinal: gateway.boot.0, ns: 20_000_000_000 };
    if let Some(signing) = signing {
        let hello = Hello {
            boot_ordinal: gateway.boot,
            boot_id: BootId([9; 16]),
            capabilities: Capabilities::ours("headwater-agent 0.1.0"),
            message_bytes_max: 98_304,
            streams: Vec::new(),
            chain: signing.chain.clone(),
            nonce: [3; 16],
        };
        put(MessageKind::Hello, &hello.to_body(), sent);
    }
    for record in records {
        match record {
            Record::Message(landed) => {
                let envelope = Envelope::parse(&landed.message).unwrap();
                if matches!(envelope.kind, MessageKind::Batch | MessageKind::Declaration) {
                    put(envelope.kind, envelope.body, envelope.sent);
                }
            }
            Record::Blob(blob) => {
                let (object, total_len) = (object_id(&blob.bytes), blob.bytes.len() as u64);
                let mut offset = 0;
                for bytes in blob.bytes.chunks(400) {
                    put(MessageKind::Part, &Part { object, total_len, offset, bytes }.to_body(), sent);
                    offset += bytes.len() as u64;
                }
            }
        }
    }
    out
}

fn records() -> Vec<Record> {
    ten_seconds(&Gateway::new("pi-1", 7))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_without_its_key_is_signed_here_and_its_second_import_adds_nothing() {
    let world = World::new();
    let file = world.write("card.hwx", false, &exported(&records(), None));
    let report = world.import(&[&file]).await;
    assert!(report.is_clean() && report.state == State::Committed, "{report}");
    assert!(report.rows.new >= 1_040 && report.blobs.new == 40 && report.rows.known == 0, "{report}");
    world.assert_rows(1_000, 40).await;
    let serial = {
        let identity =
            config::Identity::load(&world.settings.identity, &world.settings.tenant, SystemClock.read().real);
        identity.unwrap().signer.serial
    };
    let batches = table(&world.lake().await, "ops.batches").await;
    assert!(batches.iter().all(|row| text(row, "receiver") == RECEIVER && text(row, "key_serial") == serial));

    let head = world.head().await;
    let again = world.import(&[&file, &file]).await;
    assert_eq!((again.state, again.rows.new, again.blobs.new), (State::NothingNew, 0, 0), "{again}");
    assert_eq!(again.rows.known, 2 * report.rows.new, "{again}");
    assert_eq!(
        (world.head().await, world.imported_logs()),
        (head, 1),
        "no commit and no log is made for nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_messages_are_checked_against_the_fleet() {
    let world = World::new();
    let ours = world.device();
    let file = world.write("card.hwx", true, &exported(&records(), Some(&ours)));
    let stranger = World::new().device();
    let foreign = world.write("foreign.hwx", true, &exported(&records(), Some(&stranger)));
    let report = world.import(&[&foreign]).await;
    assert!(!report.is_clean() && report.state == State::NothingNew, "{report}");
    assert!(
        report.to_string().contains("bad_chain") && report.to_string().contains("--unsigned"),
        "{report}"
    );
    assert_eq!(world.imported_logs(), 0);

    // One false byte in a message whose record sums are right.
    let mut messages = exported(&records(), Some(&ours));
    let broken =
        messages.iter().position(|m| matches!(m, Exported::Message { message, .. } if message[3] == 1));
    if let Exported::Message { message, .. } = &mut messages[broken.unwrap()] {
        let at = message.len() - 100;
        message[at] ^= 1;
        let end = message.len() - 4;
        let sum = crc32c::crc32c(&message[..end]).to_le_bytes();
        message[end..].copy_from_slice(&sum);
    }
    let forged = world.write("forged.hwx", true, &messages);
    let report = world.import(&[&forged]).await;
    assert!(report.to_string().contains("1 messages refused, bad_signature"), "{report}");
    let rest = world.import(&[&file]).await;
    assert!(rest.is_clean() && rest.rows.new > 0, "{rest}");
    world.assert_rows(1_000, 40).await;
    let devices = table(&world.lake().await, "ops.devices").await;
    assert!(devices.iter().all(|row| text(row, "device") == "pi-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_missing_is_added() {
    let world = World::new();
    let all = records();
    let half = world.write("half.hwx", false, &exported(&all[..all.len() / 2], None));
    let whole = world.write("whole.hwx", true, &exported(&all, Some(&world.device())));
    let first = world.import(&[&half]).await;
    assert!(first.rows.new > 0, "{first}");
    let second = world.import(&[&whole]).await;
    assert!(second.rows.new > 0 && second.rows.known > 0, "{second}");
    world.assert_rows(1_000, 40).await;
    let ledger = table(&world.lake().await, "ops.ledger").await;
    let rows: i64 = ledger.iter().map(|row| long(row, "rows")).sum();
    assert_eq!(rows.cast_unsigned(), first.rows.new + second.rows.new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_gives_what_stands_before_the_damage() {
    let world = World::new();
    let file = world.write("card.hwx", false, &exported(&records(), None));
    let bytes = fs::read(&file).unwrap();
    let cut = world.dir.path().join("cut.hwx");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let flipped = world.dir.path().join("flipped.hwx");
    let mut bad = bytes.clone();
    bad[bytes.len() / 3] ^= 8;
    fs::write(&flipped, &bad).unwrap();
    let nonsense = world.dir.path().join("notes.txt");
    fs::write(&nonsense, "call the depot").unwrap();
    let report = world.import(&[&flipped, &cut, &nonsense]).await;
    assert!(!report.is_clean(), "{report}");
    let damage: Vec<&str> = report.files.iter().map(|file| file.damage.as_deref().unwrap()).collect();
    assert!(damage[0].contains("damaged") && damage[1].contains("cut short"), "{damage:?}");
    assert!(damage[2].contains("headwater-agent spool export"), "{damage:?}");
    assert!(report.files[1].rows.known > 0, "the second begins where the first was sound: {report}");
    world.import(&[&file]).await;
    world.assert_rows(1_000, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_collector_commits_what_is_imported_beside_it() {
    let world = World::new();
    let lake = Lake::init(&world.settings.lake).await.unwrap();
    let turn = IngestTurn::take(&world.settings.landing_dir).unwrap().unwrap();
    let cancel = CancellationToken::new();
    let (marks, _seen) = watch::channel(CommitMark::default());
    let mut settings =
        IngestSettings::new(world.settings.tenant.clone(), "hq", world.settings.branch.clone());
    settings.interval_ms = 200;
    let deps = IngestDeps {
        lake,
        source: LandingReader::new(StdDisk, &world.settings.landing_dir),
        registry: Registry::new(),
        recipes: Vec::new(),
        settings,
        quality: None,
        clock: SystemClock,
        cancel: cancel.clone(),
        marks,
    };
    #[expect(clippy::disallowed_methods, reason = "a test's own task, joined below")]
    let running = tokio::spawn(ingest::run(deps));
    let file = world.write("card.hwx", false, &exported(&records(), None));
    let report = world.import(&[&file]).await;
    assert_eq!(report.state, State::Committed, "{report}");
    world.assert_rows(1_000, 40).await;
    cancel.cancel();
    running.await.unwrap().unwrap();
    drop(turn);

    // Held by nobody that commits, it is durable and says so.
    let _turn = IngestTurn::take(&world.settings.landing_dir).unwrap().unwrap();
    let other = Gateway::new("pi-1", 8);
    let unsigned: Vec<Exported> = exported(&ten_seconds(&other), None)
        .into_iter()
        .map(|message| match message {
            Exported::Unsigned { lane, kind, sent, body, .. } => {
                Exported::Unsigned { lane, kind, sent, body, epoch: other.epoch }
            }
            message => message,
        })
        .collect();
    let file = world.write("later.hwx", false, &unsigned);
    let options = ImportOptions { files: vec![file], wait_s: 0 };
    let report = import(&world.settings, &options, |_| ()).await.unwrap();
    assert_eq!(report.state, State::Landed, "{report}");
    assert!(report.to_string().contains("durable, not committed yet"));
}

/// The segments of imported logs.
fn segments(world: &World) -> Vec<PathBuf> {
    let logs = fs::read_dir(world.settings.landing_dir.join(RECEIVER)).unwrap();
    logs.flat_map(|log| fs::read_dir(log.unwrap().path()).unwrap()).map(|file| file.unwrap().path()).collect()
}

async fn verified(world: &World, all: bool) -> Report {
    let options = VerifyOptions { commit: "main".into(), all };
    verify(&world.settings, &options, SystemClock.read().real, |_, _| ()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_verified_against_the_landing_log_and_its_certificates() {
    let world = World::new();
    let file = world.write("card.hwx", true, &exported(&records(), Some(&world.device())));
    let report = world.import(&[&file]).await;
    assert!(report.is_clean(), "{report}");
    let sound = verified(&world, true).await;
    assert!(sound.messages > 10 && sound.is_sound(), "{sound}");
    assert_eq!((sound.verified, sound.digest_only, sound.missing), (sound.messages, 0, 0), "{sound}");

    // A flipped byte in the middle of a record: its message is bad, the others are not.
    let segment = segments(&world).remove(0);
    let whole = fs::read(&segment).unwrap();
    let mut flipped = whole.clone();
    flipped[64 + 8 + 60] ^= 1;
    fs::write(&segment, &flipped).unwrap();
    let damaged = verified(&world, true).await;
    assert_eq!((damaged.bad, damaged.verified), (1, sound.messages - 1), "{damaged}");
    assert!(damaged.to_string().contains("damaged where it lies"), "{damaged}");

    // A whole record exchanged for another with right sums: its signature is right, and it is not what was noted.
    let record = |bytes: &[u8], at: usize| -> std::ops::Range<usize> {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        at..at + 8 + usize::try_from(length).unwrap()
    };
    let first = record(&whole, 64);
    let second = record(&whole, first.end);
    let mut swapped = whole[..64].to_vec();
    swapped.extend_from_slice(&whole[second.clone()]);
    swapped.extend_from_slice(&whole[first]);
    swapped.extend_from_slice(&whole[second.end..]);
    fs::write(&segment, &swapped).unwrap();
    let exchanged = verified(&world, true).await;
    assert!((1..=2).contains(&exchanged.bad), "{exchanged}");

    // A trimmed log: digests and signatures still prove each other.
    fs::remove_dir_all(world.settings.landing_dir.join(RECEIVER)).unwrap();
    let trimmed = verified(&world, true).await;
    assert_eq!((trimmed.digest_only, trimmed.bad), (sound.messages, 0), "{trimmed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_verifies_and_its_exit_code_says_so() {
    let world = World::new();
    let file = world.write("card.hwx", false, &exported(&records(), None));
    world.import(&[&file]).await;
    let config = world.dir.path().join("collector.toml");
    let run = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_headwater"))
            .args(["verify", "main", "--all", "--json", "--config", config.to_str().unwrap()])
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    let (code, report) = run();
    assert_eq!((code, report["bad"].as_u64()), (Some(0), Some(0)), "{report}");
    assert_eq!(report["verified"], report["messages"], "signed here with the collector's key: {report}");
    let segment = segments(&world).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[64 + 8 + 60] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let (code, report) = run();
    assert_eq!((code, report["bad"].as_u64()), (Some(1), Some(1)), "{report}");
    assert_eq!(report["told"][0]["device"], "acme/pi-1");
}
