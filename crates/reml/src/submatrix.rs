//! The kernel of few samples, held in memory: what is asked of it costs no pass over the kernel of all.

use crate::operator::Kernel;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
use std::convert::Infallible;

/// Columns of K[S,S] X that one thread forms at a time.
const COLUMNS: usize = 16;

/// K[S,S].
#[derive(Debug)]
pub(crate) struct Submatrix {
    pub(crate) k: Mat<f32>,
    /// Its diagonal, without the rounding to single precision where that is known.
    pub(crate) diagonal: Vec<f64>,
}

impl Submatrix {
    /// That of the given samples.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub(crate) fn new<K: Kernel>(kernel: &K, samples: &[usize]) -> Result<Self, K::Error> {
        Ok(Self {
            k: kernel.submatrix(samples)?,
            diagonal: samples.iter().map(|&i| kernel.diagonal()[i]).collect(),
        })
    }
}

impl Kernel for Submatrix {
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
        let unit = self.unit();
        let squares = Mat::from_fn(n, squared.ncols(), |i, j| {
            // K is symmetric: row i is column i.
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
