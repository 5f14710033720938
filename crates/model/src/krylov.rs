//! Block Krylov spaces of one masked operator A, from random probes G₀ and a phenotype's residual r.
//!
//! On a mask of its own, a phenotype has a space of its own, from \[G₀, r\]. On the mask of all samples the probes' space
//! is made once; a phenotype joins it with own vectors v, each orthogonal to the G blocks of no higher degree
//! and to its own past, so that together they span the block Krylov space from \[G₀, r\] and no phenotype's
//! vectors depend on another's. (Later G blocks are not orthogonal to earlier v's, so the v's are orthonormalised beside all of G
//! at the end, through their inner products.) Coefficients of each step are kept instead of images: with
//!
//! ```text
//!     A G_q = Σ_{i≤q} G_i H_iq + G_{q+1} R_q          A v_q = G_{≤q+1} g_q + V_{≤q} h_q + β_{q+1} v_{q+1}
//! ```
//!
//! every projection of A onto the joint space is small dense algebra.

use crate::block;
use crate::eigen::{SymmetricEigen, symmetric_eigen};
use crate::operator::MaskedOperator;
use faer::{Mat, MatRef};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Relative norm of what is left of an image below which the space is invariant under A to f32 accuracy.
const BREAKDOWN: f64 = 1e-6;

/// A second orthogonalisation that takes away more than this share of the norm shows that what was left is
/// rounding (Kahan's "twice is enough").
const REORTHOGONALISATION_LOSS: f64 = 0.5;

/// Squared sine between an own vector and the probes' later blocks below which the vector adds nothing but rounding.
const JOINT_RANK_TOLERANCE: f64 = 1e-6;

/// Steps of the small Lanczos process that turns a projected operator into a measure.
const MAX_QUADRATURE_NODES: usize = 128;

/// A block Krylov space of A: blocks G₀, G₁, …; the last may still lack its image. G₀ begins with the probes.
#[derive(Clone, Debug)]
pub struct KrylovSpace {
    n_probes: usize,
    blocks: Vec<Mat<f32>>,
    /// Upper block triangle of G'AG, a column block per image, rows down to the diagonal block.
    columns: Vec<Mat<f64>>,
    /// R of the last image, G_next'(A G_last); 0 × b when the space is exhausted.
    coupling: Mat<f64>,
    eigen: Option<SymmetricEigen>,
}

impl KrylovSpace {
    /// G₀: `b` seeded Gaussian columns, projected and orthonormalised.
    ///
    /// Column j is a stream of its own, so that it does not depend on `b`. Cost: O(n b²).
    pub fn new(operator: &MaskedOperator<'_>, b: usize, seed: u64) -> Self {
        let n = operator.projection().mask().len();
        let mut start = Mat::<f64>::zeros(n, b);
        for j in 0..b {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(j as u64);
            for value in start.col_as_slice_mut(j) {
                *value = StandardNormal.sample(&mut rng);
            }
        }
        operator.projection().apply(start.as_mut());
        let scale = column_scale(&start);
        let (first, _) = orthonormalise(operator, start, [].iter(), scale);
        Self {
            n_probes: first.ncols(),
            blocks: vec![first],
            columns: Vec::new(),
            coupling: Mat::zeros(0, 0),
            eigen: None,
        }
    }

    /// G₀: `b` probes as in [`KrylovSpace::new`], and the projected residual `r` (n values) less its part in them. Also returns G₀'r.
    pub fn with_residual(
        operator: &MaskedOperator<'_>,
        b: usize,
        seed: u64,
        r: &[f64],
    ) -> (Self, Vec<f64>) {
        let mut space = Self::new(operator, b, seed);
        let mut y = MatRef::from_column_major_slice(r, r.len(), 1).to_owned();
        let scale = column_scale(&y);
        let mut start = remove(&mut y, space.blocks.iter());
        start += remove(&mut y, space.blocks.iter());
        let mut coordinates = start.col_as_slice(0).to_vec();
        if let Some((vector, norm)) = normalise(&y, scale) {
            space.blocks = vec![block::hstack(&[&space.blocks[0], &vector])];
            coordinates.push(norm);
        }
        (space, coordinates)
    }

