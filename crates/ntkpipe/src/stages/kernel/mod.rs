//! Features to kernel tiles: `kernel.zarr`, and what a network predicts before it is trained.

pub mod initial_prediction;
pub mod range;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use ntk::kernel::TangentKernel;
use ntk::kernel::tile::is_on_amx_unit;
use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::results::{Column, read_table};
use ntkpipe_store::zarr::{ArraySpec, Attributes, ZarrArray};
use ntkpipe_store::{kernel_tiles, tiled_kernel, zarr};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::{input, resources};
use crate::options::Options;
use crate::progress::Progress;
use crate::run::context::Context;
use crate::run::files;
use crate::run::fingerprints::Fingerprints;
use crate::run::output::{Work, network_record, remove_file, say_done};
use crate::run::shard::Shard;
use crate::run::stage::{Output, StageSpec};
use crate::run::tiles::{bytes, tile_side};
use crate::stages::ingest;
use crate::stages::kernel::initial_prediction::Initial;
use crate::stages::stage::{Sharded, Stage};
use crate::words::counted;

/// What is known of the stage.
pub static SPEC: StageSpec = StageSpec {
    name: "kernel",
    about: "Features to kernel tiles",
    version: 3,
    builds_on: &[&ingest::SPEC],
    is_done_on_the_way: false,
    outputs: &[
        Output::array(files::TILES).in_scratch(),
        Output::file(files::INITIAL_PREDICTION),
        Output::unrecorded(files::SHARDS).also_of_several(),
    ],
};

/// What `run.json` keeps of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KernelFigures {
    /// Samples of the kernel.
    pub samples: usize,
    /// Whether tiles are relative to the samples' mean.
    pub centred: bool,
    /// Side of a tile.
    pub tile: usize,
    /// Tiles that were there already.
    pub tiles_found: u64,
    /// Bytes of the others.
    pub bytes_written: u64,
    /// Whether the products of tiles were computed by Intel AMX; null where none had to be made.
    #[serde(alias = "matrix_unit")]
    pub amx: Option<bool>,
}

/// The stage. Tiles that are there and belong to this kernel are kept.
#[derive(Debug)]
pub struct Kernel;

impl Stage for Kernel {
    fn spec(&self) -> &'static StageSpec {
        &SPEC
    }

    fn depends_on(&self, _: &Options, context: &Context) -> Value {
        let settings = &context.settings;
        json!([
            settings.network,
            tile_side(settings, context.inputs.n_kernel)
        ])
    }

    fn missing(&self, context: &Context, prints: &Fingerprints) -> anyhow::Result<Option<PathBuf>> {
        Ok(missing_tile(context, prints.of(&SPEC)))
    }

    fn figures_schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<KernelFigures>()
    }

    fn run(&self, context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()> {
        run_together(&mut [(context, prints.of(&SPEC))])
    }

    fn forget(&self, context: &Context) -> anyhow::Result<()> {
        let tiles = context.kernel_path();
        if tiles.exists() {
            zarr::remove(&tiles)?;
        }
        Ok(())
    }

    fn sharded(&self) -> Option<&dyn Sharded> {
        Some(self)
    }
}

impl Sharded for Kernel {
    fn run_shard(
        &self,
        context: &Context,
        prints: &Fingerprints,
        shard: Shard,
    ) -> anyhow::Result<()> {
        run_shard(context, prints.of(&SPEC), shard)
    }

    fn join_shards(
        &self,
        context: &Context,
        prints: &Fingerprints,
        _: &[Shard],
    ) -> anyhow::Result<()> {
        check_whole(context, prints.of(&SPEC))
    }
}

/// The attribute of tiles that are relative to the samples' mean.
const CENTRED: &str = "centred";

/// The array that the tiles are kept in, and what it says of the kernel they belong to.
fn spec(context: &Context, fingerprint: &str, is_centred: bool) -> ArraySpec {
    let (n, network) = (context.inputs.n_kernel, &context.settings.network);
    let mut attributes = Attributes::new();
    attributes.insert("fingerprint".into(), Value::from(fingerprint));
    attributes.insert("network".into(), network_record(network));
    if is_centred {
        attributes.insert(CENTRED.into(), Value::from(true));
    }
    tiled_kernel::spec(n, tile_side(&context.settings, n), attributes)
}

fn says_centred(array: &ZarrArray<f32>) -> bool {
    array.spec().attributes.get(CENTRED) == Some(&Value::from(true))
}

/// The kernel of the tiles. It is relative to the samples' mean where single precision would otherwise lose the differences between samples, and where
/// an intercept absorbs the constant that this leaves out.
fn to_compute(context: &Context) -> anyhow::Result<TangentKernel> {
    let kernel = context.settings.network.kernel()?;
    if !context.settings.intercept || matches!(kernel, TangentKernel::Finite(_)) {
        return Ok(kernel);
    }
    let features = FeatureArray::open(context.directory.root())?;
    let rows = features.spread_rows_f64(context.inputs.n_kernel)?;
    // Features that the kernel refuses are named as the tiles are made.
    let centred = kernel.clone().centred_if_lost(&rows, features.shape()[1]);
    Ok(centred.unwrap_or(kernel))
}

