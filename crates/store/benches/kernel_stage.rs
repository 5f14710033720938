//! The time of the kernel stage, beside that of the matrix products in it.
//!
//!     cargo bench --bench kernel_stage -- --samples 8192 --features 2923
//!     cargo bench --bench kernel_stage -- --samples 50000 --repeats 1     # 6 GB of disk, a few minutes
//!
//! Target: wall ≤ 1.4 × bare products. Stage and products take turns in one process, so that other work on the machine affects
//! both; the ratio is the median of the turns' ratios. The stage runs twice per turn: as it is, and with ballast. Ballast is files
//! of a tile's size, one of which is removed before each tile is written. A virtual machine that returns free memory to its host,
//! and gets it back page by page, writes to new pages up to fifteen times slower than to pages that it holds. With ballast it
//! holds them.
#![allow(clippy::print_stdout)]

mod common;

use std::convert::Infallible;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use common::{Arguments, median, numbers, seconds};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};
use ntk::kernel::tile::TileScratch;
use ntk::kernel::{Activation, InfiniteKernel, TangentKernel};
use ntkpipe_store::kernel_tiles;
use ntkpipe_store::tiled_kernel::{default_tile, lower_triangle, spec};
use ntkpipe_store::zarr::{ArraySpec, Attributes, ZarrArray};
use rayon::prelude::*;

/// Rows and columns of a chunk of `features.zarr`, as ingestion writes it.
const FEATURE_CHUNK: [usize; 2] = [1024, 256];
/// Features of the tile on which the recursion is timed: few enough that the product is the smaller part, and enough that
/// hardly any pair is nearly parallel.
const FEW_FEATURES: usize = 64;

/// `out` = rows · colsᵀ on the calling thread, only its lower triangle for a tile on the diagonal.
fn product(rows: MatRef<'_, f32>, cols: MatRef<'_, f32>, diagonal: bool, out: &mut [f32]) {
    let out = MatMut::from_row_major_slice_mut(
        &mut out[..rows.nrows() * cols.nrows()],
        rows.nrows(),
        cols.nrows(),
    );
    if diagonal {
        triangular::matmul(
            out,
            BlockStructure::TriangularLower,
            Accum::Replace,
            rows,
            BlockStructure::Rectangular,
            cols.transpose(),
            BlockStructure::Rectangular,
            1.0,
            Par::Seq,
        );
    } else {
        matmul(out, Accum::Replace, rows, cols.transpose(), 1.0, Par::Seq);
    }
}

/// The products of all tiles of the lower triangle, one tile per thread as in the stage; the features are in memory.
fn bare_products(x: MatRef<'_, f32>, tile: usize) {
    let n = x.nrows();
    let rows = |block: usize| x.subrows(block * tile, tile.min(n - block * tile));
    lower_triangle(n.div_ceil(tile))
        .into_par_iter()
        .with_max_len(1)
        .for_each_init(
            || vec![0.0_f32; tile * tile],
            |out, (i, j)| {
                product(rows(i), rows(j), i == j, out);
                // Without this, the compiler may leave out products that nobody reads.
                black_box(out);
            },
        );
}

/// Checks an entry of a bare product against its definition, so that no less than the product is timed.
fn check_product(x: MatRef<'_, f32>, tile: usize) -> anyhow::Result<()> {
    let side = tile.min(x.nrows());
    let mut out = vec![0.0_f32; side * side];
    for diagonal in [false, true] {
        product(x.subrows(0, side), x.subrows(0, side), diagonal, &mut out);
        let (row, column) = (side - 1, side / 2);
        let expected: f64 = (0..x.ncols())
            .map(|f| f64::from(x[(row, f)]) * f64::from(x[(column, f)]))
            .sum();
        let found = f64::from(out[row * side + column]);
        let close = (found - expected).abs() < 1e-4 * x.ncols() as f64;
        anyhow::ensure!(close, "a bare product is {found}, expected {expected}");
    }
    Ok(())
}

/// Nanoseconds per entry that a tile takes besides its product: recursion and search for nearly parallel pairs.
fn recursion(kernel: &InfiniteKernel, side: usize) -> anyhow::Result<f64> {
    let (x, y) = (
        numbers(side * FEW_FEATURES, 2),
        numbers(side * FEW_FEATURES, 3),
    );
    let rows = kernel.row_block(&x, FEW_FEATURES)?;
    let cols = kernel.row_block(&y, FEW_FEATURES)?;
    let (mut out, mut scratch) = (vec![0.0_f32; side * side], TileScratch::default());
    let mut readings = Vec::new();
    for _ in 0..9 {
        let whole = seconds(|| {
            kernel.tile(&rows, &cols, false, &mut out, side, &mut scratch);
            Ok::<(), Infallible>(())
        })?;
        let bare = seconds(|| {
            let x = MatRef::from_row_major_slice(&x, side, FEW_FEATURES);
            let y = MatRef::from_row_major_slice(&y, side, FEW_FEATURES);
            product(x, y, false, &mut out);
            Ok::<(), Infallible>(())
        })?;
        readings.push(whole - bare);
    }
    Ok(median(readings) * 1e9 / (side * side) as f64)
}

/// Files that take as much of the page cache as the tiles.
struct Ballast {
    folder: PathBuf,
    n_tiles: usize,
    ahead: usize,
}

impl Ballast {
    /// Writes the files.
    fn lay(folder: PathBuf, n_tiles: usize, tile: &ZarrArray<f32>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let bytes = vec![1_u8; tile.chunk_bytes() as usize];
        let ahead = 2 * rayon::current_num_threads();
        let ballast = Self {
            folder,
            n_tiles,
            ahead,
        };
        for k in 0..n_tiles {
            std::fs::write(ballast.file(k), &bytes)?;
        }
        Ok(ballast)
    }

