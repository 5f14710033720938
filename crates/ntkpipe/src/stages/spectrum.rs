//! Kernel to leading spectrum and the probes' space: `spectrum/`.

use std::path::PathBuf;
use std::time::Instant;

use ntkpipe_store::spectrum;
use reml::reference_spectrum::LEAST_SHARE;
use reml::{KernelMatrix as _, Probes, ReferenceSpectrum};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::input;
use crate::options::Options;
use crate::options::settings::{FULL_PROBES, spectrum_passes};
use crate::options::values::{CaseCoding, Missing};
use crate::progress::Progress;
use crate::run::context::Context;
use crate::run::files;
use crate::run::fingerprints::Fingerprints;
use crate::run::output::{Traffic, traffic};
use crate::run::reference_spectrum::missing_spectrum;
use crate::run::stage::{ARRAY, Output, StageSpec};
use crate::stages::kernel;
use crate::stages::kernel::range;
use crate::stages::stage::Stage;

/// The remedies where the covariates leave too little of the kernel.
const REMEDY: &str = "standardise the features (no `--raw-features`), take fewer layers or a smaller `--bias-variance`, keep the intercept, or leave out covariates that say all that the features say";

/// What is known of the stage.
pub static SPEC: StageSpec = StageSpec {
    name: "spectrum",
    about: "Kernel to leading spectrum",
    version: 8,
    builds_on: &[&kernel::SPEC],
    is_done_on_the_way: false,
    outputs: &[Output::folder(
        files::SPECTRUM,
        &[
            &[RECORD],
            &["eigenvectors.zarr", ARRAY],
            &["probes.zarr", ARRAY],
            &["projected.zarr", ARRAY],
            &["ritz_values.zarr", ARRAY],
            &["ritz_vectors.zarr", ARRAY],
            &["residual_block.zarr", ARRAY],
            &["covariate_products.zarr", ARRAY],
            &["square_diagonal.zarr", ARRAY],
        ],
    )],
};

/// The record in the folder.
pub const RECORD: &str = "spectrum.json";

/// What `run.json` keeps of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpectrumFigures {
    /// What was read and multiplied.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Leading eigenvalues found.
    pub leading: usize,
}

/// The stage.
#[derive(Debug)]
pub struct Spectrum;

impl Stage for Spectrum {
    fn spec(&self) -> &'static StageSpec {
        &SPEC
    }

    fn depends_on(&self, options: &Options, context: &Context) -> Value {
        let (settings, inputs) = (&context.settings, &context.inputs);
        let complete_of = match settings.missing {
            Missing::Complete => json!([
                context.input_digest("phenotypes"),
                inputs.phenotypes.columns,
                settings.case_coding == CaseCoding::OneTwo
            ]),
            _ => Value::Null,
        };
        json!([
            context.input_digest("covariates"),
            context.covariate_columns.names,
            options.missing_values,
            settings.analysis.seed,
            FULL_PROBES,
            spectrum_passes(inputs.n_kernel),
            complete_of
        ])
    }

    fn missing(&self, context: &Context, _: &Fingerprints) -> anyhow::Result<Option<PathBuf>> {
        Ok(missing_spectrum(&context.directory.path(files::SPECTRUM))?)
    }

    fn figures_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<SpectrumFigures>()
    }

    fn run(&self, context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
        decompose(context, prints.of(&SPEC))
    }
}

fn decompose(context: &mut Context, fingerprint: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(&SPEC)?;
    let kernel = context.open_kernel()?;
    // Tiles of an earlier version may hold what this one refuses to make.
    range::check_diagonal(context, kernel.diagonal())?;
    let bar = Progress::new("spectrum", "passes");
    let passes = spectrum_passes(context.inputs.n_kernel);
    bar.set(0, passes);
    let seed = context.settings.analysis.seed;
    let reference = ReferenceSpectrum::new(
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
    check_left(&reference)?;
    context.directory.check_ours()?;
    let record = spectrum::write(&context.directory.path(files::SPECTRUM), &reference)?;
    tracing::info!(
        "spectrum: {} leading eigenvalues, largest {:.6e}, trace {:.6e}",
        record.eigenvalues.len(),
        record.eigenvalues.first().copied().unwrap_or(0.0),
        record.trace,
    );
    let figures = SpectrumFigures {
        traffic: traffic("spectrum", &kernel),
        leading: record.eigenvalues.len(),
    };
    context.keep_reference(reference.into_parts());
    context.finish(&SPEC, fingerprint, started, &figures)
}

/// If the covariates leave at most this share of the kernel's trace, what is left is nothing but rounding.
const ROUNDING: f64 = 1e-6;

/// Stops where the covariates leave so little of the kernel that single precision loses it. Where they leave nothing at all, each phenotype's status says so.
fn check_left(reference: &ReferenceSpectrum<'_>) -> anyhow::Result<()> {
    if !reference.is_lost() {
        return Ok(());
    }
    let share = reference.moments().trace / reference.scale();
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
