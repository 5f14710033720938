//! Tail probability of a weighted sum of chi-squared variables, on the log scale and to full relative accuracy.
//!
//! With `X = Σᵢ λᵢ χ²_{mᵢ}` (independent) the cumulant generating function is `κ(z) = −½ Σ mᵢ log(1 − 2 z λᵢ)`,
//! analytic off the real axis and between `1/(2 min λ)` and `1/(2 max λ)`, and
//!
//! ```text
//! Pr(X > 0) = 1/(2πi) ∫ exp(κ(z)) dz / z        over a contour crossing the real axis at c > 0,
//! Pr(X < 0) = the same with the sign reversed   for c < 0 (the pole at 0 changes sides).
//! ```
//!
//! The contour crosses at the saddlepoint `κ'(c) = 0` (Daniels 1954), moved off the pole when it comes too near to it, and
//! then follows `z(u) = c + s (i sinh u + β v / (1 + v / L))`, `v = cosh u − 1`, with `s = κ''(c)^{-1/2}` and `β` one third
//! of the skewness: to second order the contour of steepest descent, on which the integrand does not oscillate. Far out the
//! contour turns vertical again, and where weights on several scales make the integrand grow along the bend, `β = 0`: on a
//! vertical line `|exp(κ)|` never exceeds its value at the crossing. The trapezoid rule in `u` converges
//! exponentially; steps are halved until the value settles. Since the factor `exp(κ(c))` is carried as a logarithm, the
//! relative accuracy does not depend on how small the probability is.

use std::f64::consts::{FRAC_1_PI, PI};

/// Terms smaller than this share of the sum so far end the trapezoid rule.
const NEGLIGIBLE: f64 = 1e-17;
/// Relative change on halving the steps at which the value has settled. No extrapolation: where weights lie on several
/// scales the changes shrink unevenly, and one more halving costs less than finding out.
const SETTLED: f64 = 1e-11;
/// Relative change on halving the steps below which the next small one counts as convergence.
const CONVERGING: f64 = 1e-2;
/// Largest `u` visited, so that `exp(u)` stays far from overflow.
const FARTHEST: f64 = 230.0;
/// How far the contour bends, in units of its length scale times `β` (`L` above); the integrand is `exp(−40)` there.
const REACH: f64 = 60.0;
/// Growth of the integrand along a bent contour at which the straight one is taken: one digit is lost at most.
const GROWTH: f64 = 10.0;

/// Computes `log Pr(Σᵢ λᵢ χ²_{mᵢ} > 0)` for independent chi-squared variables.
///
/// `lambda`: weights, any finite values, in any order and on any scale. `multiplicity`: degrees of freedom, one a
/// weight, not negative and not necessarily whole. Zero weights and zero multiplicities take no part.
///
/// Returns a value in `[−∞, 0]`: `−∞` when no weight is positive, `0` when none is negative. The relative error of the
/// logarithm is below 1e-10 at any depth, also where the probability is close to 1, as long as the multiplicities
/// sum to at least 1/2 and no ratio of weights exceeds 1e150. A weight or multiplicity that is not a number, or is
/// infinite, gives NaN.
///
/// Cost: 100 to 500 evaluations of `κ`, each a complex product a weight and a complex logarithm a run of equal
/// multiplicities; 100 to 200 µs for 50 weights.
///
/// # Panics
/// When the two slices differ in length.
///
/// ```
/// use reml::chi_squared_mixture::log_survival;
///
/// // The difference of two equal terms is positive half of the time.
/// assert!((log_survival(&[1.0, -1.0], &[1.0, 1.0]) - 0.5_f64.ln()).abs() < 1e-10);
/// // Far below the smallest float: p = 10^-21715.
/// assert!(log_survival(&[1.0, -1e-5], &[1.0, 1e10]) < -49_000.0);
/// ```
pub fn log_survival(lambda: &[f64], multiplicity: &[f64]) -> f64 {
    assert_eq!(
        lambda.len(),
        multiplicity.len(),
        "one multiplicity a weight"
    );
    if lambda.iter().chain(multiplicity).any(|v| !v.is_finite()) {
        return f64::NAN;
    }
    let mut largest = [0.0f64; 2];
    for (&l, &m) in lambda.iter().zip(multiplicity) {
        if m > 0.0 {
            let side = usize::from(l < 0.0);
            largest[side] = largest[side].max(l.abs());
        }
    }
    let [positive, negative] = largest;
    if positive == 0.0 {
        return f64::NEG_INFINITY;
    }
    if negative == 0.0 {
        return 0.0;
    }
    WeightedSum::new(lambda, multiplicity, positive, negative)
        .log_survival()
        .min(0.0)
}

