//! Declared columns as Iceberg schemas: how a table is made, and how it may grow.
//!
//! Iceberg's builder gives new tables ids of its own and checks nothing when a schema is replaced. So growth is computed
//! and checked here: columns are only added, optional, with fresh ids, and types only widen.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use iceberg::TableCreation;
use iceberg::spec::{
    ListType, NestedField, NestedFieldRef, NullOrder, PrimitiveType, Schema, SortDirection, SortField,
    SortOrder, StructType, TableMetadata, TableMetadataBuilder, Transform, Type, UnboundPartitionSpec,
};
use uuid::Uuid;

use super::spec::unit_of;
use super::{ColumnSpec, ColumnType, TS, TableError, TableSpec};
use crate::error::LakeError;
use crate::names::TableName;

/// Property that maps column names to Iceberg field ids.
pub(crate) const FIELD_IDS: &str = "hw.field-ids";

/// Property that names the columns stored without compression and statistics.
const BLOB_COLUMNS: &str = "hw.blob-columns";

/// The day of `ts`. A partition may not be called like a column.
const TS_DAY: &str = "ts_day";

/// A builder for the table's next metadata and a draft of what it gives without a snapshot. The draft is for schema,
/// spec and location only: building it read the wall clock, which a snapshot's own time replaces.
#[derive(Debug)]
pub(crate) struct Drafted {
    pub(crate) builder: TableMetadataBuilder,
    pub(crate) draft: Arc<TableMetadata>,
}

/// Metadata of a table that does not exist yet. Its folder carries eight digits of its id, so that the same name made
/// on two branches, or dropped and made again, never shares a folder.
pub(crate) fn create(root: &str, spec: &TableSpec, uuid: Uuid) -> Result<Drafted, LakeError> {
    let fail = || LakeError::iceberg(format!("create table {}", spec.name));
    let mut next_id = 1;
    let fields = new_fields(&spec.columns, &mut next_id);
    let schema = Schema::builder().with_fields(fields).build().map_err(fail())?;

    let id_of = |name: &str| schema.field_id_by_name(name).ok_or_else(|| missing(&spec.name, name));
    let partition = UnboundPartitionSpec::builder()
        .add_partition_field(id_of(TS)?, TS_DAY, Transform::Day)
        .map_err(fail())?
        .build();
    let mut order = SortOrder::builder();
    for name in &spec.sort {
        order.with_sort_field(SortField {
            source_id: id_of(name)?,
            transform: Transform::Identity,
            direction: SortDirection::Ascending,
            null_order: NullOrder::First,
        });
    }
    let order = order.build(&schema).map_err(fail())?;

    let mut properties: HashMap<String, String> = HashMap::from([
        // Foreign expiry would delete files other branches still need; only the lake's own collector knows them all.
        ("gc.enabled".to_owned(), "false".to_owned()),
        ("write.metadata.previous-versions-max".to_owned(), "5".to_owned()),
        ("write.parquet.compression-codec".to_owned(), "zstd".to_owned()),
        ("hw.kind".to_owned(), spec.name.table().to_owned()),
    ]);
    if !spec.blob_columns.is_empty() {
        let paths: Vec<String> = spec.blob_columns.iter().map(|path| path.join(".")).collect();
        properties.insert(BLOB_COLUMNS.to_owned(), paths.join(","));
    }
    properties.extend(spec.properties.iter().map(|(k, v)| (k.clone(), v.clone())));

    let short: String = uuid.simple().to_string().chars().take(8).collect();
    let location = format!("{root}/t/{}/{}-{short}", spec.name.namespace(), spec.name.table());
    let creation = TableCreation::builder()
        .name(spec.name.table().to_owned())
        .location(location)
        .schema(schema)
        .partition_spec(partition)
        .sort_order(order)
        .properties(properties)
        .build();
    let builder = TableMetadataBuilder::from_table_creation(creation).map_err(fail())?.assign_uuid(uuid);
    let draft = builder.clone().build().map_err(fail())?.metadata;
    with_field_ids(builder, draft.current_schema(), &spec.name)
}

