//! Boot lines of an entity, and how two of them lie to each other.

use crate::sample::Line;

/// How the samples of a lane lie to an instant, beyond comparing times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// One line: compared in event time.
    Same,
    /// An earlier boot of the same installation: all before.
    Before,
    /// A later one: all after.
    After,
    /// Compared in UTC.
    Utc,
}

/// Lines in the order they were named, each with its place among installations.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    /// Rank of (device, epoch) among those known.
    chain: Vec<u32>,
}

impl Lines {
    pub(super) fn new(lines: Vec<Line>) -> Self {
        let mut chains: Vec<_> = lines.iter().map(|line| (&line.device, line.epoch)).collect();
        chains.sort_unstable();
        chains.dedup();
        let rank = |line: &Line| chains.partition_point(|chain| *chain < (&line.device, line.epoch));
        let chain = lines.iter().map(|line| super::cursor::row(rank(line))).collect();
        Self { chain, lines }
    }

    pub(super) fn get(&self, line: u32) -> Option<&Line> {
        self.lines.get(line as usize)
    }

    pub(super) fn as_slice(&self) -> &[Line] {
        &self.lines
    }

    /// Rank of its installation; equal ranks are one installation.
    pub(super) fn chain(&self, line: u32) -> Option<u32> {
        self.chain.get(line as usize).copied()
    }

    /// How `lane` lies to instants on `line`.
    pub(super) fn relation(&self, line: u32, lane: u32) -> Relation {
        if line == lane {
            return Relation::Same;
        }
        match (self.get(line), self.get(lane)) {
            (Some(here), Some(there)) if (&here.device, here.epoch) == (&there.device, there.epoch) => {
                if there.boot < here.boot {
                    Relation::Before
                } else {
                    Relation::After
                }
            }
            _ => Relation::Utc,
        }
    }

    /// True if a sample on `lane` is of another boot of the device of `line`.
    pub(super) fn crosses_boot(&self, line: u32, lane: u32) -> bool {
        let device = |line| self.get(line).map(|line| &line.device);
        line != lane && device(line).is_some() && device(line) == device(lane)
    }
}
