//! The fleet's certificates: one CA, CAs below it, and for each device and collector a TLS pair and a signing pair.
//!
//! TLS keys are P-256, since cloud brokers accept them; signing keys are Ed25519. Roles stand in the
//! extended key usage of the signing certificate: clientAuth is a device, serverAuth a collector, and
//! none is both ([`headwater_core::wire::chain`]). Every certificate is in its CA's register, so that it can be
//! revoked by its holder's name; new gateways enrol with a token over HTTPS ([`serve`]).

mod authority;
pub mod cli;
mod enroll;
mod files;
mod issue;
mod kept;
mod register;
mod revoke;
pub mod serve;
mod token;

pub use authority::Authority;
pub use enroll::{Desk, EnrollError, EnrollRequest, Granted, Offer, RenewRequest};
pub use issue::{LEAF_DAYS, Subject, init, intermediate, issue, issue_for, renew};
pub use register::{Issued, Role, issued};
pub use revoke::{ALL_LIST, COLLECTORS_LIST, Entry, Reason, revoke, revoked};
pub use token::{NewToken, Token, TokenRefusal, create as create_token, revoke as revoke_token, tokens};

use headwater_core::id::NameError;
use std::path::PathBuf;

/// Certificates that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file.
    #[error("failed to {what} {path}")]
    File {
        /// What it was doing.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that holds something else than it should.
    #[error("{path} cannot be used: {reason}")]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is a CA already.
    #[error("{0} exists already; a second CA would lock out every device of the first. Choose another --dir")]
    Exists(PathBuf),
    /// A CA below an intermediate.
    #[error("{0} is an intermediate already; make another one with the root's folder as --dir")]
    Deep(PathBuf),
    /// A name that cannot stand in a topic.
    #[error("the name cannot be used")]
    Name(#[from] NameError),
    /// The CA cannot be read or used.
    #[error("{path} is not a usable CA; run `headwater pki init` or check --dir: {reason}")]
    Ca {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nobody is called so.
    #[error(
        "the register knows no certificate of {0:?}; name a device, a collector or a serial number, as `headwater pki \
         list` shows them"
    )]
    Unknown(String),
    /// A collector whose host names are not known.
    #[error("the register knows no host names of collector {0}; name them with --host")]
    NoHosts(String),
    /// A token that nobody made.
    #[error("there is no token {0}; see `headwater pki token list`")]
    NoToken(String),
    /// The enrolment service.
    #[error(transparent)]
    Serve(#[from] serve::ServeError),
    /// The random source.
    #[error("the system gives no random numbers")]
    Random,
    /// Making a certificate failed.
    #[error("failed to make a certificate")]
    Make(#[from] rcgen::Error),
    /// A time outside what certificates can say.
    #[error("the present time {0} s cannot stand in a certificate")]
    Time(i64),
}

#[cfg(test)]
mod tests;
