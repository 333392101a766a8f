//! HELLO: when it is due, and how its frames get into the queue one by one.

use super::{Device, StreamSpec};
use crate::cobs::encoded_bytes_max;
use crate::link::{
    BuildError, FieldList, Hello, HelloBody, Identity, LinkType, NoRoom, SchemaCrc, StreamDescriptor,
    raw_bytes,
};
use crate::tx::TxQueue;

/// Between two unasked HELLOs, until the first PING.
pub const HELLO_EVERY_US: u64 = 2_000_000;

/// Between the starts of two HELLOs that were asked for: a host that keeps asking gets no more, and samples still pass.
pub const HELLO_GAP_US: u64 = 100_000;

#[derive(Debug)]
pub(super) struct Greeting {
    /// Index of the next HELLO frame to queue, while one is under way.
    next: Option<u8>,
    /// Bytes it needs in the queue, while it waits for them.
    waits_for_bytes: usize,
    /// When one that was asked for is due.
    asked_us: Option<u64>,
    /// When an unasked one is due.
    unasked_us: Option<u64>,
    /// Before this none begins.
    not_before_us: u64,
    pinged: bool,
}

impl Greeting {
    /// One is due at once.
    pub(super) const fn new() -> Self {
        Self {
            next: None,
            waits_for_bytes: 0,
            asked_us: Some(0),
            unasked_us: None,
            not_before_us: 0,
            pinged: false,
        }
    }

    /// Somebody asks at `now_us`.
    pub(super) fn ask(&mut self, now_us: u64) {
        if self.asked_us.is_none() {
            self.asked_us = Some(now_us.max(self.not_before_us));
        }
    }

    /// The host is there: it will ask if it needs to know.
    pub(super) const fn heard_ping(&mut self) {
        self.pinged = true;
        self.unasked_us = None;
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.next.is_some()
    }

    pub(super) const fn waits_for_bytes(&self) -> usize {
        self.waits_for_bytes
    }

    pub(super) const fn deadline_us(&self) -> Option<u64> {
        if self.next.is_some() {
            return Some(0);
        }
        match (self.asked_us, self.unasked_us) {
            (Some(asked), Some(unasked)) => Some(if asked < unasked { asked } else { unasked }),
            (Some(at), None) | (None, Some(at)) => Some(at),
            (None, None) => None,
        }
    }

    /// Begins one if it is due.
    fn begin(&mut self, now_us: u64) {
        if self.next.is_some() || self.deadline_us().is_none_or(|at| at > now_us) {
            return;
        }
        self.next = Some(0);
        self.asked_us = None;
        self.unasked_us = if self.pinged { None } else { Some(now_us.saturating_add(HELLO_EVERY_US)) };
        self.not_before_us = now_us.saturating_add(HELLO_GAP_US);
    }
}

impl<'a, const S: usize, const RX: usize, const TX: usize> Device<'a, S, RX, TX> {
    /// Samples of `stream` come every `period_us` from now on; a HELLO says so.
    ///
    /// Answer the CONFIG that asked for it first: samples queued before the REPLY keep the old period.
    ///
    /// # Errors
    /// [`BuildError::UnknownStream`].
    pub fn set_period_us(&mut self, stream: u8, period_us: u32) -> Result<(), BuildError> {
        let state = self.streams.get_mut(usize::from(stream)).ok_or(BuildError::UnknownStream)?;
        state.period_us = period_us;
        self.schema_changed()
    }

    /// Rows of `stream` are what `spec` says from now on, e.g. after its range and with it its scale changed.
    ///
    /// # Errors
    /// [`BuildError`] if it cannot be described; then nothing has changed.
    pub fn describe(&mut self, stream: u8, spec: &'a StreamSpec<'a>) -> Result<(), BuildError> {
        let state = self.streams.get_mut(usize::from(stream)).ok_or(BuildError::UnknownStream)?;
        let before = (state.spec, state.period_us);
        (state.spec, state.period_us) = (spec, spec.period_us);
        let checked = self.check_greeting();
        if checked.is_err()
            && let Some(state) = self.streams.get_mut(usize::from(stream))
        {
            (state.spec, state.period_us) = before;
        }
        checked?;
        self.greeting.ask(0);
        Ok(())
    }

