//! Which segments belong together: a lane's rows of one worth, so that trimming and evicting free whole files.

use super::frame::lane_code;
use headwater_core::ports::{EvictFirst, Slab, SpoolLane, StreamClass, StreamPolicy};

/// Temporal layers of class thin.
pub const LAYERS: u8 = 4;

/// Smallest blob that is thinned by layers. A layer's seqs have holes, so that each of its blobs is a range of its
/// own in memory: 256 to a segment of 8 MiB, 5 MiB of ranges for 10 GiB at worst.
const LAYERED_BYTES_MIN: usize = 32 << 10;

/// What rows of a series are worth: their class, and of class thin their temporal layer. Ordered: the least goes
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rank {
    /// Class scrap.
    Scrap,
    /// Class thin: layer 0 holds every second large blob, layer 1 every second of the others, and so on; layer 3 holds
    /// every eighth, and all other rows.
    Thin(u8),
    /// Class normal.
    Normal,
    /// Class keep.
    Keep,
}

impl Rank {
    /// All ranks, least first.
    pub const ALL: [Self; 7] =
        [Self::Scrap, Self::Thin(0), Self::Thin(1), Self::Thin(2), Self::Thin(3), Self::Normal, Self::Keep];

    fn as_str(self) -> &'static str {
        match self {
            Self::Scrap => "scrap",
            Self::Thin(0) => "thin0",
            Self::Thin(1) => "thin1",
            Self::Thin(2) => "thin2",
            Self::Thin(_) => "thin3",
            Self::Normal => "normal",
            Self::Keep => "keep",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Keep => 1,
            Self::Scrap => 2,
            Self::Thin(layer) => 4_u8.saturating_add(layer.min(LAYERS - 1)),
        }
    }
}

/// Names a series of segment files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId {
    /// Lane.
    pub lane: SpoolLane,
    /// What its rows are worth.
    pub rank: Rank,
    /// Which of its segments go first.
    pub evict_first: EvictFirst,
}

/// Bit of the code of a series whose newest segments go first.
const NEWEST_FIRST: u8 = 0x80;

impl SeriesId {
    /// The series of a lane before there were classes: what an older agent left, and class normal.
    #[must_use]
    pub fn plain(lane: SpoolLane) -> Self {
        Self { lane, rank: Rank::Normal, evict_first: EvictFirst::Oldest }
    }

    /// Where a slab of a stream goes. Only lone rows with a blob are thinned by layers: other slabs hold a second of
    /// rows each, which cannot be taken apart, and of small blobs there are too many to know them one by one. Nor are
    /// they split while the spool is not `crowded`: every file more costs writes at each sync.
    #[must_use]
    pub fn of(policy: &StreamPolicy, slab: &Slab, crowded: bool) -> Self {
        let blob = slab.blob.as_ref().map_or(0, |blob| blob.bytes.len());
        let layered = crowded && blob >= LAYERED_BYTES_MIN && slab.rows.len() == 1;
        Self::with_layer(policy, if layered { layer_of(slab.rows.first_seq.0) } else { LAYERS - 1 })
    }

    fn with_layer(policy: &StreamPolicy, layer: u8) -> Self {
        let rank = match policy.class {
            StreamClass::Scrap => Rank::Scrap,
            StreamClass::Thin => Rank::Thin(layer),
            StreamClass::Normal => Rank::Normal,
            StreamClass::Keep => Rank::Keep,
        };
        Self { lane: policy.lane, rank, evict_first: policy.evict_first }
    }

    /// Where a stream is declared first.
    #[must_use]
    pub fn home(policy: &StreamPolicy) -> Self {
        Self::with_layer(policy, LAYERS - 1)
    }

    /// True if slabs of a stream may go here.
    #[must_use]
    pub fn takes(&self, policy: &StreamPolicy) -> bool {
        let layer = if let Rank::Thin(layer) = self.rank { layer } else { 0 };
        *self == Self::with_layer(policy, layer)
    }

