//! Kernel to leading spectrum and the probes' space: `spectrum/`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ntkpipe_store::spectrum;
use ntkpipe_store::zarr::{self, ZarrError};
use reml::linalg::operator::LEAST_SHARE;
use reml::{KernelMatrix as _, MaskedOperator, Probes, ReferenceSpectrum};
use serde_json::json;

use super::{Context, kernel_range};
use crate::failure::input;
use crate::progress::Progress;
use crate::run_directory::Stage;
use crate::settings::{FULL_PROBES, spectrum_passes};

/// What brings more of the kernel beside the covariates.
const REMEDY: &str = "standardise the features (no `--raw-features`), take fewer layers or a smaller `--bias-variance`, keep the intercept, or leave out covariates that say all that the features say";

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
    let surveyed = ReferenceSpectrum::new(
        &*kernel,
        &context.covariates,
        &context.base,
        Probes {
            columns: FULL_PROBES,
            passes,
            seed,
        },
        |done| {
            bar.set(done, passes);
        },
    )?;
    drop(bar);
    check_left(&surveyed)?;
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

/// Share of the kernel's trace up to which what the covariates leave is rounding, and no more.
const ROUNDING: f64 = 1e-6;

/// Stops where the covariates leave so little of the kernel that single precision does not carry it; where they leave nothing, phenotypes say so.
fn check_left(survey: &ReferenceSpectrum<'_>) -> anyhow::Result<()> {
    if !survey.is_lost() {
        return Ok(());
    }
    let share = survey.moments().trace / survey.scale();
    if share > ROUNDING {
        return Err(input(
            format!(
                "the covariates leave {share:.1e} of the kernel's trace, and single precision carries no less than {LEAST_SHARE:.0e}"
            ),
            REMEDY,
        ));
    }
    tracing::warn!(
        "spectrum: the covariates leave nothing of the kernel but rounding: there is nothing for the features to explain; {REMEDY}"
    );
    Ok(())
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
pub fn load<'a>(context: &'a Context) -> anyhow::Result<ReferenceSpectrum<'a>> {
    let operator = MaskedOperator::new(&context.covariates, &context.base);
    if let Some(parts) = context.take_survey() {
        return Ok(ReferenceSpectrum::from_parts(operator, parts));
    }
    Ok(spectrum::read(&context.directory.path("spectrum"), operator)?.0)
}
