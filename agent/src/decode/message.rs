//! Messages: envelope and body of any kind; several may follow each other.

use super::Known;
use super::body::{self, with_sources};
use super::item::{Item, Values};
use headwater_core::wire::object::{BlobObject, Part};
use headwater_core::wire::{
    Ack, Capabilities, Declaration, ENVELOPE_BYTES, Envelope, EnvelopeError, Hello,
    MESSAGE_BYTES_ACCEPTED_MAX, MessageKind, WatermarkRanges,
};
use serde_json::Value;

pub(super) fn tell(bytes: &[u8], values: Values, known: &mut Known) -> Vec<Item> {
    let mut items = Vec::new();
    let mut at = 0_usize;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let len = message_len(rest).unwrap_or(rest.len());
        let (message, _) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        items.push(message_item(at, message, values, known));
        at = at.saturating_add(message.len());
    }
    items
}

/// Length of the message at the start, by its header; `None` if there is no header or it says too much.
fn message_len(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..20).filter(|header| header.starts_with(b"HW"))?;
    let body = u32::from_le_bytes(*header.last_chunk::<4>()?);
    let len = usize::try_from(body).ok()?.checked_add(ENVELOPE_BYTES)?;
    (len <= MESSAGE_BYTES_ACCEPTED_MAX).then_some(len)
}

fn message_item(at: usize, message: &[u8], values: Values, known: &mut Known) -> Item {
    let item = Item::new("message").fact("at", at).fact("bytes", message.len());
    match Envelope::parse(message) {
        Ok(envelope) => envelope_item(item, &envelope, values, known),
        Err(EnvelopeError::BadCrc) => {
            // What it would be if only the checksum were wrong; the damage may be anywhere.
            let mended = mended(message);
            let item = match Envelope::parse(&mended) {
                Ok(envelope) => envelope_item(item, &envelope, values, known),
                Err(error) => claimed(item, message).damaged(error),
            };
            item.damaged(EnvelopeError::BadCrc)
        }
        Err(error) => claimed(item, message).damaged(error),
    }
}

/// What the header of an unreadable message says; nothing vouches for it.
fn claimed(item: Item, message: &[u8]) -> Item {
    match message {
        [b'H', b'W', major, kind, _, _, _, _, epoch @ ..] => match epoch.first_chunk::<8>() {
            Some(epoch) => item
                .fact("claims_major", *major)
                .fact("claims_kind", *kind)
                .fact("claims_epoch", format!("{:016x}", u64::from_le_bytes(*epoch))),
            None => item,
        },
        _ => item,
    }
}

fn mended(message: &[u8]) -> Vec<u8> {
    let mut mended = message.to_vec();
    mended.truncate(message.len().saturating_sub(4));
    let crc = crc32c::crc32c(&mended);
    mended.extend_from_slice(&crc.to_le_bytes());
    mended
}

fn envelope_item(item: Item, envelope: &Envelope<'_>, values: Values, known: &mut Known) -> Item {
    let item = item
        .fact("kind", envelope.kind.as_str())
        .told("epoch", envelope.epoch)
        .fact("device_tag", format!("{:04x}", envelope.device_tag))
        .fact("sent_boot", envelope.sent.boot_ordinal)
        .fact("sent_ns", envelope.sent.ns)
        .told("key", envelope.key_id)
        .fact("signature", "not checked");
    let body = envelope.body;
    let inner = match envelope.kind {
        MessageKind::Batch => body::tell("batch", body, values, known),
        MessageKind::Declaration => declaration(body, known),
        MessageKind::Hello => hello(body),
        MessageKind::Ack => ack(body, known),
        MessageKind::Part => part(body),
        MessageKind::Status => Item::new("status").fact("text", String::from_utf8_lossy(body)),
        MessageKind::Probe if body.is_empty() => return item,
        MessageKind::Probe => Item::new("probe").damaged("a probe has no body"),
    };
    item.holds([inner])
}

fn declaration(body: &[u8], known: &mut Known) -> Item {
    match Declaration::from_body(body) {
        Ok(declaration) => {
            let Declaration { stream, name, schema } = declaration;
            let item = schema_item("declaration", &schema).fact("stream", stream.0).told("name", &name);
            known.declare(stream, name.to_string(), schema);
            item
        }
        Err(error) => Item::new("declaration").fact("bytes", body.len()).damaged(with_sources(&error)),
    }
}

/// A schema: its fields are items.
pub(super) fn schema_item(what: &str, schema: &headwater_core::schema::Schema) -> Item {
    Item::new(what)
        .told("schema", schema.fingerprint())
        .told("kind", &schema.kind)
        .fact("modality", schema.modality.as_str())
        .fact("time_exp", schema.time_exp)
        .holds(schema.fields.iter().map(|field| {
            Item::new(field.name.to_string())
                .fact("type", format!("{:?}", field.logical))
                .fact("unit", field.unit.as_str())
                .fact("nullable", field.nullable)
        }))
}

