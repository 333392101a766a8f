//! The receiver among others: whom it answers, and what it takes of what they landed.

use super::{Receiver, Staged, Taken, cost_of};
use crate::land::{Landed, LandedMessage, MessageRecord};
use crate::receive::acks::{Now, Standing, Voice};
use crate::receive::admit::{Body, read_body};
use crate::receive::reassemble::DeviceEpoch;
use headwater_core::wire::{Envelope, MessageKind};
use std::collections::BTreeSet;

impl Receiver {
    /// Which devices this receiver answers from now on.
    pub fn stand(&mut self, standing: Standing) {
        self.desk.standing = standing;
    }

    /// The same receiver in a group: messages of one device come by way of several.
    #[must_use]
    pub fn in_group(mut self) -> Self {
        self.desk.credit.in_any_order();
        self.desk.standing = Standing::Group(BTreeSet::new());
        self
    }

    /// Takes what another receiver landed. Gives what is to be landed here for it: an object it held the last
    /// part of.
    pub fn tailed(&mut self, landed: &Landed, now: Now) -> Option<Box<Staged>> {
        let (device, epoch) = match landed {
            Landed::Message(message) => (&message.device, message.epoch),
            Landed::Blob(blob) => (&blob.device, blob.epoch),
        };
        let owner = (device.clone(), epoch);
        self.meet_epoch(&owner);
        if let Landed::Message(message) = landed {
            if message.kind == MessageKind::Hello {
                if let Ok(envelope) = Envelope::parse(&message.message) {
                    self.meet_key(&owner, envelope.key_id);
                }
                self.desk.heard_elsewhere(&owner, message.sent, message.position.incarnation);
                self.replay(landed);
                return None;
            }
            if self.desk.voice(&owner) == Voice::Speak {
                let cost = cost_of(message.lane, message.message.len());
                self.desk.received(&owner, cost, message.sent, now);
                if message.kind == MessageKind::Part {
                    return self.tailed_part(&owner, message, now);
                }
            }
        }
        self.replay(landed);
        self.desk.news(&owner, now.boot);
        None
    }

    fn tailed_part(&mut self, owner: &DeviceEpoch, message: &LandedMessage, now: Now) -> Option<Box<Staged>> {
        let envelope = Envelope::parse(&message.message).ok()?;
        let Ok(Body::Part(part)) = read_body(&envelope) else { return None };
        let record = MessageRecord {
            device: message.device.clone(),
            lane: message.lane,
            key_serial: message.key_serial.clone(),
            received: message.received,
            message: message.message.as_ref().into(),
        };
        match self.take_part(owner, &part, || record, now) {
            Taken::Land(staged) => Some(staged),
            _ => None,
        }
    }

    /// Messages whose key another receiver has told of meanwhile, and those whose patience is over.
    pub fn unpen(&mut self, now: Now) -> Vec<Taken> {
        let mut out = Vec::new();
        for (until, topic, payload) in std::mem::take(&mut self.pen) {
            self.pen_bytes = self.pen_bytes.saturating_sub(payload.len());
            out.push(self.take_until(&topic, &payload, until, now));
        }
        out
    }
}
