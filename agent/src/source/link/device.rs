//! What is known of the board at the other end, and what its frames mean because of it.

use super::super::arrival::{Arrivals, ReadAt};
use super::super::framing::{Decoded, Notice};
use super::clock::{Came, ClockUse, DeviceClock};
use super::stream::{DeviceStamping, LinkStream, Stamping};
use headwater_core::gap::GapCause;
use headwater_core::id::StreamName;
use headwater_core::ports::SourceEvent;
use headwater_core::time::{BootNanos, ClockDomain, Latency, StampKind};
use headwater_shims::link::{
    Flags, Header, Hello, HelloBody, Identity, LinkFrame, LinkType, Log, Pong, Sample, SchemaCrc,
    StreamDescriptor,
};
use std::collections::{BTreeMap, VecDeque};

/// Frames kept whole while the schema is unknown: 64 × 1 KiB, six seconds of a full line.
const WAITING_FRAMES_MAX: usize = 64;
/// Heads of frames kept beyond that, to count their rows: an hour of 1 Hz.
const WAITING_HEADS_MAX: usize = 4_096;

#[derive(Debug)]
enum Waiting {
    /// A SAMPLE; the payload is gone if the buffer was full.
    Sample { header: Header, stream: u8, count: u8, payload: Option<Vec<u8>>, heard: Heard },
    /// `next_seq` of a descriptor, in its place among the samples.
    Mark { stream: u8, next_seq: u32, t_us: u64, at: BootNanos },
    /// Another boot of the device begins.
    Restart,
}

/// A SAMPLE's arrival, and the clock its times are on.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: BootNanos,
    arrival: Latency,
    clock: Option<ClockDomain>,
}

/// A frame's place in its read: its own bytes on the wire, and those behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) read: ReadAt,
    pub(super) own: usize,
    pub(super) after: usize,
}

/// Descriptors of a HELLO that is not complete yet.
#[derive(Debug, Default)]
struct Pieces {
    total: u8,
    schema_crc: u16,
    payloads: BTreeMap<u8, Vec<u8>>,
}

/// The board and its streams.
#[derive(Debug)]
pub(super) struct Device {
    base: StreamName,
    pub(super) arrivals: Arrivals,
    pub(super) clock: DeviceClock,
    boot_nonce: Option<u32>,
    schema_crc: Option<u16>,
    /// The streams are those of `schema_crc`.
    known: bool,
    hello_wanted: bool,
    pieces: Option<Pieces>,
    streams: BTreeMap<u8, LinkStream>,
    waiting: VecDeque<Waiting>,
    /// Entries of `waiting` that still have their payload.
    whole: usize,
    overflowed: bool,
    evidence: Evidence,
    pong_dropped: Option<u16>,
}

/// What happened on the line, ever: a stream compares it with what it saw at its last sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Evidence {
    /// Frames that failed.
    pub(super) failed: u64,
    /// Times the device said that it dropped something.
    pub(super) dropped: u64,
    /// Times the port was opened.
    pub(super) opened: u64,
    /// Boots of the device.
    pub(super) restarted: u64,
}

impl Device {
    pub(super) fn new(base: StreamName, arrivals: Arrivals, uses: ClockUse) -> Self {
        Self {
            clock: DeviceClock::new(base.clone(), uses),
            base,
            arrivals,
            boot_nonce: None,
            schema_crc: None,
            known: false,
            hello_wanted: true,
            pieces: None,
            streams: BTreeMap::new(),
            waiting: VecDeque::new(),
            whole: 0,
            overflowed: false,
            evidence: Evidence::default(),
            pong_dropped: None,
        }
    }

    /// No HELLO is needed.
    pub(super) fn is_known(&self) -> bool {
        self.known && !self.streams.values().any(LinkStream::is_unsettled)
    }

    /// True once after a HELLO became necessary.
    pub(super) fn take_hello_wanted(&mut self) -> bool {
        std::mem::take(&mut self.hello_wanted)
    }

    pub(super) fn frame_failed(&mut self) {
        self.evidence.failed = self.evidence.failed.saturating_add(1);
    }

    pub(super) fn reopened(&mut self, now: BootNanos, out: &mut Decoded) {
        self.evidence.opened = self.evidence.opened.saturating_add(1);
        self.clock.reopened(now, out);
    }

    pub(super) fn frame(&mut self, frame: LinkFrame<'_>, place: Place, out: &mut Decoded) {
        let at = place.read.at;
        if frame.header.flags.contains(Flags::DROPPED_BEFORE) {
            self.evidence.dropped = self.evidence.dropped.saturating_add(1);
        }
        let refused = match frame.header.link_type {
            LinkType::Sample => self.sample(frame, place, out).err(),
            LinkType::Hello => self.hello(frame, at, out).err(),
            LinkType::Pong => {
                Pong::parse(frame.payload).map(|pong| self.pong(frame.header, &pong, place, out)).err()
            }
            LinkType::Log => Log::parse(frame.payload)
                .map(|log| {
                    let text = log.text.to_owned();
                    out.notices.push(Notice::DeviceLog { level: log.level.code(), text });
                })
                .err(),
            // Unknown types are counted by the decoder; host's own types come back on echoing lines.
            _ => None,
        };
        if let Some(error) = refused {
            let why = format!("{:?} frame: {error}", frame.header.link_type);
            self.set_aside(why, frame.payload, at, out);
        }
        self.drain(out);
    }