fn capabilities(capabilities: &Capabilities) -> Item {
    let bits = |bitmap: u32| -> Vec<Value> {
        (0..32_u32).filter(|bit| bitmap >> bit & 1 == 1).map(Value::from).collect()
    };
    Item::new("capabilities")
        .fact("major", capabilities.major)
        .fact("codecs", bits(capabilities.codecs))
        .fact("packings", bits(capabilities.packings.into()))
        .fact("blob_codecs", bits(capabilities.blob_codecs.into()))
        .fact("software", capabilities.software.as_str())
}

fn ranges(ranges: &WatermarkRanges) -> Vec<Value> {
    ranges.iter().map(|range| Value::from(format!("{}..{}", range.start, range.end))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn certificates(chain: &[Vec<u8>]) -> Vec<Value> {
    chain.iter().map(|certificate| Value::from(certificate.len())).collect()
}

fn hello(body: &[u8]) -> Item {
    let item = Item::new("hello");
    match Hello::from_body(body) {
        Ok(hello) => item
            .fact("boot", hello.boot_ordinal.0)
            .told("boot_id", hello.boot_id)
            .fact("message_bytes_max", hello.message_bytes_max)
            .fact("nonce", hex(&hello.nonce))
            .fact("certificate_bytes", certificates(&hello.chain))
            .holds([capabilities(&hello.capabilities)])
            .holds(hello.streams.iter().map(|stream| {
                Item::new("stream")
                    .fact("id", stream.id.0)
                    .fact("next_seq", stream.next_seq.0)
                    .fact("oldest_held", stream.oldest_held.0)
                    .fact("unacked", ranges(&stream.unacked))
            })),
        Err(error) => item.fact("bytes", body.len()).damaged(with_sources(&error)),
    }
}

fn ack(body: &[u8], known: &Known) -> Item {
    let mut item = Item::new("ack");
    let ack = match Ack::from_body(body) {
        Ok(ack) => ack,
        Err(error) => return item.fact("bytes", body.len()).damaged(with_sources(&error)),
    };
    item = item.told("incarnation", ack.incarnation).fact("counter", ack.counter);
    if let Some(nonce) = &ack.nonce {
        item = item.fact("nonce", hex(nonce));
    }
    if let Some(credit) = ack.credit {
        item = item.fact("credit", credit);
    }
    if let Some(wait) = &ack.wait {
        item = item.told("wait", wait.reason.as_str()).fact("wait_ms", wait.for_ms);
    }
    if let Some(commit) = &ack.commit {
        item = item.told("commit", commit);
    }
    if let Some(chain) = &ack.chain {
        item = item.fact("certificate_bytes", certificates(chain));
    }
    if ack.need_hello {
        item = item.fact("need_hello", true);
    }
    let clock = ack.clock.map(|clock| {
        Item::new("clock")
            .fact("t1_boot", clock.t1.boot_ordinal)
            .fact("t1_ns", clock.t1.ns)
            .fact("t2_ns", clock.t2_ns)
            .fact("t3_ns", clock.t3_ns)
            .fact("e_c_ns", clock.e_c_ns)
            .fact("grade", format!("{:?}", clock.grade))
            .fact("source", clock.source_id)
    });
    item.holds(ack.capabilities.as_ref().map(capabilities))
        .holds(ack.streams.iter().map(|stream| {
            Item::new("stream")
                .fact("id", known.stream(stream.id))
                .fact("durable_upto", stream.durable_upto.0)
                .fact("committed_upto", stream.committed_upto.0)
                .fact("durable", ranges(&stream.durable))
                .fact("committed", ranges(&stream.committed))
        }))
        .holds(ack.missing.iter().map(|missing| {
            Item::new("missing")
                .told("object", missing.object)
                .fact("total_len", missing.total_len)
                .fact("ranges", ranges(&missing.ranges))
        }))
        .holds(ack.refused.iter().map(|refused| {
            Item::new("refused")
                .fact("stream", known.stream(refused.stream))
                .fact("seq_first", refused.seq_lo.0)
                .fact("seq_last", refused.seq_hi.0)
                .fact("reason", format!("{:?}", refused.refusal.reason))
                .fact("text", refused.refusal.text.as_str())
        }))
        .holds(clock)
        .holds(ack.need_schema.iter().map(|(stream, fingerprint)| {
            Item::new("need_schema").fact("stream", known.stream(*stream)).told("schema", fingerprint)
        }))
}

fn part(body: &[u8]) -> Item {
    let item = Item::new("part");
    let part = match Part::from_body(body) {
        Ok(part) => part,
        Err(error) => return item.fact("bytes", body.len()).damaged(with_sources(&error)),
    };
    let item = item
        .told("object", part.object)
        .fact("total_len", part.total_len)
        .fact("offset", part.offset)
        .fact("bytes", part.bytes.len());
    if part.offset > 0 || part.bytes.len() as u64 != part.total_len {
        return item;
    }
    let blob = Item::new("blob");
    item.holds([match BlobObject::from_bytes(part.bytes) {
        Ok(object) => blob
            .fact("stream", object.stream.0)
            .fact("seq", object.seq.0)
            .told("sha256", object.reference.sha256)
            .fact("mime", object.mime)
            .fact("bytes", object.bytes.len()),
        Err(error) => blob.damaged(with_sources(&error)),
    }])
}
