//! Names to addresses, and the first of them that answers (RFC 8305, "happy eyeballs", in short).

use super::{Hop, HopError};
use headwater_core::ports::{Cause, Clock};
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Most addresses tried; a name with more gives its first ones of each family.
const ADDRESSES_MAX: usize = 8;
/// Head start of one address before the next is tried beside it (RFC 8305 section 5), ms.
const HEAD_START_MS: u64 = 250;
/// Keeps the kernel from hiding megabytes in front of an alarm.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;

/// The addresses of a host, families taking turns, in the resolver's order.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, HopError> {
    let fail = |error: &str| {
        let reason = format!("{host} has no address: {error}; check the name and the gateway's name servers");
        HopError::new(Hop::Dns, Cause::Transient, reason)
    };
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| fail(&error.to_string()))?;
    let addresses = take_turns(found.collect());
    if addresses.is_empty() { Err(fail("none is known")) } else { Ok(addresses) }
}

/// Families take turns, the resolver's first one first.
fn take_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (same, other): (Vec<_>, Vec<_>) = found.into_iter().partition(|at| at.is_ipv6() == first_is_v6);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    loop {
        let (a, b) = (same.next(), other.next());
        if (a.is_none() && b.is_none()) || turns.len() >= ADDRESSES_MAX {
            turns.truncate(ADDRESSES_MAX);
            return turns;
        }
        turns.extend(a.into_iter().chain(b));
    }
}

pub(super) fn told(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ")
}

/// The first connection that stands; the others are given up.
pub(super) async fn connect<C: Clock>(
    addresses: &[SocketAddr],
    interface: Option<&str>,
    clock: &C,
) -> Result<TcpStream, HopError> {
    let (mut waiting, mut trying, mut failed) = (addresses.iter(), JoinSet::new(), Vec::new());
    loop {
        if let Some(address) = waiting.next() {
            trying.spawn(one(*address, interface.map(str::to_owned)));
        }
        let next_at = clock.boot().plus_ms(HEAD_START_MS);
        tokio::select! {
            tried = trying.join_next() => match tried {
                Some(Ok((_, Ok(stream)))) => return Ok(stream),
                Some(Ok((address, Err(error)))) => failed.push((address, error)),
                Some(Err(_)) => {}
                None => return Err(refused(&failed)),
            },
            () = clock.sleep_until(next_at), if waiting.len() > 0 => {}
        }
    }
}

async fn one(address: SocketAddr, interface: Option<String>) -> (SocketAddr, Result<TcpStream, Error>) {
    let connected = async {
        let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        socket.set_nodelay(true)?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        if let Some(interface) = interface {
            bind(&socket, &interface)?;
        }
        socket.connect(address).await
    };
    (address, connected.await)
}

#[cfg(target_os = "linux")]
fn bind(socket: &TcpSocket, interface: &str) -> Result<(), Error> {
    socket.bind_device(Some(interface.as_bytes()))
}

#[cfg(not(target_os = "linux"))]
fn bind(_: &TcpSocket, _: &str) -> Result<(), Error> {
    Err(ErrorKind::Unsupported.into())
}

/// If every address refuses, the machine is there and the broker is not.
fn refused(failed: &[(SocketAddr, Error)]) -> HopError {
    let away =
        !failed.is_empty() && failed.iter().all(|(_, error)| error.kind() == ErrorKind::ConnectionRefused);
    let cause = if away { Cause::BrokerAway } else { Cause::Transient };
    let words: Vec<String> = failed.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    let hint = match failed.first().map(|(_, error)| error.kind()) {
        Some(ErrorKind::ConnectionRefused) => "; is the broker running, and the port right?",
        Some(ErrorKind::PermissionDenied) => "; uplink.interface may need CAP_NET_RAW",
        Some(ErrorKind::TimedOut) => "; a firewall may drop this port: try mqtts on 443, wss or a proxy",
        _ => "",
    };
    HopError::new(Hop::Tcp, cause, format!("{}{hint}", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::time::{BootNanos, UtcNanos};
    use headwater_sim::clock::SimClock;
    use tokio::net::TcpListener;

    #[test]
    fn families_take_turns() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (a, b, c) = (at("[::1]:1"), at("[::2]:1"), at("1.1.1.1:1"));
        assert_eq!(take_turns(vec![a, b, c]), [a, c, b]);
        assert_eq!(take_turns(vec![c, a]), [c, a]);
        assert_eq!(take_turns(vec![a; 20]).len(), ADDRESSES_MAX);
    }

    #[tokio::test]
    async fn happy_eyeballs_skips_the_address_that_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let clock = SimClock::new(BootNanos(1), UtcNanos(0));
        let stream = connect(&[gone, there], None, &clock).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), there);
        let error = connect(&[gone], None, &clock).await.unwrap_err();
        assert_eq!((error.hop, error.cause), (Hop::Tcp, Cause::BrokerAway), "{error}");
    }

    #[tokio::test]
    async fn an_interface_that_is_not_there_fails_at_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let clock = SimClock::new(BootNanos(1), UtcNanos(0));
        let there = [listener.local_addr().unwrap()];
        assert!(connect(&there, Some("lo"), &clock).await.is_ok());
        let error = connect(&there, Some("nosuch0"), &clock).await.unwrap_err();
        assert_eq!(error.hop, Hop::Tcp, "{error}");
    }
}
