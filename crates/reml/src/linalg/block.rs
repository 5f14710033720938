//! Tall blocks of vectors: n × b, column-major, n large and b small.
//!
//! Stored in f32, reduced in f64 over row chunks of fixed length, the chunks' sums added in order: the bits
//! of a result depend on its operands alone, not on the number of threads.

use faer::linalg::matmul::matmul;
use faer::mat::AsMatRef;
use faer::prelude::ReborrowMut;
use faer::traits::ComplexField;
use faer::{Accum, Mat, MatMut, MatRef, Par, unzip, zip};
use rayon::prelude::*;

/// Rows of one chunk of a reduction.
const CHUNK_ROWS: usize = 1024;

/// The number types of a block; values are widened to f64 before any arithmetic.
pub trait Stored: Copy + Send + Sync {
    /// `a` as f64: itself, or converted into `buffer`.
    fn widen<'x>(a: MatRef<'x, Self>, buffer: &'x mut Mat<f64>) -> MatRef<'x, f64>;
}

impl Stored for f64 {
    fn widen<'x>(a: MatRef<'x, f64>, _: &'x mut Mat<f64>) -> MatRef<'x, f64> {
        a
    }
}

impl Stored for f32 {
    fn widen<'x>(a: MatRef<'x, f32>, buffer: &'x mut Mat<f64>) -> MatRef<'x, f64> {
        *buffer = convert(a, f64::from);
        buffer.as_ref()
    }
}

/// Every value converted, column by column.
pub fn convert<A: Copy, B: ComplexField>(a: MatRef<'_, A>, to: impl Fn(A) -> B) -> Mat<B> {
    let mut converted = Mat::zeros(a.nrows(), a.ncols());
    for j in 0..a.ncols() {
        let target = converted.col_as_slice_mut(j).iter_mut();
        match a.col(j).try_as_col_major() {
            Some(source) => target.zip(source.as_slice()).for_each(|(t, s)| *t = to(*s)),
            None => target.enumerate().for_each(|(i, t)| *t = to(a[(i, j)])),
        }
    }
    converted
}

/// A B on the calling thread, whatever faer's global parallelism is: split among threads, its digits may differ.
///
/// Cost: 2 n k m flops.
pub fn product<T: ComplexField>(
    a: impl AsMatRef<T = T, Rows = usize, Cols = usize>,
    b: impl AsMatRef<T = T, Rows = usize, Cols = usize>,
) -> Mat<T> {
    let (a, b) = (a.as_mat_ref(), b.as_mat_ref());
    let mut product = Mat::zeros(a.nrows(), b.ncols());
    matmul(
        product.as_mut(),
        Accum::Replace,
        a,
        b,
        T::one_impl(),
        Par::Seq,
    );
    product
}

/// The chunks of n rows: first row and number of rows.
pub(crate) fn chunks(n: usize) -> impl IndexedParallelIterator<Item = (usize, usize)> {
    (0..n.div_ceil(CHUNK_ROWS))
        .into_par_iter()
        .map(move |c| (c * CHUNK_ROWS, CHUNK_ROWS.min(n - c * CHUNK_ROWS)))
}

/// A'B for `a` n × a and `b` n × b, accumulated in f64.
///
/// Cost: 2 n a b flops, one read of each block.
pub fn inner<A: Stored, B: Stored>(a: MatRef<'_, A>, b: MatRef<'_, B>) -> Mat<f64> {
    assert_eq!(a.nrows(), b.nrows());
    let mut sum = Mat::<f64>::zeros(a.ncols(), b.ncols());
    if a.ncols() == 0 || b.ncols() == 0 {
        return sum;
    }
    let partial: Vec<Mat<f64>> = chunks(a.nrows())
        .map(|(start, len)| {
            let (mut of_a, mut of_b) = (Mat::new(), Mat::new());
            let wide_a = A::widen(a.subrows(start, len), &mut of_a);
            let wide_b = B::widen(b.subrows(start, len), &mut of_b);
            let mut product = Mat::<f64>::zeros(a.ncols(), b.ncols());
            matmul(
                product.as_mut(),
                Accum::Replace,
                wide_a.transpose(),
                wide_b,
                1.0,
                Par::Seq,
            );
            product
        })
        .collect();
    for p in &partial {
        sum += p;
    }
    sum
}

