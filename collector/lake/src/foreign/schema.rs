//! How a client may change a table's columns, so that files written before are still read right.
//!
//! Iceberg's builder takes any schema. What is checked here: an id keeps its meaning, types only widen, new ids are new,
//! and tables that devices write only grow, since the next declaration would bring a lost column back, empty.

use std::collections::BTreeMap;
use std::sync::Arc;

use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, TableMetadata, Type,
};

use super::ForeignError;
use crate::names::TableName;
use crate::table::{FIELD_IDS, unit_of};

/// True for a table that this lake's own writers made and go on writing.
pub(super) fn is_ours(metadata: &TableMetadata) -> bool {
    metadata.properties().contains_key(FIELD_IDS)
}

/// One field, wherever it is nested.
#[derive(Debug)]
struct Column {
    path: String,
    parent: i32,
    field: NestedFieldRef,
}

/// Judges every schema of `new` that `base` does not have, and the one it makes current.
pub(super) fn check(
    table: &TableName,
    base: &TableMetadata,
    new: &TableMetadata,
) -> Result<(), ForeignError> {
    let added = new.schemas_iter().filter(|schema| base.schema_by_id(schema.schema_id()).is_none());
    for schema in added {
        check_one(table, base, schema)?;
    }
    if new.current_schema_id() != base.current_schema_id() {
        check_one(table, base, new.current_schema())?;
    }
    Ok(())
}

fn check_one(table: &TableName, base: &TableMetadata, new: &Schema) -> Result<(), ForeignError> {
    let refuse = |column: &str, reason: &str| {
        Err(ForeignError::Refused { table: table.clone(), reason: format!("column {column}: {reason}") })
    };
    let ours = is_ours(base);
    let (old, new) = (columns(base.current_schema()), columns(new));
    for (id, was) in &old {
        let Some(is) = new.get(id) else {
            if ours {
                return refuse(
                    &was.path,
                    "tables that devices write only grow; leave it out of your queries instead",
                );
            }
            continue;
        };
        if ours && (was.path != is.path || was.parent != is.parent) {
            return refuse(
                &was.path,
                "tables that devices write keep their names; `headwater` renames, so that agents go on",
            );
        }
        if was.parent != is.parent {
            return refuse(&was.path, "it cannot move into or out of a struct");
        }
        if is.field.required && !was.field.required {
            return refuse(
                &was.path,
                "it is optional and rows may be without it, so it cannot become required",
            );
        }
        if ours && was.field.required && !is.field.required {
            return refuse(&was.path, "every row has it and must go on to");
        }
        if !widens(&was.field.field_type, &is.field.field_type) {
            let text = format!(
                "{} cannot become {}; types only widen: int to long, float to double, decimal to more digits",
                was.field.field_type, is.field.field_type
            );
            return refuse(&was.path, &text);
        }
        let unit = |column: &Column| unit_of(column.field.doc.as_deref()).map(str::to_owned);
        if ours && unit(was) != unit(is) {
            return refuse(
                &was.path,
                "its doc says its unit, and the values are in it; convert the values instead",
            );
        }
    }
    for (id, is) in new.iter().filter(|(id, _)| !old.contains_key(id)) {
        if *id <= base.last_column_id() {
            return refuse(&is.path, &format!("its id {id} was another column's; new columns get new ids"));
        }
        let parent_is_new = is.parent > base.last_column_id();
        if is.field.required && !parent_is_new {
            return refuse(&is.path, "rows that are there are without it, so it must be optional");
        }
    }
    Ok(())
}

/// The same schema with the texts that `base` has of columns `new` brings without one: some clients drop them, and with
/// them a column's unit would be lost.
pub(super) fn with_docs(base: &Schema, new: &Schema) -> Result<Schema, iceberg::Error> {
    let known = columns(base);
    Schema::builder()
        .with_schema_id(new.schema_id())
        .with_identifier_field_ids(new.identifier_field_ids())
        .with_fields(new.as_struct().fields().iter().map(|field| described(field, &known)))
        .build()
}

fn described(field: &NestedFieldRef, known: &BTreeMap<i32, Column>) -> NestedFieldRef {
    let mut field = NestedField::clone(field);
    if field.doc.is_none() {
        field.doc = known.get(&field.id).and_then(|column| column.field.doc.clone());
    }
    *field.field_type = match *field.field_type {
        Type::Struct(members) => Type::Struct(StructType::new(
            members.fields().iter().map(|member| described(member, known)).collect(),
        )),
        Type::List(list) => Type::List(ListType::new(described(&list.element_field, known))),
        Type::Map(map) => {
            Type::Map(MapType::new(described(&map.key_field, known), described(&map.value_field, known)))
        }
        other => other,
    };
    Arc::new(field)
}

fn widens(old: &Type, new: &Type) -> bool {
    use PrimitiveType::{Decimal, Double, Float, Int, Long};
    match (old, new) {
        (Type::Struct(_), Type::Struct(_))
        | (Type::List(_), Type::List(_))
        | (Type::Map(_), Type::Map(_)) => true,
        (Type::Primitive(old), Type::Primitive(new)) => match (old, new) {
            (old, new) if old == new => true,
            (Int, Long) | (Float, Double) => true,
            (Decimal { precision: p, scale: s }, Decimal { precision: q, scale: t }) => s == t && q >= p,
            _ => false,
        },
        _ => false,
    }
}

/// Every field by its id.
fn columns(schema: &Schema) -> BTreeMap<i32, Column> {
    let mut found = BTreeMap::new();
    for field in schema.as_struct().fields() {
        gather(field, "", 0, &mut found);
    }
    found
}

fn gather(field: &NestedFieldRef, within: &str, parent: i32, found: &mut BTreeMap<i32, Column>) {
    let path = format!("{within}{}", field.name);
    let below = format!("{path}.");
    match field.field_type.as_ref() {
        Type::Struct(members) => {
            members.fields().iter().for_each(|member| gather(member, &below, field.id, found));
        }
        Type::List(list) => gather(&list.element_field, &below, field.id, found),
        Type::Map(map) => {
            gather(&map.key_field, &below, field.id, found);
            gather(&map.value_field, &below, field.id, found);
        }
        Type::Primitive(_) => {}
    }
    found.insert(field.id, Column { path, parent, field: NestedFieldRef::clone(field) });
}
