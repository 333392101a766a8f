//! The few packets we speak, in both versions, written and read by rumqttc's codec.
//!
//! Reason codes are read here: the codec refuses codes it does not know and DISCONNECT in its short form,
//! and a broker's last words are worth more than that.

use crate::connection::Opening;
use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::mqttbytes::{Error as V4Error, PacketType, QoS as V4QoS, check};
use rumqttc::v5::mqttbytes::v5;
use rumqttc::v5::mqttbytes::{Error as V5Error, QoS as V5QoS};
use std::fmt;

/// Largest packet we take, bytes; our acks are far below.
pub(crate) const PACKET_BYTES_IN_MAX: u32 = 256 * 1024;
/// Largest packet MQTT has; the real limit is checked before hand-over.
const PACKET_BYTES_OUT_MAX: usize = 268_435_455;

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1.
    V311,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V5 => "5",
            Self::V311 => "3.1.1",
        })
    }
}

/// What a broker publishes for us when we are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// The broker keeps it for who subscribes later.
    pub retain: bool,
}

/// What CONNACK says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet, bytes.
    pub packet_bytes_max: Option<u32>,
    /// Most messages un-PUBACKed.
    pub receive_max: Option<u16>,
    /// Highest quality of service; 1 if not said.
    pub qos_max: Option<u8>,
    /// Retained messages are kept.
    pub retain: bool,
    /// Keepalive that holds instead of ours, s.
    pub keepalive_s: Option<u16>,
}

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    Accepted(Limits),
    Refused(u8),
    /// One code for each filter asked for, in order; 0x80 and above is a refusal.
    SubAck {
        id: u16,
        codes: Vec<u8>,
    },
    UnsubAck {
        id: u16,
    },
    PubAck {
        id: u16,
        code: u8,
    },
    /// `id` is 0 at quality of service 0.
    Publish {
        id: u16,
        topic: String,
        payload: Bytes,
    },
    Disconnect {
        code: u8,
        words: String,
    },
    Pong,
    /// Nothing we act on.
    Other,
}

/// Bytes that are no MQTT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the broker speaks no MQTT we can read: {0}")]
pub(crate) struct Malformed(String);

impl Malformed {
    fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Writes and reads one version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codec(pub(crate) Version);

impl Codec {
    fn write(
        self,
        out: &mut BytesMut,
        v5: impl FnOnce() -> v5::Packet,
        v4: impl FnOnce() -> v4::Packet,
    ) -> Result<(), Malformed> {
        match self.0 {
            Version::V5 => v5().write(out, None).map(drop).map_err(Malformed::new),
            Version::V311 => v4().write(out, PACKET_BYTES_OUT_MAX).map(drop).map_err(Malformed::new),
        }
    }

    /// CONNECT.
    pub(crate) fn connect(self, out: &mut BytesMut, opening: &Opening) -> Result<(), Malformed> {
        let Opening { client_id, keepalive_s, will, lasting, .. } = opening;
        let (keepalive_s, will) = (*keepalive_s, will.clone());
        match self.0 {
            Version::V5 => {
                let mut properties = v5::ConnectProperties::new();
                properties.max_packet_size = Some(PACKET_BYTES_IN_MAX);
                if let Some(lasting) = lasting {
                    properties.session_expiry_interval = Some(lasting.expiry_s);
                    properties.receive_maximum = Some(lasting.receive_max);
                }
                let connect = v5::Connect {
                    keep_alive: keepalive_s,
                    client_id: client_id.clone(),
                    clean_start: opening.starts_clean(),
                    properties: Some(properties),
                };
                let will = will.map(|will| {
                    v5::LastWill::new(will.topic, will.payload, V5QoS::AtLeastOnce, will.retain, None)
                });
                let packet = v5::Packet::Connect(connect, will, None);
                packet.write(out, None).map(drop).map_err(Malformed::new)
            }
            Version::V311 => {
                let mut connect = v4::Connect::new(client_id);
                connect.keep_alive = keepalive_s;
                connect.clean_session = opening.starts_clean();
                connect.last_will = will
                    .map(|will| v4::LastWill::new(will.topic, will.payload, V4QoS::AtLeastOnce, will.retain));
                let packet = v4::Packet::Connect(connect);
                packet.write(out, PACKET_BYTES_OUT_MAX).map(drop).map_err(Malformed::new)
            }
        }
    }

