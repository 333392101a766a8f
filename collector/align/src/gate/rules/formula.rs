//! Formulas: one answer for each row, or one for the window.

use super::{Measure, Scoped};
use crate::gate::formula::{Formula, some};
use arrow_array::Array;

pub(super) fn holds(at: &Scoped<'_>, expect: &Formula, nulls_pass: bool) -> Measure {
    let answers = match some(at.frame.batch(), at.rows).map(|rows| expect.evaluate(&rows)) {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => return Measure::unjudged("", error.to_string()),
        Err(error) => return Measure::unjudged("", error.to_string()),
    };
    let holds = |place: usize| match answers.is_null(place) {
        true => nulls_pass,
        false => answers.value(place),
    };
    let offending: Vec<usize> =
        at.rows.iter().enumerate().filter(|(place, _)| !holds(*place)).map(|(_, row)| *row).collect();
    let found = Measure::share("", offending, at.rows.len());
    if expect.is_window() {
        // No row is worse than another.
        let is_bad = !found.rows.is_empty();
        return Measure { rows: Vec::new(), ..found }.with("holds", !is_bad);
    }
    found
}
