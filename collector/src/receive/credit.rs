//! Credit: one pool of bytes that the whole fleet may have under way, dealt out in turn.
//!
//! Credit travels as an absolute offset since the device's hello, so it never goes back and a lost ack costs
//! nothing. What was granted and did not arrive yet is *charged* to the pool; the sum stays below its limit:
//!
//! ```text
//! 0 ──────── received ──────── written off ──────── granted      charged = granted − max(received, written off)
//! ```
//! A device waits its turn in one of two queues. *Small*: it has next to nothing left, and gets a little at once
//! out of a share kept for that, so a trickle never waits behind a backlog. *Large*: it has less than its
//! largest message left, or sends at such a pace that it wants more. Large turns go round: while others wait,
//! a turn is one largest message. The head of a queue is never passed over, and every charge ends, by bytes
//! that arrive or by being written off, so nobody starves.
//!
//! Every 10 s a charge is cut to twice what arrived in that time: a device that is gone holds nothing. So is at
//! once what is left of a device that waits with less than a message: it may be of no use. Such credit may be used
//! later all the same; that is taken and counted. Lane 0 lies outside of all this.

mod account;
mod state;

pub use state::{CreditCounters, CreditState};

use super::Now;
use super::quota::{QuotaSettings, Quotas, Room};
use super::reassemble::DeviceEpoch;
use account::{Account, Queue, Turn};
use headwater_core::id::Epoch;
use headwater_core::time::{BootNanos, NS_PER_MS, NS_PER_S, UtcNanos};
use headwater_core::wire::{CreditWait, MESSAGE_BYTES_ACCEPTED_MAX, Sent, WaitReason};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Default of `receive.credit_bytes`. The embedded broker keeps 8 segments of 16 MiB in memory and drops the oldest
/// whole, so 112 MiB are safe there; half of that leaves room for lane 0, acks and bytes sent late. Behind it
/// the receive window (16 MiB) and the landing queue (36 MiB) hold as much again before the broker must.
pub const CREDIT_BYTES: u64 = 56 << 20;
/// Least of `receive.credit_bytes`: a turn of some dozen devices.
pub const CREDIT_BYTES_MIN: u64 = 4 << 20;
/// Farthest a single device's credit reaches ahead: as much as it keeps in its pipe to the broker. At 100 ms round trip
/// this allows 40 MB/s.
pub const WINDOW_BYTES_MAX: u64 = 4 << 20;
/// What a small turn fills up to: some seconds of ordinary telemetry.
const SMALL_BYTES: u64 = 16 << 10;
/// Part of the pool that only small turns may use.
const SMALL_SHARE: u64 = 8;
/// Between two looks at a charge. A link of 20 KB/s uses up a largest message in half of it.
const REVIEW_NS: i64 = 10 * NS_PER_S;
/// First window, in largest messages of the device.
const WINDOW_MESSAGES: u64 = 4;
/// A device that used half its window within this time gets a window twice as large.
const QUICK_NS: i64 = NS_PER_S;
/// A waiting device is told so for this long: above the agent's own 30 s of patience, and rare enough that ten
/// thousand waiting devices cost 170 acks a second.
const WAIT_NS: i64 = 120 * NS_PER_S;
/// Told again before that is over.
const WAIT_AGAIN_NS: i64 = 60 * NS_PER_S;
/// The limit is what landing takes in this time: more would only lie in the broker.
const HORIZON_S: u64 = 4;
/// A slow spell cuts the limit to this part of the pool at most, so that the pace can be measured again.
const LIMIT_SHARE_MIN: u64 = 4;
/// Only groups of this size tell how fast landing is.
const EVIDENCE_BYTES: u64 = 1 << 20;

/// The pool. See the module.
#[derive(Debug)]
pub struct CreditPool {
    capacity: u64,
    limit: u64,
    charged: u64,
    /// Bytes a second that landing takes, once that was seen.
    pace: Option<u64>,
    landing_bytes: u64,
    accounts: BTreeMap<DeviceEpoch, Account>,
    small: VecDeque<DeviceEpoch>,
    large: VecDeque<DeviceEpoch>,
    reviews: BTreeSet<(BootNanos, DeviceEpoch)>,
    /// When those over their quota may have room again.
    over: BTreeSet<(BootNanos, DeviceEpoch)>,
    notices: BTreeSet<(BootNanos, DeviceEpoch)>,
    /// Devices that were left with less than a message since the last turns.
    rests: Vec<DeviceEpoch>,
    /// When the pool last had no room for a turn.
    short_at: Option<BootNanos>,
    quotas: Quotas,
    counters: CreditCounters,
    peak: u64,
    in_order: bool,
}

