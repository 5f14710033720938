use rand::RngExt;
use rand::seq::{SliceRandom, index};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::Serialize;

use crate::options::SimulateOptions;
use crate::person::COVARIATES;
use crate::stream::{Purpose, stream};

/// How a phenotype depends on its causal proteins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// g = Σ b_j x_j.
    Linear,
    /// g = Σ b_j 1(x_j > c_j).
    Threshold,
    /// g = Σ b_j x_j x_j', with the causal proteins in pairs.
    Interaction,
    /// g = 0.
    Noise,
}

impl Kind {
    /// The word in `truth.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Threshold => "threshold",
            Self::Interaction => "interaction",
            Self::Noise => "noise",
        }
    }
}

/// One phenotype: y = √s (g − mean g) / sd g + √(1 − s) e + covariate effects.
#[derive(Clone, Debug)]
pub(crate) struct Phenotype {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// s.
    pub(crate) signal_share: f64,
    /// Zero for a complete phenotype.
    pub(crate) missing_rate: f64,
    /// Columns of the causal proteins; in pairs for an interaction.
    pub(crate) causal: Vec<usize>,
    /// b, one per protein, or one per pair.
    coefficients: Vec<f64>,
    /// c, for a threshold phenotype.
    thresholds: Vec<f64>,
    /// Effects of [`super::person::Person::covariates`].
    effects: [f64; COVARIATES],
}

impl Phenotype {
    /// g of one person with the complete protein values `x`; only the causal columns are used.
    pub(crate) fn signal(&self, x: &[f32]) -> f64 {
        let causal = self.causal.iter();
        match self.kind {
            Kind::Linear => causal
                .zip(&self.coefficients)
                .map(|(&j, b)| b * f64::from(x[j]))
                .sum(),
            Kind::Threshold => causal
                .zip(&self.coefficients)
                .zip(&self.thresholds)
                .map(|((&j, b), c)| if f64::from(x[j]) > *c { *b } else { 0.0 })
                .sum(),
            Kind::Interaction => self
                .causal
                .chunks_exact(2)
                .zip(&self.coefficients)
                .map(|(pair, b)| b * f64::from(x[pair[0]]) * f64::from(x[pair[1]]))
                .sum(),
            Kind::Noise => 0.0,
        }
    }

    /// What the covariates add to y.
    pub(crate) fn covariate_effect(&self, covariates: &[f64; COVARIATES]) -> f64 {
        self.effects
            .iter()
            .zip(covariates)
            .map(|(a, b)| a * b)
            .sum()
    }

    /// Draws all phenotypes.
    ///
    /// Kinds are assigned in turn, then shuffled. Signal shares are spaced evenly on a log scale and missing rates evenly on a
    /// linear scale, so that even a small cohort has strong and weak, complete and sparse phenotypes.
    pub(crate) fn draw_all(options: &SimulateOptions) -> Vec<Self> {
        let mut rng = stream(options.seed, Purpose::Phenotypes, 0);
        let m = options.phenotypes;
        let n_signal = m - options.noise();
        let ratio = options.max_signal / options.min_signal;
        let mut kinds: Vec<(Kind, f64)> = midpoints(n_signal, &mut rng)
            .into_iter()
            .enumerate()
            .map(|(i, place)| {
                let kind = [Kind::Linear, Kind::Threshold, Kind::Interaction][i % 3];
                (kind, options.min_signal * ratio.powf(place))
            })
            .collect();
        kinds.resize(m, (Kind::Noise, 0.0));
        kinds.shuffle(&mut rng);

        let n_masked = (options.masked_share * m as f64).round() as usize;
        let mut rates: Vec<f64> = midpoints(n_masked, &mut rng)
            .into_iter()
            .map(|place| options.min_missing + (options.max_missing - options.min_missing) * place)
            .collect();
        rates.resize(m, 0.0);
        rates.shuffle(&mut rng);

        let width = m.to_string().len().max(4);
        kinds
            .into_iter()
            .zip(rates)
            .enumerate()
            .map(|(i, ((kind, signal_share), missing_rate))| {
                let n_causal = match kind {
                    Kind::Noise => 0,
                    Kind::Interaction => options.causal_features.min(options.features) / 2 * 2,
                    Kind::Linear | Kind::Threshold => options.causal_features.min(options.features),
                };
                let n_terms = if kind == Kind::Interaction {
                    n_causal / 2
                } else {
                    n_causal
                };
                Self {
                    name: format!("trait_{:0width$}", i + 1),
                    kind,
                    signal_share,
                    missing_rate,
                    causal: index::sample(&mut rng, options.features, n_causal).into_vec(),
                    coefficients: (0..n_terms).map(|_| rng.sample(StandardNormal)).collect(),
                    thresholds: (0..n_terms).map(|_| rng.random_range(0.0..1.2)).collect(),
                    effects: std::array::from_fn(|k| {
                        let size = if k < 2 { 0.3 } else { 0.1 };
                        size * rng.sample::<f64, _>(StandardNormal)
                    }),
                }
            })
            .collect()
    }
}

/// The midpoints of `count` equal parts of [0, 1], shuffled.
fn midpoints(count: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut places: Vec<f64> = (0..count)
        .map(|i| (i as f64 + 0.5) / count as f64)
        .collect();
    places.shuffle(rng);
    places
}
