//! Kernel to leading spectrum and the probes' space: `spectrum/`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ntkpipe_model::analysis::{Survey, survey};
use ntkpipe_model::operator::{Kernel as _, MaskedOperator};
use ntkpipe_store::spectrum;
use ntkpipe_store::zarr::{self, ZarrError};
use serde_json::json;

use super::{Context, kernel_range};
use crate::progress::Progress;
use crate::run_directory::Stage;
use crate::settings::{FULL_PROBES, spectrum_passes};

/// Runs the stage.
pub fn run(context: &mut Context, fingerprint: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(Stage::Spectrum)?;
    let kernel = context.open_kernel()?;
    // Tiles of an earlier version may hold what this one refuses to make.
    kernel_range::check_diagonal(context, kernel.diagonal())?;
    let bar = Progress::new("spectrum", "passes");
    let passes = spectrum_passes(context.inputs.n_kernel);
    bar.set(0, passes);
    let seed = context.settings.analysis.seed;
    let surveyed = survey(
        &*kernel,
        &context.covariates,
        &context.base,
        FULL_PROBES,
        passes,
        seed,
        |done| {
            bar.set(done, passes);
        },
    )?;
    drop(bar);
    context.directory.check_ours()?;
    let record = spectrum::write(&context.directory.path("spectrum"), &surveyed)?;
    tracing::info!(
        "spectrum: {} leading eigenvalues, largest {:.6e}, trace {:.6e}",
        record.eigenvalues.len(),
        record.eigenvalues.first().copied().unwrap_or(0.0),
        record.trace,
    );
    let mut figures = super::traffic("spectrum", &kernel)?;
    figures["leading"] = json!(record.eigenvalues.len());
    context.keep_survey(surveyed.into_parts());
    context.finish(Stage::Spectrum, fingerprint, started, figures)
}

/// The first chunk that lacks of the arrays the stage left.
pub fn missing_chunk(folder: &Path) -> Result<Option<PathBuf>, ZarrError> {
    for name in spectrum::ARRAYS {
        let array = folder.join(name);
        // An invariant space couples to nothing, and its array is not there.
        if array.exists()
            && let Some(chunk) = zarr::missing_chunk(&array)?
        {
            return Ok(Some(chunk));
        }
    }
    Ok(None)
}

/// The survey that the stage left: in memory for the first who asks, and on disk.
pub fn load<'a>(context: &'a Context) -> anyhow::Result<Survey<'a>> {
    let operator = MaskedOperator::new(&context.covariates, &context.base);
    if let Some(parts) = context.take_survey() {
        return Ok(Survey::from_parts(operator, parts));
    }
    Ok(spectrum::read(&context.directory.path("spectrum"), operator)?.0)
}
