//! A block of samples, with the numbers that the kernel recursion needs for each.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use std::borrow::Cow;
use std::sync::Arc;

use super::error::KernelError;
use super::infinite::InfiniteKernel;

/// Columns are computed in groups of this size; factors per sample are padded to a multiple of it.
pub(crate) const CHUNK: usize = 32;

/// Rows of a double-precision product that are computed at a time. When a factor nearly fills the cache, faer is faster on such
/// panels than on the whole.
const PANEL_ROWS: usize = 96;

/// A feature's storage type: `f32` or `f64`.
pub trait Feature: Copy + Into<f64> + Send + Sync + sealed::Sealed + 'static {
    /// The values as `f64`, converted into `buffer` if necessary.
    #[doc(hidden)]
    fn widen<'a>(x: &'a [Self], buffer: &'a mut Vec<f64>) -> &'a [f64];

    /// The values as `f32`, if they are `f32`.
    #[doc(hidden)]
    fn narrow(x: &[Self]) -> Option<&[f32]>;

    /// The nearest value of this type.
    #[doc(hidden)]
    fn round(x: f64) -> Self;

    /// Computes A B into `out`, on the calling thread.
    #[doc(hidden)]
    fn multiply(out: MatMut<'_, Self>, a: MatRef<'_, Self>, b: MatRef<'_, Self>);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Feature for f32 {
    fn widen<'a>(x: &'a [f32], buffer: &'a mut Vec<f64>) -> &'a [f64] {
        buffer.clear();
        buffer.extend(x.iter().map(|&v| f64::from(v)));
        buffer
    }

    fn narrow(x: &[f32]) -> Option<&[f32]> {
        Some(x)
    }

    #[inline(always)]
    fn round(x: f64) -> Self {
        x as f32
    }

    fn multiply(out: MatMut<'_, Self>, a: MatRef<'_, Self>, b: MatRef<'_, Self>) {
        matmul(out, Accum::Replace, a, b, 1.0, Par::Seq);
    }
}

impl Feature for f64 {
    fn widen<'a>(x: &'a [f64], _: &'a mut Vec<f64>) -> &'a [f64] {
        x
    }

    fn narrow(_: &[f64]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    fn round(x: f64) -> Self {
        x
    }

    fn multiply(out: MatMut<'_, Self>, a: MatRef<'_, Self>, b: MatRef<'_, Self>) {
        let mut rest = out;
        for start in (0..a.nrows()).step_by(PANEL_ROWS) {
            let n_rows = PANEL_ROWS.min(a.nrows() - start);
            let (panel, others) = rest.split_at_row_mut(n_rows);
            matmul(
                panel,
                Accum::Replace,
                a.subrows(start, n_rows),
                b,
                1.0,
                Par::Seq,
            );
            rest = others;
        }
    }
}

/// A block of samples prepared for one kernel.
///
/// Holds the samples, which blocks of several kernels can share. For each sample, also holds `x·x` and the variance `k11` of
/// each layer, in the forms that the recursion multiplies by. [`InfiniteKernel::row_block`] makes it.
#[derive(Debug, Clone)]
pub struct RowBlock<'a, T: Feature> {
    pub(crate) x: Arc<Cow<'a, [T]>>,
    pub(crate) n_features: usize,
    pub(crate) n_rows: usize,
    squared_norms: Vec<f64>,
    diagonal: Vec<f64>,
    /// Row length of `scale` and `inverse`: `n_rows`, rounded up to whole chunks.
    padded: usize,
    /// `√k11` of each layer but the last, depth x padded. Not used for erf.
    scale: Vec<f64>,
    /// ReLU `1/√k11` (0 if `k11` is 0), erf `1/√(1 + 2 k11)`; depth x padded.
    inverse: Vec<f64>,
    /// The product of two samples' values is the `1 − cos²` below which a single-precision product has lost the angle.
    pub(crate) parallel: Vec<f64>,
    /// `K(x, r) − K(r, r)/2` of each sample, padded, if the kernel is relative to a reference `r`; otherwise empty.
    pub(crate) offset: Vec<f64>,
    /// Whether single precision can hold the products of these rows.
    pub(crate) single_precision: bool,
}

impl InfiniteKernel {
    /// Prepares a block of samples. `x`: n_rows x n_features, row-major, borrowed or owned.
    ///
    /// Cost: one multiply-add per value.
    ///
    /// # Errors
    /// [`KernelError::NoFeatures`] when `n_features` is 0; [`KernelError::RaggedRows`] when `x` is not a whole number of
    /// rows; [`KernelError::NotFinite`] for a missing or infinite feature; [`KernelError::Overflow`] when a sample's kernel
    /// value exceeds single precision.
    pub fn row_block<'a, T: Feature>(
        &self,
        x: impl Into<Cow<'a, [T]>>,
        n_features: usize,
    ) -> Result<RowBlock<'a, T>, KernelError> {
        RowBlock::new(self, Arc::new(x.into()), n_features)
    }

    /// Prepares the samples of another kernel's block; both blocks then share them.
    ///
    /// # Errors
    /// [`KernelError::Overflow`] when a sample's kernel value exceeds single precision.
    pub fn block_beside<'a, T: Feature>(
        &self,
        other: &RowBlock<'a, T>,
    ) -> Result<RowBlock<'a, T>, KernelError> {
        RowBlock::new(self, other.x.clone(), other.n_features)
    }
}

