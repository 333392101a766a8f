//! The recipe and the gate rules of a run: the shipped ones or others, refused before anything starts if they cannot be read.

use crate::Args;
use crate::verbs;
use anyhow::{Context, Result, bail};
use headwater_align::recipe::{Column, Holds, Recipe, SpineSource};
use std::path::{Path, PathBuf};

/// Values of a column group that are shown.
const SHOWN_MAX: usize = 3;
/// A sensor's own counter: nothing to look at.
const COUNTER: &str = "n";
/// A recipe of the demo's own.
const TAKEN: &str = "wake";

/// What is aligned, and how it is judged.
#[derive(Debug)]
pub(crate) struct Drive {
    /// The recipe's file.
    pub(crate) recipe: PathBuf,
    /// The file of gate rules.
    pub(crate) rules: PathBuf,
    /// Both are those of the demo, so that all it promises can be judged.
    pub(crate) is_shipped: bool,
    /// The aligned table.
    pub(crate) shape: Shape,
}

/// What the aligned table holds.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Its name.
    pub(crate) table: String,
    /// A row is a picture of the front camera.
    pub(crate) is_of_pictures: bool,
    /// Rows carry the picture's file name.
    pub(crate) has_name: bool,
    /// Its columns, as the recipe groups them.
    pub(crate) groups: Vec<Group>,
}

/// One column of a recipe.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// The column.
    pub(crate) column: Column,
    /// What is shown of it.
    pub(crate) shown: Vec<Shown>,
    /// Samples that may lie on either side of the window's edges.
    pub(crate) edge: Option<String>,
}

/// One value.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// Its column in the table.
    pub(crate) column: String,
    /// The column of its uncertainty.
    pub(crate) uncertainty: Option<String>,
}

impl Drive {
    /// Reads what the command line names; an error says all that is wrong, in the checker's words.
    pub(crate) fn read(args: &Args) -> Result<Self> {
        let shipped = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(name);
        let (own_recipe, own_rules) = (shipped("drive.toml"), shipped("gate.toml"));
        let recipe = args.recipe.clone().unwrap_or_else(|| own_recipe.clone());
        let rules = args.rules.clone().unwrap_or_else(|| own_rules.clone());
        check("recipe", &recipe, &["recipe", "check"])?;
        check("gate rules", &rules, &["gate", "explain"])?;
        let form = canonical(&recipe)?;
        let is_shipped =
            form == canonical(&own_recipe)? && std::fs::read(&rules)? == std::fs::read(&own_rules)?;
        let read = Recipe::from_canonical(&form).map_err(|error| anyhow::anyhow!("{error}"));
        let read = read.with_context(|| {
            format!("recipe {} names files, which the demo cannot show", recipe.display())
        })?;
        if read.name.as_str() == TAKEN {
            bail!(
                "recipe {}: the demo has a recipe {TAKEN:?} already; give yours another name",
                recipe.display()
            );
        }
        let (recipe, rules) = (recipe.canonicalize()?, rules.canonicalize()?);
        Ok(Self { recipe, rules, is_shipped, shape: Shape::of(&read) })
    }
}

fn check(what: &str, file: &Path, words: &[&str]) -> Result<()> {
    let name = file.to_str().with_context(|| format!("{} is no UTF-8", file.display()))?;
    let done = verbs::headwater(Path::new("."), &[words, &[name]].concat())?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).trim().to_owned());
    bail!("the {what} cannot be used, so nothing was started\n{}", said.join("\n").trim())
}

fn canonical(recipe: &Path) -> Result<String> {
    let name = recipe.to_str().context("a path that is no UTF-8")?;
    Ok(verbs::told(Path::new("."), &["recipe", "canonical", name])?.trim().to_owned())
}

impl Shape {
    fn of(recipe: &Recipe) -> Self {
        let outputs = recipe.outputs();
        let (is_of_pictures, has_name) = match &recipe.spine.source {
            SpineSource::Stream { stream, select, .. } => {
                (stream.as_str() == "camera/front", select.iter().any(|field| field.as_str() == "name"))
            }
            _ => (false, false),
        };
        let groups = recipe.columns.iter().enumerate().map(|(place, column)| {
            let path = format!("column[{place}]");
            let own = || outputs.iter().filter(|output| output.path == path);
            let names: Vec<&str> = own().map(|output| output.name.as_str()).collect();
            let shown = own().filter_map(|output| match &output.holds {
                Holds::Value(field) if field.as_str() == COUNTER => None,
                Holds::Value(_) | Holds::Stat(..) => {
                    let uncertainty = format!("{}_u", output.name);
                    let uncertainty = names.contains(&uncertainty.as_str()).then_some(uncertainty);
                    Some(Shown { column: output.name.clone(), uncertainty })
                }
                _ => None,
            });
            let edge =
                own().find(|output| output.holds == Holds::EdgeCount).map(|output| output.name.clone());
            Group { column: column.clone(), shown: shown.take(SHOWN_MAX).collect(), edge }
        });
        Self { table: format!("aligned.{}", recipe.name), is_of_pictures, has_name, groups: groups.collect() }
    }
}
