use super::*;
use crate::kernel::{InfiniteKernel, infinite};
use crate::network::Scheme;
use faer::Mat;

fn features(n: usize, p: usize) -> Vec<f64> {
    let value = |i: usize| ((i * i) as f64 * 0.37 + i as f64).sin() * 1.7;
    (0..n * p).map(value).collect()
}

fn tile<T: Feature>(kernel: &FiniteKernel, x: &[T], y: &[T], p: usize) -> Vec<f32> {
    let [rows, cols] = [x, y].map(|x| kernel.row_block(x, p).expect("valid samples"));
    let mut out = vec![0.0; rows.n_rows() * cols.n_rows()];
    kernel.tile(&rows, &cols, false, &mut out, cols.n_rows());
    out
}

/// Θ(x, x') = J(x) J(x')' with a Jacobian from finite differences.
#[test]
fn it_is_the_product_of_jacobians() {
    let (n, p) = (5, 3);
    let x = features(n, p);
    for nonlinearity in [Nonlinearity::Tanh, Nonlinearity::Gelu] {
        let network = Mlp::draw(p, &[6, 4], nonlinearity, Scheme::Pytorch, 9);
        let network = network.expect("widths above 0");
        let at = MatRef::from_column_major_slice(&x, p, n);
        let mut jacobian: Vec<Vec<f64>> = Vec::new();
        let mut record = |change: &dyn Fn(&mut Mlp, f64)| {
            let [up, down] = [1e-6, -1e-6].map(|by| {
                let mut moved = network.clone();
                change(&mut moved, by);
                moved.pass(at).output
            });
            let slopes = up.iter().zip(&down).map(|(u, d)| (u - d) / 2e-6);
            jacobian.push(slopes.collect());
        };
        for (l, layer) in network.layers().iter().enumerate() {
            for o in 0..layer.n_outputs() {
                for i in 0..layer.n_inputs() {
                    record(&|it, by| it.layers_mut()[l].weight[(o, i)] += by);
                }
                record(&|it, by| {
                    let bias = it.layers_mut()[l].bias.as_mut();
                    bias.expect("PyTorch has biases")[o] += by;
                });
            }
        }
        let got = tile(&FiniteKernel::new(network.clone()), &x, &x, p);
        for i in 0..n {
            for j in 0..n {
                let want: f64 = jacobian.iter().map(|row| row[i] * row[j]).sum();
                let got = f64::from(got[i * n + j]);
                assert!(
                    (got - want).abs() < 1e-6 * want.abs().max(1.0),
                    "{got} {want}"
                );
            }
        }
    }
}

/// Blocks with no entries that cancel, with a few, and with many.
#[test]
fn entries_that_cancel_keep_their_digits() {
    let (n, p) = (24, 100);
    let all = [(0, n); 2];
    let product = |m: &Mat<f64>, i, j| dot(m.col_as_slice(i), m.col_as_slice(j));
    let mut n_lost = Vec::new();
    for (shift, nonlinearity, scheme) in [
        (0.0, Nonlinearity::Relu, Scheme::Pytorch),
        (0.0, Nonlinearity::Gelu, Scheme::He),
        (0.8, Nonlinearity::Tanh, Scheme::Pytorch),
        (0.0, Nonlinearity::Tanh, Scheme::He),
    ] {
        let x: Vec<f64> = features(n, p).iter().map(|v| v + shift).collect();
        let network = Mlp::draw(p, &[500, 500, 500], nonlinearity, scheme, 5);
        let network = network.expect("widths above 0");
        let pass = network.pass(MatRef::from_column_major_slice(&x, p, n));
        let kernel = FiniteKernel::new(network);
        let block = kernel.row_block(&x, p).expect("valid samples");
        assert!(block.is_single);
        let mut sums = vec![0.0; n * n];
        kernel.products(&mut sums, &block.factors, &block.factors, all);
        n_lost.push(cancelled(&sums, [&block.diagonal; 2], all).len());
        let got = tile(&kernel, &x, &x, p);
        for i in 0..n {
            for j in 0..n {
                let factors = pass.inputs.iter().zip(&pass.errors);
                let layer = |(a, d)| product(d, i, j) * (product(a, i, j) + 1.0);
                let want: f64 = factors.map(layer).sum();
                let off = (f64::from(got[i * n + j]) - want).abs();
                assert!(
                    off < 1e-6 * want.abs(),
                    "{nonlinearity:?} {scheme:?} {off} {want}"
                );
            }
        }
    }
    let few = (FEW_CANCELLED * (n * n) as f64) as usize;
    assert!(
        n_lost[..2] == [0, 0] && (1..=few).contains(&n_lost[2]) && n_lost[3] > few,
        "{n_lost:?}"
    );
}

