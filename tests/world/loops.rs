//! No hot loops: how much a gateway may connect and send, from what it had to do and how long it lived.
//!
//! The bounds follow from the agent's own timers, with room for luck: they are there to find what runs without end, not
//! what costs a message more.

use headwater_sim::broker::Traffic;

/// Least time until something is sent again, s.
const RESEND_S: u64 = 5;
/// Longest such time, and longest wait between two connections, s.
const LONGEST_S: u64 = 300;
/// Streams a gateway declares on a new link.
const STREAMS: u64 = 5;
/// Tries until the wait between two is near its longest, and then some.
const TRIES: u64 = 14;

/// What a gateway had to do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    /// Messages that are needed at least: a slab each, a picture's parts.
    pub(super) payloads: u64,
    /// Runs of the agent.
    pub(super) starts: u64,
    /// How long it lived, ms.
    pub(super) lasted_ms: u64,
}

/// Connections that may be tried: after each start and each lasting link the waits begin anew at a second.
pub(super) fn tries_max(work: Work, traffic: Traffic) -> u64 {
    let lasted_s = work.lasted_ms / 1_000;
    TRIES * (work.starts + traffic.lasting) + 3 * lasted_s / LONGEST_S
}

/// Messages that may be sent: each payload once on every link and as often as its timer doubles; hellos, declarations and
/// probes by time and by link.
pub(super) fn messages_max(work: Work, traffic: Traffic) -> u64 {
    let lasted_s = work.lasted_ms / 1_000;
    let doublings = u64::from((lasted_s / RESEND_S).max(1).ilog2()) + 1;
    let each = traffic.links + doublings.min(8) + lasted_s / LONGEST_S;
    work.payloads * each + traffic.links * (2 * STREAMS + 4) + lasted_s / RESEND_S + 20
}

/// Answers that may be sent to it: one for what came (which may come twice), one for each commit, and reminders of what is
/// still open.
pub(super) fn answers_max(work: Work, traffic: Traffic, commits: u64) -> u64 {
    3 * traffic.up + 2 * commits + work.lasted_ms / 1_000 + 20
}
