//! A seeded mutator: the same seed gives the same inputs on every machine.

/// Small numbers that look random (xorshift*).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Starts from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`, 0 for `n` = 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = (n as u64).max(1);
        usize::try_from((self.roll() >> 11) % n).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[7]
    }
}

/// Numbers at borders, as bytes: sizes, signs, the ends of varints.
const EDGES: [&[u8]; 16] = [
    &[0],
    &[1],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0x80, 0x01],
    &[0xff, 0x7f],
    &[0x80, 0x80, 0x40],
    &[0xff, 0xff, 0x3f],
    &[0x80, 0x80, 0x80, 0x80, 0x10],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff],
    &[0, 0, 0, 0, 0, 0, 0, 0x80],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
];

/// Changes `input` in one to eight places; `other` is an input to take pieces from.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], dice: &mut Dice, bytes_max: usize) {
    for _ in 0..1 + dice.below(3) * dice.below(4) {
        let len = input.len();
        // Heads decide: half of all changes are near the start.
        let at = if dice.below(2) == 0 { dice.below(len.min(48)) } else { dice.below(len) };
        match dice.below(12) {
            0 | 1 if len > 0 => input[at] ^= 1 << dice.below(8),
            2 if len > 0 => input[at] = dice.byte(),
            3 if len > 0 => {
                let step = u8::try_from(1 + dice.below(16)).unwrap_or(1);
                input[at] = if dice.below(2) == 0 {
                    input[at].wrapping_add(step)
                } else {
                    input[at].wrapping_sub(step)
                };
            }
            4 => {
                let edge = EDGES[dice.below(EDGES.len())];
                let end = (at + edge.len()).min(len);
                input[at.min(len)..end].copy_from_slice(&edge[..end - at.min(len)]);
            }
            5 => drop(input.splice(at.min(len)..at.min(len), EDGES[dice.below(EDGES.len())].iter().copied())),
            6 => {
                let n = 1 + dice.below(8);
                let fresh: Vec<u8> = (0..n).map(|_| dice.byte()).collect();
                drop(input.splice(at.min(len)..at.min(len), fresh));
            }
            7 if len > 0 => {
                let end = (at + 1 + dice.below(16)).min(len);
                input.drain(at..end);
            }
            8 if len > 0 => {
                // A piece again, at once or many times over.
                let end = (at + 1 + dice.below(32)).min(len);
                let piece = input[at..end].to_vec();
                let times = if dice.below(64) == 0 { dice.below(2_000) } else { 1 };
                let piece = piece.repeat(times.min(bytes_max.saturating_sub(len) / piece.len().max(1)));
                drop(input.splice(at..at, piece));
            }
            9 if !other.is_empty() => {
                let from = dice.below(other.len());
                let n = (1 + dice.below(64)).min(other.len() - from);
                let piece = other[from..from + n].to_vec();
                let end = if dice.below(2) == 0 { (at + n).min(len) } else { at.min(len) };
                drop(input.splice(at.min(len)..end, piece));
            }
            10 if !other.is_empty() => {
                input.truncate(at);
                input.extend_from_slice(&other[dice.below(other.len())..]);
            }
            _ if len > 0 && dice.below(4) == 0 => input.truncate(at),
            _ => {}
        }
        input.truncate(bytes_max);
    }
}
