//! The run directory: where things are, what has been done (`run.json`), and the lock on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ntkpipe_store::{atomic, file_system, table};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::choice;
use crate::failure::input;
use crate::initial;
use crate::lock::{LOCK, Lock, lock, lock_shared};
use crate::log::LOG;
use crate::options::Options;
use crate::ownership::{self, Role};
use crate::plan::Plan;
use crate::share;
use crate::stages::{fit, held_out};

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
            Self::Kernel => 3,
            Self::Spectrum => 7,
            Self::Test | Self::Fit => 9,
            Self::Report => 3,
            _ => 1,
        }
    }

    /// What the stage leaves in the run directory besides chunks of arrays, which tell damage by themselves.
    pub fn files(self) -> &'static [&'static str] {
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
                "spectrum/square_diagonal.zarr/zarr.json",
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

    /// Files and folders in the run directory that the stage makes or adds to; some are of more than one.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Ingest => &["features.parquet", "samples.parquet", "features.zarr"],
            Self::Kernel => &[TILES, initial::FILE, share::FOLDER],
            Self::Spectrum => &["spectrum"],
            Self::Test => &["test.parquet"],
            Self::Fit => &[
                "test.parquet",
                "phenotypes.parquet",
                "phenotypes.tsv",
                "curves.parquet",
                held_out::PREDICTIONS,
                held_out::WEIGHTS,
                fit::JOURNAL,
                fit::FOLDS_JOURNAL,
                fit::LEFT_OUT,
                "model",
                share::FOLDER,
            ],
            Self::Predict => &[
                "predictions.parquet",
                "prediction_sd.parquet",
                "model",
                choice::TABLE,
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
    /// Absolute path.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the content.
    pub blake3: String,
    /// Whether it was read from a pipe, and so can be read once only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub piped: bool,
}

/// How long what is half written must be untouched, where a lock may not keep other machines away, to be taken for a killed job's.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What is recorded of a run.
pub const RECORD: &str = "run.json";

/// Every name that a run may give a file or folder in its directory. What is not in the list is never touched.
pub const NAMES: [&str; 26] = [
    LOCK,
    RECORD,
    LOG,
    "features.parquet",
    "samples.parquet",
    "features.zarr",
    TILES,
    initial::FILE,
    "spectrum",
    "test.parquet",
    "phenotypes.parquet",
    "phenotypes.tsv",
    "curves.parquet",
    held_out::PREDICTIONS,
    "model",
    "predictions.parquet",
    "prediction_sd.parquet",
    "report.html",
    "ntkpipe_mqc.json",
    fit::JOURNAL,
    fit::FOLDS_JOURNAL,
    held_out::WEIGHTS,
    fit::LEFT_OUT,
    share::FOLDER,
    choice::FOLDER,
    choice::TABLE,
];

/// Folder of the kernel's tiles.
pub const TILES: &str = "kernel.zarr";

/// What a run makes in a scratch folder.
const SCRATCH_NAMES: [&str; 2] = [LOCK, TILES];

/// Folder in a run directory that `train` leaves its files in unless it is told another.
pub const TRAINED: &str = "trained";

/// What a run of one architecture leaves and one of several does not.
const OF_ONE: [&str; 12] = [
    "features.parquet",
    "samples.parquet",
    "features.zarr",
    TILES,
    initial::FILE,
    "spectrum",
    "test.parquet",
    "curves.parquet",
    fit::JOURNAL,
    fit::FOLDS_JOURNAL,
    held_out::WEIGHTS,
    fit::LEFT_OUT,
];

/// What a run of several architectures leaves, each run of which takes its own folder away, and one of one architecture does not.
const OF_SEVERAL: [&str; 2] = [choice::FOLDER, choice::TABLE];

/// Removes what killed runs left half written, and [`ownership::check`] found.
pub fn remove_leftovers(folder: &Path, leftovers: &[PathBuf]) -> anyhow::Result<()> {
    let unchanged = match file_system::network(folder) {
        Some(_) => ABANDONED,
        None => Duration::ZERO,
    };
    Ok(atomic::remove_leftovers(leftovers, unchanged)?)
}

/// Refuses folders in which a run would replace or remove what is not its own, and inputs that it would replace.
///
/// `inputs`: every file that is read.
pub fn check<'p>(
    root: &Path,
    scratch: Option<&Path>,
    inputs: impl Iterator<Item = &'p PathBuf> + Clone,
) -> anyhow::Result<()> {
    ownership::check_inputs(root, &NAMES, "--out", inputs.clone())?;
    if let Some(scratch) = scratch {
        ownership::check_inputs(scratch, &SCRATCH_NAMES, "--scratch", inputs)?;
    }
    check_folders(root, other(scratch, root))
}

