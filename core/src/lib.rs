//! The vocabulary and the seams of Headwater, shared by agent and collector.
//!
//! Everything in here is pure: no file, no socket, no clock, no runtime. What one side writes with
//! these types the other side reads with the same code, so a format has one home and one test.
//!
//! | module | holds |
//! |---|---|
//! | [`id`] | names and numbers that identify: tenant, device, epoch, stream, seq |
//! | [`time`] | boot time and UTC as types that never mix, stamps, readings of clocks |
//! | [`interval`] | sets of sequence numbers |
//! | [`schema`] | typed fields with UCUM units, canonical form, fingerprint |
//! | [`sample`] | a reading, a stamped sample, a value, a blob |
//! | [`gap`] | why captures are missing |
//! | [`batch`] | sections and columns: the columnar codec of spool and wire |
//! | [`wire`] | envelope, hello, declaration, part, ack, status: protocol version 1 |
//! | [`export`] | messages of a spool in a file, carried by hand |
//! | [`ports`] | traits at the edges, each with its written contract |
//! | [`invariant`] | the promises of the system and the check that watches them |
#![forbid(unsafe_code)]

pub mod batch;
pub mod export;
pub mod gap;
pub mod id;
pub mod interval;
pub mod invariant;
pub mod ports;
pub mod sample;
pub mod schema;
pub mod time;
pub mod wire;
