//! Average precision.

use crate::accuracy::fold::folds;
use crate::prediction_check::InvalidPrediction;

/// Area under the steps of precision over recall, Σ (Rₖ − Rₖ₋₁) Pₖ over the distinct scores from the highest down, without interpolation (Davis and Goadrich 2006): in each
/// fold, then the mean over folds by their cases. `None` without a case.
///
/// Compare it with the share of cases, which a score that says nothing has. `is_case`, `score`, `fold`: n values each.
///
/// Cost: O(n log n).
///
/// # Errors
/// [`InvalidPrediction`]: other lengths, or a score that is NaN.
pub fn average_precision(
    is_case: &[bool],
    score: &[f64],
    fold: &[usize],
) -> Result<Option<f64>, InvalidPrediction> {
    let (mut sum, mut all_cases) = (0.0, 0.0);
    for mut samples in folds(is_case.len(), score, fold)? {
        samples.sort_by(|&i, &j| (score[j] + 0.0).total_cmp(&(score[i] + 0.0)));
        let (mut cases, mut seen) = (0.0, 0.0);
        for tied in samples.chunk_by(|&i, &j| score[i] == score[j]) {
            let more = tied.iter().filter(|&&i| is_case[i]).count() as f64;
            cases += more;
            seen += tied.len() as f64;
            sum += more * cases / seen;
        }
        all_cases += cases;
    }
    Ok((all_cases > 0.0).then(|| sum / all_cases))
}
