//! The dataset card and schema words by which Hugging Face `datasets` knows columns, pictures above all.

use super::pictures::blob_columns;
use headwater_lake::{ColumnSpec, ColumnType, CommitId, Lake, TableName};
use serde_json::{Map, Value, json};

/// The dtype of a plain column, as `datasets.Value` names it.
fn dtype(kind: &ColumnType) -> String {
    match kind {
        ColumnType::Boolean => "bool".to_owned(),
        ColumnType::Int => "int32".to_owned(),
        ColumnType::Long => "int64".to_owned(),
        ColumnType::Float => "float32".to_owned(),
        ColumnType::Double => "float64".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("decimal128({precision}, {scale})"),
        ColumnType::Date => "date32".to_owned(),
        ColumnType::Timestamptz => "timestamp[us, tz=+00:00]".to_owned(),
        ColumnType::Binary => "large_binary".to_owned(),
        _ => "string".to_owned(),
    }
}

fn feature(kind: &ColumnType) -> Value {
    match kind {
        ColumnType::Struct(members) => {
            let members = members.iter().map(|member| (member.name.clone(), feature(&member.column_type)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        ColumnType::List(element) => json!({"feature": feature(element), "_type": "List"}),
        plain => json!({"dtype": dtype(plain), "_type": "Value"}),
    }
}

/// What stands under `huggingface` in the metadata of a Parquet file.
pub(super) fn schema_words(columns: &[ColumnSpec]) -> String {
    let blobs: Vec<&str> = blob_columns(columns).collect();
    let features = columns.iter().map(|column| {
        let is_picture = blobs.contains(&column.name.as_str());
        let feature = if is_picture { json!({"_type": "Image"}) } else { feature(&column.column_type) };
        (column.name.clone(), feature)
    });
    json!({"info": {"features": features.collect::<Map<_, _>>()}}).to_string()
}

/// One feature as YAML, below `indent`.
fn yaml(name: &str, kind: &ColumnType, indent: &str, out: &mut String) {
    let deeper = format!("{indent}  ");
    out.push_str(&format!("{indent}- name: {name}\n"));
    match kind {
        ColumnType::Struct(members) => {
            out.push_str(&format!("{indent}  struct:\n"));
            members.iter().for_each(|member| yaml(&member.name, &member.column_type, &deeper, out));
        }
        ColumnType::List(element) => out.push_str(&format!("{indent}  list: {}\n", dtype(element))),
        plain => out.push_str(&format!("{indent}  dtype: {}\n", dtype(plain))),
    }
}

/// The dataset card.
pub(super) fn readme(
    table: &TableName,
    columns: &[ColumnSpec],
    lake: &Lake,
    id: &CommitId,
    rows: u64,
) -> String {
    let blobs: Vec<&str> = blob_columns(columns).collect();
    let mut features = String::new();
    for column in columns {
        match blobs.contains(&column.name.as_str()) {
            true => features.push_str(&format!("  - name: {}\n    dtype: image\n", column.name)),
            false => yaml(&column.name, &column.column_type, "  ", &mut features),
        }
    }
    let mut meanings = String::new();
    for column in columns.iter().filter(|column| column.doc.is_some()) {
        let doc = column.doc.as_deref().unwrap_or_default();
        meanings.push_str(&format!("| `{}` | {} |\n", column.name, doc.replace('|', "\\|")));
    }
    format!(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet\n\
         dataset_info:\n  features:\n{features}---\n\n\
         # {table}\n\n{rows} rows of commit `{id}` of lake `{}`, exported by Headwater. `manifest.json` names the \
         filters and a SHA-256 per file: the same commit and filters give the same files.\n\n\
         ```python\nfrom datasets import load_dataset\nrows = load_dataset(\"this/folder\", split=\"train\")\n```\n\n\
         `ts` is UTC in microseconds, `ts_ns` in nanoseconds; the true time lies within `ts_err_ns` of it (see \
         `grade`).\n\n| column | meaning |\n|---|---|\n{meanings}",
        lake.repo_id(),
    )
}
