//! Files and folders that appear whole or not at all: each is written under a temporary name beside its final one, then
//! renamed.
//!
//! A temporary name is the final name followed by `.tmp-<process id>-<counter>`. A process that is killed leaves its temporary
//! files behind, and [`remove_leftovers`] removes them. The rename is atomic for other processes, and when this process dies.
//! After a loss of power, only what [`AtomicFile::commit`] wrote is certain. [`write()`] does not wait for the disk, so its
//! readers check length and checksum.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MARK: &str = ".tmp-";

/// Why a file or folder could not be written, renamed or removed. The `source` names the operation.
#[derive(Debug, thiserror::Error)]
#[error("could not write `{path}`", path = path.display())]
pub struct AtomicError {
    /// The final name of the file or folder.
    pub path: PathBuf,
    /// The error of the operating system; its kind is kept (`StorageFull` on a full disk).
    pub source: io::Error,
}

impl AtomicError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { path, source }
    }
}

/// Returns a name beside `path` that no other call of any live process on this machine returns.
fn temporary_name(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(format!(
        "{MARK}{}-{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ));
    path.with_file_name(name)
}

/// The final name that belongs to a temporary name, as this module makes them.
pub fn final_name(name: &str) -> Option<&str> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (name, end) = name.rsplit_once(MARK)?;
    let (process, counter) = end.split_once('-')?;
    (is_number(process) && is_number(counter)).then_some(name)
}

/// Calls `make` on fresh temporary names until one is free (another machine may share the folder).
fn unused<T>(path: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(PathBuf, T)> {
    loop {
        let temporary = temporary_name(path);
        match make(&temporary) {
            Ok(made) => return Ok((temporary, made)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn create_file(path: &Path) -> io::Result<(PathBuf, fs_err::File)> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    unused(path, |temporary| {
        fs_err::File::options()
            .write(true)
            .create_new(true)
            .open(temporary)
    })
}

/// Whether `path` is a pipe, a device, or an open file of this process: these cannot be replaced by renaming.
pub fn is_stream(path: &Path) -> bool {
    let is_of_system = ["/dev", "/proc"]
        .iter()
        .any(|folder| path.starts_with(folder));
    let found = path.metadata();
    found.is_ok_and(|it| !it.is_dir() && (is_of_system || !it.is_file()))
}

/// A buffered file that takes its final name on [`commit`](Self::commit), and is removed when it is dropped before.
///
/// # Examples
///
/// ```
/// use ntkpipe_store::atomic::AtomicFile;
/// use std::io::Write as _;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("result.txt");
/// let mut file = AtomicFile::create(&path)?;
/// file.write_all(b"whole")?;
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(std::fs::read(&path)?, b"whole");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temporary: Option<PathBuf>,
    writer: BufWriter<fs_err::File>,
}

impl AtomicFile {
    /// Opens a temporary file beside `path`. Creates the folder if it is absent. A path that is no regular file ([`is_stream`])
    /// is written to directly.
    ///
    /// # Errors
    /// [`AtomicError`] when the folder or the file cannot be created.
    pub fn create(path: &Path) -> Result<Self, AtomicError> {
        let (temporary, file) = match is_stream(path) {
            true => fs_err::File::options()
                .append(true)
                .open(path)
                .map(|file| (None, file)),
            false => create_file(path).map(|(temporary, file)| (Some(temporary), file)),
        }
        .map_err(AtomicError::at(path))?;
        Ok(Self {
            path: path.to_path_buf(),
            temporary,
            writer: BufWriter::with_capacity(1 << 18, file),
        })
    }

    /// The final name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until everything written is on disk.
    ///
    /// # Errors
    /// When the disk refuses, for example because it is full.
    pub fn sync(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        match self.temporary {
            Some(_) => self.writer.get_ref().sync_all(),
            None => Ok(()),
        }
    }

    /// Waits until the content is on disk, then gives the file its final name. Replaces a file that was there.
    ///
    /// # Errors
    /// [`AtomicError`] when the content cannot be written (a full disk) or the file cannot be renamed; the temporary file is
    /// then removed.
    pub fn commit(mut self) -> Result<(), AtomicError> {
        let finish = |this: &mut Self| -> io::Result<()> {
            this.sync()?;
            match &this.temporary {
                Some(temporary) => fs_err::rename(temporary, &this.path),
                None => Ok(()),
            }
        };
        finish(&mut self).map_err(AtomicError::at(&self.path))?;
        self.temporary = None;
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Not reported: the error that led here is already on its way, and leftovers are removed later.
            let _ = fs_err::remove_file(temporary);
        }
    }
}

/// Writes `parts`, one after another, as the whole content of `path`, without waiting for the disk.
///
/// Safe to call for different paths from many threads; for one path the last rename wins.
///
/// # Errors
/// [`AtomicError`] when the file cannot be created, written or renamed; nothing is left behind.
pub fn write(path: &Path, parts: &[&[u8]]) -> Result<(), AtomicError> {
    let (temporary, mut file) = create_file(path).map_err(AtomicError::at(path))?;
    let written = parts
        .iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| fs_err::rename(&temporary, path));
    written.map_err(|source| {
        let _ = fs_err::remove_file(&temporary);
        AtomicError {
            path: path.to_path_buf(),
            source,
        }
    })
}

/// A folder that takes its final name on [`commit`](Self::commit), and is removed when it is dropped before.
#[derive(Debug)]
pub struct AtomicFolder {
    path: PathBuf,
    temporary: Option<PathBuf>,
}

impl AtomicFolder {
    /// Creates an empty temporary folder beside `path`.
    ///
    /// # Errors
    /// [`AtomicError`] when it cannot be created.
    pub fn create(path: &Path) -> Result<Self, AtomicError> {
        let make = || {
            if let Some(folder) = path.parent() {
                fs_err::create_dir_all(folder)?;
            }
            unused(path, |temporary| fs_err::create_dir(temporary))
        };
        let (temporary, ()) = make().map_err(AtomicError::at(path))?;
        Ok(Self {
            path: path.to_path_buf(),
            temporary: Some(temporary),
        })
    }

    /// The temporary folder, to write into.
    pub fn folder(&self) -> &Path {
        self.temporary.as_deref().unwrap_or(&self.path)
    }

    /// Gives the folder its final name. A folder that was there is moved aside first and then removed.
    ///
    /// # Errors
    /// [`AtomicError`] when a folder cannot be renamed or the old one not removed.
    pub fn commit(mut self) -> Result<(), AtomicError> {
        if let Some(temporary) = self.temporary.take() {
            let replace = || -> io::Result<()> {
                if self.path.exists() {
                    let old = temporary_name(&self.path);
                    fs_err::rename(&self.path, &old)?;
                    fs_err::rename(&temporary, &self.path)
                        .inspect_err(|_| drop(fs_err::rename(&old, &self.path)))?;
                    fs_err::remove_dir_all(&old)
                } else {
                    fs_err::rename(&temporary, &self.path)
                }
            };
            replace().map_err(AtomicError::at(&self.path))?;
        }
        Ok(())
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs_err::remove_dir_all(temporary);
        }
    }
}

/// Removes a folder and its content. Tries again while another machine that was told to stop still writes its last files there.
///
/// # Errors
/// [`AtomicError`] when it cannot be removed.
pub fn remove_folder(folder: &Path) -> Result<(), AtomicError> {
    const ATTEMPTS: usize = 20;
    for _ in 1..ATTEMPTS {
        match fs_err::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                std::thread::sleep(Duration::from_millis(100));
            }
            done => return done.map_err(AtomicError::at(folder)),
        }
    }
    fs_err::remove_dir_all(folder).map_err(AtomicError::at(folder))
}

