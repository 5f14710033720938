//! What in a folder is ours: only what a run left, and what stands there as it left it, is replaced, emptied or removed.
//!
//! A command looks at all that has a name it uses, within folders too, before it begins, and again before each stage; where a file is not
//! ours it is refused. A file is ours if
//! - its content says so: the lock, `run.json`, `run.log`, journals and words of shares, which change all the time, and tiles of a kernel;
//! - or the [marker](crate::marker) knows it;
//! - or the marker says that what has its name was being made, it has a name that a run gives, and something is there still of what the
//!   marker knows, or at first the log.
//!
//! A folder with nothing in it is nobody's: workflow engines make those of a job's outputs before it runs. So is what they and file systems
//! leave in any folder (`.nfs…`).
//!
//! In a run directory of an earlier version, or put together by a workflow, which has no marker, `run.json` says what the stages left.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use ntkpipe_store::printable::escaped;
use ntkpipe_store::zarr::ZarrArray;
use ntkpipe_store::{atomic, file_system, results};

use crate::choice;
use crate::failure::input;
use crate::fit_journal;
use crate::lock::{self, LOCK};
use crate::log::{self, LOG};
use crate::marker::{self, MARKER, Marker, Stamp};
use crate::run_directory::{self, NAMES, RECORD, TILES, read_record};
use crate::share;
use crate::stages::fit;

/// Names that are shown of those that are in the way.
const SHOWN: usize = 5;

/// Names of files that commands leave within folders, chunks of arrays apart.
const WITHIN: [&str; 8] = [
    "zarr.json",
    "spectrum.json",
    "model.json",
    "effects.parquet",
    "scaling.parquet",
    "training.parquet",
    "network.safetensors",
    choice::CHOICE,
];

/// What the names of files begin with that file systems, desktops and workflow engines leave in any folder.
const NOBODYS: [&str; 3] = [".nfs", ".DS_Store", ".snakemake_timestamp"];

/// Files that are known by their content alone, and change all the time.
const TELLING: [&str; 3] = [LOCK, RECORD, LOG];

/// How often a network's file system is asked again where what another machine left seems to be somebody's, and after how long.
const PATIENCE: (usize, Duration) = (2, Duration::from_secs(1));

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
    const ALL: [Self; 4] = [Self::Run, Self::Scratch, Self::Trained, Self::Cohort];

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

/// A file, link or empty folder under one of the names a command uses.
struct Found {
    /// From the folder.
    path: String,
    at: PathBuf,
    is_folder: bool,
}

impl Found {
    fn name(&self) -> &str {
        marker::first(&self.path)
    }

    /// The part of the path that ends with a temporary name.
    fn temporary(&self) -> Option<&str> {
        let ends = self.path.match_indices('/').map(|it| it.0);
        ends.chain([self.path.len()])
            .map(|end| &self.path[..end])
            .find(|path| atomic::final_name(path.rsplit('/').next().unwrap_or(path)).is_some())
    }

    /// Whether commands leave files of such a name at such a place.
    fn has_form(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        let name = atomic::final_name(name).unwrap_or(name);
        !self.path.contains('/') || marker::chunk(&self.path).is_some() || WITHIN.contains(&name)
    }
}

