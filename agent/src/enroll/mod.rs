//! Certificates from the fleet's enrolment service: the first ones with a token, later ones by the keys in use.
//!
//! Keys are made here and never leave the gateway; what travels are requests that prove we hold them. Before the fleet's
//! CA is known the token vouches for it: it carries the CA's SHA-256. HTTP is one POST over TLS by hand, since a
//! gateway has no room for a client library; files change all together or not at all, also in a power cut.

mod client;
mod files;
mod http;
mod pending;
mod pin;
mod token;
mod url;

pub(crate) use client::put_config;
pub use client::{EnrollError, Enrolled, Enrolling, enroll, host_name, renew};
pub use files::finish_replacing;
pub use token::{Token, TokenError};
pub use url::HttpsUrl;
