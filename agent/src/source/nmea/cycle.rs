//! Gathers the sentences of one instant into one fix.
//!
//! A receiver says the same instant several times (RMC, GGA, …). The fix is complete with RMC and
//! GGA; if one of them does not come, the next instant or half a second of silence closes it.

use super::super::framing::Decoded;
use super::sentence::{Sentence, formatter};
use chrono::{Days, NaiveDate};
use headwater_core::gap::GapCause;
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::sample::{Reading, Value};
use headwater_core::time::{BootNanos, ClockDomain, Latency, StampKind};

/// How long a fix waits for its other half, ms: sentences of one instant follow each other at once.
const WAIT_MS: u64 = 500;
const DAY_NS: i64 = 86_400_000_000_000;
const HALF_DAY_NS: i64 = DAY_NS / 2;
/// Longest hole counted in fixes: beyond a minute the receiver was away, not the line damaged.
const HOLE_FIXES_MAX: i64 = 60;

#[derive(Debug, Default)]
struct Fix {
    rmc: bool,
    gga: bool,
    valid: bool,
    position: Option<(f64, f64)>,
    sog: Option<f64>,
    cog: Option<f64>,
    alt_msl: Option<f64>,
    geoid_sep: Option<f64>,
    hdop: Option<f64>,
    satellites: Option<u8>,
    quality: Option<u8>,
    date: Option<NaiveDate>,
}

/// Arrival of a sentence, and how much earlier its instant was.
type Came = (BootNanos, Latency);

/// The instant being gathered, and what is known of those before.
#[derive(Debug)]
pub(super) struct Cycle {
    stream: StreamName,
    /// Time of day, when its first sentence arrived and how old it was by then, what it holds.
    open: Option<(i64, Came, Fix)>,
    done: Option<i64>,
    /// UTC of the last fix, ns.
    last: Option<i64>,
    period: Option<i64>,
    damaged: u64,
}

impl Cycle {
    pub(super) fn new(stream: StreamName) -> Self {
        Self { stream, open: None, done: None, last: None, period: None, damaged: 0 }
    }

    /// A sentence failed its checksum; if it was half of a fix, that fix may be missing.
    pub(super) fn damaged(&mut self, line: &[u8]) {
        let body = std::str::from_utf8(line).unwrap_or_default();
        if matches!(formatter(body), "RMC" | "GGA") {
            self.damaged = self.damaged.saturating_add(1);
        }
    }

    pub(super) fn sentence(&mut self, sentence: &Sentence, at: Came, out: &mut Decoded) {
        match sentence {
            Sentence::Rmc { tod: Some(tod), valid, position, sog, cog, date } => {
                let Some(fix) = self.at(*tod, at, out) else { return };
                fix.rmc = true;
                fix.valid |= valid;
                fix.position = fix.position.or(position.filter(|_| *valid));
                (fix.sog, fix.cog) = (sog.filter(|_| *valid).or(fix.sog), cog.filter(|_| *valid).or(fix.cog));
                fix.date = date.or(fix.date);
            }
            Sentence::Gga { tod: Some(tod), position, quality, satellites, hdop, alt_msl, geoid_sep } => {
                let Some(fix) = self.at(*tod, at, out) else { return };
                fix.gga = true;
                let valid = quality.is_some_and(|quality| quality > 0);
                fix.valid |= valid;
                // GGA's position, altitude and dilution belong together.
                fix.position = position.filter(|_| valid).or(fix.position);
                (fix.quality, fix.satellites) = (*quality, *satellites);
                fix.hdop = hdop.filter(|_| valid).or(fix.hdop);
                (fix.alt_msl, fix.geoid_sep) = (alt_msl.filter(|_| valid), geoid_sep.filter(|_| valid));
            }
            Sentence::Zda { tod: Some(tod), date } => {
                if let Some((open, _, fix)) = &mut self.open
                    && *open == *tod
                {
                    fix.date = fix.date.or(*date);
                }
            }
            Sentence::Vtg { sog, cog } => {
                if let Some((_, _, fix)) = &mut self.open {
                    (fix.sog, fix.cog) = (fix.sog.or(*sog), fix.cog.or(*cog));
                }
            }
            Sentence::Gsa { hdop } => {
                if let Some((_, _, fix)) = &mut self.open {
                    fix.hdop = fix.hdop.or(*hdop);
                }
            }
            _ => {}
        }
        if self.open.as_ref().is_some_and(|(_, _, fix)| fix.rmc && fix.gga) {
            self.close(out);
        }
    }

