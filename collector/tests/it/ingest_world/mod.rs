//! A small fleet for tests of ingest: signed messages in a landing log that lies in memory, and the truth beside it.

use arrow_schema::DataType;
use futures::TryStreamExt;
use headwater_align::recipe::Recipe;
use headwater_collector::commit::cells::Cell;
use headwater_collector::commit::read::ScannedRows;
use headwater_collector::ingest::{self, IngestDeps, IngestError, IngestSettings, LandingSource};
use headwater_collector::land::{
    CommitMark, LandError, Landed, LandedBlob, LandedMessage, LandedWatch, LandingCursors, LandingPosition,
};
use headwater_collector::registry::Registry;
use headwater_core::batch::{Column, Effort, Heartbeat, Rows, Section, StreamRef, encode_batch};
use headwater_core::id::{BootOrdinal, DeviceId, DevicePath, Epoch, IncarnationId, Seq, StreamId};
use headwater_core::ports::Clock;
use headwater_core::sample::{BlobRef, Value};
use headwater_core::schema::{Field, Logical, Modality, Schema, builtin};
use headwater_core::time::{BootNanos, ClockDomain, Grade, NS_PER_MS, NS_PER_S, StampKind, UtcNanos};
use headwater_core::wire::object::{BlobObject, object_id};
use headwater_core::wire::{
    Capabilities, Declaration, Envelope, Hello, Lane, MessageKind, Sent, SigningKey, Unsigned,
};
use headwater_lake::{CommitId, Lake, RefName, ScanOptions, TableName};
use headwater_sim::clock::SimClock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// UTC at boot time 0 of the simulated gateway.
pub(crate) const START: i64 = 1_700_000_000 * NS_PER_S;
pub(crate) const IMU: StreamId = StreamId(1);
pub(crate) const CAMERA: StreamId = StreamId(2);
pub(crate) const CLOCK: StreamId = StreamId(3);
pub(crate) const GAPS: StreamId = StreamId(4);

pub(crate) fn imu_schema() -> Schema {
    let field = |name: &str, logical, unit: &str| Field {
        name: name.parse().unwrap(),
        logical,
        nullable: name == "note",
        unit: unit.to_owned(),
    };
    Schema {
        salt: 0,
        kind: "imu".parse().unwrap(),
        modality: Modality::Scalars,
        time_exp: 3,
        fields: vec![
            field("n", Logical::U32, "1"),
            field("accel_x", Logical::F32, "m/s2"),
            field("mode", Logical::Enum(vec!["idle".into(), "run".into()]), "1"),
            field("note", Logical::Utf8, "1"),
        ],
    }
}

/// One gateway that writes signed messages.
pub(crate) struct Gateway {
    pub(crate) path: DevicePath,
    pub(crate) epoch: Epoch,
    pub(crate) boot: BootOrdinal,
    key: SigningKey,
}

/// A record without its place in a log.
#[derive(Clone)]
pub(crate) enum Record {
    Message(Arc<LandedMessage>),
    Blob(Arc<LandedBlob>),
}

const NOWHERE: LandingPosition =
    LandingPosition { incarnation: IncarnationId([0; 16]), segment: 0, offset: 0 };

impl Gateway {
    pub(crate) fn new(name: &str, epoch: u64) -> Self {
        let mut der = vec![
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
        ];
        der.extend_from_slice(&[7; 32]);
        let device: DeviceId = name.parse().unwrap();
        Self {
            path: DevicePath { tenant: "acme".parse().unwrap(), device },
            epoch: Epoch(epoch),
            boot: BootOrdinal(1),
            key: SigningKey::from_pkcs8(&der).unwrap(),
        }
    }

    /// A message handed over at boot time `sent_b` and received 20 ms later.
    pub(crate) fn message(&self, kind: MessageKind, body: &[u8], sent_b: i64) -> Record {
        let sent = Sent { boot_ordinal: self.boot.0, ns: sent_b };
        let bytes = Unsigned::new(kind, &self.path, self.epoch, body).unwrap().sign(sent, &self.key);
        let envelope = Envelope::parse(&bytes).unwrap();
        let (digest, signature, key_id) = (envelope.digest, envelope.signature, envelope.key_id);
        Record::Message(Arc::new(LandedMessage {
            position: NOWHERE,
            end: NOWHERE,
            device: self.path.clone(),
            epoch: self.epoch,
            kind,
            lane: Lane::LiveTelemetry,
            sent,
            received: UtcNanos(START + sent_b + 20 * NS_PER_MS),
            key_id,
            key_serial: "01".to_owned(),
            imported: false,
            digest,
            signature,
            message: bytes.into(),
        }))
    }

