//! A client as the protocol sees one: it loads a table, writes files below its folder, and sends a body.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use bytes::Bytes;
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, Literal, ManifestListWriter, ManifestWriterBuilder,
    Struct, TableMetadata,
};
use serde_json::{Value, json};

use crate::foreign::{ForeignEdit, ForeignRequest, TableChange};
use crate::names::{RefName, TableName};
use crate::store::Stage;
use crate::table::{ColumnSpec, ColumnType, TS, TableSpec, TableState, UTC, load};
use crate::writer::{CommitRequest, LakeWriter, TableAppend};
use crate::{Lake, testing};

/// The time of every test.
pub(super) const NOW_MS: i64 = 1_795_435_200_000;

fn spec(table: &str) -> TableSpec {
    let columns = vec![
        ColumnSpec::required("device", ColumnType::String),
        ColumnSpec::required(TS, ColumnType::Timestamptz),
        ColumnSpec::optional("x", ColumnType::Double).with_unit("m/s2"),
    ];
    TableSpec::new(TableName::new(table).unwrap(), columns, &["device", TS])
}

fn rows(count: usize) -> RecordBatch {
    let ts = TimestampMicrosecondArray::from(vec![NOW_MS * 1000; count]).with_timezone(UTC);
    RecordBatch::try_from_iter([
        ("device", Arc::new(StringArray::from(vec!["a"; count])) as ArrayRef),
        (TS, Arc::new(ts) as ArrayRef),
        ("x", Arc::new(Float64Array::from(vec![1.0; count])) as ArrayRef),
    ])
    .unwrap()
}

/// Commits rows to both tables as our own writers do.
pub(super) async fn commit_rows(lake: &Lake, branch: &str, count: usize) {
    let mut writer = lake.writer(RefName::new(branch).unwrap(), "ours".to_owned());
    let append = |table| TableAppend { spec: spec(table), batches: vec![rows(count)] };
    let appends = vec![append("raw.imu"), append("ops.ledger")];
    writer
        .commit(CommitRequest { time_us: NOW_MS * 1000, appends, ..CommitRequest::default() })
        .await
        .unwrap();
}

/// A lake with two tables on `main`, the branch `exp/a` of it, and that branch's writer.
pub(super) async fn with_branch() -> (Lake, LakeWriter) {
    with_branch_on(testing::memory().await.unwrap()).await
}

/// The same on a lake that is there.
pub(super) async fn with_branch_on(lake: Lake) -> (Lake, LakeWriter) {
    commit_rows(&lake, "main", 10).await;
    let head = lake.resolve("main").await.unwrap();
    let branch = RefName::new("exp/a").unwrap();
    lake.branch(&branch, &head, "test", NOW_MS * 1000).await.unwrap();
    let writer = lake.writer(branch, "rest".to_owned());
    (lake, writer)
}

/// A table as the client loaded it from `exp/a`.
#[derive(Debug)]
pub(super) struct Client {
    lake: Lake,
    pub(super) table: TableName,
    pub(super) state: TableState,
}

impl Client {
    pub(super) async fn of(lake: &Lake, table: &str) -> Client {
        let table = TableName::new(table).unwrap();
        let tables = lake.tables(&lake.resolve("exp/a").await.unwrap()).await.unwrap();
        let state = load(lake.store(), &table, &tables[&table]).await.unwrap();
        Client { lake: lake.clone(), table, state }
    }

    pub(super) fn folder(&self) -> &str {
        self.state.metadata.location()
    }

    pub(super) fn url(&self, file: &str) -> String {
        format!("{}/metadata/{file}", self.folder())
    }

    pub(super) fn request(&self, body: Value) -> ForeignRequest {
        let change = TableChange::parse(self.table.clone(), body).unwrap();
        request(vec![ForeignEdit::Change(change)])
    }

    /// A body that appends one file of `rows` rows and 4096 bytes; it is written.
    pub(super) async fn append(&self, snapshot_id: i64, rows: u64) -> Value {
        let list = self.url(&format!("snap-{snapshot_id}.avro"));
        let body = self.body(snapshot_id, &list);
        self.write(snapshot_id, &list, None, None, rows, true).await;
        body
    }

