//! Declarations as `ops.schemas` keeps them.

use super::read::ScannedRows;
use headwater_core::schema::Schema;

/// The schema under the names that an operator gave, which are noted beside the declared ones.
#[must_use]
pub fn known_as(rows: ScannedRows<'_>, row: usize, schema: &Schema) -> Schema {
    let mut known_as = schema.clone();
    if let Some(Ok(kind)) = rows.text("kind", row).map(|kind| kind.parse()) {
        known_as.kind = kind;
    }
    let noted = rows.text("fields", row).unwrap_or_default();
    let noted: Vec<serde_json::Value> = serde_json::from_str(&noted).unwrap_or_default();
    for (field, noted) in known_as.fields.iter_mut().zip(noted) {
        if let Some(Ok(name)) = noted["known_as"].as_str().map(str::parse) {
            field.name = name;
        }
    }
    known_as
}
