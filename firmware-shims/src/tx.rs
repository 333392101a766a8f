//! What waits to be sent: whole frames or nothing, and never a moment of waiting.
//!
//! Frames leave in the order they were offered, with two exceptions. A PONG has a slot of its own
//! and goes before everything else, and its t3 and checksum are written when it leaves. A REPLY
//! has a slot of its own too, so that it cannot be dropped, but keeps its place: what was offered
//! before it leaves before it.

use crate::bytes::NoRoom;
use crate::cobs::{DELIMITER, Room, encoded_bytes_max};
use crate::link::{FrameWriter, Header, LinkType, Pong, REQUEST_DATA_BYTES_MAX, encode, raw_bytes};

/// Bytes of a PONG on the wire.
const PONG_WIRE_BYTES: usize = encoded_bytes_max(raw_bytes(24));
/// The most bytes of a REPLY on the wire.
const REPLY_WIRE_BYTES_MAX: usize = encoded_bytes_max(raw_bytes(3 + REQUEST_DATA_BYTES_MAX));

/// What became of something that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It will be sent.
    Queued,
    /// There was no room, and it was counted.
    Dropped,
}

/// Where the bytes come from that leave now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Idle,
    Ring,
    Pong,
    Reply,
}

/// A PONG that waits; its t3 is the time it leaves.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    seq: u16,
    pong: Pong,
}

/// A queue of `N` bytes on the wire, and one slot each for PONG and REPLY.
#[derive(Debug, Clone)]
pub struct TxQueue<const N: usize> {
    ring: [u8; N],
    /// Where the next byte leaves.
    head: usize,
    used: usize,
    /// Whether the delimiter that ends noise from before has left.
    begun: bool,
    /// The frame whose first bytes have left; `Idle` between frames.
    inside: Lane,
    /// What the latest [`chunk`](Self::chunk) gave bytes of.
    picked: Lane,
    /// Bytes of that which have not left.
    picked_bytes: usize,
    /// Bytes of a PONG or REPLY that have left.
    slot_at: usize,
    pong: Option<Waiting>,
    pong_wire: [u8; PONG_WIRE_BYTES],
    pongs_replaced: u32,
    /// Stays after it was sent, to be sent again.
    reply_wire: [u8; REPLY_WIRE_BYTES_MAX],
    reply_len: usize,
    reply_waits: bool,
    /// Bytes of the ring that leave before the REPLY.
    reply_behind: usize,
    dropped: u16,
}

impl<const N: usize> TxQueue<N> {
    /// An empty queue but for the delimiter that ends whatever noise came before.
    pub const fn new() -> Self {
        Self {
            ring: [DELIMITER; N],
            head: 0,
            used: if N == 0 { 0 } else { 1 },
            begun: N == 0,
            inside: Lane::Idle,
            picked: Lane::Idle,
            picked_bytes: 0,
            slot_at: 0,
            pong: None,
            pong_wire: [0; PONG_WIRE_BYTES],
            pongs_replaced: 0,
            reply_wire: [0; REPLY_WIRE_BYTES_MAX],
            reply_len: 0,
            reply_waits: false,
            reply_behind: 0,
            dropped: 0,
        }
    }

    /// Queues one frame, or drops and counts it.
    ///
    /// There is room if the longest form of a frame of this size fits: then nothing is ever half queued.
    pub fn offer(&mut self, header: Header, payload: &[u8]) -> Offered {
        if !self.has_room(payload.len(), 0) {
            return self.drop_one();
        }
        match self.write(header, 0, |put| put(payload)) {
            Ok(()) => Offered::Queued,
            Err(NoRoom) => self.drop_one(),
        }
    }

    /// Lets a PONG be sent as soon as a frame ends; `pong.dropped` and t3 are filled in when it leaves.
    ///
    /// One that still waits is replaced: its ping was given up by the host.
    pub const fn offer_pong(&mut self, seq: u16, pong: Pong) {
        if self.pong.is_some() {
            self.pongs_replaced = self.pongs_replaced.wrapping_add(1);
        }
        self.pong = Some(Waiting { seq, pong });
    }

