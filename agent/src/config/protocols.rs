//! Checks what a `[[source]]` says of a vendor's protocol: descriptions of frames, registers to read, how often.

use super::mistake::{Mistake, Mistakes};
use super::raw::{RawFrame, RawRead, RawSlot, RawSource};
use super::sources::{kind_name, unit_of};
use super::value;
use crate::source::vendor::{ModbusRead, VendorProtocol};
use headwater_core::id::FieldName;
use headwater_shims::vendor::modbus::{ReadFunction, ReadRequest, RegisterMap};
use headwater_shims::vendor::spec::{
    Bits, ByteOrder, Checksum, FIXED_BYTES_MAX, FRAME_BYTES_MAX, Fixed, FrameSpec, Layout, Length,
    LengthPlace, Raw, Slot, SpecError, SpecField, Sum, check_fields,
};
use std::collections::BTreeSet;

/// Most kinds of frames on one line, and most reads of one device: each has its share of the interval.
const KINDS_MAX: usize = 32;
/// Fields of one frame or read.
const FIELDS_MAX: usize = 256;

type OwnedSpec = FrameSpec<String, Vec<SpecField<String>>>;

const ORDERS: [(&str, ByteOrder); 6] = [
    ("big", ByteOrder::Big),
    ("little", ByteOrder::Little),
    ("abcd", ByteOrder::Big),
    ("dcba", ByteOrder::Little),
    ("cdab", ByteOrder::BigSwappedWords),
    ("badc", ByteOrder::BigSwappedBytes),
];

const TYPES: [(&str, Raw); 10] = [
    ("u8", Raw::U8),
    ("i8", Raw::I8),
    ("u16", Raw::U16),
    ("i16", Raw::I16),
    ("u32", Raw::U32),
    ("i32", Raw::I32),
    ("u64", Raw::U64),
    ("i64", Raw::I64),
    ("f32", Raw::F32),
    ("f64", Raw::F64),
];

/// How often a device that only answers is asked, ms.
pub(super) fn interval(raw: &RawSource, default: i64, path: &str, mistakes: &mut Mistakes) -> Option<u32> {
    value::number(raw.interval_ms, default, 100..=3_600_000, &format!("{path}.interval_ms"), mistakes)
}

/// `[[source.frame]]`.
pub(super) fn frames(raw: &RawSource, path: &str, mistakes: &mut Mistakes) -> Option<VendorProtocol> {
    let frames = raw.frame.as_deref().unwrap_or_default();
    let example = "a [[source.frame]] with kind, sync, length, checksum and fields";
    counted(frames.len(), &format!("{path}.frame"), example, mistakes)?;
    let specs: Vec<Option<OwnedSpec>> = frames
        .iter()
        .enumerate()
        .map(|(at, raw)| frame(raw, &format!("{path}.frame[{at}]"), mistakes))
        .collect();
    let specs: Vec<OwnedSpec> = specs.into_iter().collect::<Option<_>>()?;
    kinds_differ(specs.iter().map(|spec| spec.kind.as_str()), &format!("{path}.frame"), mistakes)?;
    Some(VendorProtocol::Frames(specs))
}

fn frame(raw: &RawFrame, path: &str, mistakes: &mut Mistakes) -> Option<OwnedSpec> {
    let kind = kind_name(raw.kind.as_deref(), &format!("{path}.kind"), mistakes);
    let sync = fixed(raw.sync.as_deref(), &format!("{path}.sync"), mistakes);
    let tail = fixed(raw.tail.as_deref(), &format!("{path}.tail"), mistakes);
    let length = length(raw, path, mistakes);
    let checksum = checksum(raw, path, mistakes);
    let order = order(raw.order.as_deref(), ByteOrder::Little, &format!("{path}.order"), mistakes);
    let fields = slots(&raw.fields, order.unwrap_or(ByteOrder::Little), path, mistakes);
    order?;
    let layout = Layout { sync: sync?, length: length?, checksum: checksum?, tail: tail? };
    let spec = FrameSpec { kind: kind?, layout, fields: fields? };
    fits(spec.check(), path, mistakes)?;
    Some(spec)
}

