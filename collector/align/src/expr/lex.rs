//! A formula's text to words.

use super::{EXPR_BYTES_MAX, ExprError};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    Int(i64),
    Float(f64),
    Text(String),
    Name(String),
    Sign(&'static str),
}

/// Longer ones first: `<=` is not `<` and `=`.
const SIGNS: [&str; 21] = [
    "==", "!=", "<=", ">=", "&&", "||", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", ",", ".", "!",
    "\u{2264}", "\u{2265}",
];

/// Words with where they begin.
pub(super) fn words(text: &str) -> Result<Vec<(usize, Word)>, ExprError> {
    if text.len() > EXPR_BYTES_MAX {
        return Err(ExprError::new(
            EXPR_BYTES_MAX,
            format!("a formula has at most {EXPR_BYTES_MAX} bytes; derive its parts as columns of their own"),
        ));
    }
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let (word, after) = match first {
            '0'..='9' => number(rest, at)?,
            '\'' | '"' => quoted(rest, first, at)?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                let (name, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
                (Word::Name(name.to_owned()), after)
            }
            _ => sign(rest, first, at)?,
        };
        words.push((at, word));
        rest = after.trim_start();
    }
    Ok(words)
}

fn sign(rest: &str, first: char, at: usize) -> Result<(Word, &str), ExprError> {
    let found = SIGNS.iter().find_map(|sign| rest.strip_prefix(sign).map(|after| (*sign, after)));
    match found {
        Some(("\u{2264}", after)) => Ok((Word::Sign("<="), after)),
        Some(("\u{2265}", after)) => Ok((Word::Sign(">="), after)),
        Some((sign, after)) => Ok((Word::Sign(sign), after)),
        None => Err(ExprError::new(at, format!("{first:?} means nothing in a formula"))),
    }
}

/// `12`, `1.5`, `2e-3`; a number without point and exponent is an integer.
fn number(rest: &str, at: usize) -> Result<(Word, &str), ExprError> {
    let digits = |from: usize| {
        let tail = rest.get(from..).unwrap_or("");
        from + tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len())
    };
    let mut end = digits(0);
    let mut is_whole = true;
    if rest.get(end..).is_some_and(|tail| tail.starts_with('.')) && digits(end + 1) > end + 1 {
        end = digits(end + 1);
        is_whole = false;
    }
    if rest.get(end..).is_some_and(|tail| tail.starts_with(['e', 'E'])) {
        let signed = usize::from(rest.get(end + 1..).is_some_and(|tail| tail.starts_with(['+', '-'])));
        let after = digits(end + 1 + signed);
        if after > end + 1 + signed {
            end = after;
            is_whole = false;
        }
    }
    let (text, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Err(ExprError::new(at, "a number is followed by letters; names begin with a letter"));
    }
    let word = if is_whole { text.parse().ok().map(Word::Int) } else { None };
    let float = || text.parse::<f64>().ok().filter(|value| value.is_finite()).map(Word::Float);
    let word = word.or_else(float).ok_or_else(|| ExprError::new(at, format!("{text} is beyond a double")))?;
    Ok((word, after))
}

/// Text in single or double quotes; a doubled quote stands for itself.
fn quoted(rest: &str, quote: char, at: usize) -> Result<(Word, &str), ExprError> {
    let mut text = String::new();
    let mut open = rest.get(1..).unwrap_or("");
    loop {
        let Some((part, after)) = open.split_once(quote) else {
            return Err(ExprError::new(at, format!("text is not closed; write {quote} at its end")));
        };
        text.push_str(part);
        match after.strip_prefix(quote) {
            Some(more) => {
                text.push(quote);
                open = more;
            }
            None => return Ok((Word::Text(text), after)),
        }
    }
}
