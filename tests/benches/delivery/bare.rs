//! The same bytes by a bare client: publish, QoS 1, a hundred in flight, and a subscriber that counts.

use super::child::{Task, Told};
use super::stage::{Stage, last_line};
use anyhow::{Context, Result};
use headwater_tests::proxy::{Conditions, Mode, Proxy};
use headwater_tests::world::{DEVICE, TENANT};
use std::path::Path;
use std::time::Duration;

/// Longest wait for the last message.
const LIMIT: Duration = Duration::from_secs(600);
/// Longest wait for the subscriber to listen.
const LISTEN_LIMIT: Duration = Duration::from_secs(30);

/// What the bare loop took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bare {
    pub(super) mb_per_s: f64,
    pub(super) publisher_s_per_gb: f64,
    pub(super) broker_s_per_gb: f64,
    pub(super) subscriber_s_per_gb: f64,
}

/// Runs the loop through a fresh broker, its publisher behind a link if one is given.
pub(super) fn run(
    home: &Path,
    tls: bool,
    bytes: usize,
    messages: u64,
    link: Option<Conditions>,
) -> Result<Bare> {
    let mut stage = Stage::new(home, tls)?;
    let topic = format!("hw/1/in/0/{TENANT}/{DEVICE}/1");
    let task = Task::Subscribe { door: stage.door("hq"), topic: topic.clone(), messages };
    let (mut subscriber, heard) = stage.child("subscriber", &task)?;
    stage.wait(LISTEN_LIMIT, "subscriber", |_| {
        subscriber.check()?;
        Ok(std::fs::read_to_string(&heard).is_ok_and(|text| text.contains("listening")))
    })?;
    let before = stage.cpu().broker;
    let mut door = stage.door("gateway");
    let proxy = link
        .map(|link| {
            let proxy = Proxy::start(&stage.world.broker, 0)?;
            proxy.set(Mode::Open(link));
            anyhow::Ok(proxy)
        })
        .transpose()?;
    if let Some(proxy) = &proxy {
        door.broker = proxy.address();
    }
    let task = Task::Publish { door, topic, messages, bytes };
    let (mut publisher, said) = stage.child("publisher", &task)?;
    let told = |line: String| {
        serde_json::from_str::<Told>(&line).with_context(|| format!("no figures but {line:?}"))
    };
    let sent = told(last_line(&mut publisher, &said, LIMIT)?)?;
    let came = told(last_line(&mut subscriber, &heard, LIMIT)?)?;
    let gb = messages as f64 * bytes as f64 / 1e9;
    let seconds = (came.last_ns.max(sent.last_ns) - sent.first_ns) as f64 / 1e9;
    Ok(Bare {
        mb_per_s: gb * 1e3 / seconds.max(1e-9),
        publisher_s_per_gb: sent.cpu_s / gb,
        broker_s_per_gb: (stage.cpu().broker - before) / gb,
        subscriber_s_per_gb: came.cpu_s / gb,
    })
}
