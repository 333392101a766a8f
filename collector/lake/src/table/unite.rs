//! Two schemas of one table, grown apart on two branches, as one.

use std::collections::BTreeMap;
use std::sync::Arc;

use iceberg::spec::{NestedField, NestedFieldRef, Schema, TableMetadata};

use super::Drafted;
use super::schema::with_field_ids;
use crate::error::LakeError;
use crate::names::TableName;

/// Why two schemas cannot be one, in words.
pub(crate) type Clash = String;

/// Metadata that follows `onto` and has all columns of `other` too. `base` is what both grew from: a column only one
/// side changed takes that side's form. Columns keep their ids, since data files know columns by id.
pub(crate) fn unite(
    table: &TableName,
    onto: &Arc<TableMetadata>,
    onto_location: &str,
    other: &TableMetadata,
    base: Option<&TableMetadata>,
) -> Result<Result<Drafted, Clash>, LakeError> {
    let fail = || LakeError::iceberg(format!("unite the columns of {table}"));
    if onto.default_partition_spec().fields() != other.default_partition_spec().fields() {
        return Ok(Err("the two sides partition it differently".to_owned()));
    }
    let fields = match united(
        onto.current_schema().as_struct().fields(),
        other.current_schema().as_struct().fields(),
        base.map_or(&[], |base| base.current_schema().as_struct().fields()),
    ) {
        Ok(fields) => fields,
        Err(clash) => return Ok(Err(clash)),
    };
    let builder = TableMetadata::clone(onto).into_builder(Some(onto_location.to_owned()));
    if fields == onto.current_schema().as_struct().fields() {
        return Ok(Ok(Drafted { builder, draft: Arc::clone(onto) }));
    }
    let schema = Schema::builder()
        .with_fields(fields)
        .with_identifier_field_ids(onto.current_schema().identifier_field_ids())
        .build()
        .map_err(fail())?;
    let builder = builder.add_current_schema(schema).map_err(fail())?;
    let draft = builder.clone().build().map_err(fail())?.metadata;
    with_field_ids(builder, draft.current_schema(), table).map(Ok)
}

fn united(
    onto: &[NestedFieldRef],
    other: &[NestedFieldRef],
    base: &[NestedFieldRef],
) -> Result<Vec<NestedFieldRef>, Clash> {
    let by_id = |fields: &[NestedFieldRef]| -> BTreeMap<i32, NestedFieldRef> {
        fields.iter().map(|field| (field.id, Arc::clone(field))).collect()
    };
    let (theirs, common) = (by_id(other), by_id(base));
    let mut fields = Vec::with_capacity(onto.len() + other.len());
    for field in onto {
        fields.push(match theirs.get(&field.id) {
            None if common.contains_key(&field.id) => {
                return Err(format!("column {} was dropped on one side", field.name));
            }
            None => Arc::clone(field),
            Some(their) => one(field, their, common.get(&field.id))?,
        });
    }
    for field in other.iter().filter(|field| onto.iter().all(|mine| mine.id != field.id)) {
        if common.contains_key(&field.id) {
            return Err(format!("column {} was dropped on one side", field.name));
        }
        if onto.iter().any(|mine| mine.name == field.name) {
            return Err(format!("column {} was added on both sides, each in its own way", field.name));
        }
        if field.required {
            return Err(format!("column {} is required on one side only", field.name));
        }
        fields.push(Arc::clone(field));
    }
    Ok(fields)
}

fn one(
    mine: &NestedFieldRef,
    their: &NestedFieldRef,
    base: Option<&NestedFieldRef>,
) -> Result<NestedFieldRef, Clash> {
    if mine.name != their.name {
        return Err(match base {
            Some(base) => format!("column {} was renamed on one side", base.name),
            // Ids are given out in order, so two branches give one id to two columns.
            None => format!(
                "columns {} and {} were added under one id ({}); add the other side's column here first, then merge",
                mine.name, their.name, mine.id
            ),
        });
    }
    let same = |a: &NestedField, b: &NestedField| (&a.field_type, a.required) == (&b.field_type, b.required);
    match base {
        _ if same(mine, their) => Ok(Arc::clone(mine)),
        Some(base) if same(base, their) => Ok(Arc::clone(mine)),
        Some(base) if same(base, mine) => Ok(Arc::clone(their)),
        _ => Err(format!(
            "column {} is {} on one side and {} on the other",
            mine.name, mine.field_type, their.field_type
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iceberg::spec::{PrimitiveType, Type};

    fn field(id: i32, name: &str, primitive: PrimitiveType) -> NestedFieldRef {
        Arc::new(NestedField::optional(id, name, Type::Primitive(primitive)))
    }

    #[test]
    fn columns_of_both_sides_are_kept_and_clashes_named() {
        use PrimitiveType::{Double, Float, Int, Long};
        let base = [field(1, "x", Int)];
        let mine = [field(1, "x", Long), field(2, "y", Float)];
        let their = [field(1, "x", Int), field(3, "z", Float)];
        let both = united(&mine, &their, &base).unwrap();
        assert_eq!(both, [field(1, "x", Long), field(2, "y", Float), field(3, "z", Float)]);
        let widened = united(&their[..1], &mine, &base).unwrap();
        assert_eq!(widened, mine);
        let told =
            |mine: &[NestedFieldRef], their: &[NestedFieldRef]| united(mine, their, &base).unwrap_err();
        let one_id = [field(1, "x", Int), field(2, "z", Float)];
        assert!(told(&mine, &one_id).starts_with("columns y and z were added under one id (2)"));
        assert!(told(&mine, &[field(1, "x", Double)]).contains("long on one side and double"));
        assert!(told(&mine, &mine[1..]).contains("dropped"));
        assert!(told(&mine[..1], &[field(1, "w", Int)]).contains("column x was renamed"));
    }
}
