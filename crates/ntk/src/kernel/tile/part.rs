//! The inputs of a tile.

use crate::kernel::infinite::InfiniteKernel;
use crate::kernel::row_block::{Feature, RowBlock};

/// One kernel's part in [`tiles`](super::tiles).
pub struct TilePart<'t, 'a, T: Feature> {
    /// The kernel.
    pub kernel: &'t InfiniteKernel,
    /// Its block of the rows' samples.
    pub rows: &'t RowBlock<'a, T>,
    /// Its block of the columns' samples.
    pub cols: &'t RowBlock<'a, T>,
    /// Its tile.
    pub out: &'t mut [f32],
}

/// The inputs of a tile.
#[derive(Clone, Copy)]
pub(super) struct Tile<'t, 'a, T: Feature> {
    pub(super) kernel: &'t InfiniteKernel,
    pub(super) rows: &'t RowBlock<'a, T>,
    pub(super) cols: &'t RowBlock<'a, T>,
    pub(super) diagonal: bool,
    pub(super) stride: usize,
}

impl<T: Feature> Tile<'_, '_, T> {
    /// Whether the product of the features is computed in single precision.
    pub(super) fn is_single(&self) -> bool {
        let is_narrow = T::narrow(&self.rows.x).is_some();
        is_narrow && self.rows.single_precision && self.cols.single_precision
    }

    /// Number of columns to compute in a row: those left of the diagonal, or all.
    #[inline(always)]
    pub(super) fn n_cols(&self, row: usize) -> usize {
        if self.diagonal { row } else { self.cols.n_rows }
    }
}
