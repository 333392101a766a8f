//! Adds up what was judged and puts it beside what others would have said.

use super::NAME;
use super::fleet::Mix;
use crate::figure::Sheet;
use headwater_core::time::Grade;
use headwater_sim::clocks::judge::{Judged, When};
use serde_json::{Map, Value, json};

/// Values of which percentiles are wanted, ns.
#[derive(Debug, Default)]
struct Spread(Vec<i64>);

impl Spread {
    /// (p50, p99, max), ms; zeros without values.
    fn ms(&mut self) -> [f64; 3] {
        self.0.sort_unstable();
        let at = |permille: usize| {
            let place = self.0.len().saturating_sub(1) * permille / 1_000;
            self.0.get(place).map_or(0.0, |ns| *ns as f64 / 1e6)
        };
        [at(500), at(990), at(1_000)]
    }
}

/// Questions of one class: at most f false points among those used, or more.
#[derive(Debug, Default)]
struct Class {
    asked: u64,
    guaranteed: u64,
    dropped: u64,
    conflicts: u64,
    /// By grade: ordering_only, estimated, guaranteed.
    missed: [u64; 3],
}

/// One mix.
#[derive(Debug, Default)]
pub(super) struct Tally {
    within: Class,
    beyond: Class,
    open: u64,
    half: Spread,
    bound: Spread,
    error: Spread,
    promised_half: Spread,
    before_sync: (Spread, Spread),
    outage: (Spread, Spread),
    online: (Spread, Spread),
    online_missed: u64,
    wall: Spread,
    oracle: Spread,
}

impl Tally {
    pub(super) fn add(&mut self, judged: &Judged) {
        let class = if judged.beyond_f { &mut self.beyond } else { &mut self.within };
        class.asked += 1;
        class.guaranteed += u64::from(judged.grade == Grade::Guaranteed);
        class.conflicts += u64::from(judged.conflict);
        class.dropped += u64::from(judged.grade < Grade::Guaranteed);
        class.missed[usize::from(judged.grade.code())] += u64::from(judged.missed);
        if !judged.closed {
            self.open += 1;
            return;
        }
        self.half.0.push(judged.half_ns);
        self.bound.0.push(judged.bound_ns);
        self.error.0.push(judged.error_ns);
        if judged.grade == Grade::Guaranteed {
            self.promised_half.0.push(judged.half_ns);
            if judged.oracle_ns < i64::MAX {
                self.oracle.0.push(judged.oracle_ns);
            }
        }
        let part = match judged.when {
            When::BeforeSync => Some(&mut self.before_sync),
            When::Outage => Some(&mut self.outage),
            When::Heard => None,
        };
        if let Some((half, error)) = part {
            half.0.push(judged.half_ns);
            error.0.push(judged.error_ns);
        }
        if let Some((half, error, missed)) = judged.online {
            self.online.0.0.push(half);
            self.online.1.0.push(error);
            self.online_missed += u64::from(missed);
        }
        self.wall.0.push(judged.wall_error_ns);
    }

    /// Guaranteed intervals within f that miss the truth: what must never be.
    pub(super) fn false_promises(&self) -> u64 {
        self.within.missed[usize::from(Grade::Guaranteed.code())]
    }

    pub(super) fn uncovered(&self) -> u64 {
        self.open
    }

    pub(super) fn print(mut self, mix: &Mix, days: u64, sheet: &mut Sheet) {
        let asked = self.within.asked + self.beyond.asked;
        let share = |n: u64, of: u64| 100.0 * n as f64 / of.max(1) as f64;
        let case = || json!({"mix": mix.name, "f": mix.f});
        let guaranteed = self.within.guaranteed + self.beyond.guaranteed;
        let beside = json!({
            "online": share(self.online.0.0.len() as u64, asked), "wall clock": 0.0,
            "guaranteed %": share(guaranteed, asked), "questions": asked, "device-days": days,
        });
        sheet.add(NAME, case(), "coverage", share(asked - self.open, asked), "%", beside);

        let ([half, half_99, half_max], online) = (self.half.ms(), self.online.0.ms());
        let mut beside = spread("online", online);
        beside.insert("p99".to_owned(), json!(half_99));
        beside.insert("max".to_owned(), json!(half_max));
        beside.insert("ts_err_ns p50".to_owned(), json!(self.bound.ms()[0]));
        if let Some([p50, max, ..]) = mix.design {
            beside.insert("design p50".to_owned(), json!(p50));
            beside.insert("design max".to_owned(), json!(max));
        }
        sheet.add(NAME, case(), "bound p50", half, "ms", beside.into());

        let ([error, error_99, error_max], online) = (self.error.ms(), self.online.1.ms());
        let mut beside = spread("online", online);
        beside.extend(spread("wall", self.wall.ms()));
        beside.insert("p99".to_owned(), json!(error_99));
        beside.insert("max".to_owned(), json!(error_max));
        if let Some([.., p50, max]) = mix.design {
            beside.insert("design p50".to_owned(), json!(p50));
            beside.insert("design max".to_owned(), json!(max));
        }
        sheet.add(NAME, case(), "error p50", error, "ms", beside.into());

        for (name, (half, error)) in [("before sync", &mut self.before_sync), ("outage", &mut self.outage)] {
            if !half.0.is_empty() {
                let ([bound, _, most], [p50, _, max]) = (half.ms(), error.ms());
                let beside = json!({"max": most, "error p50": p50, "error max": max});
                let case = json!({"mix": mix.name, "f": mix.f, "part": name});
                sheet.add(NAME, case, "bound p50", bound, "ms", beside);
            }
        }
        if !self.oracle.0.is_empty() {
            let ([ours, ..], [oracle, ..]) = (self.promised_half.ms(), self.oracle.ms());
            let beside = json!({"guaranteed bound p50 ms": ours, "oracle p50 ms": oracle});
            sheet.add(NAME, case(), "sharpness", ours / oracle.max(1e-9), "x", beside);
        }
        for (name, class) in [("within f", &self.within), ("beyond f", &self.beyond)] {
            if class.asked == 0 {
                continue;
            }
            let [ordering, estimated, promised] = class.missed;
            let beside = json!({
                "questions": class.asked, "guaranteed %": share(class.guaranteed, class.asked),
                "below guaranteed %": share(class.dropped, class.asked), "conflict %": share(class.conflicts, class.asked),
                "estimated": estimated, "ordering_only": ordering,
                "% of guaranteed": share(promised, class.guaranteed),
            });
            let case = json!({"mix": mix.name, "f": mix.f, "windows": name});
            sheet.add(NAME, case, "violations of guaranteed", promised as f64, "1", beside);
        }
        let beside = json!({"% of online": share(self.online_missed, self.online.0.0.len() as u64)});
        sheet.add(NAME, case(), "violations of online bounds", self.online_missed as f64, "1", beside);
    }
}

fn spread(name: &str, [p50, p99, max]: [f64; 3]) -> Map<String, Value> {
    [("p50", p50), ("p99", p99), ("max", max)]
        .into_iter()
        .map(|(what, ms)| (format!("{name} {what}"), json!(ms)))
        .collect()
}
