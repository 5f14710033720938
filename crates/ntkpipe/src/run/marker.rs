//! The marker of a folder, `.ntkpipe`: what commands left there, so that each file is known again.
//!
//! A line `ROLE BYTES DIGEST PATH` is of a file: its size and BLAKE3. Of a chunk of an array, which has a checksum of its own, it is the size
//! alone, and of a link what it leads to. A line `ROLE open NAME` says that a command is making the file or folder of this name, or was
//! killed while it did. Neither times nor places are kept: a folder that is copied or moved is known by its files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use ntkpipe_store::atomic;

use crate::failure::input;

/// Its name.
pub const MARKER: &str = ".ntkpipe";

const HEAD: &str = "# Made by ntkpipe, which may replace or remove what is listed here, and touches nothing else in this folder.\n";

const END: &str = "# End.\n";

const NONE: &str = "-";

/// What a file is known by; what is `None` may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    bytes: Option<u64>,
    /// BLAKE3 of the content, or of what a link leads to.
    digest: Option<String>,
}

/// What stands before the digest of a link.
const LINK: &str = "link:";

impl Stamp {
    /// Of the file or link at `path`.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        if path.is_symlink() {
            let digest = format!("{LINK}{}", link_digest(path)?);
            return Ok(Self {
                bytes: None,
                digest: Some(digest),
            });
        }
        let digest = match chunk(&path.to_string_lossy()) {
            Some(_) => None,
            None => Some(file_digest(path)?),
        };
        Ok(Self {
            bytes: Some(path.metadata()?.len()),
            digest,
        })
    }

    /// Of a file whose digest alone is known.
    pub fn of_digest(blake3: &str) -> Self {
        Self {
            bytes: None,
            digest: Some(blake3.to_owned()),
        }
    }

    /// Whether the file at `path` is the one that was stamped. One with nothing left in it is, and a chunk that was cut short: who reads it
    /// says so.
    pub fn is_of(&self, path: &Path) -> bool {
        let digest = self.digest.as_deref();
        if let Some(link) = digest.and_then(|it| it.strip_prefix(LINK)) {
            return link_digest(path).is_ok_and(|found| found == link);
        }
        let Ok(found) = path.metadata() else {
            // A link of ours, as to a disk that is gone, is stamped as one.
            return false;
        };
        if !found.is_file() {
            return false;
        }
        let length = found.len();
        match (self.bytes, digest) {
            (_, Some(_)) if length == 0 => true,
            (Some(bytes), None) => length <= bytes,
            (Some(bytes), Some(_)) if length != bytes => false,
            (_, Some(digest)) => file_digest(path).is_ok_and(|found| found == digest),
            (None, None) => false,
        }
    }
}

fn link_digest(path: &Path) -> std::io::Result<String> {
    let target = std::fs::read_link(path)?;
    Ok(hex(blake3::hash(target.as_os_str().as_encoded_bytes())))
}

fn file_digest(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hex(hasher.finalize()))
}

fn hex(hash: blake3::Hash) -> String {
    hash.to_hex().to_string()
}

/// Row and column of the chunk of an array at such a path: `NAME.zarr/c/I/J`.
pub fn chunk(path: &str) -> Option<[usize; 2]> {
    let number = |part: &str| match part.bytes().all(|it| it.is_ascii_digit()) {
        true => part.parse().ok(),
        false => None,
    };
    let mut parts = path.rsplit('/');
    let name = parts.next()?;
    let column = number(atomic::final_name(name).unwrap_or(name))?;
    let row = number(parts.next()?)?;
    let is_within = parts.next()? == "c";
    let array = parts.next()?;
    let is_within = is_within
        && atomic::final_name(array)
            .unwrap_or(array)
            .ends_with(".zarr");
    is_within.then_some([row, column])
}

/// The content of a marker as commands of one role see it; the lines of other roles are kept as they were.
#[derive(Clone, Debug, Default)]
pub struct Marker {
    /// Files that were left, by role and path.
    files: BTreeMap<(String, String), Stamp>,
    /// Names of what is being made.
    open: BTreeSet<(String, String)>,
}

