//! The one thing wanted from EXIF: which way up (tag 0x0112 of IFD 0; EXIF 2.32, 4.6.4, TIFF 6.0, section 2).

/// How a stored picture is turned to stand upright; the numbers are EXIF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Orientation {
    /// 1: as stored.
    #[default]
    Upright,
    /// 2: mirrored left to right.
    Mirrored,
    /// 3: turned by 180°.
    HalfTurn,
    /// 4: mirrored top to bottom.
    Flipped,
    /// 5: mirrored along the main diagonal.
    Transposed,
    /// 6: to be turned by 90° clockwise.
    QuarterTurn,
    /// 7: mirrored along the other diagonal.
    Transversed,
    /// 8: to be turned by 90° counter-clockwise.
    ThreeQuarterTurn,
}

/// Entries of IFD 0 that are looked through: real cameras write some dozens.
const ENTRIES_MAX: u16 = 512;
const ORIENTATION_TAG: u16 = 0x0112;
const SHORT: u16 = 3;

impl Orientation {
    /// From an EXIF block, with or without its `Exif\0\0`; what does not hold or says nothing is upright.
    #[must_use]
    pub fn of_exif(block: &[u8]) -> Self {
        let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
        number(tiff).and_then(Self::of_number).unwrap_or_default()
    }

    /// From EXIF's number, 1 to 8.
    #[must_use]
    pub fn of_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Upright,
            2 => Self::Mirrored,
            3 => Self::HalfTurn,
            4 => Self::Flipped,
            5 => Self::Transposed,
            6 => Self::QuarterTurn,
            7 => Self::Transversed,
            8 => Self::ThreeQuarterTurn,
            _ => return None,
        })
    }

    /// True if width and height change places.
    #[must_use]
    pub fn swaps(self) -> bool {
        matches!(self, Self::Transposed | Self::QuarterTurn | Self::Transversed | Self::ThreeQuarterTurn)
    }

    /// Where pixel (x, y) of the upright picture lies in the stored one of `width` by `height`.
    pub(super) fn source(self, x: usize, y: usize, width: usize, height: usize) -> (usize, usize) {
        let (right, low) = (width.saturating_sub(1), height.saturating_sub(1));
        match self {
            Self::Upright => (x, y),
            Self::Mirrored => (right.saturating_sub(x), y),
            Self::HalfTurn => (right.saturating_sub(x), low.saturating_sub(y)),
            Self::Flipped => (x, low.saturating_sub(y)),
            Self::Transposed => (y, x),
            Self::QuarterTurn => (y, low.saturating_sub(x)),
            Self::Transversed => (right.saturating_sub(y), low.saturating_sub(x)),
            Self::ThreeQuarterTurn => (right.saturating_sub(y), x),
        }
    }
}

fn number(tiff: &[u8]) -> Option<u16> {
    let is_little = match tiff.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let two = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if is_little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let u32_at = |at: usize| {
        let four = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if is_little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) })
    };
    (u16_at(2)? == 42).then_some(())?;
    let directory = usize::try_from(u32_at(4)?).ok()?;
    let entries = u16_at(directory)?.min(ENTRIES_MAX);
    (0..usize::from(entries)).find_map(|entry| {
        let at = directory.checked_add(2)?.checked_add(entry.checked_mul(12)?)?;
        let is_it = u16_at(at)? == ORIENTATION_TAG && u16_at(at.checked_add(2)?)? == SHORT;
        if is_it { u16_at(at.checked_add(8)?) } else { None }
    })
}