/// Metadata that follows `base` and holds every column of `spec`; columns `spec` leaves out stay.
pub(crate) fn evolve(
    base: &Arc<TableMetadata>,
    base_location: &str,
    spec: &TableSpec,
) -> Result<Drafted, LakeError> {
    let fail = || LakeError::iceberg(format!("evolve table {}", spec.name));
    let mut next_id = base.last_column_id() + 1;
    let old = base.current_schema();
    let fields = grown(&spec.name, "", old.as_struct().fields(), &spec.columns, &mut next_id)?;
    let builder = TableMetadata::clone(base).into_builder(Some(base_location.to_owned()));
    if fields == old.as_struct().fields() {
        return Ok(Drafted { builder, draft: Arc::clone(base) });
    }
    let schema = Schema::builder()
        .with_fields(fields)
        .with_identifier_field_ids(old.identifier_field_ids())
        .build()
        .map_err(fail())?;
    let builder = builder.add_current_schema(schema).map_err(fail())?;
    let draft = builder.clone().build().map_err(fail())?.metadata;
    with_field_ids(builder, draft.current_schema(), &spec.name)
}

/// Metadata that follows `base` and changes nothing but what its snapshot will.
pub(crate) fn kept(base: &Arc<TableMetadata>, base_location: &str) -> Drafted {
    let builder = TableMetadata::clone(base).into_builder(Some(base_location.to_owned()));
    Drafted { builder, draft: Arc::clone(base) }
}

/// Notes the ids of the columns of `schema` in the table's properties.
pub(crate) fn with_field_ids(
    builder: TableMetadataBuilder,
    schema: &Schema,
    table: &TableName,
) -> Result<Drafted, LakeError> {
    let fail = || LakeError::iceberg(format!("describe table {table}"));
    let ids: BTreeMap<&str, i32> =
        schema.as_struct().fields().iter().map(|f| (f.name.as_str(), f.id)).collect();
    let text = serde_json::to_string(&ids).map_err(|e| LakeError::corrupt(table, e))?;
    let builder = builder.set_properties(HashMap::from([(FIELD_IDS.to_owned(), text)])).map_err(fail())?;
    let draft = builder.clone().build().map_err(fail())?.metadata;
    Ok(Drafted { builder, draft: Arc::new(draft) })
}

fn missing(table: &TableName, column: &str) -> LakeError {
    TableError::Declaration {
        table: table.clone(),
        column: column.to_owned(),
        reason: "it is not declared".to_owned(),
    }
    .into()
}

/// Fields with fresh ids, one level before the next, as the builder numbers them too.
fn new_fields(columns: &[ColumnSpec], next_id: &mut i32) -> Vec<NestedFieldRef> {
    let first = *next_id;
    *next_id += i32::try_from(columns.len()).expect("a declaration has far fewer than 2^31 columns");
    (first..).zip(columns).map(|(id, column)| new_field(id, column, next_id)).collect()
}

fn new_field(id: i32, column: &ColumnSpec, next_id: &mut i32) -> NestedFieldRef {
    let field = NestedField::new(id, &column.name, new_type(&column.column_type, next_id), column.required);
    Arc::new(match &column.doc {
        Some(doc) => field.with_doc(doc),
        None => field,
    })
}

fn new_type(column_type: &ColumnType, next_id: &mut i32) -> Type {
    match column_type {
        ColumnType::Struct(members) => Type::Struct(StructType::new(new_fields(members, next_id))),
        ColumnType::List(element) => {
            let id = *next_id;
            *next_id += 1;
            Type::List(ListType::new(Arc::new(NestedField::list_element(
                id,
                new_type(element, next_id),
                false,
            ))))
        }
        other => Type::Primitive(primitive(other).expect("structs and lists are matched above")),
    }
}

