//! Kinds: the union of what the fleet declares, by (kind, field name), as the columns of one table per kind (R11).

use super::tables::{RAW_SORT, blob, long, properties, raw_columns, raw_table, text};
use headwater_core::id::{FieldName, KindName};
use headwater_core::schema::{Field, Logical, Schema};
use headwater_lake::{ColumnSpec, ColumnType, TableSpec};
use std::collections::BTreeMap;

/// A declaration that does not fit its kind's table. Its rows go to quarantine with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KindConflict {
    /// The column has another type.
    #[error(
        "field {field} of kind {kind} is {found:?}, the table has {known:?}; types only widen (int to long, float to double): rename the field or the kind"
    )]
    Type {
        /// Kind.
        kind: KindName,
        /// Field.
        field: FieldName,
        /// The table's type.
        known: ColumnType,
        /// The declaration's.
        found: ColumnType,
    },
    /// The column has another unit.
    #[error(
        "field {field} of kind {kind} is in {found}, the table is in {known}: send it in {known} or rename the field"
    )]
    Unit {
        /// Kind.
        kind: KindName,
        /// Field.
        field: FieldName,
        /// The table's unit.
        known: String,
        /// The declaration's.
        found: String,
    },
}

/// A field as a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindColumn {
    /// Name in the table: the field's, or `<field>_value` where every raw table has a column of that name.
    pub column: String,
    /// Widest type declared so far.
    pub column_type: ColumnType,
    /// UCUM unit.
    pub unit: String,
}

#[derive(Debug, Clone, Default)]
struct Kind {
    columns: BTreeMap<FieldName, KindColumn>,
    order: Vec<FieldName>,
    blob: Option<FieldName>,
}

/// Every kind seen, with the columns of its table.
#[derive(Debug, Clone, Default)]
pub struct Kinds {
    kinds: BTreeMap<KindName, Kind>,
}

impl Kinds {
    /// Takes a declaration's fields into its kind, all or none. Idempotent.
    ///
    /// # Errors
    /// [`KindConflict`] names the first field that does not fit.
    pub fn admit(&mut self, schema: &Schema) -> Result<(), KindConflict> {
        let mut kind = self.kinds.get(&schema.kind).cloned().unwrap_or_default();
        for field in &schema.fields {
            let found = column_type(&field.logical);
            match kind.columns.get_mut(&field.name) {
                Some(known) => {
                    known.column_type =
                        widest(&known.column_type, &found).ok_or_else(|| KindConflict::Type {
                            kind: schema.kind.clone(),
                            field: field.name.clone(),
                            known: known.column_type.clone(),
                            found,
                        })?;
                    if known.unit != field.unit {
                        return Err(KindConflict::Unit {
                            kind: schema.kind.clone(),
                            field: field.name.clone(),
                            known: known.unit.clone(),
                            found: field.unit.clone(),
                        });
                    }
                }
                None => {
                    kind.columns.insert(field.name.clone(), new_column(field, found));
                    kind.order.push(field.name.clone());
                    if field.logical == Logical::Blob {
                        kind.blob.get_or_insert_with(|| field.name.clone());
                    }
                }
            }
        }
        self.kinds.insert(schema.kind.clone(), kind);
        Ok(())
    }

    /// The column of a field.
    #[must_use]
    pub fn column(&self, kind: &KindName, field: &FieldName) -> Option<&KindColumn> {
        self.kinds.get(kind)?.columns.get(field)
    }

    /// The table of a kind; none if the kind was never admitted.
    #[must_use]
    pub fn spec(&self, name: &KindName) -> Option<TableSpec> {
        let kind = self.kinds.get(name)?;
        let mut columns = raw_columns();
        for field in &kind.order {
            let known = kind.columns.get(field)?;
            columns.push(
                ColumnSpec::optional(&known.column, known.column_type.clone())
                    .with_doc(format!("unit: {}", known.unit)),
            );
        }
        let mut blob_columns = Vec::new();
        if let Some(field) = &kind.blob {
            blob_columns.push(vec![kind.columns.get(field)?.column.clone(), "bytes".to_owned()]);
            // What a reader needs to find and check the object without opening it.
            for extra in [
                text("hash").with_doc("SHA-256 of the object, hex"),
                long("size").with_doc("bytes of the object"),
            ] {
                if !columns.iter().any(|column| column.name == extra.name) {
                    columns.push(extra);
                }
            }
        }
        let mut spec = TableSpec::new(raw_table(name).ok()?, columns, &RAW_SORT);
        spec.blob_columns = blob_columns;
        spec.properties = properties([("hw.kind", name.to_string())]);
        Some(spec)
    }
}

