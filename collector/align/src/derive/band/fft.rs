//! A discrete Fourier transform whose bits are the same on every machine.
//!
//! Libraries take sines from the platform and choose kernels by the processor, so their last bits differ between x86 and
//! ARM; L2 wants them equal. This one takes its sines from libm and has one way of computing: radix 2 for powers of two,
//! Bluestein's chirp (1970) over it for every other length.

use std::f64::consts::TAU;

/// A complex number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Complex {
    pub(super) re: f64,
    pub(super) im: f64,
}

impl Complex {
    /// exp(-i τ k / n).
    fn root(k: usize, n: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "lengths of lists")]
        let (sin, cos) = libm::sincos(TAU * (k as f64 / n as f64));
        Self { re: cos, im: -sin }
    }

    fn times(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }

    fn plus(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }

    fn minus(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }

    fn conjugate(self) -> Self {
        Self { im: -self.im, ..self }
    }

    pub(super) fn norm(self) -> f64 {
        self.re * self.re + self.im * self.im
    }
}

/// What a length needs, settled once.
#[derive(Debug, Clone)]
pub(super) struct Fft {
    length: usize,
    /// Roots of unity of the power of two that is transformed.
    roots: Vec<Complex>,
    /// For other lengths: the chirp, and the transform of its conjugate.
    chirp: Option<(Vec<Complex>, Vec<Complex>)>,
}

impl Fft {
    pub(super) fn new(length: usize) -> Self {
        let padded = if length.is_power_of_two() {
            length
        } else {
            (2 * length).saturating_sub(1).next_power_of_two()
        };
        let roots: Vec<Complex> = (0..padded / 2).map(|k| Complex::root(k, padded)).collect();
        let chirp = (!length.is_power_of_two()).then(|| {
            // exp(-i π k² / n); k² is reduced first, so that the angle stays exact.
            let chirp: Vec<Complex> =
                (0..length).map(|k| Complex::root(k * k % (2 * length), 2 * length)).collect();
            let mut kernel = vec![Complex::default(); padded];
            for (k, c) in chirp.iter().enumerate() {
                for place in [k, (padded - k) % padded] {
                    if let Some(slot) = kernel.get_mut(place) {
                        *slot = c.conjugate();
                    }
                }
            }
            radix_two(&mut kernel, &roots);
            (chirp, kernel)
        });
        Self { length, roots, chirp }
    }

    /// The transform of as many values as [`Fft::new`] was told; others give nothing.
    pub(super) fn transform(&self, values: &[f64]) -> Vec<Complex> {
        if values.len() != self.length {
            return Vec::new();
        }
        let input = values.iter().map(|x| Complex { re: *x, im: 0.0 });
        let Some((chirp, kernel)) = &self.chirp else {
            let mut data: Vec<Complex> = input.collect();
            radix_two(&mut data, &self.roots);
            return data;
        };
        let mut data: Vec<Complex> = input.zip(chirp).map(|(x, c)| x.times(*c)).collect();
        data.resize(kernel.len(), Complex::default());
        radix_two(&mut data, &self.roots);
        // The inverse is the transform of the conjugate, conjugated and divided by the length.
        let mut data: Vec<Complex> = data.iter().zip(kernel).map(|(x, k)| x.times(*k).conjugate()).collect();
        radix_two(&mut data, &self.roots);
        #[expect(clippy::cast_precision_loss, reason = "lengths of lists")]
        let scale = 1.0 / kernel.len() as f64;
        let scaled = |x: &Complex| Complex { re: x.re * scale, im: -x.im * scale };
        data.iter().map(scaled).zip(chirp).map(|(x, c)| x.times(*c)).collect()
    }
}

/// Cooley and Tukey's, decimation in time, in place.
fn radix_two(data: &mut [Complex], roots: &[Complex]) {
    let n = data.len();
    let bits = n.trailing_zeros();
    for place in 0..n {
        let mirrored = if bits == 0 { 0 } else { place.reverse_bits() >> (usize::BITS - bits) };
        if place < mirrored {
            data.swap(place, mirrored);
        }
    }
    let mut half = 1;
    while half < n {
        let stride = n / (2 * half);
        for block in data.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for ((a, b), root) in low.iter_mut().zip(high).zip(roots.iter().step_by(stride)) {
                let turned = b.times(*root);
                (*a, *b) = (a.plus(turned), a.minus(turned));
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, O(n²).
    fn slow(values: &[f64]) -> Vec<Complex> {
        let n = values.len();
        let term = |k: usize| {
            let terms = values.iter().enumerate().map(|(j, x)| {
                let root = Complex::root(j * k % n, n);
                Complex { re: root.re * x, im: root.im * x }
            });
            terms.fold(Complex::default(), Complex::plus)
        };
        (0..n).map(term).collect()
    }

    proptest! {
        #[test]
        fn every_length_is_the_definition(values in prop::collection::vec(-9f64..9.0, 1..140)) {
            let found = Fft::new(values.len()).transform(&values);
            let scale = values.iter().map(|x| x.abs()).sum::<f64>().max(1.0);
            for (a, b) in found.iter().zip(slow(&values)) {
                prop_assert!((a.re - b.re).abs() + (a.im - b.im).abs() < 1e-13 * scale, "{a:?} {b:?}");
            }
            prop_assert_eq!(found.len(), values.len());
        }
    }

    #[test]
    fn a_tone_is_one_line() {
        for n in [8, 60, 97, 1000] {
            let values: Vec<f64> = (0..n).map(|j| libm::cos(TAU * 3.0 * j as f64 / n as f64)).collect();
            let lines = Fft::new(n).transform(&values);
            assert!(
                (lines[3].re - n as f64 / 2.0).abs() < 1e-9 && lines[2].norm() < 1e-18 * (n * n) as f64,
                "{n}"
            );
        }
        assert!(Fft::new(4).transform(&[1.0]).is_empty());
        assert!(Fft::new(0).transform(&[]).is_empty());
    }

    #[test]
    fn the_bits_are_these() {
        // Made by this code on x86-64: another machine or compiler must give them too.
        let values: Vec<f64> = (0..12).map(|j| f64::from(j * j % 7) - 2.5).collect();
        let bits = Fft::new(12)
            .transform(&values)
            .iter()
            .fold(0u64, |sum, x| sum.rotate_left(7) ^ x.re.to_bits() ^ x.im.to_bits().rotate_left(1));
        assert_eq!(format!("{bits:016x}"), "7a1f9d8156705185");
    }
}
