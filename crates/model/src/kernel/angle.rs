//! The angle of a cosine in `[0, 1]`, and its sine: branch-free, one square root.

use pulp::Simd;
use std::f64::consts::PI;

/// Degree of the polynomials.
const DEGREE: usize = 10;

/// `arccos(x) = √(1 − x) A(x)` and `√(1 − x²) = √(1 − x) R(x)`, relative errors below 1e-10.
///
/// `A` and `R(x) = √(1 + x)` are analytic up to their branch point at `x = −1`, so that their Chebyshev interpolants on
/// `[0, 1]` gain a factor `3 + √8` a degree (Trefethen 2013, theorem 8.2). The coefficients are those of the monomials in
/// `2x − 1`, where they decay: Horner's rule loses nothing. A kernel value is kept to 6e-8, and ReLU adds
/// the angle to one that is never small: no relative accuracy is needed of `π/2 − arccos(x)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Angle {
    arc: [f64; DEGREE + 1],
    root: [f64; DEGREE + 1],
}

impl Angle {
    pub(crate) fn new() -> Self {
        Angle {
            // arccos(x) = 2 arcsin √((1 − x)/2), without cancellation.
            arc: interpolate(|x| 2.0 * (0.5 * (1.0 - x)).sqrt().asin() / (1.0 - x).sqrt()),
            root: interpolate(|x| (1.0 + x).sqrt()),
        }
    }

    /// `arccos(x)` and `√(1 − x²)` given `x` in `[0, 1]`, for `W` independent vectors.
    #[inline(always)]
    pub(crate) fn evaluate<S: Simd, const W: usize>(
        &self,
        simd: S,
        x: [S::f64s; W],
    ) -> ([S::f64s; W], [S::f64s; W]) {
        let (one, two) = (simd.splat_f64s(1.0), simd.splat_f64s(2.0));
        let minus_one = simd.splat_f64s(-1.0);
        let mut t = x;
        for v in 0..W {
            t[v] = simd.mul_add_e_f64s(x[v], two, minus_one);
        }
        let mut arc = [simd.splat_f64s(self.arc[DEGREE]); W];
        let mut root = [simd.splat_f64s(self.root[DEGREE]); W];
        for power in (0..DEGREE).rev() {
            let (a, r) = (
                simd.splat_f64s(self.arc[power]),
                simd.splat_f64s(self.root[power]),
            );
            for v in 0..W {
                arc[v] = simd.mul_add_e_f64s(arc[v], t[v], a);
                root[v] = simd.mul_add_e_f64s(root[v], t[v], r);
            }
        }
        for v in 0..W {
            let s = simd.sqrt_f64s(simd.sub_f64s(one, x[v]));
            arc[v] = simd.mul_f64s(arc[v], s);
            root[v] = simd.mul_f64s(root[v], s);
        }
        (arc, root)
    }
}

/// Coefficients in powers of `2x − 1` of the interpolant of `f` at the Chebyshev points of the first kind of `[0, 1]`.
fn interpolate(f: impl Fn(f64) -> f64) -> [f64; DEGREE + 1] {
    let n = DEGREE + 1;
    let angle = |k: usize| (k as f64 + 0.5) * PI / n as f64;
    // T₀ = 1, T₁ = t, T_{k+1} = 2 t T_k − T_{k−1}, as coefficients of monomials.
    let mut coefficients = [0.0; DEGREE + 1];
    let (mut before, mut present) = ([0.0; DEGREE + 1], [0.0; DEGREE + 1]);
    before[0] = 1.0;
    present[1] = 1.0;
    for order in 0..n {
        let sum: f64 = (0..n)
            .map(|k| f(0.5 * (1.0 + angle(k).cos())) * (order as f64 * angle(k)).cos())
            .sum();
        let chebyshev = sum * if order == 0 { 1.0 } else { 2.0 } / n as f64;
        for (coefficient, b) in coefficients.iter_mut().zip(before) {
            *coefficient += chebyshev * b;
        }
        let mut next = [0.0; DEGREE + 1];
        for power in 0..n {
            let raised = if power == 0 {
                0.0
            } else {
                2.0 * present[power - 1]
            };
            next[power] = raised - before[power];
        }
        (before, present) = (present, next);
    }
    coefficients
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;

    #[test]
    fn relative_errors_are_below_1e_10() {
        let angle = Angle::new();
        for i in 0..=200_000 {
            let x = f64::from(i) / 200_000.0;
            for x in [x, x * x * x, 1.0 - x * x * x] {
                let ([arc], [root]) = angle.evaluate(Scalar, [x]);
                let expected = 2.0 * (0.5 * (1.0 - x)).sqrt().asin();
                assert!(
                    (arc - expected).abs() <= 1e-10 * expected,
                    "{x}: {arc} {expected}"
                );
                let expected = ((1.0 - x) * (1.0 + x)).sqrt();
                assert!(
                    (root - expected).abs() <= 1e-10 * expected,
                    "{x}: {root} {expected}"
                );
            }
        }
        assert_eq!(angle.evaluate(Scalar, [1.0]), ([0.0], [0.0]));
    }
}
