//! A two-dimensional array in a folder.

use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::chunk::CHECKSUM_BYTES;
use super::element::Element;
use super::error::ZarrError;
use super::metadata::{ArraySpec, MOST_BYTES, read_metadata};
use crate::atomic;

/// A Zarr v3 array of `shape[0]` x `shape[1]` numbers in a folder, one file per chunk.
///
/// Holds no open file, so it may be shared and cloned freely. Many threads and processes may write different chunks at once. If
/// two write the same chunk, the last rename wins, and readers see one or the other as a whole.
///
/// # Examples
///
/// ```
/// use ntkpipe_store::zarr::{ArraySpec, ZarrArray};
///
/// let folder = tempfile::tempdir()?;
/// // 3 x 2 numbers in chunks of 2 x 2.
/// let array = ZarrArray::<f32>::create(folder.path(), ArraySpec::new([3, 2], [2, 2]))?;
/// array.write_all(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// let array = ZarrArray::<f32>::open(folder.path())?;
/// assert_eq!(array.grid(), [2, 1]);
/// assert_eq!(array.read_rows(1..3)?, [3.0, 4.0, 5.0, 6.0]);
/// // Chunks at the edge are padded with zeros.
/// assert_eq!(array.map_chunk(1, 0)?[..], [5.0, 6.0, 0.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ZarrArray<T> {
    folder: PathBuf,
    spec: ArraySpec,
    element: PhantomData<fn() -> T>,
}

impl<T: Element> ZarrArray<T> {
    /// Creates the array's folder and `zarr.json`, without chunks. Opens an equal array if it is already there.
    ///
    /// # Errors
    /// `ChunkShape` for an empty chunk; `Differs` when another array is there; `Unsupported`, `Metadata` when its `zarr.json`
    /// is not as it is written here; `Read`, `Write`.
    pub fn create(folder: impl Into<PathBuf>, spec: ArraySpec) -> Result<Self, ZarrError> {
        let array = Self::described(folder, spec)?;
        match array.check_described() {
            Err(ZarrError::NoArray { .. }) => {
                let path = array.folder.join("zarr.json");
                atomic::write(&path, &[array.description().as_bytes()])?;
            }
            done => done?,
        }
        Ok(array)
    }

    /// Checks that the folder still holds this array: another machine may have put its own there.
    ///
    /// # Errors
    /// `NoArray`; `Differs` when another array is there; those of [`open`](Self::open).
    pub fn check_described(&self) -> Result<(), ZarrError> {
        // Compares bytes first: parsing may change the last bit of a float among the attributes.
        let text = fs_err::read(self.folder.join("zarr.json"));
        if text.is_ok_and(|found| found == self.description().as_bytes()) {
            return Ok(());
        }
        let found = Self::open(&self.folder)?;
        match self.spec.difference(&found.spec) {
            None => Ok(()),
            Some((field, expected, found)) => Err(ZarrError::Differs {
                path: self.folder.clone(),
                field,
                expected,
                found,
            }),
        }
    }

    /// The content of `zarr.json`.
    fn description(&self) -> String {
        self.spec.to_metadata::<T>().to_string_pretty() + "\n"
    }

