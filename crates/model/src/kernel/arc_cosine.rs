//! The arc cosine as a square root times a polynomial.

use pulp::Simd;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Degree of the polynomial.
const DEGREE: usize = 16;

/// `acos(x) = √(1 − x) P(2x − 1)` on `[0, 1]`, relative error below 1e-12.
///
/// `acos(x) / √(1 − x)` is analytic up to its branch point at −1, so that its Chebyshev interpolant on `[0, 1]` gains a
/// factor `3 + √8` a degree (Trefethen 2013, theorem 8.2). The coefficients are those of the monomials in `2x − 1`, where they
/// decay by a factor 3: Horner's rule loses nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ArcCosine {
    coefficients: [f64; DEGREE + 1],
}

impl ArcCosine {
    /// Interpolates at the Chebyshev points of the first kind.
    pub(crate) fn new() -> Self {
        let n = DEGREE + 1;
        // With x = cos²φ: √(1 − x) = sin φ and acos(x) = 2 asin(sin φ / √2), both without cancellation.
        let angle = |k: usize| (k as f64 + 0.5) * PI / n as f64;
        let mut chebyshev = [0.0; DEGREE + 1];
        for (order, coefficient) in chebyshev.iter_mut().enumerate() {
            let sum: f64 = (0..n)
                .map(|k| {
                    let sine = (0.5 * angle(k)).sin();
                    2.0 * (sine * FRAC_1_SQRT_2).asin() / sine * (order as f64 * angle(k)).cos()
                })
                .sum();
            *coefficient = sum * if order == 0 { 1.0 } else { 2.0 } / n as f64;
        }
        // T₀ = 1, T₁ = t, T_{k+1} = 2 t T_k − T_{k−1}, as coefficients of monomials.
        let mut coefficients = [0.0; DEGREE + 1];
        let (mut before, mut present) = ([0.0; DEGREE + 1], [0.0; DEGREE + 1]);
        before[0] = 1.0;
        present[1] = 1.0;
        for &c in &chebyshev {
            for (sum, b) in coefficients.iter_mut().zip(before) {
                *sum += c * b;
            }
            let mut next = [0.0; DEGREE + 1];
            for power in 0..=DEGREE {
                let raised = if power == 0 {
                    0.0
                } else {
                    2.0 * present[power - 1]
                };
                next[power] = raised - before[power];
            }
            (before, present) = (present, next);
        }
        ArcCosine { coefficients }
    }

    /// `acos(x)` given `x` in `[0, 1]` and `root = √(1 − x)`, for `W` independent vectors.
    #[inline(always)]
    pub(crate) fn evaluate<S: Simd, const W: usize>(
        &self,
        simd: S,
        x: [S::f64s; W],
        root: [S::f64s; W],
    ) -> [S::f64s; W] {
        let two = simd.splat_f64s(2.0);
        let minus_one = simd.splat_f64s(-1.0);
        let mut t = x;
        for v in &mut t {
            *v = simd.mul_add_e_f64s(*v, two, minus_one);
        }
        let mut sum = [simd.splat_f64s(self.coefficients[DEGREE]); W];
        for power in (0..DEGREE).rev() {
            let coefficient = simd.splat_f64s(self.coefficients[power]);
            for v in 0..W {
                sum[v] = simd.mul_add_e_f64s(sum[v], t[v], coefficient);
            }
        }
        for v in 0..W {
            sum[v] = simd.mul_f64s(sum[v], root[v]);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;

    #[test]
    fn relative_error_is_below_1e_12() {
        let arc_cosine = ArcCosine::new();
        for i in 0..=200_000 {
            // x = 1 − s², so that the neighbourhood of 1 is visited too.
            let s = f64::from(i) / 200_000.0;
            let x = 1.0 - s * s;
            let root = (1.0 - x).sqrt();
            let [found] = arc_cosine.evaluate(Scalar, [x], [root]);
            let expected = 2.0 * (root * FRAC_1_SQRT_2).asin();
            assert!(
                (found - expected).abs() <= 1e-12 * expected,
                "{x}: {found} {expected}"
            );
        }
    }
}
