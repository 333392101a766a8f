//! An S3 emulator of its own for a test: moto's server on a free port of loopback, gone with the test however that ends.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;

use crate::error::LakeError;
use crate::lake::Lake;
use crate::store::LakeStore;

/// Bucket that a fresh server is given.
const BUCKET: &str = "lake";

/// Tries to reach a server that is starting, a tenth of a second apart: Python may take its time on a busy machine.
const START_TRIES_MAX: u32 = 600;

/// The shell ends the server when its own input ends, that is with the process that started it.
const SCRIPT: &str =
    r#""$0" -H 127.0.0.1 -p "$1" >/dev/null 2>&1 & pid=$!; cat >/dev/null; kill "$pid"; wait "$pid""#;

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Moto {
    shell: Child,
    port: u16,
}

impl Moto {
    /// Starts a server with one empty bucket; none, and a line that says why, where moto is not installed.
    ///
    /// # Panics
    /// When moto is there and does not start.
    pub async fn start() -> Option<Moto> {
        let program = program();
        if !program.exists() {
            eprintln!(
                "SKIPPED: no S3 emulator at {}; run tests/run tools-python, or name moto_server in HEADWATER_MOTO",
                program.display()
            );
            return None;
        }
        let moto = tokio::task::spawn_blocking(move || Moto::launch(&program)).await;
        Some(moto.expect("the launcher does not panic").expect("moto starts"))
    }

    fn launch(program: &std::path::Path) -> std::io::Result<Moto> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).arg(program).arg(port.to_string());
        let shell = command.stdin(Stdio::piped()).spawn()?;
        let moto = Moto { shell, port };
        for _ in 0..START_TRIES_MAX {
            match moto.make_bucket() {
                Ok(()) => return Ok(moto),
                Err(_) => pause(),
            }
        }
        Err(std::io::Error::other("moto did not answer within a minute"))
    }

    /// What no client of ours can do.
    fn make_bucket(&self) -> std::io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let host = format!("127.0.0.1:{}", self.port);
        stream.write_all(
            format!(
                "PUT /{BUCKET} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            .as_bytes(),
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.starts_with("HTTP/1.1 200") {
            true => Ok(()),
            false => Err(std::io::Error::other(answer)),
        }
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The environment in which the server is S3.
    pub fn env(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// The URL of a folder in its bucket.
    pub fn location(&self, folder: &str) -> String {
        format!("s3://{BUCKET}/{folder}")
    }

    /// Makes or opens a lake in a folder of its bucket.
    ///
    /// # Errors
    /// As [`Lake::init`].
    pub async fn lake(&self, folder: &str) -> Result<Lake, LakeError> {
        Lake::init_on(self.store(folder)?).await
    }

    /// Its bucket as a plain store.
    ///
    /// # Errors
    /// As [`Lake::init`].
    pub fn objects(&self) -> Result<Arc<dyn ObjectStore>, LakeError> {
        self.store("plain").map(|store| Arc::clone(store.objects()))
    }

    pub(crate) fn store(&self, folder: &str) -> Result<LakeStore, LakeError> {
        LakeStore::in_bucket(&self.location(folder), &self.env())
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        if let Err(error) = self.shell.wait() {
            eprintln!("moto was not waited for: {error}");
        }
    }
}

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("HEADWATER_MOTO") {
        return PathBuf::from(named);
    }
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root.join(target).join("venv/bin/moto_server")
}

/// Until another program has had time to start.
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}
