//! The waiting half of a connection: moves bytes between the stream and [`Connection`], and nothing else.

use super::connection::{Connection, Event, Outgoing};
use super::dial::{Stream, end_of_stream};
use bytes::BytesMut;
use headwater_core::ports::{Clock, LinkClosed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Both ends of a connection's queues.
pub(super) struct Ends {
    pub(super) messages: mpsc::Receiver<Outgoing>,
    pub(super) events: mpsc::Sender<Result<Event, LinkClosed>>,
    /// Ends it at once, without a goodbye.
    pub(super) stop: CancellationToken,
}

/// Runs until the connection is over or nobody listens. While a write is stuck, acks are still read.
pub(super) async fn drive<C: Clock>(
    stream: Box<dyn Stream>,
    connection: Connection,
    clock: C,
    mut ends: Ends,
) {
    let stop = ends.stop.clone();
    let mut connection = connection;
    let run = async {
        if let Err(closed) = moves(stream, &mut connection, clock, &mut ends).await {
            // What came before the end is worth knowing; nobody may be left to hear it.
            while let Some(event) = connection.take_event() {
                drop(ends.events.send(Ok(event)).await);
            }
            drop(ends.events.send(Err(closed)).await);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = run => {}
    }
}

async fn moves<C: Clock>(
    stream: Box<dyn Stream>,
    connection: &mut Connection,
    clock: C,
    ends: &mut Ends,
) -> Result<(), LinkClosed> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut incoming, mut out, mut unflushed) =
        (BytesMut::with_capacity(READ_BYTES), BytesMut::new(), false);
    loop {
        while let Some(event) = connection.take_event() {
            if ends.events.send(Ok(event)).await.is_err() {
                return Ok(());
            }
        }
        if out.is_empty()
            && let Some(more) = connection.take_out()
        {
            out = more;
        }
        incoming.reserve(READ_BYTES);
        let writes = !out.is_empty() || unflushed;
        // Every branch may be dropped half-way: reads and writes then took or gave nothing.
        tokio::select! {
            read = reader.read_buf(&mut incoming) => match read {
                Ok(0) => return Err(connection.ended("the broker closed the connection")),
                Ok(_) => connection.received(clock.boot(), &mut incoming)?,
                Err(error) => return Err(ended(connection, &error)),
            },
            wrote = write_some(&mut writer, &mut out), if writes => match wrote {
                Ok(more) => {
                    unflushed = more;
                    connection.wrote(clock.boot());
                }
                Err(error) => return Err(ended(connection, &error)),
            },
            // One message at a time behind the write: what still waits can be overtaken by an alarm.
            message = ends.messages.recv(), if out.is_empty() && connection.has_room() => match message {
                Some(message) => connection.publish(message)?,
                None => return Ok(()),
            },
            () = clock.sleep_until(connection.deadline()) => connection.tick(clock.boot())?,
        }
    }
}

/// TLS tells only after its handshake that our certificate was not taken; and what the network did is no sign of the
/// broker.
fn ended(connection: &Connection, error: &std::io::Error) -> LinkClosed {
    use std::io::ErrorKind;
    let network = matches!(
        error.kind(),
        ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    );
    if network {
        return LinkClosed::transient(error.to_string());
    }
    end_of_stream(error).unwrap_or_else(|| connection.ended(&error.to_string()))
}

/// Writes a piece, or flushes if all is written; true if a flush is owed.
async fn write_some<W: tokio::io::AsyncWrite + Unpin>(
    writer: &mut W,
    out: &mut BytesMut,
) -> std::io::Result<bool> {
    if out.is_empty() {
        return writer.flush().await.map(|()| false);
    }
    match writer.write_buf(out).await {
        Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
        Ok(_) => Ok(true),
        Err(error) => Err(error),
    }
}
