//! Who may do what over HTTP: tokens with a role and the refs they are for.
//!
//! A token is 256 random bits, told once when it is made; the configuration holds its SHA-256, which is worth nothing to
//! whoever reads it. A request without tokens configured is the host's own, since such a server listens on loopback.

mod reload;
mod token;

pub(super) use reload::Doors;
pub use reload::TokenSource;
pub use token::{Role, Token, TokenFileError, TokenTable, TokenText, read_tokens};

use headwater_lake::{RefName, RefPatterns};
use std::fmt;

/// The refs nobody writes over HTTP, and who else may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Tokens that are known; none lets everybody in.
    pub tokens: Vec<Token>,
    /// `lake.protected`.
    pub protected: RefPatterns,
    /// Whose lake it is, if that is known: a token of another tenant is told so.
    pub tenant: Option<String>,
    /// Where tokens come from, if that is looked at while the server runs.
    pub source: Option<TokenSource>,
}

impl Default for Access {
    /// No tokens, `main` protected.
    fn default() -> Self {
        Self { tokens: Vec::new(), protected: RefPatterns::of(&["main"]), tenant: None, source: None }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token, or `local`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where.
    pub refs: RefPatterns,
}

/// Why a request is refused before it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nobody we know: 401.
    Unknown(String),
    /// Known, and not allowed: 403.
    Forbidden(String),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) | Self::Forbidden(text) => f.write_str(text),
        }
    }
}

/// What a request reads or writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A branch or tag by its name.
    Named(RefName),
    /// A commit by its id.
    Pinned,
}

impl Access {
    /// True if anybody may ask.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Who brings this `Authorization` header.
    ///
    /// # Errors
    /// [`Denied::Unknown`].
    pub fn caller(&self, authorization: Option<&str>) -> Result<Caller, Denied> {
        if self.is_open() {
            return Ok(Caller { name: "local".into(), role: Role::Writer, refs: RefPatterns::of(&["*"]) });
        }
        let unknown = |text: &str| Err(Denied::Unknown(text.to_owned()));
        let Some(header) = authorization else {
            return unknown(
                "a token is needed: send it as `Authorization: Bearer …` (headwater token new makes one)",
            );
        };
        let bearer = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, secret)) = bearer else {
            return unknown("the Authorization header is no bearer token; send `Authorization: Bearer …`");
        };
        self.by_secret(secret.trim())
    }

    /// Whose secret this is.
    ///
    /// # Errors
    /// [`Denied::Unknown`].
    pub fn by_secret(&self, secret: &str) -> Result<Caller, Denied> {
        if let Some(found) = token::find(&self.tokens, secret) {
            return Ok(Caller { name: found.name.clone(), role: found.role, refs: found.refs.clone() });
        }
        let tenant = TokenText::tenant_of(secret).filter(|tenant| !tenant.is_empty());
        let text = match (tenant, &self.tenant) {
            (Some(theirs), Some(ours)) if theirs != ours => {
                format!("the token is of tenant {theirs}, and this is not its lake")
            }
            _ => "the token is not known here: it was taken out, or is of another lake".to_owned(),
        };
        Err(Denied::Unknown(text))
    }
}

impl Caller {
    /// Whether it may read there.
    ///
    /// # Errors
    /// [`Denied::Forbidden`], saying what it may read.
    pub fn may_read(&self, place: &Place) -> Result<(), Denied> {
        let may = match place {
            _ if self.role == Role::Admin || self.refs.is_all() => true,
            Place::Named(name) => self.refs.fits(name),
            // Whose history a bare commit belongs to is not known.
            Place::Pinned => false,
        };
        if may {
            return Ok(());
        }
        let what = match place {
            Place::Named(name) => format!("ref {name} is not for token {}", self.name),
            Place::Pinned => format!("a pinned commit is not for token {}", self.name),
        };
        Err(Denied::Forbidden(format!("{what}, which is for {}", self.refs)))
    }

