//! Asks before something is taken out of sight.

use super::QueryError;
use std::io::{BufRead, IsTerminal, Write};

/// Asks on standard error and reads the answer; `yes` skips it.
///
/// # Errors
/// [`QueryError::NotConfirmed`] when the answer is no, or when nobody can be asked.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), QueryError> {
    if yes {
        return Ok(());
    }
    let input = std::io::stdin();
    let refuse = || QueryError::NotConfirmed(question.to_owned());
    if !input.is_terminal() {
        return Err(refuse());
    }
    write!(std::io::stderr(), "{question} [y/N] ")?;
    std::io::stderr().flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(refuse()),
    }
}
