//! Networks from files: what was made with the authors' code, new ones, and files that are none.

use std::fs;
use std::path::Path;

use ntkpipe_store::tiled_kernel::{Access, TiledKernel};
use reml::KernelMatrix as _;

use crate::support::{Cohort, case, cohort, fail, results, run_arguments, succeed, table, text};

/// Rows of a CSV file as fields by column name.
fn csv(path: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let content = fs::read_to_string(path).unwrap();
    let mut lines = content
        .lines()
        .map(|line| line.split(',').map(str::to_owned).collect());
    (lines.next().unwrap(), lines.collect())
}

fn agrees_with_the_authors(name: &str) {
    let Some(case) = case(name) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| text(&case.join(name));
    let out = text(folder.path());
    succeed(&[
        "run",
        "--quiet",
        "--no-intercept",
        "--raw-features",
        "--raw-phenotypes",
        "--no-gate",
        "--features",
        &file("features.parquet"),
        "--phenotypes",
        &file("phenotypes.parquet"),
        "--network",
        &file("network.safetensors"),
        "--out",
        &out,
    ]);
    let (got, words) = table(&folder.path().join("phenotypes.parquet"));
    let close = |what: &str, a: f64, b: f64, relative: f64| {
        assert!((a - b).abs() <= relative * b.abs(), "{what}: {a} for {b}");
    };
    let (names, rows) = csv(&case.join("expected/phenotypes.csv"));
    for (i, row) in rows.iter().enumerate() {
        let want = |name: &str| {
            row[names.iter().position(|n| n == name).unwrap()]
                .parse::<f64>()
                .unwrap()
        };
        assert_eq!(words["phenotype"][i], row[0]);
        for name in [
            "score",
            "t_hat",
            "t_hat_lower",
            "t_hat_upper",
            "edf",
            "sigma2",
            "reml_ratio",
            "in_sample_r2",
        ] {
            close(name, got[name][i], want(name), 1e-5);
        }
        close(
            "p",
            got["neg_log10_p_gaussian"][i],
            want("neg_log10_p"),
            1e-5,
        );
    }
    let (names, rows) = csv(&case.join("authors.csv"));
    let at = names.iter().position(|n| n == "t_hat_authors").unwrap();
    for (i, row) in rows.iter().enumerate() {
        close(
            "t_hat of the authors",
            got["t_hat"][i],
            row[at].parse().unwrap(),
            1e-4,
        );
    }
    // Training samples and unseen ones; the phenotypes' sd is about 1.
    let (predicted, ids) = table(&folder.path().join("predictions.parquet"));
    let (names, rows) = csv(&case.join("predictions_authors.csv"));
    for row in &rows {
        let sample = ids["sample_id"]
            .iter()
            .position(|id| *id == row[0])
            .unwrap();
        for (name, want) in names.iter().zip(row).skip(1) {
            if let Some(values) = predicted.get(name) {
                let (a, b) = (values[sample], want.parse::<f64>().unwrap());
                assert!((a - b).abs() < 1e-4, "{name} of {}: {a} for {b}", row[0]);
            }
        }
    }
    let (ours, _) = table(&folder.path().join("initial_prediction.parquet"));
    let (theirs, _) = table(&case.join("initial_prediction.parquet"));
    for (a, b) in ours["f0"].iter().zip(&theirs["f0"]) {
        assert!((a - b).abs() < 1e-6, "f0: {a} for {b}");
    }
    // The kernel of the training samples, the first ones: after a header of 128 bytes, float64.
    let bytes = fs::read(case.join("kernel_train.npy")).unwrap();
    let theirs: Vec<f64> = bytes[128..]
        .chunks_exact(8)
        .map(|value| f64::from_le_bytes(value.try_into().unwrap()))
        .collect();
    let n = theirs.len().isqrt();
    let kernel = TiledKernel::open(&folder.path().join("kernel.zarr"), Access::Map).unwrap();
    let ours = kernel.submatrix(&(0..n).collect::<Vec<_>>()).unwrap();
    assert!(n >= 200 && n * n == theirs.len());
    for (at, want) in theirs.iter().enumerate() {
        close("kernel", f64::from(ours[(at / n, at % n)]), *want, 1e-6);
    }
    // The model stands on its own: predicted again as new samples.
    let again = text(&folder.path().join("again.parquet"));
    succeed(&[
        "predict",
        "--quiet",
        "--model",
        &text(&folder.path().join("model")),
        "--features",
        &file("features.parquet"),
        "--out",
        &again,
    ]);
    let (again, _) = table(Path::new(&again));
    for (name, values) in &again {
        for (a, b) in values.iter().zip(&predicted[name]) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} for {b}");
        }
    }
}

#[test]
fn a_network_of_three_layers_agrees_with_the_authors_code() {
    agrees_with_the_authors("ntk_re_a");
}

#[test]
fn a_network_of_two_layers_agrees_with_the_authors_code() {
    agrees_with_the_authors("ntk_re_b");
}

