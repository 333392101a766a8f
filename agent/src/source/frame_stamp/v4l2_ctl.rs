//! Reads what `v4l2-ctl --stream-mmap --stream-to=- --verbose` says of each buffer on its standard error.
//!
//! ```text
//! cap dqbuf: 1 seq:      2 bytesused: 512000 ts: 137342.484954 delta: 64.003 ms dropped: 1 (ts-monotonic, ts-src-soe)
//! ```

use super::{SensorStamp, StampClock, StampPoint};

/// Longest line, bytes.
const LINE_BYTES_MAX: usize = 1_024;

/// The lines of one run of the program.
#[derive(Debug, Default)]
pub struct V4l2CtlLines {
    line: Vec<u8>,
    overlong: bool,
}

impl V4l2CtlLines {
    /// Takes bytes; gives a stamp for each buffer they tell of, `None` for one whose line cannot be read.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Option<SensorStamp>> {
        let mut frames = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    if !std::mem::take(&mut self.overlong) {
                        frames.extend(buffer(&String::from_utf8_lossy(&line)));
                    }
                }
                byte if self.line.len() < LINE_BYTES_MAX => self.line.push(*byte),
                _ => self.overlong = true,
            }
        }
        frames
    }
}

/// The buffer a line tells of, if it is one whose frame is written out.
fn buffer(line: &str) -> Option<Option<SensorStamp>> {
    let of_capture = line.trim_start().starts_with("cap dqbuf:");
    if !of_capture {
        return None;
    }
    let flags =
        line.rsplit_once('(').map(|(_, flags)| flags.trim_end().trim_end_matches(')')).unwrap_or_default();
    let flags: Vec<&str> = flags.split(',').map(str::trim).collect();
    // Damaged buffers are told of and left out.
    if flags.contains(&"error") {
        return None;
    }
    let word = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split_whitespace().next()
    };
    let ns = word(" ts:").and_then(nanos);
    let point = if flags.contains(&"ts-src-soe") { StampPoint::ExposureStart } else { StampPoint::FrameEnd };
    let clock = if flags.contains(&"ts-monotonic") { StampClock::Monotonic } else { StampClock::Foreign };
    let bytes = word("bytesused:").and_then(|bytes| bytes.parse().ok());
    Some(ns.map(|ns| SensorStamp { ns, clock, point, exposure_ns: None, frame_ns: None, bytes }))
}

/// Seconds and microseconds as integers: as a float 137342.484954 would be rounded.
fn nanos(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.')?;
    let micros: i64 = (fraction.len() == 6).then(|| fraction.parse().ok())??;
    let seconds: i64 = seconds.parse().ok().filter(|seconds| *seconds >= 0)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(micros.checked_mul(1_000)?)
}