/// The kernel that the tiles are of.
pub fn stored(context: &Context) -> anyhow::Result<TangentKernel> {
    let kernel = context.settings.network.kernel()?;
    match says_centred(&ZarrArray::open(context.kernel_path())?) {
        true => {
            let features = FeatureArray::open(context.directory.root())?;
            centred(kernel, &features, context.inputs.n_kernel)
        }
        false => Ok(kernel),
    }
}

/// The kernel relative to the mean of its samples, the first `n` rows of the features.
pub fn centred(
    kernel: TangentKernel,
    features: &FeatureArray,
    n: usize,
) -> anyhow::Result<TangentKernel> {
    Ok(kernel.centred(&features.spread_rows_f64(n)?, features.shape()[1]))
}

/// The first missing file of this kernel's tiles. Their content is checked when they are read.
fn missing_tile(context: &Context, fingerprint: &str) -> Option<PathBuf> {
    let path = context.kernel_path();
    match ZarrArray::<f32>::open(&path) {
        Ok(array) if *array.spec() == spec(context, fingerprint, says_centred(&array)) => {
            tiled_kernel::lower_triangle(array.grid()[0])
                .into_iter()
                .map(|(i, j)| array.chunk_path(i, j))
                .find(|tile| !tile.exists())
        }
        _ => Some(path.join("zarr.json")),
    }
}