    /// Whether it may write to that branch.
    ///
    /// # Errors
    /// [`Denied::Forbidden`], naming a branch that could be written.
    pub fn may_write(&self, branch: &RefName, protected: &RefPatterns) -> Result<(), Denied> {
        if self.role == Role::Reader {
            let text = format!(
                "token {} is a reader's; a writer's is needed (headwater token new --role writer)",
                self.name
            );
            return Err(Denied::Forbidden(text));
        }
        self.may_read(&Place::Named(branch.clone()))?;
        if protected.fits(branch) {
            let example = self.writable(protected);
            return Err(Denied::Forbidden(format!(
                "{branch} is protected and is not written over HTTP. Make a branch, write there and merge it: \
                 `headwater branch {example} {branch}`, then attach {example} instead of {branch}"
            )));
        }
        Ok(())
    }

    /// A branch it could write.
    fn writable(&self, protected: &RefPatterns) -> String {
        let own =
            format!("exp/{}", self.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_lowercase());
        let mut names = self.refs.0.iter().map(|pattern| pattern.as_str().replace('*', "my-change"));
        let fits = |name: &String| {
            RefName::new(name.as_str()).is_ok_and(|name| !protected.fits(&name) && self.refs.fits(&name))
        };
        Some(own).filter(fits).or_else(|| names.find(fits)).unwrap_or_else(|| "exp/my-change".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, role: Role, refs: &[&str]) -> (String, Token) {
        let text = TokenText::random("acme").unwrap();
        let token = Token { name: name.into(), role, refs: RefPatterns::of(refs), sha256: text.sha256() };
        (text.secret().to_owned(), token)
    }

    fn access(tokens: Vec<Token>) -> Access {
        Access { tokens, tenant: Some("acme".into()), ..Access::default() }
    }

    fn name(text: &str) -> RefName {
        RefName::new(text).unwrap()
    }

    #[test]
    fn a_token_is_known_by_its_digest_and_others_are_told_why_not() {
        let (secret, known) = token("alice", Role::Writer, &["exp/*"]);
        let (stranger, _) = token("bob", Role::Admin, &["*"]);
        let access = access(vec![known]);
        let caller = access.caller(Some(&format!("Bearer {secret}"))).unwrap();
        assert_eq!((caller.name.as_str(), caller.role), ("alice", Role::Writer));
        assert_eq!(access.caller(Some(&format!("bearer  {secret}"))).unwrap(), caller);
        let denied = |header: Option<&str>| access.caller(header).unwrap_err().to_string();
        assert!(denied(None).contains("Authorization: Bearer"));
        assert!(denied(Some("Basic YTpi")).contains("no bearer token"));
        assert!(denied(Some(&format!("Bearer {stranger}"))).contains("not known here"));
        let other = TokenText::random("umbrella.corp").unwrap();
        assert!(denied(Some(&format!("Bearer {}", other.secret()))).contains("tenant umbrella.corp"));
        assert!(denied(Some(&format!("Bearer {}x", secret))).contains("not known here"));
    }

    #[test]
    fn roles_and_refs_bound_what_a_token_does() {
        let protected = RefPatterns::of(&["main", "release/*"]);
        let caller =
            |role, refs: &[&str]| Caller { name: "Alice Q".into(), role, refs: RefPatterns::of(refs) };
        let writer = caller(Role::Writer, &["exp/*", "main"]);
        writer.may_write(&name("exp/a"), &protected).unwrap();
        writer.may_read(&Place::Named(name("main"))).unwrap();
        assert!(writer.may_read(&Place::Named(name("wap/1"))).is_err());
        assert!(writer.may_read(&Place::Pinned).is_err());
        let text = writer.may_write(&name("main"), &protected).unwrap_err().to_string();
        assert!(text.contains("headwater branch exp/alice-q main"), "{text}");
        let text = writer.may_write(&name("wap/1"), &protected).unwrap_err().to_string();
        assert!(text.contains("which is for exp/*, main"), "{text}");
        let reader = caller(Role::Reader, &["*"]);
        reader.may_read(&Place::Pinned).unwrap();
        assert!(reader.may_write(&name("exp/a"), &protected).unwrap_err().to_string().contains("reader's"));
        // A protected ref is written by nobody here, an admin included.
        let admin = caller(Role::Admin, &["exp/*"]);
        admin.may_read(&Place::Named(name("wap/1"))).unwrap();
        assert!(admin.may_write(&name("release/1"), &protected).is_err());
    }
}