#[derive(Clone, Copy)]
struct Term {
    weight: f64,
    multiplicity: f64,
}

/// A complex number.
#[derive(Clone, Copy)]
struct Complex {
    re: f64,
    im: f64,
}

impl Complex {
    fn times(self, other: Complex) -> Complex {
        Complex {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }
}

/// The terms that take part, scaled, and the open interval on which `κ` is finite.
struct WeightedSum {
    terms: Vec<Term>,
    low: f64,
    high: f64,
}

/// The contour of integration: where it crosses the real axis, its length scale and its bend.
struct Contour {
    crossing: f64,
    scale: f64,
    bend: f64,
    /// `κ` at the crossing.
    peak: f64,
}

impl WeightedSum {
    /// Scales so that the largest weights of either sign, `positive` and `−negative`, become reciprocal: neither end of the
    /// interval overflows.
    fn new(lambda: &[f64], multiplicity: &[f64], positive: f64, negative: f64) -> Self {
        let (a, b) = (positive.sqrt(), negative.sqrt());
        let terms = lambda
            .iter()
            .zip(multiplicity)
            .filter(|&(&l, &m)| l != 0.0 && m > 0.0)
            .map(|(&l, &multiplicity)| Term {
                weight: if a > b { l / a / b } else { l / b / a },
                multiplicity,
            })
            .collect();
        WeightedSum {
            terms,
            low: -0.5 * (a / b),
            high: 0.5 * (b / a),
        }
    }

    fn log_survival(&self) -> f64 {
        let mut contour = self.contour(self.saddlepoint());
        let integral = self.integral(&contour).or_else(|| {
            contour.bend = 0.0;
            self.integral(&contour)
        });
        // A vertical contour always gives a value; its sign is that of the crossing.
        let size = integral.map_or(f64::MIN_POSITIVE, |value| {
            value.abs().max(f64::MIN_POSITIVE)
        });
        let log_tail = contour.peak + size.ln();
        if contour.crossing > 0.0 {
            log_tail
        } else {
            log_complement(log_tail)
        }
    }

    /// First three derivatives of `κ`: `Σ m w`, `2 Σ m w²`, `8 Σ m w³` with `w = λ / (1 − 2 z λ)`.
    fn derivatives(&self, z: f64) -> (f64, f64, f64) {
        let (mut first, mut second, mut third) = (0.0, 0.0, 0.0);
        for &Term {
            weight,
            multiplicity,
        } in &self.terms
        {
            let w = weight / (1.0 - 2.0 * z * weight);
            let mw = multiplicity * w;
            first += mw;
            second += mw * w;
            third += mw * w * w;
        }
        (first, 2.0 * second, 8.0 * third)
    }

    /// Finds the root of `κ'`, to a small share of the width of the saddle: any nearby crossing serves as well.
    ///
    /// Newton's method on `κ'(z) (high − z)(z − low)`, which has no poles and is linear when there are two distinct
    /// weights; bisection whenever that leaves the bracket or fails to shrink it.
    fn saddlepoint(&self) -> f64 {
        let (mut left, mut right) = if self.derivatives(0.0).0 < 0.0 {
            (0.0, self.high)
        } else {
            (self.low, 0.0)
        };
        let mut z = 0.0;
        let mut checkpoint = right - left;
        for step in 1..=400 {
            let (first, second, _) = self.derivatives(z);
            if first < 0.0 {
                left = z;
            } else {
                right = z;
            }
            let (above, below) = (self.high - z, z - self.low);
            let value = first * above * below;
            let slope = second * above * below + first * (above - below);
            let mut next = z - value / slope;
            let stalled = step % 4 == 0 && {
                let stalled = right - left > 0.25 * checkpoint;
                checkpoint = right - left;
                stalled
            };
            if stalled || !(next > left && next < right) {
                next = 0.5 * (left + right);
            }
            let change = (next - z).abs();
            if next <= self.low || next >= self.high || next == z {
                break;
            }
            z = next;
            if change * second.sqrt() < 1e-3 && change < 1e-3 * above.min(below) {
                break;
            }
        }
        z
    }

