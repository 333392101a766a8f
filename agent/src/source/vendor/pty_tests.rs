//! The real serial source against devices behind a pseudo terminal, on real clocks: one that speaks, one that is asked.

use super::super::framing::Decoder;
use super::super::serial::{SerialSource, TtyPort};
use super::*;
use crate::clock::BootClock;
use crate::config::Characters;
use crate::source::arrival::Declared;
use headwater_core::ports::{Clock, Source};
use headwater_core::sample::Value;
use headwater_shims::vendor::modbus::{ReadFunction, ReadRequest, RegisterMap};
use headwater_shims::vendor::spec::{ByteOrder, Raw, Slot, SpecField};
use headwater_shims::vendor::sum;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_serial::{SerialPort, SerialStream};

/// What a device does with the bytes it hears, or with a moment of silence: it answers.
type Device = fn(heard: &[u8], beat: u16) -> Vec<u8>;

/// Runs `device` on a thread of its own behind a terminal, the source before it, until `enough` rows came.
async fn run(device: Device, protocol: VendorProtocol, enough: usize) -> Vec<Vec<Value>> {
    let ended = Arc::new(AtomicBool::new(false));
    let (name, named) = std::sync::mpsc::sync_channel(1);
    let told = Arc::clone(&ended);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (mut far, near) = SerialStream::pair().unwrap();
            name.send(near.name().unwrap()).unwrap();
            // Held open, so that the far end never sees a hang-up.
            let _near = near;
            let (mut buffer, mut beat) = ([0; 256], 0);
            while !told.load(Ordering::SeqCst) {
                let heard = tokio::select! {
                    read = far.read(&mut buffer) => read.unwrap_or(0),
                    () = BootClock.sleep_until(BootClock.boot().plus_ms(5)) => 0,
                };
                beat += 1;
                far.write_all(&device(&buffer[..heard], beat)).await.unwrap();
            }
        });
    });
    let opener = TtyPort {
        path: named.recv().unwrap().into(),
        baud: 9_600,
        characters: Characters::PLAIN,
        clock: BootClock,
    };
    let arrivals = Arrivals::of_program(Declared::default(), 1_000_000);
    let stream: StreamName = "dev".parse().unwrap();
    let vendor = VendorDecoding::new(stream.clone(), arrivals, protocol);
    let mut source = SerialSource::new(BootClock, opener, stream, Decoder::Vendor(Box::new(vendor)));
    let mut rows = Vec::new();
    while rows.len() < enough {
        if let SourceEvent::Reading { reading, .. } = source.next().await.unwrap() {
            rows.push(reading.values);
        }
    }
    ended.store(true, Ordering::SeqCst);
    thread.join().unwrap();
    rows
}

/// A particulate sensor in a noisy place: its frame, and halves and noise between.
fn dust(_: &[u8], beat: u16) -> Vec<u8> {
    let [low, high] = beat.to_le_bytes();
    let data = [low, high, 0, 0, 1, 2];
    let frame = [&[0xAA, 0xC0], data.as_slice(), &[sum::sum8(&data), 0xAB]].concat();
    if beat.is_multiple_of(3) { [&frame[..4], &[0xAA], &frame].concat() } else { frame }
}

#[tokio::test]
async fn a_device_that_speaks_is_heard() {
    let rows = run(dust, VendorProtocol::Sds011, 60).await;
    let beats: Vec<i64> = rows
        .iter()
        .map(|row| match row[0] {
            #[expect(clippy::cast_possible_truncation, reason = "tenths of a small count")]
            Value::F64(pm2_5) => (pm2_5 * 10.0).round() as i64,
            ref other => panic!("{other:?}"),
        })
        .collect();
    // The port was opened somewhere in the stream; from there on no frame is missing.
    assert!(beats.windows(2).all(|pair| pair[1] == pair[0] + 1), "{beats:?}");
}

/// A meter: it answers the one question it knows, with a number that counts.
fn meter(heard: &[u8], beat: u16) -> Vec<u8> {
    let known = ReadRequest { unit: 3, function: ReadFunction::InputRegisters, start: 7, count: 1 };
    if heard != headwater_shims::vendor::modbus::Rtu(known).request() {
        return Vec::new();
    }
    let [high, low] = beat.to_be_bytes();
    let body = [3, 4, 2, high, low];
    // Two-wire adapters echo the question.
    [heard, &body, &sum::crc16_modbus(&body).to_le_bytes()].concat()
}

#[tokio::test]
async fn a_device_that_only_answers_is_asked() {
    let slot = Slot { order: ByteOrder::Big, ..Slot::new(0, Raw::U16) };
    let field = SpecField { name: "count".to_owned(), unit: "1".to_owned(), slot };
    let read = ModbusRead {
        request: ReadRequest { unit: 3, function: ReadFunction::InputRegisters, start: 7, count: 1 },
        map: RegisterMap { kind: "meter".to_owned(), fields: vec![field] },
    };
    let began = BootClock.boot();
    let rows = run(meter, VendorProtocol::Modbus(vec![read], 100), 4).await;
    let counts: Vec<i64> = rows.iter().map(|row| if let [Value::I64(n)] = row[..] { n } else { 0 }).collect();
    assert!(counts.windows(2).all(|pair| pair[1] > pair[0]), "{counts:?}");
    assert!(BootClock.boot().since(began) >= 300_000_000, "a beat of 100 ms lies between questions");
}
