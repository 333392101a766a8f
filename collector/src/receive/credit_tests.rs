//! The pool by itself: its bound, its turns, and what it takes back.

use super::*;
use crate::receive::quota::Allowance;
use crate::receive::testkit::{EPOCH, now, path};
use proptest::prelude::*;

const MESSAGE: u64 = 96 << 10;

fn owner(n: usize) -> DeviceEpoch {
    (path(&format!("pi-{n}")), EPOCH)
}

fn sent(ns: i64) -> Sent {
    Sent { boot_ordinal: 1, ns }
}

fn pool() -> CreditPool {
    CreditPool::new(CREDIT_BYTES_MIN, QuotaSettings::default())
}

fn left(pool: &CreditPool, n: usize) -> u64 {
    pool.accounts.get(&owner(n)).map_or(0, Account::left)
}

impl CreditPool {
    fn check(&self) {
        let charged: u64 = self.accounts.values().map(Account::charged).sum();
        assert_eq!(charged, self.charged, "the sum of all charges");
        assert!(self.charged <= self.capacity);
        for (queue, flag) in [
            (&self.small, (|a: &Account| a.small) as fn(&Account) -> bool),
            (&self.large, |a: &Account| a.large),
        ] {
            let flagged: BTreeSet<_> =
                self.accounts.iter().filter(|(_, a)| flag(a)).map(|(o, _)| o).collect();
            let queued: BTreeSet<_> = queue.iter().collect();
            assert_eq!(flagged, queued, "each waits once");
            assert_eq!(queued.len(), queue.len());
        }
        assert_eq!(self.reviews.len(), self.accounts.len());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Hello {
        device: usize,
        backlog: bool,
    },
    /// This part of what the device has left, or, above 100 %, more than that.
    Use {
        device: usize,
        percent: u64,
    },
    Wait {
        ms: i64,
    },
    Landing {
        bytes: u64,
    },
    Synced {
        bytes: u64,
        ms: i64,
    },
    Forget {
        device: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let device = 0..60_usize;
    let step = prop_oneof![
        3 => (device.clone(), any::<bool>()).prop_map(|(device, backlog)| Step::Hello { device, backlog }),
        8 => (device.clone(), 0..120_u64).prop_map(|(device, percent)| Step::Use { device, percent }),
        4 => (1..15_000_i64).prop_map(|ms| Step::Wait { ms }),
        1 => (0..8_u64 << 20).prop_map(|bytes| Step::Landing { bytes }),
        1 => (0..8_u64 << 20, 1..5_000_i64).prop_map(|(bytes, ms)| Step::Synced { bytes, ms }),
        1 => device.prop_map(|device| Step::Forget { device }),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever devices do: charges add up and stay below the pool, and no offset goes back within a hello.
    #[test]
    fn the_bound_is_never_exceeded(steps in steps()) {
        let mut pool = pool();
        let (mut ms, mut told) = (0, BTreeMap::<usize, u64>::new());
        for (n, step) in steps.into_iter().enumerate() {
            let at = sent(i64::try_from(n).unwrap());
            match step {
                Step::Hello { device, backlog } => {
                    pool.hello(&owner(device), MESSAGE, backlog, at, now(ms));
                    told.insert(device, 0);
                }
                Step::Use { device, percent } => {
                    let bytes = left(&pool, device) * percent / 100;
                    pool.received(&owner(device), bytes, at, now(ms));
                }
                Step::Wait { ms: more } => ms += more,
                Step::Landing { bytes } => pool.landing(bytes),
                Step::Synced { bytes, ms } => pool.synced(bytes, ms * NS_PER_MS),
                Step::Forget { device } => {
                    pool.forget(&owner(device));
                    told.remove(&device);
                }
            }
            let before = pool.charged;
            let news = pool.serve(now(ms));
            prop_assert!(pool.charged <= pool.limit.max(before), "nothing is granted above the limit");
            pool.check();
            for (device, last) in &mut told {
                let (credit, _) = pool.told(&owner(*device), now(ms).boot);
                let credit = credit.unwrap();
                prop_assert!(credit >= *last, "an offset went back");
                prop_assert!(credit == *last || news.contains(&owner(*device)), "granted and not told");
                *last = credit;
            }
        }
    }

    /// Every device with a backlog comes to its end, though some of the others take credit and vanish.
    #[test]
    fn nobody_starves(
        devices in proptest::collection::vec((1..40_u64, any::<bool>()), 2..120),
        small_percent in 0..50_u64,
    ) {
        let mut pool = pool();
        let mut backlog: Vec<u64> = devices.iter().map(|(messages, _)| messages * MESSAGE).collect();
        for (n, backlog) in backlog.iter_mut().enumerate() {
            let small = (n as u64 * 37) % 100 < small_percent;
            if small {
                *backlog = (*backlog).min(SMALL_BYTES);
            }
            pool.hello(&owner(n), MESSAGE, !small, sent(0), now(0));
        }
        let mut ms = 0;
        while (0..devices.len()).any(|n| devices[n].1 && backlog[n] > 0) {
            prop_assert!(ms < 600_000, "still waiting after ten minutes");
            pool.serve(now(ms));
            pool.check();
            for (n, backlog) in backlog.iter_mut().enumerate() {
                let bytes = left(&pool, n).min(*backlog);
                if devices[n].1 && (bytes == *backlog || bytes >= MESSAGE) {
                    *backlog -= bytes;
                    pool.received(&owner(n), bytes, sent(ms), now(ms));
                }
            }
            ms += 100;
        }
    }
}

#[test]
fn a_trickle_is_served_at_once_while_backlogs_wait() {
    let mut pool = pool();
    for n in 0..500 {
        pool.hello(&owner(n), MESSAGE, true, sent(0), now(0));
    }
    pool.serve(now(0));
    let waiting = (0..500).filter(|n| pool.reason(&owner(*n)) == Some(WaitReason::Turn)).count();
    assert!(waiting > 400, "{waiting} backlogs wait");
    pool.hello(&owner(1000), MESSAGE, false, sent(0), now(5));
    assert!(pool.serve(now(5)).contains(&owner(1000)));
    for s in 0..100 {
        assert!(left(&pool, 1000) >= 1_000, "second {s}");
        pool.received(&owner(1000), 1_000, sent(s), now(s * 1_000));
        pool.serve(now(s * 1_000));
        pool.check();
    }
}

#[test]
fn turns_go_round_by_one_message_while_others_wait() {
    let mut pool = pool();
    for n in 0..100 {
        pool.hello(&owner(n), MESSAGE, true, sent(0), now(0));
    }
    let mut got: BTreeMap<DeviceEpoch, u64> = BTreeMap::new();
    for ms in 0..60 {
        for owner in pool.serve(now(ms)) {
            let bytes = pool.accounts.get(&owner).map_or(0, Account::left);
            *got.entry(owner.clone()).or_default() += bytes;
            pool.received(&owner, bytes, sent(ms), now(ms));
        }
    }
    let (least, most) = (got.values().min().unwrap(), got.values().max().unwrap());
    assert!(got.len() == 100 && *least > 10 * MESSAGE && most - least <= MESSAGE, "{least} to {most}");
}

#[test]
fn a_lonely_device_gets_a_wide_window() {
    let mut pool = CreditPool::new(CREDIT_BYTES, QuotaSettings::default());
    pool.hello(&owner(1), MESSAGE, true, sent(0), now(0));
    pool.serve(now(0));
    assert_eq!(left(&pool, 1), 4 * MESSAGE);
    for ms in 1..20 {
        let bytes = left(&pool, 1);
        pool.received(&owner(1), bytes, sent(ms), now(ms));
        pool.serve(now(ms));
    }
    assert_eq!(left(&pool, 1), WINDOW_BYTES_MAX);
}

#[test]
fn who_is_gone_holds_nothing_and_a_late_use_is_counted() {
    let mut pool = pool();
    for n in 0..60 {
        pool.hello(&owner(n), MESSAGE, true, sent(0), now(0));
    }
    pool.serve(now(0));
    let served: Vec<usize> = (0..60).filter(|n| left(&pool, *n) > 0).collect();
    assert!(served.len() < 60, "the pool is too small for all");
    assert_eq!(pool.deadline(), Some(now(10_000).boot));
    let news = pool.serve(now(10_000));
    assert_eq!(news.len(), 60 - served.len(), "what the silent hold goes to those who wait");
    pool.check();
    assert_eq!(pool.state().counters.written_off, served.len() as u64 * MESSAGE);
    let before = pool.told(&owner(0), now(10_000).boot).0;
    pool.received(&owner(0), MESSAGE, sent(1), now(10_001));
    assert_eq!(pool.state().counters.late, MESSAGE);
    assert_eq!(pool.told(&owner(0), now(10_001).boot).0, before, "an absolute offset, used late");
    pool.received(&owner(0), 1_000, sent(2), now(10_002));
    assert_eq!(pool.state().counters.unasked, 1_000);
    pool.check();
}

#[test]
fn what_the_broker_brings_again_counts_once() {
    let mut pool = pool();
    pool.hello(&owner(1), MESSAGE, true, sent(10), now(0));
    pool.serve(now(0));
    pool.received(&owner(1), 500, sent(5), now(1));
    assert_eq!(left(&pool, 1), 4 * MESSAGE, "sent before the hello");
    pool.received(&owner(1), 500, sent(11), now(1));
    pool.received(&owner(1), 500, sent(12), now(1));
    pool.received(&owner(1), 500, sent(11), now(1));
    assert_eq!(left(&pool, 1), 4 * MESSAGE - 1_000);
}

#[test]
fn slow_landing_and_a_full_queue_shrink_the_pool() {
    let mut pool = CreditPool::new(64 << 20, QuotaSettings::default());
    pool.synced(1 << 10, NS_PER_S);
    assert_eq!(pool.state().limit, 64 << 20, "a small group tells nothing of the pace");
    for _ in 0..30 {
        pool.synced(8 << 20, NS_PER_S);
    }
    let limit = pool.state().limit;
    assert!((30 << 20..=33 << 20).contains(&limit), "{limit}: four seconds at 8 MiB/s");
    pool.landing(20 << 20);
    assert_eq!(pool.state().limit, limit - (20 << 20));
    for _ in 0..50 {
        pool.synced(1 << 20, NS_PER_S);
    }
    pool.landing(0);
    assert_eq!(pool.state().limit, 16 << 20, "never below a quarter");
}

#[test]
fn who_is_over_its_quota_waits_with_that_reason_and_comes_back() {
    let device = Allowance { bytes_per_s: Some(100_000), bytes_per_day: None };
    let quotas = QuotaSettings { device, ..QuotaSettings::default() };
    let mut pool = CreditPool::new(CREDIT_BYTES, quotas);
    pool.hello(&owner(1), MESSAGE, true, sent(0), now(0));
    let (mut got, mut waited) = (0, 0);
    for ms in (0..60_000).step_by(10) {
        pool.serve(now(ms));
        pool.check();
        waited += u32::from(pool.reason(&owner(1)) == Some(WaitReason::DeviceQuota));
        let bytes = left(&pool, 1);
        if bytes >= MESSAGE {
            pool.received(&owner(1), bytes, sent(ms), now(ms));
            got += bytes;
        }
    }
    assert!((5_500_000..6_500_000).contains(&got), "{got} bytes in 60 s at 100 kB/s");
    assert!(waited > 1_000, "{waited}");
    let (_, wait) = pool.told(&owner(1), now(60_000).boot);
    assert!(wait.is_none_or(|wait| wait.reason == WaitReason::DeviceQuota));
}

#[test]
fn a_device_holds_credit_in_one_epoch_only() {
    let mut pool = pool();
    for n in 0..1_000_u32 {
        let of_epoch = (path("pi-1"), Epoch(n.into()));
        pool.hello(&of_epoch, MESSAGE, true, sent(1), now(n.into()));
        pool.serve(now(n.into()));
        pool.check();
    }
    assert_eq!(pool.accounts.len(), 1);
    assert!((1..=MESSAGE * WINDOW_MESSAGES).contains(&pool.charged));
}
