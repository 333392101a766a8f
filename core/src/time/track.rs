//! A clock track: everything known of one boot's line, compiled into intervals of UTC for every moment of it.
//!
//! Two bounds are kept apart. *Guaranteed*: promises of sources and the crystal's datasheet only. *Estimated*: all that any
//! source said, and a frequency learned from it; it also gives the point estimate, clamped into whatever is answered.

mod segment_track;
#[cfg(test)]
mod tests;

use super::cone::{FALSE_MAX, RESIDUAL_PPB, RHO_PPB, WINDOW};
use super::envelope;
use super::segment::{Break, breaks, stepped, tolls};
use super::span::Span;
use super::statement::{ClockEvent, ClockSource, Constraint, RawReading};
use super::{BootNanos, Grade, NS_PER_S, UtcNanos};
use crate::id::Sha256;
use segment_track::SegmentTrack;
pub use segment_track::TrackSegment;
use std::collections::BTreeSet;

/// What tracks are made with. Part of their id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// False points of each kind survived, at most [`FALSE_MAX`].
    pub f: usize,
    /// Points used on each side of a moment.
    pub window: usize,
    /// Largest deviation of a gateway's crystal, ppb, unless the boot says another.
    pub rho_ppb: i64,
    /// Residual deviation once the frequency was learned, ppb.
    pub residual_ppb: i64,
    /// No time before this is believed (the agent's build time, or what stands for it).
    pub floor: UtcNanos,
    /// Sources that smear leap seconds on purpose, and by how much at most, ns.
    pub smears: Vec<(ClockSource, i64)>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            f: FALSE_MAX,
            window: WINDOW,
            rho_ppb: RHO_PPB,
            residual_ppb: RESIDUAL_PPB,
            // 2020-01-01T00:00:00Z: no gateway of ours captured before it.
            floor: UtcNanos(1_577_836_800 * NS_PER_S),
            smears: Vec::new(),
        }
    }
}

impl Params {
    fn smear_ns(&self, source: ClockSource) -> i64 {
        self.smears.iter().filter(|(of, _)| *of == source).map(|(_, ns)| *ns).max().unwrap_or(0)
    }
}

/// What is known of a boot, sorted and without repeats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// By the moment they speak of.
    pub constraints: Vec<Constraint>,
    /// By boot time.
    pub readings: Vec<RawReading>,
    /// By boot time.
    pub events: BTreeSet<(BootNanos, ClockEvent)>,
    /// Rates claimed, ppb.
    pub rates: BTreeSet<i64>,
}

/// A moment placed in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// UTC lies in here as far as the grade promises; open where nothing is known.
    pub span: Span,
    /// The best single guess, inside `span` if that is closed, ns.
    pub ts: i64,
    /// What the interval promises. [`Grade::OrderingOnly`]: the boot's own points leave a side open.
    pub grade: Grade,
    /// Sources or points contradicted one another and nobody could tell who is right.
    pub conflict: bool,
    /// Sources overruled by a majority.
    pub outvoted: usize,
}

/// The compiled track of a boot.
#[derive(Debug, Clone)]
pub struct Track {
    id: i64,
    rho_ppb: i64,
    breaks: Vec<Break>,
    /// One more than breaks.
    segments: Vec<SegmentTrack>,
}

/// Where the last question was, for questions in ascending order. [`Default`] is the start.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    segment: usize,
    places: Vec<(envelope::Cursor, envelope::Cursor)>,
}

impl Track {
    /// Compiles what is known of a boot.
    #[must_use]
    pub fn new(evidence: &Evidence, params: &Params) -> Self {
        let rho_ppb = evidence.rates.last().copied().filter(|rho| *rho > 0).unwrap_or(params.rho_ppb);
        let events: Vec<(BootNanos, ClockEvent)> = evidence.events.iter().copied().collect();
        let breaks = breaks(&events);
        let tolls = tolls(&evidence.readings, &breaks, rho_ppb);
        let steps: Vec<BootNanos> =
            events.iter().filter(|(_, event)| *event == ClockEvent::Step).map(|(at, _)| *at).collect();
        let usable: Vec<Constraint> =
            evidence.constraints.iter().copied().filter(|one| !stepped(&steps, one)).collect();
        let segments = (0..=breaks.len())
            .map(|place| {
                let from = place.checked_sub(1).and_then(|before| breaks.get(before)).map(|one| one.to);
                let to = breaks.get(place).map(|one| one.from);
                SegmentTrack::new(from, to, &usable, &tolls, rho_ppb, params)
            })
            .collect();
        Self { id: id(evidence, params), rho_ppb, breaks, segments }
    }

