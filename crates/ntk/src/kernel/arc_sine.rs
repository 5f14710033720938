//! The arc sine on `[0, 1]`: no branches, full relative accuracy.

use super::chebyshev::interpolate;
use pulp::Simd;
use std::f64::consts::FRAC_PI_2;

/// Degree of the polynomial.
const DEGREE: usize = 10;

/// `asin(s) = s Q(s²)` for `s` up to 1/2, relative error below 1e-12, and `asin(x) = π/2 − 2 asin(√((1 − x)/2))` beyond.
///
/// `asin(√z)/√z` is analytic up to its branch point at `z = 1`, so its Chebyshev interpolant on `[0, 1/4]` gains a factor `7 +
/// √48` per degree (Trefethen 2013, theorem 8.2). The polynomial is stored in powers of `8z − 1`. Its coefficients decay by a
/// factor 7, so Horner's rule loses nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ArcSine {
    coefficients: [f64; DEGREE + 1],
}

impl ArcSine {
    pub(crate) fn new() -> Self {
        // s² = z = (1 + t)/8.
        let quotient = |t: f64| {
            let s = (0.125 * (1.0 + t)).sqrt();
            s.asin() / s
        };
        ArcSine {
            coefficients: interpolate(quotient),
        }
    }

    /// `asin(x)` given `x` in `[0, 1]` and `below = 1 − x`, for `W` independent vectors.
    #[inline(always)]
    pub(crate) fn evaluate<S: Simd, const W: usize>(
        &self,
        simd: S,
        x: [S::f64s; W],
        below: [S::f64s; W],
    ) -> [S::f64s; W] {
        let half = simd.splat_f64s(0.5);
        let eight = simd.splat_f64s(8.0);
        let minus_one = simd.splat_f64s(-1.0);
        let minus_two = simd.splat_f64s(-2.0);
        let right = simd.splat_f64s(FRAC_PI_2);
        let (mut s, mut t) = (x, x);
        for v in 0..W {
            let small = simd.less_than_f64s(x[v], half);
            let other = simd.mul_f64s(below[v], half);
            let z = simd.select_f64s(small, simd.mul_f64s(x[v], x[v]), other);
            s[v] = simd.select_f64s(small, x[v], simd.sqrt_f64s(other));
            t[v] = simd.mul_add_e_f64s(z, eight, minus_one);
        }
        let mut sum = [simd.splat_f64s(self.coefficients[DEGREE]); W];
        for power in (0..DEGREE).rev() {
            let coefficient = simd.splat_f64s(self.coefficients[power]);
            for v in 0..W {
                sum[v] = simd.mul_add_e_f64s(sum[v], t[v], coefficient);
            }
        }
        for v in 0..W {
            let asin = simd.mul_f64s(sum[v], s[v]);
            let small = simd.less_than_f64s(x[v], half);
            sum[v] = simd.select_f64s(small, asin, simd.mul_add_e_f64s(asin, minus_two, right));
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
        let arc_sine = ArcSine::new();
        for i in 0..=200_000 {
            let x = f64::from(i) / 200_000.0;
            for x in [x, x * x * x, 1.0 - x * x * x] {
                let [found] = arc_sine.evaluate(Scalar, [x], [1.0 - x]);
                let expected = x.asin();
                assert!(
                    (found - expected).abs() <= 1e-12 * expected,
                    "{x}: {found} {expected}"
                );
            }
        }
        assert_eq!(arc_sine.evaluate(Scalar, [0.0], [1.0]), [0.0]);
    }
}
