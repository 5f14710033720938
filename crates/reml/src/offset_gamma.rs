//! The scale γ that brings what the network adds, f in units of outcomes or events, to the linear predictor: score = η + γ f.
//!
//! γ is the maximum likelihood coefficient of the leave-one-out increments f in a model with offset η and nothing else: logistic for a disease, Cox with
//! Efron ties for a time to event. The log likelihood is concave in γ, so that its score falls: the root is bracketed and never left to bare Newton steps, which
//! overshoot where f has heavy tails.

use crate::prediction_check::{InvalidPrediction, check};
use crate::risk_sets::{Increment, RiskSets, SurvivalTimes};

/// γ with its size in standard errors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OffsetGamma {
    /// The maximum likelihood coefficient, of either sign.
    pub estimate: f64,
    /// γ over its standard error from the information at γ. No test: t was chosen on the same samples.
    pub z: f64,
}

impl OffsetGamma {
    /// The γ of predictions: 0 where the estimate is negative.
    pub fn scale(&self) -> f64 {
        self.estimate.max(0.0)
    }
}

/// Most of |γ| sd(f).
const LIMIT: f64 = 30.0;

/// Where the bracket begins, in units of 1 / sd(f).
const FIRST: f64 = 0.25;

/// How far linear predictors may be apart for the ratios of their exponentials to be numbers.
const RANGE: f64 = 690.0;

/// Score and information of γ.
type Slopes = (f64, f64);

/// γ of a disease. `is_case`, `eta`, `increment`: n values each; samples whose η is infinite say nothing and are left out.
///
/// 0 where the increments do not vary, as at t = 0.
///
/// Cost: O(n) for each of some 10 to 20 steps.
///
/// # Errors
/// [`InvalidPrediction`]: other lengths, an η that is NaN, or an increment that is not finite.
pub fn of_disease(
    is_case: &[bool],
    eta: &[f64],
    increment: &[f64],
) -> Result<OffsetGamma, InvalidPrediction> {
    check_all(is_case.len(), eta, increment)?;
    let live: Vec<usize> = (0..eta.len()).filter(|&i| eta[i].is_finite()).collect();
    let Some((x, deviation)) = in_deviations(&live, increment) else {
        return Ok(OffsetGamma::default());
    };
    let slopes = |gamma: f64| {
        let (mut score, mut information) = (0.0, 0.0);
        for (&i, x) in live.iter().zip(&x) {
            let m = eta[i] + gamma * x;
            let small = (-m.abs()).exp();
            let [likely, unlikely] = [1.0 / (1.0 + small), small / (1.0 + small)];
            // 1 − μ of a case, −μ of a control.
            score += x * match (is_case[i], m > 0.0) {
                (true, true) => unlikely,
                (true, false) => likely,
                (false, true) => -likely,
                (false, false) => -unlikely,
            };
            information += x * x * likely * unlikely;
        }
        (score, information)
    };
    Ok(maximum(slopes, LIMIT, deviation))
}

/// γ of a time to event, as [`of_disease`].
///
/// Cost: a sort, and O(n) for each of some 10 to 20 steps.
///
/// # Errors
/// As [`of_disease`].
pub fn of_time_to_event(
    times: &SurvivalTimes,
    eta: &[f64],
    increment: &[f64],
) -> Result<OffsetGamma, InvalidPrediction> {
    check_all(times.n_samples(), eta, increment)?;
    let live: Vec<usize> = (0..eta.len()).filter(|&i| eta[i].is_finite()).collect();
    let Some((x, deviation)) = in_deviations(&live, increment) else {
        return Ok(OffsetGamma::default());
    };
    let sets = RiskSets::new(&times.of(&live));
    let eta: Vec<f64> = live.iter().map(|&i| eta[i]).collect();
    let slopes = |gamma: f64| of_risk_sets(&sets, &eta, &x, gamma);
    let range = |values: &[f64]| {
        let at_risk = || sets.at_risk().iter().map(|&i| values[i]);
        at_risk().fold(f64::NEG_INFINITY, f64::max) - at_risk().fold(f64::INFINITY, f64::min)
    };
    let limit = (RANGE - range(&eta)) / range(&x);
    match limit > 0.0 {
        true => Ok(maximum(slopes, limit.min(LIMIT), deviation)),
        false => Ok(OffsetGamma::default()),
    }
}

