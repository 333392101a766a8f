//! Victron VE.Direct: solar chargers, battery monitors, inverters.
//!
//! ```text
//! \r\n LABEL \t VALUE ... \r\n Checksum \t c        a block; the sum of all its bytes is 0 modulo 256
//! : digits \n                                       a HEX message, anywhere but before c; not part of the sum
//! ```
//!
//! Source: Victron Energy, VE.Direct Protocol, version 3.29, sections "Text-mode" and "Message format", and BlueSolar
//! HEX protocol, section "Frame format" (nibble of a command, bytes, checksum: they sum to 0x55). 19200 baud, 8N1.

use super::feed::{FrameError, Look, Protocol};
use super::view::{Text, message};
use super::{Message, Read};

/// Longest block, bytes: 22 fields of at most 8 + 33 + 3, rounded up; HEX messages within it count too.
pub const FRAME_BYTES_MAX: usize = 1_024;
/// Longest label, bytes: the document says 8; "Checksum" has them all.
const LABEL_BYTES_MAX: usize = 9;
/// Longest value, bytes.
const VALUE_BYTES_MAX: usize = 33;
/// Longest HEX message, bytes.
const HEX_BYTES_MAX: usize = 128;
const CHECKSUM: &[u8] = b"Checksum";

/// The protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct VeDirect;

impl Protocol for VeDirect {
    fn look(&self, bytes: &[u8], in_sync: bool) -> Look {
        match bytes.first() {
            Some(b'\r') if matches!(bytes.get(1), Some(byte) if *byte != b'\n') => Look::Noise,
            // Not walked through for every byte that comes.
            Some(b'\r') if !may_end(bytes) => Look::More(bytes.len().saturating_add(1)),
            Some(b'\r') => match Fields::new(bytes).end() {
                End::Block { len, sum: 0 } => Look::Frame(len),
                // Who joins in the middle of a block sees its rest, which cannot sum up.
                End::Block { .. } | End::Broken(_) if !in_sync => Look::Noise,
                End::Block { len, .. } => Look::Bad(FrameError::Checksum, len),
                End::Broken(len) => Look::Bad(FrameError::Malformed, len),
                End::Open => Look::More(bytes.len().saturating_add(1)),
            },
            Some(b':') => hex(bytes),
            _ => Look::Noise,
        }
    }
}

/// Whether a block can have ended: its last label is there, perhaps with a HEX message in it.
fn may_end(bytes: &[u8]) -> bool {
    let last = |label: &[u8]| label == b"Checksum\t";
    bytes.windows(CHECKSUM.len().saturating_add(1)).any(last) || bytes.contains(&b':')
}

/// A HEX message at the front.
fn hex(bytes: &[u8]) -> Look {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        let digits = bytes.iter().skip(1).all(u8::is_ascii_hexdigit);
        return if !digits {
            Look::Noise
        } else if bytes.len() > HEX_BYTES_MAX {
            Look::Bad(FrameError::Length, 1)
        } else {
            Look::More(bytes.len().saturating_add(1))
        };
    };
    let digits = bytes.get(1..end).unwrap_or_default();
    let len = end.saturating_add(1);
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let Some((command, rest)) = digits.split_first() else { return Look::Noise };
    let Some(command) = digit(*command) else { return Look::Noise };
    let (pairs, odd) = rest.as_chunks::<2>();
    let sum = pairs.iter().try_fold(command, |sum, [high, low]| {
        Some(sum.wrapping_add(digit(*high)?.wrapping_shl(4) | digit(*low)?))
    });
    match sum {
        Some(0x55) if odd.is_empty() => Look::Frame(len),
        Some(_) if odd.is_empty() => Look::Bad(FrameError::Checksum, len),
        _ => Look::Bad(FrameError::Malformed, len),
    }
}

/// How a block ends.
enum End {
    /// After so many bytes, which sum up to this.
    Block { len: usize, sum: u8 },
    /// Not within these bytes.
    Open,
    /// After so many bytes it is none.
    Broken(usize),
}

/// Walks through the fields of a block, past HEX messages.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    sum: u8,
}

