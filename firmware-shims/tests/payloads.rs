//! Round trips of every payload, and what each refuses.

use headwater_shims::link::{
    BuildError, Caps, Field, FieldList, FieldType, Hello, HelloBody, HelloReq, Identity, LOG_TEXT_BYTES_MAX,
    Log, LogLevel, PAYLOAD_BYTES_MAX, PayloadError, Ping, Pong, Sample, SampleWriter, SchemaCrc,
    StreamDescriptor, T2Point, Value, schema_crc,
};
use proptest::prelude::*;

const ONE: &[Field<'static>] = &[Field { field_type: FieldType::I16, scale10: -2, name: "t", unit: "Cel" }];

fn stream(next_seq: u32) -> StreamDescriptor<'static> {
    StreamDescriptor { stream: 3, next_seq, kind: "climate", period_us: 10_000, fields: FieldList::new(ONE) }
}

fn identity() -> Identity<'static> {
    Identity {
        caps: Caps::CONFIG | Caps::COMMAND,
        t2_point: T2Point::Delimiter,
        boot_nonce: 1,
        max_rx: 40,
        tick_ns: 1000,
        clock_ppm: 100,
        schema_crc: 0xABCD,
        uid: "u",
        firmware: "v",
    }
}

fn hello(index: u8, total: u8, body: HelloBody<'_>) -> Result<Vec<u8>, BuildError> {
    let mut out = vec![0; 4096];
    let n = Hello { index, total, body }.encode(&mut out)?;
    out.truncate(n);
    Ok(out)
}

#[test]
fn field_codes_tell_class_and_width() {
    for field_type in FieldType::ALL {
        assert_eq!(FieldType::from_code(field_type.code()), Ok(field_type));
        assert!([1, 2, 4, 8].contains(&field_type.width()));
    }
    assert_eq!(FieldType::from_code(0x13), Err(PayloadError::FieldType(0x13)));
}

#[test]
fn empty_payloads_are_empty() {
    assert_eq!(Ping::parse(&[]), Ok(Ping));
    assert_eq!(Ping::parse(&[0]), Err(PayloadError::Trailing));
    assert_eq!(HelloReq::parse(&[]), Ok(HelloReq));
    assert_eq!(HelloReq::parse(&[0]), Err(PayloadError::Trailing));
}

#[test]
fn a_log_line_is_cut_at_a_character() {
    let long = "ü".repeat(40) + "x";
    let log = Log::cut(LogLevel::Warn, &long);
    assert_eq!(log.text, "ü".repeat(32));
    let odd = "x".to_owned() + &long;
    assert_eq!(Log::cut(LogLevel::Warn, &odd).text.len(), 63);
    let whole = Log { level: LogLevel::Warn, text: &long };
    assert_eq!(whole.encode(&mut [0; 200]), Err(BuildError::TextTooLong));
    assert_eq!(Log::parse(&[b'a'; LOG_TEXT_BYTES_MAX + 2]), Err(PayloadError::TextTooLong));
    assert_eq!(Log::parse(&[1, 0xFF]), Err(PayloadError::NotUtf8));
    assert_eq!(Log::parse(&[]), Err(PayloadError::Truncated));
}

#[test]
fn schema_crc_ignores_next_seq_and_nothing_else() {
    let crc = schema_crc(&[stream(0)]).expect("valid");
    assert_eq!(schema_crc(&[stream(99)]), Ok(crc));
    let faster = StreamDescriptor { period_us: 5_000, ..stream(0) };
    assert_ne!(schema_crc(&[faster]), Ok(crc));
    assert_ne!(schema_crc(&[stream(0), stream(0)]), Ok(crc));
    assert_eq!(schema_crc(&[]), Ok(0xFFFF));

    // A host that parsed the descriptor gets the device's value.
    let bytes = hello(1, 2, HelloBody::Stream(stream(7))).expect("valid");
    let HelloBody::Stream(parsed) = Hello::parse(&bytes).expect("valid").body else {
        panic!("index 1 is a stream");
    };
    let mut host = SchemaCrc::new();
    host.push(&parsed).expect("valid");
    assert_eq!(host.value(), crc);
    // And so does one that cuts next_seq (bytes 3..7) and the head out of the payload.
    let mut cut = bytes[2..3].to_vec();
    cut.extend(&bytes[7..]);
    assert_eq!(headwater_shims::crc::crc16(&cut), crc);
}

