//! Does TLS work? Both ends are here, over loopback, each with a certificate made a moment ago.

use super::{Found, because};
use crate::ship::tls::client_config;
use headwater_core::id::DeviceId;
use headwater_core::time::UtcNanos;
use headwater_core::wire::request::{KeyUse, new_key, pem, self_signed};
use ring::rand::SystemRandom;
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the other end, which is this process.
const WAIT: Duration = Duration::from_secs(20);
/// What goes there and back: several records.
const BYTES: usize = 40_000;
const HOST: &str = "localhost";

struct Identity {
    certificate: Vec<u8>,
    pkcs8: Vec<u8>,
}

impl Identity {
    fn new() -> Result<Self, String> {
        let random = SystemRandom::new();
        let name: DeviceId = "selftest".parse().map_err(|_| "selftest is no name".to_owned())?;
        let key = new_key(KeyUse::Tls, &name, &random).map_err(because("no key can be made"))?;
        let certificate =
            self_signed(HOST, &key.pkcs8, &random).map_err(because("no certificate can be made"))?;
        Ok(Self { certificate, pkcs8: key.pkcs8 })
    }

    /// The server's side, which asks for a certificate too.
    fn server(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let own = CertificateDer::from(self.certificate.clone());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.clone()));
        let mut roots = RootCertStore::empty();
        roots.add(own.clone())?;
        let provider = Arc::new(default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let clients = clients.map_err(|error| rustls::Error::General(error.to_string()))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![own], key)?;
        Ok(Arc::new(config))
    }
}

/// Two ends of a connection through the kernel, neither of which waits for ever.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect_timeout(&listener.local_addr()?, WAIT)?;
    let (far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_read_timeout(Some(WAIT))?;
        end.set_write_timeout(Some(WAIT))?;
    }
    Ok((near, far))
}

fn echo(connection: ServerConnection, socket: TcpStream) -> io::Result<()> {
    let mut stream = StreamOwned::new(connection, socket);
    let mut bytes = vec![0; BYTES];
    stream.read_exact(&mut bytes)?;
    stream.write_all(&bytes)?;
    stream.flush()
}

/// The check.
pub(super) fn shakes_hands() -> Found {
    let identity = Identity::new()?;
    let server = identity.server().map_err(because("no server can be set up"))?;
    let certificate = pem("CERTIFICATE", &identity.certificate);
    let key = pem("PRIVATE KEY", &identity.pkcs8);
    let client = client_config(certificate.as_bytes(), certificate.as_bytes(), key.as_bytes(), UtcNanos(0))
        .map_err(because("no client can be set up"))?;
    let (near, far) = pair().map_err(because("loopback does not connect"))?;
    let answering = ServerConnection::new(server).map_err(because("no server can be set up"))?;
    let thread = std::thread::Builder::new().name("selftest-tls".to_owned());
    let other = thread.spawn(move || echo(answering, far)).map_err(because("no thread can be started"))?;
    let name = ServerName::try_from(HOST).map_err(because("localhost is no name"))?;
    let calling = ClientConnection::new(client, name).map_err(because("no client can be set up"))?;
    let mut stream = StreamOwned::new(calling, near);
    let sent: Vec<u8> = (0_u8..=250).cycle().take(BYTES).collect();
    let mut back = vec![0; BYTES];
    let talked = stream.write_all(&sent).and_then(|()| stream.read_exact(&mut back));
    talked.map_err(because("the connection breaks"))?;
    let version = stream.conn.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
    let suite = stream.conn.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    drop(stream);
    other.join().map_err(|_| "the server panicked")?.map_err(because("the server fails"))?;
    match back == sent {
        true => Ok(format!("{version} with both certificates, {}", suite.unwrap_or_default())),
        false => Err("other bytes came back".to_owned()),
    }
}
