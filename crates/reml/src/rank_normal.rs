//! Rank-based inverse normal transform.

use statrs::distribution::{ContinuousCDF, Normal};

/// Blom's constant.
const C: f64 = 3.0 / 8.0;

/// Replaces values by the normal quantiles of their ranks; NaN stays NaN.
///
/// zᵢ = Φ⁻¹((rᵢ − c) / (n + 1 − 2c)) with c = 3/8 (Blom 1958), n the values that are not NaN, rᵢ their ranks from 1; ties get the mean
/// of their ranks. Cost: O(n log n).
///
/// ```
/// let mut values = [30.0, f64::NAN, 10.0, 20.0];
/// reml::transform::rank_normal(&mut values);
/// assert!(values[0] > 0.5 && values[1].is_nan() && (values[2] + values[0]).abs() < 1e-12);
/// ```
pub fn rank_normal(values: &mut [f64]) {
    let mut order: Vec<usize> = (0..values.len()).filter(|&i| !values[i].is_nan()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let n = order.len() as f64;
    let normal = Normal::standard();
    let mut first = 0;
    while first < order.len() {
        let value = values[order[first]];
        let ties = order[first..].iter().take_while(|&&i| values[i] == value);
        let end = first + ties.count();
        let rank = (first + 1 + end) as f64 / 2.0;
        let z = normal.inverse_cdf((rank - C) / (n + 1.0 - 2.0 * C));
        for &i in &order[first..end] {
            values[i] = z;
        }
        first = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_ranks_with_ties_and_missing_values() {
        let mut values = [30.0, f64::NAN, -1.0, 5.0, 5.0, 1e300, -0.0, 0.0];
        rank_normal(&mut values);
        // Ranks 6, 1, 4.5, 4.5, 7, 2.5, 2.5 of 7; the quantiles are those of scipy.stats.norm.ppf((r - 3/8) / (7 + 1/4)).
        let quantile = |r: f64| Normal::standard().inverse_cdf((r - 0.375) / 7.25);
        let expected = [6.0, f64::NAN, 1.0, 4.5, 4.5, 7.0, 2.5, 2.5];
        for (z, rank) in values.iter().zip(expected) {
            if rank.is_nan() {
                assert!(z.is_nan());
            } else {
                assert!((z - quantile(rank)).abs() < 1e-12, "{z} {rank}");
            }
        }
        assert!((values[2] + 1.364_488_72).abs() < 1e-6, "{}", values[2]);
        let mut one = [4.0];
        rank_normal(&mut one);
        assert_eq!(one, [0.0]);
        rank_normal(&mut []);
    }
}
