//! Fields of decoded runs as columns of a table: one array for all runs of a declaration, however many messages they
//! came in. A commit of thousands of devices would else be made of as many arrays a column, of some rows each.

use arrow_array::builder::{BinaryBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType, BooleanArray, Decimal128Array};
use arrow_schema::ArrowError;
use headwater_core::batch::{Column, Values};
use headwater_core::schema::{Conversion, Logical};
use headwater_lake::ColumnType;
use std::sync::Arc;

/// A field of several runs of one declaration, one run behind the other.
#[derive(Debug)]
pub(super) struct Stretch<'a> {
    pub(super) columns: Vec<&'a Column>,
    pub(super) logical: &'a Logical,
}

/// A run's values of one type, with the column that says which of them are there.
type Run<'a, T> = (&'a Column, &'a [T]);

fn each<'a, T>(runs: &'a [Run<'a, T>]) -> impl Iterator<Item = Option<&'a T>> {
    runs.iter().flat_map(|(column, values)| {
        values.iter().enumerate().map(|(row, value)| column.is_valid(row).then_some(value))
    })
}

/// An array of what `value` makes of each value.
fn numbers<P: ArrowPrimitiveType, T>(
    runs: &[Run<'_, T>],
    value: impl Fn(&T) -> Option<P::Native>,
) -> ArrayRef {
    let rows = runs.iter().map(|(_, values)| values.len()).sum();
    let mut builder = PrimitiveBuilder::<P>::with_capacity(rows);
    for found in each(runs) {
        builder.append_option(found.and_then(&value));
    }
    Arc::new(builder.finish())
}

/// An array of the values as they are.
fn same<P: ArrowPrimitiveType>(runs: &[Run<'_, P::Native>]) -> ArrayRef {
    let rows = runs.iter().map(|(_, values)| values.len()).sum();
    let mut builder = PrimitiveBuilder::<P>::with_capacity(rows);
    for (column, values) in runs {
        match &column.valid {
            None => builder.append_slice(values),
            Some(_) => {
                for (row, value) in values.iter().enumerate() {
                    builder.append_option(column.is_valid(row).then_some(*value));
                }
            }
        }
    }
    Arc::new(builder.finish())
}

fn texts<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut builder = StringBuilder::new();
    texts.for_each(|text| builder.append_option(text));
    Arc::new(builder.finish())
}

impl<'a> Stretch<'a> {
    fn runs<T>(
        &self,
        target: &ColumnType,
        of: impl Fn(&'a Values) -> Option<&'a [T]>,
    ) -> Result<Vec<Run<'a, T>>, ArrowError> {
        let run = |column: &&'a Column| of(&column.values).map(|values| (*column, values));
        self.columns.iter().map(run).collect::<Option<_>>().ok_or_else(|| self.mismatch(target))
    }

    fn longs(&self, target: &ColumnType) -> Result<Vec<Run<'a, i64>>, ArrowError> {
        self.runs(
            target,
            |values| if let Values::I64(values) = values { Some(values.as_slice()) } else { None },
        )
    }

    fn floats(&self, target: &ColumnType) -> Result<Vec<Run<'a, f32>>, ArrowError> {
        self.runs(
            target,
            |values| if let Values::F32(values) = values { Some(values.as_slice()) } else { None },
        )
    }

    fn doubles(&self, target: &ColumnType) -> Result<Vec<Run<'a, f64>>, ArrowError> {
        self.runs(
            target,
            |values| if let Values::F64(values) = values { Some(values.as_slice()) } else { None },
        )
    }

    /// As an array of `target`.
    ///
    /// # Errors
    /// When the field's values are of another type, which only a bug makes.
    pub(super) fn array(&self, target: &ColumnType) -> Result<ArrayRef, ArrowError> {
        let first = self.columns.first().map(|column| &column.values);
        Ok(match (first, target) {
            (Some(Values::I64(_)), ColumnType::Boolean) => {
                let runs = self.longs(target)?;
                Arc::new(BooleanArray::from_iter(each(&runs).map(|x| x.map(|x| *x != 0))))
            }
            // Out of range was refused at admission.
            (Some(Values::I64(_)), ColumnType::Int) => {
                numbers::<Int32Type, _>(&self.longs(target)?, |x| i32::try_from(*x).ok())
            }
            (Some(Values::I64(_)), ColumnType::Long) => same::<Int64Type>(&self.longs(target)?),
            (Some(Values::I64(_)), ColumnType::Decimal { precision, scale }) => {
                let runs = self.longs(target)?;
                let whole = each(&runs).map(|x| x.map(|x| i128::from(x.cast_unsigned())));
                Arc::new(Decimal128Array::from_iter(whole).with_precision_and_scale(*precision, *scale)?)
            }
            (Some(Values::I64(_)), ColumnType::Double) => {
                numbers::<Float64Type, _>(&self.longs(target)?, |x| Some(scaled(*x, self.logical)))
            }
            (Some(Values::I64(_)), ColumnType::String) => {
                let Logical::Enum(names) = self.logical else { return Err(self.mismatch(target)) };
                let name = |x: &i64| usize::try_from(*x).ok().and_then(|x| names.get(x)).map(String::as_str);
                texts(each(&self.longs(target)?).map(|x| x.and_then(name)))
            }
            (Some(Values::F32(_)), ColumnType::Float) => same::<Float32Type>(&self.floats(target)?),
            (Some(Values::F32(_)), ColumnType::Double) => {
                numbers::<Float64Type, _>(&self.floats(target)?, |x| Some(f64::from(*x)))
            }
            (Some(Values::F64(_)), ColumnType::Double) => same::<Float64Type>(&self.doubles(target)?),
            (Some(Values::Utf8(_)), ColumnType::String) => {
                let of =
                    |values: &'a Values| if let Values::Utf8(v) = values { Some(v.as_slice()) } else { None };
                let runs = self.runs(target, of)?;
                texts(each(&runs).map(|text| text.map(String::as_str)))
            }
            (Some(Values::Bytes(_)), ColumnType::Binary) => {
                let of = |values: &'a Values| {
                    if let Values::Bytes(v) = values { Some(v.as_slice()) } else { None }
                };
                let runs = self.runs(target, of)?;
                let mut builder = BinaryBuilder::new();
                each(&runs).for_each(|bytes| builder.append_option(bytes));
                Arc::new(builder.finish())
            }
            _ => return Err(self.mismatch(target)),
        })
    }

    /// The same in the unit of the column.
    ///
    /// # Errors
    /// As [`Stretch::array`].
    pub(super) fn converted(&self, target: &ColumnType, by: &Conversion) -> Result<ArrayRef, ArrowError> {
        let first = self.columns.first().map(|column| &column.values);
        Ok(match (first, target) {
            // What overflows was refused at admission.
            (Some(Values::I64(_)), ColumnType::Long) => {
                numbers::<Int64Type, _>(&self.longs(target)?, |x| by.apply_integer(*x))
            }
            (Some(Values::I64(_)), ColumnType::Double) => {
                numbers::<Float64Type, _>(&self.longs(target)?, |x| Some(by.apply(scaled(*x, self.logical))))
            }
            (Some(Values::F32(_)), ColumnType::Double) => {
                numbers::<Float64Type, _>(&self.floats(target)?, |x| Some(by.apply(f64::from(*x))))
            }
            (Some(Values::F64(_)), ColumnType::Double) => {
                numbers::<Float64Type, _>(&self.doubles(target)?, |x| Some(by.apply(*x)))
            }
            _ => return Err(self.mismatch(target)),
        })
    }

    fn mismatch(&self, target: &ColumnType) -> ArrowError {
        ArrowError::SchemaError(format!("a {} field does not fit a {target:?} column", self.logical.name()))
    }
}