    pub(crate) fn subscribe(self, out: &mut BytesMut, id: u16, filters: &[String]) -> Result<(), Malformed> {
        let v5 = || {
            let filters =
                filters.iter().map(|path| v5::Filter::new(path.clone(), V5QoS::AtLeastOnce)).collect();
            v5::Packet::Subscribe(v5::Subscribe { pkid: id, filters, properties: None })
        };
        let v4 = || {
            let filters =
                filters.iter().map(|path| v4::SubscribeFilter::new(path.clone(), V4QoS::AtLeastOnce));
            let mut subscribe = v4::Subscribe::new_many(filters);
            subscribe.pkid = id;
            v4::Packet::Subscribe(subscribe)
        };
        self.write(out, v5, v4)
    }

    pub(crate) fn unsubscribe(
        self,
        out: &mut BytesMut,
        id: u16,
        filters: &[String],
    ) -> Result<(), Malformed> {
        let v5 = || {
            v5::Packet::Unsubscribe(v5::Unsubscribe { pkid: id, filters: filters.to_vec(), properties: None })
        };
        let v4 = || v4::Packet::Unsubscribe(v4::Unsubscribe { pkid: id, topics: filters.to_vec() });
        self.write(out, v5, v4)
    }

    /// PUBLISH at quality of service 1, or 0 without an id.
    pub(crate) fn publish(
        self,
        out: &mut BytesMut,
        id: Option<u16>,
        topic: &str,
        payload: Vec<u8>,
        retain: bool,
    ) -> Result<(), Malformed> {
        let pkid = id.unwrap_or(0);
        let payload = Bytes::from(payload);
        let (for_v5, for_v4) = (payload.clone(), payload);
        let v5 = || {
            let qos = if id.is_some() { V5QoS::AtLeastOnce } else { V5QoS::AtMostOnce };
            let mut publish = v5::Publish::new(topic, qos, for_v5, None);
            (publish.pkid, publish.retain) = (pkid, retain);
            v5::Packet::Publish(publish)
        };
        let v4 = || {
            let qos = if id.is_some() { V4QoS::AtLeastOnce } else { V4QoS::AtMostOnce };
            let mut publish = v4::Publish::from_bytes(topic, qos, for_v4);
            (publish.pkid, publish.retain) = (pkid, retain);
            v4::Packet::Publish(publish)
        };
        self.write(out, v5, v4)
    }

    pub(crate) fn puback(self, out: &mut BytesMut, id: u16) -> Result<(), Malformed> {
        let v5 = || v5::Packet::PubAck(v5::PubAck::new(id, None));
        self.write(out, v5, || v4::Packet::PubAck(v4::PubAck::new(id)))
    }

    pub(crate) fn ping(self, out: &mut BytesMut) -> Result<(), Malformed> {
        self.write(out, || v5::Packet::PingReq(v5::PingReq), || v4::Packet::PingReq)
    }

    pub(crate) fn disconnect(self, out: &mut BytesMut) -> Result<(), Malformed> {
        let normal = v5::DisconnectReasonCode::NormalDisconnection;
        let v5 = || v5::Packet::Disconnect(v5::Disconnect::new(normal));
        self.write(out, v5, || v4::Packet::Disconnect)
    }

