//! What late correction rewrites: rows resolved as they landed, against what is known at the end of the day.

use super::NAME;
use crate::figure::Sheet;
use headwater_core::time::amend::{Amended, rows_to_amend};
use headwater_core::time::boots::{Query, Resolved};
use headwater_core::time::track::Params;
use headwater_core::time::{BootNanos, NS_PER_S};
use headwater_sim::clocks::judge::{learned, learned_by};
use headwater_sim::clocks::{Plan, SimulatedDevice};
use serde_json::json;

/// Rows land this often, ns.
const LANDING_NS: i64 = 600 * NS_PER_S;
/// A row each, ns.
const ROW_NS: i64 = 10 * NS_PER_S;

pub(super) fn measure(days: u64, from: u64, sheet: &mut Sheet) {
    let params = Params::default();
    let mut sum = Amended::default();
    for seed in from..from + days {
        let device = SimulatedDevice::new(seed, &Plan::lte_day());
        let last = learned(&device, &params);
        let Some(boot) = device.boots.first() else { continue };
        let (mut stored, mut now): (Vec<Resolved>, Vec<Resolved>) = (Vec::new(), Vec::new());
        let mut landed = 0;
        while landed < boot.length_ns {
            let rows = |n: i64| Query { event: BootNanos(landed + n * ROW_NS), half_ns: 0 };
            let queries: Vec<Query> = (0..LANDING_NS / ROW_NS).map(rows).collect();
            landed += LANDING_NS;
            let then = learned_by(&device, &params, boot.utc(landed) + 60 * NS_PER_S);
            stored.extend(then.resolve(boot.ordinal, &queries));
            now.extend(last.resolve(boot.ordinal, &queries));
        }
        let (_, counts) = rows_to_amend(stored.iter().zip(&now));
        sum.rows += counts.rows;
        sum.risen += counts.risen;
        sum.moved += counts.moved;
        sum.kept_wide += counts.kept_wide;
    }
    let share = |n: u64| 100.0 * n as f64 / sum.rows.max(1) as f64;
    let beside = json!({
        "grade rises %": share(sum.risen), "time moves %": share(sum.moved),
        "kept though twice as wide as need be %": share(sum.kept_wide), "rows": sum.rows,
    });
    let case = json!({"mix": "lte", "device-days": days});
    sheet.add(NAME, case, "rows rewritten by late correction", share(sum.risen + sum.moved), "%", beside);
}
