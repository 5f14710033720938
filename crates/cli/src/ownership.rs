//! What in a folder is ours: a marker says so, and nothing else there is replaced, emptied or removed.
//!
//! `.ntkpipe` has a line `ROLE NAME` for each file or folder that a command made, or is about to make. A command claims all names that it
//! may write before it writes the first; where one of them is there and is not in the marker, it is somebody's, and the command is refused.
//! When it is done the names of what is not there are given back. Folders of versions without a marker are known by what those left.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use ntkpipe_store::atomic;
use ntkpipe_store::printable::escaped;
use ntkpipe_store::zarr::ZarrArray;
use serde_json::Value;

use crate::choice;
use crate::failure::input;
use crate::lock::{self, LOCK};
use crate::run_directory::{self, read_record};

/// The marker.
pub const MARKER: &str = ".ntkpipe";

const HEAD: &str = "# Made by ntkpipe, which may replace or remove what is listed here, and touches nothing else in this folder.\n";

const END: &str = "# End.\n";

/// Names that are shown of those that are in the way.
const SHOWN: usize = 5;

/// What a folder is to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `--out` of a run.
    Run,
    /// `--scratch` of a run.
    Scratch,
    /// `--to` of `train`.
    Trained,
    /// `--out` of `simulate`.
    Cohort,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Scratch => "scratch",
            Self::Trained => "trained",
            Self::Cohort => "cohort",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Run | Self::Cohort => "--out",
            Self::Scratch => "--scratch",
            Self::Trained => "--to",
        }
    }
}

/// The lines of a marker.
#[derive(Default)]
struct Marker(BTreeSet<(String, String)>);

impl Marker {
    /// None where there is no file of this name.
    fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(MARKER);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("could not read `{}`", path.display()));
            }
        };
        // One that was cut short says nothing.
        if HEAD.starts_with(&text) || text.starts_with(HEAD) && !text.ends_with(END) {
            return Ok(None);
        }
        if !text.starts_with(HEAD) {
            return Err(input(
                format!("`{}` was not made by ntkpipe", path.display()),
                "ntkpipe keeps a file of this name to know what it made: choose another folder",
            ));
        }
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once(' '));
        Ok(Some(Self(
            pairs
                .map(|(role, name)| (role.to_owned(), name.to_owned()))
                .collect(),
        )))
    }

    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let mut text = HEAD.to_owned();
        for (role, name) in &self.0 {
            text += &format!("{role} {name}\n");
        }
        text += END;
        Ok(atomic::write(&folder.join(MARKER), &[text.as_bytes()])?)
    }

    fn has(&self, role: Role, name: &str) -> bool {
        self.0.contains(&(role.name().to_owned(), name.to_owned()))
    }
}

/// Takes `names` in `folder`, which is made if it is not there, for a command; a later one finds them in the marker.
///
/// # Errors
/// Where one of them, or a half-written one, is there and no command with this role made it.
pub fn claim(folder: &Path, role: Role, names: &[&str]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("could not create the folder `{}`", folder.display()))?;
    // What is there before the marker is read: another share that makes it has written the marker before.
    let there = entries(folder, names)?;
    let marker = Marker::read(folder)?;
    let is_former = marker.is_none() && !there.is_empty() && is_of_earlier_version(folder, role);
    let mut marker = marker.unwrap_or_default();
    // A lock is empty, or names who has it.
    let is_lock_ours = lock::is_ours(&folder.join(LOCK));
    let is_ours = |name: &str| {
        is_former || marker.has(role, name) || is_lock_ours && (name == LOCK || name == "run.log")
    };
    let foreign: Vec<&(String, String)> = there.iter().filter(|(of, _)| !is_ours(of)).collect();
    if let Some((_, first)) = foreign.first() {
        return Err(in_the_way(folder, role, first, &foreign));
    }
    let wanted = names
        .iter()
        .map(|name| (role.name().to_owned(), (*name).to_owned()));
    let before = marker.0.len();
    marker.0.extend(wanted);
    match marker.0.len() == before {
        true => Ok(()),
        false => marker.write(folder),
    }
}

