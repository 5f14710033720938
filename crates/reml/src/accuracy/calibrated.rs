//! Whether predicted probabilities are right in size.

use crate::null_model::{Unfitted, logistic};
use crate::prediction_check::{InvalidPrediction, check};
use faer::MatRef;

/// Mean of (y − p)² (Brier 1950); `None` without samples. `is_case`, `probability`: n values each.
///
/// # Errors
/// [`InvalidPrediction`]: other lengths, or a probability that is not between 0 and 1.
pub fn brier_score(
    is_case: &[bool],
    probability: &[f64],
) -> Result<Option<f64>, InvalidPrediction> {
    let n = is_case.len();
    let expected = "a probability between 0 and 1";
    check(("probabilities", probability), n, expected, |p| {
        (0.0..=1.0).contains(&p)
    })?;
    let pairs = is_case.iter().zip(probability);
    let sum: f64 = pairs
        .map(|(&y, p)| (f64::from(u8::from(y)) - p).powi(2))
        .sum();
    Ok((n > 0).then(|| sum / n as f64))
}

/// Logistic regression of a disease on its held-out linear predictor (Cox 1958): intercept 0 and slope 1 where probabilities are right; a slope below 1 says that they are too
/// far apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Its intercept.
    pub intercept: f64,
    /// Its slope.
    pub slope: f64,
    /// Standard error of the slope.
    pub standard_error: f64,
}

/// Calibration of a linear predictor, log odds of n samples; `None` where all have the same.
///
/// Cost: O(n) for each of some 6 steps.
///
/// # Errors
/// [`InvalidPrediction`]: other lengths, or a value that is not finite. Why there is no fit is an [`Unfitted`].
pub fn calibration(
    is_case: &[bool],
    linear_predictor: &[f64],
) -> Result<Result<Option<Calibration>, Unfitted>, InvalidPrediction> {
    let n = is_case.len();
    let what = ("linear predictors", linear_predictor);
    check(what, n, "a finite number", f64::is_finite)?;
    let covariate = MatRef::from_column_major_slice(linear_predictor, n, 1);
    let Ok(fit) = logistic(is_case, covariate) else {
        // The lengths and values are checked above.
        return Ok(Err(Unfitted::NotConverged));
    };
    Ok(fit.map(|model| {
        let (intercept, slope) = (model.intercept?, model.terms[0]);
        Some(Calibration {
            intercept: intercept.coefficient,
            slope: slope.coefficient,
            standard_error: slope.standard_error?,
        })
    }))
}
