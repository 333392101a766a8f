//! `fsck`: is everything on a card sound, and is everything that is missing accounted for? It changes nothing.

use super::holes::{Why, holes};
use super::segment::{Frame, Segment};
use super::survey::{Card, StreamOfEpoch};
use crate::spool::frame::{FrameKind, frame_bytes};
use crate::spool::payload::Summary;
use crate::spool::{gap_rows, is_gap_rows};
use headwater_core::gap::GapRecord;
use headwater_core::id::{BootOrdinal, Epoch};
use headwater_core::interval::IntervalSet;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::Path;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it may be; said so that nobody wonders.
    Note,
    /// What a power cut leaves: opening the spool puts it right, and no captured row is lost by it.
    Torn,
    /// Rows or what proves them cannot be read, or are missing without a reason.
    Damage,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// File or stream.
    pub place: String,
    /// What.
    pub what: String,
}

/// What was looked at and what was found.
#[derive(Debug, Default, Serialize)]
pub struct FsckReport {
    /// Segment files.
    pub segments: u64,
    /// Bytes gone through.
    pub bytes: u64,
    /// Sound frames.
    pub frames: u64,
    /// Rows in sound slabs, each counted once.
    pub rows: u64,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
    /// What was not looked at, and why.
    pub not_checked: Vec<String>,
}

impl FsckReport {
    /// The worst there is; none if all is well.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// True if nothing needs mending.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.worst().is_none_or(|worst| worst == Severity::Note)
    }

    fn add(&mut self, severity: Severity, place: impl Display, what: impl Display) {
        self.findings.push(Finding { severity, place: place.to_string(), what: what.to_string() });
    }
}

/// What going through all segments gathers for the checks across them.
#[derive(Debug, Default)]
struct Gathered {
    present: BTreeMap<StreamOfEpoch, IntervalSet>,
    gaps: Vec<(Epoch, GapRecord)>,
}

/// Checks every sum, footers against frames, and that each hole is accounted for. `seen` is told of the bytes gone
/// through, for a progress bar.
#[must_use]
pub fn fsck(card: &Card, mut seen: impl FnMut(u64)) -> FsckReport {
    let mut report = FsckReport::default();
    let mut gathered = Gathered::default();
    identity(card, &mut report);
    for (path, why) in &card.unreadable {
        report.add(Severity::Damage, below(card, path), format_args!("cannot be read: {why}"));
    }
    for segment in &card.segments {
        check_segment(card, segment, &mut report, &mut gathered);
        report.segments = report.segments.saturating_add(1);
        report.bytes = report.bytes.saturating_add(segment.len);
        seen(segment.len);
    }
    report.rows = gathered.present.values().map(IntervalSet::count).sum();
    check_holes(card, &mut report, &gathered);
    report.not_checked.push(
        "the index is not compared: opening it would write to it, and all it holds is read from the segments if it is lost"
            .to_owned(),
    );
    if card.in_use {
        report.not_checked.push(
            "an agent holds this spool: what is not sealed may be on its way, and was not judged".to_owned(),
        );
    }
    report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    report
}

fn below(card: &Card, path: &Path) -> String {
    path.strip_prefix(&card.dir).unwrap_or(path).display().to_string()
}

/// The files `epoch` and `boot`, and what a torn open left.
fn identity(card: &Card, report: &mut FsckReport) {
    if card.segments.is_empty() && card.identity.epoch.is_none() && card.identity.boot.is_none() {
        return;
    }
    let then = "the agent starts a new epoch, and nothing that is here is shipped under another name";
    if card.identity.epoch.is_none() {
        report.add(Severity::Damage, "epoch", format_args!("is missing or damaged: {then}"));
    }
    if card.identity.boot.is_none() {
        report.add(Severity::Damage, "boot", format_args!("is missing or damaged: {then}"));
    }
    if card.dir.join("idx.opening").exists() && !card.in_use {
        report.add(
            Severity::Note,
            "idx.opening",
            "the last start died opening the index; the next one rebuilds it",
        );
    }
    let older = card.segments.iter().filter(|segment| {
        segment.header.is_some() && card.identity.epoch.is_some_and(|epoch| segment.summary.epoch != epoch)
    });
    let older = older.count();
    if older > 0 {
        report.add(
            Severity::Note,
            "seg",
            format_args!("{older} segments are of an older epoch; `spool export` takes them along"),
        );
    }
}

