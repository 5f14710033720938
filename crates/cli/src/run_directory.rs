//! The run directory: where things are, what has been done (`run.json`), and the lock on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ntkpipe_store::{atomic, file_system};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::input;
use crate::lock::{Lock, lock, lock_shared};
use crate::options::Options;
use crate::plan::Plan;

/// A step of a run.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Tables to standardised features.
    Ingest,
    /// Features to kernel tiles.
    Kernel,
    /// Kernel to leading spectrum and the probes' space.
    Spectrum,
    /// Score test.
    Test,
    /// Stopping times.
    Fit,
    /// Predictions.
    Predict,
    /// Report.
    Report,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Ingest,
        Self::Kernel,
        Self::Spectrum,
        Self::Test,
        Self::Fit,
        Self::Predict,
        Self::Report,
    ];

    /// Bumped when a stage's code changes what it writes, so that earlier results are not taken for current.
    pub fn version(self) -> u32 {
        match self {
            Self::Kernel => 2,
            Self::Spectrum => 6,
            Self::Test | Self::Fit => 7,
            Self::Report => 3,
            _ => 1,
        }
    }

    /// What the stage leaves in the run directory besides chunks of arrays, which tell damage by themselves.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Ingest => &[
                "features.parquet",
                "samples.parquet",
                "features.zarr/zarr.json",
            ],
            Self::Kernel => &["kernel.zarr/zarr.json", "initial_prediction.parquet"],
            Self::Spectrum => &[
                "spectrum/spectrum.json",
                "spectrum/eigenvectors.zarr/zarr.json",
                "spectrum/probes.zarr/zarr.json",
                "spectrum/projected.zarr/zarr.json",
                "spectrum/ritz_values.zarr/zarr.json",
                "spectrum/ritz_vectors.zarr/zarr.json",
                "spectrum/coupling.zarr/zarr.json",
                "spectrum/covariate_products.zarr/zarr.json",
            ],
            Self::Test => &["test.parquet"],
            Self::Fit => &[
                "phenotypes.parquet",
                "phenotypes.tsv",
                "curves.parquet",
                "predictions_oof.parquet",
                "model/dual.zarr/zarr.json",
            ],
            Self::Predict => &[
                "predictions.parquet",
                "prediction_sd.parquet",
                "model/model.json",
                "model/effects.parquet",
                "model/scaling.parquet",
                "model/network.safetensors",
                "model/features.zarr/zarr.json",
                "model/training.parquet",
                "model/spectrum/spectrum.json",
            ],
            Self::Report => &["report.html", "ntkpipe_mqc.json"],
        }
    }

    /// The stage's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Kernel => "kernel",
            Self::Spectrum => "spectrum",
            Self::Test => "test",
            Self::Fit => "fit",
            Self::Predict => "predict",
            Self::Report => "report",
        }
    }
}

/// A stage that was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageRecord {
    /// Digest of everything the stage's output depends on.
    pub fingerprint: String,
    /// Wall time.
    pub seconds: f64,
    /// Figures of the stage: counts, bytes, passes.
    pub figures: Value,
    /// BLAKE3 of each file it left, chunks of arrays apart.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// What it warned of.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What the run directory holds of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Done with these inputs and options, and all there.
    Current,
    /// Not done with these inputs and options.
    NotDone,
    /// Done, but this file of it is gone or no longer what it was.
    Lost(PathBuf),
}

/// `run.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// Version of ntkpipe that last wrote here.
    pub version: String,
    /// Options in effect.
    pub options: Options,
    /// BLAKE3 digests of the input files.
    pub inputs: BTreeMap<String, InputRecord>,
    /// From rows read to samples used.
    pub samples: Value,
    /// What the run was estimated to take.
    #[serde(default)]
    pub plan: Plan,
    /// What was warned of before the first stage.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Stages done.
    pub stages: BTreeMap<Stage, StageRecord>,
}

/// One input file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InputRecord {
    /// Path as given.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the content.
    pub blake3: String,
}

/// How long what is half written must be untouched, where a lock may not keep other machines away, to be taken for a killed job's.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Removes what killed runs left half written in `folder` and below.
pub fn remove_leftovers(folder: &Path) -> anyhow::Result<()> {
    let unchanged = match file_system::network(folder) {
        Some(_) => ABANDONED,
        None => Duration::ZERO,
    };
    atomic::remove_leftovers(folder, unchanged)?;
    Ok(())
}

/// The directory, locked for as long as this lives, as is the scratch folder.
#[derive(Debug)]
pub struct RunDirectory {
    root: PathBuf,
    /// What is recorded so far.
    pub record: RunRecord,
    locks: Vec<Lock>,
}