    fn contour(&self, saddlepoint: f64) -> Contour {
        let width = |z: f64| {
            let (_, second, third) = self.derivatives(z);
            (1.0 / second.sqrt(), third)
        };
        let (mut scale, mut third) = width(saddlepoint);
        let mut crossing = saddlepoint;
        if crossing.abs() < scale {
            crossing = if crossing >= 0.0 {
                scale.min(0.5 * self.high)
            } else {
                (-scale).max(0.5 * self.low)
            };
            (scale, third) = width(crossing);
        }
        let nearest = crossing
            .abs()
            .min(self.high - crossing)
            .min(crossing - self.low);
        let bend = (third * scale * scale * scale / 3.0).clamp(-1.0, 1.0);
        Contour {
            crossing,
            scale: scale.min(2.0 * nearest),
            bend: if bend.is_finite() { bend } else { 0.0 },
            peak: self
                .cumulant(Complex {
                    re: crossing,
                    im: 0.0,
                })
                .re,
        }
    }

    /// `κ(z)` for `Im z ≥ 0`.
    ///
    /// Factors that share a multiplicity are multiplied and their logarithm taken once. The argument of a factor lies in
    /// `(−π, 0)` for a positive weight and in `(0, π)` for a negative one, so that the running product's argument
    /// leaves `(−π, π]` exactly when its imaginary part had the factor's sign and lost it: those turns are counted.
    fn cumulant(&self, z: Complex) -> Complex {
        let mut sum = Complex { re: 0.0, im: 0.0 };
        let mut rest = &self.terms[..];
        while let Some(&Term { multiplicity, .. }) = rest.first() {
            let run = rest
                .iter()
                .take_while(|t| t.multiplicity == multiplicity)
                .count();
            let (group, others) = rest.split_at(run);
            rest = others;
            let (modulus, argument) = if run == 1 {
                log_one_plus(Complex {
                    re: -2.0 * z.re * group[0].weight,
                    im: -2.0 * z.im * group[0].weight,
                })
            } else {
                let (mut modulus, mut turns) = (0.0, 0.0);
                let mut product = Complex { re: 1.0, im: 0.0 };
                for &Term { weight, .. } in group {
                    let factor = Complex {
                        re: 1.0 - 2.0 * z.re * weight,
                        im: -2.0 * z.im * weight,
                    };
                    let next = product.times(factor);
                    if factor.im > 0.0 && product.im >= 0.0 && next.im < 0.0 {
                        turns += 1.0;
                    } else if factor.im < 0.0 && product.im <= 0.0 && next.im > 0.0 {
                        turns -= 1.0;
                    }
                    product = next;
                    let size = product.re.abs().max(product.im.abs());
                    if !(1e-100..=1e100).contains(&size) {
                        modulus += size.ln();
                        product.re /= size;
                        product.im /= size;
                    }
                }
                (
                    modulus + 0.5 * (product.re * product.re + product.im * product.im).ln(),
                    product.im.atan2(product.re) + 2.0 * PI * turns,
                )
            };
            sum.re -= 0.5 * multiplicity * modulus;
            sum.im -= 0.5 * multiplicity * argument;
        }
        sum
    }