impl<'a, T: Feature> RowBlock<'a, T> {
    pub(crate) fn new(
        kernel: &InfiniteKernel,
        x: Arc<Cow<'a, [T]>>,
        n_features: usize,
    ) -> Result<Self, KernelError> {
        let mut block = Self::plain(kernel, x, n_features)?;
        if let Some(reference) = &kernel.reference {
            block.take_off(kernel, reference)?;
        }
        Ok(block)
    }

    /// Makes the values relative to the reference: `K(x, x') − K(x, r) − K(r, x') + K(r, r)`.
    fn take_off(&mut self, kernel: &InfiniteKernel, reference: &[f64]) -> Result<(), KernelError> {
        let r: Vec<T> = reference.iter().map(|&v| T::round(v)).collect();
        let r = RowBlock::plain(kernel, Arc::new(Cow::Owned(r)), self.n_features)?;
        let own = r.diagonal[0];
        self.offset = vec![0.0; self.padded];
        for row in 0..self.n_rows {
            self.offset[row] = kernel.entry(self, row, &r, 0) - 0.5 * own;
            self.diagonal[row] -= 2.0 * self.offset[row];
        }
        // Single precision cannot hold what remains.
        self.single_precision = false;
        Ok(())
    }

    /// The block of the kernel without its reference.
    fn plain(
        kernel: &InfiniteKernel,
        x: Arc<Cow<'a, [T]>>,
        n_features: usize,
    ) -> Result<Self, KernelError> {
        if n_features == 0 {
            return Err(KernelError::NoFeatures);
        }
        if !x.len().is_multiple_of(n_features) {
            return Err(KernelError::RaggedRows {
                n_values: x.len(),
                n_features,
            });
        }
        let n_rows = x.len() / n_features;
        let padded = n_rows.next_multiple_of(CHUNK);
        let depth = kernel.depth();
        let mut block = RowBlock {
            x: Arc::default(),
            n_features,
            n_rows,
            squared_norms: Vec::with_capacity(n_rows),
            diagonal: Vec::with_capacity(n_rows),
            padded,
            scale: vec![0.0; depth * padded],
            inverse: vec![0.0; depth * padded],
            parallel: vec![0.0; padded],
            offset: Vec::new(),
            single_precision: true,
        };
        for (row, values) in x.chunks_exact(n_features).enumerate() {
            let squared_norm = check_features(row, values)?;
            let mean_square = squared_norm / n_features as f64;
            let diagonal = kernel.diagonal(mean_square);
            if diagonal.is_nan() || diagonal > f64::from(f32::MAX) {
                return Err(KernelError::Overflow {
                    row,
                    value: diagonal,
                });
            }
            let variances = kernel.layer_variances(mean_square);
            for (layer, &variance) in variances[..depth].iter().enumerate() {
                let (scale, inverse) = kernel.factors(variance);
                block.scale[layer * padded + row] = scale;
                block.inverse[layer * padded + row] = inverse;
            }
            block.parallel[row] = kernel.parallel(mean_square);
            block.single_precision &= squared_norm == 0.0 || (1e-25..=1e35).contains(&squared_norm);
            block.squared_norms.push(squared_norm);
            block.diagonal.push(diagonal);
        }
        block.x = x;
        Ok(block)
    }

    /// Number of samples.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Number of features.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// `x·x` of each sample, `n_rows` long.
    pub fn squared_norms(&self) -> &[f64] {
        &self.squared_norms
    }

    /// The kernel of each sample with itself, from its closed form, relative to the reference if there is one; `n_rows` long.
    pub fn diagonal(&self) -> &[f64] {
        &self.diagonal
    }

    pub(crate) fn row(&self, row: usize) -> &[T] {
        &self.x[row * self.n_features..][..self.n_features]
    }

    /// Factors `(scale, inverse)` of `W` samples from `start` on, at one layer.
    #[inline(always)]
    pub(crate) fn factors<const W: usize>(
        &self,
        layer: usize,
        start: usize,
    ) -> (&[f64; W], &[f64; W]) {
        let (scale, inverse) = self.factors_from(layer, start);
        match (scale.first_chunk(), inverse.first_chunk()) {
            (Some(scale), Some(inverse)) => (scale, inverse),
            _ => unreachable!("{W} samples from {start} of {}", self.padded),
        }
    }

    /// Factors `(scale, inverse)` of all samples from `start` on, including padding, at one layer.
    #[inline(always)]
    pub(crate) fn factors_from(&self, layer: usize, start: usize) -> (&[f64], &[f64]) {
        let at = layer * self.padded + start;
        let end = (layer + 1) * self.padded;
        (&self.scale[at..end], &self.inverse[at..end])
    }
}

/// `x·x` of the sample in `row`; an error if a feature or the sum is not finite.
pub(crate) fn check_features<T: Feature>(row: usize, x: &[T]) -> Result<f64, KernelError> {
    let squared_norm = dot(x, x);
    match squared_norm.is_finite() {
        true => Ok(squared_norm),
        false if x.iter().all(|&v| v.into().is_finite()) => Err(KernelError::Overflow {
            row,
            value: f64::INFINITY,
        }),
        false => Err(KernelError::NotFinite { row }),
    }
}

/// `a·b` in double precision, summed in an order that depends only on the length.
pub(crate) fn dot<T: Feature>(a: &[T], b: &[T]) -> f64 {
    const LANES: usize = 16;
    let mut lanes = [0.0f64; LANES];
    let (mut left, mut right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (x, y) in (&mut left).zip(&mut right) {
        for (lane, (&u, &v)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += u.into() * v.into();
        }
    }
    for (lane, (&u, &v)) in lanes
        .iter_mut()
        .zip(left.remainder().iter().zip(right.remainder()))
    {
        *lane += u.into() * v.into();
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}