fn check_segment(card: &Card, segment: &Segment, report: &mut FsckReport, gathered: &mut Gathered) {
    let name = segment.name();
    let Some(header) = segment.header else {
        let what = if segment.len == 0 { "is empty" } else { "header is damaged or of another version" };
        return report.add(Severity::Damage, name, what);
    };
    if segment.table.is_none() {
        report.add(Severity::Damage, &name, "stream table is damaged");
    }
    let mut computed = Summary::new(header.epoch, header.boot_ordinal);
    let (mut misfits, mut gaps) = (Vec::new(), Vec::new());
    let scanned = segment.go_through(|at, head, frame| match frame {
        Frame::Slab(slab) => {
            computed.add(&head.meta, frame_bytes(head.len));
            if is_gap_rows(&slab.rows) {
                gaps.extend(gap_rows(&slab.rows).into_iter().map(|gap| (header.epoch, gap)));
            }
        }
        Frame::Declared(_) => {
            computed.declared.insert(head.meta.stream, at);
        }
        Frame::Misfit => misfits.push(at),
        Frame::Other => {}
    });
    let found = match scanned {
        Ok(found) => found,
        // The agent let go of it meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => return report.add(Severity::Damage, name, format_args!("cannot be read: {error}")),
    };
    report.frames = report.frames.saturating_add(found.frames.len() as u64);
    for at in misfits {
        report.add(
            Severity::Damage,
            &name,
            format_args!("frame at {at} is sound by its sum and not what it says it is"),
        );
    }
    for hole in &found.holes {
        let bytes = hole.at.end.saturating_sub(hole.at.start);
        let whose = hole.meta.filter(|meta| meta.kind == FrameKind::Slab);
        let whose = whose.map_or_else(
            || "of what is not known".to_owned(),
            |meta| format!("of stream {}, seqs {}..{}", meta.stream.0, meta.seqs().start, meta.seqs().end),
        );
        let at = hole.at.start;
        report.add(
            Severity::Damage,
            &name,
            format_args!("{bytes} bytes at {at} do not fit their sum, {whose}"),
        );
    }
    if let Some(tail) = found.tail.as_ref().filter(|_| !card.in_use || segment.sealed) {
        let bytes = tail.at.end.saturating_sub(tail.at.start);
        let lost = tail.at.start < found.durable || segment.sealed;
        let (severity, what) = match (lost, tail.unreadable) {
            (true, _) => (Severity::Damage, "had been synced and do not fit their sum"),
            (false, true) => (Severity::Damage, "cannot be read"),
            (false, false) => (Severity::Torn, "are a torn tail, as a power cut leaves it"),
        };
        report.add(severity, &name, format_args!("the last {bytes} bytes, from {}, {what}", tail.at.start));
    }
    if segment.sealed {
        compare(&name, &segment.summary, &computed, report);
    } else if !card.in_use {
        report.add(Severity::Note, &name, "is not sealed: the agent was stopped by a power cut, or killed");
    }
    for (id, part) in &computed.streams {
        gathered.present.entry((header.epoch, *id)).or_default().union_with(&part.seqs);
    }
    gathered.gaps.extend(gaps);
}

