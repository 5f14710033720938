//! log det(I − 2zM) of the robust score, for
//!
//! ```text
//!     M = D P (H − diag(own + q)) P D,        D = diag(d)
//! ```
//!
//! from a low-rank part of A = P H P, its exact diagonal, and the distribution of its other eigenvalues. Nothing n × n is formed.
//!
//! Let A = Ṽ diag(l) Ṽ' + R. The leading pairs (l, Ṽ) are taken as they stand, and so are the rows of R of the samples with the largest
//! d ("heavy" ones): one case among many controls has few others like it, over which R would average. The rest of R has eigenvectors that know nothing
//! of d: as for one rotated at random, with N eigenvalues μ x (Voiculescu 1991; Tulino and Verdú 2004),
//!
//! ```text
//!     log det(I − 2zM) ≈ log det(I − 2z D [Ṽ l Ṽ' + a R̄ − P diag(own + q) P] D) + N (a g − ∫₀ᵍ a),     R̄ = diag(ρ) − μ (Ṽ Ṽ' + Q Q')
//!     a(g) = w − 1/g  where  g = mean of 1/(w − x)
//! ```
//!
//! stationary in g. R̄ has the exact diagonal of R. The error is that of a finite N (docs/decisions/0014: on 600 samples and the flattest
//! spectra, up to 1 % of log p at p = 1e-17, and 0.01 of log10 p where p is above 1e-3).
//!
//! Here Ṽ = P V. For the oblique projection N of an outcome N'AN takes the place of A, Ṽ = N'V, N'diag(own + q)N that of P diag(own + q) P, and
//! Y X' + X Y' − Y X'X Y' that of Q Q', as N'N = I less that.

use crate::linalg::block::product;
use crate::robust_test::bins::{Bin, groups};
use crate::robust_test::grams::{grams, lower, row_products};
use crate::robust_test::null_projection::NullProjection;
use faer::linalg::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, MatRef, Par, c64};

/// What is known of the eigenvalues of A that are not among the leading ones.
#[derive(Clone, Debug)]
pub struct Rest {
    /// Their number N.
    pub count: f64,
    /// Their mean μ.
    pub tail_mean: f64,
    /// Their values in units of μ, and weights that sum to 1; the mean is 1.
    pub nodes: Vec<(f64, f64)>,
}

/// One phenotype's operator M on the s samples of its mask.
#[derive(Clone, Debug)]
pub struct RobustOperator<'x> {
    /// d², s values.
    pub squares: &'x [f64],
    /// own + q, s values.
    pub subtracted: &'x [f64],
    /// The diagonal of N'AN, s values.
    pub diagonal: &'x [f64],
    /// Ṽ, s × k.
    pub vectors: MatRef<'x, f64>,
    /// l, k values.
    pub values: &'x [f64],
    /// N.
    pub null_model: &'x NullProjection,
    /// The heavy samples, by their place among the s.
    pub heavy: &'x [usize],
    /// N'AN eᵢ for each of them, s × h.
    pub columns: MatRef<'x, f64>,
    /// The other eigenvalues.
    pub rest: &'x Rest,
}

/// M in units in which the mean of A's diagonal and that of d² are 1.
pub(super) struct LogDet<'x> {
    bins: Vec<Bin>,
    /// Σ d² w w' over the columns W, pairs × bins: the lower triangle, column by column.
    grams: Mat<f64>,
    /// l, k values.
    values: Vec<f64>,
    tail_mean: f64,
    count: f64,
    nodes: &'x [(f64, f64)],
    /// X'diag(own + q)X, r × r.
    of_null: Mat<f64>,
    /// X'X of an outcome, r × r.
    oblique: Option<Mat<f64>>,
    /// D B D among the heavy samples, with B = A − P diag(own + q) P.
    among: Mat<f64>,
    /// d of the heavy samples.
    sizes: Vec<f64>,
    /// tr M.
    pub(super) trace: f64,
    /// Σ d² (A_ii + own + q), above every |μ|.
    pub(super) size: f64,
}

/// What F is made of at one z and u.
struct Parts {
    /// Its part on the light samples' diagonal and on the rest.
    f: c64,
    /// W' Re(ω) W over light samples, on all columns W = [Ṽ, Y, diag(own + q) X, B_LE], of an outcome [Ṽ, Y, diag(own + q) X, X, B_LE].
    light: Mat<f64>,
    /// On the real axis W'ρω²W, elsewhere W' Im(ω) W.
    other: Mat<f64>,
    /// C on all of them but the last.
    c: Mat<c64>,
}

