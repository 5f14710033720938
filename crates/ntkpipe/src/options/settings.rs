//! Options with every default filled in and every value checked.

use std::path::{Path, PathBuf};

use reml::{AnalysisOptions, Stop};

use crate::failure::input;
use crate::options::Options;
use crate::options::hold_out::HoldOut;
use crate::options::network::Network;
use crate::options::values::{CaseCoding, Missing, ReadTiles, Rint, ScoreTest, StopAt};

/// Level of the score test where nobody says.
pub const DEFAULT_ALPHA: f64 = 0.05;

/// Probes of the mask of all samples.
pub const FULL_PROBES: usize = 64;

/// With up to so many samples, the spectrum takes fewer passes: a phenotype's own passes cost less there than a larger space of the probes.
const FEW_SAMPLES: usize = 4096;

/// Passes over the kernel of `n` samples that the spectrum takes; digits depend on it.
pub fn spectrum_passes(n: usize) -> usize {
    if n <= FEW_SAMPLES { 5 } else { 8 }
}

/// What a run does, decided.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Table of the features.
    pub features: PathBuf,
    /// Table of the phenotypes.
    pub phenotypes: PathBuf,
    /// Run directory.
    pub out: PathBuf,
    /// Where `kernel.zarr` is kept, if not in the run directory.
    pub scratch: Option<PathBuf>,
    /// The kernel's network.
    pub network: Network,
    /// Whether an intercept joins the covariates.
    pub intercept: bool,
    /// Whether features are standardised.
    pub standardise_features: bool,
    /// Whether phenotypes are standardised.
    pub standardise_phenotypes: bool,
    /// Whether features are put on the normal quantiles of their ranks.
    pub rint_features: bool,
    /// Whether phenotypes are.
    pub rint_phenotypes: bool,
    /// How the phenotype table writes controls and cases.
    pub case_coding: CaseCoding,
    /// Fewest cases, and controls, of a binary phenotype that is analysed.
    pub min_cases: usize,
    /// What is done about missing phenotype values.
    pub missing: Missing,
    /// How samples are held out to see how well they are predicted.
    pub hold_out: Option<HoldOut>,
    /// Whether the standard deviations of predictions are written.
    pub intervals: bool,
    /// Learning rate of the training that is planned.
    pub learning_rate: Option<f64>,
    /// Test and fit.
    pub analysis: AnalysisOptions,
    /// Whether the leave-one-out residuals are kept, for the choice among architectures.
    pub keeps_left_out: bool,
    /// Bound on anonymous memory in bytes.
    pub memory: u64,
    /// Side of a tile, if the user chose one.
    pub tile: Option<usize>,
    /// How the kernel's tiles come into memory.
    pub read_tiles: ReadTiles,
}

impl Settings {
    /// The folder that holds `kernel.zarr`.
    pub fn tiles_folder(&self) -> &Path {
        self.scratch.as_deref().unwrap_or(&self.out)
    }

    /// The same settings without imputation: an imputed value is no truth to compare a prediction with.
    pub fn observed_only(&self) -> Self {
        Self {
            missing: Missing::Exact,
            ..self.clone()
        }
    }

    /// Refuses fewer features than the network takes; whether it takes all that are kept shows when they are read.
    pub fn check_features(&self, n_features: usize) -> anyhow::Result<()> {
        match self.network.finite() {
            Some(network) if n_features < network.file()?.network.n_features() => {
                network.check_features(n_features, &[])
            }
            _ => Ok(()),
        }
    }

