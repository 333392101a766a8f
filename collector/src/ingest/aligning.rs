//! Aligning beside ingest: feeds committed rows to the recipes, and publishes what the gate passes, in commits of its own.
//!
//! Nothing in here can stop raw rows: an error leaves a recipe behind, to be filled again from the raw tables, and a
//! candidate on a staging branch is judged by a task of its own.

use super::audit::{Audit, AuditError, begin, finish};
use super::build::Built;
use super::candidate::{Candidate, References, TableRules};
use super::commit::Committer;
use super::deriving::{Beside, DerivedWindow, Deriving, Runner};
use super::feeding::{feed, units};
use super::group::Group;
use super::recounting::recount;
use super::sidestream;
use super::staging::{expire, held_back};
use crate::align::aligner::{Aligner, Reading, StepError, cover};
use crate::align::coverage::{Coverage, CoverageError};
use crate::align::derived::chain::Tails;
use crate::align::layout::{LayoutError, table_name};
use crate::align::window::AlignedWindow;
use crate::align::{Filling, StreamKinds, restore};
use crate::commit::kinds::Kinds;
use crate::gate::looking::{LookError, references};
use crate::gate::waive::CandidateError;
use crate::gate::{Again, GateMode, GateSettings, Verdict, builtin_rules};
use crate::resolve::ClockTracks;
use arrow_schema::ArrowError;
use arrow_schema::SchemaRef;
use headwater_align::derive::DeriveError;
use headwater_align::gate::RuleSet;
use headwater_align::recipe::{Entity, Recipe};
use headwater_core::id::DeviceId;
use headwater_core::ports::Clock;
use headwater_core::time::{BootNanos, UtcNanos};
use headwater_lake::{CommitId, CommitKind, CommitObject, CoverageEntry, Lake, LakeError, NameError};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinError;

/// Windows of one recipe published in one round: a long backlog must not keep raw rows waiting.
const WINDOWS_PER_ROUND_MAX: usize = 4;
/// Rows that wait for a program's answer are asked for again after this, ms: a model that is exchanged, a service that is back.
const ANSWER_AGAIN_MS: u64 = 600_000;
/// Commits looked at to tell that a window is still what it was: an hour of them. A program that takes longer starts again.
const OWN_COMMITS_MAX: usize = 3_600;
/// How long candidates may be judged once it is time to stop, ms: well within the time the process has to drain.
const AUDIT_DRAIN_MS: u64 = 15_000;

