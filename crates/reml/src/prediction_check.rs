//! What predictions must be before they are compared with outcomes.

use thiserror::Error;

/// Why predictions cannot be compared with outcomes.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum InvalidPrediction {
    /// They are not of the outcome's samples.
    #[error("{predictions} {what} for an outcome of {outcome} samples")]
    Samples {
        /// What was given: predictions, folds.
        what: &'static str,
        /// Their number.
        predictions: usize,
        /// Samples of the outcome.
        outcome: usize,
    },
    /// One is missing, or not in its range.
    #[error("prediction of sample {sample} is {value}; expected {expected}")]
    Value {
        /// Its place.
        sample: usize,
        /// What it is.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
}

/// Checks that `values` are of `n` samples, each of them what is `expected`.
pub(crate) fn check(
    (what, values): (&'static str, &[f64]),
    n: usize,
    expected: &'static str,
    is_valid: impl Fn(f64) -> bool,
) -> Result<(), InvalidPrediction> {
    check_length(what, values.len(), n)?;
    match values.iter().position(|value| !is_valid(*value)) {
        Some(sample) => Err(InvalidPrediction::Value {
            sample,
            value: values[sample],
            expected,
        }),
        None => Ok(()),
    }
}

/// Checks that as many are given as there are samples.
pub(crate) fn check_length(
    what: &'static str,
    predictions: usize,
    outcome: usize,
) -> Result<(), InvalidPrediction> {
    match predictions == outcome {
        true => Ok(()),
        false => Err(InvalidPrediction::Samples {
            what,
            predictions,
            outcome,
        }),
    }
}
