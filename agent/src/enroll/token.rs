//! Tokens: what an operator hands to whoever sets up a gateway.
//!
//! `hwt1-<id>-<secret>-<CA>`, lower-case hex of 8, 16 and 32 bytes: which token, that it is really it, and the SHA-256
//! of the fleet's CA certificate, so that nobody on the way can pass for the service.

use headwater_core::id::parse_hex;

const PREFIX: &str = "hwt1-";

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no token; it looks like hwt1-…-…-…, as `headwater pki token create` prints it, in one piece"
)]
pub struct TokenError;

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
    /// SHA-256 of the CA certificate.
    pub ca: [u8; 32],
}

impl Token {
    /// Reads one.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let mut parts = text.strip_prefix(PREFIX).ok_or(TokenError)?.split('-');
        let (id, secret, ca) = (parts.next(), parts.next(), parts.next());
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let (id, secret, ca) = (of_length(id, 16)?, of_length(secret, 32)?, of_length(ca, 64)?);
        if parts.next().is_some() || !hex(id) || !hex(secret) {
            return Err(TokenError);
        }
        let ca = parse_hex(ca.as_bytes()).ok_or(TokenError)?;
        Ok(Self { text: text.to_owned(), ca })
    }

    /// As the service takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn of_length(part: Option<&str>, length: usize) -> Result<&str, TokenError> {
    part.filter(|part| part.len() == length).ok_or(TokenError)
}

impl std::fmt::Debug for Token {
    /// Never its secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_in_one_piece_only() {
        let (id, secret, ca) = ("0".repeat(16), "a".repeat(32), "7".repeat(64));
        let good = format!("hwt1-{id}-{secret}-{ca}");
        let token = Token::parse(&format!(" {good}\n")).unwrap();
        assert_eq!((token.as_str(), token.ca), (good.as_str(), [0x77; 32]));
        assert!(
            !format!("{token:?}").contains('a'.to_string().repeat(8).as_str()),
            "its secret is not printed"
        );
        for wrong in [
            good[..good.len() - 1].to_owned(),
            format!("{good}-"),
            good.replace("hwt1", "hwt2"),
            good.to_uppercase(),
            format!("hwt1-{id}-{secret}"),
            String::new(),
        ] {
            assert_eq!(Token::parse(&wrong), Err(TokenError), "{wrong}");
        }
    }
}
