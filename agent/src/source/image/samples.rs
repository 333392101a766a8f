//! Small pictures for tests, built marker by marker.

/// A JPEG by structure: APP1 with a thumbnail's EOI inside, SOF0 32 × 16, a scan with stuffing and a restart.
pub(crate) fn jpeg() -> Vec<u8> {
    let mut out = vec![0xff, 0xd8];
    let mut segment = |code: u8, body: &[u8]| {
        out.extend_from_slice(&[0xff, code]);
        out.extend_from_slice(&u16::try_from(body.len() + 2).unwrap().to_be_bytes());
        out.extend_from_slice(body);
    };
    segment(0xe1, b"Exif\0\0 thumbnail \xff\xd8\xff\xd9 end");
    segment(0xdb, &[0; 65]);
    segment(0xc0, &[8, 0, 16, 0, 32, 1, 1, 0x11, 0]);
    segment(0xc4, &[0; 20]);
    segment(0xda, &[1, 1, 0, 0, 63, 0]);
    out.extend_from_slice(&[0x12, 0x34, 0xff, 0x00, 0x56, 0xff, 0xd0, 0x78, 0x9a, 0xff, 0xd9]);
    out
}

/// A 1 × 1 PNG.
pub(in crate::source) fn png() -> Vec<u8> {
    const HEX: &str = "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de\
                       0000000c49444154789c636064620600000e0007d76fe4780000000049454e44ae426082";
    let digits: Vec<u8> = HEX.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
