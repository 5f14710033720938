//! Light samples of the robust score in groups of nearly the same diagonal.

/// Groups of light samples with nearly the same d² (own + q − ρ).
const BINS: usize = 32;

/// Samples of a group of light ones.
#[derive(Clone, Debug)]
pub(super) struct Bin {
    pub(super) n: f64,
    /// Means of p = d² (own + q − ρ) and r = d² ρ; over the samples, and weighted by d².
    pub(super) mean: (f64, f64),
    pub(super) weighted: (f64, f64),
    /// Σ of squares and products of p and r about their means.
    pub(super) spread: (f64, f64, f64),
    /// Σ d² R_ii.
    pub(super) tail: f64,
}

impl Bin {
    /// The samples of a group, from d², p, ρ and R_ii of all.
    pub(super) fn new(
        group: &[usize],
        squares: &[f64],
        p: &[f64],
        rho: &[f64],
        own: &[f64],
    ) -> Self {
        let n = group.len() as f64;
        let sum = |f: &dyn Fn(usize) -> f64| group.iter().map(|&i| f(i)).sum::<f64>();
        let r_of = |i: usize| squares[i] * rho[i];
        let mean = (sum(&|i| p[i]) / n, sum(&r_of) / n);
        let weight = sum(&|i| squares[i]);
        let weighted = match weight > 0.0 {
            true => (
                sum(&|i| squares[i] * p[i]) / weight,
                sum(&|i| squares[i] * r_of(i)) / weight,
            ),
            false => mean,
        };
        let about = |i: usize| (p[i] - mean.0, r_of(i) - mean.1);
        Self {
            n,
            mean,
            weighted,
            spread: (
                sum(&|i| about(i).0 * about(i).0),
                sum(&|i| about(i).0 * about(i).1),
                sum(&|i| about(i).1 * about(i).1),
            ),
            tail: sum(&|i| squares[i] * own[i]),
        }
    }
}

/// The light samples in [`BINS`] groups of nearly the same p, each in order; none is empty.
pub(super) fn groups(p: &[f64], is_heavy: &[bool]) -> Vec<Vec<usize>> {
    let light = || (0..p.len()).filter(|&i| !is_heavy[i]);
    let low = light().map(|i| p[i]).fold(f64::INFINITY, f64::min);
    let high = light().map(|i| p[i]).fold(f64::NEG_INFINITY, f64::max);
    let mut groups = vec![Vec::new(); BINS];
    for i in light() {
        let place = match high > low {
            true => (((p[i] - low) / (high - low) * BINS as f64) as usize).min(BINS - 1),
            false => 0,
        };
        groups[place].push(i);
    }
    groups.retain(|group| !group.is_empty());
    groups
}