    /// The same with files elsewhere, or not there.
    pub(super) async fn append_with(
        &self,
        snapshot_id: i64,
        list: &str,
        manifest: Option<&str>,
        data: Option<&str>,
        written: bool,
    ) -> Value {
        self.write(snapshot_id, list, manifest, data, 1, written).await;
        self.body(snapshot_id, list)
    }

    async fn write(
        &self,
        snapshot_id: i64,
        list: &str,
        manifest: Option<&str>,
        data: Option<&str>,
        rows: u64,
        written: bool,
    ) {
        let manifest = manifest.map_or_else(|| self.url(&format!("{snapshot_id}-m0.avro")), str::to_owned);
        let data =
            data.map_or_else(|| format!("{}/data/{snapshot_id}.parquet", self.folder()), str::to_owned);
        let numbers = (snapshot_id, self.state.metadata.next_sequence_number());
        let base = (&*self.state.metadata, self.state.manifests.as_slice());
        write_snapshot(&self.lake, base, numbers, list, &manifest, (&data, rows, written)).await;
    }

    fn body(&self, snapshot_id: i64, list: &str) -> Value {
        let current = self.state.entry.snapshot_id;
        json!({
            "requirements": [
                {"type": "assert-table-uuid", "uuid": self.state.entry.uuid},
                {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": current},
            ],
            "updates": [
                {"action": "add-snapshot", "snapshot": {
                    "snapshot-id": snapshot_id, "parent-snapshot-id": current,
                    "sequence-number": self.state.metadata.next_sequence_number(), "timestamp-ms": NOW_MS,
                    "manifest-list": list, "summary": {"operation": "append"},
                    "schema-id": self.state.metadata.current_schema_id(),
                }},
                {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": snapshot_id},
            ],
        })
    }
}

pub(super) fn request(edits: Vec<ForeignEdit>) -> ForeignRequest {
    ForeignRequest { edits, author: "rest/test".into(), message: "test".into(), time_us: NOW_MS * 1000 }
}

/// Writes what a client writes before it commits: a data file (or not), its manifest, and the list.
pub(super) async fn write_snapshot(
    lake: &Lake,
    (metadata, manifests): (&TableMetadata, &[iceberg::spec::ManifestFile]),
    (snapshot_id, sequence_number): (i64, i64),
    list: &str,
    manifest: &str,
    (data, rows, written): (&str, u64, bool),
) {
    let file = (DataContentType::Data, data, rows, written);
    write_files(lake, (metadata, manifests), (snapshot_id, sequence_number), list, manifest, file).await;
}

/// The same for files of any content.
pub(super) async fn write_files(
    lake: &Lake,
    (metadata, manifests): (&TableMetadata, &[iceberg::spec::ManifestFile]),
    (snapshot_id, sequence_number): (i64, i64),
    list: &str,
    manifest: &str,
    (content, data, rows, written): (DataContentType, &str, u64, bool),
) {
    let stage = Stage::default();
    let spec = metadata.default_partition_spec();
    let day = spec.fields().iter().map(|_| Some(Literal::date(20_780)));
    let file = DataFileBuilder::default()
        .content(content)
        .file_path(data.to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter(day))
        .partition_spec_id(spec.spec_id())
        .record_count(rows)
        .file_size_in_bytes(4096)
        .build()
        .unwrap();
    let schema = Arc::clone(metadata.current_schema());
    let output = stage.output(manifest);
    let builder = ManifestWriterBuilder::new(output, Some(snapshot_id), schema, spec.as_ref().clone());
    let mut writer = match content {
        DataContentType::Data => builder.build_v2_data(),
        _ => builder.build_v2_deletes(),
    };
    writer.add_file(file, sequence_number).unwrap();
    let added = writer.write_manifest_file().await.unwrap();
    let output = stage.output(list).writer().await.unwrap();
    let mut writer =
        ManifestListWriter::v2(output, snapshot_id, metadata.current_snapshot_id(), sequence_number);
    writer.add_manifests(manifests.iter().cloned().chain([added])).unwrap();
    writer.close().await.unwrap();
    let mut files: Vec<(String, Bytes)> = stage.take().into_iter().collect();
    if written {
        files.push((data.to_owned(), Bytes::from_static(b"PAR1")));
    }
    lake.store().create_all(files).await.unwrap();
}
