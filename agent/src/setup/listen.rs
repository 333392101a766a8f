//! What bytes on a serial line may be: frames of the link protocol or of a device's own, sentences, lines of numbers, text,
//! noise. Pure.

use crate::source::nmea;
use headwater_shims::link::{Hello, LinkDecoder, LinkType, RAW_BYTES_MAX};
use headwater_shims::vendor::{Feeder, Protocol, mavlink, pms, sds011, ubx, vedirect};

/// Longest line, bytes: what is longer is none.
const LINE_BYTES_MAX: usize = 1_024;
/// Good frames that prove a link: one in 65 536 frames of noise has a right checksum.
const FRAMES_MIN: u32 = 3;
/// Good frames that prove a device's own protocol: their fixed bytes add to the checksum.
const VENDOR_FRAMES_MIN: u64 = 2;
/// Sentences that prove a receiver: one in 256 lines of noise has a right checksum.
const SENTENCES_MIN: u32 = 2;
/// Whole lines that show what lines are like.
const LINES_MIN: u32 = 3;
/// Most numbers of a line; a stream may have more, but nobody prints them.
const COLUMNS_MAX: usize = 64;
/// What may stand between numbers.
const SEPARATORS: [char; 4] = [',', ';', '\t', ' '];

/// Protocols of devices that speak unasked, by their word in the configuration. Left out is SBUS, which has no checksum and
/// needs another line.
const VENDORS: [(&str, &(dyn Protocol + Sync)); 5] = [
    ("ubx", &ubx::Ubx),
    ("pms5003", &pms::Pms),
    ("sds011", &sds011::Sds011),
    ("mavlink", &mavlink::Mavlink),
    ("vedirect", &vedirect::VeDirect),
];

type Vendor = Feeder<&'static (dyn Protocol + Sync), { ubx::FRAME_BYTES_MAX }>;

/// What it is, as far as was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess {
    Link,
    Nmea,
    Vendor(&'static str),
    Numbers { columns: usize, separator: char },
    Text,
    Noise,
    Silence,
}