    /// `(1/π) ∫₀^∞ Im[ exp(κ(z) − κ(c)) z'(u) / z ] du`, the half of the contour above the real axis standing for both.
    ///
    /// `None` when the integrand grows along a bent contour.
    fn integral(&self, contour: &Contour) -> Option<f64> {
        let Contour {
            crossing,
            scale,
            bend,
            peak,
        } = *contour;
        // Value at u, and the modulus of the integrand there.
        let integrand = |u: f64| {
            let (growth, decay) = (u.exp(), (-u).exp());
            let (sinh, cosh) = (0.5 * (growth - decay), 0.5 * (growth + decay));
            let half = (0.5 * u).sinh();
            let lift = 2.0 * half * half;
            let saturation = 1.0 / (1.0 + lift / REACH);
            let z = Complex {
                re: crossing + scale * bend * lift * saturation,
                im: scale * sinh,
            };
            let velocity = Complex {
                re: scale * bend * sinh * saturation * saturation,
                im: scale * cosh,
            };
            let exponent = self.cumulant(z);
            let size = (exponent.re - peak).exp();
            let direction = Complex {
                re: exponent.im.cos(),
                im: exponent.im.sin(),
            };
            let numerator = direction.times(velocity);
            // Division by z, its components brought to order one first.
            let unit = z.re.abs().max(z.im.abs());
            let (x, y) = (z.re / unit, z.im / unit);
            let norm = unit * (x * x + y * y);
            let value = size * (numerator.im * x - numerator.re * y) / norm;
            (value, size * velocity.re.hypot(velocity.im) / norm)
        };
        let mut step = 0.5;
        let (value, first) = integrand(0.0);
        let mut sum = 0.5 * value;
        let mut nodes = 0usize;
        // The first sweep also finds where the integrand has died out.
        let mut quiet = 0;
        while quiet < 2 && (nodes as f64) * step < FARTHEST {
            nodes += 1;
            let (value, modulus) = integrand(nodes as f64 * step);
            if bend != 0.0 && (modulus.is_nan() || modulus > GROWTH * first) {
                return None;
            }
            sum += value;
            quiet = if modulus <= NEGLIGIBLE * sum.abs() {
                quiet + 1
            } else {
                0
            };
        }
        let (mut previous, mut last_change) = (sum * step, f64::INFINITY);
        for _ in 0..9 {
            // Midpoints of the present nodes, in order.
            for j in 0..nodes {
                sum += integrand((j as f64 + 0.5) * step).0;
            }
            nodes *= 2;
            step *= 0.5;
            let value = sum * step;
            let change = ((value - previous) / value).abs();
            // One small change may be chance, where the steps do not yet resolve the integrand's turns.
            let converging = last_change <= CONVERGING;
            (previous, last_change) = (value, change);
            if converging && change <= SETTLED {
                break;
            }
        }
        Some(previous * FRAC_1_PI)
    }
}

/// `log(1 + v)` as modulus and argument, without loss for small `v`.
fn log_one_plus(v: Complex) -> (f64, f64) {
    let re = 1.0 + v.re;
    let modulus = if v.re.abs().max(v.im.abs()) < 0.5 {
        0.5 * (v.re * (2.0 + v.re) + v.im * v.im).ln_1p()
    } else {
        re.hypot(v.im).ln()
    };
    (modulus, v.im.atan2(re))
}

/// `log(1 − exp(x))` for `x ≤ 0`; rounding above 0 counts as 0.
fn log_complement(x: f64) -> f64 {
    if x > -std::f64::consts::LN_2 {
        (-x.min(-f64::EPSILON).exp_m1()).ln()
    } else {
        (-x.exp()).ln_1p()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stderr)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use statrs::function::beta::ln_beta;

    fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
        assert!(
            (found - expected).abs() <= tolerance * expected.abs(),
            "{what}: found {found:e}, expected {expected:e}, relative {:e}",
            found / expected - 1.0
        );
    }

    /// `log I_y(α, β)` from `y^α (1−y)^β / (α B(α, β)) Σ (α+β)_n / (α+1)_n yⁿ`, every term positive.
    fn ln_beta_regularised(alpha: f64, beta: f64, y: f64) -> f64 {
        let (mut sum, mut term, mut n) = (1.0, 1.0, 0.0);
        while term > 1e-18 * sum {
            term *= (alpha + beta + n) / (alpha + 1.0 + n) * y;
            sum += term;
            n += 1.0;
            if sum > 1e200 {
                return f64::NAN;
            }
        }
        alpha * y.ln() + beta * (-y).ln_1p() - alpha.ln() - ln_beta(alpha, beta) + f64::ln(sum)
    }

    /// `a χ²_k > b χ²_m` exactly when a Beta(m/2, k/2) variable is below `a / (a + b)`.
    fn two_atoms(a: f64, k: f64, b: f64, m: f64) -> f64 {
        ln_beta_regularised(0.5 * m, 0.5 * k, a / (a + b))
    }

    #[test]
    fn two_weights_follow_the_beta_distribution() {
        for &(k, m) in &[
            (1.0, 1.0),
            (1.0, 2.0),
            (2.0, 1.0),
            (0.5, 3.0),
            (1.0, 50.0),
            (1.5, 999.5),
            (20.0, 30.0),
            (64.0, 7.0),
            (1.0, 3000.0),
            (200.0, 300.0),
        ] {
            for &a in &[1e-8, 1e-3, 0.03, 0.2, 0.7, 1.3, 4.0, 30.0] {
                let expected = two_atoms(a, k, 1.0, m);
                // Where the distribution function is close to 1, its series loses its digits: the complement's tests cover that.
                if !(-60_000.0..-0.05).contains(&expected) {
                    continue;
                }
                let what = format!("{a} chi2_{k} - chi2_{m}");
                assert_close(log_survival(&[a, -1.0], &[k, m]), expected, 1e-10, &what);
            }
        }
    }