/// Y ← Y + scale · A C for `y` n × b, `a` n × a, `c` a × b.
///
/// Cost: 2 n a b flops, one read of A, one read and write of Y.
pub fn add_product<A: Stored>(
    y: MatMut<'_, f64>,
    a: MatRef<'_, A>,
    c: MatRef<'_, f64>,
    scale: f64,
) {
    assert_eq!(y.nrows(), a.nrows());
    assert_eq!(a.ncols(), c.nrows());
    if a.ncols() == 0 || c.ncols() == 0 {
        return;
    }
    for_row_chunks(y, |start, head| {
        let mut buffer = Mat::new();
        let wide = A::widen(a.subrows(start, head.nrows()), &mut buffer);
        matmul(head, Accum::Add, wide, c, scale, Par::Seq);
    });
}

/// Hands each chunk of rows with its first row's index to `work`, in parallel.
pub(crate) fn for_row_chunks(y: MatMut<'_, f64>, work: impl Fn(usize, MatMut<'_, f64>) + Sync) {
    let n = y.nrows();
    let mut parts = Vec::with_capacity(n.div_ceil(CHUNK_ROWS));
    let mut rest = y;
    let mut start = 0;
    while start < n {
        let len = CHUNK_ROWS.min(n - start);
        let (head, tail) = rest.split_at_row_mut(len);
        parts.push((start, head));
        rest = tail;
        start += len;
    }
    parts
        .into_par_iter()
        .for_each(|(start, head)| work(start, head));
}

/// Columns of narrow blocks that are widened together.
const WIDENED: usize = 64;

