//! The types a sample's values can have, and what a stream descriptor says about each field.

use core::fmt;

use super::payload::{BuildError, PayloadError};
use crate::bytes::{NoRoom, Reader, Writer};

/// How one value is stored. The code's high nibble is the class (1 unsigned, 2 signed,
/// 3 IEEE 754), its low nibble the width in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FieldType {
    /// Unsigned, 1 byte.
    U8 = 0x11,
    /// Unsigned, 2 bytes.
    U16 = 0x12,
    /// Unsigned, 4 bytes.
    U32 = 0x14,
    /// Unsigned, 8 bytes.
    U64 = 0x18,
    /// Signed, 1 byte.
    I8 = 0x21,
    /// Signed, 2 bytes.
    I16 = 0x22,
    /// Signed, 4 bytes.
    I32 = 0x24,
    /// Signed, 8 bytes.
    I64 = 0x28,
    /// Floating point, 4 bytes.
    F32 = 0x34,
    /// Floating point, 8 bytes.
    F64 = 0x38,
}

impl FieldType {
    /// Every type there is.
    pub const ALL: [Self; 10] = [
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F32,
        Self::F64,
    ];

    /// The type with this code on the wire.
    pub fn from_code(code: u8) -> Result<Self, PayloadError> {
        let found = Self::ALL.into_iter().find(|known| known.code() == code);
        found.ok_or(PayloadError::FieldType(code))
    }

    /// The code of this type on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Bytes of one value.
    pub const fn width(self) -> u8 {
        self.code() & 0x0F
    }

    fn read(self, reader: &mut Reader<'_>) -> Result<Value, PayloadError> {
        Ok(match self {
            Self::U8 => Value::U8(reader.u8()?),
            Self::U16 => Value::U16(reader.u16()?),
            Self::U32 => Value::U32(reader.u32()?),
            Self::U64 => Value::U64(reader.u64()?),
            Self::I8 => Value::I8(i8::from_le_bytes(reader.array()?)),
            Self::I16 => Value::I16(i16::from_le_bytes(reader.array()?)),
            Self::I32 => Value::I32(i32::from_le_bytes(reader.array()?)),
            Self::I64 => Value::I64(i64::from_le_bytes(reader.array()?)),
            Self::F32 => Value::F32(f32::from_le_bytes(reader.array()?)),
            Self::F64 => Value::F64(f64::from_le_bytes(reader.array()?)),
        })
    }
}

/// One value as the device stored it, before `scale10`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A [`FieldType::U8`].
    U8(u8),
    /// A [`FieldType::U16`].
    U16(u16),
    /// A [`FieldType::U32`].
    U32(u32),
    /// A [`FieldType::U64`].
    U64(u64),
    /// A [`FieldType::I8`].
    I8(i8),
    /// A [`FieldType::I16`].
    I16(i16),
    /// A [`FieldType::I32`].
    I32(i32),
    /// A [`FieldType::I64`].
    I64(i64),
    /// A [`FieldType::F32`].
    F32(f32),
    /// A [`FieldType::F64`].
    F64(f64),
}

impl Value {
    /// How this value is stored.
    pub const fn field_type(self) -> FieldType {
        match self {
            Self::U8(_) => FieldType::U8,
            Self::U16(_) => FieldType::U16,
            Self::U32(_) => FieldType::U32,
            Self::U64(_) => FieldType::U64,
            Self::I8(_) => FieldType::I8,
            Self::I16(_) => FieldType::I16,
            Self::I32(_) => FieldType::I32,
            Self::I64(_) => FieldType::I64,
            Self::F32(_) => FieldType::F32,
            Self::F64(_) => FieldType::F64,
        }
    }

    pub(super) fn read(field_type: FieldType, reader: &mut Reader<'_>) -> Result<Self, PayloadError> {
        field_type.read(reader)
    }

    pub(super) fn write(self, writer: &mut Writer<'_>) -> Result<(), NoRoom> {
        self.emit(|bytes| writer.bytes(bytes))
    }

