//! Walks the markers of a JPEG from SOI over SOF and SOS to EOI, as far as bytes are there.

use super::{ImageFault, Picture};

/// What a step of the walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// More bytes are needed.
    More,
    /// The picture ends before this offset.
    Whole {
        /// Offset after EOI.
        end: usize,
        /// Pixels across.
        width: u16,
        /// Pixels down.
        height: u16,
    },
    /// It cannot be one; the rest may begin at this offset.
    Broken {
        /// Offset of what is wrong.
        at: usize,
        /// What.
        what: &'static str,
    },
}

/// Where a walk stands: it can be resumed when more bytes came, so that work stays linear.
#[derive(Debug, Clone, Copy, Default)]
pub struct JpegWalk {
    at: usize,
    begun: bool,
    in_scan: bool,
    scans: u32,
    size: Option<(u16, u16)>,
}

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DNL: u8 = 0xdc;
const TEM: u8 = 0x01;

impl JpegWalk {
    /// Goes on in `bytes`, which begin where they began before and may have grown.
    pub fn walk(&mut self, bytes: &[u8]) -> Walked {
        if !self.begun {
            match bytes {
                [0xff, SOI, ..] => (self.begun, self.at) = (true, 2),
                [] | [0xff] => return Walked::More,
                _ => return Walked::Broken { at: 0, what: "no start of image" },
            }
        }
        loop {
            if self.in_scan {
                // Entropy-coded bytes: FF is followed by 00 (stuffing), a restart, or a real marker.
                let rest = bytes.get(self.at..).unwrap_or_default();
                let Some(skip) = rest.iter().position(|byte| *byte == 0xff) else {
                    self.at = bytes.len();
                    return Walked::More;
                };
                self.at = self.at.saturating_add(skip);
                match bytes.get(self.at.saturating_add(1)) {
                    None => return Walked::More,
                    Some(0x00 | 0xd0..=0xd7) => self.at = self.at.saturating_add(2),
                    Some(0xff) => self.at = self.at.saturating_add(1),
                    Some(_) => self.in_scan = false,
                }
                continue;
            }
            match self.marker(bytes) {
                Ok(()) => {}
                Err(walked) => return walked,
            }
        }
    }

    /// One marker and its segment.
    fn marker(&mut self, bytes: &[u8]) -> Result<(), Walked> {
        let broken = |at: usize, what| Walked::Broken { at, what };
        match bytes.get(self.at) {
            None => return Err(Walked::More),
            Some(0xff) => {}
            Some(_) => return Err(broken(self.at, "no marker where one must be")),
        }
        let code_at = self.at.saturating_add(1);
        let code = *bytes.get(code_at).ok_or(Walked::More)?;
        match code {
            // Fill bytes before a marker.
            0xff => self.at = code_at,
            EOI => {
                let end = code_at.saturating_add(1);
                return Err(match self.size {
                    Some((width, height)) if self.scans > 0 && width > 0 && height > 0 => {
                        Walked::Whole { end, width, height }
                    }
                    Some(_) if self.scans > 0 => broken(self.at, "picture without width or height"),
                    Some(_) => broken(self.at, "end without a scan"),
                    None => broken(self.at, "end without a frame header"),
                });
            }
            SOI => return Err(broken(self.at, "another picture begins inside this one")),
            0x00 | 0xd0..=0xd7 => return Err(broken(self.at, "scan data outside a scan")),
            TEM => self.at = code_at.saturating_add(1),
            _ => {
                let head = bytes.get(code_at.saturating_add(1)..code_at.saturating_add(3));
                let Some([high, low]) = head else { return Err(Walked::More) };
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length < 2 {
                    return Err(broken(self.at, "segment shorter than its own length field"));
                }
                let end = code_at.saturating_add(1).saturating_add(length);
                let segment = bytes.get(code_at.saturating_add(3)..end).ok_or(Walked::More)?;
                self.segment(code, segment)?;
                self.at = end;
            }
        }
        Ok(())
    }

    fn segment(&mut self, code: u8, segment: &[u8]) -> Result<(), Walked> {
        let broken = |what| Walked::Broken { at: self.at, what };
        match code {
            // SOF0…SOF15 without DHT (c4), JPG (c8) and DAC (cc).
            0xc0..=0xcf if !matches!(code, 0xc4 | 0xc8 | 0xcc) => {
                let [_, h1, h0, w1, w0, ..] = segment else {
                    return Err(broken("frame header is too short"));
                };
                if self.size.is_some() {
                    return Err(broken("a second frame header"));
                }
                self.size = Some((u16::from_be_bytes([*w1, *w0]), u16::from_be_bytes([*h1, *h0])));
            }
            SOS => {
                if self.size.is_none() {
                    return Err(broken("a scan before the frame header"));
                }
                self.in_scan = true;
                self.scans = self.scans.saturating_add(1);
            }
            // The number of lines may follow the first scan.
            DNL => {
                if let ([h1, h0], Some((width, 0))) = (segment, self.size) {
                    self.size = Some((width, u16::from_be_bytes([*h1, *h0])));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Judges a file; cameras may write padding behind the end.
pub(super) fn check(bytes: &[u8]) -> Result<Picture, ImageFault> {
    match JpegWalk::default().walk(bytes) {
        Walked::Whole { width, height, .. } => {
            Ok(Picture { mime: "image/jpeg", width: width.into(), height: height.into() })
        }
        Walked::More => Err(ImageFault::CutOff { bytes: bytes.len() }),
        Walked::Broken { at, what } => Err(ImageFault::Broken { at, what }),
    }
}
