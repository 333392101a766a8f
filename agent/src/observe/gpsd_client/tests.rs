//! A gpsd that hangs, floods, lies, sends rubbish, goes away and comes back.

use super::*;
use crate::clock::BootClock;
use crate::gpsd::{LINE_BYTES_MAX, LINES_MAX};
use headwater_core::time::UtcNanos;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const VERSION: &[u8] = b"{\"class\":\"VERSION\",\"release\":\"3.22\"}\n";
const TOFF: &[u8] = b"{\"class\":\"TOFF\",\"device\":\"/dev/ttyS0\",\"real_sec\":1800000000,\"real_nsec\":0,\"clock_sec\":1800000000,\"clock_nsec\":120000000}\n";

async fn served(speak: impl AsyncFnOnce(TcpStream)) -> (Result<(), String>, Vec<Report>, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (out, mut reports) = mpsc::channel(1_024);
    let mut greeted = false;
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        speak(stream).await;
    };
    let (ended, ()) = tokio::join!(session(&BootClock, at, &out, &mut greeted), serve);
    drop(out);
    let mut all = Vec::new();
    while let Some(report) = reports.recv().await {
        all.push(report);
    }
    (ended, all, greeted)
}

async fn say(stream: &mut TcpStream, bytes: &[u8]) {
    // The other end may have had enough.
    if let Err(error) = stream.write_all(bytes).await {
        tracing::trace!(%error, "nobody listens");
    }
}

#[tokio::test]
async fn pairs_become_reports_and_rubbish_is_told() {
    let (ended, reports, greeted) = served(async |mut stream| {
        say(&mut stream, VERSION).await;
        let mut asked = vec![0; WATCH.len()];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(asked, WATCH);
        // In pieces, as a network delivers.
        for piece in TOFF.chunks(7) {
            say(&mut stream, piece).await;
            stream.flush().await.unwrap();
        }
        say(&mut stream, b"{\"class\":\"TPV\"}\nrubbish\n").await;
        say(&mut stream, &TOFF[..40]).await;
    })
    .await;
    assert!(greeted);
    let at = Arrival::Wall(UtcNanos(1_800_000_000_120_000_000));
    let utc = UtcNanos(1_800_000_000_000_000_000);
    assert_eq!(reports[0], Report::Sentence { from: "/dev/ttyS0".into(), at, utc });
    assert!(matches!(&reports[1], Report::Refused { why, .. } if why.contains("no report")));
    assert_eq!((reports.len(), ended), (2, Err("it closed the connection".to_owned())));
}

#[tokio::test]
async fn a_flood_and_an_endless_line_end_the_connection() {
    let (ended, reports, _) = served(async |mut stream| {
        say(&mut stream, VERSION).await;
        for _ in 0..2 * LINES_MAX {
            say(&mut stream, TOFF).await;
        }
    })
    .await;
    assert!(ended.unwrap_err().contains("more than"));
    assert!(reports.len() <= LINES_MAX as usize);
    let (ended, reports, _) = served(async |mut stream| {
        say(&mut stream, VERSION).await;
        say(&mut stream, &[b'x'; 3 * LINE_BYTES_MAX]).await;
    })
    .await;
    assert_eq!((ended, reports), (Err("it sends a line without an end".to_owned()), Vec::new()));
}

#[tokio::test]
async fn what_is_no_gpsd_is_left_alone() {
    let (ended, _, greeted) =
        served(async |mut stream| say(&mut stream, b"SSH-2.0-OpenSSH_9.2\r\n").await).await;
    assert!(ended.is_err() && !greeted);
    let (ended, _, greeted) = served(async |mut stream| say(&mut stream, TOFF).await).await;
    assert!(ended.unwrap_err().contains("no gpsd") && !greeted);
}

/// Time is tokio's here: five seconds of silence cost nothing.
#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_given_up_and_tried_again_ever_more_rarely() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let clock = headwater_sim::clock::SimClock::start();
    let (out, mut reports) = mpsc::channel(8);
    let mut tries = Vec::new();
    let serve = async {
        let mut kept = Vec::new();
        while tries.len() < 6 {
            let (stream, _) = listener.accept().await.unwrap();
            kept.push(stream);
            tries.push(clock.boot());
        }
    };
    let drain = async {
        let mut silent = 0;
        while let Some(report) = reports.recv().await {
            silent += i32::from(matches!(report, Report::Silent { wanted: true, .. }));
        }
        silent
    };
    tokio::select! {
        () = serve => {}
        () = run(clock.clone(), at, true, out) => panic!("ended"),
        silent = drain => panic!("{silent}"),
    }
    let waits: Vec<i64> = tries.windows(2).map(|pair| pair[1].since(pair[0]) / 1_000_000_000).collect();
    assert_eq!(
        waits,
        [10, 15, 25, 45, 85],
        "5 s for its greeting, and twice as long between tries each time"
    );
}
