//! One webhook: told of each event at least once and in the order of each ref's log.

use super::cursor::{CursorFile, Cursors};
use super::{kind_of, to_json};
use crate::outbound::{Endpoint, Post, Poster, Secret};
use headwater_core::ports::{Clock, Disk};
use headwater_core::time::NS_PER_S;
use headwater_lake::{Event, Lake, LakeError, RefName};
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;

/// Longest one delivery may take, ms.
pub const DELIVERY_MS_MAX: u64 = 10_000;
/// Between two looks at the logs, ms.
const POLL_MS: u64 = 1_000;
/// First wait after a failed delivery, ms; twice as long each time.
const BACKOFF_MS_MIN: u64 = 1_000;
/// Longest such wait: an endpoint that comes back is told within minutes.
const BACKOFF_MS_MAX: u64 = 300_000;
/// Longest answer that is read; nothing in it counts.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Whom to tell of what.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// Names its cursor and its metrics.
    pub name: String,
    /// Where.
    pub url: Endpoint,
    /// Signs each delivery.
    pub secret: Option<Secret>,
    /// Kinds of commits; none means all.
    pub kinds: Vec<String>,
    /// Refs, or beginnings of their names with `*` at the end.
    pub refs: Vec<String>,
    /// How it is reached.
    pub poster: Poster,
}

/// A webhook at work.
#[derive(Debug)]
pub struct Webhook<D, C> {
    settings: WebhookSettings,
    lake: Lake,
    file: CursorFile<D>,
    clock: C,
}

/// Why a round of deliveries ended early.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error("read the lake")]
    Lake(#[from] LakeError),
    #[error("read or store its cursor")]
    Cursor(#[from] std::io::Error),
    #[error("{0}")]
    Endpoint(String),
}

impl<D: Disk, C: Clock> Webhook<D, C> {
    /// A webhook told of what happens in `lake`, with its cursor in `file`.
    #[must_use]
    pub fn new(settings: WebhookSettings, lake: Lake, file: CursorFile<D>, clock: C) -> Self {
        Self { settings, lake, file, clock }
    }

    /// Delivers until cancelled. What is not delivered by then is delivered by the next life.
    pub async fn run(self, cancel: CancellationToken) {
        let mut wait_ms = BACKOFF_MS_MIN;
        loop {
            let round = tokio::select! {
                () = cancel.cancelled() => return,
                round = self.round() => round,
            };
            let pause_ms = match round {
                Ok(()) => {
                    wait_ms = BACKOFF_MS_MIN;
                    POLL_MS
                }
                Err(error) => {
                    let name = self.settings.name.clone();
                    metrics::counter!("headwater_event_failed_total", "webhook" => name).increment(1);
                    let cause =
                        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(webhook = self.settings.name, %error, cause, wait_ms, "events wait for their webhook");
                    let pause = wait_ms;
                    wait_ms = wait_ms.saturating_mul(2).min(BACKOFF_MS_MAX);
                    pause
                }
            };
            let until = self.clock.boot().plus_ms(pause_ms);
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.clock.sleep_until(until) => {}
            }
        }
    }

    /// Delivers all there is by now.
    async fn round(&self) -> Result<(), Undelivered> {
        let mut cursors = match self.file.load()? {
            Some(cursors) => cursors,
            None => self.begin().await?,
        };
        let mut behind = 0_u64;
        for name in self.names(&cursors).await? {
            let after = cursors.refs.get(&name).copied().unwrap_or(0);
            if let Some(head) = self.lake.head(&name).await? {
                behind = behind.saturating_add(head.seq.saturating_sub(after));
            }
        }
        let label = self.settings.name.clone();
        metrics::gauge!("headwater_event_behind", "webhook" => label.clone()).set(behind as f64);
        for name in self.names(&cursors).await? {
            loop {
                let after = cursors.refs.get(&name).copied().unwrap_or(0);
                let events = match self.lake.events(&name, after).await {
                    Err(LakeError::LogPruned { oldest, .. }) => {
                        let lost = oldest.saturating_sub(after);
                        metrics::counter!("headwater_event_pruned_total", "webhook" => label.clone())
                            .increment(lost);
                        tracing::error!(webhook = label, %name, lost, "entries were pruned before the webhook took them");
                        cursors.refs.insert(name.clone(), oldest);
                        self.file.store(&cursors)?;
                        continue;
                    }
                    events => events?,
                };
                if events.is_empty() {
                    break;
                }
                for event in events {
                    if self.wants(&event) {
                        self.deliver(&event).await?;
                        metrics::counter!("headwater_event_delivered_total", "webhook" => label.clone())
                            .increment(1);
                    }
                    cursors.refs.insert(name.clone(), event.seq);
                    self.file.store(&cursors)?;
                }
            }
        }
        metrics::gauge!("headwater_event_behind", "webhook" => label).set(0.0);
        Ok(())
    }

    /// A new webhook is told of what happens from now on.
    async fn begin(&self) -> Result<Cursors, Undelivered> {
        let mut cursors = Cursors::default();
        for name in self.names(&cursors).await? {
            if let Some(head) = self.lake.head(&name).await? {
                cursors.refs.insert(name, head.seq);
            }
        }
        self.file.store(&cursors)?;
        Ok(cursors)
    }

    /// Refs to look at: those that match and are there, and those told of before, whose end is news too.
    async fn names(&self, cursors: &Cursors) -> Result<BTreeSet<RefName>, LakeError> {
        let mut names: BTreeSet<RefName> = cursors.refs.keys().cloned().collect();
        let (patterns, exact): (Vec<&String>, Vec<&String>) =
            self.settings.refs.iter().partition(|name| name.ends_with('*'));
        names.extend(exact.into_iter().filter_map(|name| RefName::new(name.as_str()).ok()));
        if !patterns.is_empty() {
            let there = self.lake.refs().list().await?.into_iter().map(|(name, _)| name);
            names.extend(there);
        }
        names.retain(|name| self.settings.refs.iter().any(|pattern| matches(pattern, name)));
        Ok(names)
    }

    fn wants(&self, event: &Event) -> bool {
        self.settings.kinds.is_empty() || self.settings.kinds.iter().any(|kind| kind == kind_of(event))
    }

    async fn deliver(&self, event: &Event) -> Result<(), Undelivered> {
        let settings = &self.settings;
        // The same for every try, whichever life makes it, so that a repetition is known by it.
        let id = format!("{}.{}.{}", self.lake.repo_id(), event.r#ref.key(), event.seq);
        let post = Post {
            id: &id,
            unix_s: self.clock.read().real.0.div_euclid(NS_PER_S),
            body: to_json(event).to_string().into(),
            secret: settings.secret.as_ref(),
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let late = self.clock.sleep_until(self.clock.boot().plus_ms(DELIVERY_MS_MAX));
        let answer = tokio::select! {
            biased;
            answer = settings.poster.post(&settings.url, post) => answer,
            () = late => return Err(Undelivered::Endpoint(format!("{} did not answer in time", settings.url))),
        };
        match answer {
            Ok(answer) if answer.is_success() => Ok(()),
            Ok(answer) => Err(Undelivered::Endpoint(format!(
                "{} answered {} instead of 2xx",
                settings.url, answer.status
            ))),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
                Err(Undelivered::Endpoint(format!("{error}{cause}")))
            }
        }
    }
}

/// True if the pattern means the ref.
fn matches(pattern: &str, name: &RefName) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.as_str().starts_with(beginning),
        None => name.as_str() == pattern,
    }
}
