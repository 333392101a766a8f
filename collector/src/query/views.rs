//! A commit as DuckDB views: one file of SQL, `duckdb -init` ready.

use headwater_lake::{CommitId, TableEntry, TableName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The extensions that DuckDB reads Iceberg with, in the order they load.
const EXTENSIONS: [&str; 3] = ["avro", "httpfs", "iceberg"];
/// How deep extension files are looked for: the wheels keep theirs three folders below site-packages.
const DEPTH_MAX: u32 = 4;

/// SQL that shows every table of a commit as a view of the same name.
///
/// `extensions` are DuckDB extension files to load ([`find_extensions`]); without them the installed one is
/// loaded, which does nothing where it is loaded already.
#[must_use]
pub fn views_sql(
    commit: &CommitId,
    tables: &BTreeMap<TableName, TableEntry>,
    extensions: &[PathBuf],
) -> String {
    let mut sql = format!("-- Views over commit {commit}: they never change.\n");
    for file in extensions {
        // Writing to a String cannot fail.
        let _written = writeln!(sql, "LOAD {};", quoted(&file.to_string_lossy()));
    }
    if extensions.is_empty() {
        sql.push_str("-- If DuckDB does not find it: INSTALL iceberg; (once)\nLOAD iceberg;\n");
    }
    let namespaces: BTreeSet<&str> = tables.keys().map(TableName::namespace).collect();
    for namespace in namespaces {
        let _written = writeln!(sql, "CREATE SCHEMA IF NOT EXISTS {};", identifier(namespace));
    }
    for (name, entry) in tables {
        let _written = writeln!(
            sql,
            "CREATE OR REPLACE VIEW {}.{} AS SELECT * FROM iceberg_scan({});",
            identifier(name.namespace()),
            identifier(name.table()),
            quoted(&entry.metadata_location)
        );
    }
    sql
}

/// DuckDB's extension files below `folder`, such as a Python environment's site-packages.
///
/// # Errors
/// The name of the first extension that is not there.
pub(super) fn find_extensions(folder: &Path) -> Result<Vec<PathBuf>, &'static str> {
    EXTENSIONS
        .into_iter()
        .map(|name| find(folder, &format!("{name}.duckdb_extension"), DEPTH_MAX).ok_or(name))
        .collect()
}

fn find(folder: &Path, name: &str, depth: u32) -> Option<PathBuf> {
    let file = folder.join(name);
    if file.is_file() {
        return std::path::absolute(file).ok();
    }
    let mut folders: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let depth = depth.checked_sub(1)?;
    folders.iter().find_map(|folder| find(folder, name, depth))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_of_wheels_are_found_each_in_its_own_folder() {
        let site = tempfile::tempdir().unwrap();
        for name in EXTENSIONS {
            assert_eq!(find_extensions(site.path()), Err(name));
            let folder = site.path().join(format!("duckdb_extension_{name}/extensions/v1.5.5"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("{name}.duckdb_extension")), "").unwrap();
        }
        let found = find_extensions(site.path()).unwrap();
        let commit = CommitId::new("0".repeat(64)).unwrap();
        let sql = views_sql(&commit, &BTreeMap::new(), &found);
        assert_eq!(sql.matches("LOAD '").count(), 3, "{sql}");
        assert!(sql.find("avro.duckdb").unwrap() < sql.find("iceberg.duckdb").unwrap());
        assert!(views_sql(&commit, &BTreeMap::new(), &[]).contains("\nLOAD iceberg;\n"));
    }
}
