use std::path::{Path, PathBuf};

use super::error::SimulateError;

/// A file under a temporary name beside its own, removed unless it is committed.
#[derive(Debug)]
pub(super) struct PartialFile {
    path: PathBuf,
    partial: PathBuf,
    committed: bool,
}

impl PartialFile {
    /// Opens the temporary file of `path` for writing, empty.
    pub(super) fn create(path: &Path) -> Result<(Self, fs_err::File), SimulateError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".partial");
        let partial = path.with_file_name(name);
        let handle = fs_err::File::create(&partial).map_err(|source| SimulateError::Io {
            path: partial.clone(),
            source,
        })?;
        let file = Self {
            path: path.to_path_buf(),
            partial,
            committed: false,
        };
        Ok((file, handle))
    }

    /// Where the file will stand.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name, replacing what stood there.
    pub(super) fn commit(mut self) -> Result<(), SimulateError> {
        fs_err::rename(&self.partial, &self.path).map_err(|source| SimulateError::Io {
            path: self.path.clone(),
            source,
        })?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: the error that brought us here is the one to report.
            let _ = fs_err::remove_file(&self.partial);
        }
    }
}