fn check_folders(root: &Path, scratch: Option<&Path>) -> anyhow::Result<()> {
    ownership::check(root, Role::Run, &NAMES)?;
    if let Some(scratch) = scratch {
        ownership::check_place(scratch, Role::Scratch)?;
        ownership::check(scratch, Role::Scratch, &SCRATCH_NAMES)?;
    }
    Ok(())
}

/// The scratch folder where it is another than the run directory.
fn other<'s>(scratch: Option<&'s Path>, root: &Path) -> Option<&'s Path> {
    scratch.filter(|it| !is_same(it, root))
}

/// Whether both are one folder: it would wait for its own lock.
fn is_same(one: &Path, other: &Path) -> bool {
    ownership::real(one) == ownership::real(other)
}

/// The directory, locked for as long as this lives, as is the scratch folder.
#[derive(Debug)]
pub struct RunDirectory {
    root: PathBuf,
    scratch: Option<PathBuf>,
    /// What is recorded so far.
    pub record: RunRecord,
    locks: Vec<Lock>,
    is_alone: bool,
    /// Whether what was trained here rests on another fit than the one that is asked for.
    pub is_trained_otherwise: bool,
}

impl RunDirectory {
    /// Creates or opens the directory, locks it and the scratch folder, and removes what killed runs of ours left half written.
    ///
    /// # Errors
    /// Where what a run makes would replace somebody's file or folder ([`ownership`]).
    pub fn open(root: &Path, scratch: Option<&Path>) -> anyhow::Result<Self> {
        let mut locks = vec![lock(root, "--out")?];
        let scratch = other(scratch, root);
        if let Some(scratch) = scratch {
            locks.push(lock(scratch, "--scratch")?);
        }
        // Another run may have worked here meanwhile.
        remove_leftovers(root, &ownership::check(root, Role::Run, &NAMES)?)?;
        if let Some(scratch) = scratch {
            let leftovers = ownership::check(scratch, Role::Scratch, &SCRATCH_NAMES)?;
            remove_leftovers(scratch, &leftovers)?;
        }
        Ok(Self {
            root: root.to_path_buf(),
            scratch: scratch.map(Path::to_path_buf),
            record: read_record(root)?.unwrap_or_default(),
            locks,
            is_alone: true,
            is_trained_otherwise: false,
        })
    }

    /// Opens the directory beside other jobs that do their shares in it; what is recorded must stay as it is.
    pub fn join(root: &Path, scratch: Option<&Path>) -> anyhow::Result<Self> {
        let scratch = other(scratch, root);
        check_folders(root, scratch)?;
        let mut locks = vec![lock_shared(root, "--out")?];
        if let Some(scratch) = scratch {
            locks.push(lock_shared(scratch, "--scratch")?);
        }
        Ok(Self {
            root: root.to_path_buf(),
            scratch: scratch.map(Path::to_path_buf),
            record: read_record(root)?.unwrap_or_default(),
            locks,
            is_alone: false,
            is_trained_otherwise: false,
        })
    }

    /// Takes the names of what a stage makes, before it does.
    ///
    /// # Errors
    /// Where something that is not ours was put there ([`ownership::check`]).
    pub fn take(&self, stage: Stage) -> anyhow::Result<()> {
        ownership::take(&self.root, Role::Run, stage.names())?;
        match &self.scratch {
            Some(scratch) if stage == Stage::Kernel => {
                ownership::take(scratch, Role::Scratch, &[TILES])
            }
            _ => Ok(()),
        }
    }

    /// Writes down what a stage left.
    fn seal(&self, stage: Stage) -> anyhow::Result<()> {
        ownership::seal(&self.root, Role::Run, stage.names())?;
        match &self.scratch {
            Some(scratch) if stage == Stage::Kernel => {
                ownership::seal(scratch, Role::Scratch, &[TILES])
            }
            _ => Ok(()),
        }
    }