    /// Rebuilds a space from its stored parts; see [`KrylovSpace::blocks`], [`KrylovSpace::projected`], [`KrylovSpace::coupling`].
    ///
    /// `blocks` must all have their images.
    pub fn from_parts(
        blocks: Vec<Mat<f32>>,
        projected: MatRef<'_, f64>,
        coupling: Mat<f64>,
    ) -> Self {
        let mut columns = Vec::new();
        let mut end = 0;
        for block in &blocks {
            let start = end;
            end += block.ncols();
            columns.push(projected.submatrix(0, start, end, end - start).to_owned());
        }
        let mut space = Self {
            n_probes: blocks.first().map_or(0, Mat::ncols),
            blocks,
            columns,
            coupling,
            eigen: None,
        };
        space.eigen = Some(symmetric_eigen(space.projected().as_ref()));
        space
    }

    /// All blocks, orthonormal.
    pub fn blocks(&self) -> &[Mat<f32>] {
        &self.blocks
    }

    /// The block to multiply next, or `None` when the space is invariant under A.
    pub fn next(&self) -> Option<&Mat<f32>> {
        self.blocks
            .get(self.columns.len())
            .filter(|b| b.ncols() > 0)
    }

    /// Whether A maps the space into itself: nothing further is to be learned from it.
    pub fn is_exhausted(&self) -> bool {
        self.next().is_none() && self.coupling.nrows() == 0
    }

    /// Dimension of the blocks that have images.
    pub fn dimension(&self) -> usize {
        self.columns.iter().map(Mat::ncols).sum()
    }

    /// Number of orthonormal probes, the first columns of G₀.
    pub fn n_probes(&self) -> usize {
        self.n_probes
    }

    /// R of the last image: what A leads out of the space.
    pub fn coupling(&self) -> &Mat<f64> {
        &self.coupling
    }

    /// T = G'AG on the blocks that have images.
    pub fn projected(&self) -> Mat<f64> {
        let m = self.dimension();
        let mut t = Mat::zeros(m, m);
        let mut start = 0;
        for column in &self.columns {
            for j in 0..column.ncols() {
                for i in 0..=start + j {
                    // The diagonal block is symmetric to rounding; its upper half speaks for both.
                    t[(i, start + j)] = column[(i, j)];
                    t[(start + j, i)] = column[(i, j)];
                }
            }
            start += column.ncols();
        }
        t
    }

    /// Eigenpairs of T, largest first; none before the first image.
    pub fn eigen(&self) -> Option<&SymmetricEigen> {
        self.eigen.as_ref()
    }

    /// Residual norm |A w − e w| of each Ritz pair: the coupling times the vector's last block.
    pub fn residuals(&self) -> Vec<f64> {
        let Some(eigen) = &self.eigen else {
            return Vec::new();
        };
        let m = eigen.values.len();
        let last = self.columns.last().map_or(0, Mat::ncols);
        let tail = eigen.vectors.subrows(m - last, last);
        if self.coupling.nrows() == 0 {
            return vec![0.0; m];
        }
        let out = &self.coupling * tail;
        (0..m).map(|j| out.col(j).norm_l2()).collect()
    }

    /// Takes the kernel's product with [`KrylovSpace::next`] and finds the block after it.
    ///
    /// Cost: 8 n b m flops with m the space's dimension.
    pub fn extend(&mut self, operator: &MaskedOperator<'_>, product: MatRef<'_, f32>) {
        let mut y = operator.image(product);
        let scale = column_scale(&y);
        let first = remove(&mut y, self.blocks.iter());
        let second = remove(&mut y, self.blocks.iter());
        let (next, coupling) = orthonormalise(operator, y, self.blocks.iter(), scale);
        self.columns.push(first + second);
        self.coupling = coupling;
        if next.ncols() > 0 {
            self.blocks.push(next);
        }
        self.eigen = Some(symmetric_eigen(self.projected().as_ref()));
    }

    /// Forgets the block that still lacks its image, when no further pass will be made.
    pub fn truncate(&mut self) {
        self.blocks.truncate(self.columns.len());
    }

    /// The leading `k` Ritz vectors, n × k. Cost: 2 n m k flops.
    pub fn ritz_vectors(&self, k: usize) -> Mat<f64> {
        let n = self.blocks[0].nrows();
        let Some(eigen) = &self.eigen else {
            return Mat::zeros(n, 0);
        };
        let k = k.min(eigen.values.len());
        let mut vectors = Mat::zeros(n, k);
        let mut start = 0;
        for block in &self.blocks[..self.columns.len()] {
            let rows = eigen.vectors.submatrix(start, 0, block.ncols(), k);
            block::add_product(vectors.as_mut(), block.as_ref(), rows, 1.0);
            start += block.ncols();
        }
        vectors
    }
}