fn primitive(column_type: &ColumnType) -> Option<PrimitiveType> {
    Some(match column_type {
        ColumnType::Boolean => PrimitiveType::Boolean,
        ColumnType::Int => PrimitiveType::Int,
        ColumnType::Long => PrimitiveType::Long,
        ColumnType::Float => PrimitiveType::Float,
        ColumnType::Double => PrimitiveType::Double,
        ColumnType::Decimal { precision, scale } => PrimitiveType::Decimal {
            precision: u32::from(*precision),
            scale: u32::from(scale.unsigned_abs()),
        },
        ColumnType::Date => PrimitiveType::Date,
        ColumnType::Timestamptz => PrimitiveType::Timestamptz,
        ColumnType::String => PrimitiveType::String,
        ColumnType::Binary => PrimitiveType::Binary,
        ColumnType::Struct(_) | ColumnType::List(_) => return None,
    })
}

/// The old fields, widened where the declaration asks for more, followed by the new ones.
fn grown(
    table: &TableName,
    within: &str,
    old: &[NestedFieldRef],
    columns: &[ColumnSpec],
    next_id: &mut i32,
) -> Result<Vec<NestedFieldRef>, LakeError> {
    let mut fields = Vec::with_capacity(old.len().max(columns.len()));
    for field in old {
        fields.push(match columns.iter().find(|column| column.name == field.name) {
            Some(column) => grown_field(table, within, field, column, next_id)?,
            None => Arc::clone(field),
        });
    }
    for column in columns.iter().filter(|column| old.iter().all(|field| field.name != column.name)) {
        if column.required {
            let reason =
                "a column added later is null in the rows that are there, so it must be optional".to_owned();
            return Err(evolution(table, within, &column.name, reason).into());
        }
        let id = *next_id;
        *next_id += 1;
        fields.push(new_field(id, column, next_id));
    }
    Ok(fields)
}

fn grown_field(
    table: &TableName,
    within: &str,
    field: &NestedFieldRef,
    column: &ColumnSpec,
    next_id: &mut i32,
) -> Result<NestedFieldRef, LakeError> {
    if column.required && !field.required {
        let reason = "it is optional in the table and cannot become required".to_owned();
        return Err(evolution(table, within, &column.name, reason).into());
    }
    // Values of another unit in one column would be wrong without anybody noticing.
    if let (Some(known), Some(found)) = (unit_of(field.doc.as_deref()), column.unit())
        && known != found
    {
        let reason = format!("it is in {known} in the table and {found} is asked for; convert the values");
        return Err(evolution(table, within, &column.name, reason).into());
    }
    let field_type = grown_type(
        table,
        &format!("{within}{}", column.name),
        &field.field_type,
        &column.column_type,
        next_id,
    )?;
    let mut field = NestedField::clone(field);
    *field.field_type = field_type;
    // The first text stays: writers of two versions would else make a new schema with every commit.
    if field.doc.is_none() {
        field.doc.clone_from(&column.doc);
    }
    Ok(Arc::new(field))
}

fn grown_type(
    table: &TableName,
    path: &str,
    old: &Type,
    asked: &ColumnType,
    next_id: &mut i32,
) -> Result<Type, LakeError> {
    match (old, asked) {
        (Type::Struct(old), ColumnType::Struct(members)) => {
            let fields = grown(table, &format!("{path}."), old.fields(), members, next_id)?;
            return Ok(Type::Struct(StructType::new(fields)));
        }
        (Type::List(old), ColumnType::List(element)) => {
            let mut field = NestedField::clone(&old.element_field);
            *field.field_type =
                grown_type(table, &format!("{path}.element"), &field.field_type, element, next_id)?;
            return Ok(Type::List(ListType::new(Arc::new(field))));
        }
        (Type::Primitive(old), asked) => {
            if let Some(widest) = primitive(asked).and_then(|asked| widest(old, &asked)) {
                return Ok(Type::Primitive(widest));
            }
        }
        _ => {}
    }
    let reason = format!(
        "it is {old} in the table and {asked:?} is asked for; types only widen: int to long, float to double, decimal to more digits"
    );
    Err(evolution(table, "", path, reason).into())
}

