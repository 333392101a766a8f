//! A gpsd on loopback that answers, goes away and comes back; on real clocks, since its sockets are real.

use super::*;
use crate::clock::BootClock;
use crate::config::SourceKind;
use crate::source::arrival::Declared;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Far above what it takes.
const LIMIT: Duration = Duration::from_secs(30);
const VERSION: &[u8] = b"{\"class\":\"VERSION\",\"release\":\"3.22\"}\r\n";

fn tpv(second: u32) -> String {
    format!(
        "{{\"class\":\"TPV\",\"device\":\"/dev/ttyACM0\",\"mode\":3,\"time\":\"2026-11-29T01:02:{second:02}.000Z\",\"lat\":1.5,\"lon\":2.5}}\r\n"
    )
}

async fn greeted(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(VERSION).await.unwrap();
    let mut asked = vec![0; WATCH.len()];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(asked, WATCH);
    stream
}

fn source(at: SocketAddr) -> GpsdSource<BootClock> {
    let settings = GpsdSettings { at, receiver: None, sky: "gps/sky".parse().unwrap() };
    assert_eq!(SourceKind::Gpsd(settings.clone()).as_str(), "gpsd");
    let arrivals = Arrivals::of_program(Declared::default(), 1_000_000_000);
    GpsdSource::new(BootClock, ("gps".parse().unwrap(), arrivals), settings)
}

async fn fix(source: &mut GpsdSource<BootClock>) {
    while !matches!(source.next().await, Ok(SourceEvent::Reading { .. })) {}
}

#[tokio::test]
async fn fixes_come_from_a_gpsd_that_goes_away_and_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut source = source(listener.local_addr().unwrap());
    let serve = async {
        for second in [1, 2, 3] {
            // In pieces, as a network delivers; then it ends.
            let mut stream = greeted(&listener).await;
            for piece in tpv(second).as_bytes().chunks(11) {
                stream.write_all(piece).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    };
    let read = async {
        for _ in 0..3 {
            fix(&mut source).await;
        }
    };
    let both = async { tokio::join!(serve, read) };
    tokio::time::timeout(LIMIT, both).await.expect("three fixes in time");
}

#[tokio::test]
async fn dropping_next_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clock = BootClock;
    let mut source = source(listener.local_addr().unwrap());
    let text: String = (0..5).map(tpv).collect();
    let serve = async {
        let mut stream = greeted(&listener).await;
        for piece in text.as_bytes().chunks(7) {
            stream.write_all(piece).await.unwrap();
            clock.sleep_until(clock.boot().plus_ms(1)).await;
        }
        // Held open until all was read.
        std::future::pending::<()>().await;
    };
    let read = async {
        let mut fixes = 0;
        while fixes < 5 {
            let at = clock.boot().plus_ns(300_000);
            tokio::select! {
                biased;
                () = clock.sleep_until(at) => {}
                event = source.next() => fixes += u32::from(matches!(event, Ok(SourceEvent::Reading { .. }))),
            }
        }
    };
    tokio::select! {
        () = serve => panic!("it is held open"),
        read = tokio::time::timeout(LIMIT, read) => read.expect("five fixes in time"),
    }
}
