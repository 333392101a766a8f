//! Frames of any other device, by a description: sync bytes, length, checksum, fields.
//!
//! ```text
//! sync bytes | ... length perhaps ... | fields | checksum | tail bytes
//! ```
//!
//! A frame without a checksum is believed when it follows another, or is followed by the next one's sync
//! bytes; so the first of a run is given out once its second has begun.
//!
//! ```
//! use headwater_shims::vendor::spec::*;
//! use headwater_shims::vendor::{Feeder, Message, Read, Value};
//!
//! // 55 AA | distance u16 big-endian, mm | sum of all before
//! const FIELDS: &[SpecField<&str>] = &[SpecField {
//!     name: "distance",
//!     unit: "m",
//!     slot: Slot { order: ByteOrder::Big, scale: 0.001, ..Slot::new(2, Raw::U16) },
//! }];
//! let layout = Layout {
//!     sync: Fixed::new(&[0x55, 0xAA]).expect("two bytes fit"),
//!     length: Length::Fixed(5),
//!     checksum: Checksum { sum: Sum::Sum8, from: 0, order: ByteOrder::Big },
//!     tail: Fixed::NONE,
//! };
//! let spec = FrameSpec { kind: "distance", layout, fields: FIELDS };
//! let mut input: &[u8] = &[0x00, 0x55, 0xAA, 0x01, 0xF4, 0xF4];
//! let mut feeder = Feeder::<_, 16>::new(&spec);
//! while let Some(found) = feeder.next_frame(&mut input) {
//!     spec.read(found?.bytes, &mut |message| assert_eq!(message.value(0), Value::F64(0.5)));
//! }
//! assert_eq!(feeder.stats().frames, 1);
//! # Ok::<(), headwater_shims::vendor::FrameError>(())
//! ```

use super::feed::{FrameError, Look, Protocol};
use super::sum;
use super::{Field, Form, Message, Read, Value};

/// Most sync or tail bytes.
pub const FIXED_BYTES_MAX: usize = 8;
/// Longest frame that can be described, bytes.
pub const FRAME_BYTES_MAX: usize = 1_024;

/// Bytes a protocol fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    bytes: [u8; FIXED_BYTES_MAX],
    len: usize,
}

impl Fixed {
    /// None at all.
    pub const NONE: Self = Self { bytes: [0; FIXED_BYTES_MAX], len: 0 };

    /// These; `None` if they are more than [`FIXED_BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut fixed = Self { len: bytes.len(), ..Self::NONE };
        fixed.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(fixed)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// How many bytes a frame has, sync and checksum included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Always so many.
    Fixed(u16),
    /// As one of its fields says.
    Field {
        /// Where that field lies.
        place: LengthPlace,
        /// What its value does not count.
        plus: u16,
        /// Most bytes it may come to: beyond it the sync was false.
        most: u16,
    },
}

/// Place and storage of a length: unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LengthPlace {
    /// First byte within the frame.
    pub at: u16,
    /// Bytes, 1 or 2.
    pub bytes: u8,
    /// Order of its bytes.
    pub order: ByteOrder,
}

/// A checksum's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// There is none.
    None,
    /// [`sum::sum8`].
    Sum8,
    /// [`sum::xor8`].
    Xor8,
    /// [`sum::twos_complement8`].
    TwosComplement8,
    /// [`sum::crc8`].
    Crc8 {
        /// Polynomial.
        poly: u8,
        /// Start.
        init: u8,
    },
    /// [`sum::sum16`].
    Sum16,
    /// [`sum::crc16_modbus`].
    Crc16Modbus,
    /// CRC-16/CCITT-FALSE, as [`crc16`](crate::crc::crc16).
    Crc16Ccitt,
    /// [`sum::fletcher8`]: always `CK_A`, then `CK_B`.
    Fletcher8,
}

impl Sum {
    /// Bytes it takes in the frame.
    pub const fn width(self) -> usize {
        match self {
            Self::None => 0,
            Self::Sum8 | Self::Xor8 | Self::TwosComplement8 | Self::Crc8 { .. } => 1,
            Self::Sum16 | Self::Crc16Modbus | Self::Crc16Ccitt | Self::Fletcher8 => 2,
        }
    }

