//! The process whose power is cut or which is killed: captures into a spool, and says what was acknowledged.

use super::spool_world::{boot, declare, slab};
use headwater_agent::spool::disk::RealDisk;
use headwater_agent::spool::{DiskSpool, Settings};
use headwater_core::batch::Values;
use headwater_core::id::StreamId;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Slab, Spool, SpoolLane};
use headwater_core::sample::Blob;
use headwater_sim::disk::Dice;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Small segments: many are rolled, sealed and freed in a moment.
pub(crate) const SETTINGS: Settings =
    Settings { segment_bytes: 64 << 10, bytes_max: 1 << 30, free_bytes_min: 0, new_epoch: false };
/// What is written; the last one with a blob in each row.
pub(crate) const STREAMS: [(&str, SpoolLane); 4] = [
    ("imu", SpoolLane::Telemetry),
    ("gps", SpoolLane::Telemetry),
    ("alarm", SpoolLane::Control),
    ("camera/front", SpoolLane::Media),
];
/// Lines the writer may say before it ends by itself.
const LINES_MAX: u32 = 2_000;
/// Rows of a stream that stay when the oldest are trimmed.
const FIFO_ROWS: u64 = 400;
/// A writer that says nothing for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Marks the content of a row with the round it was written in: the same seq with another mark is other content.
const ROUND_SHIFT: u32 = 40;

/// Rows as a round writes them.
pub(crate) fn marked(stream: StreamId, seqs: Range<u64>, round: u64) -> Slab {
    let mut made = slab(stream, seqs.start, seqs.end - seqs.start);
    made.rows.fields[0].values =
        Values::I64(seqs.clone().map(|seq| (round << ROUND_SHIFT | seq) as i64).collect());
    if usize::from(stream.0) == STREAMS.len() {
        let mut dice = Dice::new(round << ROUND_SHIFT | seqs.start);
        let bytes = (0..1 + dice.below(12_000)).map(|_| dice.roll() as u8).collect::<Vec<_>>();
        made.blob = Some(Blob { mime: "image/jpeg".into(), bytes: bytes.into() });
    }
    made
}

/// The round a slab says it is from.
pub(crate) fn round_of(slab: &Slab) -> Option<u64> {
    match &slab.rows.fields.first()?.values {
        Values::I64(values) => values.first().map(|value| (*value as u64) >> ROUND_SHIFT),
        _ => None,
    }
}

/// What the writer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// About to append these rows (stream, seqs): not acknowledged by that.
    Appends(usize, Range<u64>),
    /// A sync returned: these rows are acknowledged.
    Synced(Vec<(usize, Range<u64>)>),
    /// A sync returned after the cut: acknowledged by nobody who would have lived to say so.
    Late(Vec<(usize, Range<u64>)>),
    /// About to release all rows of a stream below this.
    Trims(usize, u64),
}

fn pair(text: &str) -> Option<(usize, Range<u64>)> {
    let mut parts = text.split(':');
    let stream = parts.next()?.parse().ok()?;
    Some((stream, parts.next()?.parse().ok()?..parts.next()?.parse().ok()?))
}

fn parse(line: &str) -> Option<Said> {
    let (word, rest) = line.split_once(' ')?;
    match word {
        "appends" => pair(rest).map(|(stream, seqs)| Said::Appends(stream, seqs)),
        "late" => rest.split_whitespace().map(pair).collect::<Option<_>>().map(Said::Late),
        "synced" => rest.split_whitespace().map(pair).collect::<Option<_>>().map(Said::Synced),
        "trims" => pair(rest).map(|(stream, seqs)| Said::Trims(stream, seqs.end)),
        _ => None,
    }
}

/// A running writer.
pub(crate) struct Writer {
    child: Child,
    said: Receiver<Said>,
}

