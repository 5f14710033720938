//! A kernel relative to one sample: what all samples have in common is subtracted before values are rounded.

use super::error::KernelError;
use super::infinite::{Activation, InfiniteKernel};

/// The share of the trace that is not a constant; below this share, single precision cannot tell samples apart.
const LOST_IN_SINGLE: f64 = 0.15;

/// The share below which double precision cannot either: for smooth kernels, and for ReLU. For ReLU the angle matters, and a
/// cosine holds the angle only to 2e-8.
const LOST_IN_DOUBLE: [f64; 2] = [1e-9, 8e-7];

impl InfiniteKernel {
    /// Makes the kernel relative to the mean `r` of some samples (`x`: n × `n_features`, row-major), if it is nearly constant
    /// on them:
    ///
    /// ```text
    /// K(x, x') − K(x, r) − K(r, x') + K(r, r)
    /// ```
    ///
    /// This is the kernel of ψ(x) − ψ(r), where ψ(x)'ψ(x') = K(x, x'). If the covariates hold an intercept, the two kernels
    /// give the same operator P K P, because P 1 = 0. If moreover the dual weights sum to 0, predictions differ by a constant,
    /// which the intercept absorbs. Without an intercept they are different models.
    ///
    /// Returns other kernels unchanged. Cost: n² / 2 entries in double precision.
    ///
    /// # Errors
    /// When the kernel refuses the samples.
    pub fn centred_if_lost(self, x: &[f64], n_features: usize) -> Result<Self, KernelError> {
        let share = self.varying_share(x, n_features)?;
        let is_smooth = self.depth() == 0 || self.activation() == Activation::Erf;
        let lost = LOST_IN_DOUBLE[usize::from(!is_smooth)];
        Ok(match (lost..LOST_IN_SINGLE).contains(&share) {
            true => self.centred(x, n_features),
            false => self,
        })
    }

    /// Makes the kernel relative to the mean of some samples, see [`InfiniteKernel::centred_if_lost`].
    pub fn centred(mut self, x: &[f64], n_features: usize) -> Self {
        let n = (x.len() / n_features.max(1)) as f64;
        let mut mean = vec![0.0; n_features];
        for row in x.chunks_exact(n_features.max(1)) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n);
        }
        self.reference = Some(mean.into());
        self
    }

    /// Whether values are relative to a reference.
    pub fn is_centred(&self) -> bool {
        self.reference.is_some()
    }

    /// The share of the trace that is not a constant, on some samples: 1 − 1'K 1 / (n tr K).
    fn varying_share(&self, x: &[f64], n_features: usize) -> Result<f64, KernelError> {
        let block = self.row_block(x, n_features)?;
        let (n, diagonal) = (block.n_rows(), block.diagonal());
        let trace: f64 = diagonal.iter().sum();
        // Half the sum, over pairs, of the difference between the pair's entry and the mean of its two diagonal entries. Each
        // term is small where the share is.
        let mut lacking = 0.0;
        for i in 0..n {
            for j in 0..i {
                lacking += 0.5 * (diagonal[i] + diagonal[j]) - self.entry(&block, i, &block, j);
            }
        }
        Ok(2.0 * lacking / (n as f64 * trace))
    }
}

#[cfg(test)]
mod tests {
    use super::super::TileScratch;
    use super::*;

    /// n samples of p features about `mean` with deviations of `size`.
    fn samples(n: usize, p: usize, mean: f64, size: f64) -> Vec<f64> {
        let value = |i: usize| mean + size * ((i * i * 7 + i * 31) as f64 * 0.37).sin();
        (0..n * p).map(value).collect()
    }

    /// For nearly constant kernels, the tile relative to a reference keeps the differences between samples to single precision,
    /// and equals the kernel up to a constant.
    #[test]
    fn what_is_left_beside_a_constant_is_kept_to_single_precision() {
        let (n, p) = (60, 8);
        let of = |activation, depth, w, b| InfiniteKernel::new(activation, depth, w, b);
        let cases = [
            (of(Activation::Relu, 0, 2.0, 0.0), samples(n, p, 1e4, 1.0)),
            (of(Activation::Relu, 2, 2.0, 0.0), samples(n, p, 1e3, 1.0)),
            (of(Activation::Relu, 2, 2.0, 1.0), samples(n, p, 0.0, 1e-3)),
            (of(Activation::Erf, 16, 0.9, 0.5), samples(n, p, 0.0, 1.0)),
        ];
        for (kernel, x) in cases {
            let kernel = kernel.expect("valid");
            let share = kernel.varying_share(&x, p).expect("share");
            assert!(share < LOST_IN_SINGLE && share > 1e-9, "{share}");
            let centred = kernel.clone().centred_if_lost(&x, p).expect("finite");
            assert!(centred.is_centred());
            let block = centred.row_block(&x[..], p).expect("finite");
            let mut tile = vec![0.0f32; n * n];
            let mut scratch = TileScratch::default();
            centred.tile(&block, &block, true, &mut tile, n, &mut scratch);
            let plain = kernel.row_block(&x[..], p).expect("finite");
            let k = |i: usize, j: usize| match i == j {
                true => plain.diagonal()[i],
                false => kernel.entry(&plain, i.max(j), &plain, i.min(j)),
            };
            // Double-centred, entry by entry.
            let off = |value: &dyn Fn(usize, usize) -> f64| {
                let row = |i: usize| (0..n).map(|j| value(i, j)).sum::<f64>() / n as f64;
                let rows: Vec<f64> = (0..n).map(row).collect();
                let all = rows.iter().sum::<f64>() / n as f64;
                let entry = |at: usize| value(at / n, at % n) - rows[at / n] - rows[at % n] + all;
                (0..n * n).map(entry).collect::<Vec<f64>>()
            };
            let expected = off(&k);
            let found = off(&|i, j| f64::from(tile[i * n + j]));
            let size = (0..n).map(|i| expected[i * n + i]).sum::<f64>() / n as f64;
            let worst = expected.iter().zip(&found).map(|(e, f)| (e - f).abs());
            let worst = worst.fold(0.0, f64::max) / size;
            assert!(worst < 2e-6, "{kernel:?}: {worst:.1e} at {share:.1e}");
        }
    }

    #[test]
    fn a_kernel_with_enough_beside_a_constant_stays_as_it_is() {
        let kernel = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).expect("valid");
        let kernel = kernel.centred_if_lost(&samples(60, 8, 0.0, 1.0), 8);
        assert!(!kernel.expect("finite").is_centred());
        // If all samples are the same, there is nothing to keep.
        let kernel = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).expect("valid");
        let kernel = kernel.centred_if_lost(&[1.0; 80], 8);
        assert!(!kernel.expect("finite").is_centred());
    }
}