impl CreditPool {
    /// A pool of `capacity` bytes (raised to [`CREDIT_BYTES_MIN`]) under these quotas.
    #[must_use]
    pub fn new(capacity: u64, quotas: QuotaSettings) -> Self {
        let capacity = capacity.max(CREDIT_BYTES_MIN);
        Self {
            capacity,
            limit: capacity,
            charged: 0,
            pace: None,
            landing_bytes: 0,
            accounts: BTreeMap::new(),
            small: VecDeque::new(),
            large: VecDeque::new(),
            reviews: BTreeSet::new(),
            over: BTreeSet::new(),
            notices: BTreeSet::new(),
            rests: Vec::new(),
            short_at: None,
            quotas: Quotas::new(quotas),
            counters: CreditCounters::default(),
            peak: 0,
            in_order: true,
        }
    }

    /// Messages of one device come by way of several receivers, so in no order: all of them count.
    pub fn in_any_order(&mut self) {
        self.in_order = false;
    }

    /// A device said hello: its count starts anew, and what it held before is free, also in another epoch. `backlog`: it has rows that
    /// are not here, so a little would not help it.
    pub fn hello(&mut self, owner: &DeviceEpoch, message_max: u64, backlog: bool, sent: Sent, now: Now) {
        // Its spool lives once, so the other epochs are over.
        let from = (owner.0.clone(), Epoch(0));
        let of_device =
            self.accounts.range(from..).map(|(other, _)| other).take_while(|other| other.0 == owner.0);
        let over: Vec<DeviceEpoch> = of_device.filter(|other| *other != owner).cloned().collect();
        for other in &over {
            self.forget(other);
        }
        let message_max = message_max.clamp(SMALL_BYTES, MESSAGE_BYTES_ACCEPTED_MAX as u64);
        let anew = Account {
            granted: 0,
            received: 0,
            written_off: 0,
            message_max,
            largest: 0,
            window: message_max.saturating_mul(WINDOW_MESSAGES),
            granted_at: now.boot,
            reviewed_at: now.boot,
            received_then: 0,
            newest: sent,
            small: false,
            large: false,
            over: None,
            told_at: None,
        };
        match self.accounts.get_mut(owner) {
            // Its places in the queues stay: another hello neither costs nor gains a turn.
            Some(known) => {
                self.charged = self.charged.saturating_sub(known.charged());
                *known = Account {
                    reviewed_at: known.reviewed_at,
                    small: known.small,
                    large: known.large,
                    over: known.over,
                    told_at: known.told_at,
                    ..anew
                };
            }
            None => {
                self.accounts.insert(owner.clone(), anew);
                self.reviews.insert((now.boot.plus_ns(REVIEW_NS), owner.clone()));
            }
        }
        if !backlog {
            self.enqueue(owner, Queue::Small);
        }
        self.enqueue(owner, Queue::Large);
    }

    /// A message of a lane other than 0 came in, handed over at `sent`.
    pub fn received(&mut self, owner: &DeviceEpoch, bytes: u64, sent: Sent, now: Now) {
        self.quotas.received(&owner.0, bytes, now);
        let Some(account) = self.accounts.get_mut(owner) else { return };
        if sent < account.newest {
            return;
        }
        if self.in_order {
            account.newest = sent;
        }
        let before = account.charged();
        let late = account.written_off.saturating_sub(account.received).min(bytes);
        account.largest = account.largest.max(bytes);
        let held = account.granted.saturating_sub(account.received);
        account.received = account.received.saturating_add(bytes);
        let unasked = bytes.saturating_sub(held);
        self.counters.late = self.counters.late.saturating_add(late);
        self.counters.unasked = self.counters.unasked.saturating_add(unasked);
        let freed = before.saturating_sub(account.charged());
        self.charged = self.charged.saturating_sub(freed);
        let account_left = account.left();
        if account_left.saturating_mul(2) < account.window.max(account.message_max) {
            if account.granted > 0 && now.boot.since(account.granted_at) <= QUICK_NS {
                account.window = account.window.saturating_mul(2).min(WINDOW_BYTES_MAX);
            }
            if account_left < account.message_max {
                self.rests.push(owner.clone());
            }
            let trickles = account_left < SMALL_BYTES / 2 && account.largest <= SMALL_BYTES / 2;
            self.enqueue(owner, Queue::Large);
            if trickles {
                self.enqueue(owner, Queue::Small);
            }
        }
    }

