//! The head of an HTTP answer, read without a byte too many: what follows belongs to somebody else.

use super::Stream;
use std::io::{Error, ErrorKind};
use tokio::io::AsyncReadExt;

/// Largest head read; proxies and brokers say far less.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Status and header lines of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) reason: String,
    headers: Vec<(String, String)>,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.splitn(3, ' ');
        if !first.next()?.starts_with("HTTP/1.") {
            return None;
        }
        let status = first.next()?.parse().ok()?;
        let reason = first.next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(80).collect();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        Some(Self { status, reason, headers })
    }
}

/// Reads one head.
pub(super) async fn read_head(stream: &mut Box<dyn Stream>) -> Result<Head, Error> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(Error::new(ErrorKind::InvalidData, "an answer without an end"));
        }
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    Head::parse(&head).ok_or_else(|| Error::new(ErrorKind::InvalidData, "the answer is no HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_ends_where_it_ends() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut near: Box<dyn Stream> = Box::new(near);
        tokio::io::AsyncWriteExt::write_all(&mut far, b"HTTP/1.1 200 Fine by me\r\nVia: x\r\n\r\nrest")
            .await
            .unwrap();
        let head = read_head(&mut near).await.unwrap();
        assert_eq!((head.status, head.reason.as_str(), head.header("via")), (200, "Fine by me", Some("x")));
        let mut rest = [0; 4];
        near.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"rest");
    }

    #[tokio::test]
    async fn no_head_grows_for_ever_or_is_something_else() {
        let (near, mut far) = tokio::io::duplex(16 * 1024);
        let mut near: Box<dyn Stream> = Box::new(near);
        tokio::io::AsyncWriteExt::write_all(&mut far, &[b'x'; 10_000]).await.unwrap();
        assert!(read_head(&mut near).await.is_err());
        assert_eq!(Head::parse("SSH-2.0-OpenSSH\r\n\r\n"), None);
    }
}
