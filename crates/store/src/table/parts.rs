//! The files of a table: one file, or a folder of Parquet parts as Spark, Dask and Polars write them.

use std::path::{Path, PathBuf};

use super::error::TableError;
use super::file_start::{is_parquet, read_start};

/// The files of the table at `path`: the file itself, or the Parquet files in a folder, in order of their names.
///
/// Names that begin with `_` or `.` do not count (`_SUCCESS`, `.part-0.crc`).
///
/// # Errors
/// `Read`; `Parts` when a folder holds no Parquet file, a file of another kind, or a folder.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, TableError> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let refuse = |found: String| TableError::Parts {
        path: path.to_path_buf(),
        found,
    };
    let mut parts = Vec::new();
    for entry in fs_err::read_dir(path).map_err(TableError::reading(path))? {
        let name = entry.map_err(TableError::reading(path))?.file_name();
        if !name.to_string_lossy().starts_with(['_', '.']) {
            parts.push(path.join(name));
        }
    }
    parts.sort_unstable();
    for part in &parts {
        let name = part.file_name().unwrap_or_default().to_string_lossy();
        if part.is_dir() {
            return Err(refuse(format!("the folder `{name}`")));
        }
        let mut start = [0; 4];
        let n = read_start(part, &mut start)?;
        if !is_parquet(&start[..n]) {
            return Err(refuse(format!("`{name}`, which is no Parquet file")));
        }
    }
    match parts.is_empty() {
        true => Err(refuse("no file".to_owned())),
        false => Ok(parts),
    }
}