    /// Whether `claimed` is the checksum of `bytes`.
    fn fits(self, bytes: &[u8], claimed: &[u8], order: ByteOrder) -> bool {
        let one = |sum: u8| claimed == [sum];
        let two = |sum: u16| match order {
            ByteOrder::Big | ByteOrder::BigSwappedBytes => claimed == sum.to_be_bytes(),
            ByteOrder::Little | ByteOrder::BigSwappedWords => claimed == sum.to_le_bytes(),
        };
        match self {
            Self::None => true,
            Self::Sum8 => one(sum::sum8(bytes)),
            Self::Xor8 => one(sum::xor8(bytes)),
            Self::TwosComplement8 => one(sum::twos_complement8(bytes)),
            Self::Crc8 { poly, init } => one(sum::crc8(bytes, poly, init)),
            Self::Sum16 => two(sum::sum16(bytes)),
            Self::Crc16Modbus => two(sum::crc16_modbus(bytes)),
            Self::Crc16Ccitt => two(crate::crc::crc16(bytes)),
            Self::Fletcher8 => claimed == sum::fletcher8(bytes),
        }
    }
}

/// A frame's checksum: behind all but the tail bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    /// Rule.
    pub sum: Sum,
    /// First byte it covers; the last is that before itself.
    pub from: u16,
    /// Order of its bytes where it has two.
    pub order: ByteOrder,
}

/// Order of bytes in a number, written for four bytes `a b c d` from high to low.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// `abcd`: big-endian, as Modbus has it.
    Big,
    /// `dcba`: little-endian.
    Little,
    /// `cdab`: words of two bytes, the low word first.
    BigSwappedWords,
    /// `badc`: bytes swapped within each word.
    BigSwappedBytes,
}

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Raw {
    /// Unsigned, 1 byte.
    U8,
    /// Signed, 1 byte.
    I8,
    /// Unsigned, 2 bytes.
    U16,
    /// Signed, 2 bytes.
    I16,
    /// Unsigned, 4 bytes.
    U32,
    /// Signed, 4 bytes.
    I32,
    /// Unsigned, 8 bytes.
    U64,
    /// Signed, 8 bytes.
    I64,
    /// IEEE 754, 4 bytes.
    F32,
    /// IEEE 754, 8 bytes.
    F64,
}

impl Raw {
    /// Bytes of one.
    pub const fn width(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// A slice of a number's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits {
    /// Lowest bit.
    pub first: u8,
    /// How many, at least one.
    pub count: u8,
}

/// Where a value lies and what makes it one: `(raw, or its bits) * scale + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot {
    /// First byte.
    pub at: u16,
    /// Storage.
    pub raw: Raw,
    /// Order of its bytes.
    pub order: ByteOrder,
    /// Bits that count, all if `None`. They are read as unsigned; floats have none.
    pub bits: Option<Bits>,
    /// Factor.
    pub scale: f64,
    /// What is added after it.
    pub offset: f64,
}

impl Slot {
    /// A plain little-endian number.
    pub const fn new(at: u16, raw: Raw) -> Self {
        Self { at, raw, order: ByteOrder::Little, bits: None, scale: 1.0, offset: 0.0 }
    }

    /// The byte behind it.
    pub const fn end(&self) -> usize {
        (self.at as usize).saturating_add(self.raw.width())
    }

    /// How its values are stored: whole numbers stay so unless they are scaled.
    pub fn form(&self) -> Form {
        match (self.raw, self.bits) {
            _ if self.is_scaled() => Form::F64,
            (_, Some(bits)) => match bits.count {
                0..=1 => Form::Bool,
                2..=8 => Form::U8,
                9..=16 => Form::U16,
                17..=32 => Form::U32,
                _ => Form::U64,
            },
            (Raw::U8, None) => Form::U8,
            (Raw::I8, None) => Form::I8,
            (Raw::U16, None) => Form::U16,
            (Raw::I16, None) => Form::I16,
            (Raw::U32, None) => Form::U32,
            (Raw::I32, None) => Form::I32,
            (Raw::U64, None) => Form::U64,
            (Raw::I64, None) => Form::I64,
            (Raw::F32, None) => Form::F32,
            (Raw::F64, None) => Form::F64,
        }
    }

