//! The lake as its users hold it: open, look up, read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::stream::BoxStream;
use iceberg::spec::TableMetadata;
use uuid::Uuid;

use crate::error::LakeError;
use crate::names::{CommitId, NameError, RefName, TableName, is_sha256_hex, sha256_hex};
use crate::protect::{Known, Warrant};
use crate::repo::{
    CommitKind, CommitObject, Head, LandingCursor, ObjectStoreRefs, RefOp, RefStore, TableEntry, format,
};
use crate::revision;
use crate::scan::{self, Condition};
use crate::store::{Created, LakeStore, ManifestsKept, Place};
use crate::table::{ColumnSpec, columns};
use crate::writer::LakeWriter;

/// Rows as they are read, in batches.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, LakeError>>;

/// What to read of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// Columns to read; none means all.
    pub columns: Option<Vec<String>>,
    /// At most this many rows.
    pub limit: Option<usize>,
    /// Only rows of this device; the table must have a `device` column.
    pub device: Option<String>,
    /// Only rows with `ts` at or after this, UTC µs.
    pub from_us: Option<i64>,
    /// Only rows with `ts` before this, UTC µs.
    pub to_us: Option<i64>,
    /// Only rows that meet all of these.
    pub conditions: Vec<Condition>,
    /// Read file by file, so that the same commit gives its rows in the same order each time.
    pub in_order: bool,
}

/// A versioned lake: Iceberg tables under one create-only ref log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lake {
    inner: Arc<Inner>,
    /// By what right this handle moves refs.
    warrant: Warrant,
}

#[derive(Debug)]
struct Inner {
    store: LakeStore,
    refs: ObjectStoreRefs,
    repo_id: Uuid,
    protection: Known,
}

impl Lake {
    /// Makes a lake at `location`, or opens the one that is there: a path, `file:///abs`, `s3://bucket/prefix`,
    /// `gs://bucket/prefix`, `az://container/prefix`. Credentials come from the environment, as each SDK names them.
    ///
    /// # Errors
    /// When the location cannot be used or written.
    pub async fn init(location: &str) -> Result<Lake, LakeError> {
        Lake::init_on(LakeStore::open(location, true).await?).await
    }

    /// Opens the lake at `location`.
    ///
    /// # Errors
    /// [`LakeError::NotALake`] when there is none.
    pub async fn open(location: &str) -> Result<Lake, LakeError> {
        Lake::open_on(LakeStore::open(location, false).await?).await
    }

    /// Whether `location` is of a form that [`Lake::init`] takes, without going there.
    ///
    /// # Errors
    /// [`LakeError::Location`] says what to write instead.
    pub fn check_location(location: &str) -> Result<(), LakeError> {
        Place::parse(location).map(|_| ())
    }

    pub(crate) async fn init_on(store: LakeStore) -> Result<Lake, LakeError> {
        let repo_id = format::init(&store).await?;
        Ok(Lake::over(store, repo_id))
    }

    pub(crate) async fn open_on(store: LakeStore) -> Result<Lake, LakeError> {
        let repo_id = format::open(&store).await?;
        Ok(Lake::over(store, repo_id))
    }

    fn over(store: LakeStore, repo_id: Uuid) -> Lake {
        let refs = ObjectStoreRefs::new(store.clone());
        let inner = Inner { store, refs, repo_id, protection: Known::default() };
        Lake { inner: Arc::new(inner), warrant: Warrant::default() }
    }

    /// Absolute URL of the lake's root, without a slash at the end.
    pub fn location(&self) -> &str {
        self.inner.store.location()
    }

    /// The lake's own id, made when it was.
    pub fn repo_id(&self) -> Uuid {
        self.inner.repo_id
    }

    /// What it keeps of manifests in memory, so that commits and merges need not read them again.
    pub fn manifests_kept(&self) -> ManifestsKept {
        self.inner.store.recent().kept()
    }

