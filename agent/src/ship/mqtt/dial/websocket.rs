//! A WebSocket client (RFC 6455) of the size MQTT needs: binary frames, ping and close, one upgrade.
//!
//! ```text
//! client frame: FIN+opcode · 0x80+len (7, 16 or 64 bit) · mask (4) · payload XOR mask
//! server frame: FIN+opcode ·      len (7, 16 or 64 bit) ·            payload
//! ```
//! MQTT packets may lie across frames (MQTT 5 section 6), so payloads are one stream both ways.

use super::http_head::{Head, read_head};
use super::{Hop, HopError, Stream};
use crate::ship::mqtt::url::BrokerUrl;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf, BufMut, BytesMut};
use headwater_core::ports::Cause;
use ring::rand::{SecureRandom, SystemRandom};
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// RFC 6455 section 1.3.
const ACCEPT_SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Payload of a frame of ours: small, so that little is bound in one write.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 4 * 1024;
/// Largest payload of a control frame (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;
/// Answers to pings that may wait for a stuck write; a broker that pings on is cut off.
const PONGS_BYTES_MAX: usize = 4 * 1024;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Asks for the upgrade.
pub(super) async fn upgrade(
    mut stream: Box<dyn Stream>,
    broker: &BrokerUrl,
) -> Result<Box<dyn Stream>, HopError> {
    let broken = |error: Error| {
        let reason = format!("the upgrade broke off: {error}; does this port speak HTTP?");
        HopError::new(Hop::WebSocket, Cause::Transient, reason)
    };
    let mut nonce = [0; 16];
    random(&mut nonce).map_err(broken)?;
    let key = BASE64_STANDARD.encode(nonce);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
        broker.path,
        broker.authority(),
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let head = read_head(&mut stream).await.map_err(broken)?;
    accepted(&head, &key)?;
    Ok(Box::new(WebSocket::new(stream)))
}

fn accepted(head: &Head, key: &str) -> Result<(), HopError> {
    let fail = |cause, reason: String| Err(HopError::new(Hop::WebSocket, cause, reason));
    match head.status {
        101 => {}
        401 | 403 => return fail(Cause::NotAuthorized, format!("refused ({} {})", head.status, head.reason)),
        404 => {
            return fail(
                Cause::Transient,
                "no WebSocket at this path (404): see the path in uplink.broker".into(),
            );
        }
        status => return fail(Cause::Transient, format!("no upgrade ({status} {})", head.reason)),
    }
    if head.header("sec-websocket-accept") != Some(accept_of(key).as_str()) {
        return fail(Cause::Transient, "the answer is for another request: a cache in between?".into());
    }
    match head.header("sec-websocket-protocol") {
        Some(name) if name.eq_ignore_ascii_case("mqtt") => Ok(()),
        found => fail(Cause::Transient, format!("subprotocol mqtt is not spoken here, but {found:?}")),
    }
}

fn accept_of(key: &str) -> String {
    let digest = ring::digest::digest(
        &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{ACCEPT_SALT}").as_bytes(),
    );
    BASE64_STANDARD.encode(digest)
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    SystemRandom::new().fill(bytes).map_err(|_| Error::other("the system gives no randomness"))
}

/// The payloads of a WebSocket as one stream.
#[derive(Debug)]
pub(super) struct WebSocket<S> {
    inner: S,
    /// Read and not yet understood.
    incoming: BytesMut,
    /// Payload bytes of the data frame that is being read.
    left: u64,
    /// Framed and not yet written.
    outgoing: BytesMut,
    ended: bool,
}

/// The head of a frame from the server.
#[derive(Debug, PartialEq, Eq)]
struct FrameHead {
    opcode: u8,
    head_bytes: usize,
    payload_bytes: u64,
}

