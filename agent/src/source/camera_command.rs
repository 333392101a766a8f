//! A program whose output is MJPEG, such as `rpicam-vid`.

use super::child::{Output, Program};
use super::image::{self, Mjpeg, MjpegEvent};
use crate::telemetry::{Counter, count};
use headwater_core::gap::GapCause;
use headwater_core::id::StreamName;
use headwater_core::ports::{Clock, Source, SourceError, SourceEvent};
use headwater_core::schema::builtin;
use headwater_core::time::{BootNanos, Latency};
use std::collections::VecDeque;

/// Bytes taken at once: a picture in a few reads.
const READ_BYTES: usize = 64 * 1_024;

/// The source.
#[derive(Debug)]
pub struct CameraCommandSource<C> {
    clock: C,
    program: Program<C>,
    stream: StreamName,
    latency: Latency,
    mjpeg: Mjpeg,
    events: VecDeque<SourceEvent>,
    buffer: Vec<u8>,
}

impl<C: Clock> CameraCommandSource<C> {
    pub(super) fn new(clock: C, program: Program<C>, stream: StreamName, latency: Latency) -> Self {
        let declared = SourceEvent::Stream { name: stream.clone(), schema: builtin::image() };
        let (mjpeg, events) = (Mjpeg::default(), VecDeque::from([declared]));
        Self { clock, program, stream, latency, mjpeg, events, buffer: vec![0; READ_BYTES] }
    }

    pub(super) async fn close(&mut self) {
        self.program.close().await;
    }

    fn take(&mut self, event: MjpegEvent, at: BootNanos) {
        let stream = self.stream.clone();
        match event {
            MjpegEvent::Picture(picture, bytes) => {
                let reading = image::reading(&picture, bytes, None, at, self.latency);
                self.events.push_back(SourceEvent::Reading { stream, reading });
            }
            MjpegEvent::Fault(fault, bytes) => {
                let (why, cause) = (fault.to_string(), GapCause::RejectedQuarantine);
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
}

impl<C: Clock> Source for CameraCommandSource<C> {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let output = self.program.read(&mut self.buffer).await;
            let now = self.clock.boot();
            let events = match output {
                Output::Bytes(bytes) => self.mjpeg.push(self.buffer.get(..bytes).unwrap_or_default()),
                Output::Ended(_) => self.mjpeg.ended().into_iter().collect(),
            };
            count(Counter::NoiseBytes, self.mjpeg.take_noise());
            for event in events {
                self.take(event, now);
            }
        }
    }
}
