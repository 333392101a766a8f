//! Verify: whether the messages that a commit was made from are still what their devices signed.
//!
//! `ops.batches` keeps digest, signature, certificate serial and landing place of each landed message; the landing log
//! keeps the message itself for a while. Each row is held against the message at its place, and against the
//! certificate its device presented. Once a log is trimmed, digest and signature still prove each other.

mod judge;
mod keys;
mod run;

pub use judge::{Found, Noted, Verdict, judge};
pub use keys::Keys;
pub use run::{Report, VerifyError, VerifyOptions, verify};
