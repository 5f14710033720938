//! Block Krylov spaces of one masked operator A, from random probes G₀ and a phenotype's residual r.
//!
//! On a mask of its own, a phenotype has a space of its own, from \[G₀, r\]. On the mask of all samples the probes' space
//! G is made once, and a phenotype joins it with own vectors W, orthonormal beside it, so that \[G, W\] holds r, A r, A² r, …
//!
//! ```text
//!     A G_q = Σ_{i≤q} G_i H_iq + G_{q+1} R_q          A w_q = G g_q + W_{≤q} h_q + ℓ_q
//! ```
//!
//! Coefficients and what leads out (the block G_{q+1}, the leaks ℓ) are kept instead of images. Each vector is orthonormal to
//! all there is before A is applied to it, so that no image is ever divided by a small number.

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

/// Powers of A on r in a row that may stay inside the joint space before it counts as invariant.
const MAX_POWERS_INSIDE: usize = 16;

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
    /// The blocks have images as far as `projected` reaches.
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
            if end > projected.ncols() {
                break;
            }
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
        self.next().is_none()
    }

    /// G: the blocks that have images.
    fn basis(&self) -> &[Mat<f32>] {
        &self.blocks[..self.columns.len()]
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

    /// The leading `k` Ritz vectors, n × k. Cost: 2 n m k flops.
    pub fn ritz_vectors(&self, k: usize) -> Mat<f64> {
        let n = self.blocks[0].nrows();
        let Some(eigen) = &self.eigen else {
            return Mat::zeros(n, 0);
        };
        let k = k.min(eigen.values.len());
        let mut vectors = Mat::zeros(n, k);
        let mut start = 0;
        for block in self.basis() {
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

/// |x|₂.
fn norm(x: &[f64]) -> f64 {
    x.iter().map(|v| v * v).sum::<f64>().sqrt()
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

/// One phenotype's own vectors W beside a space G; none where the space starts from the phenotype's residual.
#[derive(Clone, Debug, Default)]
pub struct OwnSpace {
    /// W, orthonormal to G and to each other.
    vectors: Vec<Mat<f32>>,
    /// For each image: its inner products with G, with W up to the vector itself, and what is left of it.
    on_space: Vec<Vec<f64>>,
    on_own: Vec<Vec<f64>>,
    leaks: Vec<Mat<f32>>,
    /// Orthonormal coordinates in \[G, W\] of r, A r, A² r, …; the first times `norm` is r.
    powers: Vec<Vec<f64>>,
    norm: f64,
}

impl OwnSpace {
    /// No vectors: r lies in the first block, with coordinates G₀'r.
    pub fn within(coordinates: &[f64]) -> Self {
        let norm = norm(coordinates);
        Self {
            vectors: Vec::new(),
            on_space: Vec::new(),
            on_own: Vec::new(),
            leaks: Vec::new(),
            powers: vec![coordinates.iter().map(|c| c / norm).collect()],
            norm,
        }
    }

    /// Starts from the projected residual `r` (n values), beside a space that is to grow no further.
    ///
    /// Cost: 8 n m flops for a space of dimension m.
    pub fn new(space: &KrylovSpace, r: &[f64]) -> Self {
        let mut y = MatRef::from_column_major_slice(r, r.len(), 1).to_owned();
        let scale = column_scale(&y);
        let mut start = remove(&mut y, space.basis().iter());
        start += remove(&mut y, space.basis().iter());
        let mut coordinates = start.col_as_slice(0).to_vec();
        let first = normalise(&y, scale);
        coordinates.extend(first.iter().map(|(_, norm)| *norm));
        let mut own = Self::within(&coordinates);
        match first {
            Some((vector, _)) => own.vectors.push(vector),
            None => own.find_next(space),
        }
        own
    }

    /// The vector to multiply next, or `None` when the joint space holds all that r reaches.
    pub fn next(&self) -> Option<&Mat<f32>> {
        self.vectors.get(self.leaks.len())
    }

    /// Takes the kernel's product with [`OwnSpace::next`] and finds the vector after it.
    ///
    /// Cost: 16 n (space + own dimensions) flops.
    pub fn extend(
        &mut self,
        operator: &MaskedOperator<'_>,
        space: &KrylovSpace,
        product: MatRef<'_, f32>,
    ) {
        let mut y = operator.image(product);
        let (on_space, on_own) = self.remove_from(space, &mut y);
        self.on_space.push(on_space);
        self.on_own.push(on_own);
        self.leaks.push(block::narrow(y.as_ref()));
        self.find_next(space);
    }

    /// Y ← (I − GG' − WW') Y, twice; returns G'Y and W'Y.
    fn remove_from(&self, space: &KrylovSpace, y: &mut Mat<f64>) -> (Vec<f64>, Vec<f64>) {
        let mut on_space = remove(y, space.basis().iter());
        let mut on_own = remove(y, self.vectors.iter());
        on_space += remove(y, space.basis().iter());
        on_own += remove(y, self.vectors.iter());
        (
            on_space.col_as_slice(0).to_vec(),
            on_own.col_as_slice(0).to_vec(),
        )
    }

    /// Applies A to the last power of r until that leads out of \[G, W\], and adds the direction it leads to.
    fn find_next(&mut self, space: &KrylovSpace) {
        for _ in 0..MAX_POWERS_INSIDE {
            let Some(last) = self.powers.last() else {
                return;
            };
            let mut image = self.apply(space, last);
            let mut outside = self.lead_out(space, last);
            self.remove_from(space, &mut outside);
            let leaves = column_scale(&outside);
            let scale = norm(&image).hypot(leaves);
            let found = normalise(&outside, scale);
            if found.is_some() {
                image.push(leaves);
            }
            for _ in 0..2 {
                for power in &self.powers {
                    let c: f64 = power.iter().zip(&image).map(|(p, v)| p * v).sum();
                    for (v, p) in image.iter_mut().zip(power) {
                        *v -= c * p;
                    }
                }
            }
            let left = norm(&image);
            if left <= BREAKDOWN * scale {
                return;
            }
            self.powers.push(image.iter().map(|v| v / left).collect());
            if let Some((vector, _)) = found {
                self.vectors.push(vector);
                return;
            }
        }
    }

    /// \[G, W\]'A x for x in \[G, W\], by coordinates; every w in x must have its image.
    fn apply(&self, space: &KrylovSpace, x: &[f64]) -> Vec<f64> {
        let m = space.dimension();
        let Some(SymmetricEigen { values, vectors }) = space.eigen() else {
            return vec![0.0; x.len()];
        };
        let on_space = Mat::from_fn(m, 1, |i, _| x.get(i).copied().unwrap_or(0.0));
        let mut ritz = vectors.transpose() * on_space;
        for (i, value) in values.iter().enumerate() {
            ritz[(i, 0)] *= value;
        }
        let mut y = (vectors * ritz).col_as_slice(0).to_vec();
        let own = x.get(m..).unwrap_or_default();
        for (g, d) in self.on_space.iter().zip(own) {
            for (yi, gi) in y.iter_mut().zip(g) {
                *yi += gi * d;
            }
        }
        for (i, g) in self.on_space.iter().enumerate() {
            let from_space: f64 = g.iter().zip(x).map(|(g, x)| g * x).sum();
            let from_own: f64 = own
                .iter()
                .enumerate()
                .map(|(j, d)| self.own_entry(i, j) * d)
                .sum();
            y.push(from_space + from_own);
        }
        y
    }

    /// wᵢ'A wⱼ.
    fn own_entry(&self, i: usize, j: usize) -> f64 {
        self.on_own[i.max(j)][i.min(j)]
    }

    /// What A x has outside \[G, W\]: G_next R c + Σ dᵢ ℓᵢ for x = G c + W d, with c's last block.
    fn lead_out(&self, space: &KrylovSpace, x: &[f64]) -> Mat<f64> {
        let m = space.dimension();
        let mut outside = Mat::zeros(space.blocks[0].nrows(), 1);
        if let Some(next) = space.next() {
            let last = space.coupling.ncols();
            let c = Mat::from_fn(last, 1, |i, _| x.get(m - last + i).copied().unwrap_or(0.0));
            let rows = &space.coupling * c;
            block::add_product(outside.as_mut(), next.as_ref(), rows.as_ref(), 1.0);
        }
        for (leak, &d) in self.leaks.iter().zip(x.get(m..).unwrap_or_default()) {
            let d = Mat::from_fn(1, 1, |_, _| d);
            block::add_product(outside.as_mut(), leak.as_ref(), d.as_ref(), 1.0);
        }
        outside
    }

    /// Projects A and r onto the joint space of G and the own vectors that have images.
    ///
    /// Cost: O(m² s) for m dimensions of G and s own; no vector of length n is touched.
    pub fn project(&self, space: &KrylovSpace) -> JointProjection {
        let (m, s) = (space.dimension(), self.leaks.len());
        let (ritz_values, ritz) = match space.eigen() {
            Some(SymmetricEigen { values, vectors }) => (values.clone(), vectors.as_ref()),
            None => (Vec::new(), MatRef::from_column_major_slice(&[], 0, 0)),
        };
        let on_space = Mat::from_fn(m, s, |i, j| self.on_space[j][i]);
        let r = |i: usize| self.norm * self.powers[0].get(i).copied().unwrap_or(0.0);
        let start = ritz.transpose() * Mat::from_fn(m, 1, |i, _| r(i));
        JointProjection {
            ritz_values,
            cross: ritz.transpose() * on_space,
            own: Mat::from_fn(s, s, |i, j| self.own_entry(i, j)),
            start: (0..m)
                .map(|i| start[(i, 0)])
                .chain((m..m + s).map(r))
                .collect(),
        }
    }

    /// The n-vector with coordinates `joint` in the orthonormal joint basis of [`OwnSpace::project`].
    ///
    /// Cost: 2 n (m + s) flops.
    pub fn combine(&self, space: &KrylovSpace, joint: &[f64]) -> Vec<f64> {
        let m = space.dimension();
        let mut sum = Mat::zeros(space.blocks[0].nrows(), 1);
        if let Some(eigen) = space.eigen() {
            let on_space = &eigen.vectors * MatRef::from_column_major_slice(&joint[..m], m, 1);
            let mut start = 0;
            for block in space.basis() {
                let rows = on_space.subrows(start, block.ncols());
                block::add_product(sum.as_mut(), block.as_ref(), rows, 1.0);
                start += block.ncols();
            }
        }
        for (vector, &d) in self.vectors.iter().zip(&joint[m..]) {
            let d = Mat::from_fn(1, 1, |_, _| d);
            block::add_product(sum.as_mut(), vector.as_ref(), d.as_ref(), 1.0);
        }
        sum.col_as_slice(0).to_vec()
    }
}

/// A and r in an orthonormal basis of the joint space, G's Ritz vectors and W: T = \[diag(e), B; B', D\] and ρ.
#[derive(Clone, Debug)]
pub struct JointProjection {
    ritz_values: Vec<f64>,
    cross: Mat<f64>,
    own: Mat<f64>,
    start: Vec<f64>,
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