    #[test]
    fn agrees_far_below_the_smallest_float() {
        // One eigenvalue against many: log p = -1000 and far below.
        for &a in &[1.05f64, 2.0, 10.0] {
            let m = 2000.0 / f64::ln(1.0 + 1.0 / a) * 1.0;
            for scale in [1.0, 20.0] {
                let m = m * scale;
                let expected = two_atoms(a, 1.0, 1.0, m);
                assert!(expected < -900.0 * scale, "{expected}");
                let what = format!("{a} chi2_1 - chi2_{m}");
                assert_close(log_survival(&[a, -1.0], &[1.0, m]), expected, 1e-10, &what);
            }
        }
    }

    #[test]
    fn close_to_one_keeps_the_digits_of_the_complement() {
        for &(k, m) in &[(1.0, 50.0), (30.0, 20.0), (1.0, 3000.0)] {
            for &a in &[0.5, 2.0, 20.0] {
                let complement = two_atoms(a, k, 1.0, m);
                if complement < -1.0 {
                    let expected = (-complement.exp()).ln_1p();
                    assert_close(
                        log_survival(&[-a, 1.0], &[k, m]),
                        expected,
                        1e-10,
                        "complement",
                    );
                }
            }
        }
    }

    struct Case {
        lambda: Vec<f64>,
        multiplicity: Vec<f64>,
        log_p: f64,
    }

    /// Values by the definition in 40-digit arithmetic: the inverse Laplace transform on the vertical line through the
    /// saddlepoint, y = s sinh(u), trapezoid rule doubled until 20 digits settled.
    fn mixed_spectra() -> Vec<Case> {
        vec![
            // Scales so far apart that the integrand grows along a bent contour.
            Case {
                lambda: vec![
                    -0.00010363460476461446,
                    -3.090589405120977e-11,
                    0.6489681605611234,
                ],
                multiplicity: vec![0.5, 31663.72388994488, 1.0],
                log_p: -0.005137359955224151,
            },
            Case {
                lambda: vec![3.0, 1.0, 0.5, -0.25, -2.0],
                multiplicity: vec![1.0, 1.0, 2.0, 3.0, 4.0],
                log_p: -1.328408403915979,
            },
            Case {
                lambda: vec![10.0, 1.0, -1.0],
                multiplicity: vec![1.0, 20.0, 300.0],
                log_p: -15.112849724851078,
            },
            Case {
                lambda: vec![1.0, 0.3, -0.01, -0.02],
                multiplicity: vec![1.0, 1.5, 2000.5, 1000.25],
                log_p: -21.667714945098737,
            },
            Case {
                lambda: vec![-3.0, 0.002, 0.001],
                multiplicity: vec![2.0, 40.0, 100.0],
                log_p: -3.5217574891534182,
            },
            Case {
                lambda: vec![
                    0.018000000000000002,
                    0.008,
                    0.004666666666666667,
                    0.003,
                    0.002,
                    0.0013333333333333335,
                    0.0008571428571428571,
                    0.0005,
                    0.00022222222222222218,
                    0.0,
                    -0.002,
                ],
                multiplicity: vec![1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 990.0],
                log_p: -54.00045450187163,
            },
            Case {
                lambda: vec![
                    30.0,
                    -7.5,
                    -14.444444444444445,
                    -16.875,
                    -18.0,
                    -18.61111111111111,
                    -18.979591836734695,
                    -19.21875,
                    -19.382716049382715,
                    -19.5,
                    -19.0,
                    -19.9,
                ],
                multiplicity: vec![
                    1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 995.0, 995.0,
                ],
                log_p: -502.7845040301429,
            },
            Case {
                lambda: vec![0.001, -1.0],
                multiplicity: vec![7.0, 2.0],
                log_p: -5.657240717954579,
            },
            Case {
                lambda: vec![2.0, -1.0, -0.5],
                multiplicity: vec![30.0, 20.0, 40.0],
                log_p: -0.12403279346512844,
            },
        ]
    }