fn in_the_way(folder: &Path, role: Role, first: &str, all: &[&(String, String)]) -> anyhow::Error {
    let others: Vec<String> = all[1..]
        .iter()
        .take(SHOWN)
        .map(|(_, name)| format!("`{}`", escaped(name)))
        .collect();
    let more = match all.len() - 1 {
        0 => String::new(),
        n if n > SHOWN => format!(
            ", and so would {} and {} more",
            others.join(", "),
            n - SHOWN
        ),
        _ => format!(", and so would {}", others.join(", ")),
    };
    input(
        format!(
            "`{}` would be replaced, and ntkpipe did not make it as part of this{more}",
            folder.join(first).display()
        ),
        format!(
            "choose another folder with `{}`, or move what is there away",
            role.flag()
        ),
    )
}

/// Of what is in `folder` that which has one of `names`, or a temporary name of one: the name it belongs to, and its own.
///
/// A folder with nothing in it is nobody's: workflow engines make those of a job's outputs before it runs.
fn entries(folder: &Path, names: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
    let describe = || format!("could not list `{}`", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(describe)? {
        let entry = entry.with_context(describe)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let of = atomic::final_name(&name).unwrap_or(&name);
        if names.contains(&of) && !is_empty_folder(&entry) {
            found.push((of.to_owned(), name.into_owned()));
        }
    }
    found.sort();
    Ok(found)
}

fn is_empty_folder(entry: &std::fs::DirEntry) -> bool {
    // Not what a link leads to.
    entry.file_type().is_ok_and(|kind| kind.is_dir())
        && std::fs::read_dir(entry.path()).is_ok_and(|mut inside| inside.next().is_none())
}

/// Whether a version that left no marker made what is in the folder.
fn is_of_earlier_version(folder: &Path, role: Role) -> bool {
    match role {
        Role::Run => matches!(read_record(folder), Ok(Some(_))),
        Role::Scratch => ZarrArray::<f32>::open(folder.join("kernel.zarr")).is_ok_and(|array| {
            let says = &array.spec().attributes;
            says.contains_key("fingerprint") && says.contains_key("network")
        }),
        Role::Trained => {
            lock::is_ours(&folder.join(LOCK)) && folder.join("trained.parquet").exists()
        }
        Role::Cohort => {
            let text = std::fs::read(folder.join("cohort.json")).unwrap_or_default();
            let says: Value = serde_json::from_slice(&text).unwrap_or_default();
            ["version", "options", "feature_rows", "panel_missing_rates"]
                .iter()
                .all(|key| says.get(key).is_some())
        }
    }
}

/// Gives back those of a role's names of which nothing is there after all.
///
/// The record of a run is not looked at: a network's file system would go on telling its size of this moment to the next process here,
/// also where another machine has written it anew.
pub fn settle(folder: &Path, role: Role) -> anyhow::Result<()> {
    let Some(mut marker) = Marker::read(folder)? else {
        return Ok(());
    };
    let before = marker.0.len();
    let is_there =
        |name: &str| name == run_directory::RECORD || folder.join(name).symlink_metadata().is_ok();
    marker
        .0
        .retain(|(of, name)| of != role.name() || is_there(name));
    match marker.0.len() == before {
        true => Ok(()),
        false => marker.write(folder),
    }
}

/// Refuses a folder within what is another run directory's, where that one's run would remove it, and a scratch folder that is one.
pub fn check_place(folder: &Path, role: Role) -> anyhow::Result<()> {
    let folder = real(folder);
    let refuse = |run: &Path| {
        Err(input(
            format!(
                "`{}` is part of the run directory `{}`, which replaces and removes what is there",
                folder.display(),
                run.display()
            ),
            format!("choose another folder with `{}`", role.flag()),
        ))
    };
    if role == Role::Scratch && folder.join(run_directory::RECORD).exists() {
        return refuse(&folder);
    }
    for above in folder.ancestors().skip(1) {
        let below = folder.strip_prefix(above).ok();
        let first = below.and_then(|path| path.components().next());
        let Some(Component::Normal(first)) = first else {
            continue;
        };
        let is_owned = first
            .to_str()
            .is_some_and(|name| run_directory::NAMES.contains(&name))
            && (above.join(MARKER).exists() || matches!(read_record(above), Ok(Some(_))));
        // An architecture's run can be gone on with by itself.
        let is_architecture =
            first == choice::FOLDER && folder.join(run_directory::RECORD).exists();
        if is_owned && !is_architecture {
            return refuse(above);
        }
    }
    Ok(())
}

/// Refuses an input that is one of `names` in `folder`, or within one: the command would replace it.
pub fn check_inputs<'p>(
    folder: &Path,
    names: &[&str],
    flag: &str,
    inputs: impl IntoIterator<Item = &'p PathBuf>,
) -> anyhow::Result<()> {
    let folder = real(folder);
    for given in inputs {
        let Ok(path) = given.canonicalize() else {
            continue;
        };
        if names.iter().any(|name| path.starts_with(folder.join(name))) {
            return Err(input(
                format!(
                    "the input `{}` would be replaced: `{flag}` is the folder it is in, and a file of this name is written there",
                    given.display()
                ),
                format!("choose another folder with `{flag}`"),
            ));
        }
    }
    Ok(())
}

