//! Goes the whole way to a broker once, without sending anything, and tells how far it came.
//!
//! It says it is another client (`….check`), so that a running agent keeps its connection: the same name would
//! take its session over. It leaves no will and says goodbye.

use super::dial::{Hop, HopError, Journey, Stream, dial, end_of_stream};
use super::{BrokerUrl, CONNECT_TIMEOUT_MS, MqttSettings, client_id};
use bytes::BytesMut;
use headwater_core::id::DevicePath;
use headwater_core::ports::{Cause, Clock, LinkClosed};
use headwater_core::wire::Topic;
use headwater_mqtt::{Connection, Event, Limits, Opening, Settle, Version, Versions};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One hop of a [`Probe`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeStep {
    /// Which.
    pub hop: Hop,
    /// It was passed.
    pub ok: bool,
    /// What was found, or why it failed and what to do.
    pub found: String,
}

/// How far we came to one broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Its address.
    pub broker: String,
    /// All hops were passed.
    pub ok: bool,
    /// Hops in order; the last may have failed.
    pub steps: Vec<ProbeStep>,
}

/// Goes to `broker` as `device` would, in at most 30 s for each version of MQTT.
pub async fn probe<C: Clock>(
    settings: &MqttSettings,
    broker: &BrokerUrl,
    device: &DevicePath,
    clock: &C,
) -> Probe {
    let versions: &[Version] = match settings.versions {
        Versions::Auto => &[Version::V5, Version::V311],
        Versions::Only(Version::V5) => &[Version::V5],
        Versions::Only(Version::V311) => &[Version::V311],
    };
    let mut told = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        let mut journey = Journey::default();
        let failed = one(settings, broker, device, *version, clock, &mut journey).await.err();
        told = steps(journey, failed.as_ref());
        let another = at.saturating_add(1) < versions.len();
        let speaks_another = failed.is_some_and(|error| {
            error.hop == Hop::Mqtt && matches!(error.cause, Cause::ProtocolRefused | Cause::BrokerAway)
        });
        if !(another && speaks_another) {
            break;
        }
    }
    Probe { broker: broker.to_string(), ok: told.iter().all(|step| step.ok), steps: told }
}

fn steps(journey: Journey, failed: Option<&HopError>) -> Vec<ProbeStep> {
    let passed = journey.passed.into_iter().map(|(hop, found)| ProbeStep { hop, ok: true, found });
    let failed = failed.map(|error| ProbeStep { hop: error.hop, ok: false, found: error.reason.clone() });
    passed.chain(failed).collect()
}

async fn one<C: Clock>(
    settings: &MqttSettings,
    broker: &BrokerUrl,
    device: &DevicePath,
    version: Version,
    clock: &C,
    journey: &mut Journey,
) -> Result<(), HopError> {
    let until = clock.boot().plus_ms(CONNECT_TIMEOUT_MS);
    let went = tokio::select! {
        went = whole_way(settings, broker, device, version, clock, journey) => Some(went),
        () = clock.sleep_until(until) => None,
    };
    went.unwrap_or_else(|| {
        let reason = format!(
            "no answer within {} s; a firewall may drop this: try mqtts on 443, wss or a proxy",
            CONNECT_TIMEOUT_MS / 1_000
        );
        Err(HopError { hop: journey.at, reason, cause: Cause::Transient })
    })
}

async fn whole_way<C: Clock>(
    settings: &MqttSettings,
    broker: &BrokerUrl,
    device: &DevicePath,
    version: Version,
    clock: &C,
    journey: &mut Journey,
) -> Result<(), HopError> {
    let mut stream = dial(&settings.route(broker), clock, journey).await?;
    journey.begin(Hop::Mqtt);
    let ack_topic = Topic::Ack(device.clone()).to_string();
    let opening = Opening {
        version,
        client_id: format!("{}.check", client_id(device)),
        keepalive_s: settings.keepalive_s,
        will: None,
        lasting: None,
        filters: [ack_topic.clone()].into(),
        settle: Settle::AtOnce,
        inflight_max: 1,
    };
    let failed = |hop, closed: LinkClosed| HopError { hop, reason: closed.reason, cause: closed.cause };
    let mut connection =
        Connection::open(opening, clock.boot()).map_err(|closed| failed(Hop::Mqtt, closed))?;
    let mut incoming = BytesMut::new();
    loop {
        let moved = exchange(&mut stream, &mut connection, &mut incoming, clock).await;
        while let Some(event) = connection.take_event() {
            match event {
                Event::Accepted(limits) => {
                    journey.pass(format!("version {version}{}", told(&limits)));
                    journey.begin(Hop::Subscribe);
                }
                Event::Subscribed => {
                    journey.pass(ack_topic);
                    return goodbye(&mut stream, &mut connection)
                        .await
                        .map_err(|closed| failed(Hop::Subscribe, closed));
                }
                Event::Refused | Event::NotSubscribed(..) | Event::Delivered { .. } | Event::Link(_) => {}
            }
        }
        moved.map_err(|closed| failed(journey.at, closed))?;
    }
}

/// Writes what is due and reads a piece.
async fn exchange<C: Clock>(
    stream: &mut Box<dyn Stream>,
    connection: &mut Connection,
    incoming: &mut BytesMut,
    clock: &C,
) -> Result<(), LinkClosed> {
    let ended = |connection: &Connection, error: std::io::Error| {
        end_of_stream(&error).unwrap_or_else(|| connection.ended(&error.to_string()))
    };
    if let Some(out) = connection.take_out() {
        stream.write_all(&out).await.map_err(|error| ended(connection, error))?;
        stream.flush().await.map_err(|error| ended(connection, error))?;
    }
    match stream.read_buf(incoming).await {
        Ok(0) => Err(connection.ended("the broker closed the connection")),
        Ok(_) => connection.received(clock.boot(), incoming),
        Err(error) => Err(ended(connection, error)),
    }
}

/// All is known by now, so a broken goodbye is no failure.
async fn goodbye(stream: &mut Box<dyn Stream>, connection: &mut Connection) -> Result<(), LinkClosed> {
    connection.leave()?;
    if let Some(out) = connection.take_out() {
        drop(stream.write_all(&out).await);
        drop(stream.flush().await);
    }
    Ok(())
}

/// What CONNACK limits, for people.
fn told(limits: &Limits) -> String {
    let mut told = String::new();
    let mut say = |words: String| told.push_str(&format!(", {words}"));
    if let Some(bytes) = limits.packet_bytes_max {
        say(format!("packets to {bytes} bytes"));
    }
    if let Some(n) = limits.receive_max {
        say(format!("{n} messages under way"));
    }
    if let Some(qos) = limits.qos_max {
        say(format!("quality of service to {qos}"));
    }
    if !limits.retain {
        say("nothing retained".to_owned());
    }
    if let Some(seconds) = limits.keepalive_s {
        say(format!("keepalive {seconds} s"));
    }
    told
}
