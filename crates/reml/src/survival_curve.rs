//! The share of samples without the event, as time goes by.

use crate::risk_sets::{RiskSets, SurvivalTimes};

/// The product-limit estimate of Kaplan and Meier (1958), with late entry: S(t) = Π_{τ ≤ t} (1 − d / n), d events among n samples at risk at τ.
#[derive(Clone, Debug, PartialEq)]
pub struct SurvivalCurve {
    /// Distinct event times, ascending.
    pub times: Vec<f64>,
    /// Samples at risk at each.
    pub at_risk: Vec<usize>,
    /// Events at each.
    pub events: Vec<usize>,
    /// S after each.
    pub survival: Vec<f64>,
    /// Standard error of each by Greenwood (1926): S √(Σ d / (n (n − d))).
    pub standard_errors: Vec<f64>,
}

impl SurvivalCurve {
    /// Cost: O(n log n).
    pub fn new(times: &SurvivalTimes) -> Self {
        let sets = RiskSets::new(times);
        let mut at_risk = vec![0; sets.times().len()];
        sets.sums(
            1,
            |_, row| row[0] = 1.0,
            |sum| at_risk[sum.group] = sum.at_risk[0] as usize,
        );
        let (mut share, mut variance) = (1.0, 0.0);
        let (mut survival, mut standard_errors) = (Vec::new(), Vec::new());
        for (&n, &d) in at_risk.iter().zip(sets.events()) {
            let (n, d) = (n as f64, d as f64);
            share *= 1.0 - d / n;
            // Where all have the event S is 0, and so is its error.
            variance += if n > d { d / (n * (n - d)) } else { 0.0 };
            survival.push(share);
            standard_errors.push(share * f64::sqrt(variance));
        }
        Self {
            times: sets.times().to_vec(),
            events: sets.events().to_vec(),
            at_risk,
            survival,
            standard_errors,
        }
    }

    /// S(t).
    pub fn at(&self, time: f64) -> f64 {
        match self.times.partition_point(|tau| *tau <= time) {
            0 => 1.0,
            after => self.survival[after - 1],
        }
    }
}
