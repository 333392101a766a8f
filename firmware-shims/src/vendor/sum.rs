//! The checksums of vendors' protocols. Each names its parameters; tests hold the catalogue's check values.

/// The low eight bits of the sum of `bytes`.
pub fn sum8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The low sixteen bits of the sum of `bytes`.
pub fn sum16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(u16::from(*byte)))
}

/// All `bytes` xored together.
pub fn xor8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum ^ byte)
}

/// What makes the sum of `bytes` and itself zero.
pub fn twos_complement8(bytes: &[u8]) -> u8 {
    sum8(bytes).wrapping_neg()
}

/// CRC-8 with polynomial `poly` and start `init`, nothing reflected or xored. With `0x07` and `0` it is CRC-8/SMBUS.
pub fn crc8(bytes: &[u8], poly: u8, init: u8) -> u8 {
    bytes.iter().fold(init, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { (crc << 1) ^ poly })
    })
}

/// CRC-16/MODBUS: polynomial `0x8005` reflected, start `0xFFFF`. Sent low byte first.
///
/// Source: MODBUS over Serial Line, Specification and Implementation Guide V1.02, section 2.5.1.2 and appendix B.
pub fn crc16_modbus(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8)
            .fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xA001 })
    })
}

/// CRC-16/MCRF4XX, which MAVLink calls X.25: polynomial `0x1021` reflected, start `0xFFFF`, nothing xored at the end.
///
/// Source: MAVLink developer guide, "Packet Serialization", section "Checksum".
pub fn crc16_mcrf4xx(bytes: &[u8]) -> u16 {
    mcrf4xx_onto(0xFFFF, bytes)
}

/// Goes on with a [`crc16_mcrf4xx`] over more bytes.
pub fn mcrf4xx_onto(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8)
            .fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0x8408 })
    })
}

/// Fletcher's sum modulo 256 as `[CK_A, CK_B]`.
///
/// Source: u-blox 8 / M8 Receiver Description incl. Protocol Specification (UBX-13003221), section "UBX Checksum".
pub fn fletcher8(bytes: &[u8]) -> [u8; 2] {
    bytes.iter().fold([0, 0], |[a, b], byte| {
        let a = a.wrapping_add(*byte);
        [a, b.wrapping_add(a)]
    })
}
