//! `model/model.json`: what is recorded of a model.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cohort::covariates::Category;
use crate::failure::input;
use crate::options::Options;
use crate::options::network::Network;
use crate::options::values::DropQc;

/// `model/model.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ModelRecord {
    pub version: String,
    #[serde(flatten)]
    pub network: Network,
    /// Training samples: the first rows of `features.zarr`.
    pub n_samples: usize,
    /// Whether the dual weights are those of the kernel relative to the training samples' mean.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub centred: bool,
    /// Covariates, intercept first, as in `effects.parquet`.
    pub covariates: Vec<String>,
    /// The categorical ones among them, with their levels.
    #[serde(default)]
    pub categories: Vec<Category>,
    /// Whether the features were put on the normal quantiles of their ranks.
    #[serde(default)]
    pub rint_features: bool,
    /// Whether the model can give standard deviations of its predictions.
    #[serde(default)]
    pub intervals: bool,
    /// How its run was told to read tables; those of new samples are read alike.
    #[serde(default)]
    pub reading: ModelReading,
    pub phenotypes: Vec<ModelPhenotype>,
}

/// Options of a run on how tables are read, as far as those of new samples are to be read alike.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelReading {
    pub features_id_column: Option<String>,
    pub covariates_id_column: Option<String>,
    pub missing_values: Option<Vec<String>>,
    pub npx_value: Option<String>,
    pub drop_qc: Option<DropQc>,
    pub instance: Option<u32>,
}

impl ModelReading {
    /// Those of the options.
    pub fn new(options: &Options) -> Self {
        let of = |own: &Option<String>| own.clone().or_else(|| options.id_column.clone());
        Self {
            features_id_column: of(&options.features_id_column),
            covariates_id_column: of(&options.covariates_id_column),
            missing_values: options.missing_values.clone(),
            npx_value: options.npx_value.clone(),
            drop_qc: options.drop_qc,
            instance: options.instance,
        }
    }

    /// The options given now; those not given are taken from the model's run. The missing values of both apply.
    pub fn with(self, asked: &Options) -> Options {
        let mut options = asked.clone().or(Options {
            npx_value: self.npx_value,
            drop_qc: self.drop_qc,
            instance: self.instance,
            ..Options::default()
        });
        let missing = [asked.missing_values.clone(), self.missing_values];
        options.missing_values = Some(missing.into_iter().flatten().flatten().collect());
        options
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ModelPhenotype {
    pub name: String,
    /// Added back after multiplying by `sd`.
    pub mean: f64,
    pub sd: f64,
    /// Whether the phenotype has dual weights; others are predicted from the covariates alone.
    pub trained: bool,
    /// Whether it can be predicted at all.
    pub predicted: bool,
    /// Stopping time of the predictions, where finite, and noise variance of one that is trained.
    #[serde(default, alias = "t_hat")]
    pub t_stop: Option<f64>,
    #[serde(default)]
    pub sigma2: Option<f64>,
    /// Row of `masks.zarr`: the samples that it was analysed on. Models of earlier versions do not say.
    #[serde(default)]
    pub mask: Option<usize>,
}

/// What the standard deviations of a phenotype's predictions rest on.
#[derive(Clone, Copy, Debug)]
pub struct ModelFit {
    /// Place among the phenotypes.
    pub column: usize,
    /// Stopping time.
    pub time: f64,
    pub noise_variance: f64,
    /// Row of `masks.zarr`.
    pub mask: usize,
}

impl ModelFit {
    /// Those of the trained phenotypes of `model` that have a finite time.
    ///
    /// # Errors
    /// Where a mask was not kept.
    pub fn of(model: &Path, phenotypes: &[ModelPhenotype]) -> anyhow::Result<Vec<Self>> {
        let mut fits = Vec::new();
        for (column, p) in phenotypes.iter().enumerate().filter(|it| it.1.trained) {
            let Some((time, noise_variance)) = p.t_stop.zip(p.sigma2) else {
                continue;
            };
            let mask = p.mask.ok_or_else(|| {
                input(
                    format!(
                        "the model `{}` does not say which samples `{}` was analysed on, and its standard deviations rest on that: earlier versions of ntkpipe did not keep it",
                        model.display(),
                        p.name
                    ),
                    "give `ntkpipe run --out DIR` of the model's run directory with this version, and take its model again",
                )
            })?;
            fits.push(Self {
                column,
                time,
                noise_variance,
                mask,
            });
        }
        Ok(fits)
    }
}
