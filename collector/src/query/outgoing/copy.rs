//! `headwater export-manifest` and `headwater clone`: a commit's files for other tools, and a lake in another place.

use super::Asked;
use super::progress::{COUNTED, bar};
use crate::query::QueryError;
use crate::query::cli::now;
use futures::TryStreamExt;
use headwater_lake::{
    CommitFile, CommitId, Compare, Condition, FileRole, Lake, RefName, ScanOptions, TableName,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;

/// Objects up to this many bytes lie in their row.
const INLINE_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, clap::Args)]
pub(in crate::query) struct ManifestArgs {
    /// Only this table; all if left out.
    table: Option<String>,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main")]
    at: String,
    /// Leaves the checksums out: nothing is read but metadata.
    #[arg(long)]
    no_checksums: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::query) struct CloneArgs {
    /// The lake to copy.
    source: String,
    /// The folder of the copy; made if it is not there.
    target: String,
    /// Only this branch or tag, with its history; may be repeated.
    #[arg(long = "ref", value_name = "REF")]
    refs: Vec<RefName>,
}

pub(super) async fn manifest<W: Write>(
    lake: &Lake,
    args: &ManifestArgs,
    out: &mut W,
) -> Result<(), QueryError> {
    let id = lake.resolve(&args.at).await?;
    let table = args
        .table
        .as_ref()
        .map(|table| TableName::new(table.as_str()).map_err(|_| QueryError::TableName(table.clone())));
    let table = table.transpose()?;
    let mut files = lake.commit_files(&id, table.as_ref()).await?;
    files.extend(objects(lake, &id, table.as_ref()).await?);
    let progress = bar(files.len() as u64, "hashing", COUNTED);
    let mut listed = Vec::new();
    for file in files {
        let (mut bytes, mut sha256) = (file.bytes, None);
        if !args.no_checksums {
            let (found, digest) = lake.checksum(&file.location).await?;
            (bytes, sha256) = (Some(found), Some(digest));
        }
        progress.inc(1);
        listed.push(json!({
            "role": file.role.as_str(),
            "location": file.location,
            "table": file.table.map(|table| table.to_string()),
            "bytes": bytes,
            "rows": file.rows,
            "sha256": sha256,
        }));
    }
    progress.finish_and_clear();
    let manifest = json!({
        "v": 1, "lake": lake.location(), "repo_id": lake.repo_id(), "commit": id, "files": Value::Array(listed),
    });
    Ok(writeln!(out, "{manifest}")?)
}

/// Large objects that rows of the commit name.
async fn objects(
    lake: &Lake,
    id: &CommitId,
    only: Option<&TableName>,
) -> Result<Vec<CommitFile>, QueryError> {
    let mut paths = BTreeSet::new();
    for table in lake.tables(id).await?.into_keys().filter(|table| only.is_none_or(|only| only == table)) {
        let columns = lake.columns(id, &table).await?;
        let has = |name: &str| columns.iter().any(|column| column.name == name);
        if !(has("hash") && has("size")) {
            continue;
        }
        let large = Condition {
            column: "size".to_owned(),
            compare: Compare::Greater,
            value: INLINE_BYTES_MAX.to_string(),
        };
        let options = ScanOptions {
            columns: Some(vec!["hash".to_owned(), "size".to_owned()]),
            conditions: vec![large],
            ..ScanOptions::default()
        };
        let mut batches = lake.scan(id, &table, options).await?;
        while let Some(batch) = batches.try_next().await? {
            for row in crate::query::row_values(&batch)? {
                let Some(hash) = row.get("hash").and_then(Value::as_str) else { continue };
                if let Some(path) = lake.blob_path(hash).await? {
                    paths.insert((path, table.clone()));
                }
            }
        }
    }
    let file = |(path, table): (String, TableName)| CommitFile {
        role: FileRole::Blob,
        location: format!("{}/{path}", lake.location()),
        table: Some(table),
        bytes: None,
        rows: None,
        day: None,
    };
    Ok(paths.into_iter().map(file).collect())
}

pub(super) async fn clone<W: Write>(args: &CloneArgs, asked: &mut Asked<'_, W>) -> Result<(), QueryError> {
    let source = Lake::open(&args.source).await?;
    let target = Lake::init(&args.target).await?;
    if source.location() == target.location() {
        return Err(QueryError::SameLake(args.target.clone()));
    }
    let only = (!args.refs.is_empty()).then_some(args.refs.as_slice());
    let progress = bar(0, "copying", "{msg} {bar:30} {pos}/{len} commits {eta}");
    let copied = source
        .copy_to(&target, only, "headwater clone", now().micros(), |step| {
            progress.set_length(step.commits);
            progress.set_position(step.done);
        })
        .await?;
    progress.finish_and_clear();
    let heads = |refs: &[(RefName, CommitId)]| {
        Value::Object(refs.iter().map(|(name, id)| (name.to_string(), json!(id))).collect())
    };
    let figures = copied.progress;
    match asked.json {
        true => writeln!(
            asked.out,
            "{}",
            json!({
                "source": source.location(), "target": target.location(), "commits": figures.commits,
                "files": figures.files, "bytes": figures.bytes, "refs": heads(&copied.refs), "tags": heads(&copied.tags),
            })
        )?,
        false => writeln!(
            asked.out,
            "{} commits, {} new files, {} bytes: {}",
            figures.commits,
            figures.files,
            figures.bytes,
            target.location()
        )?,
    }
    Ok(())
}
