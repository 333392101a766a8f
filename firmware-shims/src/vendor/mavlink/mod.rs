//! MAVLink 1 and 2: autopilots and what is attached to them.
//!
//! ```text
//! 1:  FE | length u8 | seq u8 | system u8 | component u8 | id u8 | payload | crc u16
//! 2:  FD | length u8 | incompatible u8 | compatible u8 | seq u8 | system u8 | component u8 | id u24 | payload | crc u16 [| signature 13]
//! ```
//!
//! Little-endian. The checksum (CRC-16/MCRF4XX) covers all behind the first byte, and one byte more that
//! stands for the message's layout ([`crc_extra`]); a frame of an unknown message therefore cannot be checked, is
//! counted and not given out. Version 2 cuts zeros off the end of payloads: they read as zero here. Signed frames
//! are accepted and marked; nobody here has the key.
//!
//! Source: MAVLink developer guide, "Packet Serialization" and "Message Signing"; messages: `common.xml` as of
//! pymavlink 2.4.50.

mod crc_extra;
mod messages;
mod power;
mod sensors;

pub use messages::{
    Attitude, AttitudeQuaternion, GlobalPositionInt, GpsRawInt, Heartbeat, LocalPositionNed, Statustext,
    SystemTime, VfrHud,
};
pub use power::{BatteryStatus, SysStatus};
pub use sensors::{
    DistanceSensor, HighresImu, RawImu, ScaledImu, ScaledImu2, ScaledImu3, ScaledPressure, ScaledPressure2,
    Vibration,
};

use super::feed::{FrameError, Look, Protocol};
use super::num::Bytes;
use super::sum::{crc16_mcrf4xx, mcrf4xx_onto};
use super::view::messages;
use super::{Message, Read};

/// Largest frame, bytes: version 2, signed.
pub const FRAME_BYTES_MAX: usize = 280;
const CRC_BYTES: usize = 2;
const SIGNATURE_BYTES: usize = 13;
/// The only incompatibility flag there is: a signature follows.
const SIGNED: u8 = 1;

/// CRC_EXTRA of a message; `None` if it is not of the common set.
pub fn crc_extra(id: u32) -> Option<u8> {
    let found = crc_extra::MESSAGES.binary_search_by_key(&id, |(id, _, _)| *id).ok()?;
    crc_extra::MESSAGES.get(found).map(|(_, extra, _)| *extra)
}

/// Bytes of a message's whole payload; `None` if it is not of the common set.
fn payload_bytes(id: u32) -> Option<u8> {
    let found = crc_extra::MESSAGES.binary_search_by_key(&id, |(id, _, _)| *id).ok()?;
    crc_extra::MESSAGES.get(found).map(|(_, _, bytes)| *bytes)
}

/// The protocol, both versions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mavlink;

/// What the first bytes of a frame say.
struct Head {
    id: u32,
    head_bytes: usize,
    payload: usize,
    signed: bool,
}

impl Head {
    /// `Err` with what to say instead.
    fn of(bytes: &[u8]) -> Result<Self, Look> {
        let b = Bytes(bytes);
        match bytes {
            [0xFE, ..] if bytes.len() < 6 => Err(Look::More(6)),
            [0xFE, ..] => {
                Ok(Self { id: b.u8(5).into(), head_bytes: 6, payload: b.u8(1).into(), signed: false })
            }
            [0xFD, ..] if bytes.len() < 10 => Err(Look::More(10)),
            // A frame with a flag that is not understood must be dropped, says the guide.
            [0xFD, _, flags, ..] if flags & !SIGNED != 0 => Err(Look::Bad(FrameError::Malformed, 1)),
            [0xFD, payload, flags, ..] => {
                let [low, mid, high] = b.array(7);
                let id = u32::from_le_bytes([low, mid, high, 0]);
                Ok(Self { id, head_bytes: 10, payload: usize::from(*payload), signed: flags & SIGNED != 0 })
            }
            _ => Err(Look::Noise),
        }
    }

    const fn crc_at(&self) -> usize {
        self.head_bytes.saturating_add(self.payload)
    }

    const fn len(&self) -> usize {
        let signature = if self.signed { SIGNATURE_BYTES } else { 0 };
        self.crc_at().saturating_add(CRC_BYTES).saturating_add(signature)
    }
}

