use super::*;

#[test]
fn derivatives_are_differences_of_the_output() {
    for nonlinearity in [Nonlinearity::Relu, Nonlinearity::Tanh, Nonlinearity::Gelu] {
        let network = Mlp::draw(4, &[7, 5], nonlinearity, Scheme::Pytorch, 3);
        let network = network.expect("widths above 0");
        let x = Mat::from_fn(4, 6, |i, j| ((3 * i + 5 * j) as f64).sin());
        let Pass { inputs, errors, .. } = network.pass(x.as_ref());
        for layer in 0..3 {
            let (row, column) = (0, 2);
            let moved = |by: f64| {
                let mut other = network.clone();
                other.layers_mut()[layer].weight[(row, column)] += by;
                other.pass(x.as_ref()).output
            };
            let (up, down) = (moved(1e-6), moved(-1e-6));
            for sample in 0..6 {
                let want = (up[sample] - down[sample]) / 2e-6;
                let got = errors[layer][(row, sample)] * inputs[layer][(column, sample)];
                assert!((got - want).abs() < 1e-8, "{nonlinearity:?} {got} {want}");
            }
        }
    }
}

#[test]
fn an_antisymmetric_network_starts_from_nought_and_learns_in_every_layer() {
    let x = Mat::from_fn(4, 6, |i, j| ((3 * i + 5 * j) as f64).sin());
    let ntk = Scheme::Ntk {
        weight_variance: 2.0,
        bias_variance: 0.5,
    };
    for scheme in [Scheme::Pytorch, Scheme::He, ntk] {
        let one = Mlp::draw(4, &[7, 5], Nonlinearity::Relu, scheme, 3);
        let one = one.expect("widths above 0");
        let two = one.antisymmetric();
        assert!(two.is_antisymmetric() && !one.is_antisymmetric());
        assert_eq!(two.widths(), [14, 10]);
        let pass = two.pass(x.as_ref());
        assert!(pass.output.iter().all(|f| f.abs() < 1e-14));
        for errors in &pass.errors {
            assert!(errors.norm_l2() > 0.1);
        }
        let mut moved = two;
        moved.layers_mut()[1].weight[(0, 0)] += 1e-9;
        assert!(!moved.is_antisymmetric());
    }
}

#[test]
fn layers_that_do_not_fit_are_refused() {
    let layer = |outputs, inputs| Linear {
        weight: Mat::zeros(outputs, inputs),
        bias: None,
        variances: None,
    };
    let new = |layers| Mlp::new(layers, Nonlinearity::Relu).map(|_| ());
    assert_eq!(new(vec![]), Err(NetworkError::NoLayers));
    assert_eq!(new(vec![layer(3, 2), layer(1, 3)]), Ok(()));
    let outputs = 2;
    assert_eq!(
        new(vec![layer(2, 2)]),
        Err(NetworkError::Outputs { outputs })
    );
    let chain = NetworkError::Chain {
        layer: 1,
        inputs: 4,
        outputs: 3,
    };
    assert_eq!(new(vec![layer(3, 2), layer(1, 4)]), Err(chain));
    let mut bad = layer(1, 2);
    bad.weight[(0, 1)] = f64::NAN;
    assert_eq!(new(vec![bad]), Err(NetworkError::NotFinite { layer: 0 }));
}
