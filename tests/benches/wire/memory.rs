//! How much memory a batch takes while it is encoded and decoded: the process's high-water mark, reset before.

use super::stream::Stream;
use super::{NAME, told};
use crate::figure::Sheet;
use anyhow::{Context, Result};
use headwater_core::batch::{Announced, Effort, Encoder, Limits, decode_batch};
use serde_json::json;
use std::path::Path;

/// Rows of the batch: as many frames as a message of 96 KiB holds by far.
const ROWS: usize = 10_000;

/// Measures the largest batch of the bus first, while nothing else has filled the allocator.
pub(super) fn measure(data: &Path, sheet: &mut Sheet) -> Result<()> {
    let path = data.join("can_j1939.csv");
    if !path.exists() {
        return Ok(());
    }
    let stream = Stream::read(&path)?;
    let rows = ROWS.min(stream.t_ns.len());
    let section = stream.section(0..rows);
    for effort in [Effort::Spool, Effort::Wire, Effort::Metered] {
        let announced = if effort == Effort::Spool { Announced::SPOOL } else { Announced::OURS };
        let mut encoder = Encoder::new(effort, announced);
        let mut body = Vec::new();
        let encode = peak(|| body = encoder.encode(std::slice::from_ref(&section)))?;
        let mut back = None;
        let decode = peak(|| back = decode_batch(&body, &Limits::V1).ok())?;
        back.context("the batch does not read back")?;
        let case = json!({"stream": "can_j1939", "batch": format!("r{rows}"), "effort": told(effort)});
        let beside = json!({"decode": decode, "raw": super::stream::raw_bytes_of(&section) as f64 / 1e6});
        sheet.add(NAME, case, "encode_peak_memory", encode, "MB", beside);
    }
    Ok(())
}

/// Resident memory above what stood before, at its highest during `work`, MB.
fn peak(work: impl FnOnce()) -> Result<f64> {
    std::fs::write("/proc/self/clear_refs", "5").context("failed to reset the high-water mark")?;
    let before = status_kb("VmRSS:")?;
    work();
    Ok((status_kb("VmHWM:")? - before) / 1e3)
}

fn status_kb(field: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no memory figures here")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
