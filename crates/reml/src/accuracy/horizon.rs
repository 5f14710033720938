//! How well a score tells who has the event by a time.

use crate::accuracy::fold::folds;
use crate::prediction_check::InvalidPrediction;
use crate::risk_sets::SurvivalTimes;

/// The area under the curve at a horizon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HorizonAuc {
    /// Weighted share of pairs in which the case has the higher score.
    pub value: f64,
    /// Samples with the event by the horizon.
    pub n_cases: usize,
    /// Samples known to be without it then.
    pub n_controls: usize,
}

/// Area under the curve of cases by a horizon h against controls beyond it (cumulative cases, dynamic controls: Heagerty, Lumley and Pepe 2000), of pairs of the same
/// fold.
///
/// ```text
///     AUC = Σᵢ wᵢ Σⱼ \[sᵢ > sⱼ\] / Σᵢ wᵢ Σⱼ 1        i: event at tᵢ ≤ h,  wᵢ = 1 / G(tᵢ−);  j: without event at h
/// ```
///
/// with ties counted half and G the product-limit estimate, over all folds, of being uncensored (Uno et al. 2007; Hung and Chiang 2010): a sample that is censored before h is
/// neither, and the cases stand in for it. An event comes before a censoring at the same time. It takes censoring to be independent of score and time.
///
/// `None` where no fold has a pair of a case and a control, and for samples that enter late, for which these weights are not right.
///
/// Cost: O(n log n).
///
/// # Errors
/// [`InvalidPrediction`]: other lengths, or a score that is NaN.
pub fn auc_at_horizon(
    times: &SurvivalTimes,
    score: &[f64],
    fold: &[usize],
    horizon: f64,
) -> Result<Option<HorizonAuc>, InvalidPrediction> {
    let folds = folds(times.n_samples(), score, fold)?;
    if times
        .entry()
        .is_some_and(|entry| entry.iter().any(|entry| *entry > 0.0))
    {
        return Ok(None);
    }
    let weights = weights(times);
    let (time, event) = (times.time(), times.event());
    let is_case = |i: usize| event[i] && time[i] <= horizon;
    let is_control = |i: usize| time[i] > horizon || (time[i] == horizon && !event[i]);
    let (mut right, mut all) = (0.0, 0.0);
    for mut samples in folds {
        samples.sort_by(|&i, &j| (score[i] + 0.0).total_cmp(&(score[j] + 0.0)));
        let controls = samples.iter().filter(|&&i| is_control(i)).count() as f64;
        let mut below = 0.0;
        for tied in samples.chunk_by(|&i, &j| score[i] == score[j]) {
            let its_controls = tied.iter().filter(|&&i| is_control(i)).count() as f64;
            for &i in tied.iter().filter(|&&i| is_case(i)) {
                right += weights[i] * (below + 0.5 * its_controls);
                all += weights[i] * controls;
            }
            below += its_controls;
        }
    }
    let count = |is: &dyn Fn(usize) -> bool| (0..time.len()).filter(|&i| is(i)).count();
    Ok((all > 0.0).then(|| HorizonAuc {
        value: right / all,
        n_cases: count(&is_case),
        n_controls: count(&is_control),
    }))
}

/// 1 / G(t−) of each sample, G(t) = Π_{s ≤ t} (1 − c(s) / (n(s) − d(s))) with n samples still there at s, of which d have the event and c are censored.
fn weights(times: &SurvivalTimes) -> Vec<f64> {
    let (time, event) = (times.time(), times.event());
    let mut order: Vec<usize> = (0..time.len()).collect();
    order.sort_unstable_by(|&i, &j| time[i].total_cmp(&time[j]));
    let mut left = order.len() as f64;
    let mut uncensored = 1.0;
    let mut weights = vec![0.0; time.len()];
    for tied in order.chunk_by(|&i, &j| time[i] == time[j]) {
        tied.iter().for_each(|&i| weights[i] = 1.0 / uncensored);
        let events = tied.iter().filter(|&&i| event[i]).count() as f64;
        let censored = tied.len() as f64 - events;
        if censored > 0.0 {
            uncensored *= 1.0 - censored / (left - events);
        }
        left -= tied.len() as f64;
    }
    weights
}