    pub(crate) fn batch(&self, sections: &[Section], sent_b: i64) -> Record {
        self.message(MessageKind::Batch, &encode_batch(sections, Effort::Wire), sent_b)
    }

    pub(crate) fn declare(&self, stream: StreamId, name: &str, schema: Schema) -> Record {
        let declaration = Declaration { stream, name: name.parse().unwrap(), schema };
        self.message(MessageKind::Declaration, &declaration.to_body(), 1)
    }

    pub(crate) fn declarations(&self) -> Vec<Record> {
        vec![
            self.declare(IMU, "imu", imu_schema()),
            self.declare(CAMERA, "camera/front", builtin::image()),
            self.declare(CLOCK, "hw/clock", builtin::clock()),
            self.declare(GAPS, "hw/gaps", builtin::gaps()),
        ]
    }

    pub(crate) fn hello(&self) -> Record {
        let hello = Hello {
            boot_ordinal: self.boot,
            boot_id: headwater_core::id::BootId([9; 16]),
            capabilities: Capabilities::ours("headwater-agent 0.1.0"),
            message_bytes_max: 98_304,
            streams: Vec::new(),
            chain: vec![vec![1, 2, 3]],
            nonce: [4; 16],
        };
        self.message(MessageKind::Hello, &hello.to_body(), 2)
    }

    pub(crate) fn rows(
        &self,
        stream: StreamId,
        schema: &Schema,
        first_seq: u64,
        rows: &[(i64, Vec<Value>)],
    ) -> Rows {
        let unit = 10_i64.pow(schema.time_exp.into());
        let mut fields: Vec<Column> =
            schema.fields.iter().map(|f| Column::new(f.logical.physical())).collect();
        for (_, values) in rows {
            for (column, value) in fields.iter_mut().zip(values) {
                assert!(column.push(value));
            }
        }
        Rows {
            stream: StreamRef::Id(stream),
            fingerprint: schema.fingerprint(),
            boot_ordinal: self.boot,
            first_seq: Seq(first_seq),
            time_exp: schema.time_exp,
            stamp_kind: StampKind::Instant,
            domain: ClockDomain::BOOT,
            t: rows.iter().map(|(t, _)| t / unit).collect(),
            lat_lo: vec![0; rows.len()],
            lat_hi: vec![2_000_000; rows.len()],
            fields,
        }
    }

    /// IMU rows `seqs` at 100 Hz.
    pub(crate) fn imu(&self, seqs: std::ops::Range<u64>) -> Section {
        let rows: Vec<(i64, Vec<Value>)> = seqs.clone().map(|seq| (imu_at(seq), imu_values(seq))).collect();
        Section::Rows(self.rows(IMU, &imu_schema(), seqs.start, &rows))
    }

    /// Frame `seq` (4 a second) and its blob.
    pub(crate) fn frame(&self, seq: u64, bytes: &[u8]) -> (Section, Record) {
        let (row, blob) = self.frame_of(seq, bytes, 640);
        (row, blob)
    }

    pub(crate) fn frame_of(&self, seq: u64, bytes: &[u8], width: i64) -> (Section, Record) {
        let reference = BlobRef::to(bytes);
        let values = vec![
            reference.to_value(),
            Value::Utf8("image/jpeg".to_owned()),
            Value::I64(width),
            Value::I64(480),
            Value::Utf8(format!("{seq:04}.jpg")),
        ];
        let row = self.rows(CAMERA, &builtin::image(), seq, &[(frame_at(seq), values)]);
        let object =
            BlobObject { stream: CAMERA, seq: Seq(seq), reference, mime: "image/jpeg", bytes: bytes.into() }
                .to_bytes();
        let blob = Record::Blob(Arc::new(LandedBlob {
            position: NOWHERE,
            end: NOWHERE,
            device: self.path.clone(),
            epoch: self.epoch,
            received: UtcNanos(START + frame_at(seq) + 30 * NS_PER_MS),
            object: object_id(&object),
            key_serial: "01".to_owned(),
            part: Arc::from(&b"part"[..]),
            bytes: object.into(),
        }));
        (Section::Rows(row), blob)
    }

