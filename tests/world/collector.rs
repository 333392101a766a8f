//! A collector: the real receiver, landing log and fold, put together in the order the real one has, with a place to
//! crash between any two of its steps.
//!
//! The shell is the world's own, since the real one hands each sync to a thread, and where that thread's end falls is not
//! a matter of the seed.

use super::bind::{self, QUALITY, RECEIVER};
use super::director::Incident;
use super::mutant::Mutant;
use super::oracle::Oracle;
use super::plan::Shape;
use headwater_collector::ingest::rehearsal::Rehearsal;
use headwater_collector::land::{
    CommitMark, LandError, LandRecord, LandingCursors, LandingPosition, LandingReader, Log, Span,
};
use headwater_collector::receive::Now;
use headwater_collector::receive::{Note, Outgoing, Receiver, Taken};
use headwater_collector::registry::Registry;
use headwater_core::id::IncarnationId;
use headwater_core::ports::{Clock, Inbox};
use headwater_core::time::BootNanos;
use headwater_core::wire::{Ack, Envelope, Topic};
use headwater_sim::broker::{BrokerInbox, SimBroker};
use headwater_sim::clock::SimClock;
use headwater_sim::disk::SimDisk;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

const DIR: &str = "/landing";
/// Longest wait before what is staged is synced, ms.
const SYNC_MS: u64 = 30;
/// Payload read at once.
const READ_BYTES: usize = 8 << 20;
/// Staged bytes that close a group at once.
const GROUP_BYTES: usize = 4 << 20;

/// What may be arranged from outside while a collector lives.
#[derive(Debug, Default)]
pub(super) struct Levers {
    /// Steps to the end of this life, and whether the power goes with it.
    pub(super) ends_after: Option<(u32, bool)>,
    /// Commits fail.
    pub(super) commits_fail: bool,
}

/// What outlives a collector's lives.
pub(super) struct Site {
    pub(super) disk: SimDisk,
    pub(super) oracle: Oracle,
    pub(super) broker: SimBroker,
    pub(super) clock: SimClock,
    pub(super) levers: Arc<Mutex<Levers>>,
    pub(super) incidents: mpsc::Sender<Incident>,
    pub(super) mutant: Option<Mutant>,
    commit_ms: u64,
    lives: u8,
    /// How far the last life had told that it is committed.
    told: Arc<Mutex<LandingCursors>>,
    task: Option<JoinHandle<()>>,
}

/// A life is over.
struct Ended {
    power: bool,
}

impl From<LandError> for Ended {
    fn from(_: LandError) -> Self {
        Self { power: true }
    }
}

impl Site {
    pub(super) fn new(
        shape: &Shape,
        oracle: &Oracle,
        broker: &SimBroker,
        clock: &SimClock,
        incidents: &mpsc::Sender<Incident>,
        mutant: Option<Mutant>,
    ) -> Self {
        Self {
            disk: SimDisk::new(),
            oracle: oracle.clone(),
            broker: broker.clone(),
            clock: clock.clone(),
            levers: Arc::default(),
            incidents: incidents.clone(),
            mutant,
            commit_ms: shape.commit_ms,
            lives: 0,
            told: Arc::default(),
            task: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.task.is_some()
    }

    pub(super) fn levers(&self) -> std::sync::MutexGuard<'_, Levers> {
        self.levers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process is gone, as it stands; with `seed` its power too.
    pub(super) fn stop(&mut self, power: Option<u64>) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        if let Some(seed) = power {
            self.disk = self.disk.crash(seed);
        }
        self.levers().ends_after = None;
    }