fn init(out: &Path, more: &[&str]) {
    let out = text(out);
    let mut arguments = vec!["network", "init", "--out", &out];
    arguments.extend_from_slice(more);
    succeed(&arguments);
}

fn run_with(cohort: &Cohort, network: &Path, out: &Path, more: &[&str]) {
    let (network, out) = (text(network), text(out));
    let mut options = vec!["--network", network.as_str()];
    options.extend_from_slice(more);
    succeed(&run_arguments(cohort, &out, &options));
}

#[test]
fn tested_alone_or_on_the_way_at_any_threads_and_with_folds_a_network_gives_the_same() {
    let cohort = cohort(700, 12, 6);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let network = path("w.safetensors");
    init(
        &network,
        &[
            "--inputs",
            "12",
            "--widths",
            "40,30",
            "--activation",
            "gelu",
            "--seed",
            "4",
        ],
    );
    let twin = path("twin.safetensors");
    init(
        &twin,
        &[
            "--inputs",
            "12",
            "--widths",
            "40,30",
            "--activation",
            "gelu",
            "--seed",
            "4",
        ],
    );
    assert_eq!(fs::read(&network).unwrap(), fs::read(&twin).unwrap());
    run_with(&cohort, &network, &path("two"), &["--threads", "2"]);
    run_with(&cohort, &network, &path("one"), &["--threads", "1"]);
    assert!(results(&path("two")) == results(&path("one")));
    // Stage by stage: tested first.
    let out = text(&path("stages"));
    let network_text = text(&network);
    let whole = run_arguments(&cohort, &out, &["--network", &network_text]);
    for stage in ["ingest", "kernel", "spectrum", "test", "fit", "predict"] {
        let mut arguments = whole.clone();
        arguments[0] = stage;
        succeed(&arguments);
    }
    assert!(results(&path("two")) == results(&path("stages")));
    // Folds are fitted from the same start.
    run_with(&cohort, &network, &path("folds"), &["--folds", "3"]);
    let (whole, _) = table(&path("two").join("phenotypes.parquet"));
    let (folds, words) = table(&path("folds").join("phenotypes.parquet"));
    assert_eq!(
        format!("{:?}", whole["t_hat"]),
        format!("{:?}", folds["t_hat"])
    );
    for (i, r2) in folds["out_of_sample_r2"].iter().enumerate() {
        assert!(*r2 < 1.0 && *r2 > -1.0, "{}: {r2}", words["phenotype"][i]);
    }
}

#[test]
fn a_very_wide_network_agrees_with_the_infinite_one_but_for_its_start() {
    let cohort = cohort(300, 6, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let network = path("w.safetensors");
    init(
        &network,
        &[
            "--inputs", "6", "--widths", "6000", "--scheme", "ntk", "--seed", "1",
        ],
    );
    run_with(&cohort, &network, &path("wide"), &["--no-gate"]);
    let out = text(&path("infinite"));
    succeed(&run_arguments(
        &cohort,
        &out,
        &["--depth", "1", "--no-gate"],
    ));
    let (wide, _) = table(&path("wide").join("phenotypes.parquet"));
    let (infinite, _) = table(&path("infinite").join("phenotypes.parquet"));
    // The test projects the start off: only the kernels differ.
    for (a, b) in wide["neg_log10_p"].iter().zip(&infinite["neg_log10_p"]) {
        assert!((a - b).abs() < 0.15 * b.max(1.0), "{a} {b}");
    }
}

#[test]
fn what_is_no_fitting_network_is_refused_by_name() {
    let cohort = cohort(60, 5, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let out = text(&path("out"));
    let refuse = |network: &Path, more: &[&str], code: i32, words: &[&str]| {
        let network = text(network);
        let mut options = vec!["--network", network.as_str()];
        options.extend_from_slice(more);
        fail(&run_arguments(&cohort, &out, &options), code, words);
    };
    let network = path("w.safetensors");
    init(&network, &["--inputs", "7", "--widths", "4"]);
    refuse(
        &network,
        &[],
        1,
        &["`0.weight` takes 7 inputs", "5 features"],
    );
    refuse(&network, &["--depth", "3"], 2, &["--network", "--depth"]);
    let narrow = path("narrow.safetensors");
    init(&narrow, &["--inputs", "4", "--widths", "4"]);
    refuse(
        &narrow,
        &[],
        1,
        &["`0.weight` takes 4 inputs", "5 features"],
    );
    let other = path("pickle.pt");
    fs::write(&other, b"PK\x03\x04 not tensors").unwrap();
    refuse(
        &other,
        &[],
        1,
        &["pickle.pt", "safetensors.torch.save_file"],
    );
    refuse(&path("absent.safetensors"), &[], 1, &["absent.safetensors"]);
    let arguments = run_arguments(&cohort, &out, &["--network-activation", "tanh"]);
    fail(&arguments, 1, &["`--network-activation`", "`--network`"]);
    let again = text(&network);
    fail(
        &["network", "init", "--inputs", "7", "--out", &again],
        1,
        &["is there already"],
    );
}