fn check_all(n: usize, eta: &[f64], increment: &[f64]) -> Result<(), InvalidPrediction> {
    check(("linear predictors", eta), n, "a number", |x| !x.is_nan())?;
    let what = ("increments", increment);
    check(what, n, "a finite number", f64::is_finite)
}

/// The increments of some samples in units of their standard deviation, and that; `None` where they do not vary.
fn in_deviations(live: &[usize], increment: &[f64]) -> Option<(Vec<f64>, f64)> {
    let n = live.len() as f64;
    let values = || live.iter().map(|&i| increment[i]);
    let mean = values().sum::<f64>() / n;
    let deviation = (values().map(|f| (f - mean).powi(2)).sum::<f64>() / n).sqrt();
    // Of equal values the mean may be off by rounding.
    let first = values().next()?;
    let varies = values().any(|f| f != first) && deviation > 0.0;
    varies.then(|| (values().map(|f| f / deviation).collect(), deviation))
}

/// Score Σ x r and information Σ x² v − Σ m², with r the martingale residual, v the cumulative hazard and m the mean of x over the risk set of each event.
fn of_risk_sets(sets: &RiskSets, eta: &[f64], x: &[f64], gamma: f64) -> Slopes {
    let moved: Vec<f64> = eta.iter().zip(x).map(|(eta, x)| eta + gamma * x).collect();
    let (weights, _) = sets.weights(&moved);
    let nothing = Increment::new(1.0, 0.0, 0);
    let mut increments = vec![nothing; sets.times().len()];
    let mut means = 0.0;
    let row = |i: usize, into: &mut [f64]| {
        into[0] = weights[i];
        into[1] = weights[i] * x[i];
    };
    sets.sums(2, row, |sum| {
        let increment = Increment::new(sum.at_risk[0], sum.dead[0], sum.events);
        let (all, dead) = (sum.at_risk[1], sum.dead[1]);
        let [alpha, beta, gamma] = increment.squares;
        means += alpha * all * all - 2.0 * beta * all * dead + gamma * dead * dead;
        increments[sum.group] = increment;
    });
    let hazards = sets.hazards(&increments);
    let (mut score, mut information) = (0.0, -means);
    for &i in sets.at_risk() {
        let v = weights[i] * hazards.per_weight[i];
        score += x[i] * (f64::from(u8::from(sets.event()[i])) - v);
        information += x[i] * x[i] * v;
    }
    (score, information)
}

/// The root of a falling score in [−limit, limit], or the end it is beyond; in units of 1 / `deviation`.
fn maximum(slopes: impl Fn(f64) -> Slopes, limit: f64, deviation: f64) -> OffsetGamma {
    let start = slopes(0.0).0;
    if start == 0.0 {
        return OffsetGamma::default();
    }
    let sign = start.signum();
    // Both ends on the side of `sign`: the score is of that sign at `near`, not at `far`.
    let (mut near, mut far) = (0.0, FIRST.min(limit));
    while sign * slopes(sign * far).0 > 0.0 {
        if far >= limit {
            return finished(&slopes, sign * limit, deviation);
        }
        (near, far) = (far, (2.0 * far).min(limit));
    }
    let mut here = 0.5 * (near + far);
    for _ in 0..200 {
        let width = far - near;
        let (score, information) = slopes(sign * here);
        match sign * score > 0.0 {
            true => near = here,
            false => far = here,
        }
        let newton = here + sign * score / information;
        let is_settled = (newton - here).abs() <= 1e-14 * here;
        if score == 0.0 || is_settled || far - near <= 1e-15 * far {
            break;
        }
        // Where Newton's step leaves the bracket or hardly narrows it, half of it.
        let is_inside = newton > near && newton < far;
        here = match is_inside && far - near < 0.9 * width {
            true => newton,
            false => 0.5 * (near + far),
        };
    }
    finished(&slopes, sign * here, deviation)
}

fn finished(slopes: &impl Fn(f64) -> Slopes, gamma: f64, deviation: f64) -> OffsetGamma {
    OffsetGamma {
        estimate: gamma / deviation,
        z: gamma * slopes(gamma).1.max(0.0).sqrt(),
    }
}
