//! How many samples a second one core places.

use super::NAME;
use crate::figure::Sheet;
use anyhow::{Result, ensure};
use headwater_core::time::boots::{Boots, Query};
use headwater_core::time::track::Params;
use headwater_core::time::{BootNanos, NS_PER_S};
use headwater_sim::clocks::judge::learned;
use headwater_sim::clocks::{Plan, SimulatedDevice, Sources, Trouble};
use headwater_tests::ticks::now;
use serde_json::json;
use std::hint::black_box;

/// Samples of a pass: a day at 100 Hz.
const SAMPLES: i64 = 8_640_000;
/// Samples of a batch: what one commit asks for at once.
const BATCH: usize = 65_536;
/// Passes: the fastest counts.
const PASSES: usize = 5;

pub(super) fn measure(sheet: &mut Sheet) -> Result<()> {
    let day = Plan { trouble: Trouble::default(), ..Plan::lte_day() };
    let three = Sources { exchange: true, chrony: true, pps_latency_ns: Some(500_000), ..Sources::default() };
    for (name, plan) in [("one source", day), ("three sources", Plan { sources: three, ..day })] {
        let device = SimulatedDevice::new(1, &plan);
        let Some(boot) = device.boots.first() else { continue };
        let mut compile_s = f64::INFINITY;
        let mut boots = Boots::default();
        for _ in 0..PASSES {
            boots = learned(&device, &Params::default());
            let start = now();
            black_box(boots.track(boot.ordinal));
            compile_s = compile_s.min(start.elapsed().as_secs_f64());
        }
        let queries: Vec<Query> =
            (0..SAMPLES).map(|n| Query { event: BootNanos(n * NS_PER_S / 100), half_ns: 500 }).collect();
        let (mut place_s, mut resolve_s, mut sum) = (f64::INFINITY, f64::INFINITY, 0_i64);
        for _ in 0..PASSES {
            let start = now();
            let moments = queries.iter().map(|query| query.event);
            boots.place_sorted(boot.ordinal, moments, |placed| sum = sum.wrapping_add(placed.ts));
            place_s = place_s.min(start.elapsed().as_secs_f64());
            let start = now();
            for batch in queries.chunks(BATCH) {
                let answers = boots.resolve(boot.ordinal, batch);
                ensure!(answers.len() == batch.len(), "an answer for each question");
                sum = sum.wrapping_add(answers.last().map_or(0, |answer| answer.ts.0));
            }
            resolve_s = resolve_s.min(start.elapsed().as_secs_f64());
        }
        black_box(sum);
        let rate = |seconds: f64| SAMPLES as f64 / 1e6 / seconds.max(1e-9);
        let points: (usize, usize) = boots
            .track(boot.ordinal)
            .segments()
            .iter()
            .fold((0, 0), |sum, segment| (sum.0 + segment.points.0, sum.1 + segment.points.1));
        let beside = json!({
            "with sorting and half widths": rate(resolve_s), "target": 20.0, "points": points.0 + points.1,
            "compiling ms": compile_s * 1e3,
        });
        sheet.add(NAME, json!({"samples": name}), "placed on one core", rate(place_s), "M/s", beside);
    }
    Ok(())
}
