//! `[http]`: where pages and the lake's catalog are served, to whom, and where changes are written down; and
//! `lake.protected`.

use super::read::{Mistakes, Section};
use crate::inbound::TlsFiles;
use crate::serve::access::{Access, Token, TokenFileError, TokenSource, TokenTable, read_tokens};
use headwater_core::id::TenantId;
use headwater_lake::RefPatterns;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Default of `http.audit`.
const AUDIT: &str = "audit.jsonl";

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// `listen`.
    pub listen: SocketAddr,
    /// `[[http.token]]`.
    pub tokens: Vec<Token>,
    /// `tokens_file`: more of them.
    pub tokens_file: Option<PathBuf>,
    /// `audit`: the file every change over HTTP is written down in.
    pub audit: PathBuf,
    /// `tls_cert` and `tls_key`: HTTPS instead of HTTP.
    pub tls: Option<TlsFiles>,
}

impl HttpSettings {
    /// Who may do what, with what the file of tokens says now.
    ///
    /// # Errors
    /// [`TokenFileError`].
    pub fn access(
        &self,
        tenant: &TenantId,
        protected: Option<&RefPatterns>,
    ) -> Result<Access, TokenFileError> {
        let mut tokens = self.tokens.clone();
        if let Some(file) = &self.tokens_file {
            tokens.extend(read_tokens(file)?);
        }
        let source = self.tokens_file.clone().map(|file| TokenSource { fixed: self.tokens.clone(), file });
        Ok(Access {
            tokens,
            protected: protected_or_main(protected),
            tenant: Some(tenant.to_string()),
            source,
        })
    }
}

/// `recipes` may stand here too: in a file it often follows the last table.
pub(super) fn read_http(
    root: &mut Section,
    folder: &Path,
    recipes: &mut Vec<String>,
    mistakes: &mut Mistakes,
) -> Option<HttpSettings> {
    let mut table = root.section("http", mistakes)?;
    let hint = "such as \"127.0.0.1:9464\"; leave the table out for no metrics";
    let listen: Option<SocketAddr> = table.needed("listen", "ADDRESS:PORT", hint, mistakes);
    recipes.extend(table.texts("recipes", mistakes));
    let tokens_file = table.text("tokens_file", mistakes).map(|file| folder.join(file));
    let audit = folder.join(table.text("audit", mistakes).unwrap_or_else(|| AUDIT.to_owned()));
    let tls = read_tls(&mut table, folder, mistakes);
    let given = table.has("token");
    let tables = table.sections("token", mistakes);
    let tokens: Vec<Token> = tables.into_iter().filter_map(|table| read_token(table, mistakes)).collect();
    if let Some(listen) =
        listen.filter(|listen| !listen.ip().is_loopback() && !given && tokens_file.is_none())
    {
        let hint = "make a token with `headwater token new` and put its lines here, or listen on 127.0.0.1";
        mistakes.add(&table.path_of("listen"), "loopback, or tokens", &listen.to_string(), hint);
    }
    table.finish(mistakes);
    Some(HttpSettings { listen: listen?, tokens, tokens_file, audit, tls })
}

/// Both or none.
fn read_tls(table: &mut Section, folder: &Path, mistakes: &mut Mistakes) -> Option<TlsFiles> {
    let mut file = |key| table.text(key, mistakes).map(|file| folder.join(file));
    match (file("tls_cert"), file("tls_key")) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key, more: None }),
        (None, None) => None,
        (given, _) => {
            let missing = if given.is_some() { "tls_key" } else { "tls_cert" };
            let hint = "HTTPS needs both tls_cert and tls_key; leave both out for HTTP on loopback or behind a proxy";
            mistakes.add(&table.path_of(missing), "a PEM file", "nothing", hint);
            None
        }
    }
}

fn read_token(mut table: Section, mistakes: &mut Mistakes) -> Option<Token> {
    let hint = "headwater token new prints the lines of a token";
    let mut needed = |key| table.needed::<String>(key, "text", hint, mistakes);
    let (name, role, sha256) = (needed("name"), needed("role"), needed("sha256"));
    let refs = table.has("refs").then(|| table.texts("refs", mistakes));
    let path = table.path_of("");
    table.finish(mistakes);
    let written = TokenTable { name: name?, role: role?, refs, sha256: sha256? };
    match written.check() {
        Ok(token) => Some(token),
        Err(reason) => {
            mistakes.add(path.trim_end_matches('.'), "a token", &reason, hint);
            None
        }
    }
}

/// What is protected where the configuration says nothing of it: `main`.
#[must_use]
fn protected_or_main(stated: Option<&RefPatterns>) -> RefPatterns {
    stated.cloned().unwrap_or_else(|| Access::default().protected)
}

/// `lake.protected`: refs that nobody moves directly; none if nothing is said.
pub(super) fn read_protected(table: &mut Section, mistakes: &mut Mistakes) -> Option<RefPatterns> {
    if !table.has("protected") {
        return None;
    }
    let path = table.path_of("protected");
    let mut patterns = Vec::new();
    for text in table.texts("protected", mistakes) {
        match text.parse() {
            Ok(pattern) => patterns.push(pattern),
            Err(_) => {
                let hint = "such as [\"main\", \"release/*\"]; * stands for anything";
                mistakes.add(&path, "branch names", &format!("{text:?}"), hint);
            }
        }
    }
    Some(RefPatterns(patterns))
}
