//! Nearly parallel samples, whose angle a single-precision product has lost.

use super::part::Tile;
use super::sweep::load;
use crate::kernel::infinite::Activation;
use crate::kernel::row_block::{CHUNK, Feature};
use pulp::{Simd, WithSimd};

/// Share of nearly parallel pairs above which the whole product of a tile is computed in double precision.
const PARALLEL_SHARE: f64 = 0.02;

/// Lists the pairs whose angle single precision has lost. Returns false when there are too many; the list is then incomplete.
pub(super) struct FindParallel<'s, 't, 'a, T: Feature> {
    pub(super) tile: &'s Tile<'t, 'a, T>,
    pub(super) gram: &'s [f32],
    pub(super) found: &'s mut Vec<(u32, u32)>,
}

impl<T: Feature> WithSimd for FindParallel<'_, '_, '_, T> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let Tile {
            kernel,
            rows,
            cols,
            diagonal,
            stride,
        } = *self.tile;
        if kernel.depth() == 0 {
            return true;
        }
        let n_pairs = rows.n_rows * cols.n_rows / if diagonal { 2 } else { 1 };
        let most = (PARALLEL_SHARE * n_pairs as f64) as usize;
        let first = kernel.weight_variance() / rows.n_features as f64;
        let bias = kernel.bias_variance();
        for row in 0..rows.n_rows {
            let n_cols = self.tile.n_cols(row);
            let (_, &[inverse]) = rows.factors::<1>(0, row);
            let inverse = match kernel.activation() {
                Activation::Relu => inverse,
                Activation::Erf => 2.0 * inverse,
            };
            let limit = rows.parallel[row];
            let line = &self.gram[row * stride..][..n_cols];
            for (chunk, part) in line.chunks(CHUNK).enumerate() {
                let col = chunk * CHUNK;
                let mut values = [0.0f64; CHUNK];
                load(part, &mut values);
                let (_, inverses) = cols.factors::<CHUNK>(0, col);
                let limits = &cols.parallel[col..col + CHUNK];
                // 1 − c² minus its limit.
                for j in 0..CHUNK {
                    let c = (first * values[j] + bias) * inverse * inverses[j];
                    values[j] = (1.0 - c * c) - limit * limits[j];
                }
                let mut near = 0u64;
                for value in values {
                    near += value.to_bits() >> 63;
                }
                if near == 0 {
                    continue;
                }
                for (j, value) in values[..part.len()].iter().enumerate() {
                    if *value < 0.0 {
                        self.found.push((row as u32, (col + j) as u32));
                    }
                }
                if self.found.len() > most {
                    return false;
                }
            }
        }
        true
    }
}

impl<T: Feature> Tile<'_, '_, T> {
    /// Computes the listed entries again, from double-precision products of their samples.
    pub(super) fn repair(&self, pairs: &[(u32, u32)], out: &mut [f32]) {
        for &(row, col) in pairs {
            let (row, col) = (row as usize, col as usize);
            out[row * self.stride + col] = self.kernel.entry(self.rows, row, self.cols, col) as f32;
        }
    }
}
