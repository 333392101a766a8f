//! `headwater scan`: rows of a table, cut down in the store rather than here.

use super::QueryError;
use super::cli::now;
use super::outgoing::{Moment, Span, condition};
use super::rows::row_values;
use super::show::Printer;
use super::table::draw;
use clap::ValueEnum;
use futures::TryStreamExt;
use headwater_lake::{Condition, Lake, ScanOptions, TableName};
use serde_json::{Map, Value};
use std::io::Write;

/// Rows that are drawn as one table: more are not read by anybody, and all of them are in memory.
const DRAWN_ROWS_MAX: usize = 10_000;

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RowFormat {
    /// A table for people.
    Text,
    /// An object a line.
    Json,
    /// Comma-separated, with a head.
    Csv,
}

#[derive(Debug, clap::Args)]
pub(super) struct ScanArgs {
    /// Table, such as raw.imu.
    table: String,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main")]
    at: String,
    /// At most this many rows; 0 = all.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Only these columns.
    #[arg(long, value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// Only rows from then on: RFC 3339, a day, or so long ago, such as -2h.
    #[arg(long, allow_hyphen_values = true, value_name = "MOMENT")]
    from: Option<Moment>,
    /// Only rows before then.
    #[arg(long, allow_hyphen_values = true, value_name = "MOMENT")]
    to: Option<Moment>,
    /// Only rows of this device.
    #[arg(long)]
    device: Option<String>,
    /// Only rows that meet this, such as accel_x>=9.5; may be repeated.
    #[arg(long = "where", value_name = "CONDITION", value_parser = condition)]
    conditions: Vec<Condition>,
    /// How rows are printed; --json is the same as --format json.
    #[arg(long, value_enum, default_value = "text")]
    format: RowFormat,
}

impl<W: Write> Printer<W> {
    /// Rows of a table; as JSON and CSV they are printed as they come.
    pub(super) async fn scan(&mut self, lake: &Lake, args: &ScanArgs) -> Result<(), QueryError> {
        let id = lake.resolve(&args.at).await?;
        let name =
            TableName::new(args.table.as_str()).map_err(|_| QueryError::TableName(args.table.clone()))?;
        let tables = lake.tables(&id).await?;
        if !tables.contains_key(&name) {
            let known: Vec<String> = tables.keys().map(ToString::to_string).collect();
            let (table, commit) = (args.table.clone(), id.short().to_owned());
            return Err(QueryError::NoTable { table, commit, known: known.join(", ") });
        }
        let format = if self.json { RowFormat::Json } else { args.format };
        let limit = match (format, args.limit) {
            (RowFormat::Text, 0) => Some(DRAWN_ROWS_MAX),
            (_, 0) => None,
            (_, limit) => Some(limit),
        };
        let span = Span::new(args.from, args.to, now().micros());
        let options = ScanOptions {
            columns: args.columns.clone(),
            limit,
            device: args.device.clone(),
            from_us: span.from_us,
            to_us: span.to_us,
            conditions: args.conditions.clone(),
            in_order: false,
        };
        let mut batches = lake.scan(&id, &name, options).await?;
        let mut drawn: Vec<Map<String, Value>> = Vec::new();
        let mut is_first = true;
        while let Some(batch) = batches.try_next().await? {
            let rows = row_values(&batch)?;
            match format {
                RowFormat::Text => drawn.extend(rows),
                RowFormat::Json => {
                    for row in rows {
                        writeln!(self.out, "{}", Value::Object(row))?;
                    }
                }
                RowFormat::Csv => {
                    for row in rows {
                        if std::mem::take(&mut is_first) {
                            let heads: Vec<&str> = row.keys().map(String::as_str).collect();
                            writeln!(self.out, "{}", heads.join(","))?;
                        }
                        writeln!(self.out, "{}", csv(&row))?;
                    }
                }
            }
        }
        if format != RowFormat::Text {
            return Ok(());
        }
        let heads: Vec<String> = drawn.first().map(|row| row.keys().cloned().collect()).unwrap_or_default();
        match drawn.is_empty() {
            true => writeln!(self.out, "no rows")?,
            false => writeln!(self.out, "{}", draw(&heads, &drawn))?,
        }
        Ok(())
    }
}

/// A row as CSV (RFC 4180); structs and lists as JSON. `headwater export --format csv` has them flat.
fn csv(row: &Map<String, Value>) -> String {
    let cell = |value: &Value| {
        let text = match value {
            Value::Null => return String::new(),
            Value::String(text) if text.is_empty() => return "\"\"".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match text.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text,
        }
    };
    row.values().map(cell).collect::<Vec<_>>().join(",")
}
