//! Deferred linear combinations of the probes' space, the covariates and a phenotype's own vectors, evaluated for many phenotypes at once.
//!
//! ```text
//!     Y = D_S (G C + B E + Σ W F)
//! ```
//!
//! G is large, and reading it takes most of the time. It is read once for all columns. The other blocks belong to one phenotype each.

use crate::linalg::block;
use crate::linalg::block_lanczos::KrylovSpace;
use crate::linalg::covariates::Covariates;
use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};

/// Combinations evaluated together; each takes q columns of n f64 values.
pub const AT_ONCE: usize = 8;

/// One linear combination, n × q, zero outside its mask.
#[derive(Clone, Debug)]
pub struct LinearCombination<'x> {
    /// D_S.
    pub mask: &'x [bool],
    /// C, m × q, in the probes' space; its products are of single precision.
    pub in_space: Mat<f64>,
    /// E, r × q, on the basis B of the covariates.
    pub on_covariates: Mat<f64>,
    /// W and F.
    pub own: Vec<(&'x Mat<f32>, Mat<f64>)>,
}

impl LinearCombination<'_> {
    /// Number of columns q.
    pub fn n_columns(&self) -> usize {
        self.in_space.ncols()
    }
}

/// Combinations side by side, ready to be evaluated, a few rows at a time.
#[derive(Debug)]
pub struct Evaluation<'x> {
    space: &'x KrylovSpace,
    masks: Vec<&'x [bool]>,
    /// Where the columns of each begin, and where the last ends.
    starts: Vec<usize>,
    /// The C side by side.
    in_space: Mat<f32>,
    /// Of each, B and the W side by side, and E above the F.
    own: Vec<(Vec<block::Part<'x>>, Mat<f64>)>,
}

