//! Each codec by itself: one column of any type it might have, in a section that is otherwise right.

use super::batch::again;
use crate::corpus::columns;
use crate::probe::Probe;
use crate::{INPUT_BYTES_MAX, Target, letters, outcome};
use headwater_core::batch::{Limits, decode_batch, explain};
use headwater_core::wire::primitives::{put_uv, put_zz};

/// Rows are 1 to this many; among the thorough inputs also 16 and 64 times as many.
const ROWS: usize = 4_096;

pub(super) const fn target<const CODEC: u8>(name: &'static str) -> Target {
    Target { name, run: run::<CODEC>, seeds: seeds::<CODEC> }
}

/// Input: type, groups of the key column, u16 rows − 1 (their factor in the top bits), u16 length of the
/// dense payload; then the payload, then the dense one.
fn run<const CODEC: u8>(input: &[u8], probe: &mut Probe) -> u64 {
    let Some(([physical, groups, r0, r1, d0, d1], rest)) = input.split_first_chunk::<6>() else { return 0 };
    let claimed = usize::from(u16::from_le_bytes([*r0, *r1]));
    let factor = match claimed / ROWS {
        14 if probe.thorough => 16,
        15 if probe.thorough => 64,
        _ => 1,
    };
    let rows = (claimed % ROWS + 1) * factor;
    let dense = usize::from(u16::from_le_bytes([*d0, *d1])).min(rest.len());
    let (payload, dense) = rest.split_at(rest.len() - dense);
    let message = message(((physical % 5) << 4) | CODEC, usize::from(*groups), rows, payload, dense);
    let decoded = probe.decode(|| decode_batch(&message, &Limits::V1)).expect("the framing is right");
    let layout = explain(&message, &Limits::V1).expect("the framing is right");
    let codecs: Vec<_> = layout.sections.iter().flat_map(|s| s.columns.last()).map(|c| &c.codecs).collect();
    // Names, since digits tell nothing apart.
    let name = |codec: &u8| char::from(b'a' + codec % 16);
    let codecs: String = codecs.into_iter().flatten().map(name).collect();
    outcome(&[&codecs, &letters(again(&decoded, probe)), &(rows > 1)])
}

/// A stored body of one section of one stream: stamps, a key column of `groups` values, and the column.
fn message(tag: u8, groups: usize, rows: usize, payload: &[u8], dense: &[u8]) -> Vec<u8> {
    let mut section = vec![0, 1, 0x78, 0x56, 0x34, 0x12, 3];
    put_uv(&mut section, 5);
    put_uv(&mut section, rows as u64);
    section.extend_from_slice(&[3, 0, 0]);
    let keyed = tag & 0x0f == 9;
    put_uv(&mut section, if keyed { 5 } else { 4 });
    for stamp in [7_000, 0, 20] {
        section.push(0);
        put_zz(&mut section, stamp);
    }
    if keyed {
        section.push(1);
        (0..rows).for_each(|row| put_zz(&mut section, i64::try_from(row % groups.max(1)).unwrap_or(0)));
    }
    section.push(tag);
    section.extend_from_slice(payload);
    let mut small = vec![1];
    put_uv(&mut small, section.len() as u64);
    put_uv(&mut small, dense.len() as u64);
    small.extend_from_slice(&section);
    let mut message = vec![0];
    put_uv(&mut message, small.len() as u64);
    message.extend_from_slice(&small);
    message.extend_from_slice(dense);
    message
}

fn seeds<const CODEC: u8>() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (layout, rows, payload, dense) in columns() {
        let (Some(codec), Ok(rows), Ok(n)) =
            (layout.codecs.first(), u16::try_from((*rows).min(ROWS) - 1), u16::try_from(dense.len()))
        else {
            continue;
        };
        if *codec == CODEC && payload.len() + dense.len() < INPUT_BYTES_MAX / 8 {
            let mut seed = vec![layout.physical, 4];
            seed.extend_from_slice(&rows.to_le_bytes());
            seed.extend_from_slice(&n.to_le_bytes());
            seed.extend_from_slice(payload);
            seed.extend_from_slice(dense);
            all.push(seed);
        }
    }
    assert!(!all.is_empty(), "no golden column is written by codec {CODEC}");
    all
}