    /// Takes the next whole packet off `bytes`; `None` if there is none yet.
    pub(crate) fn read(self, bytes: &mut BytesMut) -> Result<Option<Incoming>, Malformed> {
        let limit = usize::try_from(PACKET_BYTES_IN_MAX).unwrap_or(usize::MAX);
        let header = match check(bytes.iter(), limit) {
            Ok(header) => header,
            Err(V4Error::InsufficientBytes(_)) => return Ok(None),
            Err(error) => return Err(Malformed::new(error)),
        };
        let mut packet = bytes.split_to(header.frame_length());
        let kind = header.packet_type().map_err(Malformed::new)?;
        // The fixed header ends with the first byte of its length that has no high bit.
        let body = packet
            .iter()
            .skip(1)
            .position(|byte| byte & 0x80 == 0)
            .map_or(packet.len(), |at| at.saturating_add(2));
        let byte = |at: usize| packet.get(body.saturating_add(at)).copied();
        let short = || Malformed::new("a packet is too short");
        let id = || Ok(u16::from_be_bytes([byte(0).ok_or_else(short)?, byte(1).ok_or_else(short)?]));
        match kind {
            PacketType::PingResp => Ok(Some(Incoming::Pong)),
            PacketType::ConnAck => match byte(1).ok_or_else(short)? {
                0 => self.accepted(&mut packet).map(Some),
                code => Ok(Some(Incoming::Refused(code))),
            },
            PacketType::SubAck => {
                let after_id = packet.get(body.saturating_add(2)..).ok_or_else(short)?;
                let codes = self.codes(after_id).ok_or_else(short)?.to_vec();
                Ok(Some(Incoming::SubAck { id: id()?, codes }))
            }
            PacketType::UnsubAck => Ok(Some(Incoming::UnsubAck { id: id()? })),
            PacketType::PubAck => Ok(Some(Incoming::PubAck { id: id()?, code: byte(2).unwrap_or(0) })),
            PacketType::Disconnect => {
                let code = byte(0).unwrap_or(0);
                Ok(Some(Incoming::Disconnect { code, words: self.last_words(&mut packet) }))
            }
            PacketType::Publish => self.published(&mut packet).map(Some),
            _ => Ok(Some(Incoming::Other)),
        }
    }

    /// The codes of a SUBACK: in MQTT 5 its properties, led by their length, come first.
    fn codes(self, after_id: &[u8]) -> Option<&[u8]> {
        if self.0 == Version::V311 {
            return Some(after_id);
        }
        let mut properties = 0_usize;
        for (at, byte) in after_id.iter().take(4).enumerate() {
            properties |= usize::from(byte & 0x7f) << at.saturating_mul(7);
            if byte & 0x80 == 0 {
                return after_id.get(at.saturating_add(1).saturating_add(properties)..);
            }
        }
        None
    }

    fn accepted(self, packet: &mut BytesMut) -> Result<Incoming, Malformed> {
        let none = Limits { retain: true, ..Limits::default() };
        if self.0 == Version::V311 {
            return Ok(Incoming::Accepted(none));
        }
        let v5::Packet::ConnAck(connack) = v5::Packet::read(packet, None).map_err(Malformed::new)? else {
            return Err(Malformed::new("CONNACK expected"));
        };
        Ok(Incoming::Accepted(connack.properties.map_or(none, |said| Limits {
            packet_bytes_max: said.max_packet_size,
            receive_max: said.receive_max,
            qos_max: said.max_qos,
            retain: said.retain_available != Some(0),
            keepalive_s: said.server_keep_alive,
        })))
    }

    fn published(self, packet: &mut BytesMut) -> Result<Incoming, Malformed> {
        match self.0 {
            Version::V5 => match v5::Packet::read(packet, None) {
                Ok(v5::Packet::Publish(publish)) => Ok(Incoming::Publish {
                    id: publish.pkid,
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload,
                }),
                Ok(_) => Err(Malformed::new("PUBLISH expected")),
                Err(error) => Err(Malformed::new(error)),
            },
            Version::V311 => match v4::Packet::read(packet, PACKET_BYTES_OUT_MAX) {
                Ok(v4::Packet::Publish(publish)) => {
                    Ok(Incoming::Publish { id: publish.pkid, topic: publish.topic, payload: publish.payload })
                }
                Ok(_) => Err(Malformed::new("PUBLISH expected")),
                Err(error) => Err(Malformed::new(error)),
            },
        }
    }

