//! Which kernels single precision holds, from their diagonal, before any tile is made.

use std::ops::RangeInclusive;

use ntk::kernel::{KernelError, TangentKernel};
use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::kernel_tiles;
use ntkpipe_store::kernel_tiles::KernelTilesError;
use ntkpipe_store::results::{Column, read_table};

use crate::failure::input;
use crate::run::context::Context;
use crate::run::files;

/// Sizes of a sample's kernel with itself at which tiles of single precision, their products with vectors of length 1, and dual weights keep
/// their digits: sums over many samples stay below 3e38, and dual weights, which go with the inverse, too.
const HELD: RangeInclusive<f64> = 1e-30..=1e34;

/// Refuses kernels that overflow on a sample of the feature array, or vanish on all.
///
/// |K(x, x')|² ≤ K(x, x) K(x', x'), so that the diagonal tells. Cost: one read of the features.
pub fn check(context: &Context, kernels: &[TangentKernel]) -> anyhow::Result<()> {
    let ids = &context.inputs.samples.sample_id;
    let found = match FeatureArray::open(context.directory.root())? {
        FeatureArray::F32(array) => kernel_tiles::diagonals(kernels, &array, ids.len()),
        FeatureArray::F64(array) => kernel_tiles::diagonals(kernels, &array, ids.len()),
    };
    let diagonals = match found {
        Err(KernelTilesError::Kernel {
            start,
            source: KernelError::Overflow { row, value },
            ..
        }) => return Err(too_large(context, &ids[start + row], value)),
        found => found?,
    };
    diagonals
        .iter()
        .try_for_each(|diagonal| check_diagonal(context, diagonal))
}

/// The same of a kernel whose diagonal is known: of the first rows of the feature array, or of all.
pub fn check_diagonal(context: &Context, diagonal: &[f64]) -> anyhow::Result<()> {
    let by_size = diagonal.iter().zip(&context.inputs.samples.sample_id);
    // What is not a number counts as larger than any.
    let Some((&largest, id)) = by_size.max_by(|a, b| a.0.total_cmp(b.0)) else {
        return Ok(());
    };
    if HELD.contains(&largest) || largest == 0.0 && !has_features(context)? {
        return Ok(());
    }
    Err(match largest < *HELD.start() {
        true => too_small(context, largest),
        false => too_large(context, id, largest),
    })
}

/// Whether a feature is more than zeros, though its squares may be.
fn has_features(context: &Context) -> anyhow::Result<bool> {
    let features = read_table(&context.directory.path(files::FEATURE_TABLE))?;
    let moments = features
        .iter()
        .filter(|(name, _)| ["mean", "sd"].contains(&name.as_str()));
    Ok(moments.into_iter().any(|(_, column)| match column {
        Column::Float(values) => values.iter().flatten().any(|v| *v != 0.0),
        _ => false,
    }))
}

fn too_large(context: &Context, id: &str, size: f64) -> anyhow::Error {
    let size = match size.is_finite() {
        true => format!("{size:.1e}"),
        false => "beyond 1e308".to_owned(),
    };
    input(
        format!(
            "the kernel of sample `{id}` with itself is {size}, and single precision holds it up to {:e}",
            HELD.end()
        ),
        remedy(context, "lower"),
    )
}

fn too_small(context: &Context, size: f64) -> anyhow::Error {
    input(
        format!(
            "the kernel of a sample with itself is {size:.1e} at most, and single precision holds it from {:e} on",
            HELD.start()
        ),
        remedy(context, "raise"),
    )
}

fn remedy(context: &Context, change: &str) -> String {
    let settings = &context.settings;
    let standardise = match settings.standardise_features {
        true => "",
        false => "standardise the features (leave `--raw-features` out), or ",
    };
    match settings.network.finite() {
        Some(_) => format!("{standardise}{change} the weights of the network"),
        None => format!(
            "{standardise}{change} `--weight-variance`, or take fewer layers with `--depth`"
        ),
    }
}
