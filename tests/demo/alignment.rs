//! Aligned rows held against what was played and when: times, distances, positions and windows must hold the truth within
//! the uncertainty that stands beside them.
//!
//! A stamp can only be held to what its source declares (`latency_ms`). Where this machine was so busy that a sample came
//! later than that, its times rest on what is not so: such samples are counted, and not judged.

use crate::drive::{Group, Shape};
use anyhow::{Context, Result};
use headwater_align::recipe::Method;
use headwater_lake::{CommitId, Lake};
use headwater_tests::players::Emitted;
use headwater_tests::ticks::Moment;
use headwater_tests::truth::Table;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// A line of the slow sensor's `.times` has so many numbers.
const TIMES_FIELDS: usize = 3;
/// Two fixes whose distance in time is known worse than this do not place what lies between them.
const JITTER_MAX_NS: i64 = 20_000_000;
/// Time is stretched by at most one part in so many while two stamps of one boot are apart (50 ppm).
const STRETCH: i64 = 20_000;
/// Fixes farther apart than this, m, are the recording's end and beginning, not a flight.
const HOP_MAX_M: f64 = 1_000.0;
/// A straight line beside the ellipsoid's, over [`HOP_MAX_M`], m.
const FLAT_M: f64 = 0.5;
/// Metres of a degree of latitude (WGS 84, mean).
const M_PER_DEGREE: f64 = 111_195.0;
/// Unit of times and distances in time.
const TIMES: &str = "ms";
/// `other boot`: the distance is one of UTC.
const OTHER_BOOT: i64 = 128;

/// Samples by installation and number.
type BySeq<T> = BTreeMap<(String, i64), T>;

/// One sample as the lake has it, and when it was.
#[derive(Debug, Clone, Copy)]
struct Sample {
    boot_ns: i64,
    latency_ns: (i64, i64),
    truth: Moment,
}

impl Sample {
    /// Its time on the boot line: the stamp minus the middle of its latency.
    fn event_ns(&self) -> i64 {
        self.boot_ns - (self.latency_ns.0 + self.latency_ns.1).div_euclid(2)
    }

    /// By how much that may be off.
    fn half_ns(&self) -> i64 {
        (self.latency_ns.1 - self.latency_ns.0 + 1).div_euclid(2)
    }

    /// True if it came as its source declares.
    fn is_on_time(&self) -> bool {
        let delay = self.boot_ns - self.truth.boot_ns;
        (self.latency_ns.0..=self.latency_ns.1).contains(&delay)
    }
}

/// How many of something were judged, and held.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    judged: u64,
    within: u64,
    /// Came later than declared or beside what did, or truly lies on the other side of a fix.
    late: u64,
    bound_max: f64,
}

impl Tally {
    fn judge(&mut self, off: f64, bound: f64) {
        self.judged += 1;
        self.within += u64::from(off.abs() <= bound);
        self.bound_max = self.bound_max.max(bound);
    }

    /// True if all hold, and there is one; what depends on how even stamps are need not be there on a busy machine.
    fn is_right(&self, is_needed: bool) -> bool {
        self.within == self.judged && (self.judged > 0 || (!is_needed && self.late > 0))
    }

