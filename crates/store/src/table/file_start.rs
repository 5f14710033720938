//! The first bytes of a file, which tell what kind of file it is.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::error::TableError;

/// Opens a file for reading.
pub(super) fn open(path: &Path) -> Result<File, TableError> {
    let file = fs_err::File::open(path).map_err(TableError::reading(path))?;
    Ok(file.into_parts().0)
}

/// Reads the first bytes of a file into `start`; returns how many there are, which is fewer in a short file.
pub(super) fn read_start(path: &Path, start: &mut [u8]) -> Result<usize, TableError> {
    let mut read = Vec::new();
    open(path)?
        .take(start.len() as u64)
        .read_to_end(&mut read)
        .map_err(TableError::reading(path))?;
    start[..read.len()].copy_from_slice(&read);
    Ok(read.len())
}

/// Whether a file that begins with `start` is Parquet.
pub(super) fn is_parquet(start: &[u8]) -> bool {
    start.starts_with(b"PAR1") || start.starts_with(b"PARE")
}
