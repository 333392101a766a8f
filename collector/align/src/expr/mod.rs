//! A small language of formulas over the columns of a row: what recipes derive and gate rules ask.
//!
//! ```text
//! if(gps_fix_ok and gps_speed > 0.5, motion_accel_x * 9.80665, null)
//! ```
//! It has no loops, no variables and no effects, so a formula ends, and costs at most its number of nodes a row. Numbers
//! are integers (64 bits, an overflow is null) or doubles; `/` always gives a double, integers meet doubles as doubles.
//! Null is SQL's: what is made of it is null, `and` and `or` know what they can know. A NaN compares as IEEE 754 says.
//! `prev`, aggregates and subqueries are deliberately absent: a value depends on its own row alone.
//!
//! ```text
//! expr    = or ;            or   = and { ("or"  | "||") and } ;   and  = not { ("and" | "&&") not } ;
//! not     = ("not" | "!") not | compare ;
//! compare = sum [ ("=" | "==" | "!=" | "<" | "<=" | ">" | ">=") sum ] ;
//! sum     = product { ("+" | "-") product } ;   product = unary { ("*" | "/" | "%") unary } ;
//! unary   = "-" unary | primary ;
//! primary = number | text | "true" | "false" | "null" | function "(" [ expr { "," expr } ] ")"
//!         | column { "." member } | "(" expr ")" ;
//! ```

mod ast;
mod call;
mod check;
mod column;
mod eval;
mod lex;
mod read;
#[cfg(test)]
mod tests;

pub use ast::Function;
pub use check::Type;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::Schema;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Longest formula, bytes: a person still reads it.
pub const EXPR_BYTES_MAX: usize = 4_096;
/// Deepest nesting: the reader and the evaluator descend by it.
pub const EXPR_DEPTH_MAX: usize = 64;

/// A formula that was read. Two that differ only in white space, brackets or spelling of operators are equal.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr(ast::Node);

/// Why a formula is none, or does not fit its columns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} (at byte {at} of the formula)")]
pub struct ExprError {
    /// Where, from 0.
    pub at: usize,
    /// What was expected, and a hint.
    pub text: String,
}

impl ExprError {
    fn new(at: usize, text: impl Into<String>) -> Self {
        Self { at, text: text.into() }
    }
}

impl FromStr for Expr {
    type Err = ExprError;

    fn from_str(text: &str) -> Result<Self, ExprError> {
        read::read(text).map(Self)
    }
}

impl fmt::Display for Expr {
    /// The canonical text: every operation in brackets, one spelling a thing. It reads back as an equal formula.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Expr {
    /// Columns it reads, the first word of each path.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        self.0.visit(&mut |node| {
            if let ast::Kind::Column(path) = &node.kind {
                names.extend(path.first().map(String::as_str));
            }
        });
        names
    }

    /// The type of its result over rows of `schema`.
    ///
    /// # Errors
    /// The first column that is not there, or operation that its operands cannot bear.
    pub fn check(&self, schema: &Schema) -> Result<Type, ExprError> {
        check::check(&self.0, schema)
    }

    /// Its value for every row: `Int64`, `Float64`, `Boolean` or `Utf8` as [`Expr::check`] says. Doubles are canonical:
    /// one NaN, no negative zero.
    ///
    /// # Errors
    /// As [`Expr::check`] for the schema of `rows`.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, ExprError> {
        self.check(rows.schema_ref())?;
        eval::evaluate(&self.0, rows).map(eval::Values::into_array)
    }
}