    /// Its value in `bytes`; missing if it lies beyond them.
    pub fn value(&self, bytes: &[u8]) -> Value<'static> {
        let Some(word) = self.word(bytes) else { return Value::Missing };
        match self.form() {
            Form::F64 => Value::F64(self.number(word) * self.scale + self.offset),
            Form::Bool => Value::Bool(word == 1),
            Form::F32 => Value::F32(f32::from_bits(low32(word))),
            Form::I8 | Form::I16 | Form::I32 | Form::I64 => Value::Signed(self.signed(word)),
            _ => Value::Unsigned(word),
        }
    }

    /// Its value in `bytes` as a float.
    pub fn float(&self, bytes: &[u8]) -> Option<f64> {
        self.word(bytes).map(|word| self.number(word) * self.scale + self.offset)
    }

    fn is_scaled(&self) -> bool {
        self.scale != 1.0 || self.offset != 0.0
    }

    /// The number's bytes as an unsigned one, its bits cut out.
    fn word(&self, bytes: &[u8]) -> Option<u64> {
        let width = self.raw.width();
        let stored = bytes.get(usize::from(self.at)..)?.get(..width)?;
        let word = (0..width).fold(0_u64, |word, place| {
            let from = match self.order {
                ByteOrder::Big => place,
                ByteOrder::Little => width.saturating_sub(1).saturating_sub(place),
                ByteOrder::BigSwappedBytes => (place ^ 1).min(width.saturating_sub(1)),
                // Words from the last to the first.
                ByteOrder::BigSwappedWords if width >= 2 => {
                    width.saturating_sub(2).saturating_sub(place & !1).saturating_add(place & 1)
                }
                ByteOrder::BigSwappedWords => place,
            };
            (word << 8) | u64::from(stored.get(from).copied().unwrap_or(0))
        });
        Some(match self.bits {
            None => word,
            Some(bits) => {
                let mask = u64::MAX.checked_shr(64_u32.saturating_sub(bits.count.into())).unwrap_or(0);
                word.checked_shr(bits.first.into()).unwrap_or(0) & mask
            }
        })
    }

    fn signed(&self, word: u64) -> i64 {
        let unused = 64_u32.saturating_sub(u32::try_from(self.raw.width()).unwrap_or(8).saturating_mul(8));
        word.checked_shl(unused).unwrap_or(word).cast_signed().checked_shr(unused).unwrap_or(0)
    }

    fn number(&self, word: u64) -> f64 {
        match self.raw {
            Raw::F32 if self.bits.is_none() => f64::from(f32::from_bits(low32(word))),
            Raw::F64 if self.bits.is_none() => f64::from_bits(word),
            Raw::I8 | Raw::I16 | Raw::I32 | Raw::I64 if self.bits.is_none() => self.signed(word) as f64,
            _ => word as f64,
        }
    }
}

fn low32(word: u64) -> u32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0)
}

/// One value of a frame or of registers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpecField<S> {
    /// Its name.
    pub name: S,
    /// Its UCUM unit, `1` for none.
    pub unit: S,
    /// Where it lies.
    pub slot: Slot,
}

impl<S: AsRef<str>> SpecField<S> {
    /// As streams see it. It is missing where a frame of variable length ends before it.
    pub fn field(&self) -> Field<'_> {
        Field { name: self.name.as_ref(), form: self.slot.form(), nullable: true, unit: self.unit.as_ref() }
    }
}

/// How frames are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// How each begins.
    pub sync: Fixed,
    /// How long each is.
    pub length: Length,
    /// How each is checked.
    pub checksum: Checksum,
    /// How each ends, behind the checksum.
    pub tail: Fixed,
}

/// Why a description can find no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecError {
    /// Without sync bytes nothing can be found.
    NoSync,
    /// The frame is shorter than what is fixed of it, or longer than [`FRAME_BYTES_MAX`].
    Length,
    /// The checksum covers nothing, or begins beyond the frame.
    Checksum,
    /// A length of another width than 1 or 2 bytes.
    LengthPlace,
    /// The value of this number lies beyond the frame.
    Beyond(usize),
    /// The bits of the value of this number are none of its own: none, beyond its width, or a float's.
    Bits(usize),
}

