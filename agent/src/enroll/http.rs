//! One POST of JSON over TLS: HTTP/1.1 as far as our own service speaks it.

use super::url::HttpsUrl;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a connection, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(20);
/// Largest answer that is read; ours have some 8 KiB.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Posts `body` to `path` and waits for the answer. Blocks its thread, at most some minutes.
pub(super) fn post(url: &HttpsUrl, path: &str, body: &str, tls: ClientConfig) -> io::Result<Answer> {
    let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::new(tls), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, connect(url)?);
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        url.host,
        body.len()
    )?;
    stream.flush()?;
    let mut bytes = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes) {
        // The length says whether anything is missing.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        read => drop(read?),
    }
    parse(&bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not whole, or no HTTP"))
}

/// The first address that answers.
fn connect(url: &HttpsUrl) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (url.host.as_str(), url.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Status and body of an answer with a length.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    let body = bytes.get(end.checked_add(4)?..)?;
    (body.len() == length).then(|| Answer { status, body: body.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_or_none() {
        let text = b"HTTP/1.1 409 Conflict\r\nServer: x\r\nCONTENT-length: 4\r\n\r\nbody";
        let answer = parse(text).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (409, b"body".as_slice()));
        for cut in 0..text.len() {
            assert!(parse(&text[..cut]).is_none(), "cut at {cut}");
        }
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\nno length").is_none());
        assert!(parse(b"SSH-2.0\r\nContent-Length: 0\r\n\r\n").is_none());
    }
}
