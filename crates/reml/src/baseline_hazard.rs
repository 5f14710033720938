//! The hazard that a time to event has beside relative hazards, and absolute risks from it.

use crate::prediction_check::{InvalidPrediction, check};
use crate::risk_sets::{RiskSets, SurvivalTimes};

/// Breslow's cumulative baseline hazard (1972): with d events at τ and R(τ) the samples at risk,
///
/// ```text
///     H₀(t) = Σ_{τ ≤ t} d(τ) / Σ_{R(τ)} exp(score)        risk by t = 1 − exp(−H₀(t) exp(score))
/// ```
///
/// Events of other kinds that end observation count as censoring: the risk is that in a world without them.
#[derive(Clone, Debug)]
pub struct BaselineHazard {
    /// Event times, ascending.
    times: Vec<f64>,
    /// H₀ exp(top) after each.
    cumulative: Vec<f64>,
    /// The largest score, about which relative hazards are taken.
    top: f64,
    /// The last time at which a sample is observed.
    last: f64,
}

impl BaselineHazard {
    /// From samples whose `score`, n values on the scale of the linear predictor, is not of their own outcome. A score of −∞ is a relative hazard of 0.
    ///
    /// Cost: O(n log n).
    ///
    /// # Errors
    /// [`InvalidPrediction`]: other lengths, or a score that is NaN or +∞.
    pub fn new(times: &SurvivalTimes, score: &[f64]) -> Result<Self, InvalidPrediction> {
        let n = times.n_samples();
        let expected = "a number below infinity";
        check(("scores", score), n, expected, |x| x < f64::INFINITY)?;
        let sets = RiskSets::new(times);
        let (weights, top) = sets.weights(score);
        let mut steps = vec![0.0; sets.times().len()];
        sets.sums(
            1,
            |i, row| row[0] = weights[i],
            |sum| {
                let at_risk = sum.at_risk[0].max(sum.dead[0]);
                steps[sum.group] = sum.events as f64 / at_risk;
            },
        );
        let mut sum = 0.0;
        let cumulative = steps.into_iter().map(|step| {
            sum += step;
            sum
        });
        Ok(Self {
            cumulative: cumulative.collect(),
            times: sets.times().to_vec(),
            top,
            last: times.time().iter().copied().fold(0.0, f64::max),
        })
    }

    /// Cumulative hazard of a sample with that `score` by `time`; `None` beyond the last time observed, of which nothing is known.
    pub fn cumulative(&self, time: f64, score: f64) -> Option<f64> {
        let after = self.times.partition_point(|tau| *tau <= time);
        (time <= self.last).then(|| match after {
            0 => 0.0,
            after => self.cumulative[after - 1] * (score - self.top).exp(),
        })
    }

    /// Risk of a sample with that `score` to have the event by `time`, between 0 and 1; `None` as of [`cumulative`](Self::cumulative).
    pub fn risk(&self, time: f64, score: f64) -> Option<f64> {
        self.cumulative(time, score).map(|h| -(-h).exp_m1())
    }

    /// Event times, ascending, in the unit given.
    pub fn times(&self) -> &[f64] {
        &self.times
    }
}