impl Marker {
    /// None where there is no file of this name, and where it was cut short or is of an earlier version, which listed names alone.
    ///
    /// # Errors
    /// Where somebody's file has the name.
    pub fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(MARKER);
        let text = match std::fs::read(&path) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("could not read `{}`", path.display()));
            }
        };
        if !is_beginning(&text) {
            return Err(input(
                format!("`{}` was not made by ntkpipe", path.display()),
                "ntkpipe keeps a file of this name to know what it made: choose another folder",
            ));
        }
        if !text.ends_with(END) {
            return Ok(None);
        }
        let mut marker = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if marker.read_line(line).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(marker))
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let (role, rest) = line.split_once(' ')?;
        let (bytes, rest) = rest.split_once(' ')?;
        if bytes == "open" {
            self.open.insert((role.to_owned(), rest.to_owned()));
            return Some(());
        }
        let (digest, path) = rest.split_once(' ')?;
        let stamp = Stamp {
            bytes: match bytes {
                NONE => None,
                bytes => Some(bytes.parse().ok()?),
            },
            digest: (digest != NONE).then(|| digest.to_owned()),
        };
        self.files.insert((role.to_owned(), path.to_owned()), stamp);
        Some(())
    }

    /// Writes it.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let mut text = HEAD.to_owned();
        for (role, name) in &self.open {
            text += &format!("{role} open {name}\n");
        }
        for ((role, path), stamp) in &self.files {
            let bytes = stamp.bytes.map_or(NONE.to_owned(), |it| it.to_string());
            let digest = stamp.digest.as_deref().unwrap_or(NONE);
            text += &format!("{role} {bytes} {digest} {path}\n");
        }
        text += END;
        Ok(atomic::write(&folder.join(MARKER), &[text.as_bytes()])?)
    }

    /// What is known of the file.
    pub fn stamp(&self, role: &str, path: &str) -> Option<&Stamp> {
        self.files.get(&(role.to_owned(), path.to_owned()))
    }

    /// Whether a command of the role makes what has this name, or was killed while it did.
    pub fn is_open(&self, role: &str, name: &str) -> bool {
        self.open.contains(&(role.to_owned(), name.to_owned()))
    }

    /// Names of what commands of the role make or were making.
    pub fn open_names(&self, role: &str) -> Vec<String> {
        let of_role = self.open.iter().filter(|it| it.0 == role);
        of_role.map(|it| it.1.clone()).collect()
    }

    /// Names of the files and folders that commands of the role left or make.
    pub fn names(&self, role: &str) -> BTreeSet<String> {
        let files = self.files.keys().chain(&self.open);
        let files = files.filter(|it| it.0 == role);
        files.map(|it| first(&it.1).to_owned()).collect()
    }

    /// Paths of the files that commands of the role left, and what they are known by.
    pub fn files(&self, role: &str) -> impl Iterator<Item = (&str, &Stamp)> {
        let of_role = self.files.iter().filter(move |it| it.0.0 == role);
        of_role.map(|((_, path), stamp)| (path.as_str(), stamp))
    }

    /// Whether it says anything to the role.
    pub fn knows(&self, role: &str) -> bool {
        self.files.keys().chain(&self.open).any(|it| it.0 == role)
    }

    /// Says that what has this name is being made.
    pub fn open(&mut self, role: &str, name: &str) {
        self.open.insert((role.to_owned(), name.to_owned()));
    }

    /// Says that the file was left.
    pub fn leave(&mut self, role: &str, path: &str, stamp: Stamp) {
        self.files.insert((role.to_owned(), path.to_owned()), stamp);
    }

    /// Says nothing any more of what has this name.
    pub fn forget(&mut self, role: &str, name: &str) {
        self.open.remove(&(role.to_owned(), name.to_owned()));
        self.files
            .retain(|(of, path), _| of != role || first(path) != name);
    }
}

/// The name in the folder that a path in it begins with, also under a temporary one.
pub fn first(path: &str) -> &str {
    let name = path.split_once('/').map_or(path, |it| it.0);
    atomic::final_name(name).unwrap_or(name)
}

/// Whether a text is the beginning of a marker, or begins like one.
pub fn is_beginning(text: &str) -> bool {
    HEAD.starts_with(text) || text.starts_with(HEAD)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(Marker::read(root).unwrap().is_none());
        std::fs::write(root.join("a b.tsv"), "text").unwrap();
        std::fs::create_dir_all(root.join("x.zarr/c/0")).unwrap();
        std::fs::write(root.join("x.zarr/c/0/1"), "chunk").unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
        let mut marker = Marker::default();
        let paths = ["a b.tsv", "x.zarr/c/0/1", "link"];
        for path in paths {
            marker.leave("run", path, Stamp::of(&root.join(path)).unwrap());
        }
        marker.open("run", "model");
        marker.write(root).unwrap();
        let read = Marker::read(root).unwrap().unwrap();
        assert_eq!((&read.files, &read.open), (&marker.files, &marker.open));
        let is_known = |path: &str| read.stamp("run", path).unwrap().is_of(&root.join(path));
        assert!(paths.iter().all(|path| is_known(path)));
        assert!(read.stamp("scratch", "link").is_none() && read.is_open("run", "model"));
        // Changed, also with the size it had.
        std::fs::write(root.join("a b.tsv"), "test").unwrap();
        std::fs::write(root.join("x.zarr/c/0/1"), "chunk and more").unwrap();
        std::fs::remove_file(root.join("link")).unwrap();
        std::os::unix::fs::symlink("elsewhere", root.join("link")).unwrap();
        assert!(!paths.iter().any(|path| is_known(path)));
        // Cut short: nothing is lost with it, or its reader says so.
        std::fs::write(root.join("a b.tsv"), "").unwrap();
        std::fs::write(root.join("x.zarr/c/0/1"), "chu").unwrap();
        assert!(is_known("a b.tsv") && is_known("x.zarr/c/0/1"));

        let text = std::fs::read_to_string(root.join(MARKER)).unwrap();
        for other in [
            &text[..text.len() / 2],
            &format!("{HEAD}run features.parquet\n{END}"),
        ] {
            std::fs::write(root.join(MARKER), other).unwrap();
            assert!(Marker::read(root).unwrap().is_none(), "{other}");
        }
        std::fs::write(root.join(MARKER), "mine").unwrap();
        assert!(Marker::read(root).is_err());
    }

    #[test]
    fn chunks_are_told_by_their_place() {
        for path in [
            "/a/k.zarr/c/0/12",
            "k.zarr/c/0/1.tmp-7-0",
            "k.zarr.tmp-7-0/c/0/1",
        ] {
            assert!(chunk(path).is_some_and(|it| it[0] == 0), "{path}");
        }
        for path in ["k.zarr/c/0", "k.zarr/zarr.json", "k/c/0/1", "k.zarr/c/0/x"] {
            assert_eq!(chunk(path), None, "{path}");
        }
    }
}
