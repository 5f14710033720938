//! The run directory: where things are, what has been done (`run.json`), and the lock on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ntkpipe_store::atomic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::input;
use crate::options::Options;
use crate::plan::Plan;

/// The file that a run holds locked.
pub const LOCK: &str = ".lock";

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
            Self::Spectrum => 4,
            Self::Test | Self::Fit => 4,
            _ => 1,
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
    /// What it warned of.
    #[serde(default)]
    pub warnings: Vec<String>,
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

/// The directory, locked for as long as this lives.
#[derive(Debug)]
pub struct RunDirectory {
    root: PathBuf,
    /// What is recorded so far.
    pub record: RunRecord,
    _lock: File,
}

impl RunDirectory {
    /// Creates or opens the directory and locks it.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root)
            .with_context(|| format!("could not create the run directory `{}`", root.display()))?;
        let lock_path = root.join(LOCK);
        let lock = File::create(&lock_path).with_context(|| {
            format!("could not write in the run directory `{}`", root.display())
        })?;
        if let Err(std::fs::TryLockError::WouldBlock) = lock.try_lock() {
            return Err(input(
                format!(
                    "another ntkpipe is at work in `{}` (it holds `{}`)",
                    root.display(),
                    lock_path.display()
                ),
                "wait for it to end, or give this run another `--out`",
            ));
        }
        atomic::remove_leftovers(root)?;
        let record = read_record(root)?.unwrap_or_default();
        Ok(Self {
            root: root.to_path_buf(),
            record,
            _lock: lock,
        })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether the stage was done with just this fingerprint and its output is still there.
    pub fn is_current(&self, stage: Stage, fingerprint: &str, output: &str) -> bool {
        self.record
            .stages
            .get(&stage)
            .is_some_and(|r| r.fingerprint == fingerprint)
            && self.path(output).exists()
    }

    /// Forgets a stage and those after it before its output is replaced.
    pub fn begin(&mut self, stage: Stage) -> anyhow::Result<()> {
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

    /// Records a stage as done.
    pub fn finish(&mut self, stage: Stage, record: StageRecord) -> anyhow::Result<()> {
        self.record.stages.insert(stage, record);
        self.save()
    }

    /// Writes `run.json`.
    pub fn save(&self) -> anyhow::Result<()> {
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