/// F = log det(I − 2zM) at one z.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) z: c64,
    pub(super) f: c64,
    /// 1 / w.
    pub(super) u: c64,
    /// d/du of what the low-rank part adds to g.
    pub(super) slope: c64,
}

/// How much F may lack, estimated to second order, of its stationary value before that is added.
const SETTLED: f64 = 2e-3;

/// How near the edge 1 of u x may come on the real axis.
const INSIDE: f64 = 1.0 - 1e-6;

pub(super) const ZERO: c64 = c64::new(0.0, 0.0);
const ONE: c64 = c64::new(1.0, 0.0);

impl<'x> LogDet<'x> {
    pub(super) fn new(law: &RobustOperator<'x>) -> Self {
        let s = law.squares.len();
        let (x, y) = (law.null_model.x(), law.null_model.y());
        let (r, h) = (x.ncols(), law.heavy.len());
        let mean = |v: &[f64]| v.iter().sum::<f64>() / s as f64;
        let (unit, unit_of_squares) = (mean(law.diagonal), mean(law.squares));
        let values: Vec<f64> = law.values.iter().map(|l| l / unit).collect();
        let is_there = law.rest.count > 0.0 && law.rest.tail_mean > 1e-9 * unit;
        let tail_mean = if is_there {
            law.rest.tail_mean / unit
        } else {
            0.0
        };
        let count = if is_there { law.rest.count } else { 0.0 };
        let v = law.vectors;
        let subtracted: Vec<f64> = law.subtracted.iter().map(|own| own / unit).collect();
        let squares: Vec<f64> = law.squares.iter().map(|d| d / unit_of_squares).collect();
        let oblique = law.null_model.is_weighted();
        let oblique = oblique.then(|| product(x.transpose(), x));
        let leverages = row_products(x, y);
        let (held, span) = held_and_span(law, &values, (&leverages, oblique.as_ref()));
        let own: Vec<f64> = law
            .diagonal
            .iter()
            .zip(&held)
            .map(|(a, held)| a / unit - held)
            .collect();
        let rho: Vec<f64> = own
            .iter()
            .zip(&span)
            .map(|(o, s)| o + tail_mean * s)
            .collect();
        let weighted = Mat::from_fn(s, r, |i, j| subtracted[i] * x[(i, j)]);
        let of_null = product(x.transpose(), &weighted);
        let columns = heavy_columns(law, unit, &weighted, &of_null);
        let mut parts = vec![v, y, weighted.as_ref()];
        parts.extend(oblique.is_some().then_some(x));
        parts.push(columns.as_ref());
        let p: Vec<f64> = (0..s)
            .map(|i| squares[i] * (subtracted[i] - rho[i]))
            .collect();
        let mut is_heavy = vec![false; s];
        law.heavy.iter().for_each(|&i| is_heavy[i] = true);
        let groups = groups(&p, &is_heavy);
        let bins = groups.iter();
        let bins = bins
            .map(|group| Bin::new(group, &squares, &p, &rho, &own))
            .collect();
        let sizes: Vec<f64> = law.heavy.iter().map(|&i| squares[i].sqrt()).collect();
        let among = Mat::from_fn(h, h, |i, j| {
            let own = if i == j {
                subtracted[law.heavy[i]]
            } else {
                0.0
            };
            sizes[i] * (columns[(law.heavy[i], j)] - own) * sizes[j]
        });
        // tr M = Σ d² (N'AN − N'diag N)_ii.
        let within = row_products(product(y, &of_null).as_ref(), y);
        let (mut trace, mut size) = (0.0, 0.0);
        for i in 0..s {
            let off = subtracted[i] * (1.0 - 2.0 * leverages[i]) + within[i];
            trace += squares[i] * (law.diagonal[i] / unit - off);
            size += squares[i] * (law.diagonal[i] / unit + subtracted[i].abs());
        }
        Self {
            bins,
            grams: grams(&parts, &squares, &groups),
            values,
            tail_mean,
            count,
            nodes: &law.rest.nodes,
            of_null,
            oblique,
            among,
            sizes,
            trace,
            size,
        }
    }