    /// Lets a REPLY be sent after all that was offered before it. Dropped, uncounted, while the last one waits.
    pub fn offer_reply(&mut self, header: Header, payload: &[u8]) -> Offered {
        if self.reply_waits {
            return Offered::Dropped;
        }
        match encode(&mut self.reply_wire, header, payload) {
            Ok(len) => self.reply_len = len,
            Err(NoRoom) => return Offered::Dropped,
        }
        self.repeat_reply();
        Offered::Queued
    }

    /// Sends the last REPLY again, byte for byte, unless it still waits or there was none.
    pub const fn repeat_reply(&mut self) {
        if !self.reply_waits && self.reply_len != 0 {
            self.reply_waits = true;
            self.reply_behind = self.used;
        }
    }

    /// Bytes to send next, all of one frame; the rest of it may follow in another call.
    ///
    /// Until the first byte of a PONG has left, each call writes `now_us` into it as t3: call this
    /// only when the line can take bytes.
    pub fn chunk(&mut self, now_us: u64) -> &[u8] {
        self.pick(now_us);
        let rest = self.rest();
        let bytes = match self.picked {
            // The rest of the ring's first frame: only a delimiter is a zero.
            Lane::Ring => {
                rest.iter().position(|byte| *byte == DELIMITER).map_or(rest.len(), |at| at.saturating_add(1))
            }
            _ => rest.len(),
        };
        self.picked_bytes = bytes;
        self.rest().get(..bytes).unwrap_or_default()
    }

    /// Says that the first `bytes` bytes of the last [`chunk`](Self::chunk) have left.
    pub fn sent(&mut self, bytes: usize) {
        let bytes = bytes.min(self.picked_bytes);
        if bytes == 0 {
            return;
        }
        self.picked_bytes = self.picked_bytes.saturating_sub(bytes);
        match self.picked {
            Lane::Idle => {}
            Lane::Ring => self.ring_sent(bytes),
            Lane::Pong => {
                if self.inside == Lane::Idle {
                    self.pong = None;
                }
                self.slot_sent(Lane::Pong, bytes, PONG_WIRE_BYTES);
            }
            Lane::Reply => {
                self.slot_sent(Lane::Reply, bytes, self.reply_len);
                self.reply_waits = self.inside == Lane::Reply;
            }
        }
        self.picked = self.inside;
    }

    /// Takes the next byte to send, for a UART that has room for one.
    pub fn next_byte(&mut self, now_us: u64) -> Option<u8> {
        self.pick(now_us);
        let byte = *self.rest().first()?;
        self.picked_bytes = 1;
        self.sent(1);
        Some(byte)
    }

    /// Nothing waits to be sent.
    pub const fn is_empty(&self) -> bool {
        self.used == 0 && self.pong.is_none() && !self.reply_waits && matches!(self.inside, Lane::Idle)
    }

    /// Frames that were dropped so far, wrapping.
    pub const fn dropped(&self) -> u16 {
        self.dropped
    }

    /// PONGs that were replaced before they left, wrapping.
    pub const fn pongs_replaced(&self) -> u32 {
        self.pongs_replaced
    }

    /// Whether a REPLY has not left yet.
    pub const fn reply_waits(&self) -> bool {
        self.reply_waits
    }

    /// Takes back what the last `chunk` gave out.
    pub(crate) const fn hold(&mut self) {
        self.picked_bytes = 0;
    }

    /// Counts a frame that is not sent.
    pub(crate) const fn drop_one(&mut self) -> Offered {
        self.dropped = self.dropped.wrapping_add(1);
        Offered::Dropped
    }

    /// Whether a frame fits and leaves `spare` bytes free.
    pub(crate) const fn has_room(&self, payload_bytes: usize, spare: usize) -> bool {
        let wanted = encoded_bytes_max(raw_bytes(payload_bytes)).saturating_add(spare);
        wanted <= N.saturating_sub(self.used)
    }

