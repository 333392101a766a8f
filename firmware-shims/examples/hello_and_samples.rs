//! Shows what a board sends after reset: a delimiter, its HELLO, then a frame of samples.
//!
//! `cargo run -p headwater-shims --example hello_and_samples` prints the bytes and what the agent
//! reads from them. On a board the buffer goes to the UART instead.

use headwater_shims::link::{
    BuildError, Caps, Field, FieldList, FieldType, Flags, Header, Hello, HelloBody, Identity, LinkDecoder,
    LinkType, RAW_BYTES_MAX, Sample, SampleWriter, StreamDescriptor, T2Point, Value, encode, schema_crc,
};

const FIELDS: &[Field<'static>] =
    &[Field { field_type: FieldType::I16, scale10: -2, name: "temperature", unit: "Cel" }];
const STREAM: StreamDescriptor<'static> = StreamDescriptor {
    stream: 0,
    next_seq: 0,
    kind: "climate",
    period_us: 10_000,
    fields: FieldList::new(FIELDS),
};

/// The board's side: fills `wire`, returns the bytes to send.
fn board(wire: &mut [u8]) -> Result<usize, BuildError> {
    let identity = Identity {
        caps: Caps::NONE,
        t2_point: T2Point::FirstByte,
        boot_nonce: 0x5EED_0001,
        max_rx: 64,
        tick_ns: 1_000,
        clock_ppm: 50,
        schema_crc: schema_crc(&[STREAM])?,
        uid: "board-1",
        firmware: "1.0.0",
    };
    let mut payload = [0; 128];
    let mut end = 1; // wire[0] is a delimiter: it ends whatever noise came before
    let bodies = [HelloBody::Identity(identity), HelloBody::Stream(STREAM)];
    for (index, body) in (0..).zip(bodies) {
        let hello = Hello { index, total: 2, body };
        let n = hello.encode(&mut payload)?;
        let header = Header {
            link_type: LinkType::Hello,
            flags: Flags::FIRST_SINCE_BOOT,
            seq: index.into(),
            t_us: 1_500,
        };
        end += encode(&mut wire[end..], header, &payload[..n])?;
    }
    let mut samples = SampleWriter::new(&mut payload, STREAM.stream, 10_000)?;
    for hundredths in [2150, 2151, 2149] {
        samples.push_row(&[Value::I16(hundredths)])?;
    }
    let n = samples.finish()?;
    let header = Header { link_type: LinkType::Sample, flags: Flags::FIRST_SINCE_BOOT, seq: 0, t_us: 20_000 };
    Ok(end + encode(&mut wire[end..], header, &payload[..n])?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut wire = [0; 512];
    let end = board(&mut wire)?;
    println!("on the wire: {:02x?}", &wire[..end]);

    let mut decoder = LinkDecoder::<RAW_BYTES_MAX>::new();
    let mut fields = Vec::new();
    for byte in &wire[..end] {
        let Some(frame) = decoder.push(*byte).transpose()? else {
            continue;
        };
        match frame.header.link_type {
            LinkType::Hello => {
                let hello = Hello::parse(frame.payload)?;
                if let HelloBody::Stream(stream) = hello.body {
                    fields = stream.fields.iter().map(|field| field.field_type).collect();
                }
                println!("{hello:?}");
            }
            LinkType::Sample => {
                for row in Sample::parse(frame.payload)?.rows(&fields)? {
                    let t_us = frame.header.t_us + u64::from(row.offset_us);
                    println!("t_us {t_us}: {:?}", row.values().collect::<Vec<_>>());
                }
            }
            other => println!("{other:?} ignored"),
        }
    }
    println!("{:?}", decoder.stats());
    Ok(())
}
