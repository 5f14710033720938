//! Features to kernel tiles: `kernel.zarr`.

use std::time::Instant;

use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::zarr::{Attributes, ZarrArray};
use ntkpipe_store::{kernel_tiles, tiled_kernel};
use serde_json::{Value, json};

use super::{Context, network_record};
use crate::failure::resources;
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

/// Whether there is a file for every tile; what is in them is checked when they are read.
pub fn is_whole(path: &std::path::Path) -> bool {
    ZarrArray::<f32>::open(path).is_ok_and(|array| {
        tiled_kernel::lower_triangle(array.grid()[0])
            .into_iter()
            .all(|(i, j)| array.chunk_path(i, j).exists())
    })
}

/// Runs the stage: tiles that are there and belong to this kernel are kept.
pub fn run(context: &mut Context, fingerprint: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    context.directory.begin(Stage::Kernel)?;
    let n = context.inputs.n_kernel;
    let tile = tile_side(&context.settings, n);
    let path = context.kernel_path();
    let mut attributes = Attributes::new();
    attributes.insert("fingerprint".into(), Value::from(fingerprint));
    attributes.insert("network".into(), network_record(&context.settings.network));
    let spec = tiled_kernel::spec(n, tile, attributes);
    if path.exists() {
        let is_ours = ZarrArray::<f32>::open(&path).is_ok_and(|array| *array.spec() == spec);
        if !is_ours {
            tracing::info!(
                "kernel: tiles of another kernel in `{}` are removed",
                path.display()
            );
            std::fs::remove_dir_all(&path)?;
        }
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
