//! The run directory: where things are, what has been done, and the lock on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use ntkpipe_store::{atomic, file_system};
use serde::Serialize;

use crate::ordered_map::OrderedMap;
use crate::run::digest::{InputRecord, digest};
use crate::run::lock::{Lock, lock, lock_shared};
use crate::run::ownership::holding::Role;
use crate::run::ownership::place;
use crate::run::record::{RunRecord, StageRecord, read_record};
use crate::run::stage::{Layout, StageSpec, StageStatus};
use crate::run::{architectures, files, ownership};

/// Where a lock may not keep other machines away: a half-written file that has not changed for so long is taken to be a killed job's.
const ABANDONED: Duration = Duration::from_secs(3600);

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
    layout: &Layout,
    root: &Path,
    scratch: Option<&Path>,
    inputs: impl Iterator<Item = &'p PathBuf> + Clone,
) -> anyhow::Result<()> {
    place::check_inputs(root, &layout.names(), "--out", inputs.clone())?;
    if let Some(scratch) = scratch {
        place::check_inputs(scratch, &layout.scratch_names(), "--scratch", inputs)?;
    }
    check_folders(layout, root, other(scratch, root))
}

fn check_folders(layout: &Layout, root: &Path, scratch: Option<&Path>) -> anyhow::Result<()> {
    ownership::check(layout, root, Role::Run, &layout.names())?;
    if let Some(scratch) = scratch {
        place::check_place(layout, scratch, Role::Scratch)?;
        ownership::check(layout, scratch, Role::Scratch, &layout.scratch_names())?;
    }
    Ok(())
}

/// The scratch folder where it is another than the run directory.
fn other<'s>(scratch: Option<&'s Path>, root: &Path) -> Option<&'s Path> {
    scratch.filter(|it| !is_same(it, root))
}

/// Whether both are one folder: it would wait for its own lock.
fn is_same(one: &Path, other: &Path) -> bool {
    place::real(one) == place::real(other)
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
    layout: &'static Layout,
    /// Stages that begin anew, because the networks trained here belong to another fit than the one now asked for.
    pub trained_otherwise: Vec<&'static StageSpec>,
}

impl RunDirectory {
    /// Creates or opens the directory, locks it and the scratch folder, and removes what killed runs of ours left half written.
    ///
    /// # Errors
    /// Where what a run makes would replace somebody's file or folder ([`ownership`]).
    pub fn open(
        layout: &'static Layout,
        root: &Path,
        scratch: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut locks = vec![lock(root, "--out")?];
        let scratch = other(scratch, root);
        if let Some(scratch) = scratch {
            locks.push(lock(scratch, "--scratch")?);
        }
        // Another run may have worked here meanwhile.
        let leftovers = ownership::check(layout, root, Role::Run, &layout.names())?;
        remove_leftovers(root, &leftovers)?;
        if let Some(scratch) = scratch {
            let leftovers =
                ownership::check(layout, scratch, Role::Scratch, &layout.scratch_names())?;
            remove_leftovers(scratch, &leftovers)?;
        }
        Ok(Self {
            root: root.to_path_buf(),
            scratch: scratch.map(Path::to_path_buf),
            record: read_record(root)?.unwrap_or_default(),
            locks,
            is_alone: true,
            layout,
            trained_otherwise: Vec::new(),
        })
    }

