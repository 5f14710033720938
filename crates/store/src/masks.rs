//! Masks of samples: which samples each of many analyses is of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::zarr::{ArraySpec, ZarrArray, ZarrError};

/// Bits of a byte.
const BITS: usize = 8;

/// Writes masks of n_samples each to an array in a folder, each distinct one once, a bit per sample.
///
/// Row `i` of the array is the mask of analysis `i`, where no analysis before it has the same; other rows have no chunk. Sample `s` is bit
/// `s % 8` of byte `s / 8`, the least significant bit first (`numpy.unpackbits(row, bitorder="little")`).
///
/// Memory: n_samples / 8 bytes per distinct mask.
///
/// ```
/// use ntkpipe_store::masks::{MaskWriter, Masks};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("masks.zarr");
/// let mut writer = MaskWriter::create(&path, 3, 2)?;
/// assert_eq!(writer.add(0, &[true, false])?, 0);
/// assert_eq!(writer.add(1, &[true, true])?, 1);
/// assert_eq!(writer.add(2, &[true, false])?, 0);
/// assert_eq!(Masks::open(&path, 2)?.map(|it| it.read(0)).transpose()?, Some(vec![true, false]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MaskWriter {
    array: ZarrArray<u8>,
    rows: HashMap<Vec<u8>, usize>,
}

impl MaskWriter {
    /// Creates the array for so many analyses. It must not be there yet.
    ///
    /// # Errors
    /// Those of [`ZarrArray::create`].
    pub fn create(folder: &Path, n_analyses: usize, n_samples: usize) -> Result<Self, ZarrError> {
        let bytes = n_samples.div_ceil(BITS).max(1);
        let mut spec = ArraySpec::new([n_analyses, bytes], [1, bytes]);
        spec.dimension_names = Some(["phenotype".into(), "byte".into()]);
        spec.attributes.insert("n_samples".into(), json!(n_samples));
        Ok(Self {
            array: ZarrArray::create(folder, spec)?,
            rows: HashMap::new(),
        })
    }

    /// Adds the mask of an analysis, which must not have been added before; the row that holds it.
    ///
    /// # Errors
    /// Those of [`ZarrArray::write_chunk`].
    pub fn add(&mut self, analysis: usize, mask: &[bool]) -> Result<usize, ZarrError> {
        let mut bytes = vec![0; self.array.chunk_len()];
        for (sample, _) in mask.iter().enumerate().filter(|(_, is_in)| **is_in) {
            bytes[sample / BITS] |= 1 << (sample % BITS);
        }
        if let Some(&row) = self.rows.get(&bytes) {
            return Ok(row);
        }
        self.array.write_chunk(analysis, 0, &bytes)?;
        self.rows.insert(bytes, analysis);
        Ok(analysis)
    }
}

/// Reads what [`MaskWriter`] wrote. Memory: one mask.
#[derive(Clone, Debug)]
pub struct Masks {
    array: ZarrArray<u8>,
    n_samples: usize,
}

impl Masks {
    /// Opens the array; `None` where it is of another number of samples.
    ///
    /// # Errors
    /// Those of [`ZarrArray::open`].
    pub fn open(folder: &Path, n_samples: usize) -> Result<Option<Self>, ZarrError> {
        let array = ZarrArray::<u8>::open(folder)?;
        let is_it = array.spec().attributes.get("n_samples") == Some(&json!(n_samples))
            && array.shape()[1] == n_samples.div_ceil(BITS).max(1);
        Ok(is_it.then_some(Self { array, n_samples }))
    }

    /// The mask in a row.
    ///
    /// # Errors
    /// Those of [`ZarrArray::read_rows`], also where no mask has this row.
    pub fn read(&self, row: usize) -> Result<Vec<bool>, ZarrError> {
        let bytes = self.array.read_rows(row..row + 1)?;
        let is_in = |sample: usize| bytes[sample / BITS] >> (sample % BITS) & 1 == 1;
        Ok((0..self.n_samples).map(is_in).collect())
    }

    /// The file of a row, whether it is there or not.
    pub fn path_of(&self, row: usize) -> PathBuf {
        self.array.chunk_path(row, 0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn masks_come_back_and_equal_ones_are_kept_once() {
        for n in [1, 7, 8, 9, 41] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("masks.zarr");
            let masks: Vec<Vec<bool>> = (0..6)
                .map(|k| (0..n).map(|i| (i * (k % 4 + 1)) % 5 != k % 4).collect())
                .collect();
            let mut writer = MaskWriter::create(&path, masks.len(), n).unwrap();
            let rows: Vec<usize> = masks
                .iter()
                .enumerate()
                .map(|(k, mask)| writer.add(k, mask).unwrap())
                .collect();
            assert_eq!(rows[4..], rows[..2]);
            let read = Masks::open(&path, n).unwrap().unwrap();
            for (mask, &row) in masks.iter().zip(&rows) {
                assert_eq!(&read.read(row).unwrap(), mask);
            }
            assert!(!read.path_of(4).exists() && read.read(4).is_err());
            assert!(Masks::open(&path, n + 1).unwrap().is_none());
            // A flipped bit is another mask, and is noticed.
            let chunk = read.path_of(rows[1]);
            let mut bytes = std::fs::read(&chunk).unwrap();
            bytes[0] ^= 1;
            std::fs::write(&chunk, bytes).unwrap();
            assert!(matches!(
                read.read(rows[1]),
                Err(ZarrError::ChunkCorrupt { .. })
            ));
        }
    }
}
