//! From features on disk to kernel tiles on disk, and to products with the kernel of other samples.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use ntk::kernel::tile::TileScratch;
use ntk::kernel::{Feature, KernelError, SampleBlock, TangentKernel};
use rayon::prelude::*;

use crate::zarr::{Element, ZarrArray, ZarrError};

/// Why tiles could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum KernelTilesError {
    /// Features could not be read, or a tile not written.
    #[error(transparent)]
    Zarr(#[from] ZarrError),
    /// The kernel refuses the features.
    #[error("the kernel refuses features of rows {start} to {end} of the feature array")]
    Kernel {
        /// First row of the block.
        start: usize,
        /// One past its last row.
        end: usize,
        /// Why.
        source: KernelError,
    },
    /// The kernel refuses the features of new samples.
    #[error("the kernel refuses features of new samples")]
    NewSamples {
        /// Why.
        source: KernelError,
    },
}

/// Bytes of feature rows that are kept besides those in use. Blocks beyond that are read again, once for each strip of tiles.
const KEPT_BYTES: usize = 128 << 20;
/// Most blocks of rows that are kept; beyond that, reading is a small part of the work.
const MOST_KEPT: usize = 8;

/// Receives the network's output f₀ for a block of samples: the first sample of the block, and f₀ of each of them.
pub type Outputs<'a> = &'a (dyn Fn(usize, &[f64]) + Sync);

/// Blocks of feature rows, prepared for the kernel; those used last are kept.
struct Blocks<'a, T: Element + Feature> {
    kernels: &'a [TangentKernel],
    features: &'a ZarrArray<T>,
    outputs: Outputs<'a>,
    n: usize,
    side: usize,
    /// How many blocks are kept besides those in use.
    kept: usize,
    slots: Vec<Mutex<Weak<Vec<SampleBlock<'static, T>>>>>,
    recent: Mutex<VecDeque<Arc<Vec<SampleBlock<'static, T>>>>>,
}

impl<'a, T: Element + Feature> Blocks<'a, T> {
    fn new(
        kernels: &'a [TangentKernel],
        features: &'a ZarrArray<T>,
        outputs: Outputs<'a>,
        n: usize,
        side: usize,
    ) -> Self {
        let of_sample = |kernel: &TangentKernel| kernel.bytes_per_sample::<T>(features.shape()[1]);
        let bytes = side * kernels.first().map_or(0, of_sample);
        Self {
            kernels,
            features,
            outputs,
            n,
            side,
            kept: (KEPT_BYTES / bytes.max(1)).clamp(1, MOST_KEPT),
            slots: (0..n.div_ceil(side)).map(|_| Mutex::default()).collect(),
            recent: Mutex::default(),
        }
    }

    fn range(&self, block: usize) -> (usize, usize) {
        (block * self.side, ((block + 1) * self.side).min(self.n))
    }

    /// The rows of a block. Other threads that want the same block wait while it is read. The read therefore starts no parallel
    /// work: a waiting thread could be handed a tile of the same block.
    fn get(&self, block: usize) -> Result<Arc<Vec<SampleBlock<'static, T>>>, KernelTilesError> {
        let rows = {
            let mut slot = lock(&self.slots[block]);
            match slot.upgrade() {
                Some(rows) => rows,
                None => {
                    let rows = Arc::new(self.read(block)?);
                    *slot = Arc::downgrade(&rows);
                    rows
                }
            }
        };
        let mut recent = lock(&self.recent);
        recent.retain(|other| !Arc::ptr_eq(other, &rows));
        recent.push_front(rows.clone());
        recent.truncate(self.kept);
        Ok(rows)
    }

    fn read(&self, block: usize) -> Result<Vec<SampleBlock<'static, T>>, KernelTilesError> {
        let (start, end) = self.range(block);
        let rows = self.features.read_rows(start..end)?;
        let blocks = TangentKernel::blocks(self.kernels, rows, self.features.shape()[1])
            .map_err(|source| KernelTilesError::Kernel { start, end, source })?;
        if let [SampleBlock::Finite(block)] = &blocks[..] {
            (self.outputs)(start, block.output());
        }
        Ok(blocks)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Computes, for each kernel K on the first `n` rows of `features`, those of `tiles` that are not yet in its array of `arrays`.
