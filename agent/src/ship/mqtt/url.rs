//! A broker's address: `mqtts://host:port`, `wss://host/path`, and the plain forms on loopback.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Port on which MQTT over TLS hides from firewalls, told apart by ALPN.
pub const PORT_HTTPS: u16 = 443;

/// How MQTT travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Straight on the stream.
    Stream,
    /// In frames of a WebSocket (RFC 6455, subprotocol `mqtt`).
    WebSocket,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS or plain.
    pub tls: bool,
    /// Straight or in a WebSocket.
    pub carrier: Carrier,
    /// Path of a WebSocket with its slash; empty else.
    pub path: String,
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerUrlError {
    /// No known scheme.
    #[error("begin it with mqtts:// or wss://")]
    Scheme,
    /// No port in it.
    #[error("the port is a number from 1 to 65535")]
    Port,
    /// No host, or more than one.
    #[error("give a host name or an address, and no user or query; only ws:// and wss:// have a path")]
    Host,
    /// Plain over a network.
    #[error("{0}:// sends everything in the clear and is for loopback only; use {0}s://")]
    Plain(&'static str),
    /// No certificates for TLS.
    #[error("{0} needs ca, tls_cert and tls_key under [identity]")]
    NoTls(String),
    /// Nowhere to go.
    #[error("no broker is configured")]
    None,
}

impl BrokerUrl {
    /// True if it can only be this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Host and port as written in a URL or a request.
    #[must_use]
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    fn scheme(&self) -> &'static str {
        match (self.carrier, self.tls) {
            (Carrier::Stream, true) => "mqtts",
            (Carrier::Stream, false) => "mqtt",
            (Carrier::WebSocket, true) => "wss",
            (Carrier::WebSocket, false) => "ws",
        }
    }
}

/// Host and port with an IPv6 address in brackets.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Host and port of `host[:port]`, the host without brackets; `None` for another form.
pub(crate) fn host_and_port(text: &str, default: u16) -> Result<(String, u16), BrokerUrlError> {
    let (host, port) = match text.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(BrokerUrlError::Host)?)),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Ok(default), |port| port.parse::<u16>().map_err(|_| BrokerUrlError::Port))?;
    if port == 0 {
        return Err(BrokerUrlError::Port);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    let v6 = host.contains(':');
    if host.is_empty() || !host.chars().all(plain) || (v6 && host.parse::<IpAddr>().is_err()) {
        return Err(BrokerUrlError::Host);
    }
    Ok((host.to_owned(), port))
}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, BrokerUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(BrokerUrlError::Scheme)?;
        let (carrier, tls, default_port, plain) = match scheme {
            "mqtts" => (Carrier::Stream, true, 8883, "mqtt"),
            "mqtt" => (Carrier::Stream, false, 1883, "mqtt"),
            "wss" => (Carrier::WebSocket, true, PORT_HTTPS, "ws"),
            "ws" => (Carrier::WebSocket, false, 80, "ws"),
            _ => return Err(BrokerUrlError::Scheme),
        };
        let (place, path) = match (carrier, rest.split_once('/')) {
            (Carrier::Stream, Some((place, ""))) => (place, String::new()),
            (Carrier::Stream, Some(_)) => return Err(BrokerUrlError::Host),
            (Carrier::Stream, None) => (rest, String::new()),
            // Brokers listen there by custom: mosquitto anywhere, EMQX, HiveMQ and AWS on /mqtt.
            (Carrier::WebSocket, None) => (rest, "/mqtt".to_owned()),
            (Carrier::WebSocket, Some((place, path))) => (place, format!("/{path}")),
        };
        let printable = |c: char| c.is_ascii_graphic() && c != '#';
        if !path.chars().all(printable) {
            return Err(BrokerUrlError::Host);
        }
        let (host, port) = host_and_port(place, default_port)?;
        let url = Self { host, port, tls, carrier, path };
        if !tls && !url.is_loopback() {
            return Err(BrokerUrlError::Plain(plain));
        }
        Ok(url)
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_back() {
        for (text, host, port, tls, carrier) in [
            ("mqtts://collector.example:8884", "collector.example", 8884, true, Carrier::Stream),
            ("mqtt://127.0.0.1:1884", "127.0.0.1", 1884, false, Carrier::Stream),
            ("mqtts://[2001:db8::1]:99", "2001:db8::1", 99, true, Carrier::Stream),
            ("wss://b.example:8084/mqtt", "b.example", 8084, true, Carrier::WebSocket),
            ("ws://[::1]:8083/a/b?c=d", "::1", 8083, false, Carrier::WebSocket),
        ] {
            let url: BrokerUrl = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port, url.tls, url.carrier), (host, port, tls, carrier));
            assert_eq!(url.to_string(), text);
        }
    }

    #[test]
    fn ports_and_paths_have_defaults() {
        let read = |text: &str| text.parse::<BrokerUrl>().map(|url| url.to_string());
        assert_eq!(read("mqtts://b.example/").as_deref(), Ok("mqtts://b.example:8883"));
        assert_eq!(read("mqtt://localhost").as_deref(), Ok("mqtt://localhost:1883"));
        assert_eq!(read("wss://b.example").as_deref(), Ok("wss://b.example:443/mqtt"));
        assert_eq!(read("wss://b.example/").as_deref(), Ok("wss://b.example:443/"));
    }

    #[test]
    fn plain_addresses_stay_on_loopback_and_other_forms_are_refused() {
        let read = |text: &str| text.parse::<BrokerUrl>();
        assert_eq!(read("mqtt://192.168.1.4:1883"), Err(BrokerUrlError::Plain("mqtt")));
        assert_eq!(read("ws://192.168.1.4"), Err(BrokerUrlError::Plain("ws")));
        for bad in ["collector:8883", "http://x", "x"] {
            assert_eq!(read(bad), Err(BrokerUrlError::Scheme), "{bad}");
        }
        for bad in ["mqtts://x:notaport", "mqtts://x:0", "mqtts://x:65536"] {
            assert_eq!(read(bad), Err(BrokerUrlError::Port), "{bad}");
        }
        for bad in [
            "mqtts://",
            "mqtts://a/b",
            "mqtts://u@h",
            "mqtts://::1",
            "mqtts://a:b:1",
            "wss://h/a b",
            "wss://h/é",
        ] {
            assert!(matches!(read(bad), Err(BrokerUrlError::Host | BrokerUrlError::Port)), "{bad}");
        }
    }
}