    /// Whether a frame could ever fit.
    pub(crate) const fn could_hold(payload_bytes: usize) -> bool {
        encoded_bytes_max(raw_bytes(payload_bytes)) <= N
    }

    /// Writes a frame for which there is room.
    pub(crate) fn write<E: From<NoRoom>>(
        &mut self,
        header: Header,
        damage: u16,
        payload: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), NoRoom>) -> Result<(), E>,
    ) -> Result<(), E> {
        let free = N.saturating_sub(self.used);
        let start = Self::wrap(self.head, self.used);
        let mut frame = FrameWriter::new(Free { ring: &mut self.ring, start, free }, header)?;
        payload(&mut |bytes| frame.bytes(bytes))?;
        let written = frame.finish(damage)?;
        self.used = self.used.saturating_add(written);
        Ok(())
    }

    /// What leaves next, between two frames.
    fn choose(&mut self, now_us: u64) -> Lane {
        if self.begun
            && let Some(Waiting { seq, mut pong }) = self.pong
        {
            pong.dropped = self.dropped;
            let header = Header { link_type: LinkType::Pong, flags: Default::default(), seq, t_us: now_us };
            let mut payload = [0; 24];
            let written = pong.encode(&mut payload).is_ok();
            if written && encode(&mut self.pong_wire, header, &payload).is_ok() {
                return Lane::Pong;
            }
        }
        match (self.reply_waits && self.reply_behind == 0, self.used) {
            (true, _) => Lane::Reply,
            (false, 0) => Lane::Idle,
            (false, _) => Lane::Ring,
        }
    }

    fn pick(&mut self, now_us: u64) {
        self.picked = if self.inside == Lane::Idle { self.choose(now_us) } else { self.inside };
    }

    /// What has not left of the frame that was picked, up to the ring's end and maybe with frames after it.
    fn rest(&self) -> &[u8] {
        match self.picked {
            Lane::Idle => &[],
            Lane::Ring => {
                let end = self.head.saturating_add(self.used).min(N);
                self.ring.get(self.head..end).unwrap_or_default()
            }
            Lane::Pong => self.pong_wire.get(self.slot_at..).unwrap_or_default(),
            Lane::Reply => self.reply_wire.get(self.slot_at..self.reply_len).unwrap_or_default(),
        }
    }

    fn ring_sent(&mut self, bytes: usize) {
        let last = self.ring.get(self.head.saturating_add(bytes).saturating_sub(1)).copied();
        self.head = Self::wrap(self.head, bytes);
        self.used = self.used.saturating_sub(bytes);
        self.reply_behind = self.reply_behind.saturating_sub(bytes);
        let ended = last == Some(DELIMITER);
        self.begun |= ended;
        self.inside = if ended { Lane::Idle } else { Lane::Ring };
    }

    fn slot_sent(&mut self, lane: Lane, bytes: usize, len: usize) {
        self.slot_at = self.slot_at.saturating_add(bytes);
        self.inside = lane;
        if self.slot_at >= len {
            self.slot_at = 0;
            self.inside = Lane::Idle;
        }
    }

    /// The place `bytes` after `at`; `bytes` is at most `N`.
    const fn wrap(at: usize, bytes: usize) -> usize {
        let sum = at.saturating_add(bytes);
        if sum >= N { sum.saturating_sub(N) } else { sum }
    }
}

impl<const N: usize> Default for TxQueue<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The free part of a ring.
struct Free<'a> {
    ring: &'a mut [u8],
    start: usize,
    free: usize,
}

impl Room for Free<'_> {
    fn slot(&mut self, at: usize) -> Option<&mut u8> {
        if at >= self.free {
            return None;
        }
        let (len, sum) = (self.ring.len(), self.start.saturating_add(at));
        self.ring.get_mut(if sum >= len { sum.saturating_sub(len) } else { sum })
    }
}