    /// Begins a new incarnation, as the pipeline does: replay, then a log of its own, then the broker.
    ///
    /// `false`: the power went off in the middle of it.
    pub(super) fn start(&mut self) -> bool {
        if self.task.is_some() {
            return true;
        }
        self.lives = self.lives.saturating_add(1);
        match self.life() {
            Ok(life) => {
                let incidents = self.incidents.clone();
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the world ends this task itself, in the middle of anything"
                )]
                let task = tokio::spawn(async move {
                    if let Err(Ended { power }) = life.run().await {
                        Incident::CollectorOff { power }.tell(&incidents);
                    }
                });
                self.task = Some(task);
            }
            Err(_) if self.disk.power_is_off() => return false,
            Err(error) => self.oracle.violated(format!("the collector does not start: {error}")),
        }
        true
    }

    /// A life as a start finds it. What any life called durable must be in its landing logs (S1).
    fn life(&self) -> Result<Life, LandError> {
        let incarnation = IncarnationId([self.lives; 16]);
        let kept = self.oracle.lock().lake.kept.clone();
        let mark = CommitMark { cursors: kept.cursors(), ..CommitMark::default() };
        let registry = Registry::new();
        let mut receiver = bind::receiver(registry.clone(), incarnation, &mark);
        let mut reader = LandingReader::new(self.disk.clone(), Path::new(DIR));
        let generation = reader.next_generation()?;
        reader.make_durable()?;
        replay(&mut reader, &mut receiver)?;
        audit(&self.oracle, &receiver);
        let now = self.clock.utc();
        let log = Log::create(self.disk.clone(), Path::new(DIR), RECEIVER, incarnation, generation, now)?;
        let (landed, seen) = watch::channel(log.end());
        let reader = LandingReader::new(self.disk.clone(), Path::new(DIR)).with_live(seen);
        let mut skipped = LandingCursors::new();
        if self.mutant == Some(Mutant::CursorTooFar) {
            skipped.clone_from(&self.told.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(Life {
            inbox: self.broker.inbox(),
            clock: self.clock.clone(),
            log,
            landed,
            reader,
            receiver,
            rehearsal: Rehearsal::new(bind::ingest(), registry, &kept),
            oracle: self.oracle.clone(),
            levers: Arc::clone(&self.levers),
            mutant: self.mutant,
            skipped,
            told: Arc::clone(&self.told),
            queue: Vec::new(),
            queue_bytes: 0,
            queued_since: None,
            commit_ms: self.commit_ms,
            opened: None,
        })
    }

    /// Looks at the landing logs as a power cut would leave them now: they must hold what was called durable.
    pub(super) fn look_after_power_cut(&self, seed: u64) {
        let incarnation = IncarnationId([0xff; 16]);
        let kept = self.oracle.lock().lake.kept.clone();
        let mark = CommitMark { cursors: kept.cursors(), ..CommitMark::default() };
        let mut receiver = bind::receiver(Registry::new(), incarnation, &mark);
        let mut reader = LandingReader::new(self.disk.crash(seed), Path::new(DIR));
        match replay(&mut reader, &mut receiver) {
            Ok(()) => audit(&self.oracle, &receiver),
            Err(error) => self.oracle.violated(format!("S1: landing logs cannot be read: {error}")),
        }
    }
}

fn replay(reader: &mut LandingReader<SimDisk>, receiver: &mut Receiver) -> Result<(), LandError> {
    let mut cursors = LandingCursors::new();
    loop {
        let landed = reader.next_after(&cursors, READ_BYTES)?;
        if landed.is_empty() {
            return Ok(());
        }
        for record in &landed {
            receiver.replay(record);
            cursors.insert(record.end().incarnation, record.end());
        }
    }
}

fn audit(oracle: &Oracle, receiver: &Receiver) {
    let mut oracle = oracle.lock();
    let told: Vec<_> = oracle.told.keys().cloned().collect();
    for (device, epoch, id) in told {
        let owner = (bind::path_of(&device), epoch);
        let durable = receiver.landed_set().durable(&owner, id);
        oracle.found(&device, epoch, id, &durable);
    }
}

/// One life.
struct Life {
    inbox: BrokerInbox,
    clock: SimClock,
    log: Log<SimDisk>,
    landed: watch::Sender<LandingPosition>,
    reader: LandingReader<SimDisk>,
    receiver: Receiver,
    rehearsal: Rehearsal,
    oracle: Oracle,
    levers: Arc<Mutex<Levers>>,
    mutant: Option<Mutant>,
    skipped: LandingCursors,
    told: Arc<Mutex<LandingCursors>>,
    queue: Vec<(LandRecord, Note)>,
    queue_bytes: usize,
    queued_since: Option<BootNanos>,
    commit_ms: u64,
    /// When the first record of the group was read.
    opened: Option<BootNanos>,
}

impl Life {
    async fn run(mut self) -> Result<(), Ended> {
        self.ingest()?;
        loop {
            let now = self.clock.boot();
            let sync_at = self.queued_since.map(|since| since.plus_ms(SYNC_MS));
            if sync_at.is_some_and(|at| at <= now) || self.queue_bytes >= GROUP_BYTES {
                self.land()?;
                self.ingest()?;
            }
            let commit_at = self.opened.map(|opened| opened.plus_ms(self.commit_ms));
            if commit_at.is_some_and(|at| at <= now) {
                self.commit()?;
            }
            self.step()?;
            let now = self.now();
            for ack in self.receiver.acks(QUALITY, now) {
                self.say(ack).await;
            }
            let sync_at = self.queued_since.map(|since| since.plus_ms(SYNC_MS));
            let commit_at = self.opened.map(|opened| opened.plus_ms(self.commit_ms));
            let wake = [sync_at, commit_at, self.receiver.deadline()].into_iter().flatten().min();
            tokio::select! {
                biased;
                delivery = self.inbox.next() => {
                    self.step()?;
                    let now = self.now();
                    if let Taken::Land(staged) = self.receiver.take(&delivery.topic, &delivery.payload, now) {
                        self.queue_bytes += staged.record.payload_bytes();
                        self.queue.push((staged.record, staged.note));
                        self.queued_since.get_or_insert(now.boot);
                    }
                    self.inbox.settle(delivery.token).await;
                    self.step()?;
                }
                () = async { match wake {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                } } => {}
            }
        }
    }

    fn now(&self) -> Now {
        let reading = self.clock.read();
        Now { boot: reading.b2, utc: reading.real }
    }

    /// A step is done; the life may end here.
    fn step(&self) -> Result<(), Ended> {
        let mut levers = self.levers.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut levers.ends_after {
            Some((0, power)) => Err(Ended { power: *power }),
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn land(&mut self) -> Result<(), Ended> {
        let now = self.now();
        self.queue_bytes = 0;
        self.queued_since = None;
        let (records, notes): (Vec<LandRecord>, Vec<Note>) =
            std::mem::take(&mut self.queue).into_iter().unzip();
        self.step()?;
        if self.mutant == Some(Mutant::AckBeforeSync) {
            let spans = vec![Span { position: self.log.end(), end: self.log.end() }; notes.len()];
            self.receiver.synced(notes, &spans, now.boot);
            // Landed with the next group, which is soon enough for whoever thinks so.
            for record in records {
                self.queue.push((record, Note::Plain((bind::path_of_first(), headwater_core::id::Epoch(0)))));
            }
            if self.queue.len() > 3 {
                let records: Vec<LandRecord> = self.queue.drain(..).map(|(record, _)| record).collect();
                self.log.append(&records, now.utc)?;
                self.landed.send_replace(self.log.end());
            } else {
                self.queued_since = Some(now.boot.plus_ms(1_000));
            }
            return Ok(());
        }
        let spans = self.log.append(&records, now.utc)?;
        self.step()?;
        self.receiver.synced(notes, &spans, now.boot);
        self.landed.send_replace(self.log.end());
        self.step()
    }

    /// Takes in what was landed.
    fn ingest(&mut self) -> Result<(), Ended> {
        loop {
            let mut cursors = self.rehearsal.read().clone();
            for (incarnation, at) in &self.skipped {
                cursors.insert(*incarnation, *at);
            }
            let landed = self.reader.next_after(&cursors, READ_BYTES)?;
            self.skipped.clear();
            if landed.is_empty() {
                return Ok(());
            }
            let now = self.clock.boot();
            self.opened.get_or_insert(now);
            landed.into_iter().for_each(|landed| self.rehearsal.take(landed));
        }
    }

    fn commit(&mut self) -> Result<(), Ended> {
        let now = self.clock.boot();
        if self.levers.lock().unwrap_or_else(PoisonError::into_inner).commits_fail {
            self.opened = Some(now);
            return Ok(());
        }
        self.opened = None;
        self.step()?;
        let early = self.mutant == Some(Mutant::CommitToldEarly);
        let mut mark = self.rehearsal.mark();
        {
            let mut oracle = self.oracle.lock();
            let commit = self.rehearsal.commit(&oracle.lake.kept);
            if let (Some(commit), false) = (&commit, early && oracle.lake.commits.is_multiple_of(2)) {
                mark.clone_from(&commit.mark);
                oracle.commits(commit, self.mutant);
            }
            if oracle.lake.commits == 0 {
                return Ok(());
            }
        }
        self.step()?;
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&mark.cursors);
        self.receiver.committed(&mark, now);
        self.step()
    }

    async fn say(&mut self, ack: Outgoing) {
        if let (Ok(Topic::Ack(path)), Ok(envelope)) =
            (Topic::parse(&ack.topic), Envelope::parse(&ack.payload))
            && let Ok(said) = Ack::from_body(envelope.body)
        {
            let now_ms = super::world_ms(&self.clock);
            self.oracle.lock().says(now_ms, &path.device, envelope.epoch, &said);
        }
        self.inbox.send(&ack.topic, ack.payload).await;
    }
}
