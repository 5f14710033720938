//! Assembles a tile: its products, the sweep over them, its diagonal and its upper triangle.

use super::parallel::FindParallel;
use super::part::{Tile, TilePart};
use super::product::single_gram;
use super::sweep::{SweepBlock, SweepInPlace};
use crate::kernel::error::KernelError;
use crate::kernel::infinite::InfiniteKernel;
use crate::kernel::row_block::{Feature, RowBlock};
use amx_gemm::Multiplier;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

/// Rows and columns of the blocks in which double-precision products are computed.
const BLOCK: usize = 256;

/// Working memory of [`InfiniteKernel::tile`]. Grows on first use; keep one per thread and reuse it.
#[derive(Debug, Clone, Default)]
pub struct TileScratch {
    rows: Vec<f64>,
    cols: Vec<f64>,
    gram: Vec<f64>,
    parallel: Vec<(u32, u32)>,
    multiplier: Multiplier,
}

impl InfiniteKernel {
    /// Computes a tile of the kernel, `Θ(rows, cols)`, on the calling thread.
    ///
    /// `out`: `n_rows x n_cols`, row-major, row `i` at `i * out_stride`. `diagonal` says that both blocks hold the same
    /// samples: the tile is then exactly symmetric, and its diagonal comes from the closed form.
    ///
    /// The product of the features is computed in their own precision, the recursion in double precision. Pairs whose angle
    /// is lost in single precision are computed again in double precision; if they are more than 2 % of the tile, the whole
    /// product is. Large products are computed on the AMX unit of the processor, if it has one.
    ///
    /// The bits depend only on the two blocks. Cost: `n_rows n_cols p` multiply-adds (half of that when `diagonal`), and about
    /// 30 per element and layer. Scratch: less than `BLOCK (2 p + BLOCK)` doubles, the parallel pairs, and 6 KiB per sample for
    /// the AMX unit.
    ///
    /// # Panics
    /// When the blocks differ in features, when `out` or `out_stride` is too small, or when `diagonal` is set and the
    /// blocks differ in length.
    pub fn tile<T: Feature>(
        &self,
        rows: &RowBlock<'_, T>,
        cols: &RowBlock<'_, T>,
        diagonal: bool,
        out: &mut [f32],
        out_stride: usize,
        scratch: &mut TileScratch,
    ) {
        let part = TilePart {
            kernel: self,
            rows,
            cols,
            out,
        };
        tiles(&mut [part], diagonal, out_stride, scratch);
    }

    /// Computes the whole kernel of some samples, Θ(x, x'), n × n, on the calling thread. `x`: n × n_features, row-major.
    ///
    /// It is one [`tile`](Self::tile), widened to double precision: for as many samples as fit in memory at 12 n² bytes. Cost: as for the tile.
    ///
    /// # Errors
    /// Those of [`row_block`](Self::row_block).
    ///
    /// ```
    /// use ntk::kernel::{Activation, InfiniteKernel};
    ///
    /// // Depth 0 is the linear kernel w x·x'/p + b.
    /// let kernel = InfiniteKernel::new(Activation::Relu, 0, 1.0, 0.5)?;
    /// let k = kernel.matrix(&[1.0f32, 2.0, 3.0, 5.0], 2)?; // two samples of two features
    /// assert_eq!(k[(0, 1)], 13.0 / 2.0 + 0.5);
    /// # Ok::<(), ntk::kernel::KernelError>(())
    /// ```
    pub fn matrix<T: Feature>(&self, x: &[T], n_features: usize) -> Result<Mat<f64>, KernelError> {
        let block = self.row_block(x, n_features)?;
        let n = block.n_rows();
        let mut tile = vec![0.0; n * n];
        self.tile(
            &block,
            &block,
            true,
            &mut tile,
            n,
            &mut TileScratch::default(),
        );
        Ok(Mat::from_fn(n, n, |i, j| f64::from(tile[i * n + j])))
    }
}

