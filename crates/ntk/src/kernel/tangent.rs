//! The tangent kernel of a network: of infinite width, or of a given network.

use super::error::KernelError;
use super::finite::{FactorBlock, FiniteKernel};
use super::infinite::InfiniteKernel;
use super::row_block::{Feature, RowBlock};
use super::tile::{self, TilePart, TileScratch};
use std::borrow::Cow;

/// The tangent kernel of a network.
///
/// # Examples
///
/// ```
/// use ntk::kernel::{Activation, InfiniteKernel, TangentKernel, TileScratch};
///
/// // Depth 0 is the linear kernel w x·x'/p + b.
/// let kernel = TangentKernel::Infinite(InfiniteKernel::new(Activation::Relu, 0, 1.0, 0.5)?);
/// let (rows, cols) = (kernel.block::<f32>(vec![1.0, 2.0], 2)?, kernel.block(vec![3.0, 5.0], 2)?);
/// let mut tile = [0.0f32; 1];
/// kernel.tile(&rows, &cols, false, &mut tile, 1, &mut TileScratch::default());
/// assert_eq!(tile, [13.0 / 2.0 + 0.5]);
/// # Ok::<(), ntk::kernel::KernelError>(())
/// ```
// A run holds only a handful of them.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq)]
pub enum TangentKernel {
    /// Of the infinitely wide network, in closed form.
    Infinite(InfiniteKernel),
    /// Of a given network.
    Finite(FiniteKernel),
}

/// A block of samples prepared for one [`TangentKernel`].
#[derive(Debug, Clone)]
pub enum SampleBlock<'a, T: Feature> {
    /// For the closed form.
    Infinite(RowBlock<'a, T>),
    /// For a given network.
    Finite(FactorBlock),
}

impl<T: Feature> SampleBlock<'_, T> {
    /// Number of samples.
    pub fn n_rows(&self) -> usize {
        match self {
            Self::Infinite(block) => block.n_rows(),
            Self::Finite(block) => block.n_rows(),
        }
    }

    /// The kernel of each sample with itself, in double precision.
    pub fn diagonal(&self) -> &[f64] {
        match self {
            Self::Infinite(block) => block.diagonal(),
            Self::Finite(block) => block.diagonal(),
        }
    }
}

impl TangentKernel {
    /// Prepares a block of samples. `x`: n_rows × n_features, row-major, borrowed or owned.
    ///
    /// # Errors
    /// When the kernel refuses the samples; see [`InfiniteKernel::row_block`] and [`FiniteKernel::row_block`].
    pub fn block<'a, T: Feature>(
        &self,
        x: impl Into<Cow<'a, [T]>>,
        n_features: usize,
    ) -> Result<SampleBlock<'a, T>, KernelError> {
        Ok(match self {
            Self::Infinite(kernel) => SampleBlock::Infinite(kernel.row_block(x, n_features)?),
            Self::Finite(kernel) => SampleBlock::Finite(kernel.row_block(&x.into(), n_features)?),
        })
    }

    /// Prepares the same samples for several kernels; kernels of infinite width share them.
    ///
    /// # Errors
    /// When a kernel refuses the samples.
    pub fn blocks<'a, T: Feature>(
        kernels: &[Self],
        x: impl Into<Cow<'a, [T]>>,
        n_features: usize,
    ) -> Result<Vec<SampleBlock<'a, T>>, KernelError> {
        let [first, others @ ..] = kernels else {
            return Ok(Vec::new());
        };
        let mut blocks = vec![first.block(x, n_features)?];
        for kernel in others {
            let block = match (kernel, &blocks[0]) {
                (Self::Infinite(kernel), SampleBlock::Infinite(first)) => {
                    SampleBlock::Infinite(kernel.block_beside(first)?)
                }
                _ => panic!("{FAMILY}"),
            };
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// Makes the kernel relative to the mean of some samples if it is nearly constant on them, see
    /// [`InfiniteKernel::centred_if_lost`]. A kernel of finite width stays as it is.
    ///
    /// # Errors
    /// When the kernel refuses the samples.
    pub fn centred_if_lost(self, x: &[f64], n_features: usize) -> Result<Self, KernelError> {
        Ok(match self {
            Self::Infinite(kernel) => Self::Infinite(kernel.centred_if_lost(x, n_features)?),
            finite => finite,
        })
    }

    /// Makes the kernel relative to the mean of some samples. A kernel of finite width stays as it is.
    pub fn centred(self, x: &[f64], n_features: usize) -> Self {
        match self {
            Self::Infinite(kernel) => Self::Infinite(kernel.centred(x, n_features)),
            finite => finite,
        }
    }

    /// Whether values are relative to a reference.
    pub fn is_centred(&self) -> bool {
        matches!(self, Self::Infinite(kernel) if kernel.is_centred())
    }

    /// Bytes that a block keeps per sample.
    pub fn bytes_per_sample<T: Feature>(&self, n_features: usize) -> usize {
        match self {
            Self::Infinite(_) => n_features * size_of::<T>(),
            Self::Finite(kernel) => kernel.bytes_per_sample(),
        }
    }

    /// Computes a tile of the kernel, Θ(rows, cols), on the calling thread; see [`InfiniteKernel::tile`] and [`FiniteKernel::tile`].
    ///
    /// # Panics
    /// Those of these methods; and when the blocks are another kernel's.
    pub fn tile<T: Feature>(
        &self,
        rows: &SampleBlock<'_, T>,
        cols: &SampleBlock<'_, T>,
        diagonal: bool,
        out: &mut [f32],
        out_stride: usize,
        scratch: &mut TileScratch,
    ) {
        match (self, rows, cols) {
            (Self::Infinite(kernel), SampleBlock::Infinite(rows), SampleBlock::Infinite(cols)) => {
                kernel.tile(rows, cols, diagonal, out, out_stride, scratch);
            }
            (Self::Finite(kernel), SampleBlock::Finite(rows), SampleBlock::Finite(cols)) => {
                kernel.tile(rows, cols, diagonal, out, out_stride);
            }
            _ => panic!("blocks of this kernel"),
        }
    }

    /// Computes the same tile of several kernels of infinite width from one product of the features, or a tile of one kernel of
    /// any width. The bits are those of [`TangentKernel::tile`].
    ///
    /// # Panics
    /// Those of [`TangentKernel::tile`]; and when there are several kernels and one is of finite width.
    pub fn tiles<T: Feature>(
        kernels: &[Self],
        rows: &[SampleBlock<'_, T>],
        cols: &[SampleBlock<'_, T>],
        diagonal: bool,
        outs: &mut [Vec<f32>],
        out_stride: usize,
        scratch: &mut TileScratch,
    ) {
        if let ([kernel], [rows], [cols], [out]) = (kernels, rows, cols, &mut *outs) {
            return kernel.tile(rows, cols, diagonal, out, out_stride, scratch);
        }
        let each = kernels.iter().zip(rows.iter().zip(cols)).zip(outs);
        let mut parts: Vec<TilePart<'_, '_, T>> = each
            .map(|((kernel, blocks), out)| match (kernel, blocks) {
                (
                    Self::Infinite(kernel),
                    (SampleBlock::Infinite(rows), SampleBlock::Infinite(cols)),
                ) => TilePart {
                    kernel,
                    rows,
                    cols,
                    out,
                },
                _ => panic!("{FAMILY}"),
            })
            .collect();
        tile::tiles(&mut parts, diagonal, out_stride, scratch);
    }
}

/// The message when one of several kernels is of finite width.
const FAMILY: &str = "kernels made together are of infinite width";
