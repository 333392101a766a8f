//! `decode`: any file of ours as text, so that a person sees what travelled and what was kept.
//!
//! ```text
//! bytes ─► form (segment, messages, body) ─► items, one a line of JSON or a paragraph of text
//! ```
//! All in memory and without a clock. Damage is an item's own line and never the end of the output.

mod body;
mod item;
mod message;
mod segment;

pub use item::{Item, Values};

use crate::spool::frame::PAYLOAD_BYTES_MAX;
use headwater_core::id::StreamId;
use headwater_core::schema::{Fingerprint, Schema, builtin};
use std::collections::BTreeMap;
use std::io::{self, Read};

/// Most bytes that are read: the largest slab has a segment of its own, whose tables, schemas and footer
/// are below another payload's size.
pub const INPUT_BYTES_MAX: u64 = 2 * PAYLOAD_BYTES_MAX as u64;

/// Reads all of `input`, or says that it is too long.
///
/// # Errors
/// What the system says, and `FileTooLarge` above [`INPUT_BYTES_MAX`].
pub fn read_input(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("input is longer than {INPUT_BYTES_MAX} bytes, and no file of ours is"),
        ));
    }
    Ok(bytes)
}

/// What `bytes` hold, whatever they are. Of each column at most as many values as `values` says are told.
#[must_use]
pub fn decode(bytes: &[u8], values: Values) -> Vec<Item> {
    let mut known = Known::new();
    match bytes {
        [b'H', b'W', b'S', b'E', b'G', b'M', b'N', b'T', ..] => segment::tell(bytes, values, &mut known),
        [b'H', b'W', ..] => message::tell(bytes, values, &mut known),
        _ => vec![body::tell("body", bytes, values, &known)],
    }
}

/// Declarations seen so far in the input, and the built-in schemas.
#[derive(Debug)]
pub(crate) struct Known {
    names: BTreeMap<StreamId, String>,
    schemas: BTreeMap<u32, Schema>,
}

impl Known {
    fn new() -> Self {
        let builtin = [builtin::clock(), builtin::gaps(), builtin::gps_fix(), builtin::image()];
        let schemas = builtin.into_iter().map(|schema| (schema.fingerprint().0, schema)).collect();
        Self { names: BTreeMap::new(), schemas }
    }

    fn declare(&mut self, stream: StreamId, name: String, schema: Schema) {
        self.names.insert(stream, name);
        self.schemas.insert(schema.fingerprint().0, schema);
    }

    fn schema(&self, fingerprint: Fingerprint) -> Option<&Schema> {
        self.schemas.get(&fingerprint.0)
    }

    /// Id, and name if it was declared.
    fn stream(&self, stream: StreamId) -> String {
        match self.names.get(&stream) {
            Some(name) => format!("{} ({name})", stream.0),
            None => stream.0.to_string(),
        }
    }
}
