//! Landing cursors: how far each receiver incarnation's log is in the lake, as commits keep it.
//!
//! `data` is what the lake holds whole: a replay starts there. `ops` is how far messages were noted in the tables that
//! have one row per message; it runs ahead of `data` while a row waits for its blob, and a replay notes nothing twice.

use crate::land::{LandingCursors, LandingPosition};
use headwater_core::id::{IncarnationId, parse_hex};
use headwater_lake::LandingCursor;
use std::collections::BTreeMap;

/// Name of an incarnation's cursor in a commit: `<receiver>/<incarnation>`.
#[must_use]
pub fn landing_key(receiver: &str, incarnation: IncarnationId) -> String {
    format!("{receiver}/{incarnation}")
}

/// Which of the two cursors of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Data,
    Ops,
}

/// The data cursors of a commit (or of a ref's whole log). Keys that name no incarnation are another program's.
#[must_use]
pub fn from_commit(landing: &BTreeMap<String, LandingCursor>) -> LandingCursors {
    part_of(landing, Part::Data)
}

pub(super) fn part_of(landing: &BTreeMap<String, LandingCursor>, part: Part) -> LandingCursors {
    let read = |(key, cursor): (&String, &LandingCursor)| {
        let (_, incarnation) = key.rsplit_once('/')?;
        let incarnation = IncarnationId(parse_hex(incarnation.as_bytes())?);
        let at = match part {
            Part::Data => cursor.data,
            Part::Ops => cursor.ops,
        };
        Some((incarnation, LandingPosition { incarnation, segment: at.n, offset: at.offset }))
    };
    landing.iter().filter_map(read).collect()
}

/// What a commit says once everything below `read` was taken in, but for what still waits from `waiting` on.
pub(super) fn to_commit(
    receiver: &str,
    read: &LandingCursors,
    waiting: &LandingCursors,
) -> BTreeMap<String, LandingCursor> {
    let stored = |at: &LandingPosition| headwater_lake::LandingPosition { n: at.segment, offset: at.offset };
    read.iter()
        .map(|(incarnation, read)| {
            let data = waiting.get(incarnation).filter(|floor| *floor < read).unwrap_or(read);
            (landing_key(receiver, *incarnation), LandingCursor { data: stored(data), ops: stored(read) })
        })
        .collect()
}

/// Moves a cursor on, never back.
pub(super) fn advance(cursors: &mut LandingCursors, to: LandingPosition) {
    let at = cursors.entry(to.incarnation).or_insert(to);
    if *at < to {
        *at = to;
    }
}

/// One number per position, in order: segments are far smaller than 2^32 bytes.
pub(super) fn linear(at: &LandingPosition) -> u64 {
    (at.segment << 32).saturating_add(at.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8, segment: u64, offset: u64) -> LandingPosition {
        LandingPosition { incarnation: IncarnationId([n; 16]), segment, offset }
    }

    #[test]
    fn a_commit_holds_what_was_read_but_for_what_waits() {
        let mut read = LandingCursors::new();
        for position in [at(1, 0, 900), at(2, 3, 64), at(1, 0, 700)] {
            advance(&mut read, position);
        }
        let waiting = LandingCursors::from([(IncarnationId([1; 16]), at(1, 0, 500))]);
        let landing = to_commit("hq", &read, &waiting);
        assert_eq!(landing.len(), 2);
        assert_eq!(from_commit(&landing)[&IncarnationId([1; 16])], at(1, 0, 500));
        assert_eq!(part_of(&landing, Part::Ops)[&IncarnationId([1; 16])], at(1, 0, 900));
        assert_eq!(from_commit(&landing)[&IncarnationId([2; 16])], at(2, 3, 64));
    }
}
