//! The files of an array's chunks: each is written whole, and read or mapped.

use std::io::Read as _;
use std::marker::PhantomData;
use std::path::PathBuf;

use memmap2::MmapOptions;

use super::array::ZarrArray;
use super::chunk::{CHECKSUM_BYTES, Chunk, compare};
use super::element::Element;
use super::error::ZarrError;
use crate::atomic;

impl<T: Element> ZarrArray<T> {
    fn inside(&self, i: usize, j: usize) -> Result<(), ZarrError> {
        let [rows, columns] = self.grid();
        if i < rows && j < columns {
            return Ok(());
        }
        let path = self.folder().to_path_buf();
        Err(ZarrError::OutsideGrid {
            path,
            row: i,
            column: j,
            rows,
            columns,
        })
    }

    /// Writes chunk (`i`, `j`). `values` is a full chunk, row-major, with zeros beyond the edge of the array.
    ///
    /// The file is written under a temporary name and renamed, so a chunk that exists is whole. Does not wait for the disk.
    ///
    /// # Errors
    /// `Length` when `values` is not a full chunk; `OutsideGrid`; `Write`.
    pub fn write_chunk(&self, i: usize, j: usize, values: &[T]) -> Result<(), ZarrError> {
        self.inside(i, j)?;
        let path = self.chunk_path(i, j);
        if values.len() != self.chunk_len() {
            return Err(ZarrError::Length {
                path,
                expected: self.chunk_len(),
                found: values.len(),
            });
        }
        let bytes: &[u8] = bytemuck::cast_slice(values);
        atomic::write(&path, &[bytes, &crc32c::crc32c(bytes).to_le_bytes()])?;
        Ok(())
    }

    /// Opens the file of chunk (`i`, `j`) and checks its length.
    fn open_chunk(&self, i: usize, j: usize) -> Result<(PathBuf, fs_err::File), ZarrError> {
        self.inside(i, j)?;
        let path = self.chunk_path(i, j);
        let file = match fs_err::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ZarrError::ChunkMissing { path });
            }
            Err(error) => return Err(ZarrError::read(&path)(error)),
        };
        let expected = self.chunk_bytes();
        let found = file.metadata().map_err(ZarrError::read(&path))?.len();
        match found == expected {
            true => Ok((path, file)),
            false => Err(ZarrError::ChunkTruncated {
                path,
                expected,
                found,
            }),
        }
    }

    /// Checks that the file of chunk (`i`, `j`) can be opened and has the right length.
    ///
    /// # Errors
    /// `OutsideGrid`, `ChunkMissing`, `ChunkTruncated`, `Read`.
    pub fn check_chunk(&self, i: usize, j: usize) -> Result<(), ZarrError> {
        self.open_chunk(i, j).map(drop)
    }

    /// Asks the system to start reading chunk (`i`, `j`). Returns at once; a refusal does not matter.
    pub fn prefetch_chunk(&self, i: usize, j: usize) {
        #[cfg(target_os = "linux")]
        if let Ok((_, file)) = self.open_chunk(i, j) {
            let _ = rustix::fs::fadvise(file.file(), 0, None, rustix::fs::Advice::WillNeed);
        }
    }

    /// Reads the values of chunk (`i`, `j`) into `values`, row-major, including padding, and compares their checksum.
    ///
    /// # Errors
    /// `OutsideGrid`, `ChunkMissing`, `ChunkTruncated`, `ChunkCorrupt`, `Read`.
    pub fn read_chunk(&self, i: usize, j: usize, values: &mut Vec<T>) -> Result<(), ZarrError> {
        let (path, mut file) = self.open_chunk(i, j)?;
        values.resize(self.chunk_len(), T::zeroed());
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        let mut checksum = [0; CHECKSUM_BYTES];
        file.read_exact(bytes)
            .and_then(|()| file.read_exact(&mut checksum))
            .map_err(ZarrError::read(&path))?;
        compare(&path, bytes, checksum)
    }

    /// Maps the file of chunk (`i`, `j`) into memory, read-only. Checks its length, but not its checksum.
    ///
    /// The pages belong to the page cache, not to this process. While a file is mapped, it may only be replaced by renaming, as
    /// all of this crate does; it must not be changed in place or cut short.
    ///
    /// # Errors
    /// `OutsideGrid`, `ChunkMissing`, `ChunkTruncated`, `Read`.
    pub fn map_chunk(&self, i: usize, j: usize) -> Result<Chunk<T>, ZarrError> {
        let (path, file) = self.open_chunk(i, j)?;
        // SAFETY: the map is read-only and no longer than the file, whose length was just read from this handle. Chunk files
        // are only written under a temporary name and then renamed, so nothing changes or shortens the file behind this handle.
        // That is the documented contract of an array's folder.
        let map = unsafe {
            MmapOptions::new()
                .len(self.chunk_bytes() as usize)
                .map(file.file())
        };
        let map = map.map_err(ZarrError::read(&path))?;
        Ok(Chunk {
            map,
            path,
            element: PhantomData,
        })
    }

    /// Reads chunk (`i`, `j`) and compares its checksum.
    ///
    /// # Errors
    /// Those of [`read_chunk`](Self::read_chunk).
    pub fn verify_chunk(&self, i: usize, j: usize) -> Result<(), ZarrError> {
        self.read_chunk(i, j, &mut Vec::new())
    }
}