    /// Hands the bytes of the value to `put`.
    pub(crate) fn emit<E>(self, mut put: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::U8(value) => put(&value.to_le_bytes()),
            Self::U16(value) => put(&value.to_le_bytes()),
            Self::U32(value) => put(&value.to_le_bytes()),
            Self::U64(value) => put(&value.to_le_bytes()),
            Self::I8(value) => put(&value.to_le_bytes()),
            Self::I16(value) => put(&value.to_le_bytes()),
            Self::I32(value) => put(&value.to_le_bytes()),
            Self::I64(value) => put(&value.to_le_bytes()),
            Self::F32(value) => put(&value.to_le_bytes()),
            Self::F64(value) => put(&value.to_le_bytes()),
        }
    }
}

/// One field of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// How its values are stored.
    pub field_type: FieldType,
    /// A stored `v` means `v * 10^scale10` of the unit.
    pub scale10: i8,
    /// Its name within the stream.
    pub name: &'a str,
    /// Its UCUM unit, `1` for none.
    pub unit: &'a str,
}

impl<'a> Field<'a> {
    fn parse(reader: &mut Reader<'a>) -> Result<Self, PayloadError> {
        Ok(Self {
            field_type: FieldType::from_code(reader.u8()?)?,
            scale10: i8::from_le_bytes(reader.array()?),
            name: reader.text()?,
            unit: reader.text()?,
        })
    }
}

/// The fields of a stream: a list of the device's own, or one still packed in a payload.
#[derive(Clone, Copy)]
pub struct FieldList<'a>(Repr<'a>);

#[derive(Debug, Clone, Copy)]
enum Repr<'a> {
    Listed(&'a [Field<'a>]),
    /// Checked field by field when it was parsed.
    Packed {
        count: u8,
        bytes: Reader<'a>,
    },
}

impl<'a> FieldList<'a> {
    /// The fields of `list`, in order.
    pub const fn new(list: &'a [Field<'a>]) -> Self {
        Self(Repr::Listed(list))
    }

    /// The fields, in order.
    pub const fn iter(&self) -> Fields<'a> {
        Fields(self.0)
    }

    /// Bytes of one row, or `None` if no payload could hold it.
    pub fn row_bytes(&self) -> Option<usize> {
        self.iter().try_fold(0_usize, |sum, field| sum.checked_add(usize::from(field.field_type.width())))
    }

    /// Takes a counted list off the front of `reader`, checking every field.
    pub(super) fn parse(reader: &mut Reader<'a>) -> Result<Self, PayloadError> {
        let count = reader.u8()?;
        let bytes = *reader;
        for _ in 0..count {
            Field::parse(reader)?;
        }
        Ok(Self(Repr::Packed { count, bytes }))
    }

    /// Hands the counted list to `put`, piece by piece.
    pub(super) fn emit<E: From<BuildError>>(
        &self,
        mut put: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let count = u8::try_from(self.iter().count()).map_err(|_| BuildError::TooManyFields)?;
        put(&[count])?;
        for field in self.iter() {
            let [scale10] = field.scale10.to_le_bytes();
            put(&[field.field_type.code(), scale10])?;
            emit_text(field.name, &mut put)?;
            emit_text(field.unit, &mut put)?;
        }
        Ok(())
    }
}

/// Hands a string to `put` as its length and its bytes.
pub(super) fn emit_text<E: From<BuildError>>(
    text: &str,
    put: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let len = u8::try_from(text.len()).map_err(|_| BuildError::TextTooLong)?;
    put(&[len])?;
    put(text.as_bytes())
}

impl<'a> From<&'a [Field<'a>]> for FieldList<'a> {
    fn from(list: &'a [Field<'a>]) -> Self {
        Self::new(list)
    }
}

impl fmt::Debug for FieldList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// Equal when the fields are, however they are held.
impl PartialEq for FieldList<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for FieldList<'_> {}

impl<'a> IntoIterator for &FieldList<'a> {
    type Item = Field<'a>;
    type IntoIter = Fields<'a>;

    fn into_iter(self) -> Fields<'a> {
        self.iter()
    }
}

/// Iterator over a [`FieldList`].
#[derive(Debug, Clone)]
pub struct Fields<'a>(Repr<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        match &mut self.0 {
            Repr::Listed(list) => {
                let (first, rest) = list.split_first()?;
                *list = rest;
                Some(*first)
            }
            Repr::Packed { count, bytes } => {
                *count = count.checked_sub(1)?;
                Field::parse(bytes).ok()
            }
        }
    }
}
