//! Constants and conditions.

use super::super::model::{CompareOp, Condition, Constant};
use super::super::reader::Reader;
use toml::{Table, Value};

/// Longest text of a constant, bytes: it stands in the canonical form of every commit.
const CONSTANT_BYTES_MAX: usize = 256;
/// Signs, longer ones first where one begins with another.
const SIGNS: [(&str, CompareOp); 7] = [
    ("!=", CompareOp::Ne),
    ("<=", CompareOp::Le),
    (">=", CompareOp::Ge),
    ("==", CompareOp::Eq),
    ("=", CompareOp::Eq),
    ("<", CompareOp::Lt),
    (">", CompareOp::Gt),
];

impl CompareOp {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}

impl Reader {
    /// A TOML value as a constant.
    pub(super) fn constant(&mut self, path: &str, value: &Value) -> Option<Constant> {
        let read = match value {
            Value::Integer(n) => whole(*n).ok_or("a whole number beyond 2^53 cannot be held exactly"),
            Value::Float(n) if n.is_finite() => Ok(Constant::Number(if *n == 0.0 { 0.0 } else { *n })),
            Value::Float(_) => Err("must be finite; write \"null\" as the fallback for no value"),
            Value::String(text) if text.len() <= CONSTANT_BYTES_MAX => Ok(Constant::Text(text.clone())),
            Value::String(_) => Err("text of more than 256 bytes"),
            Value::Boolean(value) => Ok(Constant::Bool(*value)),
            _ => Err("expected a number, text or a truth"),
        };
        match read {
            Ok(constant) => Some(constant),
            Err(text) => {
                self.mistake(path, text);
                None
            }
        }
    }

    /// A comparison such as `speed > 5` or `state = 'open'`.
    pub(super) fn condition(&mut self, table: &Table, within: &str, key: &str) -> Option<Condition> {
        let text = self.text(table, within, key)?;
        match condition(&text) {
            Ok(condition) => Some(condition),
            Err(why) => {
                self.mistake(format!("{within}{key}"), why);
                None
            }
        }
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    // The first sign counts: a value may hold any.
    let found = SIGNS.iter().filter_map(|(sign, op)| Some((text.find(sign)?, sign.len(), *op)));
    let found = found.min_by_key(|(place, len, _)| (*place, std::cmp::Reverse(*len)));
    let Some((place, len, op)) = found else {
        return Err("expected a field, one of = != < <= > >=, and a value, e.g. \"speed > 5\"".to_owned());
    };
    let (field, value) = (text.get(..place).unwrap_or_default(), text.get(place + len..).unwrap_or_default());
    let field = field.trim().parse().map_err(|error| format!("{error}"))?;
    let value = worth(value.trim())?;
    if !matches!(op, CompareOp::Eq | CompareOp::Ne) && !matches!(value, Constant::Number(_)) {
        return Err("only numbers are compared by size; write = or !=, or a number".to_owned());
    }
    Ok(Condition { field, op, value })
}

/// A number or a truth as it stands, text in quotes.
fn worth(text: &str) -> Result<Constant, String> {
    for quote in ['\'', '"'] {
        let inner = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| inner.len() <= CONSTANT_BYTES_MAX) {
            return Ok(Constant::Text(inner.to_owned()));
        }
    }
    if let Ok(value) = text.parse::<bool>() {
        return Ok(Constant::Bool(value));
    }
    if let Ok(value) = text.parse::<i64>() {
        return whole(value).ok_or_else(|| format!("{text} is beyond 2^53 and cannot be held exactly"));
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Constant::Number(if value == 0.0 { 0.0 } else { value })),
        Ok(_) => Err(format!("{text} is not finite")),
        Err(_) => {
            Err(format!("{text:?} is no number and no truth; text stands in quotes, e.g. \"state = 'open'\""))
        }
    }
}

/// A whole number that a double holds exactly.
#[expect(clippy::cast_precision_loss, reason = "within 2^53 every integer is a double")]
fn whole(value: i64) -> Option<Constant> {
    (value.unsigned_abs() <= 1 << 53).then_some(Constant::Number(value as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        let of = |text: &str| condition(text).map(|found| (found.field.to_string(), found.op, found.value));
        let number = Constant::Number;
        assert_eq!(of("speed>5"), Ok(("speed".to_owned(), CompareOp::Gt, number(5.0))));
        assert_eq!(of("speed >= -0.5"), Ok(("speed".to_owned(), CompareOp::Ge, number(-0.5))));
        assert_eq!(of("a == true"), Ok(("a".to_owned(), CompareOp::Eq, Constant::Bool(true))));
        assert_eq!(
            of("s != 'x > y'"),
            Ok(("s".to_owned(), CompareOp::Ne, Constant::Text("x > y".to_owned())))
        );
        for (bad, why) in [
            ("speed", "one of ="),
            ("> 5", "field"),
            ("Speed > 5", "field"),
            ("s = open", "in quotes"),
            ("s < 'open'", "by size"),
            ("s = nan", "not finite"),
            ("n = 9007199254740993", "2^53"),
        ] {
            let said = condition(bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }
}
