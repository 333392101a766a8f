//! Proxies: an HTTP proxy's CONNECT (RFC 9110 section 9.3.6) with Basic credentials, or SOCKS5.

use super::http_head::read_head;
use super::{Hop, HopError, Stream, socks};
use crate::ship::mqtt::url::{BrokerUrl, BrokerUrlError, authority, host_and_port};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use headwater_core::ports::Cause;
use std::fmt;
use std::str::FromStr;
use tokio::io::AsyncWriteExt;

/// A proxy's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// CONNECT of HTTP/1.1.
    Http,
    /// SOCKS version 5.
    Socks5,
}

/// User and password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

impl Credentials {
    /// `user:password`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (user, password) = text.split_once(':')?;
        let fits = |text: &str| text.len() <= 255 && !text.chars().any(char::is_control);
        (!user.is_empty() && fits(user) && fits(password))
            .then(|| Self { user: user.to_owned(), password: password.to_owned() })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its language.
    pub kind: ProxyKind,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Who we are to it.
    pub credentials: Option<Credentials>,
}

/// A proxy that cannot be used. Says nothing of credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// No known scheme.
    #[error("begin it with http:// or socks5://")]
    Scheme,
    /// Host or port.
    #[error(transparent)]
    Place(#[from] BrokerUrlError),
    /// User or password.
    #[error("credentials are user:password, each of at most 255 bytes, special characters as %xx")]
    Credentials,
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let (scheme, rest) = text.split_once("://").ok_or(ProxyError::Scheme)?;
        let (kind, default_port) = match scheme {
            "http" => (ProxyKind::Http, 3128),
            "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
            _ => return Err(ProxyError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, place) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((user, place)) => {
                let (user, password) = user.split_once(':').ok_or(ProxyError::Credentials)?;
                let (user, password) = (unescape(user)?, unescape(password)?);
                let credentials = Credentials::parse(&format!("{user}:{password}"));
                (Some(credentials.ok_or(ProxyError::Credentials)?), place)
            }
        };
        let (host, port) = host_and_port(place, default_port)?;
        Ok(Self { kind, host, port, credentials })
    }
}

/// `%xx` to bytes.
fn unescape(text: &str) -> Result<String, ProxyError> {
    let (mut bytes, mut from) = (Vec::new(), text.bytes());
    while let Some(byte) = from.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(from.next()), digit(from.next())) else {
            return Err(ProxyError::Credentials);
        };
        bytes.push(u8::try_from(high.saturating_mul(16).saturating_add(low)).unwrap_or(b'?'));
    }
    String::from_utf8(bytes).map_err(|_| ProxyError::Credentials)
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", authority(&self.host, self.port))
    }
}

impl Proxy {
    /// Asks for a tunnel to the broker. Names are resolved by the proxy.
    pub(super) async fn tunnel(
        &self,
        stream: &mut Box<dyn Stream>,
        broker: &BrokerUrl,
    ) -> Result<(), HopError> {
        let asked = match self.kind {
            ProxyKind::Http => self.connect(stream, broker).await,
            ProxyKind::Socks5 => {
                socks::connect(stream, &broker.host, broker.port, self.credentials.as_ref()).await
            }
        };
        asked.map_err(|Refusal { cause, reason }| {
            HopError::new(Hop::Proxy, cause, format!("{self}: {reason}"))
        })
    }

    async fn connect(&self, stream: &mut Box<dyn Stream>, broker: &BrokerUrl) -> Result<(), Refusal> {
        let to = broker.authority();
        let credentials = self.credentials.as_ref().map_or_else(String::new, |credentials| {
            let pair = BASE64_STANDARD.encode(format!("{}:{}", credentials.user, credentials.password));
            format!("Proxy-Authorization: Basic {pair}\r\n")
        });
        let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{credentials}\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let head = read_head(stream).await?;
        match head.status {
            200..300 => Ok(()),
            407 => Err(Refusal::new(
                Cause::NotAuthorized,
                "it wants other credentials (407): see uplink.proxy_credentials",
            )),
            403 | 405 => Err(Refusal::new(
                Cause::NotAuthorized,
                format!("it does not let us reach {to} ({} {})", head.status, head.reason),
            )),
            status => {
                Err(Refusal::new(Cause::Transient, format!("no tunnel to {to} ({status} {})", head.reason)))
            }
        }
    }
}

/// Why there is no tunnel.
#[derive(Debug)]
pub(super) struct Refusal {
    cause: Cause,
    reason: String,
}

impl Refusal {
    pub(super) fn new(cause: Cause, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into() }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::new(Cause::Transient, format!("it broke off: {error}; is it a proxy of this kind?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_credentials_never_shown() {
        let read = |text: &str| text.parse::<Proxy>();
        let proxy = read("http://me:p%40ss%3aword@proxy.example:8080/").unwrap();
        assert_eq!(proxy.credentials, Credentials::parse("me:p@ss:word"));
        assert_eq!(proxy.to_string(), "http://proxy.example:8080");
        assert!(!format!("{proxy:?}").contains("ss:word"));
        assert_eq!(
            read("socks5://[::1]").map(|proxy| proxy.to_string()).as_deref(),
            Ok("socks5://[::1]:1080")
        );
        assert_eq!(read("http://proxy").map(|proxy| proxy.port), Ok(3128));
        assert_eq!(read("https://proxy"), Err(ProxyError::Scheme));
        assert_eq!(read("http://me@proxy"), Err(ProxyError::Credentials));
        assert_eq!(read("http://me:%zz@proxy"), Err(ProxyError::Credentials));
        assert!(matches!(read("http://proxy:x"), Err(ProxyError::Place(_))));
    }
}
