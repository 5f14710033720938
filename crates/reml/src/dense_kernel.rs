//! A kernel matrix held in memory.

use crate::far_samples::{add_row_product, far_samples};
use crate::linalg::kernel_matrix::KernelMatrix;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
use std::convert::Infallible;

/// Columns of K X that one thread forms at a time.
const COLUMNS: usize = 16;

/// Largest difference of two entries that should be equal, as a share of the largest entry.
const ASYMMETRY: f64 = 1e-6;

/// Why a matrix is no kernel matrix.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NotAKernel {
    /// It is not square.
    #[error("a kernel matrix is square, this one has {rows} rows and {columns} columns")]
    NotSquare {
        /// Rows.
        rows: usize,
        /// Columns.
        columns: usize,
    },
    /// An entry is not finite in single precision, in which the matrix is held.
    #[error(
        "entry ({row}, {column}) of the kernel matrix is {value}; scale the matrix or leave the sample out"
    )]
    NotFinite {
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
        /// The entry.
        value: f64,
    },
    /// Two entries differ that should be equal.
    #[error(
        "a kernel matrix is symmetric, entries ({row}, {column}) and ({column}, {row}) of this one are {value} and {mirrored}"
    )]
    NotSymmetric {
        /// Row of the entry below the diagonal.
        row: usize,
        /// Column of the entry below the diagonal.
        column: usize,
        /// The entry below the diagonal.
        value: f64,
        /// The entry above it.
        mirrored: f64,
    },
    /// A diagonal entry of a positive semidefinite matrix is not negative.
    #[error(
        "entry ({row}, {row}) of the kernel matrix is {value}; a positive semidefinite matrix has no negative diagonal"
    )]
    Negative {
        /// Row and column of the entry.
        row: usize,
        /// The entry.
        value: f64,
    },
}

/// A symmetric positive semidefinite matrix K in memory, n × n, in single precision; its diagonal in double precision.
///
/// ```
/// use faer::mat;
/// use reml::{DenseKernel, KernelMatrix};
///
/// let kernel = DenseKernel::new(mat![[2.0, 1.0], [1.0, 3.0]].as_ref())?;
/// let x = mat![[1.0_f32], [-1.0]];
/// let none = faer::Mat::zeros(2, 0);
/// let Ok((product, _)) = kernel.multiply(x.as_ref(), none.as_ref());
/// assert_eq!((product[(0, 0)], product[(1, 0)]), (1.0, -2.0));
/// # Ok::<(), reml::NotAKernel>(())
/// ```
#[derive(Clone, Debug)]
pub struct DenseKernel {
    k: Mat<f32>,
    diagonal: Vec<f64>,
    far: Vec<usize>,
}

impl DenseKernel {
    /// Takes K, n × n; that it is positive semidefinite is not checked, which would be cubic in n.
    ///
    /// Cost: O(n²).
    ///
    /// # Errors
    /// Where K is not square, not finite, not symmetric to 1e-6 of its largest entry, or negative on its diagonal.
    pub fn new(k: MatRef<'_, f64>) -> Result<Self, NotAKernel> {
        let n = k.nrows();
        if k.ncols() != n {
            return Err(NotAKernel::NotSquare {
                rows: n,
                columns: k.ncols(),
            });
        }
        let mut largest = 0.0_f64;
        for column in 0..n {
            for row in 0..n {
                let value = k[(row, column)];
                if !(value as f32).is_finite() {
                    return Err(NotAKernel::NotFinite { row, column, value });
                }
                largest = largest.max(value.abs());
            }
        }
        for column in 0..n {
            let value = k[(column, column)];
            if value < 0.0 {
                return Err(NotAKernel::Negative { row: column, value });
            }
            for row in column + 1..n {
                let (value, mirrored) = (k[(row, column)], k[(column, row)]);
                if (value - mirrored).abs() > ASYMMETRY * largest {
                    return Err(NotAKernel::NotSymmetric {
                        row,
                        column,
                        value,
                        mirrored,
                    });
                }
            }
        }
        // What rounding leaves of a difference must not make K asymmetric.
        let narrow = Mat::from_fn(n, n, |i, j| k[(i.max(j), i.min(j))] as f32);
        Ok(Self::held(narrow, (0..n).map(|i| k[(i, i)]).collect()))
    }

    /// K on the given samples of another kernel matrix.
    ///
    /// # Errors
    /// When the other one cannot be read.
    pub fn of_samples<K: KernelMatrix>(kernel: &K, samples: &[usize]) -> Result<Self, K::Error> {
        let diagonal = samples.iter().map(|&i| kernel.diagonal()[i]).collect();
        Ok(Self::held(kernel.submatrix(samples)?, diagonal))
    }

    fn held(k: Mat<f32>, diagonal: Vec<f64>) -> Self {
        let far = far_samples(&diagonal);
        Self { k, diagonal, far }
    }

    /// K, n × n.
    pub fn matrix(&self) -> MatRef<'_, f32> {
        self.k.as_ref()
    }
}

impl KernelMatrix for DenseKernel {
    type Error = Infallible;

    fn n_samples(&self) -> usize {
        self.k.nrows()
    }

    fn diagonal(&self) -> &[f64] {
        &self.diagonal
    }

    fn multiply(
        &self,
        x: MatRef<'_, f32>,
        squared: MatRef<'_, f32>,
    ) -> Result<(Mat<f32>, Mat<f32>), Infallible> {
        let n = self.n_samples();
        let mut product = Mat::zeros(n, x.ncols());
        product
            .par_col_partition_mut(x.ncols().div_ceil(COLUMNS).max(1))
            .zip(x.par_col_partition(x.ncols().div_ceil(COLUMNS).max(1)))
            .for_each(|(product, x)| {
                matmul(product, Accum::Replace, &self.k, x, 1.0, Par::Seq);
            });
        for &i in &self.far {
            // K is symmetric: row i is column i.
            let mut row = vec![0.0; x.ncols()];
            add_row_product(self.k.col_as_slice(i), x, &mut row);
            for (j, value) in row.into_iter().enumerate() {
                product[(i, j)] = value as f32;
            }
        }
        let unit = self.unit();
        let squares = Mat::from_fn(n, squared.ncols(), |i, j| {
            let row = self.k.col_as_slice(i).iter();
            let terms = row
                .zip(squared.col(j).iter())
                .map(|(k, s)| (f64::from(*k) / unit).powi(2) * f64::from(*s));
            terms.sum::<f64>() as f32
        });
        Ok((product, squares))
    }

    fn submatrix(&self, samples: &[usize]) -> Result<Mat<f32>, Infallible> {
        let s = samples.len();
        Ok(Mat::from_fn(s, s, |i, j| self.k[(samples[i], samples[j])]))
    }

    fn columns(&self, samples: &[usize]) -> Result<Mat<f32>, Infallible> {
        Ok(Mat::from_fn(self.n_samples(), samples.len(), |i, j| {
            self.k[(i, samples[j])]
        }))
    }
}
