//! What can go wrong when the lake is read, in words that name the fix.

use headwater_lake::{CommitError, LakeError, PublishError};

/// A question that could not be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The lake itself.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A commit that was not made, or nobody knows.
    #[error(transparent)]
    Commit(Box<CommitError>),
    /// A ref that was not moved, or nobody knows.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A branch of that name exists.
    #[error(
        "branch {name} exists already, at {at}; choose another name, or delete it first (headwater branch -d {name})"
    )]
    BranchExists {
        /// The name.
        name: String,
        /// Where it is.
        at: String,
    },
    /// A word that is no strategy.
    #[error("{0:?} is no strategy; write ours, theirs, or for one table raw.imu=ours")]
    Strategy(String),
    /// A range whose beginning is not behind its end.
    #[error(
        "range {0:?} has no beginning: the first commit is no first parent of the second; `headwater log` shows the line"
    )]
    Range(String),
    /// A question that was answered with no, or could not be asked.
    #[error("{0} It was not confirmed, so nothing was changed; say --yes where nobody can be asked")]
    NotConfirmed(String),
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
    /// A row that is not there, or that several devices have.
    #[error(
        "{table} has not exactly one row {key}{}",
        if .devices.is_empty() { ": is it a row_key of this table, and written by that commit?".to_owned() }
        else { format!("; these have one: {devices}: say --device") }
    )]
    NoRow {
        /// Its key.
        key: String,
        /// The table.
        table: String,
        /// Devices that have one.
        devices: String,
    },
    /// An aligned table whose recipe cannot be read.
    #[error("the recipe of {table} cannot be read: {reason}")]
    TableRecipe {
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// History that was not aligned to its end.
    #[error(transparent)]
    Backfill(Box<crate::backfill::BackfillError>),
    /// Aligned rows that could not be made anew.
    #[error(transparent)]
    Rebuild(Box<crate::ingest::RebuildError>),
    /// Rows that come out otherwise than they are stored.
    #[error("some aligned rows or files are not what their raw rows give; what differs is named above")]
    NotReproduced,
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
    /// A recipe's file that cannot be read.
    #[error("failed to read recipe {}; of one that is in the lake say NAME@REF, such as drive@main", path.display())]
    RecipeFile {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A recipe with mistakes.
    #[error("{recipe} cannot be used")]
    Recipe {
        /// Which.
        recipe: String,
        /// Every mistake.
        #[source]
        source: headwater_align::recipe::RecipeError,
    },
    /// A recipe of which mistakes are told already.
    #[error("the recipe cannot be used; the lines above say where and why")]
    RecipeRefused,
    /// An aligned table that is not there, or says no recipe.
    #[error("no recipe made aligned.{name} at {at}; `headwater recipe list --at {at}` names those that did")]
    NoRecipe {
        /// Its name.
        name: String,
        /// Branch, tag or commit.
        at: String,
    },
    /// A recipe that SQL cannot say.
    #[error("failed to write the recipe as SQL")]
    RecipeSql(#[source] headwater_align::recipe::RecipeError),
    /// A candidate of the gate that cannot be told.
    #[error("{asked:?} means {found} of the gate's candidates; there are: {known}")]
    Candidate {
        /// Asked for.
        asked: String,
        /// None or several.
        found: &'static str,
        /// What there is.
        known: String,
    },
    /// A file of gate rules that cannot be read.
    #[error("failed to read gate rules {}", file.display())]
    RulesFile {
        /// Which.
        file: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of gate rules that is none.
    #[error("failed to use gate rules {}", file.display())]
    Rules {
        /// Which.
        file: std::path::PathBuf,
        /// Every mistake.
        #[source]
        source: headwater_align::gate::RulesError,
    },
    /// Rules that judge no table of the commit.
    #[error("these rules judge {wanted}, and commit {commit} has: {known}; name one with --table")]
    NothingToJudge {
        /// Tables they judge.
        wanted: String,
        /// Where.
        commit: String,
        /// What there is.
        known: String,
    },
    /// More rows than are judged at once.
    #[error("{table} has more than {most} rows there; narrow it by --from and --to, or by --device")]
    TooManyRows {
        /// Which.
        table: String,
        /// Bound.
        most: usize,
    },
    /// Pictures or references that could not be read.
    #[error(transparent)]
    Look(#[from] crate::gate::looking::LookError),
    /// Rows that the gate would not publish.
    #[error("{0} of the rules above fail; the gate would not publish these rows")]
    GateFailed(usize),
    /// A waiver that did not happen.
    #[error(transparent)]
    Waive(Box<crate::gate::waive::WaiveError>),
    /// The gate's settings in the lake cannot be used.
    #[error(transparent)]
    StoredGate(#[from] crate::gate::guard::StoredGateError),
    /// The gate's settings in a configuration cannot be used.
    #[error(transparent)]
    Gate(Box<crate::pipeline::PipelineError>),
    /// A join that was not judged to its end.
    #[error(transparent)]
    Guard(Box<crate::gate::guard::GuardError>),
    /// A join that the gate holds.
    #[error(
        "the gate of {branch} holds it: {failed}; {branch} is as it was. `headwater gate show {id}` says why, `headwater gate \
         waive {id} --reason …` publishes it all the same"
    )]
    HeldByGate {
        /// The protected branch.
        branch: String,
        /// Of quarantine/<id>.
        id: String,
        /// What failed.
        failed: String,
    },
    /// A folder that is there already.
    #[error("{} is there already; name another folder, or give --force to replace it", .0.display())]
    OutExists(std::path::PathBuf),
    /// A file of an export that could not be written.
    #[error("failed to write {}", path.display())]
    Write {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A form that holds one table.
    #[error("this format holds one table; name it instead of --all, such as raw.image")]
    OneTable,
    /// Pictures of a table that has none.
    #[error(
        "{0} has no column of pictures (struct<bytes, path>); export raw.image, or choose --format parquet"
    )]
    NoPictures(String),
    /// A large object that is not where its row says.
    #[error(
        "{path} is not in the lake though a row names it; `headwater lake check` finds what else is missing"
    )]
    NoBlob {
        /// Below the lake's root.
        path: String,
    },
    /// A clone onto itself.
    #[error("{0} is the lake itself; name another folder for its copy")]
    SameLake(String),
    /// A copy that did not end.
    #[error(transparent)]
    Copy(Box<headwater_lake::CopyError>),
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

impl From<crate::ingest::RebuildError> for QueryError {
    fn from(error: crate::ingest::RebuildError) -> Self {
        Self::Rebuild(Box::new(error))
    }
}

impl From<CommitError> for QueryError {
    fn from(error: CommitError) -> Self {
        Self::Commit(Box::new(error))
    }
}

impl From<crate::gate::waive::WaiveError> for QueryError {
    fn from(error: crate::gate::waive::WaiveError) -> Self {
        Self::Waive(Box::new(error))
    }
}

impl From<headwater_lake::CopyError> for QueryError {
    fn from(error: headwater_lake::CopyError) -> Self {
        Self::Copy(Box::new(error))
    }
}

impl QueryError {
    /// The process's exit code: 3 for a conflict, which changed nothing; 4 where the store did not say what became of a
    /// write, so that the same command may be said again; 5 for a move that a protected branch refuses; 6 for a join that
    /// its gate holds; 1 for the rest.
    /// Mistakes in the command line are 2.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            QueryError::Commit(error) => match error.as_ref() {
                CommitError::Failed { source: LakeError::Conflicts(_), .. } => 3,
                CommitError::Failed { source: LakeError::Protected(_), .. } => 5,
                CommitError::Unknown { .. } => 4,
                _ => 1,
            },
            QueryError::HeldByGate { .. } => 6,
            QueryError::Backfill(error) => match error.as_ref() {
                crate::backfill::BackfillError::Lake(LakeError::Protected(_)) => 5,
                crate::backfill::BackfillError::Commit(error)
                    if matches!(**error, CommitError::Unknown { .. }) =>
                {
                    4
                }
                _ => 1,
            },
            QueryError::Publish(PublishError::Unknown { .. }) => 4,
            QueryError::Publish(PublishError::Failed(LakeError::Protected(_)))
            | QueryError::Lake(LakeError::Protected(_)) => 5,
            _ => 1,
        }
    }
}
