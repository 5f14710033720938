//! A kernel held in memory, and features to make one of.

use faer::{Mat, MatRef};
use ntk::kernel::{InfiniteKernel, TileScratch};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use reml::operator::Kernel;
use std::convert::Infallible;

/// A kernel held in memory; products in f32 over runs of 64 rows, added in f64, a column at a time.
pub struct DenseKernel {
    pub k: Mat<f32>,
    diagonal: Vec<f64>,
}

impl DenseKernel {
    pub fn new(k: Mat<f32>) -> Self {
        let diagonal = (0..k.nrows()).map(|i| f64::from(k[(i, i)])).collect();
        Self { k, diagonal }
    }

    fn product(&self, x: MatRef<'_, f32>, entry: impl Fn(f32) -> f32 + Sync) -> Mat<f32> {
        const RUN: usize = 64;
        let n = self.k.nrows();
        let columns: Vec<Vec<f32>> = (0..x.ncols())
            .into_par_iter()
            .map(|j| {
                let mut sum = vec![0.0_f64; n];
                for start in (0..n).step_by(RUN) {
                    let mut part = vec![0.0_f32; n];
                    for i in start..n.min(start + RUN) {
                        let scale = x[(i, j)];
                        for (p, k) in part.iter_mut().zip(self.k.col_as_slice(i)) {
                            *p += entry(*k) * scale;
                        }
                    }
                    for (s, p) in sum.iter_mut().zip(part) {
                        *s += f64::from(p);
                    }
                }
                sum.iter().map(|s| *s as f32).collect()
            })
            .collect();
        Mat::from_fn(n, x.ncols(), |i, j| columns[j][i])
    }
}

impl Kernel for DenseKernel {
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
        let unit = self.unit() as f32;
        let square = |k: f32| (k / unit).powi(2);
        Ok((self.product(x, |k| k), self.product(squared, square)))
    }

    fn submatrix(&self, samples: &[usize]) -> Result<Mat<f32>, Infallible> {
        let s = samples.len();
        Ok(Mat::from_fn(s, s, |i, j| self.k[(samples[i], samples[j])]))
    }

    fn columns(&self, samples: &[usize]) -> Result<Mat<f32>, Infallible> {
        let shape = (self.n_samples(), samples.len());
        Ok(Mat::from_fn(shape.0, shape.1, |i, j| {
            self.k[(i, samples[j])]
        }))
    }
}

pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// n × p features with a few common factors, row-major.
pub fn features(rng: &mut ChaCha8Rng, n: usize, p: usize) -> Vec<f32> {
    let factors = 3.min(p);
    let loadings: Vec<f64> = (0..factors * p).map(|_| 0.5 * normal(rng)).collect();
    let mut x = Vec::with_capacity(n * p);
    for _ in 0..n {
        let scores: Vec<f64> = (0..factors).map(|_| normal(rng)).collect();
        for j in 0..p {
            let common: f64 = (0..factors).map(|f| scores[f] * loadings[f * p + j]).sum();
            x.push((common + normal(rng)) as f32);
        }
    }
    x
}

pub fn kernel_of(kernel: &InfiniteKernel, x: &[f32], p: usize) -> DenseKernel {
    let block = kernel.row_block(x, p).expect("finite features");
    let n = block.n_rows();
    let mut k = vec![0.0_f32; n * n];
    kernel.tile(&block, &block, true, &mut k, n, &mut TileScratch::default());
    DenseKernel::new(Mat::from_fn(n, n, |i, j| k[i * n + j]))
}