    /// Bytes of an earlier life of this receiver, for the quota of the day.
    pub fn replayed(&mut self, owner: &DeviceEpoch, bytes: u64, received: UtcNanos, now: Now) {
        self.quotas.replayed(&owner.0, bytes, received, now);
    }

    /// The device is not served here any more.
    pub fn forget(&mut self, owner: &DeviceEpoch) {
        let Some(account) = self.accounts.remove(owner) else { return };
        self.charged = self.charged.saturating_sub(account.charged());
        self.reviews.remove(&(account.reviewed_at.plus_ns(REVIEW_NS), owner.clone()));
        if let Some(at) = account.told_at {
            self.notices.remove(&(at.plus_ns(WAIT_AGAIN_NS), owner.clone()));
        }
        if account.small {
            self.small.retain(|other| other != owner);
        }
        if account.large {
            self.large.retain(|other| other != owner);
        }
        if account.over.is_some() {
            self.over.retain(|(_, other)| other != owner);
        }
    }

    /// How much waits for its sync.
    pub fn landing(&mut self, bytes: u64) {
        self.landing_bytes = bytes;
        self.set_limit();
    }

    /// A group was synced.
    pub fn synced(&mut self, bytes: u64, took_ns: i64) {
        let took = u64::try_from(took_ns).unwrap_or(0).max(1);
        if bytes >= EVIDENCE_BYTES {
            let pace = bytes.saturating_mul(1_000_000_000) / took;
            self.pace =
                Some(self.pace.map_or(pace, |old| (old / 4).saturating_mul(3).saturating_add(pace / 4)));
        }
        self.set_limit();
    }

    fn set_limit(&mut self) {
        let pace = self.pace.map_or(self.capacity, |pace| pace.saturating_mul(HORIZON_S));
        let limit = pace.clamp(self.capacity / LIMIT_SHARE_MIN, self.capacity);
        self.limit = limit.saturating_sub(self.landing_bytes);
    }

    /// Looks at what is due, then gives the next turns. Gives those who are to be told.
    pub fn serve(&mut self, now: Now) -> Vec<DeviceEpoch> {
        self.review(now.boot);
        while let Some((at, owner)) = self.over.first().cloned().filter(|(at, _)| *at <= now.boot) {
            self.over.remove(&(at, owner.clone()));
            if let Some(account) = self.accounts.get_mut(&owner) {
                account.over = None;
            }
            self.enqueue(&owner, Queue::Large);
        }
        let mut told = Vec::new();
        while let Some(owner) = self.small.front().cloned() {
            match self.turn(&owner, Queue::Small, now) {
                Turn::NoRoom => break,
                Turn::Granted => told.push(owner),
                Turn::Passed => {}
            }
        }
        while let Some(owner) = self.large.front().cloned() {
            match self.turn(&owner, Queue::Large, now) {
                Turn::NoRoom => break,
                Turn::Granted => told.push(owner),
                Turn::Passed => {}
            }
        }
        self.write_off_rests();
        while let Some((at, owner)) = self.notices.first().cloned().filter(|(at, _)| *at <= now.boot) {
            self.notices.remove(&(at, owner.clone()));
            let Some(account) = self.accounts.get_mut(&owner) else { continue };
            account.told_at = None;
            if account.waits() {
                told.push(owner);
            }
        }
        self.peak = self.peak.max(self.charged);
        told
    }

    /// The turn of a queue's head.
    fn turn(&mut self, owner: &DeviceEpoch, queue: Queue, now: Now) -> Turn {
        // While there is a full window for everyone who waits, and was of late, turns are as wide as that.
        let full = (self.large.len() as u64).saturating_mul(WINDOW_BYTES_MAX);
        let short = self.short_at.is_some_and(|at| now.boot.since(at) < QUICK_NS);
        let roomy = !short && self.limit.saturating_sub(self.charged) >= full;
        let Some(account) = self.accounts.get(owner) else {
            self.pop(queue);
            return Turn::Passed;
        };
        let (target, least, limit) = match queue {
            Queue::Small => (SMALL_BYTES, SMALL_BYTES, self.limit),
            Queue::Large => {
                let message = account.message_max;
                let target = if roomy { account.window.max(message) } else { message };
                (target, message, self.limit.saturating_sub(self.limit / SMALL_SHARE))
            }
        };
        let left = account.left();
        let wanted = target.saturating_sub(left);
        if wanted == 0 {
            self.pop(queue);
            return Turn::Passed;
        }
        // All that the device then has left is charged, also what was written off before.
        let again = left.saturating_sub(account.charged());
        let free = limit.saturating_sub(self.charged).saturating_sub(again);
        if free < least.saturating_sub(left).max(1) {
            self.short_at = Some(now.boot);
            return Turn::NoRoom;
        }
        let room = self.quotas.room(owner, self.charged, least, now);
        self.pop(queue);
        let Some(account) = self.accounts.get_mut(owner) else { return Turn::Passed };
        match room {
            Room::OverUntil(until, reason) => {
                if account.over.replace(reason).is_none() {
                    self.over.insert((until, owner.clone()));
                }
                // One that may be stuck is told why; once, until its notice is over.
                if account.waits() && account.told_at.is_none() { Turn::Granted } else { Turn::Passed }
            }
            Room::Bytes(room) => {
                let bytes = wanted.min(free).min(room.saturating_sub(left));
                if bytes == 0 {
                    return Turn::Passed;
                }
                account.granted = account.granted.max(account.received).saturating_add(bytes);
                account.granted_at = now.boot;
                account.written_off = account.received;
                self.charged = self.charged.saturating_add(bytes).saturating_add(again);
                Turn::Granted
            }
        }
    }

