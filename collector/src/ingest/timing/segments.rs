//! Computed segments of clock tracks, rows of `ops.clock`: where a boot's UTC lies, how sure that is, and how fast its crystal
//! runs, as the track said at a commit.

use crate::commit::cells::Cell;
use crate::ingest::group::HeldRows;
use crate::resolve::{ClockTracks, Incoming, Query};
use headwater_core::id::{BootOrdinal, DeviceId, Epoch};
use headwater_core::time::{BootNanos, ClockDomain, Grade, NS_PER_S, UtcNanos, clamp_i64};
use std::collections::BTreeMap;

/// Least boot time between two segments of one boot, unless its grade changes: as often as a quiet gateway asks the time.
const EVERY_NS: i64 = 64 * NS_PER_S;
/// Span over which a crystal's rate is told, and the least of it.
const RATE_SPAN_NS: i64 = 3_600 * NS_PER_S;
const RATE_SPAN_NS_MIN: i64 = 600 * NS_PER_S;
/// Boots remembered; older ones are told once more when they speak again.
const BOOTS_MAX: usize = 65_536;

type Whose = (DeviceId, Epoch, BootOrdinal);

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ingest) struct Segment {
    whose: Whose,
    from: BootNanos,
    until: BootNanos,
    utc: UtcNanos,
    bound_ns: i64,
    grade: Grade,
    track: i64,
    /// How much faster than UTC the boot line runs, parts per billion.
    freq_ppb: Option<i64>,
}

impl Segment {
    /// Whose clock.
    pub(in crate::ingest) fn device(&self) -> &DeviceId {
        &self.whose.0
    }

    /// Its columns beyond those every row of `ops.*` has.
    pub(in crate::ingest) fn cells(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("epoch", self.whose.1.to_string().into()),
            ("boot_ordinal", self.whose.2.0.into()),
            ("row_kind", "segment".into()),
            ("declared_by", "collector".into()),
            ("domain", ClockDomain::BOOT.to_string().into()),
            ("b1_ns", self.from.0.into()),
            ("b2_ns", self.until.0.into()),
            ("offset_ns", self.utc.0.saturating_sub(self.until.0).into()),
            ("bound_ns", self.bound_ns.into()),
            ("freq_ppb", self.freq_ppb.into()),
            ("grade", self.grade.as_str().into()),
            ("track", self.track.into()),
        ]
    }
}

#[derive(Debug, Clone, Copy)]
struct Told {
    first: BootNanos,
    until: BootNanos,
    grade: Grade,
    track: i64,
}

/// What was told of each boot last.
#[derive(Debug, Default)]
pub(super) struct Segments {
    told: BTreeMap<Whose, Told>,
}

impl Segments {
    /// The segments that rows of a group are reason to tell.
    pub(super) fn due(&self, rows: &[HeldRows], tracks: &mut ClockTracks) -> Vec<Segment> {
        let mut spans: BTreeMap<Whose, (i64, i64)> = BTreeMap::new();
        for held in rows.iter().filter(|held| held.rows.domain == ClockDomain::BOOT) {
            let stamps = || (0..held.rows.len()).filter_map(|row| held.rows.t_ns(row));
            let (Some(first), Some(last)) = (stamps().min(), stamps().max()) else { continue };
            let whose = (held.key.device.clone(), held.key.epoch, held.rows.boot_ordinal);
            let span = spans.entry(whose).or_insert((first, last));
            *span = (span.0.min(first), span.1.max(last));
        }
        let segment = |(whose, (first, last))| self.segment(whose, BootNanos(first), BootNanos(last), tracks);
        spans.into_iter().filter_map(segment).collect()
    }

    fn segment(
        &self,
        whose: Whose,
        first: BootNanos,
        until: BootNanos,
        tracks: &mut ClockTracks,
    ) -> Option<Segment> {
        let told = self.told.get(&whose);
        let since = told.map_or(first, |told| told.first.min(first));
        let incoming = Incoming { device: &whose.0, epoch: whose.1, boot: whose.2 };
        let span = until.since(since).min(RATE_SPAN_NS);
        let queries = [until, until.plus_ns(-span)].map(|event| Query { event, half_ns: 0 });
        let resolved = tracks.resolve(incoming, &queries);
        let (at, before) = (resolved.first()?, resolved.get(1)?);
        let track = tracks.track_id(incoming);
        let due = told.is_none_or(|told| {
            told.grade != at.grade || (told.track != track && until.since(told.until) >= EVERY_NS)
        });
        let rate = || {
            let (boot, utc) = (i128::from(span), i128::from(at.ts.since(before.ts)));
            (span >= RATE_SPAN_NS_MIN && utc > 0 && at.grade > Grade::OrderingOnly)
                .then(|| clamp_i64((boot - utc) * 1_000_000_000 / utc))
        };
        due.then(|| Segment {
            from: told.map_or(since, |told| told.until.min(until)),
            until,
            utc: at.ts,
            bound_ns: at.err_ns,
            grade: at.grade,
            track,
            freq_ppb: rate(),
            whose: whose.clone(),
        })
    }

    /// These are in the lake.
    pub(super) fn told(&mut self, segments: &[Segment]) {
        for segment in segments {
            let first =
                self.told.get(&segment.whose).map_or(segment.from, |told| told.first.min(segment.from));
            let told = Told { first, until: segment.until, grade: segment.grade, track: segment.track };
            self.told.insert(segment.whose.clone(), told);
        }
        while self.told.len() > BOOTS_MAX {
            self.told.pop_first();
            metrics::counter!("headwater_ingest_segments_forgotten_total").increment(1);
        }
    }
}
