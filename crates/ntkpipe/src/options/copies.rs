//! Inputs that can be read once only: named pipes, `<(command)`, `/dev/stdin`.

use std::collections::BTreeMap;
use std::fs::{FileType, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::failure::input;

/// Copies of inputs that are no regular files, which are gone when the last clone is dropped.
#[derive(Clone, Debug, Default)]
pub struct Copies(Option<Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    /// Where each is read.
    of: BTreeMap<PathBuf, PathBuf>,
    _folder: TempDir,
}

impl PartialEq for Copies {
    /// Copies are no part of what options say.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Copies {
    /// Copies those of `inputs` that are pipes into a folder of its own in `folder`, each once, under the name of its option.
    ///
    /// Refuses devices, such as a terminal, that never end; `/dev/null` ends at once.
    pub fn new<'p>(
        inputs: impl Iterator<Item = (&'static str, &'p PathBuf)>,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let mut pipes: BTreeMap<PathBuf, &str> = BTreeMap::new();
        for (name, path) in inputs {
            // A file that does not exist gives its error when it is opened.
            let kind = std::fs::metadata(path).map(|it: Metadata| it.file_type());
            match kind {
                Ok(kind) if is_pipe(kind) => {
                    pipes.entry(path.to_path_buf()).or_insert(name);
                }
                Ok(kind) if !kind.is_file() && !kind.is_dir() && path != Path::new("/dev/null") => {
                    return Err(input(
                        format!("`{}`, the {name}, is a device, no file", path.display()),
                        "give a file, or a pipe such as `<(zcat FILE)`",
                    ));
                }
                _ => {}
            }
        }
        if pipes.is_empty() {
            return Ok(Self::default());
        }
        let in_folder = || {
            format!(
                "could not make a folder for copies in `{}`",
                folder.display()
            )
        };
        std::fs::create_dir_all(folder).with_context(in_folder)?;
        let kept = tempfile::Builder::new()
            .prefix("piped-")
            .tempdir_in(folder)
            .with_context(in_folder)?;
        let mut of = BTreeMap::new();
        for (path, name) in pipes {
            let to = kept.path().join(name);
            let copied = std::fs::File::open(&path)
                .and_then(|mut from| io::copy(&mut from, &mut std::fs::File::create(&to)?));
            copied.with_context(|| {
                format!("could not copy `{}` to `{}`", path.display(), to.display())
            })?;
            of.insert(path, to);
        }
        Ok(Self(Some(Arc::new(Kept { of, _folder: kept }))))
    }

    /// Where the input at `path` is read: its copy, or itself.
    pub fn of<'p>(&'p self, path: &'p Path) -> &'p Path {
        let copy = self.0.as_ref().and_then(|it| it.of.get(path));
        copy.map_or(path, PathBuf::as_path)
    }

    /// Each input that was copied, with its copy.
    pub fn iter(&self) -> impl Iterator<Item = (&PathBuf, &PathBuf)> {
        self.0.iter().flat_map(|it| &it.of)
    }
}

/// Whether a path is that of a file that this process has open, and so means another file to each process.
pub fn is_descriptor(path: &Path) -> bool {
    let is_of_process = || path.starts_with("/proc") && path.iter().any(|part| part == "fd");
    path.starts_with("/dev/fd") || path == Path::new("/dev/stdin") || is_of_process()
}

#[cfg(unix)]
fn is_pipe(kind: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    kind.is_fifo() || kind.is_socket()
}

#[cfg(not(unix))]
fn is_pipe(_: FileType) -> bool {
    false
}
