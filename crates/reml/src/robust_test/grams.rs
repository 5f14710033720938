//! Gram matrices of the robust law's columns, over groups of samples.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};

/// Places of the lower triangle, column by column.
pub(super) fn lower(width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..width).flat_map(move |j| (j..width).map(move |i| (i, j)))
}

/// Σ d² w w' over the samples of each group, w their rows of the matrices side by side, a column per group, each packed as [`lower`] goes.
///
/// Cost: s (columns)² multiplications.
pub(super) fn grams(parts: &[MatRef<'_, f64>], squares: &[f64], groups: &[Vec<usize>]) -> Mat<f64> {
    let width: usize = parts.iter().map(|part| part.ncols()).sum();
    let mut grams = Mat::zeros(width * (width + 1) / 2, groups.len());
    for (into, group) in grams.col_iter_mut().zip(groups) {
        let roots: Vec<f64> = group.iter().map(|&i| squares[i].sqrt()).collect();
        let mut x = Mat::<f64>::zeros(group.len(), width);
        let columns = parts.iter().flat_map(|part| part.col_iter());
        for (into, column) in x.col_iter_mut().zip(columns) {
            for ((into, &i), root) in into.iter_mut().zip(group).zip(&roots) {
                *into = root * column[i];
            }
        }
        let mut gram = Mat::<f64>::zeros(width, width);
        triangular::matmul(
            gram.as_mut(),
            BlockStructure::TriangularLower,
            Accum::Replace,
            x.transpose(),
            BlockStructure::Rectangular,
            &x,
            BlockStructure::Rectangular,
            1.0,
            Par::Seq,
        );
        for (into, (i, j)) in into.iter_mut().zip(lower(width)) {
            *into = gram[(i, j)];
        }
    }
    grams
}

/// Row by row, Σ aᵢⱼ bᵢⱼ.
pub(super) fn row_products(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Vec<f64> {
    let mut sums = vec![0.0; a.nrows()];
    for (a, b) in a.col_iter().zip(b.col_iter()) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += a[i] * b[i];
        }
    }
    sums
}
