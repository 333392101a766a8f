//! What a device is, written down once as constants.

use crate::link::{Caps, Field, T2Point};

/// A device and its streams; a `const` of the firmware.
#[derive(Debug, Clone, Copy)]
pub struct DeviceSpec<'a, const S: usize> {
    /// What it can do beside sending.
    pub caps: Caps,
    /// Which byte of a PING the time given to `receive` belongs to that counts as t2.
    pub t2_point: T2Point,
    /// Nanoseconds of one tick of its clock.
    pub tick_ns: u32,
    /// How far its clock may run off, in parts per million.
    pub clock_ppm: u16,
    /// Which board it is.
    pub uid: &'a str,
    /// Which firmware it runs.
    pub firmware: &'a str,
    /// Its streams, numbered by their place.
    pub streams: [StreamSpec<'a>; S],
}

/// One stream, as its HELLO describes it.
#[derive(Debug, Clone, Copy)]
pub struct StreamSpec<'a> {
    /// Its schema family, e.g. `climate`.
    pub kind: &'a str,
    /// Microseconds between samples, 0 if irregular.
    pub period_us: u32,
    /// What a row holds.
    pub fields: &'a [Field<'a>],
}
