//! Bits of `flag` in a source struct: what a reader must know before trusting a value.

/// No sample on the side that was asked for.
pub const NONE: i32 = 1;
/// The sample lies beyond the tolerance.
pub const BEYOND: i32 = 2;
/// The neighbours are too far apart, or one is on the wrong side by its own time.
pub const GAP_WIDE: i32 = 4;
/// Within the uncertainty another sample, or none, could be the match.
pub const AMBIGUOUS: i32 = 8;
/// The value is the declared fallback.
pub const FALLBACK: i32 = 16;
/// Beyond the last neighbour.
pub const EXTRAPOLATED: i32 = 32;
/// Samples may lie on either side of an edge of the window.
pub const STRADDLES: i32 = 64;
/// A sample is not of the spine row's boot: its distance is one of UTC.
pub const CROSS_BOOT: i32 = 128;
/// A sample's time is `ordering_only`.
pub const LOW_GRADE: i32 = 256;
/// Samples that could have mattered are recorded as missing.
pub const GAP_INSIDE: i32 = 512;
/// A source arrived after the row was final first; set by whoever computes it again.
pub const LATE: i32 = 1024;
/// A list was cut at its greatest length.
pub const CAPPED: i32 = 2048;