/// Blocks in runs of about [`WIDENED`] columns, with the first column of each.
fn runs<'x>(blocks: &[&'x Mat<f32>]) -> Vec<(usize, Vec<Part<'x>>, usize)> {
    let mut runs: Vec<(usize, Vec<Part<'x>>, usize)> = Vec::new();
    let mut at = 0;
    for block in blocks {
        match runs.last_mut() {
            Some((_, run, width)) if *width + block.ncols() <= WIDENED => {
                run.push(Part::Single(block.as_ref()));
                *width += block.ncols();
            }
            _ => runs.push((at, vec![Part::Single(block.as_ref())], block.ncols())),
        }
        at += block.ncols();
    }
    runs
}

/// A'B for f32 blocks `a` side by side, Σ columns of `a` × columns of `b`; as [`inner`].
pub fn inner_with(a: &[&Mat<f32>], b: MatRef<'_, f64>) -> Mat<f64> {
    let n_rows = a.iter().map(|a| a.ncols()).sum();
    let runs = runs(a);
    let partial: Vec<Mat<f64>> = chunks(b.nrows())
        .map(|(start, len)| {
            let mut product = Mat::<f64>::zeros(n_rows, b.ncols());
            for (at, run, width) in &runs {
                let wide = widened(run, start, len, *width);
                let rows = product.subrows_mut(*at, *width);
                let b = b.subrows(start, len);
                matmul(rows, Accum::Replace, wide.transpose(), b, 1.0, Par::Seq);
            }
            product
        })
        .collect();
    let mut sum = Mat::<f64>::zeros(n_rows, b.ncols());
    for p in &partial {
        sum += p;
    }
    sum
}

/// Y ← Y + scale · Σ A C for f32 blocks `a` side by side, `c` Σ columns × columns of Y; as [`add_product`].
pub fn add_products(y: MatMut<'_, f64>, a: &[&Mat<f32>], c: MatRef<'_, f64>, scale: f64) {
    let runs = runs(a);
    for_row_chunks(y, |start, mut head| {
        for (at, run, width) in &runs {
            let wide = widened(run, start, head.nrows(), *width);
            let c = c.subrows(*at, *width);
            matmul(head.rb_mut(), Accum::Add, &wide, c, scale, Par::Seq);
        }
    });
}

/// A'B for f32 blocks side by side, Σ columns of `a` × Σ columns of `b`; as [`inner`].
///
/// A column of `b` has the same bits among others as alone.
pub fn inner_of_blocks(a: &[Mat<f32>], b: &[&Mat<f32>]) -> Mat<f64> {
    let n = b.first().map_or(0, |b| b.nrows());
    let runs = runs(&a.iter().collect::<Vec<_>>());
    let n_rows = a.iter().map(Mat::ncols).sum();
    let columns: usize = b.iter().map(|b| b.ncols()).sum();
    let parts: Vec<Part<'_>> = b.iter().map(|b| Part::Single(b.as_ref())).collect();
    let partial: Vec<Mat<f64>> = chunks(n)
        .map(|(start, len)| {
            // A single column would take another path through the product, with other bits.
            let beside = widened(&parts, start, len, columns.max(2));
            let mut product = Mat::<f64>::zeros(n_rows, columns.max(2));
            for (at, run, width) in &runs {
                let wide = widened(run, start, len, *width);
                let rows = product.subrows_mut(*at, *width);
                matmul(
                    rows,
                    Accum::Replace,
                    wide.transpose(),
                    &beside,
                    1.0,
                    Par::Seq,
                );
            }
            product
        })
        .collect();
    let mut sum = Mat::<f64>::zeros(n_rows, columns);
    for p in &partial {
        sum += p.subcols(0, columns);
    }
    sum
}

/// A'B for blocks side by side, Σ columns of `a` × Σ columns of `b`, as [`inner`] with f32 products inside a chunk of rows: half
/// the memory traffic and an error of 1e-6 relative.
///
/// A column of `b` has the same bits among others as alone.
pub fn quick_inner(a: &[Mat<f32>], b: &[&Mat<f32>]) -> Mat<f64> {
    let n = b.first().map_or(0, |b| b.nrows());
    let (rows, columns): (usize, usize) = (
        a.iter().map(Mat::ncols).sum(),
        b.iter().map(|b| b.ncols()).sum(),
    );
    let partial: Vec<Mat<f32>> = chunks(n)
        .map(|(start, len)| {
            let parts: Vec<_> = b.iter().map(|b| b.subrows(start, len)).collect();
            // A single column would take another path through the product, with other bits.
            let mut side_by_side = Mat::zeros(len, columns.max(2));
            copy_beside(side_by_side.as_mut(), &parts);
            let mut product = Mat::<f32>::zeros(rows, columns.max(2));
            let mut at = 0;
            for a in a {
                matmul(
                    product.subrows_mut(at, a.ncols()),
                    Accum::Replace,
                    a.subrows(start, len).transpose(),
                    side_by_side.as_ref(),
                    1.0,
                    Par::Seq,
                );
                at += a.ncols();
            }
            product
        })
        .collect();
    let mut sum = Mat::<f64>::zeros(rows, columns);
    for p in &partial {
        for j in 0..columns {
            for (s, p) in sum.col_as_slice_mut(j).iter_mut().zip(p.col_as_slice(j)) {
                *s += f64::from(*p);
            }
        }
    }
    sum
}

/// Rows `first` to `first + len` of Σ A C with f32 products, for blocks `a` side by side and `c` Σ columns × q.
///
/// A column's bits do not depend on the others'.
pub(crate) fn quick_product(
    a: &[Mat<f32>],
    first: usize,
    len: usize,
    c: MatRef<'_, f32>,
) -> Mat<f32> {
    let mut sum = Mat::<f32>::zeros(len, c.ncols());
    let mut at = 0;
    for a in a {
        let factors = c.subrows(at, a.ncols());
        let rows = a.subrows(first, len);
        matmul(sum.as_mut(), Accum::Add, rows, factors, 1.0, Par::Seq);
        at += a.ncols();
    }
    sum
}

/// Y ← Y − A A'Y for orthonormal blocks `a` side by side and Y of length 1, in products of single precision: what is left of A'Y is
/// rounding of that. Cost: 4 n a b flops, two reads of A.
pub(crate) fn quick_remove(y: MatMut<'_, f64>, a: &[Mat<f32>]) {
    let along = narrow(quick_inner(a, &[&narrow(y.as_ref())]).as_ref());
    for_row_chunks(y, |start, mut rows| {
        let along = quick_product(a, start, rows.nrows(), along.as_ref());
        zip!(&mut rows, &along).for_each(|unzip!(y, along)| *y -= f64::from(*along));
    });
}

/// A block of either precision.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'x> {
    /// n × a, f32.
    Single(MatRef<'x, f32>),
    /// n × a, f64.
    Double(MatRef<'x, f64>),
}

/// Y ← Σ A C on a few rows, those of `y` (zero at first), from row `first` of the blocks `parts` side by side; `c` is Σ columns × q.
pub(crate) fn multiply_rows(
    y: MatMut<'_, f64>,
    parts: &[Part<'_>],
    first: usize,
    c: MatRef<'_, f64>,
) {
    if c.nrows() == 0 {
        return;
    }
    let wide = widened(parts, first, y.nrows(), c.nrows());
    matmul(y, Accum::Replace, &wide, c, 1.0, Par::Seq);
}

/// Rows `first` to `first + len` of blocks side by side, in f64.
fn widened(parts: &[Part<'_>], first: usize, len: usize, width: usize) -> Mat<f64> {
    let mut wide = Mat::<f64>::zeros(len, width);
    let mut at = 0;
    for part in parts {
        at += match part {
            Part::Single(a) => {
                for j in 0..a.ncols() {
                    let into = wide.col_as_slice_mut(at + j).iter_mut();
                    match a.col(j).try_as_col_major() {
                        Some(from) => into
                            .zip(&from.as_slice()[first..])
                            .for_each(|(w, v)| *w = f64::from(*v)),
                        None => into
                            .enumerate()
                            .for_each(|(i, w)| *w = f64::from(a[(first + i, j)])),
                    }
                }
                a.ncols()
            }
            Part::Double(a) => {
                let rows = a.subrows(first, len);
                wide.subcols_mut(at, a.ncols()).copy_from(rows);
                a.ncols()
            }
        };
    }
    wide
}

/// Σ aᵢ bᵢ in f64, in a fixed order.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    inner(
        MatRef::from_column_major_slice(a, a.len(), 1),
        MatRef::from_column_major_slice(b, b.len(), 1),
    )[(0, 0)]
}

/// Rounds a block to f32.
pub fn narrow(y: MatRef<'_, f64>) -> Mat<f32> {
    convert(y, |v| v as f32)
}

/// Blocks side by side, n × Σ columns.
pub fn hstack(blocks: &[&Mat<f32>]) -> Mat<f32> {
    let n = blocks.first().map_or(0, |b| b.nrows());
    let mut stacked = Mat::zeros(n, blocks.iter().map(|b| b.ncols()).sum());
    let blocks: Vec<MatRef<'_, f32>> = blocks.iter().map(|b| b.as_ref()).collect();
    copy_beside(stacked.as_mut(), &blocks);
    stacked
}

fn copy_beside(mut stacked: MatMut<'_, f32>, blocks: &[MatRef<'_, f32>]) {
    let mut at = 0;
    for block in blocks {
        stacked
            .rb_mut()
            .subcols_mut(at, block.ncols())
            .copy_from(block);
        at += block.ncols();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_and_add_product_match_the_definition() {
        let n = 2 * CHUNK_ROWS + 37;
        let a = Mat::from_fn(n, 5, |i, j| ((i + 3 * j) as f32 * 0.37).sin());
        let mut y = Mat::from_fn(n, 3, |i, j| ((i * (j + 1)) as f64 * 0.11).cos());
        let product = inner(a.as_ref(), y.as_ref());
        for i in 0..5 {
            for j in 0..3 {
                let slow: f64 = (0..n).map(|r| f64::from(a[(r, i)]) * y[(r, j)]).sum();
                assert!((product[(i, j)] - slow).abs() < 1e-10);
            }
        }
        let before = y.clone();
        add_product(y.as_mut(), a.as_ref(), product.as_ref(), -0.5);
        for r in [0, 1023, 1024, n - 1] {
            let slow: f64 = (0..5).map(|k| f64::from(a[(r, k)]) * product[(k, 1)]).sum();
            assert!((y[(r, 1)] - before[(r, 1)] + 0.5 * slow).abs() < 1e-10);
        }
    }

    #[test]
    fn a_column_has_the_same_bits_alone_and_among_others_and_at_any_thread_count() {
        let n = 3 * CHUNK_ROWS + 5;
        let a = Mat::from_fn(n, 17, |i, j| ((i * 31 + j * 17) as f32 * 0.013).sin());
        let y = Mat::from_fn(n, 1, |i, _| ((i * i) as f64 * 0.001).cos());
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("pool")
        };
        let one = pool(1).install(|| inner(a.as_ref(), y.as_ref()));
        let four = pool(4).install(|| inner(a.as_ref(), y.as_ref()));
        assert_eq!(one, four);
    }
}
