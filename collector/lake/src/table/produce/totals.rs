//! The `total-*` counters of a snapshot's summary, and what a commit's entry says of a table's size.

use std::collections::HashMap;

use iceberg::spec::Summary;

use crate::error::LakeError;
use crate::names::TableName;

/// Rows and bytes of a table after a change.
pub(super) struct Totals {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// Carries the `total-*` counters from the parent: readers show them, and nobody adds them up again.
pub(super) fn carry_totals(
    words: &mut HashMap<String, String>,
    parent: Option<&Summary>,
    table: &TableName,
) -> Result<Totals, LakeError> {
    let number = |word: Option<&String>| match word {
        None => Ok(0u64),
        Some(text) => {
            text.parse::<u64>().map_err(|e| LakeError::corrupt(table, format!("counter {text:?}: {e}")))
        }
    };
    let mut totals = HashMap::new();
    for (total, added, removed) in [
        ("total-records", "added-records", "deleted-records"),
        ("total-files-size", "added-files-size", "removed-files-size"),
        ("total-data-files", "added-data-files", "deleted-data-files"),
        ("total-delete-files", "added-delete-files", "removed-delete-files"),
        ("total-position-deletes", "added-position-deletes", "removed-position-deletes"),
        ("total-equality-deletes", "added-equality-deletes", "removed-equality-deletes"),
    ] {
        let before = number(parent.and_then(|parent| parent.additional_properties.get(total)))?;
        let after = (before + number(words.get(added))?).saturating_sub(number(words.get(removed))?);
        words.insert(total.to_owned(), after.to_string());
        totals.insert(total, after);
    }
    Ok(Totals { rows: totals["total-records"], bytes: totals["total-files-size"] })
}
