//! The files in a folder, and which of them are ours.

use std::cell::OnceCell;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ntkpipe_store::zarr::ZarrArray;
use ntkpipe_store::{atomic, results};

use crate::log;
use crate::log::LOG;
use crate::run::lock::LOCK;
use crate::run::marker::{MARKER, Marker, Stamp};
use crate::run::record::read_record;
use crate::run::stage::Layout;
use crate::run::{files, journal, lock, marker, record};

/// What the names of files begin with that file systems, desktops and workflow engines leave in any folder.
const NOBODYS: [&str; 3] = [".nfs", ".DS_Store", ".snakemake_timestamp"];

/// Files that are known by their content alone, and change all the time.
pub const TELLING: [&str; 3] = [LOCK, files::RECORD, LOG];

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
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Run, Self::Scratch, Self::Trained, Self::Cohort];

    /// As the marker spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Scratch => "scratch",
            Self::Trained => "trained",
            Self::Cohort => "cohort",
        }
    }

    /// The flag that chose the folder.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Run | Self::Cohort => "--out",
            Self::Scratch => "--scratch",
            Self::Trained => "--to",
        }
    }
}

/// A file, link or empty folder under one of the names a command uses.
pub struct Found {
    /// From the folder.
    pub path: String,
    pub at: PathBuf,
    pub is_folder: bool,
}

impl Found {
    /// The name in the folder that the path begins with.
    pub fn name(&self) -> &str {
        marker::first(&self.path)
    }

    /// The part of the path that ends with a temporary name.
    pub fn temporary(&self) -> Option<&str> {
        let ends = self.path.match_indices('/').map(|it| it.0);
        ends.chain([self.path.len()])
            .map(|end| &self.path[..end])
            .find(|path| atomic::final_name(path.rsplit('/').next().unwrap_or(path)).is_some())
    }

    /// Whether commands leave files of such a name at such a place.
    pub fn has_form(&self, layout: &Layout) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        let name = atomic::final_name(name).unwrap_or(name);
        !self.path.contains('/')
            || marker::chunk(&self.path).is_some()
            || layout.is_within_folders(name)
    }
}

/// All that is in `folder` under `names`, or a temporary name of one; of architectures' runs, which see to their own, nothing.
pub fn list(folder: &Path, names: &[&str]) -> anyhow::Result<Vec<Found>> {
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
                true if within == format!("{}/", files::ARCHITECTURES) && is_run(&at) => {}
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

/// Whether the folder is a run directory.
pub fn is_run(folder: &Path) -> bool {
    let marker = Marker::read(folder).ok().flatten();
    marker.is_some_and(|it| it.knows(Role::Run.name()))
        || matches!(read_record(folder), Ok(Some(_)))
}

/// What is known of a folder.
pub struct Holding<'f> {
    /// What runs make.
    pub layout: &'f Layout,
    pub folder: &'f Path,
    pub role: Role,
    pub marker: Marker,
    /// Whether the marker is made of what a version without one left.
    pub is_adopted: bool,
    pub is_witnessed: OnceCell<bool>,
    pub tiles: OnceCell<Option<ZarrArray<f32>>>,
}

impl<'f> Holding<'f> {
    /// Reads the marker; where there is none, adopts what an earlier version left.
    pub fn read(layout: &'f Layout, folder: &'f Path, role: Role) -> anyhow::Result<Self> {
        let marker = Marker::read(folder)?;
        let is_adopted = marker.is_none();
        Ok(Self {
            layout,
            folder,
            role,
            marker: match marker {
                Some(marker) => marker,
                None => adopted(layout, folder, role),
            },
            is_adopted,
            is_witnessed: OnceCell::new(),
            tiles: OnceCell::new(),
        })
    }

    /// Whether the file was left, or is being made, by a command of the role.
    pub fn is_ours(&self, found: &Found) -> bool {
        let role = self.role.name();
        if self.says_so(found) {
            return true;
        }
        match self.marker.stamp(role, &found.path) {
            Some(stamp) if stamp.is_of(&found.at) => true,
            Some(_) if self.is_adopted => false,
            // A simulation gives its files their names when all are whole: what it was making has temporary ones.
            _ if self.role == Role::Cohort && found.temporary().is_none() => false,
            _ => {
                self.marker.is_open(role, found.name())
                    && found.has_form(self.layout)
                    && self.is_witnessed()
            }
        }
    }

    /// Whether the file's content shows whose it is.
    pub fn says_so(&self, found: &Found) -> bool {
        let name = found.path.rsplit('/').next().unwrap_or(&found.path);
        let is_temporary = atomic::final_name(name).is_some();
        let is_of_run = !found.path.contains('/') || found.name() == files::ARCHITECTURES;
        match atomic::final_name(name).unwrap_or(name) {
            LOCK | LOG | MARKER | files::RECORD if !is_of_run => false,
            LOCK => lock::is_ours(&found.at),
            LOG => log::is_ours(&found.at),
            MARKER => is_temporary && begins(&found.at, marker::is_beginning),
            files::RECORD if is_temporary => begins(&found.at, record::is_beginning),
            files::RECORD if self.role == Role::Run => {
                // One that is damaged is named as such by who reads it.
                self.marker.knows(self.role.name())
                    || matches!(read_record(self.folder), Ok(Some(_)))
            }
            files::JOURNAL | files::FOLDS_JOURNAL => journal::is_ours(&found.at, is_temporary),
            _ if found.name() == files::SHARDS => journal::is_ours(&found.at, is_temporary),
            _ if found.name() == files::TILES => self.is_of_tiles(found),
            _ => false,
        }
    }

    /// Whether the file is the description of tiles that say what kernel they are of, one of these, or a link to them.
    pub fn is_of_tiles(&self, found: &Found) -> bool {
        let tiles = self.tiles.get_or_init(|| {
            let array = ZarrArray::<f32>::open(self.folder.join(files::TILES)).ok()?;
            let says = &array.spec().attributes;
            (says.contains_key("fingerprint") && says.contains_key("network")).then_some(array)
        });
        let (Some(tiles), Some(within)) = (tiles, found.path.strip_prefix(files::TILES)) else {
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

    /// Whether what was being made can still be ours. Somebody who empties a folder by hand leaves the marker behind, because its name is hidden.
    pub fn is_witnessed(&self) -> bool {
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
                        || is_there(files::RECORD)
                            && matches!(read_record(self.folder), Ok(Some(_)))
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
fn adopted(layout: &Layout, folder: &Path, role: Role) -> Marker {
    let mut marker = Marker::default();
    match role {
        Role::Run => {
            let Ok(Some(record)) = read_record(folder) else {
                return marker;
            };
            for (path, digest) in record.stages.values().flat_map(|it| &it.outputs) {
                marker.leave(role.name(), path, Stamp::of_digest(digest));
            }
            // A stage that was done left what it recorded, and chunks of arrays.
            let done = || {
                layout
                    .stages()
                    .filter(|it| record.stages.get(it.name).is_some())
            };
            let is_done = |name: &str| done().any(|stage| stage.recorded().any(|it| it == name));
            let names = layout.names().into_iter().filter(|name| !is_done(name));
            for name in names.filter(|name| !TELLING.contains(name)) {
                marker.open(role.name(), name);
            }
        }
        Role::Trained => {
            let tables = folder.join(files::PREDICTIONS);
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
