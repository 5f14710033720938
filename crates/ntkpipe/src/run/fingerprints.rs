//! What each stage's output depends on.

use reml::analysis::Stop;
use serde_json::{Value, json};

use crate::options::Options;
use crate::options::settings::{FULL_PROBES, spectrum_passes};
use crate::options::values::Missing;
use crate::run::context::Context;
use crate::run::digest::{InputRecord, fingerprint};
use crate::run::stage::Stage;
use crate::run::tiles::tile_side;

/// What each stage's output depends on, as digests; a stage is current when its digest is the one recorded.
#[derive(Clone, Debug)]
pub struct Fingerprints {
    /// Features as stored.
    pub ingest: String,
    /// Tiles.
    pub kernel: String,
    /// Probes' space.
    pub spectrum: String,
    /// Test.
    pub test: String,
    /// Fit.
    pub fit: String,
    /// Predictions.
    pub predict: String,
    /// Report.
    pub report: String,
}

impl Fingerprints {
    /// That of a stage.
    pub fn of(&self, stage: Stage) -> &str {
        match stage {
            Stage::Ingest => &self.ingest,
            Stage::Kernel => &self.kernel,
            Stage::Spectrum => &self.spectrum,
            Stage::Test => &self.test,
            Stage::Fit => &self.fit,
            Stage::Predict => &self.predict,
            Stage::Report => &self.report,
        }
    }

    /// Forms them from inputs and options.
    pub fn new(options: &Options, context: &Context) -> Self {
        let (settings, inputs, digests) = (
            &context.settings,
            &context.inputs,
            &context.directory.record.inputs,
        );
        let blake3 = |name: &str| digests.get(name).map(|d: &InputRecord| d.blake3.clone());
        let ids = blake3::hash(inputs.samples.sample_id.join("\n").as_bytes())
            .to_hex()
            .to_string();
        let step = |stage: Stage, upstream: &str, what: Value| {
            fingerprint(
                &json!({ "stage": stage.name(), "version": stage.version(), "upstream": upstream, "what": what }),
            )
        };
        let mut of_reading = vec![
            json!(options.npx_value),
            json!(options.drop_qc),
            json!(options.instance),
        ];
        of_reading.extend(options.missing_values.iter().map(|it| json!(it)));
        let ingest = step(
            Stage::Ingest,
            "",
            json!([
                blake3("features"),
                inputs.features.columns,
                ids,
                inputs.n_kernel,
                settings.standardise_features,
                settings.rint_features,
                of_reading,
                blake3("protein_names")
            ]),
        );
        let kernel = step(
            Stage::Kernel,
            &ingest,
            json!([settings.network, tile_side(settings, inputs.n_kernel)]),
        );
        let complete_of = match settings.missing {
            Missing::Complete => json!([
                blake3("phenotypes"),
                inputs.phenotypes.columns,
                settings.one_two
            ]),
            _ => Value::Null,
        };
        let spectrum = step(
            Stage::Spectrum,
            &kernel,
            json!([
                blake3("covariates"),
                context.covariate_columns.names,
                options.missing_values,
                settings.analysis.seed,
                FULL_PROBES,
                spectrum_passes(inputs.n_kernel),
                complete_of
            ]),
        );
        let a = &settings.analysis;
        let test = step(
            Stage::Test,
            &spectrum,
            json!([
                blake3("phenotypes"),
                inputs.phenotypes.columns,
                settings.missing,
                settings.standardise_phenotypes,
                settings.rint_phenotypes,
                settings.one_two,
                settings.min_cases,
                options.missing_values,
                a.alpha,
                a.robust,
                a.max_passes,
                // Where every phenotype is fitted, the table of tests lacks what only a row that is not fitted has.
                a.gate
            ]),
        );
        let fit = step(
            Stage::Fit,
            &test,
            json!([
                a.gate,
                a.stop == Stop::LeaveOneOut,
                settings.keeps_left_out,
                a.tolerance,
                settings.learning_rate,
                settings.hold_out
            ]),
        );
        let predict = step(
            Stage::Predict,
            &fit,
            json!([options.id_column, settings.intervals]),
        );
        let record = &context.directory.record;
        let report = step(
            Stage::Report,
            &predict,
            json!([record.options, record.samples, record.inputs]),
        );
        Self {
            ingest,
            kernel,
            spectrum,
            test,
            fit,
            predict,
            report,
        }
    }
}
