//! Tokens: how they are made, kept as digests, and recognised.

use headwater_core::id::{Sha256, parse_hex};
use headwater_lake::RefPatterns;
use serde::Deserialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How every token begins, so that one is known for what it is wherever it turns up.
const MARK: &str = "hw.";
/// Random bytes of a token.
const SECRET_BYTES: usize = 32;
/// Longest token looked at.
const TEXT_BYTES_MAX: usize = 256;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads refs.
    Reader,
    /// Writes unprotected branches, too.
    Writer,
    /// As a writer on every ref, whatever its patterns say.
    Admin,
}

impl Role {
    /// Name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Reader, Self::Writer, Self::Admin];
        known
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| "a role is reader, writer or admin".to_owned())
    }
}

/// A token as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose it is, for logs and commits.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where.
    pub refs: RefPatterns,
    /// SHA-256 of its text.
    pub sha256: [u8; 32],
}

/// A token's text, which only its holder has.
pub struct TokenText(String);

impl std::fmt::Debug for TokenText {
    /// A secret is not for logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenText(…)")
    }
}

impl TokenText {
    /// A fresh one, `hw.<tenant>.<64 hex digits>`; the tenant may be empty.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn random(tenant: &str) -> Result<Self, ring::error::Unspecified> {
        let mut bytes = [0_u8; SECRET_BYTES];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)?;
        let mut text = format!("{MARK}{tenant}.");
        for byte in bytes {
            write!(text, "{byte:02x}").map_err(|_| ring::error::Unspecified)?;
        }
        Ok(Self(text))
    }

    /// The text itself.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// What the server keeps of it.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::of(self.0.as_bytes()).0
    }

    /// The tenant a token says it is of.
    #[must_use]
    pub fn tenant_of(text: &str) -> Option<&str> {
        Some(text.strip_prefix(MARK)?.rsplit_once('.')?.0)
    }
}

/// The token with this text. All are compared, each to its end, so that time tells nothing.
pub(super) fn find<'a>(tokens: &'a [Token], text: &str) -> Option<&'a Token> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let digest = Sha256::of(text.as_bytes()).0;
    let mut found = None;
    for token in tokens {
        let differing = token.sha256.iter().zip(&digest).fold(0_u8, |sum, (a, b)| sum | (a ^ b));
        if std::hint::black_box(differing) == 0 {
            found = Some(token);
        }
    }
    found
}

/// A file of tokens that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("failed to read tokens from {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("tokens in {path} cannot be used: {reason}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    token: Vec<TokenTable>,
}

/// One `[[token]]`, as files and the configuration write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenTable {
    /// Whose.
    pub name: String,
    /// reader, writer or admin.
    pub role: String,
    /// Patterns; left out: all.
    pub refs: Option<Vec<String>>,
    /// Hex.
    pub sha256: String,
}

impl TokenTable {
    /// The token, or what is wrong with it.
    ///
    /// # Errors
    /// In words, naming the field.
    pub fn check(self) -> Result<Token, String> {
        let Self { name, role, refs, sha256 } = self;
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return Err(format!("name {name:?} is not 1 to 64 characters"));
        }
        let wrong = |what: &str| format!("{what} of token {name}");
        let role = role.parse().map_err(|error: String| format!("{}: {error}", wrong("role")))?;
        let mut patterns = Vec::new();
        for text in refs.unwrap_or_else(|| vec!["*".to_owned()]) {
            let rule = "a branch or tag, in which * stands for anything, such as exp/*";
            patterns.push(text.parse().map_err(|_| format!("{}: {text:?} is not {rule}", wrong("refs")))?);
        }
        let digits = parse_hex(sha256.as_bytes());
        let sha256 = digits.ok_or_else(|| {
            format!("{}: 64 hex digits are expected, as headwater token new prints them", wrong("sha256"))
        })?;
        Ok(Token { name, role, refs: RefPatterns(patterns), sha256 })
    }
}

/// Reads a file of `[[token]]` tables.
///
/// # Errors
/// [`TokenFileError`].
pub fn read_tokens(path: &Path) -> Result<Vec<Token>, TokenFileError> {
    let content = |reason: String| TokenFileError::Content { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path)
        .map_err(|source| TokenFileError::Read { path: path.to_owned(), source })?;
    let file: TokenFile = toml::from_str(&text).map_err(|error| content(error.to_string()))?;
    file.token.into_iter().map(|table| table.check().map_err(content)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_tokens_says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read_tokens(&file).map_err(|error| error.to_string())
        };
        let text = TokenText::random("acme").unwrap();
        let hex: String = text.sha256().iter().map(|byte| format!("{byte:02x}")).collect();
        let good =
            format!("[[token]]\nname = \"a\"\nrole = \"writer\"\nrefs = [\"exp/*\"]\nsha256 = \"{hex}\"\n");
        let tokens = read(&good).unwrap();
        assert_eq!(find(&tokens, text.secret()).unwrap().name, "a");
        assert_eq!(TokenText::tenant_of(text.secret()), Some("acme"));
        assert!(read(&good.replace("writer", "boss")).unwrap_err().contains("reader, writer or admin"));
        assert!(read(&good.replace("exp/*", "Exp")).unwrap_err().contains("exp/*"));
        assert!(read(&good.replace(&hex, "00")).unwrap_err().contains("64 hex digits"));
        assert!(read(&good.replace("refs", "ref")).unwrap_err().contains("unknown field"));
        assert!(!format!("{text:?}").contains(text.secret()));
    }
}
