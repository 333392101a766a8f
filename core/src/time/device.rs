//! The clock of an attached device, mapped to the gateway's boot line by ping and pong, and on to UTC.
//!
//! Roles are exchanged against [`super::track`]: local is the device's time d, remote is boot time B(d). A ping written
//! at T1 needs at least `w_ping` on the wire: B(T2) ≥ T1 + w_ping. An answer whose last byte was read at T4 needed
//! `w_pong`: B(T3) ≤ T4 − w_pong.

use super::boots::{Query, Resolved};
use super::cone::{Point, Rate};
use super::envelope::{Cursor, Envelope, Shape};
use super::learn::{Observation, learn, residual_ppb};
use super::span::Span;
use super::statement::DeviceExchange;
use super::track::{Params, Placed};
use super::{BootNanos, Grade, UtcNanos};

/// Largest deviation of a device's clock that does not say what it has, ppb: an RC oscillator.
pub const DEVICE_RHO_PPB: i64 = 6_000_000;

/// Points used on each side of a moment: a device is pinged often, and a slow adapter holds most answers back.
pub const DEVICE_WINDOW: usize = 200;

/// The compiled clock of one device between two of its restarts.
#[derive(Debug, Clone)]
pub struct DeviceTrack {
    promised: Envelope,
    all: Envelope,
    outvotes: bool,
    /// All that was said is vouched for.
    guaranteed: bool,
    /// Learned frequency, ppb.
    phi_ppb: Option<i64>,
    rho_ppb: i64,
}

/// A moment of a device placed on the boot line, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnBoot {
    /// Boot time lies in here.
    pub span: Span,
    /// Best single guess.
    pub at: i64,
    /// More answers than may be false say so.
    pub promised: bool,
    /// Answers contradict one another.
    pub conflict: bool,
}

impl DeviceTrack {
    /// Compiles the answers of one device; `boot_rho_ppb` is the gateway's own deviation, which adds to the device's.
    #[must_use]
    pub fn new(exchanges: &[DeviceExchange], boot_rho_ppb: i64, params: &Params) -> Self {
        let said = exchanges.iter().filter_map(|one| one.rho_ppb).filter(|rho| *rho > 0).max();
        // Both deviations, and the product of two that are below a hundredth.
        let rho_ppb = said
            .unwrap_or(DEVICE_RHO_PPB)
            .saturating_add(boot_rho_ppb)
            .saturating_add(1 + boot_rho_ppb / 100);
        let usable = exchanges.iter().filter(|one| one.t1 <= one.t4 && one.t2 <= one.t3);
        let (mut upper, mut lower, mut observations) = (Vec::new(), Vec::new(), Vec::new());
        for one in usable {
            let least = one.t1.0.saturating_add(one.w_ping_ns.max(0));
            let most = one.t4.0.saturating_sub(one.w_pong_ns.max(0));
            lower.push(Point { at: BootNanos(one.t2), utc: UtcNanos(least) });
            upper.push(Point { at: BootNanos(one.t3), utc: UtcNanos(most) });
            observations.push(Observation {
                at: i64::midpoint(one.t2, one.t3),
                utc: i64::midpoint(least, most),
                width: most.saturating_sub(least).saturating_sub(one.t3.saturating_sub(one.t2)),
            });
        }
        for side in [&mut upper, &mut lower] {
            side.sort_unstable();
            side.dedup();
        }
        observations.sort_unstable();
        let guaranteed = exchanges.iter().all(|one| one.grade == Grade::Guaranteed);
        let outvotes = upper.len().min(lower.len()) > params.f;
        let f = if outvotes { params.f } else { 0 };
        let window = params.window.max(DEVICE_WINDOW);
        let built = |rate: Rate| Envelope::new(&upper, &lower, &[], Shape { rate, f, window });
        let learned = learn(&observations, rho_ppb);
        let all = built(learned.map_or(Rate::datasheet(rho_ppb), |learned| Rate {
            phi_ppb: learned.phi_ppb,
            rho_ppb: residual_ppb(learned, params.residual_ppb, rho_ppb),
        }));
        let phi_ppb = learned.map(|learned| learned.phi_ppb);
        Self { promised: built(Rate::datasheet(rho_ppb)), all, outvotes, guaranteed, phi_ppb, rho_ppb }
    }

    /// Learned frequency against boot time, ppb; none if too little was said.
    #[must_use]
    pub fn phi_ppb(&self) -> Option<i64> {
        self.phi_ppb
    }

    /// Rate bound, ppb.
    #[must_use]
    pub fn rho_ppb(&self) -> i64 {
        self.rho_ppb
    }

    /// Places a moment of the device on the boot line.
    #[must_use]
    pub fn place(&self, d_ns: i64) -> OnBoot {
        self.place_next(&mut (Cursor::default(), Cursor::default()), d_ns)
    }

    fn place_next(&self, cursor: &mut (Cursor, Cursor), d_ns: i64) -> OnBoot {
        let span = self.promised.at_cursor(&mut cursor.0, BootNanos(d_ns));
        let guess = self.all.at_cursor(&mut cursor.1, BootNanos(d_ns));
        let conflict = span.is_empty();
        let span = span.upright();
        let at = if guess.is_empty() { span.middle() } else { guess.middle() }.clamp(span.lo, span.hi);
        OnBoot { span, at, promised: self.outvotes && self.guaranteed && !conflict, conflict }
    }

    /// Places events of the device in UTC. `onto` places ascending moments of the boot line.
    #[must_use]
    pub fn resolve(&self, queries: &[Query], onto: impl Fn(&[BootNanos]) -> Vec<Placed>) -> Vec<Resolved> {
        let mut order: Vec<(BootNanos, usize)> =
            queries.iter().enumerate().map(|(place, query)| (query.event, place)).collect();
        order.sort_unstable();
        let mut cursor = (Cursor::default(), Cursor::default());
        let on_boot: Vec<OnBoot> = order.iter().map(|(d, _)| self.place_next(&mut cursor, d.0)).collect();
        let moments = |of: fn(&OnBoot) -> i64| -> Vec<BootNanos> {
            on_boot.iter().map(|one| BootNanos(of(one))).collect()
        };
        let (lo, at, hi) = (
            onto(&moments(|one| one.span.lo)),
            onto(&moments(|one| one.at)),
            onto(&moments(|one| one.span.hi)),
        );
        let mut answers = vec![None; queries.len()];
        let mut latest = i64::MIN;
        for ((((_, place), one), lo), (at, hi)) in order.iter().zip(&on_boot).zip(&lo).zip(at.iter().zip(&hi))
        {
            let placed = composed(*one, *lo, *at, *hi);
            latest = latest.max(placed.ts);
            if let Some((answer, query)) = answers.get_mut(*place).zip(queries.get(*place)) {
                *answer = Some(Resolved::of(Placed { ts: latest, ..placed }, query.half_ns));
            }
        }
        answers.into_iter().flatten().collect()
    }
}

/// UTC grows with boot time: the earliest boot time gives the earliest UTC.
fn composed(one: OnBoot, lo: Placed, at: Placed, hi: Placed) -> Placed {
    let span = Span { lo: lo.span.lo.min(at.span.lo), hi: hi.span.hi.max(at.span.hi) };
    let most = if one.promised { Grade::Guaranteed } else { Grade::Estimated };
    Placed {
        span,
        ts: at.ts.clamp(span.lo, span.hi),
        grade: lo.grade.min(at.grade).min(hi.grade).min(most),
        conflict: one.conflict || lo.conflict || hi.conflict,
        outvoted: at.outvoted,
    }
}
