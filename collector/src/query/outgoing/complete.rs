//! Completion: what may stand at the end of a command line, asked of the program itself and of the lake it is about.
//!
//! The scripts of the shells only hand the words over; so verbs, options, refs and tables are those there are now.

use super::{Asked, Shell};
use crate::query::QueryError;
use clap::{Arg, Command, CommandFactory, ValueHint};
use futures::TryStreamExt;
use headwater_lake::{Lake, ScanOptions, TableName};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

/// Most candidates printed: nobody reads more, and shells grow slow.
const CANDIDATES_MAX: usize = 500;
/// Commits whose ids are offered after `@` or as revisions.
const COMMITS_MAX: usize = 20;

/// Arguments that name a branch, tag or commit, whatever verb they belong to.
const REVISIONS: [&str; 25] = [
    "at",
    "on",
    "protect",
    "unprotect",
    "commit",
    "name",
    "since",
    "to",
    "branch",
    "source",
    "target",
    "onto",
    "into",
    "start",
    "start_point",
    "revision",
    "rev",
    "refs",
    "from_ref",
    "against",
    "other",
    "base",
    "a",
    "b",
    "candidate",
];

#[derive(Debug, clap::Args)]
pub(in crate::query) struct CompleteArgs {
    /// Words of the line after the program's name; the last is the one to be completed.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// What is wanted at the end of the line.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// One of these, with what they mean.
    Words(Vec<(String, String)>),
    Revision,
    Table,
    Device,
    File,
    Nothing,
}

pub(super) async fn run<A: CommandFactory, W: Write>(
    args: &CompleteArgs,
    asked: &mut Asked<'_, W>,
) -> Result<(), QueryError> {
    let (last, words) =
        args.words.split_last().map_or(("", [].as_slice()), |(last, words)| (last.as_str(), words));
    // `--at=ma` is completed as `--at ma`, with the option before it.
    let (option, part) = match last.split_once('=') {
        Some((option, part)) if option.starts_with("--") => (Some(option), part),
        _ => (None, last),
    };
    let mut words: Vec<&str> = words.iter().map(String::as_str).filter(|word| *word != "=").collect();
    words.extend(option);
    let part = if part == "=" { "" } else { part };
    let place = lake_of(&words).unwrap_or(asked.lake).to_owned();
    let found = match wanted(&A::command(), &words, part) {
        Wanted::Words(words) => words,
        // Whatever is wrong with the lake is told by the verb, not while it is typed.
        Wanted::Revision => revisions(&place).await.unwrap_or_default(),
        Wanted::Table => tables(&place).await.unwrap_or_default(),
        Wanted::Device => devices(&place).await.unwrap_or_default(),
        Wanted::File => files(part),
        Wanted::Nothing => Vec::new(),
    };
    let before = option.map(|option| format!("{option}=")).unwrap_or_default();
    for (word, meaning) in found.iter().filter(|(word, _)| word.starts_with(part)).take(CANDIDATES_MAX) {
        writeln!(asked.out, "{before}{word}\t{meaning}")?;
    }
    Ok(())
}

fn lake_of<'a>(words: &[&'a str]) -> Option<&'a str> {
    let place = words.iter().position(|word| *word == "--lake");
    place.and_then(|place| words.get(place + 1).copied())
}

/// Walks the words through the program's own verbs and options.
fn wanted(root: &Command, words: &[&str], part: &str) -> Wanted {
    let mut root = root.clone();
    root.build();
    let mut at = &root;
    let mut positionals = 0;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(option) = option(at, word) {
            if option.get_action().takes_values() && words.next().is_none() {
                return of_value(option);
            }
        } else if let Some(verb) = at.find_subcommand(word) {
            (at, positionals) = (verb, 0);
        } else {
            positionals += 1;
        }
    }
    if part.starts_with('-') {
        return Wanted::Words(options(at));
    }
    if at.has_subcommands() {
        let verbs = at.get_subcommands().filter(|verb| !verb.is_hide_set());
        let meaning = |verb: &Command| verb.get_about().map(|about| about.to_string()).unwrap_or_default();
        return Wanted::Words(verbs.map(|verb| (verb.get_name().to_owned(), meaning(verb))).collect());
    }
    // The last one may take several.
    let last =
        at.get_positionals().last().filter(|arg| arg.get_num_args().is_some_and(|n| n.max_values() > 1));
    at.get_positionals().nth(positionals).or(last).map_or(Wanted::Nothing, of_value)
}

