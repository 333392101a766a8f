//! The broker's address: `mqtts://host:port`, or `mqtt://` on loopback.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS or plain.
    pub tls: bool,
}

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerUrlError {
    /// Another form.
    #[error("broker {0:?} is not mqtts://host:port")]
    Form(String),
    /// Plain MQTT over a network.
    #[error("plain mqtt:// is for loopback only, {0} is not; use mqtts://")]
    Plain(String),
    /// No certificates for TLS.
    #[error("mqtts:// needs ca, tls_cert and tls_key under [identity]")]
    NoTls,
}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, BrokerUrlError> {
        let form = || BrokerUrlError::Form(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
        let (tls, default_port) = match scheme {
            "mqtts" => (true, 8883),
            "mqtt" => (false, 1883),
            _ => return Err(form()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // An address in brackets is IPv6; rumqttc joins host and port with a colon, so it keeps them.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| form())?),
            _ => (rest, default_port),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if bare.is_empty() || port == 0 || host.contains(['/', '@', ' ']) {
            return Err(form());
        }
        let loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !tls && !loopback {
            return Err(BrokerUrlError::Plain(bare.to_owned()));
        }
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "mqtts" } else { "mqtt" }, self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_plain_ones_stay_on_loopback() {
        let read = |text: &str| text.parse::<BrokerUrl>();
        assert_eq!(
            read("mqtts://collector.example:8883"),
            Ok(BrokerUrl { host: "collector.example".into(), port: 8883, tls: true })
        );
        assert_eq!(read("mqtts://collector.example").map(|url| url.port), Ok(8883));
        assert!(read("mqtt://127.0.0.1:1883").is_ok_and(|url| !url.tls));
        assert!(read("mqtt://localhost").is_ok());
        assert!(read("mqtt://[::1]:1884").is_ok_and(|url| url.port == 1884));
        assert!(matches!(read("mqtt://192.168.1.4:1883"), Err(BrokerUrlError::Plain(_))));
        for bad in
            ["collector:8883", "http://x", "mqtts://", "mqtts://x:notaport", "mqtts://a/b:1", "mqtts://x:0"]
        {
            assert!(matches!(read(bad), Err(BrokerUrlError::Form(_))), "{bad}");
        }
    }
}
