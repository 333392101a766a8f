//! Which rows are meant: a stream, and a stretch of time in the words of a person.

use super::CardError;
use super::clocks::Clocks;
use headwater_core::id::{BootOrdinal, Epoch, StreamName};
use headwater_core::time::{BootNanos, NS_PER_S};
use std::fmt;
use std::str::FromStr;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Time of day by the gateway's own clock, ns since 1970.
    Utc(i64),
    /// Boot and time since it began.
    Boot(BootOrdinal, BootNanos),
}

/// What `--since` and its like take.
const FORMS: &str = "write a UTC time such as 2026-11-28, 2026-11-28T10:00 or 2026-11-28T10:00:00Z, or a boot and seconds \
                     since it began, such as 12:3600";

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(utc) = utc(text) {
            return Ok(Self::Utc(utc));
        }
        let boot = || {
            let (boot, seconds) = text.split_once(':')?;
            let seconds: i64 = seconds.strip_suffix('s').unwrap_or(seconds).parse().ok()?;
            Some(Self::Boot(BootOrdinal(boot.parse().ok()?), BootNanos(seconds.checked_mul(NS_PER_S)?)))
        };
        boot().ok_or_else(|| FORMS.to_owned())
    }
}

fn utc(text: &str) -> Option<i64> {
    use chrono::{DateTime, NaiveDate, NaiveDateTime};
    let plain = text.strip_suffix('Z').unwrap_or(text).replace(' ', "T");
    let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"];
    let time = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(&plain, form).ok());
    let date = || NaiveDate::parse_from_str(&plain, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    match time.or_else(date) {
        Some(time) => time.and_utc().timestamp_nanos_opt(),
        None => DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt(),
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utc(ns) => match chrono::DateTime::from_timestamp(ns.div_euclid(NS_PER_S), 0) {
                Some(time) => write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%SZ")),
                None => write!(f, "{ns} ns"),
            },
            Self::Boot(boot, at) => write!(f, "{}:{}", boot.0, at.0.div_euclid(NS_PER_S)),
        }
    }
}

/// Which rows are meant. Rows whose time nobody knows are always meant: leaving them out would lose them.
#[derive(Debug, Clone, Default)]
pub struct Select {
    /// Only this stream.
    pub stream: Option<StreamName>,
    /// Not before.
    pub since: Option<When>,
    /// Before.
    pub until: Option<When>,
}

impl Select {
    /// True if every row is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.stream.is_none() && self.since.is_none() && self.until.is_none()
    }

    pub(super) fn wants_stream(&self, name: Option<&StreamName>) -> bool {
        self.stream.as_ref().is_none_or(|stream| name == Some(stream))
    }

    /// True if some of a stretch of boot time of a boot is meant.
    pub(super) fn overlaps(
        &self,
        clocks: &Clocks,
        (epoch, boot): (Epoch, BootOrdinal),
        times: Option<(BootNanos, BootNanos)>,
    ) -> bool {
        let Some((first, last)) = times else { return true };
        let starts_after = |when: &When, or_at: bool| match order(clocks, when, epoch, boot, first) {
            Some(order) => order.is_gt() || (or_at && order.is_eq()),
            None => false,
        };
        let ends_before =
            |when: &When| order(clocks, when, epoch, boot, last).is_some_and(std::cmp::Ordering::is_lt);
        !self.since.as_ref().is_some_and(ends_before)
            && !self.until.as_ref().is_some_and(|until| starts_after(until, true))
    }

    /// Says so if a time of day is asked of a boot that never knew one.
    pub(super) fn check(
        &self,
        clocks: &Clocks,
        boots: impl Iterator<Item = (Epoch, BootOrdinal)>,
    ) -> Result<(), CardError> {
        let utc = [self.since, self.until].into_iter().flatten().find(|when| matches!(when, When::Utc(_)));
        let Some(when) = utc else { return Ok(()) };
        let mut boots = boots.peekable();
        let first = boots.peek().map_or(0, |(_, boot)| boot.0);
        let known = boots.any(|(epoch, boot)| clocks.offset(epoch, boot).is_some());
        if known { Ok(()) } else { Err(CardError::NoClock { when: when.to_string(), boot: first }) }
    }
}

/// How a moment of a boot lies to `when`; `None` if that cannot be said.
fn order(
    clocks: &Clocks,
    when: &When,
    epoch: Epoch,
    boot: BootOrdinal,
    at: BootNanos,
) -> Option<std::cmp::Ordering> {
    match when {
        When::Boot(other, limit) => Some((boot, at).cmp(&(*other, *limit))),
        When::Utc(limit) => Some(at.0.saturating_add(clocks.offset(epoch, boot)?).cmp(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let day = 1_764_288_000 * NS_PER_S;
        for (text, expected) in [
            ("2025-11-28", When::Utc(day)),
            ("2025-11-28T01:30", When::Utc(day + 5_400 * NS_PER_S)),
            ("2025-11-28 01:30:05Z", When::Utc(day + 5_405 * NS_PER_S)),
            ("2025-11-28T01:30:05+01:00", When::Utc(day + 1_805 * NS_PER_S)),
            ("12:3600", When::Boot(BootOrdinal(12), BootNanos(3_600 * NS_PER_S))),
            ("12:90s", When::Boot(BootOrdinal(12), BootNanos(90 * NS_PER_S))),
        ] {
            assert_eq!(text.parse::<When>(), Ok(expected), "{text}");
            assert_eq!(expected.to_string().parse::<When>(), Ok(expected), "{text}");
        }
        for wrong in ["", "yesterday", "12", "12:", "2025-13-01"] {
            assert!(wrong.parse::<When>().unwrap_err().starts_with("write a UTC time"), "{wrong}");
        }
    }

    #[test]
    fn a_stretch_is_meant_if_any_of_it_is() {
        let clocks = Clocks::of([((Epoch(1), BootOrdinal(2)), 1_000 * NS_PER_S)]);
        let at = |seconds: i64| BootNanos(seconds * NS_PER_S);
        let select = |since: &str, until: &str| Select {
            stream: None,
            since: since.parse().ok(),
            until: until.parse().ok(),
        };
        let here = (Epoch(1), BootOrdinal(2));
        let meant =
            |select: &Select, first, last| select.overlaps(&clocks, here, Some((at(first), at(last))));
        let some = select("2:10", "2:20");
        assert!(meant(&some, 5, 10) && meant(&some, 19, 30) && meant(&some, 0, 99));
        assert!(!meant(&some, 5, 9) && !meant(&some, 20, 30));
        assert!(meant(&select("1:500", ""), 0, 1) && !meant(&select("3:0", ""), 0, 1));
        let utc = select("1970-01-01T00:16:50", "1970-01-01T00:17:00");
        assert!(meant(&utc, 10, 11) && !meant(&utc, 5, 9) && !meant(&utc, 20, 21));
        assert!(utc.overlaps(&clocks, here, None), "rows without a time are never left out");
        assert!(utc.overlaps(&clocks, (Epoch(1), BootOrdinal(9)), Some((at(0), at(1)))));
        let other = [(Epoch(1), BootOrdinal(9))];
        let refused = utc.check(&clocks, other.into_iter()).unwrap_err().to_string();
        assert!(refused.contains("9:SECONDS"), "{refused}");
        assert!(utc.check(&clocks, [here].into_iter()).is_ok());
    }
}
