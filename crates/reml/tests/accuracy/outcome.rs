//! Outcomes to test with, and the definitions of their statistics over all pairs of samples.

use faer::{Mat, MatRef};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use reml::risk_sets::SurvivalTimes;

/// Standard normal.
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let u: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
    let v: f64 = rng.random_range(0.0..std::f64::consts::TAU);
    (-2.0 * u.ln()).sqrt() * v.cos()
}

/// n × q: a normal column, a column of 0 and 1, and so on.
pub fn covariates(rng: &mut ChaCha8Rng, n: usize, q: usize) -> Mat<f64> {
    let mut z = Mat::zeros(n, q);
    for j in 0..q {
        for i in 0..n {
            z[(i, j)] = match j % 2 {
                0 => 50.0 + 8.0 * normal(rng),
                _ => f64::from(u8::from(rng.random_bool(0.4))),
            };
        }
    }
    z
}

/// A linear predictor that the covariates drive, with a standard deviation of about 1.
pub fn predictor(z: MatRef<'_, f64>) -> Vec<f64> {
    let of = |i: usize| {
        let terms = (0..z.ncols()).map(|j| match j % 2 {
            0 => 0.07 * (z[(i, j)] - 50.0),
            _ => 0.8 * z[(i, j)],
        });
        terms.sum::<f64>()
    };
    (0..z.nrows()).map(of).collect()
}

/// Which of n samples are cases, by a logistic model.
pub fn disease(rng: &mut ChaCha8Rng, eta: &[f64], intercept: f64) -> Vec<bool> {
    let probability = |eta: f64| 1.0 / (1.0 + (-eta - intercept).exp());
    let cases = eta.iter().map(|&eta| rng.random_bool(probability(eta)));
    cases.collect()
}

/// Times by a Cox model with censoring; in steps of `step`, so that events, censoring and entry are tied, and perhaps with late entry.
pub fn times(rng: &mut ChaCha8Rng, eta: &[f64], step: f64, is_late: bool) -> SurvivalTimes {
    let (mut time, mut event, mut entry) = (Vec::new(), Vec::new(), Vec::new());
    for &eta in eta {
        loop {
            let mut draw = || -rng.random_range(f64::MIN_POSITIVE..1.0).ln();
            let (fails, leaves, enters) =
                (10.0 * draw() * (-eta).exp(), 12.0 * draw(), 3.0 * draw());
            let on_grid = |t: f64| (t / step).ceil() * step;
            let (end, start) = (on_grid(fails.min(leaves)), on_grid(enters) - step);
            if !is_late || start < end {
                time.push(end);
                event.push(fails <= leaves);
                entry.push(start);
                break;
            }
        }
    }
    SurvivalTimes::new(time, event, is_late.then_some(entry)).expect("valid times")
}

/// Whether a sample is at risk at τ.
pub fn at_risk(times: &SurvivalTimes, i: usize, tau: f64) -> bool {
    times.entry().is_none_or(|entry| entry[i] < tau) && tau <= times.time()[i]
}

/// Distinct event times, ascending.
pub fn event_times(times: &SurvivalTimes) -> Vec<f64> {
    let pairs = times.time().iter().zip(times.event());
    let mut tau: Vec<f64> = pairs.filter(|(_, e)| **e).map(|(t, _)| *t).collect();
    tau.sort_by(f64::total_cmp);
    tau.dedup();
    tau
}

/// Partial log likelihood by Efron's method, and the cumulative hazard of each sample.
pub fn efron(times: &SurvivalTimes, eta: &[f64]) -> (f64, Vec<f64>) {
    let n = eta.len();
    let (mut value, mut hazard) = (0.0, vec![0.0; n]);
    for tau in event_times(times) {
        let sets: Vec<usize> = (0..n).filter(|&i| at_risk(times, i, tau)).collect();
        let dies = |i: usize| times.event()[i] && times.time()[i] == tau;
        let dead: Vec<usize> = sets.iter().copied().filter(|&i| dies(i)).collect();
        let sum = |of: &[usize]| of.iter().map(|&i| eta[i].exp()).sum::<f64>();
        value += dead.iter().map(|&i| eta[i]).sum::<f64>();
        for l in 0..dead.len() {
            let c = l as f64 / dead.len() as f64;
            let s = sum(&sets) - c * sum(&dead);
            value -= s.ln();
            for &i in &sets {
                let share = if dies(i) { 1.0 - c } else { 1.0 };
                hazard[i] += share * eta[i].exp() / s;
            }
        }
    }
    (value, hazard)
}
