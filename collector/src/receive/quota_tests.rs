//! Quotas of a second and of a day.

use super::*;
use crate::receive::testkit::{EPOCH, now, path};

const MESSAGE: u64 = 96 << 10;

fn owner(name: &str) -> DeviceEpoch {
    (path(name), EPOCH)
}

fn device(bytes_per_s: Option<u64>, bytes_per_day: Option<u64>) -> Quotas {
    let device = Allowance { bytes_per_s, bytes_per_day };
    Quotas::new(QuotaSettings { device, ..QuotaSettings::default() })
}

#[test]
fn without_quotas_there_is_always_room_and_nothing_is_kept() {
    let mut quotas = Quotas::new(QuotaSettings::default());
    quotas.received(&path("pi-1"), u64::MAX, now(0));
    assert_eq!(quotas.room(&owner("pi-1"), u64::MAX, MESSAGE, now(0)), Room::Bytes(u64::MAX));
    assert_eq!((quotas.tenant_bytes_today(), quotas.device_bytes_today(&path("pi-1"))), (None, None));
}

#[test]
fn a_rate_is_kept_over_time_and_lets_the_largest_message_through() {
    let mut quotas = device(Some(20_000), None);
    let mut sent = 0;
    for ms in (0..100_000).step_by(10) {
        if let Room::Bytes(room) = quotas.room(&owner("pi-1"), 0, MESSAGE, now(ms)) {
            assert!(room >= MESSAGE);
            quotas.received(&path("pi-1"), MESSAGE, now(ms));
            sent += MESSAGE;
        }
    }
    assert!((1_900_000..=2_000_000 + BURST_BYTES_MIN).contains(&sent), "{sent} bytes in 100 s at 20 kB/s");
    let over = quotas.room(&owner("pi-1"), 0, MESSAGE, now(100_000));
    assert!(matches!(over, Room::OverUntil(_, WaitReason::DeviceQuota)), "{over:?}");
    assert_eq!(quotas.room(&owner("pi-2"), 0, MESSAGE, now(0)), Room::Bytes(BURST_BYTES_MIN), "each its own");
}

#[test]
fn a_day_is_over_at_midnight_utc_and_outlives_a_restart() {
    let mut quotas = device(None, Some(1 << 20));
    // The test clock starts at 14:13:20 of its day.
    quotas.replayed(&path("pi-1"), 900 << 10, now(-60_000).utc, now(0));
    quotas.replayed(&path("pi-1"), 900 << 20, now(-86_400_000).utc, now(0));
    assert_eq!(quotas.room(&owner("pi-1"), 0, MESSAGE, now(0)), Room::Bytes(124 << 10));
    quotas.received(&path("pi-1"), 100 << 10, now(0));
    let Room::OverUntil(until, WaitReason::DeviceQuota) = quotas.room(&owner("pi-1"), 0, MESSAGE, now(0))
    else {
        panic!("over")
    };
    let midnight = (24 * 3_600 - (14 * 3_600 + 13 * 60 + 20)) * 1_000;
    assert_eq!(until, now(midnight).boot);
    assert_eq!(quotas.room(&owner("pi-1"), 0, MESSAGE, now(midnight)), Room::Bytes(1 << 20));
}

#[test]
fn a_tenant_counts_what_is_under_way() {
    let tenant = Allowance { bytes_per_s: None, bytes_per_day: Some(1 << 20) };
    let mut quotas = Quotas::new(QuotaSettings { tenant, ..QuotaSettings::default() });
    quotas.received(&path("pi-1"), 100 << 10, now(0));
    assert_eq!(quotas.room(&owner("pi-2"), 600 << 10, MESSAGE, now(0)), Room::Bytes(324 << 10));
    // Nearly over by what others hold: looked at again soon, since that may come back.
    let soon = quotas.room(&owner("pi-2"), 900 << 10, MESSAGE, now(0));
    assert_eq!(soon, Room::OverUntil(now(1_000).boot, WaitReason::TenantQuota));
}