impl RunDirectory {
    /// Creates or opens the directory, locks it and the scratch folder, and removes what killed runs left half written.
    pub fn open(root: &Path, scratch: Option<&Path>) -> anyhow::Result<Self> {
        let mut locks = vec![lock(root, "--out")?];
        remove_leftovers(root)?;
        if let Some(scratch) = scratch {
            // The same folder under another name would wait for its own lock.
            let is_root = match (scratch.canonicalize(), root.canonicalize()) {
                (Ok(scratch), Ok(root)) => scratch == root,
                _ => false,
            };
            if !is_root {
                locks.push(lock(scratch, "--scratch")?);
            }
            remove_leftovers(&scratch.join("kernel.zarr"))?;
        }
        Ok(Self {
            root: root.to_path_buf(),
            record: read_record(root)?.unwrap_or_default(),
            locks,
        })
    }

    /// Opens the directory beside other jobs that do their shares in it; what is recorded must stay as it is.
    pub fn join(root: &Path, scratch: Option<&Path>) -> anyhow::Result<Self> {
        let mut locks = vec![lock_shared(root, "--out")?];
        if let Some(scratch) = scratch {
            locks.push(lock_shared(scratch, "--scratch")?);
        }
        Ok(Self {
            root: root.to_path_buf(),
            record: read_record(root)?.unwrap_or_default(),
            locks,
        })
    }

    /// Refuses to go on where another ntkpipe has begun to work alone, in the directory or in the scratch folder.
    pub fn check_ours(&self) -> anyhow::Result<()> {
        self.locks.iter().try_for_each(Lock::check)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether the stage was done with just this fingerprint and its files, chunks apart, are those it left.
    pub fn standing(&self, stage: Stage, fingerprint: &str) -> anyhow::Result<Standing> {
        let Some(record) = self.record.stages.get(&stage) else {
            return Ok(Standing::NotDone);
        };
        if record.fingerprint != fingerprint {
            return Ok(Standing::NotDone);
        }
        let found = self.outputs(stage)?;
        let changed = stage
            .files()
            .iter()
            .find(|name| found.get(**name) != record.outputs.get(**name));
        Ok(changed.map_or(Standing::Current, |name| Standing::Lost(self.path(name))))
    }

    fn outputs(&self, stage: Stage) -> anyhow::Result<BTreeMap<String, String>> {
        stage
            .files()
            .iter()
            .map(|name| (name, self.path(name)))
            .filter(|(_, path)| path.exists())
            .map(|(name, path)| Ok(((*name).to_owned(), digest(&path)?.blake3)))
            .collect()
    }

    /// Forgets a stage and those after it before its output is replaced.
    pub fn begin(&mut self, stage: Stage) -> anyhow::Result<()> {
        self.check_ours()?;
        tracing::info!(
            event = "begin",
            stage = stage.name(),
            "{}: begins",
            stage.name()
        );
        let later: Vec<Stage> = self
            .record
            .stages
            .keys()
            .copied()
            .filter(|s| *s >= stage)
            .collect();
        if later.is_empty() {
            return Ok(());
        }
        for stage in later {
            self.record.stages.remove(&stage);
        }
        self.save()
    }

    /// Records a stage as done, with what it left.
    pub fn finish(
        &mut self,
        stage: Stage,
        fingerprint: &str,
        seconds: f64,
        figures: Value,
        warnings: Vec<String>,
    ) -> anyhow::Result<()> {
        let record = StageRecord {
            fingerprint: fingerprint.to_owned(),
            seconds,
            figures,
            outputs: self.outputs(stage)?,
            warnings,
        };
        self.record.stages.insert(stage, record);
        self.save()
    }

    /// Writes `run.json`.
    pub fn save(&self) -> anyhow::Result<()> {
        self.check_ours()?;
        let mut text = serde_json::to_vec_pretty(&self.record)?;
        text.push(b'\n');
        atomic::write(&self.path("run.json"), &[&text])?;
        Ok(())
    }
}

/// Reads `run.json` of a directory, if there is one.
pub fn read_record(root: &Path) -> anyhow::Result<Option<RunRecord>> {
    let path = root.join("run.json");
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| {
            input(
                format!(
                    "`{}` is damaged or not of this version: {e}",
                    path.display()
                ),
                "delete it to start the run afresh; finished kernel tiles are kept",
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("could not read `{}`", path.display())),
    }
}

/// BLAKE3 of a JSON value, for fingerprints.
pub fn fingerprint(value: &Value) -> String {
    blake3::hash(value.to_string().as_bytes())
        .to_hex()
        .to_string()
}

/// Digest of a file's content.
pub fn digest(path: &Path) -> anyhow::Result<InputRecord> {
    let unreadable = || format!("could not read `{}`", path.display());
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(File::open(path).with_context(unreadable)?)
        .with_context(unreadable)?;
    Ok(InputRecord {
        path: path.to_path_buf(),
        bytes: std::fs::metadata(path).with_context(unreadable)?.len(),
        blake3: hasher.finalize().to_hex().to_string(),
    })
}