    /// Takes away what a run of several architectures left, or one of one architecture where `architectures` names several, so that nothing
    /// there is taken for a part of this run.
    pub fn leave_only(&mut self, architectures: &[String]) -> anyhow::Result<()> {
        self.check_ours()?;
        let is_stale = |name: &&&str| self.path(name).symlink_metadata().is_ok();
        let mut stale: Vec<&str> = match architectures {
            [] => OF_SEVERAL.iter().filter(is_stale).copied().collect(),
            _ => OF_ONE.iter().filter(is_stale).copied().collect(),
        };
        // `model/` holds the models of several under their names.
        if architectures.is_empty() && self.path("model").join(choice::CHOICE).exists() {
            stale.push("model");
        }
        if !architectures.is_empty() {
            self.remove_run(&self.path(TRAINED), Role::Trained)?;
        }
        for (name, folder) in choice::folders(&self.root)? {
            if !architectures.contains(&name) {
                self.remove_run(&folder, Role::Run)?;
            }
        }
        for name in &stale {
            let path = self.path(name);
            tracing::info!("`{}` is of an earlier run and is removed", path.display());
            match path.symlink_metadata()?.is_dir() {
                // What is left in it is not ours.
                true if *name == choice::FOLDER => drop(std::fs::remove_dir(&path)),
                true => atomic::remove_folder(&path)?,
                false => std::fs::remove_file(&path)
                    .with_context(|| format!("could not remove `{}`", path.display()))?,
            }
        }
        if !stale.is_empty() || !architectures.is_empty() {
            self.record.stages.clear();
        }
        Ok(())
    }

    /// Removes a folder in which another command, or the run of an architecture, left its files.
    fn remove_run(&self, folder: &Path, role: Role) -> anyhow::Result<()> {
        if !folder.is_dir() || !ownership::knows(folder, role)? {
            return Ok(());
        }
        tracing::info!("`{}` is of an earlier run and is removed", folder.display());
        let _locked = lock(folder, "--out")?;
        ownership::remove(folder, role)
    }

    /// Warns of inputs that have changed since the record was made, before those found now take their place in it.
    pub fn set_inputs(&mut self, found: BTreeMap<String, InputRecord>) {
        for (name, now) in &found {
            let before = self.record.inputs.get(name);
            if before.is_some_and(|it| it.path == now.path && it.blake3 != now.blake3) {
                tracing::warn!(
                    "`{}` is not what it was when this directory was last used: what depends on it is made again",
                    now.path.display()
                );
            }
        }
        self.record.inputs = found;
    }

    /// Records a stage's files anew after one was replaced.
    pub fn record_outputs(&mut self, stage: Stage) -> anyhow::Result<()> {
        let outputs = self.outputs(stage)?;
        if let Some(record) = self.record.stages.get_mut(&stage) {
            record.outputs = outputs;
        }
        self.save()
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

    /// Forgets a stage and those after it before its output is replaced, and what was trained on another fit.
    pub fn begin(&mut self, stage: Stage) -> anyhow::Result<()> {
        self.check_ours()?;
        if stage <= Stage::Fit && self.is_trained_otherwise {
            self.remove_run(&self.path(TRAINED), Role::Trained)?;
        }
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
        // The fit also tests, and begins with that.
        self.take(match stage {
            Stage::Test => Stage::Fit,
            stage => stage,
        })?;
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
        self.seal(stage)?;
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
        atomic::write(&self.path(RECORD), &[&text])?;
        Ok(())
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if !self.is_alone || self.check_ours().is_err() {
            return;
        }
        // Where this fails, names stay taken, as when the process is killed.
        let _ = ownership::settle(&self.root, Role::Run);
        if let Some(scratch) = &self.scratch {
            let _ = ownership::settle(scratch, Role::Scratch);
        }
    }
}

/// Whether a text is the beginning of `run.json`, or begins like one.
pub fn is_beginning(text: &str) -> bool {
    const HEAD: &str = "{\n  \"version\": \"";
    HEAD.starts_with(text) || text.starts_with(HEAD)
}

/// Reads `run.json` of a directory, if there is one.
pub fn read_record(root: &Path) -> anyhow::Result<Option<RunRecord>> {
    let path = root.join(RECORD);
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

/// Digest of a file's content, or of a folder of Parquet parts: of their names and contents.
pub fn digest(path: &Path) -> anyhow::Result<InputRecord> {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    for part in table::files(path)? {
        let unreadable = || format!("could not read `{}`", part.display());
        if part != path {
            let name = part.file_name().unwrap_or_default().to_string_lossy();
            hasher.update(format!("{name}\n").as_bytes());
        }
        hasher
            .update_reader(File::open(&part).with_context(unreadable)?)
            .with_context(unreadable)?;
        bytes += std::fs::metadata(&part).with_context(unreadable)?.len();
    }
    Ok(InputRecord {
        path: std::path::absolute(path)
            .with_context(|| format!("could not tell where `{}` is", path.display()))?,
        bytes,
        blake3: hasher.finalize().to_hex().to_string(),
        piped: false,
    })
}
