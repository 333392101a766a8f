//! Posting to other people's endpoints: signed, small, one request per connection.
//!
//! The signature is that of Standard Webhooks (<https://www.standardwebhooks.com>): HMAC-SHA256 over
//! `<id>.<unix seconds>.<body>`, so that who receives it can check sender and age, and tell a repetition by its id.
//! Nothing in here waits by a clock: who asks bounds the time.

mod endpoint;
mod signature;

pub use endpoint::Endpoint;
pub use signature::{Secret, SecretError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::rt::{Read, Write};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Why a post did not get an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// Nobody listens there, or the way is cut.
    #[error("connect to {to}")]
    Connect {
        /// Where.
        to: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The host's name cannot be in a certificate.
    #[error("connect to {to}: {host:?} is no host name a certificate can name")]
    Host {
        /// Where.
        to: String,
        /// The name.
        host: String,
    },
    /// HTTP failed.
    #[error("post to {to}")]
    Http {
        /// Where.
        to: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// The request cannot be written.
    #[error("post to {to}: {reason}")]
    Request {
        /// Where.
        to: String,
        /// Why.
        reason: String,
    },
    /// The answer is longer than anybody will read.
    #[error("post to {to}: the answer is longer than {bytes_max} bytes")]
    Long {
        /// Where.
        to: String,
        /// The bound.
        bytes_max: usize,
    },
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// True for 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A message to be posted.
#[derive(Debug, Clone)]
pub struct Post<'a> {
    /// The same for each try of one message.
    pub id: &'a str,
    /// Now, Unix seconds.
    pub unix_s: i64,
    /// JSON.
    pub body: Bytes,
    /// Signs it, if there is one.
    pub secret: Option<&'a Secret>,
    /// Longest answer that is read.
    pub answer_bytes_max: usize,
}

/// Posts; cheap to clone.
#[derive(Debug, Clone)]
pub struct Poster {
    tls: Arc<ClientConfig>,
}

impl Poster {
    /// Trusts the certificates the system trusts, and those of `extra` (a PEM file) if given.
    ///
    /// # Errors
    /// When `extra` cannot be read, for a person.
    pub fn new(extra: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        // A system without certificates can still post to loopback and to what `extra` certifies.
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if let Some(file) = extra {
            use rustls_pki_types::CertificateDer;
            use rustls_pki_types::pem::PemObject;
            let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
            for cert in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
                let cert = cert.map_err(|error| wrong(&error))?;
                roots.add(cert).map_err(|error| wrong(&error))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config) })
    }

    /// Posts once and reads the answer whole.
    ///
    /// # Errors
    /// [`OutboundError`]; any status is an answer.
    pub async fn post(&self, to: &Endpoint, post: Post<'_>) -> Result<Answer, OutboundError> {
        let connect = |source| OutboundError::Connect { to: to.to_string(), source };
        let stream = TcpStream::connect((to.host.as_str(), to.port)).await.map_err(connect)?;
        if !to.tls {
            return exchange(TokioIo::new(stream), to, post).await;
        }
        let name = ServerName::try_from(to.host.clone())
            .map_err(|_| OutboundError::Host { to: to.to_string(), host: to.host.clone() })?;
        let stream =
            TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await.map_err(connect)?;
        exchange(TokioIo::new(stream), to, post).await
    }
}

async fn exchange<S>(stream: S, to: &Endpoint, post: Post<'_>) -> Result<Answer, OutboundError>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let failed = |source| OutboundError::Http { to: to.to_string(), source };
    let (mut sender, connection) = http1::handshake(stream).await.map_err(failed)?;
    // Ends with this function, however it ends.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let bytes_max = post.answer_bytes_max;
    let answer = sender.send_request(request(to, post)?).await.map_err(failed)?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), bytes_max).collect().await.map_err(|error| match error
        .downcast::<hyper::Error>(
    ) {
        Ok(source) => failed(*source),
        Err(other) if other.is::<LengthLimitError>() => OutboundError::Long { to: to.to_string(), bytes_max },
        Err(other) => OutboundError::Request { to: to.to_string(), reason: other.to_string() },
    })?;
    Ok(Answer { status, body: body.to_bytes() })
}

fn request(to: &Endpoint, post: Post<'_>) -> Result<Request<Full<Bytes>>, OutboundError> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(to.path.as_str())
        .header(HOST, to.authority())
        .header(USER_AGENT, crate::SOFTWARE)
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", post.id)
        .header("webhook-timestamp", post.unix_s);
    if let Some(secret) = post.secret {
        request = request.header("webhook-signature", secret.sign(post.id, post.unix_s, &post.body));
    }
    let refused =
        |error: hyper::http::Error| OutboundError::Request { to: to.to_string(), reason: error.to_string() };
    request.body(Full::new(post.body)).map_err(refused)
}