/// The path without links; of what is not there that of the nearest folder above it.
pub fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for above in path.ancestors() {
        if let Ok(found) = above.canonicalize() {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            return match rest.as_os_str().is_empty() {
                true => found,
                false => found.join(rest),
            };
        }
    }
    path
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_marker_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let names = ["a.parquet", "model"];
        let claim = || claim(root, Role::Run, &names);
        claim().unwrap();
        std::fs::write(root.join("a.parquet"), "ours").unwrap();
        settle(root, Role::Run).unwrap();
        claim().unwrap();
        settle(root, Role::Run).unwrap();
        // Cut short, it says nothing.
        let marker = std::fs::read_to_string(root.join(MARKER)).unwrap();
        std::fs::write(root.join(MARKER), &marker[..marker.len() / 2]).unwrap();
        assert!(claim().unwrap_err().to_string().contains("a.parquet"));
        std::fs::write(root.join(MARKER), marker).unwrap();
        // Put there since, by somebody.
        std::fs::create_dir(root.join("model")).unwrap();
        claim().unwrap();
        settle(root, Role::Run).unwrap();
        std::fs::remove_dir(root.join("model")).unwrap();
        settle(root, Role::Run).unwrap();
        std::fs::create_dir(root.join("model")).unwrap();
        std::fs::write(root.join("model/mine"), "").unwrap();
        let refusal = claim().unwrap_err().to_string();
        assert!(refusal.contains("model` would be replaced"), "{refusal}");
        std::fs::remove_dir_all(root.join("model")).unwrap();
        // Of another command.
        let other = super::claim(root, Role::Trained, &names).unwrap_err();
        assert!(other.to_string().contains("a.parquet"));
        for half in ["a.parquet.tmp-7-0", "model.tmp-1-1"] {
            std::fs::write(root.join(half), "").unwrap();
        }
        assert!(claim().unwrap_err().to_string().contains("model.tmp-1-1"));
    }

    #[test]
    fn a_folder_within_a_run_directory_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        claim(root, Role::Run, &["model"]).unwrap();
        assert!(check_place(&root.join("model/x"), Role::Run).is_err());
        check_place(&root.join("other/model"), Role::Run).unwrap();
        check_place(root, Role::Run).unwrap();
        let inside = root.join("model/w.safetensors");
        std::fs::create_dir(root.join("model")).unwrap();
        std::fs::write(&inside, "").unwrap();
        assert!(check_inputs(root, &["model"], "--out", [&inside]).is_err());
        check_inputs(root, &["spectrum"], "--out", [&inside]).unwrap();
    }
}