/// The wider of two types of one line; the table may already be wider than an older writer knows.
fn widest(a: &PrimitiveType, b: &PrimitiveType) -> Option<PrimitiveType> {
    use PrimitiveType::{Decimal, Double, Float, Int, Long};
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (Int, Long) | (Long, Int) => Some(Long),
        (Float, Double) | (Double, Float) => Some(Double),
        (Decimal { precision: p, scale: s }, Decimal { precision: q, scale: t }) if s == t => {
            Some(Decimal { precision: *p.max(q), scale: *s })
        }
        _ => None,
    }
}

/// The columns of large bytes of a table, as its declaration named them.
pub(crate) fn blob_columns(metadata: &TableMetadata) -> Vec<Vec<String>> {
    let paths = metadata.properties().get(BLOB_COLUMNS).map_or("", String::as_str);
    paths
        .split(',')
        .filter(|path| !path.is_empty())
        .map(|path| path.split('.').map(str::to_owned).collect())
        .collect()
}

/// The columns of a table as a declaration would write them. Types no declaration of ours has are left out.
pub(crate) fn columns(metadata: &TableMetadata) -> Vec<ColumnSpec> {
    declared(metadata.current_schema().as_struct().fields())
}

fn declared(fields: &[NestedFieldRef]) -> Vec<ColumnSpec> {
    let column = |field: &NestedFieldRef| {
        Some(ColumnSpec {
            name: field.name.clone(),
            column_type: declared_type(&field.field_type)?,
            required: field.required,
            doc: field.doc.clone(),
        })
    };
    fields.iter().filter_map(column).collect()
}

fn declared_type(field_type: &Type) -> Option<ColumnType> {
    Some(match field_type {
        Type::Struct(members) => ColumnType::Struct(declared(members.fields())),
        Type::List(list) => ColumnType::List(Box::new(declared_type(&list.element_field.field_type)?)),
        Type::Primitive(primitive) => match primitive {
            PrimitiveType::Boolean => ColumnType::Boolean,
            PrimitiveType::Int => ColumnType::Int,
            PrimitiveType::Long => ColumnType::Long,
            PrimitiveType::Float => ColumnType::Float,
            PrimitiveType::Double => ColumnType::Double,
            PrimitiveType::Decimal { precision, scale } => ColumnType::Decimal {
                precision: u8::try_from(*precision).ok()?,
                scale: i8::try_from(*scale).ok()?,
            },
            PrimitiveType::Date => ColumnType::Date,
            PrimitiveType::Timestamptz => ColumnType::Timestamptz,
            PrimitiveType::String => ColumnType::String,
            PrimitiveType::Binary => ColumnType::Binary,
            _ => return None,
        },
        Type::Map(_) => return None,
    })
}

