//! Previews beside a line of pictures: at most one at a time and one a second, made off the way to the spool.

use crate::source::preview::preview_of;
use crate::stamp::Captured;
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::sample::Reading;
use headwater_core::schema::builtin;
use headwater_core::time::{BootNanos, NS_PER_S};
use tokio::sync::mpsc;

/// Least time between two previews of a source: people look at them, and each costs a decode.
const INTERVAL_NS: i64 = NS_PER_S;

/// Makes previews of one source's pictures.
#[derive(Debug)]
pub(super) struct Previewer {
    /// Place of its own among sources, since its events have numbers of their own.
    pub(super) place: usize,
    pub(super) stream: StreamName,
    pub(super) side: u16,
    number: u64,
    last: Option<BootNanos>,
    declared: bool,
}

impl Previewer {
    pub(super) fn new(place: usize, stream: StreamName, side: u16) -> Self {
        Self { place, stream, side, number: 0, last: None, declared: false }
    }

    /// The frame to make a preview of, if this event brings one that is due.
    pub(super) fn due(&mut self, event: &SourceEvent) -> Option<Reading> {
        let SourceEvent::Reading { reading, .. } = event else { return None };
        let jpeg = reading.blob.as_ref().is_some_and(|blob| blob.mime == "image/jpeg");
        let rested = self.last.is_none_or(|last| reading.t.since(last) >= INTERVAL_NS);
        if !jpeg || !rested {
            return None;
        }
        self.last = Some(reading.t);
        Some(reading.clone())
    }

    /// Makes it and hands it on; false once nobody takes events. A frame that gives none is told and passed over.
    pub(super) async fn make(&mut self, frame: Reading, events: &mpsc::Sender<Captured>) -> bool {
        let side = self.side;
        let made = tokio::task::spawn_blocking(move || preview_of(&frame, side)).await;
        let reading = match made {
            Ok(Ok(reading)) => reading,
            Ok(Err(error)) => {
                tracing::debug!(stream = %self.stream, %error, "no preview");
                return true;
            }
            Err(error) => {
                tracing::warn!(stream = %self.stream, %error, "making a preview broke down");
                return true;
            }
        };
        if !std::mem::replace(&mut self.declared, true) {
            let name = self.stream.clone();
            if !self.hand_on(SourceEvent::Stream { name, schema: builtin::image() }, events).await {
                return false;
            }
        }
        let stream = self.stream.clone();
        self.hand_on(SourceEvent::Reading { stream, reading }, events).await
    }

    async fn hand_on(&mut self, event: SourceEvent, events: &mpsc::Sender<Captured>) -> bool {
        let captured = Captured { source: self.place, number: self.number, event, room: None };
        self.number = self.number.saturating_add(1);
        events.send(captured).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::frame_stamp::FrameTime;
    use crate::source::image::{check, reading};
    use headwater_core::time::{Latency, StampKind};

    fn frame(at_ms: i64) -> SourceEvent {
        let mut jpeg = Vec::new();
        let pixels = vec![90; 320 * 240];
        let encoder = jpeg_encoder::Encoder::new(&mut jpeg, 80);
        encoder.encode(&pixels, 320, 240, jpeg_encoder::ColorType::Luma).unwrap();
        let picture = check(&jpeg).unwrap();
        let t = BootNanos(at_ms * 1_000_000);
        let time = FrameTime { t, latency: Latency::NONE, kind: StampKind::Arrival };
        let reading = reading(&picture, jpeg, None, time);
        SourceEvent::Reading { stream: "camera".parse().unwrap(), reading }
    }

    #[tokio::test]
    async fn one_a_second_with_its_stream_declared_before_the_first() {
        let (events, mut seen) = mpsc::channel(16);
        let mut previewer = Previewer::new(7, "camera/preview".parse().unwrap(), 64);
        for at_ms in [0, 200, 999, 1_000, 1_500, 2_100] {
            if let Some(frame) = previewer.due(&frame(at_ms)) {
                assert!(previewer.make(frame, &events).await);
            }
        }
        drop(events);
        let mut times = Vec::new();
        let mut number = 0;
        while let Some(captured) = seen.recv().await {
            assert_eq!((captured.source, captured.number), (7, number));
            number += 1;
            match captured.event {
                SourceEvent::Stream { name, .. } => {
                    assert!(times.is_empty() && name.as_str() == "camera/preview")
                }
                SourceEvent::Reading { reading, .. } => times.push(reading.t.0 / 1_000_000),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(times, [0, 1_000, 2_100]);
    }

    #[tokio::test]
    async fn a_frame_that_gives_none_is_passed_over() {
        let (events, mut seen) = mpsc::channel(16);
        let mut previewer = Previewer::new(0, "camera/preview".parse().unwrap(), 64);
        let SourceEvent::Reading { stream, mut reading } = frame(0) else { panic!() };
        let cut = reading.blob.as_mut().unwrap();
        cut.bytes = cut.bytes[..40].into();
        let due = previewer.due(&SourceEvent::Reading { stream, reading }).unwrap();
        assert!(previewer.make(due, &events).await);
        drop(events);
        assert!(seen.recv().await.is_none());
    }
}
