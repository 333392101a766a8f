//! Broker and collector of the fleet: folders, certificates, processes, and what they say of themselves.

use anyhow::{Context, Result};
use headwater_collector::pki::{self, Subject};
use headwater_core::id::DevicePath;
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_core::wire::SigningKey;
use headwater_lake::Lake;
use headwater_tests::procs::Proc;
use headwater_tests::ticks::{pause, unix_seconds, wait_until};
use headwater_tests::truth::Table;
use headwater_tests::world::{free_ports, role_args};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

const TENANT: &str = "fleet";
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A device's name, key and chain.
pub(super) struct Identity {
    pub(super) path: DevicePath,
    pub(super) key: SigningKey,
    pub(super) chain: Vec<Vec<u8>>,
}

/// What the collector's metrics say, bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gauges {
    pub(super) landing_peak: f64,
    pub(super) staging_peak: f64,
    pub(super) credit_peak: f64,
    pub(super) credit_limit: f64,
    pub(super) late: f64,
    pub(super) unasked: f64,
}

pub(super) struct Site {
    dir: tempfile::TempDir,
    broker_address: String,
    mosquitto: bool,
    broker: Proc,
    collectors: Vec<Collector>,
}

struct Collector {
    http: String,
    proc: Proc,
}

fn utc() -> UtcNanos {
    UtcNanos(unix_seconds().saturating_mul(NS_PER_S))
}

fn mosquitto() -> Option<PathBuf> {
    let mut places: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    places.push("/usr/sbin".into());
    places.into_iter().map(|place| place.join("mosquitto")).find(|program| program.exists())
}