/// Bytes of one port at one rate.
pub(super) struct Listener {
    frames: LinkDecoder<RAW_BYTES_MAX>,
    good_frames: u32,
    hello: bool,
    vendors: Vec<(&'static str, Vendor)>,
    sentences: u32,
    bytes: usize,
    line: Vec<u8>,
    /// Before the first line end nobody knows where a line began.
    begun: bool,
    lines: u32,
    plain_lines: u32,
    /// How all lines so far are numbers; `None` once one is not.
    numbers: Option<Option<(usize, char)>>,
}

impl Listener {
    pub(super) fn new() -> Self {
        Self {
            frames: LinkDecoder::new(),
            good_frames: 0,
            hello: false,
            vendors: VENDORS.iter().map(|(name, protocol)| (*name, Feeder::new(*protocol))).collect(),
            sentences: 0,
            bytes: 0,
            line: Vec::new(),
            begun: false,
            lines: 0,
            plain_lines: 0,
            numbers: Some(None),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        for (_, feeder) in &mut self.vendors {
            let mut input = bytes;
            while feeder.next_frame(&mut input).is_some() {}
        }
        for byte in bytes {
            self.frame(*byte);
            match *byte {
                b'\n' => self.end_of_line(),
                byte if self.line.len() < LINE_BYTES_MAX => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn frame(&mut self, byte: u8) {
        let Some(Ok(frame)) = self.frames.push(byte) else { return };
        match frame.header.link_type {
            LinkType::Hello => self.hello |= Hello::parse(frame.payload).is_ok(),
            LinkType::Unknown(_) => return,
            _ => {}
        }
        self.good_frames = self.good_frames.saturating_add(1);
    }

    fn end_of_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.begun, true) {
            return;
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        self.lines = self.lines.saturating_add(1);
        if line.strip_prefix(b"$").is_some_and(nmea::is_sentence) {
            self.sentences = self.sentences.saturating_add(1);
        }
        let text = std::str::from_utf8(line)
            .ok()
            .filter(|text| !text.chars().any(char::is_control) || text.contains('\t'));
        let Some(text) = text else { return };
        self.plain_lines = self.plain_lines.saturating_add(1);
        let shape = shape(text);
        self.numbers = match self.numbers {
            Some(None) => shape.map(Some),
            Some(known) if known == shape => Some(known),
            _ => None,
        };
    }

    /// What it is, if there is no need to listen on.
    pub(super) fn sure(&self) -> Option<Guess> {
        if self.hello || self.good_frames >= FRAMES_MIN {
            return Some(Guess::Link);
        }
        if self.sentences >= SENTENCES_MIN {
            return Some(Guess::Nmea);
        }
        let vendor = self.vendors.iter().find(|(_, feeder)| feeder.stats().frames >= VENDOR_FRAMES_MIN);
        vendor.map(|(name, _)| Guess::Vendor(name))
    }

    /// What it is most likely.
    pub(super) fn guess(&self) -> Guess {
        if let Some(sure) = self.sure() {
            return sure;
        }
        // Three of four lines are plain text: at a wrong rate hardly one is.
        let text =
            self.lines >= LINES_MIN && self.plain_lines.saturating_mul(4) >= self.lines.saturating_mul(3);
        match self.numbers {
            _ if self.bytes == 0 => Guess::Silence,
            _ if self.sentences > 0 && text => Guess::Nmea,
            Some(Some((columns, separator))) if text => Guess::Numbers { columns, separator },
            _ if text => Guess::Text,
            _ => Guess::Noise,
        }
    }
}

/// How many numbers a line has, and what stands between; `None` if it is no line of numbers.
fn shape(line: &str) -> Option<(usize, char)> {
    let number = |part: &str| part.trim().parse::<f64>().is_ok_and(f64::is_finite);
    let of = |separator: char| {
        let parts: Vec<&str> = line.split(separator).take(COLUMNS_MAX + 1).collect();
        (parts.len() <= COLUMNS_MAX && parts.iter().all(|part| number(part)))
            .then_some((parts.len(), separator))
    };
    // Of equals the last wins: a comma, where a line is one number.
    SEPARATORS.iter().rev().filter_map(|separator| of(*separator)).max_by_key(|(columns, _)| *columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_shims::link::{Flags, Header, WIRE_BYTES_MAX, encode};
    use proptest::prelude::*;

    fn heard(bytes: &[u8]) -> Guess {
        let mut listener = Listener::new();
        listener.push(bytes);
        listener.guess()
    }

    fn frame(link_type: LinkType, seq: u16) -> Vec<u8> {
        let mut wire = [0; WIRE_BYTES_MAX];
        let header = Header { link_type, flags: Flags::NONE, seq, t_us: 5 };
        let len = encode(&mut wire, header, &[1, 2, 3]).unwrap();
        wire[..len].to_vec()
    }

    #[test]
    fn lines_are_told_apart() {
        assert_eq!(heard(b""), Guess::Silence);
        assert_eq!(
            heard(b"lf\n1.5,2,3\r\n1.25,-2,3e1\r\n0,0,0\r\n7,"),
            Guess::Numbers { columns: 3, separator: ',' }
        );
        assert_eq!(heard(b"x\n20.5\n20.6\n20.7\n"), Guess::Numbers { columns: 1, separator: ',' });
        assert_eq!(heard(b"x\n1;2\n3;4\n5;6\n"), Guess::Numbers { columns: 2, separator: ';' });
        assert_eq!(heard(b"x\n1,2\n1,2,3\n1,2\n"), Guess::Text, "not as many each");
        assert_eq!(heard("x\nt: 20 °C\nt: 21 °C\nt: 22 °C\n".as_bytes()), Guess::Text);
        assert_eq!(heard(b"x\nnan,1\ninf,2\nnan,3\n"), Guess::Text);
        assert_eq!(heard(b"\x80\xff\n\xfe\x01\n\x02\x80\n\x9c\n"), Guess::Noise);
        assert_eq!(heard(b"no end of a line"), Guess::Noise);
    }

    #[test]
    fn a_receiver_is_known_by_its_checksums() {
        let sentence = "$GPZDA,081411.000,26,05,2014,,*5D\r\n";
        assert_eq!(heard(format!("DA*00\r\n{sentence}{sentence}").as_bytes()), Guess::Nmea);
        assert_eq!(heard(format!("x\n{sentence}").as_bytes()), Guess::Noise, "one may be chance");
        let wrong = sentence.replace("5D", "5E");
        assert_eq!(heard(format!("x\n{wrong}{wrong}{wrong}").as_bytes()), Guess::Text);
        // At a wrong rate between others: bytes of the upper half.
        assert_eq!(heard(&[0xb5, b'\n'].repeat(20)), Guess::Noise);
    }

    #[test]
    fn a_board_is_known_by_its_frames() {
        let samples: Vec<u8> = (0..3).flat_map(|seq| frame(LinkType::Sample, seq)).collect();
        assert_eq!(heard(&[&[7, 9, 0], &samples[..]].concat()), Guess::Link);
        let mut listener = Listener::new();
        listener.push(&[0]);
        listener.push(&frame(LinkType::Log, 1));
        assert_eq!((listener.sure(), listener.guess()), (None, Guess::Noise));
    }

    #[test]
    fn devices_are_known_by_their_own_frames() {
        // A Nova SDS011 (data sheet), and a u-blox acknowledgement of CFG-MSG.
        let dust = [0xAA, 0xC0, 0xD4, 0x04, 0x3A, 0x0A, 0xA1, 0x60, 0x1D, 0xAB];
        assert_eq!(heard(&[&[7, 0xAA][..], &dust, &dust].concat()), Guess::Vendor("sds011"));
        assert_eq!(heard(&dust), Guess::Noise, "one may be chance");
        let ack = [0xB5, 0x62, 0x05, 0x01, 0x02, 0x00, 0x06, 0x01, 0x0F, 0x38];
        assert_eq!(heard(&ack.repeat(2)), Guess::Vendor("ubx"));
    }

    proptest! {
        #[test]
        fn noise_is_neither_board_nor_receiver(bytes in proptest::collection::vec(any::<u8>(), 0..3_000)) {
            prop_assert!(!matches!(heard(&bytes), Guess::Link | Guess::Nmea | Guess::Vendor(_)));
        }

        #[test]
        fn pieces_make_no_difference(text in "\\PC{0,200}\n([0-9.]{1,5},[0-9]{1,3}\n){0,5}", at in 0_usize..300) {
            let bytes = text.as_bytes();
            let (head, tail) = bytes.split_at(at.min(bytes.len()));
            let mut listener = Listener::new();
            listener.push(head);
            listener.push(tail);
            prop_assert_eq!(listener.guess(), heard(bytes));
        }
    }
}