fn evolution(table: &TableName, within: &str, column: &str, reason: String) -> TableError {
    TableError::Evolution { table: table.clone(), column: format!("{within}{column}"), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(columns: Vec<ColumnSpec>) -> TableSpec {
        let mut all = vec![ColumnSpec::required(TS, ColumnType::Timestamptz)];
        all.extend(columns);
        TableSpec::new(TableName::new("raw.imu").unwrap(), all, &[TS])
    }

    fn evolved(old: Vec<ColumnSpec>, new: Vec<ColumnSpec>) -> Result<Arc<TableMetadata>, LakeError> {
        let base = create("memory:///lake", &spec(old), Uuid::new_v4())?.draft;
        Ok(evolve(&base, "memory:///lake/t/m.json", &spec(new))?.draft)
    }

    fn x(column_type: ColumnType) -> Vec<ColumnSpec> {
        vec![ColumnSpec::optional("x", column_type)]
    }

    #[test]
    fn a_table_has_the_folder_partition_and_properties_it_should() {
        let uuid = Uuid::new_v4();
        let made = create("file:///lake", &spec(x(ColumnType::Float)), uuid).unwrap().draft;
        assert_eq!(made.location(), format!("file:///lake/t/raw/imu-{}", &uuid.simple().to_string()[..8]));
        assert_eq!(made.uuid(), uuid);
        assert_eq!(made.default_partition_spec().fields()[0].name, "ts_day");
        assert_eq!(made.properties()["gc.enabled"], "false");
        assert_eq!(made.properties()[FIELD_IDS], r#"{"ts":1,"x":2}"#);
        assert_eq!(made.default_sort_order().fields.len(), 1);
    }

    #[test]
    fn columns_are_added_with_fresh_ids_and_old_ones_stay() {
        let members = |names: &[&str]| {
            ColumnType::Struct(names.iter().map(|&n| ColumnSpec::optional(n, ColumnType::Int)).collect())
        };
        let old =
            vec![ColumnSpec::optional("s", members(&["a"])), ColumnSpec::optional("gone", ColumnType::Int)];
        let new =
            vec![ColumnSpec::optional("y", ColumnType::Double), ColumnSpec::optional("s", members(&["b"]))];
        let schema = Arc::clone(evolved(old, new).unwrap().current_schema());
        let ids: Vec<i32> = ["ts", "s", "gone", "s.a", "s.b", "y"]
            .iter()
            .map(|n| schema.field_id_by_name(n).unwrap())
            .collect();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_column_keeps_its_unit_and_reads_back_as_it_was_declared() {
        let mut columns = x(ColumnType::Float);
        columns[0] = columns[0].clone().with_unit("Cel");
        let kelvin = vec![columns[0].clone().with_unit("K")];
        let text = evolved(columns.clone(), kelvin).unwrap_err().to_string();
        assert_eq!(
            text,
            "evolve raw.imu.x: it is in Cel in the table and K is asked for; convert the values"
        );
        let members = vec![ColumnSpec::optional("a", ColumnType::Int)];
        for column_type in [
            ColumnType::Boolean,
            ColumnType::Decimal { precision: 20, scale: 0 },
            ColumnType::Date,
            ColumnType::Binary,
            ColumnType::Struct(members),
            ColumnType::List(Box::new(ColumnType::String)),
        ] {
            columns.push(ColumnSpec::optional(format!("c{}", columns.len()), column_type));
        }
        let made = create("memory:///lake", &spec(columns.clone()), Uuid::new_v4()).unwrap().draft;
        assert_eq!(super::columns(&made), spec(columns).columns);
    }

    #[test]
    fn only_the_legal_widenings_pass() {
        use ColumnType::{Double, Float, Int, Long, String};
        let kind = |draft: Arc<TableMetadata>| {
            draft.current_schema().field_by_name("x").unwrap().field_type.to_string()
        };
        assert_eq!(kind(evolved(x(Int), x(Long)).unwrap()), "long");
        assert_eq!(kind(evolved(x(Long), x(Int)).unwrap()), "long");
        assert_eq!(kind(evolved(x(Float), x(Double)).unwrap()), "double");
        for (old, new) in [(Int, Float), (Long, Double), (Int, String), (Float, Int)] {
            let text = evolved(x(old), x(new)).unwrap_err().to_string();
            assert!(text.starts_with("evolve raw.imu.x: "), "{text}");
        }
        let told = |text: &str| vec![ColumnSpec::optional("x", Int).with_doc(text)];
        assert_eq!(evolved(told("m/s"), told("metres per second")).unwrap().schemas_iter().len(), 1);
        let required = vec![ColumnSpec::required("x", Int)];
        assert!(evolved(vec![], required.clone()).is_err());
        assert!(evolved(x(Int), required).is_err());
    }
}
