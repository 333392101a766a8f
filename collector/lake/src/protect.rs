//! Which refs nobody writes to directly, as a pure rule. The lake does not enforce it: whoever holds the store's
//! credentials can write anything. Those who act for others (the collector, its REST catalog, the command line) do.

use std::fmt;
use std::str::FromStr;

use crate::names::{NameError, RefName};

/// A pattern of ref names: segments joined by `/`, in which `*` stands for any run of signs within a segment, and `**` as
/// the last segment for all that follows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefPattern(String);

impl RefPattern {
    /// Checks and keeps `pattern`.
    ///
    /// # Errors
    /// [`NameError::Pattern`] when no ref could ever match it.
    pub fn new(pattern: impl Into<String>) -> Result<RefPattern, NameError> {
        let pattern = pattern.into();
        let (last, before) = match pattern.rsplit_once('/') {
            Some((before, last)) => (last, Some(before)),
            None => (pattern.as_str(), None),
        };
        // With its stars filled in it must be a name.
        let filled = |text: &str| RefName::new(text.replace('*', "0"));
        let good = match (before, last) {
            (None, "**") => true,
            (Some(before), "**") => !before.contains("**") && filled(before).is_ok(),
            _ => !pattern.contains("**") && filled(&pattern).is_ok(),
        };
        if good { Ok(RefPattern(pattern)) } else { Err(NameError::Pattern { pattern }) }
    }

    /// Whether `name` is one of those meant.
    pub fn matches(&self, name: &RefName) -> bool {
        let mut segments = name.as_str().split('/');
        for pattern in self.0.split('/') {
            match segments.next() {
                Some(_) if pattern == "**" => return true,
                Some(segment) if segment_matches(pattern, segment) => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `*` is any run of signs, the empty one included.
fn segment_matches(pattern: &str, segment: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| segment.strip_prefix(first)) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
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
            ("release-*", "release-"),
            ("*-keep-*", "a-keep-b-keep-c"),
            ("wap/**", "wap/a/b"),
            ("**", "a/b"),
            ("a*b*c", "abbc"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("main", "main2"),
            ("main", "main/x"),
            ("release/*", "release/1/2"),
            ("release/*", "release"),
            ("wap/**", "wap"),
            ("a*b", "ab/b"),
            ("ab*b", "ab"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        for bad in ["", "Main", "a//b", "../*", "**/a", "a/**/b", "a**", "/", ".*"] {
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