#[test]
fn hello_refuses_what_makes_no_sense() {
    let (who, what) = (HelloBody::Identity(identity()), HelloBody::Stream(stream(0)));
    assert_eq!(hello(1, 2, who), Err(BuildError::HelloIndex));
    assert_eq!(hello(0, 2, what), Err(BuildError::HelloIndex));
    assert_eq!(hello(2, 2, what), Err(BuildError::HelloIndex));
    let deaf = Identity { max_rx: 39, ..identity() };
    assert_eq!(hello(0, 1, HelloBody::Identity(deaf)), Err(BuildError::MaxRx));
    let reserved = StreamDescriptor { stream: 255, ..stream(0) };
    assert_eq!(hello(1, 2, HelloBody::Stream(reserved)), Err(BuildError::ReservedStream));
    let many = vec![ONE[0]; 256];
    let wide = StreamDescriptor { fields: FieldList::new(&many), ..stream(0) };
    assert_eq!(hello(1, 2, HelloBody::Stream(wide)), Err(BuildError::TooManyFields));

    let good = hello(0, 1, who).expect("valid");
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Hello::parse(&bytes).map(|_| ())
    };
    assert_eq!(with(0, 1), Err(PayloadError::HelloIndex { index: 1, total: 1 }));
    assert_eq!(with(2, 2), Err(PayloadError::Version(2)));
    assert_eq!(with(4, 2), Err(PayloadError::T2Point(2)));
    assert_eq!(with(9, 39), Err(PayloadError::MaxRx(39)));
    for len in 0..good.len() {
        assert!(Hello::parse(&good[..len]).is_err());
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(Hello::parse(&longer), Err(PayloadError::Trailing));
}

#[test]
fn a_refused_row_leaves_the_payload_whole() {
    let mut out = [0; 12];
    let mut writer = SampleWriter::new(&mut out, 1, 0).expect("room");
    writer.push_row(&[Value::U32(1)]).expect("room");
    assert_eq!(writer.push_row(&[Value::U16(1)]), Err(BuildError::RowBytes));
    writer.push_row(&[Value::U32(2)]).expect("room");
    assert_eq!(writer.push_row(&[Value::U32(3)]), Err(BuildError::NoRoom));
    assert_eq!(writer.count(), 2);
    assert_eq!(writer.finish(), Ok(12));
    let sample = Sample::parse(&out).expect("valid");
    let rows = sample.rows(&[FieldType::U32]).expect("fits");
    let values: Vec<_> = rows.flat_map(|row| row.values()).collect();
    assert_eq!(values, [Value::U32(1), Value::U32(2)]);
}

#[test]
fn a_sample_without_rows_does_not_exist() {
    let mut out = [0; 8];
    let writer = SampleWriter::new(&mut out, 1, 0).expect("room");
    assert_eq!(writer.finish(), Err(BuildError::NoRows));
    assert_eq!(Sample::parse(&[1, 0, 0, 0]), Err(PayloadError::NoRows));
}

#[test]
fn a_payload_never_outgrows_a_frame() {
    let mut out = [0; 4096];
    let mut writer = SampleWriter::new(&mut out, 1, 0).expect("room");
    let row = [Value::U64(0); 16];
    while writer.push_row(&row).is_ok() {}
    assert_eq!(writer.count(), 7);
    assert!(writer.finish().expect("rows") <= PAYLOAD_BYTES_MAX);
    let mut writer = SampleWriter::new(&mut out, 1, 0).expect("room");
    while writer.push_row(&[Value::U8(0)]).is_ok() {}
    assert_eq!(writer.count(), 255);
}

#[test]
fn rows_must_fill_the_payload() {
    let sample = Sample::parse(&[1, 2, 0, 0, 9, 9, 9]).expect("head is valid");
    let error = PayloadError::RowBytes { expected: 4, found: 3 };
    assert_eq!(sample.rows(&[FieldType::I16]).map(|_| ()), Err(error));
}

fn arb_value(field_type: FieldType) -> BoxedStrategy<Value> {
    match field_type {
        FieldType::U8 => any::<u8>().prop_map(Value::U8).boxed(),
        FieldType::U16 => any::<u16>().prop_map(Value::U16).boxed(),
        FieldType::U32 => any::<u32>().prop_map(Value::U32).boxed(),
        FieldType::U64 => any::<u64>().prop_map(Value::U64).boxed(),
        FieldType::I8 => any::<i8>().prop_map(Value::I8).boxed(),
        FieldType::I16 => any::<i16>().prop_map(Value::I16).boxed(),
        FieldType::I32 => any::<i32>().prop_map(Value::I32).boxed(),
        FieldType::I64 => any::<i64>().prop_map(Value::I64).boxed(),
        FieldType::F32 => any::<f32>().prop_map(Value::F32).boxed(),
        FieldType::F64 => any::<f64>().prop_map(Value::F64).boxed(),
    }
}

fn arb_types() -> impl Strategy<Value = Vec<FieldType>> {
    prop::collection::vec(prop::sample::select(&FieldType::ALL[..]), 0..6)
}

fn arb_rows() -> impl Strategy<Value = (Vec<FieldType>, Vec<Vec<Value>>)> {
    arb_types().prop_flat_map(|types| {
        let row: Vec<_> = types.iter().map(|one| arb_value(*one)).collect();
        (Just(types), prop::collection::vec(row, 1..20))
    })
}