/// What a description lacks, at the key that mends it.
fn fits(checked: Result<(), SpecError>, path: &str, mistakes: &mut Mistakes) -> Option<()> {
    let Err(error) = checked else { return Some(()) };
    let (key, expected) = match error {
        SpecError::NoSync => ("sync".to_owned(), "the bytes each frame begins with, such as [0xAA, 0x55]"),
        SpecError::Length => {
            ("length".to_owned(), "a length that holds sync, checksum and tail, at most 1024")
        }
        SpecError::Checksum => ("checksum_from".to_owned(), "a byte before the checksum"),
        SpecError::LengthPlace => ("length_type".to_owned(), "u8 or u16"),
        SpecError::Beyond(at) => {
            (format!("fields[{at}].at"), "a place within the frame, before its checksum")
        }
        SpecError::Bits(at) => {
            (format!("fields[{at}].bits"), "bits within the field's type, and none of a float")
        }
    };
    mistakes.push(Mistake::new(format!("{path}.{key}"), expected, error.to_string()));
    None
}

fn fixed(raw: Option<&[i64]>, path: &str, mistakes: &mut Mistakes) -> Option<Fixed> {
    let raw = raw.unwrap_or_default();
    let bytes: Option<Vec<u8>> = raw.iter().map(|byte| u8::try_from(*byte).ok()).collect();
    let fixed = bytes.and_then(|bytes| Fixed::new(&bytes));
    if fixed.is_none() {
        let expected = format!("at most {FIXED_BYTES_MAX} bytes such as [0xAA, 0x55]");
        mistakes.push(Mistake::new(path, expected, format!("{raw:?}")));
    }
    fixed
}

fn length(raw: &RawFrame, path: &str, mistakes: &mut Mistakes) -> Option<Length> {
    let most = i64::try_from(FRAME_BYTES_MAX).unwrap_or(i64::MAX);
    match (raw.length, raw.length_at) {
        (Some(_), None) => {
            value::number(raw.length, 0, 1..=most, &format!("{path}.length"), mistakes).map(Length::Fixed)
        }
        (None, Some(_)) => {
            let at = value::number(raw.length_at, 0, 0..=most, &format!("{path}.length_at"), mistakes);
            let types = [("u8", 1), ("u16", 2)];
            let bytes = value::word(
                raw.length_type.as_deref(),
                &types,
                Some(1),
                &format!("{path}.length_type"),
                mistakes,
            );
            let order = order(
                raw.length_order.as_deref(),
                ByteOrder::Little,
                &format!("{path}.length_order"),
                mistakes,
            );
            let plus = value::number(raw.length_plus, 0, 0..=most, &format!("{path}.length_plus"), mistakes);
            let limit = value::number(raw.length_max, 256, 1..=most, &format!("{path}.length_max"), mistakes);
            let place = LengthPlace { at: at?, bytes: bytes?, order: order? };
            Some(Length::Field { place, plus: plus?, most: limit? })
        }
        (length, _) => {
            let found = if length.is_some() { "both" } else { "neither" };
            let hint = "length = 10 for frames of 10 bytes; length_at = 2 where byte 2 says it";
            mistakes.push(Mistake::new(format!("{path}.length"), "length or length_at", found).hint(hint));
            None
        }
    }
}

fn checksum(raw: &RawFrame, path: &str, mistakes: &mut Mistakes) -> Option<Checksum> {
    let byte = |number: Option<i64>, default: i64, key: &str, mistakes: &mut Mistakes| {
        value::number::<u8>(number, default, 0..=255, &format!("{path}.{key}"), mistakes)
    };
    let poly = byte(raw.crc_poly, 0x07, "crc_poly", mistakes);
    let init = byte(raw.crc_init, 0, "crc_init", mistakes);
    let sums = [
        ("none", Sum::None),
        ("sum8", Sum::Sum8),
        ("xor8", Sum::Xor8),
        ("twos_complement8", Sum::TwosComplement8),
        ("crc8", Sum::Crc8 { poly: poly?, init: init? }),
        ("sum16", Sum::Sum16),
        ("crc16_modbus", Sum::Crc16Modbus),
        ("crc16_ccitt", Sum::Crc16Ccitt),
        ("fletcher8", Sum::Fletcher8),
    ];
    let sum = value::word(raw.checksum.as_deref(), &sums, None, &format!("{path}.checksum"), mistakes);
    let from = value::number(raw.checksum_from, 0, 0..=1_023, &format!("{path}.checksum_from"), mistakes);
    // Modbus sends its own low byte first, all others are read as people write them.
    let usual = if sum == Some(Sum::Crc16Modbus) { ByteOrder::Little } else { ByteOrder::Big };
    let order = order(raw.checksum_order.as_deref(), usual, &format!("{path}.checksum_order"), mistakes);
    Some(Checksum { sum: sum?, from: from?, order: order? })
}