/// Removes temporary files and folders that killed processes left behind, if they have not changed for `unchanged`.
///
/// Pass a zero duration only when no other process writes there: the temporary file of a live writer would be removed too.
///
/// # Errors
/// [`AtomicError`] when one cannot be removed.
pub fn remove_leftovers(leftovers: &[PathBuf], unchanged: Duration) -> Result<(), AtomicError> {
    let remove = |path: &Path| -> io::Result<()> {
        let found = fs_err::symlink_metadata(path)?;
        // When this machine's clock is behind, a fresh file seems to come from the future.
        let age = found.modified()?.elapsed().unwrap_or_default();
        match found.is_dir() {
            _ if age < unchanged => Ok(()),
            true => fs_err::remove_dir_all(path),
            false => fs_err::remove_file(path),
        }
    };
    leftovers.iter().try_for_each(|path| match remove(path) {
        // A live writer has renamed it in the meantime.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(AtomicError::at(path)),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs_err::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_on_commit_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/a.txt");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"one").unwrap();
        assert!(!path.exists());
        file.commit().unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"one");

        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"two").unwrap();
        drop(file);
        assert_eq!(fs_err::read(&path).unwrap(), b"one");
        assert_eq!(names(path.parent().unwrap()), ["a.txt"]);
    }

    #[test]
    fn writers_of_one_path_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::thread::scope(|scope| {
            for writer in 0..8_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        write(path, &[&[writer; 1000], &[writer; 24]]).unwrap();
                        let read = fs_err::read(path).unwrap();
                        assert!(read.len() == 1024 && read.iter().all(|byte| *byte == read[0]));
                    }
                });
            }
        });
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_folder_replaces_the_former_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zarr");
        for content in ["first", "second"] {
            let new = AtomicFolder::create(&path).unwrap();
            fs_err::write(new.folder().join(content), content).unwrap();
            new.commit().unwrap();
            assert_eq!(names(&path), [content]);
        }
        drop(AtomicFolder::create(&path).unwrap());
        assert_eq!(names(folder.path()), ["x.zarr"]);
    }

    #[test]
    fn leftovers_that_have_not_changed_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs_err::create_dir_all(place("y.tmp-7-0/c")).unwrap();
        fs_err::write(place("x.tmp-99-3"), "").unwrap();
        fs_err::write(place("x"), "").unwrap();
        let leftovers = ["y.tmp-7-0", "x.tmp-99-3", "gone.tmp-1-1"].map(place);
        remove_leftovers(&leftovers, Duration::from_secs(3600)).unwrap();
        assert_eq!(names(folder.path()), ["x", "x.tmp-99-3", "y.tmp-7-0"]);
        remove_leftovers(&leftovers, Duration::ZERO).unwrap();
        assert_eq!(names(folder.path()), ["x"]);
    }

    #[test]
    fn an_error_names_the_file_and_keeps_the_kind() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("file"), "").unwrap();
        let path = folder.path().join("file/below");
        let error = write(&path, &[b"x"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("could not write `{}`", path.display())
        );
        assert_ne!(error.source.kind(), io::ErrorKind::Other);
    }
}
