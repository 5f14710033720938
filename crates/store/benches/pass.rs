//! The time of a pass over the kernel's tiles, beside that of the matrix products in it.
//!
//!     cargo bench --bench pass -- --samples 8192 --columns 64,256,1000
//!     cargo bench --bench pass -- --samples 50000 --repeats 2     # 6 GB of disk, kept in the page cache
//!
//! The two take turns in one process, so that other work on the machine affects both; the ratio is the median of the turns'
//! ratios. Tiles are in the page cache, and their checksums are compared before the clock starts.
#![allow(clippy::print_stdout)]

mod common;

use std::convert::Infallible;
use std::hint::black_box;

use common::{Arguments, median, numbers, seconds};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use ntkpipe_store::tiled_kernel::{Access, TiledKernel, default_tile, lower_triangle, spec};
use ntkpipe_store::zarr::{Attributes, Chunk, ZarrArray};
use rayon::prelude::*;
use reml::KernelMatrix;

/// One or two products per tile, one tile per thread as in the pass; tiles and blocks of vectors are in memory.
fn bare_products(tiles: &[(usize, usize, Chunk<f32>)], side: usize, x: &Mat<f32>) {
    tiles.par_iter().with_max_len(1).for_each_init(
        || Mat::<f32>::zeros(side, x.ncols()),
        |out, (i, j, tile)| {
            let k = MatRef::from_row_major_slice(tile, side, side);
            matmul(out.as_mut(), Accum::Add, k, x.as_ref(), 1.0, Par::Seq);
            if i != j {
                matmul(
                    out.as_mut(),
                    Accum::Add,
                    k.transpose(),
                    x.as_ref(),
                    1.0,
                    Par::Seq,
                );
            }
            // Without this, the compiler may leave out products that nobody reads.
            black_box(out);
        },
    );
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read(&["samples", "columns", "repeats", "tile", "folder"])?;
    let n = arguments.number("samples", 8192)?;
    let columns = arguments.numbers("columns", &[64, 256, 1000])?;
    let repeats = arguments.number("repeats", 5)?;
    let side = arguments.number("tile", default_tile(n))?;
    let folder = arguments.folder()?;

    // The time of a product does not depend on the numbers, so no kernel is computed.
    let path = folder.path().join("kernel.zarr");
    let array = ZarrArray::<f32>::create(&path, spec(n, side, Attributes::new()))?;
    let order = lower_triangle(n.div_ceil(side));
    order.par_iter().try_for_each(|&(i, j)| {
        let values = numbers(side * side, (i * order.len() + j) as u64);
        array.write_chunk(i, j, &values)
    })?;
    let kernel = TiledKernel::open(&path, Access::Map)?;
    let tiles = order
        .iter()
        .map(|&(i, j)| Ok((i, j, array.map_chunk(i, j)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let threads = rayon::current_num_threads();
    println!("n = {n}, tiles of {side}, {threads} threads");

    let none = Mat::<f32>::zeros(n, 0);
    for width in columns {
        let x = numbers(n * width, 1);
        let x = MatRef::from_column_major_slice(&x, n, width);
        let part = Mat::from_fn(side, width, |row, column| x[(row % n, column)]);
        let mut readings = Vec::new();
        // The first turn warms up: it compares the checksums.
        for turn in 0..=repeats {
            let bare = seconds(|| {
                bare_products(&tiles, side, &part);
                Ok::<(), Infallible>(())
            })?;
            let pass = seconds(|| kernel.multiply(x, none.as_ref()).map(drop))?;
            if turn > 0 {
                readings.push((bare, pass));
            }
        }
        let bare = median(readings.iter().map(|r| r.0));
        // Whole tiles are multiplied, including the padding at the edge.
        let padded = (n.next_multiple_of(side)) as f64;
        println!(
            "{width} columns: bare products {bare:.3} s ({:.0} GFLOP/s), pass {:.3} s, ratio {:.3}",
            2.0 * padded * padded * width as f64 / bare * 1e-9,
            median(readings.iter().map(|r| r.1)),
            median(readings.iter().map(|r| r.1 / r.0))
        );
    }
    Ok(())
}