    /// Row `seq` of `hw/clock`: an exchange that took 2 × 5 ms.
    pub(crate) fn exchange(&self, seq: u64, at: i64) -> Section {
        self.exchange_of(seq, at, Grade::Guaranteed)
    }

    /// The same with a collector whose clock is worth that.
    pub(crate) fn exchange_of(&self, seq: u64, at: i64, grade: Grade) -> Section {
        let row = [
            ("row_kind", Value::I64(2)),
            ("source", Value::I64(4)),
            ("grade", Value::I64(grade.code().into())),
            ("t1", Value::I64(at)),
            ("t2", Value::I64(START + at + 5 * NS_PER_MS)),
            ("t3", Value::I64(START + at + 6 * NS_PER_MS)),
            ("t4", Value::I64(at + 11 * NS_PER_MS)),
            ("e_c", Value::I64(1_000_000)),
        ];
        self.clock_row(seq, at + 11 * NS_PER_MS, &row)
    }

    /// Row `seq` of `hw/clock` with these fields; the rest is unknown.
    pub(crate) fn clock_row(&self, seq: u64, stamp: i64, fields: &[(&str, Value)]) -> Section {
        let names = builtin::clock();
        let mut values = vec![Value::Null; names.fields.len()];
        for (name, value) in fields {
            let place = names.fields.iter().position(|f| f.name.as_str() == *name).unwrap();
            values[place] = value.clone();
        }
        Section::Rows(self.rows(CLOCK, &names, seq, &[(stamp, values)]))
    }

    pub(crate) fn heartbeat(&self, stream: StreamId, next_seq: u64, promise_b: i64) -> Section {
        Section::Heartbeat(Heartbeat {
            stream: StreamRef::Id(stream),
            boot_ordinal: self.boot,
            next_seq: Seq(next_seq),
            promise_b: BootNanos(promise_b),
        })
    }
}

pub(crate) fn imu_at(seq: u64) -> i64 {
    10 * NS_PER_S + i64::try_from(seq).unwrap() * 10 * NS_PER_MS
}

pub(crate) fn frame_at(seq: u64) -> i64 {
    10 * NS_PER_S + i64::try_from(seq).unwrap() * 250 * NS_PER_MS + 3 * NS_PER_MS
}

pub(crate) fn imu_values(seq: u64) -> Vec<Value> {
    let n = i64::try_from(seq).unwrap();
    let x = if seq.is_multiple_of(17) { f32::NAN } else { (n % 37) as f32 * 0.25 - 3.0 };
    let note = if seq.is_multiple_of(5) { Value::Utf8(format!("note {seq}")) } else { Value::Null };
    vec![Value::I64(n), Value::F32(x), Value::I64(n % 2), note]
}

/// Ten seconds of one gateway: 1000 IMU rows and 40 frames.
pub(crate) fn ten_seconds(gateway: &Gateway) -> Vec<Record> {
    seconds(gateway, 10)
}

/// Each second 100 IMU rows and 4 frames; 12 exchanges, a hello and heartbeats.
pub(crate) fn seconds(gateway: &Gateway, n: u64) -> Vec<Record> {
    seconds_of(gateway, n, |seq| (picture(seq), 640))
}

/// The same with other pictures, and their width.
pub(crate) fn seconds_of(gateway: &Gateway, n: u64, picture: impl Fn(u64) -> (Vec<u8>, i64)) -> Vec<Record> {
    let mut records = gateway.declarations();
    records.push(gateway.hello());
    for n in 0..12 {
        records.push(gateway.batch(&[gateway.exchange(n, i64::try_from(n).unwrap() * NS_PER_S)], imu_at(n)));
    }
    for second in 0..n {
        let sent = imu_at(second * 100 + 100);
        for tenth in 0..5 {
            let first = second * 100 + tenth * 20;
            records.push(gateway.batch(&[gateway.imu(first..first + 20)], sent));
        }
        for quarter in 0..4 {
            let seq = second * 4 + quarter;
            let (bytes, width) = picture(seq);
            let (row, blob) = gateway.frame_of(seq, &bytes, width);
            records.push(gateway.batch(&[row], sent));
            records.push(blob);
        }
    }
    let (imu, frames) = (n * 100, n * 4);
    let last = [
        gateway.heartbeat(IMU, imu, imu_at(imu + 10)),
        gateway.heartbeat(CAMERA, frames, frame_at(frames + 1)),
    ];
    records.push(gateway.batch(&last, imu_at(imu)));
    records
}