///
/// Several kernels must be of infinite width: one product of the features serves a tile of each of them. `outputs` receives f₀
/// of every block of samples that goes through a network, perhaps more than once. `progress` is called with the number of tiles
/// done and of all tiles, including those found on disk.
///
/// Each tile is formed on one thread, written under a temporary name and renamed: an interruption costs only the tiles under
/// way. Tiles are taken in strips, as high as the features kept in memory allow, and column by column within a strip. A strip
/// thus reads every block of features once.
///
/// Cost: n² p / 2 multiply-adds. Memory: one tile per thread and kernel, two blocks of feature rows per thread, and up to
/// 128 MiB of further blocks.
///
/// # Errors
/// When features cannot be read, a tile cannot be written, or the kernel overflows.
pub fn compute<T: Element + Feature>(
    kernels: &[TangentKernel],
    features: &ZarrArray<T>,
    n: usize,
    arrays: &[ZarrArray<f32>],
    tiles: &[(usize, usize)],
    outputs: Outputs<'_>,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(), KernelTilesError> {
    let Some(side) = arrays.first().map(|array| array.spec().chunk[0]) else {
        return Ok(());
    };
    let blocks = Blocks::new(kernels, features, outputs, n, side);
    let lacks = |i: usize, j: usize| arrays.iter().any(|array| !array.has_chunk(i, j));
    let lacking = tiles.iter().copied().filter(|&(i, j)| lacks(i, j));
    let mut missing: Vec<(usize, usize)> = lacking.collect();
    let strip = blocks.kept.saturating_sub(1).max(1);
    missing.sort_by_key(|&(i, j)| (i / strip, j, i));
    let done = AtomicUsize::new(tiles.len() - missing.len());
    progress(done.load(Ordering::Relaxed), tiles.len());
    let next = AtomicUsize::new(0);
    let work = |_: rayon::BroadcastContext<'_>| {
        let mut scratch = TileScratch::default();
        let mut made = vec![vec![0.0_f32; side * side]; kernels.len()];
        while let Some(&(i, j)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (rows, cols) = (blocks.get(i)?, blocks.get(j)?);
            if rows[0].n_rows() < side || cols[0].n_rows() < side {
                made.iter_mut().for_each(|tile| tile.fill(0.0));
            }
            TangentKernel::tiles(kernels, &rows, &cols, i == j, &mut made, side, &mut scratch);
            for (array, tile) in arrays.iter().zip(&made) {
                if !array.has_chunk(i, j) {
                    // A tile does not say which kernel it belongs to; its array does.
                    array.check_described()?;
                    array.write_chunk(i, j, tile)?;
                }
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, tiles.len());
        }
        Ok(())
    };
    let stop_others = |_: &KernelTilesError| next.store(missing.len(), Ordering::Relaxed);
    rayon::broadcast(|context| work(context).inspect_err(stop_others))
        .into_iter()
        .collect()
}

/// K(x, x) of the first `n` samples of `features` for each kernel, before it is rounded to single precision.
///
/// Cost: one read of the features, and one kernel preparation per sample.
///
/// # Errors
/// When features cannot be read, or a kernel refuses them.
pub fn diagonals<T: Element + Feature>(
    kernels: &[TangentKernel],
    features: &ZarrArray<T>,
    n: usize,
) -> Result<Vec<Vec<f64>>, KernelTilesError> {
    const ROWS: usize = 256;
    let blocks = Blocks::new(kernels, features, &|_, _| {}, n, ROWS);
    let of_block = |block: usize| -> Result<Vec<Vec<f64>>, KernelTilesError> {
        let samples = blocks.read(block)?;
        Ok(samples.iter().map(|it| it.diagonal().to_vec()).collect())
    };
    let parts: Vec<Vec<Vec<f64>>> = (0..n.div_ceil(ROWS))
        .into_par_iter()
        .map(of_block)
        .collect::<Result<_, _>>()?;
    let of_kernel = |k: usize| parts.iter().flat_map(|part| &part[k]).copied().collect();
    Ok((0..kernels.len()).map(of_kernel).collect())
}

