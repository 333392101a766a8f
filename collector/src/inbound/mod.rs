//! HTTPS as it comes in: certificates from files, handshakes beside each other, streams handed to axum.
//!
//! TLS is rustls with ring, as everywhere here. The files are looked at when a connection comes, so a renewed certificate
//! is used from the next one on; one that cannot be read leaves the certificate of before in use.

mod files;
mod listener;

pub use files::{TlsFileError, TlsFiles};
pub use listener::{Guarded, TlsLimits, TlsListener};
