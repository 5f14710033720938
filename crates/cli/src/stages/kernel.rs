//! Features to kernel tiles: `kernel.zarr`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use ntkpipe_model::kernel::TangentKernel;
use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::results::{Column, read_table};
use ntkpipe_store::zarr::{ArraySpec, Attributes, ZarrArray};
use ntkpipe_store::{kernel_tiles, tiled_kernel};
use serde_json::{Value, json};

use super::{Context, network_record, remove_file};
use crate::failure::resources;
use crate::initial::{self, Initial};
use crate::progress::Progress;
use crate::run_directory::Stage;
use crate::settings::Settings;

/// Side of a tile: the user's choice, or from the number of samples.
pub fn tile_side(settings: &Settings, n: usize) -> usize {
    settings
        .tile
        .unwrap_or_else(|| tiled_kernel::default_tile(n))
}

/// Bytes of all tiles of `n` samples.
pub fn bytes(n: usize, tile: usize) -> u64 {
    let side = n.div_ceil(tile) as u64;
    side * (side + 1) / 2 * (tile as u64 * tile as u64 * 4 + 4)
}

/// The array that the tiles are kept in, and what it says of the kernel they belong to.
fn spec(context: &Context, fingerprint: &str) -> ArraySpec {
    let (n, network) = (context.inputs.n_kernel, &context.settings.network);
    let mut attributes = Attributes::new();
    attributes.insert("fingerprint".into(), Value::from(fingerprint));
    attributes.insert("network".into(), network_record(network));
    tiled_kernel::spec(n, tile_side(&context.settings, n), attributes)
}

/// The first file that lacks for this kernel's tiles to be all there; what is in them is checked when they are read.
pub fn missing_tile(context: &Context, fingerprint: &str) -> Option<PathBuf> {
    let path = context.kernel_path();
    match ZarrArray::<f32>::open(&path) {
        Ok(array) if *array.spec() == spec(context, fingerprint) => {
            tiled_kernel::lower_triangle(array.grid()[0])
                .into_iter()
                .map(|(i, j)| array.chunk_path(i, j))
                .find(|tile| !tile.exists())
        }
        _ => Some(path.join("zarr.json")),
    }
}

/// Runs the stage: tiles that are there and belong to this kernel are kept.
pub fn run(context: &mut Context, fingerprint: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(Stage::Kernel)?;
    let n = context.inputs.n_kernel;
    let tile = tile_side(&context.settings, n);
    let path = context.kernel_path();
    let spec = spec(context, fingerprint);
    if path.exists() {
        let is_ours = ZarrArray::<f32>::open(&path).is_ok_and(|array| *array.spec() == spec);
        if !is_ours {
            tracing::info!(
                "kernel: tiles of another kernel in `{}` are removed",
                path.display()
            );
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("could not remove `{}`", path.display()))?;
        }
    }
    if path.is_symlink() && !path.exists() {
        // The scratch folder of an earlier run is gone.
        std::fs::remove_file(&path)
            .with_context(|| format!("could not remove the link `{}`", path.display()))?;
    }
    let array = ZarrArray::<f32>::create(&path, spec)?;
    let present = tiled_kernel::lower_triangle(n.div_ceil(tile))
        .iter()
        .filter(|&&(i, j)| array.has_chunk(i, j))
        .count() as u64;
    let wanted = bytes(n, tile).saturating_sub(present * array.chunk_bytes());
    let free = fs4::available_space(&path)?;
    if wanted > free {
        return Err(resources(
            format!(
                "the kernel's tiles need {wanted} bytes and `{}` has {free} free",
                path.display()
            ),
            "free some space, or put the tiles on another disk with `--scratch DIR`",
        ));
    }
    let kernel = context.settings.network.kernel()?;
    match &kernel {
        TangentKernel::Finite(kernel) => {
            check_features(context)?;
            Initial::write(context, kernel)?;
        }
        TangentKernel::Infinite(_) => remove_file(&context.directory.path(initial::FILE))?,
    }
    let bar = Progress::new("kernel", "tiles");
    let progress = |done, total| bar.set(done, total);
    match FeatureArray::open(context.directory.root())? {
        FeatureArray::F32(features) => {
            kernel_tiles::compute(&kernel, &features, n, &array, &progress)?
        }
        FeatureArray::F64(features) => {
            kernel_tiles::compute(&kernel, &features, n, &array, &progress)?
        }
    }
    drop(bar);
    link_from_run_directory(context)?;
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(
        "kernel: {n} samples, tiles of {tile}, {} found, {wanted} bytes written in {seconds:.1} s",
        present
    );
    let figures =
        json!({ "samples": n, "tile": tile, "tiles_found": present, "bytes_written": wanted });
    context.finish(Stage::Kernel, fingerprint, started, figures)
}

/// Refuses features, as they were kept, that the network does not take.
fn check_features(context: &Context) -> anyhow::Result<()> {
    let Some(network) = context.settings.network.finite() else {
        return Ok(());
    };
    let features = read_table(&context.directory.path("features.parquet"))?;
    let column = |wanted: &str| features.iter().find(|(name, _)| name == wanted);
    let (Some((_, Column::Text(names))), Some((_, Column::OptionalText(why)))) =
        (column("feature"), column("reason"))
    else {
        return Ok(());
    };
    let dropped: Vec<String> = names
        .iter()
        .zip(why)
        .filter_map(|(name, why)| Some(format!("`{name}`, {}", why.as_ref()?)))
        .collect();
    network.check_features(names.len() - dropped.len(), &dropped)
}

/// With `--scratch`, `kernel.zarr` in the run directory points to the tiles.
fn link_from_run_directory(context: &Context) -> anyhow::Result<()> {
    let (link, target) = (context.directory.path("kernel.zarr"), context.kernel_path());
    if link == target || std::fs::canonicalize(&link).ok() == std::fs::canonicalize(&target).ok() {
        return Ok(());
    }
    if link.is_symlink() {
        std::fs::remove_file(&link)?;
    }
    #[cfg(unix)]
    if !link.exists() {
        std::os::unix::fs::symlink(std::fs::canonicalize(&target)?, &link)?;
    }
    Ok(())
}
