//! Listens to what the collector acknowledges, beside the agent, and notes when.

use super::client::Door;
use anyhow::{Context, Result};
use headwater_core::id::StreamId;
use headwater_core::wire::{Ack, Envelope, MessageKind};
use headwater_tests::ticks::{now, unix_nanos, wait_until};
use headwater_tests::world::{DEVICE, TENANT};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, Incoming};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Longest wait for the broker to grant the topic.
const LISTEN_LIMIT: Duration = Duration::from_secs(30);
/// Requests of a client that only subscribes.
const REQUESTS: usize = 8;

/// One ack of the collector.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) utc_ns: i64,
    ack: Ack,
}

impl Seen {
    /// True if it says that seqs below `upto` of a stream are durable.
    pub(super) fn covers_below(&self, stream: StreamId, upto: u64) -> bool {
        self.ack.streams.iter().any(|s| s.id == stream && s.durable_upto.0 >= upto)
    }

    /// True if it says that this seq is durable.
    pub(super) fn covers(&self, stream: StreamId, seq: u64) -> bool {
        let of = |s: &headwater_core::wire::AckStream| {
            s.durable_upto.0 > seq || s.durable.iter().any(|range| range.contains(&seq))
        };
        self.ack.streams.iter().any(|s| s.id == stream && of(s))
    }
}

#[derive(Debug, Default)]
struct Heard {
    listening: bool,
    acks: Vec<Seen>,
    failed: Option<String>,
}

/// The listener; dropping it ends it.
#[derive(Debug)]
pub(super) struct AckWatch {
    heard: Arc<Mutex<Heard>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn locked(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AckWatch {
    /// Listens from now on.
    pub(super) fn start(door: &Door) -> Result<Self> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn({
            let (door, heard) = (door.clone(), Arc::clone(&heard));
            move || {
                let listened = runtime.block_on(async {
                    tokio::select! {
                        _ = ended => Ok(()),
                        failed = listen(&door, &heard) => failed,
                    }
                });
                if let Err(error) = listened {
                    locked(&heard).failed = Some(format!("{error:#}"));
                }
            }
        });
        let watch = Self { heard, end: Some(end), thread: Some(thread) };
        let listens = wait_until(LISTEN_LIMIT, || {
            let heard = locked(&watch.heard);
            heard.listening || heard.failed.is_some()
        });
        watch.check()?;
        anyhow::ensure!(listens, "the broker grants no ack topic");
        Ok(watch)
    }

    fn check(&self) -> Result<()> {
        match &locked(&self.heard).failed {
            Some(error) => anyhow::bail!("the ack listener ended: {error}"),
            None => Ok(()),
        }
    }

    /// The first ack: the answer to the agent's hello.
    pub(super) fn first(&self) -> Result<Option<Seen>> {
        self.check()?;
        Ok(locked(&self.heard).acks.first().cloned())
    }

    /// The ack, if it came, by which all seqs below `upto` are durable.
    pub(super) fn durable(&self, stream: StreamId, upto: u64) -> Result<Option<Seen>> {
        self.check()?;
        let heard = locked(&self.heard);
        // Watermarks only grow: the newest acks are enough to know that it did not come.
        let done = heard.acks.iter().rev().take(32).any(|seen| seen.covers_below(stream, upto));
        Ok(if done { heard.acks.iter().find(|seen| seen.covers_below(stream, upto)).cloned() } else { None })
    }

    /// All acks so far.
    pub(super) fn acks(&self) -> Vec<Seen> {
        locked(&self.heard).acks.clone()
    }
}

impl Drop for AckWatch {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn listen(door: &Door, heard: &Mutex<Heard>) -> Result<()> {
    let (client, mut events) = AsyncClient::new(door.options("ack-listener")?, REQUESTS);
    client.subscribe(format!("hw/1/ack/{TENANT}/{DEVICE}"), QoS::AtLeastOnce).await?;
    loop {
        match events.poll().await? {
            Event::Incoming(Incoming::SubAck(_)) => locked(heard).listening = true,
            Event::Incoming(Incoming::Publish(publish)) => {
                let (at, utc_ns) = (now(), unix_nanos());
                let envelope = Envelope::parse(&publish.payload).context("an ack is not understood")?;
                if envelope.kind == MessageKind::Ack {
                    let ack = Ack::from_body(envelope.body)?;
                    locked(heard).acks.push(Seen { at, utc_ns, ack });
                }
            }
            _ => {}
        }
    }
}
