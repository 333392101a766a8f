//! Patterns of ref names: `*` stands for anything, `/` included.

use headwater_lake::RefName;
use std::fmt;
use std::str::FromStr;

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefPattern(String);

impl RefPattern {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn fits(&self, name: &str) -> bool {
        fits(self.0.as_bytes(), name.as_bytes())
    }
}

impl FromStr for RefPattern {
    type Err = ();

    /// A ref name in which any part may be `*`.
    fn from_str(text: &str) -> Result<Self, ()> {
        // With something for each star it must be a name.
        let filled = text.replace('*', "x");
        RefName::new(filled).map(|_| Self(text.to_owned())).map_err(|_| ())
    }
}

/// Greedy matching with one point to come back to: linear in practice, never exponential.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                star = Some((p, n));
                p += 1;
            }
            (Some(sign), _) if Some(sign) == name.get(n) => {
                p += 1;
                n += 1;
            }
            (_, Some((at, from))) => {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
            (_, None) => return false,
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|sign| *sign == b'*'))
}

/// Several patterns; one that fits is enough.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefPatterns(pub Vec<RefPattern>);

impl RefPatterns {
    /// Those of `texts` that are patterns; for texts known to be.
    #[must_use]
    pub fn of(texts: &[&str]) -> Self {
        Self(texts.iter().filter_map(|text| text.parse().ok()).collect())
    }

    /// True if one fits.
    #[must_use]
    pub fn fits(&self, name: &RefName) -> bool {
        self.0.iter().any(|pattern| pattern.fits(name.as_str()))
    }

    /// True if every ref fits.
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

    #[test]
    fn stars_stand_for_anything() {
        let fits = |pattern: &str, name: &str| {
            RefPatterns(vec![pattern.parse().unwrap()]).fits(&RefName::new(name).unwrap())
        };
        for (pattern, name) in
            [("main", "main"), ("*", "a/b"), ("exp/*", "exp/a/b"), ("a*c*e", "abcde"), ("a*", "a")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("main", "main2"), ("exp/*", "exp"), ("exp/*", "wap/exp/1"), ("a*c", "abcd")]
        {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        for bad in ["", "Main", "a b", "a//b", "../x"] {
            assert!(bad.parse::<RefPattern>().is_err(), "{bad}");
        }
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
        fn fits_as_defined(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), model(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
