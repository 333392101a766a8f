//! One implementation of the serial link, so that firmware and agent cannot drift apart.
//!
//! A microcontroller sends samples, logs and clock answers as link frames; the agent decodes
//! them with the very same code. Everything here is a pure function or a small state machine
//! over borrowed bytes: no allocation, no clock, no I/O, no dependency.
//!
//! - [`crc`]: the checksum of every link frame.
//! - [`cobs`]: byte stuffing that keeps `0x00` free to mark the end of a frame.
//! - [`link`]: headers, frames, payloads and the decoder; its page draws the bytes.
//! - [`rx`]: how many samples went missing, from 16-bit sequence numbers and device time.
//! - [`vendor`]: decoders of the protocols other devices speak.
//!
//! # A device says hello and sends two samples
//!
//! ```
//! use headwater_shims::link::{
//!     Field, FieldList, FieldType, Flags, Header, HelloBody, Hello, Identity, LinkDecoder,
//!     LinkType, SampleWriter, StreamDescriptor, T2Point, Caps, Value, encode, schema_crc,
//! };
//!
//! const FIELDS: &[Field<'static>] =
//!     &[Field { field_type: FieldType::I16, scale10: -2, name: "temperature", unit: "Cel" }];
//! let stream = StreamDescriptor {
//!     stream: 0, next_seq: 0, kind: "climate", period_us: 10_000, fields: FieldList::new(FIELDS),
//! };
//! let identity = Identity {
//!     caps: Caps::NONE, t2_point: T2Point::FirstByte, boot_nonce: 7, max_rx: 64, tick_ns: 1_000,
//!     clock_ppm: 50, schema_crc: schema_crc(&[stream])?, uid: "board-1", firmware: "1.0.0",
//! };
//!
//! let (mut payload, mut wire, mut end) = ([0u8; 128], [0u8; 512], 1); // wire[0] = 0x00 ends any noise
//! for (seq, body) in [(0, HelloBody::Identity(identity)), (1, HelloBody::Stream(stream))] {
//!     let hello = Hello { index: seq, total: 2, body };
//!     let n = hello.encode(&mut payload)?;
//!     let header = Header { link_type: LinkType::Hello, flags: Flags::NONE, seq: seq.into(), t_us: 5 };
//!     end += encode(&mut wire[end..], header, &payload[..n])?;
//! }
//! let mut samples = SampleWriter::new(&mut payload, 0, 10_000)?;
//! samples.push_row(&[Value::I16(2150)])?; // 21.50 Cel
//! samples.push_row(&[Value::I16(2151)])?;
//! let n = samples.finish()?;
//! let header = Header { link_type: LinkType::Sample, flags: Flags::FIRST_SINCE_BOOT, seq: 0, t_us: 20_000 };
//! end += encode(&mut wire[end..], header, &payload[..n])?;
//!
//! let mut decoder = LinkDecoder::<1024>::new();
//! let mut seen = 0;
//! for byte in &wire[..end] {
//!     if let Some(frame) = decoder.push(*byte) {
//!         frame?;
//!         seen += 1;
//!     }
//! }
//! assert_eq!(seen, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod bytes;
pub mod cobs;
pub mod crc;
pub mod link;
pub mod rx;
pub mod vendor;
