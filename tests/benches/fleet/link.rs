//! As little of an MQTT client as a device of the fleet needs: one connection, QoS 1, one topic to listen to.

use anyhow::{Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectReturnCode, Filter, Packet, PubAck, Publish, Subscribe, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// As large as the broker lets messages be.
const PACKET_BYTES_MAX: u32 = 262_144;
/// Long enough that a device which waits its turn is not thrown out; nothing is sent to keep the link.
const KEEPALIVE_S: u16 = 3_600;

/// A connection.
pub(super) struct Link {
    stream: TcpStream,
    read: BytesMut,
    write: BytesMut,
    next_id: u16,
    unacked: usize,
}

/// What came in.
pub(super) enum Heard {
    /// A message on the topic.
    Message(Bytes),
    /// The broker took one of ours.
    Taken,
}

impl Link {
    /// Connects and listens to `topic`.
    pub(super) async fn connect(broker: &str, name: &str, topic: &str) -> Result<Self> {
        let stream = TcpStream::connect(broker).await?;
        stream.set_nodelay(true)?;
        let mut link = Self { stream, read: BytesMut::new(), write: BytesMut::new(), next_id: 1, unacked: 0 };
        let connect = Connect {
            keep_alive: KEEPALIVE_S,
            client_id: name.to_owned(),
            clean_start: true,
            properties: None,
        };
        link.put(&Packet::Connect(connect, None, None)).await?;
        match link.packet().await? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => {}
            other => bail!("no connection: {other:?}"),
        }
        let mut subscribe = Subscribe::new(Filter::new(topic, QoS::AtLeastOnce), None);
        subscribe.pkid = link.id();
        link.put(&Packet::Subscribe(subscribe)).await?;
        match link.packet().await? {
            Packet::SubAck(ack) => {
                ensure!(
                    matches!(ack.return_codes.as_slice(), [SubscribeReasonCode::Success(_)]),
                    "not subscribed"
                );
            }
            other => bail!("no subscription: {other:?}"),
        }
        Ok(link)
    }

    /// Messages the broker did not take yet.
    pub(super) fn unacked(&self) -> usize {
        self.unacked
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, topic: &str, payload: Vec<u8>) -> Result<()> {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload, None);
        publish.pkid = self.id();
        self.unacked += 1;
        self.put(&Packet::Publish(publish)).await
    }

    /// The next thing of interest.
    pub(super) async fn hear(&mut self) -> Result<Heard> {
        loop {
            match self.packet().await? {
                Packet::Publish(publish) => {
                    self.put(&Packet::PubAck(PubAck::new(publish.pkid, None))).await?;
                    return Ok(Heard::Message(publish.payload));
                }
                Packet::PubAck(_) => {
                    self.unacked = self.unacked.saturating_sub(1);
                    return Ok(Heard::Taken);
                }
                Packet::Disconnect(why) => bail!("disconnected: {:?}", why.reason_code),
                _ => {}
            }
        }
    }

    fn id(&mut self) -> u16 {
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        id
    }

    async fn put(&mut self, packet: &Packet) -> Result<()> {
        packet.write(&mut self.write, None).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        self.stream.write_all(&self.write).await?;
        self.write.clear();
        Ok(())
    }

    /// Cancel-safe: what was read stays.
    async fn packet(&mut self) -> Result<Packet> {
        loop {
            match Packet::read(&mut self.read, Some(PACKET_BYTES_MAX)) {
                Ok(packet) => return Ok(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => bail!("{error:?}"),
            }
            ensure!(self.stream.read_buf(&mut self.read).await? > 0, "the broker closed the link");
        }
    }
}
