//! Intel AMX int8 products (Ozaki splitting): products of single-precision matrices on the processor's AMX unit, which
//! multiplies 8-bit integers.
//!
//! The values of a vector are scaled to integers of 24 bits, and each integer is split into three digits in base 256. The
//! products of digits are summed exactly (Ozaki, Ogita, Oishi & Rump 2012; with integers, Ootomo, Ozaki & Yokota 2024):
//!
//! ```text
//!     x = u (2¹⁶ x₀ + 2⁸ x₁ + x₂),  u = max|x| / 8,355,711,  |xᵢ| ≤ 128
//!     x·y ≈ u v Σ_{i+j≤3} 2^(32−8i−8j) xᵢ·yⱼ
//! ```
//!
//! The terms with i + j = 3 are left out too where no value stands out of its vector: they are then as small as the rounding to
//! 24 bits. Exact sums do not depend on their order. The bits of a product therefore depend only on its two vectors and on
//! whether those terms are formed.

use std::sync::OnceLock;

#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "linux")),
    allow(dead_code)
)]
mod amx_unit;
#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "linux")),
    allow(dead_code)
)]
mod digits;

use digits::{Digits, GROUP, STEP, STRETCH, Side};

/// Columns whose digits stay in cache while the rows are multiplied with them.
const PANEL: usize = 256;

/// Whether this processor has an AMX unit for 8-bit integers, and the operating system lets this process use it.
pub fn is_available() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(amx_unit::request)
}

/// Working memory of [`Multiplier::multiply`]. Keep one per thread and reuse it. Takes up to 3 KiB per row and per column.
///
/// # Examples
///
/// ```
/// use amx_gemm::{Multiplier, is_available};
///
/// if is_available() {
///     // 2 rows and 1 row of 2 values.
///     let (x, y) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0]);
///     let mut out = [0.0; 2];
///     Multiplier::default().multiply([&x, &y], 2, false, &mut out, 1);
///     assert!((out[0] - 17.0).abs() < 1e-4 && (out[1] - 39.0).abs() < 1e-4);
/// }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Multiplier {
    left: Digits,
    right: Digits,
}

