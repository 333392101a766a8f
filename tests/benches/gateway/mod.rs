//! Bytes a day on the link of three reference gateways, by the agent's own batcher, beside a bare MQTT client.
//!
//! Recordings are played at each gateway's rates and cut into the slabs that the spool would hold. What is
//! counted are MQTT packets with their payloads, both ways; TCP and TLS come on top of either side alike.
//! What it costs at home, on the card and in CPU, is played through the agent's own stages ([`card`]).
//! Stamps are a regular grid with the jitter of a quiet host, 50 µs: a grid alone would be nearly free.

mod card;
mod plan;
mod play;

pub(crate) use card::dispatch;

use crate::figure::Sheet;
use crate::wire::rivals::json_lines;
use anyhow::{Context, Result};
use headwater_agent::batch::{BatchSettings, Batcher, Sealed};
use headwater_core::batch::{Announced, Column, Effort, Rows, StreamRef, Values};
use headwater_core::id::{BootOrdinal, Epoch, IncarnationId, Seq, StreamId};
use headwater_core::ports::{Cursor, Slab, SpooledSlab};
use headwater_core::sample::{Blob, BlobRef, Value};
use headwater_core::schema::{Fingerprint, builtin};
use headwater_core::time::{BootNanos, ClockDomain, StampKind};
use headwater_core::wire::object::PART_HEADER_BYTES;
use headwater_core::wire::{Ack, AckStream, ENVELOPE_BYTES, MESSAGE_BYTES_SENT_MAX};
use plan::{Gateway, Pictures, Played, gateways, stamp_us};
use serde_json::json;
use std::path::Path;

const NAME: &str = "gateway";
/// Seconds played.
const SECONDS: usize = 600;
/// Around a payload: packet type and length, topic such as `hw/1/in/p/acme/gw-1/1`, packet id, properties.
const MQTT_BYTES: usize = 4 + 2 + 22 + 2 + 1;
/// PUBACK.
const PUBACK_BYTES: usize = 4;
/// Acks of the collector a batch: durable, then committed.
const ACKS: usize = 2;

pub(crate) fn measure(data: &Path, camera: &Path, dir: Option<&Path>, sheet: &mut Sheet) -> Result<()> {
    let pictures = Pictures::read(camera, true)?;
    for gateway in gateways(data)? {
        for (linger_s, effort) in [(1, Effort::Wire), (10, Effort::Metered), (60, Effort::Metered)] {
            one(&gateway, linger_s, effort, &pictures, sheet)?;
        }
    }
    card::measure(data, camera, dir, sheet)
}

/// Rows `rows` of a stream, its recording played in a circle.
fn rows(played: &Played, id: u16, rows: std::ops::Range<usize>) -> Rows {
    let n = rows.len();
    let t = rows.clone().map(|row| stamp_us(row, played.rows_per_s)).collect();
    let fields = played.fields.iter().map(|field| circle(field, rows.clone())).collect();
    Rows {
        stream: StreamRef::Id(StreamId(id)),
        fingerprint: Fingerprint(u32::from(id) * 77_777),
        boot_ordinal: BootOrdinal(3),
        first_seq: Seq(1_000_000 + rows.start as u64),
        time_exp: 3,
        stamp_kind: StampKind::Arrival,
        domain: ClockDomain::BOOT,
        t,
        lat_lo: vec![0; n],
        lat_hi: vec![20_000_000; n],
        fields,
    }
}

fn circle(field: &Column, rows: std::ops::Range<usize>) -> Column {
    fn pick<T: Clone>(values: &[T], rows: std::ops::Range<usize>) -> Vec<T> {
        rows.filter_map(|row| values.get(row % values.len().max(1)).cloned()).collect()
    }
    let values = match &field.values {
        Values::I64(v) => Values::I64(pick(v, rows)),
        Values::F64(v) => Values::F64(pick(v, rows)),
        Values::F32(v) => Values::F32(pick(v, rows)),
        Values::Bytes(v) => Values::Bytes(pick(v, rows)),
        Values::Utf8(v) => Values::Utf8(pick(v, rows)),
    };
    Column { values, valid: None }
}

