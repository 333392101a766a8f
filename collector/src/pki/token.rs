//! Tokens: the right of a gateway to get its first certificates.
//!
//! A token is random, kept only as its SHA-256, ends by itself, admits names of a pattern, and as often as it was made
//! for: once by default. It carries the SHA-256 of the fleet's CA, so that the gateway knows whom it talks to.

use super::authority::Authority;
use super::kept::{self, GrantId};
use super::{PkiError, files};
use headwater_core::id::{DeviceId, Sha256};
use headwater_core::time::{NS_PER_S, UtcNanos};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the file in the CA's folder.
const FILE: &str = "tokens.json";
/// Ended and used tokens are forgotten after this, so that a list stays short: 30 days.
const FORGET_S: i64 = 30 * 86_400;
/// Most tokens of a CA.
const TOKENS_MAX: usize = 10_000;

/// What a token is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Names it admits: a device's name, in which `*` stands for any characters.
    pub name: String,
    /// For how long, s.
    pub valid_s: i64,
    /// How many devices.
    pub uses: u32,
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public half, to name it by.
    pub id: String,
    /// SHA-256 of its secret half, hex.
    secret_sha256: String,
    /// Names it admits.
    pub name: String,
    /// When it was made, s since 1970.
    pub created_s: i64,
    /// When it ends, s since 1970.
    pub ends_s: i64,
    /// How many devices it still admits.
    pub uses_left: u32,
    /// Whom it admitted.
    pub used_by: Vec<String>,
    /// For which keys: SHA-256, hex. They may ask again.
    #[serde(default)]
    used_for: Vec<String>,
}

/// Why a token admits nobody. What is said to its bearer tells strangers nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not one of ours.
    #[error("the token is not valid; ask for a new one")]
    Unknown,
    /// Its time is over.
    #[error("the token has ended; ask for a new one")]
    Ended,
    /// It admitted as many as it may.
    #[error("the token was used before; ask for a new one")]
    Used,
    /// The name does not fit its pattern.
    #[error("the token is for other names; give --name, or ask for another token")]
    Name,
}

impl Token {
    /// `open`, `ended` or `used`, at `now`.
    #[must_use]
    pub fn state(&self, now: UtcNanos) -> &'static str {
        match self {
            _ if self.uses_left == 0 => "used",
            _ if self.ends_s <= now.0.div_euclid(NS_PER_S) => "ended",
            _ => "open",
        }
    }
}

/// Makes a token of the CA in `dir`; gives its text, which is kept nowhere.
///
/// # Errors
/// [`PkiError`] names the file at fault.
pub fn create(dir: &Path, new: &NewToken, now: UtcNanos) -> Result<(Token, String), PkiError> {
    let authority = Authority::open(dir)?;
    let ca = CertificateDer::from_pem_slice(authority.root_pem.as_bytes())
        .map_err(|error| PkiError::Ca { path: dir.join("ca.pem"), reason: error.to_string() })?;
    let (id, secret) = (hex(&random::<8>()?), hex(&random::<16>()?));
    let created_s = now.0.div_euclid(NS_PER_S);
    let token = Token {
        id: id.clone(),
        secret_sha256: Sha256::of(secret.as_bytes()).to_string(),
        name: new.name.clone(),
        created_s,
        ends_s: created_s.saturating_add(new.valid_s),
        uses_left: new.uses,
        used_by: Vec::new(),
        used_for: Vec::new(),
    };
    let _held = files::lock(dir)?;
    let mut tokens = tokens(dir)?;
    let over = |token: &Token| token.uses_left == 0 || token.ends_s <= created_s;
    tokens.retain(|token| {
        !over(token) || created_s.saturating_sub(token.ends_s.max(token.created_s)) < FORGET_S
    });
    if tokens.len() >= TOKENS_MAX {
        return Err(PkiError::Content {
            path: dir.join(FILE),
            reason: format!("it holds {TOKENS_MAX} tokens; revoke some with `headwater pki token revoke`"),
        });
    }
    tokens.push(token.clone());
    write(dir, &tokens)?;
    kept::forget_all_but(dir, &tokens)?;
    Ok((token, format!("hwt1-{id}-{secret}-{}", Sha256::of(&ca))))
}

/// Every token of the CA in `dir`, oldest first.
///
/// # Errors
/// [`PkiError`] names the file at fault.
pub fn tokens(dir: &Path) -> Result<Vec<Token>, PkiError> {
    let path = dir.join(FILE);
    match files::read_if_there(&path)? {
        None => Ok(Vec::new()),
        Some(text) => {
            serde_json::from_str(&text).map_err(|error| PkiError::Content { path, reason: error.to_string() })
        }
    }
}

/// Takes a token back.
///
/// # Errors
/// [`PkiError::NoToken`] if there is none of that id.
pub fn revoke(dir: &Path, id: &str) -> Result<(), PkiError> {
    let _held = files::lock(dir)?;
    let mut tokens = tokens(dir)?;
    let before = tokens.len();
    tokens.retain(|token| token.id != id);
    if tokens.len() == before {
        return Err(PkiError::NoToken(id.to_owned()));
    }
    write(dir, &tokens)?;
    kept::forget_all_but(dir, &tokens)
}

/// A token of ours that someone showed.
#[derive(Debug)]
pub(super) struct Shown {
    tokens: Vec<Token>,
    place: usize,
}