    /// Makes sure that every HELLO frame can be queued, and sums the schema up.
    pub(super) fn check_greeting(&mut self) -> Result<(), BuildError> {
        let schema_crc = self.sum_schema()?;
        for index in 0..self.total()? {
            if !TxQueue::<TX>::could_hold(self.hello(index)?.payload_bytes()?) {
                return Err(BuildError::QueueTooSmall);
            }
        }
        self.schema_crc = schema_crc;
        Ok(())
    }

    /// Queues what a HELLO that is due still needs, as far as there is room.
    pub(super) fn greet(&mut self, now_us: u64) {
        self.greeting.begin(now_us);
        while let Some(index) = self.greeting.next {
            match self.greet_one(index, now_us) {
                Ok(true) => {}
                Ok(false) => return,
                // Checked when the streams were set; an error here could only repeat itself.
                Err(_) => self.greeting.next = None,
            }
        }
    }

    fn greet_one(&mut self, index: u8, now_us: u64) -> Result<bool, BuildError> {
        let hello = self.hello(index)?;
        let payload_bytes = hello.payload_bytes()?;
        if !self.tx.has_room(payload_bytes, 0) {
            self.greeting.waits_for_bytes = encoded_bytes_max(raw_bytes(payload_bytes));
            return Ok(false);
        }
        let header = self.own_header(LinkType::Hello, now_us);
        self.write(header, |put| {
            hello.emit(|bytes| put(bytes).map_err(BuildError::from)).map_err(|_| NoRoom)
        });
        self.greeting.waits_for_bytes = 0;
        let next = index.saturating_add(1);
        self.greeting.next = (next < hello.total).then_some(next);
        Ok(true)
    }

    /// The HELLO frame of this index, as of now.
    fn hello(&self, index: u8) -> Result<Hello<'a>, BuildError> {
        let body = match index.checked_sub(1) {
            None => HelloBody::Identity(self.identity()?),
            Some(stream) => HelloBody::Stream(self.descriptor(stream)?),
        };
        Ok(Hello { index, total: self.total()?, body })
    }

    fn identity(&self) -> Result<Identity<'a>, BuildError> {
        let spec = self.spec;
        Ok(Identity {
            caps: spec.caps,
            t2_point: spec.t2_point,
            boot_nonce: self.boot_nonce,
            max_rx: u16::try_from(RX).unwrap_or(u16::MAX),
            tick_ns: spec.tick_ns,
            clock_ppm: spec.clock_ppm,
            schema_crc: self.schema_crc,
            uid: spec.uid,
            firmware: spec.firmware,
        })
    }

    fn descriptor(&self, stream: u8) -> Result<StreamDescriptor<'a>, BuildError> {
        let state = self.streams.get(usize::from(stream)).ok_or(BuildError::UnknownStream)?;
        Ok(StreamDescriptor {
            stream,
            next_seq: state.next_seq,
            kind: state.spec.kind,
            period_us: state.period_us,
            fields: FieldList::new(state.spec.fields),
        })
    }

    /// HELLO frames of one HELLO.
    fn total(&self) -> Result<u8, BuildError> {
        u8::try_from(S).ok().and_then(|streams| streams.checked_add(1)).ok_or(BuildError::HelloIndex)
    }

    fn sum_schema(&self) -> Result<u16, BuildError> {
        let mut crc = SchemaCrc::new();
        for stream in 0..self.total()?.saturating_sub(1) {
            crc.push(&self.descriptor(stream)?)?;
        }
        Ok(crc.value())
    }

    fn schema_changed(&mut self) -> Result<(), BuildError> {
        self.schema_crc = self.sum_schema()?;
        self.greeting.ask(0);
        Ok(())
    }
}
