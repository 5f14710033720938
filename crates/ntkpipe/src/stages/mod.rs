//! The stages of a run: each reads what the ones before it left in the run directory and adds its own.

pub mod fit;
pub mod held_out;
pub mod ingest;
mod intervals;
pub mod kernel;
mod kernel_range;
pub mod predict;
pub mod report;
pub mod spectrum;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use ntkpipe_store::tiled_kernel::{Access, TiledKernel};
use ntkpipe_store::{file_system, zarr};
use reml::reference_spectrum::ReferenceSpectrumParts;
use reml::{Covariates, Stop};
use serde_json::{Value, json};

use crate::accounting;
use crate::codes::Suspicions;
use crate::covariates::CovariateColumns;
use crate::inputs::{Inputs, base_mask};
use crate::log;
use crate::network::Network;
use crate::options::{Missing, Options, ReadTiles};
use crate::run_directory::{InputRecord, RunDirectory, Stage, Standing, fingerprint};
use crate::settings::{FULL_PROBES, Settings, spectrum_passes};
use crate::share::Share;
use crate::stamps::Stamps;
use crate::words::counted;

/// All that the stages share.
pub struct Context {
    /// The options decided.
    pub settings: Settings,
    /// The tables, joined.
    pub inputs: Inputs,
    /// What their files looked like before they were opened.
    stamps: Stamps,
    /// The run directory, locked.
    pub directory: RunDirectory,
    /// The covariates of every row of the feature array.
    pub covariate_columns: CovariateColumns,
    /// The covariates on the kernel's samples.
    pub covariates: Covariates,
    /// Samples that a phenotype may use.
    pub base: Vec<bool>,
    /// The kernel, once a stage has opened it.
    kernel: Mutex<Option<Arc<TiledKernel>>>,
    /// The survey that this process made, until a stage takes it.
    survey: Mutex<Option<ReferenceSpectrumParts>>,
}

impl Context {
    /// Reads covariates and forms the mask that every phenotype starts from.
    pub fn new(
        settings: Settings,
        inputs: Inputs,
        stamps: Stamps,
        directory: RunDirectory,
    ) -> anyhow::Result<Self> {
        let covariate_columns = inputs.covariate_columns(settings.intercept)?;
        let n = inputs.n_kernel;
        let covariates = Covariates::new(n, &covariate_columns.first(n));
        let base = base_mask(&inputs, &covariates, settings.missing)?;
        Ok(Self {
            settings,
            inputs,
            stamps,
            directory,
            covariate_columns,
            covariates,
            base,
            kernel: Mutex::default(),
            survey: Mutex::default(),
        })
    }

    /// Says, in the log and in `run.json`, what became of every row of the tables and of every covariate.
    pub fn account(&mut self) -> anyhow::Result<()> {
        let samples = &mut self.directory.record.samples;
        samples["covariates"] = json!({
            "used": self.covariate_columns.names,
            "collinear": self.covariate_columns.collinear,
            "dividing": self.covariate_columns.dividing,
            "categories": self.covariate_columns.categories,
        });
        samples["phenotypes"] = Value::from(accounting::of_phenotypes(
            &self.inputs,
            &self.covariates,
            &self.covariate_columns,
            &self.base,
            &self.settings,
        )?);
        accounting::log(samples);
        self.covariate_columns.log(self.inputs.n_kernel);
        let mut suspicions = Suspicions::default();
        let on_kernel = self.covariate_columns.first(self.inputs.n_kernel);
        suspicions.look_at(self.covariate_columns.names.iter().zip(&on_kernel));
        suspicions.warn("covariates");
        self.directory.save()
    }

    /// The kernel's tiles: in the scratch folder where one is given, else in the run directory.
    pub fn kernel_path(&self) -> PathBuf {
        self.settings.tiles_folder().join("kernel.zarr")
    }

    /// The kernel, opened by the first stage that wants it, so that its checksums are compared once a process; its traffic is counted from
    /// here on.
    pub fn open_kernel(&self) -> anyhow::Result<Arc<TiledKernel>> {
        let mut opened = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        let kernel = match &*opened {
            Some(kernel) => kernel.clone(),
            None => Arc::new(self.tiled_kernel()?),
        };
        *opened = Some(kernel.clone());
        kernel.count_anew();
        Ok(kernel)
    }

    /// Lets go of what one stage leaves in memory for the next.
    pub fn let_go(&mut self) {
        self.kernel = Mutex::default();
        self.survey = Mutex::default();
    }

    /// Keeps the survey for the stage that comes next.
    fn keep_survey(&self, parts: ReferenceSpectrumParts) {
        *self.survey.lock().unwrap_or_else(PoisonError::into_inner) = Some(parts);
    }