proptest! {
    #[test]
    fn samples_round_trip((types, rows) in arb_rows(), stream in any::<u8>(), dt_us in any::<u16>()) {
        let mut out = [0; PAYLOAD_BYTES_MAX];
        let mut writer = SampleWriter::new(&mut out, stream, dt_us).expect("room");
        for row in &rows {
            writer.push_row(row).expect("at most 964 bytes");
        }
        let n = writer.finish().expect("rows are there");
        let sample = Sample::parse(&out[..n]).expect("valid");
        prop_assert_eq!((sample.stream(), sample.dt_us()), (stream, dt_us));
        let read: Vec<_> = sample.rows(&types).expect("fits").collect();
        prop_assert_eq!(read.len(), rows.len());
        for (i, (row, expect)) in read.iter().zip(&rows).enumerate() {
            prop_assert_eq!(usize::from(row.index), i);
            prop_assert_eq!(row.offset_us as usize, i * usize::from(dt_us));
            prop_assert_eq!(&row.values().collect::<Vec<_>>(), expect);
        }
    }

    #[test]
    fn streams_round_trip(
        number in 0..255u8, next_seq: u32, period_us: u32, kind in "\\PC{0,40}",
        fields in prop::collection::vec((prop::sample::select(&FieldType::ALL[..]), any::<i8>(), "\\PC{0,12}", "[ -~]{0,12}"), 0..8),
    ) {
        let fields: Vec<_> = fields.iter().map(|(field_type, scale10, name, unit)| Field {
            field_type: *field_type, scale10: *scale10, name, unit,
        }).collect();
        let descriptor = StreamDescriptor {
            stream: number, next_seq, kind: &kind, period_us, fields: FieldList::new(&fields),
        };
        let bytes = hello(1, 9, HelloBody::Stream(descriptor)).expect("valid");
        let parsed = Hello::parse(&bytes).expect("valid");
        prop_assert_eq!(parsed.body, HelloBody::Stream(descriptor));
        prop_assert_eq!(hello(1, 9, parsed.body), Ok(bytes));
    }

    #[test]
    fn identities_round_trip(
        caps: u8, first: bool, boot_nonce: u32, max_rx in 40..=u16::MAX, tick_ns: u32, clock_ppm: u16,
        schema_crc: u16, uid in "\\PC{0,60}", firmware in "\\PC{0,60}", total in 1..=255u8,
    ) {
        let body = HelloBody::Identity(Identity {
            caps: Caps::from_bits(caps),
            t2_point: if first { T2Point::FirstByte } else { T2Point::Delimiter },
            boot_nonce, max_rx, tick_ns, clock_ppm, schema_crc, uid: &uid, firmware: &firmware,
        });
        let bytes = hello(0, total, body).expect("valid");
        prop_assert_eq!(Hello::parse(&bytes), Ok(Hello { index: 0, total, body }));
    }

    #[test]
    fn pongs_and_logs_round_trip(t1_us: u64, t2_us: u64, boot_nonce: u32, schema_crc: u16, dropped: u16, level: u8, text in "\\PC{0,16}") {
        let mut out = [0; 80];
        let pong = Pong { t1_us, t2_us, boot_nonce, schema_crc, dropped };
        let n = pong.encode(&mut out).expect("room");
        prop_assert_eq!(n, 24);
        prop_assert_eq!(Pong::parse(&out[..n]), Ok(pong));
        prop_assert_eq!(Pong::parse(&out[..n - 1]), Err(PayloadError::Truncated));
        let log = Log { level: LogLevel::from_code(level), text: &text };
        let n = log.encode(&mut out).expect("room");
        prop_assert_eq!(Log::parse(&out[..n]), Ok(log));
    }

    #[test]
    fn parsers_survive_anything(mut bytes in prop::collection::vec(any::<u8>(), 0..200), types in arb_types()) {
        if let Ok(sample) = Sample::parse(&bytes)
            && let Ok(rows) = sample.rows(&types)
        {
            prop_assert_eq!(rows.count(), usize::from(sample.count()));
        }
        prop_assert_eq!(Pong::parse(&bytes).is_ok(), bytes.len() == 24);
        if let Ok(log) = Log::parse(&bytes) {
            prop_assert_eq!(log.text.len() + 1, bytes.len());
        }
        // Make it look like a HELLO often enough to get past the first fields.
        for (at, value) in [(1, 255), (2, 1), (4, 0), (7, 1)] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        for index in [0, 1] {
            if let Some(byte) = bytes.first_mut() {
                *byte = index;
            }
            if let Ok(parsed) = Hello::parse(&bytes) {
                prop_assert_eq!(hello(parsed.index, parsed.total, parsed.body), Ok(bytes.clone()));
            }
        }
    }
}
