//! The waiting half of a connection: moves bytes between the stream and [`Connection`], and nothing else.

use crate::connection::{Connection, Event, Outgoing};
use bytes::BytesMut;
use headwater_core::ports::{Clock, LinkClosed};
use std::collections::BTreeSet;
use std::io::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// What a connection that takes deliveries is told.
#[derive(Debug)]
pub struct Inward {
    /// Ids to settle.
    pub settled: mpsc::Receiver<u16>,
    /// What is to be read from now on, when that changes; `None` if it never does.
    pub filters: Option<watch::Receiver<BTreeSet<String>>>,
}

/// Both ends of a connection's queues.
#[derive(Debug)]
pub struct Ends {
    /// To be published.
    pub messages: mpsc::Receiver<Outgoing>,
    /// What happened; the last one says why it ended.
    pub events: mpsc::Sender<Result<Event, LinkClosed>>,
    /// For [`crate::Settle::ByHand`].
    pub inward: Option<Inward>,
    /// Ends it at once, without a goodbye.
    pub stop: CancellationToken,
    /// What an error of the stream says besides that it is over: TLS has words of its own.
    pub judge: fn(&Error) -> Option<LinkClosed>,
}

/// Runs until the connection is over or nobody listens. While a write is stuck, acks are still read; while nobody
/// takes events, nothing is read, and pings and settlements still go out.
pub async fn drive<S, C>(stream: S, connection: Connection, clock: C, mut ends: Ends)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    C: Clock,
{
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

async fn moves<S, C>(
    stream: S,
    connection: &mut Connection,
    clock: C,
    ends: &mut Ends,
) -> Result<(), LinkClosed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    C: Clock,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut incoming, mut out, mut unflushed) =
        (BytesMut::with_capacity(READ_BYTES), BytesMut::new(), false);
    let judge = ends.judge;
    let Ends { messages, events, inward, .. } = ends;
    loop {
        if out.is_empty()
            && let Some(more) = connection.take_out()
        {
            out = more;
        }
        incoming.reserve(READ_BYTES);
        let (held, writes) = (connection.is_held(), !out.is_empty() || unflushed);
        // Every branch may be dropped half-way: reads and writes then took or gave nothing.
        tokio::select! {
            room = events.reserve(), if held => match room {
                Ok(room) => pass(connection, events, room),
                Err(_) => return Ok(()),
            },
            read = reader.read_buf(&mut incoming), if !held => match read {
                Ok(0) => return Err(connection.ended("the broker closed the connection")),
                Ok(_) => connection.received(clock.boot(), &mut incoming)?,
                Err(error) => return Err(ended(connection, &error, judge)),
            },
            wrote = write_some(&mut writer, &mut out), if writes => match wrote {
                Ok(more) => {
                    unflushed = more;
                    connection.wrote(clock.boot());
                }
                Err(error) => return Err(ended(connection, &error, judge)),
            },
            // One message at a time behind the write: what still waits can be overtaken by an alarm.
            message = messages.recv(), if out.is_empty() && connection.has_room() => match message {
                Some(message) => connection.publish(message)?,
                None => return Ok(()),
            },
            told = told(inward), if out.is_empty() => match told {
                Told::Settled(id) => {
                    connection.settle(id)?;
                    while let Some(Ok(id)) = inward.as_mut().map(|inward| inward.settled.try_recv()) {
                        connection.settle(id)?;
                    }
                }
                Told::Want(filters) => connection.want(filters)?,
                Told::Gone => return Ok(()),
            },
            () = clock.sleep_until(connection.deadline()) => connection.tick(clock.boot())?,
        }
    }
}

/// Hands on as many events as there is room for.
fn pass(
    connection: &mut Connection,
    events: &mpsc::Sender<Result<Event, LinkClosed>>,
    room: mpsc::Permit<'_, Result<Event, LinkClosed>>,
) {
    let mut room = Some(room);
    while let Some(place) = room.take().or_else(|| events.try_reserve().ok()) {
        let Some(event) = connection.take_event() else { return };
        place.send(Ok(event));
    }
}

/// What [`Inward`] brings.
enum Told {
    Settled(u16),
    Want(BTreeSet<String>),
    Gone,
}