    /// Fills in defaults and checks every value.
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let needed = (&options.features, &options.phenotypes, &options.out);
        let (features, phenotypes, out) = match needed {
            (Some(features), Some(phenotypes), Some(out)) => (features, phenotypes, out),
            (features, phenotypes, out) => {
                return Err(not_given(&[
                    ("features", "--features FILE", features),
                    ("phenotypes", "--phenotypes FILE", phenotypes),
                    ("run directory", "--out DIR", out),
                ]));
            }
        };
        options.check_covariates()?;
        let network = Network::new(options)?;
        let alpha = options.alpha.unwrap_or(DEFAULT_ALPHA);
        if !(alpha > 0.0 && alpha <= 1.0) {
            return Err(input(
                format!("alpha is {alpha}, expected a level above 0 and at most 1"),
                "pass for example `--alpha 0.05`",
            ));
        }
        if let Some(rate) = options
            .learning_rate
            .filter(|r| !(r.is_finite() && *r > 0.0))
        {
            return Err(input(
                format!("learning rate is {rate}, expected a positive number"),
                "pass for example `--learning-rate 0.01`",
            ));
        }
        if let Some(tile) = options.tile.filter(|t| !(16..=16384).contains(t)) {
            return Err(input(
                format!("tile is {tile}, expected a side from 16 to 16384"),
                "leave `--tile` out to let ntkpipe choose",
            ));
        }
        let defaults = AnalysisOptions::default();
        Ok(Self {
            features: features.clone(),
            phenotypes: phenotypes.clone(),
            out: out.clone(),
            scratch: options.scratch.clone(),
            network,
            intercept: !options.no_intercept.unwrap_or(false),
            standardise_features: !options.raw_features.unwrap_or(false),
            standardise_phenotypes: !options.raw_phenotypes.unwrap_or(false),
            rint_features: matches!(options.rint, Some(Rint::Features | Rint::Both)),
            rint_phenotypes: matches!(options.rint, Some(Rint::Phenotypes | Rint::Both)),
            case_coding: options.case_coding.unwrap_or_default(),
            min_cases: options.min_cases.unwrap_or(0),
            missing: options.missing.unwrap_or(Missing::Exact),
            hold_out: hold_out(options)?,
            intervals: options.intervals.unwrap_or(false),
            learning_rate: options.learning_rate,
            analysis: AnalysisOptions {
                alpha,
                robust: options.test != Some(ScoreTest::Gaussian),
                gate: !options.no_gate.unwrap_or(false),
                stop: match options.stop {
                    None | Some(StopAt::Reml) => Stop::Reml,
                    Some(StopAt::Loo) => Stop::LeaveOneOut,
                },
                seed: options.seed.unwrap_or(0),
                ..defaults
            },
            keeps_left_out: options.choose == Some(StopAt::Loo),
            memory: options.memory.map_or_else(free_memory, |b| b.0),
            tile: options.tile,
            read_tiles: options.read_tiles.unwrap_or(ReadTiles::Auto),
        })
    }
}

/// The error for required options that are not given; it names each with its flag and value.
fn not_given(needed: &[(&str, &str, &Option<PathBuf>)]) -> anyhow::Error {
    let missing = || needed.iter().filter(|(_, _, value)| value.is_none());
    let names: Vec<&str> = missing().map(|(name, ..)| *name).collect();
    let flags: Vec<String> = missing().map(|(_, flag, _)| format!("`{flag}`")).collect();
    input(
        format!("no {} given", names.join(", no ")),
        format!(
            "pass {}, or set them in ntkpipe.toml: `ntkpipe init` writes one with every option explained",
            flags.join(", ")
        ),
    )
}

fn hold_out(options: &Options) -> anyhow::Result<Option<HoldOut>> {
    match (options.folds, options.holdout) {
        (None, None) => Ok(None),
        (Some(folds), None) if folds >= 2 => Ok(Some(HoldOut::Folds(folds))),
        (None, Some(share)) if share > 0.0 && share < 1.0 => Ok(Some(HoldOut::Share(share))),
        (Some(folds), None) => Err(input(
            format!("folds is {folds}, expected at least 2"),
            "pass for example `--folds 5`",
        )),
        (None, Some(share)) => Err(input(
            format!("holdout is {share}, expected a share between 0 and 1"),
            "pass for example `--holdout 0.2`",
        )),
        (Some(_), Some(_)) => Err(input(
            "both folds and holdout are given",
            "leave one of `--folds` and `--holdout` out",
        )),
    }
}

/// 80 % of the memory that is free, within the control group's limit.
fn free_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let free = system
        .cgroup_limits()
        .map_or(system.available_memory(), |c| {
            c.free_memory.min(system.available_memory())
        });
    free / 5 * 4
}