/// All that is in `folder` under `names`, or a temporary name of one; of architectures' runs, which see to their own, nothing.
fn list(folder: &Path, names: &[&str]) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), folder.to_path_buf())];
    while let Some((within, folder)) = folders.pop() {
        let describe = || format!("could not list `{}`", folder.display());
        let entries = match std::fs::read_dir(&folder) {
            // Taken away meanwhile, or not there yet.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.with_context(describe)?,
        };
        let mut is_empty = true;
        for entry in entries {
            let entry = entry.with_context(describe)?;
            is_empty = false;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let path = within.clone() + &name;
            let is_nobodys = !within.is_empty() && NOBODYS.iter().any(|it| name.starts_with(it));
            if is_nobodys || !names.contains(&marker::first(&path)) {
                continue;
            }
            // Not what a link leads to.
            let is_folder = match entry.file_type() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                kind => kind.with_context(describe)?.is_dir(),
            };
            let at = entry.path();
            match is_folder {
                true if within == format!("{}/", choice::FOLDER) && is_run(&at) => {}
                true => folders.push((path + "/", at)),
                false => found.push(Found {
                    path,
                    at,
                    is_folder,
                }),
            }
        }
        if is_empty && !within.is_empty() {
            found.push(Found {
                path: within.trim_end_matches('/').to_owned(),
                at: folder,
                is_folder: true,
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn is_run(folder: &Path) -> bool {
    let marker = Marker::read(folder).ok().flatten();
    marker.is_some_and(|it| it.knows(Role::Run.name()))
        || matches!(read_record(folder), Ok(Some(_)))
}

/// What is known of a folder.
struct Holding<'f> {
    folder: &'f Path,
    role: Role,
    marker: Marker,
    /// Whether the marker is made of what a version without one left.
    is_adopted: bool,
    is_witnessed: OnceCell<bool>,
    tiles: OnceCell<Option<ZarrArray<f32>>>,
}

impl<'f> Holding<'f> {
    fn read(folder: &'f Path, role: Role) -> anyhow::Result<Self> {
        let marker = Marker::read(folder)?;
        let is_adopted = marker.is_none();
        Ok(Self {
            folder,
            role,
            marker: match marker {
                Some(marker) => marker,
                None => adopted(folder, role),
            },
            is_adopted,
            is_witnessed: OnceCell::new(),
            tiles: OnceCell::new(),
        })
    }

    fn is_ours(&self, found: &Found) -> bool {
        let role = self.role.name();
        if self.says_so(found) {
            return true;
        }
        match self.marker.stamp(role, &found.path) {
            Some(stamp) if stamp.is_of(&found.at) => true,
            Some(_) if self.is_adopted => false,
            // A simulation gives its files their names when all are whole: what it was making has temporary ones.
            _ if self.role == Role::Cohort && found.temporary().is_none() => false,
            _ => self.marker.is_open(role, found.name()) && found.has_form() && self.is_witnessed(),
        }
    }

    /// Whether the file's content shows whose it is.
    fn says_so(&self, found: &Found) -> bool {
        let name = found.path.rsplit('/').next().unwrap_or(&found.path);
        let is_temporary = atomic::final_name(name).is_some();
        let is_of_run = !found.path.contains('/') || found.name() == choice::FOLDER;
        match atomic::final_name(name).unwrap_or(name) {
            LOCK | LOG | MARKER | RECORD if !is_of_run => false,
            LOCK => lock::is_ours(&found.at),
            LOG => log::is_ours(&found.at),
            MARKER => is_temporary && begins(&found.at, marker::is_beginning),
            RECORD if is_temporary => begins(&found.at, run_directory::is_beginning),
            RECORD if self.role == Role::Run => {
                // One that is damaged is named as such by who reads it.
                self.marker.knows(self.role.name())
                    || matches!(read_record(self.folder), Ok(Some(_)))
            }
            fit::JOURNAL | fit::FOLDS_JOURNAL => fit_journal::is_ours(&found.at, is_temporary),
            _ if found.name() == share::FOLDER => fit_journal::is_ours(&found.at, is_temporary),
            _ if found.name() == TILES => self.is_of_tiles(found),
            _ => false,
        }
    }

    /// Whether the file is the description of tiles that say what kernel they are of, one of these, or a link to them.
    fn is_of_tiles(&self, found: &Found) -> bool {
        let tiles = self.tiles.get_or_init(|| {
            let array = ZarrArray::<f32>::open(self.folder.join(TILES)).ok()?;
            let says = &array.spec().attributes;
            (says.contains_key("fingerprint") && says.contains_key("network")).then_some(array)
        });
        let (Some(tiles), Some(within)) = (tiles, found.path.strip_prefix(TILES)) else {
            return false;
        };
        match (within, marker::chunk(&found.path)) {
            ("", _) => found.at.is_symlink(),
            ("/zarr.json", _) => true,
            (_, Some(place)) if within.starts_with("/c/") => {
                let length = found.at.metadata().map_or(u64::MAX, |it| it.len());
                let is_in_grid = place.iter().zip(tiles.grid()).all(|(at, of)| *at < of);
                is_in_grid && length <= tiles.chunk_bytes()
            }
            _ => false,
        }
    }

    /// Whether what was being made can still be ours: whoever empties a folder by hand leaves the marker, whose name is hidden.
    fn is_witnessed(&self) -> bool {
        *self.is_witnessed.get_or_init(|| {
            let mut files = self.marker.files(self.role.name()).peekable();
            let is_there = |name: &str| self.folder.join(name).is_file();
            match self.role {
                Role::Scratch | Role::Cohort => true,
                Role::Run | Role::Trained if files.peek().is_some() => {
                    files.any(|(path, stamp)| stamp.is_of(&self.folder.join(path)))
                }
                Role::Run if self.is_adopted => false,
                Role::Trained if self.is_adopted => true,
                Role::Run | Role::Trained => {
                    is_there(LOG) && log::is_ours(&self.folder.join(LOG))
                        || is_there(RECORD) && matches!(read_record(self.folder), Ok(Some(_)))
                }
            }
        })
    }
}

fn begins(path: &Path, is_beginning: fn(&str) -> bool) -> bool {
    let is_file = path.symlink_metadata().is_ok_and(|it| it.is_file());
    is_file && std::fs::read(path).is_ok_and(|it| is_beginning(&String::from_utf8_lossy(&it)))
}

/// What versions without a marker, or with one that lists names alone, are known to have left.
fn adopted(folder: &Path, role: Role) -> Marker {
    let mut marker = Marker::default();
    match role {
        Role::Run => {
            let Ok(Some(record)) = read_record(folder) else {
                return marker;
            };
            let done = || record.stages.keys();
            for (path, digest) in record.stages.values().flat_map(|it| &it.outputs) {
                marker.leave(role.name(), path, Stamp::of_digest(digest));
            }
            // A stage that was done left what it recorded, and chunks of arrays.
            let is_done = |name: &&str| done().any(|stage| stage.files().contains(name));
            let names = NAMES.iter().filter(|name| !is_done(name));
            for name in names.filter(|name| !TELLING.contains(name)) {
                marker.open(role.name(), name);
            }
        }
        Role::Trained => {
            let tables = folder.join("predictions.parquet");
            if lock::is_ours(&folder.join(LOCK)) && results::is_predictions(&tables) {
                let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
                let names = entries.map(|it| it.file_name().to_string_lossy().into_owned());
                for name in names.filter(|name| !TELLING.contains(&name.as_str())) {
                    marker.open(role.name(), &name);
                }
            }
        }
        // Tiles say what they are; a cohort is drawn again elsewhere.
        Role::Scratch | Role::Cohort => {}
    }
    marker
}

/// Sees that all that is in `folder` under `names`, and within folders of these names, is ours; changes nothing. Gives what killed
/// commands left there half written.
///
/// Cost: a look at each file; those that are no chunks are read.
///
/// # Errors
/// Where a file is somebody's, or is not what ntkpipe left.
pub fn check(folder: &Path, role: Role, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut patience = match file_system::network(folder) {
        Some(_) => PATIENCE.0,
        None => 0,
    };
    let says = || std::fs::read(folder.join(MARKER)).ok();
    loop {
        let before = says();
        match check_once(folder, role, names) {
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

fn check_once(folder: &Path, role: Role, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    // What is there before the marker is read: another share that makes it has written the marker before.
    let found = list(folder, &[names, &[MARKER]].concat())?;
    let holding = Holding::read(folder, role)?;
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
pub fn take(folder: &Path, role: Role, names: &[&str]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("could not create the folder `{}`", folder.display()))?;
    check(folder, role, names)?;
    let holding = Holding::read(folder, role)?;
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
pub fn seal(folder: &Path, role: Role, names: &[&str]) -> anyhow::Result<()> {
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
        !it.is_folder && it.has_form() && !is_temporary
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
pub fn settle(folder: &Path, role: Role) -> anyhow::Result<()> {
    let marker = Marker::read(folder)?.unwrap_or_default();
    let names = marker.open_names(role.name());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match names.is_empty() {
        true => Ok(()),
        false => seal(folder, role, &names),
    }
}

/// Whether a command with the role left something in `folder`.
pub fn knows(folder: &Path, role: Role) -> anyhow::Result<bool> {
    Ok(Holding::read(folder, role)?.marker.knows(role.name()))
}

/// Removes what a command with the role made in `folder`, and the folder if nothing else is there.
///
/// # Errors
/// Those of [`check`], before anything is removed.
pub fn remove(folder: &Path, role: Role) -> anyhow::Result<()> {
    let marker = Holding::read(folder, role)?.marker;
    let names = marker.names(role.name());
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    let is_shared = Role::ALL
        .iter()
        .any(|other| *other != role && marker.knows(other.name()));
    if !is_shared {
        names.extend(TELLING);
    }
    check(folder, role, &names)?;
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

/// Refuses a file to write that is, or would be, a part of what a command makes in a folder.
pub fn check_output(path: &Path) -> anyhow::Result<()> {
    check_place(path, Role::Run)?;
    let path = real(path);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let marker = Marker::read(folder).ok().flatten().unwrap_or_default();
    let name = name.to_string_lossy();
    match Role::ALL
        .iter()
        .any(|role| marker.names(role.name()).contains(&*name))
    {
        true => Err(input(
            format!(
                "`{}` is part of what ntkpipe keeps in `{}`",
                path.display(),
                folder.display()
            ),
            "name another file with `--out`",
        )),
        false => Ok(()),
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
    if role == Role::Scratch && folder.join(RECORD).exists() {
        return refuse(&folder);
    }
    for above in folder.ancestors().skip(1) {
        let below = folder.strip_prefix(above).ok();
        let first = below.and_then(|path| path.components().next());
        let Some(Component::Normal(first)) = first else {
            continue;
        };
        let is_owned = first.to_str().is_some_and(|name| NAMES.contains(&name)) && is_run(above);
        // An architecture's run can be gone on with by itself.
        let is_architecture = first == choice::FOLDER && folder.join(RECORD).exists();
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
        let check = || check(root, Role::Run, &names);
        let refused = |word: &str| {
            let refusal = check().unwrap_err().to_string();
            assert!(refusal.contains(word), "{refusal}");
            assert!(take(root, Role::Run, &names).is_err());
        };
        take(root, Role::Run, &names).unwrap();
        put(root, LOG, LINE);
        put(root, "a.parquet", "ours");
        put(root, "model/dual.zarr/c/0/0", "chunk");
        check().unwrap();
        // While it is made, a file that no run makes is somebody's all the same.
        put(root, "model/mine", "");
        refused("model/mine` would be replaced, and ntkpipe did not");
        std::fs::remove_file(root.join("model/mine")).unwrap();
        settle(root, Role::Run).unwrap();
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
        assert!(super::check(root, Role::Trained, &names).is_err());
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
        let left = || check(root, Role::Run, &names).unwrap();
        put(root, "a.parquet.tmp-7-0", "somebody's");
        put(root, "features.zarr.tmp-1-1/c/0/0", "somebody's");
        assert_eq!(left(), Vec::<PathBuf>::new());
        std::fs::remove_file(root.join("a.parquet.tmp-7-0")).unwrap();
        std::fs::remove_dir_all(root.join("features.zarr.tmp-1-1")).unwrap();
        take(root, Role::Run, &names).unwrap();
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
            take(&root, Role::Trained, &["y.json", "trained.tsv"]).unwrap();
            put(&root, LOG, LINE);
            put(&root, "y.json", "{}");
            settle(&root, Role::Trained).unwrap();
        };
        make();
        remove(&root, Role::Trained).unwrap();
        assert!(!root.exists());
        make();
        put(&root, "notes", "mine");
        remove(&root, Role::Trained).unwrap();
        assert!(root.join("notes").exists() && !root.join("y.json").exists());
        make();
        put(&root, "y.json", "mine");
        assert!(remove(&root, Role::Trained).is_err());
        assert!(root.join(LOG).exists());
    }

    #[test]
    fn a_folder_within_a_run_directory_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        take(root, Role::Run, &["model"]).unwrap();
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
