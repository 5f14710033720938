//! Functions on the array in a folder, whatever its number type.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::array::ZarrArray;
use super::element::Element;
use super::error::ZarrError;
use super::metadata::data_type;
use crate::atomic::{self, AtomicError};

/// Finds the first missing chunk file of the array in `folder`. Does not read the files.
///
/// # Errors
/// Those of [`ZarrArray::open`].
pub fn missing_chunk(folder: &Path) -> Result<Option<PathBuf>, ZarrError> {
    fn missing<T: Element>(array: &ZarrArray<T>) -> Option<PathBuf> {
        array
            .places()
            .map(|(i, j)| array.chunk_path(i, j))
            .find(|chunk| !chunk.exists())
    }
    Ok(match data_type(folder)?.as_str() {
        <f64 as Element>::DATA_TYPE => missing(&ZarrArray::<f64>::open(folder)?),
        <u8 as Element>::DATA_TYPE => missing(&ZarrArray::<u8>::open(folder)?),
        _ => missing(&ZarrArray::<f32>::open(folder)?),
    })
}

/// Checks that every chunk file of the array in `folder` exists and has the right length, so that the shape can be trusted.
/// Does not read the files.
///
/// # Errors
/// Those of [`ZarrArray::open`] and [`ZarrArray::check_chunk`].
pub fn check_chunks(folder: &Path) -> Result<(), ZarrError> {
    fn each<T: Element>(array: &ZarrArray<T>) -> Result<(), ZarrError> {
        array
            .places()
            .try_for_each(|(i, j)| array.check_chunk(i, j))
    }
    match data_type(folder)?.as_str() {
        <f64 as Element>::DATA_TYPE => each(&ZarrArray::<f64>::open(folder)?),
        <u8 as Element>::DATA_TYPE => each(&ZarrArray::<u8>::open(folder)?),
        _ => each(&ZarrArray::<f32>::open(folder)?),
    }
}

/// Removes the array in `folder`. `zarr.json` is removed first, so that a process that still writes chunks sees that they are
/// not wanted.
///
/// # Errors
/// `Write`.
pub fn remove(folder: &Path) -> Result<(), ZarrError> {
    // If the folder is a link, only the link is ours.
    if !folder.is_symlink() {
        let path = folder.join("zarr.json");
        match fs_err::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(AtomicError { path, source }.into());
            }
            _ => {}
        }
    }
    Ok(atomic::remove_folder(folder)?)
}

/// Reads every chunk of the array in `folder` and compares its checksum, in parallel.
///
/// # Errors
/// Those of [`ZarrArray::open`] and [`ZarrArray::verify_chunk`].
pub fn verify(folder: &Path) -> Result<(), ZarrError> {
    fn each<T: Element>(array: &ZarrArray<T>) -> Result<(), ZarrError> {
        let [down, across] = array.grid();
        let row = |i| {
            let chunks = (0..across).into_par_iter();
            chunks.try_for_each(|j| array.verify_chunk(i, j))
        };
        (0..down).into_par_iter().try_for_each(row)
    }
    match data_type(folder)?.as_str() {
        <f64 as Element>::DATA_TYPE => each(&ZarrArray::<f64>::open(folder)?),
        <u8 as Element>::DATA_TYPE => each(&ZarrArray::<u8>::open(folder)?),
        _ => each(&ZarrArray::<f32>::open(folder)?),
    }
}
