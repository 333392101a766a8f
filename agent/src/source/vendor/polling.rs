//! Asks a device that only answers: round by round, one question at a time, each with its time to be answered.

use super::super::framing::{Decoded, Notice};
use super::protocol::{Requests, VendorProtocol};
use crate::telemetry::Counter;
use headwater_core::id::StreamName;
use headwater_core::time::BootNanos;

/// Longest time an answer may take, ms: slow devices behind a gateway need some hundred.
pub const ANSWER_MS_MAX: u64 = 1_000;
/// Silence before the next question, ms: Modbus wants 3.5 characters, which are 30 ms at 1200 baud.
const PAUSE_MS: u64 = 30;
/// Questions in a row without an answer until that is worth a word: one may be lost to noise.
const MISSES_MAX: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Question number `.0` is asked at `.1`.
    Asks(usize, BootNanos),
    /// Question number `.0` is to be answered by `.1`.
    Waits(usize, BootNanos),
}

/// What a device is asked, and where we are in it.
#[derive(Debug)]
pub struct Polling {
    requests: Requests,
    state: State,
    round_at: BootNanos,
    misses: u32,
    /// What was last said to be wrong.
    trouble: Option<String>,
}

impl Polling {
    pub(super) fn new(requests: Requests) -> Self {
        let start = BootNanos(0);
        Self { requests, state: State::Asks(0, start), round_at: start, misses: 0, trouble: None }
    }

    /// The protocol of the first answer.
    pub(super) fn expected(&self) -> VendorProtocol {
        self.requests.all.first().map_or(VendorProtocol::Sds011, |(_, protocol)| protocol.clone())
    }

    pub(super) fn deadline(&self) -> BootNanos {
        let (State::Asks(_, at) | State::Waits(_, at)) = self.state;
        at
    }

    /// The port was opened: a round begins at once.
    pub(super) fn reopened(&mut self, now: BootNanos) {
        self.state = State::Asks(0, now);
        self.round_at = now;
    }

    /// Asks if it is time, and gives the protocol of the answer.
    pub(super) fn poll(
        &mut self,
        now: BootNanos,
        outbox: &mut Vec<u8>,
        out: &mut Decoded,
    ) -> Option<VendorProtocol> {
        if let State::Waits(at, deadline) = self.state
            && deadline <= now
        {
            self.missed(out);
            // The silence was long enough.
            self.after(at, now);
        }
        let State::Asks(at, when) = self.state else { return None };
        let (bytes, expected) = self.requests.all.get(at).filter(|_| when <= now)?;
        outbox.extend_from_slice(bytes);
        self.state = State::Waits(at, now.plus_ms(self.answer_ms()));
        Some(expected.clone())
    }

    /// The device answered, or refused for a reason.
    pub(super) fn answered(
        &mut self,
        refusal: Option<String>,
        stream: &StreamName,
        now: BootNanos,
        out: &mut Decoded,
    ) {
        let State::Waits(at, _) = self.state else { return };
        self.misses = 0;
        if let Some(why) = &refusal {
            tracing::debug!(stream = %stream, why, "a device refused");
        }
        self.tell(refusal, out);
        self.after(at, now.plus_ms(PAUSE_MS));
    }

    fn missed(&mut self, out: &mut Decoded) {
        out.notices.push(Notice::Count(Counter::PollsUnanswered, 1));
        self.misses = self.misses.saturating_add(1);
        if self.misses >= MISSES_MAX {
            let why =
                "the device does not answer: check baud, wiring (A/B, RX/TX) and, for modbus, its address";
            self.tell(Some(why.to_owned()), out);
        }
    }

    /// Says what is wrong, once.
    fn tell(&mut self, why: Option<String>, out: &mut Decoded) {
        if why != self.trouble {
            out.notices.push(Notice::Trouble(why.clone()));
            self.trouble = why;
        }
    }

    /// Goes on to the next question, or to the next round, which keeps its beat unless it is late; not before `when`.
    fn after(&mut self, at: usize, when: BootNanos) {
        let next = at.saturating_add(1);
        self.state = if next < self.requests.all.len() {
            State::Asks(next, when)
        } else {
            self.round_at = self.round_at.plus_ms(self.requests.interval_ms.into()).max(when);
            State::Asks(0, self.round_at)
        };
    }

    /// Time for an answer: a share of the round, so that a round with silent devices keeps its beat.
    fn answer_ms(&self) -> u64 {
        let questions = u64::try_from(self.requests.all.len()).unwrap_or(u64::MAX).max(1);
        (u64::from(self.requests.interval_ms) / questions).clamp(100, ANSWER_MS_MAX)
    }
}