    fn sample(
        &mut self,
        frame: LinkFrame<'_>,
        place: Place,
        out: &mut Decoded,
    ) -> Result<(), headwater_shims::link::PayloadError> {
        let sample = Sample::parse(frame.payload)?;
        let heard = self.heard(frame.header, &sample, place, out);
        if self.known && self.waiting.is_empty() {
            self.rows(frame.header, sample.stream(), sample.count(), Some(frame.payload), heard, out);
            return Ok(());
        }
        self.waiting.push_back(Waiting::Sample {
            header: frame.header,
            stream: sample.stream(),
            count: sample.count(),
            payload: Some(frame.payload.to_vec()),
            heard,
        });
        self.whole = self.whole.saturating_add(1);
        self.bound_waiting();
        Ok(())
    }

    /// What the arrival of a SAMPLE tells of when its newest row was taken.
    fn heard(&mut self, header: Header, sample: &Sample<'_>, place: Place, out: &mut Decoded) -> Heard {
        let Place { read, own, after } = place;
        let arrival = self.arrivals.latency(read, own, after);
        let span = u64::from(sample.dt_us()).saturating_mul(sample.count().saturating_sub(1).into());
        let came = Came {
            stream: sample.stream(),
            first: header.flags.contains(Flags::FIRST_SINCE_BOOT),
            t_us: header.t_us,
            newest_us: header.t_us.saturating_add(span),
            at: read.at,
            latency: arrival,
        };
        Heard { at: read.at, arrival, clock: self.clock.sample(came, out) }
    }

    fn bound_waiting(&mut self) {
        if self.whole > WAITING_FRAMES_MAX {
            let oldest = self.waiting.iter_mut().find_map(|entry| match entry {
                Waiting::Sample { payload, .. } if payload.is_some() => Some(payload),
                _ => None,
            });
            if let Some(payload) = oldest {
                *payload = None;
                self.whole = self.whole.saturating_sub(1);
            }
        }
        if self.waiting.len() > WAITING_HEADS_MAX {
            // Its rows show as missing at the next sample of the stream.
            self.overflowed = true;
            if let Some(Waiting::Sample { payload: Some(_), .. }) = self.waiting.pop_front() {
                self.whole = self.whole.saturating_sub(1);
            }
        }
    }

    fn hello(
        &mut self,
        frame: LinkFrame<'_>,
        at: BootNanos,
        out: &mut Decoded,
    ) -> Result<(), headwater_shims::link::PayloadError> {
        let hello = Hello::parse(frame.payload)?;
        match hello.body {
            HelloBody::Identity(identity) => {
                self.identity(&identity, hello.total);
                self.clock.identity(&identity, at, out);
            }
            HelloBody::Stream(stream) => {
                let mark = Waiting::Mark {
                    stream: stream.stream,
                    next_seq: stream.next_seq,
                    t_us: frame.header.t_us,
                    at,
                };
                self.waiting.push_back(mark);
                if let Some(pieces) = self.pieces.as_mut().filter(|pieces| pieces.total == hello.total) {
                    pieces.payloads.insert(hello.index, frame.payload.to_vec());
                }
                self.bound_waiting();
            }
        }
        self.clock.time(frame.header.t_us, at, out);
        self.complete(at, out);
        Ok(())
    }

    fn identity(&mut self, identity: &Identity<'_>, total: u8) {
        self.saw(identity.boot_nonce, identity.schema_crc);
        if !self.known {
            self.pieces = Some(Pieces { total, schema_crc: identity.schema_crc, payloads: BTreeMap::new() });
        }
    }

    fn pong(&mut self, header: Header, pong: &Pong, place: Place, out: &mut Decoded) {
        self.saw(pong.boot_nonce, pong.schema_crc);
        self.clock.pong(header, pong, place.read, (place.own, place.after), out);
        if self.pong_dropped.replace(pong.dropped).is_some_and(|before| before != pong.dropped) {
            self.evidence.dropped = self.evidence.dropped.saturating_add(1);
        }
    }

    /// Notices another boot or another schema.
    fn saw(&mut self, boot_nonce: u32, schema_crc: u16) {
        if self.boot_nonce.replace(boot_nonce).is_some_and(|before| before != boot_nonce) {
            self.waiting.push_back(Waiting::Restart);
            self.pong_dropped = None;
            self.known = false;
        }
        if self.schema_crc.replace(schema_crc).is_some_and(|before| before != schema_crc) {
            self.known = false;
        }
        self.hello_wanted |= !self.known;
    }