    fn file(&self, k: usize) -> PathBuf {
        self.folder.join(k.to_string())
    }

    /// Removes files to make room for the tiles that come after the first `done`.
    fn give_way(&self, done: usize) {
        let first = if done == 0 { 0 } else { done + self.ahead };
        for k in first..(done + self.ahead + 1).min(self.n_tiles) {
            // A file that cannot be removed only costs pages.
            let _ = std::fs::remove_file(self.file(k));
        }
    }
}

/// The kernel stage of all tiles.
struct Stage<'s> {
    kernels: [TangentKernel; 1],
    features: &'s ZarrArray<f32>,
    tiles: Vec<(usize, usize)>,
    tile: usize,
    folder: &'s Path,
}

impl Stage<'_> {
    /// Seconds that one run takes, with ballast or without.
    fn seconds(&self, has_ballast: bool) -> anyhow::Result<f64> {
        let n = self.features.shape()[0];
        let folder = self.folder.join("kernel.zarr");
        let array = ZarrArray::create(&folder, spec(n, self.tile, Attributes::new()))?;
        let lay = || Ballast::lay(self.folder.join("ballast"), self.tiles.len(), &array);
        let ballast = has_ballast.then(lay).transpose()?;
        let arrays = [array];
        let progress = |done: usize, _: usize| {
            if let Some(ballast) = &ballast {
                ballast.give_way(done);
            }
        };
        let (kernels, x, tiles) = (&self.kernels, self.features, &self.tiles);
        let none = &|_: usize, _: &[f64]| ();
        let taken =
            seconds(|| kernel_tiles::compute(kernels, x, n, &arrays, tiles, none, &progress))?;
        std::fs::remove_dir_all(&folder)?;
        Ok(taken)
    }
}

/// Nanoseconds per entry that it takes to read and to prepare the two blocks of rows of a tile.
fn row_blocks(
    kernel: &InfiniteKernel,
    features: &ZarrArray<f32>,
    side: usize,
) -> anyhow::Result<(f64, f64)> {
    let [n, p] = features.shape();
    let (mut reading, mut preparing) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let mut rows = Vec::new();
        reading.push(seconds(|| {
            rows = features.read_rows(0..side.min(n))?;
            anyhow::Ok(())
        })?);
        preparing.push(seconds(|| kernel.row_block(&rows, p).map(drop))?);
    }
    let each = 2e9 / (side * side) as f64;
    Ok((median(reading) * each, median(preparing) * each))
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read(&["samples", "features", "repeats", "tile", "folder"])?;
    let n = arguments.number("samples", 8192)?;
    let p = arguments.number("features", 2923)?;
    let repeats = arguments.number("repeats", 5)?;
    let tile = arguments.number("tile", default_tile(n))?;
    let folder = arguments.folder()?;

    let x = numbers(n * p, 1);
    let features_on_disk = ZarrArray::<f32>::create(
        folder.path().join("features.zarr"),
        ArraySpec::new([n, p], FEATURE_CHUNK),
    )?;
    features_on_disk.write_all(&x)?;
    let x = MatRef::from_row_major_slice(&x, n, p);
    check_product(x, tile)?;
    let kernel = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0)?;
    let kernels = [TangentKernel::Infinite(kernel.clone())];
    let threads = rayon::current_num_threads();
    println!(
        "n = {n}, p = {p}, tiles of {tile}, {threads} threads, ReLU of depth {}",
        kernel.depth()
    );

    let stage = Stage {
        kernels,
        features: &features_on_disk,
        tiles: lower_triangle(n.div_ceil(tile)),
        tile,
        folder: folder.path(),
    };
    // Only the lower triangle: n² p / 2 multiply-adds.
    let flops = n as f64 * n as f64 * p as f64;
    let mut readings = Vec::new();
    for turn in 0..=repeats {
        let bare = seconds(|| {
            bare_products(x, tile);
            Ok::<(), Infallible>(())
        })?;
        let (plain, held) = (stage.seconds(false)?, stage.seconds(true)?);
        // The first turn warms up, unless it is the only one.
        if turn > 0 || repeats == 1 {
            readings.push((bare, plain, held));
            println!(
                "bare products {bare:.3} s ({:.0} GFLOP/s), kernel stage {plain:.3} s, ratio {:.3}; with ballast {held:.3} s, ratio {:.3}",
                flops / bare * 1e-9,
                plain / bare,
                held / bare
            );
        }
        if repeats == 1 {
            break;
        }
    }
    println!(
        "median: bare products {:.3} s, kernel stage {:.3} s, ratio {:.3}; with ballast {:.3} s, ratio {:.3} (target 1.4)",
        median(readings.iter().map(|r| r.0)),
        median(readings.iter().map(|r| r.1)),
        median(readings.iter().map(|r| r.1 / r.0)),
        median(readings.iter().map(|r| r.2)),
        median(readings.iter().map(|r| r.2 / r.0))
    );
    let (reading, preparing) = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()?
        .install(|| row_blocks(&kernel, &features_on_disk, tile))?;
    println!(
        "on one thread, ns per entry: bare products {:.2}, recursion {:.2}, row blocks at most {preparing:.2} \
         and {reading:.2} to read them",
        median(readings.iter().map(|r| r.0)) * threads as f64 * 2e9 / (n * n) as f64,
        recursion(&kernel, tile)?,
    );
    Ok(())
}