impl<'a> Fields<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, sum: 0 }
    }

    /// The next byte that is of no HEX message.
    fn byte(&mut self) -> Option<u8> {
        while self.bytes.get(self.at) == Some(&b':') {
            let rest = self.bytes.get(self.at..)?;
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            self.at = self.at.saturating_add(end).saturating_add(1);
        }
        let byte = *self.bytes.get(self.at)?;
        self.at = self.at.saturating_add(1);
        self.sum = self.sum.wrapping_add(byte);
        Some(byte)
    }

    /// The next field; `None` where the bytes end within it. HEX messages within it are cut out.
    fn field(&mut self) -> Option<Result<Field, ()>> {
        for wanted in *b"\r\n" {
            if self.byte()? != wanted {
                return Some(Err(()));
            }
        }
        let (mut label, mut value) = (Part::<LABEL_BYTES_MAX>::new(), Part::<VALUE_BYTES_MAX>::new());
        loop {
            match self.byte()? {
                b'\t' => break,
                byte @ 0x21..=0x7e if label.push(byte) => {}
                _ => return Some(Err(())),
            }
        }
        if label.as_slice() == CHECKSUM {
            // Any byte, a colon too.
            let byte = *self.bytes.get(self.at)?;
            self.at = self.at.saturating_add(1);
            self.sum = self.sum.wrapping_add(byte);
            return Some(Ok(Field { label, value, last: true }));
        }
        loop {
            // The line end belongs to the next field.
            let before = (self.at, self.sum);
            match self.byte()? {
                b'\r' => {
                    (self.at, self.sum) = (self.at.saturating_sub(1).max(before.0), before.1);
                    return Some(Ok(Field { label, value, last: false }));
                }
                byte @ 0x20..=0x7e if value.push(byte) => {}
                _ => return Some(Err(())),
            }
        }
    }

    fn end(mut self) -> End {
        loop {
            match self.field() {
                None => return End::Open,
                Some(Err(())) => return End::Broken(self.at),
                Some(Ok(field)) if field.last => return End::Block { len: self.at, sum: self.sum },
                Some(Ok(_)) => {}
            }
        }
    }
}

struct Field {
    label: Part<LABEL_BYTES_MAX>,
    value: Part<VALUE_BYTES_MAX>,
    last: bool,
}

/// Some bytes, held in place.
struct Part<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Part<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    fn push(&mut self, byte: u8) -> bool {
        let slot = self.bytes.get_mut(self.len);
        let fits = slot.is_some();
        if let Some(slot) = slot {
            *slot = byte;
            self.len = self.len.saturating_add(1);
        }
        fits
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn int(&self) -> Option<i32> {
        core::str::from_utf8(self.as_slice()).ok()?.parse().ok()
    }

    /// `0x…` and plain numbers.
    fn code(&self) -> Option<u32> {
        let text = core::str::from_utf8(self.as_slice()).ok()?;
        match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    }

    fn on(&self) -> Option<bool> {
        match self.as_slice() {
            b"ON" | b"On" => Some(true),
            b"OFF" | b"Off" => Some(false),
            _ => None,
        }
    }
}

impl Read for VeDirect {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        let block = VeDirectBlock::new(frame);
        if let Some(block) = &block {
            sink(block);
        }
        block.is_some()
    }
}

message! {
    /// One block. A device sends what it has; battery monitors spread it over two blocks in turn.
    VeDirectBlock = "vedirect" {
        battery_v: Option<f64>, "V", "`V`: main or channel 1 battery voltage.";
        battery_a: Option<f64>, "A", "`I`: main or channel 1 battery current.";
        power_w: Option<i32>, "W", "`P`: instantaneous power.";
        auxiliary_v: Option<f64>, "V", "`VS`: auxiliary battery voltage.";
        midpoint_v: Option<f64>, "V", "`VM`: midpoint voltage of the battery bank.";
        battery_cel: Option<i32>, "Cel", "`T`: battery temperature.";
        panel_v: Option<f64>, "V", "`VPV`: panel voltage.";
        panel_w: Option<i32>, "W", "`PPV`: panel power.";
        load_a: Option<f64>, "A", "`IL`: load current.";
        load_on: Option<bool>, "1", "`LOAD`: load output.";
        relay_on: Option<bool>, "1", "`Relay`: relay.";
        alarm_on: Option<bool>, "1", "`Alarm`: an alarm is active.";
        alarm_reason: Option<u32>, "1", "`AR`: why, a bit each.";
        consumed_ah: Option<f64>, "A.h", "`CE`: charge drawn from the battery.";
        state_of_charge_percent: Option<f64>, "%", "`SOC`: state of charge.";
        time_to_go_min: Option<i32>, "min", "`TTG`: time to go, -1 for endless.";
        operation_state: Option<u32>, "1", "`CS`: state of operation.";
        error_code: Option<u32>, "1", "`ERR`: error, 0 for none.";
        off_reason: Option<u32>, "1", "`OR`: why it is off, a bit each.";
        tracker_mode: Option<u32>, "1", "`MPPT`: 0 off, 1 limited, 2 tracking.";
        yield_total_kwh: Option<f64>, "kW.h", "`H19`: yield since the last reset of it.";
        yield_today_kwh: Option<f64>, "kW.h", "`H20`: yield today.";
        power_max_today_w: Option<i32>, "W", "`H21`: greatest power today.";
        yield_yesterday_kwh: Option<f64>, "kW.h", "`H22`: yield yesterday.";
        power_max_yesterday_w: Option<i32>, "W", "`H23`: greatest power yesterday.";
        deepest_discharge_ah: Option<f64>, "A.h", "`H1`: depth of the deepest discharge.";
        discharged_total_ah: Option<f64>, "A.h", "`H6`: charge drawn in all.";
        battery_min_v: Option<f64>, "V", "`H7`: least battery voltage.";
        battery_max_v: Option<f64>, "V", "`H8`: greatest battery voltage.";
        day: Option<i32>, "1", "`HSDS`: number of the day, 0 … 364.";
        product_id: Option<u32>, "1", "`PID`: product.";
        serial_number: Option<Text<32>>, "1", "`SER#`: serial number.";
    }
}

