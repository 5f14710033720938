//! The rows of a product with the kernel that are summed in double precision: those of samples far from all others.

use faer::{Mat, MatMut, MatRef};
use reml::far_samples::{add_row_product, far_samples};

/// The far samples of each row of tiles, by their row in it.
#[derive(Debug, Default)]
pub struct FarRows(Vec<Vec<usize>>);

impl FarRows {
    /// Those of a kernel of this diagonal, in tiles of a side.
    pub fn new(diagonal: &[f64], side: usize) -> Self {
        let mut rows = vec![Vec::new(); diagonal.len().div_ceil(side)];
        for sample in far_samples(diagonal) {
            rows[sample / side].push(sample % side);
        }
        Self(rows)
    }

    /// Those of a row of tiles.
    pub fn of(&self, row: usize) -> &[usize] {
        &self.0[row]
    }
}

/// Y ← Y + (K X)ᵢ for the `rows` i of a tile `k`, in double precision; `y` has a row for each of them.
pub fn add_rows(rows: &[usize], k: MatRef<'_, f32>, x: MatRef<'_, f32>, y: &mut Mat<f64>) {
    let mut of_row = vec![0.0; x.ncols()];
    for (at, &row) in rows.iter().enumerate() {
        let k: Vec<f32> = k.row(row).iter().copied().collect();
        for (j, value) in of_row.iter_mut().enumerate() {
            *value = y[(at, j)];
        }
        add_row_product(&k, x, &mut of_row);
        for (j, value) in of_row.iter().enumerate() {
            y[(at, j)] = *value;
        }
    }
}

/// Puts the sums of the `rows` into a product.
pub fn put(rows: &[usize], sums: &Mat<f64>, mut product: MatMut<'_, f32>) {
    for (at, &row) in rows.iter().enumerate() {
        for j in 0..product.ncols() {
            product[(row, j)] = sums[(at, j)] as f32;
        }
    }
}
