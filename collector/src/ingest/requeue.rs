//! Requests of an operator: fold again what lies in quarantine. A request is a file beside the landing logs, so it needs
//! no connection, survives restarts on both sides, and may be written while the collector is down.

use crate::land::StdDisk;
use headwater_core::id::{DeviceId, FieldName, KindName};
use headwater_core::ports::{Disk, DiskFile};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Folder of requests beside the landing logs' folders.
const FOLDER: &str = ".requeue";
/// Longest request, bytes.
const REQUEST_BYTES_MAX: u64 = 64 << 10;

/// Which items to fold again, and under which names. Landing is exactly once: rows that are in the lake stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Only of this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Only of streams of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Only what was set aside for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Fields that go by another name where their declaration would be refused: declared name to column name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<FieldName, FieldName>,
    /// The kind they go to instead of the declared one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<KindName>,
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Items that match.
    pub items: u64,
    /// Of them released.
    pub released: u64,
    /// Rows that went to the lake.
    pub rows: u64,
    /// Why others stay: reason and number of items.
    pub refused: BTreeMap<String, u64>,
}

/// Leaves a request for the collector whose landing logs lie in `landing_dir`. Gives its file; the answer will lie beside
/// it with the extension `done`.
///
/// # Errors
/// When it cannot be written.
pub fn ask(landing_dir: &Path, request: &Request, id: &str) -> io::Result<PathBuf> {
    let dir = landing_dir.join(FOLDER);
    StdDisk.create_dir_all(&dir)?;
    StdDisk.sync_dir(landing_dir)?;
    let file = dir.join(format!("{id}.json"));
    write(&file, &serde_json::to_vec_pretty(request)?)?;
    Ok(file)
}

/// Every request that was not answered yet, oldest name first. One that cannot be read is answered so.
pub(super) fn asked(landing_dir: &Path) -> io::Result<Vec<(PathBuf, Request)>> {
    let mut files = StdDisk.list(&landing_dir.join(FOLDER))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut requests = Vec::new();
    for file in files {
        match read(&file) {
            Ok(request) => requests.push((file, request)),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "request cannot be read and is left out");
                answer(
                    &file,
                    &Answer { refused: BTreeMap::from([(error.to_string(), 0)]), ..Answer::default() },
                )?;
            }
        }
    }
    Ok(requests)
}

fn read(file: &Path) -> io::Result<Request> {
    if std::fs::metadata(file)?.len() > REQUEST_BYTES_MAX {
        return Err(io::Error::other("it is longer than a request can be"));
    }
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

/// Answers a request and takes it away. Done twice after a crash, it is the same.
pub(super) fn answer(file: &Path, answer: &Answer) -> io::Result<()> {
    write(&file.with_extension("done"), &serde_json::to_vec_pretty(answer)?)?;
    unlink(file)
}

fn unlink(file: &Path) -> io::Result<()> {
    match StdDisk.unlink(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file whole: who lists the folder sees all of it or nothing.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = file.with_extension("draft");
    // Left by a crash.
    unlink(&draft)?;
    let out = StdDisk.create(&draft)?;
    out.write_at(bytes, 0)?;
    out.sync()?;
    StdDisk.rename(&draft, file)?;
    file.parent().map_or(Ok(()), |dir| StdDisk.sync_dir(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_once_and_its_answer_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(asked(dir.path()).unwrap(), []);
        let request = Request {
            device: Some("pi-2".parse().unwrap()),
            rename: BTreeMap::from([("t".parse().unwrap(), "t_text".parse().unwrap())]),
            ..Request::default()
        };
        let file = ask(dir.path(), &request, "1").unwrap();
        std::fs::write(file.with_file_name("0.json"), "{\"devise\": \"pi-2\"}").unwrap();
        assert_eq!(asked(dir.path()).unwrap(), [(file.clone(), request)]);
        assert!(std::fs::read_to_string(file.with_file_name("0.done")).unwrap().contains("unknown field"));
        let done = Answer { items: 1, released: 1, rows: 20, refused: BTreeMap::new() };
        answer(&file, &done).unwrap();
        answer(&file, &done).unwrap();
        assert_eq!(asked(dir.path()).unwrap(), []);
        let said = std::fs::read(file.with_extension("done")).unwrap();
        assert_eq!(serde_json::from_slice::<Answer>(&said).unwrap(), done);
    }
}
