//! The time of the least error, found on a grid in log t.

use crate::stopping_time::StoppingTime;

/// The smallest time of the grid above 0, in units of 1 / λ₁: up to it, nothing changes by more than this share.
const FIRST: f64 = 1e-3;

/// Distance of the grid's times, and that of the finer grid, in log t.
const STEP: f64 = 0.5;
const FINE_STEP: f64 = 0.125;

/// A minimum on the grid is searched more finely if it is above the smallest by at most this share.
const NEAR_LEAST: f64 = 0.02;

/// Most minima that are searched more finely.
const MOST_MINIMA: usize = 3;

/// Times to scan: 0, and a grid in log t up to the end.
pub(super) fn grid(largest: f64, end: f64) -> Vec<f64> {
    let first = (FIRST / largest.max(f64::MIN_POSITIVE)).min(0.5 * end);
    let n = ((end / first).ln() / STEP).ceil().max(1.0);
    let at = |k: usize| end * (first / end).powf(1.0 - k as f64 / n);
    let times = (0..=n as usize).map(at);
    std::iter::once(0.0).chain(times).collect()
}

/// Times between the neighbours of each minimum of `sums` over `times` that may be the least.
fn closer(times: &[f64], sums: &[f64]) -> Vec<f64> {
    let n = times.len();
    let least = sums.iter().copied().fold(f64::INFINITY, f64::min);
    let is_minimum = |i: usize| {
        (i == 0 || sums[i] <= sums[i - 1])
            && (i + 1 == n || sums[i] <= sums[i + 1])
            && sums[i] <= (1.0 + NEAR_LEAST) * least
    };
    let mut minima: Vec<usize> = (0..n).filter(|&i| is_minimum(i)).collect();
    minima.sort_by(|&a, &b| sums[a].total_cmp(&sums[b]));
    minima.truncate(MOST_MINIMA);
    let mut found = Vec::new();
    for i in minima {
        // Below the least time of the grid there is 0 alone.
        let low = match i {
            0 | 1 => times[1] * (-2.0 * STEP).exp(),
            _ => times[i - 1],
        };
        let high = times[(i + 1).min(n - 1)];
        let n_steps = ((high / low).ln() / FINE_STEP).round().max(1.0) as usize;
        let at = |k: usize| low * (high / low).powf(k as f64 / n_steps as f64);
        found.extend((1..n_steps).map(at));
    }
    found
}

/// Where the error is least, from its values at times in any order; by the parabola in log t through the three about the least.
fn least(points: &mut Vec<(f64, f64)>) -> StoppingTime {
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    // A time of the grid may come again.
    points.dedup_by(|a, b| a.0 <= (1.0 + 1e-6) * b.0);
    let Some(at) = (0..points.len()).min_by(|&a, &b| points[a].1.total_cmp(&points[b].1)) else {
        return StoppingTime::AtZero;
    };
    let (t, value) = points[at];
    if t == 0.0 {
        return StoppingTime::AtZero;
    }
    if at + 1 == points.len() {
        return StoppingTime::Unbounded;
    }
    let [(below, left), (above, right)] = [points[at - 1], points[at + 1]];
    if below == 0.0 {
        return StoppingTime::Interior(t);
    }
    let (x, y) = ((below / t).ln(), (above / t).ln());
    let (p, q) = ((left - value) / x, (right - value) / y);
    // value + b u + c u², c = (q − p) / (y − x), b = p − c x.
    let curvature = (q - p) / (y - x);
    let shift = -(p - curvature * x) / (2.0 * curvature);
    match shift.is_finite() {
        true => StoppingTime::Interior(t * shift.clamp(x, y).exp()),
        false => StoppingTime::Interior(t),
    }
}

/// Finds t_loo of several phenotypes of a mask: `sums` are LOO of each at its own times.
pub(super) fn search(
    n_phenotypes: usize,
    largest: f64,
    end: f64,
    sums: impl Fn(&[Vec<f64>]) -> Vec<Vec<f64>>,
) -> Vec<StoppingTime> {
    let times = grid(largest, end);
    let coarse = sums(&vec![times.clone(); n_phenotypes]);
    let again: Vec<Vec<f64>> = coarse.iter().map(|of| closer(&times, of)).collect();
    let fine = sums(&again);
    let found = coarse.iter().zip(again.iter().zip(&fine));
    found
        .map(|(coarse, (again, fine))| {
            let on_grid = times.iter().zip(coarse);
            let points = on_grid.chain(again.iter().zip(fine));
            let mut points: Vec<(f64, f64)> = points.map(|(t, sum)| (*t, *sum)).collect();
            for (_, sum) in &mut points {
                if !sum.is_finite() {
                    *sum = f64::INFINITY;
                }
            }
            least(&mut points)
        })
        .collect()
}

/// 0, t̂ and t_loo; `end` in place of one that is infinite.
pub(super) fn shown(reml: f64, time: StoppingTime, end: f64) -> Vec<f64> {
    let finite = |t: f64| if t.is_finite() { t } else { end };
    vec![0.0, finite(reml), finite(time.time())]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several minima, one at 0 and one at the end.
    #[test]
    fn the_least_of_several_minima_is_found_wherever_it_is() {
        let (largest, end) = (1.0, 1e4);
        let at = |error: &dyn Fn(f64) -> f64| {
            let sums = |times: &[Vec<f64>]| {
                let of = |times: &Vec<f64>| times.iter().map(|t| error(*t)).collect();
                times.iter().map(of).collect()
            };
            search(1, largest, end, sums)[0]
        };
        let dip = |t: f64, centre: f64, depth: f64| {
            let x = if t > 0.0 { (t / centre).ln() } else { -50.0 };
            depth * (-0.5 * x * x).exp()
        };
        let two = |near: f64, far: f64| at(&|t| 10.0 - dip(t, 0.3, near) - dip(t, 700.0, far));
        for (near, far, want) in [(1.0, 0.9, 0.3), (0.9, 1.0, 700.0), (0.999, 1.0, 700.0)] {
            let StoppingTime::Interior(t) = two(near, far) else {
                panic!("a minimum inside");
            };
            assert!((t / want - 1.0).abs() < 2e-3, "{t} {want}");
        }
        assert_eq!(at(&|t| 1.0 + t), StoppingTime::AtZero);
        assert_eq!(at(&|t| 1.0 / (1.0 + t)), StoppingTime::Unbounded);
        assert_eq!(
            at(&|t| 1.0 + 0.1 * t / (1.0 + t) - dip(t, 10.0, 0.05)),
            StoppingTime::AtZero
        );
    }
}
