//! Mean and standard deviation of a feature.

/// First two moments of the values that are not NaN.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: f64,
    /// Population standard deviation.
    pub(super) sd: f64,
    /// Whether all values are exactly the same.
    pub(super) is_constant: bool,
}

impl Moments {
    /// Two passes: mean = m + Σ (xᵢ − m) / n with m = Σ xᵢ / n, sd = √(Σ (xᵢ − mean)² / n).
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let observed = || values.iter().copied().filter(|value| !value.is_nan());
        let count = observed().count();
        if count == 0 {
            return None;
        }
        let (least, most) = observed()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), x| {
                (least.min(x), most.max(x))
            });
        if least == most {
            return Some(Self {
                mean: least,
                sd: 0.0,
                is_constant: true,
            });
        }
        let n = count as f64;
        let mut mean = observed().sum::<f64>() / n;
        if !mean.is_finite() {
            mean = observed().map(|x| x / n).sum();
        }
        mean += observed().map(|x| (x - mean) / n).sum::<f64>();
        let mut sd = (observed().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        if !sd.is_normal() {
            // The squares left the range of float64, so they are taken relative to the largest deviation.
            let scale = observed().fold(0.0, |scale: f64, x| scale.max((x - mean).abs()));
            sd = scale
                * (observed()
                    .map(|x| ((x - mean) / scale).powi(2))
                    .sum::<f64>()
                    / n)
                    .sqrt();
        }
        Some(Self {
            mean,
            sd,
            is_constant: false,
        })
    }
}
