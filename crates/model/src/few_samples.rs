//! The spectrum of a mask of few samples: its operator is surveyed by itself.
//!
//! The spectrum of all samples tells that of a mask up to what the choice of samples does to its moments, which falls with their number. On
//! few samples K[S,S] fits in memory, and probes and moments of its own cost no pass over the kernel.

use crate::block;
use crate::covariates::Covariates;
use crate::krylov::KrylovSpace;
use crate::measure::OperatorMeasure;
use crate::operator::{Kernel, MaskedOperator, Moments};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
use std::convert::Infallible;

/// Masks of at most so many samples are surveyed; beyond, that of all samples, compressed, is within 1.5e-3 at
/// p = 1e-50 (docs/decisions/0003).
pub const MOST_SAMPLES: usize = 1536;

/// Probes and passes of the survey.
const PROBES: usize = 64;
const PASSES: usize = 5;

/// Columns of K[S,S] X that one thread forms at a time.
const COLUMNS: usize = 16;

/// Columns of n f32 values at work, for n samples in all: K[S,S], the survey, and a panel of its moments.
pub(crate) fn working_columns(n: usize) -> usize {
    let s = n.min(MOST_SAMPLES);
    let columns = s + PROBES * (PASSES + 12);
    (s * columns).div_ceil(n.max(1))
}

/// K[S,S] in memory.
struct Submatrix {
    k: Mat<f32>,
    diagonal: Vec<f64>,
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

/// The spectrum of A = P K[S,S] P / n_S from a survey of S alone.
///
/// Cost: n_S² entries of the kernel, and 6 n_S³ flops where the spectrum is flat.
///
/// # Errors
/// When the kernel cannot be read.
pub fn measure_of<K: Kernel>(
    kernel: &K,
    operator: &MaskedOperator<'_>,
    seed: u64,
) -> Result<OperatorMeasure, K::Error> {
    let mask = operator.projection().mask();
    let observed: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    let n = observed.len();
    let own = Submatrix {
        k: kernel.submatrix(&observed)?,
        diagonal: observed.iter().map(|&i| kernel.diagonal()[i]).collect(),
    };
    let q = operator.projection().orthonormal();
    let on_observed = |j: usize| observed.iter().map(|&i| q[(i, j)]).collect();
    let columns: Vec<Vec<f64>> = (0..q.ncols()).map(on_observed).collect();
    let covariates = Covariates::new(n, &columns);
    let operator = MaskedOperator::new(&covariates, &vec![true; n]);
    let mut probes = KrylovSpace::new(&operator, PROBES, seed);
    let none = Mat::zeros(n, 0);
    for _ in 0..PASSES {
        let Some(next) = probes.next() else { break };
        let Ok((product, _)) = own.multiply(next.as_ref(), none.as_ref());
        probes.extend(&operator, product.as_ref());
    }
    let q = block::narrow(operator.projection().orthonormal().as_ref());
    let Ok((kq, squares)) = own.multiply(q.as_ref(), operator.indicator().as_ref());
    let moments = operator.moments(&own, kq.as_ref(), squares.col_as_slice(0));
    let measure = |moments| OperatorMeasure::new(operator.dof(), moments, &probes);
    let higher = match measure(moments).is_flat() {
        true => {
            let Ok(higher) = operator.higher_moments(&own, &moments);
            higher
        }
        false => None,
    };
    Ok(measure(Moments { higher, ..moments }))
}
