//! Compares named values of two decodings, and knows which differences have a reason.

use super::ours::{Ours, Place, Values};
use super::truth::Truth;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// ms of 1024 weeks: a receiver that lost count of them is wrong by so much, and gpsd mends it by its own date.
const ROLLOVER_MS: i64 = 1_024 * 604_800_000;

/// How far two values of a field may be apart: what gpsd rounds to when it prints, and a bit.
const TOLERANCES: &[(&str, f64)] = &[
    ("lat", 1e-7),
    ("lon", 1e-7),
    ("altMSL", 1.1e-3),
    ("altHAE", 6e-3),
    ("speed", 1.1e-3),
    ("track", 1.1e-3),
    ("heading", 1.1e-3),
    ("pitch", 6e-3),
    ("roll", 6e-3),
    ("dip", 1.1e-3),
    ("mag_x", 1.1e-3),
    ("velN", 1.1e-3),
    ("velE", 1.1e-3),
    ("velD", 1.1e-3),
    ("ecefx", 6e-3),
    ("ecefy", 6e-3),
    ("ecefz", 6e-3),
    ("ecefvx", 6e-3),
    ("ecefvy", 6e-3),
    ("ecefvz", 6e-3),
    ("ecefpAcc", 6e-3),
    ("ecefvAcc", 6e-3),
    ("leapseconds", 0.0),
    ("mode", 0.0),
    ("pDOP", 0.051),
    ("gdop", 6e-3),
    ("hdop", 6e-3),
    ("pdop", 6e-3),
    ("tdop", 6e-3),
    ("vdop", 6e-3),
];

/// A difference with a known reason: log, field (`*` for all), why.
pub(crate) type Excuse = (&'static str, &'static str, &'static str);

/// What came out for one log.
#[derive(Debug, Default)]
pub(crate) struct Score {
    /// Values that both have.
    pub(crate) compared: u64,
    pub(crate) equal: u64,
    /// Differences with a reason, by it.
    pub(crate) explained: BTreeMap<&'static str, u64>,
    /// The others: field, place, ours, gpsd's.
    pub(crate) differ: Vec<(&'static str, Place, f64, Vec<f64>)>,
    /// Places of ours at which gpsd says nothing.
    pub(crate) alone: u64,
    /// Places matched only after whole turns of 1024 weeks.
    pub(crate) rolled: u64,
}

impl Score {
    /// Adds another log's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.compared += other.compared;
        self.equal += other.equal;
        self.alone += other.alone;
        self.rolled += other.rolled;
        for (reason, count) in &other.explained {
            *self.explained.entry(reason).or_default() += count;
        }
        self.differ.extend(other.differ.iter().cloned());
    }
}

/// Compares all values of one log.
pub(crate) fn compare(log: &str, ours: &Ours, truth: &Truth, excuses: &[Excuse]) -> Score {
    let mut score = Score::default();
    let mut turns = BTreeMap::new();
    for ms in truth.at.keys() {
        turns.entry(ms.rem_euclid(ROLLOVER_MS)).or_insert(*ms);
    }
    for (place, values) in &ours.all {
        let reports = match place {
            Place::At(ms) => match truth.at.get(ms) {
                Some(reports) => reports.iter().collect(),
                None => match turns.get(&ms.rem_euclid(ROLLOVER_MS)).and_then(|ms| truth.at.get(ms)) {
                    Some(reports) => {
                        score.rolled += 1;
                        reports.iter().collect()
                    }
                    None => Vec::new(),
                },
            },
            Place::Logged(number) => truth.logged.get(number).into_iter().collect(),
            Place::Attitude(number) => truth.attitudes.get(*number).into_iter().collect::<Vec<_>>(),
        };
        if reports.is_empty() {
            score.alone += 1;
        } else {
            place_by_place(log, *place, values, &reports, excuses, &mut score);
        }
    }
    score
}

fn place_by_place(
    log: &str,
    place: Place,
    values: &Values,
    reports: &[&Map<String, Value>],
    excuses: &[Excuse],
    score: &mut Score,
) {
    for (field, ours) in values {
        // gpsd repeats a report as it learns more: any of them may hold what one sentence said.
        let theirs: Vec<f64> = reports.iter().filter_map(|report| report.get(*field)?.as_f64()).collect();
        if theirs.is_empty() {
            continue;
        }
        score.compared += 1;
        if theirs.iter().any(|theirs| near(field, *ours, *theirs)) {
            score.equal += 1;
        } else if let Some((_, _, why)) =
            excuses.iter().find(|(of, name, _)| *of == log && (*name == *field || *name == "*"))
        {
            *score.explained.entry(why).or_default() += 1;
        } else {
            score.differ.push((field, place, *ours, theirs));
        }
    }
}

/// Whether two values of a field are the same; angles are, whole turns apart.
pub(crate) fn near(field: &str, ours: f64, theirs: f64) -> bool {
    let tolerance =
        TOLERANCES.iter().find(|(name, _)| *name == field).map_or(0.0, |(_, tolerance)| *tolerance);
    let apart = (ours - theirs).abs();
    let apart =
        if matches!(field, "track" | "heading" | "lon") { apart.min((apart - 360.0).abs()) } else { apart };
    apart <= tolerance
}

#[cfg(test)]
mod tests {
    use super::super::truth::utc_ms;
    use super::*;

    fn truth(lines: &str) -> Truth {
        Truth::read(lines)
    }

    fn ours(place: Place, values: &[(&'static str, f64)]) -> Ours {
        Ours { all: vec![(place, values.iter().copied().collect())], ..Ours::default() }
    }

    #[test]
    fn any_report_of_a_time_may_hold_the_value() {
        let truth = truth(concat!(
            "$GPRMC,not,json\n",
            r#"{"class":"TPV","mode":2,"time":"2017-12-01T17:22:37.000Z","lat":1.5,"track":359.9999}"#,
            "\n",
            r#"{"class":"TPV","mode":3,"time":"2017-12-01T17:22:37.000Z","lat":1.6,"altMSL":3.0}"#,
        ));
        let at = Place::At(utc_ms("2017-12-01T17:22:37.000Z").unwrap());
        let values = [("lat", 1.6), ("track", 0.0), ("altMSL", 4.0), ("lon", 7.0)];
        let score = compare("a.log", &ours(at, &values), &truth, &[]);
        assert_eq!((score.compared, score.equal, score.alone), (3, 2, 0));
        assert_eq!(score.differ, [("altMSL", at, 4.0, vec![3.0])]);
        let excuses = [("a.log", "altMSL", "for the test")];
        let score = compare("a.log", &ours(at, &values), &truth, &excuses);
        assert_eq!((score.differ.len(), score.explained["for the test"]), (0, 1));
        assert_eq!(compare("b.log", &ours(at, &values), &truth, &excuses).differ.len(), 1);
    }

    #[test]
    fn turns_of_the_week_counter_are_told_apart_from_lost_places() {
        let truth = truth(r#"{"class":"TPV","mode":3,"time":"2017-12-01T17:22:37.000Z","lat":1.5}"#);
        let ms = utc_ms("2017-12-01T17:22:37.000Z").unwrap();
        let score = compare("a.log", &ours(Place::At(ms - ROLLOVER_MS), &[("lat", 1.5)]), &truth, &[]);
        assert_eq!((score.equal, score.rolled, score.alone), (1, 1, 0));
        let score = compare("a.log", &ours(Place::At(ms + 1), &[("lat", 1.5)]), &truth, &[]);
        assert_eq!((score.compared, score.alone), (0, 1));
    }
}
