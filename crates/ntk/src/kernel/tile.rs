//! A tile of the infinite-width kernel: one matrix product, one elementwise sweep.

use super::infinite::{Activation, InfiniteKernel};
use super::row_block::{CHUNK, Feature, RowBlock, dot};
use amx_gemm::{self as matrix_unit, Multiplier};
use faer::linalg::matmul::{matmul, triangular};
use faer::{Accum, MatMut, MatRef, Par};
use pulp::{Scalar, Simd, WithSimd};
use std::f64::consts::FRAC_PI_2;

/// Vectors advanced together through the layers, to hide the latency of the polynomial.
const GROUP: usize = 4;
/// Rows and columns of the blocks in which double-precision products are formed.
const BLOCK: usize = 256;
/// Features summed in single precision at a stretch: shorter ones halve the rounding error and cost nothing measurable.
const STRETCH: usize = 256;
/// Features and samples a side from which on the matrix unit, where there is one, is the faster.
const UNIT_FEATURES: usize = 256;
const UNIT_SAMPLES: usize = 512;
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
    multiplier: Multiplier,
}

impl InfiniteKernel {
    /// Computes a tile of the kernel, `Θ(rows, cols)`, on the calling thread.
    ///
    /// `out`: `n_rows x n_cols`, row-major, row `i` at `i * out_stride`. `diagonal` says that both blocks hold the same
    /// samples: the tile is then exactly symmetric and its diagonal comes from the closed form. The product of the features is
    /// formed in their own precision, the recursion in double. Pairs whose angle a single-precision product has lost
    /// are formed again in double precision, or the whole product when they are more than 2 % of the tile. Large products are formed on the
    /// processor's matrix unit where it has one.
    ///
    /// The bits depend on the two blocks and nothing else. Cost: `n_rows n_cols p` multiply-adds (half that when
    /// `diagonal`) and about 30 per element and layer. Scratch: below `BLOCK (2 p + BLOCK)` doubles, the
    /// parallel pairs, and 6 KiB a sample for the matrix unit.
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
        let part = TilePart {
            kernel: self,
            rows,
            cols,
            out,
        };
        tiles(&mut [part], diagonal, out_stride, scratch);
    }

    /// `Θ(x, x')` of a pair of samples in double precision, whatever the reference.
    pub(super) fn entry<T: Feature>(
        &self,
        rows: &RowBlock<'_, T>,
        row: usize,
        cols: &RowBlock<'_, T>,
        col: usize,
    ) -> f64 {
        let gram = dot(rows.row(row), cols.row(col));
        let recursion = Recursion::new(Scalar, self, rows.n_features);
        let [theta] = recursion.group::<T, 1>(rows, row, cols, col, [gram]);
        theta
    }
}

/// Whether the product of so many features of so many samples is formed on the processor's matrix unit.
pub fn is_on_matrix_unit(n_features: usize, sides: [usize; 2]) -> bool {
    let is_large = n_features >= UNIT_FEATURES && sides.iter().all(|&n| n >= UNIT_SAMPLES);
    is_large && matrix_unit::is_available()
}

/// One kernel's part in [`tiles`].
pub struct TilePart<'t, 'a, T: Feature> {
    /// The kernel.
    pub kernel: &'t InfiniteKernel,
    /// Its block of the rows' samples.
    pub rows: &'t RowBlock<'a, T>,
    /// Its block of the columns' samples.
    pub cols: &'t RowBlock<'a, T>,
    /// Its tile.
    pub out: &'t mut [f32],
}