/// The header of a JPEG of 640 by 480, and bytes of its own.
pub(crate) fn picture(seq: u64) -> Vec<u8> {
    let header = b"\xff\xd8\xff\xc0\x00\x0b\x08\x01\xe0\x02\x80\x01\x01\x11\x00".iter().copied();
    header.chain((0..585_u64).map(|i| u8::try_from((i * 7 + seq * 13) % 251).unwrap())).collect()
}

/// A landing log in memory, of one incarnation per entry.
#[derive(Clone, Default)]
pub(crate) struct MemoryLog {
    pub(crate) incarnations: Vec<Vec<Record>>,
}

impl MemoryLog {
    pub(crate) fn of(records: &[Record]) -> Self {
        Self { incarnations: vec![records.to_vec()] }
    }

    fn at(&self, incarnation: usize, place: usize) -> Landed {
        let id = IncarnationId([u8::try_from(incarnation + 1).unwrap(); 16]);
        let at = |n: usize| LandingPosition {
            incarnation: id,
            segment: n as u64 / 100,
            offset: 64 + (n as u64 % 100) * 100,
        };
        match &self.incarnations[incarnation][place] {
            Record::Message(message) => Landed::Message(LandedMessage {
                position: at(place),
                end: at(place + 1),
                ..(**message).clone()
            }),
            Record::Blob(blob) => {
                Landed::Blob(LandedBlob { position: at(place), end: at(place + 1), ..(**blob).clone() })
            }
        }
    }
}

impl LandingSource for MemoryLog {
    fn next_after(&mut self, cursors: &LandingCursors, limit_bytes: usize) -> Result<Vec<Landed>, LandError> {
        let mut out = Vec::new();
        let mut bytes = 0;
        for (incarnation, records) in self.incarnations.iter().enumerate() {
            for place in 0..records.len() {
                let landed = self.at(incarnation, place);
                let from = cursors.get(&landed.position().incarnation);
                if from.is_some_and(|from| landed.position() < *from) {
                    continue;
                }
                bytes += landed.bytes();
                out.push(landed);
                if bytes >= limit_bytes {
                    return Ok(out);
                }
            }
        }
        Ok(out)
    }

    fn watch(&self) -> Option<LandedWatch> {
        None
    }
}

pub(crate) fn settings() -> IngestSettings {
    let mut settings = IngestSettings::new("acme".parse().unwrap(), "hq", RefName::main());
    settings.clock_half_ns = 1_000_000;
    settings.clock_grade = Grade::Guaranteed;
    settings
}

pub(crate) fn clock() -> SimClock {
    SimClock::new(BootNanos(5 * NS_PER_S), UtcNanos(START + 60 * NS_PER_S))
}

/// The recipe `drive`: these fields of the camera's rows, each with the number of the motion sample before it.
pub(crate) fn drive(select: &[&str]) -> Recipe {
    let text = format!(
        r#"
headwater_recipe = 1
name = "drive"
[spine]
stream = "camera/front"
select = {select:?}
[[column]]
name = "motion"
stream = "imu"
select = ["n"]
method = "previous"
tolerance = "50ms"
"#
    );
    Recipe::parse(&text).unwrap()
}

/// Reads the log to its end, commits, aligns and stops: one life of a collector. Gives what the receiver was told.
pub(crate) async fn live(lake: &Lake, log: &MemoryLog, recipes: &[Recipe]) -> CommitMark {
    live_as(lake, log, recipes, settings()).await
}

/// The same with settings of its own.
pub(crate) async fn live_as(
    lake: &Lake,
    log: &MemoryLog,
    recipes: &[Recipe],
    settings: IngestSettings,
) -> CommitMark {
    let (marks, told) = watch::channel(CommitMark::default());
    let cancel = CancellationToken::new();
    cancel.cancel();
    let deps = IngestDeps {
        lake: lake.clone(),
        source: log.clone(),
        registry: Registry::new(),
        recipes: recipes.to_vec(),
        settings,
        quality: None,
        clock: clock(),
        cancel,
        marks,
    };
    ingest::run(deps).await.unwrap();
    told.borrow().clone()
}

pub(crate) async fn head(lake: &Lake) -> Option<CommitId> {
    lake.head(&RefName::main()).await.unwrap().and_then(|head| head.commit)
}

