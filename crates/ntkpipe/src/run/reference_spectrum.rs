//! The reference spectrum that the stage `spectrum` left.

use std::path::{Path, PathBuf};

use ntkpipe_store::zarr::ZarrError;
use ntkpipe_store::{spectrum, zarr};
use reml::{MaskedOperator, ReferenceSpectrum};

use crate::run::context::Context;
use crate::run::files;

/// The first chunk that is missing from the arrays the stage left.
pub fn missing_spectrum(folder: &Path) -> Result<Option<PathBuf>, ZarrError> {
    for name in spectrum::ARRAYS {
        let array = folder.join(name);
        // An invariant space has no residual block, and its array is not there.
        if array.exists()
            && let Some(chunk) = zarr::missing_chunk(&array)?
        {
            return Ok(Some(chunk));
        }
    }
    Ok(None)
}

/// The reference spectrum that the stage left: in memory for the first who asks, and on disk.
pub fn load_reference<'a>(context: &'a Context) -> anyhow::Result<ReferenceSpectrum<'a>> {
    let operator = MaskedOperator::new(&context.covariates, &context.base);
    if let Some(parts) = context.take_reference() {
        return Ok(ReferenceSpectrum::from_parts(operator, parts));
    }
    Ok(spectrum::read(&context.directory.path(files::SPECTRUM), operator)?.0)
}