    /// Where its refs live.
    pub fn refs(&self) -> &dyn RefStore {
        &self.inner.refs
    }

    /// The same lake for somebody who moves refs by another right; see [`Warrant`].
    #[must_use]
    pub fn acting(&self, warrant: Warrant) -> Lake {
        Lake { inner: Arc::clone(&self.inner), warrant }
    }

    pub(crate) fn warrant(&self) -> Warrant {
        self.warrant
    }

    pub(crate) fn known_protection(&self) -> &Known {
        &self.inner.protection
    }

    pub(crate) fn store(&self) -> &LakeStore {
        &self.inner.store
    }

    /// The newest entry of a ref's log; none if the ref never was.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn head(&self, name: &RefName) -> Result<Option<Head>, LakeError> {
        self.inner.refs.head(name).await
    }

    /// The commit a revision names: a branch (`main`), a tag, a full commit id or a unique beginning of one (four digits
    /// or more), `<ref>@<id>`, and any of these with `~n` for its n-th first parent.
    ///
    /// # Errors
    /// [`LakeError::UnknownRevision`], [`LakeError::AmbiguousRevision`], or when the store fails.
    pub async fn resolve(&self, spec: &str) -> Result<CommitId, LakeError> {
        revision::resolve(self, spec).await
    }

    /// Reads a commit and checks it against its id.
    ///
    /// # Errors
    /// When it is not there, not whole, or the store fails.
    pub async fn commit_object(&self, id: &CommitId) -> Result<CommitObject, LakeError> {
        let key = revision::commit_key(id);
        let bytes = self.inner.store.read(&key).await?;
        let bytes = bytes.ok_or_else(|| LakeError::UnknownRevision { spec: id.to_string() })?;
        let commit = CommitObject::from_bytes(&key, &bytes)?;
        if &commit.id == id { Ok(commit) } else { Err(LakeError::corrupt(key, "it holds another commit")) }
    }

    /// Commits from `spec` back along first parents, newest first, at most `limit`; across days that were thinned.
    ///
    /// # Errors
    /// As [`Lake::resolve`] and [`Lake::commit_object`].
    pub async fn log(&self, spec: &str, limit: usize) -> Result<Vec<CommitObject>, LakeError> {
        let mut commits = Vec::new();
        let mut next = Some(self.resolve(spec).await?);
        while let Some(id) = next.filter(|_| commits.len() < limit) {
            let commit = match (self.commit_object(&id).await, commits.last()) {
                // Thinned, erased or older than what is kept: the next one that is there, if any.
                (Err(LakeError::UnknownRevision { .. }), Some(child)) => {
                    match self.kept_below(child).await? {
                        Some(kept) => self.commit_object(&kept).await?,
                        None => break,
                    }
                }
                (commit, _) => commit?,
            };
            // Nothing before an erasure is looked at, whether it was collected yet or not.
            next = commit.parents.first().filter(|_| commit.kind != CommitKind::Erase).cloned();
            commits.push(commit);
        }
        Ok(commits)
    }

    /// The tables of a commit.
    ///
    /// # Errors
    /// As [`Lake::commit_object`].
    pub async fn tables(&self, id: &CommitId) -> Result<BTreeMap<TableName, TableEntry>, LakeError> {
        Ok(self.commit_object(id).await?.tables)
    }

    /// The columns of a table as of a commit, as a declaration would write them.
    ///
    /// # Errors
    /// [`LakeError::UnknownTable`], or when the store fails.
    pub async fn columns(&self, id: &CommitId, table: &TableName) -> Result<Vec<ColumnSpec>, LakeError> {
        Ok(columns(&self.metadata(id, table).await?))
    }

    /// The properties of a table as of a commit: of an aligned one `hw.recipe` and `hw.recipe-json` among them.
    ///
    /// # Errors
    /// As [`Lake::columns`].
    pub async fn properties(
        &self,
        id: &CommitId,
        table: &TableName,
    ) -> Result<BTreeMap<String, String>, LakeError> {
        let metadata = self.metadata(id, table).await?;
        Ok(metadata.properties().iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    pub(crate) async fn metadata(
        &self,
        id: &CommitId,
        table: &TableName,
    ) -> Result<TableMetadata, LakeError> {
        let tables = self.tables(id).await?;
        let entry = tables
            .get(table)
            .ok_or_else(|| LakeError::UnknownTable { table: table.clone(), commit: id.clone() })?;
        let metadata = TableMetadata::read_from(&self.inner.store.file_io(), &entry.metadata_location).await;
        metadata.map_err(LakeError::iceberg(format!("read metadata of {table}")))
    }

    /// The properties of a table as of a commit, `hw.recipe-json` of an aligned one among them.
    ///
    /// # Errors
    /// [`LakeError::UnknownTable`], or when the store fails.
    pub async fn table_properties(
        &self,
        id: &CommitId,
        table: &TableName,
    ) -> Result<BTreeMap<String, String>, LakeError> {
        let tables = self.tables(id).await?;
        let entry = tables
            .get(table)
            .ok_or_else(|| LakeError::UnknownTable { table: table.clone(), commit: id.clone() })?;
        let metadata = TableMetadata::read_from(&self.inner.store.file_io(), &entry.metadata_location).await;
        let metadata = metadata.map_err(LakeError::iceberg(format!("read metadata of {table}")))?;
        Ok(metadata.properties().clone().into_iter().collect())
    }

    /// Per receiver incarnation the furthest landing cursor any commit of the ref's log ever held: a rollback takes rows
    /// back, never the cursor. Only a repair does, which points the ref at an older commit: what was landed since is not
    /// in the lake, so nothing below such an entry counts.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn landing_cursors_max(
        &self,
        name: &RefName,
    ) -> Result<BTreeMap<String, LandingCursor>, LakeError> {
        let history = self.inner.refs.history(name, usize::MAX).await?;
        let mut cursors: BTreeMap<String, LandingCursor> = BTreeMap::new();
        for (place, head) in history.iter().enumerate() {
            // A plain commit holds at least what the one below it held, so only the top of each such run is read.
            let on_top = place == 0 || history.get(place - 1).is_some_and(|above| above.op != RefOp::Commit);
            let is_reset = head.op == RefOp::Reset;
            let Some(id) = head.commit.as_ref().filter(|_| on_top || is_reset) else { continue };
            let commit = match self.commit_object(id).await {
                // The newest entries stay when what they named has left history or is lost; cursors were carried on since.
                Err(LakeError::UnknownRevision { .. } | LakeError::Corrupt { .. }) if place > 0 => {
                    // Whether it was a repair is not known any more: too low a cursor is read again and known, too high
                    // a one loses rows.
                    if is_reset {
                        break;
                    }
                    continue;
                }
                commit => commit?,
            };
            // A reset is a commit on what was there before; a repair has none.
            let is_set_back = is_reset && commit.parents.first() != head.prev_commit.as_ref();
            for (incarnation, cursor) in commit.landing {
                let highest = cursors.entry(incarnation).or_default();
                *highest = highest.max(cursor);
            }
            if is_set_back {
                break;
            }
        }
        Ok(cursors)
    }

    /// Reads rows of one table as of a commit, in no promised order. Columns come in the table's own Arrow types:
    /// those of the declaration, but `LargeBinary` for binary and wider where the table has widened.
    ///
    /// # Errors
    /// [`LakeError::UnknownTable`], an unknown column, or when the store fails.
    pub async fn scan(
        &self,
        id: &CommitId,
        table: &TableName,
        options: ScanOptions,
    ) -> Result<BatchStream, LakeError> {
        let tables = self.tables(id).await?;
        let entry = tables
            .get(table)
            .ok_or_else(|| LakeError::UnknownTable { table: table.clone(), commit: id.clone() })?;
        scan::scan(&self.inner.store, table, entry, options, None).await
    }

    /// Stores `bytes` under their SHA-256 and gives the path below the root. Existing is fine.
    ///
    /// # Errors
    /// [`LakeError::BlobDigest`] when the bytes hash to something else; when the store fails.
    pub async fn put_blob(&self, sha256_hex: &str, bytes: Bytes) -> Result<String, LakeError> {
        self.put_addressed("blobs/sha256", sha256_hex, bytes).await
    }

    /// Reads a blob back and checks it against its name; none if it is not there.
    ///
    /// # Errors
    /// [`LakeError::Corrupt`] when the stored bytes hash to something else; when the store fails.
    pub async fn blob(&self, sha256_hex: &str) -> Result<Option<Bytes>, LakeError> {
        self.addressed("blobs/sha256", sha256_hex).await
    }

    /// The path of a blob below the root, if it is there: for rows that are about to name it.
    ///
    /// # Errors
    /// When the store fails, or the name is no SHA-256.
    pub async fn blob_path(&self, sha256_hex: &str) -> Result<Option<String>, LakeError> {
        let key = addressed_key("blobs/sha256", sha256_hex)?;
        let Some(bytes) = self.blob(sha256_hex).await? else { return Ok(None) };
        self.use_again(&key, bytes).await?;
        Ok(Some(key))
    }

    /// Stores ledger checkpoints and align coverage that a commit will name by hash.
    ///
    /// # Errors
    /// As [`Lake::put_blob`].
    pub async fn put_state(&self, sha256_hex: &str, bytes: Bytes) -> Result<String, LakeError> {
        self.put_addressed("_repo/state/sha256", sha256_hex, bytes).await
    }

    /// Reads a state object back and checks it; none if it is not there.
    ///
    /// # Errors
    /// As [`Lake::blob`].
    pub async fn state(&self, sha256_hex: &str) -> Result<Option<Bytes>, LakeError> {
        self.addressed("_repo/state/sha256", sha256_hex).await
    }

    /// A writer that commits to `name`. Hold one per ref: it keeps the base state in memory.
    pub fn writer(&self, name: RefName, author: String) -> LakeWriter {
        LakeWriter::new(self.clone(), name, author)
    }

    async fn put_addressed(&self, folder: &str, claimed: &str, bytes: Bytes) -> Result<String, LakeError> {
        let key = addressed_key(folder, claimed)?;
        let found = sha256_hex(&bytes);
        if found != claimed {
            return Err(LakeError::BlobDigest { claimed: claimed.to_owned(), found });
        }
        if self.inner.store.create(&key, bytes.clone()).await? == Created::Existing {
            // Existing bytes have the same hash by construction.
            self.use_again(&key, bytes).await?;
        }
        Ok(key)
    }

    /// An old object that nothing names yet may be on its way out: young again it is left alone, and if it is condemned
    /// already the caller waits until that is done.
    async fn use_again(&self, key: &str, bytes: Bytes) -> Result<(), LakeError> {
        self.inner.store.renew(key, bytes).await?;
        self.ensure_key_not_condemned(key).await
    }

    async fn addressed(&self, folder: &str, claimed: &str) -> Result<Option<Bytes>, LakeError> {
        let key = addressed_key(folder, claimed)?;
        let Some(bytes) = self.inner.store.read(&key).await? else { return Ok(None) };
        let found = sha256_hex(&bytes);
        if found == claimed {
            Ok(Some(bytes))
        } else {
            Err(LakeError::corrupt(key, format!("it hashes to {found}")))
        }
    }
}

fn addressed_key(folder: &str, sha256_hex: &str) -> Result<String, LakeError> {
    if is_sha256_hex(sha256_hex) {
        Ok(format!("{folder}/{}/{sha256_hex}", &sha256_hex[..2]))
    } else {
        Err(NameError::Sha256 { name: sha256_hex.to_owned() }.into())
    }
}
