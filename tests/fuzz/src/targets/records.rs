//! Bodies of hello, ack, declaration and part.

use crate::corpus::bodies;
use crate::outcome;
use crate::probe::Probe;
use headwater_core::schema::Schema;
use headwater_core::wire::object::{BlobObject, Part, object_id};
use headwater_core::wire::{Ack, Declaration, Hello, MessageKind};

pub(super) fn hello(input: &[u8], probe: &mut Probe) -> u64 {
    let read = probe.decode(|| Hello::from_body(input));
    if let Ok(hello) = &read {
        assert_eq!(Hello::from_body(&hello.to_body()).as_ref(), Ok(hello));
    }
    outcome(&[&read.map(|h| (h.streams.len().min(3), h.chain.len().min(3)).min((1, 1)))])
}

pub(super) fn hello_seeds() -> Vec<Vec<u8>> {
    bodies(MessageKind::Hello)
}

pub(super) fn ack(input: &[u8], probe: &mut Probe) -> u64 {
    let read = probe.decode(|| Ack::from_body(input));
    if let Ok(ack) = &read {
        assert_eq!(Ack::from_body(&ack.to_body()).as_ref(), Ok(ack));
    }
    outcome(&[&read.map(|ack| {
        let there =
            [ack.nonce.is_some(), ack.capabilities.is_some(), ack.credit.is_some(), ack.commit.is_some()];
        let lists = [
            ack.streams.is_empty(),
            ack.missing.is_empty(),
            ack.refused.is_empty(),
            ack.need_schema.is_empty(),
        ];
        (there, lists, ack.clock.is_some(), ack.chain.is_some(), ack.need_hello)
    })])
}

pub(super) fn ack_seeds() -> Vec<Vec<u8>> {
    bodies(MessageKind::Ack)
}

/// First byte: 0 a declaration, 1 a canonical schema.
pub(super) fn declaration(input: &[u8], probe: &mut Probe) -> u64 {
    let Some((form, input)) = input.split_first() else { return 0 };
    if form & 1 == 0 {
        let read = probe.decode(|| Declaration::from_body(input));
        if let Ok(declaration) = &read {
            // One form only: what is read is what would be written.
            assert_eq!(declaration.to_body(), input);
        }
        return outcome(&[&read.map(|declaration| declaration.schema.fields.len().min(1))]);
    }
    let read = probe.decode(|| Schema::from_canonical(input));
    if let Ok(schema) = &read {
        assert_eq!(schema.canonical(), input);
        assert_eq!(Schema::from_canonical(&schema.canonical()).as_ref(), Ok(schema));
    }
    outcome(&[
        &read.map(|schema| schema.fields.iter().map(|f| f.logical.physical()).take(3).collect::<Vec<_>>())
    ])
}

pub(super) fn declaration_seeds() -> Vec<Vec<u8>> {
    use headwater_core::schema::builtin;
    let schemas = [builtin::image(), builtin::gaps(), builtin::gps_fix()];
    let schemas = schemas.iter().map(|schema| [&[1], schema.canonical().as_slice()].concat());
    bodies(MessageKind::Declaration)
        .iter()
        .map(|body| [&[0], body.as_slice()].concat())
        .chain(schemas)
        .collect()
}

/// A part, and its bytes as an object.
pub(super) fn part(input: &[u8], probe: &mut Probe) -> u64 {
    let read = probe.decode(|| Part::from_body(input));
    let Ok(part) = read else { return outcome(&[&read]) };
    assert!(part.offset + part.bytes.len() as u64 <= part.total_len && !part.bytes.is_empty());
    assert_eq!(part.to_body(), input);
    let object = probe.decode(|| BlobObject::from_bytes(part.bytes));
    if let Ok(object) = &object {
        let bytes = object.to_bytes();
        assert_eq!(BlobObject::from_bytes(&bytes).as_ref(), Ok(object));
        assert_eq!(object_id(&bytes), object_id(part.bytes), "an object has one form");
    }
    outcome(&[&object.map(|object| object.mime.is_empty())])
}

pub(super) fn part_seeds() -> Vec<Vec<u8>> {
    bodies(MessageKind::Part)
}
