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
mod tests {
    use super::super::KernelError;
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;
    use std::f64::consts::PI;
    use std::path::PathBuf;

    /// The definition, executed with the library's arc cosine. `gram`, `own`: `x·x'/p`, `x·x/p`, `x'·x'/p`.
    fn definition(kernel: &InfiniteKernel, gram: f64, own: (f64, f64)) -> f64 {
        let (w, b) = (kernel.weight_variance(), kernel.bias_variance());
        let (mut k12, mut k11, mut k22) = (w * gram + b, w * own.0 + b, w * own.1 + b);
        let mut theta = k12;
        for _ in 0..kernel.depth() {
            let (f, slope, f11, f22) = match kernel.activation() {
                Activation::Relu => {
                    let norm = (k11 * k22).sqrt();
                    let angle = (norm * norm - k12 * k12).max(0.0).sqrt().atan2(k12);
                    (
                        norm / (2.0 * PI) * (angle.sin() + (PI - angle) * angle.cos()),
                        (PI - angle) / (2.0 * PI),
                        0.5 * k11,
                        0.5 * k22,
                    )
                }
                Activation::Erf => {
                    let d = (1.0 + 2.0 * k11) * (1.0 + 2.0 * k22);
                    let own = |k: f64| 2.0 / PI * (2.0 * k / (1.0 + 2.0 * k)).asin();
                    (
                        2.0 / PI * (2.0 * k12 / d.sqrt()).clamp(-1.0, 1.0).asin(),
                        // D − 4k², without cancellation.
                        4.0 / PI
                            / (1.0 + 2.0 * (k11 + k22) + 4.0 * (k11 * k22 - k12 * k12).max(0.0))
                                .sqrt(),
                        own(k11),
                        own(k22),
                    )
                }
            };
            (k12, k11, k22) = (w * f + b, w * f11 + b, w * f22 + b);
            theta = k12 + w * slope * theta;
        }
        theta
    }

    fn kernels() -> Vec<InfiniteKernel> {
        let mut kernels = Vec::new();
        for activation in [Activation::Relu, Activation::Erf] {
            for depth in 0..=4 {
                for (w, b) in [(2.0, 0.0), (1.0, 0.0), (1.5, 0.3), (0.4, 3.0), (9.0, 0.1)] {
                    kernels.push(InfiniteKernel::new(activation, depth, w, b).unwrap());
                }
            }
        }
        kernels
    }

