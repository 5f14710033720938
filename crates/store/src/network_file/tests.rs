use super::*;
use ntk::network::Scheme;

fn drawn(scheme: Scheme) -> NetworkFile {
    NetworkFile::new(Mlp::draw(3, &[4, 5], Nonlinearity::Gelu, scheme, 1).unwrap())
}

/// Names and shapes.
type Tensors<'a> = &'a [(&'a str, &'a [usize])];

/// A file of tensors of ones.
fn file(tensors: Tensors<'_>, metadata: &[(&str, &str)]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, shape)| 1.0_f32.to_le_bytes().repeat(shape.iter().product()))
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape), bytes)| {
        (
            *name,
            TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap(),
        )
    });
    let metadata = metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    safetensors::serialize(views, Some(metadata.collect())).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    let error = NetworkFile::parse(bytes, Path::new("w.safetensors"), None);
    error.unwrap_err().to_string()
}

#[test]
fn a_network_comes_back_as_it_was() {
    let ntk = |weight_variance, bias_variance| Scheme::Ntk {
        weight_variance,
        bias_variance,
    };
    // Also when the first layer, with 3 inputs, has learning rates of 1.
    let ntk = [ntk(1.5, 0.25), ntk(3.0, 1.0), ntk(3.0, 0.0)];
    for scheme in [Scheme::Pytorch, Scheme::He].into_iter().chain(ntk) {
        let mut network = drawn(scheme);
        network.is_double = true;
        let bytes = network.to_bytes().unwrap();
        let again = NetworkFile::parse(&bytes, Path::new("w"), None).unwrap();
        assert_eq!(again, network);
        assert_eq!(again.to_bytes().unwrap(), bytes);
    }
}

#[test]
fn a_damaged_record_is_refused_and_not_taken_for_none() {
    let layers: [(&str, &[usize]); 2] = [("0.weight", &[4, 2]), ("2.weight", &[1, 4])];
    for record in [
        "{}",
        r#"{"activation": "relu", "variances": [2.0]}"#,
        r#"{"activation": "relu", "variances": [-2.0, 0.0]}"#,
        r#"{"activation": "relu", "variances": "#,
    ] {
        let message = refusal(&file(&layers, &[("ntkpipe", record)]));
        assert!(message.contains("`ntkpipe` is damaged"), "{message}");
    }
    let sound = [("ntkpipe", r#"{"activation": "tanh"}"#)];
    assert!(NetworkFile::parse(&file(&layers, &sound), Path::new("w"), None).is_ok());
}

#[test]
fn the_file_or_the_caller_says_the_nonlinearity() {
    let layers: [(&str, &[usize]); 2] = [("net.0.weight", &[4, 2]), ("net.3.weight", &[1, 4])];
    let read = |metadata: &[(&str, &str)], asked| {
        let bytes = file(&layers, metadata);
        let read = NetworkFile::parse(&bytes, Path::new("w"), asked).unwrap();
        read.network.nonlinearity()
    };
    assert_eq!(read(&[], None), Nonlinearity::Relu);
    assert_eq!(read(&[("activation", "Tanh")], None), Nonlinearity::Tanh);
    let asked = Some(Nonlinearity::Gelu);
    assert_eq!(read(&[("activation", "tanh")], asked), Nonlinearity::Gelu);
    let message = refusal(&file(&layers, &[("activation", "silu")]));
    assert!(message.contains("`silu`"), "{message}");
}

#[test]
fn what_is_wrong_is_named() {
    let cases: [(Tensors<'_>, &str); 9] = [
        (
            &[("0.weight", &[4, 2]), ("2.weight", &[1, 5])],
            "`2.weight` takes 5 inputs",
        ),
        (
            &[
                ("0.weight", &[4, 2]),
                ("2.bias", &[4]),
                ("4.weight", &[1, 4]),
            ],
            "`2.weight` is missing",
        ),
        (
            &[
                ("0.weight", &[4, 2]),
                ("2.weight", &[4, 4]),
                ("6.weight", &[1, 4]),
            ],
            "`4.weight` is missing",
        ),
        (
            &[
                ("0.weight", &[4, 2]),
                ("1.weight", &[4]),
                ("2.weight", &[1, 4]),
            ],
            "`1.weight` has shape [4]",
        ),
        (
            &[("0.weight", &[4, 2]), ("1.weight", &[1, 4])],
            "no activation",
        ),
        (
            &[("0.weight", &[4, 2]), ("2.weight", &[3, 4])],
            "`2.weight` has 3 outputs",
        ),
        (
            &[
                ("0.weight", &[4, 2]),
                ("0.bias", &[3]),
                ("2.weight", &[1, 4]),
            ],
            "`0.bias` has shape [3]",
        ),
        (
            &[
                ("0.weight", &[4, 2]),
                ("1.running_mean", &[4]),
                ("2.weight", &[1, 4]),
            ],
            "`1.running_mean` belongs",
        ),
        (
            &[("fc1.weight", &[4, 2]), ("out.weight", &[1, 4])],
            "`fc1.weight` has no name",
        ),
    ];
    for (tensors, part) in cases {
        let message = refusal(&file(tensors, &[]));
        assert!(message.contains(part), "{message}");
    }
    assert!(refusal(b"PK not tensors").contains("no safetensors file"));
    let mut network = drawn(Scheme::He);
    network.is_double = true;
    let mut bytes = network.to_bytes().unwrap();
    let end = bytes.len();
    bytes[end - 8..].copy_from_slice(&f64::NAN.to_le_bytes());
    let message = refusal(&bytes);
    assert!(message.contains("holds NaN"), "{message}");
}