    /// Means over the nodes: of v, x v, x v², x² v² for v = 1 / (1 − u x).
    fn means(&self, u: c64) -> [c64; 5] {
        let mut sums = [ZERO; 5];
        for &(x, weight) in self.nodes {
            let v = ONE / (ONE - u * x);
            sums[0] += v * weight;
            sums[1] += v * (x * weight);
            sums[2] += v * v * (x * weight);
            sums[3] += v * v * (x * x * weight);
            sums[4] += v * v * weight;
        }
        sums
    }

    /// Σ over light samples of 2z d² R_ii / ν, over N, and its derivative by a.
    fn light(&self, z: c64, a: c64) -> (c64, c64) {
        let (mut sum, mut slope) = (ZERO, ZERO);
        for bin in &self.bins {
            let nu = ONE + z * 2.0 * (c64::from(bin.weighted.0) - (a - ONE) * bin.weighted.1);
            let term = z * (2.0 * bin.tail) / nu;
            sum += term;
            slope += term * z * (2.0 * bin.weighted.1) / nu;
        }
        (sum / self.count, slope / self.count)
    }

    /// At z and u: the light samples' own part of g and its derivative by a; da/du, g and dg/du.
    pub(super) fn balance(&self, z: c64, u: c64) -> (c64, c64, [c64; 3]) {
        if self.count == 0.0 {
            return (ZERO, ZERO, [ZERO; 3]);
        }
        let [m0, m1, d0, d1, squares] = self.means(u);
        let (own, slope) = self.light(z, m1 / m0);
        (
            own,
            slope,
            [(d1 * m0 - m1 * d0) / (m0 * m0), u * m0, squares],
        )
    }

    /// Σ over the bins of W'W times each of two factors.
    fn sums(&self, width: usize, factors: &[[f64; 2]]) -> [Mat<f64>; 2] {
        let factors = Mat::from_fn(factors.len(), 2, |bin, of| factors[bin][of]);
        let mut packed = Mat::<f64>::zeros(self.grams.nrows(), 2);
        matmul::matmul(
            &mut packed,
            Accum::Replace,
            &self.grams,
            &factors,
            1.0,
            Par::Seq,
        );
        [packed.col(0), packed.col(1)].map(|packed| {
            let mut whole = Mat::zeros(width, width);
            for ((i, j), &x) in lower(width).zip(packed.iter()) {
                whole[(i, j)] = x;
                whole[(j, i)] = x;
            }
            whole
        })
    }

    /// Columns of W but for those of heavy samples.
    fn low_rank(&self) -> usize {
        let of_null = if self.oblique.is_some() { 3 } else { 2 };
        self.values.len() + of_null * self.of_null.nrows()
    }

    /// Of an outcome Ṽ Ṽ' + Y X' + X Y' − Y X'X Y' is W J W' on the columns W = [Ṽ, Y, diag(own + q) X, X]: J S. Of all else Ṽ Ṽ' + Q Q' is that of the first columns.
    fn spanned(&self, s: MatRef<'_, f64>) -> Option<Mat<f64>> {
        let squares = self.oblique.as_ref()?;
        let (k, r) = (self.values.len(), self.of_null.nrows());
        let (y, x) = (s.subrows(k, r), s.subrows(k + 2 * r, r));
        let of_y = x - product(squares, y);
        Some(Mat::from_fn(s.nrows(), s.ncols(), |i, j| match i {
            i if i < k => s[(i, j)],
            i if i < k + r => of_y[(i - k, j)],
            i if i < k + 2 * r => 0.0,
            i => y[(i - k - 2 * r, j)],
        }))
    }