fn new_column(field: &Field, column_type: ColumnType) -> KindColumn {
    let taken = raw_columns().iter().any(|column| column.name == field.name.as_str())
        || field.name.as_str() == "ts_day";
    let column = if taken { format!("{}_value", field.name) } else { field.name.to_string() };
    KindColumn { column, column_type, unit: field.unit.clone() }
}

/// The column type of a field. Iceberg has no unsigned types: u32 is a long, u64 a decimal(20,0).
#[must_use]
pub fn column_type(logical: &Logical) -> ColumnType {
    match logical {
        Logical::Bool => ColumnType::Boolean,
        Logical::I8 | Logical::I16 | Logical::I32 | Logical::U8 | Logical::U16 => ColumnType::Int,
        Logical::I64 | Logical::U32 => ColumnType::Long,
        Logical::U64 => ColumnType::Decimal { precision: 20, scale: 0 },
        Logical::F32 => ColumnType::Float,
        Logical::F64 | Logical::Scaled { .. } => ColumnType::Double,
        Logical::Utf8 | Logical::Enum(_) => ColumnType::String,
        Logical::Bytes | Logical::Fixed(_) | Logical::Keyed(_) => ColumnType::Binary,
        Logical::Blob => blob("").column_type,
    }
}

fn widest(a: &ColumnType, b: &ColumnType) -> Option<ColumnType> {
    use ColumnType::{Double, Float, Int, Long};
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (Int, Long) | (Long, Int) => Some(Long),
        (Float, Double) | (Double, Float) => Some(Double),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::schema::{Modality, builtin};

    fn schema(fields: &[(&str, Logical, &str)]) -> Schema {
        Schema {
            salt: 0,
            kind: "imu".parse().unwrap(),
            modality: Modality::Scalars,
            time_exp: 3,
            fields: fields
                .iter()
                .map(|(name, logical, unit)| Field {
                    name: name.parse().unwrap(),
                    logical: logical.clone(),
                    nullable: true,
                    unit: (*unit).to_owned(),
                })
                .collect(),
        }
    }

    #[test]
    fn a_kind_is_the_union_of_its_fields_and_types_widen() {
        let mut kinds = Kinds::default();
        kinds.admit(&schema(&[("x", Logical::F32, "m/s2"), ("n", Logical::I16, "1")])).unwrap();
        kinds
            .admit(&schema(&[
                ("y", Logical::F64, "m/s2"),
                ("n", Logical::U32, "1"),
                ("x", Logical::F64, "m/s2"),
            ]))
            .unwrap();
        let spec = kinds.spec(&"imu".parse().unwrap()).unwrap();
        spec.check().unwrap();
        let own: Vec<(String, ColumnType)> =
            spec.columns.into_iter().skip(17).map(|column| (column.name, column.column_type)).collect();
        assert_eq!(
            own,
            [
                ("x".to_owned(), ColumnType::Double),
                ("n".to_owned(), ColumnType::Long),
                ("y".to_owned(), ColumnType::Double)
            ]
        );
    }

    #[test]
    fn another_type_or_unit_is_refused_whole() {
        let mut kinds = Kinds::default();
        kinds.admit(&schema(&[("x", Logical::F32, "m/s2")])).unwrap();
        let text = kinds
            .admit(&schema(&[("z", Logical::F32, "1"), ("x", Logical::Utf8, "m/s2")]))
            .unwrap_err()
            .to_string();
        assert!(text.starts_with("field x of kind imu is String, the table has Float"), "{text}");
        let text = kinds.admit(&schema(&[("x", Logical::F32, "m")])).unwrap_err().to_string();
        assert!(text.contains("is in m, the table is in m/s2"), "{text}");
        assert_eq!(
            kinds.column(&"imu".parse().unwrap(), &"z".parse().unwrap()),
            None,
            "nothing of it was kept"
        );
    }

    #[test]
    fn a_field_named_like_a_common_column_moves_aside() {
        let mut kinds = Kinds::default();
        kinds.admit(&schema(&[("seq", Logical::I64, "1"), ("device", Logical::Utf8, "1")])).unwrap();
        let spec = kinds.spec(&"imu".parse().unwrap()).unwrap();
        spec.check().unwrap();
        assert!(
            spec.columns.iter().any(|c| c.name == "seq_value")
                && spec.columns.iter().any(|c| c.name == "device_value")
        );
    }

    #[test]
    fn pictures_have_bytes_path_hash_and_size() {
        let mut kinds = Kinds::default();
        kinds.admit(&builtin::image()).unwrap();
        let spec = kinds.spec(&"image".parse().unwrap()).unwrap();
        spec.check().unwrap();
        assert_eq!(spec.blob_columns, [["image", "bytes"]]);
        for name in ["image", "mime", "width", "height", "hash", "size"] {
            assert!(spec.columns.iter().any(|c| c.name == name), "{name}");
        }
    }
}
