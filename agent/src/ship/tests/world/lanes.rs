//! A link too narrow for all there is: the present first, alarms before everything, backlog in the rest, and the
//! rules of the link kept over restarts.

use super::*;
use crate::ship::BacklogOrder;
use crate::ship::policy::{Budget, HoldWhy, LinkRules, Permit};

/// Boot time at which the link comes up, s: all captures until then are old.
const UP_S: u64 = 10_000;
/// Numbers a second.
const ROWS: u64 = 10;
const PICTURE_BYTES: usize = 60_000;

/// The slab with all its rows stamped at `ms` of boot time.
fn at_ms(mut slab: Slab, ms: u64) -> Slab {
    slab.rows.t.iter_mut().for_each(|t| *t = i64::try_from(ms * 1_000).unwrap());
    slab
}

fn numbers(world: &World, second: u64, ms: u64) {
    let rows = scalar_rows(1, second * ROWS..(second + 1) * ROWS);
    world.spool.append(at_ms(Slab { rows, blob: None, arrived: None }, ms));
}

fn photo(world: &World, n: u64, ms: u64) {
    world.spool.append(at_ms(picture(2, n, PICTURE_BYTES), ms));
}

fn alarm(world: &World, n: u64, ms: u64) {
    world.spool.append(at_ms(Slab { rows: scalar_rows(3, n..n + 1), blob: None, arrived: None }, ms));
    world.spool.sync();
}

async fn until_s(world: &World, seconds: u64) {
    world.clock.sleep_until(BootNanos(0).plus_ms(seconds * 1_000)).await;
}

/// A gateway that was away: `seconds` of numbers and as many pictures wait.
fn away(seed: u64, seconds: u64) -> World {
    let world = World::new_at(BootNanos(0).plus_ms(UP_S * 1_000), seed, Weather::FAIR);
    for second in 0..seconds {
        numbers(&world, second, second * 1_000);
        photo(&world, second, second * 1_000);
    }
    world.spool.sync();
    world
}

fn landed(world: &World, stream: u16, seq: u64) -> bool {
    world.collector.lock().unwrap().landing.rows.contains_key(&(StreamId(stream), seq))
}

fn pictures_landed(world: &World, of: std::ops::Range<u64>) -> usize {
    of.filter(|seq| landed(world, 2, *seq)).count()
}

fn at_rate(rate: u64) -> Vec<LinkRules> {
    vec![LinkRules { rate_bytes_per_s: Some(rate), ..LinkRules::free() }]
}

#[test]
fn lanes_fair_and_alarm_bound() {
    paused(async {
        let world = away(3, 300);
        let agent = world.start_agent_under(ShipSettings::default(), at_rate(100_000));
        let start = world.net.traffic().up_bytes;
        for second in 0..60 {
            let now_s = UP_S + second;
            numbers(&world, 300 + second, now_s * 1_000);
            if second % 3 == 0 {
                photo(&world, 300 + second / 3, now_s * 1_000);
            }
            alarm(&world, second, now_s * 1_000);
            until_s(&world, now_s + 1).await;
            // Not later than a linger, a picture's time on the link and an ack after it was captured.
            assert!(landed(&world, 3, second), "alarm of second {second}");
            if second >= 5 {
                assert!(landed(&world, 1, (300 + second - 4) * ROWS), "numbers of second {second}");
            }
        }
        assert!(pictures_landed(&world, 300..320) >= 18, "live pictures keep up");
        let backlog = pictures_landed(&world, 0..300);
        let carried = world.net.traffic().up_bytes - start;
        assert!(carried <= 100_000 * 61 + 400_000, "{carried} bytes in a minute at 100 kB/s");
        // What live leaves, some 75 kB/s, is backlog's.
        assert!(backlog >= 60, "{backlog} old pictures landed beside the live ones");
        let status = agent.status.borrow().clone();
        assert!(status.backlog_bytes > 0 && status.holds.contains(&Some(HoldWhy::Rate)), "{status:?}");
        assert!(world.drained(600).await, "{:?}", agent.status.borrow());
        assert_eq!(agent.status.borrow().catching_up, crate::ship::Pace::CaughtUp);
        world.stop(agent).await;
    });
}

