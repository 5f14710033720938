//! What a run will take, before it starts: `--dry-run`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inputs::Inputs;
use crate::run_directory::Stage;
use crate::settings::{FULL_PROBES, SPECTRUM_PASSES, Settings};
use crate::stages::kernel;

/// f32 multiply-adds a second of one core with AVX-512 over whole stages, what is not a matrix product included.
const MULTIPLY_ADDS_PER_CORE: f64 = 50e9;

/// Kernel entries a second of one core through the recursion, per hidden layer.
const ENTRIES_PER_CORE: f64 = 400e6;

/// Passes and vectors that a phenotype usually takes.
const USUAL_PASSES: usize = 4;
const USUAL_VECTORS: usize = 11;

/// What a run will take: sizes, work and time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Plan {
    /// Samples in the kernel.
    pub samples: usize,
    /// Samples predicted besides.
    pub other_samples: usize,
    /// Features.
    pub features: usize,
    /// Phenotypes.
    pub phenotypes: usize,
    /// Side of a tile.
    pub tile: usize,
    /// Tiles.
    pub tiles: usize,
    /// f32 multiply-adds of the kernel.
    pub kernel_multiply_adds: f64,
    /// f32 multiply-adds of all passes over it.
    pub pass_multiply_adds: f64,
    /// Estimated seconds of the stages that grow with the square of the samples.
    pub seconds: BTreeMap<Stage, f64>,
}

impl Plan {
    /// Estimates what the inputs will take on this machine's threads.
    pub fn new(inputs: &Inputs, settings: &Settings) -> Self {
        let (n, p, m) = (
            inputs.n_kernel,
            inputs.features.columns.len(),
            inputs.phenotypes.columns.len(),
        );
        let tile = kernel::tile_side(settings, n);
        let side = n.div_ceil(tile);
        let cores = rayon::current_num_threads() as f64;
        let square = (n as f64).powi(2);
        let kernel_multiply_adds = square * p as f64 / 2.0;
        let recursion = square / 2.0 * settings.network.depth as f64 / ENTRIES_PER_CORE;
        // Each phenotype is predicted in one more column.
        let columns = [
            (Stage::Spectrum, SPECTRUM_PASSES * FULL_PROBES),
            (Stage::Fit, m * USUAL_VECTORS),
            (Stage::Predict, m),
        ];
        let mut seconds: BTreeMap<Stage, f64> = columns
            .iter()
            .map(|&(stage, columns)| {
                (
                    stage,
                    square * columns as f64 / MULTIPLY_ADDS_PER_CORE / cores,
                )
            })
            .collect();
        seconds.insert(
            Stage::Kernel,
            (kernel_multiply_adds / MULTIPLY_ADDS_PER_CORE + recursion) / cores,
        );
        Self {
            samples: n,
            other_samples: inputs.samples.sample_id.len() - n,
            features: p,
            phenotypes: m,
            tile,
            tiles: side * (side + 1) / 2,
            kernel_multiply_adds,
            pass_multiply_adds: square * columns.iter().map(|c| c.1).sum::<usize>() as f64,
            seconds,
        }
    }

    /// The plan as text: samples, phenotypes, tiles, bytes, multiply-adds, passes, memory, time.
    ///
    /// `own_masks`: phenotypes with missing values; `rank`: that of the covariates.
    pub fn describe(
        &self,
        settings: &Settings,
        own_masks: usize,
        rank: usize,
    ) -> anyhow::Result<String> {
        let mut text = String::new();
        let mut line = |name: &str, value: String| writeln!(text, "{name:<28}{value}");
        line("samples in the kernel", self.samples.to_string())?;
        line("samples predicted besides", self.other_samples.to_string())?;
        line("features", self.features.to_string())?;
        line(
            "phenotypes",
            format!("{} ({own_masks} with missing values)", self.phenotypes),
        )?;
        line("covariates", format!("{rank} (rank)"))?;
        line(
            "tiles",
            format!("{} of {} x {}", self.tiles, self.tile, self.tile),
        )?;
        line(
            "bytes of tiles",
            kernel::bytes(self.samples, self.tile).to_string(),
        )?;
        line(
            "bytes of features",
            ((self.samples + self.other_samples) * self.features * 4).to_string(),
        )?;
        line(
            "multiply-adds, kernel",
            format!("{:.3e}", self.kernel_multiply_adds),
        )?;
        line(
            "multiply-adds, passes",
            format!("{:.3e}", self.pass_multiply_adds),
        )?;
        line(
            "passes over the kernel",
            format!("{SPECTRUM_PASSES} + about {USUAL_PASSES} for the phenotypes + 1"),
        )?;
        line("memory bound", format!("{} bytes", settings.memory))?;
        line("threads", rayon::current_num_threads().to_string())?;
        line(
            "estimated time",
            format!("{:.0} s", self.seconds.values().sum::<f64>()),
        )?;
        Ok(text)
    }
}

/// Phenotypes that lack a value on a sample of `base`.
pub fn own_masks(inputs: &Inputs, base: &[bool]) -> anyhow::Result<usize> {
    let columns: Vec<usize> = (0..inputs.phenotypes.columns.len()).collect();
    let mut own_masks = 0;
    for block in columns.chunks(64) {
        for values in inputs.phenotype_values(block)? {
            own_masks += usize::from(values.iter().zip(base).any(|(v, &b)| b && !v.is_finite()));
        }
    }
    Ok(own_masks)
}
