//! A tile of the infinite-width kernel: one matrix product, one elementwise sweep.

use super::infinite::{Activation, InfiniteKernel};
use super::row_block::{CHUNK, Feature, RowBlock, dot};
use faer::linalg::matmul::{matmul, triangular};
use faer::{Accum, MatMut, MatRef, Par};
use pulp::{Scalar, Simd, WithSimd};
use std::f64::consts::FRAC_PI_2;

/// Vectors advanced together through the layers, to hide the latency of the polynomial.
const GROUP: usize = 4;
/// Rows and columns of the blocks in which double-precision products are formed.
const BLOCK: usize = 256;
/// Share of nearly parallel pairs, in a tile, above which the whole product is formed in double precision.
const PARALLEL_SHARE: f64 = 0.02;
/// Largest `|c|` of the erf recursion, which divides by `√(1 − c²)`.
const BELOW_ONE: f64 = 1.0 - f64::EPSILON / 2.0;

/// Working memory of [`InfiniteKernel::tile`]; grows on first use, to be kept from tile to tile, one a thread.
#[derive(Debug, Clone, Default)]
pub struct TileScratch {
    rows: Vec<f64>,
    cols: Vec<f64>,
    gram: Vec<f64>,
    parallel: Vec<(u32, u32)>,
}

impl InfiniteKernel {
    /// Computes a tile of the kernel, `Θ(rows, cols)`, on the calling thread.
    ///
    /// `out`: `n_rows x n_cols`, row-major, row `i` at `i * out_stride`. `diagonal` says that both blocks hold the same
    /// samples: the tile is then exactly symmetric and its diagonal comes from the closed form. The product of the features is
    /// formed in their own precision, the recursion in double. Pairs whose angle a single-precision product has lost
    /// are formed again in double precision, or the whole product when they are more than 2 % of the tile.
    ///
    /// The bits depend on the two blocks and nothing else. Cost: `n_rows n_cols p` multiply-adds (half that when
    /// `diagonal`) and about 30 per element and layer. Scratch: below `BLOCK (2 p + BLOCK)` doubles, and the
    /// parallel pairs.
    ///
    /// # Panics
    /// When the blocks differ in features, when `out` or `out_stride` is too small, or when `diagonal` is set and the
    /// blocks differ in length.
    pub fn tile<T: Feature>(
        &self,
        rows: &RowBlock<'_, T>,
        cols: &RowBlock<'_, T>,
        diagonal: bool,
        out: &mut [f32],
        out_stride: usize,
        scratch: &mut TileScratch,
    ) {
        let (n_rows, n_cols) = (rows.n_rows, cols.n_rows);
        assert_eq!(
            rows.n_features, cols.n_features,
            "blocks of the same features"
        );
        assert!(!diagonal || n_rows == n_cols, "a diagonal tile is square");
        if n_rows == 0 || n_cols == 0 {
            return;
        }
        assert!(
            out_stride >= n_cols && out.len() >= (n_rows - 1) * out_stride + n_cols,
            "room for {n_rows} x {n_cols} values at stride {out_stride}"
        );
        let tile = Tile {
            kernel: self,
            rows,
            cols,
            diagonal,
            stride: out_stride,
        };
        let arch = pulp::Arch::new();
        let single = match (T::narrow(rows.x), T::narrow(cols.x)) {
            (Some(x), Some(y)) if rows.single_precision && cols.single_precision => {
                tile.single_gram(x, y, out);
                scratch.parallel.clear();
                arch.dispatch(FindParallel {
                    tile: &tile,
                    gram: out,
                    found: &mut scratch.parallel,
                })
            }
            _ => false,
        };
        if single {
            arch.dispatch(SweepInPlace { tile: &tile, out });
            tile.repair(&scratch.parallel, out);
        } else {
            tile.double(arch, out, scratch);
        }
        if diagonal {
            for (i, &value) in rows.diagonal().iter().enumerate() {
                out[i * out_stride + i] = value as f32;
            }
            mirror(out, n_rows, out_stride);
        }
    }
}

/// What a tile is made from.
struct Tile<'t, 'a, T> {
    kernel: &'t InfiniteKernel,
    rows: &'t RowBlock<'a, T>,
    cols: &'t RowBlock<'a, T>,
    diagonal: bool,
    stride: usize,
}

