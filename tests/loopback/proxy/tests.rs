//! A link does what its mode says.

use super::*;
use crate::ticks::wait_until;

const LIMIT: Duration = Duration::from_secs(10);

/// Sends back what it is sent, to one connection after the other.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            std::thread::spawn(move || {
                let (mut from, mut to) = (&stream, &stream);
                drop(io::copy(&mut from, &mut to));
            });
        }
    });
    address
}

fn client(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Sends so many bytes and reads them back; the number that came before the end.
fn round(stream: &TcpStream, bytes: usize) -> usize {
    let sender = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || (&sender).write_all(&vec![7; bytes]).is_ok());
    let (mut got, mut buffer) = (0, vec![0; 64 << 10]);
    while got < bytes {
        match (&*stream).read(&mut buffer) {
            Ok(n) if n > 0 => got += n,
            _ => break,
        }
    }
    writer.join().unwrap();
    got
}

#[test]
fn an_open_link_passes_and_counts() {
    let proxy = Proxy::start(&echo(), 1).unwrap();
    assert_eq!(round(&client(&proxy), 300_000), 300_000);
    let counts = proxy.counts();
    assert_eq!((counts.up_bytes, counts.down_bytes), (300_000, 300_000));
    assert_eq!((counts.connections, counts.cuts), (1, 0));
}

#[test]
fn a_slow_link_keeps_its_rate_and_holds_writers_back() {
    let proxy = Proxy::start(&echo(), 1).unwrap();
    proxy.set(Mode::Open(Conditions { rate: Some(100_000), ..Conditions::default() }));
    let start = now();
    assert_eq!(round(&client(&proxy), 60_000), 60_000);
    assert!(start.elapsed() >= Duration::from_millis(590), "{:?}", start.elapsed());
    let stream = client(&proxy);
    socket2::SockRef::from(&stream).set_send_buffer_size(BUFFER_BYTES).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut taken = 0;
    while let Ok(n) = (&stream).write(&[7; 4_096]) {
        taken += n;
    }
    assert!(taken < 256 << 10, "the kernel hides {taken} bytes");
}

#[test]
fn a_delayed_link_takes_its_time_and_loses_nothing() {
    let proxy = Proxy::start(&echo(), 1).unwrap();
    let delay = Some(Duration::from_millis(80));
    proxy.set(Mode::Open(Conditions { delay, ..Conditions::default() }));
    let stream = client(&proxy);
    let start = now();
    assert_eq!(round(&stream, 100_000), 100_000);
    assert!(start.elapsed() >= Duration::from_millis(160), "{:?}", start.elapsed());
}

#[test]
fn connections_are_cut_where_the_seed_says() {
    let cuts = |seed| {
        let proxy = Proxy::start(&echo(), seed).unwrap();
        let cuts = Some(Cuts::Every(20_000, 40_000));
        proxy.set(Mode::Open(Conditions { cuts, ..Conditions::default() }));
        for _ in 0..3 {
            assert!(round(&client(&proxy), 100_000) < 40_000);
        }
        proxy.counts()
    };
    let counts = cuts(7);
    assert_eq!((counts.connections, counts.cuts), (3, 3), "{counts:?}");
    let passed = counts.up_bytes + counts.down_bytes;
    assert!((60_000..120_000 + 3 * CHUNK_BYTES as u64).contains(&passed), "{counts:?}");
    let mut random = Random::new(3);
    let chance = Cuts::Chance { piece_bytes: 1_000, per_thousand: 50 };
    let mean = (0..1_000).map(|_| chance.draw(&mut random)).sum::<u64>() / 1_000;
    assert!((17_000..23_000).contains(&mean), "one in twenty: {mean}");
}

#[test]
fn a_silent_link_swallows_and_never_comes_back() {
    let proxy = Proxy::start(&echo(), 1).unwrap();
    let stream = client(&proxy);
    assert_eq!(round(&stream, 1_000), 1_000);
    proxy.set(Mode::Silent);
    (&stream).write_all(&[7; 1_000]).unwrap();
    assert!(wait_until(LIMIT, || proxy.counts().swallowed_bytes == 1_000));
    proxy.set(Mode::Open(Conditions::default()));
    (&stream).write_all(&[7; 1_000]).unwrap();
    assert!(wait_until(LIMIT, || proxy.counts().swallowed_bytes == 2_000));
    assert_eq!(round(&client(&proxy), 1_000), 1_000, "a new connection passes");
}

#[test]
fn a_refused_connection_ends_and_those_that_stand_are_cut() {
    let proxy = Proxy::start(&echo(), 1).unwrap();
    let stream = client(&proxy);
    assert_eq!(round(&stream, 1_000), 1_000);
    proxy.set(Mode::Refuse);
    let mut byte = [0];
    assert!(!matches!((&stream).read(&mut byte), Ok(1)));
    assert!(!matches!(client(&proxy).read(&mut byte), Ok(1)));
    assert_eq!(proxy.counts().cuts, 1);
}
