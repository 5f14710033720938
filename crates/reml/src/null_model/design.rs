//! The covariates of an outcome's samples as maximum likelihood wants them: centred, in units of their spread, and independent.

use crate::linalg::covariates::RANK_TOLERANCE;
use crate::linalg::power_of_two::power_of_two;
use crate::null_model::model::{InvalidCovariates, Term};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

/// Rows weighted at a time.
const ROWS: usize = 512;

/// Relative size of what is left of a column beside those before it, squared, above which columns serve as they are; else they are made orthogonal.
const APART: f64 = 1e-4;

/// X with Z₁ T = X on the samples, Z₁ = [1, Z]: m × width.
pub(super) struct Design {
    /// X, a sample after the other.
    rows: Vec<f64>,
    n_rows: usize,
    width: usize,
    /// T, (1 + q) × width.
    transform: Mat<f64>,
    /// Which covariates enter.
    is_kept: Vec<bool>,
}

/// A column beside those that entered before it.
struct Column {
    values: Vec<f64>,
    /// Its column of T.
    transform: Vec<f64>,
}

/// Checks that the covariates are of `n` samples and finite.
pub(super) fn check(covariates: MatRef<'_, f64>, n: usize) -> Result<(), InvalidCovariates> {
    if covariates.nrows() != n {
        return Err(InvalidCovariates::Samples {
            covariates: covariates.nrows(),
            outcome: n,
        });
    }
    for covariate in 0..covariates.ncols() {
        let is_finite = |&i: &usize| covariates[(i, covariate)].is_finite();
        if let Some(sample) = (0..n).find(|i| !is_finite(i)) {
            return Err(InvalidCovariates::NotFinite { covariate, sample });
        }
    }
    Ok(())
}

impl Design {
    /// The design of some `samples` (places of rows), with an intercept before the covariates or without. A covariate that those before it determine on these
    /// samples, or that does not vary, is left out: first come, first kept. Whether one does is decided as for `Covariates`, units apart.
    ///
    /// Cost: O(m q²).
    pub(super) fn new(covariates: MatRef<'_, f64>, samples: &[usize], intercept: bool) -> Self {
        let q = covariates.ncols();
        let mut columns = Vec::new();
        let mut kept = Vec::new();
        if intercept {
            let mut transform = vec![0.0; 1 + q];
            transform[0] = 1.0;
            columns.push(Column {
                values: vec![1.0; samples.len()],
                transform,
            });
        }
        for j in 0..q {
            let values = samples.iter().map(|&i| covariates[(i, j)]);
            if let Some(column) = standardised(values.collect(), j, q) {
                columns.push(column);
                kept.push(j);
            }
        }
        let mut design = Self::of(columns, samples.len(), (q, &kept));
        if !design.is_apart() {
            design = design.orthogonal(intercept);
        }
        design
    }

    fn of(columns: Vec<Column>, n_rows: usize, (q, kept): (usize, &[usize])) -> Self {
        let width = columns.len();
        let mut rows = vec![0.0; n_rows * width];
        for (k, column) in columns.iter().enumerate() {
            for (i, value) in column.values.iter().enumerate() {
                rows[i * width + k] = *value;
            }
        }
        let mut is_kept = vec![false; q];
        kept.iter().for_each(|&j| is_kept[j] = true);
        Self {
            rows,
            n_rows,
            width,
            transform: Mat::from_fn(1 + q, width, |i, k| columns[k].transform[i]),
            is_kept,
        }
    }

    /// Whether every column has something that those before it lack, by the pivots of X'X.
    fn is_apart(&self) -> bool {
        let n = self.n_rows as f64;
        let gram = self.gram(|_| 1.0);
        let factor = gram.llt(faer::Side::Lower);
        factor.is_ok_and(|factor| (0..self.width).all(|k| factor.L()[(k, k)].powi(2) > APART * n))
    }

    /// The same span from orthogonal columns of mean square 1, without those that the ones before determine (Gram and Schmidt, twice).
    fn orthogonal(&self, intercept: bool) -> Self {
        let q = self.is_kept.len();
        let given = (0..q).filter(|&j| self.is_kept[j]);
        let given: Vec<Option<usize>> = intercept
            .then_some(None)
            .into_iter()
            .chain(given.map(Some))
            .collect();
        let n = self.n_rows as f64;
        let mut columns: Vec<Column> = Vec::new();
        let mut kept = Vec::new();
        for (k, place) in given.into_iter().enumerate() {
            let mut column = Column {
                values: (0..self.n_rows).map(|i| self.row(i)[k]).collect(),
                transform: (0..=q).map(|i| self.transform[(i, k)]).collect(),
            };
            for _ in 0..2 {
                for before in &columns {
                    let pairs = before.values.iter().zip(&column.values);
                    let along = pairs.map(|(a, b)| a * b).sum::<f64>() / n;
                    column.subtract(before, along);
                }
            }
            let squares = column.values.iter().map(|x| x * x);
            let left = (squares.sum::<f64>() / n).sqrt();
            if left > RANK_TOLERANCE {
                column.values.iter_mut().for_each(|x| *x /= left);
                column.transform.iter_mut().for_each(|x| *x /= left);
                columns.push(column);
                kept.extend(place);
            }
        }
        Self::of(columns, self.n_rows, (q, &kept))
    }

