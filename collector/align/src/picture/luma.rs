//! Brightness, and what can be said of a picture from it alone. Integers until the last step, so every machine agrees (L2).

use super::Picture;

/// The brightness plane: one sample a pixel, 0 black to 255 white.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luma {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width * height` samples.
    pub samples: Vec<u8>,
}

/// What brightness says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LumaStats {
    /// Mean, 0 to 255.
    pub mean: f64,
    /// Standard deviation over all pixels.
    pub std: f64,
    /// Variance of the Laplacian (kernel 0 1 0 / 1 -4 1 / 0 1 0) over the inner pixels, a common measure of sharpness (Pech-Pacheco
    /// et al., ICPR 2000); 0 for pictures below 3 x 3.
    pub sharpness: f64,
}

impl Luma {
    /// Luma of ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B) in 16-bit integers, rounded.
    pub(super) fn of(picture: &Picture) -> Self {
        let samples = match picture.channels {
            1 => picture.samples.clone(),
            _ => picture.samples.chunks_exact(3).map(brightness).collect(),
        };
        Self { width: picture.width, height: picture.height, samples }
    }

    /// Mean, spread and sharpness.
    #[must_use]
    pub fn stats(&self) -> LumaStats {
        let (sum, squares) = self.samples.iter().fold((0_u64, 0_u64), |(sum, squares), &sample| {
            (sum + u64::from(sample), squares + u64::from(sample) * u64::from(sample))
        });
        let n = self.samples.len() as u64;
        LumaStats {
            mean: ratio(i128::from(sum), i128::from(n)),
            std: variance(i128::from(sum), i128::from(squares), i128::from(n)).sqrt(),
            sharpness: self.sharpness(),
        }
    }

    fn sharpness(&self) -> f64 {
        let width = self.width as usize;
        let rows: Vec<&[u8]> = self.samples.chunks_exact(width.max(1)).collect();
        let (mut sum, mut squares, mut n) = (0_i64, 0_i64, 0_i64);
        for three in rows.windows(3) {
            let [above, row, below] = three else { continue };
            let around = row.windows(3).zip(above.iter().skip(1)).zip(below.iter().skip(1));
            for ((middle, &up), &down) in around {
                let &[left, here, right] = middle else { continue };
                let edge = i64::from(left) + i64::from(right) + i64::from(up) + i64::from(down)
                    - 4 * i64::from(here);
                sum += edge;
                squares += edge * edge;
                n += 1;
            }
        }
        variance(sum.into(), squares.into(), n.into())
    }
}

fn brightness(pixel: &[u8]) -> u8 {
    let at = |place: usize| u32::from(pixel.get(place).copied().unwrap_or(0));
    // The weights add up to 65536.
    let sum = 19_595 * at(0) + 38_470 * at(1) + 7_471 * at(2) + 32_768;
    u8::try_from(sum >> 16).unwrap_or(u8::MAX)
}

/// Of a whole population: (n Σx² - (Σx)²) / n².
fn variance(sum: i128, squares: i128, n: i128) -> f64 {
    ratio(n * squares - sum * sum, n * n)
}

/// 0 of nothing.
fn ratio(above: i128, below: i128) -> f64 {
    if below == 0 { 0.0 } else { above as f64 / below as f64 }
}