fn order(raw: Option<&str>, usual: ByteOrder, path: &str, mistakes: &mut Mistakes) -> Option<ByteOrder> {
    value::word(raw, &ORDERS, Some(usual), path, mistakes)
}

fn slots(
    raw: &[RawSlot],
    usual: ByteOrder,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<Vec<SpecField<String>>> {
    let path = format!("{path}.fields");
    let example = "fields such as [ { name = \"level\", at = 2, type = \"u16\", unit = \"mm\" } ]";
    if raw.is_empty() || raw.len() > FIELDS_MAX {
        let found = if raw.is_empty() { "nothing".to_owned() } else { format!("{} of them", raw.len()) };
        mistakes.push(Mistake::new(path, format!("1 to {FIELDS_MAX} {example}"), found));
        return None;
    }
    let mut names = BTreeSet::new();
    let fields: Vec<_> = raw
        .iter()
        .enumerate()
        .map(|(at, raw)| {
            let path = format!("{path}[{at}]");
            let field = slot(raw, usual, &path, mistakes);
            if let Some(field) = &field
                && !names.insert(field.name.clone())
            {
                let found = format!("{:?} again", field.name);
                mistakes.push(Mistake::new(format!("{path}.name"), "a name of its own", found));
                return None;
            }
            field
        })
        .collect();
    fields.into_iter().collect()
}

fn slot(raw: &RawSlot, usual: ByteOrder, path: &str, mistakes: &mut Mistakes) -> Option<SpecField<String>> {
    let name: Option<FieldName> =
        value::name(raw.name.as_deref(), &format!("{path}.name"), "a field name", "", mistakes);
    let unit = unit_of(raw.unit.as_deref(), &format!("{path}.unit"), mistakes);
    let at = match raw.at {
        Some(_) => value::number(raw.at, 0, 0..=65_535, &format!("{path}.at"), mistakes),
        None => {
            let expected = "the first byte of the field, or its register";
            mistakes.push(Mistake::new(format!("{path}.at"), expected, "nothing"));
            None
        }
    };
    let storage =
        value::word(raw.r#type.as_deref(), &TYPES, Some(Raw::U16), &format!("{path}.type"), mistakes);
    let order = order(raw.order.as_deref(), usual, &format!("{path}.order"), mistakes);
    let bits = bits(raw, path, mistakes);
    let scale = finite(raw.scale, 1.0, &format!("{path}.scale"), mistakes);
    let offset = finite(raw.offset, 0.0, &format!("{path}.offset"), mistakes);
    let slot =
        Slot { order: order?, bits: bits?, scale: scale?, offset: offset?, ..Slot::new(at?, storage?) };
    Some(SpecField { name: name?.to_string(), unit: unit?, slot })
}

/// `Some(None)` for all bits.
fn bits(raw: &RawSlot, path: &str, mistakes: &mut Mistakes) -> Option<Option<Bits>> {
    let Some(bits) = raw.bits.as_deref() else { return Some(None) };
    let small = |number: &i64| u8::try_from(*number).ok().filter(|number| *number <= 64);
    match bits {
        [first, count] => match (small(first), small(count)) {
            (Some(first), Some(count)) if count > 0 => Some(Some(Bits { first, count })),
            _ => no_bits(raw, path, mistakes),
        },
        _ => no_bits(raw, path, mistakes),
    }
}

fn no_bits<T>(raw: &RawSlot, path: &str, mistakes: &mut Mistakes) -> Option<T> {
    let expected = "the lowest bit and how many, such as [0, 4]";
    mistakes.push(Mistake::new(
        format!("{path}.bits"),
        expected,
        format!("{:?}", raw.bits.as_deref().unwrap_or_default()),
    ));
    None
}

fn finite(raw: Option<f64>, default: f64, path: &str, mistakes: &mut Mistakes) -> Option<f64> {
    let number = raw.unwrap_or(default);
    if number.is_finite() {
        return Some(number);
    }
    mistakes.push(Mistake::new(path, "a finite number", number.to_string()));
    None
}

/// `[[source.read]]`.
pub(super) fn modbus(raw: &RawSource, path: &str, mistakes: &mut Mistakes) -> Option<VendorProtocol> {
    let interval_ms = interval(raw, 1_000, path, mistakes);
    let reads = raw.read.as_deref().unwrap_or_default();
    let example = "a [[source.read]] with kind, device, registers and fields";
    counted(reads.len(), &format!("{path}.read"), example, mistakes)?;
    let reads: Vec<Option<ModbusRead>> = reads
        .iter()
        .enumerate()
        .map(|(at, raw)| read(raw, &format!("{path}.read[{at}]"), mistakes))
        .collect();
    let reads: Vec<ModbusRead> = reads.into_iter().collect::<Option<_>>()?;
    kinds_differ(reads.iter().map(|read| read.map.kind.as_str()), &format!("{path}.read"), mistakes)?;
    Some(VendorProtocol::Modbus(reads, interval_ms?))
}

fn read(raw: &RawRead, path: &str, mistakes: &mut Mistakes) -> Option<ModbusRead> {
    let kind = kind_name(raw.kind.as_deref(), &format!("{path}.kind"), mistakes);
    let unit = value::number(raw.device, 1, 1..=255, &format!("{path}.device"), mistakes);
    let functions = [
        ("holding", ReadFunction::HoldingRegisters),
        ("input", ReadFunction::InputRegisters),
        ("coils", ReadFunction::Coils),
        ("discrete", ReadFunction::DiscreteInputs),
    ];
    let function =
        value::word(raw.registers.as_deref(), &functions, None, &format!("{path}.registers"), mistakes);
    let usual = order(raw.order.as_deref(), ByteOrder::Big, &format!("{path}.order"), mistakes);
    let fields = slots(&raw.fields, usual.unwrap_or(ByteOrder::Big), path, mistakes);
    usual?;
    let (function, fields) = (function?, fields?);
    let (start, count, fields) = placed(function, fields);
    if count > function.count_max().into() {
        let expected = format!("fields within {} addresses", function.count_max());
        let hint = "split them into two [[source.read]]";
        mistakes.push(Mistake::new(format!("{path}.fields"), expected, format!("{count}")).hint(hint));
        return None;
    }
    let request = ReadRequest { unit: unit?, function, start, count: u16::try_from(count).ok()? };
    if let Err(error) = request.check() {
        mistakes.push(Mistake::new(format!("{path}.fields"), "addresses up to 65535", error.to_string()));
        return None;
    }
    fits(check_fields(&fields, request.data_bytes()), path, mistakes)?;
    Some(ModbusRead { request, map: RegisterMap { kind: kind?, fields } })
}

/// First address, count, and the fields at their bytes in the answer: `at` is an address until here.
fn placed(function: ReadFunction, mut fields: Vec<SpecField<String>>) -> (u16, u32, Vec<SpecField<String>>) {
    let of_bits = matches!(function, ReadFunction::Coils | ReadFunction::DiscreteInputs);
    let start = fields.iter().map(|field| field.slot.at).min().unwrap_or(0);
    let end = |slot: &Slot| {
        let addresses = if of_bits { 1 } else { u32::try_from(slot.raw.width().div_ceil(2)).unwrap_or(1) };
        u32::from(slot.at).saturating_add(addresses)
    };
    let end = fields.iter().map(|field| end(&field.slot)).max().unwrap_or(0);
    for field in &mut fields {
        let place = field.slot.at.saturating_sub(start);
        field.slot = if of_bits {
            let bits = Some(Bits { first: u8::try_from(place % 8).unwrap_or(0), count: 1 });
            Slot { bits, scale: 1.0, offset: 0.0, ..Slot::new(place / 8, Raw::U8) }
        } else {
            // A register of one byte is its low one.
            let low = u16::from(field.slot.raw.width() == 1);
            Slot { at: place.saturating_mul(2).saturating_add(low), ..field.slot }
        };
    }
    (start, end.saturating_sub(start.into()), fields)
}

fn counted(found: usize, path: &str, expected: &str, mistakes: &mut Mistakes) -> Option<()> {
    match found {
        1..=KINDS_MAX => return Some(()),
        0 => mistakes.push(Mistake::new(path, expected, "nothing")),
        many => mistakes.push(Mistake::new(path, format!("at most {KINDS_MAX}"), many.to_string())),
    }
    None
}

fn kinds_differ<'a>(kinds: impl Iterator<Item = &'a str>, path: &str, mistakes: &mut Mistakes) -> Option<()> {
    let mut seen = BTreeSet::new();
    let mut good = Some(());
    for (at, kind) in kinds.enumerate() {
        if !seen.insert(kind) {
            let found = format!("{kind:?} again");
            mistakes.push(Mistake::new(format!("{path}[{at}].kind"), "a kind of its own", found));
            good = None;
        }
    }
    good
}
