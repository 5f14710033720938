//! The maximum of a concave log likelihood, by Newton's method with halved steps.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

/// A concave log likelihood of the coefficients b of a design.
pub(super) trait Likelihood {
    /// Coefficients to begin at.
    fn start(&self) -> Vec<f64>;

    /// Goes to b; the log likelihood and the largest |η| there.
    fn at(&mut self, b: &[f64]) -> (f64, f64);

    /// Gradient and information where it is.
    fn slopes(&mut self) -> (Mat<f64>, Mat<f64>);
}

/// Where the search ended; the likelihood is left there.
pub(super) struct Maximum {
    pub(super) b: Vec<f64>,
    pub(super) log_likelihood: f64,
    /// The inverse of the information.
    pub(super) covariance: Mat<f64>,
    pub(super) largest: f64,
}

/// Steps that a likelihood with a maximum hardly ever needs, and more than any needs.
pub(super) const USUAL_STEPS: usize = 12;
pub(super) const MOST_STEPS: usize = 200;

/// Newton decrement, twice the log likelihood that is still to be won, at which one more step reaches the rounding floor.
const SETTLED: f64 = 1e-12;

/// How much the log likelihood may fall by rounding, relative to it.
const ROUNDING: f64 = 1e-12;

/// Maximises; `None` where that takes more than `most` steps, or some |η| is above `far` on the way.
///
/// Cost: some 5 to 10 steps, each an evaluation, the information and a factor of it.
pub(super) fn maximise(
    likelihood: &mut impl Likelihood,
    (most, far): (usize, f64),
) -> Option<Maximum> {
    let mut b = likelihood.start();
    let (mut value, mut largest) = likelihood.at(&b);
    if b.is_empty() {
        return Some(Maximum {
            b,
            log_likelihood: value,
            covariance: Mat::zeros(0, 0),
            largest,
        });
    }
    for _ in 0..most {
        let (gradient, information) = likelihood.slopes();
        let factor = information.llt(Side::Lower).ok()?;
        let step = factor.solve(&gradient);
        let decrement = (gradient.transpose() * &step)[(0, 0)];
        let ahead = |share: f64| -> Vec<f64> {
            let pairs = b.iter().zip(step.col(0).iter());
            pairs.map(|(b, step)| b + share * step).collect()
        };
        let is_last = decrement < SETTLED;
        let mut share = 1.0;
        let (next, its, its_largest) = loop {
            let next = ahead(share);
            let (its, its_largest) = likelihood.at(&next);
            if is_last || its >= value - ROUNDING * value.abs() || share < 1e-6 {
                break (next, its, its_largest);
            }
            share *= 0.5;
        };
        (b, value, largest) = (next, its, its_largest);
        if !(largest <= far && value.is_finite()) {
            return None;
        }
        if is_last {
            let (_, information) = likelihood.slopes();
            let factor = information.llt(Side::Lower).ok()?;
            let covariance = factor.solve(Mat::<f64>::identity(b.len(), b.len()));
            return Some(Maximum {
                b,
                log_likelihood: value,
                covariance,
                largest,
            });
        }
    }
    None
}
