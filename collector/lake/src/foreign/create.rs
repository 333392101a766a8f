//! Tables that clients make: where they lie, and what every table of a lake has.

use std::collections::HashMap;

use iceberg::spec::{Schema, TableMetadata, TableMetadataBuilder};
use iceberg::{TableCreation, TableUpdate};
use uuid::Uuid;

use super::request::{TableCreate, check_format, is_two};
use super::{ForeignError, rules};
use crate::error::LakeError;
use crate::names::TableName;

/// Hex digits of a table's id that its folder is called by.
const FOLDER_DIGITS: usize = 8;

/// The folder of a table: its name and the beginning of its id, so that the same name made twice never shares one.
pub(super) fn folder(root: &str, table: &TableName, uuid: Uuid) -> String {
    let short: String = uuid.simple().to_string().chars().take(FOLDER_DIGITS).collect();
    format!("{root}/t/{}/{}-{short}", table.namespace(), table.table())
}

/// Metadata of a table without a snapshot.
pub(super) fn metadata(root: &str, create: &TableCreate) -> Result<TableMetadata, LakeError> {
    let table = &create.table;
    let wrong = |e: iceberg::Error| ForeignError::Body { table: table.to_string(), reason: e.to_string() };
    if let Some(key) = create.properties.keys().find(|key| rules::is_kept(key) && !is_default(create, key)) {
        let reason = format!("the property {key} is kept by the lake; leave it out");
        return Err(ForeignError::Refused { table: table.clone(), reason }.into());
    }
    let mut properties = create.properties.clone();
    properties.extend(defaults());
    let creation = TableCreation::builder()
        .name(table.table().to_owned())
        .location(folder(root, table, create.uuid))
        .schema(create.schema.clone())
        .partition_spec_opt(create.spec.clone())
        .sort_order_opt(create.order.clone())
        .properties(properties)
        .build();
    let builder = TableMetadataBuilder::from_table_creation(creation).map_err(wrong)?;
    Ok(builder.assign_uuid(create.uuid).build().map_err(wrong)?.metadata)
}

/// What a client is told in a staged table, and says again.
fn is_default(create: &TableCreate, key: &str) -> bool {
    create.properties.get(key) == defaults().get(key)
}

fn defaults() -> HashMap<String, String> {
    HashMap::from([
        // Foreign expiry would delete files other branches still need; only the lake's own collector knows them all.
        ("gc.enabled".to_owned(), "false".to_owned()),
        ("write.metadata.previous-versions-max".to_owned(), "5".to_owned()),
    ])
}

/// The table that `updates` describe from nothing, and the updates left to be applied on it.
pub(super) fn from_updates(
    root: &str,
    table: &TableName,
    updates: &[TableUpdate],
) -> Result<(TableMetadata, Vec<TableUpdate>), LakeError> {
    let refuse = |reason: String| ForeignError::Refused { table: table.clone(), reason };
    let mut schema: Option<Schema> = None;
    let (mut uuid, mut location, mut spec, mut order) = (None, None, None, None);
    let mut properties = HashMap::new();
    let mut rest = Vec::new();
    for update in updates {
        match update {
            TableUpdate::AssignUuid { uuid: given } => uuid = Some(*given),
            TableUpdate::SetLocation { location: given } => {
                location = Some(given.trim_end_matches('/').to_owned())
            }
            TableUpdate::AddSchema { schema: given } => schema = Some(given.clone()),
            TableUpdate::AddSpec { spec: given } => spec = Some(given.clone()),
            TableUpdate::AddSortOrder { sort_order } => order = Some(sort_order.clone()),
            TableUpdate::SetProperties { updates } => properties.extend(updates.clone()),
            TableUpdate::UpgradeFormatVersion { format_version } => {
                check_format(table, is_two(*format_version), &format!("{format_version:?}"))?;
            }
            // The last added of each is the one meant; a new table has one.
            TableUpdate::SetCurrentSchema { .. }
            | TableUpdate::SetDefaultSpec { .. }
            | TableUpdate::SetDefaultSortOrder { .. } => {}
            other => rest.push(other.clone()),
        }
    }
    let body = |reason: &str| ForeignError::Body { table: table.to_string(), reason: reason.to_owned() };
    let given = schema.ok_or_else(|| body("a new table needs a schema"))?;
    let uuid = match (uuid, &location) {
        (Some(uuid), _) => uuid,
        (None, Some(location)) => uuid_of(location).ok_or_else(|| {
            refuse(format!("the lake chooses where tables lie; {location} is not the place it gave"))
        })?,
        (None, None) => Uuid::new_v4(),
    };
    let create = TableCreate { table: table.clone(), uuid, schema: given.clone(), spec, order, properties };
    let made = metadata(root, &create)?;
    if let Some(location) = location.filter(|location| location != made.location()) {
        let reason = format!("the lake chooses where tables lie: {}, not {location}", made.location());
        return Err(refuse(reason).into());
    }
    // Files are written by the ids the client was told when the table was staged.
    if made.current_schema().as_struct() != given.as_struct() {
        let reason = "its column ids are not those a new table has (from 1, one level before the next); stage the table first";
        return Err(body(reason).into());
    }
    Ok((made, rest))
}

/// An id that begins as the folder's name says.
fn uuid_of(location: &str) -> Option<Uuid> {
    let (_, digits) = location.rsplit_once('-')?;
    let head = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == FOLDER_DIGITS)?;
    let mut bytes = *Uuid::new_v4().as_bytes();
    bytes.get_mut(..4)?.copy_from_slice(&head.to_be_bytes());
    Some(Uuid::from_bytes(bytes))
}