    /// Opens the array in `folder`; reads only its `zarr.json`.
    ///
    /// # Errors
    /// `NoArray`, `Read`, `Metadata`; `Unsupported` when the array does not have this number type, two dimensions, this chunk
    /// key encoding and these codecs.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, ZarrError> {
        let folder = folder.into();
        let (path, metadata) = read_metadata(&folder)?;
        let spec = ArraySpec::from_metadata(&path, &metadata, T::DATA_TYPE)?;
        Self::described(folder, spec)
    }

    /// An array without a `zarr.json`, or before it is written. Its chunks can be written and read.
    pub(crate) fn described(
        folder: impl Into<PathBuf>,
        spec: ArraySpec,
    ) -> Result<Self, ZarrError> {
        let folder = folder.into();
        let [rows, columns] = spec.chunk;
        let bytes = rows
            .checked_mul(columns)
            .and_then(|n| n.checked_mul(size_of::<T>()));
        match bytes {
            Some(1..=MOST_BYTES) => Ok(Self {
                folder,
                spec,
                element: PhantomData,
            }),
            _ => Err(ZarrError::ChunkShape {
                path: folder,
                rows,
                columns,
            }),
        }
    }

    /// The array's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Shape, chunk and the rest of the description.
    pub fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    /// Rows and columns of the array.
    pub fn shape(&self) -> [usize; 2] {
        self.spec.shape
    }

    /// Number of chunks down and across. Chunks at the edge may reach beyond the array.
    pub fn grid(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.spec.shape[axis].div_ceil(self.spec.chunk[axis]))
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let [down, across] = self.grid();
        (0..down).flat_map(move |i| (0..across).map(move |j| (i, j)))
    }

    /// Values in a chunk, including padding.
    pub fn chunk_len(&self) -> usize {
        self.spec.chunk[0] * self.spec.chunk[1]
    }

    /// Bytes of a chunk file, including its checksum.
    pub fn chunk_bytes(&self) -> u64 {
        (self.chunk_len() * size_of::<T>() + CHECKSUM_BYTES) as u64
    }

    /// The path of the file of chunk (`i`, `j`), whether it exists or not.
    pub fn chunk_path(&self, i: usize, j: usize) -> PathBuf {
        self.folder.join(format!("c/{i}/{j}"))
    }

    /// Whether the file of chunk (`i`, `j`) exists and has the right length. Does not read it.
    pub fn has_chunk(&self, i: usize, j: usize) -> bool {
        std::fs::metadata(self.chunk_path(i, j))
            .is_ok_and(|it| it.is_file() && it.len() == self.chunk_bytes())
    }

    /// Writes the whole array; `values` is row-major, `shape[0]` x `shape[1]`. For small arrays.
    ///
    /// # Errors
    /// `Length` when `values` does not fill the array; `Write`.
    pub fn write_all(&self, values: &[T]) -> Result<(), ZarrError> {
        let [n_rows, n_columns] = self.spec.shape;
        let [chunk_rows, chunk_columns] = self.spec.chunk;
        if values.len() != n_rows * n_columns {
            let path = self.folder.clone();
            return Err(ZarrError::Length {
                path,
                expected: n_rows * n_columns,
                found: values.len(),
            });
        }
        let [down, across] = self.grid();
        (0..down * across).into_par_iter().try_for_each(|index| {
            let (i, j) = (index / across, index % across);
            let columns = j * chunk_columns..((j + 1) * chunk_columns).min(n_columns);
            let mut chunk = vec![T::zeroed(); self.chunk_len()];
            let rows = i * chunk_rows..((i + 1) * chunk_rows).min(n_rows);
            for (row, into) in rows.zip(chunk.chunks_exact_mut(chunk_columns)) {
                let from = &values[row * n_columns..][columns.clone()];
                into[..from.len()].copy_from_slice(from);
            }
            self.write_chunk(i, j, &chunk)
        })
    }

    /// Reads the whole array in parallel, row-major, `shape[0]` x `shape[1]`; compares every checksum.
    ///
    /// # Errors
    /// Those of [`read_rows`](Self::read_rows).
    pub fn read_all(&self) -> Result<Vec<T>, ZarrError> {
        let [n_rows, n_columns] = self.spec.shape;
        let chunk_rows = self.spec.chunk[0];
        let mut values = self.room_for(0..n_rows)?;
        values
            .par_chunks_mut((chunk_rows * n_columns).max(1))
            .enumerate()
            .try_for_each(|(i, band)| self.read_band(i, 0, band))?;
        Ok(values)
    }

    /// Reads `rows`, row-major, `rows.len()` x `shape[1]`; compares the checksum of every chunk it touches.
    ///
    /// Chunks are read whole, so read rows in multiples of the chunk's rows. Works only on the calling thread, so it may be
    /// called while a lock is held.
    ///
    /// # Errors
    /// `OutsideRows`; `ChunkMissing` (missing chunks are not filled with the fill value), `ChunkTruncated`, `ChunkCorrupt`,
    /// `Read`.
    pub fn read_rows(&self, rows: Range<usize>) -> Result<Vec<T>, ZarrError> {
        let [n_rows, n_columns] = self.spec.shape;
        let chunk_rows = self.spec.chunk[0];
        if rows.start > rows.end || rows.end > n_rows {
            let path = self.folder.clone();
            return Err(ZarrError::OutsideRows {
                path,
                start: rows.start,
                end: rows.end,
                n_rows,
            });
        }
        let mut values = self.room_for(rows.clone())?;
        let mut rest = values.as_mut_slice();
        let mut start = rows.start;
        while !rest.is_empty() {
            let i = start / chunk_rows;
            let end = ((i + 1) * chunk_rows).min(rows.end);
            let (band, after) = rest.split_at_mut((end - start) * n_columns);
            self.read_band(i, start - i * chunk_rows, band)?;
            rest = after;
            start = end;
        }
        Ok(values)
    }

    /// Zeros for `rows`, after checking that all their chunks exist: a damaged shape must not allocate more than the disk
    /// holds.
    fn room_for(&self, rows: Range<usize>) -> Result<Vec<T>, ZarrError> {
        let n_columns = self.spec.shape[1];
        if rows.is_empty() || n_columns == 0 {
            return Ok(Vec::new());
        }
        let chunk_rows = self.spec.chunk[0];
        for i in rows.start / chunk_rows..rows.end.div_ceil(chunk_rows) {
            for j in 0..self.grid()[1] {
                self.check_chunk(i, j)?;
            }
        }
        Ok(vec![T::zeroed(); rows.len() * n_columns])
    }

    /// Fills `band` with rows of the chunks in row `i` of the grid, starting at their row `skip`.
    fn read_band(&self, i: usize, skip: usize, band: &mut [T]) -> Result<(), ZarrError> {
        let n_columns = self.spec.shape[1];
        let chunk_columns = self.spec.chunk[1];
        let mut chunk = Vec::new();
        for j in 0..self.grid()[1] {
            self.read_chunk(i, j, &mut chunk)?;
            let first = j * chunk_columns;
            let width = chunk_columns.min(n_columns - first);
            let from = chunk[skip * chunk_columns..].chunks_exact(chunk_columns);
            for (into, from) in band.chunks_exact_mut(n_columns).zip(from) {
                into[first..first + width].copy_from_slice(&from[..width]);
            }
        }
        Ok(())
    }
}
