//! What of a recipe's language is not done beside ingest, refused at the start with every reason.

use headwater_align::derive::stages;
use headwater_align::recipe::{Recipe, RecipeError};

/// Checks that a recipe can be aligned beside ingest, and made anew from a commit.
///
/// # Errors
/// [`RecipeError`] with everything that cannot.
pub fn check_beside(recipe: &Recipe) -> Result<(), RecipeError> {
    match stages(&recipe.derived, recipe.episodes.as_ref()) {
        Ok(_) => Ok(()),
        Err(mistakes) => Err(RecipeError(mistakes.into_iter().collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 'cam'\n[[column]]\nname = 'm'\nstream = 'imu'\nselect = ['x']\nmethod = 'linear'\nmax_gap = '1s'\n";

    #[test]
    fn what_cannot_be_made_is_named_at_the_start() {
        assert!(check_beside(&Recipe::parse(PLAIN).unwrap()).is_ok());
        let late = Recipe::parse(&format!("{PLAIN}[late]\npolicy = 'side_stream'\n")).unwrap();
        assert!(check_beside(&late).is_ok());
        let derived = "[[derive]]\nname = 'v'\nmotion = { lat = 'm_x', lon = 'm_x', feature = 'speed', max_gap = '1s' }\n\
            [[derive]]\nname = 'w'\ncommand = { program = 'cat', version = '1', inputs = ['v'], output = 'float64' }\n";
        assert!(check_beside(&Recipe::parse(&format!("{PLAIN}{derived}")).unwrap()).is_ok());
        let waits = Recipe::parse(&format!("{PLAIN}{derived}[episode]\nbegin = 'w > 1'\n")).unwrap();
        let said = check_beside(&waits).unwrap_err();
        assert_eq!(said.0.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["episode.begin"]);
    }
}
