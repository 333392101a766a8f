//! Tokens while the server runs: their file is looked at again, so one that is taken out counts within seconds.
//!
//! A file that cannot be read, or has no token, leaves those of before: a slip of an editor locks nobody out and lets nobody
//! in.

use super::{Access, Token, read_tokens};
use crate::telemetry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Between two looks at the file, µs: a look is one stat, and a token is taken out by hand.
const LOOK_US: i64 = 2_000_000;

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSource {
    /// Those of the configuration itself.
    pub fixed: Vec<Token>,
    /// The file of the others.
    pub file: PathBuf,
}

/// When a file was written, and how long it is.
type Stamp = Option<(SystemTime, u64)>;

#[derive(Debug)]
struct State {
    access: Arc<Access>,
    stamp: Stamp,
    looked_us: i64,
}

/// Who may do what, now.
#[derive(Debug)]
pub(in crate::serve) struct Doors(Mutex<State>);

impl Doors {
    pub(in crate::serve) fn new(access: Access) -> Doors {
        // What was written while it was read is read again.
        let access = Arc::new(access);
        Doors(Mutex::new(State { access, stamp: None, looked_us: i64::MIN }))
    }

    /// As of `now_us`, UTC µs, or some seconds before.
    pub(in crate::serve) fn at(&self, now_us: i64) -> Arc<Access> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(source) = state.access.source.clone() else { return Arc::clone(&state.access) };
        // A clock that was set back looks again, too.
        if (0..LOOK_US).contains(&now_us.saturating_sub(state.looked_us)) {
            return Arc::clone(&state.access);
        }
        state.looked_us = now_us;
        let stamp = stamp(&source.file);
        if stamp.is_none() || stamp != state.stamp {
            let is_first = state.stamp.is_none() && stamp.is_some();
            state.stamp = stamp;
            match read(&source) {
                Ok(tokens) if tokens != state.access.tokens => {
                    telemetry::tokens_read(&source.file, tokens.len());
                    state.access = Arc::new(Access { tokens, ..Access::clone(&state.access) });
                }
                Ok(_) => {}
                // It was good a moment ago, when the server started.
                Err(reason) => telemetry::tokens_refused(&source.file, &reason, is_first),
            }
        }
        Arc::clone(&state.access)
    }
}

fn read(source: &TokenSource) -> Result<Vec<Token>, String> {
    let mut tokens = source.fixed.clone();
    tokens.extend(read_tokens(&source.file).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error} {cause}").trim_end().to_owned()
    })?);
    match tokens.is_empty() {
        true => Err("no token is left, and a server without any would let everybody in".to_owned()),
        false => Ok(tokens),
    }
}

fn stamp(file: &Path) -> Stamp {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::access::{Role, TokenText};
    use headwater_lake::RefPatterns;

    fn table(name: &str, text: &TokenText) -> String {
        let hex: String = text.sha256().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[token]]\nname = \"{name}\"\nrole = \"writer\"\nsha256 = \"{hex}\"\n")
    }

    #[test]
    fn a_changed_file_counts_and_a_bad_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        let (alice, bob) = (TokenText::random("").unwrap(), TokenText::random("").unwrap());
        write(&table("alice", &alice));
        let source = TokenSource { fixed: Vec::new(), file: file.clone() };
        let tokens = read_tokens(&file).unwrap();
        let doors = Doors::new(Access { tokens, source: Some(source), ..Access::default() });
        let may = |text: &TokenText, at: i64| doors.at(at).by_secret(text.secret()).is_ok();
        assert!(may(&alice, 0) && !may(&bob, 0));
        write(&format!("{}{}", table("alice", &alice), table("bob", &bob)));
        assert!(!may(&bob, LOOK_US - 1), "looked at a moment ago");
        assert!(may(&alice, LOOK_US) && may(&bob, LOOK_US));
        for (n, bad) in ["[[token]]\nname = ", "", "[[token]]\nname = \"x\"\n"].into_iter().enumerate() {
            write(bad);
            let at = LOOK_US * (2 + i64::try_from(n).unwrap());
            assert!(may(&alice, at) && may(&bob, at), "{bad:?} changes nothing");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(may(&alice, LOOK_US * 6));
        // Taken out it counts no more; the clock may have been set back meanwhile.
        write(&table("bob", &bob));
        assert!(!may(&alice, -1) && may(&bob, -1));
    }

    #[test]
    fn tokens_of_the_configuration_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        let text = TokenText::random("").unwrap();
        let fixed = Token {
            name: "admin".into(),
            role: Role::Admin,
            refs: RefPatterns::of(&["*"]),
            sha256: text.sha256(),
        };
        std::fs::write(&file, "").unwrap();
        let source = TokenSource { fixed: vec![fixed.clone()], file };
        let doors = Doors::new(Access { tokens: vec![fixed], source: Some(source), ..Access::default() });
        assert!(doors.at(0).by_secret(text.secret()).is_ok());
    }
}
