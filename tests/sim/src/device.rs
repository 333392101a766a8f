//! A simulated board behind a byte pipe: it speaks the link with the very code real boards use.
//!
//! Pure: bytes and device time go in, bytes come out. Tests and the demo put it behind a pipe or a
//! pseudo terminal, drop its samples, reset it or damage its line.

use headwater_shims::link::{
    BuildError, Caps, Field, FieldList, FieldType, Flags, Header, Hello, HelloBody, Identity, LinkDecoder,
    LinkType, Pong, RAW_BYTES_MAX, SampleWriter, StreamDescriptor, T2Point, Value, WIRE_BYTES_MAX, encode,
    schema_crc,
};

/// Between two unasked HELLOs, µs, until the first PING.
pub const HELLO_EVERY_US: u64 = 2_000_000;

/// A field of a simulated stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimField {
    /// Name.
    pub name: String,
    /// UCUM unit.
    pub unit: String,
    /// How its values are stored.
    pub field_type: FieldType,
    /// A stored `v` means `v * 10^scale10`.
    pub scale10: i8,
}

impl SimField {
    /// An unscaled field.
    #[must_use]
    pub fn new(name: &str, unit: &str, field_type: FieldType) -> Self {
        Self { name: name.to_owned(), unit: unit.to_owned(), field_type, scale10: 0 }
    }

    fn described(&self) -> Field<'_> {
        Field { field_type: self.field_type, scale10: self.scale10, name: &self.name, unit: &self.unit }
    }
}

/// A simulated stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimStream {
    /// Schema family.
    pub kind: String,
    /// Between samples, µs; 0 if irregular.
    pub period_us: u32,
    /// What a row holds.
    pub fields: Vec<SimField>,
}

/// The board. Its streams are numbered by their place.
#[derive(Debug)]
pub struct SimDevice {
    streams: Vec<SimStream>,
    next_seq: Vec<u32>,
    boot_nonce: u32,
    decoder: LinkDecoder<RAW_BYTES_MAX>,
    hello_at: Option<u64>,
    sent: u16,
    dropped: u16,
    dropped_before: bool,
    started: bool,
    about: SimTicks,
}

/// What a board says of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimTicks {
    /// How far its clock may run off, ppm.
    pub clock_ppm: u16,
    /// Its tick, ns.
    pub tick_ns: u32,
    /// Which byte of a PING its t2 belongs to.
    pub t2_point: T2Point,
}

impl Default for SimTicks {
    fn default() -> Self {
        Self { clock_ppm: 50, tick_ns: 1_000, t2_point: T2Point::FirstByte }
    }
}

/// Device time `t_us` after its start of a clock that is off by `ppm`, as the KNOB of a test build makes it.
#[must_use]
pub fn skewed_us(t_us: u64, ppm: i32) -> u64 {
    let off = i128::from(t_us) * i128::from(ppm) / 1_000_000;
    u64::try_from((i128::from(t_us) + off).max(0)).unwrap_or(u64::MAX)
}

impl SimDevice {
    /// A board that was just switched on.
    #[must_use]
    pub fn new(streams: Vec<SimStream>, boot_nonce: u32) -> Self {
        Self {
            next_seq: vec![0; streams.len()],
            streams,
            boot_nonce,
            decoder: LinkDecoder::new(),
            hello_at: Some(0),
            sent: 0,
            dropped: 0,
            dropped_before: false,
            started: false,
            about: SimTicks::default(),
        }
    }

    /// The same with another clock.
    #[must_use]
    pub fn ticking(self, about: SimTicks) -> Self {
        Self { about, ..self }
    }

    /// Restarts the board: numbers begin at 0, and it says HELLO again.
    pub fn reset(&mut self, boot_nonce: u32) {
        let streams = std::mem::take(&mut self.streams);
        *self = Self::new(streams, boot_nonce).ticking(self.about);
    }

    /// Number of the next sample of a stream.
    #[must_use]
    pub fn next_seq(&self, stream: u8) -> u32 {
        self.next_seq.get(usize::from(stream)).copied().unwrap_or(0)
    }

