//! u-blox receivers in their own binary protocol, UBX.
//!
//! ```text
//! B5 62 | class u8 | id u8 | length u16 | payload | CK_A CK_B        little-endian; Fletcher over class .. payload
//! ```
//!
//! Source of framing and messages: u-blox 8 / u-blox M8 Receiver Description including Protocol
//! Specification, UBX-13003221, chapters "UBX Protocol" and "UBX-NAV", "UBX-TIM", "UBX-LOG"; messages
//! of older receivers (NAV-SOL, NAV-SVINFO) as in u-blox 6, GPS.G6-SW-10018.

mod log;
mod nav;
mod sat;
mod tim;

pub use log::LogBatch;
pub use nav::{
    NavClock, NavDop, NavHpposllh, NavPosecef, NavPosllh, NavPvt, NavSol, NavStatus, NavTimegps, NavTimels,
    NavTimeutc, NavVelecef, NavVelned,
};
pub use sat::{NavSat, NavSvinfo, Satellite, satellites};
pub use tim::{TimTm2, TimTp};

use super::feed::{FrameError, Look, Protocol};
use super::num::Bytes;
use super::sum::fletcher8;
use super::view::messages;
use super::{Message, Read};

/// Largest payload believed, bytes: raw measurements of 90 signals are 3 KiB. A sync in noise that claims more is none.
pub const PAYLOAD_BYTES_MAX: usize = 4_096;
/// Bytes of a frame around its payload.
pub const OVERHEAD_BYTES: usize = 8;
/// Buffer of a [`Feeder`](super::Feeder) that holds every frame.
pub const FRAME_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + OVERHEAD_BYTES;

/// The protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ubx;

impl Protocol for Ubx {
    fn look(&self, bytes: &[u8], _: bool) -> Look {
        match bytes {
            [0xB5] => return Look::More(2),
            [0xB5, 0x62, ..] => {}
            _ => return Look::Noise,
        }
        let Some([low, high]) = bytes.get(4..).and_then(|rest| rest.first_chunk()) else {
            return Look::More(6);
        };
        let payload = usize::from(u16::from_le_bytes([*low, *high]));
        if payload > PAYLOAD_BYTES_MAX {
            return Look::Bad(FrameError::Length, 6);
        }
        let len = payload.saturating_add(OVERHEAD_BYTES);
        match bytes.get(..len) {
            None => Look::More(len),
            Some(frame) => match frame.split_last_chunk() {
                Some((body, sum)) if fletcher8(body.get(2..).unwrap_or_default()) == *sum => Look::Frame(len),
                _ => Look::Bad(FrameError::Checksum, len),
            },
        }
    }
}

impl Read for Ubx {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        let message = UbxFrame::new(frame).and_then(UbxFrame::message);
        if let Some(message) = &message {
            sink(message.view());
        }
        message.is_some()
    }
}

/// A checked frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UbxFrame<'a> {
    /// Message class, such as `0x01` for navigation.
    pub class: u8,
    /// Message within the class.
    pub id: u8,
    /// What lies between length and checksum.
    pub payload: &'a [u8],
}

impl<'a> UbxFrame<'a> {
    /// The frame in `bytes`, as [`Ubx`] found it; `None` if they are too few.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<6>()?;
        let [_, _, class, id, _, _] = *head;
        let (payload, _) = rest.split_last_chunk::<2>()?;
        Some(Self { class, id, payload })
    }

    /// What it says; `None` for messages that are not known here and for those shorter than their layout.
    ///
    /// Messages may be longer than the layout they are read by: later protocol versions append fields.
    pub fn message(self) -> Option<UbxMessage> {
        use UbxMessage as M;
        let bytes = Bytes(self.payload);
        let long = |least: usize| (self.payload.len() >= least).then_some(bytes);
        Some(match (self.class, self.id) {
            (0x01, 0x01) => M::NavPosecef(NavPosecef::read(long(20)?)),
            (0x01, 0x02) => M::NavPosllh(NavPosllh::read(long(28)?)),
            (0x01, 0x03) => M::NavStatus(NavStatus::read(long(16)?)),
            (0x01, 0x04) => M::NavDop(NavDop::read(long(18)?)),
            (0x01, 0x06) => M::NavSol(NavSol::read(long(52)?)),
            (0x01, 0x07) => M::NavPvt(NavPvt::read(long(84)?)),
            (0x01, 0x11) => M::NavVelecef(NavVelecef::read(long(20)?)),
            (0x01, 0x12) => M::NavVelned(NavVelned::read(long(36)?)),
            (0x01, 0x14) => M::NavHpposllh(NavHpposllh::read(long(36)?)),
            (0x01, 0x20) => M::NavTimegps(NavTimegps::read(long(16)?)),
            (0x01, 0x21) => M::NavTimeutc(NavTimeutc::read(long(20)?)),
            (0x01, 0x22) => M::NavClock(NavClock::read(long(20)?)),
            (0x01, 0x26) => M::NavTimels(NavTimels::read(long(24)?)),
            (0x01, 0x30) => M::NavSvinfo(NavSvinfo::read(self.payload)?),
            (0x01, 0x35) => M::NavSat(NavSat::read(self.payload)?),
            (0x0D, 0x01) => M::TimTp(TimTp::read(long(16)?)),
            (0x0D, 0x03) => M::TimTm2(TimTm2::read(long(28)?)),
            (0x21, 0x11) => M::LogBatch(LogBatch::read(long(100)?)),
            _ => return None,
        })
    }
}

messages! {
    /// A UBX message.
    UbxMessage {
        NavPosecef, NavPosllh, NavStatus, NavDop, NavSol, NavPvt, NavVelecef, NavVelned, NavHpposllh, NavTimegps,
        NavTimeutc, NavClock, NavTimels, NavSvinfo, NavSat, TimTp, TimTm2, LogBatch,
    }
}
