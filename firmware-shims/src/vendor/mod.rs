//! Decoders of serial protocols that common devices speak already, so that no firmware needs a change.
//!
//! A [`Protocol`] finds frames, a [`Feeder`] cuts the stream by it, and [`Read`] makes [`Message`]s of a
//! frame: plain structs with units in their names, all of them behind one view of kind, fields and
//! values. A host that knows the view knows every device.
//!
//! - [`ubx`]: u-blox receivers in their binary protocol.
//! - [`nmea`]: proprietary NMEA 0183 sentences.
//! - [`pms`], [`sds011`]: particulate matter.
//! - [`mhz19`], [`scd30`], [`senseair`]: carbon dioxide.
//! - [`modbus`]: registers over RTU and TCP.
//! - [`mavlink`]: autopilots, versions 1 and 2.
//! - [`vedirect`]: Victron solar chargers and battery monitors.
//! - [`sbus`]: radio control receivers.
//! - [`spec`]: fixed frames of anything else, by a description.
//!
//! # A particulate sensor, without naming a field of it
//!
//! ```
//! use headwater_shims::vendor::{Feeder, Read, Value, pms::Pms};
//!
//! # let frame: Vec<u8> = {
//! #     let mut frame = vec![0x42, 0x4D, 0, 28, 0, 5, 0, 8, 0, 9];
//! #     frame.extend([0; 20]);
//! #     let sum: u16 = frame.iter().map(|byte| u16::from(*byte)).sum();
//! #     frame.extend(sum.to_be_bytes());
//! #     frame
//! # };
//! let mut input = frame.as_slice();
//! let mut feeder = Feeder::<Pms, 64>::new(Pms);
//! let mut seen = Vec::new();
//! while let Some(found) = feeder.next_frame(&mut input) {
//!     Pms.read(found?.bytes, &mut |message| {
//!         for at in 0.. {
//!             let Some(field) = message.field(at) else { break };
//!             seen.push((field.name.to_owned(), field.unit.to_owned(), format!("{:?}", message.value(at))));
//!         }
//!     });
//! }
//! assert_eq!(seen[1], ("pm2_5_factory_ug_m3".into(), "ug/m3".into(), "Unsigned(8)".into()));
//! # Ok::<(), headwater_shims::vendor::FrameError>(())
//! ```

mod feed;
pub mod mavlink;
pub mod mhz19;
pub mod modbus;
pub mod nmea;
mod num;
pub mod pms;
pub mod sbus;
pub mod scd30;
pub mod sds011;
pub mod senseair;
pub mod spec;
pub mod sum;
pub mod ubx;
pub mod vedirect;
mod view;

pub use feed::{FeedStats, Feeder, Found, FrameError, Look, Protocol};
pub use view::{Field, Form, Message, Text, Value};

/// A protocol, as far as understanding its frames goes.
pub trait Read: Protocol {
    /// Hands each message in `frame`, which [`Protocol::look`] found, to `sink`. False for a good frame that says
    /// nothing known here.
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool;
}

impl<R: Read + ?Sized> Read for &R {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        (**self).read(frame, sink)
    }
}
