//! What each source said last: for the grade we may claim, for numbering pulses, and to see who contradicts whom.

use super::gps::{Anchor, Sentence};
use super::status::TimeSourceStatus;
use crate::stamp::track::{Claim, TimeSource};
use headwater_core::time::{BootNanos, Grade, NS_PER_MS};
use std::collections::BTreeMap;

/// How long a source's last word is taken for its state, ms: three rounds of 64 s.
const FRESH_MS: u64 = 200_000;
/// Least time between two changes of one source that are told, ms: pools make clients wander.
const CHANGE_MS: u64 = 60_000;
/// Rounds without an answer after which a source is away.
const AWAY_ROUNDS: u32 = 3;
/// Least distance of two sources' intervals that is called a conflict, ns: below it their bounds are just a little small.
const CONFLICT_NS_MIN: i64 = NS_PER_MS;

/// What a source's word pins down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// UTC to within a half width.
    Around(Anchor),
    /// UTC had come.
    AtLeast(Sentence),
    /// Nothing.
    Nothing,
}

#[derive(Debug, Clone)]
struct Heard {
    at: BootNanos,
    claim: Claim,
    word: Word,
    offset_ns: Option<i64>,
    /// Rounds without an answer, and why.
    silent: u32,
    problem: Option<String>,
    /// Whom it follows: as last told in a row, and when that was.
    told: Option<String>,
    told_at: BootNanos,
}

/// By source.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<TimeSource, Heard>);

impl Memory {
    /// A source said something: `follows` is whom it follows, `offset_ns` UTC less wall clock by it. What changed, if it
    /// opens a segment.
    pub(super) fn hear(
        &mut self,
        at: BootNanos,
        claim: Claim,
        word: Word,
        offset_ns: Option<i64>,
        follows: Option<String>,
    ) -> Option<String> {
        let before = self.0.get(&claim.source);
        let (told, told_at) = before.map_or((None, None), |b| (b.told.clone(), Some(b.told_at)));
        let away = before.is_some_and(|before| before.silent >= AWAY_ROUNDS && before.word != Word::Nothing);
        let due = told_at.is_none_or(|told_at| at >= told_at.plus_ms(CHANGE_MS));
        let change = match (&told, &follows) {
            (Some(old), Some(new)) if old != new && due => Some(format!("now follows {new}, before {old}")),
            _ if away => Some("is back".to_owned()),
            _ => None,
        };
        let told_now = change.is_some() || told.is_none();
        let heard = Heard {
            at,
            word,
            offset_ns,
            silent: 0,
            problem: None,
            told: if told_now { follows.or(told) } else { told },
            told_at: if told_now { at } else { told_at.unwrap_or(at) },
            claim,
        };
        self.0.insert(heard.claim.source, heard);
        change
    }

    /// A source was asked in vain. What changed, if it is away by now.
    pub(super) fn silent(
        &mut self,
        at: BootNanos,
        source: TimeSource,
        why: &str,
        wanted: bool,
    ) -> Option<String> {
        if wanted {
            self.0.entry(source).or_insert_with(|| Heard {
                at,
                claim: Claim::new(source, None, Grade::OrderingOnly, String::new()),
                word: Word::Nothing,
                offset_ns: None,
                // It was never there, so it does not go away.
                silent: AWAY_ROUNDS,
                problem: None,
                told: None,
                told_at: at,
            });
        }
        let heard = self.0.get_mut(&source)?;
        heard.silent = heard.silent.saturating_add(1);
        heard.problem = Some(why.to_owned());
        (heard.silent == AWAY_ROUNDS).then(|| format!("is away: {why}"))
    }

    fn fresh(&self, now: BootNanos) -> impl Iterator<Item = (TimeSource, &Heard)> {
        let of = move |heard: &&Heard| now < heard.at.plus_ms(FRESH_MS) && heard.silent < AWAY_ROUNDS;
        self.0.iter().map(|(source, heard)| (*source, heard)).filter(move |(_, heard)| of(heard))
    }

    /// Whether a source bounds UTC now.
    pub(super) fn bounds(&self, source: TimeSource, now: BootNanos) -> bool {
        self.fresh(now).any(|(of, heard)| of == source && matches!(heard.word, Word::Around(_)))
    }

    /// Best grade of what was heard of late.
    pub(super) fn grade(&self, now: BootNanos) -> Grade {
        let bounding = self.fresh(now).filter(|(_, heard)| matches!(heard.word, Word::Around(_)));
        bounding.map(|(_, heard)| heard.claim.grade).max().unwrap_or(Grade::OrderingOnly)
    }

    /// UTC at `at` by the best source that is no GPS receiver.
    pub(super) fn anchor(&self, at: BootNanos) -> Option<Anchor> {
        let gps = |source| matches!(source, TimeSource::GpsPps | TimeSource::GpsSerial);
        let anchors =
            self.0.iter().filter(|(source, _)| !gps(**source)).filter_map(|(_, heard)| match heard.word {
                Word::Around(anchor) => Some(anchor.carried_to(at)),
                _ => None,
            });
        anchors.min_by_key(|anchor| anchor.half_ns)
    }

    /// Two sources that cannot both be right at `now`.
    pub(super) fn conflict(&self, now: BootNanos) -> Option<String> {
        let spans: Vec<(TimeSource, i64, i64)> = self
            .fresh(now)
            .filter_map(|(source, heard)| match heard.word {
                Word::Around(anchor) => {
                    let Anchor { utc, half_ns, .. } = anchor.carried_to(now);
                    Some((source, utc.0.saturating_sub(half_ns), utc.0.saturating_add(half_ns)))
                }
                Word::AtLeast(sentence) => {
                    let anchor = Anchor { at: sentence.at, utc: sentence.utc, half_ns: 0 }.carried_to(now);
                    Some((source, anchor.utc.0.saturating_sub(anchor.half_ns), i64::MAX))
                }
                Word::Nothing => None,
            })
            .collect();
        let pairs = spans.iter().enumerate().flat_map(|(n, a)| spans.iter().skip(n + 1).map(move |b| (a, b)));
        let apart = pairs.map(|(a, b)| {
            let ns = a.1.saturating_sub(b.2).max(b.1.saturating_sub(a.2));
            (ns, a.0.as_str(), b.0.as_str())
        });
        let (ns, a, b) = apart.max()?;
        (ns > CONFLICT_NS_MIN).then(|| format!("{a} and {b}, by at least {} ms", ns / NS_PER_MS))
    }

    pub(super) fn status(&self) -> Vec<TimeSourceStatus> {
        let of = |(source, heard): (&TimeSource, &Heard)| TimeSourceStatus {
            source: source.as_str().to_owned(),
            grade: heard.claim.grade,
            offset_ns: heard.offset_ns,
            half_ns: heard.claim.half_ns,
            at_boot_ns: heard.at.0,
            detail: heard.claim.detail.clone(),
            problem: heard.problem.clone(),
        };
        self.0.iter().map(of).collect()
    }
}