    /// The design without some of its columns.
    pub(super) fn of_columns(&self, is_kept: &[bool]) -> Self {
        let places: Vec<usize> = (0..self.width).filter(|&k| is_kept[k]).collect();
        let rows = (0..self.n_rows).flat_map(|i| places.iter().map(move |&k| self.row(i)[k]));
        let transform = |i: usize, k: usize| self.transform[(i, places[k])];
        let transform = Mat::from_fn(self.transform.nrows(), places.len(), transform);
        // A covariate enters as long as a column is its own: the last that holds it.
        let enters = |j: usize| {
            let own =
                |k: usize| (j + 2..self.transform.nrows()).all(|i| self.transform[(i, k)] == 0.0);
            places
                .iter()
                .any(|&k| self.transform[(j + 1, k)] != 0.0 && own(k))
        };
        Self {
            rows: rows.collect(),
            n_rows: self.n_rows,
            width: places.len(),
            is_kept: (0..self.is_kept.len()).map(enters).collect(),
            transform,
        }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The row of a sample, by its place among the design's.
    pub(super) fn row(&self, i: usize) -> &[f64] {
        &self.rows[i * self.width..(i + 1) * self.width]
    }

    /// X b.
    pub(super) fn predictor(&self, b: &[f64]) -> Vec<f64> {
        let dot = |row: &[f64]| row.iter().zip(b).map(|(x, b)| x * b).sum();
        match self.width {
            0 => vec![0.0; self.n_rows],
            width => self.rows.chunks_exact(width).map(dot).collect(),
        }
    }

    /// X'y.
    pub(super) fn transposed(&self, y: &[f64]) -> Mat<f64> {
        let mut sums = vec![0.0; self.width];
        for (row, y) in self.rows.chunks_exact(self.width.max(1)).zip(y) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * y);
        }
        Mat::from_fn(self.width, 1, |k, _| sums[k])
    }

    /// X' diag(weight) X.
    pub(super) fn gram(&self, weight: impl Fn(usize) -> f64) -> Mat<f64> {
        let width = self.width;
        let mut gram = Mat::zeros(width, width);
        let mut weighted = Vec::with_capacity(ROWS * width);
        for (chunk, rows) in self.rows.chunks(ROWS * width.max(1)).enumerate() {
            weighted.clear();
            for (i, row) in rows.chunks_exact(width).enumerate() {
                let weight = weight(chunk * ROWS + i);
                weighted.extend(row.iter().map(|x| weight * x));
            }
            let of = |values| MatRef::from_row_major_slice(values, rows.len() / width, width);
            let (rows, weighted) = (of(rows), of(&weighted[..]));
            let rows = rows.transpose();
            matmul(&mut gram, Accum::Add, rows, weighted, 1.0, Par::Seq);
        }
        gram
    }

    /// Coefficients of [1, Z] from those of X: T b.
    pub(super) fn coefficients(&self, b: &[f64]) -> Vec<f64> {
        let row = |i| (0..self.width).map(|k| self.transform[(i, k)] * b[k]).sum();
        (0..self.transform.nrows()).map(row).collect()
    }

    /// The terms of [1, Z] from coefficients of X and their covariance, beside the direction of separation.
    pub(super) fn terms(&self, b: &[f64], covariance: &Mat<f64>, direction: &[f64]) -> Vec<Term> {
        let spread = &self.transform * covariance * self.transform.transpose();
        let coefficients = self.coefficients(b);
        let term = |(i, coefficient): (usize, f64)| Term {
            coefficient,
            standard_error: (i == 0 || self.is_kept[i - 1]).then(|| spread[(i, i)].sqrt()),
            direction: direction[i],
        };
        coefficients.into_iter().enumerate().map(term).collect()
    }
}

impl Column {
    fn subtract(&mut self, other: &Self, share: f64) {
        let values = self.values.iter_mut().zip(&other.values);
        values.for_each(|(x, other)| *x -= share * other);
        let transform = self.transform.iter_mut().zip(&other.transform);
        transform.for_each(|(x, other)| *x -= share * other);
    }
}

/// Covariate j of q with mean 0 and mean square 1; `None` where it does not vary but for rounding.
fn standardised(mut values: Vec<f64>, j: usize, q: usize) -> Option<Column> {
    let n = values.len() as f64;
    // In units of that, so that no square overflows or vanishes.
    let unit = power_of_two(values.iter().fold(0.0, |most: f64, x| most.max(x.abs())));
    let mut mean = values.iter().map(|x| x / unit).sum::<f64>() / n;
    // Once more, free of what the first sum rounded.
    mean += values.iter().map(|x| x / unit - mean).sum::<f64>() / n;
    values.iter_mut().for_each(|x| *x = *x / unit - mean);
    let deviation = (values.iter().map(|x| x * x).sum::<f64>() / n).sqrt();
    if deviation.is_nan() || deviation <= 1e-13 {
        return None;
    }
    values.iter_mut().for_each(|x| *x /= deviation);
    let mut transform = vec![0.0; 1 + q];
    transform[0] = -mean / deviation;
    transform[1 + j] = 1.0 / (unit * deviation);
    Some(Column { values, transform })
}
