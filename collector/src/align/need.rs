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
        Self {
            kind,
            back_ns: back.max(locf),
            forward_ns: forward,
            offset_ns: column.offset_ns,
            takes_nulls: column.nulls == Nulls::Take || kind == NeedKind::Stretch,
        }
    }

    /// Farthest distance at which a sample can matter, ns, on either side.
    #[must_use]
    pub fn reach_ns(&self) -> i64 {
        self.back_ns.max(self.forward_ns).max(0)
    }
}