    /// Takes the streams over once all descriptors are there and their checksum is right.
    fn complete(&mut self, at: BootNanos, out: &mut Decoded) {
        let all = |pieces: &Pieces| pieces.payloads.len().saturating_add(1) == usize::from(pieces.total);
        let Some(pieces) = self.pieces.take_if(|pieces| all(pieces)) else { return };
        let descriptors: Vec<StreamDescriptor<'_>> = pieces
            .payloads
            .values()
            .filter_map(|payload| match Hello::parse(payload).ok()?.body {
                HelloBody::Stream(stream) => Some(stream),
                HelloBody::Identity(_) => None,
            })
            .collect();
        let mut crc = SchemaCrc::new();
        let summed = descriptors.iter().all(|stream| crc.push(stream).is_ok());
        if !summed || crc.value() != pieces.schema_crc {
            self.hello_wanted = true;
            return;
        }
        let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
        descriptors.iter().for_each(|d| *kinds.entry(d.kind).or_default() += 1);
        let mut before = std::mem::take(&mut self.streams);
        for descriptor in &descriptors {
            let twins = kinds.get(descriptor.kind).copied().unwrap_or(1);
            let name = self.stream_name(descriptor, descriptors.len(), twins);
            let made = name.and_then(|name| LinkStream::new(name, descriptor, self.evidence));
            match made {
                Ok(mut stream) => {
                    let same = before.remove(&descriptor.stream).is_some_and(|old| stream.continues(old));
                    if !same {
                        out.events.push_back(stream.event());
                    }
                    self.streams.insert(descriptor.stream, stream);
                }
                Err(why) => {
                    let why = format!("stream {} of the device cannot be captured: {why}", descriptor.stream);
                    self.set_aside(why, descriptor.kind.as_bytes(), at, out);
                }
            }
        }
        self.known = true;
    }

    /// One stream takes the configured name; several hang below it by kind, twins with their number.
    fn stream_name(
        &self,
        descriptor: &StreamDescriptor<'_>,
        streams: usize,
        twins: u32,
    ) -> Result<StreamName, String> {
        let name = match (streams, twins) {
            (1, _) => return Ok(self.base.clone()),
            (_, 1) => format!("{}/{}", self.base, descriptor.kind),
            _ => format!("{}/{}-{}", self.base, descriptor.kind, descriptor.stream),
        };
        name.parse().map_err(|error: headwater_core::id::NameError| error.to_string())
    }

    fn drain(&mut self, out: &mut Decoded) {
        if !self.known {
            return;
        }
        while let Some(entry) = self.waiting.pop_front() {
            match entry {
                Waiting::Sample { header, stream, count, payload, heard } => {
                    self.rows(header, stream, count, payload.as_deref(), heard, out);
                }
                Waiting::Mark { stream, next_seq, t_us, at } => {
                    if let Some(stream) = self.streams.get_mut(&stream) {
                        stream.mark(next_seq, t_us, at, self.evidence, out);
                    }
                }
                Waiting::Restart => {
                    self.evidence.restarted = self.evidence.restarted.saturating_add(1);
                    self.streams.values_mut().for_each(LinkStream::restart);
                }
            }
        }
        self.whole = 0;
        self.overflowed = false;
    }

    fn rows(
        &mut self,
        header: Header,
        number: u8,
        count: u8,
        payload: Option<&[u8]>,
        heard: Heard,
        out: &mut Decoded,
    ) {
        let (at, stamping) = (heard.at, self.stamping(header, heard));
        let Some(stream) = self.streams.get_mut(&number) else {
            let why = format!("{count} rows of stream {number}, which the device does not describe");
            return self.set_aside(why, payload.unwrap_or_default(), at, out);
        };
        stream.step(header, count, at, self.evidence, self.overflowed, out);
        match payload {
            Some(payload) => stream.readings(header.t_us, payload, stamping, out),
            None => stream.lost(
                count.into(),
                GapCause::Overrun,
                at,
                "the device's schema was not known in time",
                out,
            ),
        }
        self.hello_wanted |= stream.is_unsettled();
    }

    /// How the rows of a frame are stamped: by the board's own clock, with the delay declared for it, or by arrival.
    fn stamping(&self, header: Header, heard: Heard) -> Stamping {
        let cut_ns = self.clock.cut_ns();
        let declared = self.arrivals.declared;
        let queued = header.flags.contains(Flags::ENQUEUE_TIME);
        // A time of queueing is later than the event by what the board does before: as unknown as before a first byte.
        let unsaid = if queued { u32::try_from(self.arrivals.device_ns).unwrap_or(u32::MAX) } else { 0 };
        let latency = Latency {
            lo_ns: declared.least_ns,
            hi_ns: declared.most_ns.unwrap_or(unsaid).max(declared.least_ns).saturating_add(cut_ns),
        };
        let kind = if queued { StampKind::Arrival } else { StampKind::Instant };
        let device = heard.clock.map(|domain| DeviceStamping { domain, kind, latency, cut_ns });
        Stamping { at: heard.at, arrival: heard.arrival, device }
    }

    fn set_aside(&self, why: String, bytes: &[u8], at: BootNanos, out: &mut Decoded) {
        let stream = self.base.clone();
        out.events.push_back(SourceEvent::SetAside { stream, why, bytes: bytes.to_vec(), at });
    }
}
