//! What clients send, parsed once: the bodies of the REST protocol as far as they change tables.

use std::collections::HashMap;

use iceberg::spec::{FormatVersion, Schema, SortOrder, UnboundPartitionSpec};
use iceberg::{TableRequirement, TableUpdate};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::ForeignError;
use crate::names::TableName;

/// Changes one request makes in one commit, all or none.
#[derive(Debug, Clone)]
pub struct ForeignRequest {
    /// Each table at most once.
    pub edits: Vec<ForeignEdit>,
    /// Who asks: the author of the commit.
    pub author: String,
    /// Why, for people.
    pub message: String,
    /// Now, UTC µs.
    pub time_us: i64,
}

/// One table's part of a request.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ForeignEdit {
    /// Requirements and updates; with the requirement that it does not exist, it makes the table.
    Change(TableChange),
    /// Makes an empty table.
    Create(Box<TableCreate>),
    /// Takes the table out of this ref. Its files stay as long as any commit names them.
    Drop(TableName),
}

impl ForeignEdit {
    /// The table meant.
    pub fn table(&self) -> &TableName {
        match self {
            ForeignEdit::Change(change) => &change.table,
            ForeignEdit::Create(create) => &create.table,
            ForeignEdit::Drop(table) => table,
        }
    }
}

/// Requirements and updates of one table, as `POST tables/{table}` and `transactions/commit` carry them.
#[derive(Debug, Clone)]
pub struct TableChange {
    pub(super) table: TableName,
    pub(super) requirements: Vec<TableRequirement>,
    pub(super) updates: Vec<TableUpdate>,
}

#[derive(Deserialize)]
struct ChangeBody {
    #[serde(default)]
    requirements: Vec<TableRequirement>,
    #[serde(default)]
    updates: Vec<TableUpdate>,
}

impl TableChange {
    /// Parses a change of `table`; other members of the body (such as `identifier`) are left alone.
    ///
    /// # Errors
    /// [`ForeignError::Body`].
    pub fn parse(table: TableName, body: Value) -> Result<TableChange, ForeignError> {
        let body: ChangeBody = serde_json::from_value(body)
            .map_err(|e| ForeignError::Body { table: table.to_string(), reason: e.to_string() })?;
        Ok(TableChange { table, requirements: body.requirements, updates: body.updates })
    }

    /// What the updates do, for a commit's message: their actions, each once, in order.
    pub fn actions(&self) -> Vec<&'static str> {
        let mut actions: Vec<&'static str> = Vec::new();
        for update in &self.updates {
            let action = match update {
                TableUpdate::AddSnapshot { snapshot } => match snapshot.summary().operation.as_str() {
                    "append" => "append",
                    "overwrite" => "overwrite",
                    "delete" => "delete",
                    _ => "replace",
                },
                TableUpdate::AddSchema { .. } | TableUpdate::SetCurrentSchema { .. } => "schema",
                TableUpdate::SetProperties { .. } | TableUpdate::RemoveProperties { .. } => "properties",
                _ => continue,
            };
            if !actions.contains(&action) {
                actions.push(action);
            }
        }
        actions
    }

    pub(super) fn creates(&self) -> bool {
        self.requirements.iter().any(|requirement| matches!(requirement, TableRequirement::NotExist))
    }
}

/// A table to be made.
#[derive(Debug, Clone)]
pub struct TableCreate {
    pub(super) table: TableName,
    /// Its own id; the folder is called by it.
    pub(super) uuid: Uuid,
    pub(super) schema: Schema,
    pub(super) spec: Option<UnboundPartitionSpec>,
    pub(super) order: Option<SortOrder>,
    pub(super) properties: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct CreateBody {
    location: Option<String>,
    schema: Schema,
    partition_spec: Option<UnboundPartitionSpec>,
    write_order: Option<SortOrder>,
    properties: Option<HashMap<String, String>>,
}

/// Property by which clients ask for a format version when they make a table; it is never stored.
const FORMAT_VERSION: &str = "format-version";

impl TableCreate {
    /// The table to be made.
    pub fn table(&self) -> &TableName {
        &self.table
    }

    /// Parses the body of `POST namespaces/{namespace}/tables` for `table`, whose place in the lake is the lake's to choose.
    ///
    /// # Errors
    /// [`ForeignError::Body`]; [`ForeignError::Refused`] for a location or a format of the client's own.
    pub fn parse(table: TableName, body: Value) -> Result<TableCreate, ForeignError> {
        let body: CreateBody = serde_json::from_value(body)
            .map_err(|e| ForeignError::Body { table: table.to_string(), reason: e.to_string() })?;
        if let Some(location) = body.location {
            let reason = format!("the lake chooses where tables lie; leave the location {location} out");
            return Err(ForeignError::Refused { table, reason });
        }
        let mut properties = body.properties.unwrap_or_default();
        if let Some(version) = properties.remove(FORMAT_VERSION) {
            check_format(&table, version == "2", &version)?;
        }
        Ok(TableCreate {
            table,
            uuid: Uuid::new_v4(),
            schema: body.schema,
            spec: body.partition_spec,
            order: body.write_order,
            properties,
        })
    }
}

/// Format 2 alone is written: its readers are everywhere.
pub(super) fn check_format(table: &TableName, is_two: bool, asked: &str) -> Result<(), ForeignError> {
    if is_two {
        return Ok(());
    }
    let reason =
        format!("format {asked} is asked for; tables of a lake are of format 2, which every reader knows");
    Err(ForeignError::Refused { table: table.clone(), reason })
}

pub(super) fn is_two(version: FormatVersion) -> bool {
    version == FormatVersion::V2
}
