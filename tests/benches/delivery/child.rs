//! Processes of the measurement beside the product's own: a bare publisher, a bare subscriber, and a sensor that
//! notes when it said what. Each says what it did as a line of JSON.

use super::client::Door;
use crate::cpu::cpu_time;
use anyhow::{Context, Result, bail};
use headwater_tests::ticks::{Pace, now, unix_nanos};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, Incoming};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The word that makes this binary one of these processes.
pub(super) const WORD: &str = "--delivery-child";
/// Publishes without their PUBACK, as mosquitto is set.
const INFLIGHT: u16 = 100;
/// Longest wait for the next message: beyond it the broker has lost some.
const STALL: Duration = Duration::from_secs(30);
/// Rows a second of the live sensor.
pub(super) const LIVE_HZ: u32 = 20;

/// What a process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Task {
    /// Publishes so many messages of so many bytes, QoS 1, as fast as the broker takes them.
    Publish { door: Door, topic: String, messages: u64, bytes: usize },
    /// Counts so many messages.
    Subscribe { door: Door, topic: String, messages: u64 },
    /// Prints numbers, and notes the time of each in a file, until that file's neighbour `.stop` exists.
    Live { noted: PathBuf },
}

/// What a bare client says at its end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Told {
    /// When the first message was handed over or came, ns since 1970.
    pub(super) first_ns: i64,
    /// When the last PUBACK or message came.
    pub(super) last_ns: i64,
    /// CPU of all that, s.
    pub(super) cpu_s: f64,
}

/// Does a child's work if the command line asks for it.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != WORD {
        return None;
    }
    let told = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if let Err(error) = told {
        eprintln!("measuring child will not notice the end of its run: {error}");
    }
    Some(match args.next().context("no task").and_then(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

fn work(task: OsString) -> Result<()> {
    let task = task.into_string().ok().context("the task is no text")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match serde_json::from_str(&task).context("the task is not understood")? {
        Task::Publish { door, topic, messages, bytes } => {
            runtime.block_on(publish(&door, &topic, messages, bytes)).and_then(|told| say(&told))
        }
        Task::Subscribe { door, topic, messages } => {
            runtime.block_on(subscribe(&door, &topic, messages)).and_then(|told| say(&told))
        }
        Task::Live { noted } => live(&noted),
    }
}

fn say(told: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(told)?)?;
    Ok(out.flush()?)
}

async fn publish(door: &Door, topic: &str, messages: u64, bytes: usize) -> Result<Told> {
    let mut options = door.options("bare-publisher")?;
    options.set_outgoing_inflight_upper_limit(INFLIGHT);
    let (client, mut events) = AsyncClient::new(options, INFLIGHT.into());
    while !matches!(events.poll().await?, Event::Incoming(Incoming::ConnAck(_))) {}
    let (first_ns, cpu) = (unix_nanos(), cpu_time()?);
    let mut state = 1_u64;
    let payload: bytes::Bytes = (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect::<Vec<_>>()
        .into();
    let send = async {
        for _ in 0..messages {
            client.publish(topic, QoS::AtLeastOnce, false, payload.clone()).await?;
        }
        anyhow::Ok(())
    };
    let poll = async {
        let mut settled = 0;
        while settled < messages {
            let event = tokio::time::timeout(STALL, events.poll()).await.context("no PUBACK")??;
            if let Event::Incoming(Incoming::PubAck(_)) = event {
                settled += 1;
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(send, poll)?;
    Ok(Told { first_ns, last_ns: unix_nanos(), cpu_s: (cpu_time()? - cpu).as_secs_f64() })
}

async fn subscribe(door: &Door, topic: &str, messages: u64) -> Result<Told> {
    let (client, mut events) = AsyncClient::new(door.options("bare-subscriber")?, INFLIGHT.into());
    client.subscribe(topic, QoS::AtLeastOnce).await?;
    while !matches!(events.poll().await?, Event::Incoming(Incoming::SubAck(_))) {}
    say(&"listening")?;
    let (mut first_ns, mut count, cpu) = (None, 0, cpu_time()?);
    while count < messages {
        let event = match first_ns {
            None => events.poll().await?,
            Some(_) => match tokio::time::timeout(STALL, events.poll()).await {
                Ok(event) => event?,
                Err(_) => bail!("{count} of {messages} messages came"),
            },
        };
        if let Event::Incoming(Incoming::Publish(_)) = event {
            first_ns.get_or_insert_with(unix_nanos);
            count += 1;
        }
    }
    Ok(Told {
        first_ns: first_ns.unwrap_or_default(),
        last_ns: unix_nanos(),
        cpu_s: (cpu_time()? - cpu).as_secs_f64(),
    })
}

fn live(noted: &Path) -> Result<()> {
    let mut notes = std::fs::File::create(noted)?;
    let stop = noted.with_extension("stop");
    let mut out = std::io::stdout().lock();
    let mut pace = Pace::new(Duration::from_secs(1) / LIVE_HZ);
    for n in 0_u64.. {
        pace.tick();
        if stop.exists() {
            break;
        }
        // Noted first: what is captured has its time.
        writeln!(notes, "{}", unix_nanos())?;
        writeln!(out, "{n}")?;
        out.flush()?;
    }
    // A source that ends is told to the operator; until it is stopped it is only quiet.
    let quiet = now() + Duration::from_secs(600);
    while now() < quiet {
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