fn picture_row(id: u16, n: usize, blob: &Blob) -> Rows {
    let mut fields: Vec<Column> =
        builtin::image().fields.iter().map(|field| Column::new(field.logical.physical())).collect();
    let values = [
        BlobRef::to(&blob.bytes).to_value(),
        Value::Utf8(blob.mime.clone()),
        Value::I64(854),
        Value::I64(480),
        Value::Utf8(format!("frame-{n:06}.jpg")),
    ];
    for (column, value) in fields.iter_mut().zip(&values) {
        let _fits = column.push(value);
    }
    let stamp = Played { name: "camera", names: Vec::new(), fields: Vec::new(), rows_per_s: 5.0 };
    Rows { fields, fingerprint: Fingerprint(5), ..rows(&stamp, id, n..n + 1) }
}

/// Bytes on the link.
#[derive(Debug, Clone, Copy, Default)]
struct Bytes {
    rows: usize,
    pictures: usize,
    down: usize,
    messages: usize,
}

impl Bytes {
    /// Several messages may carry one object.
    fn sealed(&mut self, sealed: &Sealed, streams: usize) {
        match sealed {
            Sealed::Batch(batch) => {
                self.rows += batch.body.len() + ENVELOPE_BYTES + MQTT_BYTES;
                self.down += PUBACK_BYTES + ACKS * ack_bytes(streams);
                self.messages += 1;
            }
            Sealed::Blob(blob) => {
                let room = MESSAGE_BYTES_SENT_MAX - ENVELOPE_BYTES - PART_HEADER_BYTES;
                let parts = blob.object.len().div_ceil(room);
                let around = ENVELOPE_BYTES + PART_HEADER_BYTES + MQTT_BYTES;
                self.pictures += blob.object.len() + parts * around;
                self.down += parts * PUBACK_BYTES;
                self.messages += parts;
            }
            Sealed::Withheld(_) => {}
        }
    }

    fn mb_per_day(bytes: usize) -> f64 {
        bytes as f64 * 86_400.0 / SECONDS as f64 / 1e6
    }
}

/// An ack with the watermarks of every stream and what goes with it.
fn ack_bytes(streams: usize) -> usize {
    let mut ack = Ack::new(IncarnationId([7; 16]), 100_000);
    ack.streams = (1..=streams)
        .map(|id| AckStream {
            id: StreamId(u16::try_from(id).unwrap_or(u16::MAX)),
            durable_upto: Seq(1_000_000),
            committed_upto: Seq(1_000_000),
            durable: Vec::new(),
            committed: Vec::new(),
        })
        .collect();
    ack.credit = Some(1 << 30);
    ack.to_body().len() + ENVELOPE_BYTES + MQTT_BYTES
}

