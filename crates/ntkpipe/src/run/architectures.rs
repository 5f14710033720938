//! The runs of several architectures in one run directory.

use std::path::{Path, PathBuf};

use crate::run::files;

/// The run directory of an architecture.
pub fn folder(out: &Path, name: &str) -> PathBuf {
    out.join(files::ARCHITECTURES).join(name)
}

/// The runs of each architecture in a run directory, by name; none where it has one architecture.
pub fn folders(out: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let folder = out.join(files::ARCHITECTURES);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let entry = entry?;
        // What is no run directory is not ours.
        if entry.path().join(files::RECORD).exists() {
            found.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            ));
        }
    }
    found.sort();
    Ok(found)
}
