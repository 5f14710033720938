//! A measure of discrimination, with what each sample does to it.

/// Two-sided 95 % quantile of the normal distribution.
const Z975: f64 = 1.959_963_984_540_054;

/// Share of comparable pairs that a score puts in the right order, ties counted half.
///
/// With Nᵢ the pairs of sample i that are right and Dᵢ those that are comparable, A = Σ N / Σ D and a sample's influence is φᵢ = (Nᵢ − A Dᵢ) / (Σ D / 2).
#[derive(Clone, Debug)]
pub struct Discrimination {
    value: f64,
    n_pairs: f64,
    influence: Vec<f64>,
    /// Who is a case, of an area under the curve.
    is_case: Option<Vec<bool>>,
}

/// A number with its standard error and 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its standard error; `None` where there are fewer than two cases or two controls. 0 where both of a gain rank the samples alike.
    pub standard_error: Option<f64>,
    /// value ∓ 1.96 standard errors, of a share of pairs no lower than 0 and no higher than 1.
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    fn new(value: f64, variance: Option<f64>) -> Self {
        let standard_error = variance.map(f64::sqrt);
        Self {
            value,
            standard_error,
            interval: standard_error.map(|se| (value - Z975 * se, value + Z975 * se)),
        }
    }
}

impl Discrimination {
    /// `right`, `comparable`: N and D, n values; `None` where no pair is comparable. `is_case`: of an area under the curve.
    pub(super) fn new(right: &[f64], comparable: &[f64], is_case: Option<&[bool]>) -> Option<Self> {
        let n_pairs = 0.5 * comparable.iter().sum::<f64>();
        let value = 0.5 * right.iter().sum::<f64>() / n_pairs;
        let pairs = right.iter().zip(comparable);
        let influence = pairs.map(|(right, of)| (right - value * of) / n_pairs);
        (n_pairs > 0.0).then(|| Self {
            value,
            n_pairs,
            influence: influence.collect(),
            is_case: is_case.map(<[bool]>::to_vec),
        })
    }

    /// Comparable pairs.
    pub fn n_pairs(&self) -> f64 {
        self.n_pairs
    }

    /// φ, n values.
    pub fn influence(&self) -> &[f64] {
        &self.influence
    }

    /// A with its interval.
    ///
    /// Variance of an area: m / (m − 1) Σ φ² over the m cases and likewise over the controls, which for one fold is that of DeLong, DeLong and Clarke-Pearson (1988). Of a
    /// concordance: Σ φ², the infinitesimal jackknife.
    pub fn estimate(&self) -> Estimate {
        let estimate = Estimate::new(self.value, self.variance(&self.influence));
        Estimate {
            interval: estimate
                .interval
                .map(|(low, high)| (low.max(0.0), high.min(1.0))),
            ..estimate
        }
    }

    /// How much more it is than that of `base`, a score of the same samples and folds; paired: the variance is that of the differences of influences.
    ///
    /// # Panics
    /// Where the two are not of as many samples.
    pub fn gain_over(&self, base: &Self) -> Estimate {
        assert_eq!(self.influence.len(), base.influence.len());
        let pairs = self.influence.iter().zip(&base.influence);
        let difference: Vec<f64> = pairs.map(|(own, base)| own - base).collect();
        Estimate::new(self.value - base.value, self.variance(&difference))
    }

    fn variance(&self, influence: &[f64]) -> Option<f64> {
        let Some(is_case) = &self.is_case else {
            return Some(influence.iter().map(|phi| phi * phi).sum());
        };
        let mut sum = 0.0;
        for wanted in [true, false] {
            let of_kind = influence
                .iter()
                .zip(is_case)
                .filter(|(_, it)| **it == wanted);
            let (mut k, mut squares) = (0.0, 0.0);
            for (phi, _) in of_kind {
                k += 1.0;
                squares += phi * phi;
            }
            if k < 2.0 {
                return None;
            }
            sum += k / (k - 1.0) * squares;
        }
        Some(sum)
    }
}
