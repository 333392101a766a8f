//! The network as both ends see it: a pipe that may lose, repeat and reorder.

use std::fmt;
use std::future::Future;

/// Messages under way on a link that says no other number: four below the 32 packet ids that keep a client small.
pub const SPAN_MAX: u64 = 28;

/// What happens on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// The broker took the n-th message handed over on this link (0-based). Frees flight bytes, means nothing more.
    Sent(u64),
    /// The broker refused the n-th message. It is not delivered; it frees its place on the link.
    Refused {
        /// Its number.
        number: u64,
        /// Why.
        why: RefusedFor,
    },
    /// A message arrived.
    Received {
        /// Topic.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
    },
}

/// Why a broker refused one message (reason codes of PUBACK, MQTT 5 section 3.4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusedFor {
    /// 0x97: a quota of the broker is used up.
    Quota,
    /// 0x95: above the broker's limit. No code of PUBACK in the standard, but brokers give it.
    TooLarge,
    /// 0x87: the broker's rules do not let us publish there.
    NotAuthorized,
    /// 0x90: the broker takes no such topic.
    Topic,
    /// 0x99: the broker takes no such payload.
    Payload,
    /// Any other code.
    Other(u8),
}

impl RefusedFor {
    /// `None` if the code says that the broker took the message. 0x10 (nobody listens just now) is such a
    /// code: the message is lost there, and sent again for want of an ack.
    #[must_use]
    pub fn of_puback(code: u8) -> Option<Self> {
        match code {
            0x00..0x80 => None,
            0x87 => Some(Self::NotAuthorized),
            0x90 => Some(Self::Topic),
            0x95 => Some(Self::TooLarge),
            0x97 => Some(Self::Quota),
            0x99 => Some(Self::Payload),
            other => Some(Self::Other(other)),
        }
    }
}

impl fmt::Display for RefusedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quota => f.write_str("its quota is used up (0x97)"),
            Self::TooLarge => f.write_str("it is too large (0x95)"),
            Self::NotAuthorized => {
                f.write_str("we may not publish there (0x87); see the broker's access rules")
            }
            Self::Topic => f.write_str("it takes no such topic (0x90)"),
            Self::Payload => f.write_str("it takes no such payload (0x99)"),
            Self::Other(code) => write!(f, "reason 0x{code:02x}"),
        }
    }
}

/// Why a connection is over, as far as it decides what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The network, or nothing known: another try may help soon.
    Transient,
    /// The broker itself is away or went, so its whole fleet will come back together.
    BrokerAway,
    /// The broker is overloaded, or a quota or rate of ours is used up.
    Busy,
    /// The broker sends us to another one.
    UseAnother,
    /// Wrong credentials, or no right to what we need. Only a person mends it.
    NotAuthorized,
    /// Another client has our identity.
    TakenOver,
    /// The broker does not speak this version of MQTT.
    ProtocolRefused,
    /// It went while a message larger than any it took was under way.
    ClosedOnPublish,
    /// A message was above its limit.
    TooLarge,
    /// No trust between us: a certificate, a name or a date does not hold.
    Untrusted,
}

impl Cause {
    /// Its name, for status and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::BrokerAway => "broker_away",
            Self::Busy => "busy",
            Self::UseAnother => "use_another",
            Self::NotAuthorized => "not_authorized",
            Self::TakenOver => "taken_over",
            Self::ProtocolRefused => "protocol_refused",
            Self::ClosedOnPublish => "closed_on_publish",
            Self::TooLarge => "too_large",
            Self::Untrusted => "untrusted",
        }
    }
}

/// A connection that is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("link closed: {reason}")]
pub struct LinkClosed {
    /// Why, for a person.
    pub reason: String,
    /// What to make of it.
    pub cause: Cause,
}

impl LinkClosed {
    /// The network, or nothing known.
    #[must_use]
    pub fn transient(reason: impl Into<String>) -> Self {
        Self::because(Cause::Transient, reason)
    }

    /// For a cause.
    #[must_use]
    pub fn because(cause: Cause, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), cause }
    }
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
    /// The link made last is over, and why: the next may go to another broker, or take smaller messages.
    fn ended(&mut self, _closed: &LinkClosed) {}
    /// This uplink takes the place of `before`, with other certificates: what that one learned of brokers is as true.
    fn succeed(&mut self, _before: &Self) {}
    /// Brokers that may be tried instead of the one that failed.
    fn alternatives(&self) -> usize {
        0
    }
}

/// One connection of the agent, used once. Dropping it loses only what acks will reveal.
pub trait Link: Send {
    /// Largest payload the broker takes, bytes.
    fn payload_bytes_max(&self) -> usize;
    /// The network interface it goes over, if known.
    fn interface(&self) -> Option<&str> {
        None
    }
    /// Most messages between the oldest that was neither sent nor refused and the newest.
    fn span_max(&self) -> u64 {
        SPAN_MAX
    }
    /// The broker on the other side, for people.
    fn peer(&self) -> String {
        String::new()
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