impl Multiplier {
    /// Computes `X Y'` into `out`, on the calling thread.
    ///
    /// `x`, `y`: rows of `length` finite values. `out`: row-major, row `i` at `i * stride`. If `lower` is set, entries right
    /// of the diagonal may be left unchanged.
    ///
    /// An entry has an error of about 6e-8 |x| |y| and its own rounding for each thousand values. Vectors below 2⁻¹⁰⁵ lose
    /// digits. Cost: 6 multiply-adds of 8 bits per pair of values, or 8 where a value stands out.
    ///
    /// # Panics
    /// Without an AMX unit; when `x` or `y` does not hold whole rows of at least one value; when `out` or `stride` is too
    /// small.
    pub fn multiply(
        &mut self,
        [x, y]: [&[f32]; 2],
        length: usize,
        lower: bool,
        out: &mut [f32],
        stride: usize,
    ) {
        let [n_rows, n_cols] = [x, y].map(|it| it.len().checked_div(length).unwrap_or(0));
        assert_eq!([n_rows, n_cols].map(|n| n * length), [x.len(), y.len()]);
        assert!(
            n_rows < 2 || stride >= n_cols,
            "rows of {n_cols} values at stride {stride}"
        );
        let amx = amx_unit::Session::begin();
        // Ranges of equal length, in whole steps.
        let size = length.div_ceil(length.div_ceil(STRETCH).max(1));
        let size = size.next_multiple_of(STEP).max(STEP);
        for start in (0..length).step_by(size) {
            let stretch = start..(start + size).min(length);
            self.left.take(x, length, stretch.clone(), Side::Left);
            self.right.take(y, length, stretch, Side::Right);
            // Sums that are not written below stay zero.
            let mut block = amx_unit::Block::new();
            for first in (0..n_cols).step_by(PANEL) {
                let end = (first + PANEL).min(n_cols);
                let top = if lower { first } else { 0 };
                for i in (top..n_rows).step_by(2 * GROUP) {
                    let end = if lower { end.min(i + 2 * GROUP) } else { end };
                    for j in (first..end).step_by(2 * GROUP) {
                        amx.products(&mut block, &self.left, &self.right, [i, j]);
                        let into = &mut out[i * stride + j..];
                        let size = [n_rows - i, n_cols - j].map(|n| n.min(2 * GROUP));
                        let scales = [&self.left.scales()[i..], &self.right.scales()[j..]];
                        block.store(scales, size, into, stride, start > 0);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How the values of a test vector are distributed.
    #[derive(Debug, Clone, Copy)]
    enum Law {
        Normal,
        Heavy,
        Spike,
        /// One value, and the others all the same.
        Peak,
        /// Two values, the larger one rare.
        Levels,
        /// Two values of opposite signs and a mean of 0.
        Signs,
        Constant,
        Uniform,
        Zero,
    }

    /// The next number of a generator, between 0 and 1.
    fn uniform(state: &mut u64) -> f64 {
        *state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((*state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn vector(law: Law, length: usize, scale: f64, state: &mut u64) -> Vec<f32> {
        let normal = |state: &mut u64| {
            (-2.0 * uniform(state).ln()).sqrt() * (std::f64::consts::TAU * uniform(state)).cos()
        };
        let mut value = |k: usize| match law {
            Law::Normal => normal(state),
            Law::Heavy => (2.0 * normal(state)).exp(),
            Law::Spike => {
                if k == length / 2 {
                    1e3
                } else {
                    normal(state)
                }
            }
            Law::Peak => match k == length / 3 {
                true => 1.0,
                false => 0.012_345_678,
            },
            Law::Levels => match k.is_multiple_of(128) {
                true => 1.0,
                false => 753_535.0 / 8_355_711.0,
            },
            Law::Signs => match uniform(state) < 0.3 {
                true => (7.0_f64 / 3.0).sqrt(),
                false => -(3.0_f64 / 7.0).sqrt(),
            },
            Law::Constant => 1.0 / 3.0,
            Law::Uniform => uniform(state) - 0.5,
            Law::Zero => 0.0,
        };
        (0..length)
            .map(&mut value)
            .map(|v| (v * scale) as f32)
            .collect()
    }

    fn law() -> impl Strategy<Value = Law> {
        use Law::*;
        prop_oneof![
            Just(Normal),
            Just(Heavy),
            Just(Spike),
            Just(Peak),
            Just(Levels),
            Just(Signs),
            Just(Constant),
            Just(Uniform),
            Just(Zero)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn products_are_those_in_double_precision(
            sizes in [1..100_usize, 1..100],
            length in prop_oneof![1..200_usize, 900..1100_usize, 2000..2100_usize],
            laws in [law(), law()],
            exponents in [-40..50_i32, -40..50],
            lower: bool,
            wider in 0..20_usize,
            seed: u64,
        ) {
            if !is_available() {
                return Ok(());
            }
            let mut state = seed;
            let [x, y] = [0, 1].map(|side| -> Vec<f32> {
                let scale = 2_f64.powi(exponents[side]);
                (0..sizes[side]).flat_map(|_| vector(laws[side], length, scale, &mut state)).collect()
            });
            let stride = sizes[1] + wider;
            let mut out = vec![f32::NAN; sizes[0] * stride];
            Multiplier::default().multiply([&x, &y], length, lower, &mut out, stride);
            for (i, x) in x.chunks(length).enumerate() {
                for (j, y) in y.chunks(length).enumerate() {
                    if lower && j > i {
                        continue;
                    }
                    let dot = |a: &[f32], b: &[f32]| -> f64 {
                        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
                    };
                    let (want, got) = (dot(x, y), f64::from(out[i * stride + j]));
                    let size = (dot(x, x) * dot(y, y)).sqrt();
                    prop_assert!((got - want).abs() <= 5e-7 * size, "{i} {j}: {got:e} {want:e}");
                }
            }
            for line in out.chunks(stride) {
                prop_assert!(line[sizes[1]..].iter().all(|v| v.is_nan()), "written beyond the columns");
            }
        }

        #[test]
        fn a_products_bits_depend_on_no_neighbours(
            first in [0..60_usize, 0..60],
            sizes in [1..40_usize, 1..40],
            length in 64..1500_usize,
            seed: u64,
        ) {
            if !is_available() {
                return Ok(());
            }
            const N: usize = 100;
            let mut state = seed;
            let mut draw = || -> Vec<f32> {
                (0..N).flat_map(|_| vector(Law::Uniform, length, 1.0, &mut state)).collect()
            };
            let (x, y) = (draw(), draw());
            let (mut all, mut some) = (vec![0.0; N * N], vec![0.0; sizes[0] * sizes[1]]);
            let mut multiplier = Multiplier::default();
            multiplier.multiply([&x, &y], length, false, &mut all, N);
            let part = |of: &[f32], side: usize| of[first[side] * length..][..sizes[side] * length].to_vec();
            multiplier.multiply([&part(&x, 0), &part(&y, 1)], length, false, &mut some, sizes[1]);
            for (i, line) in some.chunks(sizes[1]).enumerate() {
                prop_assert_eq!(line, &all[(first[0] + i) * N + first[1]..][..sizes[1]]);
            }
        }
    }
}