    #[test]
    fn mixed_spectra_agree_with_extended_precision() {
        for case in mixed_spectra() {
            let found = log_survival(&case.lambda, &case.multiplicity);
            assert_close(found, case.log_p, 1e-11, &format!("{:?}", case.lambda));
        }
    }

    #[test]
    fn empty_sides() {
        assert_eq!(log_survival(&[], &[]), f64::NEG_INFINITY);
        assert_eq!(log_survival(&[0.0, -1.0], &[3.0, 1.0]), f64::NEG_INFINITY);
        assert_eq!(log_survival(&[0.0, 2.0], &[3.0, 1.0]), 0.0);
        assert_eq!(log_survival(&[1.0, -1.0], &[0.0, 1.0]), f64::NEG_INFINITY);
        assert!(log_survival(&[f64::NAN, -1.0], &[1.0, 1.0]).is_nan());
    }

    #[test]
    fn symmetric_laws_give_one_half() {
        for scale in [1e-300, 1e-160, 1e-5, 1.0, 1e160, 1e300] {
            let found = log_survival(&[scale, -scale, 0.0], &[3.0, 3.0, 7.0]);
            assert_close(found, 0.5f64.ln(), 1e-13, "symmetric");
        }
    }

    #[test]
    fn scale_does_not_matter() {
        let lambda = [3.0, 1.0, 0.5, -0.25, -2.0];
        let multiplicity = [1.0, 1.0, 2.0, 30.0, 4.0];
        let reference = log_survival(&lambda, &multiplicity);
        for power in [-1000, -400, 10, 400, 1000] {
            let scaled = lambda.map(|l| l * f64::powi(2.0, power));
            assert_close(
                log_survival(&scaled, &multiplicity),
                reference,
                1e-12,
                "scaled",
            );
        }
    }

    #[test]
    fn extreme_spectra_stay_finite() {
        let mut hostile: Vec<(Vec<f64>, Vec<f64>)> = vec![
            (vec![1e-300, -1.0], vec![1.0, 1.0]),
            (vec![1.0, -1e-300], vec![1.0, 1.0]),
            (vec![1e300, -1e-300], vec![1.0, 1e5]),
            (vec![1e-300, -1e300], vec![1.0, 1e5]),
            (vec![f64::MAX, f64::MIN], vec![1.0, 1.0]),
            (vec![5e-324, -5e-324], vec![1.0, 1.0]),
            (vec![f64::MAX, -5e-324], vec![1.0, 1.0]),
            (vec![5e-324, f64::MIN], vec![1.0, 1.0]),
            (vec![1e6, -1e-3, -1.001e-3], vec![1.0, 1e5, 1e5]),
            (vec![1.0, -1.0], vec![0.01, 1e5]),
            (vec![1.0, -1.0], vec![0.01, 0.01]),
            (vec![1.0, -1.0], vec![1e5, 1e5]),
            (vec![1.0, 1.0, 1.0, -1.0], vec![1.0, 1.0, 1.0, 1e5]),
            (vec![1.0, 1e-12, -1e-12], vec![1.0, 1e5, 1e5]),
        ];
        for q in [0.0, 1e-3, 0.5, 5.0, 49.0, 49.999999] {
            // Fifty leading values and two pairs of multiplicity 25,000.
            let mut lambda: Vec<f64> = (0..50).map(|i| 50.0 / f64::from(i + 1) - q).collect();
            let mut multiplicity = vec![1.0; 50];
            lambda.extend([0.4 - q, 0.1 - q]);
            multiplicity.extend([25_000.0; 2]);
            hostile.push((lambda, multiplicity));
        }
        for (lambda, multiplicity) in hostile {
            for sign in [1.0, -1.0] {
                let signed: Vec<f64> = lambda.iter().map(|l| l * sign).collect();
                let found = log_survival(&signed, &multiplicity);
                assert!(found <= 0.0, "{signed:?}: {found}");
            }
        }
    }