    /// First 8 bytes of SHA-256 over parameters and sorted evidence: equal knowledge, equal id.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The rate bound of this boot's line, ppb.
    #[must_use]
    pub fn rho_ppb(&self) -> i64 {
        self.rho_ppb
    }

    /// Places one moment.
    #[must_use]
    pub fn place(&self, b: BootNanos) -> Placed {
        self.place_next(&mut Cursor::default(), b)
    }

    /// Places a moment; moments come in ascending order (others are right too, only slower).
    #[must_use]
    pub fn place_next(&self, cursor: &mut Cursor, b: BootNanos) -> Placed {
        let segment = if self.breaks.is_empty() { 0 } else { self.breaks.partition_point(|one| one.to <= b) };
        if segment != cursor.segment {
            *cursor = Cursor { segment, places: Vec::new() };
        }
        let Some(here) = self.segments.get(segment) else { return Placed::UNKNOWN };
        let placed = here.place(&mut cursor.places, b);
        match self.breaks.get(segment).filter(|one| one.from < b).and_then(|_| self.segments.get(segment + 1))
        {
            // Inside a break either side may be the true one.
            Some(after) => placed.either(after.place(&mut Vec::new(), b)),
            None => placed,
        }
    }

    /// The track's segments, for tables and plots.
    #[must_use]
    pub fn segments(&self) -> Vec<TrackSegment> {
        self.segments.iter().map(SegmentTrack::describe).collect()
    }

    /// Where each segment begins (none: with the boot) and which moments it may be asked for.
    pub(super) fn stretches(&self) -> impl Iterator<Item = (Option<BootNanos>, Option<BootNanos>)> + '_ {
        self.segments.iter().map(|segment| (segment.from, segment.to))
    }

    /// At most `points_max` places along the line between `from` and `to`, for a plot of offset and bound.
    #[must_use]
    pub fn curve(&self, from: BootNanos, to: BootNanos, points_max: usize) -> Vec<(BootNanos, Placed)> {
        let steps = i64::try_from(points_max.max(2)).unwrap_or(i64::MAX).saturating_sub(1);
        let width = i128::from(to.0) - i128::from(from.0);
        let mut cursor = Cursor::default();
        (0..=steps)
            .map(|n| {
                BootNanos(super::clamp_i64(i128::from(from.0) + width * i128::from(n) / i128::from(steps)))
            })
            .map(|b| (b, self.place_next(&mut cursor, b)))
            .collect()
    }
}

impl Placed {
    /// Nothing is known.
    pub const UNKNOWN: Placed =
        Placed { span: Span::OPEN, ts: 0, grade: Grade::OrderingOnly, conflict: false, outvoted: 0 };

    /// One of two, and nobody knows which.
    fn either(self, other: Self) -> Self {
        let span = if self.span.is_closed() && other.span.is_closed() {
            self.span.hull(other.span)
        } else {
            Span::OPEN
        };
        Self {
            span,
            ts: span.middle(),
            grade: if span.is_closed() { self.grade.min(other.grade) } else { Grade::OrderingOnly },
            conflict: self.conflict || other.conflict,
            outvoted: self.outvoted.max(other.outvoted),
        }
    }
}

fn id(evidence: &Evidence, params: &Params) -> i64 {
    use std::fmt::Write;
    let Params { f, window, rho_ppb, residual_ppb, floor, smears } = params;
    let mut text = format!(
        "headwater.track.v2\nrho={rho_ppb} residual={residual_ppb} f={f} w={window} floor={} smears={smears:?}\n",
        floor.0
    );
    let Evidence { constraints, readings, events, rates } = evidence;
    // The debug form of these types is their fields by name; a change of it is a change of the version above.
    let mut line = |what: &dyn std::fmt::Debug| writeln!(text, "{what:?}");
    let written = constraints
        .iter()
        .try_for_each(|one| line(one))
        .and_then(|()| readings.iter().try_for_each(|one| line(one)))
        .and_then(|()| line(events))
        .and_then(|()| line(rates));
    debug_assert!(written.is_ok(), "a string takes any text");
    i64::from_be_bytes(Sha256::of(text.as_bytes()).head())
}
