//! The network as both ends see it: a pipe that may lose, repeat and reorder.

use std::future::Future;

/// What happens on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// The broker took the n-th message handed over on this link (0-based). Frees flight bytes, means nothing more.
    Sent(u64),
    /// A message arrived.
    Received {
        /// Topic.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
    },
}

/// A connection that is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("link closed: {reason}")]
pub struct LinkClosed {
    /// Why, for a person.
    pub reason: String,
    /// Another try may help soon (`false`: wrong credentials, taken over, not authorised).
    pub transient: bool,
}

/// Makes connections for the agent.
pub trait Uplink: Send {
    /// One connection.
    type Link: Link;
    /// Connects and subscribes to `ack_topic`; done once both are confirmed.
    ///
    /// # Errors
    /// [`LinkClosed`] if it did not come about.
    fn connect(&mut self, ack_topic: &str) -> impl Future<Output = Result<Self::Link, LinkClosed>> + Send;
}

/// One connection of the agent, used once. Dropping it loses only what acks will reveal.
pub trait Link: Send {
    /// Largest payload the broker takes, bytes.
    fn payload_bytes_max(&self) -> usize;
    /// The network interface it goes over, if known.
    fn interface(&self) -> Option<&str> {
        None
    }
    /// Hands a message over; refuses an oversize one before queueing. Gives its number for [`LinkEvent::Sent`].
    ///
    /// # Errors
    /// [`LinkClosed`].
    fn send(&mut self, topic: &str, payload: Vec<u8>)
    -> impl Future<Output = Result<u64, LinkClosed>> + Send;
    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// [`LinkClosed`] once it is over.
    fn event(&mut self) -> impl Future<Output = Result<LinkEvent, LinkClosed>> + Send;
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// What [`Inbox::settle`] needs; stale after a reconnect, then ignored.
    pub token: u64,
}

/// The collector's end.
pub trait Inbox: Send {
    /// The next message; reconnects by itself. Unsettled ones may come again. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Delivery> + Send;
    /// PUBACK: the message is staged, or refused and counted. Never waits for land.
    fn settle(&mut self, token: u64) -> impl Future<Output = ()> + Send;
    /// Sends to a device; best effort, at least once handed to the broker.
    fn send(&mut self, topic: &str, payload: Vec<u8>) -> impl Future<Output = ()> + Send;
}
