//! One view of every decoded message: its kind, and its fields with name, unit and value.
//!
//! Decoded messages are plain structs with units in their names; behind [`Message`] they all look
//! alike, so that a host makes streams of any of them without knowing a single one.

/// How a field's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// True or false.
    Bool,
    /// Unsigned, 1 byte.
    U8,
    /// Unsigned, 2 bytes.
    U16,
    /// Unsigned, 4 bytes.
    U32,
    /// Unsigned, 8 bytes.
    U64,
    /// Signed, 1 byte.
    I8,
    /// Signed, 2 bytes.
    I16,
    /// Signed, 4 bytes.
    I32,
    /// Signed, 8 bytes.
    I64,
    /// Floating point, 4 bytes.
    F32,
    /// Floating point, 8 bytes.
    F64,
    /// Text.
    Text,
}

/// One field of a kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name within the message.
    pub name: &'a str,
    /// How its values are stored.
    pub form: Form,
    /// Whether it may be missing.
    pub nullable: bool,
    /// Its UCUM unit, `1` for none.
    pub unit: &'a str,
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// The device gave none.
    Missing,
    /// Of [`Form::Bool`].
    Bool(bool),
    /// Of an unsigned form.
    Unsigned(u64),
    /// Of a signed form.
    Signed(i64),
    /// Of [`Form::F32`].
    F32(f32),
    /// Of [`Form::F64`].
    F64(f64),
    /// Of [`Form::Text`].
    Text(&'a str),
}

/// A decoded message.
pub trait Message {
    /// The kind of its rows: lower-case letters, digits and `_`, the protocol first.
    fn kind(&self) -> &str;

    /// What field number `at` is; `None` behind the last. The same for every message of a kind.
    fn field(&self, at: usize) -> Option<Field<'_>>;

    /// The value of field number `at`, [`Value::Missing`] behind the last.
    fn value(&self, at: usize) -> Value<'_>;
}

/// Text of at most `N` bytes, held in place. What a device sends beyond that, or is no printable ASCII, is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// The printable ASCII at the front of `bytes`, as far as it fits.
    pub fn new(bytes: &[u8]) -> Self {
        let mut text = Self { bytes: [0; N], len: 0 };
        let printable = bytes.iter().take_while(|byte| (0x20..=0x7e).contains(*byte));
        for (slot, byte) in text.bytes.iter_mut().zip(printable) {
            *slot = *byte;
            text.len = text.len.saturating_add(1);
        }
        text
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl<const N: usize> core::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A type fields of messages can have.
pub(super) trait Shown {
    const FORM: Form;
    const NULLABLE: bool = false;
    fn shown(&self) -> Value<'_>;
}

macro_rules! shown {
    ($($type:ty => $form:ident, $value:ident;)+) => {$(
        impl Shown for $type {
            const FORM: Form = Form::$form;
            fn shown(&self) -> Value<'_> {
                Value::$value((*self).into())
            }
        }
    )+};
}

shown! {
    bool => Bool, Bool;
    u8 => U8, Unsigned;
    u16 => U16, Unsigned;
    u32 => U32, Unsigned;
    u64 => U64, Unsigned;
    i8 => I8, Signed;
    i16 => I16, Signed;
    i32 => I32, Signed;
    i64 => I64, Signed;
    f32 => F32, F32;
    f64 => F64, F64;
}

impl<const N: usize> Shown for Text<N> {
    const FORM: Form = Form::Text;
    fn shown(&self) -> Value<'_> {
        Value::Text(self.as_str())
    }
}

impl<T: Shown> Shown for Option<T> {
    const FORM: Form = T::FORM;
    const NULLABLE: bool = true;
    fn shown(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Missing, Shown::shown)
    }
}

/// Declares a message: a plain struct, and [`Message`] for it.
macro_rules! message {
    (
        $(#[$doc:meta])*
        $name:ident = $kind:literal {
            $($field:ident: $type:ty, $unit:literal, $text:literal;)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name {
            $(#[doc = $text] pub $field: $type,)+
        }

        impl $name {
            /// The kind of its rows.
            pub const KIND: &'static str = $kind;
            /// Its fields, in order.
            pub const FIELDS: &'static [$crate::vendor::Field<'static>] = &[
                $($crate::vendor::Field {
                    name: stringify!($field),
                    form: <$type as $crate::vendor::view::Shown>::FORM,
                    nullable: <$type as $crate::vendor::view::Shown>::NULLABLE,
                    unit: $unit,
                },)+
            ];
        }

        impl $crate::vendor::Message for $name {
            fn kind(&self) -> &str {
                Self::KIND
            }

            fn field(&self, at: usize) -> Option<$crate::vendor::Field<'_>> {
                Self::FIELDS.get(at).copied()
            }

            fn value(&self, at: usize) -> $crate::vendor::Value<'_> {
                let values = [$($crate::vendor::view::Shown::shown(&self.$field)),+];
                values.get(at).copied().unwrap_or($crate::vendor::Value::Missing)
            }
        }
    };
}

/// Declares the enum of a protocol's messages.
macro_rules! messages {
    ($(#[$doc:meta])* $name:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = concat!("A [`", stringify!($variant), "`].")] $variant($variant),)+
        }

        impl $name {
            /// The message behind the view all protocols share.
            pub fn view(&self) -> &dyn $crate::vendor::Message {
                match self {
                    $(Self::$variant(message) => message,)+
                }
            }

            /// Every kind there is with its fields.
            pub const KINDS: &'static [(&'static str, &'static [$crate::vendor::Field<'static>])] =
                &[$(($variant::KIND, $variant::FIELDS),)+];
        }
    };
}

pub(super) use {message, messages};
