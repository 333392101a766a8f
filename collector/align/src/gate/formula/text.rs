//! The statistics of a formula found in its text, and the columns it reads.

use super::wrong;
use crate::expr::{Expr, ExprError};
use std::collections::BTreeSet;

/// Most statistics of a formula.
const STATISTICS_MAX: usize = 64;
const KEYWORDS: [&str; 6] = ["and", "or", "not", "true", "false", "null"];

/// A statistic over the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statistic {
    Count,
    Mean,
    Sum,
    Std,
    Min,
    Max,
    Median,
    Share,
    Distinct,
    Corr,
}

pub(super) const STATISTICS: [(&str, Statistic); 10] = [
    ("count", Statistic::Count),
    ("mean", Statistic::Mean),
    ("sum", Statistic::Sum),
    ("std", Statistic::Std),
    ("min", Statistic::Min),
    ("max", Statistic::Max),
    ("median", Statistic::Median),
    ("share", Statistic::Share),
    ("distinct", Statistic::Distinct),
    ("corr", Statistic::Corr),
];

/// A statistic's call in the text.
pub(super) struct Found {
    pub(super) of: Statistic,
    pub(super) at: usize,
    pub(super) end: usize,
    /// From and to of each argument.
    pub(super) arguments: Vec<(usize, usize)>,
}

/// A part of the text as a formula; places in its errors are the whole's.
pub(super) fn part(text: &str, from: usize, to: usize) -> Result<Expr, ExprError> {
    let part = text.get(from..to).unwrap_or_default();
    part.parse().map_err(|error: ExprError| wrong(from + error.at, error.text))
}

/// Words, places and brackets of the text, quotes left out.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let length = match first {
            '\'' | '"' => {
                rest.char_indices().skip(1).find(|(_, c)| *c == first).map_or(rest.len(), |(end, _)| end + 1)
            }
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (word, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        if !first.is_whitespace() && first != '\'' && first != '"' {
            found.push((at, word));
        }
        rest = after;
    }
    found
}

/// Columns it reads, members of structs by their whole path.
pub(super) fn paths(text: &str) -> BTreeSet<String> {
    let words = words(text);
    let is_name = |word: &str| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let named = words.iter().enumerate().filter(|(place, (_, word))| {
        let is_call = words.get(place + 1).is_some_and(|(_, next)| *next == "(");
        is_name(word) && !is_call && !KEYWORDS.contains(word)
    });
    named.map(|(_, (_, word))| (*word).to_owned()).collect()
}

/// The statistics of a formula, from left to right.
pub(super) fn calls(text: &str) -> Result<Vec<Found>, ExprError> {
    let words = words(text);
    let mut found = Vec::new();
    let mut place = 0;
    while let Some(&(at, word)) = words.get(place) {
        let of = STATISTICS.iter().find(|(name, _)| *name == word).map(|(_, of)| *of);
        let opens = words.get(place + 1).is_some_and(|(_, next)| *next == "(");
        let (Some(of), true) = (of, opens) else {
            place += 1;
            continue;
        };
        let (arguments, after, end) = arguments(&words, place + 1, at)?;
        // `min` and `max` of several are the row's.
        if matches!(of, Statistic::Min | Statistic::Max) && arguments.len() > 1 {
            place += 1;
            continue;
        }
        let inner = words.get(place + 1..after).unwrap_or_default();
        let nested = inner.windows(2).find(|two| match two {
            [(_, name), (_, next)] => {
                *next == "("
                    && STATISTICS.iter().any(|(known, _)| known == name)
                    && !matches!(*name, "min" | "max")
            }
            _ => false,
        });
        if let Some(&[(at, name), _]) = nested {
            return Err(wrong(at, format!("{name} stands within {word}: a statistic is one number already")));
        }
        let wanted = match of {
            Statistic::Count => 0..=1,
            Statistic::Corr => 2..=2,
            _ => 1..=1,
        };
        if !wanted.contains(&arguments.len()) {
            let text =
                format!("{word} takes {} argument(s), and {} are given", wanted.end(), arguments.len());
            return Err(wrong(at, text));
        }
        found.push(Found { of, at, end, arguments });
        if found.len() > STATISTICS_MAX {
            return Err(wrong(at, format!("more than {STATISTICS_MAX} statistics in a formula")));
        }
        place = after;
    }
    Ok(found)
}

/// Arguments of the call whose bracket is word `open`; the word behind it, and the byte.
#[expect(clippy::type_complexity, reason = "three places of one call, used once")]
fn arguments(
    words: &[(usize, &str)],
    open: usize,
    at: usize,
) -> Result<(Vec<(usize, usize)>, usize, usize), ExprError> {
    let mut depth = 0_usize;
    let mut found = Vec::new();
    let mut from = words.get(open).map_or(at, |(at, _)| at + 1);
    let first = from;
    for (place, &(at, word)) in words.iter().enumerate().skip(open) {
        match word {
            "(" => depth += 1,
            "," if depth == 1 => {
                found.push((from, at));
                from = at + 1;
            }
            ")" if depth == 1 => {
                let is_empty = found.is_empty() && words.get(open + 1).is_some_and(|(next, _)| *next == at);
                if !is_empty || from != first {
                    found.push((from, at));
                }
                return Ok((found, place + 1, at + 1));
            }
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Err(wrong(at, "its bracket is never closed"))
}
