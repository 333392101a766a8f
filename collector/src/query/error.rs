//! What can go wrong when the lake is read, in words that name the fix.

use headwater_lake::LakeError;

/// A question that could not be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The lake itself.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A table the commit does not have.
    #[error("commit {commit} has no table {table}; it has: {known}")]
    NoTable {
        /// Asked for.
        table: String,
        /// Where.
        commit: String,
        /// What there is.
        known: String,
    },
    /// A table name that cannot be.
    #[error("{0:?} is no table's name; write namespace.table, such as raw.imu")]
    TableName(String),
    /// A column type this command cannot show.
    #[error("column {column} has a type that cannot be shown: {reason}")]
    Column {
        /// Which.
        column: String,
        /// Why.
        reason: String,
    },
    /// A name no device can have.
    #[error("{0:?} is no device's name; it is the CN of its certificates, such as pi-1")]
    DeviceName(String),
    /// A device that never said anything to this lake.
    #[error("no device {device} in this commit; known are: {known}")]
    NoDevice {
        /// Asked for.
        device: String,
        /// What there is.
        known: String,
    },
    /// A device of whose clock nothing is known.
    #[error(
        "{device} has sent no clock rows yet; they come within seconds of its first connection: ask `headwater-agent status` \
         there"
    )]
    NoClock {
        /// Asked for.
        device: String,
    },
    /// A boot of which nothing is known.
    #[error("nothing is known of boot {boot} of {device}; known are: {known}")]
    NoBoot {
        /// Whose.
        device: String,
        /// Asked for.
        boot: u32,
        /// What there is.
        known: String,
    },
    /// An option that needs a device.
    #[error("{0} needs a device: headwater clock DEVICE {0} …")]
    ClockOfWhom(&'static str),
    /// A picture that has nowhere to go.
    #[error("{} cannot be written: there is no folder {}; make it first (mkdir -p {})", file.display(), folder.display(), folder.display())]
    NoFolder {
        /// The picture.
        file: std::path::PathBuf,
        /// What is missing.
        folder: std::path::PathBuf,
    },
    /// A picture that could not be written.
    #[error("failed to write {}", file.display())]
    Picture {
        /// The picture.
        file: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A DuckDB extension that is not where it should be.
    #[error(
        "{name}.duckdb_extension is not below {}; name the folder of DuckDB's extension wheels (pip install \
         duckdb-extension-{name}), or leave --duckdb-extensions out to load the installed one",
        folder.display()
    )]
    Extension {
        /// Where it was looked for.
        folder: std::path::PathBuf,
        /// Which.
        name: &'static str,
    },
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] crate::pki::PkiError),
    /// A file of tokens.
    #[error(transparent)]
    Tokens(#[from] crate::serve::access::TokenFileError),
    /// A lake that is not served.
    #[error(transparent)]
    Serve(#[from] crate::serve::ServeError),
    /// An import that did not begin, or did not end.
    #[error(transparent)]
    Import(#[from] crate::import::ImportError),
    /// A commit whose messages could not be verified.
    #[error(transparent)]
    Verify(#[from] crate::verify::VerifyError),
    /// A commit of which something is not what its device signed.
    #[error("not everything is what its device signed; the lines above say what and why")]
    Unsound,
    /// An import of which something was refused.
    #[error("not everything was taken in; the lines above say what and why")]
    Incomplete,
    /// A lake of which something needed is lost or wrong.
    #[error("the lake is damaged; the lines above say what, and what `headwater lake repair` would do")]
    Damaged,
    /// Something that cannot be taken back was not confirmed.
    #[error("not done: {0}")]
    NotConfirmed(&'static str),
    /// A configuration that cannot be used.
    #[error("failed to use configuration {}", file.display())]
    Config {
        /// Which.
        file: std::path::PathBuf,
        /// Why.
        #[source]
        source: crate::config::ConfigError,
    },
    /// Output could not be written.
    #[error("failed to write the output")]
    Output(#[from] std::io::Error),
    /// The runtime did not start.
    #[error("failed to start: {0}")]
    Start(String),
}