/// If one layer undoes the scale of another, and the learning rates of their parameters follow, the kernel stays the same.
#[test]
fn factors_beyond_single_precision_stay_in_double() {
    let (n, p, scale) = (6, 8, 1e30_f64);
    let x = features(n, p);
    let network = Mlp::draw(p, &[12, 10], Nonlinearity::Relu, Scheme::Pytorch, 3);
    let plain = network.expect("widths above 0");
    let mut scaled = plain.clone();
    let squared = scale * scale;
    let by = [
        (scale, scale, [squared, squared]),
        (1.0, scale, [1.0, squared]),
        (1.0 / scale, 1.0, [1.0 / squared, 1.0]),
    ];
    for (layer, (weights, biases, rates)) in scaled.layers_mut().iter_mut().zip(by) {
        layer.weight = &layer.weight * faer::Scale(weights);
        let bias = layer.bias.iter_mut().flatten();
        bias.for_each(|b| *b *= biases);
        layer.variances = Some(rates);
    }
    let [plain, scaled] = [plain, scaled].map(FiniteKernel::new);
    let kept = |kernel: &FiniteKernel| kernel.row_block(&x, p).map(|b| b.is_single);
    assert_eq!([&plain, &scaled].map(kept), [Ok(true), Ok(false)]);
    let [want, got] = [plain, scaled].map(|kernel| tile(&kernel, &x, &x, p));
    for (want, got) in want.iter().zip(&got) {
        assert!((got - want).abs() < 1e-6 * want.abs(), "{got} {want}");
    }
}

#[test]
fn precision_blocks_and_symmetry_do_not_show() {
    let (n, p) = (300, 40);
    let x = features(n, p);
    let network = Mlp::draw(p, &[50, 20], Nonlinearity::Relu, Scheme::He, 4);
    let kernel = FiniteKernel::new(network.expect("widths above 0"));
    let whole = tile(&kernel, &x, &x, p);
    let narrow: Vec<f32> = x.iter().map(|&v| v as f32).collect();
    let single = tile(&kernel, &narrow, &narrow, p);
    let scale = whole.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    for (a, b) in whole.iter().zip(&single) {
        assert!((a - b).abs() < 2e-6 * scale, "{a} {b}");
    }
    let block = kernel.row_block(&x, p).expect("valid samples");
    let mut diagonal = vec![0.0; n * n];
    kernel.tile(&block, &block, true, &mut diagonal, n);
    for (i, (a, b)) in whole.iter().zip(&diagonal).enumerate() {
        assert!((a - b).abs() < 1e-6 * scale, "{i} {a} {b}");
        assert_eq!(diagonal[i], diagonal[i % n * n + i / n]);
    }
}

#[test]
fn wide_networks_have_the_infinite_kernel() {
    let (n, p) = (12, 8);
    let x = features(n, p);
    for (weight_variance, bias_variance) in [(2.0, 0.0), (1.5, 0.3)] {
        let infinite = InfiniteKernel::new(
            infinite::Activation::Relu,
            2,
            weight_variance,
            bias_variance,
        )
        .expect("valid kernel");
        let block = infinite.row_block(&x[..], p).expect("valid samples");
        let mut limit = vec![0.0; n * n];
        infinite.tile(&block, &block, true, &mut limit, n, &mut Default::default());
        let scheme = Scheme::Ntk {
            weight_variance,
            bias_variance,
        };
        let networks = 60;
        let mut moments = vec![[0.0; 2]; n * n];
        for seed in 0..networks {
            let network = Mlp::draw(p, &[300, 300], Nonlinearity::Relu, scheme, seed);
            let kernel = FiniteKernel::new(network.expect("widths above 0"));
            let one = tile(&kernel, &x, &x, p);
            for (moments, &value) in moments.iter_mut().zip(&one) {
                moments[0] += f64::from(value) / networks as f64;
                moments[1] += f64::from(value).powi(2) / networks as f64;
            }
        }
        let largest = limit.iter().fold(0.0_f32, |m, v| m.max(*v));
        for ([mean, square], limit) in moments.iter().zip(&limit) {
            let error = ((square - mean * mean) / (networks - 1) as f64).sqrt();
            let off = (mean - f64::from(*limit)).abs();
            assert!(error < 0.04 * f64::from(largest), "{error}");
            assert!(off < 4.0 * error, "{mean} {limit} {error}");
        }
    }
}

#[test]
fn wrong_samples_are_refused() {
    let network = Mlp::draw(3, &[4], Nonlinearity::Relu, Scheme::He, 0);
    let kernel = FiniteKernel::new(network.expect("widths above 0"));
    let wrong = KernelError::Features {
        expected: 3,
        found: 2,
    };
    assert_eq!(kernel.row_block(&[0.0; 4], 2).map(|_| ()), Err(wrong));
    let bad = kernel.row_block(&[0.0, 1.0, 2.0, 1.0, f64::NAN, 2.0], 3);
    assert_eq!(bad.map(|_| ()), Err(KernelError::NotFinite { row: 1 }));
}
