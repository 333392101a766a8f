//! `headwater-agent decode`: whatever a person points it at, it tells something, in both forms.

use crate::corpus::{batches, golden};
use crate::outcome;
use crate::probe::Probe;
use headwater_agent::decode::{Item, Values, decode};

/// What a text may be as long as: what is told grows with what is decoded, not with the input alone.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// First byte: how many values are told.
pub(super) fn run(input: &[u8], _: &mut Probe) -> u64 {
    let Some((values, bytes)) = input.split_first() else { return 0 };
    let items = decode(bytes, Values::First(usize::from(values % 4)));
    assert!(!items.is_empty(), "nothing is told of {} bytes", bytes.len());
    let text: String = items.iter().map(Item::to_string).collect();
    assert!(text.len() <= TEXT_BYTES_MAX);
    let control = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(control, None, "foreign text reaches the terminal");
    let json = serde_json::to_string(&items).expect("items are JSON");
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    let shape: Vec<&str> =
        text.lines().take(6).map(|line| line.split(':').next().unwrap_or("").trim()).collect();
    outcome(&[&shape, &items.iter().any(Item::is_damaged)])
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let with = |bytes: &[u8]| [&[3], bytes].concat();
    let mut all: Vec<Vec<u8>> =
        batches().iter().filter(|body| body.len() < 600).map(|body| with(body)).collect();
    all.extend(golden("wire/v1", "hw").iter().map(|message| with(message)));
    all.push(with(&golden("wire/v1", "hw").concat()));
    all.extend(golden("segment/v1", "seg").iter().map(|segment| with(segment)));
    all
}