    fn normal(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.sample(StandardNormal)).collect()
    }

    fn tile_of<T: Feature>(
        kernel: &InfiniteKernel,
        x: &[T],
        y: &[T],
        p: usize,
        diagonal: bool,
    ) -> Vec<f32> {
        let rows = kernel.row_block(x, p).unwrap();
        let cols = kernel.row_block(y, p).unwrap();
        let mut out = vec![f32::NAN; rows.n_rows() * cols.n_rows()];
        let stride = cols.n_rows();
        kernel.tile(
            &rows,
            &cols,
            diagonal,
            &mut out,
            stride,
            &mut TileScratch::default(),
        );
        out
    }

    /// Largest error against the definition, relative to the geometric mean of the two diagonal entries.
    fn error<T: Feature>(
        kernel: &InfiniteKernel,
        x: &[T],
        y: &[T],
        p: usize,
        diagonal: bool,
    ) -> f64 {
        let out = tile_of(kernel, x, y, p, diagonal);
        let n_cols = y.len() / p;
        let mut worst = 0.0f64;
        for (i, a) in x.chunks(p).enumerate() {
            for (j, b) in y.chunks(p).enumerate() {
                let n = p as f64;
                let own = (dot(a, a) / n, dot(b, b) / n);
                let expected = definition(kernel, dot(a, b) / n, own);
                let size = (kernel.diagonal(own.0) * kernel.diagonal(own.1)).sqrt();
                let gap = (f64::from(out[i * n_cols + j]) - expected).abs();
                assert!(gap.is_finite(), "{kernel:?} at {i}, {j}");
                if gap > 0.0 {
                    worst = worst.max(gap / size);
                }
            }
        }
        worst
    }

    fn single(x: &[f64]) -> Vec<f32> {
        x.iter().map(|&v| v as f32).collect()
    }

    #[test]
    fn recursion_follows_the_definition_in_double_precision() {
        struct Run<'k> {
            kernel: &'k InfiniteKernel,
            blocks: (&'k RowBlock<'k, f64>, &'k RowBlock<'k, f64>),
            values: &'k mut [f64; CHUNK],
        }
        impl WithSimd for Run<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                Recursion::new(simd, self.kernel, 1).chunk(
                    self.blocks.0,
                    0,
                    self.blocks.1,
                    0,
                    self.values,
                );
            }
        }
        for kernel in kernels() {
            let norms: Vec<f64> = (0..CHUNK).map(|j| 0.2 + 0.1 * j as f64).collect();
            let own = 0.83f64;
            let (x, y) = ([own], norms.clone());
            let blocks = (
                kernel.row_block(&x, 1).unwrap(),
                kernel.row_block(&y, 1).unwrap(),
            );
            for step in -999..=999 {
                let cosine = f64::from(step) * 1e-3;
                let mut values = [0.0; CHUNK];
                for (value, norm) in values.iter_mut().zip(&norms) {
                    *value = cosine * own * norm;
                }
                let gram = values;
                for scalar in [false, true] {
                    values = gram;
                    let run = Run {
                        kernel: &kernel,
                        blocks: (&blocks.0, &blocks.1),
                        values: &mut values,
                    };
                    if scalar {
                        run.with_simd(Scalar);
                    } else {
                        pulp::Arch::new().dispatch(run);
                    }
                    for j in 0..CHUNK {
                        let norms = (own * own, norms[j] * norms[j]);
                        let expected = definition(&kernel, gram[j], norms);
                        let size = (kernel.diagonal(norms.0) * kernel.diagonal(norms.1)).sqrt();
                        assert!(
                            (values[j] - expected).abs() <= 1e-9 * size,
                            "{kernel:?} at cosine {cosine}: {} {expected}",
                            values[j]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_follow_the_definition() {
        let p = 37;
        let (x, y) = (normal(45 * p, 1), normal(70 * p, 2));
        for kernel in kernels() {
            assert!(error(&kernel, &x, &y, p, false) < 2e-7, "{kernel:?}");
            assert!(error(&kernel, &y, &y, p, true) < 2e-7, "{kernel:?}");
            let (x, y) = (single(&x), single(&y));
            assert!(error(&kernel, &x, &y, p, false) < 1e-6, "{kernel:?}");
            assert!(error(&kernel, &y, &y, p, true) < 1e-6, "{kernel:?}");
        }
    }

    /// Of a size that the matrix unit takes, where there is one.
    #[test]
    fn large_tiles_follow_the_definition() {
        let (p, n_rows, n_cols) = (300, 545, 530);
        let (x, mut y) = (normal(n_rows * p, 15), normal(n_cols * p, 16));
        // Two-valued features, some outliers, and a duplicate.
        for value in &mut y[..10 * p] {
            *value = if *value < 0.5 { -0.6 } else { 1.6 };
        }
        for row in 10..20 {
            y[row * p + 7 * row] = 30.0;
        }
        y.copy_within(..p, 20 * p);
        let (x, y) = (single(&x), single(&y));
        for kernel in kernels().into_iter().step_by(9) {
            assert!(error(&kernel, &x, &y, p, false) < 1e-6, "{kernel:?}");
            assert!(error(&kernel, &y, &y, p, true) < 1e-6, "{kernel:?}");
        }
    }

    #[test]
    fn double_precision_blocks_fit_together() {
        let p = 3;
        let (x, y) = (normal(300 * p, 3), normal(530 * p, 4));
        for activation in [Activation::Relu, Activation::Erf] {
            let kernel = InfiniteKernel::new(activation, 2, 2.0, 0.1).unwrap();
            assert!(error(&kernel, &x, &y, p, false) < 2e-7);
            assert!(error(&kernel, &y, &y, p, true) < 2e-7);
        }
    }

    #[test]
    fn parallel_antiparallel_near_and_zero_samples() {
        let (p, n) = (400, 300);
        let mut x = normal(n * p, 5);
        let noise = normal(p, 6);
        for j in 0..p {
            let base = x[j];
            x[p + j] = base; // duplicate
            x[2 * p + j] = -base; // antiparallel
            x[3 * p + j] = 2.5 * base; // collinear
            x[4 * p + j] = base + 1e-3 * noise[j]; // near-duplicate
            x[5 * p + j] = base + 3e-2 * noise[j];
            x[6 * p + j] = -base + 1e-2 * noise[j];
            x[7 * p + j] = 0.0;
            x[8 * p + j] = 0.0;
        }
        let single = single(&x);
        for kernel in kernels() {
            // The definition itself goes through the angle: 1e-8 of it is lost at a duplicate.
            assert!(error(&kernel, &x, &x, p, true) < 3e-7, "{kernel:?}");
            let worst = error(&kernel, &single, &single, p, true);
            assert!(worst < 1e-6, "{kernel:?}: {worst}");
            let worst = error(&kernel, &single, &single, p, false);
            assert!(worst < 1e-6, "{kernel:?}: {worst}");
            let out = tile_of(&kernel, &single, &single, p, true);
            let (itself, twin) = (f64::from(out[0]), f64::from(out[1]));
            assert!(
                (itself - twin).abs() < 3e-7 * itself,
                "{kernel:?}: {itself} {twin}"
            );
            if kernel.bias_variance() == 0.0 {
                assert!(out[7 * n..8 * n].iter().all(|&v| v == 0.0), "{kernel:?}");
            }
        }
    }

    #[test]
    fn crowded_tiles_are_formed_in_double_precision() {
        // Every pair nearly parallel: one direction plus little noise.
        let (p, n) = (64, 300);
        let (base, mut x) = (normal(p, 7), normal(n * p, 8));
        for row in x.chunks_mut(p) {
            for (value, direction) in row.iter_mut().zip(&base) {
                *value = direction + 1e-3 * *value;
            }
        }
        let x = single(&x);
        for depth in 1..=3 {
            let kernel = InfiniteKernel::new(Activation::Relu, depth, 2.0, 0.0).unwrap();
            let worst = error(&kernel, &x, &x, p, true);
            assert!(worst < 1e-7, "{worst}");
        }
    }

    #[test]
    fn features_of_any_scale() {
        let p = 20;
        let x = normal(40 * p, 9);
        for scale in [1e-17, 1e-12, 1e12, 1e18] {
            let x: Vec<f32> = x.iter().map(|v| (v * scale) as f32).collect();
            for activation in [Activation::Relu, Activation::Erf] {
                let kernel = InfiniteKernel::new(activation, 2, 2.0, 0.0).unwrap();
                let worst = error(&kernel, &x, &x, p, true);
                assert!(worst < 1e-6, "{activation:?} {scale:e}: {worst}");
            }
        }
    }

    #[test]
    fn diagonal_tiles_are_symmetric_and_agree_with_rectangular_ones() {
        let p = 50;
        let x = single(&normal(200 * p, 10));
        let kernel = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).unwrap();
        let square = tile_of(&kernel, &x, &x, p, true);
        let rectangle = tile_of(&kernel, &x, &x[..130 * p], p, false);
        for i in 0..200 {
            for j in 0..200 {
                assert_eq!(square[i * 200 + j].to_bits(), square[j * 200 + i].to_bits());
                if j < 130 {
                    let (a, b) = (square[i * 200 + j], rectangle[i * 130 + j]);
                    assert!((a - b).abs() < 3e-6, "{a} {b}");
                }
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_thread_or_place() {
        let p = 129;
        let (x, y) = (single(&normal(90 * p, 11)), single(&normal(70 * p, 12)));
        let kernel = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).unwrap();
        let run = |shift: usize, stride: usize| {
            let (mut moved_x, mut moved_y) = (vec![0.0; shift], vec![0.0; 3 * shift]);
            moved_x.extend(&x);
            moved_y.extend(&y);
            let rows = kernel.row_block(&moved_x[shift..], p).unwrap();
            let cols = kernel.row_block(&moved_y[3 * shift..], p).unwrap();
            let mut out = vec![-1.0f32; shift + 90 * stride];
            let mut scratch = TileScratch::default();
            kernel.tile(&rows, &cols, false, &mut out[shift..], stride, &mut scratch);
            assert!(out[..shift].iter().all(|&v| v == -1.0));
            let lines = out[shift..].chunks(stride);
            for line in lines.clone() {
                assert!(line[70..].iter().all(|&v| v == -1.0), "wrote between rows");
            }
            lines
                .flat_map(|line| line[..70].iter().map(|v| v.to_bits()))
                .collect::<Vec<u32>>()
        };
        let reference = run(0, 70);
        std::thread::scope(|scope| {
            let runs: Vec<_> = [(0, 70), (1, 70), (3, 71), (5, 96)]
                .map(|(shift, stride)| scope.spawn(move || run(shift, stride)))
                .into_iter()
                .collect();
            for handle in runs {
                assert!(handle.join().unwrap() == reference);
            }
        });
    }

    #[test]
    fn refuses_hopeless_blocks() {
        let kernel = InfiniteKernel::new(Activation::Relu, 1, 2.0, 0.0).unwrap();
        assert_eq!(
            kernel.row_block::<f32>(&[], 0).err(),
            Some(KernelError::NoFeatures)
        );
        assert!(matches!(
            kernel.row_block(&[1.0f32; 5], 2).err(),
            Some(KernelError::RaggedRows { .. })
        ));
        assert_eq!(
            kernel.row_block(&[1.0, 1.0, f64::NAN, 1.0], 2).err(),
            Some(KernelError::NotFinite { row: 1 })
        );
        assert!(matches!(
            kernel.row_block(&[1e30f64, 1.0], 2).err(),
            Some(KernelError::Overflow { row: 0, .. })
        ));
    }

    #[test]
    fn agrees_with_neural_tangents() {
        let cases = std::env::var_os("NTKPIPE_CASES").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases"),
            PathBuf::from,
        );
        let directory = cases.join("neural_tangents");
        if !directory.is_dir() {
            let line = format!(
                "agrees_with_neural_tangents: no cases at {}\n",
                directory.display()
            );
            eprint!("skipped: {line}");
            // For the gate's summary.
            if let Some(path) = std::env::var_os("NTKPIPE_SKIPPED") {
                let file = std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(path);
                std::io::Write::write_all(&mut file.unwrap(), line.as_bytes()).unwrap();
            }
            return;
        }
        let file = std::fs::File::open(directory.join("kernels.npz")).unwrap();
        let mut archive = zip::ZipArchive::new(file).unwrap();
        let mut read = |name: &str| -> (Vec<f64>, usize) {
            let array = archive.by_name(&format!("{name}.npy")).unwrap();
            let array = npyz::NpyFile::new(array).unwrap();
            assert_eq!(array.order(), npyz::Order::C);
            let n_cols = array.shape()[1] as usize;
            (array.into_vec().unwrap(), n_cols)
        };
        let ((x, p), (z, _)) = (read("X"), read("Z"));
        let text = std::fs::read_to_string(directory.join("configs.json")).unwrap();
        let configurations: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert!(!configurations.is_empty());
        for (index, configuration) in configurations.iter().enumerate() {
            let activation = match configuration["activation"].as_str().unwrap() {
                "relu" => Activation::Relu,
                "erf" => Activation::Erf,
                other => panic!("activation {other}"),
            };
            let kernel = InfiniteKernel::new(
                activation,
                configuration["depth"].as_u64().unwrap() as usize,
                configuration["weight_variance"].as_f64().unwrap(),
                configuration["bias_variance"].as_f64().unwrap(),
            )
            .unwrap();
            for (name, left, diagonal) in [("xx", &x, true), ("zx", &z, false)] {
                let (expected, _) = read(&format!("k{index}_{name}"));
                let found = tile_of(&kernel, left, &x, p, diagonal);
                let found_single = tile_of(&kernel, &single(left), &single(&x), p, diagonal);
                let size = expected.iter().fold(0.0f64, |most, v| most.max(v.abs()));
                for (at, &e) in expected.iter().enumerate() {
                    let tolerance = 1e-5 * e.abs().max(1e-2 * size);
                    assert!(
                        (f64::from(found[at]) - e).abs() < tolerance,
                        "{name} {index} {at}"
                    );
                    assert!(
                        (f64::from(found_single[at]) - e).abs() < tolerance,
                        "{name} {index} {at}"
                    );
                }
            }
        }
    }

    #[test]
    #[ignore = "prints timings"]
    fn timing() {
        let (n, p) = (2048, 2923);
        let x = single(&normal(n * p, 13));
        let y = single(&normal(n * p, 14));
        let mut out = vec![0.0f32; n * n];
        let mut scratch = TileScratch::default();
        let best = |run: &mut dyn FnMut()| {
            (0..7)
                .map(|_| {
                    let start = std::time::Instant::now();
                    run();
                    start.elapsed().as_secs_f64()
                })
                .fold(f64::INFINITY, f64::min)
        };
        let product = best(&mut || {
            matmul(
                MatMut::from_row_major_slice_mut(&mut out, n, n),
                Accum::Replace,
                MatRef::from_row_major_slice(&x, n, p),
                MatRef::from_row_major_slice(&y, n, p).transpose(),
                1.0f32,
                Par::Seq,
            )
        });
        eprintln!(
            "product {:.1} ms, {:.0} GFLOP/s",
            product * 1e3,
            2e-9 * (n * n * p) as f64 / product
        );
        for (activation, depth) in [
            (Activation::Relu, 1),
            (Activation::Relu, 2),
            (Activation::Relu, 4),
            (Activation::Erf, 2),
        ] {
            let kernel = InfiniteKernel::new(activation, depth, 2.0, 0.0).unwrap();
            let (rows, cols) = (
                kernel.row_block(&x, p).unwrap(),
                kernel.row_block(&y, p).unwrap(),
            );
            let blocks = best(&mut || drop(kernel.row_block(&x, p).unwrap()));
            let tile = Tile {
                kernel: &kernel,
                rows: &rows,
                cols: &cols,
                diagonal: false,
                stride: n,
            };
            tile.single_gram(&x, &y, &mut out, &mut Multiplier::default());
            let gram = out.clone();
            let mut found = Vec::new();
            let find = best(&mut || {
                let gram = &out;
                pulp::Arch::new().dispatch(FindParallel {
                    tile: &tile,
                    gram,
                    found: &mut found,
                });
            });
            // On fresh products each time: kernel values in their place would soon be subnormal.
            let sweep = (0..7)
                .map(|_| {
                    out.copy_from_slice(&gram);
                    let start = std::time::Instant::now();
                    pulp::Arch::new().dispatch(SweepInPlace {
                        tile: &tile,
                        out: &mut out,
                    });
                    start.elapsed().as_secs_f64()
                })
                .fold(f64::INFINITY, f64::min);
            let whole = best(&mut || kernel.tile(&rows, &cols, false, &mut out, n, &mut scratch));
            let square = best(&mut || kernel.tile(&rows, &rows, true, &mut out, n, &mut scratch));
            let each = 1e9 / (n * n) as f64;
            eprintln!(
                "{activation:?} depth {depth}: sweep {:.2} ns, search {:.2} ns an element; tile {:.3}, \
                 diagonal tile {:.3}, row block {:.3} products",
                sweep * each,
                find * each,
                whole / product,
                square / product,
                blocks / product
            );
        }
    }
}
