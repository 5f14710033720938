//! The recursion over layers: `k ← w F(k) + b`, then `Θ ← k + w Ḟ(k) Θ`.
//!
//! ```text
//! ReLU  c = k / √(k11 k22)  a = arccos c   w F = (w/2π) √(k11 k22) (sin a + (π − a) c)   w Ḟ = (w/2π) (π − a)
//! erf   c = 2k / √D         D = (1 + 2k11)(1 + 2k22)
//!                                          w F = (2w/π) asin c                           w Ḟ = (2w/π) (2/√D) / √(1 − c²)
//! ```

use crate::kernel::infinite::{Activation, InfiniteKernel};
use crate::kernel::row_block::{CHUNK, Feature, RowBlock, dot};
use pulp::{Scalar, Simd};
use std::f64::consts::FRAC_PI_2;

/// Vectors that go through the layers together, to hide the latency of the polynomial.
const GROUP: usize = 4;

/// Largest `|c|` of the erf recursion, which divides by `√(1 − c²)`.
const BELOW_ONE: f64 = 1.0 - f64::EPSILON / 2.0;

impl InfiniteKernel {
    /// `Θ(x, x')` of one pair of samples in double precision, without the reference.
    pub(crate) fn entry<T: Feature>(
        &self,
        rows: &RowBlock<'_, T>,
        row: usize,
        cols: &RowBlock<'_, T>,
        col: usize,
    ) -> f64 {
        let gram = dot(rows.row(row), cols.row(col));
        let recursion = Recursion::new(Scalar, self, rows.n_features);
        let [theta] = recursion.group::<T, 1>(rows, row, cols, col, [gram]);
        theta
    }
}

/// The recursion over layers, with its constants in vectors.
#[derive(Clone, Copy)]
pub(super) struct Recursion<'k, S: Simd> {
    simd: S,
    kernel: &'k InfiniteKernel,
    /// `w / p`.
    first: S::f64s,
    bias: S::f64s,
    constant: S::f64s,
}

impl<'k, S: Simd> Recursion<'k, S> {
    #[inline(always)]
    pub(super) fn new(simd: S, kernel: &'k InfiniteKernel, n_features: usize) -> Self {
        Recursion {
            simd,
            kernel,
            first: simd.splat_f64s(kernel.weight_variance() / n_features as f64),
            bias: simd.splat_f64s(kernel.bias_variance()),
            constant: simd.splat_f64s(kernel.layer_constant()),
        }
    }

    /// Turns products `x·x'` of one row with `W` vectors of columns, from `col` on, into kernel values.
    #[inline(always)]
    fn group<T: Feature, const W: usize>(
        self,
        rows: &RowBlock<'_, T>,
        row: usize,
        cols: &RowBlock<'_, T>,
        col: usize,
        gram: [S::f64s; W],
    ) -> [S::f64s; W] {
        let simd = self.simd;
        let mut k = gram;
        for v in &mut k {
            *v = simd.mul_add_e_f64s(*v, self.first, self.bias);
        }
        let mut theta = k;
        for layer in 0..self.kernel.depth() {
            let (&[scale], &[inverse]) = rows.factors::<1>(layer, row);
            let (scales, inverses) = cols.factors_from(layer, col);
            let (scales, _) = S::as_simd_f64s(&scales[..W * S::F64_LANES]);
            let (inverses, _) = S::as_simd_f64s(&inverses[..W * S::F64_LANES]);
            match self.kernel.activation() {
                Activation::Relu => {
                    self.relu(&mut k, &mut theta, (scale, inverse), scales, inverses)
                }
                Activation::Erf => self.erf(&mut k, &mut theta, inverse, inverses),
            }
        }
        theta
    }