/// Computes the same tile of several kernels, each as [`InfiniteKernel::tile`] does, to the bit, from one product of the features.
///
/// # Panics
/// As [`InfiniteKernel::tile`] does, and when the parts are not of the same samples.
pub fn tiles<T: Feature>(
    parts: &mut [TilePart<'_, '_, T>],
    diagonal: bool,
    out_stride: usize,
    scratch: &mut TileScratch,
) {
    let Some(TilePart { rows, cols, .. }) = parts.first() else {
        return;
    };
    let (n_rows, n_cols) = (rows.n_rows, cols.n_rows);
    assert!(!diagonal || n_rows == n_cols, "a diagonal tile is square");
    for TilePart {
        rows, cols, out, ..
    } in &*parts
    {
        assert_eq!(
            rows.n_features, cols.n_features,
            "blocks of the same features"
        );
        assert_eq!((n_rows, n_cols), (rows.n_rows, cols.n_rows));
        assert!(
            n_rows == 0 || out_stride >= n_cols && out.len() >= (n_rows - 1) * out_stride + n_cols,
            "room for {n_rows} x {n_cols} values at stride {out_stride}"
        );
    }
    if n_rows == 0 || n_cols == 0 {
        return;
    }
    let mut parts: Vec<(Tile<'_, '_, T>, &mut [f32])> = parts
        .iter_mut()
        .map(|part| {
            let tile = Tile {
                kernel: part.kernel,
                rows: part.rows,
                cols: part.cols,
                diagonal,
                stride: out_stride,
            };
            (tile, &mut *part.out)
        })
        .collect();
    let arch = pulp::Arch::new();
    single_gram(&mut parts, &mut scratch.multiplier);
    let mut in_double = Vec::new();
    for (tile, out) in &mut parts {
        scratch.parallel.clear();
        let found = &mut scratch.parallel;
        let gram = &**out;
        if tile.is_single() && arch.dispatch(FindParallel { tile, gram, found }) {
            arch.dispatch(SweepInPlace { tile, out });
            tile.repair(&scratch.parallel, out);
        } else {
            in_double.push((*tile, &mut **out));
        }
    }
    double(&mut in_double, arch, scratch);
    for (tile, out) in &mut parts {
        if diagonal {
            for (i, &value) in tile.rows.diagonal().iter().enumerate() {
                out[i * out_stride + i] = value as f32;
            }
            mirror(out, n_rows, out_stride);
        }
    }
}

/// The products of the features in single precision, into each of the tiles that it can hold.
fn single_gram<T: Feature>(
    parts: &mut [(Tile<'_, '_, T>, &mut [f32])],
    multiplier: &mut Multiplier,
) {
    let mut parts = parts.iter_mut().filter(|(tile, _)| tile.is_single());
    let Some((tile, gram)) = parts.next() else {
        return;
    };
    if let (Some(x), Some(y)) = (T::narrow(&tile.rows.x), T::narrow(&tile.cols.x)) {
        tile.single_gram(x, y, gram, multiplier);
    }
    for (_, out) in parts {
        let lines = out.chunks_mut(tile.stride).zip(gram.chunks(tile.stride));
        for (row, (line, from)) in lines.enumerate().take(tile.rows.n_rows) {
            let n_cols = tile.n_cols(row);
            line[..n_cols].copy_from_slice(&from[..n_cols]);
        }
    }
}

