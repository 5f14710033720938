//! How well each sample is predicted by the fit of the others.

use crate::stopping_time::StoppingTime;
use faer::MatRef;

/// How well each sample is predicted by the fit of the others.
#[derive(Clone, Debug)]
pub struct LeaveOneOut {
    /// t_loo; unbounded where the error still falls at the end of the times searched, `None` where the flow is not known well enough at the best time.
    pub time: Option<StoppingTime>,
    /// The end of the times searched: 50 dof / tr A. For masks that are not decomposed in full, 8 dof / tr A, or the last time for which s is known.
    pub end: f64,
    /// 1 − LOO(t̂) / LOO(0); `None` where t̂ is infinite.
    pub r2: Option<f64>,
    /// 1 − LOO / LOO(0) at t_loo, or at the end of the times; `None` where t_loo is not known.
    pub r2_best: Option<f64>,
    /// Standard error of [`r2_best`](Self::r2_best) − [`r2`](Self::r2): of the sum of the differences of squared errors, paired over samples.
    pub gain_error: Option<f64>,
    /// eᵢ / sᵢ at t̂ and at t_loo, n values each, zero outside the mask. An infinite time is replaced by the end of the times searched.
    pub residuals: [Vec<f32>; 2],
}

impl LeaveOneOut {
    /// The time of the least error as a finite number.
    pub fn finite_time(&self) -> f64 {
        let found = self.time.map_or(f64::INFINITY, StoppingTime::time);
        found.min(self.end)
    }

    /// The residuals at the time `stop` of the fit: t_loo or the end of the times searched, else t̂.
    pub fn residuals_at(&self, stop: f64) -> &[f32] {
        &self.residuals[usize::from(self.time.is_some() && stop == self.finite_time())]
    }

    /// The same without t_loo and the values at it.
    pub(crate) fn unknown(self) -> Self {
        Self {
            time: None,
            r2_best: None,
            gain_error: None,
            ..self
        }
    }

    /// Whether t_loo predicts better than t̂ by more than the standard error of the difference; `None` where t̂ is infinite.
    pub fn predicts_better(&self) -> Option<bool> {
        Some(self.r2_best? - self.r2? > self.gain_error?)
    }

    /// From the residuals at 0, at t̂ and at t_loo, n × 3.
    pub(super) fn new(time: StoppingTime, end: f64, reml: f64, residuals: MatRef<'_, f64>) -> Self {
        let n_rows = residuals.nrows();
        let total = |q: usize| (0..n_rows).map(|i| residuals[(i, q)].powi(2)).sum::<f64>();
        let at_zero = total(0);
        let r2 = |q: usize| 1.0 - total(q) / at_zero;
        let is_used: Vec<usize> = (0..n_rows).filter(|&i| residuals[(i, 0)] != 0.0).collect();
        let n = is_used.len() as f64;
        let gain = |i: usize| residuals[(i, 1)].powi(2) - residuals[(i, 2)].powi(2);
        let mean = is_used.iter().map(|&i| gain(i)).sum::<f64>() / n;
        let squares: f64 = is_used.iter().map(|&i| (gain(i) - mean).powi(2)).sum();
        let error = (n / (n - 1.0) * squares).sqrt() / at_zero;
        let column = |q: usize| (0..n_rows).map(|i| residuals[(i, q)] as f32).collect();
        Self {
            time: Some(time),
            end,
            r2: reml.is_finite().then(|| r2(1)),
            r2_best: Some(r2(2)),
            gain_error: reml.is_finite().then_some(error),
            residuals: [column(1), column(2)],
        }
    }
}
