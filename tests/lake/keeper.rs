//! The keeper's work: collecting garbage, and checking that nothing is lost.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use async_trait::async_trait;
use headwater_lake::{CheckOptions, GcOptions, Keep, Lake, Settle};
use std::time::Duration;

struct AtOnce;

#[async_trait]
impl Settle for AtOnce {
    async fn settle(&self, _: Duration) {}
}

/// Collects until there is nothing more; gives how many objects went.
pub(crate) async fn collect(lake: &Lake, now_us: i64) -> u64 {
    let options = GcOptions::new(now_us, "keeper".to_owned());
    let mut objects = 0;
    loop {
        let report = lake.collect_garbage(&options, &AtOnce, &mut |_| {}).await.unwrap();
        objects += report.total().objects;
        if !report.more {
            return objects;
        }
    }
}

/// Every file is read and held against its name; nothing may be wrong.
pub(crate) async fn check(lake: &Lake, now_us: i64) {
    let options = CheckOptions { now_us, keep: Keep::default(), checksums: true };
    let report = lake.check(&options, &mut |_| {}).await.unwrap();
    assert!(report.findings.is_empty() && report.findings_left_out == 0, "{:?}", report.findings);
}
