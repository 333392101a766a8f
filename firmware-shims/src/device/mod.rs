//! A device's end of the link: what it says unasked, and what it answers.
//!
//! Pure: bytes of the host and times go in, bytes for the host come out of a bounded queue. The
//! firmware feeds [`Device::receive`], calls [`Device::poll`] in its main loop, offers samples and
//! log lines, and moves what [`Device::chunk`] gives to the UART. Nothing here waits: what does
//! not fit is dropped, counted and owned up to.
//!
//! All times are microseconds since boot, 64 bits: see [`ClockExtender`](crate::clock::ClockExtender).

mod greeting;
mod knob;
mod limit;
mod requests;
mod spec;

pub use limit::{LOG_BURST, LOG_EVERY_US};
pub use requests::{Request, Wish};
pub use spec::{DeviceSpec, StreamSpec};

use crate::link::{
    BuildError, Command, Config, Field, Flags, Header, HelloReq, Knob, LinkDecoder, LinkStats, LinkType, Log,
    LogLevel, MAX_RX_MIN, NoRoom, PAYLOAD_BYTES_MAX, Ping, Pong, T2Point, Value,
};
use crate::tx::{Offered, TxQueue};

pub use greeting::{HELLO_EVERY_US, HELLO_GAP_US};

/// Bytes of a SAMPLE payload before its rows.
const SAMPLE_HEAD_BYTES: usize = 4;

/// Appends bytes to a payload.
type Put<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), NoRoom>;

/// What a device counts about itself, since boot or since [`Device::reset_counters`]. All wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceStats {
    /// SAMPLE frames that did not fit the queue.
    pub samples_dropped: u32,
    /// LOG lines that did not fit the queue.
    pub logs_dropped: u32,
    /// LOG lines beyond the rate: [`LOG_BURST`] at once, then one each [`LOG_EVERY_US`].
    pub logs_limited: u32,
    /// Requests of another boot, which were ignored.
    pub requests_stale: u32,
    /// Requests that came while another one was open or its REPLY waited, which were ignored.
    pub requests_ignored: u32,
    /// Requests that were answered again, but not done again.
    pub requests_repeated: u32,
    /// Good frames that a device has no use for, or whose payload is none.
    pub frames_refused: u32,
}

/// What the device remembers of one stream.
#[derive(Debug, Clone, Copy)]
struct StreamState<'a> {
    spec: &'a StreamSpec<'a>,
    period_us: u32,
    next_seq: u32,
    /// Its first SAMPLE was queued.
    begun: bool,
}

/// A device with `S` streams that takes frames of at most `RX` raw bytes and queues `TX` bytes.
///
/// `RX` is at least [`MAX_RX_MIN`], 64 is plenty. `TX` must hold the longest HELLO frame; what it
/// holds beyond that bridges the time in which the line is slower than the sensors.
#[derive(Debug)]
pub struct Device<'a, const S: usize, const RX: usize, const TX: usize> {
    spec: &'a DeviceSpec<'a, S>,
    boot_nonce: u32,
    streams: [StreamState<'a>; S],
    schema_crc: u16,
    decoder: LinkDecoder<RX>,
    /// The next byte begins a frame.
    between_frames: bool,
    /// When the first byte of the frame came.
    first_byte_us: u64,
    tx: TxQueue<TX>,
    /// Own count of HELLO, LOG and REPLY frames.
    sent: u16,
    /// The first of them was queued.
    begun: bool,
    dropped_before: bool,
    greeting: greeting::Greeting,
    requests: requests::Requests,
    log_limit: limit::LogLimit,
    knob: knob::Faults,
    stats: DeviceStats,
}

