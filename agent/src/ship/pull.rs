//! Reads the spool for shipping: what is fresh and what waited, each while its lane has room.

use super::feed::{Feed, Need, STRETCH_BYTES};
use super::port::ShipSpool;
use super::task::Shell;
use crate::batch::Sealed;
use headwater_core::ports::{Clock, SpoolError, SpoolLane, SpooledSlab};
use headwater_core::wire::Lane;

/// Bytes asked of the spool at once: a message of telemetry packs from several times its size.
const READ_BYTES: usize = 512 * 1024;

/// After a read that failed, this long until the next try: a gateway may have no news for hours.
const READ_AGAIN_MS: u64 = 5_000;

/// Which of its two ends a lane is read at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Live,
    Backlog,
}

impl<C: Clock, S: ShipSpool> Shell<C, S> {
    /// Reads a little of each lane that has room; true if something was read.
    pub(super) async fn pull(&mut self) -> bool {
        let mut pulled = false;
        let now = self.clock.boot();
        if self.read_again_at.take_if(|at| *at <= now).is_some() {
            self.feeds.iter_mut().for_each(Feed::news);
        }
        for lane in SpoolLane::ALL {
            if self.stop_at.is_none() {
                pulled |= self.pull_live(lane).await;
                pulled |= self.pull_backlog(lane).await;
            }
        }
        for lane in Lane::ALL {
            let now = self.clock.boot();
            let sealed = self.batcher(lane).poll(now);
            pulled |= !sealed.is_empty();
            self.offer(lane, sealed);
        }
        pulled
    }

    async fn pull_live(&mut self, lane: SpoolLane) -> bool {
        let ship_lane = ship_lane(lane, End::Live);
        let room = self.shipper.room(ship_lane);
        let Some(after) = self.feed(lane).live().filter(|_| room > 0) else { return false };
        let slabs = match self.spool.read(lane, after, room.min(READ_BYTES)).await {
            Ok(slabs) => slabs,
            Err(error) => return self.read_failed(lane, &error),
        };
        if lane != SpoolLane::Control {
            let window_ns = self.live_window_ns;
            let stale = Feed::is_stale(&slabs, self.boot, self.clock.boot(), window_ns);
            if let Some(since) = stale {
                match self.spool.seek(lane, since).await {
                    // What was read waits its turn as backlog.
                    Ok(to) if self.feed(lane).jump(to) => return true,
                    Ok(_) => {}
                    Err(error) => return self.read_failed(lane, &error),
                }
            }
        }
        self.feed(lane).took_live(&slabs);
        self.take(ship_lane, slabs).await
    }

    async fn pull_backlog(&mut self, lane: SpoolLane) -> bool {
        let ship_lane = ship_lane(lane, End::Backlog);
        let room = self.shipper.room(ship_lane);
        if ship_lane == Lane::Control || room == 0 {
            return false;
        }
        match self.feed(lane).backlog() {
            None => false,
            Some(Need::Split(stretch)) => {
                match self.spool.stretch_before(lane, stretch.until, STRETCH_BYTES).await {
                    Ok(at) => self.feed(lane).split(at),
                    Err(error) => return self.read_failed(lane, &error),
                }
                true
            }
            Some(Need::Read(after)) => match self.spool.read(lane, after, room.min(READ_BYTES)).await {
                Ok(slabs) => {
                    let slabs = self.feed(lane).took_backlog(slabs);
                    self.take(ship_lane, slabs).await;
                    if !self.feed(lane).has_backlog() {
                        // Nothing comes to join them.
                        let rest = self.batcher(ship_lane).flush();
                        self.offer(ship_lane, rest);
                    }
                    true
                }
                Err(error) => self.read_failed(lane, &error),
            },
        }
    }

    /// Batches what the collector lacks; true if there was anything to read.
    async fn take(&mut self, lane: Lane, slabs: Vec<SpooledSlab>) -> bool {
        let any = !slabs.is_empty();
        for slab in slabs {
            if self.shipper.take(&slab) {
                let packed = match &slab.slab.blob {
                    Some(blob) => self.packing.pack(&self.clock, blob).await,
                    None => None,
                };
                let now = self.clock.boot();
                let sealed = self.batcher(lane).push_packed(now, slab, packed);
                self.offer(lane, sealed);
            }
        }
        any
    }

    pub(super) fn offer(&mut self, lane: Lane, sealed: Vec<Sealed>) {
        sealed.into_iter().for_each(|sealed| self.shipper.offer(lane, sealed));
    }

    /// Tried again after the next sync.
    fn read_failed(&mut self, lane: SpoolLane, error: &SpoolError) -> bool {
        self.feed(lane).failed();
        self.read_again_at = Some(self.clock.boot().plus_ms(READ_AGAIN_MS));
        self.spool_failed("read", error);
        false
    }

    /// Bytes of backlog in the spool; `None` if it could not say.
    pub(super) async fn backlog_bytes(&mut self) -> Option<u64> {
        let mut sum = 0_u64;
        for lane in SpoolLane::ALL {
            let stretches: Vec<_> = self.feed(lane).stretches().collect();
            for stretch in stretches {
                match self.spool.bytes_between(lane, stretch.from, stretch.until).await {
                    Ok(bytes) => sum = sum.saturating_add(bytes),
                    Err(error) => {
                        self.spool_failed("measure its backlog", &error);
                        return None;
                    }
                }
            }
        }
        Some(sum)
    }
}

fn ship_lane(lane: SpoolLane, end: End) -> Lane {
    match (lane, end) {
        (SpoolLane::Control, _) => Lane::Control,
        (SpoolLane::Telemetry, End::Live) => Lane::LiveTelemetry,
        (SpoolLane::Telemetry, End::Backlog) => Lane::BacklogTelemetry,
        (SpoolLane::Media, End::Live) => Lane::LiveMedia,
        (SpoolLane::Media, End::Backlog) => Lane::BacklogMedia,
    }
}
