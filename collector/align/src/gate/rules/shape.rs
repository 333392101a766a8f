//! What is there: columns, values, sources, rows that are no copies.

use super::{Measure, Scoped};
use crate::gate::frame::{Cell, Column, Missing};
use std::collections::{BTreeMap, BTreeSet};

/// Flags of a source (time-align §11): nothing there, beyond the tolerance, neighbours too far apart.
const NO_MATCH: i64 = 1 | 2 | 4;
/// A recorded gap lies beside it.
const GAP: i64 = 512;

pub(super) fn schema(
    at: &Scoped<'_>,
    columns: &BTreeMap<String, String>,
    required: &[String],
) -> Vec<Measure> {
    let all = || at.rows.to_vec();
    let mut found = Vec::new();
    for (name, wanted) in columns {
        let kind = at.frame.kind(name);
        let fits = match (kind, wanted.as_str()) {
            (None, _) => false,
            (Some(_), "any") => true,
            (Some("integer"), "number") => true,
            (Some(kind), wanted) => kind == wanted,
        };
        let offending = if fits { Vec::new() } else { all() };
        found.push(Measure::share(name, offending, at.rows.len()).with("type", kind.unwrap_or("not there")));
    }
    for name in required {
        let offending = match at.frame.column(name) {
            Ok(column) => at.rows.iter().copied().filter(|&row| column.is_null(row)).collect(),
            Err(Missing(_)) => all(),
        };
        found.push(Measure::share(name, offending, at.rows.len()));
    }
    found
}

pub(super) fn null(at: &Scoped<'_>, columns: &[String]) -> Vec<Measure> {
    at.each(columns, |name, column| {
        let offending = at.rows.iter().copied().filter(|&row| column.is_null(row)).collect();
        Measure::share(name, offending, at.rows.len())
    })
}

/// The groups that names mean; none of them is no mistake where all were meant.
fn groups(at: &Scoped<'_>, columns: &[String]) -> Vec<String> {
    if columns.iter().any(|name| name == "*") { at.frame.groups() } else { columns.to_vec() }
}

/// Measures a member of each group's source; a table without groups has nothing to offend.
fn sources(
    at: &Scoped<'_>,
    columns: &[String],
    is_bad: impl Fn(&dyn Fn(&str, usize) -> Option<i64>, usize) -> bool,
) -> Vec<Measure> {
    const MEMBERS: [&str; 4] = ["flag", "seq_lo", "dt_ns", "err_ns"];
    let mut found = Vec::new();
    for group in groups(at, columns) {
        let read: Result<Vec<(&str, Column)>, Missing> = MEMBERS
            .iter()
            .map(|member| Ok((*member, at.frame.column(&format!("{group}_src.{member}"))?)))
            .collect();
        let read = match read {
            Ok(read) => read,
            Err(Missing(why)) => {
                found.push(Measure::unjudged(&group, why));
                continue;
            }
        };
        let member = |name: &str, row: usize| {
            read.iter().find(|(known, _)| *known == name).and_then(|(_, column)| column.integer(row))
        };
        let offending = at.rows.iter().copied().filter(|&row| is_bad(&member, row)).collect();
        found.push(Measure::share(&group, offending, at.rows.len()));
    }
    if found.is_empty() {
        found.push(Measure::share("", Vec::new(), at.rows.len()));
    }
    found
}

pub(super) fn gap(at: &Scoped<'_>, columns: &[String]) -> Vec<Measure> {
    sources(at, columns, |member, row| member("flag", row).unwrap_or(0) & GAP != 0)
}

pub(super) fn coverage(
    at: &Scoped<'_>,
    columns: &[String],
    within_ns: Option<i64>,
    max_err_ns: Option<i64>,
) -> Vec<Measure> {
    let beyond = |found: Option<i64>, most: Option<i64>| {
        most.is_some_and(|most| found.is_none_or(|found| found.saturating_abs() > most))
    };
    sources(at, columns, |member, row| {
        member("seq_lo", row).is_none()
            || member("flag", row).unwrap_or(0) & NO_MATCH != 0
            || beyond(member("dt_ns", row), within_ns)
            || beyond(member("err_ns", row), max_err_ns)
    })
}

pub(super) fn duplicate(at: &Scoped<'_>, columns: &[String]) -> Vec<Measure> {
    let read: Result<Vec<Column>, Missing> = columns.iter().map(|name| at.frame.column(name)).collect();
    let read = match read {
        Ok(read) => read,
        Err(missing) => return vec![missing.into()],
    };
    let mut seen: BTreeSet<(&str, Vec<Option<Cell>>)> = BTreeSet::new();
    let mut offending = Vec::new();
    for &row in at.rows {
        let key: Vec<Option<Cell>> = match read.is_empty() {
            true => vec![Some(Cell::Text(at.frame.key(row)))],
            false => read.iter().map(|column| column.cell(row)).collect(),
        };
        let is_new = seen.insert((at.frame.device(row), key));
        let is_known = read.is_empty() && at.context.known.is_some_and(|known| known.get(row) == Some(&true));
        if !is_new || is_known {
            offending.push(row);
        }
    }
    vec![Measure::share("", offending, at.rows.len())]
}
