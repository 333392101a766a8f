//! Hours of the day in which something may go, as `22:00-06:00`, in UTC.

use headwater_core::time::UtcNanos;

const DAY_MINUTES: u16 = 24 * 60;
const NS_PER_MINUTE: i64 = 60_000_000_000;

/// From one minute of the UTC day to another; over midnight if the end is before the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from_minute: u16,
    to_minute: u16,
}

/// Not a span of hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("hours are written as 22:00-06:00, in UTC")]
pub struct HoursError;

impl std::str::FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        let (from, to) = text.split_once('-').ok_or(HoursError)?;
        let (from_minute, to_minute) = (minute(from)?, minute(to)?);
        if from_minute == to_minute || from_minute == DAY_MINUTES {
            return Err(HoursError);
        }
        Ok(Self { from_minute, to_minute })
    }
}

fn minute(text: &str) -> Result<u16, HoursError> {
    let (hour, minute) = text.trim().split_once(':').ok_or(HoursError)?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return Err(HoursError);
    }
    let (hour, minute): (u16, u16) =
        (hour.parse().map_err(|_| HoursError)?, minute.parse().map_err(|_| HoursError)?);
    let of_day = hour.saturating_mul(60).saturating_add(minute);
    if minute < 60 && of_day <= DAY_MINUTES { Ok(of_day) } else { Err(HoursError) }
}

impl Hours {
    fn hold(self, utc: UtcNanos) -> bool {
        let minutes = utc.0.div_euclid(NS_PER_MINUTE).rem_euclid(DAY_MINUTES.into());
        let now = u16::try_from(minutes).unwrap_or(0);
        if self.from_minute < self.to_minute {
            (self.from_minute..self.to_minute).contains(&now)
        } else {
            now >= self.from_minute || now < self.to_minute
        }
    }
}

/// When something may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    /// At any time.
    Always,
    /// In these hours, once the wall clock is known.
    In(Vec<Hours>),
    /// Not over this link.
    Never,
}

impl Permit {
    /// True if it may go at this time; `None` if the time is not known.
    #[must_use]
    pub fn is_open(&self, utc: Option<UtcNanos>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::In(hours) => utc.is_some_and(|utc| hours.iter().any(|span| span.hold(utc))),
        }
    }
}