    /// The reason string of a DISCONNECT, if it can be read.
    fn last_words(self, packet: &mut BytesMut) -> String {
        let read: Result<_, V5Error> = v5::Packet::read(packet, None);
        match read {
            Ok(v5::Packet::Disconnect(disconnect)) if self.0 == Version::V5 => {
                disconnect.properties.and_then(|said| said.reason_string).unwrap_or_default()
            }
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(version: Version, bytes: &[u8]) -> Result<Option<Incoming>, Malformed> {
        Codec(version).read(&mut BytesMut::from(bytes))
    }

    #[test]
    fn last_words_are_read_in_every_form() {
        for (bytes, code, words) in [
            (&[0xe0, 0][..], 0, ""),
            (&[0xe0, 1, 0x8e], 0x8e, ""),
            (&[0xe0, 2, 0x97, 0], 0x97, ""),
            (&[0xe0, 7, 0x8b, 5, 31, 0, 2, b'h', b'i'], 0x8b, "hi"),
            // A code the codec does not know.
            (&[0xe0, 1, 0xfe], 0xfe, ""),
        ] {
            let expected = Incoming::Disconnect { code, words: words.into() };
            assert_eq!(read(Version::V5, bytes), Ok(Some(expected)));
        }
    }

    #[test]
    fn codes_of_other_packets_are_read_as_they_are() {
        // 3.1.1's answer to a CONNECT of 5, and 5's own.
        assert_eq!(read(Version::V5, &[0x20, 2, 0, 1]), Ok(Some(Incoming::Refused(1))));
        assert_eq!(read(Version::V5, &[0x20, 3, 0, 0x84, 0]), Ok(Some(Incoming::Refused(0x84))));
        for (bytes, code) in
            [(&[0x40, 2, 0, 9][..], 0), (&[0x40, 3, 0, 9, 0x97], 0x97), (&[0x40, 4, 0, 9, 0x95, 0], 0x95)]
        {
            assert_eq!(read(Version::V5, bytes), Ok(Some(Incoming::PubAck { id: 9, code })));
        }
        let refused = Incoming::SubAck { id: 1, codes: vec![1, 0x80] };
        assert_eq!(read(Version::V311, &[0x90, 4, 0, 1, 1, 0x80]), Ok(Some(refused.clone())));
        assert_eq!(read(Version::V5, &[0x90, 5, 0, 1, 0, 1, 0x80]), Ok(Some(refused.clone())));
        // With a reason string of two bytes.
        assert_eq!(read(Version::V5, &[0x90, 10, 0, 1, 5, 31, 0, 2, b'h', b'i', 1, 0x80]), Ok(Some(refused)));
        assert!(read(Version::V5, &[0x90, 3, 0, 1, 5]).is_err(), "properties beyond its end");
        assert!(read(Version::V5, &[0x90, 2, 0, 1]).is_err());
        assert_eq!(read(Version::V5, &[0xb0, 4, 0, 1, 0, 0]), Ok(Some(Incoming::UnsubAck { id: 1 })));
        assert_eq!(read(Version::V311, &[0xb0, 2, 0, 1]), Ok(Some(Incoming::UnsubAck { id: 1 })));
    }

    #[test]
    fn a_packet_above_our_limit_is_refused_by_its_header() {
        assert!(read(Version::V5, &[0x30, 0xff, 0xff, 0x7f]).is_err());
        assert!(read(Version::V311, &[0x30, 0xff, 0xff, 0x7f]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_broker_bring_us_down(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for version in [Version::V5, Version::V311] {
                let mut stream = BytesMut::from(&bytes[..]);
                while let Ok(Some(_)) = Codec(version).read(&mut stream) {}
            }
        }

        #[test]
        fn what_we_publish_is_read_back(payload in proptest::collection::vec(any::<u8>(), 0..300), id in 1_u16..) {
            for version in [Version::V5, Version::V311] {
                let mut stream = BytesMut::new();
                Codec(version).publish(&mut stream, Some(id), "a/b", payload.clone(), false).unwrap();
                let expected =
                    Incoming::Publish { id, topic: "a/b".into(), payload: payload.clone().into() };
                prop_assert_eq!(Codec(version).read(&mut stream), Ok(Some(expected)));
                prop_assert!(stream.is_empty());
            }
        }
    }
}
