//! What of the derived columns a row alone decides, and what the rows before it: rows that are written piece by piece, late
//! ones among them, are derived in three stages.

use super::{Derivation, Derived, Episodes};
use crate::recipe::Mistake;
use std::collections::BTreeMap;

/// Derived columns in the order of their stages; within each in that of the recipe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stages {
    /// Of the row alone, so in any order of the rows: pictures and programs among them.
    pub own: Vec<Derived>,
    /// Motion, and what formulas make of it: of the row and those of its device before it. Episodes are of this stage.
    pub chain: Vec<Derived>,
    /// What programs make of the chain's, and what rests on that: of the row alone again.
    pub after: Vec<Derived>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Own,
    Chain,
    After,
}

/// Parts derived columns into their stages.
///
/// # Errors
/// Motion or episodes that rest on what a program makes of motion: each row would wait for a run of its own.
pub fn stages(derived: &[Derived], episodes: Option<&Episodes>) -> Result<Stages, Vec<Mistake>> {
    let mut known: BTreeMap<String, Stage> = BTreeMap::new();
    let (mut stages, mut mistakes) = (Stages::default(), Vec::new());
    let mut refuse = |path: String, column: &str| {
        let text = format!(
            "{column} is what a program makes of motion, which the next row would have to wait for; take a column that rests on no program"
        );
        mistakes.push(Mistake { path, text });
    };
    for (place, one) in derived.iter().enumerate() {
        let inputs = one.inputs();
        let of = |column: &str| known.get(column).copied().unwrap_or(Stage::Own);
        let newest = inputs.iter().map(|(_, column)| of(column)).max().unwrap_or(Stage::Own);
        let stage = match (&one.by, newest) {
            (Derivation::Motion { .. }, Stage::After) => {
                for (key, column) in inputs.iter().filter(|(_, column)| of(column) == Stage::After) {
                    refuse(format!("derive[{place}].{key}"), column);
                }
                Stage::After
            }
            (Derivation::Motion { .. }, _) => Stage::Chain,
            (Derivation::Command(_) | Derivation::Picture { .. }, Stage::Chain) => Stage::After,
            (_, newest) => newest,
        };
        known.extend(one.outputs().map(|name| (name, stage)));
        match stage {
            Stage::Own => stages.own.push(one.clone()),
            Stage::Chain => stages.chain.push(one.clone()),
            Stage::After => stages.after.push(one.clone()),
        }
    }
    for (key, column) in episodes.map(Episodes::inputs).unwrap_or_default() {
        if known.get(column) == Some(&Stage::After) {
            refuse(format!("episode.{key}"), column);
        }
    }
    if mistakes.is_empty() { Ok(stages) } else { Err(mistakes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    const HEAD: &str = "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 'cam'\n[[column]]\nname = 'p'\nstream = 'gps'\nselect = ['lat', 'lon', 'alt']\nmethod = 'previous'\ntolerance = '1s'\n";
    const SPEED: &str = "[[derive]]\nname = 'speed'\nmotion = { lat = 'p_lat', lon = 'p_lon', feature = 'speed', max_gap = '2s' }\n";

    fn command(name: &str, input: &str) -> String {
        format!(
            "[[derive]]\nname = '{name}'\ncommand = {{ program = 'cat', version = '1', inputs = ['{input}'], output = 'float64' }}\n"
        )
    }

    fn of(rest: &str) -> Result<[Vec<String>; 3], String> {
        let recipe = Recipe::parse(&format!("{HEAD}{rest}")).unwrap();
        let names = |of: &[Derived]| of.iter().map(|one| one.name.to_string()).collect();
        match stages(&recipe.derived, recipe.episodes.as_ref()) {
            Ok(stages) => Ok([names(&stages.own), names(&stages.chain), names(&stages.after)]),
            Err(mistakes) => Err(mistakes.iter().map(|one| one.path.clone()).collect::<Vec<_>>().join(" ")),
        }
    }

    #[test]
    fn a_program_that_reads_motion_runs_after_the_chain() {
        let fast = "[[derive]]\nname = 'fast'\nexpression = 'speed > 10'\n";
        let all = format!(
            "[[derive]]\nname = 'high'\nexpression = 'p_alt > 3'\n{}{SPEED}{fast}{}[episode]\nbegin = 'fast'\n",
            command("guess", "p_alt"),
            command("mood", "speed"),
        );
        let texts = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(of(&all), Ok([texts(&["high", "guess"]), texts(&["speed", "fast"]), texts(&["mood"])]));
    }

    #[test]
    fn no_row_waits_for_a_program_that_reads_the_row_before() {
        let mood = command("mood", "speed");
        let glad = "[[derive]]\nname = 'glad'\nexpression = 'mood > 1'\n";
        assert_eq!(
            of(&format!("{SPEED}{mood}{glad}[episode]\nbegin = 'glad'\n")),
            Err("episode.begin".into())
        );
        let again = SPEED.replace("'speed'\nmotion", "'again'\nmotion").replace("p_lat", "mood");
        assert_eq!(of(&format!("{SPEED}{mood}{again}")), Err("derive[2].motion.lat".into()));
    }
}
