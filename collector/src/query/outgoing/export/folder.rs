//! A folder that is there whole or not at all, with a list of what is in it.

use super::super::temporary;
use crate::query::QueryError;
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Marks a folder as one of ours that is not whole yet.
const MARK: &str = ".headwater-part";

/// A folder in the making.
#[derive(Debug)]
pub(super) struct Folder {
    out: PathBuf,
    part: PathBuf,
    files: Vec<Value>,
    is_replacing: bool,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> QueryError + use<> {
    let path = path.to_owned();
    move |source| QueryError::Write { path, source }
}

impl Folder {
    /// Begins a folder that shall become `out`; with `force` in place of what is there.
    pub(super) fn begin(out: &Path, force: bool) -> Result<Self, QueryError> {
        let is_there = fs::symlink_metadata(out).is_ok();
        if is_there && !force {
            return Err(QueryError::OutExists(out.to_owned()));
        }
        if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir())
        {
            return Err(QueryError::NoFolder { file: out.to_owned(), folder: parent.to_owned() });
        }
        let part = temporary(out);
        if part.join(MARK).exists() {
            // Left by one that was interrupted.
            fs::remove_dir_all(&part).map_err(failed(&part))?;
        }
        fs::create_dir(&part).map_err(failed(&part))?;
        File::create(part.join(MARK)).map_err(failed(&part))?;
        Ok(Self { out: out.to_owned(), part, files: Vec::new(), is_replacing: is_there })
    }

    /// A new file at `name` below the folder.
    pub(super) fn file(&self, name: &str) -> Result<HashedFile, QueryError> {
        let path = self.part.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        let file = File::create_new(&path).map_err(failed(&path))?;
        let (file, digest) = (BufWriter::with_capacity(1 << 20, file), Context::new(&SHA256));
        Ok(HashedFile { name: name.to_owned(), file, digest, bytes: 0 })
    }

    /// Ends a file that another file names; gives its SHA-256.
    pub(super) fn done_unlisted(&self, file: HashedFile) -> Result<String, QueryError> {
        let HashedFile { name, file, digest, .. } = file;
        let path = self.part.join(&name);
        let file = file.into_inner().map_err(|error| failed(&path)(error.into_error()))?;
        file.sync_all().map_err(failed(&path))?;
        Ok(digest.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Ends a file and notes it.
    pub(super) fn done(&mut self, file: HashedFile, rows: Option<u64>) -> Result<(), QueryError> {
        let (name, bytes) = (file.name.clone(), file.bytes);
        let sha256 = self.done_unlisted(file)?;
        self.files.push(json!({"path": name, "bytes": bytes, "sha256": sha256, "rows": rows}));
        Ok(())
    }

    /// Writes the manifest and gives the folder its name.
    pub(super) fn finish(mut self, mut manifest: Value) -> Result<Value, QueryError> {
        self.files.sort_by_key(|file| file["path"].to_string());
        if let Value::Object(members) = &mut manifest {
            members.insert("files".to_owned(), Value::Array(std::mem::take(&mut self.files)));
        }
        let mut file = self.file("manifest.json")?;
        let text = serde_json::to_string_pretty(&manifest).map_err(io::Error::from)?;
        writeln!(file, "{text}").map_err(failed(&self.part))?;
        self.done(file, None)?;
        fs::remove_file(self.part.join(MARK)).map_err(failed(&self.part))?;
        if self.is_replacing {
            fs::remove_dir_all(&self.out).map_err(failed(&self.out))?;
        }
        fs::rename(&self.part, &self.out).map_err(failed(&self.out))?;
        let parent = self.out.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed(parent))?;
        Ok(manifest)
    }
}

/// A file that knows its digest.
pub(super) struct HashedFile {
    name: String,
    file: BufWriter<File>,
    digest: Context,
    bytes: u64,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.digest.update(bytes.get(..n).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
