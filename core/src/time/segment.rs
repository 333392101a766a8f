//! Where the line of a boot breaks: events that no constraint may cross, and stretches that were slewed.

use super::cone::SCALE;
use super::envelope::Toll;
use super::statement::{ClockEvent, Constraint, RawReading};
use super::{BootNanos, clamp_i64};

/// A leap or a lone resume is noticed at most this long after it, ns: two polls of a quiet observer.
pub(super) const NOTICE_NS: i64 = 130_000_000_000;
/// A step of the wall clock is noticed within this, ns: the kernel wakes the observer at once, and a loaded board is slow.
pub(super) const STEP_NOTICE_NS: i64 = 2_000_000_000;

/// A stretch of a boot within which no one can say which side of a break a moment is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Break {
    /// Everything up to here is before.
    pub(super) from: BootNanos,
    /// Everything from here on is after.
    pub(super) to: BootNanos,
}

/// The breaks of sorted `events`, ascending and apart.
///
/// A leap changes what UTC says of the line, a suspend how the line passed: neither lets a bound through. A step moves only
/// the wall clock and a change of source only who sets it; boot time goes on, so bounds go through.
pub(super) fn breaks(events: &[(BootNanos, ClockEvent)]) -> Vec<Break> {
    let mut out: Vec<Break> = Vec::new();
    let mut asleep: Option<BootNanos> = None;
    let noticed = |at: BootNanos| Break { from: at.plus_ns(-NOTICE_NS), to: at };
    for (at, event) in events {
        let found = match event {
            ClockEvent::Leap => Some(noticed(*at)),
            ClockEvent::Suspend => {
                asleep = asleep.or(Some(*at));
                None
            }
            ClockEvent::Resume => Some(match asleep.take() {
                Some(from) => Break { from, to: *at },
                None => noticed(*at),
            }),
            ClockEvent::Step | ClockEvent::SourceChange | ClockEvent::DeviceRestart => None,
        };
        push(&mut out, found);
    }
    // It went to sleep and was not seen waking: whatever came after is another line.
    push(&mut out, asleep.map(|at| Break { from: at, to: at }));
    out
}

fn push(out: &mut Vec<Break>, found: Option<Break>) {
    let Some(found) = found else { return };
    match out.last_mut() {
        Some(last) if found.from <= last.to => {
            last.from = last.from.min(found.from);
            last.to = last.to.max(found.to);
        }
        _ => out.push(found),
    }
}

/// True if a step noticed at one of `steps` (ascending) may have fallen into what was read of the wall clock.
pub(super) fn stepped(steps: &[BootNanos], constraint: &Constraint) -> bool {
    let (from, to) = constraint.reach();
    let place = steps.partition_point(|at| *at < from);
    constraint.reads_wall_clock() && steps.get(place).is_some_and(|at| *at <= to.plus_ns(STEP_NOTICE_NS))
}

/// What sorted readings of the raw clock say of slews beyond `rho_ppb`. Pairs across a break say nothing: the raw clock
/// stands still in a suspend.
pub(super) fn tolls(readings: &[RawReading], breaks: &[Break], rho_ppb: i64) -> Vec<Toll> {
    let toll = |pair: &[RawReading]| {
        let [a, b] = pair else { return None };
        let place = breaks.partition_point(|one| one.to <= a.at);
        if breaks.get(place).is_some_and(|one| one.from < b.at) {
            return None;
        }
        let passed = i128::from(b.at.0) - i128::from(a.at.0);
        let allowed = passed * i128::from(rho_ppb) / SCALE;
        let by_raw =
            a.raw_ns.zip(b.raw_ns).map_or(0, |(a, b)| (passed - (i128::from(b) - i128::from(a))).abs());
        let doubt = i128::from(a.width_ns.max(0)) + i128::from(b.width_ns.max(0));
        let by_raw = if by_raw > allowed + doubt { by_raw + doubt } else { 0 };
        let by_freq = passed * i128::from(a.freq_ppb.unwrap_or(0)).abs() / SCALE;
        let by_freq = if by_freq > allowed { by_freq } else { 0 };
        let ns = by_raw.max(by_freq);
        (passed > 0 && ns > 0).then_some(Toll { from: a.at, to: b.at, ns: clamp_i64(ns) })
    };
    readings.windows(2).filter_map(toll).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Grade, UtcNanos};
    use super::*;
    use crate::time::statement::ClockSource;

    const S: i64 = 1_000_000_000;

    fn at(second: i64) -> BootNanos {
        BootNanos(second * S)
    }

    #[test]
    fn leaps_and_suspends_break_the_line_and_steps_do_not() {
        let events = [
            (at(10), ClockEvent::Step),
            (at(1_000), ClockEvent::Suspend),
            (at(1_600), ClockEvent::Resume),
            (at(3_000), ClockEvent::SourceChange),
            (at(5_000), ClockEvent::Leap),
            (at(9_000), ClockEvent::Resume),
            (at(9_900), ClockEvent::Suspend),
        ];
        let found: Vec<(i64, i64)> = breaks(&events).iter().map(|b| (b.from.0 / S, b.to.0 / S)).collect();
        assert_eq!(found, [(1_000, 1_600), (4_870, 5_000), (8_870, 9_000), (9_900, 9_900)]);
    }

    #[test]
    fn a_step_spoils_what_was_read_of_the_wall_clock_around_it_only() {
        let sample = |second: i64| Constraint::Sample {
            source: ClockSource::Chrony,
            b1: at(second),
            real: UtcNanos(0),
            b2: at(second).plus_ns(1_000),
            half_ns: 1,
            grade: Grade::Guaranteed,
        };
        let steps = [at(100)];
        let spoiled = |second| stepped(&steps, &sample(second));
        assert_eq!([97, 99, 100, 101].map(spoiled), [false, true, true, false]);
        let exchange = Constraint::Exchange {
            sent: Some((at(99), UtcNanos(0))),
            answered: Some((at(101), UtcNanos(0))),
            e_c_ns: 0,
            grade: Grade::Guaranteed,
        };
        assert!(!stepped(&steps, &exchange), "an exchange reads boot time only");
    }

    #[test]
    fn a_hard_slew_is_a_toll_and_a_suspend_is_none() {
        let reading = |second: i64, raw: i64| RawReading {
            at: at(second),
            width_ns: 1_000,
            raw_ns: Some(raw),
            freq_ppb: None,
        };
        let slewed =
            [reading(0, 0), reading(64, 64 * S - 64 * 500_000), reading(128, 128 * S - 64 * 500_000)];
        let found = tolls(&slewed, &[], 50_000);
        assert_eq!(found, [Toll { from: at(0), to: at(64), ns: 64 * 500_000 + 2_000 }]);
        let asleep = [reading(0, 0), reading(640, 10 * S)];
        assert_eq!(tolls(&asleep, &[Break { from: at(5), to: at(635) }], 50_000), []);
        assert_eq!(tolls(&asleep, &[], 50_000).len(), 1);
        let by_freq = RawReading { freq_ppb: Some(-200_000), raw_ns: None, ..reading(0, 0) };
        assert_eq!(tolls(&[by_freq, RawReading { at: at(10), ..by_freq }], &[], 50_000)[0].ns, 2_000_000);
    }
}
