//! A program whose output is MJPEG, such as `rpicam-vid` or `v4l2-ctl`, with the stamps it says of its frames if it does.

use super::arrival::{Arrivals, ReadAt, Reads};
use super::child::{Output, Program};
use super::frame_stamp::{Due, FrameTime, Pairing, RpicamLines, SensorStamp, StampJudge, V4l2CtlLines};
use super::image::{self, Mjpeg, MjpegEvent, Picture};
use crate::config::FrameStamps;
use crate::telemetry::{self, Counter, count};
use headwater_core::gap::GapCause;
use headwater_core::id::StreamName;
use headwater_core::ports::{Clock, Source, SourceError, SourceEvent};
use headwater_core::schema::builtin;
use headwater_core::time::{BootNanos, StampKind};
use std::collections::VecDeque;

/// Bytes taken at once: a picture in a few reads.
const READ_BYTES: usize = 64 * 1_024;
/// Frames without a usable stamp in a row that are worth a word to people.
const WITHOUT_MAX: u32 = 16;

/// What a program says of its frames beside them.
#[derive(Debug)]
enum Stamps {
    None,
    Rpicam(RpicamLines),
    V4l2Ctl(V4l2CtlLines),
}

impl Stamps {
    fn new(kind: Option<FrameStamps>) -> Self {
        match kind {
            None => Self::None,
            Some(FrameStamps::Rpicam) => Self::Rpicam(RpicamLines::default()),
            Some(FrameStamps::V4l2Ctl) => Self::V4l2Ctl(V4l2CtlLines::default()),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Vec<Option<SensorStamp>> {
        match self {
            Self::None => Vec::new(),
            Self::Rpicam(lines) => lines.push(bytes),
            Self::V4l2Ctl(lines) => lines.push(bytes),
        }
    }
}

/// A whole frame and its arrival.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    picture: Picture,
    bytes: Vec<u8>,
    read: ReadAt,
}

/// The source.
#[derive(Debug)]
pub struct CameraCommandSource<C> {
    clock: C,
    /// BOOTTIME less MONOTONIC, now.
    asleep_ns: fn() -> i64,
    program: Program<C>,
    stream: StreamName,
    arrivals: Arrivals,
    kind: Option<FrameStamps>,
    stamps: Stamps,
    judge: StampJudge,
    pairing: Pairing<Frame>,
    /// Frames in a row that had only their arrival.
    without: u32,
    mjpeg: Mjpeg,
    reads: Reads,
    events: VecDeque<SourceEvent>,
    buffer: Vec<u8>,
}

impl<C: Clock> CameraCommandSource<C> {
    pub(super) fn new(
        (clock, asleep_ns): (C, fn() -> i64),
        program: Program<C>,
        stream: StreamName,
        arrivals: Arrivals,
        kind: Option<FrameStamps>,
    ) -> Self {
        let declared = SourceEvent::Stream { name: stream.clone(), schema: builtin::image() };
        Self {
            clock,
            asleep_ns,
            program,
            stream,
            arrivals,
            kind,
            stamps: Stamps::new(kind),
            judge: StampJudge::default(),
            pairing: Pairing::default(),
            without: 0,
            mjpeg: Mjpeg::default(),
            reads: Reads::default(),
            events: VecDeque::from([declared]),
            buffer: vec![0; READ_BYTES],
        }
    }

    pub(super) async fn close(&mut self) {
        self.program.close().await;
    }

    fn picture(&mut self, event: MjpegEvent, read: ReadAt) {
        match event {
            MjpegEvent::Picture(picture, bytes) => {
                let frame = Frame { picture, bytes, read };
                if self.kind.is_none() {
                    return self.give(Due { frame, stamp: None });
                }
                let len = frame.bytes.len();
                let due = self.pairing.frame(frame, len, read.at);
                due.into_iter().for_each(|due| self.give(due));
            }
            MjpegEvent::Fault(fault, bytes) => {
                self.pairing.lose_count();
                self.waited(read.at);
                let (why, cause) = (fault.to_string(), GapCause::RejectedQuarantine);
                let (stream, at) = (self.stream.clone(), read.at);
                self.events.push_back(SourceEvent::SetAside {
                    stream: stream.clone(),
                    why: why.clone(),
                    bytes,
                    at,
                });
                self.events.push_back(SourceEvent::Lost { stream, rows: 1, cause, at, note: why });
            }
        }
    }

    /// Gives out what waited for a stamp long enough.
    fn waited(&mut self, now: BootNanos) {
        let due = self.pairing.poll(now);
        due.into_iter().for_each(|due| self.give(due));
    }

    fn give(&mut self, due: Due<Frame>) {
        let Due { frame, stamp } = due;
        let Frame { picture, bytes, read } = frame;
        let arrival =
            || FrameTime { t: read.at, latency: self.arrivals.latency(read, 0, 0), kind: StampKind::Arrival };
        let time = match stamp {
            Some((stamp, heard)) => self
                .judge
                .judge(stamp, heard.min(read.at), (self.asleep_ns)())
                .map_err(|bad| (Counter::CameraStampsRefused, bad.to_string())),
            None if self.kind.is_some() => {
                Err((Counter::CameraStampsMissing, "the program says nothing of its frames".to_owned()))
            }
            None => Ok(arrival()),
        };
        let time = match time {
            Ok(time) => {
                if self.without > WITHOUT_MAX {
                    telemetry::trouble(&self.stream, None);
                }
                self.without = 0;
                time
            }
            Err((counter, why)) => {
                count(counter, 1);
                self.without = self.without.saturating_add(1);
                if self.without == WITHOUT_MAX {
                    let why = format!("frames are stamped by their arrival: {why}");
                    telemetry::trouble(&self.stream, Some(&why));
                }
                arrival()
            }
        };
        let reading = image::reading(&picture, bytes, None, time);
        self.events.push_back(SourceEvent::Reading { stream: self.stream.clone(), reading });
    }

    fn restarted(&mut self, now: BootNanos) {
        self.stamps = Stamps::new(self.kind);
        self.judge.reopened();
        let left = self.pairing.restart();
        left.into_iter().for_each(|due| self.give(due));
        self.reads.opened(now);
    }
}

impl<C: Clock> Source for CameraCommandSource<C> {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let waited_from = self.clock.boot();
            let deadline = self.pairing.deadline();
            let due = async {
                match deadline {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let output = tokio::select! {
                biased;
                output = self.program.read(&mut self.buffer) => output,
                () = due => {
                    let now = self.clock.boot();
                    self.reads.looked(now);
                    self.waited(now);
                    continue;
                }
            };
            let now = self.clock.boot();
            let events = match output {
                Output::Bytes(bytes) => self.mjpeg.push(self.buffer.get(..bytes).unwrap_or_default()),
                Output::Stamps(bytes) => {
                    for stamp in self.stamps.push(self.buffer.get(..bytes).unwrap_or_default()) {
                        let due = self.pairing.stamp(stamp, now);
                        due.into_iter().for_each(|due| self.give(due));
                    }
                    continue;
                }
                Output::Ended(_) => self.mjpeg.ended().into_iter().collect(),
            };
            let drained = matches!(output, Output::Bytes(bytes) if bytes < READ_BYTES);
            let read = self.reads.read(waited_from, now, drained);
            count(Counter::NoiseBytes, self.mjpeg.take_noise());
            for event in events {
                self.picture(event, read);
            }
            if let Output::Ended(_) = output {
                self.restarted(now);
            }
        }
    }
}
