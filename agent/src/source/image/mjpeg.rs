//! Splits a stream of JPEGs into pictures by their markers, so that a thumbnail inside one splits nothing.

use super::jpeg::{JpegWalk, Walked};
use super::{ImageFault, Picture};

/// Largest picture accepted, bytes: a 12 megapixel camera at best quality stays below 10 MB.
pub const IMAGE_BYTES_MAX: usize = 16 << 20;

/// What a stream of pictures holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MjpegEvent {
    /// A whole picture.
    Picture(Picture, Vec<u8>),
    /// What began as one and is none.
    Fault(ImageFault, Vec<u8>),
}

/// The splitter.
#[derive(Debug, Default)]
pub struct Mjpeg {
    held: Vec<u8>,
    walk: JpegWalk,
    noise: u64,
}

impl Mjpeg {
    /// Takes bytes; gives what they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<MjpegEvent> {
        self.held.extend_from_slice(bytes);
        let mut events = Vec::new();
        loop {
            if !self.find_start() {
                return events;
            }
            match self.walk.walk(&self.held) {
                Walked::More if self.held.len() <= IMAGE_BYTES_MAX => return events,
                Walked::More => {
                    let what = "picture is larger than any camera's";
                    self.fault(
                        ImageFault::Broken { at: IMAGE_BYTES_MAX, what },
                        self.held.len(),
                        &mut events,
                    );
                }
                Walked::Whole { end, width, height } => {
                    let rest = self.held.split_off(end.min(self.held.len()));
                    let whole = std::mem::replace(&mut self.held, rest);
                    self.walk = JpegWalk::default();
                    let picture = Picture { mime: "image/jpeg", width: width.into(), height: height.into() };
                    events.push(MjpegEvent::Picture(picture, whole));
                }
                // What is wrong may be the start of the next picture.
                Walked::Broken { at, what } => {
                    self.fault(ImageFault::Broken { at, what }, at.max(2), &mut events);
                }
            }
        }
    }

    /// The stream ended: what is left of a picture is none.
    pub fn ended(&mut self) -> Option<MjpegEvent> {
        self.walk = JpegWalk::default();
        let held = std::mem::take(&mut self.held);
        match held.len() {
            0 | 1 => None,
            bytes => Some(MjpegEvent::Fault(ImageFault::CutOff { bytes }, held)),
        }
    }

    /// Bytes between pictures since the last call.
    pub fn take_noise(&mut self) -> u64 {
        std::mem::take(&mut self.noise)
    }

    fn fault(&mut self, fault: ImageFault, cut: usize, events: &mut Vec<MjpegEvent>) {
        let rest = self.held.split_off(cut.min(self.held.len()));
        let broken = std::mem::replace(&mut self.held, rest);
        self.walk = JpegWalk::default();
        events.push(MjpegEvent::Fault(fault, broken));
    }

    /// Drops bytes before the next start of image; true if one is there.
    fn find_start(&mut self) -> bool {
        if self.held.starts_with(&[0xff, 0xd8]) {
            return true;
        }
        let start = self.held.windows(2).position(|pair| pair == [0xff, 0xd8]);
        let keep_last = usize::from(self.held.last() == Some(&0xff));
        let drop = start.unwrap_or(self.held.len().saturating_sub(keep_last));
        self.noise = self.noise.saturating_add(drop as u64);
        self.held.drain(..drop);
        start.is_some()
    }
}
