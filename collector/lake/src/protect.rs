//! Which refs nobody writes to directly, as a pure rule. The lake does not enforce it: whoever holds the store's
//! credentials can write anything, and the command line asks nobody. Those who act for others ask it.

use std::fmt;
use std::str::FromStr;

use crate::names::{NameError, RefName};

/// A pattern of ref names: a name in which `*` stands for any run of signs, `/` included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| name.as_str().strip_prefix(first)) else {
            return false;
        };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            // The leftmost place leaves the most for what follows.
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
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

/// The refs that are protected; none unless it is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Protection {
    patterns: Vec<RefPattern>,
}

/// A write to a protected ref.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} is protected (pattern {pattern}); write to a branch of your own (headwater branch NAME {name}) and merge it"
)]
pub struct Protected {
    /// The ref.
    pub name: RefName,
    /// The pattern that protects it.
    pub pattern: RefPattern,
}

impl Protection {
    /// Protects what any of `patterns` matches.
    pub fn new(patterns: impl IntoIterator<Item = RefPattern>) -> Protection {
        Protection { patterns: patterns.into_iter().collect() }
    }

    /// # Errors
    /// [`Protected`] if `name` may not be written to directly.
    pub fn check(&self, name: &RefName) -> Result<(), Protected> {
        match self.patterns.iter().find(|pattern| pattern.matches(name)) {
            Some(pattern) => Err(Protected { name: name.clone(), pattern: pattern.clone() }),
            None => Ok(()),
        }
    }

    /// The patterns in the order they were given.
    pub fn patterns(&self) -> &[RefPattern] {
        &self.patterns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn a_protected_ref_says_what_to_do_instead() {
        let protection = Protection::new([RefPattern::new("main").unwrap()]);
        let text = protection.check(&RefName::main()).unwrap_err().to_string();
        assert!(text.contains("headwater branch NAME main"), "{text}");
        assert!(protection.check(&RefName::new("dev").unwrap()).is_ok());
        assert!(Protection::default().check(&RefName::main()).is_ok());
    }
}
