//! Kernel to leading spectrum and the probes' space: `spectrum/`.

use std::time::Instant;

use ntkpipe_store::spectrum;
use reml::analysis::{Survey, survey};
use reml::operator::{Kernel as _, LEAST_SHARE};
use serde_json::json;

use crate::failure::input;
use crate::options::settings::{FULL_PROBES, spectrum_passes};
use crate::progress::Progress;
use crate::run::context::Context;
use crate::run::files;
use crate::run::output::traffic;
use crate::run::stage::Stage;
use crate::stages::kernel::range;

/// What brings more of the kernel beside the covariates.
const REMEDY: &str = "standardise the features (no `--raw-features`), take fewer layers or a smaller `--bias-variance`, keep the intercept, or leave out covariates that say all that the features say";

/// Runs the stage.
pub fn run(context: &mut Context, fingerprint: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(Stage::Spectrum)?;
    let kernel = context.open_kernel()?;
    // Tiles of an earlier version may hold what this one refuses to make.
    range::check_diagonal(context, kernel.diagonal())?;
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
    check_left(&surveyed)?;
    context.directory.check_ours()?;
    let record = spectrum::write(&context.directory.path(files::SPECTRUM), &surveyed)?;
    tracing::info!(
        "spectrum: {} leading eigenvalues, largest {:.6e}, trace {:.6e}",
        record.eigenvalues.len(),
        record.eigenvalues.first().copied().unwrap_or(0.0),
        record.trace,
    );
    let mut figures = traffic("spectrum", &kernel)?;
    figures["leading"] = json!(record.eigenvalues.len());
    context.keep_survey(surveyed.into_parts());
    context.finish(Stage::Spectrum, fingerprint, started, figures)
}

/// Share of the kernel's trace up to which what the covariates leave is rounding, and no more.
const ROUNDING: f64 = 1e-6;

/// Stops where the covariates leave so little of the kernel that single precision does not carry it; where they leave nothing, phenotypes say so.
fn check_left(survey: &Survey<'_>) -> anyhow::Result<()> {
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
