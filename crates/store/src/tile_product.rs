//! What one tile of a kernel adds to a product with it.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par, unzip, zip};
use rayon::prelude::*;

use crate::far_rows;

/// Fewest columns of a product: a single column would take another path through the matrix product, with other bits.
const MIN_COLUMNS: usize = 4;

/// Rows of a tile that are multiplied at a time. The first triangle reads them from memory, the second from cache.
pub const PANEL_ROWS: usize = 96;

/// Cuts a block of vectors into the rows of each tile, with at least [`MIN_COLUMNS`] columns.
pub fn cut(x: MatRef<'_, f32>, side: usize, tile: usize) -> Vec<Mat<f32>> {
    let columns = if x.ncols() == 0 {
        0
    } else {
        x.ncols().max(MIN_COLUMNS)
    };
    (0..side)
        .into_par_iter()
        .map(|i| {
            let rows = tile.min(x.nrows() - i * tile);
            let mut part = Mat::zeros(rows, columns);
            part.subcols_mut(0, x.ncols())
                .copy_from(x.subrows(i * tile, rows));
            part
        })
        .collect()
}

/// The rows of tiles one below the other: the first `columns` of n rows.
pub fn join(parts: &[Mat<f32>], n: usize, columns: usize) -> Mat<f32> {
    let mut whole = Mat::zeros(n, columns);
    let mut start = 0;
    for part in parts {
        whole
            .subrows_mut(start, part.nrows())
            .copy_from(part.subcols(0, columns));
        start += part.nrows();
    }
    whole
}

/// Vectors on the samples of one row of tiles, for K and for K∘K: the factors of the products, or their sums so far.
pub struct Columns {
    pub plain: Mat<f32>,
    pub squared: Mat<f32>,
    /// Of a sum: the far rows, and their sums for K in double precision.
    pub far_rows: Vec<usize>,
    pub far: Mat<f64>,
}

/// Y ← Y + K X.
fn add_product(y: MatMut<'_, f32>, k: MatRef<'_, f32>, x: MatRef<'_, f32>) {
    matmul(y, Accum::Add, k, x, 1.0, Par::Seq);
}

/// What the product of a tile is added to, and what the tile is multiplied with.
pub type Contribution<'s, C> = Option<(&'s mut C, &'s C)>;

/// The contributions to K X and to (K∘K) S; none for a product without columns.
fn split(contribution: Contribution<'_, Columns>) -> [Contribution<'_, Mat<f32>>; 2] {
    let Some((sum, of)) = contribution else {
        return [None, None];
    };
    let contributions = [(&mut sum.plain, &of.plain), (&mut sum.squared, &of.squared)];
    contributions.map(|(sum, of)| (of.ncols() > 0).then_some((sum, of)))
}

/// Adds the contribution of some rows of a tile, from `start` on, to a product: on these rows and on the columns of the tile.
fn add_rows(
    rows: MatRef<'_, f32>,
    start: usize,
    low: &mut Contribution<'_, Mat<f32>>,
    high: &mut Contribution<'_, Mat<f32>>,
) {
    let n_rows = rows.nrows();
    if let Some((sum, x)) = low {
        add_product(sum.subrows_mut(start, n_rows), rows, x.as_ref());
    }
    if let Some((sum, x)) = high {
        add_product(sum.as_mut(), rows.transpose(), x.subrows(start, n_rows));
    }
}

/// Adds a tile's contribution to K X and, for `scale` s, to (s K ∘ s K) S: on its rows (`low`), on its columns (`high`), or on
/// both.
pub fn add_tile(
    k: MatRef<'_, f32>,
    scale: f32,
    mut low: Contribution<'_, Columns>,
    mut high: Contribution<'_, Columns>,
) {
    if let Some((sum, of)) = &mut low {
        far_rows::add_rows(&sum.far_rows, k, of.plain.as_ref(), &mut sum.far);
    }
    if let Some((sum, of)) = &mut high {
        let k = k.transpose();
        far_rows::add_rows(&sum.far_rows, k, of.plain.as_ref(), &mut sum.far);
    }
    let [[mut low, mut low_squared], [mut high, mut high_squared]] = [low, high].map(split);
    for start in (0..k.nrows()).step_by(PANEL_ROWS) {
        let rows = k.subrows(start, PANEL_ROWS.min(k.nrows() - start));
        add_rows(rows, start, &mut low, &mut high);
        if low_squared.is_some() || high_squared.is_some() {
            let mut squares = Mat::zeros(rows.ncols(), rows.nrows());
            zip!(&mut squares, rows.transpose())
                .for_each(|unzip!(square, value)| *square = (scale * value) * (scale * value));
            add_rows(
                squares.transpose(),
                start,
                &mut low_squared,
                &mut high_squared,
            );
        }
    }
}