/// K(x, S) α for new samples. `rows` holds their features (row-major, scaled as the training features). `alpha` holds the dual
/// weights (n × m) of the training samples, which are the first n rows of `features`.
///
/// The cross-kernel is formed block by block and never kept. Sums run over blocks of training samples in order, in panels of 32
/// columns, so the bits of a column do not depend on its neighbours. Cost: one kernel entry per pair of a new and a training
/// sample, and 2 m flops each, with m rounded up to whole panels.
///
/// # Errors
/// When training features cannot be read or the kernel refuses a row.
pub fn cross_product<T: Element + Feature>(
    kernel: &TangentKernel,
    features: &ZarrArray<T>,
    rows: &[T],
    alpha: MatRef<'_, f32>,
) -> Result<Mat<f32>, KernelTilesError> {
    Ok(cross_products(kernel, features, rows, alpha, None)?.products)
}

/// Sums over the kernel rows of new samples.
pub struct CrossProducts {
    /// K(x, ·) times the given columns.
    pub products: Mat<f32>,
    /// Σᵢ K(x, i)² over the given samples.
    pub squares: Vec<f64>,
    /// K(x, x).
    pub diagonal: Vec<f64>,
}

/// As [`cross_product`]. If `over` says which training samples to sum over, also returns the sums of squares of the rows and
/// the diagonal; otherwise these are empty.
///
/// # Errors
/// Those of [`cross_product`].
pub fn cross_products<T: Element + Feature>(
    kernel: &TangentKernel,
    features: &ZarrArray<T>,
    rows: &[T],
    alpha: MatRef<'_, f32>,
    over: Option<&[bool]>,
) -> Result<CrossProducts, KernelTilesError> {
    const SIDE: usize = 1024;
    const PANEL: usize = 32;
    let width = alpha.ncols().next_multiple_of(PANEL);
    let mut padded = Mat::<f32>::zeros(alpha.nrows(), width);
    padded.subcols_mut(0, alpha.ncols()).copy_from(alpha);
    let (n, n_features) = (alpha.nrows(), features.shape()[1]);
    let blocks = Blocks::new(std::slice::from_ref(kernel), features, &|_, _| {}, n, SIDE);
    let new_blocks: Vec<&[T]> = rows.chunks(128 * n_features).collect();
    let n_rows = |b: &&[T]| b.len() / n_features;
    let mut sums: Vec<(Mat<f32>, Vec<f64>)> = new_blocks
        .iter()
        .map(|b| (Mat::zeros(n_rows(b), width), vec![0.0; n_rows(b)]))
        .collect();
    for block in 0..n.div_ceil(SIDE) {
        let (start, end) = blocks.range(block);
        let training = blocks.read(block)?;
        sums.par_iter_mut().zip(&new_blocks).try_for_each_init(
            || (TileScratch::default(), Vec::new()),
            |(scratch, tile), ((sum, squares), new)| {
                let new = kernel
                    .block(*new, n_features)
                    .map_err(|source| KernelTilesError::NewSamples { source })?;
                tile.clear();
                tile.resize(new.n_rows() * (end - start), 0.0_f32);
                kernel.tile(&new, &training[0], false, tile, end - start, scratch);
                let k = MatRef::from_row_major_slice(tile, new.n_rows(), end - start);
                let part = padded.subrows(start, end - start);
                for first in (0..width).step_by(PANEL) {
                    let panel = sum.subcols_mut(first, PANEL);
                    matmul(
                        panel,
                        Accum::Add,
                        k,
                        part.subcols(first, PANEL),
                        1.0,
                        Par::Seq,
                    );
                }
                if let Some(over) = over {
                    for (square, row) in squares.iter_mut().zip(tile.chunks(end - start)) {
                        let chosen = row
                            .iter()
                            .zip(&over[start..end])
                            .filter(|(_, is_in)| **is_in);
                        *square += chosen.map(|(k, _)| f64::from(*k).powi(2)).sum::<f64>();
                    }
                }
                Ok::<(), KernelTilesError>(())
            },
        )?;
    }
    let mut products = Mat::zeros(rows.len() / n_features, alpha.ncols());
    let mut squares = Vec::new();
    let mut start = 0;
    for (sum, of_rows) in sums {
        products
            .subrows_mut(start, sum.nrows())
            .copy_from(sum.subcols(0, alpha.ncols()));
        start += sum.nrows();
        squares.extend(of_rows);
    }
    let diagonal = match over {
        Some(_) => diagonal(kernel, &new_blocks, n_features)?,
        None => Vec::new(),
    };
    Ok(CrossProducts {
        products,
        squares,
        diagonal,
    })
}