/// More is captured than the link carries: the present stays present, and what it leaves out waits.
#[test]
fn live_jumps_ahead_when_it_falls_behind() {
    paused(async {
        let world = away(4, 1);
        let agent = world.start_agent_under(ShipSettings::default(), at_rate(30_000));
        for second in 0..240 {
            photo(&world, 1 + second, (UP_S + second) * 1_000);
            world.spool.sync();
            until_s(&world, UP_S + second + 1).await;
        }
        // Twice the rate for four minutes: without jumps the newest landed would be two minutes old.
        let newest = (0..241).rev().find(|seq| landed(&world, 2, *seq)).unwrap();
        assert!(newest >= 241 - 45, "newest picture at the collector: {newest} of 240");
        assert!(agent.status.borrow().backlog_bytes > 0);
        assert!(world.drained(1_200).await, "{:?}", agent.status.borrow());
        assert_eq!(pictures_landed(&world, 0..241), 241);
        world.stop(agent).await;
    });
}

#[test]
fn the_newest_backlog_goes_first_if_asked() {
    paused(async {
        let world = away(5, 120);
        let settings = ShipSettings { backlog_order: BacklogOrder::Newest, ..ShipSettings::default() };
        let agent = world.start_agent_under(settings, at_rate(100_000));
        until_s(&world, UP_S + 30).await;
        let (old, young) = (pictures_landed(&world, 0..60), pictures_landed(&world, 60..120));
        assert!(old == 0 && young >= 35, "{old} old and {young} young pictures");
        assert!(world.drained(600).await);
        world.stop(agent).await;
    });
}

#[test]
fn budget_respected() {
    paused(async {
        let world = away(6, 100);
        let budget = Budget { day_bytes: Some(1_000_000), ..Budget::default() };
        let rules = || vec![LinkRules { budget, ..LinkRules::free() }];
        for restart in 0..3 {
            let agent = world.start_agent_under(ShipSettings::default(), rules());
            alarm(&world, restart, (UP_S + restart) * 1_000);
            until_s(&world, UP_S + 60 * (restart + 1)).await;
            assert!(landed(&world, 3, restart), "alarms are exempt");
            assert!(agent.status.borrow().holds.contains(&Some(HoldWhy::DayBudget)));
            let carried = world.net.traffic().up_bytes;
            assert!((600_000..1_000_000).contains(&carried), "{carried} bytes after {restart} restarts");
            agent.cancel.cancel();
            agent.task.await.unwrap();
        }
        // The next day has its own.
        world.clock.suspend(86_400_000_000_000);
        let agent = world.start_agent_under(ShipSettings::default(), rules());
        until_s(&world, UP_S + 86_400 + 300).await;
        let carried = world.net.traffic().up_bytes;
        assert!((1_500_000..2_100_000).contains(&carried), "{carried} bytes on two days");
        world.stop(agent).await;
    });
}

#[test]
fn pictures_that_may_not_go_hold_nothing_else_back() {
    paused(async {
        let world = away(7, 20);
        let rules = vec![LinkRules { media: Permit::Never, ..LinkRules::free() }];
        let agent = world.start_agent_under(ShipSettings::default(), rules);
        until_s(&world, UP_S + 30).await;
        assert!((0..20 * ROWS).all(|seq| landed(&world, 1, seq)));
        assert_eq!(pictures_landed(&world, 0..20), 0);
        let status = world.stop(agent).await;
        assert!(status.holds.contains(&Some(HoldWhy::Hours)));
        // Nor does it keep saying hello for want of credit, or resend.
        assert!(status.counters.hellos <= 2 && status.counters.resends == 0, "{status:?}");
    });
}
