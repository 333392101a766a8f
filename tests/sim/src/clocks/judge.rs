//! Judges intervals by the truth: how often they hold it, how wide they are, and what others would have said.

use super::tell::{SimulatedBoot, SimulatedDevice};
use headwater_core::time::boots::Boots;
use headwater_core::time::cone::{Point, RHO_PPB};
use headwater_core::time::statement::{ClockSource, Receipt, Statement};
use headwater_core::time::track::{Params, Placed};
use headwater_core::time::{BootNanos, Grade, UtcNanos};

/// One question and what became of it, ns.
#[derive(Debug, Clone, Copy)]
pub struct Judged {
    /// Whether more points lie among those used than may.
    pub beyond_f: bool,
    /// What was promised.
    pub grade: Grade,
    /// Sources contradicted one another.
    pub conflict: bool,
    /// The truth is outside the interval.
    pub missed: bool,
    /// Both sides of the interval are known.
    pub closed: bool,
    /// Half the interval.
    pub half_ns: i64,
    /// Greatest distance of the guess from the interval's ends: `ts_err_ns`.
    pub bound_ns: i64,
    /// Distance of the guess from the truth.
    pub error_ns: i64,
    /// Before anyone spoke, or while nobody was heard.
    pub when: When,
    /// Only with what was known then, without outvoting: (half the interval, distance of its middle from the truth, missed).
    pub online: Option<(i64, i64, bool)>,
    /// How far the gateway's wall clock was off.
    pub wall_error_ns: i64,
    /// Half the interval that one who knew the crystal and all lies would give.
    pub oracle_ns: i64,
}

/// Which part of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the first word of any source.
    BeforeSync,
    /// More than five polls from any word.
    Outage,
    /// Otherwise.
    Heard,
}

/// Everything told of a device, as a collector knows it in the end.
#[must_use]
pub fn learned(device: &SimulatedDevice, params: &Params) -> Boots {
    learned_by(device, params, i64::MAX)
}

/// What had been received by UTC `now`.
#[must_use]
pub fn learned_by(device: &SimulatedDevice, params: &Params, now: i64) -> Boots {
    let mut boots = Boots::new(params.clone());
    for boot in &device.boots {
        for told in boot.told.iter().filter(|told| told.received.0 <= now) {
            boots.observe(boot.ordinal, told.statement, Some(told.received));
        }
        let end = boot.utc(boot.length_ns);
        if end <= now {
            let received = UtcNanos(end.saturating_add(3_600_000_000_000));
            boots.receipt(boot.ordinal, Receipt { at: BootNanos(boot.length_ns), received });
        }
    }
    boots
}

/// A point with the truth beside it: (boot time, bound − truth; below 0 for an upper point that lies).
type Slack = (i64, i64);

/// What one source said on one unbroken stretch, by the truth.
struct Said {
    upper: Vec<Slack>,
    lower: Vec<Slack>,
}

impl Said {
    /// Points of the more deceitful kind that lie, among the `window` on each side of `b`.
    fn lies_around(&self, b: i64, window: usize) -> usize {
        let lies = |points: &[Slack]| {
            let split = points.partition_point(|(at, _)| *at <= b);
            let used = points.get(split.saturating_sub(window)..(split + window).min(points.len()));
            used.unwrap_or_default().iter().filter(|(_, slack)| *slack < 0).count()
        };
        lies(&self.upper).max(lies(&self.lower))
    }
}

/// An unbroken stretch of a boot's line.
struct Stretch {
    from: i64,
    sources: Vec<Said>,
    /// Points of all kinds in order, for who only knows the past.
    upper: Vec<Point>,
    lower: Vec<Point>,
    oracle_ns: i64,
}

impl Stretch {
    fn new(boot: &SimulatedBoot, from: i64, to: i64) -> Self {
        let (mut upper, mut lower) = (Vec::new(), Vec::new());
        let mut sources: Vec<(ClockSource, Said)> = Vec::new();
        for told in &boot.told {
            let Statement::Constraint(constraint) = told.statement else { continue };
            let source = constraint.source();
            let place = sources.iter().position(|(known, _)| *known == source).unwrap_or_else(|| {
                sources.push((source, Said { upper: Vec::new(), lower: Vec::new() }));
                sources.len() - 1
            });
            let said = &mut sources[place].1;
            let claims = constraint.claims(0);
            let here = |point: &Point| (from..to).contains(&point.at.0);
            if let Some(point) = claims.upper.map(|claim| claim.point).filter(here) {
                said.upper.push((point.at.0, point.utc.0 - boot.utc(point.at.0)));
                upper.push(point);
            }
            if let Some(point) = claims.lower.map(|claim| claim.point).filter(here) {
                said.lower.push((point.at.0, boot.utc(point.at.0) - point.utc.0));
                lower.push(point);
            }
        }
        for (_, said) in &mut sources {
            said.upper.sort_unstable();
            said.lower.sort_unstable();
        }
        upper.sort_unstable();
        lower.sort_unstable();
        let least = |side: fn(&Said) -> &Vec<Slack>| {
            let all = sources.iter().flat_map(|(_, said)| side(said)).map(|(_, slack)| *slack);
            all.filter(|slack| *slack >= 0).min()
        };
        let oracle_ns = match (least(|said| &said.upper), least(|said| &said.lower)) {
            (Some(above), Some(below)) => (above + below) / 2,
            _ => i64::MAX,
        };
        let sources = sources.into_iter().map(|(_, said)| said).collect();
        Self { from, sources, upper, lower, oracle_ns }
    }