    fn pop(&mut self, queue: Queue) {
        let list = if queue == Queue::Small { &mut self.small } else { &mut self.large };
        let owner = list.pop_front();
        if let Some(account) = owner.and_then(|owner| self.accounts.get_mut(&owner)) {
            *(if queue == Queue::Small { &mut account.small } else { &mut account.large }) = false;
        }
    }

    fn enqueue(&mut self, owner: &DeviceEpoch, queue: Queue) {
        let Some(account) = self.accounts.get_mut(owner) else { return };
        if account.over.is_some() {
            return;
        }
        let (list, queued) = match queue {
            Queue::Small => (&mut self.small, &mut account.small),
            Queue::Large => (&mut self.large, &mut account.large),
        };
        if !std::mem::replace(queued, true) {
            list.push_back(owner.clone());
        }
    }

    /// What is left of a device that waits may be too little for its next message: it holds up no one.
    fn write_off_rests(&mut self) {
        for owner in std::mem::take(&mut self.rests) {
            let Some(account) = self.accounts.get_mut(&owner) else { continue };
            if account.waits() {
                let rest = account.charged();
                account.written_off = account.granted;
                self.charged = self.charged.saturating_sub(rest);
                self.counters.written_off = self.counters.written_off.saturating_add(rest);
            }
        }
    }

    /// Cuts charges to the pace of their devices.
    fn review(&mut self, now: BootNanos) {
        while let Some((at, owner)) = self.reviews.first().cloned().filter(|(at, _)| *at <= now) {
            self.reviews.remove(&(at, owner.clone()));
            let Some(account) = self.accounts.get_mut(&owner) else { continue };
            let pace = account.received.saturating_sub(account.received_then);
            let keep = pace.saturating_mul(2);
            let excess = account.charged().saturating_sub(keep);
            if excess > 0 {
                account.written_off = account.received.max(account.written_off).saturating_add(excess);
            }
            account.window = account.window.min(keep.max(SMALL_BYTES));
            (account.reviewed_at, account.received_then) = (now, account.received);
            self.charged = self.charged.saturating_sub(excess);
            self.counters.written_off = self.counters.written_off.saturating_add(excess);
            self.reviews.insert((now.plus_ns(REVIEW_NS), owner));
        }
    }

    /// What the next ack says: the device's credit, and that it waits, if it does.
    pub fn told(&mut self, owner: &DeviceEpoch, now: BootNanos) -> (Option<u64>, Option<CreditWait>) {
        let Some(account) = self.accounts.get_mut(owner) else { return (None, None) };
        if let Some(at) = account.told_at.take() {
            self.notices.remove(&(at.plus_ns(WAIT_AGAIN_NS), owner.clone()));
        }
        let wait = account.waits().then(|| {
            account.told_at = Some(now);
            self.notices.insert((now.plus_ns(WAIT_AGAIN_NS), owner.clone()));
            let for_ms = u32::try_from(WAIT_NS / NS_PER_MS).unwrap_or(u32::MAX);
            CreditWait { reason: account.over.unwrap_or(WaitReason::Turn), for_ms }
        });
        (Some(account.granted), wait)
    }

    /// When [`CreditPool::serve`] has something to do, if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<BootNanos> {
        [&self.reviews, &self.over, &self.notices]
            .into_iter()
            .filter_map(|due| due.first())
            .map(|(at, _)| *at)
            .min()
    }
}

#[cfg(test)]
#[path = "credit_tests.rs"]
mod tests;