impl Writer {
    /// Starts a process that writes into `dir` as `round`; in rounds with `fifo` it trims the oldest rows.
    pub(crate) fn start(dir: &Path, round: u64, fifo: bool) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer::writes_until_it_is_stopped", "--nocapture", "--ignored"])
            .env("HEADWATER_SPOOL_WRITER", format!("{round} {fifo} {}", dir.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, said) = sync_channel(1 << 14);
        std::thread::spawn(move || {
            // A line cut short by the kill was not said.
            for said in lines.map_while(Result::ok).filter_map(|line| parse(line.strip_suffix(';')?)) {
                if tell.send(said).is_err() {
                    return;
                }
            }
        });
        Self { child, said }
    }

    /// The next thing it said; none once it has ended.
    pub(crate) fn next(&self) -> Option<Said> {
        match self.said.recv_timeout(SILENCE_MAX) {
            Ok(said) => Some(said),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the writer hangs"),
        }
    }

    /// Kills it, and gives what it still said before.
    pub(crate) fn kill(mut self) -> Vec<Said> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.next()).collect()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Already reaped in the ordinary case; after a failed assertion it must not outlive the test.
        if self.child.kill().is_ok() {
            self.child.wait().map_or_else(|error| eprintln!("writer stays: {error}"), drop);
        }
    }
}

#[test]
#[ignore = "the process that other tests of this file start and kill; alone it does nothing"]
fn writes_until_it_is_stopped() {
    let Ok(job) = std::env::var("HEADWATER_SPOOL_WRITER") else { return };
    let mut job = job.splitn(3, ' ');
    let mut word = || job.next().unwrap();
    let (round, fifo, dir) = (word().parse().unwrap(), word() == "true", word());
    write(Path::new(dir), round, fifo);
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever listens may be done with us.
    if writeln!(out, "{line};").and_then(|()| out.flush()).is_err() {
        panic!("nobody listens");
    }
}

/// Ends at the first error of the disk, as a process does whose power is cut.
fn write(dir: &Path, round: u64, fifo: bool) {
    let (mut spool, _) = DiskSpool::open(RealDisk, dir, boot(round as u8), SETTINGS).unwrap();
    let ids: Vec<StreamId> = STREAMS.iter().map(|(name, lane)| declare(&mut spool, name, *lane)).collect();
    let mut next: Vec<u64> =
        ids.iter().map(|id| spool.streams().into_iter().find(|s| s.id == *id).unwrap().next_seq.0).collect();
    let mut durable = next.clone();
    let mut waiting: Vec<(usize, Range<u64>)> = Vec::new();
    let mut dice = Dice::new(round);
    // libtest has said something without ending its line.
    println!();
    for _ in 0..LINES_MAX {
        let stream = dice.below(STREAMS.len());
        match dice.below(12) {
            0 => {
                let n = 1 + dice.below(3) as u64;
                spool.skip(ids[stream], n).unwrap();
                next[stream] += n;
            }
            1..=3 => {
                spool.sync().unwrap();
                // A real cut would have ended this process too, but ours lives on for a moment, and then a sync
                // may return without an error: it finds its transaction neither running nor committing. Reading
                // fails from the cut on, so what was synced before a read was synced before the cut.
                let alive = std::fs::read(dir.join("epoch"));
                let rows: Vec<String> =
                    waiting.drain(..).map(|(s, seqs)| format!("{s}:{}:{}", seqs.start, seqs.end)).collect();
                durable.clone_from(&next);
                if let Err(error) = alive {
                    say(&format!("late {}", rows.join(" ")));
                    panic!("after the cut: {error}");
                }
                say(&format!("synced {}", rows.join(" ")));
            }
            4 | 5 if fifo => {
                let upto = durable[stream].saturating_sub(dice.below(FIFO_ROWS as usize) as u64);
                say(&format!("trims {stream}:0:{upto}"));
                spool.trim(ids[stream], &IntervalSet::below(upto)).unwrap();
            }
            _ => {
                let n = if stream + 1 == STREAMS.len() { 1 } else { 1 + dice.below(40) as u64 };
                let seqs = next[stream]..next[stream] + n;
                say(&format!("appends {stream}:{}:{}", seqs.start, seqs.end));
                spool.append(marked(ids[stream], seqs.clone(), round)).unwrap();
                next[stream] = seqs.end;
                waiting.push((stream, seqs));
            }
        }
    }
}
