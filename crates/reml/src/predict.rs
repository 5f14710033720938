//! Predictions from a fit, and how good they are.

use crate::fit::Phenotype;
use crate::linalg::covariates::Covariates;
use crate::linalg::power_of_two::power_of_two;
use faer::MatRef;

/// What predicts one phenotype from f₀ + K α and the covariates:
///
/// ```text
///     ŷ(x) = (f₀(x) + K(x, S) α + z(x)'β) sd + mean,    β the least-squares effects of the covariates on y − f₀ − K α over S
/// ```
///
/// with y = (values − mean) / sd the phenotype that was analysed.
///
/// ```
/// use reml::{Covariates, Phenotype, Predictor};
///
/// let covariates = Covariates::new(4, &[vec![1.0; 4], vec![0.0, 1.0, 2.0, 3.0]]);
/// let phenotype = Phenotype::new(vec![5.0, 7.0, 9.0, f64::NAN], &covariates);
/// let predictor = Predictor::new(&covariates, &phenotype, &|_| 0.0);
/// assert!((predictor.predict(0.0, [1.0, 3.0]) - 11.0).abs() < 1e-9);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Predictor {
    effects: Vec<f64>,
    mean: f64,
    sd: f64,
}

impl Predictor {
    /// From the increment f₀ + K α of each sample of the phenotype's mask. Cost: O(n q) for q covariates.
    pub fn new(
        covariates: &Covariates,
        phenotype: &Phenotype,
        increment: &dyn Fn(usize) -> f64,
    ) -> Self {
        let Phenotype { mask, values, .. } = phenotype;
        let rest: Vec<f64> = (0..mask.len())
            .map(|row| match mask[row] {
                true => values[row] - increment(row),
                false => 0.0,
            })
            .collect();
        let rest = MatRef::from_column_major_slice(&rest, mask.len(), 1);
        let effects = covariates.on(mask).effects(rest);
        Self::from_parts(effects.col_as_slice(0).to_vec(), 0.0, 1.0)
    }

    /// From β, q values, and what the phenotype was standardised by.
    pub fn from_parts(effects: Vec<f64>, mean: f64, sd: f64) -> Self {
        Self { effects, mean, sd }
    }

    /// The same in the units of values that were standardised by `mean` and `sd`.
    pub fn in_units(self, mean: f64, sd: f64) -> Self {
        Self { mean, sd, ..self }
    }

    /// β, q values.
    pub fn effects(&self) -> &[f64] {
        &self.effects
    }

    /// z'β of a sample with covariates z, q values, as analysed; NaN where one is NaN.
    pub fn fixed(&self, covariates: impl IntoIterator<Item = f64>) -> f64 {
        let terms = covariates.into_iter().zip(&self.effects);
        terms.map(|(z, effect)| z * effect).sum::<f64>()
    }

    /// ŷ of a sample with the increment f₀ + K α and covariates z, q values.
    pub fn predict(&self, increment: f64, covariates: impl IntoIterator<Item = f64>) -> f64 {
        (increment + self.fixed(covariates)) * self.sd + self.mean
    }
}

/// R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)² of pairs (y, ŷ); `None` where y does not vary.
///
/// ```
/// assert_eq!(reml::r_squared(&[(1.0, 1.0), (3.0, 3.0)]), Some(1.0));
/// assert_eq!(reml::r_squared(&[(1.0, 2.0), (3.0, 2.0)]), Some(0.0));
/// ```
pub fn r_squared(pairs: &[(f64, f64)]) -> Option<f64> {
    // In units of the largest, whose square may be beyond float64.
    let unit = power_of_two(pairs.iter().fold(0.0, |most: f64, it| most.max(it.0.abs())));
    let mean = pairs.iter().map(|it| it.0 / unit).sum::<f64>() / pairs.len() as f64;
    let variation: f64 = pairs.iter().map(|it| (it.0 / unit - mean).powi(2)).sum();
    let error: f64 = pairs.iter().map(|it| ((it.0 - it.1) / unit).powi(2)).sum();
    (variation > 0.0).then(|| 1.0 - error / variation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r2_of_the_mean_is_nought_and_of_the_truth_one() {
        assert_eq!(r_squared(&[(1.0, 2.0), (3.0, 2.0)]), Some(0.0));
        assert_eq!(r_squared(&[(1.0, 1.0), (3.0, 3.0)]), Some(1.0));
        assert_eq!(r_squared(&[(1e-200, 2e-200), (3e-200, 2e-200)]), Some(0.0));
        assert_eq!(r_squared(&[(1e200, 2e200), (3e200, 2e200)]), Some(0.0));
        assert_eq!(r_squared(&[(1.0, 1.0), (1.0, 3.0)]), None);
        assert_eq!(r_squared(&[]), None);
    }
}
