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
//! - [`device`]: the whole device side as one state machine; it uses [`tx`] and [`clock`].
//! - [`uart`]: what an interrupt puts received bytes into.
//! - [`vendor`]: decoders of the protocols other devices speak.
//!
//! Features, all off by default: `embedded-io` adds `pump`, which moves bytes between a device
//! and a UART of that crate's traits; `knob` makes a test build obey KNOB. The same device side
//! in C lies in `firmware-shims/c`.
//!
//! # A sensor board in twenty lines
//!
//! ```
//! use headwater_shims::{device::{Device, DeviceSpec, StreamSpec}, link::{Caps, Field, FieldType, T2Point, Value}};
//!
//! const SPEC: DeviceSpec<'static, 1> = DeviceSpec {
//!     caps: Caps::NONE, t2_point: T2Point::FirstByte, tick_ns: 1_000, clock_ppm: 50, uid: "board-1", firmware: "1.0.0",
//!     streams: [StreamSpec { kind: "climate", period_us: 10_000, fields: &[
//!         Field { field_type: FieldType::I16, scale10: -2, name: "temperature", unit: "Cel" },
//!     ]}],
//! };
//! # let (mut ticks, mut uart, mut wire) = (0..2_000, [0x10u8; 0].into_iter(), Vec::new());
//! # let mut micros = || ticks.next().map(|t: u64| t * 100);
//! # let read_sensor = || 2150;
//! let mut device = Device::<1, 64, 256>::new(&SPEC, 0x5EED_0001)?; // 64 B in, 256 B out
//! let mut next_us = 0;
//! while let Some(now_us) = micros() {
//!     while let Some(byte) = uart.next() { device.receive(byte, now_us); } // PING, HELLO_REQ
//!     device.poll(now_us); // HELLO
//!     if now_us >= next_us {
//!         device.sample(0, now_us, &[Value::I16(read_sensor())])?; // 21.50 Cel
//!         next_us += 10_000;
//!     }
//!     if let Some(byte) = device.next_byte(now_us) { wire.push(byte); } // when the UART has room
//! }
//! # assert!(wire.len() > 300);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The same by hand: a hello and two samples
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
pub mod clock;
pub mod cobs;
pub mod crc;
pub mod device;
pub mod link;
#[cfg(feature = "embedded-io")]
pub mod pump;
pub mod rx;
pub mod tx;
pub mod uart;
pub mod vendor;