impl core::fmt::Display for SpecError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoSync => f.write_str("frame has no sync bytes"),
            Self::Length => {
                write!(f, "frame is shorter than its fixed bytes, or longer than {FRAME_BYTES_MAX} bytes")
            }
            Self::Checksum => f.write_str("checksum covers no byte of the frame"),
            Self::LengthPlace => f.write_str("length of a frame is a field of 1 or 2 bytes"),
            Self::Beyond(at) => write!(f, "field {at} lies beyond the frame"),
            Self::Bits(at) => write!(f, "field {at} has bits beyond its type"),
        }
    }
}

impl core::error::Error for SpecError {}

impl Layout {
    /// Bytes every frame has at least.
    fn least(&self) -> usize {
        let fixed = self.sync.len.saturating_add(self.checksum.sum.width()).saturating_add(self.tail.len);
        match self.length {
            Length::Fixed(_) => fixed,
            Length::Field { place, .. } => fixed
                .max(usize::from(place.at).saturating_add(place.bytes.into()).saturating_add(self.trailer())),
        }
    }

    /// Bytes no frame has more of.
    fn most(&self) -> usize {
        match self.length {
            Length::Fixed(len) => len.into(),
            Length::Field { most, .. } => most.into(),
        }
    }

    /// Bytes of checksum and tail.
    const fn trailer(&self) -> usize {
        self.checksum.sum.width().saturating_add(self.tail.len)
    }

    /// Checks that frames can be found by it.
    ///
    /// # Errors
    /// All of [`SpecError`] that are about no field.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.sync.len == 0 {
            return Err(SpecError::NoSync);
        }
        if let Length::Field { place, .. } = self.length
            && !matches!(place.bytes, 1 | 2)
        {
            return Err(SpecError::LengthPlace);
        }
        let (least, most) = (self.least(), self.most());
        if most < least || most > FRAME_BYTES_MAX {
            return Err(SpecError::Length);
        }
        let covered = most.saturating_sub(self.trailer());
        if self.checksum.sum != Sum::None && usize::from(self.checksum.from) >= covered {
            return Err(SpecError::Checksum);
        }
        Ok(())
    }

    /// The length of the frame at the front of `bytes`, or what else to say.
    fn len(&self, bytes: &[u8]) -> Result<usize, Look> {
        let (place, plus, most) = match self.length {
            Length::Fixed(len) => return Ok(len.into()),
            Length::Field { place, plus, most } => (place, plus, most),
        };
        let raw = if place.bytes == 1 { Raw::U8 } else { Raw::U16 };
        let slot = Slot { order: place.order, ..Slot::new(place.at, raw) };
        let said = slot.word(bytes).ok_or(Look::More(slot.end()))?;
        let len = usize::try_from(said).unwrap_or(usize::MAX).saturating_add(plus.into());
        if len < self.least() || len > most.into() {
            return Err(Look::Bad(FrameError::Length, self.sync.len));
        }
        Ok(len)
    }

    fn judge(&self, frame: &[u8]) -> Result<(), FrameError> {
        let (body, tail) =
            frame.split_at_checked(frame.len().saturating_sub(self.tail.len)).unwrap_or_default();
        if tail != self.tail.as_slice() {
            return Err(FrameError::Malformed);
        }
        let at = body.len().saturating_sub(self.checksum.sum.width());
        let (covered, claimed) = body.split_at_checked(at).unwrap_or_default();
        let covered = covered.get(self.checksum.from.into()..).unwrap_or_default();
        let fits = self.checksum.sum.fits(covered, claimed, self.checksum.order);
        if fits { Ok(()) } else { Err(FrameError::Checksum) }
    }
}

impl Protocol for Layout {
    fn look(&self, bytes: &[u8], in_sync: bool) -> Look {
        let sync = self.sync.as_slice();
        let begun = bytes.get(..sync.len()).unwrap_or(bytes);
        if sync.is_empty() || !sync.starts_with(begun) {
            return Look::Noise;
        }
        if begun.len() < sync.len() {
            return Look::More(sync.len());
        }
        let len = match self.len(bytes) {
            Ok(len) => len,
            Err(look) => return look,
        };
        let Some((frame, behind)) = bytes.split_at_checked(len) else { return Look::More(len) };
        if let Err(error) = self.judge(frame) {
            return Look::Bad(error, len);
        }
        if self.checksum.sum != Sum::None || in_sync {
            return Look::Frame(len);
        }
        // Unchecked: believed if the next one begins here.
        let next = behind.get(..sync.len()).unwrap_or(behind);
        if !sync.starts_with(next) {
            Look::Bad(FrameError::Malformed, len)
        } else if next.len() < sync.len() {
            Look::More(len.saturating_add(sync.len()))
        } else {
            Look::Frame(len)
        }
    }
}

