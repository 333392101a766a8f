//! What is wrong with a recipe: every mistake, where it is, and how it is put right.

use std::fmt;

/// One mistake and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// TOML path, e.g. `column[1].tolerance`.
    pub path: String,
    /// What was expected, and a hint.
    pub text: String,
}

/// Every mistake of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("recipe has {} mistake{}:{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, Listed(.0))]
pub struct RecipeError(pub Vec<Mistake>);

struct Listed<'a>(&'a [Mistake]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {}: {}", mistake.path, mistake.text))
    }
}
