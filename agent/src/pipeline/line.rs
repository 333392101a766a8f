//! A source's own task: waits for it, puts aside what is no reading, and hands the rest to stamp.

use super::preview::Previewer;
use crate::observe::SentenceTap;
use crate::quarantine::Quarantine;
use crate::source::AnySource;
use crate::stamp::Captured;
use crate::telemetry::SourceOver;
use headwater_core::gap::GapCause;
use headwater_core::id::StreamName;
use headwater_core::ports::{Clock, Source, SourceEvent};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Bytes of pictures between sources and spool: two of the largest.
const PICTURES_BYTES_MAX: usize = 32 << 20;
/// One permit of that memory, bytes.
const PICTURES_UNIT: usize = 1_024;

/// Memory for pictures between sources and spool, in permits.
pub(super) fn room_for_pictures() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(PICTURES_BYTES_MAX / PICTURES_UNIT))
}

/// What a source's task needs beside the source.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) place: usize,
    pub(super) stream: StreamName,
    /// Its originals stay until receipts come: it may wait for memory, where others shed.
    pub(super) can_wait: bool,
    pub(super) preview: Option<Previewer>,
    /// Tells the clock observer what time a GPS receiver says it is.
    pub(super) tap: Option<SentenceTap>,
    pub(super) events: mpsc::Sender<Captured>,
    pub(super) room: Arc<Semaphore>,
    pub(super) quarantine: Arc<Mutex<Quarantine>>,
    pub(super) cancel: CancellationToken,
}

/// Hands the events of one source on, until it ends or `cancel`.
pub(super) async fn forward<C: Clock>(mut line: Line, mut source: AnySource<C>) {
    let mut number = 0_u64;
    loop {
        let next = tokio::select! {
            biased;
            () = line.cancel.cancelled() => break,
            next = source.next() => next,
        };
        let event = match next {
            Ok(event) => event,
            Err(why) => {
                SourceOver { stream: &line.stream, why: &why }.emit();
                break;
            }
        };
        if let (Some(tap), SourceEvent::Reading { reading, .. }) = (&line.tap, &event) {
            tap.see(reading);
        }
        let (event, room) = line.admit(event).await;
        let frame = line.preview.as_mut().and_then(|preview| preview.due(&event));
        let captured = Captured { source: line.place, number, event, room };
        number = number.saturating_add(1);
        if line.events.send(captured).await.is_err() {
            break;
        }
        if let (Some(preview), Some(frame)) = (&mut line.preview, frame)
            && !preview.make(frame, &line.events).await
        {
            break;
        }
    }
    // The channel stays open meanwhile, so that what is under way is stamped and receipted.
    source.close().await;
}

impl Line {
    /// Puts aside what is no reading, and finds memory for a picture or makes it a recorded loss.
    async fn admit(&mut self, event: SourceEvent) -> (SourceEvent, Option<OwnedSemaphorePermit>) {
        match event {
            SourceEvent::SetAside { stream, why, bytes, at } => {
                let (quarantine, of, reason) = (Arc::clone(&self.quarantine), stream.clone(), why.clone());
                let kept = tokio::task::spawn_blocking(move || {
                    let mut quarantine = quarantine.lock().unwrap_or_else(PoisonError::into_inner);
                    (quarantine.keep(&of, &reason, &bytes).map(drop), bytes)
                });
                let (kept, bytes) =
                    kept.await.unwrap_or_else(|error| (Err(io::Error::other(error)), Vec::new()));
                if let Err(error) = kept {
                    tracing::warn!(%stream, %error, "what was set aside could not be kept");
                }
                (SourceEvent::SetAside { stream, why, bytes, at }, None)
            }
            SourceEvent::Reading { stream, reading } => {
                let Some(blob) = &reading.blob else {
                    return (SourceEvent::Reading { stream, reading }, None);
                };
                let units = blob.bytes.len().div_ceil(PICTURES_UNIT).min(PICTURES_BYTES_MAX / PICTURES_UNIT);
                let units = u32::try_from(units).unwrap_or(u32::MAX);
                let room = if self.can_wait {
                    Arc::clone(&self.room).acquire_many_owned(units).await.ok()
                } else {
                    Arc::clone(&self.room).try_acquire_many_owned(units).ok()
                };
                match room {
                    Some(room) => (SourceEvent::Reading { stream, reading }, Some(room)),
                    None => {
                        let (cause, at) = (GapCause::Overrun, reading.t);
                        let note = "too many pictures wait for the spool".to_owned();
                        (SourceEvent::Lost { stream, rows: 1, cause, at, note }, None)
                    }
                }
            }
            other => (other, None),
        }
    }
}
