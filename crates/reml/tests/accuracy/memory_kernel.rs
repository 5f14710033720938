//! Features, and kernels of them held in memory.

use ntk::kernel::InfiniteKernel;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use reml::DenseKernel;

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
    let k = kernel.matrix(x, p).expect("finite features");
    DenseKernel::new(k.as_ref()).expect("a kernel matrix")
}