/// A footer against the frames it stands behind.
fn compare(name: &str, footer: &Summary, frames: &Summary, report: &mut FsckReport) {
    if (footer.epoch, footer.boot_ordinal) != (frames.epoch, frames.boot_ordinal) {
        report.add(Severity::Damage, name, "footer and header name another epoch or boot");
    }
    let none = IntervalSet::new();
    let ids: std::collections::BTreeSet<_> = footer.streams.keys().chain(frames.streams.keys()).collect();
    for id in ids {
        let of = |summary: &Summary| summary.streams.get(id).map_or(none.clone(), |part| part.seqs.clone());
        let (told, here) = (of(footer), of(frames));
        let lost: u64 = told.iter().flat_map(|range| here.missing_in(range)).map(|r| r.end - r.start).sum();
        let untold: u64 = here.iter().flat_map(|range| told.missing_in(range)).map(|r| r.end - r.start).sum();
        if lost > 0 {
            let what = format_args!("footer names {lost} rows of stream {} that no sound frame holds", id.0);
            report.add(Severity::Damage, name, what);
        }
        if untold > 0 {
            let what = format_args!("footer leaves out {untold} rows of stream {} that are here", id.0);
            report.add(Severity::Damage, name, what);
        }
    }
}

fn check_holes(card: &Card, report: &mut FsckReport, gathered: &Gathered) {
    let names = card.names();
    for hole in holes(card, &gathered.present, &gathered.gaps) {
        let name = names
            .get(&hole.stream)
            .map_or_else(|| format!("stream {}", hole.stream.1.0), |(name, _)| name.to_string());
        let place = format!("{name} (epoch {})", hole.stream.0);
        let seqs = format!("seqs {}..{}", hole.seqs.start, hole.seqs.end.saturating_sub(1));
        match hole.why {
            Why::Unexplained => report.add(
                Severity::Damage,
                place,
                format_args!("{seqs} are missing and no gap record or loss explains them"),
            ),
            Why::AtNextOpen => report.add(
                Severity::Note,
                place,
                format_args!(
                    "{seqs} are missing from a segment that is not sealed; the next start records them"
                ),
            ),
            Why::Freed => report.add(
                Severity::Note,
                place,
                format_args!("{seqs} are not here: acked and freed, or recorded by a row that was"),
            ),
        }
    }
    let lost: BTreeMap<(Epoch, BootOrdinal, &str, u16), u64> = card
        .segments
        .iter()
        .flat_map(|segment| {
            let summary = &segment.summary;
            summary.lost.iter().map(move |lost| {
                let rows = lost.seqs.end.saturating_sub(lost.seqs.start);
                ((summary.epoch, summary.boot_ordinal, lost.cause.cause(), lost.stream.0), rows)
            })
        })
        .fold(BTreeMap::new(), |mut sums, (key, rows)| {
            let sum = sums.entry(key).or_insert(0_u64);
            *sum = sum.saturating_add(rows);
            sums
        });
    for ((epoch, _, cause, id), rows) in lost {
        let name = names.get(&(epoch, headwater_core::id::StreamId(id)));
        let name = name.map_or_else(|| format!("stream {id}"), |(name, _)| name.to_string());
        report.add(
            Severity::Note,
            format!("{name} (epoch {epoch})"),
            format_args!("{rows} rows are recorded as {cause} by their segments"),
        );
    }
}

impl Display for FsckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} segments, {}, {} frames, {} rows gone through",
            self.segments,
            crate::status::bytes(self.bytes),
            self.frames,
            self.rows
        )?;
        for Finding { severity, place, what } in &self.findings {
            let mark = match severity {
                Severity::Note => "note",
                Severity::Torn => "torn",
                Severity::Damage => "!",
            };
            writeln!(f, "{mark} {place}: {what}")?;
        }
        self.not_checked.iter().try_for_each(|why| writeln!(f, "note {why}"))?;
        match self.worst() {
            None | Some(Severity::Note) => writeln!(f, "the spool is sound"),
            Some(Severity::Torn) => {
                writeln!(f, "nothing captured is lost; the agent's next start, or --repair, puts it right")
            }
            Some(Severity::Damage) => writeln!(
                f,
                "there is damage: copy the card before anything else, `spool export` what reads, then --repair"
            ),
        }
    }
}
