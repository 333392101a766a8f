//! A port that is a pipe, and one that is a pseudo terminal.

use super::super::nmea::NmeaDecoding;
use super::*;
use crate::source::arrival::{Arrivals, Declared};
use headwater_sim::clock::SimClock;
use std::collections::VecDeque;
use tokio::io::DuplexStream;

/// Hands out prepared pipes, and fails when there is none.
#[derive(Debug)]
struct Pipes(VecDeque<io::Result<DuplexStream>>);

impl OpenPort for Pipes {
    type Port = DuplexStream;

    async fn open(&mut self) -> io::Result<DuplexStream> {
        self.0.pop_front().unwrap_or_else(|| Err(io::Error::other("no such port")))
    }

    fn name(&self) -> String {
        "pipe".to_owned()
    }
}

const CYCLE: [&str; 2] = [
    "$GNRMC,081412.000,A,5541.1956,N,03737.2877,E,0.52,301.26,260514,,,A*7F\r\n",
    "$GPGGA,081412.000,5541.1956,N,03737.2877,E,1,5,4.87,66.2,M,14.5,M,,*6A\r\n",
];

fn nmea() -> Decoder {
    Decoder::Nmea(Box::new(NmeaDecoding::new(
        "gps".parse().unwrap(),
        Arrivals::of_program(Declared::default(), 1_000_000_000),
    )))
}

#[tokio::test(start_paused = true)]
async fn a_vanished_port_is_opened_again_with_patience() {
    let clock = SimClock::start();
    let (near, mut far) = tokio::io::duplex(1_024);
    let (near2, mut far2) = tokio::io::duplex(1_024);
    let pipes = Pipes(VecDeque::from([Ok(near), Err(io::Error::other("unplugged")), Ok(near2)]));
    let mut source = SerialSource::new(clock.clone(), pipes, "gps".parse().unwrap(), nmea());
    far.write_all(CYCLE.concat().as_bytes()).await.unwrap();
    assert!(matches!(source.next().await, Ok(SourceEvent::Stream { .. })));
    assert!(matches!(source.next().await, Ok(SourceEvent::Reading { .. })));
    drop(far);
    let before = clock.boot();
    far2.write_all(CYCLE.concat().replace("081412", "081413").as_bytes()).await.unwrap();
    // The time stands in the sentence, so that checksums are damaged: both are set aside, after two waits.
    assert!(matches!(source.next().await, Ok(SourceEvent::SetAside { .. })));
    assert!(clock.boot().since(before) >= 750_000_000, "250 ms, then 500 ms");
}

#[tokio::test(start_paused = true)]
async fn dropping_next_loses_nothing() {
    let clock = SimClock::start();
    let (near, mut far) = tokio::io::duplex(16);
    let pipes = Pipes(VecDeque::from([Ok(near)]));
    let mut source = SerialSource::new(clock.clone(), pipes, "gps".parse().unwrap(), nmea());
    let text = CYCLE.concat();
    let (mut events, mut sent) = (0, 0);
    while events < 2 {
        let at = clock.boot().plus_ms(1);
        tokio::select! {
            biased;
            () = clock.sleep_until(at) => {}
            event = source.next() => {
                event.unwrap();
                events += 1;
            }
        }
        let more = text.len().min(sent + 3);
        far.write_all(&text.as_bytes()[sent..more]).await.unwrap();
        sent = more;
    }
    assert_eq!(sent, text.len());
}

/// The one test here on real time: a pseudo terminal behaves like a USB adapter that is opened,
/// unplugged and plugged in again.
#[tokio::test]
async fn a_pseudo_terminal_is_read_and_opened_again() {
    use crate::clock::BootClock;
    use std::time::Duration;
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("ttyGPS");
    let plug = |link: &std::path::Path| {
        let (far, near) = SerialStream::pair().unwrap();
        let name = near.name().unwrap();
        if link.symlink_metadata().is_ok() {
            std::fs::remove_file(link).unwrap();
        }
        std::os::unix::fs::symlink(name, link).unwrap();
        far
    };
    let opener = TtyPort { path: link.clone(), baud: 9_600, characters: Characters::PLAIN, clock: BootClock };
    let mut source = SerialSource::new(BootClock, opener, "gps".parse().unwrap(), nmea());
    let (plugged, mut plugs) = tokio::sync::mpsc::channel(1);
    plugged.send(plug(&link)).await.unwrap();
    // A receiver talks on whether anyone listens or not.
    let receiver = async {
        let mut far = plugs.recv().await.expect("plugged in");
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        for n in 0.. {
            tokio::select! {
                Some(other) = plugs.recv() => far = other,
                _ = beat.tick() => {}
            }
            let time = format!("08{:02}{:02}.000", n / 60 % 60, n % 60);
            for body in [
                format!("GPRMC,{time},A,5541.1956,N,03737.2877,E,0.52,301.26,260514,,,A"),
                format!("GPGGA,{time},5541.1956,N,03737.2877,E,1,5,4.87,66.2,M,14.5,M,,"),
            ] {
                let sum = body.bytes().fold(0_u8, |sum, byte| sum ^ byte);
                if let Err(error) = far.write_all(format!("${body}*{sum:02X}\r\n").as_bytes()).await {
                    // Nobody has the other end open just now.
                    assert_eq!(error.raw_os_error(), Some(5), "{error}");
                }
            }
        }
    };
    let reader = async {
        for readings in 1..=4 {
            while !matches!(source.next().await, Ok(SourceEvent::Reading { .. })) {}
            if readings == 2 {
                plugged.send(plug(&link)).await.unwrap();
            }
        }
    };
    let all = async {
        tokio::select! {
            () = reader => {}
            () = receiver => panic!("a receiver never stops"),
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("four fixes in time");
}