    /// `|c|`, at most `most`, and the sign of `c`.
    #[inline(always)]
    fn split(self, c: S::f64s, most: f64) -> (S::f64s, S::f64s) {
        let simd = self.simd;
        let sign = simd.and_f64s(c, simd.splat_f64s(-0.0));
        // Not `abs_f64s`, which pulp 0.22 compiles to a function call.
        let size = simd.min_f64s(simd.xor_f64s(c, sign), simd.splat_f64s(most));
        (size, sign)
    }

    #[inline(always)]
    fn relu<const W: usize>(
        self,
        k: &mut [S::f64s; W],
        theta: &mut [S::f64s; W],
        (scale, inverse): (f64, f64),
        scales: &[S::f64s],
        inverses: &[S::f64s],
    ) {
        let simd = self.simd;
        let scale = simd.mul_f64s(self.constant, simd.splat_f64s(scale));
        let inverse = simd.splat_f64s(inverse);
        let right = simd.splat_f64s(FRAC_PI_2);
        let (mut cosine, mut sign) = (*k, *k);
        for v in 0..W {
            let c = simd.mul_f64s(simd.mul_f64s(k[v], inverse), inverses[v]);
            (cosine[v], sign[v]) = self.split(c, 1.0);
        }
        let (angle, sine) = self.kernel.angle.evaluate(simd, cosine);
        for v in 0..W {
            // π − a = π/2 + asin(cos a), and asin is odd.
            let asin = simd.sub_f64s(right, angle[v]);
            let rest = simd.add_f64s(right, simd.xor_f64s(asin, sign[v]));
            let f = simd.mul_add_e_f64s(rest, simd.xor_f64s(cosine[v], sign[v]), sine[v]);
            k[v] = simd.mul_add_e_f64s(simd.mul_f64s(scale, scales[v]), f, self.bias);
            theta[v] = simd.mul_add_e_f64s(simd.mul_f64s(self.constant, rest), theta[v], k[v]);
        }
    }

    #[inline(always)]
    fn erf<const W: usize>(
        self,
        k: &mut [S::f64s; W],
        theta: &mut [S::f64s; W],
        inverse: f64,
        inverses: &[S::f64s],
    ) {
        let simd = self.simd;
        let one = simd.splat_f64s(1.0);
        let twice = simd.splat_f64s(2.0 * inverse);
        let (mut both, mut size, mut below, mut sign) = (*k, *k, *k, *k);
        for v in 0..W {
            // 2 / √D.
            both[v] = simd.mul_f64s(twice, inverses[v]);
            (size[v], sign[v]) = self.split(simd.mul_f64s(k[v], both[v]), BELOW_ONE);
            below[v] = simd.sub_f64s(one, size[v]);
        }
        let asin = self.kernel.arc_sine.evaluate(simd, size, below);
        for v in 0..W {
            // √(1 − c²).
            let root = simd.sqrt_f64s(simd.mul_f64s(below[v], simd.add_f64s(one, size[v])));
            let slope = simd.div_f64s(simd.mul_f64s(self.constant, both[v]), root);
            let asin = simd.xor_f64s(asin[v], sign[v]);
            k[v] = simd.mul_add_e_f64s(self.constant, asin, self.bias);
            theta[v] = simd.mul_add_e_f64s(slope, theta[v], k[v]);
        }
    }

    /// Computes one chunk of columns of a row, including columns beyond the end of the block.
    #[inline(always)]
    pub(super) fn chunk<T: Feature>(
        self,
        rows: &RowBlock<'_, T>,
        row: usize,
        cols: &RowBlock<'_, T>,
        col: usize,
        values: &mut [f64; CHUNK],
    ) {
        let (vectors, _) = S::as_mut_simd_f64s(&mut values[..]);
        for (g, group) in vectors.chunks_exact_mut(GROUP).enumerate() {
            let gram: [S::f64s; GROUP] = [group[0], group[1], group[2], group[3]];
            let theta =
                self.group::<T, GROUP>(rows, row, cols, col + g * GROUP * S::F64_LANES, gram);
            group.copy_from_slice(&theta);
        }
    }
}
