//! Telling others of commits: one event per entry of a ref's log, as JSON lines or posted to webhooks.
//!
//! The log is the queue: nothing is held in memory, an endpoint that is away for a week gets what it missed, in order,
//! and ingest knows nothing of it.

mod cursor;
mod webhook;

pub use cursor::{CursorFile, Cursors};
pub use webhook::{DELIVERY_MS_MAX, Webhook, WebhookSettings};

use headwater_lake::{CommitKind, Event, RefOp};
use serde_json::{Value, json};

/// Version of an event's form.
const EVENT_VERSION: u32 = 1;

/// The word by which events are chosen: what the commit was for, or `delete`.
#[must_use]
pub fn kind_of(event: &Event) -> &'static str {
    match (event.op, event.kind) {
        (RefOp::Delete, _) => "delete",
        (_, Some(kind)) => kind.as_str(),
        (_, None) => CommitKind::default().as_str(),
    }
}

/// An event as it is printed and posted.
#[must_use]
pub fn to_json(event: &Event) -> Value {
    let time = chrono::DateTime::from_timestamp_micros(event.time_us)
        .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
    let mut value = serde_json::to_value(event).unwrap_or(Value::Null);
    if let Value::Object(members) = &mut value {
        members.insert("v".to_owned(), json!(EVENT_VERSION));
        members.insert("time".to_owned(), json!(time));
    }
    value
}

#[cfg(test)]
mod tests;