impl<T: Feature> Tile<'_, '_, T> {
    /// Number of columns of a row to compute: those below the diagonal, or all.
    #[inline(always)]
    fn n_cols(&self, row: usize) -> usize {
        if self.diagonal { row } else { self.cols.n_rows }
    }

    /// The products of the features in single precision, into the tile itself.
    fn single_gram(&self, x: &[f32], y: &[f32], out: &mut [f32]) {
        let (n_rows, n_cols, p) = (self.rows.n_rows, self.cols.n_rows, self.rows.n_features);
        let gram = MatMut::from_row_major_slice_with_stride_mut(
            &mut out[..(n_rows - 1) * self.stride + n_cols],
            n_rows,
            n_cols,
            self.stride,
        );
        let x = MatRef::from_row_major_slice(x, n_rows, p);
        let y = MatRef::from_row_major_slice(y, n_cols, p).transpose();
        if self.diagonal {
            use triangular::BlockStructure::{Rectangular, TriangularLower};
            triangular::matmul(
                gram,
                TriangularLower,
                Accum::Replace,
                x,
                Rectangular,
                y,
                Rectangular,
                1.0,
                Par::Seq,
            );
        } else {
            matmul(gram, Accum::Replace, x, y, 1.0, Par::Seq);
        }
    }

    /// The tile with its products in double precision, block by block.
    fn double(&self, arch: pulp::Arch, out: &mut [f32], scratch: &mut TileScratch) {
        let p = self.rows.n_features;
        scratch.gram.resize(BLOCK * BLOCK, 0.0);
        for row in (0..self.rows.n_rows).step_by(BLOCK) {
            let n_rows = BLOCK.min(self.rows.n_rows - row);
            let x = T::widen(&self.rows.x[row * p..][..n_rows * p], &mut scratch.rows);
            let x = MatRef::from_row_major_slice(x, n_rows, p);
            let last = self.n_cols(row + n_rows - 1);
            for col in (0..last).step_by(BLOCK) {
                let n_cols = BLOCK.min(self.cols.n_rows - col);
                let y = T::widen(&self.cols.x[col * p..][..n_cols * p], &mut scratch.cols);
                let y = MatRef::from_row_major_slice(y, n_cols, p).transpose();
                let gram = &mut scratch.gram[..n_rows * n_cols];
                matmul(
                    MatMut::from_row_major_slice_mut(&mut *gram, n_rows, n_cols),
                    Accum::Replace,
                    x,
                    y,
                    1.0,
                    Par::Seq,
                );
                arch.dispatch(SweepBlock {
                    tile: self,
                    gram,
                    row,
                    col,
                    n_rows,
                    n_cols,
                    out,
                });
            }
        }
    }

    /// Computes the listed entries from a double-precision product of their samples.
    fn repair(&self, pairs: &[(u32, u32)], out: &mut [f32]) {
        for &(row, col) in pairs {
            let (row, col) = (row as usize, col as usize);
            let gram = dot(self.rows.row(row), self.cols.row(col));
            let recursion = Recursion::new(Scalar, self.kernel, self.rows.n_features);
            let [theta] = recursion.group::<T, 1>(self.rows, row, self.cols, col, [gram]);
            out[row * self.stride + col] = theta as f32;
        }
    }
}

/// The recursion over layers, its constants spread over vectors.
#[derive(Clone, Copy)]
struct Recursion<'k, S: Simd> {
    simd: S,
    kernel: &'k InfiniteKernel,
    /// `w / p`.
    first: S::f64s,
    bias: S::f64s,
    constant: S::f64s,
}

impl<'k, S: Simd> Recursion<'k, S> {
    #[inline(always)]
    fn new(simd: S, kernel: &'k InfiniteKernel, n_features: usize) -> Self {
        Recursion {
            simd,
            kernel,
            first: simd.splat_f64s(kernel.weight_variance() / n_features as f64),
            bias: simd.splat_f64s(kernel.bias_variance()),
            constant: simd.splat_f64s(kernel.layer_constant()),
        }
    }