fn option<'a>(at: &'a Command, word: &str) -> Option<&'a Arg> {
    at.get_arguments().find(|arg| {
        let long = word.strip_prefix("--").is_some_and(|long| arg.get_long() == Some(long));
        let short = word.strip_prefix('-').and_then(|rest| rest.chars().next().filter(|_| rest.len() == 1));
        long || (short.is_some() && arg.get_short() == short)
    })
}

fn options(at: &Command) -> Vec<(String, String)> {
    let shown = at.get_arguments().filter(|arg| !arg.is_hide_set());
    let named = shown.filter_map(|arg| {
        let meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some((format!("--{}", arg.get_long()?), meaning))
    });
    named.collect()
}

fn of_value(arg: &Arg) -> Wanted {
    let values = arg.get_possible_values();
    if !values.is_empty() {
        let meaning = |value: &clap::builder::PossibleValue| {
            value.get_help().map(ToString::to_string).unwrap_or_default()
        };
        return Wanted::Words(
            values.iter().map(|value| (value.get_name().to_owned(), meaning(value))).collect(),
        );
    }
    match (arg.get_id().as_str(), arg.get_value_hint()) {
        ("table" | "tables", _) => Wanted::Table,
        ("device" | "devices", _) => Wanted::Device,
        // A clone's two places are folders, not revisions.
        ("source" | "target", _) if arg.get_help().is_some_and(|help| is_place(&help.to_string())) => {
            Wanted::File
        }
        ("lake", _) => Wanted::File,
        (id, _) if REVISIONS.contains(&id) => Wanted::Revision,
        (_, ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath) => Wanted::File,
        _ => Wanted::Nothing,
    }
}

fn is_place(help: &str) -> bool {
    help.contains("lake to copy") || help.contains("folder")
}

async fn revisions(place: &str) -> Result<Vec<(String, String)>, QueryError> {
    let lake = Lake::open(place).await?;
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, head) in lake.refs().list().await? {
        found.push((name.to_string(), head.reason));
    }
    for tag in lake.refs().tags().await? {
        found.push((tag.name.to_string(), "tag".to_owned()));
    }
    for commit in lake.log("main", COMMITS_MAX).await.unwrap_or_default() {
        found.push((commit.id.short().to_owned(), commit.message));
    }
    let plain =
        |(word, meaning): (String, String)| (word, meaning.lines().next().unwrap_or_default().to_owned());
    Ok(found.into_iter().map(plain).collect())
}

async fn tables(place: &str) -> Result<Vec<(String, String)>, QueryError> {
    let lake = Lake::open(place).await?;
    let id = lake.resolve("main").await?;
    let tables = lake.tables(&id).await?;
    Ok(tables.into_iter().map(|(name, entry)| (name.to_string(), format!("{} rows", entry.rows))).collect())
}

async fn devices(place: &str) -> Result<Vec<(String, String)>, QueryError> {
    let lake = Lake::open(place).await?;
    let id = lake.resolve("main").await?;
    let options = ScanOptions { columns: Some(vec!["device".to_owned()]), ..ScanOptions::default() };
    let mut batches = lake.scan(&id, &TableName::new("ops.devices")?, options).await?;
    let mut names = BTreeSet::new();
    while let Some(batch) = batches.try_next().await? {
        for row in crate::query::row_values(&batch)? {
            names.extend(row.get("device").and_then(serde_json::Value::as_str).map(str::to_owned));
        }
    }
    Ok(names.into_iter().map(|name| (name, "device".to_owned())).collect())
}

/// Files and folders that begin so.
fn files(part: &str) -> Vec<(String, String)> {
    let folder = part.rfind('/').map_or("", |slash| part.get(..=slash).unwrap_or_default());
    let Ok(entries) = std::fs::read_dir(if folder.is_empty() { Path::new(".") } else { Path::new(folder) })
    else {
        return Vec::new();
    };
    let mut found: Vec<(String, String)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let end = if entry.path().is_dir() { "/" } else { "" };
            Some((format!("{folder}{}{end}", entry.file_name().to_str()?), String::new()))
        })
        .collect();
    found.sort();
    found
}

/// The completion script of a shell.
pub(in crate::query) fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => include_str!("scripts/headwater.bash"),
        Shell::Zsh => include_str!("scripts/_headwater.zsh"),
        Shell::Fish => include_str!("scripts/headwater.fish"),
    }
}