    #[test]
    #[ignore = "prints a timing"]
    fn timing() {
        let spectrum: Vec<f64> = (0..50).map(|i| 50.0 / f64::from(i + 1)).collect();
        let start = std::time::Instant::now();
        let mut total = 0.0;
        for i in 0..1000 {
            let q = 0.3 + 2e-3 * f64::from(i);
            let mut lambda: Vec<f64> = spectrum.iter().map(|l| l - q).collect();
            let mut multiplicity = vec![1.0; 50];
            lambda.extend([0.4 - q, 0.1 - q]);
            multiplicity.extend([25_000.0; 2]);
            total += log_survival(&lambda, &multiplicity);
        }
        eprintln!(
            "{:.1} us a call (sum {total})",
            start.elapsed().as_secs_f64() * 1e3
        );
    }

    fn spectrum() -> impl Strategy<Value = Vec<(f64, f64)>> {
        let pair = (
            prop_oneof![
                -1.0f64..1.0,
                (-12.0f64..3.0).prop_map(|e| 10f64.powf(e)),
                (-12.0f64..3.0).prop_map(|e| -(10f64.powf(e))),
                Just(0.0)
            ],
            prop_oneof![Just(1.0), 0.5f64..10.0, 1.0f64..1e5],
        );
        prop::collection::vec(pair, 1..12)
    }

    /// Nearly all of the multiplicity far below one small positive weight: the vertical contour turns a thousand times before it dies out.
    #[test]
    fn contours_agree_beside_an_overwhelming_multiplicity() {
        let shift = 0.949_178_806_166_163_8 * 1.079_861_561_357_785_3;
        let lambda = [
            -0.000_548_915_894_743_78,
            0.0,
            0.829_893_238_234_573_8,
            1.079_861_561_357_785_3,
            -1.0,
        ]
        .map(|l| l - shift);
        let multiplicity = [36_137.499_860_420_365, 9_986.527_898_919_854, 1.0, 1.0, 1.0];
        let sum = WeightedSum::new(&lambda, &multiplicity, lambda[3], -lambda[4]);
        let mut contour = sum.contour(sum.saddlepoint());
        contour.bend = 0.0;
        let straight = contour.peak + sum.integral(&contour).unwrap().ln();
        let found = log_survival(&lambda, &multiplicity);
        // The first from the same integral on a grid of 200,000 nodes.
        assert_close(found, -68_729.255_602_530_47, 1e-10, "bent");
        assert_close(straight, -68_729.255_602_530_47, 1e-10, "straight");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn is_a_log_probability(pairs in spectrum()) {
            let (lambda, multiplicity): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let upper = log_survival(&lambda, &multiplicity);
            prop_assert!(upper <= 0.0);
            let reversed: Vec<f64> = lambda.iter().map(|l| -l).collect();
            let lower = log_survival(&reversed, &multiplicity);
            prop_assert!(lower <= 0.0);
            if lambda.iter().any(|&l| l != 0.0) {
                prop_assert!((upper.exp() + lower.exp() - 1.0).abs() < 1e-10, "{upper} {lower}");
            }
        }

        #[test]
        fn bent_and_straight_paths_agree(pairs in spectrum(), shift in 0.0f64..1.0) {
            let (mut lambda, multiplicity): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            // Shifted, so that deep tails occur.
            let most = lambda.iter().copied().fold(f64::MIN, f64::max);
            lambda.iter_mut().for_each(|l| *l -= shift * most);
            let side = |sign: f64| lambda.iter().fold(0.0f64, |most, l| most.max(sign * l));
            let (positive, negative) = (side(1.0), side(-1.0));
            prop_assume!(positive > 0.0 && negative > 0.0);
            let sum = WeightedSum::new(&lambda, &multiplicity, positive, negative);
            let mut contour = sum.contour(sum.saddlepoint());
            if let Some(bent) = sum.integral(&contour) {
                contour.bend = 0.0;
                let straight = sum.integral(&contour).unwrap();
                let log_p = contour.peak + straight.abs().ln();
                let gap = (bent / straight).ln().abs();
                prop_assert!(gap <= 1e-10 * log_p.abs().max(1.0), "{bent} {straight}");
            }
        }

        #[test]
        fn grows_with_a_weight(pairs in spectrum(), which in 0usize..12, growth in 0.0f64..0.5) {
            let (mut lambda, multiplicity): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let before = log_survival(&lambda, &multiplicity);
            let which = which % lambda.len();
            lambda[which] += growth * (lambda[which].abs() + 1e-3);
            let after = log_survival(&lambda, &multiplicity);
            prop_assert!(after >= before - 2e-10 * before.abs(), "{before} {after}");
        }
    }
}
