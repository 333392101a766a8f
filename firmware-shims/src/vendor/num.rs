//! Numbers inside a frame whose length was checked.

/// Bytes of a payload. What lies beyond their end reads as zero: callers check lengths, and MAVLink 2 cuts zeros off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn array<const W: usize>(self, at: usize) -> [u8; W] {
        let mut out = [0; W];
        let rest = self.0.get(at..).unwrap_or_default();
        for (slot, byte) in out.iter_mut().zip(rest) {
            *slot = *byte;
        }
        out
    }

    pub(super) fn slice(self, at: usize, len: usize) -> &'a [u8] {
        let rest = self.0.get(at..).unwrap_or_default();
        rest.get(..len).unwrap_or(rest)
    }

    pub(super) fn u8(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    pub(super) fn i8(self, at: usize) -> i8 {
        i8::from_le_bytes(self.array(at))
    }

    /// Little-endian, 2 bytes.
    pub(super) fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    pub(super) fn i16(self, at: usize) -> i16 {
        i16::from_le_bytes(self.array(at))
    }

    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    pub(super) fn i32(self, at: usize) -> i32 {
        i32::from_le_bytes(self.array(at))
    }

    pub(super) fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    pub(super) fn f32(self, at: usize) -> f32 {
        f32::from_le_bytes(self.array(at))
    }

    /// Big-endian, 2 bytes.
    pub(super) fn u16_be(self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    /// Whether bit `bit` of the byte at `at` is set.
    pub(super) fn bit(self, at: usize, bit: u32) -> bool {
        self.u8(at).checked_shr(bit).unwrap_or(0) & 1 == 1
    }
}

/// UTC of a civil date and time of day, ns since 1970; `None` for a date that is none, and before 1970 or after 2200.
///
/// A leap second (60) is read as the second after it. `nano` may be negative, as in u-blox messages.
pub(super) fn utc_ns(date: (u16, u8, u8), time: (u8, u8, u8), nano: i32) -> Option<i64> {
    let (year, month, day) = (i64::from(date.0), i64::from(date.1), i64::from(date.2));
    let (hour, minute, second) = (i64::from(time.0), i64::from(time.1), i64::from(time.2));
    let leap = year.checked_rem(4)? == 0 && (year.checked_rem(100)? != 0 || year.checked_rem(400)? == 0);
    let month_days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let plausible = (1_970..=2_200).contains(&year)
        && (1..=month_days).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    if !plausible {
        return None;
    }
    // Days since 1970-01-01, years counted from March so that the leap day is the last.
    let from_march = month.saturating_add(9).checked_rem(12)?;
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let day_of_year = from_march
        .saturating_mul(153)
        .saturating_add(2)
        .checked_div(5)?
        .saturating_add(day)
        .saturating_sub(1);
    let days = year
        .saturating_mul(365)
        .saturating_add(year.checked_div(4)?)
        .saturating_sub(year.checked_div(100)?)
        .saturating_add(year.checked_div(400)?)
        .saturating_add(day_of_year)
        .saturating_sub(719_468);
    let seconds = days
        .saturating_mul(24)
        .saturating_add(hour)
        .saturating_mul(60)
        .saturating_add(minute)
        .saturating_mul(60)
        .saturating_add(second);
    seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(nano))
}
