//! What an erasure means for each table, and which rows of a batch it takes.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, BooleanArray, RecordBatch, StructArray};
use serde::{Deserialize, Serialize};

use crate::error::LakeError;
use crate::names::TableName;
use crate::table::TS;

/// The column that says whose a row is.
pub(super) const DEVICE: &str = "device";
const STREAM: &str = "stream";
const ROW_KEY: &str = "row_key";

/// What to erase, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Whose rows.
    pub device: String,
    /// Only of this stream.
    pub stream: Option<String>,
    /// Only captured at or after this, UTC µs.
    pub from_us: Option<i64>,
    /// Only captured before this, UTC µs.
    pub to_us: Option<i64>,
    /// Forgets also that it ever was: the ledger's rows go, and what the device still holds would be taken in anew.
    pub forget: bool,
    /// Why; kept in the commits and in the audit record.
    pub reason: String,
}

/// What one table loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Rows of the device, its stream and the span of capture.
    Captures,
    /// As that, but the row's time is when it came in: anything captured in the span may have come in later.
    SetAside,
    /// All rows of the device.
    Traces,
}

impl Erasure {
    pub(super) fn check(&self) -> Result<(), LakeError> {
        let refuse = |reason: &str| Err(LakeError::Erasure { reason: reason.to_owned() });
        if self.device.is_empty() {
            return refuse("no device is named");
        }
        if self.reason.trim().is_empty() {
            return refuse("no reason is given; it stands in the audit record for ever (--reason)");
        }
        if let (Some(from), Some(to)) = (self.from_us, self.to_us)
            && from >= to
        {
            return refuse("the span ends before it begins");
        }
        if self.forget && !self.is_whole_device() {
            return refuse(
                "only a whole device can be forgotten: leave out --stream, --from and --to, or --forget",
            );
        }
        Ok(())
    }

    fn is_whole_device(&self) -> bool {
        self.stream.is_none() && self.from_us.is_none() && self.to_us.is_none()
    }

    /// What a table with these columns loses; none if nothing.
    pub(super) fn scope(&self, table: &TableName, has: impl Fn(&str) -> bool) -> Option<Scope> {
        if !has(DEVICE) {
            return None;
        }
        match (table.namespace(), table.table()) {
            // It holds no captures; without it what the device sends again would be new.
            ("ops", "ledger") => self.forget.then_some(Scope::Traces),
            ("ops", "quarantine") => Some(Scope::SetAside),
            ("ops", _) => self.is_whole_device().then_some(Scope::Traces),
            _ => Some(Scope::Captures),
        }
    }

    /// Which rows of a batch go.
    pub(super) fn matches(&self, scope: Scope, rows: &RecordBatch) -> BooleanArray {
        let device = |row| text(rows, DEVICE, row) == Some(self.device.as_str());
        let stamps = rows.column_by_name(TS).and_then(|ts| ts.as_primitive_opt::<TimestampMicrosecondType>());
        let within = |row| {
            let Some(ts) = stamps.filter(|ts| ts.is_valid(row)).map(|ts| ts.value(row)) else { return true };
            // What was set aside before the span began cannot have been captured in it; what came later can.
            let to_us = self.to_us.filter(|_| scope == Scope::Captures);
            self.from_us.is_none_or(|from_us| ts >= from_us) && to_us.is_none_or(|to_us| ts < to_us)
        };
        let of_stream = |row| self.stream.as_deref().is_none_or(|stream| is_of(rows, row, stream));
        let takes = |row| match scope {
            Scope::Traces => device(row),
            Scope::Captures | Scope::SetAside => device(row) && within(row) && of_stream(row),
        };
        (0..rows.num_rows()).map(|row| Some(takes(row))).collect()
    }
}

fn text<'a>(rows: &'a RecordBatch, column: &str, row: usize) -> Option<&'a str> {
    text_of(rows.column_by_name(column)?.as_ref(), row)
}

fn text_of(column: &dyn Array, row: usize) -> Option<&str> {
    if column.is_null(row) {
        return None;
    }
    column
        .as_string_opt::<i32>()
        .map(|texts| texts.value(row))
        .or_else(|| column.as_string_opt::<i64>().map(|texts| texts.value(row)))
}

/// Whether a row is of the stream, or was made from it: an aligned row names its spine in its key, and the source of each
/// column beside it.
fn is_of(rows: &RecordBatch, row: usize, stream: &str) -> bool {
    if rows.column_by_name(STREAM).is_some() {
        return text(rows, STREAM, row) == Some(stream);
    }
    let spine = text(rows, ROW_KEY, row).and_then(|key| key.split_once('/')?.1.rsplit_once('/'));
    let source = |holder: &StructArray| {
        holder.is_valid(row)
            && holder.column_by_name(STREAM).and_then(|names| text_of(names.as_ref(), row)) == Some(stream)
    };
    spine.is_some_and(|(spine, _)| spine == stream)
        || rows.columns().iter().filter_map(|column| column.as_struct_opt()).any(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erasure(stream: Option<&str>, from_us: Option<i64>) -> Erasure {
        let stream = stream.map(str::to_owned);
        Erasure {
            device: "d".to_owned(),
            stream,
            from_us,
            to_us: None,
            forget: false,
            reason: "asked".to_owned(),
        }
    }

    #[test]
    fn tables_lose_what_they_should() {
        let scope = |erasure: &Erasure, table: &str| erasure.scope(&TableName::new(table).unwrap(), |_| true);
        let whole = erasure(None, None);
        assert_eq!(scope(&whole, "raw.imu"), Some(Scope::Captures));
        assert_eq!(scope(&whole, "ops.batches"), Some(Scope::Traces));
        assert_eq!(scope(&whole, "ops.ledger"), None);
        assert_eq!(scope(&Erasure { forget: true, ..whole.clone() }, "ops.ledger"), Some(Scope::Traces));
        let part = erasure(Some("imu"), None);
        assert_eq!(scope(&part, "ops.batches"), None);
        assert_eq!(scope(&part, "ops.quarantine"), Some(Scope::SetAside));
        assert_eq!(whole.scope(&TableName::new("raw.imu").unwrap(), |_| false), None);
        assert!(Erasure { forget: true, ..part }.check().is_err());
        assert!(Erasure { reason: " ".to_owned(), ..whole }.check().is_err());
    }
}