impl<'a, const S: usize, const RX: usize, const TX: usize> Device<'a, S, RX, TX> {
    /// A device that was just switched on. `boot_nonce` must differ from that of the boot before.
    ///
    /// # Errors
    /// [`BuildError`] if a stream cannot be described in a frame, `TX` cannot hold a HELLO frame,
    /// or `RX` is too small.
    pub fn new(spec: &'a DeviceSpec<'a, S>, boot_nonce: u32) -> Result<Self, BuildError> {
        if RX < usize::from(MAX_RX_MIN) {
            return Err(BuildError::MaxRx);
        }
        let streams = spec.streams.each_ref().map(|stream| StreamState {
            spec: stream,
            period_us: stream.period_us,
            next_seq: 0,
            begun: false,
        });
        let mut device = Self {
            spec,
            boot_nonce,
            streams,
            schema_crc: 0,
            decoder: LinkDecoder::new(),
            between_frames: true,
            first_byte_us: 0,
            tx: TxQueue::new(),
            sent: 0,
            begun: false,
            dropped_before: false,
            greeting: greeting::Greeting::new(),
            requests: requests::Requests::new(),
            log_limit: limit::LogLimit::new(),
            knob: knob::Faults::new(),
            stats: DeviceStats::default(),
        };
        device.check_greeting()?;
        Ok(device)
    }

    /// Takes in one byte of the host that came at `t_us`; gives out a request that must be answered
    /// by [`reply`](Self::reply).
    pub fn receive(&mut self, byte: u8, t_us: u64) -> Option<Request> {
        let (raw_us, t_us) = (t_us, self.knob.time(t_us));
        if self.between_frames {
            self.first_byte_us = t_us;
        }
        self.between_frames = byte == crate::cobs::DELIMITER;
        let frame = self.decoder.push(byte)?.ok()?;
        let (header, payload) = (frame.header, frame.payload);
        let refused = match header.link_type {
            LinkType::Ping => Ping::parse(payload).map(|_| self.ping(header, t_us)).is_err(),
            LinkType::HelloReq => HelloReq::parse(payload).map(|_| self.greeting.ask(t_us)).is_err(),
            LinkType::Config => match Config::parse(payload) {
                Ok(config) => return self.config(config, t_us),
                Err(_) => true,
            },
            LinkType::Command => match Command::parse(payload) {
                Ok(command) => return self.command(command, t_us),
                Err(_) => true,
            },
            LinkType::Knob if knob::KNOWN => {
                Knob::parse(payload).map(|knob| self.knob.set(knob, raw_us)).is_err()
            }
            // The decoder counts them.
            LinkType::Unknown(_) => false,
            _ => true,
        };
        if refused {
            self.stats.frames_refused = self.stats.frames_refused.wrapping_add(1);
        }
        None
    }

    /// Does what is due at `now_us`: HELLO. Call it in the main loop, at least once between samples.
    pub fn poll(&mut self, now_us: u64) {
        self.greet(self.knob.time(now_us));
    }

    /// When [`poll`](Self::poll) has something to do; `None` if only a byte of the host changes that.
    pub const fn deadline_us(&self) -> Option<u64> {
        self.greeting.deadline_us()
    }

    /// Offers one row of `stream`, captured at `t_us`: one value per field, in the order of the fields.
    ///
    /// # Errors
    /// [`BuildError`] for values that are not of the stream: nothing was numbered or counted.
    pub fn sample(&mut self, stream: u8, t_us: u64, row: &[Value]) -> Result<Offered, BuildError> {
        self.samples(stream, t_us, 0, &[row])
    }

    /// Offers rows of `stream`, the first captured at `t_us`, `dt_us` apart.
    ///
    /// Dropped rows use up their numbers, and the next frame says that something was dropped.
    ///
    /// # Errors
    /// [`BuildError`] for rows that are not of the stream or that no frame holds: nothing was
    /// numbered or counted.
    pub fn samples<R: AsRef<[Value]>>(
        &mut self,
        stream: u8,
        t_us: u64,
        dt_us: u16,
        rows: &[R],
    ) -> Result<Offered, BuildError> {
        let fields = self.fields(stream)?;
        let fits = |row: &R| {
            let types = fields.iter().map(|field| field.field_type);
            row.as_ref().iter().map(|value| value.field_type()).eq(types)
        };
        if !rows.iter().all(fits) {
            return Err(BuildError::ValueType);
        }
        self.offer_rows(stream, t_us, dt_us, rows.len(), |put| {
            for value in rows.iter().flat_map(AsRef::as_ref) {
                value.emit(&mut *put)?;
            }
            Ok(())
        })
    }

