//! The phi-functions of exponential integrators, and divided differences of the exponential.

use faer::Mat;

/// φ_t(λ) = ∫₀ᵗ exp(−sλ) ds = (1 − exp(−tλ)) / λ, φ_t(0) = t. At t = ∞ directions of rounding size, beside the `largest`
/// eigenvalue, stay untouched.
pub(crate) fn t_phi1(t: f64, l: f64, largest: f64) -> f64 {
    let l = l.max(0.0);
    match t.is_finite() {
        true => t * phi1(t * l),
        false if l > 1e-6 * largest => 1.0 / l,
        false => 0.0,
    }
}

/// Distance t |b − l| up to which the difference of two decays cancels.
const NEAR: f64 = 0.5;

/// (1 − exp(−x)) / x.
pub(crate) fn phi1(x: f64) -> f64 {
    if x.abs() < 1e-12 {
        1.0
    } else {
        -(-x).exp_m1() / x
    }
}

/// ∫₀ᵗ exp(−(t−s) b) exp(−s l) ds = (exp(−tl) − exp(−tb)) / (b − l); each eigenvalue comes with exp(−t ·).
///
/// Without branches, so that many b go through it at once.
#[inline(always)]
pub(crate) fn divided_difference(t: f64, (b, of_b): (f64, f64), (l, of_l): (f64, f64)) -> f64 {
    let apart = t * (b - l).abs();
    let largest = if of_b > of_l { of_b } else { of_l };
    let [far, near] = [(of_l - of_b) / (b - l), t * largest * phi1_series(apart)];
    if apart > NEAR { far } else { near }
}

/// [`phi1`] up to [`NEAR`], by its series Σ (−x)ᵏ / (k + 1)!.
#[inline(always)]
fn phi1_series(x: f64) -> f64 {
    const TERMS: usize = 13;
    // 1 − x/2 (1 − x/3 (1 − …)).
    (2..=TERMS)
        .rev()
        .fold(1.0, |sum, k| 1.0 - x * (1.0 / k as f64) * sum)
}

/// ∫₀ᵗ of [`divided_difference`]: (φ_t(l) − φ_t(b)) / (b − l), by its midpoint derivative where the two are close; each eigenvalue
/// comes with φ_t / t.
pub(crate) fn divided_difference_of_phi1(
    t: f64,
    (b, of_b): (f64, f64),
    (l, of_l): (f64, f64),
) -> f64 {
    let (x, y) = (t * b, t * l);
    if (x - y).abs() > 1e-3 * (1.0 + x.min(y)) {
        return t * t * (of_l - of_b) / (x - y);
    }
    let m = 0.5 * (x + y);
    // −d/dx (1 − e⁻ˣ)/x = (1 − (1 + x) e⁻ˣ) / x².
    let slope = if m < 1e-3 {
        0.5 - m / 3.0
    } else {
        (1.0 - (1.0 + m) * (-m).exp()) / (m * m)
    };
    t * t * slope
}

/// exp(−tλ), λ down and t across.
pub(crate) fn decays(values: &[f64], times: &[f64]) -> Mat<f64> {
    Mat::from_fn(values.len(), times.len(), |k, q| {
        (-times[q] * values[k]).exp()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simpson's rule on 2,000 intervals.
    fn integral(t: f64, f: impl Fn(f64) -> f64) -> f64 {
        let n = 2000;
        let h = t / f64::from(n);
        let weight = |i: i32| match i {
            0 => 1.0,
            i if i == n => 1.0,
            i if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        (0..=n)
            .map(|i| weight(i) * f(f64::from(i) * h))
            .sum::<f64>()
            * h
            / 3.0
    }

    #[test]
    fn the_series_of_a_near_decay_is_its_closed_form() {
        for x in (0..=50).map(|k| NEAR * f64::from(k) / 50.0) {
            let apart = phi1_series(x) / phi1(x) - 1.0;
            assert!(apart.abs() < 1e-14, "{x}: {apart:.1e}");
        }
    }

    #[test]
    fn the_convolutions_are_their_integrals() {
        for t in [1e-3, 0.7, 20.0] {
            for b in [0.0, 0.3, 1.0] {
                for l in [0.0, 1e-7, 0.29999, 0.3, 0.9, 1.0] {
                    let slow = integral(t, |s| (-(t - s) * b - s * l).exp());
                    let with = |f: &dyn Fn(f64) -> f64| ((b, f(t * b)), (l, f(t * l)));
                    let (of_b, of_l) = with(&|x| (-x).exp());
                    let fast = divided_difference(t, of_b, of_l);
                    assert!(
                        (fast - slow).abs() < 1e-6 * slow,
                        "{t} {b} {l}: {fast} {slow}"
                    );
                    let slow = integral(t, |u| {
                        divided_difference(u, (b, (-u * b).exp()), (l, (-u * l).exp()))
                    });
                    let (of_b, of_l) = with(&phi1);
                    let fast = divided_difference_of_phi1(t, of_b, of_l);
                    assert!(
                        (fast - slow).abs() < 1e-5 * slow,
                        "{t} {b} {l}: {fast} {slow}"
                    );
                }
            }
        }
    }
}
