//! A device behind a UART of the `embedded-io` traits that takes and gives little at a time.

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use headwater_shims::device::{Device, DeviceSpec, StreamSpec, Wish};
use headwater_shims::link::{
    Caps, Config, Field, FieldType, Flags, Header, LinkDecoder, LinkType, Pong, RAW_BYTES_MAX, ReplyCode,
    T2Point, Value, encode,
};
use headwater_shims::pump::{READ_BYTES_MAX, pump};
use std::collections::VecDeque;
use std::convert::Infallible;

/// A UART whose transmitter takes `room` bytes until somebody empties it. It panics instead of waiting.
struct Uart {
    received: VecDeque<u8>,
    sent: Vec<u8>,
    room: usize,
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(!self.received.is_empty())
    }
}

impl Read for Uart {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, Infallible> {
        let byte = self.received.pop_front().expect("a read would wait");
        out[0] = byte;
        Ok(1)
    }
}

impl WriteReady for Uart {
    fn write_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.room != 0)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        assert!(self.room != 0, "a write would wait");
        let n = bytes.len().min(self.room);
        self.sent.extend_from_slice(&bytes[..n]);
        self.room -= n;
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        panic!("a flush would wait")
    }
}

const SPEC: DeviceSpec<'static, 1> = DeviceSpec {
    caps: Caps::CONFIG,
    t2_point: T2Point::FirstByte,
    tick_ns: 1_000,
    clock_ppm: 50,
    uid: "board-1",
    firmware: "1.0.0",
    streams: [StreamSpec {
        kind: "climate",
        period_us: 10_000,
        fields: &[Field { field_type: FieldType::I16, scale10: -2, name: "temperature", unit: "Cel" }],
    }],
};

fn wire(link_type: LinkType, payload: &[u8]) -> Vec<u8> {
    let mut out = [0; 64];
    let n =
        encode(&mut out, Header { link_type, flags: Flags::NONE, seq: 1, t_us: 7 }, payload).expect("fits");
    out[..n].to_vec()
}

#[test]
fn a_device_is_pumped_without_waiting() {
    let mut device = Device::<1, 64, 256>::new(&SPEC, 3).expect("fits");
    let mut uart = Uart { received: VecDeque::from(vec![0]), sent: vec![], room: 0 };
    let mut payload = [0; 16];
    let config = Config { boot_nonce: 3, token: 1, stream: 0, key: 2, value: 5_000 };
    let n = config.encode(&mut payload).expect("room");
    uart.received.extend(wire(LinkType::Ping, &[]));
    uart.received.extend(wire(LinkType::Config, &payload[..n]));
    uart.received.extend(vec![1; 200]); // noise
    let (mut now, mut asked) = (0_u64, 0);
    for turn in 0..400 {
        // A transmitter with a FIFO of 3 bytes that is emptied every other turn.
        uart.room = if turn % 2 == 0 { 3 } else { uart.room };
        let before = uart.received.len();
        let request = pump(&mut device, &mut uart, || {
            now += 10;
            now
        });
        assert!(before - uart.received.len() <= READ_BYTES_MAX);
        if let Ok(Some(request)) = request {
            assert_eq!(request.wish, Wish::Config { key: 2, value: 5_000 });
            device.reply_value(ReplyCode::Ok, 5_000, now).expect("open");
            asked += 1;
        }
        if turn == 100 {
            device.sample(0, now, &[Value::I16(1)]).expect("valid");
        }
    }
    assert_eq!((asked, device.is_idle(), uart.received.len()), (1, true, 0));
    let mut host = LinkDecoder::<RAW_BYTES_MAX>::new();
    let mut got = Vec::new();
    for byte in uart.sent {
        if let Some(frame) = host.push(byte) {
            let frame = frame.expect("no damage");
            if frame.header.link_type == LinkType::Pong {
                let pong = Pong::parse(frame.payload).expect("valid");
                assert!(pong.t2_us <= frame.header.t_us && pong.t1_us == 7);
            }
            got.push(frame.header.link_type);
        }
    }
    let (hello, sample) = (LinkType::Hello, LinkType::Sample);
    assert_eq!(got, [LinkType::Pong, LinkType::Reply, hello, hello, sample]);
}
