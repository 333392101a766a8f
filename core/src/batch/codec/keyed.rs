//! Codec 9: bytes grouped by an earlier integer column, then byte by byte.
//!
//! Frames of a bus differ by their id and hardly within one: grouped, each byte place of each id is a
//! short series of its own, sent as it is or as differences.

use super::choose::{Choice, Picker};
use super::dict::groups;
use super::{ByteBudget, CodecError, Earlier, KEYED, require};
use crate::wire::primitives::{PrimitiveError, Reader, put_uv};

/// All planes as they are.
const PLAIN_PLANES: u8 = 0;
/// One bitmap a group: its planes of differences.
const MARKED_PLANES: u8 = 1;
/// Planes a bitmap can mark.
const MARKS: usize = 64;
/// Longest value worth taking apart.
const VALUE_BYTES_MAX: usize = 64;

/// Rows by group, groups in order of first appearance.
struct Grouped {
    /// Row numbers, group after group.
    rows: Vec<usize>,
    /// End of each group in `rows`.
    ends: Vec<usize>,
}

impl Grouped {
    fn of(keys: &[i64]) -> Option<Self> {
        let (places, distinct) = groups(keys)?;
        let mut ends = vec![0_usize; distinct.values.len()];
        for place in &places {
            let count = ends.get_mut(usize::from(*place))?;
            *count = count.wrapping_add(1);
        }
        let mut next = Vec::with_capacity(ends.len());
        let mut total = 0_usize;
        for end in &mut ends {
            next.push(total);
            total = total.wrapping_add(*end);
            *end = total;
        }
        let mut rows = vec![0; places.len()];
        for (row, place) in places.iter().enumerate() {
            let slot = next.get_mut(usize::from(*place))?;
            *rows.get_mut(*slot)? = row;
            *slot = slot.wrapping_add(1);
        }
        Some(Self { rows, ends })
    }

    fn iter(&self) -> impl Iterator<Item = &[usize]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let group = self.rows.get(start..*end).unwrap_or_default();
            start = *end;
            group
        })
    }
}

/// Adds codec 9 by the earlier column that makes the most groups of at least two rows each.
pub(super) fn consider(picker: &mut Picker<'_>, choice: &mut Choice, values: &[&[u8]], earlier: Earlier<'_>) {
    if values.iter().any(|x| x.len() > VALUE_BYTES_MAX) {
        return;
    }
    let best = (0..earlier.len())
        .filter_map(|place| Some((place, Grouped::of(earlier.get(place)?)?)))
        .filter(|(_, grouped)| grouped.ends.len() > 1 && grouped.ends.len().saturating_mul(2) <= values.len())
        .max_by_key(|(place, grouped)| (grouped.ends.len(), std::cmp::Reverse(*place)));
    let Some((place, grouped)) = best else { return };
    let mut plain = Vec::new();
    put_uv(&mut plain, place as u64);
    let mut marked = plain.clone();
    plain.push(PLAIN_PLANES);
    marked.push(MARKED_PLANES);
    let mut heads = Vec::new();
    let (mut marks_all, mut planes, mut differing) = (Vec::new(), Vec::new(), Vec::new());
    let (mut plane, mut differences) = (Vec::new(), Vec::new());
    for group in grouped.iter() {
        let lengths = || group.iter().map(|row| values.get(*row).map_or(0, |x| x.len()));
        let first = lengths().next().unwrap_or(0);
        if lengths().all(|length| length == first) {
            put_uv(&mut heads, (first as u64).wrapping_add(1));
        } else {
            heads.push(0);
            lengths().for_each(|length| put_uv(&mut heads, length as u64));
        }
        let mut marks = 0_u64;
        for at in 0..lengths().max().unwrap_or(0) {
            plane.clear();
            plane.extend(group.iter().filter_map(|row| values.get(*row)?.get(at).copied()));
            differences.clear();
            let mut last = 0_u8;
            differences.extend(plane.iter().map(|byte| {
                let difference = byte.wrapping_sub(last);
                last = *byte;
                difference
            }));
            planes.extend_from_slice(&plane);
            if at < MARKS && picker.entropy_bits(&differences) < picker.entropy_bits(&plane) {
                marks |= 1 << at;
                differing.extend_from_slice(&differences);
            } else {
                differing.extend_from_slice(&plane);
            }
        }
        put_uv(&mut marks_all, marks);
    }
    plain.extend_from_slice(&heads);
    plain.extend_from_slice(&planes);
    marked.extend_from_slice(&heads);
    marked.extend_from_slice(&marks_all);
    marked.extend_from_slice(&differing);
    picker.add_small(choice, KEYED, plain);
    picker.add_small(choice, KEYED, marked);
}

/// Reads `rows` values; `earlier` are the columns before this one.
pub(super) fn decode(
    reader: &mut Reader<'_>,
    rows: usize,
    earlier: Earlier<'_>,
    budget: &mut ByteBudget,
) -> Result<Vec<Vec<u8>>, CodecError> {
    let place = reader.len(earlier.len())?;
    let keys = earlier.get(place).filter(|keys| keys.len() == rows);
    let grouped = keys.and_then(Grouped::of).ok_or(PrimitiveError::Range(place as u64))?;
    let form = reader.u8()?;
    if form > MARKED_PLANES {
        return Err(PrimitiveError::Range(form.into()).into());
    }
    let value_max = budget.limits.value_bytes_max;
    let mut values = vec![Vec::new(); rows];
    let mut longest = Vec::with_capacity(grouped.ends.len());
    let mut total = 0_usize;
    for group in grouped.iter() {
        let head = reader.len(value_max.saturating_add(1))?;
        let mut most = head.saturating_sub(1);
        if head == 0 {
            require(reader, group.len(), 1)?;
        }
        for row in group {
            let length = if head == 0 { reader.len(value_max)? } else { most };
            total = total.saturating_add(length);
            most = most.max(length);
            if total > reader.remaining() {
                return Err(CodecError::Rows { claimed: rows, held: reader.remaining() });
            }
            if let Some(value) = values.get_mut(*row) {
                value.reserve_exact(length);
                // The length is remembered as filler and overwritten plane by plane.
                value.resize(length, 0);
            }
        }
        longest.push(most);
    }
    budget.spend(rows, total)?;
    let mut marks = vec![0_u64; longest.len()];
    if form == MARKED_PLANES {
        for mark in &mut marks {
            *mark = reader.uv()?;
        }
    }
    let mut open = Vec::new();
    for ((group, longest), marks) in grouped.iter().zip(longest).zip(marks) {
        open.clear();
        open.extend_from_slice(group);
        for at in 0..longest {
            let differences = at < MARKS && marks >> at & 1 == 1;
            let mut last = 0_u8;
            // Rows that end before this plane are not looked at again: one long value beside many short ones
            // must not cost their product.
            let mut ended = false;
            for row in &open {
                let Some(slot) = values.get_mut(*row).and_then(|value| value.get_mut(at)) else {
                    ended = true;
                    continue;
                };
                let byte = reader.u8()?;
                last = if differences { last.wrapping_add(byte) } else { byte };
                *slot = last;
            }
            if ended {
                open.retain(|row| values.get(*row).is_some_and(|value| value.len() > at));
            }
        }
    }
    Ok(values)
}
