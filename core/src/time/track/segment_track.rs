//! One unbroken stretch of a boot's line.

use super::{Params, Placed};
use crate::time::cone::{Point, Rate};
use crate::time::envelope::{Cursor, Envelope, Shape, Toll};
use crate::time::learn::{Observation, learn, residual_ppb};
use crate::time::span::{Span, agree};
use crate::time::statement::{Claim, ClockSource, Constraint};
use crate::time::{BootNanos, Grade};

/// What one source says.
#[derive(Debug, Clone)]
struct Voice {
    source: ClockSource,
    /// Its promises, at the datasheet's rate.
    promised: Envelope,
    /// All of it, at the learned rate.
    all: Envelope,
}

/// A segment in numbers, for `ops.clock` and plots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackSegment {
    /// First moment; none: the boot's start.
    pub from: Option<BootNanos>,
    /// First moment after it; none: it is the last.
    pub to: Option<BootNanos>,
    /// First and last moment a source spoke of.
    pub spoken: Option<(BootNanos, BootNanos)>,
    /// Rate bound of the guaranteed intervals, ppb.
    pub rho_ppb: i64,
    /// Learned frequency, ppb; none if too little was said.
    pub phi_ppb: Option<i64>,
    /// Rate bound that remains beside it, ppb.
    pub residual_ppb: i64,
    /// Upper and lower points used.
    pub points: (usize, usize),
    /// Stretches in which the line was slewed harder than its rate allows.
    pub tolls: usize,
    /// Who spoke.
    pub sources: Vec<ClockSource>,
}

#[derive(Debug, Clone)]
pub(in crate::time) struct SegmentTrack {
    pub(in crate::time) from: Option<BootNanos>,
    pub(in crate::time) to: Option<BootNanos>,
    voices: Vec<Voice>,
    described: TrackSegment,
}

/// Sorted points of both kinds.
#[derive(Debug, Default)]
struct Points {
    upper: Vec<Claim>,
    lower: Vec<Claim>,
}

impl Points {
    fn of(
        constraints: &[Constraint],
        source: ClockSource,
        within: impl Fn(BootNanos) -> bool,
        smear: i64,
    ) -> Self {
        let mut points = Self::default();
        for one in constraints.iter().filter(|one| one.source() == source) {
            let claims = one.claims(smear);
            points.upper.extend(claims.upper.filter(|claim| within(claim.point.at)));
            points.lower.extend(claims.lower.filter(|claim| within(claim.point.at)));
        }
        for side in [&mut points.upper, &mut points.lower] {
            side.sort_unstable();
            side.dedup();
        }
        points
    }

    fn envelope(&self, least: Grade, tolls: &[Toll], shape: Shape) -> Envelope {
        let points = |claims: &[Claim]| -> Vec<Point> {
            let mut points: Vec<Point> =
                claims.iter().filter(|claim| claim.grade >= least).map(|claim| claim.point).collect();
            points.dedup();
            points
        };
        let (upper, lower) = (points(&self.upper), points(&self.lower));
        // Too few to outvote a false one: used plainly by estimates, and by no promise.
        let f = if upper.len().min(lower.len()) > shape.f { shape.f } else { 0 };
        let f = if least == Grade::Guaranteed { shape.f } else { f };
        Envelope::new(&upper, &lower, tolls, Shape { f, ..shape })
    }
}

impl SegmentTrack {
    pub(super) fn new(
        from: Option<BootNanos>,
        to: Option<BootNanos>,
        constraints: &[Constraint],
        tolls: &[Toll],
        rho_ppb: i64,
        params: &Params,
    ) -> Self {
        let within = |at: BootNanos| from.is_none_or(|from| from <= at) && to.is_none_or(|to| at <= to);
        let points: Vec<(ClockSource, Points)> = ClockSource::ALL
            .into_iter()
            .map(|source| (source, Points::of(constraints, source, within, params.smear_ns(source))))
            .filter(|(_, points)| !points.upper.is_empty() || !points.lower.is_empty())
            .collect();
        let tolls: Vec<Toll> =
            tolls.iter().copied().filter(|toll| within(toll.from) && within(toll.to)).collect();

        let mut observations: Vec<Observation> =
            constraints.iter().filter_map(Observation::of).filter(|one| within(BootNanos(one.at))).collect();
        observations.sort_unstable();
        let learned = learn(&observations, rho_ppb);
        let shape = |rate: Rate| Shape { rate, f: params.f, window: params.window };
        let rate = learned.map_or(Rate::datasheet(rho_ppb), |learned| Rate {
            phi_ppb: learned.phi_ppb,
            rho_ppb: residual_ppb(learned, params.residual_ppb, rho_ppb),
        });
        let promised = shape(Rate::datasheet(rho_ppb));
        let voices: Vec<Voice> = points
            .iter()
            .map(|(source, points)| Voice {
                source: *source,
                promised: points.envelope(Grade::Guaranteed, &tolls, promised),
                all: points.envelope(Grade::Estimated, &tolls, shape(rate)),
            })
            .collect();
        let moments =
            || points.iter().flat_map(|(_, p)| p.upper.iter().chain(&p.lower)).map(|claim| claim.point.at);
        let described = TrackSegment {
            from,
            to,
            spoken: moments().min().zip(moments().max()),
            rho_ppb,
            phi_ppb: learned.map(|learned| learned.phi_ppb),
            residual_ppb: rate.rho_ppb,
            points: points.iter().fold((0, 0), |(up, low), (_, p)| (up + p.upper.len(), low + p.lower.len())),
            tolls: tolls.len(),
            sources: voices.iter().map(|voice| voice.source).collect(),
        };
        Self { from, to, voices, described }
    }

