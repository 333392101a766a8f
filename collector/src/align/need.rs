//! How far around an instant a column must be complete before a row is final (pure).

use headwater_align::recipe::{Column, Fallback, Method, Nulls};

/// What a column needs to know around an instant, in time of the instant (its own offset is taken out by whoever looks).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// How.
    pub kind: NeedKind,
    /// Farthest sample before the instant that can matter, ns.
    pub back_ns: i64,
    /// Farthest sample after it, ns; negative for a window that ends before it.
    pub forward_ns: i64,
    /// Added to the event time of the stream's samples, ns.
    pub offset_ns: i64,
    /// Whether samples of nulls only are candidates.
    pub takes_nulls: bool,
}

/// What decides that nothing that matters can still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeedKind {
    /// One sample at or before the instant decides.
    Before,
    /// So does one on each side.
    Around,
    /// Every sample of a stretch counts.
    Stretch,
}

impl Need {
    /// Of a column.
    #[must_use]
    pub fn of(column: &Column) -> Self {
        let locf = match column.fallback {
            Fallback::Locf { max_age_ns } => max_age_ns,
            Fallback::Null | Fallback::Drop | Fallback::Const(_) => 0,
        };
        let (kind, back, forward) = match &column.method {
            Method::Previous { tolerance_ns } => (NeedKind::Before, *tolerance_ns, 0),
            // The nearest earlier sample says whether the match is ambiguous, and what its fallback is.
            Method::Next { tolerance_ns } => (NeedKind::Around, 0, *tolerance_ns),
            Method::Nearest { tolerance_ns } => (NeedKind::Around, *tolerance_ns, *tolerance_ns),
            Method::Linear(between) | Method::Slerp(between) | Method::Geodesic { between, .. } => {
                let reach = between.max_gap_ns.max(between.extrapolate_ns);
                (NeedKind::Around, reach, reach)
            }
            Method::Window { from_ns, to_ns, .. } | Method::List { from_ns, to_ns, .. } => {
                (NeedKind::Stretch, from_ns.saturating_neg(), *to_ns)
            }
        };
        let need = Self {
            kind,
            back_ns: back.max(locf),
            forward_ns: forward,
            offset_ns: column.offset_ns,
            takes_nulls: column.nulls == Nulls::Take || kind == NeedKind::Stretch,
        };
        if column.prepare.is_empty() { need } else { need.prepared(column) }
    }

    /// What is prepared rests on samples about it, any of which may be null or gone afterwards: every one within reach counts.
    fn prepared(self, column: &Column) -> Self {
        let steps = headwater_align::derive::reach(&column.prepare);
        let back = match &column.method {
            // The line of the last two samples may be followed beyond them.
            Method::Linear(between) | Method::Slerp(between) | Method::Geodesic { between, .. } => {
                self.back_ns.max(between.max_gap_ns.saturating_add(between.extrapolate_ns))
            }
            _ => self.back_ns,
        };
        Self {
            kind: NeedKind::Stretch,
            back_ns: back.saturating_add(steps.before_ns),
            forward_ns: self.forward_ns.saturating_add(steps.after_ns),
            takes_nulls: true,
            ..self
        }
    }

    /// Farthest distance at which a sample can matter, ns, on either side.
    #[must_use]
    pub fn reach_ns(&self) -> i64 {
        self.back_ns.max(self.forward_ns).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_align::recipe::Recipe;

    fn need(rest: &str) -> Need {
        let text = format!(
            "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 's'\n[[column]]\nname = 'c'\nstream = 'c'\nselect = ['x']\n{rest}"
        );
        Need::of(&Recipe::parse(&text).unwrap().columns[0])
    }

    #[test]
    fn what_is_prepared_waits_for_all_that_its_steps_look_at() {
        let plain = need("method = 'previous'\ntolerance = '50ms'");
        assert_eq!((plain.kind, plain.back_ns, plain.forward_ns), (NeedKind::Before, 50_000_000, 0));
        let median = "prepare = [{ step = 'median', samples = 5, max_gap = '10ms' }]";
        let prepared = need(&format!("method = 'previous'\ntolerance = '50ms'\n{median}"));
        assert_eq!(
            (prepared.kind, prepared.back_ns, prepared.forward_ns),
            (NeedKind::Stretch, 80_000_000, 30_000_000)
        );
        let linear = need(&format!("method = 'linear'\nmax_gap = '40ms'\nextrapolate = '10ms'\n{median}"));
        assert_eq!((linear.back_ns, linear.forward_ns), (80_000_000, 70_000_000));
    }
}
