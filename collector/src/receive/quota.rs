//! Quotas: how much a device, and the tenant as a whole, may send in a second and in a day.
//!
//! They are kept through credit: who is over its quota is granted nothing until there is room again, and is told
//! so. Nothing is refused: what arrives all the same (an older grant used late) is taken, and counts.

use super::Now;
use super::reassemble::DeviceEpoch;
use headwater_core::id::DevicePath;
use headwater_core::time::{BootNanos, NS_PER_S, UtcNanos};
use headwater_core::wire::WaitReason;
use std::collections::HashMap;

/// Bytes that may come at once under a rate, at least: two of the largest messages, else one would never fit.
const BURST_BYTES_MIN: u64 = 256 << 10;
const NS_PER_DAY: i64 = 86_400 * NS_PER_S;

/// What one party may send; `None` = as much as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    /// Bytes in a second, over about a second.
    pub bytes_per_s: Option<u64>,
    /// Bytes in a day of UTC.
    pub bytes_per_day: Option<u64>,
}

/// `[quota]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaSettings {
    /// Of all devices together.
    pub tenant: Allowance,
    /// Of each device.
    pub device: Allowance,
}

/// Room under the quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// So many bytes may be granted beyond what was received.
    Bytes(u64),
    /// None until then.
    OverUntil(BootNanos, WaitReason),
}

/// What one party sent.
#[derive(Debug, Clone, Copy)]
struct Meter {
    /// Bytes left of the burst, below zero after a late use.
    level: i64,
    filled_at: BootNanos,
    day: i64,
    day_bytes: u64,
}

/// Meters of all devices and of the tenant.
#[derive(Debug)]
pub struct Quotas {
    settings: QuotaSettings,
    tenant: Option<Meter>,
    devices: HashMap<DevicePath, Meter>,
}

impl Quotas {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(settings: QuotaSettings) -> Self {
        Self { settings, tenant: None, devices: HashMap::new() }
    }

    /// Bytes of a device came in.
    pub fn received(&mut self, device: &DevicePath, bytes: u64, now: Now) {
        let QuotaSettings { tenant, device: each } = self.settings;
        if tenant.is_limited() {
            self.tenant.get_or_insert_with(|| Meter::full(&tenant, now)).take(&tenant, bytes, now);
        }
        if each.is_limited() {
            let meter = self.devices.entry(device.clone()).or_insert_with(|| Meter::full(&each, now));
            meter.take(&each, bytes, now);
        }
    }

    /// The same of an earlier life of this receiver, found in a landing log: counts for the day only.
    pub fn replayed(&mut self, device: &DevicePath, bytes: u64, received: UtcNanos, now: Now) {
        if day_of(received) != day_of(now.utc) {
            return;
        }
        let QuotaSettings { tenant, device: each } = self.settings;
        if tenant.bytes_per_day.is_some() {
            let meter = self.tenant.get_or_insert_with(|| Meter::full(&tenant, now));
            meter.day_bytes = meter.day_bytes.saturating_add(bytes);
        }
        if each.bytes_per_day.is_some() {
            let meter = self.devices.entry(device.clone()).or_insert_with(|| Meter::full(&each, now));
            meter.day_bytes = meter.day_bytes.saturating_add(bytes);
        }
    }

    /// How far a device's credit may reach beyond what was received. `charged`: credit of the whole tenant under
    /// way, `least`: fewer bytes than these are of no use to the device.
    #[must_use]
    pub fn room(&self, owner: &DeviceEpoch, charged: u64, least: u64, now: Now) -> Room {
        let QuotaSettings { tenant, device: each } = self.settings;
        let whole = room_of(self.tenant.as_ref(), &tenant, charged, least, now);
        let whole = whole.map_err(|until| Room::OverUntil(until, WaitReason::TenantQuota));
        let own = room_of(self.devices.get(&owner.0), &each, 0, least, now);
        let own = own.map_err(|until| Room::OverUntil(until, WaitReason::DeviceQuota));
        match (own, whole) {
            (Err(over), _) | (Ok(_), Err(over)) => over,
            (Ok(own), Ok(whole)) => Room::Bytes(own.min(whole)),
        }
    }