/// Computes the same tile of several kernels from one product of the features. The bits are those of [`InfiniteKernel::tile`].
///
/// # Panics
/// Those of [`InfiniteKernel::tile`]; and when the parts do not have the same samples.
pub fn tiles<T: Feature>(
    parts: &mut [TilePart<'_, '_, T>],
    diagonal: bool,
    out_stride: usize,
    scratch: &mut TileScratch,
) {
    let Some(TilePart { rows, cols, .. }) = parts.first() else {
        return;
    };
    let (n_rows, n_cols) = (rows.n_rows, cols.n_rows);
    assert!(!diagonal || n_rows == n_cols, "a diagonal tile is square");
    for TilePart {
        rows, cols, out, ..
    } in &*parts
    {
        assert_eq!(
            rows.n_features, cols.n_features,
            "blocks of the same features"
        );
        assert_eq!((n_rows, n_cols), (rows.n_rows, cols.n_rows));
        assert!(
            n_rows == 0 || out_stride >= n_cols && out.len() >= (n_rows - 1) * out_stride + n_cols,
            "room for {n_rows} x {n_cols} values at stride {out_stride}"
        );
    }
    if n_rows == 0 || n_cols == 0 {
        return;
    }
    let mut parts: Vec<(Tile<'_, '_, T>, &mut [f32])> = parts
        .iter_mut()
        .map(|part| {
            let tile = Tile {
                kernel: part.kernel,
                rows: part.rows,
                cols: part.cols,
                diagonal,
                stride: out_stride,
            };
            (tile, &mut *part.out)
        })
        .collect();
    let arch = pulp::Arch::new();
    single_gram(&mut parts, &mut scratch.multiplier);
    let mut in_double = Vec::new();
    for (tile, out) in &mut parts {
        scratch.parallel.clear();
        let found = &mut scratch.parallel;
        let gram = &**out;
        if tile.is_single() && arch.dispatch(FindParallel { tile, gram, found }) {
            arch.dispatch(SweepInPlace { tile, out });
            tile.repair(&scratch.parallel, out);
        } else {
            in_double.push((*tile, &mut **out));
        }
    }
    double(&mut in_double, arch, scratch);
    for (tile, out) in &mut parts {
        if diagonal {
            for (i, &value) in tile.rows.diagonal().iter().enumerate() {
                out[i * out_stride + i] = value as f32;
            }
            mirror(out, n_rows, out_stride);
        }
    }
}

/// Computes tiles from products in double precision, block by block.
fn double<T: Feature>(
    parts: &mut [(Tile<'_, '_, T>, &mut [f32])],
    arch: pulp::Arch,
    scratch: &mut TileScratch,
) {
    let Some(&(first, _)) = parts.first() else {
        return;
    };
    let p = first.rows.n_features;
    scratch.gram.resize(BLOCK * BLOCK, 0.0);
    for row in (0..first.rows.n_rows).step_by(BLOCK) {
        let n_rows = BLOCK.min(first.rows.n_rows - row);
        let x = T::widen(&first.rows.x[row * p..][..n_rows * p], &mut scratch.rows);
        let x = MatRef::from_row_major_slice(x, n_rows, p);
        let last = first.n_cols(row + n_rows - 1);
        for col in (0..last).step_by(BLOCK) {
            let n_cols = BLOCK.min(first.cols.n_rows - col);
            let y = T::widen(&first.cols.x[col * p..][..n_cols * p], &mut scratch.cols);
            let y = MatRef::from_row_major_slice(y, n_cols, p).transpose();
            let gram = &mut scratch.gram[..n_rows * n_cols];
            matmul(
                MatMut::from_row_major_slice_mut(&mut *gram, n_rows, n_cols),
                Accum::Replace,
                x,
                y,
                1.0,
                Par::Seq,
            );
            for (tile, out) in &mut *parts {
                arch.dispatch(SweepBlock {
                    tile,
                    gram,
                    row,
                    col,
                    n_rows,
                    n_cols,
                    out,
                });
            }
        }
    }
}

/// Copies the lower triangle to the upper one, one block at a time.
pub(crate) fn mirror(out: &mut [f32], n: usize, stride: usize) {
    const SIDE: usize = 32;
    for row in (0..n).step_by(SIDE) {
        for col in (0..=row).step_by(SIDE) {
            for i in row..n.min(row + SIDE) {
                for j in col..i.min(col + SIDE) {
                    out[j * stride + i] = out[i * stride + j];
                }
            }
        }
    }
}