impl Protocol for Mavlink {
    fn look(&self, bytes: &[u8], _: bool) -> Look {
        let head = match Head::of(bytes) {
            Ok(head) => head,
            Err(look) => return look,
        };
        let Some(extra) = crc_extra(head.id) else { return Look::Unknown(head.len()) };
        if payload_bytes(head.id).is_some_and(|most| head.payload > most.into()) {
            return Look::Bad(FrameError::Length, 1);
        }
        let Some(frame) = bytes.get(..head.len()) else { return Look::More(head.len()) };
        let covered = frame.get(1..head.crc_at()).unwrap_or_default();
        let computed = mcrf4xx_onto(crc16_mcrf4xx(covered), &[extra]);
        if computed == Bytes(frame).u16(head.crc_at()) {
            Look::Frame(head.len())
        } else {
            Look::Bad(FrameError::Checksum, head.len())
        }
    }
}

impl Read for Mavlink {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        let message = MavlinkFrame::new(frame).and_then(MavlinkFrame::message);
        if let Some(message) = &message {
            sink(message.view());
        }
        message.is_some()
    }
}

/// Whether a frame proves who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// It does not try to.
    None,
    /// It carries a signature, which nobody checked.
    Unverified,
}

/// A frame whose checksum was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MavlinkFrame<'a> {
    /// 1 or 2.
    pub version: u8,
    /// Number, wrapping, per system and component.
    pub seq: u8,
    /// Sending system.
    pub system: u8,
    /// Sending component.
    pub component: u8,
    /// Message.
    pub id: u32,
    /// Payload; version 2 cuts zeros off its end.
    pub payload: &'a [u8],
    /// Its signature.
    pub signature: Signature,
}

impl<'a> MavlinkFrame<'a> {
    /// The frame in `bytes`, as [`Mavlink`] found it; `None` if they are too few.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let head = Head::of(bytes).ok()?;
        let b = Bytes(bytes);
        let (version, from) = if bytes.first() == Some(&0xFE) { (1, 2) } else { (2, 4) };
        let [seq, system, component] = b.array(from);
        let payload = bytes.get(head.head_bytes..head.crc_at())?;
        let signature = if head.signed { Signature::Unverified } else { Signature::None };
        Some(Self { version, seq, system, component, id: head.id, payload, signature })
    }

    /// What it says; `None` for messages that are not known here.
    pub fn message(self) -> Option<MavlinkMessage> {
        use MavlinkMessage as M;
        let from = Origin { system: self.system, component: self.component };
        let b = Bytes(self.payload);
        Some(match self.id {
            0 => M::Heartbeat(Heartbeat::read(from, b)),
            1 => M::SysStatus(SysStatus::read(from, b)),
            2 => M::SystemTime(SystemTime::read(from, b)),
            24 => M::GpsRawInt(GpsRawInt::read(from, b)),
            26 => M::ScaledImu(ScaledImu::read(from, b)),
            27 => M::RawImu(RawImu::read(from, b)),
            29 => M::ScaledPressure(ScaledPressure::read(from, b)),
            30 => M::Attitude(Attitude::read(from, b)),
            31 => M::AttitudeQuaternion(AttitudeQuaternion::read(from, b)),
            32 => M::LocalPositionNed(LocalPositionNed::read(from, b)),
            33 => M::GlobalPositionInt(GlobalPositionInt::read(from, b)),
            74 => M::VfrHud(VfrHud::read(from, b)),
            105 => M::HighresImu(HighresImu::read(from, b)),
            116 => M::ScaledImu2(ScaledImu2::read(from, b)),
            129 => M::ScaledImu3(ScaledImu3::read(from, b)),
            132 => M::DistanceSensor(DistanceSensor::read(from, b)),
            137 => M::ScaledPressure2(ScaledPressure2::read(from, b)),
            147 => M::BatteryStatus(BatteryStatus::read(from, b)),
            241 => M::Vibration(Vibration::read(from, b)),
            253 => M::Statustext(Statustext::read(from, b)),
            _ => return None,
        })
    }
}

/// Who sent a message.
#[derive(Clone, Copy)]
struct Origin {
    system: u8,
    component: u8,
}

messages! {
    /// A MAVLink message.
    MavlinkMessage {
        Heartbeat, SysStatus, SystemTime, GpsRawInt, ScaledImu, RawImu, ScaledPressure, Attitude, AttitudeQuaternion,
        LocalPositionNed, GlobalPositionInt, VfrHud, HighresImu, ScaledImu2, ScaledImu3, DistanceSensor,
        ScaledPressure2, BatteryStatus, Vibration, Statustext,
    }
}