    /// The survey, once.
    fn take_survey(&self) -> Option<ReferenceSpectrumParts> {
        let mut kept = self.survey.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take()
    }

    /// Opens the kernel; says so where its tiles are copied though nobody asked for it.
    fn tiled_kernel(&self) -> anyhow::Result<TiledKernel> {
        let path = self.kernel_path();
        let access = match (self.settings.read_tiles, file_system::network(&path)) {
            (ReadTiles::Map, _) | (ReadTiles::Auto, None) => Access::Map,
            (ReadTiles::Copy, _) => Access::Copy,
            (ReadTiles::Auto, Some(name)) => {
                tracing::info!(
                    "`{}` is on {name}: its tiles are copied, not mapped; `--read-tiles map` maps them",
                    path.display()
                );
                Access::Copy
            }
        };
        Ok(TiledKernel::open(&path, access)?)
    }

    /// Records the finished stage and says so, unless an input was changed meanwhile.
    pub fn finish(
        &mut self,
        stage: Stage,
        fingerprint: &str,
        started: Instant,
        figures: Value,
    ) -> anyhow::Result<()> {
        self.stamps.check()?;
        let seconds = say_done(stage, None, started, &figures);
        self.directory
            .finish(stage, fingerprint, seconds, figures, log::take_warnings())
    }

    /// What the run directory holds of the stage: whether it was done with these inputs and options, and no file of it is
    /// gone or was exchanged. Chunks of arrays are only looked for; their checksums are compared when they are read.
    pub fn standing(&self, stage: Stage, prints: &Fingerprints) -> anyhow::Result<Standing> {
        let recorded = self.directory.standing(stage, prints.of(stage))?;
        if recorded != Standing::Current {
            return Ok(recorded);
        }
        let lost = match stage {
            Stage::Ingest => zarr::missing_chunk(&self.directory.path("features.zarr"))?,
            Stage::Kernel => kernel::missing_tile(self, &prints.kernel),
            Stage::Spectrum => spectrum::missing_chunk(&self.directory.path("spectrum"))?,
            Stage::Test => None,
            // The fit also tests, and leaves the test's table.
            Stage::Fit => match self.directory.standing(Stage::Test, &prints.test)? {
                Standing::Lost(path) => Some(path),
                _ => fit::missing_dual(self)?,
            },
            Stage::Predict => {
                let survey = self.directory.path("model").join(intervals::SPECTRUM);
                match zarr::missing_chunk(&self.directory.path("model/features.zarr"))? {
                    None if self.settings.intervals => spectrum::missing_chunk(&survey)?,
                    lost => lost,
                }
            }
            Stage::Report => None,
        };
        Ok(lost.map_or(Standing::Current, Standing::Lost))
    }
}

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
            json!([
                settings.network,
                kernel::tile_side(settings, inputs.n_kernel)
            ]),
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

/// Says that a stage, or a share of it, is done; the seconds it took.
pub fn say_done(stage: Stage, share: Option<Share>, started: Instant, figures: &Value) -> f64 {
    let seconds = started.elapsed().as_secs_f64();
    let figure = |name: &str| figures[name].as_u64();
    let bytes = [figure("bytes_read"), figure("bytes_written")];
    let rates = bytes.map(|bytes| bytes.map(|bytes| bytes as f64 / seconds.max(1e-9)));
    let (name, share) = (stage.name(), share.map(|share| share.to_string()));
    let of = share
        .as_ref()
        .map_or(String::new(), |it| format!(" share {it}"));
    tracing::info!(
        event = "done",
        stage = name,
        share,
        seconds,
        passes = figure("passes"),
        columns = figure("columns"),
        bytes_read = bytes[0],
        bytes_written = bytes[1],
        bytes_read_per_second = rates[0],
        bytes_written_per_second = rates[1],
        "{name}:{of} done in {seconds:.1} s"
    );
    seconds
}

/// Removes a file if it is there.
pub fn remove_file(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// What a stage read and multiplied, logged and recorded.
fn traffic(stage: &str, kernel: &TiledKernel) -> anyhow::Result<Value> {
    let done = kernel.traffic();
    tracing::info!(
        "{stage}: {} over the kernel, {} multiplied, {} bytes read",
        counted(done.passes as usize, "passes"),
        counted(done.columns as usize, "columns"),
        done.bytes_read
    );
    Ok(serde_json::to_value(done)?)
}

/// The network as the kernel's attributes and the model record it.
pub fn network_record(network: &Network) -> Value {
    serde_json::to_value(network).unwrap_or(Value::Null)
}
