//! The elementwise sweep: turns products of the features into kernel values.

use super::part::Tile;
use super::recursion::Recursion;
use crate::kernel::row_block::{CHUNK, Feature};
use pulp::{Simd, WithSimd};

/// Turns the products in a tile into kernel values.
pub(super) struct SweepInPlace<'s, 't, 'a, T: Feature> {
    pub(super) tile: &'s Tile<'t, 'a, T>,
    pub(super) out: &'s mut [f32],
}

impl<T: Feature> WithSimd for SweepInPlace<'_, '_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Tile {
            kernel, rows, cols, ..
        } = *self.tile;
        let recursion = Recursion::new(simd, kernel, rows.n_features);
        for row in 0..rows.n_rows {
            let n_cols = self.tile.n_cols(row);
            let line = &mut self.out[row * self.tile.stride..][..n_cols];
            for (chunk, part) in line.chunks_mut(CHUNK).enumerate() {
                let mut values = [0.0f64; CHUNK];
                load(part, &mut values);
                recursion.chunk(rows, row, cols, chunk * CHUNK, &mut values);
                store(&values, part);
            }
        }
    }
}

/// Turns a block of double-precision products into a block of a tile.
pub(super) struct SweepBlock<'s, 't, 'a, T: Feature> {
    pub(super) tile: &'s Tile<'t, 'a, T>,
    pub(super) gram: &'s [f64],
    pub(super) row: usize,
    pub(super) col: usize,
    pub(super) n_rows: usize,
    pub(super) n_cols: usize,
    pub(super) out: &'s mut [f32],
}

impl<T: Feature> WithSimd for SweepBlock<'_, '_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Tile {
            kernel, rows, cols, ..
        } = *self.tile;
        let recursion = Recursion::new(simd, kernel, rows.n_features);
        for i in 0..self.n_rows {
            let row = self.row + i;
            let n_cols = self
                .tile
                .n_cols(row)
                .saturating_sub(self.col)
                .min(self.n_cols);
            let gram = &self.gram[i * self.n_cols..][..n_cols];
            let line = &mut self.out[row * self.tile.stride + self.col..][..n_cols];
            for (chunk, (part, gram)) in line.chunks_mut(CHUNK).zip(gram.chunks(CHUNK)).enumerate()
            {
                let mut values = [0.0f64; CHUNK];
                values[..gram.len()].copy_from_slice(gram);
                let col = self.col + chunk * CHUNK;
                recursion.chunk(rows, row, cols, col, &mut values);
                if kernel.reference.is_some() {
                    let offset = rows.offset[row];
                    let of_cols = cols.offset[col..col + CHUNK].iter();
                    values
                        .iter_mut()
                        .zip(of_cols)
                        .for_each(|(value, of_col)| *value -= offset + of_col);
                }
                store(&values, part);
            }
        }
    }
}

#[inline(always)]
pub(super) fn load(part: &[f32], values: &mut [f64; CHUNK]) {
    if let Ok(full) = <&[f32; CHUNK]>::try_from(part) {
        for j in 0..CHUNK {
            values[j] = f64::from(full[j]);
        }
    } else {
        for (value, &single) in values.iter_mut().zip(part) {
            *value = f64::from(single);
        }
    }
}

#[inline(always)]
fn store(values: &[f64; CHUNK], part: &mut [f32]) {
    if let Ok(full) = <&mut [f32; CHUNK]>::try_from(&mut *part) {
        for j in 0..CHUNK {
            full[j] = values[j] as f32;
        }
    } else {
        for (single, &value) in part.iter_mut().zip(values) {
            *single = value as f32;
        }
    }
}