/// Every row of a table at the head, by column name; none if there is no such table.
pub(crate) async fn table(lake: &Lake, name: &str) -> Vec<BTreeMap<String, Cell>> {
    table_at(lake, "main", name).await
}

/// The same at the head of a branch.
pub(crate) async fn table_at(lake: &Lake, branch: &str, name: &str) -> Vec<BTreeMap<String, Cell>> {
    let head = lake.head(&RefName::new(branch).unwrap()).await.unwrap().and_then(|head| head.commit);
    let (Some(head), name) = (head, TableName::new(name).unwrap()) else { return Vec::new() };
    if !lake.tables(&head).await.unwrap().contains_key(&name) {
        return Vec::new();
    }
    let mut batches = lake.scan(&head, &name, ScanOptions::default()).await.unwrap();
    let mut out = Vec::new();
    while let Some(batch) = batches.try_next().await.unwrap() {
        let rows = ScannedRows(&batch);
        let schema = batch.schema();
        for row in 0..rows.len() {
            let mut cells = BTreeMap::new();
            for field in schema.fields() {
                if let DataType::Struct(members) = field.data_type() {
                    for member in members {
                        let cell = rows.member(field.name(), member.name(), row);
                        cells.insert(format!("{}.{}", field.name(), member.name()), cell);
                    }
                } else {
                    cells.insert(field.name().clone(), rows.cell(field.name(), row));
                }
            }
            out.push(cells);
        }
    }
    out
}

pub(crate) fn long(row: &BTreeMap<String, Cell>, name: &str) -> i64 {
    match row.get(name) {
        Some(Cell::Long(n)) => *n,
        other => panic!("{name} is {other:?}"),
    }
}

pub(crate) fn text(row: &BTreeMap<String, Cell>, name: &str) -> String {
    match row.get(name) {
        Some(Cell::Text(text)) => text.clone(),
        other => panic!("{name} is {other:?}"),
    }
}

/// The same log in the hands of a test and of the task that reads it.
#[derive(Clone)]
pub(crate) struct SharedLog {
    pub(crate) log: Arc<Mutex<MemoryLog>>,
    pub(crate) watch: LandedWatch,
}

impl LandingSource for SharedLog {
    fn next_after(&mut self, cursors: &LandingCursors, limit_bytes: usize) -> Result<Vec<Landed>, LandError> {
        self.log.lock().unwrap().next_after(cursors, limit_bytes)
    }

    fn watch(&self) -> Option<LandedWatch> {
        Some(self.watch.clone())
    }
}

/// A collector that runs: its log grows while it lives.
pub(crate) struct Running {
    log: SharedLog,
    landed: watch::Sender<LandingPosition>,
    pub(crate) marks: watch::Receiver<CommitMark>,
    pub(crate) cancel: CancellationToken,
    pub(crate) clock: SimClock,
}

impl Running {
    pub(crate) fn start(
        lake: &Lake,
        recipes: Vec<Recipe>,
    ) -> (Self, impl Future<Output = Result<(), IngestError>> + use<>) {
        Self::start_as(lake, recipes, settings())
    }

    pub(crate) fn start_as(
        lake: &Lake,
        recipes: Vec<Recipe>,
        settings: IngestSettings,
    ) -> (Self, impl Future<Output = Result<(), IngestError>> + use<>) {
        let nowhere = LandingPosition { incarnation: IncarnationId([1; 16]), segment: 0, offset: 64 };
        let (landed, watch) = watch::channel(nowhere);
        let log = SharedLog { log: Arc::default(), watch };
        let (told, marks) = watch::channel(CommitMark::default());
        let (cancel, clock) = (CancellationToken::new(), clock());
        let deps = IngestDeps {
            lake: lake.clone(),
            source: log.clone(),
            registry: Registry::new(),
            recipes,
            settings,
            quality: None,
            clock: clock.clone(),
            cancel: cancel.clone(),
            marks: told,
        };
        (Self { log, landed, marks, cancel, clock }, ingest::run(deps))
    }

    pub(crate) fn land(&self, records: &[Record]) {
        self.log.log.lock().unwrap().incarnations.resize_with(1, Vec::new);
        self.log.log.lock().unwrap().incarnations[0].extend_from_slice(records);
        self.landed.send_modify(|at| at.offset += 1);
    }
    /// Lets seconds pass.
    pub(crate) async fn clock_forward(&self, seconds: u64) {
        self.clock.sleep_until(self.clock.boot().plus_ms(seconds * 1_000)).await;
    }
}