    /// How far the nearest word before and after is, ns.
    fn silence(&self, b: i64) -> i64 {
        let split = self.upper.partition_point(|point| point.at.0 <= b);
        let before = split.checked_sub(1).and_then(|last| self.upper.get(last)).map(|point| b - point.at.0);
        let after = self.upper.get(split).map(|point| point.at.0 - b);
        before.into_iter().chain(after).min().unwrap_or(i64::MAX)
    }
}

/// The interval of who only knows the past and believes everyone, as it moves along.
struct Online<'a> {
    stretch: &'a Stretch,
    next: (usize, usize),
    /// Least of u − p·(1 + rho), greatest of l − p·(1 − rho), in 1e-9 ns.
    best: (i128, i128),
}

const SCALE: i128 = 1_000_000_000;

impl<'a> Online<'a> {
    fn new(stretch: &'a Stretch) -> Self {
        Self { stretch, next: (0, 0), best: (i128::MAX, i128::MIN) }
    }

    fn at(&mut self, b: i64) -> Option<(i64, i64)> {
        let (up, down) = (SCALE + i128::from(RHO_PPB), SCALE - i128::from(RHO_PPB));
        while let Some(point) = self.stretch.upper.get(self.next.0).filter(|point| point.at.0 <= b) {
            let intercept = i128::from(point.utc.0) * SCALE - i128::from(point.at.0) * up;
            self.best.0 = self.best.0.min(intercept);
            self.next.0 += 1;
        }
        while let Some(point) = self.stretch.lower.get(self.next.1).filter(|point| point.at.0 <= b) {
            let intercept = i128::from(point.utc.0) * SCALE - i128::from(point.at.0) * down;
            self.best.1 = self.best.1.max(intercept);
            self.next.1 += 1;
        }
        if self.next.0 == 0 || self.next.1 == 0 {
            return None;
        }
        let whole = |value: i128| i64::try_from(value.div_euclid(SCALE)).ok();
        Some((whole(self.best.1 + i128::from(b) * down)?, whole(self.best.0 + i128::from(b) * up)? + 1))
    }
}

/// Asks every `step_ns` of every boot and judges each answer.
pub fn judge(device: &SimulatedDevice, params: &Params, step_ns: i64, mut verdict: impl FnMut(Judged)) {
    let boots = learned(device, params);
    for boot in &device.boots {
        let mut starts = vec![0];
        starts.extend(boot.asleep.iter().map(|(_, to)| *to));
        starts.sort_unstable();
        for (place, from) in starts.iter().enumerate() {
            let to = starts.get(place + 1).copied().unwrap_or(boot.length_ns);
            stretch(boot, &boots, params, Stretch::new(boot, *from, to), to, step_ns, &mut verdict);
        }
    }
}

fn stretch(
    boot: &SimulatedBoot,
    boots: &Boots,
    params: &Params,
    stretch: Stretch,
    to: i64,
    step_ns: i64,
    verdict: &mut impl FnMut(Judged),
) {
    let asleep = |b: i64| boot.asleep.iter().any(|(from, to)| *from <= b && b < *to);
    let first = (stretch.from + step_ns - 1).div_euclid(step_ns);
    let asked: Vec<i64> =
        (first..).map(|n| n * step_ns).take_while(|b| *b < to).filter(|b| !asleep(*b)).collect();
    let mut online = Online::new(&stretch);
    let mut moments = asked.iter();
    boots.place_sorted(boot.ordinal, asked.iter().map(|b| BootNanos(*b)), |placed| {
        let Some(b) = moments.next().copied() else { return };
        let truth = boot.utc(b);
        let lies = stretch.sources.iter().map(|said| said.lies_around(b, params.window)).max().unwrap_or(0);
        let when = if b < boot.first_sync_ns {
            When::BeforeSync
        } else if stretch.silence(b) > 320_000_000_000 {
            When::Outage
        } else {
            When::Heard
        };
        let Placed { span, ts, grade, conflict, .. } = placed;
        let before = online.at(b).map(|(lo, hi)| {
            let middle = i64::midpoint(lo, hi);
            ((hi - lo) / 2, (middle - truth).abs(), truth < lo || hi < truth)
        });
        verdict(Judged {
            beyond_f: lies > params.f,
            grade,
            conflict,
            missed: truth < span.lo || span.hi < truth,
            closed: span.is_closed(),
            half_ns: span.hi.saturating_sub(span.lo) / 2,
            bound_ns: span.hi.saturating_sub(ts).max(ts.saturating_sub(span.lo)),
            error_ns: (ts - truth).abs(),
            when,
            online: before,
            wall_error_ns: boot.wall.error_ns(b).saturating_abs(),
            oracle_ns: stretch.oracle_ns,
        });
    });
}
