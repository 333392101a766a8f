//! The agent's link as the world watches it: the broker's own, and in between the mistakes that agents could make.

use super::mutant::Mutant;
use headwater_core::batch::{Limits, StreamRef, decode_batch};
use headwater_core::id::Sha256;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Link, LinkClosed, LinkEvent, Uplink};
use headwater_core::wire::{Envelope, MessageKind};
use headwater_sim::broker::{BrokerLink, BrokerUplink};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Tries of a hasty link before it gives up after all.
const HASTY_MAX: u32 = 400;

/// Rows of a batch by stream.
pub(super) type Seqs = Vec<(headwater_core::id::StreamId, IntervalSet)>;

/// What the mistake of trimming on a PUBACK does.
pub(super) type OnPuback = Arc<dyn Fn(Seqs) + Send + Sync>;

/// Makes watched links.
pub(super) struct WatchedUplink {
    pub(super) inner: BrokerUplink,
    pub(super) mutant: Option<Mutant>,
    pub(super) on_puback: OnPuback,
    /// Digests of the bodies that were sent in this life.
    pub(super) sent: Arc<Mutex<BTreeSet<Sha256>>>,
}

/// One connection.
pub(super) struct WatchedLink {
    inner: BrokerLink,
    mutant: Option<Mutant>,
    on_puback: OnPuback,
    sent: Arc<Mutex<BTreeSet<Sha256>>>,
    next: u64,
    /// Numbers of the broker's link to ours, with what a message carried.
    numbers: BTreeMap<u64, (u64, Seqs)>,
    swallowed: VecDeque<u64>,
}

impl Uplink for WatchedUplink {
    type Link = WatchedLink;

    async fn connect(&mut self, ack_topic: &str) -> Result<WatchedLink, LinkClosed> {
        let mut tries = 0;
        let inner = loop {
            match self.inner.connect(ack_topic).await {
                Err(_) if self.mutant == Some(Mutant::HastyReconnect) && tries < HASTY_MAX => tries += 1,
                connected => break connected?,
            }
        };
        Ok(WatchedLink {
            inner,
            mutant: self.mutant,
            on_puback: Arc::clone(&self.on_puback),
            sent: Arc::clone(&self.sent),
            next: 0,
            numbers: BTreeMap::new(),
            swallowed: VecDeque::new(),
        })
    }
}

/// The rows of a message, if it is a batch.
fn seqs_of(message: &[u8]) -> Seqs {
    let Ok(envelope) = Envelope::parse(message) else { return Seqs::new() };
    if envelope.kind != MessageKind::Batch {
        return Seqs::new();
    }
    let Ok(batch) = decode_batch(envelope.body, &Limits::V1) else { return Seqs::new() };
    let of_rows = |rows: &headwater_core::batch::Rows| match rows.stream {
        StreamRef::Id(id) => Some((id, std::iter::once(rows.seqs()).collect())),
        StreamRef::Name(_) => None,
    };
    batch.rows().filter_map(of_rows).collect()
}

impl WatchedLink {
    /// True if this body of a batch or a part was sent before.
    fn is_repeat(&self, message: &[u8]) -> bool {
        let Ok(envelope) = Envelope::parse(message) else { return false };
        matches!(envelope.kind, MessageKind::Batch | MessageKind::Part)
            && !self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(Sha256::of(envelope.body))
    }
}

impl Link for WatchedLink {
    fn payload_bytes_max(&self) -> usize {
        self.inner.payload_bytes_max()
    }

    async fn send(&mut self, topic: &str, payload: Vec<u8>) -> Result<u64, LinkClosed> {
        let number = self.next;
        self.next += 1;
        if self.mutant == Some(Mutant::NeverResends) && self.is_repeat(&payload) {
            self.swallowed.push_back(number);
            return Ok(number);
        }
        let seqs = if self.mutant == Some(Mutant::TrimOnPuback) { seqs_of(&payload) } else { Seqs::new() };
        let inner = self.inner.send(topic, payload).await?;
        self.numbers.insert(inner, (number, seqs));
        Ok(number)
    }

    async fn event(&mut self) -> Result<LinkEvent, LinkClosed> {
        if let Some(number) = self.swallowed.pop_front() {
            return Ok(LinkEvent::Sent(number));
        }
        Ok(match self.inner.event().await? {
            LinkEvent::Sent(inner) => {
                let (number, seqs) = self.numbers.remove(&inner).unwrap_or((inner, Seqs::new()));
                if !seqs.is_empty() {
                    (self.on_puback)(seqs);
                }
                LinkEvent::Sent(number)
            }
            event => event,
        })
    }
}