    /// Opens the directory beside other jobs that do their shards in it; what is recorded must stay as it is.
    pub fn join(
        layout: &'static Layout,
        root: &Path,
        scratch: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let scratch = other(scratch, root);
        check_folders(layout, root, scratch)?;
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
            layout,
            trained_otherwise: Vec::new(),
        })
    }

    /// Takes the names of what a stage makes, before it does.
    ///
    /// # Errors
    /// Where something that is not ours was put there ([`ownership::check`]).
    pub fn take(&self, stage: &StageSpec) -> anyhow::Result<()> {
        ownership::take(self.layout, &self.root, Role::Run, &stage.names())?;
        match (&self.scratch, &stage.scratch_names()[..]) {
            (None, _) | (_, []) => Ok(()),
            (Some(scratch), names) => ownership::take(self.layout, scratch, Role::Scratch, names),
        }
    }

    /// Writes down what a stage left.
    fn seal(&self, stage: &StageSpec) -> anyhow::Result<()> {
        ownership::seal(self.layout, &self.root, Role::Run, &stage.names())?;
        match (&self.scratch, &stage.scratch_names()[..]) {
            (None, _) | (_, []) => Ok(()),
            (Some(scratch), names) => ownership::seal(self.layout, scratch, Role::Scratch, names),
        }
    }

    /// Takes away what a run of several architectures left, or one of one architecture where `architectures` names several, so that nothing
    /// there is taken for a part of this run.
    pub fn leave_only(&mut self, architectures: &[String]) -> anyhow::Result<()> {
        self.check_ours()?;
        let mut stale = match architectures {
            [] => files::OF_SEVERAL.to_vec(),
            _ => self.layout.names_of_one(),
        };
        stale.retain(|name| self.path(name).symlink_metadata().is_ok());
        // `model/` holds the models of several under their names.
        if architectures.is_empty()
            && self
                .path(files::MODEL)
                .join(files::of_model::CHOICE)
                .exists()
        {
            stale.push(files::MODEL);
        }
        if !architectures.is_empty() {
            self.remove_run(&self.path(files::TRAINED), Role::Trained)?;
        }
        for (name, folder) in architectures::folders(&self.root)? {
            if !architectures.contains(&name) {
                self.remove_run(&folder, Role::Run)?;
            }
        }
        for name in &stale {
            let path = self.path(name);
            tracing::info!("`{}` is of an earlier run and is removed", path.display());
            match path.symlink_metadata()?.is_dir() {
                // What is left in it is not ours.
                true if *name == files::ARCHITECTURES => drop(std::fs::remove_dir(&path)),
                true => atomic::remove_folder(&path)?,
                false => std::fs::remove_file(&path)
                    .with_context(|| format!("could not remove `{}`", path.display()))?,
            }
        }
        if !stale.is_empty() || !architectures.is_empty() {
            self.record.stages = OrderedMap::default();
        }
        Ok(())
    }

    /// Removes a folder in which another command, or the run of an architecture, left its files.
    fn remove_run(&self, folder: &Path, role: Role) -> anyhow::Result<()> {
        if !folder.is_dir() || !ownership::knows(self.layout, folder, role)? {
            return Ok(());
        }
        tracing::info!("`{}` is of an earlier run and is removed", folder.display());
        let _locked = lock(folder, "--out")?;
        ownership::remove(self.layout, folder, role)
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
    pub fn record_outputs(&mut self, stage: &StageSpec) -> anyhow::Result<()> {
        let outputs = self.outputs(stage)?;
        if let Some(record) = self.record.stages.get_mut(stage.name) {
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
    pub fn status(&self, stage: &StageSpec, fingerprint: &str) -> anyhow::Result<StageStatus> {
        let Some(record) = self.record.stages.get(stage.name) else {
            return Ok(StageStatus::NotDone);
        };
        if record.fingerprint != fingerprint {
            return Ok(StageStatus::NotDone);
        }
        let found = self.outputs(stage)?;
        let changed = stage
            .answers_for()
            .find(|path| found.get(path) != record.outputs.get(path));
        Ok(changed.map_or(StageStatus::Current, |path| {
            StageStatus::Lost(self.path(&path))
        }))
    }

    fn outputs(&self, stage: &StageSpec) -> anyhow::Result<BTreeMap<String, String>> {
        let found = stage.recorded().filter(|it| self.path(it).exists());
        found
            .map(|it| {
                let digest = digest(&self.path(&it))?.blake3;
                Ok((it, digest))
            })
            .collect()
    }

    /// Forgets a stage and those that build on it before its output is replaced, and what was trained on another fit.
    pub fn begin(&mut self, stage: &StageSpec) -> anyhow::Result<()> {
        self.check_ours()?;
        if self.trained_otherwise.contains(&stage) {
            self.remove_run(&self.path(files::TRAINED), Role::Trained)?;
        }
        tracing::info!(
            event = "begin",
            stage = stage.name,
            "{}: begins",
            stage.name
        );
        self.take(stage)?;
        let layout = self.layout;
        // A stage of another version of ntkpipe may build on anything.
        let stays = |name: &str| layout.of(name).is_some_and(|it| !it.needs(stage));
        if self.record.stages.names().all(stays) {
            return Ok(());
        }
        self.record.stages.retain(stays);
        self.save()
    }

    /// Forgets a stage that the run does not have.
    pub fn forget(&mut self, stage: &StageSpec) -> anyhow::Result<()> {
        self.record.stages.retain(|name| name != stage.name);
        self.save()
    }

    /// Whether the files of a stage that a later one completes are as the stage itself left them.
    pub fn is_as_left(&self, stage: &StageSpec) -> anyhow::Result<bool> {
        let Some(record) = self.record.stages.get(stage.name) else {
            return Ok(false);
        };
        Ok(self.outputs(stage)? == record.outputs)
    }

    /// Records a stage as done, with what it left.
    pub fn finish(
        &mut self,
        stage: &StageSpec,
        fingerprint: &str,
        seconds: f64,
        figures: &impl Serialize,
        warnings: Vec<String>,
    ) -> anyhow::Result<()> {
        self.seal(stage)?;
        let record = StageRecord {
            fingerprint: fingerprint.to_owned(),
            seconds,
            figures: serde_json::to_value(figures)?,
            outputs: self.outputs(stage)?,
            warnings,
        };
        self.record.stages.insert(stage.name, record);
        self.save()
    }

    /// Writes `run.json`.
    pub fn save(&self) -> anyhow::Result<()> {
        self.check_ours()?;
        let mut text = serde_json::to_vec_pretty(&self.record)?;
        text.push(b'\n');
        atomic::write(&self.path(files::RECORD), &[&text])?;
        Ok(())
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if !self.is_alone || self.check_ours().is_err() {
            return;
        }
        // Where this fails, names stay taken, as when the process is killed.
        let _ = ownership::settle(self.layout, &self.root, Role::Run);
        if let Some(scratch) = &self.scratch {
            let _ = ownership::settle(self.layout, scratch, Role::Scratch);
        }
    }
}
