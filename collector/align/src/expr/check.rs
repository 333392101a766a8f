//! What type a formula has over rows of a schema.

use super::ExprError;
use super::ast::{Function, Kind, Node, Operator};
use crate::recipe::nearest::hint;
use arrow_schema::{DataType, Schema};
use std::fmt;

/// Type of a value of a formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Nothing but null.
    Null,
    /// True or false.
    Bool,
    /// 64-bit integer.
    Int,
    /// Double.
    Float,
    /// UTF-8.
    Text,
}

impl Type {
    /// The Arrow type of such values; of [`Type::Null`] doubles.
    #[must_use]
    pub fn arrow(self) -> DataType {
        match self {
            Self::Null | Self::Float => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Text => DataType::Utf8,
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Float | Self::Null)
    }

    fn is_bool(self) -> bool {
        matches!(self, Self::Bool | Self::Null)
    }

    /// The type that holds both.
    fn with(self, other: Self) -> Option<Self> {
        match (self, other) {
            (a, b) if a == b => Some(a),
            (Self::Null, other) | (other, Self::Null) => Some(other),
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Some(Self::Float),
            _ => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool => "a truth",
            Self::Int => "an integer",
            Self::Float => "a number",
            Self::Text => "text",
        })
    }
}

/// A column of a formula: a value, or something only `is_null` and `length` can be asked of.
pub(super) enum Found {
    Value(Type),
    List,
    Other,
}

pub(super) fn found(data_type: &DataType) -> Found {
    match data_type {
        DataType::Boolean => Found::Value(Type::Bool),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Timestamp(..) => Found::Value(Type::Int),
        DataType::Float32 | DataType::Float64 => Found::Value(Type::Float),
        DataType::Utf8 | DataType::LargeUtf8 => Found::Value(Type::Text),
        DataType::List(_) | DataType::LargeList(_) => Found::List,
        _ => Found::Other,
    }
}

/// The type of the column, or of a member of a struct column.
fn column<'a>(path: &[String], at: usize, schema: &'a Schema) -> Result<&'a DataType, ExprError> {
    let (first, members) = path.split_first().ok_or_else(|| ExprError::new(at, "a column has a name"))?;
    let field = schema.column_with_name(first).map(|(_, field)| field).ok_or_else(|| {
        let names = schema.fields().iter().map(|field| field.name().as_str());
        ExprError::new(at, format!("no column is called {first}{}", hint(first, names)))
    })?;
    let mut data_type = field.data_type();
    for member in members {
        let DataType::Struct(fields) = data_type else {
            return Err(ExprError::new(at, format!("{first} has no members; only struct columns do")));
        };
        data_type = fields.find(member).map(|(_, field)| field.data_type()).ok_or_else(|| {
            let names = fields.iter().map(|field| field.name().as_str());
            ExprError::new(at, format!("{first} has no member {member}{}", hint(member, names)))
        })?;
    }
    Ok(data_type)
}

pub(super) fn check(node: &Node, schema: &Schema) -> Result<Type, ExprError> {
    match &node.kind {
        Kind::Null => Ok(Type::Null),
        Kind::Bool(_) => Ok(Type::Bool),
        Kind::Int(_) => Ok(Type::Int),
        Kind::Float(_) => Ok(Type::Float),
        Kind::Text(_) => Ok(Type::Text),
        Kind::Column(path) => match found(column(path, node.at, schema)?) {
            Found::Value(of) => Ok(of),
            Found::List => {
                let text = format!(
                    "{} is a list; `length({0})` counts it, [[derive]] list takes a statistic",
                    path.join(".")
                );
                Err(ExprError::new(node.at, text))
            }
            Found::Other => {
                let text = format!(
                    "{} is no number, truth or text; only is_null can be asked of it",
                    path.join(".")
                );
                Err(ExprError::new(node.at, text))
            }
        },
        Kind::Negate(inner) => {
            let of = check(inner, schema)?;
            of.is_number().then_some(of).ok_or_else(|| wants(inner, "`-` wants a number", of))
        }
        Kind::Not(inner) => {
            let of = check(inner, schema)?;
            of.is_bool().then_some(Type::Bool).ok_or_else(|| wants(inner, "`not` wants a truth", of))
        }
        Kind::Binary(operator, left, right) => binary(*operator, left, right, schema),
        Kind::Call(function, arguments) => call(*function, node.at, arguments, schema),
    }
}