    /// The fix of `tod`; closes the one before. `None` if that instant was given out already.
    fn at(&mut self, tod: i64, at: Came, out: &mut Decoded) -> Option<&mut Fix> {
        if self.open.as_ref().is_some_and(|(open, _, _)| *open != tod) {
            self.close(out);
        }
        if self.open.is_none() && self.done == Some(tod) {
            return None;
        }
        let (_, _, fix) = self.open.get_or_insert_with(|| (tod, at, Fix::default()));
        Some(fix)
    }

    pub(super) fn deadline(&self) -> Option<BootNanos> {
        self.open.as_ref().map(|(_, (at, _), _)| at.plus_ms(WAIT_MS))
    }

    pub(super) fn poll(&mut self, now: BootNanos, out: &mut Decoded) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.close(out);
        }
    }

    fn close(&mut self, out: &mut Decoded) {
        let Some((tod, (at, latency), fix)) = self.open.take() else { return };
        self.done = Some(tod);
        let utc = self.utc(tod, fix.date);
        self.count_holes(utc, at, out);
        let (lat, lon) = fix.position.unzip();
        let float = |value: Option<f64>| value.map_or(Value::Null, Value::F64);
        let small = |value: Option<u8>| value.map_or(Value::Null, |value| Value::I64(value.into()));
        // A receiver without GGA says only whether it has a fix.
        let quality = fix.quality.or((!fix.gga && !fix.valid).then_some(0));
        let values = vec![
            float(lat),
            float(lon),
            float(fix.alt_msl),
            float(fix.geoid_sep),
            float(fix.sog),
            float(fix.cog),
            float(fix.hdop),
            small(fix.satellites),
            small(quality),
            utc.map_or(Value::Null, Value::I64),
        ];
        let (kind, domain) = (StampKind::Arrival, ClockDomain::BOOT);
        let reading = Reading { t: at, latency, kind, domain, values, blob: None };
        out.reading(self.stream.clone(), reading);
    }

    /// UTC of a time of day: with its own date, or on the day next to the last fix.
    fn utc(&self, tod: i64, date: Option<NaiveDate>) -> Option<i64> {
        let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_nanos_opt();
        if let Some(date) = date {
            return midnight(date)?.checked_add(tod);
        }
        let last = self.last?;
        let day = chrono::DateTime::from_timestamp_nanos(last).date_naive();
        let same = midnight(day)?.checked_add(tod)?;
        match same.checked_sub(last)? {
            back if back < -HALF_DAY_NS => midnight(day.checked_add_days(Days::new(1))?)?.checked_add(tod),
            ahead if ahead > HALF_DAY_NS => midnight(day.checked_sub_days(Days::new(1))?)?.checked_add(tod),
            _ => Some(same),
        }
    }

    /// Fixes that must have been in damaged sentences: the hole is a multiple of the usual period.
    fn count_holes(&mut self, utc: Option<i64>, at: BootNanos, out: &mut Decoded) {
        let damaged = std::mem::take(&mut self.damaged);
        let Some(utc) = utc else { return };
        let since = self.last.replace(utc).and_then(|last| utc.checked_sub(last)).filter(|ns| *ns > 0);
        let Some(since) = since else { return };
        let hole = self.period.filter(|_| damaged > 0).and_then(|period| {
            let fixes = since.checked_div(period)?;
            (since.checked_rem(period) == Some(0) && (2..=HOLE_FIXES_MAX).contains(&fixes)).then_some(fixes)
        });
        match hole.and_then(|fixes| u64::try_from(fixes - 1).ok()) {
            Some(rows) => out.events.push_back(SourceEvent::Lost {
                stream: self.stream.clone(),
                rows,
                cause: GapCause::LinkCorrupt,
                at,
                note: format!("{damaged} damaged sentences"),
            }),
            None => self.period = Some(since),
        }
    }
}
