//! What becomes of a message the broker refused: it is not delivered, and it does not go again at once.

use super::error::ShipError;
use super::flight::Load;
use super::pipe::Freight;
use super::shipper::{Action, FoundLimit, Shipper};
use headwater_core::ports::RefusedFor;
use headwater_core::time::BootNanos;
use headwater_core::wire::Lane;

/// Messages are not cut below this, bytes: a hello and a declaration must pass.
const MESSAGE_BYTES_MIN: usize = 8 * 1024;

impl Shipper {
    /// The broker refused message `number` of this link. What it carried goes again when its resend timer says so
    /// (5 s, doubling to 5 min), so that no refusal makes a hot loop and no other lane waits for it.
    pub fn refused(&mut self, now: BootNanos, number: u64, why: RefusedFor) {
        let Some((freight, bytes)) = self.pipe.refused(now, number) else { return };
        self.counters.publishes_refused = self.counters.publishes_refused.saturating_add(1);
        let smaller = why == RefusedFor::TooLarge && self.lower_limit(bytes);
        self.give_back(number, &freight, bytes);
        match freight {
            // Hello, declarations and probes have timers of their own.
            Freight::Control => {}
            // Cut smaller it is another message, and may go at once.
            Freight::Part(id, range) if smaller => self.flight.dropped(id, Some(range)),
            Freight::Batch(id) => self.flight.took(id, now, None),
            Freight::Part(id, range) => self.flight.took(id, now, Some(range)),
        }
        match why {
            RefusedFor::Quota => self.pipe.hold(now),
            RefusedFor::Topic | RefusedFor::Payload => {
                self.counters.publishes_invalid = self.counters.publishes_invalid.saturating_add(1);
            }
            RefusedFor::TooLarge | RefusedFor::NotAuthorized | RefusedFor::Other(_) => {}
        }
        self.actions.push(Action::Report(ShipError::RefusedByBroker { why }));
    }

    /// The collector never sees it, so it costs no credit; one from before the hello was not counted since.
    fn give_back(&mut self, number: u64, freight: &Freight, bytes: usize) {
        let (Freight::Batch(id) | Freight::Part(id, _)) = freight else { return };
        let counted = self.flight.get(*id).is_some_and(|unit| unit.lane != Lane::Control);
        if counted && number > self.hello_number {
            self.credit.used = self.credit.used.saturating_sub(bytes as u64);
        }
    }

    /// Lowers the largest message to half of what was refused, until a link says that it takes more than this one;
    /// batches above are read and cut anew. False if it is as low already.
    fn lower_limit(&mut self, refused: usize) -> bool {
        let limit = self.message_bytes_max.min((refused / 2).max(MESSAGE_BYTES_MIN));
        if limit >= refused {
            return false;
        }
        self.message_bytes_max = limit;
        self.found_limit = Some(FoundLimit { said: self.payload_bytes_max, limit });
        self.pipe.limit_step(limit);
        self.recut(|load| matches!(load, Load::Batch(message) if message.message_len() > limit));
        true
    }

    /// Most messages between the oldest un-PUBACKed and the newest, as the link says.
    pub fn limit_span(&mut self, span: u64) {
        self.pipe.limit_span(span);
    }
}

#[cfg(test)]
impl Shipper {
    pub(super) fn pipe_is_held(&self, now: BootNanos) -> bool {
        self.pipe.is_held(now)
    }
}