/// Runs the stage for several runs that differ only in their kernels of infinite width. One product of the features gives the same tile of
/// each.
pub fn run_together(runs: &mut [(&mut Context, &str)]) -> anyhow::Result<()> {
    let started = Instant::now();
    let (mut arrays, mut kernels, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for (context, fingerprint) in &mut *runs {
        context.directory.begin(&SPEC)?;
        context.let_go();
        let kernel = to_compute(context)?;
        let array = open_array(context, fingerprint, kernel.is_centred())?;
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
        match &kernel {
            TangentKernel::Finite(_) => check_features(context)?,
            TangentKernel::Infinite(_) => {
                remove_file(&context.directory.path(files::INITIAL_PREDICTION))?
            }
        }
        kernels.push(kernel);
    }
    let Some((first, _)) = runs.first() else {
        return Ok(());
    };
    let (n, path) = (first.inputs.n_kernel, first.kernel_path());
    check_space(&path, wanted.iter().map(|it| it.1).sum())?;
    range::check(first, &kernels)?;
    let tiles = tiled_kernel::lower_triangle(arrays[0].grid()[0]);
    let found = wanted.iter().map(|it| it.0).min().unwrap_or(0);
    let outputs = compute(first, &kernels, &arrays, &tiles, found as usize)?;
    if let [TangentKernel::Finite(kernel)] = &kernels[..] {
        Initial::write(first, kernel, outputs, arrays[0].spec().chunk[0])?;
    }
    let of_kernels = kernels.iter().zip(&arrays).zip(wanted);
    for ((context, fingerprint), ((kernel, array), (present, wanted))) in
        runs.iter_mut().zip(of_kernels)
    {
        link_from_run_directory(context)?;
        let tile = array.spec().chunk[0];
        tracing::info!(
            "kernel: {}, tiles of {tile}, {present} found, {wanted} bytes written in {:.1} s",
            counted(n, "samples"),
            started.elapsed().as_secs_f64()
        );
        if kernel.is_centred() {
            tracing::info!(
                "kernel: a constant is nearly all of it: tiles hold it relative to the samples' mean, which an intercept makes the same model"
            );
        }
        let figures = KernelFigures {
            samples: n,
            centred: kernel.is_centred(),
            tile,
            tiles_found: present,
            bytes_written: wanted,
            amx: is_on_unit(context, kernel, tile, wanted)?,
        };
        context.finish(&SPEC, fingerprint, started, &figures)?;
    }
    Ok(())
}

/// Whether this process forms whole tiles from products of Intel AMX; nothing where it has no tile to form.
fn is_on_unit(
    context: &Context,
    kernel: &TangentKernel,
    tile: usize,
    wanted: u64,
) -> anyhow::Result<Option<bool>> {
    if wanted == 0 {
        return Ok(None);
    }
    let features = FeatureArray::open(context.directory.root())?;
    Ok(Some(match (kernel, features) {
        (TangentKernel::Infinite(kernel), FeatureArray::F32(features)) if !kernel.is_centred() => {
            is_on_amx_unit(features.shape()[1], [tile; 2])
        }
        _ => false,
    }))
}

/// Makes a shard of the tiles, beside other jobs.
fn run_shard(context: &Context, fingerprint: &str, shard: Shard) -> anyhow::Result<()> {
    let started = Instant::now();
    let kernel = to_compute(context)?;
    let path = context.kernel_path();
    let spec = spec(context, fingerprint, kernel.is_centred());
    let found = path.exists().then(|| ZarrArray::<f32>::open(&path));
    // Another job's array is not removed under it.
    if let Some(Ok(array)) = &found
        && *array.spec() != spec
    {
        return Err(input(
            format!("`{}` holds tiles of another kernel", path.display()),
            "delete the folder, then start every shard again",
        ));
    }
    let array = ZarrArray::<f32>::create(&path, spec)?;
    let tiles = tiled_kernel::lower_triangle(array.grid()[0]);
    let tiles = shard.piece(&tiles);
    let missing = tiles
        .iter()
        .filter(|&&(i, j)| !array.has_chunk(i, j))
        .count();
    let written = missing as u64 * array.chunk_bytes();
    check_space(&path, written)?;
    if context.settings.network.finite().is_some() {
        check_features(context)?;
    }
    let kernels = [kernel];
    range::check(context, &kernels)?;
    compute(context, &kernels, &[array], tiles, tiles.len() - missing)?;
    shard.leave(context.directory.root(), SPEC.name, fingerprint)?;
    let (all, found) = (tiles.len(), tiles.len() - missing);
    let all = counted(all, "tiles");
    tracing::info!("kernel: shard {shard}, {all}, {found} of them found");
    let work = Work {
        bytes_written: Some(written),
        ..Work::default()
    };
    say_done(&SPEC, Some(shard), started, work);
    Ok(())
}

/// Names the first tile that is missing.
fn check_whole(context: &Context, fingerprint: &str) -> anyhow::Result<()> {
    match missing_tile(context, fingerprint) {
        None => Ok(()),
        Some(tile) => Err(input(
            format!("the tile `{}` is missing", tile.display()),
            "run the shards again: those whose tiles are there take no time",
        )),
    }
}

/// Refuses to start what the disk has no room for.
fn check_space(path: &Path, wanted: u64) -> anyhow::Result<()> {
    let free = fs4::available_space(path)?;
    if wanted > free {
        return Err(resources(
            format!(
                "the kernel's tiles need {wanted} bytes and `{}` has {free} free",
                path.display()
            ),
            "free some space, or put the tiles on another disk with `--scratch DIR`",
        ));
    }
    Ok(())
}

/// Makes the missing ones of `tiles`. `found`, the number of tiles of the array that has fewest, is not counted as made. Returns f₀ of the samples for
/// which a network was evaluated on the way, by the first sample of each block.
fn compute(
    context: &Context,
    kernels: &[TangentKernel],
    arrays: &[ZarrArray<f32>],
    tiles: &[(usize, usize)],
    found: usize,
) -> anyhow::Result<BTreeMap<usize, Vec<f64>>> {
    let n = context.inputs.n_kernel;
    let tile_bytes: u64 = arrays.iter().map(ZarrArray::chunk_bytes).sum();
    let bar = Progress::new("kernel", "tiles")
        .of_bytes(tile_bytes)
        .beyond(found);
    let progress = |done, total| bar.set(done, total);
    let found = Mutex::new(BTreeMap::new());
    let lock = || found.lock().unwrap_or_else(PoisonError::into_inner);
    let outputs = |start, values: &[f64]| {
        lock().insert(start, values.to_vec());
    };
    match FeatureArray::open(context.directory.root())? {
        FeatureArray::F32(features) => {
            kernel_tiles::compute(kernels, &features, n, arrays, tiles, &outputs, &progress)?
        }
        FeatureArray::F64(features) => {
            kernel_tiles::compute(kernels, &features, n, arrays, tiles, &outputs, &progress)?
        }
    }
    Ok(std::mem::take(&mut lock()))
}

/// The array of the tiles, those of another kernel removed.
fn open_array(
    context: &Context,
    fingerprint: &str,
    is_centred: bool,
) -> anyhow::Result<ZarrArray<f32>> {
    let path = context.kernel_path();
    let spec = spec(context, fingerprint, is_centred);
    if path.exists() {
        let is_ours = ZarrArray::<f32>::open(&path).is_ok_and(|array| *array.spec() == spec);
        if !is_ours {
            tracing::info!(
                "kernel: tiles of another kernel in `{}` are removed",
                path.display()
            );
            zarr::remove(&path)?;
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
    let features = read_table(&context.directory.path(files::FEATURE_TABLE))?;
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
    let (link, target) = (context.directory.path(files::TILES), context.kernel_path());
    if link == target || std::fs::canonicalize(&link).ok() == std::fs::canonicalize(&target).ok() {
        return Ok(());
    }
    if link.is_symlink() {
        std::fs::remove_file(&link)?;
    } else if link.exists() {
        // Tiles of an earlier run without a scratch folder.
        zarr::remove(&link)?;
    }
    #[cfg(unix)]
    if !link.exists() {
        std::os::unix::fs::symlink(std::fs::canonicalize(&target)?, &link)?;
    }
    Ok(())
}