impl VeDirectBlock {
    /// The block in a frame that [`VeDirect`] found; `None` for HEX messages.
    pub fn new(frame: &[u8]) -> Option<Self> {
        if frame.first() != Some(&b'\r') {
            return None;
        }
        let mut block = Self::empty();
        let mut fields = Fields::new(frame);
        while let Some(Ok(field)) = fields.field() {
            if field.last {
                break;
            }
            block.take(&field);
        }
        Some(block)
    }

    fn take(&mut self, Field { label, value, .. }: &Field) {
        let thousandths = || value.int().map(|milli| f64::from(milli) / 1e3);
        let hundredths = || value.int().map(|centi| f64::from(centi) / 1e2);
        match label.as_slice() {
            b"V" => self.battery_v = thousandths(),
            b"I" => self.battery_a = thousandths(),
            b"P" => self.power_w = value.int(),
            b"VS" => self.auxiliary_v = thousandths(),
            b"VM" => self.midpoint_v = thousandths(),
            b"T" => self.battery_cel = value.int(),
            b"VPV" => self.panel_v = thousandths(),
            b"PPV" => self.panel_w = value.int(),
            b"IL" => self.load_a = thousandths(),
            b"LOAD" => self.load_on = value.on(),
            b"Relay" => self.relay_on = value.on(),
            b"Alarm" => self.alarm_on = value.on(),
            b"AR" => self.alarm_reason = value.code(),
            b"CE" => self.consumed_ah = thousandths(),
            b"SOC" => self.state_of_charge_percent = value.int().map(|tenths| f64::from(tenths) / 10.0),
            b"TTG" => self.time_to_go_min = value.int(),
            b"CS" => self.operation_state = value.code(),
            b"ERR" => self.error_code = value.code(),
            b"OR" => self.off_reason = value.code(),
            b"MPPT" => self.tracker_mode = value.code(),
            b"H19" => self.yield_total_kwh = hundredths(),
            b"H20" => self.yield_today_kwh = hundredths(),
            b"H21" => self.power_max_today_w = value.int(),
            b"H22" => self.yield_yesterday_kwh = hundredths(),
            b"H23" => self.power_max_yesterday_w = value.int(),
            b"H1" => self.deepest_discharge_ah = thousandths(),
            b"H6" => self.discharged_total_ah = thousandths(),
            b"H7" => self.battery_min_v = thousandths(),
            b"H8" => self.battery_max_v = thousandths(),
            b"HSDS" => self.day = value.int(),
            b"PID" => self.product_id = value.code(),
            b"SER#" => self.serial_number = Some(Text::new(value.as_slice())),
            // Labels of other products, firmware versions and what is to come.
            _ => {}
        }
    }

    const fn empty() -> Self {
        Self {
            battery_v: None,
            battery_a: None,
            power_w: None,
            auxiliary_v: None,
            midpoint_v: None,
            battery_cel: None,
            panel_v: None,
            panel_w: None,
            load_a: None,
            load_on: None,
            relay_on: None,
            alarm_on: None,
            alarm_reason: None,
            consumed_ah: None,
            state_of_charge_percent: None,
            time_to_go_min: None,
            operation_state: None,
            error_code: None,
            off_reason: None,
            tracker_mode: None,
            yield_total_kwh: None,
            yield_today_kwh: None,
            power_max_today_w: None,
            yield_yesterday_kwh: None,
            power_max_yesterday_w: None,
            deepest_discharge_ah: None,
            discharged_total_ah: None,
            battery_min_v: None,
            battery_max_v: None,
            day: None,
            product_id: None,
            serial_number: None,
        }
    }
}