impl FrameHead {
    /// `None` if more bytes are needed.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let invalid = |what: &str| Err(Error::new(ErrorKind::InvalidData, what));
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if second & 0x80 != 0 || first & 0x70 != 0 {
            return invalid("a WebSocket frame with a mask or reserved bits");
        }
        let (head_bytes, payload_bytes) = match (second, rest) {
            (126, [a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
            (126 | 127, _) => return Ok(None),
            (len, _) => (2, u64::from(len)),
        };
        let opcode = first & 0x0f;
        let control = opcode >= CLOSE;
        match opcode {
            CONTINUATION | BINARY | CLOSE | PING | PONG => {}
            _ => return invalid("a WebSocket frame that is not binary"),
        }
        if control && (first & 0x80 == 0 || payload_bytes > CONTROL_BYTES_MAX as u64) {
            return invalid("a WebSocket control frame too long or in pieces");
        }
        Ok(Some(Self { opcode, head_bytes, payload_bytes }))
    }
}

fn put_frame(out: &mut BytesMut, opcode: u8, payload: &[u8]) -> Result<(), Error> {
    let mut mask = [0; 4];
    random(&mut mask)?;
    out.put_u8(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len), _) if len < 126 => out.put_u8(0x80 | len),
        (_, Ok(len)) => {
            out.put_u8(0x80 | 126);
            out.put_u16(len);
        }
        _ => {
            out.put_u8(0x80 | 127);
            out.put_u64(payload.len() as u64);
        }
    }
    out.put_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(())
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, incoming: BytesMut::new(), left: 0, outgoing: BytesMut::new(), ended: false }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.outgoing.is_empty() {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.outgoing))?;
            if n == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(n);
        }
        Poll::Ready(Ok(()))
    }

    /// Understands one frame's head, or a whole control frame; false if more bytes are needed.
    fn step(&mut self) -> Result<bool, Error> {
        let Some(head) = FrameHead::read(&self.incoming)? else { return Ok(false) };
        if head.opcode < CLOSE {
            self.incoming.advance(head.head_bytes);
            self.left = head.payload_bytes;
            return Ok(true);
        }
        let payload = usize::try_from(head.payload_bytes).unwrap_or(CONTROL_BYTES_MAX);
        if self.incoming.len() < head.head_bytes.saturating_add(payload) {
            return Ok(false);
        }
        self.incoming.advance(head.head_bytes);
        let payload = self.incoming.split_to(payload);
        match head.opcode {
            CLOSE => self.ended = true,
            PING if self.outgoing.len() > PONGS_BYTES_MAX + FRAME_BYTES_MAX => {
                return Err(Error::new(ErrorKind::InvalidData, "too many WebSocket pings"));
            }
            PING => put_frame(&mut self.outgoing, PONG, &payload)?,
            _ => {}
        }
        Ok(true)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        loop {
            if this.ended || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.left > 0 && !this.incoming.is_empty() {
                let left = usize::try_from(this.left).unwrap_or(usize::MAX);
                let n = left.min(this.incoming.len()).min(buf.remaining());
                buf.put_slice(&this.incoming.split_to(n));
                this.left = this.left.saturating_sub(n as u64);
                return Poll::Ready(Ok(()));
            }
            if this.left == 0 && this.step()? {
                // A pong goes out with the next write or flush; here it is only tried.
                if let Poll::Ready(Err(error)) = this.poll_out(cx) {
                    return Poll::Ready(Err(error));
                }
                continue;
            }
            let mut piece = [0; READ_BYTES];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                this.ended = true;
            }
            this.incoming.extend_from_slice(piece.filled());
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize, Error>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        let piece = buf.get(..FRAME_BYTES_MAX).unwrap_or(buf);
        put_frame(&mut this.outgoing, BINARY, piece)?;
        // It is ours now; what the stream does not take yet goes with the next write or flush.
        match this.poll_out(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(piece.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(u8::try_from(len).unwrap()),
            len => {
                frame.push(126);
                frame.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    #[test]
    fn the_answer_of_the_standards_example_is_known() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[tokio::test]
    async fn payloads_are_one_stream_and_pings_are_answered() {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let mut socket = WebSocket::new(near);
        let long = vec![7; 1_000];
        let mut sent = server_frame(0x02, b"ab");
        sent.extend(server_frame(0x89, b"you?"));
        sent.extend(server_frame(0x80, b"cd"));
        sent.extend(server_frame(0x82, &long));
        sent.extend(server_frame(0x88, &[0x03, 0xe8]));
        // Byte by byte: heads may come in pieces.
        let (mut back, read) = tokio::join!(
            async {
                for byte in sent {
                    far.write_all(&[byte]).await.unwrap();
                }
                far
            },
            async {
                let mut read = Vec::new();
                socket.read_to_end(&mut read).await.unwrap();
                read
            }
        );
        assert_eq!(&read[..4], b"abcd");
        assert_eq!(&read[4..], &long);
        let mut pong = [0; 10];
        back.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong[..2], [0x8a, 0x84]);
        let unmasked: Vec<u8> = pong[6..].iter().zip(&pong[2..6]).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(unmasked, b"you?");
    }

    #[tokio::test]
    async fn what_we_write_is_masked_and_cut_into_frames() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut socket = WebSocket::new(near);
        let payload: Vec<u8> = (0..=u8::MAX).cycle().take(40_000).collect();
        socket.write_all(&payload).await.unwrap();
        socket.flush().await.unwrap();
        drop(socket);
        let mut wire = Vec::new();
        far.read_to_end(&mut wire).await.unwrap();
        let (mut at, mut found) = (0, Vec::new());
        while at < wire.len() {
            assert_eq!((wire[at], wire[at + 1]), (0x82, 0x80 | 126));
            let len = usize::from(u16::from_be_bytes([wire[at + 2], wire[at + 3]]));
            let mask = &wire[at + 4..at + 8];
            found.extend(
                wire[at + 8..at + 8 + len].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask),
            );
            at += 8 + len;
        }
        assert_eq!(found, payload);
    }

    #[test]
    fn frames_no_server_may_send_are_refused() {
        assert!(FrameHead::read(&[0x82, 0x81]).is_err(), "masked");
        assert!(FrameHead::read(&[0x81, 0x01]).is_err(), "text");
        assert!(FrameHead::read(&[0xc2, 0x01]).is_err(), "reserved bits");
        assert!(FrameHead::read(&[0x89, 126, 0, 126]).is_err(), "a long ping");
        assert!(FrameHead::read(&[0x09, 0]).is_err(), "a ping in pieces");
        assert_eq!(FrameHead::read(&[0x82, 126, 1]).unwrap(), None);
    }
}