    /// What F at z and u is made of; `None` beyond the edge.
    fn parts(&self, z: c64, u: c64) -> Option<Parts> {
        let [m0, m1, ..] = self.means(u);
        let a = if self.count > 0.0 { m1 / m0 } else { ONE };
        let b = a - ONE;
        let (k, r) = (self.values.len(), self.of_null.nrows());
        let low = self.low_rank();
        let width = low + self.sizes.len();
        let is_beyond = |nu: c64| z.im == 0.0 && nu.re <= 0.0;
        let mut f = ZERO;
        if self.count > 0.0 {
            let logs: c64 = self
                .nodes
                .iter()
                .map(|&(x, w)| (ONE - u * x).ln() * w)
                .sum();
            f += (a * u * m0 - (u * m1 - m0.ln() - logs)) * self.count;
        }
        // ω of each bin: its real part, and what the other sum is of.
        let mut factors = Vec::with_capacity(self.bins.len());
        for bin in &self.bins {
            let nu = ONE + z * 2.0 * (c64::from(bin.mean.0) - b * bin.mean.1);
            let (pp, pr, rr) = bin.spread;
            let spread = c64::from(pp) - b * (2.0 * pr) + b * b * rr;
            f += nu.ln() * bin.n - z * z * 2.0 * spread / (nu * nu);
            let nu = ONE + z * 2.0 * (c64::from(bin.weighted.0) - b * bin.weighted.1);
            if is_beyond(nu) {
                return None;
            }
            let omega = z * 2.0 / nu;
            factors.push(match z.im == 0.0 {
                true => [omega.re, (omega * omega).re * bin.weighted.1],
                false => [omega.re, omega.im],
            });
        }
        let [light, other] = self.sums(width, &factors);
        let mut c = Mat::<c64>::zeros(low, low);
        for j in 0..k {
            c[(j, j)] = c64::from(self.values[j]) - a * self.tail_mean;
        }
        for i in 0..r {
            for j in 0..r {
                c[(k + i, k + j)] = c64::from(-self.of_null[(i, j)]);
            }
            match &self.oblique {
                None => c[(k + i, k + i)] -= a * self.tail_mean,
                // −aμ (Y X' + X Y' − Y X'X Y').
                Some(squares) => {
                    for j in 0..r {
                        c[(k + i, k + j)] += a * (self.tail_mean * squares[(i, j)]);
                    }
                    c[(k + i, k + 2 * r + i)] -= a * self.tail_mean;
                    c[(k + 2 * r + i, k + i)] -= a * self.tail_mean;
                }
            }
            c[(k + i, k + r + i)] = ONE;
            c[(k + r + i, k + i)] = ONE;
        }
        Some(Parts { f, light, other, c })
    }

    /// F at z off the real axis, where the low-rank part adds `share` of what the light samples' own part is to g: as F is stationary, an error of
    /// that share is one of second order.
    pub(super) fn complex(&self, z: c64, near: &Node, share: f64) -> Option<Node> {
        let mut u = near.u;
        for round in 0.. {
            let (own, slope, [a_slope, g, g_slope]) = self.balance(z, u);
            let gap = own * (1.0 + share) - g;
            let step = -gap / (slope * a_slope * (1.0 + share) - g_slope);
            if self.count == 0.0 || step.norm() <= 1e-9 * u.norm() {
                break;
            }
            u += step;
            if round > 60 || !(u.re.is_finite() && u.im.is_finite()) {
                return None;
            }
        }
        let parts = self.parts(z, u)?;
        let (low, h) = (parts.c.nrows(), self.sizes.len());
        let mut t = Mat::<c64>::identity(low, low);
        let light = Mat::from_fn(low + h, low + h, |i, j| {
            c64::new(parts.light[(i, j)], parts.other[(i, j)])
        });
        let s = light.submatrix(0, 0, low, low);
        matmul::matmul(&mut t, Accum::Add, &parts.c, s, -ONE, Par::Seq);
        let of_columns = light.submatrix(0, low, low, h);
        let (log_det, ys) = divided(&t, &product(&parts.c, of_columns));
        let within = product(of_columns.transpose(), &ys);
        let k = Mat::from_fn(h, h, |i, j| {
            let within = light[(low + i, low + j)] + within[(i, j)];
            let sizes = self.sizes[i] * self.sizes[j];
            c64::from(f64::from(u8::from(i == j))) - z * 2.0 * (within * sizes + self.among[(i, j)])
        });
        let (of_heavy, _) = divided(&k, &Mat::zeros(h, 0));
        let mut f = parts.f + log_det + of_heavy;
        let turns = ((near.f.im - f.im) / std::f64::consts::TAU).round();
        f.im += turns * std::f64::consts::TAU;
        (f.re.is_finite() && f.im.is_finite()).then_some(Node {
            z,
            f,
            u,
            slope: near.slope,
        })
    }

