//! The clocks of attached devices, as the collector's tracks know them.

use super::raw_rows::DeviceClocks;
use crate::resolve::{ClockTracks, Incoming};
use headwater_core::id::{BootOrdinal, DeviceId, Epoch};
use headwater_core::time::{ClockDomain, clamp_i64};

impl DeviceClocks for ClockTracks {
    fn on_boot(
        &self,
        (device, epoch, boot): (&DeviceId, Epoch, BootOrdinal),
        domain: ClockDomain,
        moments: &[i64],
    ) -> Option<Vec<(i64, i64)>> {
        let placed = ClockTracks::on_boot(self, Incoming { device, epoch, boot }, domain, moments)?;
        let place = |one: &headwater_core::time::device::OnBoot| {
            let wide = |a: i64, b: i64| i128::from(a) - i128::from(b);
            let bound = wide(one.span.hi, one.at).max(wide(one.at, one.span.lo));
            (one.at, clamp_i64(bound))
        };
        Some(placed.iter().map(place).collect())
    }
}
