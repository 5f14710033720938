//! A block of samples, with what the kernel recursion needs to know of each.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use std::borrow::Cow;
use std::sync::Arc;

use super::error::KernelError;
use super::infinite::InfiniteKernel;

/// Columns are swept in groups of this many; per-sample factors are padded to a multiple of it.
pub(crate) const CHUNK: usize = 32;

/// Rows of a product in double precision that are formed at a time: of a factor that nearly fills the cache, faer takes such panels faster
/// than the whole.
const PANEL_ROWS: usize = 96;

/// A feature's storage type: `f32` or `f64`.
pub trait Feature: Copy + Into<f64> + Send + Sync + sealed::Sealed + 'static {
    /// The values as `f64`, converted into `buffer` where they are not.
    #[doc(hidden)]
    fn widen<'a>(x: &'a [Self], buffer: &'a mut Vec<f64>) -> &'a [f64];

    /// The values as `f32`, where they are.
    #[doc(hidden)]
    fn narrow(x: &[Self]) -> Option<&[f32]>;

    /// The nearest value of this type.
    #[doc(hidden)]
    fn round(x: f64) -> Self;

    /// A B into `out`, on the calling thread.
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
/// Holds the samples, which blocks of several kernels can share, and, a sample, `x·x` and the variance `k11` of each layer in the forms the recursion multiplies by; made by
/// [`InfiniteKernel::row_block`].
#[derive(Debug, Clone)]
pub struct RowBlock<'a, T: Feature> {
    pub(crate) x: Arc<Cow<'a, [T]>>,
    pub(crate) n_features: usize,
    pub(crate) n_rows: usize,
    squared_norms: Vec<f64>,
    diagonal: Vec<f64>,
    /// Row length of the two below: `n_rows`, rounded up to whole chunks.
    padded: usize,
    /// `√k11` of each layer but the last, depth x padded. Not used by erf.
    scale: Vec<f64>,
    /// ReLU `1/√k11` (0 where `k11` is), erf `1/√(1 + 2 k11)`; depth x padded.
    inverse: Vec<f64>,
    /// The product of two samples' values is the `1 − cos²` under which a single-precision product has lost the angle.
    pub(crate) parallel: Vec<f64>,
    /// `K(x, r) − K(r, r)/2` of each sample, padded, where the kernel is relative to a reference `r`; else empty.
    pub(crate) offset: Vec<f64>,
    /// Whether single precision can hold the products of these rows.
    pub(crate) single_precision: bool,
}

impl InfiniteKernel {
    /// Prepares a block of samples. `x`: n_rows x n_features, row-major, borrowed or kept.
    ///
    /// Cost: one multiply-add a value.
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

    /// Prepares the samples of another kernel's block, which both then hold.
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

    /// The values less those of the reference: `K(x, x') − K(x, r) − K(r, x') + K(r, r)`.
    fn take_off(&mut self, kernel: &InfiniteKernel, reference: &[f64]) -> Result<(), KernelError> {
        let r: Vec<T> = reference.iter().map(|&v| T::round(v)).collect();
        let r = RowBlock::plain(kernel, Arc::new(Cow::Owned(r)), self.n_features)?;
        let own = r.diagonal[0];
        self.offset = vec![0.0; self.padded];
        for row in 0..self.n_rows {
            self.offset[row] = kernel.entry(self, row, &r, 0) - 0.5 * own;
            self.diagonal[row] -= 2.0 * self.offset[row];
        }
        // Single precision has lost what is left.
        self.single_precision = false;
        Ok(())
    }

    /// Without regard to a reference.
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

    /// The kernel of each sample with itself, from its closed form, less a reference's part; `n_rows` long.
    pub fn diagonal(&self) -> &[f64] {
        &self.diagonal
    }

    pub(crate) fn row(&self, row: usize) -> &[T] {
        &self.x[row * self.n_features..][..self.n_features]
    }

    /// Factors of `W` samples from `start` at a layer: `(scale, inverse)`.
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

    /// Factors of the samples from `start` on at a layer, padding included: `(scale, inverse)`.
    #[inline(always)]
    pub(crate) fn factors_from(&self, layer: usize, start: usize) -> (&[f64], &[f64]) {
        let at = layer * self.padded + start;
        let end = (layer + 1) * self.padded;
        (&self.scale[at..end], &self.inverse[at..end])
    }
}

/// `x·x` of the sample in `row`, unless a feature or that is not finite.
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

/// `a·b` in double precision, in an order that depends on the length alone.
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
