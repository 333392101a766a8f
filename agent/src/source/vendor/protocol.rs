//! Which protocols there are, and what each is asked.

use headwater_shims::vendor::mavlink::Mavlink;
use headwater_shims::vendor::mhz19::{self, Mhz19};
use headwater_shims::vendor::modbus::{ReadRequest, RegisterMap, Reply, Rtu};
use headwater_shims::vendor::pms::Pms;
use headwater_shims::vendor::sbus::Sbus;
use headwater_shims::vendor::scd30::{self, Scd30};
use headwater_shims::vendor::sds011::Sds011;
use headwater_shims::vendor::senseair::{self, Senseair};
use headwater_shims::vendor::spec::{FrameSpec, SpecField};
use headwater_shims::vendor::ubx::Ubx;
use headwater_shims::vendor::vedirect::VeDirect;
use headwater_shims::vendor::{Look, Message, Protocol, Read};
use std::sync::Arc;

/// Registers that are read at once, and what they mean.
#[derive(Debug, Clone, PartialEq)]
pub struct ModbusRead {
    /// What is asked.
    pub request: ReadRequest,
    /// What the answer means.
    pub map: RegisterMap<String, Vec<SpecField<String>>>,
}

/// A protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum VendorProtocol {
    /// u-blox receivers.
    Ubx,
    /// Plantower particulate sensors.
    Pms5003,
    /// Nova particulate sensors.
    Sds011,
    /// Autopilots.
    Mavlink,
    /// Victron devices.
    Vedirect,
    /// Radio control receivers.
    Sbus,
    /// Frames by description.
    Frames(Vec<FrameSpec<String, Vec<SpecField<String>>>>),
    /// Winsen carbon dioxide sensors, asked each so many ms.
    Mhz19(u32),
    /// Sensirion carbon dioxide sensors, asked each so many ms.
    Scd30(u32),
    /// Senseair carbon dioxide sensors, asked each so many ms.
    Senseair(u32),
    /// Modbus registers, asked each so many ms; never empty.
    Modbus(Vec<ModbusRead>, u32),
}

/// What a device is asked, over and over.
#[derive(Debug, Clone)]
pub struct Requests {
    /// Questions of a round; each with the protocol that finds its answer.
    pub all: Vec<(Vec<u8>, VendorProtocol)>,
    /// From one round to the next, ms.
    pub interval_ms: u32,
}

impl VendorProtocol {
    /// What it is asked; `None` for a device that speaks unasked.
    pub(super) fn requests(&self) -> Option<Requests> {
        let one = |bytes: &[u8], interval_ms: u32| {
            Some(Requests { all: vec![(bytes.to_vec(), self.clone())], interval_ms })
        };
        match self {
            Self::Mhz19(ms) => one(&mhz19::READ_REQUEST, *ms),
            Self::Scd30(ms) => one(&Rtu(scd30::READ_REQUEST).request(), *ms),
            Self::Senseair(ms) => one(&Rtu(senseair::READ_REQUEST).request(), *ms),
            Self::Modbus(reads, ms) => {
                let question = |read: &ModbusRead| {
                    (Rtu(read.request).request().to_vec(), Self::Modbus(vec![read.clone()], *ms))
                };
                Some(Requests { all: reads.iter().map(question).collect(), interval_ms: *ms })
            }
            _ => None,
        }
    }

    /// Whether all its messages are of one kind, so that the source's stream is theirs.
    pub(super) fn has_one_kind(&self) -> bool {
        match self {
            Self::Ubx | Self::Mavlink => false,
            Self::Frames(specs) => specs.len() == 1,
            Self::Modbus(reads, _) => reads.len() == 1,
            _ => true,
        }
    }

    /// The decoder behind it; the first read of Modbus.
    fn with<R>(&self, with: impl FnOnce(&dyn Read) -> R) -> R {
        match self {
            Self::Ubx => with(&Ubx),
            Self::Pms5003 => with(&Pms),
            Self::Sds011 => with(&Sds011),
            Self::Mavlink => with(&Mavlink),
            Self::Vedirect => with(&VeDirect),
            Self::Sbus => with(&Sbus),
            Self::Frames(specs) => with(&specs.as_slice()),
            Self::Mhz19(_) => with(&Mhz19),
            Self::Scd30(_) => with(&Scd30),
            Self::Senseair(_) => with(&Senseair),
            Self::Modbus(reads, _) => with(&Answers(reads)),
        }
    }
}

/// Answers to the first of some reads.
struct Answers<'a>(&'a [ModbusRead]);

impl Protocol for Answers<'_> {
    fn look(&self, bytes: &[u8], in_sync: bool) -> Look {
        self.0.first().map_or(Look::Noise, |read| Rtu(read.request).look(bytes, in_sync))
    }
}

impl Read for Answers<'_> {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        let Some(read) = self.0.first() else { return false };
        let Some(Reply::Data(data)) = Rtu(read.request).reply(frame) else { return false };
        sink(&read.map.message(data));
        true
    }
}

/// A protocol that is held twice: by the feeder, and by who reads its frames.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<VendorProtocol>);

impl Shared {
    pub(super) fn new(protocol: VendorProtocol) -> Self {
        Self(Arc::new(protocol))
    }

    /// Why the device refuses, if that is what the frame says.
    pub(super) fn refusal(&self, frame: &[u8]) -> Option<String> {
        let request = match &*self.0 {
            VendorProtocol::Modbus(reads, _) => reads.first()?.request,
            VendorProtocol::Scd30(_) => scd30::READ_REQUEST,
            VendorProtocol::Senseair(_) => senseair::READ_REQUEST,
            _ => return None,
        };
        match Rtu(request).reply(frame)? {
            Reply::Data(_) => None,
            Reply::Exception(exception) => {
                let ReadRequest { unit, start, count, .. } = request;
                Some(format!("{exception} (device {unit}, {count} from address {start})"))
            }
        }
    }
}

impl Protocol for Shared {
    fn look(&self, bytes: &[u8], in_sync: bool) -> Look {
        self.0.with(|protocol| protocol.look(bytes, in_sync))
    }
}

impl Read for Shared {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        self.0.with(|protocol| protocol.read(frame, sink))
    }
}
