//! How shipping stands, for the status page and for people.

use super::catchup::Pace;
use super::policy::{HoldWhy, Spent};
use headwater_core::id::{IncarnationId, Sha256};
use headwater_core::ports::{Cause, Cursor};
use headwater_core::time::BootNanos;
use headwater_core::wire::Lane;

/// What was counted since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShipCounters {
    /// Messages handed over.
    pub messages: u64,
    /// Their bytes on the wire, with topic and about 80 bytes of TLS, MQTT and TCP each.
    pub bytes_sent: u64,
    /// Hellos said, repeats included.
    pub hellos: u64,
    /// Batches and blobs handed over again for want of an ack.
    pub resends: u64,
    /// Acks used.
    pub acks: u64,
    /// Acks not used: forged, replayed, late, of another receiver.
    pub acks_rejected: u64,
    /// Rows refused by the collector and given up with a gap record.
    pub rows_refused: u64,
    /// Refusals of every kind.
    pub refusals: u64,
    /// Sets of rows that stay in the spool.
    pub withheld: u64,
    /// Slabs of another epoch met in the spool.
    pub foreign_epoch_slabs: u64,
    /// Gap records and clock exchanges that found no room in their queue.
    pub side_rows_dropped: u64,
    /// Blobs that travel in a smaller form than their own.
    pub blobs_packed: u64,
    /// Bytes that saves.
    pub blob_bytes_saved: u64,
    /// Blobs that went as they are because packing had used up its share of time.
    pub blobs_over_budget: u64,
    /// Connections that came about after the first.
    pub reconnects: u64,
    /// Connections that did not come about.
    pub connect_failures: u64,
    /// Reads or trims the spool could not do.
    pub spool_errors: u64,
    /// Messages the broker refused one by one; they are sent again later.
    pub publishes_refused: u64,
    /// Of these, for their topic or payload: no later try is likely to pass.
    pub publishes_invalid: u64,
}

/// Why there is no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkDown {
    /// Cause of the last end.
    pub cause: Cause,
    /// Since when the ends have had this cause.
    pub since: BootNanos,
    /// Ends with it in a row.
    pub tries: u64,
}

/// How shipping stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShipStatus {
    /// A link stands.
    pub connected: bool,
    /// Since when it stands, or does not.
    pub since: Option<BootNanos>,
    /// Why the last one ended, and how often in a row without a healthy link in between.
    pub down: Option<LinkDown>,
    /// The broker we are connected to, or were last.
    pub peer: Option<String>,
    /// Last ack used.
    pub last_ack: Option<BootNanos>,
    /// Last thing that went wrong, for a person.
    pub last_error: Option<String>,
    /// The card was restored or cloned: nothing is shipped before a new epoch.
    pub restored_card: bool,
    /// Why the collector takes nothing of this gateway any more: its certificate is revoked.
    pub shut_out: Option<String>,
    /// Bytes handed over and not PUBACKed.
    pub in_flight_bytes: u64,
    /// Batches and blobs not yet durable at the collector.
    pub in_flight_units: u64,
    /// How far the live ends of the control, telemetry and media lanes were read.
    pub live_at: [Cursor; 3],
    /// Bytes in the spool that wait behind live data.
    pub backlog_bytes: u64,
    /// When they will be gone.
    pub catching_up: Pace,
    /// The interface the link goes over, if known.
    pub interface: Option<String>,
    /// What the link carried of late, bytes/s.
    pub rate_bytes_per_s: Option<u64>,
    /// Why lanes wait that the link's rules hold back, by digit.
    pub holds: [Option<HoldWhy>; Lane::ALL.len()],
    /// What links took, by their rules.
    pub spent: Vec<Spent>,
    /// Smoothed time from hand-over to ack, ns.
    pub ack_rtt_ns: Option<i64>,
    /// Bytes of credit left; `None` before the collector said any.
    pub credit_left: Option<u64>,
    /// The receiver that answered our hello.
    pub incarnation: Option<IncarnationId>,
    /// Newest commit with rows of this device.
    pub last_commit: Option<Sha256>,
    /// Counts.
    pub counters: ShipCounters,
}