    /// The same on the real axis; `None` beyond the edge, where I − 2zM is not positive definite.
    ///
    /// With |S| = L L', det(I − C S) is that of the symmetric I ∓ L'C L.
    fn real(&self, z: f64, parts: &Parts) -> Option<(c64, c64)> {
        let (sign, low) = (z.signum(), parts.c.nrows());
        let c = Mat::from_fn(low, low, |i, j| parts.c[(i, j)].re);
        let (light, second) = (&parts.light, &parts.other);
        let size = (0..low).map(|i| light[(i, i)].abs()).fold(0.0, f64::max);
        let s = Mat::from_fn(low, low, |i, j| {
            sign * light[(i, j)] + if i == j { 1e-13 * size } else { 0.0 }
        });
        let l = s.llt(faer::Side::Lower).ok()?;
        let cl = product(&c, l.L());
        let inside = product(l.L().transpose(), &cl);
        let inner = Mat::<f64>::identity(low, low) - faer::Scale(sign) * inside;
        let factor = inner.llt(faer::Side::Lower).ok()?;
        let log_of = |l: MatRef<'_, f64>| (0..l.nrows()).map(|i| 2.0 * l[(i, i)].ln()).sum::<f64>();
        let log_det = log_of(factor.L());
        // (I − C S)⁻¹ C = C ± C L (I ∓ L'C L)⁻¹ L'C.
        let y = &c + faer::Scale(sign) * product(&cl, factor.solve(cl.transpose()));
        // The heavy samples' Schur complement: I − 2z D (B_EE + B_EL G₀ B_LE) D with G₀ = ω + ωWYW'ω on light samples.
        let h = self.sizes.len();
        let of_columns = light.submatrix(0, low, low, h);
        let ys = product(&y, of_columns);
        let within = light.submatrix(low, low, h, h) + product(of_columns.transpose(), &ys);
        let scaled = |i: usize, j: usize| z * 2.0 * self.sizes[i] * self.sizes[j];
        let k = Mat::from_fn(h, h, |i, j| {
            f64::from(u8::from(i == j))
                - 2.0 * z * self.among[(i, j)]
                - scaled(i, j) * within[(i, j)]
        });
        let factor = k.llt(faer::Side::Lower).ok()?;
        let inverse = factor.solve(Mat::<f64>::identity(h, h));
        let inverse = Mat::from_fn(h, h, |i, j| scaled(i, j) * inverse[(i, j)]);
        let f = parts.f + log_det + log_of(factor.L());
        if self.count == 0.0 {
            return Some((f, ZERO));
        }
        // The trace of diag(ρ) − μ (ṼṼ' + QQ') on ωWYW'ω and on the heavy samples' ωWV (…) V'W'ω, G₀ B_LE = ωWV.
        let v = Mat::from_fn(low + h, h, |i, j| match i < low {
            true => ys[(i, j)],
            false => f64::from(u8::from(i - low == j)),
        });
        let dot = |a: MatRef<'_, f64>, b: MatRef<'_, f64>| -> f64 {
            let columns = 0..a.ncols();
            columns
                .flat_map(|j| (0..a.nrows()).map(move |i| a[(i, j)] * b[(i, j)]))
                .sum()
        };
        let on_diagonal = product(v.transpose(), product(second, &v));
        let span = match self.oblique {
            Some(_) => low,
            None => self.values.len() + self.of_null.nrows(),
        };
        let on_span = product(light.subrows(0, span), &v);
        let of_span = light.submatrix(0, 0, low, span);
        let rho = dot(y.as_ref(), second.submatrix(0, 0, low, low))
            + dot(inverse.as_ref(), on_diagonal.as_ref());
        let (along, beside) = (product(&y, of_span), product(&on_span, &inverse));
        let spanned = match self
            .spanned(along.transpose())
            .zip(self.spanned(beside.as_ref()))
        {
            Some((along, beside)) => {
                dot(of_span.transpose(), along.as_ref()) + dot(on_span.as_ref(), beside.as_ref())
            }
            None => dot(of_span, along.as_ref()) + dot(on_span.as_ref(), beside.as_ref()),
        };
        Some((f, c64::from((rho - spanned * self.tail_mean) / self.count)))
    }

