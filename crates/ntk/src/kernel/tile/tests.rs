use super::assembly::TileScratch;
use super::parallel::FindParallel;
use super::part::Tile;
use super::recursion::Recursion;
use super::sweep::SweepInPlace;
use crate::kernel::error::KernelError;
use crate::kernel::infinite::{Activation, InfiniteKernel};
use crate::kernel::row_block::{CHUNK, Feature, RowBlock, dot};
use amx_gemm::Multiplier;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use pulp::{Scalar, Simd, WithSimd};
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
                        / (1.0 + 2.0 * (k11 + k22) + 4.0 * (k11 * k22 - k12 * k12).max(0.0)).sqrt(),
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
fn error<T: Feature>(kernel: &InfiniteKernel, x: &[T], y: &[T], p: usize, diagonal: bool) -> f64 {
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

/// A product large enough for the AMX unit, if there is one.
#[test]
fn large_tiles_follow_the_definition() {
    let (p, n_rows, n_cols) = (300, 545, 530);
    let (x, mut y) = (normal(n_rows * p, 15), normal(n_cols * p, 16));
    // Features with two values, some outliers, and a duplicate sample.
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
        // The definition itself uses the angle, and loses 1e-8 at a duplicate sample.
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
    // All pairs are nearly parallel: one direction plus a little noise.
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

/// The shortest of seven runs, in seconds; each times itself.
fn best(run: &mut dyn FnMut() -> f64) -> f64 {
    (0..7).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// Seconds that one run takes.
fn seconds(run: impl FnOnce()) -> f64 {
    let start = std::time::Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// Prints what the parts of a tile take, beside `product`, the seconds of its product of features.
fn time_parts(kernel: &InfiniteKernel, x: &[f32], y: &[f32], n: usize, product: f64) {
    let p = x.len() / n;
    let (rows, cols) = (
        kernel.row_block(x, p).unwrap(),
        kernel.row_block(y, p).unwrap(),
    );
    let mut out = vec![0.0f32; n * n];
    let mut scratch = TileScratch::default();
    let blocks = best(&mut || seconds(|| drop(kernel.row_block(x, p).unwrap())));
    let tile = Tile {
        kernel,
        rows: &rows,
        cols: &cols,
        diagonal: false,
        stride: n,
    };
    tile.single_gram(x, y, &mut out, &mut Multiplier::default());
    let gram = out.clone();
    let mut found = Vec::new();
    let find = best(&mut || {
        let (tile, gram, found) = (&tile, &out, &mut found);
        seconds(|| {
            pulp::Arch::new().dispatch(FindParallel { tile, gram, found });
        })
    });
    // On fresh products each time: kernel values in their place would soon be subnormal.
    let sweep = best(&mut || {
        out.copy_from_slice(&gram);
        let (tile, out) = (&tile, &mut out);
        seconds(|| pulp::Arch::new().dispatch(SweepInPlace { tile, out }))
    });
    let mut time_tile = |cols: &RowBlock<'_, f32>, diagonal: bool| {
        best(&mut || seconds(|| kernel.tile(&rows, cols, diagonal, &mut out, n, &mut scratch)))
    };
    let (whole, square) = (time_tile(&cols, false), time_tile(&rows, true));
    let each = 1e9 / (n * n) as f64;
    eprintln!(
        "{:?} depth {}: sweep {:.2} ns, search {:.2} ns per element; tile {:.3}, diagonal tile {:.3}, row block {:.3} products",
        kernel.activation(),
        kernel.depth(),
        sweep * each,
        find * each,
        whole / product,
        square / product,
        blocks / product
    );
}

#[test]
#[ignore = "prints timings"]
fn timing() {
    let (n, p) = (2048, 2923);
    let x = single(&normal(n * p, 13));
    let y = single(&normal(n * p, 14));
    let mut out = vec![0.0f32; n * n];
    let product = best(&mut || {
        seconds(|| {
            matmul(
                MatMut::from_row_major_slice_mut(&mut out, n, n),
                Accum::Replace,
                MatRef::from_row_major_slice(&x, n, p),
                MatRef::from_row_major_slice(&y, n, p).transpose(),
                1.0f32,
                Par::Seq,
            );
        })
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
        time_parts(&kernel, &x, &y, n, product);
    }
}
