//! Where the enrolment service is.

use std::fmt;

/// Its port, if none is named.
const PORT: u16 = 8443;

/// `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsUrl {
    /// Host name or address, as its certificate says.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl HttpsUrl {
    /// Reads `https://host[:port]`, with or without a slash at its end; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // An IPv6 address is written in brackets, as in any URL.
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None => PORT,
        };
        let sound = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
        sound.then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}", self.host, self.port),
            false => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |text| HttpsUrl::parse(text).map(|url| url.to_string());
        assert_eq!(parse("https://hq.example").as_deref(), Some("https://hq.example:8443"));
        assert_eq!(parse("https://hq.example:443/").as_deref(), Some("https://hq.example:443"));
        assert_eq!(parse("https://[::1]:7").as_deref(), Some("https://[::1]:7"));
        for wrong in [
            "http://a",
            "a",
            "https://",
            "https://a:0",
            "https://a:b",
            "https://a/b",
            "https://u@a",
            "https://[::1]7",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
