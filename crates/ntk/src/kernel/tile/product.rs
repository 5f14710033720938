//! The products of the features, `X Y'`, in single precision.

use super::part::Tile;
use crate::kernel::row_block::Feature;
use amx_gemm::Multiplier;
use faer::linalg::matmul::{matmul, triangular};
use faer::{Accum, MatMut, MatRef, Par};

/// Features per single-precision sum: shorter sums halve the rounding error, at no measurable cost.
const STRETCH: usize = 256;

/// Features, and samples per side, from which the AMX unit is faster.
const AMX_FEATURES: usize = 256;
const AMX_SAMPLES: usize = 512;

/// Whether the product of this many features and samples is computed on the AMX unit of the processor.
pub fn is_on_amx_unit(n_features: usize, sides: [usize; 2]) -> bool {
    let is_large = n_features >= AMX_FEATURES && sides.iter().all(|&n| n >= AMX_SAMPLES);
    is_large && amx_gemm::is_available()
}

/// Computes the products of the features in single precision, into each tile that can hold them.
pub(super) fn single_gram<T: Feature>(
    parts: &mut [(Tile<'_, '_, T>, &mut [f32])],
    multiplier: &mut Multiplier,
) {
    let mut parts = parts.iter_mut().filter(|(tile, _)| tile.is_single());
    let Some((tile, gram)) = parts.next() else {
        return;
    };
    if let (Some(x), Some(y)) = (T::narrow(&tile.rows.x), T::narrow(&tile.cols.x)) {
        tile.single_gram(x, y, gram, multiplier);
    }
    for (_, out) in parts {
        let lines = out.chunks_mut(tile.stride).zip(gram.chunks(tile.stride));
        for (row, (line, from)) in lines.enumerate().take(tile.rows.n_rows) {
            let n_cols = tile.n_cols(row);
            line[..n_cols].copy_from_slice(&from[..n_cols]);
        }
    }
}

impl<T: Feature> Tile<'_, '_, T> {
    /// Computes the products of the features in single precision, into the tile itself.
    pub(super) fn single_gram(
        &self,
        x: &[f32],
        y: &[f32],
        out: &mut [f32],
        multiplier: &mut Multiplier,
    ) {
        let (n_rows, n_cols, p) = (self.rows.n_rows, self.cols.n_rows, self.rows.n_features);
        if is_on_amx_unit(p, [n_rows, n_cols]) {
            return multiplier.multiply([x, y], p, self.diagonal, out, self.stride);
        }
        // Not `from_row_major_slice_with_stride_mut`: in faer 0.24 it swaps the strides and writes beyond the slice.
        let mut gram = MatMut::from_column_major_slice_with_stride_mut(
            &mut out[..(n_rows - 1) * self.stride + n_cols],
            n_cols,
            n_rows,
            self.stride,
        )
        .transpose_mut();
        let x = MatRef::from_row_major_slice(x, n_rows, p);
        let y = MatRef::from_row_major_slice(y, n_cols, p).transpose();
        for start in (0..p).step_by(STRETCH) {
            let length = STRETCH.min(p - start);
            let (x, y) = (x.subcols(start, length), y.subrows(start, length));
            let onto = if start == 0 {
                Accum::Replace
            } else {
                Accum::Add
            };
            if self.diagonal {
                use triangular::BlockStructure::{Rectangular, TriangularLower};
                let gram = gram.as_mut();
                triangular::matmul(
                    gram,
                    TriangularLower,
                    onto,
                    x,
                    Rectangular,
                    y,
                    Rectangular,
                    1.0,
                    Par::Seq,
                );
            } else {
                matmul(gram.as_mut(), onto, x, y, 1.0, Par::Seq);
            }
        }
    }
}