/// K(x, x) of the samples of blocks of rows.
fn diagonal<T: Feature>(
    kernel: &TangentKernel,
    blocks: &[&[T]],
    n_features: usize,
) -> Result<Vec<f64>, KernelTilesError> {
    let of_block = |rows: &&[T]| -> Result<Vec<f64>, KernelTilesError> {
        let block = kernel
            .block(*rows, n_features)
            .map_err(|source| KernelTilesError::NewSamples { source })?;
        let n = block.n_rows();
        let mut tile = vec![0.0_f32; n * n];
        kernel.tile(
            &block,
            &block,
            true,
            &mut tile,
            n,
            &mut TileScratch::default(),
        );
        Ok((0..n).map(|i| f64::from(tile[i * n + i])).collect())
    };
    let diagonals: Vec<Vec<f64>> = blocks.par_iter().map(of_block).collect::<Result<_, _>>()?;
    Ok(diagonals.concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tiled_kernel::{self, lower_triangle};
    use crate::zarr::{ArraySpec, Attributes};
    use ntk::kernel::{Activation, InfiniteKernel};

    /// A thread that waits inside a read for another to end must not meet a block that it reads itself.
    #[test]
    fn tiles_of_many_rows_of_feature_chunks_end() {
        let (n, p, chunk_rows, tile) = (768, 3, 1, 64);
        let (done, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let folder = tempfile::tempdir().unwrap();
            let spec = ArraySpec::new([n, p], [chunk_rows, p]);
            let features = ZarrArray::<f64>::create(folder.path().join("x"), spec).unwrap();
            let values: Vec<f64> = (0..n * p)
                .map(|v| ((v * v) % 101) as f64 / 50.0 - 1.0)
                .collect();
            features.write_all(&values).unwrap();
            let kernel = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).unwrap();
            let kernels = [TangentKernel::Infinite(kernel)];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build();
            let pool = pool.unwrap();
            for round in 0..10 {
                let spec = tiled_kernel::spec(n, tile, Attributes::new());
                let folder = folder.path().join(format!("k{round}"));
                let arrays = [ZarrArray::<f32>::create(folder, spec).unwrap()];
                let all = lower_triangle(n.div_ceil(tile));
                pool.install(|| {
                    compute(
                        &kernels,
                        &features,
                        n,
                        &arrays,
                        &all,
                        &|_, _| (),
                        &|_, _| (),
                    )
                })
                .unwrap();
            }
            done.send(()).unwrap();
        });
        let limit = std::time::Duration::from_secs(60);
        assert!(end.recv_timeout(limit).is_ok(), "the tiles do not end");
    }

    #[test]
    fn no_tile_gets_into_the_array_of_another_kernel() {
        let (n, p, tile) = (128, 3, 16);
        let folder = tempfile::tempdir().unwrap();
        let features =
            ZarrArray::<f64>::create(folder.path().join("x"), ArraySpec::new([n, p], [n, p]));
        let features = features.unwrap();
        let values: Vec<f64> = (0..n * p).map(|v| ((v * v) % 101) as f64).collect();
        features.write_all(&values).unwrap();
        let kernel = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).unwrap();
        let spec = |of: &str| {
            let attributes = [("fingerprint".to_owned(), of.into())];
            tiled_kernel::spec(n, tile, attributes.into_iter().collect())
        };
        let path = folder.path().join("k");
        let array = ZarrArray::<f32>::create(&path, spec("ours")).unwrap();
        // Another machine, whose lock ours does not keep away, puts its own array there.
        let replace = |done: usize, _| {
            if done == 9 {
                crate::zarr::remove(&path).unwrap();
                ZarrArray::<f32>::create(&path, spec("theirs")).unwrap();
            }
        };
        let all = lower_triangle(n / tile);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let kernels = [TangentKernel::Infinite(kernel)];
        let made = pool
            .unwrap()
            .install(|| compute(&kernels, &features, n, &[array], &all, &|_, _| (), &replace));
        let error = made.unwrap_err();
        assert!(
            matches!(error, KernelTilesError::Zarr(ZarrError::Differs { .. })),
            "{error}"
        );
        let theirs = ZarrArray::<f32>::open(&path).unwrap();
        assert!(all.iter().all(|&(i, j)| !theirs.has_chunk(i, j)));
    }

    #[test]
    fn tiles_of_kernels_made_together_are_those_of_each_made_alone() {
        let (n, p, side) = (150, 300, 64);
        let folder = tempfile::tempdir().unwrap();
        let values = |i: usize| ((i * 7919) % 1009) as f64 / 300.0 - 1.5;
        let both: Vec<f64> = (0..n * p).map(values).collect();
        let mut single: Vec<f32> = both.iter().map(|&v| v as f32).collect();
        // Two samples the same: their angle is found in double precision.
        single.copy_within(0..p, 70 * p);
        let architectures = [
            (Activation::Relu, 1, 0.0),
            (Activation::Erf, 3, 0.2),
            (Activation::Relu, 4, 0.1),
        ];
        let kernels = architectures.map(|(activation, depth, bias)| {
            TangentKernel::Infinite(InfiniteKernel::new(activation, depth, 2.0, bias).unwrap())
        });
        fn check<T: Element + Feature>(
            kernels: &[TangentKernel],
            values: &[T],
            [n, p, side]: [usize; 3],
            folder: &std::path::Path,
        ) {
            let features =
                ZarrArray::<T>::create(folder.join("x"), ArraySpec::new([n, p], [32, p])).unwrap();
            features.write_all(values).unwrap();
            let make = |name: String| {
                let spec = tiled_kernel::spec(n, side, Attributes::new());
                ZarrArray::<f32>::create(folder.join(name), spec).unwrap()
            };
            let together: Vec<_> = (0..3).map(|k| make(format!("together{k}"))).collect();
            let alone: Vec<_> = (0..3).map(|k| make(format!("alone{k}"))).collect();
            let tiles = lower_triangle(n.div_ceil(side));
            compute(
                kernels,
                &features,
                n,
                &together,
                &tiles,
                &|_, _| (),
                &|_, _| (),
            )
            .unwrap();
            for (kernel, array) in kernels.iter().zip(&alone) {
                let (kernel, array) = (std::slice::from_ref(kernel), std::slice::from_ref(array));
                compute(kernel, &features, n, array, &tiles, &|_, _| (), &|_, _| ()).unwrap();
            }
            for (a, b) in together.iter().zip(&alone) {
                for (i, j) in lower_triangle(n.div_ceil(side)) {
                    let [a, b] = [a, b].map(|it| std::fs::read(it.chunk_path(i, j)).unwrap());
                    assert!(a == b, "tile {i} {j}");
                }
            }
        }
        let sizes = [n, p, side];
        check(&kernels, &single, sizes, &folder.path().join("f32"));
        check(&kernels, &both, sizes, &folder.path().join("f64"));
    }
}
