//! Recipes for people and for scripts.

use crate::query::QueryError;
use crate::query::show::Printer;
use headwater_align::recipe::diff::{Change, Touches, What};
use headwater_align::recipe::{Explanation, Findings, Mistake, Recipe};
use serde_json::{Value, json};
use std::io::Write;

fn listed(found: &[Mistake]) -> Value {
    found.iter().map(|found| json!({ "path": found.path, "text": found.text })).collect()
}

/// What a check found; of a recipe that could not be read there is no id.
pub(super) fn findings<W: Write>(
    spec: &str,
    recipe: Option<&Recipe>,
    findings: &Findings,
    printer: &mut Printer<W>,
) -> Result<(), QueryError> {
    if printer.json {
        let all = json!({
            "recipe": recipe.map(|recipe| recipe.name.to_string()),
            "id": recipe.map(Recipe::id),
            "mistakes": listed(&findings.mistakes),
            "warnings": listed(&findings.warnings),
        });
        return Ok(writeln!(printer.out, "{all}")?);
    }
    for (word, found) in [("mistake", &findings.mistakes), ("warning", &findings.warnings)] {
        for found in found {
            writeln!(printer.out, "{word} {}: {}", found.path, found.text)?;
        }
    }
    if let (Some(recipe), true) = (recipe, findings.mistakes.is_empty()) {
        let columns = recipe.outputs().len();
        writeln!(
            printer.out,
            "{spec} is a recipe: aligned.{}, {columns} columns, id {}",
            recipe.name,
            recipe.id()
        )?;
    }
    Ok(())
}

/// A recipe in words.
pub(super) fn explanation<W: Write>(told: &Explanation, printer: &mut Printer<W>) -> Result<(), QueryError> {
    if !printer.json {
        return Ok(write!(printer.out, "{told}")?);
    }
    let sections = told.sections.iter();
    let sections: Vec<Value> =
        sections.map(|section| json!({ "title": section.title, "lines": section.lines })).collect();
    Ok(writeln!(printer.out, "{}", json!({ "sections": sections }))?)
}

/// Differences of two recipes.
pub(super) fn changes<W: Write>(
    changes: &[Change],
    consequence: &str,
    printer: &mut Printer<W>,
) -> Result<(), QueryError> {
    if !printer.json {
        changes.iter().try_for_each(|change| writeln!(printer.out, "{change}"))?;
        return Ok(writeln!(printer.out, "{consequence}")?);
    }
    let all = changes.iter().map(|change| {
        let what = match change.what {
            What::Added => "added",
            What::Removed => "removed",
            What::Changed => "changed",
            What::Moved => "moved",
        };
        let touches = match change.touches {
            Touches::Rows => "rows",
            Touches::Values => "values",
            Touches::Finality => "finality",
            Touches::Layout => "layout",
        };
        json!({ "what": what, "path": change.path, "from": change.from, "to": change.to, "touches": touches })
    });
    let all: Vec<Value> = all.collect();
    Ok(writeln!(printer.out, "{}", json!({ "changes": all, "consequence": consequence }))?)
}
