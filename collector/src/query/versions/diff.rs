//! `headwater diff`: what two commits differ in.

use super::super::QueryError;
use super::super::show::{Printer, object};
use super::busy;
use headwater_lake::{CommitDiff, Lake, RefName, TableDiff};
use serde_json::{Map, Value, json};
use std::io::Write;

impl<W: Write> Printer<W> {
    pub(super) async fn diff(
        &mut self,
        lake: &Lake,
        from: &str,
        to: Option<&str>,
        files: bool,
    ) -> Result<(), QueryError> {
        let main = RefName::main();
        let (from, to) = match (from.split_once(".."), to) {
            (Some((from, to)), None) => (from, to),
            (_, to) => (from, to.unwrap_or(main.as_str())),
        };
        let (from, to) = (lake.resolve(from).await?, lake.resolve(to).await?);
        let bar = busy("comparing");
        let diff = lake.diff(Some(&from), &to).await?;
        bar.finish_and_clear();
        if self.json {
            let value = serde_json::to_value(&diff).map_err(std::io::Error::from)?;
            writeln!(self.out, "{value}")?;
            return Ok(());
        }
        self.changes(&diff)?;
        for table in diff.tables.iter().filter(|_| files) {
            for (sign, list) in [("-", &table.files_removed), ("+", &table.files_added)] {
                for file in list {
                    writeln!(
                        self.out,
                        "{sign} {} {} rows {} bytes {}",
                        table.table, file.rows, file.bytes, file.path
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Tables that differ and how, for people.
    pub(in super::super) fn changes(&mut self, diff: &CommitDiff) -> Result<(), QueryError> {
        let rows: Vec<Map<String, Value>> = diff.tables.iter().map(row).collect();
        let heads = ["table", "rows", "+rows", "-rows", "+files", "-files", "+bytes", "-bytes", "columns"];
        self.list(&heads, &rows, "no table differs")?;
        if !diff.coverage.is_empty() {
            writeln!(self.out, "coverage of {} differs", diff.coverage.join(", "))?;
        }
        Ok(())
    }
}

fn row(table: &TableDiff) -> Map<String, Value> {
    let mut columns: Vec<String> = Vec::new();
    let schema = &table.schema;
    if table.created {
        columns.push("new table".to_owned());
    } else if table.dropped {
        columns.push("dropped".to_owned());
    } else {
        columns.extend(schema.added.iter().map(|column| format!("+{column}")));
        columns.extend(schema.removed.iter().map(|column| format!("-{column}")));
        columns.extend(schema.changed.iter().map(|[old, new]| format!("{old} → {new}")));
    }
    object(json!({
        "table": table.table,
        "rows": table.rows[1],
        "+rows": table.rows_added,
        "-rows": table.rows_removed,
        "+files": table.files_added.len(),
        "-files": table.files_removed.len(),
        "+bytes": table.bytes_added,
        "-bytes": table.bytes_removed,
        "columns": columns.join(", "),
    }))
}
