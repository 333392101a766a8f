//! UBX-NAV-SAT and UBX-NAV-SVINFO: satellites in view, summed up, and one by one for those who want them.

use super::UbxFrame;
use crate::vendor::num::Bytes;
use crate::vendor::view::message;

/// Bytes before the first satellite, and of each.
const HEAD_BYTES: usize = 8;
const ROW_BYTES: usize = 12;

message! {
    /// UBX-NAV-SAT (0x01 0x35), summed up.
    NavSat = "ubx_nav_sat" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        seen: u8, "1", "Satellites listed.";
        tracked: u8, "1", "Satellites with a signal.";
        used: u8, "1", "Satellites used for navigation.";
        cno_max_db_hz: u8, "dB{Hz}", "Strongest carrier to noise density, dB-Hz.";
        cno_used_mean_db_hz: Option<f64>, "dB{Hz}", "Mean carrier to noise density of those used, dB-Hz.";
    }
}

message! {
    /// UBX-NAV-SVINFO (0x01 0x30), summed up; of receivers up to M8.
    NavSvinfo = "ubx_nav_svinfo" {
        itow_ms: u32, "ms", "GPS time of week of the epoch.";
        seen: u8, "1", "Channels listed.";
        tracked: u8, "1", "Channels with a signal.";
        used: u8, "1", "Satellites used for navigation.";
        cno_max_db_hz: u8, "dB{Hz}", "Strongest carrier to noise density, dB-Hz.";
        cno_used_mean_db_hz: Option<f64>, "dB{Hz}", "Mean carrier to noise density of those used, dB-Hz.";
    }
}

/// One satellite of a UBX-NAV-SAT or UBX-NAV-SVINFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Satellite {
    /// Constellation: 0 GPS, 1 SBAS, 2 Galileo, 3 BeiDou, 5 QZSS, 6 GLONASS; `None` in UBX-NAV-SVINFO, whose
    /// numbers tell it.
    pub gnss_id: Option<u8>,
    /// Number within the constellation, or over all in UBX-NAV-SVINFO.
    pub sv_id: u8,
    /// Carrier to noise density, dB-Hz.
    pub cno_db_hz: u8,
    /// Elevation; out of ±90 if unknown.
    pub elevation_deg: i8,
    /// Azimuth; out of 0 … 360 if unknown.
    pub azimuth_deg: i16,
    /// Used for navigation.
    pub used: bool,
}

/// The satellites in a UBX-NAV-SAT or UBX-NAV-SVINFO; none in other messages.
pub fn satellites(frame: UbxFrame<'_>) -> impl Iterator<Item = Satellite> + '_ {
    let sat = (frame.class, frame.id) == (0x01, 0x35);
    let info = (frame.class, frame.id) == (0x01, 0x30);
    let rows = if sat || info { rows(frame.payload, if sat { 5 } else { 4 }) } else { None };
    rows.unwrap_or_default()
        .chunks_exact(ROW_BYTES)
        .map(move |row| if sat { of_sat(row) } else { of_info(row) })
}

/// The listed rows, if all are there.
fn rows(payload: &[u8], count_at: usize) -> Option<&[u8]> {
    let count = usize::from(*payload.get(count_at)?);
    payload.get(HEAD_BYTES..)?.get(..count.checked_mul(ROW_BYTES)?)
}

fn of_sat(row: &[u8]) -> Satellite {
    let b = Bytes(row);
    Satellite {
        gnss_id: Some(b.u8(0)),
        sv_id: b.u8(1),
        cno_db_hz: b.u8(2),
        elevation_deg: b.i8(3),
        azimuth_deg: b.i16(4),
        used: b.bit(8, 3),
    }
}

fn of_info(row: &[u8]) -> Satellite {
    let b = Bytes(row);
    Satellite {
        gnss_id: None,
        sv_id: b.u8(1),
        cno_db_hz: b.u8(4),
        elevation_deg: b.i8(5),
        azimuth_deg: b.i16(6),
        used: b.bit(2, 0),
    }
}

#[derive(Default)]
struct Summary {
    seen: u8,
    tracked: u8,
    used: u8,
    cno_max: u8,
    cno_used_sum: u32,
}

impl Summary {
    fn of(satellites: impl Iterator<Item = Satellite>) -> Self {
        let mut sum = Self::default();
        for satellite in satellites {
            sum.seen = sum.seen.saturating_add(1);
            sum.tracked = sum.tracked.saturating_add(u8::from(satellite.cno_db_hz > 0));
            sum.cno_max = sum.cno_max.max(satellite.cno_db_hz);
            if satellite.used {
                sum.used = sum.used.saturating_add(1);
                sum.cno_used_sum = sum.cno_used_sum.saturating_add(satellite.cno_db_hz.into());
            }
        }
        sum
    }

    fn cno_used_mean(&self) -> Option<f64> {
        (self.used > 0).then(|| f64::from(self.cno_used_sum) / f64::from(self.used))
    }
}

impl NavSat {
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let sum = Summary::of(rows(payload, 5)?.chunks_exact(ROW_BYTES).map(of_sat));
        Some(Self {
            itow_ms: Bytes(payload).u32(0),
            seen: sum.seen,
            tracked: sum.tracked,
            used: sum.used,
            cno_max_db_hz: sum.cno_max,
            cno_used_mean_db_hz: sum.cno_used_mean(),
        })
    }
}

impl NavSvinfo {
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let sum = Summary::of(rows(payload, 4)?.chunks_exact(ROW_BYTES).map(of_info));
        Some(Self {
            itow_ms: Bytes(payload).u32(0),
            seen: sum.seen,
            tracked: sum.tracked,
            used: sum.used,
            cno_max_db_hz: sum.cno_max,
            cno_used_mean_db_hz: sum.cno_used_mean(),
        })
    }
}
