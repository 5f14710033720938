//! What is known of a run's stages before they run: names, versions, and what they leave.

use std::path::PathBuf;

use crate::log::LOG;
use crate::run::files;
use crate::run::lock::LOCK;

/// A stage of a run, as its own file declares it.
#[derive(Debug)]
pub struct StageSpec {
    /// Its name, which is also the name of its command.
    pub name: &'static str,
    /// What it does, as `--help` says it.
    pub about: &'static str,
    /// Bumped when the stage's code changes what it writes, so that earlier results are not taken for current.
    pub version: u32,
    /// The stages before it whose output it needs; it also needs those that they build on.
    pub builds_on: &'static [&'static StageSpec],
    /// Whether another stage does its work on the way, so that a run never starts it.
    pub is_done_on_the_way: bool,
    /// What it makes or adds to in the run directory; some are of more than one stage.
    pub outputs: &'static [Output],
}

impl PartialEq for StageSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl StageSpec {
    /// Names of the files and folders in the run directory that it makes or adds to.
    pub fn names(&self) -> Vec<&'static str> {
        self.outputs.iter().map(|it| it.name).collect()
    }

    /// Those that are in the scratch folder, where there is one.
    pub fn scratch_names(&self) -> Vec<&'static str> {
        let in_scratch = self.outputs.iter().filter(|it| it.is_in_scratch);
        in_scratch.map(|it| it.name).collect()
    }

    /// Paths of the files that are recorded with their digests: all but chunks of arrays, which tell damage by themselves.
    pub fn recorded(&self) -> impl Iterator<Item = String> {
        self.outputs.iter().flat_map(Output::recorded)
    }

    /// Paths of the recorded files that the stage answers for: all but those that a later stage completes.
    pub fn answers_for(&self) -> impl Iterator<Item = String> {
        let own = self.outputs.iter().filter(|it| !it.is_completed_later);
        own.flat_map(Output::recorded)
    }

    /// Whether it is `other`, or builds on it.
    pub fn needs(&self, other: &StageSpec) -> bool {
        self == other || self.builds_on.iter().any(|it| it.needs(other))
    }
}

/// A file or folder in the run directory.
#[derive(Debug)]
pub struct Output {
    name: &'static str,
    /// Paths of the files in a folder that are recorded, part by part; of a file that is recorded the empty path.
    recorded: &'static [&'static [&'static str]],
    /// Whether a run of several architectures leaves it too.
    is_of_several: bool,
    is_in_scratch: bool,
    /// Whether a later stage completes it, and looks after it.
    is_completed_later: bool,
}

/// The description of an array in its folder.
pub const ARRAY: &str = "zarr.json";

impl Output {
    /// A file that is recorded with its digest.
    pub const fn file(name: &'static str) -> Self {
        Self::folder(name, &[&[]])
    }

    /// An array: its description is recorded.
    pub const fn array(name: &'static str) -> Self {
        Self::folder(name, &[&[ARRAY]])
    }

    /// A folder, and the paths of the files in it that are recorded.
    pub const fn folder(name: &'static str, recorded: &'static [&'static [&'static str]]) -> Self {
        Self {
            name,
            recorded,
            is_of_several: false,
            is_in_scratch: false,
            is_completed_later: false,
        }
    }

    /// A file or folder that is not recorded, because it goes before the stage ends or belongs to another stage as well.
    pub const fn unrecorded(name: &'static str) -> Self {
        Self::folder(name, &[])
    }

    /// This one, which a run of several architectures leaves too.
    pub const fn also_of_several(self) -> Self {
        Self {
            is_of_several: true,
            ..self
        }
    }

    /// This one, which is in the scratch folder where there is one.
    pub const fn in_scratch(self) -> Self {
        Self {
            is_in_scratch: true,
            ..self
        }
    }

    /// This one, which a later stage completes. That stage sees whether it is as it was left.
    pub const fn completed_later(self) -> Self {
        Self {
            is_completed_later: true,
            ..self
        }
    }

    fn recorded(&self) -> impl Iterator<Item = String> {
        let parts = |within: &&[&str]| [&[self.name][..], within].concat().join("/");
        self.recorded.iter().map(parts)
    }

    /// Names of the files within it that are recorded.
    fn within(&self) -> impl Iterator<Item = &'static str> {
        self.recorded.iter().filter_map(|path| path.last().copied())
    }
}

/// The stages in the order of a run, and the names of what they make.
#[derive(Debug)]
pub struct Layout(Vec<&'static StageSpec>);

impl Layout {
    /// Of these stages.
    pub fn new(stages: Vec<&'static StageSpec>) -> Self {
        Self(stages)
    }

    /// The stages, in order.
    pub fn stages(&self) -> impl Iterator<Item = &'static StageSpec> {
        self.0.iter().copied()
    }

    /// The place of the stage of this name; a stage of another version of ntkpipe comes last.
    pub fn place(&self, name: &str) -> usize {
        let place = self.0.iter().position(|it| it.name == name);
        place.unwrap_or(self.0.len())
    }

    /// The stage of this name, where this version of ntkpipe has one.
    pub fn of(&self, name: &str) -> Option<&'static StageSpec> {
        self.stages().find(|it| it.name == name)
    }

    /// Whether one stage comes before the other.
    pub fn is_before(&self, one: &StageSpec, other: &StageSpec) -> bool {
        self.place(one.name) < self.place(other.name)
    }

    /// Every name that a run may give a file or folder in its directory. What is not in the list is never touched.
    pub fn names(&self) -> Vec<&'static str> {
        let of_run = [LOCK, files::RECORD, LOG, files::ARCHITECTURES];
        let of_stages = self.outputs().map(|it| it.name);
        of_run.into_iter().chain(of_stages).collect()
    }

    /// What a run makes in a scratch folder.
    pub fn scratch_names(&self) -> Vec<&'static str> {
        let of_stages = self.outputs().filter(|it| it.is_in_scratch);
        [LOCK]
            .into_iter()
            .chain(of_stages.map(|it| it.name))
            .collect()
    }

    /// What a run of one architecture leaves and one of several does not.
    pub fn names_of_one(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = Vec::new();
        for output in self.outputs().filter(|it| !it.is_of_several) {
            if !names.contains(&output.name) {
                names.push(output.name);
            }
        }
        names
    }

    /// Whether commands leave files of this name within folders, chunks of arrays apart.
    pub fn is_within_folders(&self, name: &str) -> bool {
        name == files::of_model::CHOICE
            || self.outputs().flat_map(Output::within).any(|it| it == name)
    }

    fn outputs(&self) -> impl Iterator<Item = &'static Output> {
        self.0.iter().flat_map(|stage| stage.outputs)
    }
}

/// What the run directory holds of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageStatus {
    /// Done with these inputs and options, and all there.
    Current,
    /// Not done with these inputs and options.
    NotDone,
    /// Done, but this file of it is gone or no longer what it was.
    Lost(PathBuf),
}
