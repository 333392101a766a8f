//! Checks `[[source]]` of what describes itself: sensors of the kernel, this machine, gpsd.

use super::clock::GPSD_DEFAULT;
use super::mistake::{Mistake, Mistakes};
use super::raw::RawSource;
use super::settings::{GpsdSettings, SourceKind, SysWhat};
use std::path::Path;
use std::time::Duration;

/// Shortest time between looks, ms: a look takes some.
const EVERY_MS_MIN: u64 = 100;
/// Longest, ms: what a look less often tells is not known to be so in between.
const EVERY_MS_MAX: u64 = 3_600_000;
/// Unless said otherwise, ms.
const EVERY_MS_DEFAULT: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Builtin {
    Iio,
    Hwmon,
    W1,
    Host,
    Gpsd,
}

/// What a source of type `of` is.
pub(super) fn kind(
    of: Builtin,
    raw: &RawSource,
    path: &str,
    folder: &Path,
    mistakes: &mut Mistakes,
) -> Option<SourceKind> {
    let what = match of {
        Builtin::Iio => SysWhat::Iio,
        Builtin::Hwmon => SysWhat::Hwmon,
        Builtin::W1 => SysWhat::W1,
        Builtin::Host => SysWhat::Host { dir: folder.join(raw.dir.as_deref().unwrap_or("/")) },
        Builtin::Gpsd => return gpsd(raw, path, mistakes),
    };
    every(raw.every.as_deref(), &format!("{path}.every"), mistakes)
        .map(|every| SourceKind::Sys { what, every })
}

fn every(text: Option<&str>, path: &str, mistakes: &mut Mistakes) -> Option<Duration> {
    let Some(text) = text else { return Some(Duration::from_millis(EVERY_MS_DEFAULT)) };
    let ms = duration_ms(text).filter(|ms| (EVERY_MS_MIN..=EVERY_MS_MAX).contains(ms));
    if ms.is_none() {
        let mistake = Mistake::new(path, "a time from 100ms to 1h", format!("{text:?}"));
        mistakes.push(mistake.hint("write it with its unit, such as \"10s\", \"500ms\" or \"5min\""));
    }
    ms.map(Duration::from_millis)
}

/// Milliseconds of a time such as `10s`.
fn duration_ms(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("min", 60_000), ("h", 3_600_000), ("s", 1_000)];
    let text = text.trim();
    let (number, unit) = UNITS.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)))?;
    number.trim_end().parse::<u64>().ok()?.checked_mul(unit)
}

fn gpsd(raw: &RawSource, path: &str, mistakes: &mut Mistakes) -> Option<SourceKind> {
    let at = match raw.address.as_deref().map(str::parse) {
        None => Some(GPSD_DEFAULT),
        Some(Ok(at)) => Some(at),
        Some(Err(_)) => {
            let found = format!("{:?}", raw.address.as_deref().unwrap_or_default());
            let mistake = Mistake::new(format!("{path}.address"), "an address and a port", found);
            mistakes.push(mistake.hint("such as \"127.0.0.1:2947\""));
            None
        }
    };
    let sky = format!("{}/sky", raw.stream.as_deref().unwrap_or_default()).parse();
    // A name that is none was told already.
    let fits =
        raw.stream.as_deref().is_some_and(|stream| stream.parse::<headwater_core::id::StreamName>().is_ok());
    if sky.is_err() && fits {
        let found = format!("{:?}", raw.stream.as_deref().unwrap_or_default());
        mistakes.push(
            Mistake::new(format!("{path}.stream"), "a name that leaves room for /sky", found)
                .hint("shorten it"),
        );
    }
    let receiver = raw.receiver.clone().filter(|receiver| !receiver.is_empty());
    Some(SourceKind::Gpsd(GpsdSettings { at: at?, receiver, sky: sky.ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        let ms = duration_ms;
        assert_eq!(
            (ms("10s"), ms("500ms"), ms("5 min"), ms("1h")),
            (Some(10_000), Some(500), Some(300_000), Some(3_600_000))
        );
        for bad in ["", "10", "s", "-1s", "1.5s", "10 seconds", "18446744073709551615h"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }
}
