//! Rows on a terminal: columns as wide as their content, numbers to the right.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value};

/// Longest cell shown; the rest is cut with an ellipsis. `--json` shows all. Addresses are whole: they are copied.
const CELL_CHARS_MAX: usize = 40;

/// Draws rows of one shape; `columns` gives order and heads.
pub(super) fn draw(columns: &[String], rows: &[Map<String, Value>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns);
    for row in rows {
        table.add_row(columns.iter().map(|column| row.get(column).map_or_else(String::new, text)));
    }
    for (at, column) in columns.iter().enumerate() {
        let numbers = rows.iter().filter_map(|row| row.get(column)).all(|v| v.is_number() || v.is_null());
        if numbers && let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

fn text(value: &Value) -> String {
    let full = match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(parts) if parts.len() == 1 && parts.contains_key("bytes") => {
            format!("<{} bytes>", parts.get("bytes").map_or_else(String::new, ToString::to_string))
        }
        other => other.to_string(),
    };
    if full.chars().count() <= CELL_CHARS_MAX || full.contains("://") {
        return full;
    }
    full.chars().take(CELL_CHARS_MAX.saturating_sub(1)).chain(['…']).collect()
}