impl Site {
    /// `receivers` of one fleet by shards with an ingest beside them, or, with one, a collector that does it all.
    pub(super) fn new(receivers: usize) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        let [broker, _] = free_ports()?.map(|port| format!("127.0.0.1:{port}"));
        pki::init(&at("pki"), TENANT, utc())?;
        let hosts = vec!["127.0.0.1".to_owned()];
        pki::issue(&at("pki"), &Subject::Collector { name: "hq".to_owned(), hosts }, &at("hq"), utc())?;
        let program = std::env::current_exe()?;
        let log = |name: &str| at(&format!("{name}.log"));
        let write = |name: &str, roles: &str, share: &str| -> Result<(String, PathBuf)> {
            let [port, _] = free_ports()?;
            let (http, config) = (format!("127.0.0.1:{port}"), at(&format!("{name}.toml")));
            let text = format!(
                "roles = [{roles}]\n[tenant]\nname = \"{TENANT}\"\n[identity]\nca = \"hq/ca.pem\"\n\
                 tls_cert = \"hq/tls.pem\"\ntls_key = \"hq/tls.key\"\nsign_cert = \"hq/sign.pem\"\n\
                 sign_key = \"hq/sign.key\"\n[mqtt]\nbroker = \"mqtt://{broker}\"\nclient_id = \"{name}\"\n\
                 share = \"{share}\"\n[broker]\nlisten = \"{broker}\"\nplain = true\n[landing]\n\
                 dir = \"landing\"\n[lake]\nlocation = \"lake\"\n[commit]\ninterval_ms = 5000\n[http]\n\
                 listen = \"{http}\"\n"
            );
            std::fs::write(&config, text)?;
            Ok((http, config))
        };
        let mut written = Vec::new();
        if receivers == 1 {
            written.push(write("hq", "\"receive\", \"ingest\", \"serve\"", "none")?);
        } else {
            written.push(write("ingest", "\"ingest\", \"serve\"", "shards")?);
            for n in 1..=receivers {
                written.push(write(&format!("hq-{n}"), "\"receive\", \"serve\"", "shards")?);
            }
        }
        let any_toml = written.first().map(|(_, config)| config.clone()).context("a collector")?;
        let found = mosquitto();
        let broker_proc = match &found {
            Some(mosquitto) => {
                let port = broker.rsplit_once(':').map_or("", |(_, port)| port);
                let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
                let config = at("mosquitto.conf");
                std::fs::write(
                    &config,
                    format!(
                        "listener {port} 127.0.0.1\nallow_anonymous true\nuser {user}\npersistence false\n\
                         max_inflight_messages 100\nmax_queued_messages 0\nmax_queued_bytes 268435456\n\
                         max_packet_size 262144\n"
                    ),
                )?;
                Proc::new("broker", mosquitto.clone(), vec!["-c".into(), config.into()], log("broker"))
            }
            None => {
                let args = role_args("collector", "broker", &any_toml);
                Proc::new("broker", program.clone(), args, log("broker")).in_own_group()
            }
        };
        let collectors = written.into_iter().enumerate().map(|(n, (http, config))| {
            let args = role_args("collector", "run", &config);
            let proc = Proc::new("collector", program.clone(), args, log(&format!("collector-{n}")));
            Collector { http, proc: proc.in_own_group() }
        });
        let (collectors, mosquitto) = (collectors.collect(), found.is_some());
        Ok(Self { dir, broker_address: broker, mosquitto, broker: broker_proc, collectors })
    }

    pub(super) fn broker_name(&self) -> &'static str {
        if self.mosquitto { "mosquitto" } else { "embedded" }
    }

    pub(super) fn broker(&self) -> String {
        self.broker_address.clone()
    }

    /// A device of the fleet, with a certificate of its own.
    pub(super) fn device(&self, name: &str) -> Result<Identity> {
        let out = self.dir.path().join("device");
        if out.exists() {
            std::fs::remove_dir_all(&out)?;
        }
        pki::issue(&self.dir.path().join("pki"), &Subject::Device(name.to_owned()), &out, utc())?;
        let chain = CertificateDer::pem_file_iter(out.join("sign.pem"))?;
        let chain = chain.map(|der| der.map(|der| der.to_vec())).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(out.join("sign.key"))?;
        let path = DevicePath { tenant: TENANT.parse()?, device: name.parse()? };
        Ok(Identity { path, key: SigningKey::from_pkcs8(key.secret_der())?, chain })
    }

    pub(super) fn start(&mut self) -> Result<()> {
        self.start_broker()?;
        for collector in &mut self.collectors {
            collector.proc.start()?;
            let up = wait_until(START_LIMIT, || {
                collector.proc.check().is_err()
                    || page(&collector.http, "/api/status")
                        .is_ok_and(|page| page.contains("\"connected\": true"))
            });
            collector.proc.check()?;
            anyhow::ensure!(up, "a collector did not start: {}", collector.proc.last_words());
        }
        Ok(())
    }

    pub(super) fn start_broker(&mut self) -> Result<()> {
        self.broker.start()?;
        let address = self.broker_address.clone();
        let up = wait_until(START_LIMIT, || TcpStream::connect(&address).is_ok());
        self.broker.check()?;
        anyhow::ensure!(up, "the broker does not listen on {address}");
        Ok(())
    }

    pub(super) fn kill_broker(&mut self) -> io::Result<()> {
        self.broker.kill()
    }

    pub(super) fn check(&mut self) -> io::Result<()> {
        self.broker.check()?;
        self.collectors.iter_mut().try_for_each(|collector| {
            collector.proc.measure();
            collector.proc.check()
        })
    }

    /// Greatest memory of any collector process.
    pub(super) fn collector_rss(&self) -> u64 {
        self.collectors.iter().map(|collector| collector.proc.rss_max_bytes()).max().unwrap_or(0)
    }

    /// Of all collectors: peaks and counts added up.
    pub(super) fn gauges(&self) -> io::Result<Gauges> {
        let mut sum = Gauges::default();
        for collector in &self.collectors {
            let page = page(&collector.http, "/metrics")?;
            let of = |name: &str| -> f64 {
                let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
            };
            sum.landing_peak += of("headwater_landing_queue_peak_bytes");
            sum.staging_peak += of("headwater_staging_peak_bytes");
            sum.credit_peak += of("headwater_credit_peak_bytes");
            sum.credit_limit += of("headwater_credit_limit_bytes");
            sum.late += of("headwater_credit_late_bytes_total");
            sum.unasked += of("headwater_credit_unasked_bytes_total");
        }
        Ok(sum)
    }

    /// Rows of the fleet in the newest commit; waits until there are so many.
    pub(super) async fn rows_committed(&mut self, expected: u64, limit: Duration) -> Result<u64> {
        let lake = Lake::open(&self.dir.path().join("lake").to_string_lossy()).await?;
        let end = headwater_tests::ticks::now() + limit;
        loop {
            let head = lake.resolve("main").await.context("the lake has no commit")?;
            let table = Table::read_columns(&lake, &head, "raw.fleet_probe", &["seq"]).await?;
            let rows = table.map_or(0, |table| table.rows());
            if rows >= expected || headwater_tests::ticks::now() >= end {
                return Ok(rows);
            }
            self.check()?;
            pause(Duration::from_secs(2)).await;
        }
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        for collector in self.collectors.iter_mut().rev() {
            collector.proc.stop(STOP_LIMIT)?;
        }
        self.broker.stop(Duration::from_secs(5))?;
        Ok(())
    }
}

fn page(http: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}
