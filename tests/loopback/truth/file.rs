//! The truth of a run as a file, for readers that are not ours.

use super::{NextSeqs, TruthError, read_env};
use crate::players::Emitted;
use std::path::Path;

/// Writes what was emitted and what the spool says it captured to `path`, one JSON object a line, so
/// that other people's readers can be held against it. Numbers are given as their bits.
///
/// # Errors
/// [`TruthError::File`].
pub fn write_truth(
    path: &Path,
    emitted: &Emitted,
    env_truth: &Path,
    spool: &NextSeqs,
) -> Result<(), TruthError> {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut line = |value: serde_json::Value| {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "{value}");
    };
    for ((epoch, stream), next_seq) in spool {
        line(serde_json::json!({"of": "spool", "epoch": epoch, "stream": stream, "next_seq": next_seq}));
    }
    for (n, f32_bits) in &emitted.imu {
        line(serde_json::json!({"of": "imu", "n": n, "f32_bits": f32_bits}));
    }
    for (utc_ns, cycle) in &emitted.gps {
        let sentences = String::from_utf8_lossy(&cycle.sentences);
        line(
            serde_json::json!({"of": "gps", "utc_ns": utc_ns, "times": cycle.times, "sentences": sentences}),
        );
    }
    for (name, hash) in &emitted.camera {
        line(serde_json::json!({"of": "image", "name": name, "sha256": hash.to_string()}));
    }
    for (n, values) in read_env(env_truth)? {
        let f64_bits: Vec<u64> = values.iter().map(|x| x.to_bits()).collect();
        line(serde_json::json!({"of": "env", "n": n, "f64_bits": f64_bits}));
    }
    std::fs::write(path, text).map_err(|source| TruthError::File { path: path.display().to_string(), source })
}
