//! Aligning beside ingest: feeds committed rows to the recipes, and publishes what the gate passes, in commits of its own.
//!
//! Nothing in here can stop raw rows: an error leaves a recipe behind, to be filled again from the raw tables, and a
//! candidate on a staging branch is judged by a task of its own.

use super::audit::{Audit, AuditError, begin, finish};
use super::build::Built;
use super::candidate::{Candidate, References, TableRules};
use super::commit::Committer;
use super::feeding::{feed, units};
use super::group::Group;
use super::recounting::recount;
use super::staging::{expire, held_back};
use crate::align::aligner::{Aligner, Reading, StepError};
use crate::align::coverage::{Coverage, CoverageError};
use crate::align::layout::{LayoutError, table_name};
use crate::align::window::AlignedWindow;
use crate::align::{Filling, StreamKinds, restore};
use crate::commit::kinds::Kinds;
use crate::gate::looking::{LookError, references};
use crate::gate::waive::CandidateError;
use crate::gate::{GateMode, GateSettings, Verdict, builtin_rules};
use crate::resolve::ClockTracks;
use arrow_schema::ArrowError;
use headwater_align::gate::RuleSet;
use headwater_align::recipe::Recipe;
use headwater_core::id::DeviceId;
use headwater_core::ports::Clock;
use headwater_core::time::{BootNanos, UtcNanos};
use headwater_lake::{CommitId, CommitObject, CoverageEntry, Lake, LakeError, NameError};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// Windows of one recipe published in one round: a long backlog must not keep raw rows waiting.
const WINDOWS_PER_ROUND_MAX: usize = 4;
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
    /// Rows of its table at refs that rules compare with.
    references: References,
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
                references: References::new(),
                is_held: false,
                is_paused: false,
            };
            slot.references =
                references(lake, &sets(&gate, &builtin, &slot)?, &table_name(slot.aligner.recipe())?).await?;
            if let Some(head) = head {
                slot.follow(lake, head).await?;
                slot.aligner.fall_behind();
                if gate.mode == GateMode::Branch {
                    let held = held_back(lake, slot.aligner.recipe(), slot.aligner.id()).await?;
                    slot.aligner.hold_back(&held);
                }
            }
            slots.push(slot);
        }
        let (gate, judged) = (Arc::new(gate), Arc::default());
        Ok(Self { slots, kinds_of: StreamKinds::new(), gate, builtin, judged })
    }

    /// True if rows wait or must be fetched, or are being judged.
    pub(super) fn has_work(&self) -> bool {
        self.slots.iter().any(|slot| {
            slot.is_busy() || !slot.parted.is_empty() || slot.aligner.is_behind() || slot.aligner.has_work()
        })
    }

    /// Others changed the captures: each recipe is filled from the raw tables before it goes on.
    pub(super) fn fall_behind(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.aligner.fall_behind());
    }

    /// True if a candidate has been judged, so a round is due.
    pub(super) fn has_verdict(&self) -> bool {
        self.slots.iter().any(|slot| slot.audit.as_ref().is_some_and(Audit::is_finished))
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
        for _ in 0..WINDOWS_PER_ROUND_MAX {
            let Some(audit) = self.slots.iter_mut().find_map(|slot| slot.audit.as_mut()) else { return };
            tokio::select! {
                biased;
                () = audit.wait() => {}
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

impl Slot {
    fn is_busy(&self) -> bool {
        self.audit.is_some()
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
            None if self.is_busy() => return Ok(()),
            None => {}
        }
        for _ in 0..WINDOWS_PER_ROUND_MAX {
            let Some(head) = at.committer.head().await? else { return Ok(()) };
            self.follow(&at.committer.lake, &at.committer.lake.commit_object(&head).await?).await?;
            if self.is_held || self.is_paused {
                return Ok(());
            }
            let now = at.committer.clock.boot();
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
            let window = match self.parted.pop_front() {
                Some(parted) => parted,
                None => match self.aligner.step(now) {
                    Ok(mut window) => {
                        let table = table_name(self.aligner.recipe())?;
                        recount(&at.committer.lake, &head, &table, &mut window).await?;
                        window
                    }
                    Err(StepError::Layout(error)) => {
                        self.hold(&error);
                        return Ok(());
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            if window.is_empty() {
                self.aligner.redone(&window);
            }
            match (window.is_empty(), self.aligner.is_behind()) {
                (false, _) => {}
                // What a row needs was let go: once more, from the raw tables.
                (true, true) => continue,
                (true, false) => return Ok(()),
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

    /// A window judged; rows of devices that fail are parted from it if others' do not, and judged next.
    fn candidate<C>(
        &mut self,
        window: AlignedWindow,
        at: &Round<'_, C>,
        made: (CommitId, UtcNanos, i64),
    ) -> Result<Candidate, AlignError> {
        let rules = TableRules { sets: sets(at.gate, at.builtin, self)?, references: &self.references };
        let candidate = Candidate::new(&mut self.aligner, window, &rules, made.clone())?;
        let bad = candidate.bad_devices();
        if bad.is_empty() {
            return Ok(candidate);
        }
        let mut window = candidate.window;
        self.parted.push_back(window.part(&bad)?);
        Candidate::new(&mut self.aligner, window, &rules, made)
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
            // Until the next start: what is read again would be judged again and again. Of a provisional row its final one is.
            let mut refused = Coverage::default();
            for row in &candidate.window.rows {
                match row.provisional {
                    true => refused.note_provisional(&row.key, row.seq),
                    false => refused.finish(&row.key, row.seq),
                }
            }
            self.aligner.hold_back(&refused);
        }
        Ok(())
    }

    /// Says that a window is in the lake.
    pub(super) fn published(&mut self, window: &AlignedWindow, done: Coverage, entry: CoverageEntry) {
        metrics::counter!("headwater_align_rows_total").increment(window.rows.len() as u64);
        metrics::counter!("headwater_align_rows_left_out_total").increment(window.left_out.len() as u64);
        self.aligner.finish(done);
        self.aligner.redone(window);
        self.stored = Some(entry);
    }
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