    /// Products `x·x'` of a row with `W` vectors of columns from `col`, to kernel values.
    #[inline(always)]
    fn group<T: Feature, const W: usize>(
        self,
        rows: &RowBlock<'_, T>,
        row: usize,
        cols: &RowBlock<'_, T>,
        col: usize,
        gram: [S::f64s; W],
    ) -> [S::f64s; W] {
        let simd = self.simd;
        let mut k = gram;
        for v in &mut k {
            *v = simd.mul_add_e_f64s(*v, self.first, self.bias);
        }
        let mut theta = k;
        for layer in 0..self.kernel.depth() {
            let (&[scale], &[inverse]) = rows.factors::<1>(layer, row);
            let (scales, inverses) = cols.factors_from(layer, col);
            let (scales, _) = S::as_simd_f64s(&scales[..W * S::F64_LANES]);
            let (inverses, _) = S::as_simd_f64s(&inverses[..W * S::F64_LANES]);
            match self.kernel.activation() {
                Activation::Relu => {
                    self.relu(&mut k, &mut theta, (scale, inverse), scales, inverses)
                }
                Activation::Erf => self.erf(&mut k, &mut theta, inverse, inverses),
            }
        }
        theta
    }

    /// `|c|` up to `most`, the sign of `c`, and `acos|c|`, `√(1 − |c|)`, `√(1 + |c|)`.
    #[inline(always)]
    fn angle<const W: usize>(self, c: [S::f64s; W], most: f64) -> Angle<S, W> {
        let simd = self.simd;
        let one = simd.splat_f64s(1.0);
        let most = simd.splat_f64s(most);
        let minus = simd.splat_f64s(-0.0);
        let (mut x, mut sign, mut below, mut above) = (c, c, c, c);
        for v in 0..W {
            sign[v] = simd.and_f64s(c[v], minus);
            x[v] = simd.min_f64s(simd.abs_f64s(c[v]), most);
            below[v] = simd.sqrt_f64s(simd.sub_f64s(one, x[v]));
            above[v] = simd.sqrt_f64s(simd.add_f64s(one, x[v]));
        }
        Angle {
            x,
            sign,
            acos: self.kernel.arc_cosine.evaluate(simd, x, below),
            below,
            above,
        }
    }

    #[inline(always)]
    fn relu<const W: usize>(
        self,
        k: &mut [S::f64s; W],
        theta: &mut [S::f64s; W],
        (scale, inverse): (f64, f64),
        scales: &[S::f64s],
        inverses: &[S::f64s],
    ) {
        let simd = self.simd;
        let scale = simd.mul_f64s(self.constant, simd.splat_f64s(scale));
        let inverse = simd.splat_f64s(inverse);
        let right = simd.splat_f64s(FRAC_PI_2);
        let mut c = *k;
        for v in 0..W {
            c[v] = simd.mul_f64s(simd.mul_f64s(c[v], inverse), inverses[v]);
        }
        let angle = self.angle(c, 1.0);
        for v in 0..W {
            // π − a, with acos(−x) = π − acos(x).
            let rest = simd.add_f64s(
                right,
                simd.xor_f64s(simd.sub_f64s(right, angle.acos[v]), angle.sign[v]),
            );
            let cosine = simd.xor_f64s(angle.x[v], angle.sign[v]);
            let sine = simd.mul_f64s(angle.below[v], angle.above[v]);
            let f = simd.mul_add_e_f64s(rest, cosine, sine);
            k[v] = simd.mul_add_e_f64s(simd.mul_f64s(scale, scales[v]), f, self.bias);
            theta[v] = simd.mul_add_e_f64s(simd.mul_f64s(self.constant, rest), theta[v], k[v]);
        }
    }

    #[inline(always)]
    fn erf<const W: usize>(
        self,
        k: &mut [S::f64s; W],
        theta: &mut [S::f64s; W],
        inverse: f64,
        inverses: &[S::f64s],
    ) {
        let simd = self.simd;
        let twice = simd.splat_f64s(2.0 * inverse);
        let right = simd.splat_f64s(FRAC_PI_2);
        let (mut c, mut both) = (*k, *k);
        for v in 0..W {
            // 2 / √D.
            both[v] = simd.mul_f64s(twice, inverses[v]);
            c[v] = simd.mul_f64s(c[v], both[v]);
        }
        let angle = self.angle(c, BELOW_ONE);
        for v in 0..W {
            let asin = simd.xor_f64s(simd.sub_f64s(right, angle.acos[v]), angle.sign[v]);
            let root = simd.mul_f64s(angle.below[v], angle.above[v]);
            let slope = simd.div_f64s(simd.mul_f64s(self.constant, both[v]), root);
            k[v] = simd.mul_add_e_f64s(self.constant, asin, self.bias);
            theta[v] = simd.mul_add_e_f64s(slope, theta[v], k[v]);
        }
    }

