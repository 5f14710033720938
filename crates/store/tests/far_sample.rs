//! One sample far from all others, through the program's own tiles.
#![allow(clippy::unwrap_used)]

use faer::{Mat, MatRef};
use ntk::kernel::{Activation, InfiniteKernel, TangentKernel};
use ntkpipe_store::kernel_tiles::compute;
use ntkpipe_store::tiled_kernel::{Access, TiledKernel, lower_triangle, spec};
use ntkpipe_store::zarr::{ArraySpec, Attributes, ZarrArray};
use reml::{
    AnalysisOptions, Covariates, KernelMatrix, Phenotype, Probes, ReferenceSpectrum, analyse,
};

const N: usize = 1000;
const P: usize = 50;
/// In the first row of tiles and, of two, in the last, which is not full.
const FAR: [usize; 2] = [7, 990];

/// Reproducible noise of about a normal's spread.
fn noise(i: usize, j: usize) -> f64 {
    let uniform = |k: usize| {
        let wave = ((i + 1) as f64 * 12.9898 + (7 * j + k) as f64 * 78.233).sin() * 43_758.545_3;
        wave - wave.floor()
    };
    (0..4).map(uniform).sum::<f64>() * 1.732 - 3.464
}

/// The kernel of features of which some samples' are 50 times as large, in tiles of 256; and the features.
fn far_kernel(folder: &std::path::Path, far: &[usize]) -> (TiledKernel, Vec<f64>) {
    let size = |i: usize| if far.contains(&i) { 50.0 } else { 1.0 };
    let x: Vec<f64> = (0..N * P)
        .map(|at| size(at / P) * noise(at / P, at % P))
        .collect();
    let features = ZarrArray::<f64>::create(folder.join("x"), ArraySpec::new([N, P], [N, P]));
    let features = features.unwrap();
    features.write_all(&x).unwrap();
    let kernel = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).unwrap();
    let array = ZarrArray::<f32>::create(folder.join("k"), spec(N, 256, Attributes::new()));
    let tiles = lower_triangle(N.div_ceil(256));
    let kernels = [TangentKernel::Infinite(kernel)];
    let arrays = [array.unwrap()];
    compute(
        &kernels,
        &features,
        N,
        &arrays,
        &tiles,
        &|_, _| (),
        &|_, _| (),
    )
    .unwrap();
    (
        TiledKernel::open(&folder.join("k"), Access::Map).unwrap(),
        x,
    )
}

/// K X in double precision.
fn exact(k: MatRef<'_, f32>, x: &Mat<f32>) -> Mat<f64> {
    Mat::from_fn(N, x.ncols(), |i, j| {
        let terms = k.col(i).iter().zip(x.col(j).iter());
        terms.map(|(k, x)| f64::from(*k) * f64::from(*x)).sum()
    })
}

fn whole(kernel: &TiledKernel) -> Mat<f32> {
    kernel.submatrix(&(0..N).collect::<Vec<_>>()).unwrap()
}

/// A vector of which the far sample's own term and the others' cancel in its row.
#[test]
fn the_row_of_a_far_sample_is_summed_in_double_precision() {
    let folder = tempfile::tempdir().unwrap();
    let (kernel, _) = far_kernel(folder.path(), &FAR);
    let k = whole(&kernel);
    let mut x = Mat::from_fn(N, 5, |i, j| noise(i, 90 + j) as f32);
    for at in FAR {
        for j in 0..x.ncols() {
            x[(at, j)] = 0.0;
            let others = exact(k.as_ref(), &x)[(at, j)];
            x[(at, j)] = (-others / f64::from(k[(at, at)])) as f32;
        }
    }
    let none = Mat::zeros(N, 0);
    let (got, _) = kernel.multiply(x.as_ref(), none.as_ref()).unwrap();
    let want = exact(k.as_ref(), &x);
    for at in FAR {
        for j in 0..x.ncols() {
            let size = f64::from(k[(at, at)] * x[(at, j)].abs());
            let error = (f64::from(got[(at, j)]) - want[(at, j)]).abs();
            assert!(
                error <= 1e-7 * want[(at, j)].abs() + 1e-13 * size,
                "{at} {j}: {error:e} of {size}"
            );
        }
    }
}

/// The fitted values of the iteration on the tiles, beside those of the decomposition in double precision, signals of up to nearly all of the variance.
#[test]
fn a_far_sample_is_fitted_as_in_the_decomposition() {
    let folder = tempfile::tempdir().unwrap();
    let (kernel, x) = far_kernel(folder.path(), &FAR[..1]);
    let slope = |j: usize| noise(j, 77);
    let truth: Vec<f64> = x
        .chunks_exact(P)
        .map(|row| {
            row.iter()
                .enumerate()
                .map(|(j, x)| x * slope(j) / 7.0)
                .sum()
        })
        .collect();
    let mut phenotypes = Vec::new();
    for share in [0.9, 0.99, 0.999, 0.9999_f64] {
        for missing in [0, 1] {
            let at = phenotypes.len();
            let value =
                |i: usize| share.sqrt() * truth[i] + (1.0 - share).sqrt() * noise(i, 200 + at);
            phenotypes.push(Phenotype {
                mask: (0..N).map(|i| i % 5 >= missing).collect(),
                values: (0..N).map(value).collect(),
                variances: None,
                time: None,
            });
        }
    }
    let covariates = Covariates::new(N, &[vec![1.0; N]]);
    let probes = Probes {
        columns: 64,
        passes: 5,
        seed: 3,
    };
    let full = ReferenceSpectrum::new(&kernel, &covariates, &[true; N], probes, |_| {}).unwrap();
    let [found, dense] = [512, N].map(|direct| {
        let options = AnalysisOptions {
            direct,
            robust: false,
            gate: false,
            ..Default::default()
        };
        analyse(
            &kernel,
            &covariates,
            &full,
            &phenotypes,
            &options,
            |_, _| {},
        )
        .unwrap()
    });
    let k = whole(&kernel);
    for (at, (found, dense)) in found.iter().zip(&dense).enumerate() {
        let Phenotype { mask, values, .. } = &phenotypes[at];
        let n = mask.iter().filter(|m| **m).count() as f64;
        let on_mask = |of: &dyn Fn(usize) -> f64| (0..N).filter(|i| mask[*i]).map(of).sum::<f64>();
        // In units of what the near samples vary by.
        let near = |i: usize| if i == FAR[0] { 0.0 } else { values[i] };
        let sd = (on_mask(&|i| near(i).powi(2)) / n).sqrt();
        let fitted = |dual: &[f32]| {
            let dual = Mat::from_fn(N, 1, |i, _| dual[i]);
            let raw = exact(k.as_ref(), &dual);
            let mean = on_mask(&|i| raw[(i, 0)]) / n;
            raw.col(0).iter().map(|v| v - mean).collect::<Vec<_>>()
        };
        let (found, dense) = (found.fit.as_ref().unwrap(), dense.fit.as_ref().unwrap());
        let pairs = fitted(&found.dual).into_iter().zip(fitted(&dense.dual));
        let error = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / sd;
        assert!(error < 1e-3 && found.converged, "{at}: {error:.1e}");
    }
}