/// The column `y` divided by its norm, and the norm; or nothing, when `y` is what rounding left of a vector of norm `scale`.
fn normalise(y: &Mat<f64>, scale: f64) -> Option<(Mat<f32>, f64)> {
    let norm = column_scale(y);
    (norm > BREAKDOWN * scale).then(|| {
        (
            Mat::from_fn(y.nrows(), 1, |i, _| (y[(i, 0)] / norm) as f32),
            norm,
        )
    })
}

/// Largest column norm.
fn column_scale(y: &Mat<f64>) -> f64 {
    (0..y.ncols())
        .map(|j| block::dot(y.col_as_slice(j), y.col_as_slice(j)).sqrt())
        .fold(0.0, f64::max)
}

/// Y ← Y − B B'Y over the blocks; returns B'Y stacked.
fn remove<'a>(y: &mut Mat<f64>, blocks: impl Iterator<Item = &'a Mat<f32>> + Clone) -> Mat<f64> {
    let rows: usize = blocks.clone().map(Mat::ncols).sum();
    let mut coefficients = Mat::zeros(rows, y.ncols());
    let mut start = 0;
    for basis in blocks.clone() {
        let c = block::inner(basis.as_ref(), y.as_ref());
        coefficients
            .submatrix_mut(start, 0, basis.ncols(), y.ncols())
            .copy_from(&c);
        start += basis.ncols();
    }
    start = 0;
    for basis in blocks {
        let c = coefficients.submatrix(start, 0, basis.ncols(), y.ncols());
        block::add_product(y.as_mut(), basis.as_ref(), c, -1.0);
        start += basis.ncols();
    }
    coefficients
}

/// An orthonormal basis Q of what `y` spans beyond `blocks`, and R = Q'Y; directions that are rounding are dropped.
///
/// `y` must already be orthogonal to the blocks up to rounding; `scale` is its norm before that.
fn orthonormalise<'a>(
    operator: &MaskedOperator<'_>,
    y: Mat<f64>,
    blocks: impl Iterator<Item = &'a Mat<f32>> + Clone,
    scale: f64,
) -> (Mat<f32>, Mat<f64>) {
    let n = y.nrows();
    let nothing = || (Mat::zeros(n, 0), Mat::zeros(0, y.ncols()));
    // Y'Y = U diag(s²) U'; Y U s⁻¹ is orthonormal.
    let whiten = |y: &Mat<f64>, floor: f64| -> Mat<f64> {
        let eigen = symmetric_eigen(block::inner(y.as_ref(), y.as_ref()).as_ref());
        let kept = eigen.values.iter().take_while(|&&s2| s2 > floor).count();
        let mix = Mat::from_fn(y.ncols(), kept, |i, k| {
            eigen.vectors[(i, k)] / eigen.values[k].sqrt()
        });
        let mut q = Mat::zeros(n, kept);
        block::add_product(q.as_mut(), y.as_ref(), mix.as_ref(), 1.0);
        q
    };
    let mut q = whiten(&y, (BREAKDOWN * scale).powi(2));
    if q.ncols() == 0 {
        return nothing();
    }
    operator.projection().apply(q.as_mut());
    remove(&mut q, blocks);
    let q = whiten(&q, REORTHOGONALISATION_LOSS.powi(2));
    if q.ncols() == 0 {
        return nothing();
    }
    let r = block::inner(q.as_ref(), y.as_ref());
    (block::narrow(q.as_ref()), r)
}

/// One phenotype's own Krylov vectors beside a space; none where the space starts from the phenotype's residual.
#[derive(Clone, Debug)]
pub struct OwnSpace {
    vectors: Vec<Mat<f32>>,
    /// For each vector, its inner products with every column of the space.
    overlaps: Vec<Vec<f64>>,
    /// For each vector, its inner products with itself and those before it.
    products: Vec<Vec<f64>>,
    /// For each image: coefficients on the columns of the space, and on the own vectors up to β of the next.
    probe_coefficients: Vec<Vec<f64>>,
    own_coefficients: Vec<Vec<f64>>,
    /// G₀'r, and the norm of what of r lies outside G₀.
    start_probes: Vec<f64>,
    start_norm: f64,
}

