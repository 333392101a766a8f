//! Bad links between the gateway and its broker: slow, cut again and again, half-open. Everything arrives once.

use crate::site::{Plan, Site};
use headwater_tests::proxy::{Conditions, Cuts, Mode};
use std::time::Duration;

/// Longest wait for a step of debug builds on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// A picture of a camera that takes them seriously.
const PICTURE_BYTES: usize = 200_000;
/// A bad cellular link, bytes/s each way.
const SLOW_RATE: u64 = 20_000;
/// What may be in front of an alarm on the slow link: a message of 128 KiB under way takes 6.5 s; and then linger,
/// landing, commit and status, a second or two each on a busy machine.
const SLOW_ALARM_LIMIT: Duration = Duration::from_secs(12);
/// A link counts as dead after 20 s without a PUBACK; then up to two seconds of back-off.
const WATCHDOG_LIMIT: Duration = Duration::from_secs(40);

fn slow() -> Mode {
    Mode::Open(Conditions { rate: Some(SLOW_RATE), ..Conditions::default() })
}

/// A client that keeps too much in flight misses its own pings here, reconnects and sends the same bytes for ever.
#[test]
fn throttle_proxy_pictures_of_200_kb_go_through_20_kb_a_second() {
    let mut site = Site::start(&Plan { link: slow(), keepalive_s: 5, ..Plan::default() });
    site.wait(LIMIT, "rows in the lake", |site| site.stream("count").is_some_and(|count| count.1 > 0));
    site.take_picture(PICTURE_BYTES);
    site.take_picture(PICTURE_BYTES);
    let sent = site.link("bytes_sent");
    site.wait(LIMIT, "picture under way", |site| site.link("bytes_sent") > sent + 50_000);
    let took = site.raise_alarm(SLOW_ALARM_LIMIT);
    println!("alarm in the lake after {took:?}; {:?}", site.proxy.counts());
    site.wait(LIMIT, "pictures in the lake", |site| site.stream("camera/front").is_some_and(|c| c.1 == 2));
    let counts = site.proxy.counts();
    assert_eq!((counts.connections, counts.cuts), (1, 0), "no reconnect: {}", site.words());
    // Twice the pictures would be a resend of all of them.
    assert!(counts.up_bytes < 3 * PICTURE_BYTES as u64, "{counts:?}");
    site.finish(LIMIT);
}

#[test]
fn cut_proxy_connections_that_die_every_so_many_bytes_lose_and_double_nothing() {
    let seed = 0x6375_7473;
    println!("seed {seed:#x}");
    let cuts = Some(Cuts::Every(20_000, 400_000));
    let link = Mode::Open(Conditions { cuts, ..Conditions::default() });
    let mut site = Site::start(&Plan { link, seed, ..Plan::default() });
    // Each cut doubles the back-off, so few of them are many seconds.
    for n in 1..=6 {
        site.take_picture(150_000);
        site.wait(LIMIT, "picture in the lake", |site| site.stream("camera/front").is_some_and(|c| c.1 >= n));
    }
    let counts = site.proxy.counts();
    println!("{counts:?}");
    assert!(counts.cuts >= 3 && counts.connections <= counts.cuts + 2, "{}", site.words());
    site.finish(LIMIT);
}

#[test]
fn silent_cut_a_half_open_link_under_load_is_found_and_replaced() {
    let mut site = Site::start(&Plan { keepalive_s: 60, ..Plan::default() });
    site.wait(LIMIT, "rows in the lake", |site| site.stream("count").is_some_and(|count| count.1 > 0));
    let before = site.proxy.counts();
    site.proxy.set(Mode::Silent);
    site.take_picture(PICTURE_BYTES);
    let sent = site.link("bytes_sent");
    site.wait(LIMIT, "bytes swallowed", |site| site.proxy.counts().swallowed_bytes > 0);
    site.proxy.set(Mode::Open(Conditions::default()));
    // The old connection stays dead although the link is open again: only a new one helps.
    site.wait(WATCHDOG_LIMIT, "new connection", |site| {
        site.proxy.counts().connections > before.connections && site.link("reconnects") > 0
    });
    site.wait(LIMIT, "picture in the lake", |site| site.stream("camera/front").is_some_and(|c| c.1 == 1));
    let counts = site.proxy.counts();
    println!("{counts:?}, {sent} sent before");
    assert!(counts.connections <= before.connections + 2, "no reconnect loop: {counts:?}");
    site.finish(LIMIT);
}