    /// F at a real z, from `start` of u and of how what the low-rank part adds changes with it. dF/du = −N (da/du) (gap of g), so that half
    /// of that along the last step of Newton's iteration is what is left of F to its stationary value.
    pub(super) fn node(&self, z: c64, start: &Node) -> Option<Node> {
        let (mut u, mut slope) = (start.u, start.slope);
        // On the real axis 1 − u x is positive for every node x.
        let largest = self.nodes.iter().fold(0.0_f64, |most, (x, _)| most.max(*x));
        let within = |u: c64| match u.re * largest >= INSIDE {
            true => c64::from(INSIDE / largest),
            false => u,
        };
        u = within(u);
        let mut last: Option<(c64, c64)> = None;
        for _ in 0..24 {
            let parts = self.parts(z, u)?;
            let (f, more) = self.real(z.re, &parts)?;
            if !(f.re.is_finite() && f.im.is_finite() && more.re.is_finite() && more.im.is_finite())
            {
                return None;
            }
            if self.count == 0.0 {
                return Some(Node { z, f, u, slope });
            }
            if let Some((before, its)) = last
                && (u - before).norm() > 1e-9 * u.norm()
            {
                slope = (more - its) / (u - before);
            }
            let (own, own_slope, [a_slope, g, g_slope]) = self.balance(z, u);
            let gap = own + more - g;
            let mut step = -gap / (own_slope * a_slope - g_slope + slope);
            let left = -a_slope * gap * step * (0.5 * self.count);
            if left.norm() < SETTLED {
                return Some(Node {
                    z,
                    f: f + left,
                    u: within(u + step),
                    slope,
                });
            }
            last = Some((u, more));
            let most = 0.3 * u.norm().max(0.1);
            if step.norm() > most {
                step *= most / step.norm();
            }
            u = within(u + step);
        }
        None
    }
}

/// The diagonal of Ṽ diag(l) Ṽ', and the diagonal of Ṽ Ṽ' + Q Q', of an outcome Ṽ Ṽ' + Y X' + X Y' − Y X'X Y'. `oblique`: X'X.
fn held_and_span(
    law: &RobustOperator<'_>,
    values: &[f64],
    (leverages, oblique): (&[f64], Option<&Mat<f64>>),
) -> (Vec<f64>, Vec<f64>) {
    let s = leverages.len();
    let (mut held, mut span) = (vec![0.0; s], vec![0.0; s]);
    for (j, value) in values.iter().enumerate() {
        for i in 0..s {
            let square = law.vectors[(i, j)] * law.vectors[(i, j)];
            held[i] += square * value;
            span[i] += square;
        }
    }
    let y = law.null_model.y();
    let off = oblique.map(|squares| row_products(product(y, squares).as_ref(), y));
    for i in 0..s {
        span[i] += match &off {
            Some(off) => 2.0 * leverages[i] - off[i],
            None => leverages[i],
        };
    }
    (held, span)
}

/// B_LE, the columns of B = N'AN − N'diag(own + q)N of the heavy samples, s × h, A in units of `unit`. `weighted`: diag(own + q) X; `of_null`:
/// X'diag(own + q) X.
fn heavy_columns(
    law: &RobustOperator<'_>,
    unit: f64,
    weighted: &Mat<f64>,
    of_null: &Mat<f64>,
) -> Mat<f64> {
    let y = law.null_model.y();
    let (r, h) = (y.ncols(), law.heavy.len());
    // N'diag N = diag − Y(diag X)' − (diag X)Y' + Y (X'diag X) Y', so that B_LE = A_LE + [Y, diag X] times this of each heavy sample.
    let of_heavy = Mat::from_fn(r, h, |j, i| y[(law.heavy[i], j)]);
    let beside =
        Mat::from_fn(r, h, |j, i| weighted[(law.heavy[i], j)]) - product(of_null, &of_heavy);
    let mut columns = law.columns * faer::Scale(1.0 / unit);
    for (of, times) in [(y, &beside), (weighted.as_ref(), &of_heavy)] {
        matmul::matmul(&mut columns, Accum::Add, of, times, 1.0, Par::Seq);
    }
    columns
}

/// log det T, up to multiples of 2πi, and T⁻¹ B.
fn divided(t: &Mat<c64>, b: &Mat<c64>) -> (c64, Mat<c64>) {
    let lu = t.partial_piv_lu();
    let upper = lu.U();
    let mut log_det = (0..t.nrows()).map(|i| upper[(i, i)].ln()).sum::<c64>();
    if is_odd(lu.P().arrays().0) {
        log_det += c64::new(0.0, std::f64::consts::PI);
    }
    (log_det, lu.solve(b))
}

/// Whether a permutation is odd.
fn is_odd(forward: &[usize]) -> bool {
    let mut seen = vec![false; forward.len()];
    let mut odd = false;
    for start in 0..forward.len() {
        let (mut at, mut length) = (start, 0);
        while !seen[at] {
            seen[at] = true;
            at = forward[at];
            length += 1;
        }
        odd ^= length > 0 && length % 2 == 0;
    }
    odd
}
