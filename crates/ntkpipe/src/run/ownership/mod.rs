//! What in a folder is ours: only what a run left, and what stands there as it left it, is replaced, emptied or removed.
//!
//! A command looks at all that has a name it uses, within folders too, before it begins, and again before each stage; where a file is not
//! ours it is refused. A file is ours if
//! - its content says so: the lock, `run.json`, `run.log`, journals and words of shards, which change all the time, and tiles of a kernel;
//! - or the [marker](crate::marker) knows it;
//! - or the marker says that what has its name was being made, it has a name that a run gives, and something is there still of what the
//!   marker knows, or at first the log.
//!
//! A folder with nothing in it is nobody's: workflow engines make those of a job's outputs before it runs. So is what they and file systems
//! leave in any folder (`.nfs…`).
//!
//! In a run directory of an earlier version, or put together by a workflow, which has no marker, `run.json` says what the stages left.

pub mod holding;
pub mod place;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use ntkpipe_store::printable::escaped;
use ntkpipe_store::{atomic, file_system};

use crate::failure::input;
use crate::run::marker::{MARKER, Marker, Stamp};
use crate::run::ownership::holding::{Found, Holding, Role, TELLING, list};
use crate::run::stage::Layout;

/// Names that are shown of those that are in the way.
const SHOWN: usize = 5;

/// How often a network's file system is asked again where what another machine left seems to be somebody's, and after how long.
const PATIENCE: (usize, Duration) = (2, Duration::from_secs(1));

/// Sees that all that is in `folder` under `names`, and within folders of these names, is ours; changes nothing. Gives what killed
/// commands left there half written.
///
/// Cost: a look at each file; those that are no chunks are read.
///
/// # Errors
/// Where a file is somebody's, or is not what ntkpipe left.
pub fn check(
    layout: &Layout,
    folder: &Path,
    role: Role,
    names: &[&str],
) -> anyhow::Result<Vec<PathBuf>> {
    let mut patience = match file_system::network(folder) {
        Some(_) => PATIENCE.0,
        None => 0,
    };
    let says = || std::fs::read(folder.join(MARKER)).ok();
    loop {
        let before = says();
        match check_once(layout, folder, role, names) {
            Ok(leftovers) => return Ok(leftovers),
            // Another command is at work here, and took names meanwhile.
            Err(_) if says() != before => {}
            Err(_) if patience > 0 => {
                patience -= 1;
                std::thread::sleep(PATIENCE.1);
            }
            Err(refusal) => return Err(refusal),
        }
    }
}

fn check_once(
    layout: &Layout,
    folder: &Path,
    role: Role,
    names: &[&str],
) -> anyhow::Result<Vec<PathBuf>> {
    // What is there before the marker is read: another shard that makes it has written the marker before.
    let found = list(folder, &[names, &[MARKER]].concat())?;
    let holding = Holding::read(layout, folder, role)?;
    let (mut foreign, mut leftovers, mut not_left) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for it in found.iter().filter(|it| it.path != MARKER) {
        let temporary = it.temporary();
        if it.is_folder {
            let is_left = holding.marker.is_open(role.name(), it.name());
            leftovers.extend(temporary.filter(|_| is_left));
            continue;
        }
        match (holding.is_ours(it), temporary) {
            (true, Some(path)) => drop(leftovers.insert(path)),
            (true, None) => {}
            // Nothing of ours has this name, so that it stays.
            (false, Some(path)) if !path.contains('/') => drop(not_left.insert(path)),
            (false, _) if it.at.symlink_metadata().is_err() => {}
            (false, _) => foreign.push(it),
        }
    }
    match foreign.first() {
        None => Ok(leftovers
            .difference(&not_left)
            .map(|path| folder.join(path))
            .collect()),
        Some(first) => Err(in_the_way(&holding, first, &foreign)),
    }
}

fn in_the_way(holding: &Holding<'_>, first: &Found, all: &[&Found]) -> anyhow::Error {
    let others: Vec<String> = all[1..]
        .iter()
        .take(SHOWN)
        .map(|it| format!("`{}`", escaped(&it.path)))
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
    let role = holding.role;
    let (why, hint) = match holding.marker.stamp(role.name(), &first.path) {
        Some(_) => (
            "is not what ntkpipe left there",
            "move it away if it is to be kept, else delete it: it is made again; or choose another folder",
        ),
        None => (
            "ntkpipe did not make it as part of this",
            "move what is there away, or choose another folder",
        ),
    };
    input(
        format!(
            "`{}` would be replaced, and {}{why}{more}",
            holding.folder.join(&first.path).display(),
            if why.starts_with("is") { "it " } else { "" },
        ),
        format!("{hint} with `{}`", role.flag()),
    )
}