impl OwnSpace {
    /// No vectors: r lies in G₀, with coordinates G₀'r.
    pub fn within(coordinates: Vec<f64>) -> Self {
        Self {
            vectors: Vec::new(),
            overlaps: Vec::new(),
            products: Vec::new(),
            probe_coefficients: Vec::new(),
            own_coefficients: Vec::new(),
            start_probes: coordinates,
            start_norm: 0.0,
        }
    }

    /// Starts from the projected residual `r` (n values): v₀ is r less its part in G₀. The space must be complete.
    pub fn new(probes: &KrylovSpace, r: &[f64]) -> Self {
        let n = r.len();
        let mut y = MatRef::from_column_major_slice(r, n, 1).to_owned();
        let scale = column_scale(&y);
        let g0 = probes.blocks[..1].iter();
        let mut start = remove(&mut y, g0.clone());
        start += remove(&mut y, g0);
        let mut space = Self::within(start.col_as_slice(0).to_vec());
        space.start_norm = space.push(probes, &y, scale).unwrap_or(0.0);
        space
    }

    /// Adds `y` divided by its norm, which it returns; or nothing, as [`normalise`].
    ///
    /// An own vector is orthogonal to the others only nearly, as it must not be made so to later probe blocks; its inner
    /// products with all that is there say how nearly.
    fn push(&mut self, probes: &KrylovSpace, y: &Mat<f64>, scale: f64) -> Option<f64> {
        let (vector, norm) = normalise(y, scale)?;
        let with = |other: &Mat<f32>| block::inner(other.as_ref(), vector.as_ref());
        let overlap = probes
            .blocks
            .iter()
            .flat_map(|b| with(b).col_as_slice(0).to_vec())
            .collect();
        let mut products: Vec<f64> = self.vectors.iter().map(|v| with(v)[(0, 0)]).collect();
        products.push(with(&vector)[(0, 0)]);
        self.vectors.push(vector);
        self.overlaps.push(overlap);
        self.products.push(products);
        Some(norm)
    }

    /// The vector to multiply next, or `None` when the joint space holds all that r reaches.
    pub fn next(&self) -> Option<&Mat<f32>> {
        self.vectors.get(self.probe_coefficients.len())
    }

    /// Takes the kernel's product with [`OwnSpace::next`] and finds the vector after it.
    ///
    /// Cost: 8 n (probe columns + own vectors) flops.
    pub fn extend(
        &mut self,
        operator: &MaskedOperator<'_>,
        probes: &KrylovSpace,
        product: MatRef<'_, f32>,
    ) {
        let q = self.probe_coefficients.len();
        let lower = &probes.blocks[..(q + 2).min(probes.blocks.len())];
        let n_lower: usize = lower.iter().map(Mat::ncols).sum();
        let mut y = operator.image(product);
        let scale = column_scale(&y);
        let mut on_probes = Mat::zeros(n_lower, 1);
        let mut on_own = Mat::zeros(self.vectors.len(), 1);
        for _ in 0..2 {
            on_probes += remove(&mut y, lower.iter());
            on_own += remove(&mut y, self.vectors.iter());
        }
        self.probe_coefficients
            .push(on_probes.col_as_slice(0).to_vec());
        let mut own = on_own.col_as_slice(0).to_vec();
        own.extend(self.push(probes, &y, scale));
        self.own_coefficients.push(own);
    }

