//! Folders linked file by file.

use std::path::Path;

use anyhow::Context as _;

/// Copies a folder by hard links, or by content where the file system has none: the model stands on its own.
pub fn link_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let describe = || format!("could not link `{}` to `{}`", from.display(), to.display());
    // A link left by an earlier run is the very file: copying onto it would empty both.
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(describe)?;
    }
    std::fs::create_dir_all(to).with_context(describe)?;
    for entry in std::fs::read_dir(from).with_context(describe)? {
        let entry = entry.with_context(describe)?;
        let target = to.join(entry.file_name());
        if entry.file_type().with_context(describe)?.is_dir() {
            link_folder(&entry.path(), &target)?;
        } else if std::fs::hard_link(entry.path(), &target).is_err() {
            std::fs::copy(entry.path(), &target).with_context(describe)?;
        }
    }
    Ok(())
}