    fn json(&self, unit: &str) -> serde_json::Value {
        json!({"judged": self.judged, "within": self.within, "not_judged": self.late, "unit": unit, "bound_max": self.bound_max})
    }
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alignment {
    rows: u64,
    /// Written before all their samples were known to be there.
    provisional: u64,
    /// Each with its unit, in the order of the recipe.
    tallies: Vec<(String, &'static str, Tally)>,
}

impl Alignment {
    /// Judges the rows that `main` has of a device.
    pub(crate) async fn read(
        location: &str,
        (shape, device): (&Shape, &str),
        emitted: &Emitted,
        env_truth: &Path,
    ) -> Result<Self> {
        let lake = Lake::open(location).await?;
        let commit = lake.resolve("main").await?;
        let sensed = Sensed::read(&lake, &commit, device, emitted, env_truth).await?;
        let Some(table) = Table::read_of(&lake, &commit, &shape.table, device).await? else {
            return Ok(Self::default());
        };
        let frames = Frames::read(&table, &sensed)?;
        let provisional =
            table.integers("provisional")?.iter().filter(|provisional| **provisional == Some(1)).count();
        let mut found = Self { rows: table.rows(), provisional: provisional as u64, tallies: Vec::new() };
        found.tallies.push(("row".to_owned(), TIMES, frames.times(&table)?));
        for group in &shape.groups {
            let name = group.column.name.to_string();
            let Some(samples) = sensed.streams.get(group.column.stream.as_str()) else { continue };
            let sources = Sources::read(&table, group)?;
            found.tallies.push((format!("{name} dt"), TIMES, frames.distances(group, &sources, samples)));
            match group.column.method {
                Method::Window { from_ns, to_ns, .. } => {
                    let counts = group.shown.iter().find(|shown| shown.column.ends_with("_count"));
                    if let Some(counts) = counts {
                        let counts = table.integers(&counts.column)?;
                        let tally = frames.counts(&counts, (from_ns, to_ns), &sources, samples);
                        found.tallies.push((format!("{name} count"), "samples", tally));
                    }
                }
                Method::Geodesic { .. } if group.column.uncertainty => {
                    let tally = frames.places(&table, group, &sources, &sensed)?;
                    found.tallies.push((format!("{name} position"), "m", tally));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// True if there are rows, and all that could be judged holds.
    pub(crate) fn is_right(&self) -> bool {
        self.rows > 0 && self.tallies.iter().all(|(_, unit, tally)| tally.is_right(*unit == TIMES))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let tallies: serde_json::Map<String, serde_json::Value> =
            self.tallies.iter().map(|(name, unit, tally)| (name.clone(), tally.json(unit))).collect();
        json!({"rows": self.rows, "provisional": self.provisional, "is_right": self.is_right(), "judged": tallies})
    }

    pub(crate) fn print(&self) {
        println!(
            "\nHeld against when and where it was played ({} rows, {} of them provisional):",
            self.rows, self.provisional
        );
        for (name, unit, tally) in &self.tallies {
            let late = match tally.late {
                0 => String::new(),
                late => format!("; {late} are not judged: late, or at an edge"),
            };
            println!(
                "  {name:<16} {} of {} hold the truth, the widest bound is {:.1} {unit}{late}",
                tally.within, tally.judged, tally.bound_max
            );
        }
    }
}

/// All that the lake has of a device's sensors, with when each sample was.
struct Sensed {
    streams: BTreeMap<&'static str, BySeq<Sample>>,
    /// Latitude and longitude as played, degrees.
    fixes: BySeq<(f64, f64)>,
}

impl Sensed {
    async fn read(
        lake: &Lake,
        commit: &CommitId,
        device: &str,
        emitted: &Emitted,
        env_truth: &Path,
    ) -> Result<Self> {
        let mut found = Self { streams: BTreeMap::new(), fixes: BTreeMap::new() };
        let env = env_times(&env_truth.with_extension("times"))?;
        if let Some(table) = Table::read_of(lake, commit, "raw.imu", device).await? {
            let n = table.integers("n")?;
            let when = |row: usize, _| emitted.imu_at.get(&u32::try_from(n[row]?).ok()?).copied();
            found.streams.insert("imu", samples(&table, when)?);
        }
        if let Some(table) = Table::read_of(lake, commit, "raw.env", device).await? {
            let n = table.integers("n")?;
            found.streams.insert("env/roof", samples(&table, |row, _| env.get(&n[row]?).copied())?);
        }
        if let Some(table) = Table::read_of(lake, commit, "raw.image", device).await? {
            let names = table.texts("name")?;
            let when = |row: usize, _| emitted.camera_at.get(names[row].as_ref()?).copied();
            found.streams.insert("camera/front", samples(&table, when)?);
        }
        if let Some(table) = Table::read_of(lake, commit, "raw.gps_fix", device).await? {
            let utc = table.integers("utc")?;
            // The recording goes round: the last time before the stamp.
            let when = |row: usize, boot_ns: i64| {
                let at = &emitted.gps.get(&utc[row]?)?.at;
                at.iter().rev().find(|at| at.boot_ns <= boot_ns).copied()
            };
            let fixes = samples(&table, when)?;
            let keys = table.texts("epoch")?.into_iter().zip(table.integers("seq")?);
            for ((epoch, seq), utc) in keys.zip(&utc) {
                let played = utc.and_then(|utc| emitted.gps.get(&utc));
                if let (Some(epoch), Some(seq), Some(played)) = (epoch, seq, played) {
                    found.fixes.insert((epoch, seq), (played.lat, played.lon));
                }
            }
            found.streams.insert("gps", fixes);
        }
        Ok(found)
    }
}

/// Rows of a raw table; `when` says when a row was, given its place and stamp.
fn samples(table: &Table, when: impl Fn(usize, i64) -> Option<Moment>) -> Result<BySeq<Sample>> {
    let (epoch, seq, boot) = (table.texts("epoch")?, table.integers("seq")?, table.integers("boot_ns")?);
    let (lo, hi) = (table.integers("lat_lo_ns")?, table.integers("lat_hi_ns")?);
    let sample = |row: usize| {
        let boot_ns = boot[row]?;
        let sample = Sample { boot_ns, latency_ns: (lo[row]?, hi[row]?), truth: when(row, boot_ns)? };
        Some(((epoch[row].clone()?, seq[row]?), sample))
    };
    Ok((0..seq.len()).filter_map(sample).collect())
}

fn env_times(path: &Path) -> Result<BTreeMap<i64, Moment>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let time = |line: &str| {
        let numbers: Vec<i64> = line.split(',').filter_map(|number| number.parse().ok()).collect();
        let [n, boot_ns, utc_ns] = <[i64; TIMES_FIELDS]>::try_from(numbers).ok()?;
        Some((n, Moment { boot_ns, utc_ns }))
    };
    Ok(text.lines().filter_map(time).collect())
}

/// Sources of one column, row by row.
struct Sources {
    epoch: Vec<Option<String>>,
    lo: Vec<Option<i64>>,
    hi: Vec<Option<i64>>,
    dt: Vec<Option<i64>>,
    err: Vec<Option<i64>>,
    flag: Vec<Option<i64>>,
}

impl Sources {
    fn read(table: &Table, group: &Group) -> Result<Self> {
        let name = &group.column.name;
        let part = |part: &str| table.integers(&format!("{name}_src.{part}"));
        Ok(Self {
            epoch: table.texts(&format!("{name}_src.epoch"))?,
            lo: part("seq_lo")?,
            hi: part("seq_hi")?,
            dt: part("dt_ns")?,
            err: part("err_ns")?,
            flag: part("flag")?,
        })
    }

    /// First and last sample; none without a match, or on another boot line.
    fn ends<'a>(
        &self,
        row: usize,
        samples: &'a BySeq<Sample>,
    ) -> Option<[(&'a (String, i64), &'a Sample); 2]> {
        if self.flag[row]? & OTHER_BOOT != 0 {
            return None;
        }
        let epoch = self.epoch[row].clone()?;
        let end = |seq: i64| samples.get_key_value(&(epoch.clone(), seq));
        Some([end(self.lo[row]?)?, end(self.hi[row]?)?])
    }
}

/// The pictures that rows were made of.
struct Frames(Vec<Option<Sample>>);

impl Frames {
    fn read(table: &Table, sensed: &Sensed) -> Result<Self> {
        let none = BTreeMap::new();
        let pictures = sensed.streams.get("camera/front").unwrap_or(&none);
        let frame = |key: Option<String>| {
            let key = key?;
            let (epoch, rest) = key.split_once('/')?;
            let (stream, seq) = rest.rsplit_once('/')?;
            let known = (stream == "camera/front").then_some((epoch.to_owned(), seq.parse().ok()?))?;
            pictures.get(&known).copied()
        };
        Ok(Self(table.texts("row_key")?.into_iter().map(frame).collect()))
    }

    /// Rows whose picture is known, and came as declared.
    fn on_time(&self) -> impl Iterator<Item = (usize, &Sample)> {
        let known = self.0.iter().enumerate().filter_map(|(row, frame)| Some((row, frame.as_ref()?)));
        known.filter(|(_, frame)| frame.is_on_time())
    }

    fn times(&self, table: &Table) -> Result<Tally> {
        let (ts, err) = (table.integers("ts_ns")?, table.integers("ts_err_ns")?);
        let late = self.0.iter().flatten().filter(|frame| !frame.is_on_time()).count();
        let mut tally = Tally { late: late as u64, ..Tally::default() };
        for (row, frame) in self.on_time() {
            if let (Some(ts), Some(err)) = (ts[row], err[row]) {
                tally.judge(ms(ts - frame.truth.utc_ns), ms(err));
            }
        }
        Ok(tally)
    }

    fn distances(&self, group: &Group, sources: &Sources, samples: &BySeq<Sample>) -> Tally {
        let mut tally = Tally::default();
        if !group.column.prepare.is_empty() {
            return tally;
        }
        for (row, frame) in self.on_time() {
            let Some(ends) = sources.ends(row, samples) else { continue };
            let (Some(dt), Some(err)) = (sources.dt[row], sources.err[row]) else { continue };
            let offset = group.column.offset_ns;
            // The distance is that of the nearer end.
            let nearer = ends.iter().find(|(_, end)| end.event_ns() + offset - frame.event_ns() == dt);
            match nearer {
                Some((_, end)) if end.is_on_time() => {
                    let truth = end.truth.boot_ns + offset - frame.truth.boot_ns;
                    tally.judge(ms(dt - truth), ms(err));
                }
                Some(_) => tally.late += 1,
                // Of no sample that is named as the source.
                None => tally.judge(f64::INFINITY, ms(err)),
            }
        }
        tally
    }

    /// A window holds at least the samples that surely lie in it, and at most those that may.
    fn counts(
        &self,
        counts: &[Option<i64>],
        (from_ns, to_ns): (i64, i64),
        sources: &Sources,
        samples: &BySeq<Sample>,
    ) -> Tally {
        let mut tally = Tally::default();
        for (row, frame) in self.on_time() {
            let (Some([(key, _), _]), Some(count)) = (sources.ends(row, samples), counts[row]) else {
                continue;
            };
            let of_epoch = samples.iter().filter(|((epoch, _), _)| *epoch == key.0).map(|(_, sample)| sample);
            // What this sample's distance may be off by, beyond each edge (1) or within (-1).
            let lies_in = |sample: &Sample, dt_ns: i64, side: i64| {
                let spare = side * (frame.half_ns() + sample.half_ns() + dt_ns.abs() / STRETCH + 1);
                (from_ns - spare..to_ns + spare).contains(&dt_ns)
            };
            let said = |sample: &Sample| sample.event_ns() - frame.event_ns();
            let truly = |sample: &Sample| sample.truth.boot_ns - frame.truth.boot_ns;
            let near =
                |sample: &&Sample| lies_in(sample, said(sample), 1) || lies_in(sample, truly(sample), 1);
            let near: Vec<&Sample> = of_epoch.filter(near).collect();
            if !near.iter().all(|sample| sample.is_on_time()) {
                tally.late += 1;
                continue;
            }
            let count_of = |side: i64| {
                let held = near.iter().filter(|sample| lies_in(sample, truly(sample), side));
                i64::try_from(held.count()).unwrap_or(i64::MAX)
            };
            let (least, most) = (count_of(-1), count_of(1));
            let off = (least - count).max(count - most).max(0);
            let spread = (most - least) as f64;
            tally.judge(off as f64, 0.0);
            tally.bound_max = tally.bound_max.max(spread);
        }
        tally
    }

    /// A position lies no farther from where it was than its uncertainty.
    fn places(&self, table: &Table, group: &Group, sources: &Sources, sensed: &Sensed) -> Result<Tally> {
        let mut tally = Tally::default();
        let name = &group.column.name;
        let column = |field: &str| table.doubles(&format!("{name}_{field}"));
        let (lat, lon, bound) = (column("lat")?, column("lon")?, column("lat_u")?);
        let none = BTreeMap::new();
        let samples = sensed.streams.get("gps").unwrap_or(&none);
        for (row, frame) in self.on_time() {
            let (Some(at), Some(bound)) = (lat[row].zip(lon[row]), bound[row]) else { continue };
            let Some([(lo_key, lo), (hi_key, hi)]) = sources.ends(row, samples) else { continue };
            let (Some(from), Some(to)) = (sensed.fixes.get(lo_key), sensed.fixes.get(hi_key)) else {
                continue;
            };
            if metres(*from, *to) > HOP_MAX_M {
                continue;
            }
            let (true_gap, gap) = (hi.truth.boot_ns - lo.truth.boot_ns, hi.event_ns() - lo.event_ns());
            let since = frame.truth.boot_ns - lo.truth.boot_ns;
            let is_known = lo.is_on_time() && hi.is_on_time() && (true_gap - gap).abs() <= JITTER_MAX_NS;
            // Truly beside these two fixes: they do not say where it was.
            if !is_known || since < 0 || since > true_gap || true_gap == 0 {
                tally.late += 1;
                continue;
            }
            let share = since as f64 / true_gap as f64;
            let truth = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
            let of_jitter = metres(*from, *to) * (true_gap - gap).abs() as f64 / gap as f64;
            tally.judge(metres(at, truth), bound + of_jitter + FLAT_M);
        }
        Ok(tally)
    }
}

/// Distance of two places that are near each other, m.
fn metres((lat, lon): (f64, f64), (to_lat, to_lon): (f64, f64)) -> f64 {
    let north = (to_lat - lat) * M_PER_DEGREE;
    let east = (to_lon - lon) * M_PER_DEGREE * lat.to_radians().cos();
    north.hypot(east)
}

fn ms(ns: i64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(truth_ns: i64, delay_ns: i64) -> Sample {
        Sample {
            boot_ns: truth_ns + delay_ns,
            latency_ns: (0, 20_000_000),
            truth: Moment { boot_ns: truth_ns, utc_ns: truth_ns },
        }
    }

    #[test]
    fn a_sample_is_on_time_within_what_its_source_declares() {
        assert!(sample(5, 0).is_on_time() && sample(5, 20_000_000).is_on_time());
        assert!(!sample(5, 20_000_001).is_on_time() && !sample(5, -1).is_on_time());
        assert_eq!(sample(0, 15_000_000).event_ns(), 5_000_000);
    }

    #[test]
    fn a_tally_is_right_if_all_hold_and_there_is_one() {
        let mut tally = Tally { late: 1, ..Tally::default() };
        assert!(!tally.is_right(true) && tally.is_right(false));
        tally.judge(-2.0, 2.0);
        assert!(tally.is_right(true));
        tally.judge(2.1, 2.0);
        assert!(!tally.is_right(true) && !tally.is_right(false));
    }

    #[test]
    fn metres_are_those_of_the_ground() {
        assert!((metres((55.0, 38.0), (55.001, 38.0)) - 111.195).abs() < 1e-6);
        assert!((metres((60.0, 38.0), (60.0, 38.001)) - 55.5975).abs() < 1e-3);
    }
}
