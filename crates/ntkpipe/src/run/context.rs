//! All that the stages of a run share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ntkpipe_store::file_system;
use ntkpipe_store::tiled_kernel::{Access, TiledKernel};
use reml::Covariates;
use reml::reference_spectrum::ReferenceSpectrumParts;
use serde::Serialize;

use crate::cohort::codes::Suspicions;
use crate::cohort::covariates::CovariateColumns;
use crate::cohort::prepare::base_mask;
use crate::cohort::record::CovariatesRecord;
use crate::cohort::{Inputs, accounting};
use crate::log;
use crate::options::settings::Settings;
use crate::options::values::ReadTiles;
use crate::run::directory::RunDirectory;
use crate::run::files;
use crate::run::modification_times::ModificationTimes;
use crate::run::output::{Work, say_done};
use crate::run::stage::StageSpec;

/// All that the stages share.
pub struct Context {
    /// The options decided.
    pub settings: Settings,
    /// The tables, joined.
    pub inputs: Inputs,
    /// What their files looked like before they were opened.
    modification_times: ModificationTimes,
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
    /// The reference spectrum that this process made, until a stage takes it.
    reference: Mutex<Option<ReferenceSpectrumParts>>,
}

impl Context {
    /// Reads covariates and forms the mask that every phenotype starts from.
    pub fn new(
        settings: Settings,
        inputs: Inputs,
        modification_times: ModificationTimes,
        directory: RunDirectory,
    ) -> anyhow::Result<Self> {
        let covariate_columns = inputs.covariate_columns(settings.intercept)?;
        let n = inputs.n_kernel;
        let covariates = Covariates::new(n, &covariate_columns.first(n));
        let base = base_mask(&inputs, &covariates, settings.missing)?;
        Ok(Self {
            settings,
            inputs,
            modification_times,
            directory,
            covariate_columns,
            covariates,
            base,
            kernel: Mutex::default(),
            reference: Mutex::default(),
        })
    }

    /// Says, in the log and in `run.json`, what became of every row of the tables and of every covariate.
    pub fn account(&mut self) -> anyhow::Result<()> {
        let samples = &mut self.directory.record.samples;
        samples.covariates = Some(CovariatesRecord {
            used: self.covariate_columns.names.clone(),
            collinear: self.covariate_columns.collinear.clone(),
            dividing: self.covariate_columns.dividing.clone(),
            categories: self.covariate_columns.categories.clone(),
        });
        samples.phenotypes = Some(accounting::of_phenotypes(
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

    /// BLAKE3 of an input, by its name in `run.json`.
    pub fn input_digest(&self, name: &str) -> Option<&str> {
        let record = self.directory.record.inputs.get(name);
        record.map(|it| it.blake3.as_str())
    }

    /// The kernel's tiles: in the scratch folder where one is given, else in the run directory.
    pub fn kernel_path(&self) -> PathBuf {
        self.settings.tiles_folder().join(files::TILES)
    }

    /// The kernel, opened by the first stage that wants it, so that its checksums are compared once per process; its traffic is counted from
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
        self.reference = Mutex::default();
    }

    /// Keeps the reference spectrum for the stage that comes next.
    pub fn keep_reference(&self, parts: ReferenceSpectrumParts) {
        *self
            .reference
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(parts);
    }

    /// The reference spectrum, once.
    pub fn take_reference(&self) -> Option<ReferenceSpectrumParts> {
        let mut kept = self
            .reference
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
        stage: &StageSpec,
        fingerprint: &str,
        started: Instant,
        figures: &impl Serialize,
    ) -> anyhow::Result<()> {
        let figures = serde_json::to_value(figures)?;
        self.modification_times.check()?;
        let seconds = say_done(stage, None, started, Work::of(&figures));
        self.directory
            .finish(stage, fingerprint, seconds, &figures, log::take_warnings())
    }
}