/// The tiles with their products in double precision, block by block.
fn double<T: Feature>(
    parts: &mut [(Tile<'_, '_, T>, &mut [f32])],
    arch: pulp::Arch,
    scratch: &mut TileScratch,
) {
    let Some(&(first, _)) = parts.first() else {
        return;
    };
    let p = first.rows.n_features;
    scratch.gram.resize(BLOCK * BLOCK, 0.0);
    for row in (0..first.rows.n_rows).step_by(BLOCK) {
        let n_rows = BLOCK.min(first.rows.n_rows - row);
        let x = T::widen(&first.rows.x[row * p..][..n_rows * p], &mut scratch.rows);
        let x = MatRef::from_row_major_slice(x, n_rows, p);
        let last = first.n_cols(row + n_rows - 1);
        for col in (0..last).step_by(BLOCK) {
            let n_cols = BLOCK.min(first.cols.n_rows - col);
            let y = T::widen(&first.cols.x[col * p..][..n_cols * p], &mut scratch.cols);
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
            for (tile, out) in &mut *parts {
                arch.dispatch(SweepBlock {
                    tile,
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
}

/// What a tile is made from.
#[derive(Clone, Copy)]
struct Tile<'t, 'a, T: Feature> {
    kernel: &'t InfiniteKernel,
    rows: &'t RowBlock<'a, T>,
    cols: &'t RowBlock<'a, T>,
    diagonal: bool,
    stride: usize,
}

impl<T: Feature> Tile<'_, '_, T> {
    /// Whether the product of the features is formed in single precision.
    fn is_single(&self) -> bool {
        let is_narrow = T::narrow(&self.rows.x).is_some();
        is_narrow && self.rows.single_precision && self.cols.single_precision
    }

    /// Number of columns of a row to compute: those below the diagonal, or all.
    #[inline(always)]
    fn n_cols(&self, row: usize) -> usize {
        if self.diagonal { row } else { self.cols.n_rows }
    }

    /// The products of the features in single precision, into the tile itself.
    fn single_gram(&self, x: &[f32], y: &[f32], out: &mut [f32], multiplier: &mut Multiplier) {
        let (n_rows, n_cols, p) = (self.rows.n_rows, self.cols.n_rows, self.rows.n_features);
        if is_on_matrix_unit(p, [n_rows, n_cols]) {
            return multiplier.multiply([x, y], p, self.diagonal, out, self.stride);
        }
        // Not `from_row_major_slice_with_stride_mut`: in faer 0.24 it exchanges the strides and writes beyond the slice.
        let mut gram = MatMut::from_column_major_slice_with_stride_mut(
            &mut out[..(n_rows - 1) * self.stride + n_cols],
            n_cols,
            n_rows,
            self.stride,
        )
        .transpose_mut();
        let x = MatRef::from_row_major_slice(x, n_rows, p);
        let y = MatRef::from_row_major_slice(y, n_cols, p).transpose();
        for start in (0..p).step_by(STRETCH) {
            let length = STRETCH.min(p - start);
            let (x, y) = (x.subcols(start, length), y.subrows(start, length));
            let onto = if start == 0 {
                Accum::Replace
            } else {
                Accum::Add
            };
            if self.diagonal {
                use triangular::BlockStructure::{Rectangular, TriangularLower};
                let gram = gram.as_mut();
                triangular::matmul(
                    gram,
                    TriangularLower,
                    onto,
                    x,
                    Rectangular,
                    y,
                    Rectangular,
                    1.0,
                    Par::Seq,
                );
            } else {
                matmul(gram.as_mut(), onto, x, y, 1.0, Par::Seq);
            }
        }
    }

    /// Computes the listed entries from a double-precision product of their samples.
    fn repair(&self, pairs: &[(u32, u32)], out: &mut [f32]) {
        for &(row, col) in pairs {
            let (row, col) = (row as usize, col as usize);
            out[row * self.stride + col] = self.kernel.entry(self.rows, row, self.cols, col) as f32;
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

    /// `|c|` up to `most`, and the sign of `c`.
    #[inline(always)]
    fn split(self, c: S::f64s, most: f64) -> (S::f64s, S::f64s) {
        let simd = self.simd;
        let sign = simd.and_f64s(c, simd.splat_f64s(-0.0));
        // Not `abs_f64s`, which pulp 0.22 leaves as a function call.
        let size = simd.min_f64s(simd.xor_f64s(c, sign), simd.splat_f64s(most));
        (size, sign)
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
        let (mut cosine, mut sign) = (*k, *k);
        for v in 0..W {
            let c = simd.mul_f64s(simd.mul_f64s(k[v], inverse), inverses[v]);
            (cosine[v], sign[v]) = self.split(c, 1.0);
        }
        let (angle, sine) = self.kernel.angle.evaluate(simd, cosine);
        for v in 0..W {
            // π − a = π/2 + asin(cos a), asin odd.
            let asin = simd.sub_f64s(right, angle[v]);
            let rest = simd.add_f64s(right, simd.xor_f64s(asin, sign[v]));
            let f = simd.mul_add_e_f64s(rest, simd.xor_f64s(cosine[v], sign[v]), sine[v]);
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
        let one = simd.splat_f64s(1.0);
        let twice = simd.splat_f64s(2.0 * inverse);
        let (mut both, mut size, mut below, mut sign) = (*k, *k, *k, *k);
        for v in 0..W {
            // 2 / √D.
            both[v] = simd.mul_f64s(twice, inverses[v]);
            (size[v], sign[v]) = self.split(simd.mul_f64s(k[v], both[v]), BELOW_ONE);
            below[v] = simd.sub_f64s(one, size[v]);
        }
        let asin = self.kernel.arc_sine.evaluate(simd, size, below);
        for v in 0..W {
            // √(1 − c²).
            let root = simd.sqrt_f64s(simd.mul_f64s(below[v], simd.add_f64s(one, size[v])));
            let slope = simd.div_f64s(simd.mul_f64s(self.constant, both[v]), root);
            let asin = simd.xor_f64s(asin[v], sign[v]);
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

/// Turns the products that a tile holds into kernel values.
struct SweepInPlace<'s, 't, 'a, T: Feature> {
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
struct SweepBlock<'s, 't, 'a, T: Feature> {
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
                let col = self.col + chunk * CHUNK;
                recursion.chunk(rows, row, cols, col, &mut values);
                if kernel.reference.is_some() {
                    let offset = rows.offset[row];
                    let of_cols = cols.offset[col..col + CHUNK].iter();
                    values
                        .iter_mut()
                        .zip(of_cols)
                        .for_each(|(value, of_col)| *value -= offset + of_col);
                }
                store(&values, part);
            }
        }
    }
}

/// Lists the pairs whose angle single precision has lost; false, and the list cut short, when they are too many.
struct FindParallel<'s, 't, 'a, T: Feature> {
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
pub(super) fn mirror(out: &mut [f32], n: usize, stride: usize) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::print_stderr)]
mod tests;