    /// Projects A and r onto the joint space of the probes and the own vectors that have images.
    ///
    /// Cost: O(m² s) for m probe and s own dimensions; no vector of length n is touched.
    pub fn project(&self, probes: &KrylovSpace) -> JointProjection {
        let m = probes.dimension();
        let s = self.probe_coefficients.len();
        let s_all = self.vectors.len();
        let m_all: usize = probes.blocks.iter().map(Mat::ncols).sum();
        // C = G'V over all probe columns and own vectors, those without images included.
        let overlap = Mat::from_fn(m_all, s_all, |i, j| self.overlaps[j][i]);
        let on_probes = Mat::from_fn(m_all, s, |i, j| {
            self.probe_coefficients[j].get(i).copied().unwrap_or(0.0)
        });
        let on_own = Mat::from_fn(s_all, s, |i, j| {
            self.own_coefficients[j].get(i).copied().unwrap_or(0.0)
        });
        let gram = Mat::from_fn(s_all, s_all, |i, j| self.products[i.max(j)][i.min(j)]);
        // G'AV = g + C h, V'AV = C'g + V'V h, as G is orthonormal.
        let gav_all = &on_probes + &overlap * &on_own;
        let gav = gav_all.subrows(0, m);
        let c_s = overlap.subcols(0, s);
        let vav = c_s.transpose() * &on_probes + gram.subrows(0, s) * &on_own;
        let c = c_s.subrows(0, m);
        let eigen = probes.eigen();
        let values: Vec<f64> = eigen.map_or_else(Vec::new, |e| e.values.clone());
        let empty = Mat::zeros(0, 0);
        let ritz = eigen.map_or(empty.as_ref(), |e| e.vectors.as_ref());
        // Into the probes' Ritz basis: T becomes diag(e).
        let c = ritz.transpose() * c;
        let gav = ritz.transpose() * gav;
        // V ← (V − G C) X with X'(V'V − C'C)X = I; directions inside G's span are dropped.
        let schur = gram.submatrix(0, 0, s, s) - c.transpose() * &c;
        let schur = symmetric_eigen(schur.as_ref());
        let kept = schur
            .values
            .iter()
            .take_while(|&&d| d > JOINT_RANK_TOLERANCE)
            .count();
        let x = Mat::from_fn(s, kept, |i, k| {
            schur.vectors[(i, k)] / schur.values[k].sqrt()
        });
        let ec = Mat::from_fn(m, s, |i, j| values[i] * c[(i, j)]);
        let cross = (&gav - &ec) * &x;
        let cg = c.transpose() * &gav;
        let own = x.transpose() * (&vav - &cg - cg.transpose() + c.transpose() * &ec) * &x;
        let own = Mat::from_fn(kept, kept, |i, j| 0.5 * (own[(i, j)] + own[(j, i)]));
        // r = G₀ g₀ + β₀ v₀ gives G'r and V'r.
        let from_probes = |i: usize| self.start_probes.get(i).copied().unwrap_or(0.0);
        let from_own = |i: usize| {
            self.overlaps
                .first()
                .map_or(0.0, |o| o[i] * self.start_norm)
        };
        let g_r = Mat::from_fn(m, 1, |i, _| from_probes(i) + from_own(i));
        let g_r = ritz.transpose() * g_r;
        let v_r = Mat::from_fn(s, 1, |j, _| {
            let on_first: f64 = self
                .start_probes
                .iter()
                .zip(&self.overlaps[j])
                .map(|(g, c)| g * c)
                .sum();
            on_first + gram[(0, j)] * self.start_norm
        });
        let v_r = x.transpose() * (v_r - c.transpose() * &g_r);
        JointProjection {
            ritz_values: values,
            cross,
            own,
            start: g_r
                .col_as_slice(0)
                .iter()
                .chain(v_r.col_as_slice(0))
                .copied()
                .collect(),
            overlap: c,
            whitening: x,
        }
    }

    /// The n-vector with coordinates `joint` in the orthonormal joint basis of `projection`.
    ///
    /// Cost: 2 n (m + s) flops.
    pub fn combine(
        &self,
        probes: &KrylovSpace,
        projection: &JointProjection,
        joint: &[f64],
    ) -> Vec<f64> {
        let m = projection.ritz_values.len();
        let n = probes.blocks[0].nrows();
        let y_g = MatRef::from_column_major_slice(&joint[..m], m, 1);
        let y_v = MatRef::from_column_major_slice(&joint[m..], joint.len() - m, 1);
        let own = &projection.whitening * y_v;
        let mut sum = Mat::zeros(n, 1);
        if let Some(eigen) = probes.eigen() {
            let on_probes = &eigen.vectors * (y_g - &projection.overlap * &own);
            let mut start = 0;
            for block in &probes.blocks[..probes.columns.len()] {
                let rows = on_probes.subrows(start, block.ncols());
                block::add_product(sum.as_mut(), block.as_ref(), rows, 1.0);
                start += block.ncols();
            }
        }
        for (i, vector) in self.vectors[..own.nrows()].iter().enumerate() {
            block::add_product(
                sum.as_mut(),
                vector.as_ref(),
                own.submatrix(i, 0, 1, 1),
                1.0,
            );
        }
        sum.col_as_slice(0).to_vec()
    }
}

