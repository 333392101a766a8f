//! Listens to ports for a while, at the rates that are common, without ever sending a byte; and asks whether gpsd is there.

use super::findings::{FoundGpsd, FoundPort, Heard};
use super::listen::{Guess, Listener};
use super::ports::Candidate;
use crate::config::Characters;
use crate::gpsd::Connection;
use crate::source::port_info::PortKind;
use crate::source::serial::{OpenPort, TtyPort};
use crate::source::sys::SysTree;
use headwater_core::ports::Clock;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Rates, the most common first. Where nothing is heard at the first, nothing would be at another: a wrong rate makes other
/// bytes of it, and some.
const BAUDS: [u32; 7] = [115_200, 9_600, 38_400, 57_600, 4_800, 19_200, 230_400];
/// How long one rate is listened to, ms: receivers speak once a second, boards introduce themselves each two,
/// particulate sensors send each 2.3 s at the slowest.
const LISTEN_MS: u64 = 5_000;
/// How long all of it may take for one port, ms: each rate once, and opening.
const PORT_MS_MAX: u64 = 45_000;
/// Bytes taken at once.
const READ_BYTES: usize = 4_096;
/// Bytes heard at one rate: what floods a port needs no longer.
const HEARD_BYTES_MAX: usize = 64 << 10;
/// Lines of gpsd in which its receivers must be named.
const GPSD_LINES_MAX: usize = 8;
/// How long gpsd may take to name them, ms.
const GPSD_MS_MAX: u64 = 3_000;

/// Makes openers of ports.
pub trait PortOpener {
    /// An opener.
    type Opener: OpenPort;
    /// The opener of one port at one rate.
    fn opener(&self, path: &Path, baud: u32) -> Self::Opener;
}

/// Ports of this machine.
#[derive(Debug, Clone)]
pub struct Ttys<C> {
    /// For the pause after opening.
    pub clock: C,
}

impl<C: Clock> PortOpener for Ttys<C> {
    type Opener = TtyPort<C>;

    fn opener(&self, path: &Path, baud: u32) -> TtyPort<C> {
        TtyPort { path: path.to_path_buf(), baud, characters: Characters::PLAIN, clock: self.clock.clone() }
    }
}

/// Listens to all ports at once.
pub async fn probe_all<P: PortOpener, C: Clock>(
    opener: &P,
    clock: &C,
    tree: &SysTree,
    ports: Vec<Candidate>,
    listen: bool,
) -> Vec<FoundPort> {
    let mut waiting: Vec<_> = ports
        .into_iter()
        .map(|port| {
            let done: Option<FoundPort> = None;
            let one = async move {
                let heard = match &port.barred {
                    Some(why) => Heard::NotListened { why: why.clone() },
                    None if !listen => Heard::NotListened { why: "--no-probe".to_owned() },
                    None => {
                        // A board that is a USB device itself has no rate.
                        let bauds = if port.kind == PortKind::UsbCdc { &BAUDS[..1] } else { &BAUDS[..] };
                        probe(opener, clock, &tree.path(&port.path), bauds).await
                    }
                };
                FoundPort { path: port.path, tty: port.tty, kind: port.kind.as_str(), heard }
            };
            (Box::pin(one), done)
        })
        .collect();
    std::future::poll_fn(|context| {
        for (one, done) in &mut waiting {
            if done.is_none()
                && let std::task::Poll::Ready(port) = one.as_mut().poll(context)
            {
                *done = Some(port);
            }
        }
        match waiting.iter().all(|(_, done)| done.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

/// What is heard on one port, at the first of `bauds` at which it makes sense.
pub async fn probe<P: PortOpener, C: Clock>(opener: &P, clock: &C, path: &Path, bauds: &[u32]) -> Heard {
    let late = clock.boot().plus_ms(PORT_MS_MAX);
    let mut text = None;
    for (at, baud) in bauds.iter().enumerate() {
        let mut one = opener.opener(path, *baud);
        let guess = async {
            let mut port = one.open().await.map_err(|error| error.to_string())?;
            Ok::<_, String>(listen(&mut port, clock).await)
        };
        let guess = tokio::select! {
            guess = guess => guess,
            () = clock.sleep_until(late) => break,
        };
        match guess {
            Err(why) => return Heard::Failed { why },
            Ok(Guess::Link) => return Heard::Link { baud: *baud },
            Ok(Guess::Nmea) => return Heard::Nmea { baud: *baud },
            Ok(Guess::Vendor(framing)) => return Heard::Protocol { baud: *baud, framing },
            Ok(Guess::Numbers { columns, separator }) => {
                return Heard::Numbers { baud: *baud, columns, separator };
            }
            Ok(Guess::Silence) if at == 0 => return Heard::Silence,
            Ok(Guess::Text) => text = text.or(Some(*baud)),
            Ok(Guess::Noise | Guess::Silence) => {}
        }
    }
    text.map_or(Heard::Noise, |baud| Heard::Text { baud })
}

/// Reads for a while, or until it is clear what it is. A port that ends is as if nothing more came.
async fn listen<C: Clock>(port: &mut (impl AsyncRead + Unpin), clock: &C) -> Guess {
    let until = clock.boot().plus_ms(LISTEN_MS);
    let mut listener = Listener::new();
    let (mut buffer, mut heard) = (vec![0; READ_BYTES], 0_usize);
    while listener.sure().is_none() && heard < HEARD_BYTES_MAX {
        tokio::select! {
            read = port.read(&mut buffer) => match read {
                Ok(bytes) if bytes > 0 => {
                    heard = heard.saturating_add(bytes);
                    listener.push(buffer.get(..bytes).unwrap_or_default());
                }
                _ => break,
            },
            () = clock.sleep_until(until) => break,
        }
    }
    listener.guess()
}

#[derive(Deserialize)]
struct Devices {
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    path: String,
}

/// gpsd at `at`, and which receivers are its own; `None` if nobody answers there.
pub async fn ask_gpsd<C: Clock>(clock: &C, at: SocketAddr) -> Option<FoundGpsd> {
    let mut gpsd = Connection::open(clock.clone(), at).await.ok()?;
    let late = clock.boot().plus_ms(GPSD_MS_MAX);
    let receivers = async {
        gpsd.say(b"?DEVICES;\n").await.ok()?;
        for _ in 0..GPSD_LINES_MAX {
            let line = gpsd.line().await.ok()?;
            if let Ok(Devices { devices }) = serde_json::from_slice(&line) {
                return Some(devices.into_iter().map(|device| device.path).collect::<Vec<_>>());
            }
        }
        None
    };
    let receivers = tokio::select! {
        receivers = receivers => receivers.unwrap_or_default(),
        () = clock.sleep_until(late) => Vec::new(),
    };
    Some(FoundGpsd { at, release: gpsd.release, receivers })
}
