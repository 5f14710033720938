//! The angle of a cosine in `[0, 1]`, and its sine: no branches, one square root.

use super::chebyshev::interpolate;
use pulp::Simd;

/// Degree of the polynomials.
const DEGREE: usize = 10;

/// `arccos(x) = √(1 − x) A(x)` and `√(1 − x²) = √(1 − x) R(x)`, relative errors below 1e-10.
///
/// `A` and `R(x) = √(1 + x)` are analytic up to their branch point at `x = −1`, so their Chebyshev interpolants on `[0, 1]`
/// gain a factor `3 + √8` per degree (Trefethen 2013, theorem 8.2). The polynomials are stored in powers of `2x − 1`. Their
/// coefficients decay, so Horner's rule loses nothing. Kernel values are kept to 6e-8, and the ReLU recursion adds the angle to
/// a number that is never small: `π/2 − arccos(x)` needs no relative accuracy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Angle {
    arc: [f64; DEGREE + 1],
    root: [f64; DEGREE + 1],
}

impl Angle {
    pub(crate) fn new() -> Self {
        // x = (1 + t)/2; arccos(x) = 2 arcsin √((1 − x)/2), without cancellation.
        let arc = |t: f64| 2.0 * (0.25 * (1.0 - t)).sqrt().asin() / (0.5 * (1.0 - t)).sqrt();
        Angle {
            arc: interpolate(arc),
            root: interpolate(|t| (0.5 * (3.0 + t)).sqrt()),
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