/// raw × num / den + offset, exact in integers up to the one division.
pub(super) fn scaled(raw: i64, logical: &Logical) -> f64 {
    match logical {
        Logical::Scaled { num, den, offset } => {
            (i128::from(raw) * i128::from(*num)) as f64 / *den as f64 + *offset as f64
        }
        _ => raw as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;

    #[test]
    fn runs_stand_one_behind_the_other_and_keep_their_nulls() {
        let (full, holed) = (
            Column::integers(vec![1, 2]),
            Column { valid: Some(vec![false, true]), ..Column::integers(vec![3, 4]) },
        );
        let logical = Logical::I64;
        let both = Stretch { columns: vec![&full, &holed, &full], logical: &logical };
        let longs = both.array(&ColumnType::Long).unwrap();
        assert_eq!(
            longs.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(),
            [Some(1), Some(2), None, Some(4), Some(1), Some(2)]
        );
        let flags = both.array(&ColumnType::Boolean).unwrap();
        assert_eq!((flags.len(), flags.null_count()), (6, 1));
    }

    #[test]
    fn a_run_of_another_type_is_an_error() {
        let (long, float) =
            (Column::integers(vec![1]), Column { values: Values::F32(vec![1.0]), valid: None });
        let logical = Logical::I64;
        let both = Stretch { columns: vec![&long, &float], logical: &logical };
        assert!(both.array(&ColumnType::Long).unwrap_err().to_string().contains("does not fit"));
    }
}