    /// Does what is due at device time `now_us`: HELLO at the start and every 2 s until the first PING.
    ///
    /// # Errors
    /// [`BuildError`] if a stream cannot be described in a frame.
    pub fn poll(&mut self, now_us: u64, out: &mut Vec<u8>) -> Result<(), BuildError> {
        if self.hello_at.is_some_and(|at| at <= now_us) {
            self.hello_at = Some(now_us.saturating_add(HELLO_EVERY_US));
            self.hello(now_us, out)?;
        }
        Ok(())
    }

    /// When [`SimDevice::poll`] has something to say, device time.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.hello_at
    }

    /// Takes bytes of the host and answers: HELLO to HELLO_REQ, PONG to PING.
    ///
    /// # Errors
    /// As [`SimDevice::poll`].
    pub fn receive(&mut self, bytes: &[u8], now_us: u64, out: &mut Vec<u8>) -> Result<(), BuildError> {
        self.answer(bytes, (now_us, now_us), out)
    }

    /// The same with the device times at which the bytes came and at which the answer goes.
    ///
    /// # Errors
    /// As [`SimDevice::poll`].
    pub fn answer(
        &mut self,
        bytes: &[u8],
        (t2_us, t3_us): (u64, u64),
        out: &mut Vec<u8>,
    ) -> Result<(), BuildError> {
        for byte in bytes {
            let heard = match self.decoder.push(*byte) {
                Some(Ok(frame)) => frame.header,
                _ => continue,
            };
            match heard.link_type {
                LinkType::HelloReq => self.hello(t3_us, out)?,
                LinkType::Ping => {
                    self.hello_at = None;
                    let pong = Pong {
                        t1_us: heard.t_us,
                        t2_us,
                        boot_nonce: self.boot_nonce,
                        schema_crc: self.with_descriptors(schema_crc)?,
                        dropped: self.dropped,
                    };
                    let mut payload = [0; 64];
                    let len = pong.encode(&mut payload)?;
                    let payload = payload.get(..len).unwrap_or_default().to_vec();
                    self.frame(LinkType::Pong, Flags::NONE, heard.seq, t3_us, &payload, out);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends rows of a stream, the first captured at `t_us`, `dt_us` apart. They must fit one frame.
    ///
    /// # Errors
    /// [`BuildError`] if they do not fit, or `stream` is none of the board's.
    pub fn sample(
        &mut self,
        stream: u8,
        rows: &[Vec<Value>],
        t_us: u64,
        dt_us: u16,
        out: &mut Vec<u8>,
    ) -> Result<(), BuildError> {
        let mut payload = [0; RAW_BYTES_MAX];
        let mut writer = SampleWriter::new(&mut payload, stream, dt_us)?;
        for row in rows {
            writer.push_row(row)?;
        }
        let count = u32::from(writer.count());
        let len = writer.finish()?;
        let payload = payload.get(..len).unwrap_or_default().to_vec();
        let next = self.next_seq.get_mut(usize::from(stream)).ok_or(BuildError::ReservedStream)?;
        let first = *next == 0;
        let [low, high, _, _] = next.to_le_bytes();
        *next = next.wrapping_add(count);
        let mut flags = if first { Flags::FIRST_SINCE_BOOT } else { Flags::NONE };
        if std::mem::take(&mut self.dropped_before) {
            flags = flags | Flags::DROPPED_BEFORE;
        }
        self.frame(LinkType::Sample, flags, u16::from_le_bytes([low, high]), t_us, &payload, out);
        Ok(())
    }

    /// Drops `rows` samples of a stream as a board with a full queue does: their numbers are used up.
    pub fn drop_rows(&mut self, stream: u8, rows: u32) {
        if let Some(next) = self.next_seq.get_mut(usize::from(stream)) {
            *next = next.wrapping_add(rows);
        }
        self.dropped = self.dropped.wrapping_add(1);
        self.dropped_before = true;
    }

    fn hello(&mut self, now_us: u64, out: &mut Vec<u8>) -> Result<(), BuildError> {
        let total = u8::try_from(self.streams.len().saturating_add(1)).map_err(|_| BuildError::HelloIndex)?;
        let schema_crc = self.with_descriptors(schema_crc)?;
        let identity = Identity {
            caps: Caps::NONE,
            t2_point: self.about.t2_point,
            boot_nonce: self.boot_nonce,
            max_rx: 64,
            tick_ns: self.about.tick_ns,
            clock_ppm: self.about.clock_ppm,
            schema_crc,
            uid: "sim-1",
            firmware: "1.0.0",
        };
        let mut payloads = Vec::new();
        let mut buffer = [0; RAW_BYTES_MAX];
        let len = Hello { index: 0, total, body: HelloBody::Identity(identity) }.encode(&mut buffer)?;
        payloads.push(buffer.get(..len).unwrap_or_default().to_vec());
        self.with_descriptors(|descriptors| {
            for (descriptor, index) in descriptors.iter().zip(1..) {
                let len = Hello { index, total, body: HelloBody::Stream(*descriptor) }.encode(&mut buffer)?;
                payloads.push(buffer.get(..len).unwrap_or_default().to_vec());
            }
            Ok(())
        })?;
        for payload in payloads {
            let seq = self.sent;
            self.sent = seq.wrapping_add(1);
            self.frame(LinkType::Hello, Flags::NONE, seq, now_us, &payload, out);
        }
        Ok(())
    }

    fn with_descriptors<T>(
        &self,
        f: impl FnOnce(&[StreamDescriptor<'_>]) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let fields: Vec<Vec<Field<'_>>> = self
            .streams
            .iter()
            .map(|stream| stream.fields.iter().map(SimField::described).collect())
            .collect();
        let descriptors: Vec<StreamDescriptor<'_>> = self
            .streams
            .iter()
            .zip(&fields)
            .zip(&self.next_seq)
            .zip(0..)
            .map(|(((stream, fields), next_seq), number)| StreamDescriptor {
                stream: number,
                next_seq: *next_seq,
                kind: &stream.kind,
                period_us: stream.period_us,
                fields: FieldList::new(fields),
            })
            .collect();
        f(&descriptors)
    }

    fn frame(
        &mut self,
        link_type: LinkType,
        flags: Flags,
        seq: u16,
        t_us: u64,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        // One delimiter first, so that line noise cannot swallow the first frame.
        if !std::mem::replace(&mut self.started, true) {
            out.push(0);
        }
        let mut wire = [0; WIRE_BYTES_MAX];
        if let Ok(len) = encode(&mut wire, Header { link_type, flags, seq, t_us }, payload) {
            out.extend_from_slice(wire.get(..len).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(wire: &[u8]) -> Vec<LinkType> {
        let mut decoder = LinkDecoder::<RAW_BYTES_MAX>::new();
        let mut types = Vec::new();
        for byte in wire {
            if let Some(frame) = decoder.push(*byte) {
                types.push(frame.unwrap().header.link_type);
            }
        }
        types
    }

    #[test]
    fn says_hello_until_it_hears_a_ping() {
        let stream = SimStream {
            kind: "imu".into(),
            period_us: 4_000,
            fields: vec![SimField::new("ax", "m/s2", FieldType::F32)],
        };
        let mut device = SimDevice::new(vec![stream], 7);
        let mut out = Vec::new();
        device.poll(0, &mut out).unwrap();
        device.poll(1_000_000, &mut out).unwrap();
        device.poll(2_000_000, &mut out).unwrap();
        device
            .sample(0, &[vec![Value::F32(1.0)], vec![Value::F32(2.0)]], 2_000_000, 4_000, &mut out)
            .unwrap();
        assert_eq!(
            types(&out),
            [LinkType::Hello, LinkType::Hello, LinkType::Hello, LinkType::Hello, LinkType::Sample]
        );
        assert_eq!(device.next_seq(0), 2);
        let mut ping = [0; 64];
        let header = Header { link_type: LinkType::Ping, flags: Flags::NONE, seq: 3, t_us: 9 };
        let len = encode(&mut ping[1..], header, &[]).unwrap();
        let mut answer = vec![0];
        device.receive(&ping[..=len], 2_500_000, &mut answer).unwrap();
        assert_eq!(types(&answer), [LinkType::Pong]);
        device.poll(9_000_000, &mut answer).unwrap();
        assert_eq!(types(&answer), [LinkType::Pong]);
    }
}
