//! Kinds: the union of what the fleet declares, by (kind, field name), as the columns of one table per kind.

use super::tables::{RAW_SORT, blob, long, properties, raw_columns, raw_table, text};
use headwater_core::id::{FieldName, KindName};
use headwater_core::schema::{Conversion, Field, Logical, Schema, conversion};
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
    /// The column has a unit that this one cannot be converted to.
    #[error(
        "field {field} of kind {kind} is in {found}, the table is in {known} ({column_type:?}), and the one cannot be converted to the other there: send it in {known} or rename the field"
    )]
    Unit {
        /// Kind.
        kind: KindName,
        /// Field.
        field: FieldName,
        /// The table's unit.
        known: String,
        /// The table's type.
        column_type: ColumnType,
        /// The declaration's.
        found: String,
    },
    /// The column that the field would get is another's.
    #[error("field {field} of kind {kind} would be column {column}, which is taken: rename the field")]
    Column {
        /// Kind.
        kind: KindName,
        /// Field.
        field: FieldName,
        /// The column.
        column: String,
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

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Kind {
    columns: BTreeMap<FieldName, KindColumn>,
    order: Vec<FieldName>,
    blob: Option<FieldName>,
}

/// Every kind seen, with the columns of its table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
            kind.admit(&schema.kind, field)?;
        }
        self.kinds.insert(schema.kind.clone(), kind);
        Ok(())
    }

    /// The column of a field.
    #[must_use]
    pub fn column(&self, kind: &KindName, field: &FieldName) -> Option<&KindColumn> {
        self.kinds.get(kind)?.columns.get(field)
    }

    /// How values of a declared field become values of its column; none where they are the same.
    #[must_use]
    pub fn conversion(&self, kind: &KindName, field: &Field) -> Option<Conversion> {
        let known = self.column(kind, &field.name)?;
        if known.unit == field.unit {
            return None;
        }
        conversion(&field.unit, &known.unit).filter(|conversion| !conversion.is_identity())
    }

    /// Brings a kind to what its table in the lake has: the table is right about types and units, also where another
    /// writer made the column first. Declarations that were admitted before may not fit any more.
    pub fn settle(&mut self, name: &KindName, table: &[ColumnSpec]) {
        let kind = self.kinds.entry(name.clone()).or_default();
        let object = blob("").column_type;
        let has_object = table.iter().any(|column| column.column_type == object);
        for column in table.iter().filter(|column| !is_common(&column.name)) {
            if let Some(known) = kind.columns.values_mut().find(|known| known.column == column.name) {
                let wider = widest(&known.column_type, &column.column_type);
                known.column_type = wider.unwrap_or_else(|| column.column_type.clone());
                if let Some(unit) = column.unit() {
                    unit.clone_into(&mut known.unit);
                }
                continue;
            }
            let described = has_object && OBJECT_COLUMNS.contains(&column.name.as_str());
            let Some(field) = column.name.parse::<FieldName>().ok().filter(|_| !described) else { continue };
            if column.column_type == object {
                kind.blob.get_or_insert_with(|| field.clone());
            }
            let (unit, column_type) = (column.unit().unwrap_or("1"), column.column_type.clone());
            let known = KindColumn { column: column.name.clone(), column_type, unit: unit.to_owned() };
            kind.order.push(field.clone());
            kind.columns.insert(field, known);
        }
    }

    /// The table of a kind; none if the kind was never admitted.
    #[must_use]
    pub fn spec(&self, name: &KindName) -> Option<TableSpec> {
        let kind = self.kinds.get(name)?;
        let mut columns = raw_columns();
        for field in &kind.order {
            let known = kind.columns.get(field)?;
            columns
                .push(ColumnSpec::optional(&known.column, known.column_type.clone()).with_unit(&known.unit));
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

impl Kind {
    fn admit(&mut self, name: &KindName, field: &Field) -> Result<(), KindConflict> {
        let found = column_type(&field.logical);
        if let Some(known) = self.columns.get_mut(&field.name) {
            known.column_type = joined(known, name, field, &found)?;
            return Ok(());
        }
        let column = match is_common(field.name.as_str()) || field.name.as_str() == "ts_day" {
            true => format!("{}_value", field.name),
            false => field.name.to_string(),
        };
        let is_object = field.logical == Logical::Blob;
        // Columns that say what an object is: one type whoever sends it.
        let described = [("hash", ColumnType::String), ("size", ColumnType::Long)];
        let spoilt = |known: &str, of: &ColumnType| described.iter().any(|(n, t)| *n == known && t != of);
        let taken = self.columns.values().any(|known| known.column == column)
            || (self.blob.is_some() && spoilt(&column, &found))
            || (is_object && self.columns.values().any(|known| spoilt(&known.column, &known.column_type)));
        if taken {
            return Err(KindConflict::Column { kind: name.clone(), field: field.name.clone(), column });
        }
        let known = KindColumn { column, column_type: found, unit: field.unit.clone() };
        self.columns.insert(field.name.clone(), known);
        self.order.push(field.name.clone());
        if is_object {
            self.blob.get_or_insert_with(|| field.name.clone());
        }
        Ok(())
    }
}

/// Columns beside an object's own.
const OBJECT_COLUMNS: [&str; 2] = ["hash", "size"];

fn is_common(name: &str) -> bool {
    raw_columns().iter().any(|column| column.name == name)
}

/// The type of a column that takes another declaration's values too.
fn joined(
    known: &KindColumn,
    kind: &KindName,
    field: &Field,
    found: &ColumnType,
) -> Result<ColumnType, KindConflict> {
    let wide = widest(&known.column_type, found).ok_or_else(|| KindConflict::Type {
        kind: kind.clone(),
        field: field.name.clone(),
        known: known.column_type.clone(),
        found: found.clone(),
    })?;
    if known.unit == field.unit {
        return Ok(wide);
    }
    // A converted value needs more digits or more range than the sensor's own.
    let converted = conversion(&field.unit, &known.unit).and_then(|conversion| match wide {
        _ if conversion.is_identity() => Some(wide.clone()),
        ColumnType::Int | ColumnType::Long if conversion.is_integral() => Some(ColumnType::Long),
        ColumnType::Float | ColumnType::Double => Some(ColumnType::Double),
        _ => None,
    });
    converted.ok_or_else(|| KindConflict::Unit {
        kind: kind.clone(),
        field: field.name.clone(),
        known: known.unit.clone(),
        column_type: known.column_type.clone(),
        found: field.unit.clone(),
    })
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
        assert_eq!(kinds.column(&"imu".parse().unwrap(), &"x".parse().unwrap()).unwrap().unit, "m/s2");
        assert_eq!(
            kinds.column(&"imu".parse().unwrap(), &"z".parse().unwrap()),
            None,
            "nothing of it was kept"
        );
    }

    #[test]
    fn another_unit_is_converted_where_the_column_can_hold_it() {
        let imu: KindName = "imu".parse().unwrap();
        let mut kinds = Kinds::default();
        let first = [
            ("t", Logical::F32, "Cel"),
            ("mv", Logical::I16, "mV"),
            ("v", Logical::I16, "V"),
            ("vol", Logical::I16, "mL"),
            ("raw", Logical::U64, "m"),
        ];
        kinds.admit(&schema(&first)).unwrap();
        let field = |name: &str, logical, unit| schema(&[(name, logical, unit)]);
        kinds.admit(&field("t", Logical::F32, "K")).unwrap();
        kinds.admit(&field("mv", Logical::I16, "V")).unwrap();
        kinds.admit(&field("vol", Logical::I16, "cm3")).unwrap();
        let column = |name: &str| kinds.column(&imu, &name.parse().unwrap()).unwrap().clone();
        assert_eq!((column("t").column_type, column("t").unit), (ColumnType::Double, "Cel".to_owned()));
        assert_eq!(column("mv").column_type, ColumnType::Long, "thousandfold needs room");
        assert_eq!(column("vol").column_type, ColumnType::Int, "the same size under another name");
        let of = |declared: Schema| kinds.conversion(&imu, &declared.fields[0]);
        assert_eq!(of(field("t", Logical::F32, "K")).unwrap().apply(293.15), 20.0);
        assert_eq!(of(field("mv", Logical::I16, "V")).unwrap().apply_integer(-3), Some(-3000));
        assert_eq!(of(field("vol", Logical::I16, "cm3")), None);
        assert_eq!(of(field("t", Logical::F32, "Cel")), None);
        // 1500 mV are no whole volts; a decimal column holds no thousandth.
        for refused in [field("v", Logical::I16, "mV"), field("raw", Logical::U64, "mm")] {
            let text = kinds.admit(&refused).unwrap_err().to_string();
            assert!(text.contains("cannot be converted"), "{text}");
        }
    }

    #[test]
    fn a_column_that_is_taken_refuses_the_field_and_not_the_table() {
        let mut kinds = Kinds::default();
        kinds.admit(&schema(&[("seq", Logical::I64, "1")])).unwrap();
        let text = kinds.admit(&schema(&[("seq_value", Logical::I64, "1")])).unwrap_err().to_string();
        assert_eq!(
            text,
            "field seq_value of kind imu would be column seq_value, which is taken: rename the field"
        );
        kinds.admit(&schema(&[("hash", Logical::I64, "1")])).unwrap();
        assert!(kinds.admit(&schema(&[("picture", Logical::Blob, "1")])).is_err());
        kinds.spec(&"imu".parse().unwrap()).unwrap().check().unwrap();
    }

    #[test]
    fn the_table_is_right_about_what_another_writer_made_first() {
        let imu: KindName = "imu".parse().unwrap();
        let mut kinds = Kinds::default();
        kinds.admit(&schema(&[("seq", Logical::I16, "1"), ("x", Logical::F32, "m")])).unwrap();
        let mut theirs = Kinds::default();
        theirs
            .admit(&schema(&[
                ("seq", Logical::I64, "1"),
                ("x", Logical::F64, "cm"),
                ("y", Logical::Utf8, "1"),
                ("picture", Logical::Blob, "1"),
            ]))
            .unwrap();
        let table = theirs.spec(&imu).unwrap().columns;
        kinds.settle(&imu, &table);
        let mut restarted = Kinds::default();
        restarted.settle(&imu, &table);
        for kinds in [&kinds, &restarted] {
            let x = kinds.column(&imu, &"x".parse().unwrap()).unwrap();
            assert_eq!((&x.column_type, x.unit.as_str()), (&ColumnType::Double, "cm"));
            assert!(kinds.column(&imu, &"y".parse().unwrap()).is_some());
            assert_eq!(kinds.column(&imu, &"hash".parse().unwrap()), None, "it describes the picture");
            let names = |spec: TableSpec| {
                spec.columns.into_iter().map(|c| c.name).collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(names(kinds.spec(&imu).unwrap()), names(theirs.spec(&imu).unwrap()));
        }
        assert_eq!(kinds.column(&imu, &"seq".parse().unwrap()).unwrap().column_type, ColumnType::Long);
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
