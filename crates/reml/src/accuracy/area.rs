//! The area under the receiver operating characteristic curve.

use crate::accuracy::discrimination::Discrimination;
use crate::accuracy::fold::folds;
use crate::prediction_check::InvalidPrediction;

/// Share of pairs of a case and a control of the same fold in which the case has the higher score, ties counted half; `None` without such a pair.
///
/// `is_case`, `score`, `fold`: n values each; a score may be infinite.
///
/// Cost: O(n log n).
///
/// # Errors
/// [`InvalidPrediction`]: other lengths, or a score that is NaN.
///
/// ```
/// use reml::accuracy::auc;
///
/// let is_case = [true, false, true, false];
/// let area = auc(&is_case, &[0.9, 0.2, 0.4, 0.4], &[0; 4])?.expect("cases and controls");
/// assert_eq!(area.estimate().value, 3.5 / 4.0);
/// # Ok::<(), reml::InvalidPrediction>(())
/// ```
pub fn auc(
    is_case: &[bool],
    score: &[f64],
    fold: &[usize],
) -> Result<Option<Discrimination>, InvalidPrediction> {
    let n = is_case.len();
    let (mut right, mut comparable) = (vec![0.0; n], vec![0.0; n]);
    for mut samples in folds(n, score, fold)? {
        samples.sort_by(|&i, &j| (score[i] + 0.0).total_cmp(&(score[j] + 0.0)));
        let cases = samples.iter().filter(|&&i| is_case[i]).count() as f64;
        let controls = samples.len() as f64 - cases;
        let (mut cases_below, mut controls_below) = (0.0, 0.0);
        for tied in samples.chunk_by(|&i, &j| score[i] == score[j]) {
            let tied_cases = tied.iter().filter(|&&i| is_case[i]).count() as f64;
            let tied_controls = tied.len() as f64 - tied_cases;
            for &i in tied {
                (right[i], comparable[i]) = match is_case[i] {
                    true => (controls_below + 0.5 * tied_controls, controls),
                    false => (cases - cases_below - 0.5 * tied_cases, cases),
                };
            }
            cases_below += tied_cases;
            controls_below += tied_controls;
        }
    }
    Ok(Discrimination::new(&right, &comparable, Some(is_case)))
}
