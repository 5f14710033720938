//! Saddlepoint approximation of Pr(Q > 0) for a quadratic form Q = Σ μᵢ χ²₁, from log det(I − 2zM) and its first two derivatives at real z.
//!
//! ```text
//!     κ(z) = −log det(I − 2zM) / 2        κ'(ẑ) = 0        w = sgn(ẑ) √(−2κ(ẑ))        u = ẑ √κ''(ẑ)
//!     Pr(Q > 0) ≈ 1 − Φ(w) + φ(w) (1/u − 1/w)
//! ```
//!
//! Lugannani & Rice (1980); for quadratic forms Kuonen (1999). The tail is off by some per cent of itself, far out by up to 15 %.

use statrs::function::erf::erfc;
use std::f64::consts::{SQRT_2, TAU};

/// Newton's decrement at which the saddle counts as found: κ is then within its square of its least value.
const FOUND: f64 = 0.02;

const MOST_STEPS: usize = 100;

/// The w beyond which Mills' ratio is taken from its asymptotic series.
const FAR: f64 = 12.0;

/// f(z) = −log det(I − 2zM), f'(z) and f''(z).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    pub value: f64,
    pub first: f64,
    pub second: f64,
}

/// log Pr(Q > 0). `barrier`: f at z, `None` where I − 2zM is not positive definite; `start`: a z on the saddle's side of 0.
///
/// f is self-concordant: Newton's steps over 1 + its decrement λ = |f'| / √f'' stay where f is defined (Nesterov & Nemirovskii 1994).
/// `None` where no saddle is found. Cost: about 5 calls of `barrier`.
pub(crate) fn log_survival(
    mut barrier: impl FnMut(f64) -> Option<Barrier>,
    start: f64,
) -> Option<f64> {
    let mut z = start;
    let mut here = loop {
        match barrier(z) {
            Some(here) => break here,
            None => z *= 0.7,
        }
        if z.abs() < 1e-3 * start.abs() {
            return None;
        }
    };
    for _ in 0..MOST_STEPS {
        let step = -here.first / here.second;
        let decrement = here.first.abs() / here.second.sqrt();
        if decrement < FOUND {
            let least = here.value - 0.5 * decrement * decrement;
            return tail(z + step, 0.5 * least, 0.5 * here.second);
        }
        z += step / (1.0 + decrement);
        here = barrier(z)?;
    }
    None
}

/// The approximation from ẑ, κ(ẑ) and κ''(ẑ).
fn tail(z: f64, least: f64, second: f64) -> Option<f64> {
    let (w, u) = (z.signum() * (-2.0 * least).sqrt(), z * second.sqrt());
    let log_p = match w > FAR {
        true => {
            let series = w.powi(-3) * (-1.0 + 3.0 / (w * w) - 15.0 / w.powi(4));
            -0.5 * (w * w + TAU.ln()) + (1.0 / u + series).ln()
        }
        false => {
            let density = (-0.5 * w * w).exp() / TAU.sqrt();
            (0.5 * erfc(w / SQRT_2) + density * (1.0 / u - 1.0 / w)).ln()
        }
    };
    log_p.is_finite().then_some(log_p.min(0.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::chi_squared_mixture;

    /// Few eigenvalues and many, both tails, light and far, from starts that are near the saddle, too small and beyond the edge.
    #[test]
    fn the_probability_is_within_some_per_cent() {
        for (n, decay) in [(30, 0.9_f64), (200, 0.99), (1000, 0.999)] {
            let kernel: Vec<f64> = (0..n).map(|i| decay.powi(i)).collect();
            let mean = kernel.iter().sum::<f64>() / f64::from(n);
            for share in [-0.2, 0.2, 0.4, 0.6] {
                let level = mean + share * (1.0 - mean);
                let values: Vec<f64> = kernel.iter().map(|l| l - level).collect();
                let barrier = |z: f64| {
                    let terms: Vec<f64> = values.iter().map(|mu| 1.0 - 2.0 * z * mu).collect();
                    let slopes = || values.iter().zip(&terms).map(|(mu, term)| 2.0 * mu / term);
                    terms.iter().all(|term| *term > 0.0).then(|| Barrier {
                        value: -terms.iter().map(|term| term.ln()).sum::<f64>(),
                        first: slopes().sum(),
                        second: slopes().map(|slope| slope * slope).sum(),
                    })
                };
                let exact = chi_squared_mixture::log_survival(&values, &vec![1.0; values.len()]);
                let edge = share.signum() * 0.5 / (1.0 - level);
                for start in [0.05, 0.9, 3.0].map(|part| part * edge) {
                    let found = log_survival(barrier, start).unwrap();
                    assert!(
                        (found - exact).abs() < 0.15,
                        "{n} {share} {start}: {found} for {exact}"
                    );
                }
            }
        }
    }
}