/// Takes `names` in `folder`, which is made if it is not there: from here on what has them is ours, until [`seal`] says what it is.
///
/// # Errors
/// Those of [`check`].
pub fn take(layout: &Layout, folder: &Path, role: Role, names: &[&str]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("could not create the folder `{}`", folder.display()))?;
    check(layout, folder, role, names)?;
    let holding = Holding::read(layout, folder, role)?;
    let mut marker = holding.marker;
    let is_new = |name: &&&str| holding.is_adopted || !marker.is_open(role.name(), name);
    let new: Vec<&str> = names.iter().filter(is_new).copied().collect();
    if new.is_empty() {
        return Ok(());
    }
    for name in new {
        marker.open(role.name(), name);
    }
    marker.write(folder)
}

/// Writes down what is in `folder` under `names`, so that it is known again and what is put there later is not taken for ours.
///
/// Cost: that of [`check`].
pub fn seal(layout: &Layout, folder: &Path, role: Role, names: &[&str]) -> anyhow::Result<()> {
    let Some(mut marker) = Marker::read(folder)? else {
        return Ok(());
    };
    let found = list(folder, names)?;
    for name in names {
        marker.forget(role.name(), name);
    }
    // One with a temporary name in the folder itself is not known to be ours.
    let is_left = |it: &&Found| {
        let is_temporary = it.temporary().is_some_and(|path| !path.contains('/'));
        !it.is_folder && it.has_form(layout) && !is_temporary
    };
    for it in found.iter().filter(is_left) {
        match Stamp::of(&it.at) {
            Err(error) if error.kind() == ErrorKind::NotFound && !it.at.is_symlink() => {}
            stamp => {
                let stamp =
                    stamp.with_context(|| format!("could not read `{}`", it.at.display()))?;
                marker.leave(role.name(), &it.path, stamp);
            }
        }
    }
    marker.write(folder)
}

/// [Seals](seal) all that is open.
pub fn settle(layout: &Layout, folder: &Path, role: Role) -> anyhow::Result<()> {
    let marker = Marker::read(folder)?.unwrap_or_default();
    let names = marker.open_names(role.name());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match names.is_empty() {
        true => Ok(()),
        false => seal(layout, folder, role, &names),
    }
}

/// Whether a command with the role left something in `folder`.
pub fn knows(layout: &Layout, folder: &Path, role: Role) -> anyhow::Result<bool> {
    Ok(Holding::read(layout, folder, role)?
        .marker
        .knows(role.name()))
}

