//! Bodies made to cost as much as the limits allow: what each takes, and that it stays in its bounds.

use headwater_core::batch::{Limits, Section, decode_batch};
use headwater_fuzz::corpus::bombs;
use headwater_fuzz::probe::Probe;

#[test]
fn the_dearest_bodies_stay_in_bounds() {
    for (at, body) in bombs().iter().enumerate() {
        let mut probe = Probe::default();
        // Unoptimised: watched for memory; `--profile fuzz` shows the time.
        probe.cpu_ns_max *= 60;
        let batch = probe.decode(|| decode_batch(body, &Limits::V1)).expect("framing is right");
        let (rows, why) = match &batch.sections[0] {
            Section::Rows(rows) => (rows.len(), String::new()),
            Section::Refused(refused) => (0, refused.why.to_string()),
            Section::Heartbeat(_) => (0, String::new()),
        };
        println!("{at}: {:.1} ms, {} KiB, {rows} rows {why}", probe.cpu_ns as f64 / 1e6, probe.bytes >> 10);
        // All but the one whose sections are there to be refused.
        assert!(
            rows > 0 || batch.sections.len() > 1 || why.contains("limit") || why.contains("more than"),
            "{why}"
        );
    }
}
