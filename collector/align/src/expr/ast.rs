//! A formula as a tree.

use crate::json::number_text;
use std::fmt;

/// A part of a formula. Parts are equal if they say the same, wherever they stand.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it begins in the text.
    pub(super) at: usize,
    pub(super) kind: Kind,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Column(Vec<String>),
    Negate(Box<Node>),
    Not(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
}

impl Operator {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::And => "and",
            Self::Or => "or",
        }
    }
}

macro_rules! functions {
    ($($(#[$doc:meta])* $variant:ident $word:literal $least:literal $most:literal,)*) => {
        /// A function of the language.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Function {
            $($(#[$doc])* $variant,)*
        }
        impl Function {
            /// Every function.
            pub const ALL: &[Function] = &[$(Self::$variant,)*];
            /// How it is written.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
            /// Fewest and most arguments.
            #[must_use]
            pub fn arity(self) -> (usize, usize) {
                match self { $(Self::$variant => ($least, $most),)* }
            }
        }
    };
}

functions! {
    /// Magnitude.
    Abs "abs" 1 1,
    /// -1, 0 or 1.
    Sign "sign" 1 1,
    /// Down to a whole number.
    Floor "floor" 1 1,
    /// Up to a whole number.
    Ceil "ceil" 1 1,
    /// To the nearest whole number, halves away from zero.
    Round "round" 1 1,
    /// Square root; NaN below 0.
    Sqrt "sqrt" 1 1,
    /// e to the power.
    Exp "exp" 1 1,
    /// Natural logarithm.
    Ln "ln" 1 1,
    /// Decimal logarithm.
    Log10 "log10" 1 1,
    /// First to the power of the second.
    Pow "pow" 2 2,
    /// Root of the sum of squares.
    Hypot "hypot" 2 2,
    /// Sine of radians.
    Sin "sin" 1 1,
    /// Cosine of radians.
    Cos "cos" 1 1,
    /// Tangent of radians.
    Tan "tan" 1 1,
    /// Arc sine, radians.
    Asin "asin" 1 1,
    /// Arc cosine, radians.
    Acos "acos" 1 1,
    /// Angle of (y, x), radians.
    Atan2 "atan2" 2 2,
    /// Degrees to radians.
    Radians "radians" 1 1,
    /// Radians to degrees.
    Degrees "degrees" 1 1,
    /// Least of what is not null.
    Min "min" 2 16,
    /// Greatest of what is not null.
    Max "max" 2 16,
    /// The first, held between the second and the third.
    Clamp "clamp" 3 3,
    /// The second where the first is true, else the third.
    If "if" 3 3,
    /// The first that is not null.
    Coalesce "coalesce" 2 16,
    /// True where there is no value; of any column.
    IsNull "is_null" 1 1,
    /// True for a number that is neither NaN nor infinite; null of null.
    IsFinite "is_finite" 1 1,
    /// Items of a list, characters of a text.
    Length "length" 1 1,
    /// True where the bits of the second are all set in the first.
    HasBits "has_bits" 2 2,
}

impl Node {
    pub(super) fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Node)) {
        see(self);
        match &self.kind {
            Kind::Negate(inner) | Kind::Not(inner) => inner.visit(see),
            Kind::Binary(_, left, right) => {
                left.visit(see);
                right.visit(see);
            }
            Kind::Call(_, arguments) => arguments.iter().for_each(|argument| argument.visit(see)),
            Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Text(_) | Kind::Column(_) => {}
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Null => f.write_str("null"),
            Kind::Bool(value) => value.fmt(f),
            Kind::Int(value) => value.fmt(f),
            Kind::Float(value) => {
                let text = number_text(*value);
                let is_marked = text.contains(['.', 'e']);
                f.write_str(&text)?;
                f.write_str(if is_marked { "" } else { ".0" })
            }
            Kind::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Kind::Column(path) => f.write_str(&path.join(".")),
            Kind::Negate(inner) => write!(f, "(-{inner})"),
            Kind::Not(inner) => write!(f, "(not {inner})"),
            Kind::Binary(operator, left, right) => write!(f, "({left} {} {right})", operator.word()),
            Kind::Call(function, arguments) => {
                write!(f, "{}(", function.word())?;
                for (place, argument) in arguments.iter().enumerate() {
                    write!(f, "{}{argument}", if place > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
        }
    }
}
