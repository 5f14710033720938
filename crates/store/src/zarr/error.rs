//! Why an array or one of its chunks cannot be used.

use std::path::{Path, PathBuf};

use crate::atomic::AtomicError;
use crate::words::counted;

/// Why an array or one of its chunks cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ZarrError {
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// A file could not be read; the cause names the operation.
    #[error("could not read `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// There is no array here.
    #[error("no array at `{path}`: its `zarr.json` is missing", path = path.display())]
    NoArray {
        /// Folder of the array.
        path: PathBuf,
    },
    /// `zarr.json` is not the metadata of a Zarr v3 array.
    #[error("`{path}` is not the metadata of a Zarr v3 array", path = path.display())]
    Metadata {
        /// The `zarr.json`.
        path: PathBuf,
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// `zarr.json` describes an array outside the subset of Zarr that is read here.
    #[error("`{path}` has {field} {found}, expected {expected}", path = path.display())]
    Unsupported {
        /// The `zarr.json`.
        path: PathBuf,
        /// Name of the metadata field.
        field: &'static str,
        /// What can be read.
        expected: String,
        /// What is there, as JSON.
        found: String,
    },
    /// An array with another shape, chunk, fill value, dimension names or attributes is already there.
    #[error(
        "another array is at `{path}`: its {field} is {found}, expected {expected}",
        path = path.display()
    )]
    Differs {
        /// Folder of the array.
        path: PathBuf,
        /// Name of the first field that differs.
        field: &'static str,
        /// The value asked for.
        expected: String,
        /// The value on disk.
        found: String,
    },
    /// A chunk with no rows or no columns, or one too large to address.
    #[error("chunks of {rows} x {columns} are not possible for `{path}`", path = path.display())]
    ChunkShape {
        /// Folder of the array.
        path: PathBuf,
        /// Rows of a chunk.
        rows: usize,
        /// Columns of a chunk.
        columns: usize,
    },
    /// A chunk outside the grid was asked for.
    #[error("chunk ({row}, {column}) is outside the {rows} x {columns} chunks of `{path}`", path = path.display())]
    OutsideGrid {
        /// Folder of the array.
        path: PathBuf,
        /// Row of the chunk in the grid.
        row: usize,
        /// Column of the chunk in the grid.
        column: usize,
        /// Rows of the grid.
        rows: usize,
        /// Columns of the grid.
        columns: usize,
    },
    /// Rows outside the array were asked for.
    #[error("rows {start} to {end} are outside the {n_rows} rows of `{path}`", path = path.display())]
    OutsideRows {
        /// Folder of the array.
        path: PathBuf,
        /// First row.
        start: usize,
        /// One past the last row.
        end: usize,
        /// Rows of the array.
        n_rows: usize,
    },
    /// The slice to write has the wrong length.
    #[error("`{path}` takes {}, got {found}", counted(*expected, "values"), path = path.display())]
    Length {
        /// The chunk file or the folder of the array.
        path: PathBuf,
        /// Values it takes.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A chunk was never written, or was removed.
    #[error("chunk file `{path}` is missing", path = path.display())]
    ChunkMissing {
        /// The chunk file.
        path: PathBuf,
    },
    /// The length of a chunk file is not that of its shape.
    #[error(
        "chunk file `{path}` is damaged: expected {expected} bytes, found {found}",
        path = path.display()
    )]
    ChunkTruncated {
        /// The chunk file.
        path: PathBuf,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// The values of a chunk do not match their checksum.
    #[error(
        "chunk file `{path}` is damaged: its checksum is {expected:08x}, its values give {found:08x}",
        path = path.display()
    )]
    ChunkCorrupt {
        /// The chunk file.
        path: PathBuf,
        /// CRC-32C stored in the file.
        expected: u32,
        /// CRC-32C of the values in the file.
        found: u32,
    },
}

impl ZarrError {
    pub(super) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read { path, source }
    }

    /// Whether a file is missing or damaged, so that writing it again is the remedy.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::NoArray { .. }
                | Self::Metadata { .. }
                | Self::Unsupported { .. }
                | Self::ChunkMissing { .. }
                | Self::ChunkTruncated { .. }
                | Self::ChunkCorrupt { .. }
        )
    }
}
