//! Patterns of ref names: `*` stands for anything, `/` included.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, RefName};

/// A pattern of ref names: a name in which `*` stands for any run of signs, `/` included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RefPattern(String);

impl RefPattern {
    /// Checks and keeps `pattern`.
    ///
    /// # Errors
    /// [`NameError::Pattern`] when it is no name with something for each star.
    pub fn new(pattern: impl Into<String>) -> Result<RefPattern, NameError> {
        let pattern = pattern.into();
        if RefName::new(pattern.replace('*', "0")).is_ok() {
            Ok(RefPattern(pattern))
        } else {
            Err(NameError::Pattern { pattern })
        }
    }

    /// Whether `name` is one of those meant.
    pub fn matches(&self, name: &RefName) -> bool {
        fits(&self.0, name.as_str())
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        // The leftmost place leaves the most for what follows.
        match rest.split_once(piece) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

impl fmt::Display for RefPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RefPattern {
    type Err = NameError;

    fn from_str(pattern: &str) -> Result<Self, NameError> {
        RefPattern::new(pattern)
    }
}

impl TryFrom<String> for RefPattern {
    type Error = NameError;

    fn try_from(pattern: String) -> Result<Self, NameError> {
        RefPattern::new(pattern)
    }
}

impl From<RefPattern> for String {
    fn from(pattern: RefPattern) -> String {
        pattern.0
    }
}

/// Several patterns; one that matches is enough, and none match nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RefPatterns(pub Vec<RefPattern>);

impl RefPatterns {
    /// Those of `texts` that are patterns; for texts known to be.
    #[must_use]
    pub fn of(texts: &[&str]) -> RefPatterns {
        RefPatterns(texts.iter().filter_map(|text| text.parse().ok()).collect())
    }

    /// The first that matches.
    #[must_use]
    pub fn matching(&self, name: &RefName) -> Option<&RefPattern> {
        self.0.iter().find(|pattern| pattern.matches(name))
    }

    /// True if one matches.
    #[must_use]
    pub fn fits(&self, name: &RefName) -> bool {
        self.matching(name).is_some()
    }

    /// True if every ref is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.iter().any(|pattern| pattern.0 == "*")
    }
}

impl fmt::Display for RefPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(RefPattern::as_str).collect();
        f.write_str(&texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        RefPattern::new(pattern).unwrap().matches(&RefName::new(name).unwrap())
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name) in [
            ("main", "main"),
            ("release/*", "release/1.2"),
            ("release/*", "release/1/2"),
            ("release-*", "release-"),
            ("*-keep-*", "a-keep-b-keep-c"),
            ("*", "a/b"),
            ("a*b*c", "abbc"),
            ("a*c*e", "abcde"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("main", "main2"),
            ("main", "main/x"),
            ("release/*", "release"),
            ("wap/*", "x/wap/1"),
            ("ab*b", "ab"),
            ("a*c", "abcd"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        for bad in ["", "Main", "a//b", "../*", "/", ".*", "a b*"] {
            assert!(RefPattern::new(bad).is_err(), "{bad}");
        }
        let some = RefPatterns::of(&["main", "release/*"]);
        assert_eq!(some.matching(&RefName::new("release/1").unwrap()).unwrap().as_str(), "release/*");
        assert!(!some.is_all() && RefPatterns::of(&["x", "*"]).is_all());
        assert!(!RefPatterns::default().fits(&RefName::main()));
    }

    /// The plain definition, exponential and obvious.
    fn model(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|at| model(rest, &name[at..])),
            Some((sign, rest)) => {
                name.split_first().is_some_and(|(head, tail)| head == sign && model(rest, tail))
            }
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_defined(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(fits(&pattern, &name), model(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
