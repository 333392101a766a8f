//! `headwater recipe`: recipes checked, told in words, compared, tried on what is there, and written as SQL.

mod declared;
mod dry_run;
mod print;
pub(super) mod source;
mod tally;

use super::QueryError;
use super::cli::now;
use super::outgoing::{Moment, Span};
use super::show::{Printer, object};
use clap::{Subcommand, ValueEnum};
use headwater_align::recipe::diff::{consequence, diff};
use headwater_align::recipe::{Findings, RecipeError, schema::schema};
use headwater_align::sql::{Dialect, emit};
use headwater_lake::{CommitId, Lake};
use serde_json::json;
use source::{Source, canonical_of};
use std::io::Write;

/// Verbs of recipes.
#[derive(Debug, Subcommand)]
pub(super) enum RecipeVerb {
    /// Recipes: checked, told in words, compared, written as SQL.
    Recipe {
        #[command(subcommand)]
        verb: Verb,
    },
}

/// What is done with a recipe.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Finds every mistake of a recipe at once, with its place and what was perhaps meant.
    ///
    /// With --at it is also held against what devices declare there: streams, fields, types, units, stamps. Exit code 1
    /// if it cannot be used; warnings alone are 0.
    #[command(
        after_help = "Examples:\n  headwater recipe check drive.toml\n  headwater recipe check drive.toml --at main\n  headwater recipe check drive.toml --at main --json | jq -r '.mistakes[] | .path + \": \" + .text'"
    )]
    Check {
        /// The recipe's file, or NAME@REF: the one that made aligned.NAME there.
        recipe: String,
        /// Branch, tag or commit whose devices it is held against.
        #[arg(long, value_name = "REF")]
        at: Option<String>,
    },
    /// Says in words what a row will hold, what is left out, when it is final and how sure it is.
    #[command(
        after_help = "Examples:\n  headwater recipe explain drive.toml\n  headwater recipe explain drive@main   # the one that made aligned.drive"
    )]
    Explain {
        /// The recipe's file, or NAME@REF.
        recipe: String,
    },
    /// What two recipes differ in, and what of the rows that changes.
    ///
    /// Words, comments, order of keys and defaults written out are no difference. Exit code 0 either way.
    #[command(
        after_help = "Examples:\n  headwater recipe diff drive.toml drive-new.toml\n  headwater recipe diff drive@main drive.toml\n  headwater recipe diff drive@v1 drive@main --json | jq '.changes[].path'"
    )]
    Diff {
        /// The older: a file, or NAME@REF.
        old: String,
        /// The newer.
        new: String,
    },
    /// The JSON schema of recipe files, for editors.
    #[command(
        after_help = "Example:\n  headwater recipe schema > recipe.schema.json\n  # first line of drive.toml, for editors that know TOML schemas:\n  #:schema ./recipe.schema.json"
    )]
    Schema,
    /// Recipes that made the aligned tables of a commit.
    List {
        /// Branch, tag or commit.
        #[arg(long, default_value = "main")]
        at: String,
    },
    /// The canonical form of a recipe, whose SHA-256 is its id.
    #[command(
        after_help = "Example:\n  (echo headwater.recipe.v1; headwater recipe canonical drive.toml | tr -d '\\n') | sha256sum"
    )]
    Canonical {
        /// The recipe's file, or NAME@REF.
        recipe: String,
    },
    /// The rows a recipe would give at a commit: counted by device, the first of them shown, and of each column how many rows
    /// have a match, how far away in time and how sure. Nothing is written.
    #[command(
        after_help = "Examples:\n  headwater recipe dry-run drive.toml --at main --since -1h\n  headwater recipe dry-run drive.toml --at v1 --rows 20 --json | jq '.columns[] | {column, match_ratio, median_dt_ns}'"
    )]
    DryRun {
        /// The recipe's file, or NAME@REF.
        recipe: String,
        /// Branch, tag or commit whose raw tables are aligned.
        #[arg(long, default_value = "main", value_name = "REF")]
        at: String,
        /// Only rows from then on: RFC 3339, a day, or so long ago, such as -2h.
        #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
        since: Option<Moment>,
        /// Only rows before then.
        #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
        until: Option<Moment>,
        /// First rows shown.
        #[arg(long, default_value_t = 5, value_name = "N")]
        rows: usize,
    },
    /// The recipe as one query over the raw tables, for lakes larger than one machine.
    ///
    /// Gives the rows and values that the aligner gives, within what SQL can say; what it cannot is refused, or named at the
    /// query's head.
    #[command(
        after_help = "Examples:\n  headwater recipe sql drive.toml --dialect duckdb > drive.sql\n  headwater views > lake.sql; cat lake.sql drive.sql | duckdb\n  headwater recipe sql drive@main --dialect spark --at main"
    )]
    Sql {
        /// The recipe's file, or NAME@REF.
        recipe: String,
        /// Whose SQL.
        #[arg(long, value_enum)]
        dialect: DialectName,
        /// Branch, tag or commit whose declarations say which tables and columns are read.
        #[arg(long, default_value = "main", value_name = "REF")]
        at: String,
    },
}