impl<'x> Evaluation<'x> {
    /// Brings the factors into the order that they are read in.
    pub fn new(
        space: &'x KrylovSpace,
        covariates: &'x Covariates,
        combinations: &[LinearCombination<'x>],
    ) -> Self {
        let mut starts = vec![0];
        for c in combinations {
            starts.push(starts[starts.len() - 1] + c.n_columns());
        }
        let mut in_space = Mat::<f32>::zeros(space.dimension(), starts[combinations.len()]);
        for (c, &start) in combinations.iter().zip(&starts) {
            let narrow = block::narrow(c.in_space.as_ref());
            in_space
                .subcols_mut(start, c.n_columns())
                .copy_from(&narrow);
        }
        let own = combinations
            .iter()
            .map(|c| {
                let basis = block::Part::Double(covariates.basis());
                let vectors = c.own.iter().map(|(w, _)| block::Part::Single(w.as_ref()));
                let parts = std::iter::once(basis).chain(vectors).collect();
                let factors: Vec<MatRef<'_, f64>> = std::iter::once(c.on_covariates.as_ref())
                    .chain(c.own.iter().map(|(_, f)| f.as_ref()))
                    .collect();
                (parts, above(&factors, c.n_columns()))
            })
            .collect();
        Self {
            space,
            masks: combinations.iter().map(|c| c.mask).collect(),
            starts,
            in_space,
            own,
        }
    }

    /// Computes the rows from the `first` on, as many as `rows` holds (zero at first). A column's bits do not depend on the other columns.
    ///
    /// Cost: 2 m flops a row and column in single precision, 2 (r + own columns) in double.
    pub fn rows(&self, first: usize, mut rows: MatMut<'_, f64>) {
        let len = rows.nrows();
        let shared = block::quick_product(self.space.basis(), first, len, self.in_space.as_ref());
        for ((mask, (parts, factors)), columns) in
            self.masks.iter().zip(&self.own).zip(self.starts.windows(2))
        {
            let (start, width) = (columns[0], columns[1] - columns[0]);
            if width == 0 {
                continue;
            }
            let mut mine = rows.rb_mut().subcols_mut(start, width);
            block::multiply_rows(mine.rb_mut(), parts, first, factors.as_ref());
            for j in 0..width {
                let held = shared.col_as_slice(start + j);
                for i in 0..len {
                    mine[(i, j)] = match mask[first + i] {
                        true => mine[(i, j)] + f64::from(held[i]),
                        false => 0.0,
                    };
                }
            }
        }
    }
}

/// Evaluates the combinations, n × Σ q, side by side: all rows of [`Evaluation`].
pub fn evaluate(
    space: &KrylovSpace,
    covariates: &Covariates,
    combinations: &[LinearCombination<'_>],
) -> Mat<f64> {
    let n_columns = combinations.iter().map(LinearCombination::n_columns).sum();
    let mut sum = Mat::zeros(covariates.n_samples(), n_columns);
    if n_columns > 0 {
        let formed = Evaluation::new(space, covariates, combinations);
        block::for_row_chunks(sum.as_mut(), |first, rows| formed.rows(first, rows));
    }
    sum
}

/// The factors one above the other.
fn above(factors: &[MatRef<'_, f64>], n_columns: usize) -> Mat<f64> {
    let n_rows = factors.iter().map(|f| f.nrows()).sum();
    let mut stacked = Mat::zeros(n_rows, n_columns);
    let mut at = 0;
    for factor in factors {
        stacked
            .subrows_mut(at, factor.nrows())
            .copy_from(factor.subcols(0, n_columns));
        at += factor.nrows();
    }
    stacked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::operator::MaskedOperator;

    #[test]
    fn a_combination_is_its_definition_whatever_stands_beside_it() {
        let n = 2500;
        let wave = |i: usize, j: usize| ((i * (3 * j + 7)) as f64 * 0.013).sin();
        let covariates = Covariates::new(n, &[vec![1.0; n], (0..n).map(|i| wave(i, 40)).collect()]);
        let operator = MaskedOperator::new(&covariates, &vec![true; n]);
        let mut space = KrylovSpace::new(&operator, 24, 3);
        for pass in 0..2 {
            let product = block::convert(space.next().expect("a block").as_ref(), |v| {
                v * (1.0 + pass as f32)
            });
            let product = Mat::from_fn(n, product.ncols(), |i, j| {
                product[(i, j)] * (1.0 + (i % 7) as f32)
            });
            space.extend(&operator, product.as_ref());
        }
        let m = space.dimension();
        let mask: Vec<bool> = (0..n).map(|i| i % 5 != 2).collect();
        let vectors = Mat::from_fn(n, 3, |i, j| wave(i, j) as f32);
        let combination = |q: usize| LinearCombination {
            mask: &mask,
            in_space: Mat::from_fn(m, q, |i, j| wave(i + 1, j)),
            on_covariates: Mat::from_fn(covariates.rank(), q, |i, j| wave(i + 5, j + 2)),
            own: vec![(&vectors, Mat::from_fn(3, q, |i, j| wave(i + 9, j + 1)))],
        };
        let alone = evaluate(&space, &covariates, &[combination(10)]);
        let g = space.basis().iter().map(|b| b.as_ref());
        let first = combination(10);
        for (i, j) in [(0, 0), (2, 1), (1023, 4), (1024, 9), (n - 1, 3)] {
            let mut slow = 0.0;
            let mut row = 0;
            for block in g.clone() {
                for k in 0..block.ncols() {
                    slow += f64::from(block[(i, k)]) * first.in_space[(row, j)];
                    row += 1;
                }
            }
            for k in 0..covariates.rank() {
                slow += covariates.basis()[(i, k)] * first.on_covariates[(k, j)];
            }
            for k in 0..3 {
                slow += f64::from(vectors[(i, k)]) * first.own[0].1[(k, j)];
            }
            let want = if mask[i] { slow } else { 0.0 };
            assert!((alone[(i, j)] - want).abs() < 1e-5, "{i} {j}");
        }
        for others in [1, 2, 3, 8, 13, 70] {
            let beside = evaluate(
                &space,
                &covariates,
                &[combination(others), combination(10), combination(1)],
            );
            assert_eq!(beside.subcols(others, 10), alone.as_ref(), "{others}");
        }
    }
}