/// Removes what a command with the role made in `folder`, and the folder if nothing else is there.
///
/// # Errors
/// Those of [`check`], before anything is removed.
pub fn remove(layout: &Layout, folder: &Path, role: Role) -> anyhow::Result<()> {
    let marker = Holding::read(layout, folder, role)?.marker;
    let names = marker.names(role.name());
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    let is_shared = Role::ALL
        .iter()
        .any(|other| *other != role && marker.knows(other.name()));
    if !is_shared {
        names.extend(TELLING);
    }
    check(layout, folder, role, &names)?;
    if !is_shared {
        names.push(MARKER);
    }
    for name in names {
        let path = folder.join(name);
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(found) if found.is_dir() => atomic::remove_folder(&path)?,
            _ => std::fs::remove_file(&path)
                .with_context(|| format!("could not remove `{}`", path.display()))?,
        }
    }
    if std::fs::remove_dir(folder).is_err() {
        tracing::warn!(
            "`{}` holds what is not of that run, and stays",
            folder.display()
        );
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::log::LOG;
    use crate::run::ownership::place::{check_inputs, check_place};
    use crate::run::stage::{Output, StageSpec};

    fn layout() -> Layout {
        Layout::new(vec![&SPEC])
    }

    static SPEC: StageSpec = StageSpec {
        name: "predict",
        about: "",
        version: 1,
        builds_on: &[],
        is_done_on_the_way: false,
        outputs: &[Output::folder("model", &[&["model.json"]])],
    };

    const LINE: &str = "2026-06-01T00:00:00.000000Z  INFO ntkpipe\n";

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn what_is_not_as_it_was_left_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let names = ["a.parquet", "model"];
        let check = || check(&layout(), root, Role::Run, &names);
        let refused = |word: &str| {
            let refusal = check().unwrap_err().to_string();
            assert!(refusal.contains(word), "{refusal}");
            assert!(take(&layout(), root, Role::Run, &names).is_err());
        };
        take(&layout(), root, Role::Run, &names).unwrap();
        put(root, LOG, LINE);
        put(root, "a.parquet", "ours");
        put(root, "model/dual.zarr/c/0/0", "chunk");
        check().unwrap();
        // While it is made, a file that no run makes is somebody's all the same.
        put(root, "model/mine", "");
        refused("model/mine` would be replaced, and ntkpipe did not");
        std::fs::remove_file(root.join("model/mine")).unwrap();
        settle(&layout(), root, Role::Run).unwrap();
        check().unwrap();
        for (path, text, word) in [
            ("model/model.json", "{}", "did not make it"),
            ("model/dual.zarr/c/0/1", "chunk", "did not make it"),
            ("a.parquet", "mine", "it is not what ntkpipe left"),
        ] {
            let before = std::fs::read(root.join(path)).ok();
            put(root, path, text);
            refused(word);
            match before {
                Some(before) => std::fs::write(root.join(path), before).unwrap(),
                None => std::fs::remove_file(root.join(path)).unwrap(),
            }
        }
        check().unwrap();
        // Of another command.
        assert!(super::check(&layout(), root, Role::Trained, &names).is_err());
        // Cut short, the marker says nothing.
        let marker = std::fs::read_to_string(root.join(MARKER)).unwrap();
        put(root, MARKER, &marker[..marker.len() / 2]);
        refused("a.parquet");
    }

    #[test]
    fn half_written_files_are_ours_where_they_were_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let names = ["a.parquet", "features.zarr"];
        let left = || check(&layout(), root, Role::Run, &names).unwrap();
        put(root, "a.parquet.tmp-7-0", "somebody's");
        put(root, "features.zarr.tmp-1-1/c/0/0", "somebody's");
        assert_eq!(left(), Vec::<PathBuf>::new());
        std::fs::remove_file(root.join("a.parquet.tmp-7-0")).unwrap();
        std::fs::remove_dir_all(root.join("features.zarr.tmp-1-1")).unwrap();
        take(&layout(), root, Role::Run, &names).unwrap();
        put(root, "a.parquet.tmp-7-0", "ours");
        // Of a folder that somebody emptied.
        assert_eq!(left(), Vec::<PathBuf>::new());
        put(root, LOG, LINE);
        put(root, "features.zarr.tmp-1-1/c/0/0", "ours");
        put(root, "features.zarr/c/0/0.tmp-1-2", "ours");
        put(root, "features.zarr.tmp-1-3/mine", "somebody's");
        put(root, ".ntkpipe.tmp-1-4", "# Made");
        put(root, ".ntkpipe.tmp-1-5", "mine");
        let expected = [
            ".ntkpipe.tmp-1-4",
            "a.parquet.tmp-7-0",
            "features.zarr.tmp-1-1",
            "features.zarr/c/0/0.tmp-1-2",
        ];
        assert_eq!(left(), expected.map(|it| root.join(it)));
    }

    #[test]
    fn what_is_removed_is_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("trained");
        let make = || {
            take(&layout(), &root, Role::Trained, &["y.json", "trained.tsv"]).unwrap();
            put(&root, LOG, LINE);
            put(&root, "y.json", "{}");
            settle(&layout(), &root, Role::Trained).unwrap();
        };
        make();
        remove(&layout(), &root, Role::Trained).unwrap();
        assert!(!root.exists());
        make();
        put(&root, "notes", "mine");
        remove(&layout(), &root, Role::Trained).unwrap();
        assert!(root.join("notes").exists() && !root.join("y.json").exists());
        make();
        put(&root, "y.json", "mine");
        assert!(remove(&layout(), &root, Role::Trained).is_err());
        assert!(root.join(LOG).exists());
    }

    #[test]
    fn a_folder_within_a_run_directory_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        take(&layout(), root, Role::Run, &["model"]).unwrap();
        assert!(check_place(&layout(), &root.join("model/x"), Role::Run).is_err());
        check_place(&layout(), &root.join("other/model"), Role::Run).unwrap();
        check_place(&layout(), root, Role::Run).unwrap();
        let inside = root.join("model/w.safetensors");
        std::fs::create_dir(root.join("model")).unwrap();
        std::fs::write(&inside, "").unwrap();
        assert!(check_inputs(root, &["model"], "--out", [&inside]).is_err());
        check_inputs(root, &["spectrum"], "--out", [&inside]).unwrap();
    }
}