/// Engines that SQL is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DialectName {
    /// DuckDB, over the views of `headwater views`.
    Duckdb,
    /// Apache Spark SQL 3.4 or later.
    Spark,
    /// Trino.
    Trino,
}

/// Runs a verb on the lake at `place`, which is opened only if it is asked.
pub(super) async fn run<W: Write>(
    RecipeVerb::Recipe { verb }: RecipeVerb,
    place: &str,
    printer: &mut Printer<W>,
) -> Result<(), QueryError> {
    match verb {
        Verb::Check { recipe, at } => check(&recipe, at.as_deref(), place, printer).await,
        Verb::Explain { recipe } => {
            let told = source::read(&recipe, place).await?.explain();
            print::explanation(&told, printer)
        }
        Verb::Diff { old, new } => {
            let (old, new) = (canonical_of(&old, place).await?, canonical_of(&new, place).await?);
            let changes = diff(&old, &new);
            print::changes(&changes, &consequence(&changes), printer)
        }
        Verb::Schema => {
            let text = serde_json::to_string_pretty(&schema()).map_err(std::io::Error::from)?;
            Ok(writeln!(printer.out, "{text}")?)
        }
        Verb::List { at } => list(&at, place, printer).await,
        Verb::Canonical { recipe } => {
            let form = canonical_of(&recipe, place).await?.canonical();
            Ok(writeln!(printer.out, "{form}")?)
        }
        Verb::DryRun { recipe: spec, at, since, until, rows } => {
            let recipe = source::read(&spec, place).await?;
            let (lake, commit) = at_commit(place, &at).await?;
            let span = Span::new(since, until, now().micros());
            let trial = dry_run::Trial { spec: &spec, recipe, lake: &lake, at: &commit, span, shown: rows };
            dry_run::dry_run(trial, printer).await
        }
        Verb::Sql { recipe, dialect, at } => {
            let recipe = source::read(&recipe, place).await?;
            let (lake, commit) = at_commit(place, &at).await?;
            let declared = declared::declared(&lake, &commit, &recipe).await?;
            let dialect = match dialect {
                DialectName::Duckdb => Dialect::DuckDb,
                DialectName::Spark => Dialect::Spark,
                DialectName::Trino => Dialect::Trino,
            };
            let sql = emit(&recipe, &declared, dialect).map_err(QueryError::RecipeSql)?;
            Ok(write!(printer.out, "{sql}")?)
        }
    }
}

async fn at_commit(place: &str, at: &str) -> Result<(Lake, CommitId), QueryError> {
    let lake = Lake::open(place).await?;
    let commit = lake.resolve(at).await?;
    Ok((lake, commit))
}

async fn check<W: Write>(
    spec: &str,
    at: Option<&str>,
    place: &str,
    printer: &mut Printer<W>,
) -> Result<(), QueryError> {
    let recipe = match source::read(spec, place).await {
        Ok(recipe) => recipe,
        Err(QueryError::Recipe { source: RecipeError(mistakes), .. }) => {
            print::findings(spec, None, &Findings { mistakes, warnings: Vec::new() }, printer)?;
            return Err(QueryError::RecipeRefused);
        }
        Err(other) => return Err(other),
    };
    let mut findings = Findings::default();
    if let Some(at) = at {
        let (lake, commit) = at_commit(place, at).await?;
        findings = recipe.check(&declared::declared(&lake, &commit, &recipe).await?);
    }
    print::findings(spec, Some(&recipe), &findings, printer)?;
    if findings.mistakes.is_empty() { Ok(()) } else { Err(QueryError::RecipeRefused) }
}

async fn list<W: Write>(at: &str, place: &str, printer: &mut Printer<W>) -> Result<(), QueryError> {
    let (lake, commit) = at_commit(place, at).await?;
    let mut rows = Vec::new();
    for table in lake.tables(&commit).await?.keys().filter(|table| table.namespace() == "aligned") {
        let properties = lake.properties(&commit, table).await?;
        let Some(id) = properties.get(Source::ID) else { continue };
        rows.push(object(json!({ "recipe": table.table(), "id": id, "table": table.to_string() })));
    }
    printer.list(&["recipe", "id", "table"], &rows, "no aligned table here")
}
