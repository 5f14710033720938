//! A chunk of an array: its mapped values, and the checksum after them.

use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::element::Element;
use super::error::ZarrError;

pub(super) const CHECKSUM_BYTES: usize = 4;

/// Compares the CRC-32C of a chunk's values with the stored one.
pub(super) fn compare(
    path: &Path,
    values: &[u8],
    stored: [u8; CHECKSUM_BYTES],
) -> Result<(), ZarrError> {
    let (expected, found) = (u32::from_le_bytes(stored), crc32c::crc32c(values));
    match expected == found {
        true => Ok(()),
        false => Err(ZarrError::ChunkCorrupt {
            path: path.to_path_buf(),
            expected,
            found,
        }),
    }
}

/// A mapped chunk: its values, row-major, including padding.
#[derive(Debug)]
pub struct Chunk<T> {
    pub(super) map: Mmap,
    pub(super) path: PathBuf,
    pub(super) element: PhantomData<fn() -> T>,
}

impl<T: Element> Chunk<T> {
    /// The chunk file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the values and compares their CRC-32C with the stored one.
    ///
    /// # Errors
    /// `ChunkCorrupt`.
    pub fn verify(&self) -> Result<(), ZarrError> {
        let (values, checksum) = self.map.split_at(self.map.len() - CHECKSUM_BYTES);
        let mut stored = [0; CHECKSUM_BYTES];
        stored.copy_from_slice(checksum);
        compare(&self.path, values, stored)
    }
}

impl<T: Element> Deref for Chunk<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // A map starts at a page, so its values are aligned. The length was checked when the map was made.
        bytemuck::cast_slice(&self.map[..self.map.len() - CHECKSUM_BYTES])
    }
}