    /// Offers `count` rows that are packed already, as FORMAT says, e.g. by the sensor itself.
    ///
    /// # Errors
    /// As [`samples`](Self::samples).
    pub fn packed_samples(
        &mut self,
        stream: u8,
        t_us: u64,
        dt_us: u16,
        count: u8,
        rows: &[u8],
    ) -> Result<Offered, BuildError> {
        let row_bytes = row_bytes(self.fields(stream)?);
        if row_bytes.saturating_mul(count.into()) != rows.len() {
            return Err(BuildError::RowBytes);
        }
        self.offer_rows(stream, t_us, dt_us, count.into(), |put| put(rows))
    }

    /// Offers a line of text for people, cut to what fits a LOG. Beyond the rate it is counted instead.
    pub fn log(&mut self, level: LogLevel, text: &str, now_us: u64) -> Offered {
        let now_us = self.knob.time(now_us);
        if !self.log_limit.allows(now_us) {
            self.stats.logs_limited = self.stats.logs_limited.wrapping_add(1);
            return Offered::Dropped;
        }
        let log = Log::cut(level, text);
        let payload_bytes = log.text.len().saturating_add(1);
        if !self.tx.has_room(payload_bytes, self.spare()) {
            self.stats.logs_dropped = self.stats.logs_dropped.wrapping_add(1);
            return self.drop_one();
        }
        let header = self.own_header(LinkType::Log, now_us);
        self.write(header, |put| {
            put(&[level.code()])?;
            put(log.text.as_bytes())
        })
    }

    /// Bytes to send next; see [`TxQueue::chunk`]. Call it only when the line can take bytes.
    pub fn chunk(&mut self, now_us: u64) -> &[u8] {
        let now_us = self.knob.time(now_us);
        if self.knob.stalls(now_us) {
            self.tx.hold();
            return &[];
        }
        self.tx.chunk(now_us)
    }

    /// Says that the first `bytes` bytes of the last [`chunk`](Self::chunk) have left.
    pub fn sent(&mut self, bytes: usize) {
        self.tx.sent(bytes);
    }

    /// Takes the next byte to send, for a UART that has room for one.
    pub fn next_byte(&mut self, now_us: u64) -> Option<u8> {
        let now_us = self.knob.time(now_us);
        if self.knob.stalls(now_us) { None } else { self.tx.next_byte(now_us) }
    }

    /// Nothing waits to be sent: a good moment to restart or to sleep.
    pub const fn is_idle(&self) -> bool {
        self.tx.is_empty() && !self.greeting.is_under_way()
    }

    /// Number of the next row of a stream, or `None` if there is no such stream.
    pub fn next_seq(&self, stream: u8) -> Option<u32> {
        self.streams.get(usize::from(stream)).map(|state| state.next_seq)
    }

    /// Frames dropped since boot, wrapping, as PONG says it.
    pub const fn dropped(&self) -> u16 {
        self.tx.dropped()
    }

    /// What the device counted about itself.
    pub const fn stats(&self) -> DeviceStats {
        self.stats
    }

    /// PONGs that were replaced before they left, wrapping.
    pub const fn pongs_replaced(&self) -> u32 {
        self.tx.pongs_replaced()
    }

    /// What became of the host's bytes.
    pub const fn link_stats(&self) -> LinkStats {
        self.decoder.stats()
    }

    /// Sets [`stats`](Self::stats) to 0. Sample numbers and [`dropped`](Self::dropped) go on: the host counts by them.
    pub fn reset_counters(&mut self) {
        self.stats = DeviceStats::default();
    }

