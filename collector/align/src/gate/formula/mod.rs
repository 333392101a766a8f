//! Formulas of rules: those of derived columns ([`crate::expr`]), and statistics over the rows in front of them.
//!
//! ```text
//! mean(accel_z) > 9 and share(is_null(place_lat)) < 0.05          one answer for the window
//! abs(gyro_z - median(gyro_z)) < 4 * std(gyro_z)                  one for each row
//! ```
//! A statistic is computed over the rows a rule looks at (one device's, as a rule) and stands for one number then, so it
//! may not lie within another. Nulls are left out; a statistic of nothing is null. Statistics are replaced by columns of
//! that one number before the formula is read, in as many bytes as they had, so places in errors are those of the text.

mod text;

use crate::expr::{Expr, ExprError, Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, RecordBatch, UInt64Array};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};
use std::collections::BTreeSet;
use std::sync::Arc;
use text::{STATISTICS, Statistic, calls, part, paths};

/// What a statistic's column is called; names of ours begin with a letter.
const PLACEHOLDER: &str = "_s";
/// A statistic as it stands in a formula.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    of: Statistic,
    /// Where it begins in the text.
    at: usize,
    arguments: Vec<Expr>,
}

/// A formula that was read, and can be true.
#[derive(Debug, Clone, PartialEq)]
pub struct Formula {
    text: String,
    whole: Expr,
    calls: Vec<Call>,
    is_window: bool,
}

fn wrong(at: usize, text: impl Into<String>) -> ExprError {
    ExprError { at, text: text.into() }
}

impl Formula {
    /// Reads a formula that is true or false.
    ///
    /// # Errors
    /// Where it breaks the language, or its parts cannot fit together whatever its columns hold.
    pub fn truth(text: &str) -> Result<Self, ExprError> {
        let found = calls(text)?;
        let mut rewritten = text.as_bytes().to_vec();
        let mut calls = Vec::new();
        for (place, call) in found.iter().enumerate() {
            let name = format!("{PLACEHOLDER}{place}");
            let width = call.end - call.at;
            let padded = format!("{name:<width$}");
            let slot = rewritten.get_mut(call.at..call.end).filter(|slot| slot.len() == padded.len());
            slot.ok_or_else(|| wrong(call.at, "is no call"))?.copy_from_slice(padded.as_bytes());
            let arguments = call.arguments.iter().map(|&(from, to)| part(text, from, to));
            calls.push(Call { of: call.of, at: call.at, arguments: arguments.collect::<Result<_, _>>()? });
        }
        let rewritten = String::from_utf8(rewritten).map_err(|_| wrong(0, "is no text"))?;
        let whole: Expr = rewritten.parse()?;
        let columns = whole.columns();
        let is_window = !columns.is_empty() && columns.iter().all(|name| name.starts_with(PLACEHOLDER));
        let formula = Self { text: text.to_owned(), whole, calls, is_window };
        formula.fits_somehow(&rewritten)?;
        Ok(formula)
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// One spelling a meaning: two formulas are alike if this is.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.calls.iter().enumerate().rev().fold(self.whole.to_string(), |text, (place, call)| {
            let word = STATISTICS.iter().find(|(_, of)| *of == call.of).map_or("", |(word, _)| word);
            let arguments: Vec<String> = call.arguments.iter().map(ToString::to_string).collect();
            text.replace(&format!("{PLACEHOLDER}{place}"), &format!("{word}({})", arguments.join(", ")))
        })
    }

    /// True if it says one thing about the window: no column stands outside its statistics.
    #[must_use]
    pub fn is_window(&self) -> bool {
        self.is_window
    }

    /// Its truth for each row.
    ///
    /// # Errors
    /// A column that is not there, or of a type that its place cannot bear.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<BooleanArray, ExprError> {
        let mut fields: Vec<Field> =
            rows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        for (place, call) in self.calls.iter().enumerate() {
            let value = call.value(rows)?;
            fields.push(Field::new(format!("{PLACEHOLDER}{place}"), DataType::Float64, true));
            columns.push(Arc::new(Float64Array::from(vec![value; rows.num_rows()])));
        }
        let odd = |error: ArrowError| wrong(0, error.to_string());
        let with = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(odd)?;
        let found = self.whole.evaluate(&with)?;
        match found.data_type() {
            DataType::Boolean => Ok(BooleanArray::from(found.to_data())),
            // `null` alone has a type of its own, and is written as doubles.
            _ if found.null_count() == found.len() => Ok(BooleanArray::new_null(rows.num_rows())),
            other => Err(wrong(0, format!("the formula is true or false, and this one gives {other}"))),
        }
    }

    /// Whether there are types of its columns under which all fits. Each column's type is sought on its own while the
    /// others stand, twice over; a formula that no choice fits is refused with what is wrong under the best.
    fn fits_somehow(&self, rewritten: &str) -> Result<(), ExprError> {
        for call in &self.calls {
            for argument in &call.arguments {
                let wanted: &[Type] = match call.of {
                    Statistic::Share => &[Type::Bool],
                    Statistic::Count | Statistic::Distinct => &[],
                    _ => &[Type::Int, Type::Float],
                };
                fits(argument, &argument.to_string(), wanted).map_err(|error| wrong(call.at, error.text))?;
            }
        }
        fits(&self.whole, rewritten, &[Type::Bool])
    }
}

/// Types a column may turn out to have.
fn guesses() -> Vec<DataType> {
    let item = Arc::new(Field::new("item", DataType::Float64, true));
    vec![DataType::Float64, DataType::Int64, DataType::Boolean, DataType::Utf8, DataType::List(item)]
}