/// A description of frames and of what is in them.
///
/// `S` holds names (`&str`, `String`), `F` the fields (`&[SpecField<S>]`, `Vec<SpecField<S>>`).
#[derive(Debug, Clone, PartialEq)]
pub struct FrameSpec<S, F> {
    /// Kind of the rows.
    pub kind: S,
    /// How frames are found.
    pub layout: Layout,
    /// What is read of them.
    pub fields: F,
}

impl<S: AsRef<str>, F: AsRef<[SpecField<S>]>> FrameSpec<S, F> {
    /// Checks that frames can be found by it and hold its fields.
    ///
    /// # Errors
    /// The first [`SpecError`] there is.
    pub fn check(&self) -> Result<(), SpecError> {
        self.layout.check()?;
        let most = self.layout.most().saturating_sub(self.layout.trailer());
        check_fields(self.fields.as_ref(), most)
    }
}

/// Checks that `fields` lie within `most` bytes, and their bits within themselves.
///
/// # Errors
/// [`SpecError::Beyond`] and [`SpecError::Bits`].
pub fn check_fields<S>(fields: &[SpecField<S>], most: usize) -> Result<(), SpecError> {
    for (at, field) in fields.iter().enumerate() {
        if field.slot.end() > most {
            return Err(SpecError::Beyond(at));
        }
        let width = field.slot.raw.width().saturating_mul(8);
        let wrong = field.slot.bits.is_some_and(|bits| {
            let end = usize::from(bits.first).saturating_add(bits.count.into());
            bits.count == 0 || end > width || field.slot.raw.is_float()
        });
        if wrong {
            return Err(SpecError::Bits(at));
        }
    }
    Ok(())
}

impl<S: AsRef<str>, F: AsRef<[SpecField<S>]>> Protocol for FrameSpec<S, F> {
    fn look(&self, bytes: &[u8], in_sync: bool) -> Look {
        self.layout.look(bytes, in_sync)
    }
}

impl<S: AsRef<str>, F: AsRef<[SpecField<S>]>> Read for FrameSpec<S, F> {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        let end = frame.len().saturating_sub(self.layout.trailer());
        sink(&SpecReading { spec: self, body: frame.get(..end).unwrap_or_default() });
        true
    }
}

/// One frame of a [`FrameSpec`].
struct SpecReading<'a, S, F> {
    spec: &'a FrameSpec<S, F>,
    /// Without checksum and tail.
    body: &'a [u8],
}

impl<S: AsRef<str>, F: AsRef<[SpecField<S>]>> Message for SpecReading<'_, S, F> {
    fn kind(&self) -> &str {
        self.spec.kind.as_ref()
    }

    fn field(&self, at: usize) -> Option<Field<'_>> {
        self.spec.fields.as_ref().get(at).map(SpecField::field)
    }

    fn value(&self, at: usize) -> Value<'_> {
        self.spec.fields.as_ref().get(at).map_or(Value::Missing, |field| field.slot.value(self.body))
    }
}

/// Several kinds of frames on one line. Where two of them may begin, the first that is right counts; until all have told,
/// no byte is given up.
impl<R: Read> Protocol for [R] {
    fn look(&self, bytes: &[u8], in_sync: bool) -> Look {
        let (mut more, mut bad) = (None, None);
        for one in self {
            match one.look(bytes, in_sync) {
                Look::Frame(len) => return Look::Frame(len),
                Look::More(need) => more = Some(more.map_or(need, |least: usize| least.min(need))),
                look @ (Look::Bad(..) | Look::Unknown(_)) => bad = bad.or(Some(look)),
                Look::Noise => {}
            }
        }
        more.map(Look::More).or(bad).unwrap_or(Look::Noise)
    }
}

impl<R: Read> Read for [R] {
    fn read(&self, frame: &[u8], sink: &mut dyn FnMut(&dyn Message)) -> bool {
        // The one that found it: the others do not see a frame of this length.
        let finder = self.iter().find(|one| one.look(frame, true) == Look::Frame(frame.len()));
        finder.is_some_and(|one| one.read(frame, sink))
    }
}
