//! Is a torn index set aside and made anew? sled panics on some; what it does on this machine is caught or not.

use super::panics::quietly;
use super::spool::{copy, filled, holds_all, open};
use super::{Found, because};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

/// The thread in which the spool opens its index.
const THREAD: &str = "spool-index-open";

/// What a power cut or a bad card leaves of the index.
#[derive(Debug, Clone, Copy)]
enum Tear {
    /// The log cut to this share, of 8.
    Cut(u64),
    /// Other bytes in every fourth block of each file, the first one among them.
    Rot,
}

const TEARS: [Tear; 4] = [Tear::Rot, Tear::Cut(6), Tear::Cut(3), Tear::Cut(1)];

fn tear(index: &Path, tear: Tear) -> io::Result<()> {
    match tear {
        Tear::Cut(eighths) => {
            let file = OpenOptions::new().write(true).open(index.join("db"))?;
            let len = file.metadata()?.len();
            file.set_len(len.saturating_mul(eighths) / 8)
        }
        Tear::Rot => {
            for entry in fs::read_dir(index)? {
                let path = entry?.path();
                if path.is_file() {
                    let mut bytes = fs::read(&path)?;
                    bytes.chunks_mut(4_096).step_by(4).for_each(|block| block.fill(0xa5));
                    fs::write(&path, bytes)?;
                }
            }
            Ok(())
        }
    }
}

/// The check.
pub(super) fn is_rebuilt(dir: &Path) -> Found {
    let whole = dir.join("whole");
    drop(filled(&whole)?);
    let (mut panics, mut aside) = (0_usize, 0_usize);
    for (at, kind) in TEARS.into_iter().enumerate() {
        let hurt = dir.join(format!("torn-{at}"));
        copy(&whole, &hurt, 0).map_err(because("a spool cannot be copied"))?;
        tear(&hurt.join("idx"), kind).map_err(because("its index cannot be torn"))?;
        let (opened, panicked) = quietly(THREAD, || open(&hurt, 1));
        holds_all(&mut opened?).map_err(|why| format!("with an index torn by {kind:?}: {why}"))?;
        panics = panics.saturating_add(panicked);
        aside = aside.saturating_add(usize::from(hurt.join("quarantine/idx-1").exists()));
    }
    if aside == 0 {
        return Err("no torn index was noticed".to_owned());
    }
    Ok(format!("torn {} ways, set aside {aside} times, {panics} panics caught: no row lost", TEARS.len()))
}
