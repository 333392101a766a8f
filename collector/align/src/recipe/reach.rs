//! How far from an instant a column looks.

use super::model::{Column, Fallback, Method};

impl Column {
    /// How far before and after an instant samples decide its value, by the column's own offset already, ns ≥ 0; the
    /// uncertainty of times comes on top.
    #[must_use]
    pub fn reach(&self) -> (i64, i64) {
        let (mut before, after) = match &self.method {
            Method::Previous { tolerance_ns } => (*tolerance_ns, 0),
            Method::Next { tolerance_ns } => (0, *tolerance_ns),
            Method::Nearest { tolerance_ns } => (*tolerance_ns, *tolerance_ns),
            Method::Linear(of) | Method::Slerp(of) | Method::Geodesic { between: of, .. } => {
                (of.max_gap_ns.saturating_add(of.extrapolate_ns), of.max_gap_ns)
            }
            Method::Window { from_ns, to_ns, .. } | Method::List { from_ns, to_ns, .. } => {
                (from_ns.saturating_neg().max(0), (*to_ns).max(0))
            }
        };
        if let Fallback::Locf { max_age_ns } = self.fallback {
            before = before.max(max_age_ns);
        }
        // A sample stamped at t counts as t + offset: the ones that decide were stamped that much earlier.
        (before.saturating_add(self.offset_ns).max(0), after.saturating_sub(self.offset_ns).max(0))
    }

    /// The same for samples as they were taken: how far what prepares them looks comes on top.
    #[must_use]
    pub fn raw_reach(&self) -> (i64, i64) {
        let (before, after) = self.reach();
        let prepare = crate::derive::reach(&self.prepare);
        (before.saturating_add(prepare.before_ns), after.saturating_add(prepare.after_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;

    fn column(rest: &str) -> crate::recipe::Column {
        let text = format!(
            "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 's'\n[[column]]\nname = 'c'\nstream = 'c'\nselect = ['x']\n{rest}"
        );
        Recipe::parse(&text).unwrap().columns.remove(0)
    }

    fn reach(rest: &str) -> (i64, i64) {
        let (before, after) = column(rest).reach();
        (before / 1_000_000, after / 1_000_000)
    }

    #[test]
    fn reach_is_what_the_method_looks_at() {
        assert_eq!(reach("method = 'previous'\ntolerance = '50ms'"), (50, 0));
        assert_eq!(reach("method = 'next'\ntolerance = '50ms'"), (0, 50));
        assert_eq!(reach("method = 'nearest'\ntolerance = '50ms'\nfallback = { locf = '1s' }"), (1000, 50));
        assert_eq!(reach("method = 'linear'\nmax_gap = '50ms'\nextrapolate = '10ms'"), (60, 50));
        assert_eq!(
            reach("method = 'window'\nwindow = { from = '-1s', to = '20ms' }\nstats = ['max']"),
            (1000, 20)
        );
        assert_eq!(reach("method = 'nearest'\ntolerance = '50ms'\noffset = '-3ms'"), (47, 53));
        assert_eq!(reach("method = 'previous'\ntolerance = '1ms'\noffset = '-3ms'"), (0, 3));
        let median = "prepare = [{ step = 'median', samples = 5, max_gap = '10ms' }]";
        let prepared = format!("method = 'previous'\ntolerance = '50ms'\n{median}");
        assert_eq!(reach(&prepared), (50, 0));
        assert_eq!(column(&prepared).raw_reach(), (80_000_000, 30_000_000));
    }
}