    /// The class byte of segment headers and stream tables.
    #[must_use]
    pub fn class_code(&self) -> u8 {
        let newest = if self.evict_first == EvictFirst::Newest { NEWEST_FIRST } else { 0 };
        self.rank.code() | newest
    }

    /// Reads a class byte.
    #[must_use]
    pub fn from_codes(lane: SpoolLane, class: u8) -> Option<Self> {
        let rank = Rank::ALL.into_iter().find(|rank| rank.code() == class & !NEWEST_FIRST)?;
        let evict_first = if class & NEWEST_FIRST == 0 { EvictFirst::Oldest } else { EvictFirst::Newest };
        Some(Self { lane, rank, evict_first })
    }

    /// Name of its folder, such as `media.thin0` or `telemetry.normal-newest`.
    #[must_use]
    pub fn dir_name(&self) -> String {
        let newest = if self.evict_first == EvictFirst::Newest { "-newest" } else { "" };
        format!("{}.{}{newest}", self.lane.as_str(), self.rank.as_str())
    }

    /// Reads the name of a folder.
    #[must_use]
    pub fn from_dir_name(name: &str) -> Option<Self> {
        let (lane, rest) = name.split_once('.')?;
        let lane = SpoolLane::ALL.into_iter().find(|known| known.as_str() == lane)?;
        let (rank, evict_first) = match rest.strip_suffix("-newest") {
            Some(rank) => (rank, EvictFirst::Newest),
            None => (rest, EvictFirst::Oldest),
        };
        let rank = Rank::ALL.into_iter().find(|known| known.as_str() == rank)?;
        Some(Self { lane, rank, evict_first })
    }

    /// Its place in a reader's cursor.
    #[must_use]
    pub fn slot(&self) -> usize {
        let rank = Rank::ALL.into_iter().position(|rank| rank == self.rank).unwrap_or(0);
        rank.saturating_mul(2).saturating_add(usize::from(self.evict_first == EvictFirst::Newest))
    }

    /// Sorts by lane in the order of files, for keys.
    #[must_use]
    pub fn codes(&self) -> [u8; 2] {
        [lane_code(self.lane), self.class_code()]
    }
}

/// Temporal layer of a seq: half of all are in layer 0, an eighth each in layers 2 and 3.
#[must_use]
pub fn layer_of(seq: u64) -> u8 {
    u8::try_from(seq.trailing_zeros()).unwrap_or(u8::MAX).min(LAYERS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::ports::SERIES_PER_LANE;

    fn all() -> Vec<SeriesId> {
        let mut all = Vec::new();
        for lane in SpoolLane::ALL {
            for rank in Rank::ALL {
                for evict_first in [EvictFirst::Oldest, EvictFirst::Newest] {
                    all.push(SeriesId { lane, rank, evict_first });
                }
            }
        }
        all
    }

    #[test]
    fn names_codes_and_slots_are_one_to_one() {
        for id in all() {
            assert_eq!(SeriesId::from_dir_name(&id.dir_name()), Some(id));
            assert_eq!(SeriesId::from_codes(id.lane, id.class_code()), Some(id));
            assert!(id.slot() < SERIES_PER_LANE);
        }
        let of_lane: std::collections::BTreeSet<_> =
            all().iter().filter(|id| id.lane == SpoolLane::Media).map(SeriesId::slot).collect();
        assert_eq!(of_lane.len(), SERIES_PER_LANE);
        assert_eq!(SeriesId::plain(SpoolLane::Media).class_code(), 0, "what version 1 wrote");
        for wrong in ["media", "media.thin9", "media.", "lane.keep", "media.keep-oldest"] {
            assert_eq!(SeriesId::from_dir_name(wrong), None, "{wrong}");
        }
        assert_eq!(SeriesId::from_codes(SpoolLane::Media, 3), None);
    }

    #[test]
    fn layers_halve() {
        let count = |layer| (0..1024).filter(|seq| layer_of(*seq) == layer).count();
        assert_eq!([0, 1, 2, 3].map(count), [512, 256, 128, 128]);
    }
}
