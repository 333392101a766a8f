//! `[[column]]`: fields of one stream, matched together.

use super::super::keys;
use super::super::model::{Column, Duplicates, Method, Nulls, Tie};
use super::super::reader::Reader;
use super::{COLUMN_REACH_MAX_NS, RECIPE_COLUMNS_MAX};
use crate::derive::parse::prepare;
use headwater_core::id::{FieldName, StreamName};
use headwater_core::schema::check_unit;
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

impl Reader {
    /// The columns in order; `None` where one cannot be told.
    pub(super) fn columns(&mut self, table: &Table) -> Vec<Option<Column>> {
        if table.get("column").is_none_or(|value| value.as_array().is_some_and(Vec::is_empty)) {
            self.mistake("column", "missing; a recipe has at least one [[column]]");
            return Vec::new();
        }
        let columns = self.tables(table, "column");
        if columns.len() > RECIPE_COLUMNS_MAX {
            self.mistake("column", format!("{} columns, at most {RECIPE_COLUMNS_MAX}", columns.len()));
        }
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for (within, column) in columns {
            if let Some(name) = column.get("name").and_then(Value::as_str)
                && !names.insert(name)
            {
                self.mistake(format!("{within}name"), format!("{name} names two columns"));
            }
            read.push(self.column(column, &within));
        }
        read
    }

    fn column(&mut self, table: &Table, within: &str) -> Option<Column> {
        self.known(table, within, keys::COLUMN);
        let name = self.name::<FieldName>(table, within, "name", "motion");
        let stream = self.name::<StreamName>(table, within, "stream", "imu");
        let device = self.optional_name(table, within, "device");
        let select = self.names::<FieldName>(table, within, "select", "\"accel_x\"");
        let prepare = prepare(self, table, within, &select);
        let method = self.method(table, within, &select);
        let offset_ns = self.offset(table, within);
        let first_dup = self.word(table, within, "dup", &["last", "first"]) == Some(1);
        let tie_next = self.word(table, within, "tie", &["previous", "next"]) == Some(1);
        let take = self.word(table, within, "null_policy", &["skip", "take"]) == Some(1);
        let fallback = self.fallback(table, within, &select, method.as_ref());
        let units = self.units(table, within, &select, method.as_ref());
        let uncertainty = self.truth(table, within, "uncertainty").unwrap_or(false);
        Some(Column {
            name: name?,
            stream: stream?,
            device,
            select,
            prepare,
            method: method?,
            offset_ns,
            duplicates: if first_dup { Duplicates::First } else { Duplicates::Last },
            tie: if tie_next { Tie::Next } else { Tie::Previous },
            nulls: if take { Nulls::Take } else { Nulls::Skip },
            fallback,
            units,
            uncertainty,
        })
    }

    fn offset(&mut self, table: &Table, within: &str) -> i64 {
        let offset_ns = self.shift(table, within, "offset").unwrap_or(0);
        if offset_ns.unsigned_abs() > COLUMN_REACH_MAX_NS.unsigned_abs() {
            self.mistake(format!("{within}offset"), "beyond a year; is its unit right?");
        }
        offset_ns
    }

    fn units(
        &mut self,
        table: &Table,
        within: &str,
        select: &[FieldName],
        method: Option<&Method>,
    ) -> BTreeMap<FieldName, String> {
        let mut units = BTreeMap::new();
        let Some(wanted) = self.table(table, within, "unit", "unit = { temperature = \"K\" }") else {
            return units;
        };
        if matches!(method, Some(Method::Slerp(_))) {
            self.mistake(
                format!("{within}unit"),
                "the parts of a unit quaternion have no unit; leave it out",
            );
        }
        for (name, unit) in wanted {
            let path = format!("{within}unit.{name}");
            let Some(unit) = unit.as_str() else {
                self.mistake(path, "expected a UCUM unit in quotes, e.g. \"K\"");
                continue;
            };
            if let Err(error) = check_unit(unit) {
                self.mistake(path, error.to_string());
                continue;
            }
            match select.iter().find(|field| field.as_str() == name) {
                Some(field) => {
                    units.insert(field.clone(), unit.to_owned());
                }
                None => self.unselected(path, name, select),
            }
        }
        units
    }
}
