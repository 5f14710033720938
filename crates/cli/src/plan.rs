//! What a run will take, before it starts: `--dry-run`.

use std::fmt::Write as _;

use crate::inputs::Inputs;
use crate::settings::{FULL_PROBES, SPECTRUM_PASSES, Settings};
use crate::stages::kernel;

/// f32 multiply-adds a second of one core with AVX2, as measured on matrix products of tiles.
const MULTIPLY_ADDS_PER_CORE: f64 = 45e9;

/// Kernel entries a second of one core through the recursion, per hidden layer.
const ENTRIES_PER_CORE: f64 = 400e6;

/// Passes and vectors that a phenotype usually takes.
const USUAL_PASSES: usize = 4;
const USUAL_VECTORS: usize = 10;

/// The plan as text: samples, phenotypes, tiles, bytes, multiply-adds, passes, memory, time.
pub fn describe(
    inputs: &Inputs,
    settings: &Settings,
    base: &[bool],
    rank: usize,
) -> anyhow::Result<String> {
    let (n, p, m) = (
        inputs.n_kernel,
        inputs.features.columns.len(),
        inputs.phenotypes.columns.len(),
    );
    let tile = kernel::tile_side(settings, n);
    let side = n.div_ceil(tile);
    let mut own_masks = 0;
    let columns: Vec<usize> = (0..m).collect();
    for block in columns.chunks(64) {
        for values in inputs.phenotype_values(block)? {
            own_masks += usize::from(values.iter().zip(base).any(|(v, &b)| b && !v.is_finite()));
        }
    }
    let square = (n as f64).powi(2);
    let kernel_work = square * p as f64 / 2.0;
    let pass_columns =
        SPECTRUM_PASSES * FULL_PROBES + m * USUAL_VECTORS + own_masks * (rank + 1) + m;
    let pass_work = square * pass_columns as f64;
    let cores = rayon::current_num_threads() as f64;
    let seconds = (kernel_work + pass_work) / MULTIPLY_ADDS_PER_CORE / cores
        + square / 2.0 * settings.network.depth as f64 / ENTRIES_PER_CORE / cores;
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "{name:<28}{value}");
    line("samples in the kernel", format!("{n}"))?;
    line(
        "samples predicted besides",
        format!("{}", inputs.samples.sample_id.len() - n),
    )?;
    line("features", format!("{p}"))?;
    line(
        "phenotypes",
        format!("{m} ({own_masks} with missing values)"),
    )?;
    line("covariates", format!("{rank} (rank)"))?;
    line(
        "tiles",
        format!("{} of {tile} x {tile}", side * (side + 1) / 2),
    )?;
    line("bytes of tiles", format!("{}", kernel::bytes(n, tile)))?;
    line(
        "bytes of features",
        format!("{}", inputs.samples.sample_id.len() * p * 4),
    )?;
    line("multiply-adds, kernel", format!("{kernel_work:.3e}"))?;
    line("multiply-adds, passes", format!("{pass_work:.3e}"))?;
    line(
        "passes over the kernel",
        format!(
            "{} + about {} for the phenotypes + 1",
            SPECTRUM_PASSES, USUAL_PASSES
        ),
    )?;
    line("memory bound", format!("{} bytes", settings.memory))?;
    line("threads", format!("{cores}"))?;
    line("estimated time", format!("{seconds:.0} s"))?;
    Ok(text)
}
