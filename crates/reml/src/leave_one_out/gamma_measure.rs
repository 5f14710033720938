//! A sample's measure beyond the leading pairs, and the time at which such measures decay.

use std::collections::BTreeMap;

/// Variance of a sample's measure, beside the square of its mean, below which it is a point.
const LEAST_SPREAD: f64 = 1e-9;

/// A sample's measure beyond the leading pairs, a gamma measure: its integral of exp(−gλ) is m (1 + g μ v)^(−1/v).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GammaMeasure {
    /// m.
    pub(super) mass: f64,
    /// μ.
    pub(super) mean: f64,
    /// v: the variance in units of μ².
    pub(super) spread: f64,
}

impl GammaMeasure {
    /// Its integral of exp(−gλ).
    pub(super) fn decayed(&self, g: f64) -> f64 {
        let x = self.mean * g;
        let exponent = match self.spread > LEAST_SPREAD {
            true => (self.spread * x).ln_1p() / self.spread,
            false => x,
        };
        self.mass * (-exponent).exp()
    }
}

/// The time g at which gamma measures have decayed as far as all samples' measures together have at t.
///
/// The third and higher moments are taken to change every sample's measure in the same way, as a change of the time would.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// Samples of much the same mean and spread together.
    bins: Vec<GammaMeasure>,
}

impl Clock {
    /// Width of a bin in the logarithms of the mean and of the spread.
    const WIDTHS: [f64; 2] = [0.03, 0.3];

    /// g is at most so many times t.
    const FASTEST: f64 = 4.0;

    /// From all samples' rests, and the unit that the bins are laid out in: a power of two, so that the unit of A moves no digit.
    pub(super) fn new(rest: &[GammaMeasure], unit: f64) -> Self {
        let key = |value: f64, width: f64| match value > 0.0 {
            true => (value.ln() / width).floor() as i64,
            false => i64::MIN,
        };
        let mut sums: BTreeMap<[i64; 2], GammaMeasure> = BTreeMap::new();
        for of in rest.iter().filter(|it| it.mass > 0.0) {
            let keys = [
                key(of.mean / unit, Self::WIDTHS[0]),
                key(of.spread, Self::WIDTHS[1]),
            ];
            let sum = sums.entry(keys).or_default();
            sum.mass += of.mass;
            sum.mean += of.mass * of.mean;
            sum.spread += of.mass * of.spread;
        }
        let bins = sums.into_values().map(|sum| GammaMeasure {
            mass: sum.mass,
            mean: sum.mean / sum.mass,
            spread: sum.spread / sum.mass,
        });
        Self {
            bins: bins.collect(),
        }
    }

    /// What the samples' measures sum to at g.
    pub(super) fn sum(&self, g: f64) -> f64 {
        self.bins.iter().map(|bin| bin.decayed(g)).sum()
    }

    /// g(t) where the samples' measures sum to `left`, by Newton's steps on the logarithm of the sum, which is convex in g.
    pub(super) fn at(&self, t: f64, left: f64) -> f64 {
        let most = Self::FASTEST * t;
        let target = left.max(f64::MIN_POSITIVE).ln();
        let mut g = t;
        for _ in 0..30 {
            let (mut sum, mut slope) = (0.0, 0.0);
            for bin in &self.bins {
                let decayed = bin.decayed(g);
                sum += decayed;
                slope += decayed * bin.mean / (1.0 + g * bin.mean * bin.spread);
            }
            if !(sum > 0.0 && slope > 0.0) {
                break;
            }
            let next = (g + (sum.ln() - target) * sum / slope).clamp(0.0, most);
            let step = (next - g).abs();
            g = next;
            if step <= 1e-10 * t {
                break;
            }
        }
        g
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of samples whose measures are gamma measures the clock is t itself, whatever the time; of what has decayed further it is ahead.
    #[test]
    fn the_clock_is_the_time_of_gamma_measures() {
        let rest: Vec<GammaMeasure> = (0..2000)
            .map(|i| GammaMeasure {
                mass: 1.0 - 0.0003 * f64::from(i),
                mean: 0.2 + 0.01 * f64::from(i % 90),
                spread: 0.5 * f64::from(i % 17) / 16.0,
            })
            .collect();
        let clock = Clock::new(&rest, 1.0);
        for t in [0.01_f64, 1.0, 8.0] {
            let sum = |t: f64| rest.iter().map(|it| it.decayed(t)).sum::<f64>();
            for faster in [0.5, 1.0, 1.5] {
                let got = clock.at(t, sum(faster * t)) / t;
                assert!((got / faster - 1.0).abs() < 2e-3, "{t}: {got} {faster}");
            }
        }
        assert_eq!(clock.at(2.0, 0.0), 8.0);
        assert_eq!(clock.at(2.0, 1e6), 0.0);
    }
}
