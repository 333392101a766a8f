//! Receive: MQTT in, checked, staged, landed and acknowledged.
//!
//! ```text
//! inbox ─► admit ─► stage (reassemble) ─► PUBACK ─► land (group sync) ─► landed set ─► ack
//! ```
//! A PUBACK only frees a slot of the broker's window; the signed ack is the collector's word. [`Receiver`]
//! decides and waits for nothing; [`task`] waits and decides nothing; [`mqtt`] is the edge.

mod acks;
mod admit;
pub mod broker;
pub mod clock;
mod credit;
mod epochs;
mod landed_set;
mod leases;
pub mod mqtt;
mod quota;
mod reassemble;
mod receiver;
pub mod sharing;
mod summary;
pub mod task;
#[cfg(test)]
pub(crate) mod testkit;

pub use acks::{ACK_INTERVAL_NS, AckDesk, ClockQuality, NEED_HELLO_INTERVAL_NS, Now, Standing};
pub use admit::{Admission, Admitted, Body, Refusal, RefusalKind};
pub use credit::{CREDIT_BYTES, CREDIT_BYTES_MIN, CreditCounters, CreditPool, CreditState, WINDOW_BYTES_MAX};
pub use epochs::EPOCHS_PER_DEVICE_MAX;
pub use landed_set::{BLOBLESS_ROWS_MAX, BLOBS_MAX, LandedSet, WITHHELD_RUNS_MAX};
pub use leases::{LeaseStep, Leases, SHARDS};
pub use quota::{Allowance, QuotaSettings, Quotas, Room};
pub use reassemble::{DeviceEpoch, FinishedBlob, PartOutcome, Reassembler, StagingLimits};
pub use receiver::{Note, Outgoing, Receiver, ReceiverIdentity, Staged, Taken};
pub use summary::{BatchSummary, RowRun, refusal_reason};