    /// One chunk of columns of a row, those beyond the block's end included.
    #[inline(always)]
    fn chunk<T: Feature>(
        self,
        rows: &RowBlock<'_, T>,
        row: usize,
        cols: &RowBlock<'_, T>,
        col: usize,
        values: &mut [f64; CHUNK],
    ) {
        let (vectors, _) = S::as_mut_simd_f64s(&mut values[..]);
        for (g, group) in vectors.chunks_exact_mut(GROUP).enumerate() {
            let gram: [S::f64s; GROUP] = [group[0], group[1], group[2], group[3]];
            let theta =
                self.group::<T, GROUP>(rows, row, cols, col + g * GROUP * S::F64_LANES, gram);
            group.copy_from_slice(&theta);
        }
    }
}

struct Angle<S: Simd, const W: usize> {
    x: [S::f64s; W],
    sign: [S::f64s; W],
    acos: [S::f64s; W],
    below: [S::f64s; W],
    above: [S::f64s; W],
}

/// Turns the products that a tile holds into kernel values.
struct SweepInPlace<'s, 't, 'a, T> {
    tile: &'s Tile<'t, 'a, T>,
    out: &'s mut [f32],
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

/// Turns a block of double-precision products into a block of the tile.
struct SweepBlock<'s, 't, 'a, T> {
    tile: &'s Tile<'t, 'a, T>,
    gram: &'s [f64],
    row: usize,
    col: usize,
    n_rows: usize,
    n_cols: usize,
    out: &'s mut [f32],
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
                recursion.chunk(rows, row, cols, self.col + chunk * CHUNK, &mut values);
                store(&values, part);
            }
        }
    }
}

/// Lists the pairs whose angle single precision has lost; false, and the list cut short, when they are too many.
struct FindParallel<'s, 't, 'a, T> {
    tile: &'s Tile<'t, 'a, T>,
    gram: &'s [f32],
    found: &'s mut Vec<(u32, u32)>,
}

impl<T: Feature> WithSimd for FindParallel<'_, '_, '_, T> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let Tile {
            kernel,
            rows,
            cols,
            diagonal,
            stride,
        } = *self.tile;
        if kernel.depth() == 0 {
            return true;
        }
        let n_pairs = rows.n_rows * cols.n_rows / if diagonal { 2 } else { 1 };
        let most = (PARALLEL_SHARE * n_pairs as f64) as usize;
        let first = kernel.weight_variance() / rows.n_features as f64;
        let bias = kernel.bias_variance();
        for row in 0..rows.n_rows {
            let n_cols = self.tile.n_cols(row);
            let (_, &[inverse]) = rows.factors::<1>(0, row);
            let inverse = match kernel.activation() {
                Activation::Relu => inverse,
                Activation::Erf => 2.0 * inverse,
            };
            let limit = rows.parallel[row];
            let line = &self.gram[row * stride..][..n_cols];
            for (chunk, part) in line.chunks(CHUNK).enumerate() {
                let col = chunk * CHUNK;
                let mut values = [0.0f64; CHUNK];
                load(part, &mut values);
                let (_, inverses) = cols.factors::<CHUNK>(0, col);
                let limits = &cols.parallel[col..col + CHUNK];
                // 1 − c² less its limit.
                for j in 0..CHUNK {
                    let c = (first * values[j] + bias) * inverse * inverses[j];
                    values[j] = (1.0 - c * c) - limit * limits[j];
                }
                let mut near = 0u64;
                for value in values {
                    near += value.to_bits() >> 63;
                }
                if near == 0 {
                    continue;
                }
                for (j, value) in values[..part.len()].iter().enumerate() {
                    if *value < 0.0 {
                        self.found.push((row as u32, (col + j) as u32));
                    }
                }
                if self.found.len() > most {
                    return false;
                }
            }
        }
        true
    }
}

#[inline(always)]
fn load(part: &[f32], values: &mut [f64; CHUNK]) {
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

/// Copies the lower triangle onto the upper one, a block at a time.
fn mirror(out: &mut [f32], n: usize, stride: usize) {
    const SIDE: usize = 32;
    for row in (0..n).step_by(SIDE) {
        for col in (0..=row).step_by(SIDE) {
            for i in row..n.min(row + SIDE) {
                for j in col..i.min(col + SIDE) {
                    out[j * stride + i] = out[i * stride + j];
                }
            }
        }
    }
}
