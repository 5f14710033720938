//! Values of a phenotype or a feature on another scale, and in place of missing ones.

use crate::linalg::covariates::Covariates;
use crate::linalg::power_of_two::power_of_two;
pub use crate::rank_normal::rank_normal;
use faer::MatRef;

/// The least standard deviation that values are divided by, as a share of the largest value: below it they do not vary.
const LEAST_SD: f64 = 1e-13;

/// A shift and a scale: x becomes (x − mean) / sd. `mean` and `sd` are in the unit of the values.
///
/// ```
/// use reml::transform::Standardisation;
///
/// let values = [2.0, 4.0, 6.0, 8.0];
/// let standardisation = Standardisation::of(|| values.iter().copied());
/// assert_eq!(standardisation, Standardisation { mean: 5.0, sd: 5.0_f64.sqrt() });
/// assert_eq!(standardisation.apply(5.0), 0.0);
/// assert_eq!(standardisation.invert(standardisation.apply(8.0)), 8.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standardisation {
    /// Subtracted first.
    pub mean: f64,
    /// What the difference is divided by.
    pub sd: f64,
}

impl Standardisation {
    /// To mean 0 and, where the values vary, population standard deviation 1:
    ///
    /// ```text
    ///     mean = Σ xᵢ / n,    sd = √(Σ (xᵢ − mean)² / n)
    /// ```
    ///
    /// `values` gives the n finite values; it is called three times. Cost: O(n).
    pub fn of<I: Iterator<Item = f64>>(values: impl Fn() -> I) -> Self {
        let largest = values().fold(0.0_f64, |most, x| most.max(x.abs()));
        if largest == 0.0 {
            return Self { mean: 0.0, sd: 1.0 };
        }
        let n = values().count() as f64;
        // In units of the largest value, so that squares of huge ones do not overflow.
        let mean = values().map(|x| x / largest).sum::<f64>() / n;
        let variance = values().map(|x| (x / largest - mean).powi(2)).sum::<f64>() / n;
        let varies = variance.sqrt() > LEAST_SD;
        Self {
            mean: mean * largest,
            sd: if varies {
                variance.sqrt() * largest
            } else {
                1.0
            },
        }
    }

    /// Not standardised, but divided by a power of two of about the size of the largest of the finite `values`, which loses no digit: single
    /// precision then holds their squares.
    ///
    /// ```
    /// use reml::transform::Standardisation;
    ///
    /// let unit = Standardisation::unit_of([3e20, -5e20].into_iter());
    /// assert!(unit.mean == 0.0 && (0.5..=2.0).contains(&(5e20 / unit.sd)));
    /// ```
    pub fn unit_of(values: impl Iterator<Item = f64>) -> Self {
        let largest = values.fold(0.0_f64, |most, x| most.max(x.abs()));
        Self {
            mean: 0.0,
            sd: power_of_two(largest),
        }
    }

    /// (x − mean) / sd.
    pub fn apply(&self, x: f64) -> f64 {
        (x - self.mean) / self.sd
    }

    /// x sd + mean, which brings a value back to its unit.
    pub fn invert(&self, x: f64) -> f64 {
        x * self.sd + self.mean
    }
}

/// Gives the samples of `base` without a value what the covariates predict for them, from the least-squares effects on the `observed` samples:
///
/// ```text
///     yᵢ = zᵢ'β,    β the effects of the covariates on y over the observed samples
/// ```
///
/// All slices have one entry per sample; `values` is 0 where it is not observed. `columns` are the q covariates. Cost: O(n q²).
///
/// ```
/// use reml::{Covariates, transform::impute};
///
/// let columns = [vec![1.0; 4], vec![0.0, 1.0, 2.0, 3.0]];
/// let mut values = [5.0, 7.0, 9.0, 0.0];
/// impute(&mut values, &[true, true, true, false], &[true; 4], &Covariates::new(4, &columns), &columns);
/// assert!((values[3] - 11.0).abs() < 1e-9);
/// ```
pub fn impute(
    values: &mut [f64],
    observed: &[bool],
    base: &[bool],
    covariates: &Covariates,
    columns: &[Vec<f64>],
) {
    let y = MatRef::from_column_major_slice(values, values.len(), 1);
    let effects = covariates.on(observed).effects(y);
    for (i, value) in values
        .iter_mut()
        .enumerate()
        .filter(|(i, _)| base[*i] && !observed[*i])
    {
        *value = columns
            .iter()
            .enumerate()
            .map(|(j, c)| c[i] * effects[(j, 0)])
            .sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_do_not_vary_are_shifted_alone_and_huge_ones_do_not_overflow() {
        let of = |values: &[f64]| Standardisation::of(|| values.iter().copied());
        assert_eq!(of(&[]), Standardisation { mean: 0.0, sd: 1.0 });
        assert_eq!(of(&[0.0, 0.0]), Standardisation { mean: 0.0, sd: 1.0 });
        assert_eq!(of(&[3.0, 3.0]), Standardisation { mean: 3.0, sd: 1.0 });
        let huge = of(&[1e300, -1e300]);
        assert!(huge.mean == 0.0 && (huge.sd / 1e300 - 1.0).abs() < 1e-12);
    }
}
