//! Reads what `rpicam-vid --metadata FILE` writes for every frame, as JSON or as `--metadata-format txt`.
//!
//! The program flushes after each line, but writes a frame's closing brace only together with the next frame. So a
//! frame ends with its last line: in JSON the one without a comma behind it, in text the empty one.
//! (`--save-pts` counts from the first frame and says nothing of any clock.)

use super::{SensorStamp, StampClock, StampPoint};

/// Longest line, bytes: the longest arrays (a noise profile) stay below 1 KiB.
const LINE_BYTES_MAX: usize = 4_096;

/// The lines of one run of the program.
#[derive(Debug, Default)]
pub struct RpicamLines {
    line: Vec<u8>,
    overlong: bool,
    frame: Frame,
}

#[derive(Debug, Default)]
struct Frame {
    sensor_ns: Option<i64>,
    exposure_us: Option<i64>,
    duration_us: Option<i64>,
    lines: usize,
}

impl RpicamLines {
    /// Takes bytes; gives a stamp for each frame they complete, `None` for a frame without one.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Option<SensorStamp>> {
        let mut frames = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                if !std::mem::take(&mut self.overlong) {
                    self.line(&String::from_utf8_lossy(&line), &mut frames);
                }
            } else if self.line.len() < LINE_BYTES_MAX {
                self.line.push(*byte);
            } else {
                // Its head may look like a key: it counts for nothing.
                self.overlong = true;
            }
        }
        frames
    }

    fn line(&mut self, line: &str, frames: &mut Vec<Option<SensorStamp>>) {
        let text = line.trim();
        let json = text.strip_prefix('"').and_then(|rest| rest.split_once("\":"));
        if let Some((key, value)) = json {
            let value = value.trim();
            self.value(key, value.strip_suffix(',').unwrap_or(value));
            if !value.ends_with(',') {
                self.complete(frames);
            }
        } else if let Some((key, value)) = text.split_once('=') {
            self.value(key, value);
        } else if text.is_empty() && self.frame.lines > 0 {
            self.complete(frames);
        }
        // Brackets, braces and lone commas say nothing more.
    }

    fn value(&mut self, key: &str, value: &str) {
        let number = || value.trim().parse::<i64>().ok().filter(|number| *number >= 0);
        self.frame.lines = self.frame.lines.saturating_add(1);
        match key {
            "SensorTimestamp" => self.frame.sensor_ns = number(),
            "ExposureTime" => self.frame.exposure_us = number(),
            "FrameDuration" => self.frame.duration_us = number(),
            _ => {}
        }
    }

    fn complete(&mut self, frames: &mut Vec<Option<SensorStamp>>) {
        let frame = std::mem::take(&mut self.frame);
        let us = |us: Option<i64>| us.map(|us| us.saturating_mul(1_000));
        frames.push(frame.sensor_ns.map(|ns| SensorStamp {
            ns,
            clock: StampClock::BootOrMonotonic,
            point: StampPoint::FrameStart,
            exposure_ns: us(frame.exposure_us),
            frame_ns: us(frame.duration_us),
            bytes: None,
        }));
    }
}
