//! UBX-TIM: what belongs to pulses, those the receiver gives and those it takes.

use crate::vendor::num::Bytes;
use crate::vendor::view::message;

message! {
    /// UBX-TIM-TP (0x0D 0x01): time of the next pulse, sent before it.
    TimTp = "ubx_tim_tp" {
        tow_ms: u32, "ms", "Time of week of the pulse.";
        tow_rest_ms: f64, "ms", "Part of a millisecond to add.";
        quantisation_error_ps: i32, "ps", "How far the pulse's edge is from its time: whole ticks of the receiver's clock.";
        week: u16, "1", "Week of the pulse.";
        utc: bool, "1", "The time base is UTC, not a satellite system's own.";
    }
}

impl TimTp {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        Self {
            tow_ms: b.u32(0),
            tow_rest_ms: f64::from(b.u32(4)) / 4_294_967_296.0,
            quantisation_error_ps: b.i32(8),
            week: b.u16(12),
            utc: b.bit(14, 0),
        }
    }
}

message! {
    /// UBX-TIM-TM2 (0x0D 0x03): when edges came at the receiver's input.
    TimTm2 = "ubx_tim_tm2" {
        channel: u8, "1", "Input, 0 or 1.";
        count: u16, "1", "Rising edges so far, wrapping.";
        rising: bool, "1", "A rising edge is told.";
        falling: bool, "1", "A falling edge is told.";
        time_base: u8, "1", "0 receiver, 1 satellite system, 2 UTC.";
        time_valid: bool, "1", "The time is valid.";
        rising_week: u16, "1", "Week of the rising edge.";
        rising_tow_ms: u32, "ms", "Time of week of the rising edge.";
        rising_rest_ns: u32, "ns", "Part of a millisecond to add.";
        falling_week: u16, "1", "Week of the falling edge.";
        falling_tow_ms: u32, "ms", "Time of week of the falling edge.";
        falling_rest_ns: u32, "ns", "Part of a millisecond to add.";
        accuracy_ns: u32, "ns", "Accuracy, estimated.";
    }
}

impl TimTm2 {
    pub(super) fn read(b: Bytes<'_>) -> Self {
        Self {
            channel: b.u8(0),
            count: b.u16(2),
            rising: b.bit(1, 7),
            falling: b.bit(1, 2),
            time_base: (b.u8(1) >> 3) & 0b11,
            time_valid: b.bit(1, 6),
            rising_week: b.u16(4),
            falling_week: b.u16(6),
            rising_tow_ms: b.u32(8),
            rising_rest_ns: b.u32(12),
            falling_tow_ms: b.u32(16),
            falling_rest_ns: b.u32(20),
            accuracy_ns: b.u32(24),
        }
    }
}