async fn told(inward: &mut Option<Inward>) -> Told {
    let Some(Inward { settled, filters }) = inward else { return std::future::pending().await };
    loop {
        let changed = async {
            match filters {
                Some(filters) => filters.changed().await.map(|()| filters.borrow_and_update().clone()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            id = settled.recv() => return id.map_or(Told::Gone, Told::Settled),
            wanted = changed => match wanted {
                Ok(wanted) => return Told::Want(wanted),
                // Nobody is left to change it: it stays.
                Err(_) => *filters = None,
            },
        }
    }
}

/// TLS tells only after its handshake that our certificate was not taken; and what the network did is no sign of the
/// broker.
fn ended(connection: &Connection, error: &Error, judge: fn(&Error) -> Option<LinkClosed>) -> LinkClosed {
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
    judge(error).unwrap_or_else(|| connection.ended(&error.to_string()))
}

/// Writes a piece, or flushes if all is written; true if a flush is owed.
async fn write_some<W: AsyncWrite + Unpin>(writer: &mut W, out: &mut BytesMut) -> std::io::Result<bool> {
    if out.is_empty() {
        return writer.flush().await.map(|()| false);
    }
    match writer.write_buf(out).await {
        Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
        Ok(_) => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lasting, Opening, Settle, Version};
    use headwater_core::time::{BootNanos, NS_PER_S, UtcNanos};
    use headwater_sim::clock::SimClock;

    /// Messages beyond all queues: a broker of 3.1.1 knows no bound.
    const FLOOD: u16 = 5_000;

    /// What nobody takes is not read, however much the broker sends; what is settled still goes out.
    #[expect(clippy::disallowed_methods, reason = "two ends of a pipe in a test; both end with it")]
    #[tokio::test(start_paused = true)]
    async fn a_flood_that_nobody_takes_waits_at_the_broker_while_the_link_lives() {
        let clock = SimClock::new(BootNanos(1), UtcNanos(0));
        let opening = Opening {
            version: Version::V311,
            client_id: "hq".into(),
            keepalive_s: 60,
            will: None,
            lasting: Some(Lasting { starts_clean: false, expiry_s: 60, receive_max: 8 }),
            filters: ["t".to_owned()].into(),
            settle: Settle::ByHand,
            inflight_max: 4,
        };
        let connection = Connection::open(opening, clock.boot()).unwrap();
        let (ours, theirs) = tokio::io::duplex(4096);
        let (_messages, queue) = mpsc::channel(4);
        let (forward, mut events) = mpsc::channel(8);
        let (settled, ids) = mpsc::channel(8);
        let inward = Some(Inward { settled: ids, filters: None });
        let ends = Ends {
            messages: queue,
            events: forward,
            inward,
            stop: CancellationToken::new(),
            judge: |_| None,
        };
        let driving = tokio::spawn(drive(ours, connection, clock.clone(), ends));
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let flood = tokio::spawn(async move {
            writer.write_all(&[0x20, 2, 0, 0, 0x90, 3, 0, 1, 1]).await.unwrap();
            for id in 1..=FLOOD {
                let [high, low] = id.to_be_bytes();
                writer.write_all(&[0x32, 6, 0, 1, b't', high, low, 7]).await.unwrap();
            }
            writer
        });
        // Ten keepalives without a reader: each brings a ping, and the broker still waits with its flood.
        let mut heard = BytesMut::new();
        let count = |heard: &BytesMut, packet: [u8; 2]| heard.windows(2).filter(|at| *at == packet).count();
        while count(&heard, [0xc0, 0]) < 10 {
            assert!(reader.read_buf(&mut heard).await.unwrap() > 0);
        }
        assert!(clock.boot().0 >= 600 * NS_PER_S && !flood.is_finished());
        let mut taken = 0;
        while taken < FLOOD {
            if let Event::Delivered { id, .. } = events.recv().await.unwrap().unwrap() {
                taken += 1;
                assert_eq!(id, taken);
                settled.send(id).await.unwrap();
            }
            while let Ok(Ok(_)) =
                tokio::time::timeout(std::time::Duration::ZERO, reader.read_buf(&mut heard)).await
            {
            }
        }
        drop(flood.await.unwrap());
        while heard.len() < usize::from(FLOOD) * 4 || !heard.ends_with(&[0x40, 2, 0x13, 0x88]) {
            assert!(reader.read_buf(&mut heard).await.unwrap() > 0);
        }
        drop(reader);
        driving.abort();
    }
}
