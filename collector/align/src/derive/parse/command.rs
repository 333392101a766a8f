//! `command = {...}` of a `[[derive]]` table.

use super::method::texts;
use super::{needed, optional_span};
use crate::derive::keys::ON_FAILURE;
use crate::derive::port::Files;
use crate::derive::{Command, CommandFile, CommandType, OnFailure};
use crate::recipe::reader::Reader;
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Default of `timeout`, ns.
const TIMEOUT_DEFAULT_NS: i64 = 60_000_000_000;
/// Default of `output_mib_max`: an answer of 1024 rows with 16 384 doubles each.
const OUTPUT_MIB_DEFAULT: u32 = 64;
/// Default of `memory_mib_max`: a Python with a small model.
const MEMORY_MIB_DEFAULT: u32 = 2_048;
/// Default of `batch_rows_max`.
const BATCH_ROWS_DEFAULT: u32 = 1_024;
/// Longest list of a command, items.
const LENGTH_MAX: u32 = 65_536;

const TYPES: &str = "bool, int64, float32, float64, text, list<float32> or list<float64>, lists with their length as \
                     in list<float32, 128>";

pub(super) fn read(reader: &mut Reader, table: &Table, within: &str, files: &dyn Files) -> Option<Command> {
    let program = needed(reader, table, within, "program", "python3").filter(|program| {
        let is_some = !program.is_empty();
        if !is_some {
            reader.mistake(format!("{within}program"), "is empty; write a path, or a name looked up in PATH");
        }
        is_some
    });
    let args = texts(reader, table, within, "args");
    let declared = declared(reader, table, within, files);
    check_args(reader, &args, within, &declared);
    let program_sha256 = match program.as_deref() {
        Some(path) if path.contains('/') => hash(reader, files, path, &format!("{within}program")).map(Some),
        _ => Some(None),
    };
    let version = needed(reader, table, within, "version", "1");
    let inputs = inputs(reader, table, within);
    let output = output(reader, table, within);
    let timeout_ns = optional_span(reader, table, within, "timeout").unwrap_or(TIMEOUT_DEFAULT_NS);
    let output_mib = reader.count(table, within, "output_mib_max", (1, 4_096)).unwrap_or(OUTPUT_MIB_DEFAULT);
    let memory_mib =
        reader.count(table, within, "memory_mib_max", (16, 1_048_576)).unwrap_or(MEMORY_MIB_DEFAULT);
    let batch_rows_max =
        reader.count(table, within, "batch_rows_max", (1, 65_536)).unwrap_or(BATCH_ROWS_DEFAULT);
    let on_failure = match reader.word(table, within, "on_failure", ON_FAILURE) {
        Some(1) => OnFailure::Hold,
        _ => OnFailure::Null,
    };
    Some(Command {
        program: program?,
        args,
        files: declared,
        program_sha256: program_sha256?,
        version: version?,
        inputs,
        output: output?,
        timeout_ns,
        output_bytes_max: u64::from(output_mib) << 20,
        memory_bytes_max: u64::from(memory_mib) << 20,
        batch_rows_max,
        on_failure,
    })
}

fn hash(reader: &mut Reader, files: &dyn Files, path: &str, at: &str) -> Option<headwater_core::id::Sha256> {
    match files.sha256(path) {
        Ok(sha256) => Some(sha256),
        Err(why) => {
            reader.mistake(at, format!("{path} cannot be hashed: {why}"));
            None
        }
    }
}

/// Files by name; the table is sorted by it.
fn declared(reader: &mut Reader, table: &Table, within: &str, files: &dyn Files) -> Vec<CommandFile> {
    let Some(named) = reader.table(table, within, "files", "write `files = { model = \"model.onnx\" }`")
    else {
        return Vec::new();
    };
    let mut read = Vec::new();
    for (name, path) in named {
        let at = format!("{within}files.{name}");
        match path {
            Value::String(path) => {
                let sha256 = hash(reader, files, path, &at);
                read.extend(sha256.map(|sha256| CommandFile {
                    name: name.clone(),
                    path: path.clone(),
                    sha256,
                }));
            }
            _ => reader.mistake(at, "expected a path in quotes"),
        }
    }
    read
}

/// Each `{file:NAME}` must be declared.
fn check_args(reader: &mut Reader, args: &[String], within: &str, files: &[CommandFile]) {
    for (place, arg) in args.iter().enumerate() {
        for part in arg.split("{file:").skip(1) {
            let name = part.split_once('}').map(|(name, _)| name);
            if name.is_none_or(|name| !files.iter().any(|file| file.name == name)) {
                let name = name.unwrap_or(part);
                let text =
                    format!("{{file:{name}}} is not declared; write `files = {{ {name} = \"path\" }}`");
                reader.mistake(format!("{within}args[{place}]"), text);
            }
        }
    }
}

fn inputs(reader: &mut Reader, table: &Table, within: &str) -> Vec<String> {
    let inputs = texts(reader, table, within, "inputs");
    if inputs.is_empty() {
        reader.mistake(
            format!("{within}inputs"),
            "expected the columns it is given, e.g. `inputs = [\"motion_accel_x\"]`",
        );
    }
    let mut seen = BTreeSet::new();
    for (place, input) in inputs.iter().enumerate() {
        if !seen.insert(input) {
            reader.mistake(format!("{within}inputs[{place}]"), format!("{input} stands here twice"));
        }
    }
    inputs
}

fn output(reader: &mut Reader, table: &Table, within: &str) -> Option<CommandType> {
    let text = needed(reader, table, within, "output", "list<float32, 128>")?;
    let read = type_of(&text);
    if read.is_none() {
        reader.mistake(
            format!("{within}output"),
            format!("{text:?} is no type of an answer; expected {TYPES}"),
        );
    }
    read
}

fn type_of(text: &str) -> Option<CommandType> {
    let words: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    Some(match words.as_str() {
        "bool" => CommandType::Bool,
        "int64" => CommandType::Int64,
        "float32" => CommandType::Float32,
        "float64" => CommandType::Float64,
        "text" => CommandType::Text,
        other => {
            let inner = other.strip_prefix("list<")?.strip_suffix('>')?;
            let (item, length) = inner.split_once(',').map_or((inner, None), |(item, n)| (item, Some(n)));
            let length = match length {
                Some(n) => Some(n.parse().ok().filter(|n| (1..=LENGTH_MAX).contains(n))?),
                None => None,
            };
            match item {
                "float32" => CommandType::Float32List { length },
                "float64" => CommandType::Float64List { length },
                _ => return None,
            }
        }
    })
}