/// Whose token a text is. The folder's lock is held until it is used up, so of two at once one comes first; a
/// refusal, here or later, uses nothing up.
pub(super) fn show(dir: &Path, text: &str) -> Result<Result<Shown, TokenRefusal>, PkiError> {
    let tokens = tokens(dir)?;
    let mut parts = text.strip_prefix("hwt1-").unwrap_or_default().split('-');
    let (id, secret) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let given = Sha256::of(secret.as_bytes()).to_string();
    // The same work whether there is such a token or not.
    let place = tokens.iter().position(|token| token.id == id);
    let found = place.and_then(|place| tokens.get(place));
    let kept = found.map_or_else(|| "0".repeat(64), |token| token.secret_sha256.clone());
    let same = same(given.as_bytes(), kept.as_bytes());
    let place = place.filter(|_| same);
    Ok(place.map(|place| Shown { tokens, place }).ok_or(TokenRefusal::Unknown))
}

impl Shown {
    fn token(&self) -> Option<&Token> {
        self.tokens.get(self.place)
    }

    /// Its public half.
    pub(super) fn id(&self) -> &str {
        self.token().map_or("", |token| &token.id)
    }

    /// Whether it admits `name` now.
    pub(super) fn admits(&self, name: &DeviceId, now: UtcNanos) -> Result<(), TokenRefusal> {
        let token = self.token().ok_or(TokenRefusal::Unknown)?;
        match token.state(now) {
            "used" => Err(TokenRefusal::Used),
            "ended" => Err(TokenRefusal::Ended),
            _ if !fits(&token.name, name.as_str()) => Err(TokenRefusal::Name),
            _ => Ok(()),
        }
    }

    /// True if it was used up for these keys: their gateway did not get the answer.
    pub(super) fn was_used_for(&self, grant: &GrantId) -> bool {
        self.token().is_some_and(|token| token.used_for.iter().any(|keys| keys == grant.keys()))
    }

    /// True if it is for one name and no other.
    pub(super) fn is_for_one_name(&self) -> bool {
        self.token().is_some_and(|token| !token.name.contains('*'))
    }

    /// Uses it up.
    pub(super) fn consume(mut self, dir: &Path, name: &DeviceId, grant: &GrantId) -> Result<(), PkiError> {
        if let Some(token) = self.tokens.get_mut(self.place) {
            token.uses_left = token.uses_left.saturating_sub(1);
            token.used_by.push(name.to_string());
            token.used_for.push(grant.keys().to_owned());
        }
        write(dir, &self.tokens)
    }
}

/// Compares without telling by its time where two texts differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// True if `name` fits `pattern`, in which `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at.saturating_add(part.len())..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

fn write(dir: &Path, tokens: &[Token]) -> Result<(), PkiError> {
    let path = dir.join(FILE);
    let text = serde_json::to_string_pretty(tokens)
        .map_err(|error| PkiError::Content { path: path.clone(), reason: error.to_string() })?;
    files::write_secret(&path, &text)
}

fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| PkiError::Random)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::init;

    const NOW: UtcNanos = UtcNanos(1_790_000_000 * NS_PER_S);

    fn later(s: i64) -> UtcNanos {
        UtcNanos(NOW.0 + s * NS_PER_S)
    }

    #[test]
    fn patterns() {
        for (pattern, name, wanted) in [
            ("pi-1", "pi-1", true),
            ("pi-1", "pi-11", false),
            ("pi-*", "pi-11", true),
            ("pi-*", "api-1", false),
            ("*-cam", "yard-cam", true),
            ("*-cam", "yard-cam-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("aa*aa", "aaa", false),
            ("*", "x", true),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn a_token_admits_who_it_is_for_as_often_as_it_says() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "acme", NOW).unwrap();
        let new = NewToken { name: "pi-*".into(), valid_s: 3_600, uses: 2 };
        let (token, text) = create(dir.path(), &new, NOW).unwrap();
        let kept = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(!kept.contains(text.split('-').nth(2).unwrap()), "its secret is kept nowhere");
        let name = |name: &str| name.parse::<DeviceId>().unwrap();
        let take = |text: &str, who: &str, at| {
            let shown = show(dir.path(), text).unwrap()?;
            shown.admits(&name(who), at)?;
            let grant = GrantId::new(shown.id(), &name(who), b"tls", b"sign");
            assert!(!shown.was_used_for(&grant));
            shown.consume(dir.path(), &name(who), &grant).unwrap();
            assert!(show(dir.path(), text).unwrap().unwrap().was_used_for(&grant));
            Ok(())
        };
        assert_eq!(take(&text, "cam-1", NOW), Err(TokenRefusal::Name));
        assert_eq!(take(&text, "pi-1", later(3_600)), Err(TokenRefusal::Ended));
        let mut other = text.clone();
        other.replace_range(22..24, if other[22..24] == *"00" { "01" } else { "00" });
        assert_eq!(take(&other, "pi-1", NOW), Err(TokenRefusal::Unknown));
        for wrong in ["", "hwt1-", "hwt1-0-0", "x"] {
            assert_eq!(take(wrong, "pi-1", NOW), Err(TokenRefusal::Unknown));
        }
        assert_eq!(take(&text, "pi-1", NOW), Ok(()));
        assert_eq!(take(&text, "pi-2", NOW), Ok(()));
        assert_eq!(take(&text, "pi-3", NOW), Err(TokenRefusal::Used));
        assert_eq!(tokens(dir.path()).unwrap()[0].used_by, ["pi-1", "pi-2"]);
        revoke(dir.path(), &token.id).unwrap();
        assert!(matches!(revoke(dir.path(), &token.id), Err(PkiError::NoToken(_))));
        assert_eq!(take(&text, "pi-1", NOW), Err(TokenRefusal::Unknown));
    }
}