/// Why a recipe did not get on.
#[derive(Debug, thiserror::Error)]
pub(super) enum AlignError {
    #[error("read or write the lake")]
    Lake(#[from] LakeError),
    #[error("read or write the align coverage")]
    Coverage(#[from] CoverageError),
    #[error("lay out aligned rows")]
    Arrow(#[from] ArrowError),
    #[error("align rows")]
    Step(#[from] StepError),
    #[error("lay out the aligned table")]
    Layout(#[from] LayoutError),
    #[error("name the aligned table")]
    Name(#[from] NameError),
    #[error("read a quarantined candidate")]
    Candidate(#[from] CandidateError),
    #[error("read what rules compare with")]
    Look(#[from] LookError),
    #[error("judge a staged candidate")]
    Audit(#[source] Box<AuditError>),
    #[error("derive columns")]
    Derive(#[from] DeriveError),
    #[error("derive columns: the task broke down")]
    Beside(#[source] JoinError),
    #[error("derive columns: it was asked for its outcome twice")]
    AskedTwice,
}

impl From<AuditError> for AlignError {
    fn from(error: AuditError) -> Self {
        Self::Audit(Box::new(error))
    }
}

/// A recipe at work.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) aligner: Aligner,
    /// What the branch says of its coverage, as far as is known here.
    pub(super) stored: Option<CoverageEntry>,
    /// The candidate that is being judged.
    audit: Option<Audit>,
    /// Rows parted by device, and not judged yet by themselves.
    pub(super) parted: VecDeque<AlignedWindow>,
    /// The window that is being derived.
    deriving: Option<Beside>,
    /// Where the chains of its devices end in the table, and the columns they were made with.
    tails: Tails,
    tails_of: Option<SchemaRef>,
    /// Its programs, once they are needed.
    runner: Option<Runner>,
    /// Rows that wait for a program's answer, and when they are asked for again.
    unanswered: Coverage,
    again_at: Option<BootNanos>,
    /// Rows of its table at refs that rules compare with.
    references: References,
    /// Rows set aside for a person.
    aside: Coverage,
    /// When rows that are held back are judged again.
    pub(super) again: Again,
    /// Its table was begun by another version of the recipe.
    is_held: bool,
    /// A rollback took rows of it back; it waits until it is released.
    is_paused: bool,
}

/// All recipes at work.
#[derive(Debug)]
pub(super) struct Aligning {
    slots: Vec<Slot>,
    kinds_of: StreamKinds,
    gate: Arc<GateSettings>,
    builtin: RuleSet,
    /// Told whenever a candidate has been judged.
    judged: Arc<Notify>,
}

impl Aligning {
    /// The recipes, each from the coverage that the head stores for it. Staging branches that `receiver` left behind are
    /// taken away: their rows are aligned anew.
    pub(super) async fn start(
        recipes: Vec<Recipe>,
        lake: &Lake,
        head: Option<&CommitObject>,
        gate: GateSettings,
        receiver: &str,
    ) -> Result<Self, AlignError> {
        if let Err(error) = expire(lake, receiver, head.map_or(0, |head| head.time_us)).await {
            tracing::warn!(%error, "staging branches of an earlier life stay until the next start");
        }
        let mut slots = Vec::new();
        let builtin = builtin_rules(&gate.limits);
        for recipe in recipes {
            let mut slot = Slot {
                aligner: Aligner::new(recipe, Coverage::default()),
                stored: None,
                audit: None,
                parted: VecDeque::new(),
                deriving: None,
                tails: Tails::new(),
                tails_of: None,
                runner: None,
                unanswered: Coverage::default(),
                again_at: None,
                references: References::new(),
                aside: Coverage::default(),
                again: Again::default(),
                is_held: false,
                is_paused: false,
            };
            slot.references =
                references(lake, &sets(&gate, &builtin, &slot)?, &table_name(slot.aligner.recipe())?).await?;
            if let Some(head) = head {
                slot.follow(lake, head).await?;
                slot.aligner.fall_behind();
                if gate.mode == GateMode::Branch {
                    slot.aside = held_back(lake, slot.aligner.recipe(), slot.aligner.id()).await?;
                    slot.aligner.hold_back(&slot.aside);
                }
            }
            slots.push(slot);
        }
        let (gate, judged) = (Arc::new(gate), Arc::default());
        Ok(Self { slots, kinds_of: StreamKinds::new(), gate, builtin, judged })
    }

    /// True if rows wait or must be fetched, are being judged or will be once more.
    pub(super) fn has_work(&self) -> bool {
        self.has_newer_rules()
            || self.slots.iter().any(|slot| {
                slot.is_busy()
                    || !slot.parted.is_empty()
                    || slot.aligner.is_behind()
                    || slot.aligner.has_work()
                    || slot.again.waits()
                    || slot.again_at.is_some()
            })
    }

    fn has_newer_rules(&self) -> bool {
        self.gate.newer.as_ref().is_some_and(|newer| newer.has_changed().unwrap_or(false))
    }

    /// Judges by other rules from now on, and what was held back once more.
    async fn take_rules(&mut self, lake: &Lake) -> Result<(), AlignError> {
        if !self.has_newer_rules() {
            return Ok(());
        }
        let mut gate = GateSettings::clone(&self.gate);
        gate.rules = gate.newer.as_mut().map(|newer| newer.borrow_and_update().clone()).unwrap_or_default();
        for slot in &mut self.slots {
            let table = table_name(slot.aligner.recipe())?;
            slot.references = references(lake, &sets(&gate, &self.builtin, slot)?, &table).await?;
        }
        // Only now: what could not be read is tried again in the next round.
        self.gate = Arc::new(gate);
        for slot in &mut self.slots {
            slot.again.begin_anew();
            slot.judge_again();
        }
        Ok(())
    }

    /// Others changed the captures: each recipe is filled from the raw tables before it goes on.
    pub(super) fn fall_behind(&mut self) {
        for slot in &mut self.slots {
            // Its rows may be others now, and are in no coverage yet.
            slot.deriving = None;
            slot.aligner.fall_behind();
        }
    }

    /// True if a candidate has been judged, or a window derived, so a round is due.
    pub(super) fn has_verdict(&self) -> bool {
        let is_done = |slot: &Slot| {
            slot.audit.as_ref().is_some_and(Audit::is_finished)
                || slot.deriving.as_ref().is_some_and(Beside::is_finished)
        };
        self.slots.iter().any(is_done)
    }

    /// Told whenever a candidate has been judged.
    pub(super) fn judged(&self) -> Arc<Notify> {
        Arc::clone(&self.judged)
    }

    /// Times of a device's rows were corrected in a stretch of UTC, ns: aligned rows made of them are done again.
    pub(super) fn mark(&mut self, device: &DeviceId, span: (i64, i64)) {
        self.slots.iter_mut().for_each(|slot| slot.aligner.mark(device, span));
    }

    /// Gives a committed group to the recipes.
    pub(super) fn feed(
        &mut self,
        group: &Group,
        built: &Built,
        (kinds, tracks): (&Kinds, &ClockTracks),
        now: BootNanos,
    ) {
        for held in &group.rows {
            let of_stream = self.kinds_of.entry(held.key.stream.clone()).or_default();
            of_stream.insert(held.schema.kind.clone());
        }
        let units = units(group);
        let with = Reading { units: &units, clocks: tracks, now };
        // One that is behind takes note of late rows too, and is filled before it goes on.
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_held && !slot.is_paused) {
            if let Err(error) = feed(&mut slot.aligner, (group, built), (kinds, &self.kinds_of), with) {
                // The raw tables have the rows.
                metrics::counter!("headwater_align_errors_total").increment(1);
                tracing::error!(recipe = %slot.aligner.recipe().name, %error, "committed rows cannot be taken in");
                slot.aligner.fall_behind();
            }
        }
    }

    /// Publishes what is final and passed.
    pub(super) async fn round<C: Clock + Clone + Send + Sync + 'static>(
        &mut self,
        committer: &mut Committer<C>,
        (kinds, tracks): (&Kinds, &ClockTracks),
    ) {
        if let Err(error) = self.take_rules(&committer.lake).await {
            metrics::counter!("headwater_align_errors_total").increment(1);
            tracing::error!(%error, "changed gate rules are taken up later, the ones before stay in force");
        }
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_held) {
            let mut at = Round {
                committer,
                kinds,
                tracks,
                kinds_of: &mut self.kinds_of,
                gate: &self.gate,
                builtin: &self.builtin,
                judged: &self.judged,
            };
            if let Err(error) = slot.round(&mut at).await {
                metrics::counter!("headwater_align_errors_total").increment(1);
                let recipe = &slot.aligner.recipe().name;
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%recipe, %error, cause, "aligning put off, raw rows go on");
                slot.aligner.fall_behind();
            }
        }
    }

    /// The last rounds: what is being judged may still be published, within [`AUDIT_DRAIN_MS`].
    pub(super) async fn drain<C: Clock + Clone + Send + Sync + 'static>(
        &mut self,
        committer: &mut Committer<C>,
        known: (&Kinds, &ClockTracks),
    ) {
        let until = committer.clock.boot().plus_ms(AUDIT_DRAIN_MS);
        let clock = committer.clock.clone();
        self.round(committer, known).await;
        // A window may be derived first, and judged then.
        for _ in 0..WINDOWS_PER_ROUND_MAX * 2 {
            let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_busy()) else { return };
            tokio::select! {
                biased;
                () = slot.wait() => {}
                () = clock.sleep_until(until) => break,
            }
            self.round(committer, known).await;
        }
        let late = self.slots.iter().filter(|slot| slot.is_busy()).count();
        if late > 0 {
            tracing::warn!(late, "candidates were not judged in time; the next start aligns their rows anew");
        }
    }
}

/// What a round works with.
#[derive(Debug)]
struct Round<'a, C> {
    committer: &'a mut Committer<C>,
    kinds: &'a Kinds,
    tracks: &'a ClockTracks,
    kinds_of: &'a mut StreamKinds,
    gate: &'a Arc<GateSettings>,
    builtin: &'a RuleSet,
    judged: &'a Arc<Notify>,
}

/// What a slot has next.
enum Next {
    /// Rows.
    Window(Box<DerivedWindow>),
    /// To be asked again at once.
    Again,
    /// Nothing now.
    Nothing,
}

impl Slot {
    fn is_busy(&self) -> bool {
        self.audit.is_some() || self.deriving.is_some()
    }

    /// Until what goes on beside is done.
    async fn wait(&mut self) {
        if let Some(deriving) = &mut self.deriving {
            deriving.wait().await;
        } else if let Some(audit) = &mut self.audit {
            audit.wait().await;
        }
    }

    /// Takes over what the branch says is done, if somebody else changed that: a rollback, or a waiver.
    async fn follow(&mut self, lake: &Lake, head: &CommitObject) -> Result<(), AlignError> {
        let recipe = self.aligner.recipe();
        let paused = head.held.get(recipe.name.as_str()).is_some_and(|id| id == self.aligner.id());
        metrics::gauge!("headwater_align_recipe_paused", "recipe" => recipe.name.to_string())
            .set(if paused { 1.0 } else { 0.0 });
        if paused != self.is_paused {
            let recipe = &recipe.name;
            match paused {
                true => {
                    tracing::warn!(%recipe, "a rollback took its rows back: it waits for `headwater release {recipe}`")
                }
                false => tracing::info!(%recipe, "released, it fills what went back"),
            }
            self.is_paused = paused;
            self.aligner.fall_behind();
        }
        let recipe = self.aligner.recipe();
        let entry = head.coverage.get(recipe.name.as_str());
        if entry == self.stored.as_ref() {
            return Ok(());
        }
        let coverage = match entry {
            Some(entry) if entry.recipe_id != self.aligner.id() => {
                metrics::gauge!("headwater_align_recipe_held", "recipe" => recipe.name.to_string()).set(1.0);
                tracing::error!(
                    recipe = %recipe.name, stored = entry.recipe_id, found = self.aligner.id(),
                    "recipe has changed since its table was begun and is held: give the new one another name"
                );
                self.is_held = true;
                return Ok(());
            }
            Some(entry) => match lake.state(&entry.hash).await? {
                Some(bytes) => Coverage::from_bytes(&bytes)?,
                // Without it every row would be aligned and published a second time.
                None => {
                    metrics::gauge!("headwater_align_recipe_held", "recipe" => recipe.name.to_string())
                        .set(1.0);
                    tracing::error!(
                        recipe = %recipe.name, hash = entry.hash,
                        "what was aligned is not known, its record is gone from the lake, and the recipe is held: `headwater lake check` says more"
                    );
                    self.is_held = true;
                    return Ok(());
                }
            },
            None => Coverage::default(),
        };
        self.stored = entry.cloned();
        self.tails.clear();
        self.aligner.forget_late();
        self.aligner.finish(coverage);
        self.aligner.fall_behind();
        Ok(())
    }

    /// Its streams declare something it cannot be made of: it waits for a person.
    fn hold(&mut self, error: &LayoutError) {
        let recipe = &self.aligner.recipe().name;
        metrics::gauge!("headwater_align_recipe_held", "recipe" => recipe.to_string()).set(1.0);
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%recipe, %error, cause, "recipe is held: correct it and give it another name");
        self.is_held = true;
    }

    async fn round<C: Clock + Clone + Send + Sync + 'static>(
        &mut self,
        at: &mut Round<'_, C>,
    ) -> Result<(), AlignError> {
        match self.audit.take_if(|audit| audit.is_finished()) {
            Some(audit) => finish(self, audit, at.committer, at.gate.keep).await?,
            // Its rows are in no coverage yet: nothing may be filled or published beside it.
            None if self.audit.is_some() => return Ok(()),
            None => {}
        }
        let mut derived = match self.deriving.take_if(|deriving| deriving.is_finished()) {
            Some(deriving) => self.still(deriving.outcome().await?, at.committer).await?,
            None if self.deriving.is_some() => return Ok(()),
            None => None,
        };
        if derived.is_none() && self.again.take_turn(at.committer.clock.boot()) {
            self.judge_again();
        }
        // Rows that are derived at this moment were made at this head: nothing may come between.
        if derived.is_none()
            && !self.aligner.late_rows().is_empty()
            && let Some(head) = at.committer.head().await?
        {
            sidestream::publish(&mut self.aligner, at.committer, &head, at.kinds_of).await?;
        }
        for _ in 0..WINDOWS_PER_ROUND_MAX {
            let DerivedWindow { mut window, head, more } = match derived.take() {
                Some(derived) => derived,
                None => match self.next(at).await? {
                    Next::Window(window) => *window,
                    Next::Again => continue,
                    Next::Nothing => return Ok(()),
                },
            };
            self.mark_more(&more);
            self.await_answers(&window, at.committer.clock.boot());
            let table = table_name(self.aligner.recipe())?;
            recount(&at.committer.lake, &head, &table, &mut window).await?;
            if window.is_empty() {
                self.told(&window);
                continue;
            }
            let utc = at.committer.clock.read().real;
            let made = (head, utc, at.committer.half_ns);
            let candidate = self.candidate(window, at, made)?;
            // Rows that are only left out leave nothing to be looked at.
            if at.gate.mode == GateMode::Branch && !candidate.window.rows.is_empty() {
                self.audit = Some(begin(candidate, self.stored.clone(), at.committer, at.gate, at.judged));
                return Ok(());
            }
            self.publish(candidate, at.committer).await?;
            if !self.aligner.is_behind() && self.parted.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A window that was derived beside ingest, if what came meanwhile leaves it as it is: this process's own commits do, for
    /// late rows among theirs are marked; what others brought or took back does not, and its rows are aligned anew.
    async fn still<C: Clock>(
        &mut self,
        derived: DerivedWindow,
        committer: &Committer<C>,
    ) -> Result<Option<DerivedWindow>, AlignError> {
        let stored = self.stored.clone();
        let head = committer.head().await?;
        let is_ours = match &head {
            Some(head) => {
                self.follow(&committer.lake, &committer.lake.commit_object(head).await?).await?;
                only_by(&committer.lake, committer.author(), &derived.head, head).await?
            }
            None => false,
        };
        match head.filter(|_| is_ours && !self.is_held && !self.is_paused && self.stored == stored) {
            Some(head) => Ok(Some(DerivedWindow { head, ..derived })),
            None => {
                self.aligner.fall_behind();
                Ok(None)
            }
        }
    }

    /// The next window with everything derived, if that is done at once.
    async fn next<C: Clock + Clone + Send + Sync + 'static>(
        &mut self,
        at: &mut Round<'_, C>,
    ) -> Result<Next, AlignError> {
        let Some(head) = at.committer.head().await? else { return Ok(Next::Nothing) };
        self.follow(&at.committer.lake, &at.committer.lake.commit_object(&head).await?).await?;
        if self.is_held || self.is_paused {
            return Ok(Next::Nothing);
        }
        let now = at.committer.clock.boot();
        if self.again_at.is_some_and(|again| now >= again) {
            self.again_at = None;
            self.aligner.give_back(&std::mem::take(&mut self.unanswered));
        }
        if self.aligner.is_behind() {
            let mut fresh = self.aligner.emptied();
            let utc_ns = Some(at.committer.clock.read().real.0);
            let with = Filling { kinds: at.kinds, clocks: at.tracks, now, utc_ns };
            let found = restore(&mut fresh, &at.committer.lake, &head, with).await?;
            for (stream, kinds) in found {
                at.kinds_of.entry(stream).or_default().extend(kinds);
            }
            self.aligner = fresh;
            // They are among those that were filled.
            self.parted.clear();
        }
        if let Some(window) = self.parted.pop_front() {
            return Ok(Next::Window(Box::new(DerivedWindow { window, head, more: Vec::new() })));
        }
        let window = match self.aligner.step(now) {
            Ok(window) => window,
            Err(StepError::Layout(error)) => {
                self.hold(&error);
                return Ok(Next::Nothing);
            }
            Err(error) => return Err(error.into()),
        };
        if window.is_empty() {
            self.aligner.redone(&window);
            // What a row needs was let go: once more, from the raw tables.
            return Ok(if self.aligner.is_behind() { Next::Again } else { Next::Nothing });
        }
        let Some(derives) = self.aligner.layout()?.derives.clone() else {
            return Ok(Next::Window(Box::new(DerivedWindow { window, head, more: Vec::new() })));
        };
        if self.tails_of.as_ref() != Some(derives.schema()) {
            self.tails.clear();
            self.tails_of = Some(Arc::clone(derives.schema()));
        }
        let recipe = Arc::clone(self.aligner.recipe());
        let clock = at.committer.clock.clone();
        let runner = self.runner.get_or_insert_with(|| Runner::new(&recipe, clock)).clone();
        let is_slow = derives.is_slow() && !window.rows.is_empty();
        let deriving = Deriving { lake: at.committer.lake.clone(), head, recipe, derives, runner };
        if is_slow {
            self.deriving = Some(Beside::begin(deriving, window, self.tails.clone(), at.judged));
            return Ok(Next::Nothing);
        }
        Ok(Next::Window(Box::new(deriving.run(window, &self.tails).await?)))
    }

    /// Rows of the table that one window did not write anew are done again.
    fn mark_more(&mut self, more: &[(String, i64)]) {
        for (name, ts_ns) in more {
            let of_site = match &self.aligner.recipe().entity {
                Entity::Site { sites } => sites.get(name).and_then(|devices| devices.first().cloned()),
                Entity::Device => None,
            };
            if let Some(device) = of_site.or_else(|| name.parse().ok()) {
                self.aligner.mark(&device, (*ts_ns, *ts_ns));
            }
        }
    }

    /// Holds rows back that wait for a program's answer.
    fn await_answers(&mut self, window: &AlignedWindow, now: BootNanos) {
        for failure in &window.failures {
            metrics::counter!("headwater_align_command_failed_rows_total").increment(failure.rows as u64);
            tracing::error!(
                recipe = %self.aligner.recipe().name, column = failure.column, rows = failure.rows,
                held = window.unanswered.len(), why = failure.why,
                "a program gave no answer, see ops.verdicts; rows without it stay null or wait, all others go on"
            );
        }
        if window.unanswered.is_empty() {
            return;
        }
        let mut waiting = Coverage::default();
        for (key, seq, is_provisional) in &window.unanswered {
            match is_provisional {
                true => waiting.note_provisional(key, *seq),
                false => waiting.finish(key, *seq),
            }
        }
        self.aligner.hold_back(&waiting);
        self.unanswered.union_with(&waiting);
        self.again_at = Some(now.plus_ms(ANSWER_AGAIN_MS));
    }

    /// Takes note of a window of which nothing is to be written.
    fn told(&mut self, window: &AlignedWindow) {
        self.tails.extend(window.tails.clone());
        self.aligner.redone(window);
    }

    /// A window judged; rows of devices that fail are parted from it if others' do not, and judged next.
    fn candidate<C>(
        &mut self,
        window: AlignedWindow,
        at: &Round<'_, C>,
        made: (CommitId, UtcNanos, i64),
    ) -> Result<Candidate, AlignError> {
        let rules = TableRules { sets: sets(at.gate, at.builtin, self)?, references: &self.references };
        let mut candidate = Candidate::new(&mut self.aligner, window, &rules, made.clone())?;
        let commands = self.runner.as_ref().map(|runner| runner.lineage.clone()).unwrap_or_default();
        candidate.commands.clone_from(&commands);
        let bad = candidate.bad_devices();
        if bad.is_empty() {
            return Ok(candidate);
        }
        let mut window = candidate.window;
        self.parted.push_back(window.part(&bad)?);
        let mut candidate = Candidate::new(&mut self.aligner, window, &rules, made)?;
        candidate.commands = commands;
        Ok(candidate)
    }

    /// Inline: rows and verdicts in one commit, or the verdicts alone.
    async fn publish<C: Clock>(
        &mut self,
        candidate: Candidate,
        committer: &mut Committer<C>,
    ) -> Result<(), AlignError> {
        let passed = candidate.verdict() != Verdict::Fail;
        if passed {
            candidate.store_coverage(&committer.lake).await?;
        } else if self.again.was_told(&candidate.complaint()) {
            self.hold_back(&candidate.window, committer.clock.boot());
            return Ok(());
        } else {
            candidate.told_failed();
        }
        let request = candidate.inline(committer.branch())?;
        let removal = match passed {
            true => candidate.removal(&committer.lake, &candidate.head).await?,
            false => None,
        };
        match removal {
            Some(removal) => drop(committer.rewrite(removal, &request).await?),
            None => drop(committer.commit_once(request).await?),
        }
        if passed {
            self.published(&candidate.window, candidate.done, candidate.entry);
        } else {
            self.again.tell(&candidate.complaint());
            self.hold_back(&candidate.window, committer.clock.boot());
        }
        Ok(())
    }

    /// Keeps rows back until the next turn or other rules: what is read again would be judged again and again. Of a
    /// provisional row its final one is.
    pub(super) fn hold_back(&mut self, window: &AlignedWindow, now: BootNanos) {
        let mut refused = Coverage::default();
        cover(&mut refused, window);
        self.aligner.hold_back(&refused);
        self.again.held(now);
    }

    /// Notes rows that were set aside for a person: no turn and no other rules take them up.
    pub(super) fn set_aside(&mut self, window: &AlignedWindow) {
        let mut rows = Coverage::default();
        cover(&mut rows, window);
        self.aligner.hold_back(&rows);
        self.aside.union_with(&rows);
    }

    /// Rows that are held back, but for those set aside and those that wait for a program, are taken in and judged once more.
    fn judge_again(&mut self) {
        let mut kept = self.aside.clone();
        kept.union_with(&self.unanswered);
        if self.aligner.holds_more_than(&kept) {
            metrics::counter!("headwater_gate_again_total").increment(1);
            self.aligner.hold_only(&kept);
        }
    }

    /// Says that a window is in the lake.
    pub(super) fn published(&mut self, window: &AlignedWindow, done: Coverage, entry: CoverageEntry) {
        metrics::counter!("headwater_align_rows_total").increment(window.rows.len() as u64);
        metrics::counter!("headwater_align_rows_left_out_total").increment(window.left_out.len() as u64);
        self.aligner.finish(done);
        self.aligner.redone(window);
        self.tails.extend(window.tails.clone());
        self.stored = Some(entry);
    }
}

/// True if all commits from `known` (without it) to `head` are an author's own, or bring and take no captures.
async fn only_by(lake: &Lake, author: &str, known: &CommitId, head: &CommitId) -> Result<bool, LakeError> {
    let mut at = head.clone();
    for _ in 0..OWN_COMMITS_MAX {
        if at == *known {
            return Ok(true);
        }
        let commit = lake.commit_object(&at).await?;
        let is_plain = matches!(
            commit.kind,
            CommitKind::Align | CommitKind::Compact | CommitKind::Resolve | CommitKind::Schema
        );
        let Some(parent) = commit.parents.first().filter(|_| is_plain || commit.author == author) else {
            return Ok(false);
        };
        at = parent.clone();
    }
    Ok(false)
}

/// The built-in rules, and those that concern the recipe's table.
fn sets<'a>(
    gate: &'a GateSettings,
    builtin: &'a RuleSet,
    slot: &Slot,
) -> Result<Vec<&'a RuleSet>, NameError> {
    let table = table_name(slot.aligner.recipe())?.to_string();
    Ok(std::iter::once(builtin).chain(gate.rules.iter().filter(|set| set.concerns(&table))).collect())
}

/// What a commit of aligned rows names as its input.
pub(super) fn input(head: &CommitId) -> String {
    format!("commit {head}")
}
