//! Asking before something that cannot be taken back.

use super::QueryError;
use std::io::{BufRead, IsTerminal, Write};

/// Asks on the terminal; without one `--yes` must have been given.
///
/// # Errors
/// [`QueryError::NotConfirmed`] for anything but yes.
pub(super) fn confirm(what: &str, yes: bool) -> Result<(), QueryError> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(QueryError::NotConfirmed("there is no terminal to ask on; give --yes"));
    }
    let mut out = std::io::stderr().lock();
    write!(out, "{what} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(QueryError::NotConfirmed("nothing was changed")),
    }
}