/// A and r in an orthonormal basis of the joint space: T = \[diag(e), B; B', D\] and ρ.
#[derive(Clone, Debug)]
pub struct JointProjection {
    ritz_values: Vec<f64>,
    cross: Mat<f64>,
    own: Mat<f64>,
    start: Vec<f64>,
    overlap: Mat<f64>,
    whitening: Mat<f64>,
}

/// Quadrature of the phenotype's measure: nodes θ, coefficients cᵢ with weights cᵢ², and the way back.
#[derive(Clone, Debug)]
pub struct Quadrature {
    /// Nodes, descending.
    pub nodes: Vec<f64>,
    /// cᵢ; Σ cᵢ² = |r|².
    pub coefficients: Vec<f64>,
    /// joint dimension × nodes: the node's vector in joint coordinates.
    vectors: Mat<f64>,
}

impl Quadrature {
    /// Joint coordinates of Σ f(θᵢ) cᵢ uᵢ.
    pub fn apply(&self, f: impl Fn(f64) -> f64) -> Vec<f64> {
        let weights = Mat::from_fn(self.nodes.len(), 1, |i, _| {
            f(self.nodes[i]) * self.coefficients[i]
        });
        (&self.vectors * weights).col_as_slice(0).to_vec()
    }
}

impl JointProjection {
    fn multiply(&self, x: &[f64]) -> Vec<f64> {
        let m = self.ritz_values.len();
        let mut y: Vec<f64> = self.ritz_values.iter().zip(x).map(|(e, v)| e * v).collect();
        for j in 0..self.own.ncols() {
            let xj = x[m + j];
            for (yi, b) in y.iter_mut().zip(self.cross.col_as_slice(j)) {
                *yi += b * xj;
            }
        }
        for j in 0..self.own.ncols() {
            let border: f64 = self
                .cross
                .col_as_slice(j)
                .iter()
                .zip(x)
                .map(|(b, v)| b * v)
                .sum();
            let own: f64 = self
                .own
                .col_as_slice(j)
                .iter()
                .zip(&x[m..])
                .map(|(d, v)| d * v)
                .sum();
            y.push(border + own);
        }
        y
    }

    /// The measure of ρ under T by Lanczos with full reorthogonalisation: at most 128 nodes, exact to rounding for the
    /// exponentials it is used with. Cost: O(nodes² · dimension).
    pub fn quadrature(&self) -> Quadrature {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let norm = dot(&self.start, &self.start).sqrt();
        let scale = self
            .ritz_values
            .first()
            .copied()
            .unwrap_or(0.0)
            .abs()
            .max(self.own.norm_max());
        let mut basis: Vec<Vec<f64>> = Vec::new();
        let (mut alpha, mut beta) = (Vec::new(), Vec::new());
        let mut next =
            Some(self.start.iter().map(|v| v / norm).collect::<Vec<f64>>()).filter(|_| norm > 0.0);
        while let Some(v) = next.take() {
            let mut y = self.multiply(&v);
            alpha.push(dot(&v, &y));
            basis.push(v);
            for _ in 0..2 {
                for b in &basis {
                    let c = dot(b, &y);
                    for (yi, bi) in y.iter_mut().zip(b) {
                        *yi -= c * bi;
                    }
                }
            }
            let size = dot(&y, &y).sqrt();
            if size > 1e-13 * scale && basis.len() < MAX_QUADRATURE_NODES.min(self.start.len()) {
                beta.push(size);
                next = Some(y.iter().map(|v| v / size).collect());
            }
        }
        let k = alpha.len();
        let tridiagonal = Mat::from_fn(k, k, |i, j| match i.abs_diff(j) {
            0 => alpha[i],
            1 => beta[i.min(j)],
            _ => 0.0,
        });
        let eigen = symmetric_eigen(tridiagonal.as_ref());
        let lanczos = Mat::from_fn(self.start.len(), k, |i, j| basis[j][i]);
        Quadrature {
            coefficients: (0..k).map(|i| norm * eigen.vectors[(0, i)]).collect(),
            nodes: eigen.values,
            vectors: lanczos * eigen.vectors,
        }
    }
}
