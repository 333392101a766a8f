//! Every target for a moment: what a change breaks at once. Longer runs: see the crate's first page.

use headwater_fuzz::driver::{Bounds, run};
use headwater_fuzz::probe::Probe;
use headwater_fuzz::targets::ALL;

/// Seconds of each target.
const SECONDS: u64 = 1;
/// Unoptimised code beside other tests is watched for panics and memory, hardly for its speed.
const SLOWER: u64 = 60;

#[test]
fn hostile_bytes_break_no_promise() {
    let mut broken = Vec::new();
    for target in &ALL {
        let mut probe = Probe::default();
        probe.cpu_ns_max *= SLOWER;
        let report = run(target, Bounds { runs: 20_000, seconds: SECONDS, seed: 1 }, probe);
        println!(
            "{}: {} runs, {} outcomes, {} caught",
            target.name, report.runs, report.outcomes, report.caught
        );
        if let Some((input, why)) = report.finding {
            broken.push(format!("{}: {why}\n{input:?}", target.name));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