fn wants(node: &Node, wish: &str, found: Type) -> ExprError {
    ExprError::new(node.at, format!("{wish}, this is {found}"))
}

fn binary(operator: Operator, left: &Node, right: &Node, schema: &Schema) -> Result<Type, ExprError> {
    let (l, r) = (check(left, schema)?, check(right, schema)?);
    let wish = |what: &str| format!("`{}` wants {what} on both sides", operator.word());
    let both = |is: fn(Type) -> bool, what: &str| match (is(l), is(r)) {
        (true, true) => Ok(()),
        (false, _) => Err(wants(left, &wish(what), l)),
        _ => Err(wants(right, &wish(what), r)),
    };
    match operator {
        Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Remainder => {
            both(Type::is_number, "numbers")?;
            Ok(l.with(r).unwrap_or(Type::Float))
        }
        Operator::Divide => both(Type::is_number, "numbers").map(|()| Type::Float),
        Operator::And | Operator::Or => both(Type::is_bool, "truths").map(|()| Type::Bool),
        _ => match l.with(r) {
            Some(Type::Bool) if !matches!(operator, Operator::Equal | Operator::NotEqual) => {
                Err(wants(left, "truths have no order; `=` and `!=` compare them", l))
            }
            Some(_) => Ok(Type::Bool),
            None => Err(ExprError::new(left.at, format!("{l} and {r} are never compared"))),
        },
    }
}

fn call(function: Function, at: usize, arguments: &[Node], schema: &Schema) -> Result<Type, ExprError> {
    if let (Function::IsNull | Function::Length, [Node { kind: Kind::Column(path), at }]) =
        (function, arguments)
    {
        return match (function, found(column(path, *at, schema)?)) {
            (Function::IsNull, _) => Ok(Type::Bool),
            (_, Found::List | Found::Value(Type::Text)) => Ok(Type::Int),
            _ => Err(ExprError::new(
                *at,
                format!("{} is neither a list nor text: it has no length", path.join(".")),
            )),
        };
    }
    let types = arguments.iter().map(|argument| check(argument, schema)).collect::<Result<Vec<_>, _>>()?;
    let first = types.first().copied().unwrap_or(Type::Null);
    let common = |from: usize| {
        let mut of = Type::Null;
        for (argument, found) in arguments.iter().zip(&types).skip(from) {
            let text = format!("{} wants values of one type; {of} came before, this is", function.word());
            of = of.with(*found).ok_or_else(|| ExprError::new(argument.at, format!("{text} {found}")))?;
        }
        Ok(of)
    };
    let numbers = |to: Type| match arguments.iter().zip(&types).find(|(_, of)| !of.is_number()) {
        Some((argument, of)) => Err(wants(argument, &format!("{} wants numbers", function.word()), *of)),
        None => Ok(to),
    };
    match function {
        Function::IsNull => Ok(Type::Bool),
        Function::Length if matches!(first, Type::Text | Type::Null) => Ok(Type::Int),
        Function::Length => Err(ExprError::new(at, format!("{first} has no length"))),
        Function::If if !first.is_bool() => {
            Err(ExprError::new(at, format!("if wants a truth first, this is {first}")))
        }
        Function::If => common(1),
        Function::Coalesce => common(0),
        Function::IsFinite => numbers(Type::Bool),
        Function::Abs | Function::Sign | Function::Floor | Function::Ceil | Function::Round => {
            numbers(if first == Type::Int { Type::Int } else { Type::Float })
        }
        Function::Min | Function::Max | Function::Clamp => numbers(common(0).unwrap_or(Type::Float)),
        Function::HasBits => match types.iter().all(|of| matches!(of, Type::Int | Type::Null)) {
            true => Ok(Type::Bool),
            false => Err(ExprError::new(at, "has_bits wants integers")),
        },
        _ => numbers(Type::Float),
    }
}