fn one(
    gateway: &Gateway,
    linger_s: usize,
    effort: Effort,
    pictures: &Pictures,
    sheet: &mut Sheet,
) -> Result<()> {
    let settings = BatchSettings {
        linger_ms: linger_s as u64 * 1_000,
        message_bytes_max: MESSAGE_BYTES_SENT_MAX,
        effort,
    };
    let lepton = effort == Effort::Metered;
    let mut batchers = [Batcher::new(settings), Batcher::new(settings)];
    batchers.iter_mut().for_each(|batcher| batcher.announce(Announced::OURS));
    let mut ours = Bytes::default();
    let streams = gateway.streams.len() + usize::from(gateway.pictures_per_s > 0);
    let mut done = vec![0_usize; gateway.streams.len()];
    let at = |second: usize| BootNanos(0).plus_ms(second as u64 * 1_000);
    for second in 0..SECONDS {
        let [telemetry, media] = &mut batchers;
        let mut sealed = Vec::new();
        for (id, (played, done)) in (1..).zip(gateway.streams.iter().zip(&mut done)) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "rows of ten minutes"
            )]
            let upto = ((second + 1) as f64 * played.rows_per_s) as usize;
            if upto > *done {
                let slab = Slab { rows: rows(played, id, *done..upto), blob: None, arrived: None };
                *done = upto;
                sealed.append(&mut telemetry.push(at(second), spooled(slab)));
            }
        }
        for n in 0..gateway.pictures_per_s {
            let n = second * gateway.pictures_per_s + n;
            let (blob, packed) = pictures.at(n).context("no pictures")?;
            let id = u16::try_from(streams).unwrap_or(u16::MAX);
            let slab = Slab { rows: picture_row(id, n, blob), blob: Some(blob.clone()), arrived: None };
            let packed = packed.clone().filter(|_| lepton);
            sealed.append(&mut media.push_packed(at(second), spooled(slab), packed));
        }
        sealed.extend(telemetry.poll(at(second + 1)));
        sealed.extend(media.poll(at(second + 1)));
        sealed.iter().for_each(|sealed| ours.sealed(sealed, streams));
    }
    for batcher in &mut batchers {
        batcher.flush().iter().for_each(|sealed| ours.sealed(sealed, streams));
    }
    let bare = bare(gateway, linger_s, pictures)?;
    let case = json!({"gateway": gateway.name, "linger_s": linger_s, "effort": format!("{effort:?}").to_lowercase()});
    let day = Bytes::mb_per_day;
    let (up, bare_up) = (ours.rows + ours.pictures, bare.rows + bare.pictures);
    let beside = json!({"json_lz4_raw_jpeg": day(bare_up), "ratio": bare_up as f64 / up as f64});
    sheet.add(NAME, case.clone(), "up", day(up), "MB/day", beside);
    let beside = json!({"json_lz4": day(bare.rows), "ratio": bare.rows as f64 / ours.rows as f64});
    sheet.add(NAME, case.clone(), "up, numbers only", day(ours.rows), "MB/day", beside);
    if gateway.pictures_per_s > 0 {
        let beside = json!({"raw_jpeg": day(bare.pictures), "lepton": lepton});
        sheet.add(NAME, case.clone(), "up, pictures only", day(ours.pictures), "MB/day", beside);
    }
    let beside = json!({"bare": day(bare.down), "messages_per_day": ours.messages * 86_400 / SECONDS});
    sheet.add(NAME, case, "down (acks)", day(ours.down), "MB/day", beside);
    Ok(())
}

fn spooled(slab: Slab) -> SpooledSlab {
    SpooledSlab { epoch: Epoch(1), slab, older_schema: None, next: Cursor::default() }
}

/// The same captures by a bare client: JSON lines of each stream, collected as long and packed by lz4; pictures
/// as they are.
fn bare(gateway: &Gateway, linger_s: usize, pictures: &Pictures) -> Result<Bytes> {
    let mut bytes = Bytes::default();
    for played in &gateway.streams {
        let mut done = 0;
        for end in (linger_s..=SECONDS).step_by(linger_s) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "rows of ten minutes"
            )]
            let upto = (end as f64 * played.rows_per_s) as usize;
            if upto == done {
                continue;
            }
            let lines = json_lines(&rows(played, 1, done..upto), &played.names);
            done = upto;
            bytes.rows += lz4_flex::block::compress_prepend_size(lines.as_bytes()).len() + MQTT_BYTES;
            bytes.rows += played.name.len();
            bytes.down += PUBACK_BYTES;
            bytes.messages += 1;
        }
    }
    for n in 0..SECONDS * gateway.pictures_per_s {
        let (blob, _) = pictures.at(n).context("no pictures")?;
        bytes.pictures += blob.bytes.len() + MQTT_BYTES;
        bytes.down += PUBACK_BYTES;
        bytes.messages += 1;
    }
    Ok(bytes)
}
