//! One MQTT connection, in version 5 or 3.1.1, as agent and collector use it.
//!
//! ```text
//! stream of bytes ◄─► drive (waits) ◄─► Connection (pure) ◄─► packets, read and written by rumqttc's codec
//!                        ▲
//!                        └── messages, settled ids, filters in; events out
//! ```
//! The packets are rumqttc's; its event loop is not used, since it reuses packet ids while they are out, reads no
//! ack while a write is stuck, hides why a message was refused, and has another client for each version.

mod connection;
mod drive;
mod packet;
mod reason;
mod version;

pub use connection::{Connection, Event, Lasting, Opening, Outgoing, Settle, span_of};
pub use drive::{Ends, Inward, drive};
pub use packet::{Limits, Version, Will};
pub use version::{Versions, VersionsKnown, may_speak_another};