    /// Bytes of the tenant today, if they are counted.
    #[must_use]
    pub fn tenant_bytes_today(&self) -> Option<u64> {
        self.tenant.map(|meter| meter.day_bytes)
    }

    /// Bytes of a device today, if they are counted.
    #[must_use]
    pub fn device_bytes_today(&self, device: &DevicePath) -> Option<u64> {
        self.devices.get(device).map(|meter| meter.day_bytes)
    }
}

impl Allowance {
    fn is_limited(&self) -> bool {
        self.bytes_per_s.is_some() || self.bytes_per_day.is_some()
    }

    fn burst(rate: u64) -> u64 {
        rate.max(BURST_BYTES_MIN)
    }
}

impl Meter {
    fn full(allowance: &Allowance, now: Now) -> Self {
        let level = allowance.bytes_per_s.map_or(0, Allowance::burst);
        Self { level: signed(level), filled_at: now.boot, day: day_of(now.utc), day_bytes: 0 }
    }

    /// What is there at `now`.
    fn at(self, allowance: &Allowance, now: Now) -> Self {
        let mut meter = self;
        if let Some(rate) = allowance.bytes_per_s {
            let ns = u128::try_from(now.boot.since(meter.filled_at)).unwrap_or(0);
            let filled = u128::from(rate).saturating_mul(ns) / 1_000_000_000;
            // What is below a byte is not lost: the time it took is kept for the next time.
            if filled > 0 {
                let filled = i64::try_from(filled).unwrap_or(i64::MAX);
                meter.level = meter.level.saturating_add(filled).min(signed(Allowance::burst(rate)));
                meter.filled_at = now.boot;
            }
        }
        if meter.day != day_of(now.utc) {
            (meter.day, meter.day_bytes) = (day_of(now.utc), 0);
        }
        meter
    }

    fn take(&mut self, allowance: &Allowance, bytes: u64, now: Now) {
        *self = self.at(allowance, now);
        self.level = self.level.saturating_sub(signed(bytes));
        self.day_bytes = self.day_bytes.saturating_add(bytes);
    }
}

/// Bytes of room, or when there is enough.
fn room_of(
    meter: Option<&Meter>,
    allowance: &Allowance,
    charged: u64,
    least: u64,
    now: Now,
) -> Result<u64, BootNanos> {
    if !allowance.is_limited() {
        return Ok(u64::MAX);
    }
    let meter = meter.map_or_else(|| Meter::full(allowance, now), |meter| meter.at(allowance, now));
    let today = allowance.bytes_per_day.map_or(u64::MAX, |limit| limit.saturating_sub(meter.day_bytes));
    if today.saturating_sub(charged) < least {
        // Credit under way may come back unused, so a day that is only nearly over is looked at again soon.
        let spent = today < least;
        let ns = if spent { NS_PER_DAY.saturating_sub(now.utc.0.rem_euclid(NS_PER_DAY)) } else { NS_PER_S };
        return Err(now.boot.plus_ns(ns));
    }
    let mut room = today.saturating_sub(charged);
    if let Some(rate) = allowance.bytes_per_s {
        let level = u64::try_from(meter.level).unwrap_or(0).saturating_sub(charged);
        if level < least {
            let lacking = signed(least.saturating_add(charged)).saturating_sub(meter.level).max(0);
            let ns = i128::from(lacking).saturating_mul(1_000_000_000) / i128::from(rate.max(1));
            let ns = i64::try_from(ns).unwrap_or(i64::MAX);
            return Err(now.boot.plus_ns(ns.clamp(1_000_000, NS_PER_S)));
        }
        room = room.min(level);
    }
    Ok(room)
}

fn day_of(utc: UtcNanos) -> i64 {
    utc.0.div_euclid(NS_PER_DAY)
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