    pub(super) fn describe(&self) -> TrackSegment {
        self.described.clone()
    }

    /// `cursors` has a place per voice, and is empty at first.
    pub(super) fn place(&self, cursors: &mut Vec<(Cursor, Cursor)>, b: BootNanos) -> Placed {
        if cursors.len() != self.voices.len() {
            cursors.resize(self.voices.len(), (Cursor::default(), Cursor::default()));
        }
        if let ([voice], [cursor]) = (self.voices.as_slice(), cursors.as_mut_slice()) {
            let (mut promise, guess) =
                (voice.promise(&mut cursor.0, b), voice.all.at_cursor(&mut cursor.1, b));
            disbelieve(std::slice::from_mut(&mut promise), &[guess]);
            return answer(&[promise], &[guess]);
        }
        let mut promised = [Span::OPEN; ClockSource::ALL.len()];
        let mut all = [Span::OPEN; ClockSource::ALL.len()];
        let places = promised.iter_mut().zip(&mut all);
        for ((voice, cursor), (promise, guess)) in self.voices.iter().zip(cursors).zip(places) {
            *guess = voice.all.at_cursor(&mut cursor.1, b);
            *promise = voice.promise(&mut cursor.0, b);
        }
        let n = self.voices.len();
        let (promised, all) = (promised.get_mut(..n).unwrap_or_default(), all.get(..n).unwrap_or_default());
        disbelieve(promised, all);
        answer(promised, all)
    }
}

/// A learned frequency shows lies that datasheet rates still allow: who contradicts himself, or all others, once it is known
/// has more false points than may be, and his promise counts as the contradiction it is. Of two that contradict each other
/// neither is believed.
fn disbelieve(promised: &mut [Span], all: &[Span]) {
    let speaks = |promise: &Span| *promise != Span::OPEN;
    let guesses = promised.iter().zip(all).filter(|(promise, _)| speaks(promise));
    let met = guesses.clone().fold(Span::OPEN, |met, (_, guess)| met.meet(*guess));
    if !met.is_empty() {
        return;
    }
    let verdict = agree(&guesses.map(|(_, guess)| *guess).collect::<Vec<Span>>());
    for (promise, guess) in promised.iter_mut().zip(all).filter(|(promise, _)| speaks(promise)) {
        let believed = !verdict.conflict && !guess.is_empty() && !guess.meet(verdict.span).is_empty();
        if !believed && promise.is_closed() {
            let Span { lo, hi } = promise.upright();
            // Turned about, and empty even where it was a point.
            *promise = Span { lo: hi.saturating_add(1), hi: lo };
        }
    }
}

impl Voice {
    /// A side on which no more spoke than may lie promises nothing.
    fn promise(&self, cursor: &mut Cursor, b: BootNanos) -> Span {
        let (upper, lower) = (self.promised.outvotes_upper(), self.promised.outvotes_lower());
        if !upper && !lower {
            return Span::OPEN;
        }
        let span = self.promised.at_cursor(cursor, b);
        Span { lo: if lower { span.lo } else { i64::MIN }, hi: if upper { span.hi } else { i64::MAX } }
    }
}

fn answer(promised: &[Span], all: &[Span]) -> Placed {
    let (promise, guess) = (agree(promised), agree(all));
    let (verdict, grade) = if promise.span.is_closed() {
        (promise, if promise.conflict { Grade::Estimated } else { Grade::Guaranteed })
    } else {
        (guess, if guess.span.is_closed() { Grade::Estimated } else { Grade::OrderingOnly })
    };
    let span = verdict.span;
    let ts = if guess.conflict || !guess.span.is_closed() { span.middle() } else { guess.span.middle() };
    let ts = if span.is_closed() { ts.clamp(span.lo, span.hi) } else { ts };
    Placed { span, ts, grade, conflict: verdict.conflict, outvoted: verdict.outvoted }
}
