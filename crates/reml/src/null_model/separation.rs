//! Whether covariates tell outcomes for sure: is there a direction b with g'b ≥ 0 for all rows g of a matrix G, and not all 0?
//!
//! Along such a b the likelihood rises for ever. For a disease g = (2y − 1) z₁ of each sample; for a time to event g = zᵢ − zⱼ of each event i and each j at
//! risk at it.
//!
//! Let c be a sum of all rows with positive weights, and b the point of the cone {b : G b ≥ 0} that is nearest to c. By Moreau (1962) b = c + G'λ with the λ ≥ 0 that
//! makes |c + G'λ| least.
//!
//! - b = 0: then G'(weights + λ) = 0 with all factors positive, and for any b* of the cone 0 = (weights + λ)'G b* is a sum of terms ≥ 0. Each is 0: there is no such direction.
//! - b ≠ 0: b is in the cone, and c'b = |b|² > 0, so that some row has g'b > 0: b is such a direction.
//!
//! λ is found by non-negative least squares (Lawson and Hanson 1974, chapter 23), which ends after finitely many steps and never holds more rows than G has
//! columns. A step asks for one row with g'b < 0: of n² pairs none but those are ever formed.

use faer::Mat;
use faer::linalg::solvers::SolveLstsq;

/// g'b / |b| down to which a row counts as not violated, and from which it counts as positive; rows are of size 1 and more.
pub(super) const VIOLATED: f64 = 1e-9;
pub(super) const POSITIVE: f64 = 1e-8;

/// |b| over the sum of the weights up to which it is rounding of c.
const NOTHING: f64 = 1e-10;

/// Steps per column, at most.
const MOST_STEPS: usize = 300;

/// The rows of G.
pub(super) trait Rows {
    /// c, and the sum of its weights.
    fn sum(&self) -> (Vec<f64>, f64);

    /// The row with the least g'b, where that is below `limit`.
    fn most_violated(&self, b: &[f64], limit: f64) -> Option<Vec<f64>>;
}

/// What is known of a direction.
pub(super) enum Separation {
    /// There is none.
    None,
    /// b, of length 1.
    Along(Vec<f64>),
    /// Rounding hides whether there is.
    Undecided,
}

/// Looks for a direction. Cost: some tens of searches for a violated row.
pub(super) fn separation(rows: &impl Rows) -> Separation {
    let (c, weight) = rows.sum();
    let width = c.len();
    let nothing = NOTHING * weight;
    let mut active: Vec<Vec<f64>> = Vec::new();
    let mut lambda: Vec<f64> = Vec::new();
    let mut b = c.clone();
    for _ in 0..MOST_STEPS * width.max(1) {
        let size = norm(&b);
        if size <= nothing {
            return Separation::None;
        }
        let Some(row) = rows.most_violated(&b, -VIOLATED * size) else {
            return Separation::Along(b.iter().map(|b| b / size).collect());
        };
        active.push(row);
        lambda.push(0.0);
        if !settle(&c, &mut active, &mut lambda) {
            return Separation::Undecided;
        }
        b = nearest(&c, &active, &lambda);
    }
    Separation::Undecided
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// c + G'λ.
fn nearest(c: &[f64], active: &[Vec<f64>], lambda: &[f64]) -> Vec<f64> {
    let mut b = c.to_vec();
    for (row, lambda) in active.iter().zip(lambda) {
        b.iter_mut().zip(row).for_each(|(b, g)| *b += lambda * g);
    }
    b
}

/// Brings λ to the least squares of the active rows, leaving out those whose factor would become negative; false where the last one that came is of no use.
fn settle(c: &[f64], active: &mut Vec<Vec<f64>>, lambda: &mut Vec<f64>) -> bool {
    let new = active.last().cloned();
    loop {
        let target = least_squares(c, active);
        if target.iter().any(|x| !x.is_finite()) {
            return false;
        }
        if target.iter().all(|x| *x > 0.0) {
            *lambda = target;
            return active.last() == new.as_ref();
        }
        // As far towards the target as all factors stay at least 0.
        let pairs = lambda.iter().zip(&target);
        let blocked = pairs.filter(|(_, to)| **to <= 0.0);
        let share = blocked.map(|(from, to)| from / (from - to));
        let share = share.filter(|x| x.is_finite()).fold(1.0, f64::min);
        for (from, to) in lambda.iter_mut().zip(&target) {
            *from += share * (to - *from);
        }
        let most = lambda.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let is_left: Vec<bool> = lambda
            .iter()
            .zip(&target)
            .map(|(x, to)| *to > 0.0 || *x > 1e-14 * most)
            .collect();
        let before = active.len();
        let mut flags = is_left.iter();
        active.retain(|_| *flags.next().unwrap_or(&true));
        let mut flags = is_left.iter();
        lambda.retain(|_| *flags.next().unwrap_or(&true));
        if active.len() == before || active.is_empty() {
            return false;
        }
    }
}

/// The λ that makes |c + G'λ| least, of either sign.
fn least_squares(c: &[f64], active: &[Vec<f64>]) -> Vec<f64> {
    let (width, k) = (c.len(), active.len());
    let sizes: Vec<f64> = active.iter().map(|row| norm(row)).collect();
    // As many equations as unknowns, where more rows than columns came together.
    let height = width.max(k);
    let g = Mat::from_fn(height, k, |i, j| match i < width {
        true => active[j][i] / sizes[j],
        false => 0.0,
    });
    let right = Mat::from_fn(height, 1, |i, _| if i < width { -c[i] } else { 0.0 });
    let found = g.col_piv_qr().solve_lstsq(&right);
    (0..k).map(|j| found[(j, 0)] / sizes[j]).collect()
}
