//! The samples of each fold.

use crate::prediction_check::{InvalidPrediction, check, check_length};

/// The samples of each fold, by the folds' numbers. Checks that scores and folds are of `n` samples and no score is NaN.
pub(super) fn folds(
    n: usize,
    score: &[f64],
    fold: &[usize],
) -> Result<Vec<Vec<usize>>, InvalidPrediction> {
    check(("scores", score), n, "a number", |x| !x.is_nan())?;
    check_length("folds", fold.len(), n)?;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&i| fold[i]);
    let alike = order.chunk_by(|&i, &j| fold[i] == fold[j]);
    Ok(alike.map(<[usize]>::to_vec).collect())
}
