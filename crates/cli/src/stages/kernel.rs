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
    run_together(&mut [(context, fingerprint)])
}

/// Runs the stage of runs that differ in their kernels of infinite width alone: every tile of theirs comes from one product of the
/// features.
pub fn run_together(runs: &mut [(&mut Context, &str)]) -> anyhow::Result<()> {
    let started = Instant::now();
    let (mut arrays, mut kernels, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for (context, fingerprint) in &mut *runs {
        context.directory.begin(Stage::Kernel)?;
        let array = open_array(context, fingerprint)?;
        let tiles = tiled_kernel::lower_triangle(array.grid()[0]);
        let present = tiles
            .iter()
            .filter(|&&(i, j)| array.has_chunk(i, j))
            .count() as u64;
        let (n, tile) = (context.inputs.n_kernel, array.spec().chunk[0]);
        wanted.push((
            present,
            bytes(n, tile).saturating_sub(present * array.chunk_bytes()),
        ));
        arrays.push(array);
        let kernel = context.settings.network.kernel()?;
        match &kernel {
            TangentKernel::Finite(kernel) => {
                check_features(context)?;
                Initial::write(context, kernel)?;
            }
            TangentKernel::Infinite(_) => remove_file(&context.directory.path(initial::FILE))?,
        }
        kernels.push(kernel);
    }
    let Some((first, _)) = runs.first() else {
        return Ok(());
    };
    let (n, path) = (first.inputs.n_kernel, first.kernel_path());
    let (free, all) = (
        fs4::available_space(&path)?,
        wanted.iter().map(|it| it.1).sum::<u64>(),
    );
    if all > free {
        return Err(resources(
            format!(
                "the kernel's tiles need {all} bytes and `{}` has {free} free",
                path.display()
            ),
            "free some space, or put the tiles on another disk with `--scratch DIR`",
        ));
    }
    let bar = Progress::new("kernel", "tiles");
    let progress = |done, total| bar.set(done, total);
    match FeatureArray::open(first.directory.root())? {
        FeatureArray::F32(features) => {
            kernel_tiles::compute(&kernels, &features, n, &arrays, &progress)?
        }
        FeatureArray::F64(features) => {
            kernel_tiles::compute(&kernels, &features, n, &arrays, &progress)?
        }
    }
    drop(bar);
    for ((context, fingerprint), (array, (present, wanted))) in
        runs.iter_mut().zip(arrays.iter().zip(wanted))
    {
        link_from_run_directory(context)?;
        let tile = array.spec().chunk[0];
        tracing::info!(
            "kernel: {n} samples, tiles of {tile}, {present} found, {wanted} bytes written in {:.1} s",
            started.elapsed().as_secs_f64()
        );
        let figures =
            json!({ "samples": n, "tile": tile, "tiles_found": present, "bytes_written": wanted });
        context.finish(Stage::Kernel, fingerprint, started, figures)?;
    }
    Ok(())
}

/// The array of the tiles, those of another kernel removed.
fn open_array(context: &Context, fingerprint: &str) -> anyhow::Result<ZarrArray<f32>> {
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
    Ok(ZarrArray::create(&path, spec)?)
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