fn fits(expr: &Expr, text: &str, wanted: &[Type]) -> Result<(), ExprError> {
    let paths: Vec<String> = paths(text).into_iter().collect();
    let guesses = guesses();
    let mut chosen = vec![0_usize; paths.len()];
    let check = |chosen: &[usize]| {
        let found = expr.check(&schema(&paths, chosen, &guesses))?;
        match wanted.is_empty() || wanted.contains(&found) || found == Type::Null {
            true => Ok(()),
            false => Err(wrong(usize::MAX, format!("a number or a truth belongs here, and this is {found}"))),
        }
    };
    // An error farther on means that more of it fits.
    let mut best = check(&chosen);
    for _ in 0..2 {
        for place in 0..paths.len() {
            for guess in 0..guesses.len() {
                let Err(error) = &best else { return Ok(()) };
                let mut other = chosen.clone();
                if let Some(slot) = other.get_mut(place) {
                    *slot = guess;
                }
                let found = check(&other);
                if found.as_ref().err().is_none_or(|found| found.at > error.at) {
                    (best, chosen) = (found, other);
                }
            }
        }
    }
    best.map_err(|error| if error.at == usize::MAX { wrong(0, error.text) } else { error })
}

fn schema(paths: &[String], chosen: &[usize], guesses: &[DataType]) -> Schema {
    let mut tree: Vec<(Vec<&str>, DataType)> = paths
        .iter()
        .zip(chosen)
        .map(|(path, &guess)| {
            let kind = guesses.get(guess).cloned().unwrap_or(DataType::Float64);
            (path.split('.').collect(), kind)
        })
        .collect();
    tree.sort_by(|a, b| a.0.cmp(&b.0));
    Schema::new(fields_of(&tree, 0))
}

fn fields_of(tree: &[(Vec<&str>, DataType)], depth: usize) -> Fields {
    let mut fields: Vec<Field> = Vec::new();
    let mut rest = tree;
    while let Some((path, kind)) = rest.first() {
        let Some(name) = path.get(depth) else {
            rest = rest.get(1..).unwrap_or_default();
            continue;
        };
        let alike = rest.iter().take_while(|(path, _)| path.get(depth) == Some(name)).count();
        let (group, after) = rest.split_at_checked(alike).unwrap_or((rest, &[]));
        let is_leaf = group.iter().all(|(path, _)| path.len() == depth + 1);
        let kind = if is_leaf { kind.clone() } else { DataType::Struct(fields_of(group, depth + 1)) };
        fields.push(Field::new(*name, kind, true));
        rest = after;
    }
    fields.into()
}

impl Call {
    fn value(&self, rows: &RecordBatch) -> Result<Option<f64>, ExprError> {
        let moved = |error: ExprError| wrong(self.at, error.text);
        let columns: Vec<ArrayRef> = self
            .arguments
            .iter()
            .map(|argument| argument.evaluate(rows).map_err(moved))
            .collect::<Result<_, _>>()?;
        let Some(first) = columns.first() else { return Ok(Some(rows.num_rows() as f64)) };
        let numbers = |array: &ArrayRef| -> Result<Float64Array, ExprError> {
            let fits = match self.of {
                Statistic::Share => {
                    array.data_type() == &DataType::Boolean || array.null_count() == array.len()
                }
                _ => array.data_type().is_numeric(),
            };
            if !fits {
                let wanted = if self.of == Statistic::Share { "a truth" } else { "a number" };
                let arguments: Vec<String> = self.arguments.iter().map(ToString::to_string).collect();
                let text = format!(
                    "{wanted} belongs into the brackets, and {} is {}",
                    arguments.join(", "),
                    array.data_type()
                );
                return Err(wrong(self.at, text));
            }
            let as_float = cast(array, &DataType::Float64);
            as_float
                .map(|array| Float64Array::from(array.to_data()))
                .map_err(|error| wrong(self.at, error.to_string()))
        };
        Ok(match self.of {
            Statistic::Count => Some((first.len() - first.null_count()) as f64),
            Statistic::Distinct => Some(distinct(first) as f64),
            Statistic::Corr => match columns.get(1) {
                Some(second) => super::stats::correlation(&numbers(first)?, &numbers(second)?),
                None => None,
            },
            _ => {
                let found = numbers(first)?;
                let values: Vec<f64> = found.iter().flatten().collect();
                match self.of {
                    Statistic::Mean | Statistic::Share => super::stats::mean(&values),
                    Statistic::Sum => Some(super::stats::sum(&values)),
                    Statistic::Std => super::stats::std(&values),
                    Statistic::Min => super::stats::min(&values),
                    Statistic::Max => super::stats::max(&values),
                    _ => super::stats::median(values),
                }
            }
        })
    }
}

fn distinct(array: &ArrayRef) -> usize {
    let options = arrow_cast::display::FormatOptions::default();
    let Ok(texts) = arrow_cast::display::ArrayFormatter::try_new(array.as_ref(), &options) else { return 0 };
    let valid = (0..array.len()).filter(|&row| array.is_valid(row));
    valid.map(|row| texts.value(row).to_string()).collect::<BTreeSet<String>>().len()
}

/// Rows of a batch by their places.
///
/// # Errors
/// Never for places within it.
pub(super) fn some(rows: &RecordBatch, places: &[usize]) -> Result<RecordBatch, ArrowError> {
    let places = UInt64Array::from_iter_values(places.iter().map(|&place| place as u64));
    arrow_select::take::take_record_batch(rows, &places)
}