    fn ping(&mut self, header: Header, t_us: u64) {
        self.greeting.heard_ping();
        let t2_us = match self.spec.t2_point {
            T2Point::FirstByte => self.first_byte_us,
            T2Point::Delimiter => t_us,
        };
        let (boot_nonce, schema_crc) = (self.boot_nonce, self.schema_crc);
        // What was dropped until it leaves is filled in by the queue.
        let pong = Pong { t1_us: header.t_us, t2_us, boot_nonce, schema_crc, dropped: 0 };
        self.tx.offer_pong(header.seq, pong);
    }

    fn fields(&self, stream: u8) -> Result<&'a [Field<'a>], BuildError> {
        let state = self.streams.get(usize::from(stream)).ok_or(BuildError::UnknownStream)?;
        Ok(state.spec.fields)
    }

    fn offer_rows(
        &mut self,
        stream: u8,
        t_us: u64,
        dt_us: u16,
        count: usize,
        rows: impl FnOnce(Put<'_>) -> Result<(), NoRoom>,
    ) -> Result<Offered, BuildError> {
        let t_us = self.knob.time(t_us);
        let payload_bytes =
            row_bytes(self.fields(stream)?).saturating_mul(count).saturating_add(SAMPLE_HEAD_BYTES);
        let count = u8::try_from(count).map_err(|_| BuildError::NoRoom)?;
        if count == 0 {
            return Err(BuildError::NoRows);
        }
        if payload_bytes > PAYLOAD_BYTES_MAX || !TxQueue::<TX>::could_hold(payload_bytes) {
            return Err(BuildError::NoRoom);
        }
        let spare = self.spare();
        let fits = self.tx.has_room(payload_bytes, spare) && !self.knob.drops();
        let state = self.streams.get_mut(usize::from(stream)).ok_or(BuildError::UnknownStream)?;
        let seq = state.next_seq;
        state.next_seq = seq.wrapping_add(count.into());
        if !fits {
            self.stats.samples_dropped = self.stats.samples_dropped.wrapping_add(1);
            return Ok(self.drop_one());
        }
        let [low, high, high2, high3] = seq.to_le_bytes();
        // Beyond the first turn of the numbers a host could not tell how many are missing before it.
        let first = !core::mem::replace(&mut state.begun, true) && (high2, high3) == (0, 0);
        let flags = if first { Flags::FIRST_SINCE_BOOT } else { Flags::NONE };
        let header =
            Header { link_type: LinkType::Sample, flags, seq: u16::from_le_bytes([low, high]), t_us };
        let [dt0, dt1] = dt_us.to_le_bytes();
        Ok(self.write(header, |put| {
            put(&[stream, count, dt0, dt1])?;
            rows(put)
        }))
    }

    /// Room that a HELLO under way still needs: else samples of a full line would starve it.
    fn spare(&self) -> usize {
        self.greeting.waits_for_bytes()
    }

    /// The head of a frame that is numbered by the device's own count.
    fn own_header(&mut self, link_type: LinkType, t_us: u64) -> Header {
        let seq = self.sent;
        self.sent = seq.wrapping_add(1);
        let begun = core::mem::replace(&mut self.begun, true);
        let flags = if begun { Flags::NONE } else { Flags::FIRST_SINCE_BOOT };
        Header { link_type, flags, seq, t_us }
    }

    /// Queues a frame for which there is room.
    fn write(&mut self, header: Header, payload: impl FnOnce(Put<'_>) -> Result<(), NoRoom>) -> Offered {
        let dropped = core::mem::take(&mut self.dropped_before);
        let flags = if dropped { header.flags | Flags::DROPPED_BEFORE } else { header.flags };
        match self.tx.write(Header { flags, ..header }, self.knob.damage(), payload) {
            Ok(()) => Offered::Queued,
            // Room was made sure of before; were it not, this is the truth.
            Err(NoRoom) => self.drop_one(),
        }
    }

    fn drop_one(&mut self) -> Offered {
        self.dropped_before = true;
        self.tx.drop_one()
    }
}

fn row_bytes(fields: &[Field<'_>]) -> usize {
    fields.iter().fold(0_usize, |sum, field| sum.saturating_add(field.field_type.width().into()))
}
