//! Where little or nothing of the kernel is left beside the covariates: right answers, or none.

use std::fs;
use std::path::{Path, PathBuf};

use ntkpipe_store::results::{Column, write_table};

use super::support::{fail, succeed, table, text};

/// A table of samples `s0` to `s(n - 1)`; a value or none of each column and sample.
fn write(path: &Path, n: usize, names: &[&str], value: &dyn Fn(usize, usize) -> Option<f64>) {
    let ids = (0..n).map(|i| format!("s{i}")).collect();
    let mut columns = vec![("sample_id".to_owned(), Column::Text(ids))];
    for (j, name) in names.iter().enumerate() {
        let values = (0..n).map(|i| value(i, j)).collect();
        columns.push(((*name).to_owned(), Column::Float(values)));
    }
    write_table(path, &columns).unwrap();
}

/// A feature value in steps of 1/1024, so that a shift of it is exact.
fn feature(i: usize, j: usize) -> f64 {
    let seed = ((i * 37 + j * 101) as f64 * 12.9898 + (i * j) as f64).sin() * 43_758.545;
    ((seed - seed.floor() - 0.5) * 3.0 * 1024.0).round() / 1024.0
}

/// A phenotype of a few features and noise.
fn outcome(i: usize, k: usize) -> f64 {
    let signal = feature(i, k) + feature(i, k + 1) - 0.5 * feature(i, k + 2);
    0.4 * signal + 1.2 * feature(i, 50 + k)
}

const FEATURES: [&str; 8] = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"];

fn paths(folder: &Path) -> [PathBuf; 3] {
    ["features", "phenotypes", "covariates"].map(|it| folder.join(format!("{it}.parquet")))
}

fn run(folder: &Path, out: &Path, more: &[&str]) -> Vec<String> {
    let [features, phenotypes, _] = paths(folder);
    let (features, phenotypes, out) = (text(&features), text(&phenotypes), text(out));
    let mut arguments = vec!["run", "--features", &features, "--phenotypes", &phenotypes];
    arguments.extend_from_slice(&["--no-gate", "--out", &out]);
    arguments.extend_from_slice(more);
    arguments.into_iter().map(str::to_owned).collect()
}

fn as_str(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// 1,300 samples, the first 600 without a feature; phenotypes of 4, 100 and all 600 of these, and of everyone.
fn people_without_features(folder: &Path) {
    let [features, phenotypes, _] = paths(folder);
    write(&features, 1300, &FEATURES, &|i, j| {
        (i >= 600).then(|| feature(i, j))
    });
    let names = ["four", "hundred", "many", "everyone"];
    let last = [4, 100, 600, 1300];
    write(&phenotypes, 1300, &names, &|i, k| {
        (i < last[k]).then(|| outcome(i, k))
    });
}

#[test]
fn samples_that_do_not_differ_have_nothing_to_learn_from() {
    let folder = tempfile::tempdir().unwrap();
    people_without_features(folder.path());
    for (name, more) in [
        ("intercept", &[][..]),
        ("none", &["--no-intercept"]),
        ("bias", &["--bias-variance", "0.7"]),
        ("erf", &["--activation", "erf", "--depth", "3"]),
    ] {
        let out = folder.path().join(name);
        let output = succeed(&as_str(&run(folder.path(), &out, more)));
        let (numbers, words) = table(&out.join("phenotypes.parquet"));
        for (i, status) in words["status"].iter().enumerate() {
            let phenotype = &words["phenotype"][i];
            let is_lost = phenotype != "everyone";
            assert_eq!(status == "no_variation", is_lost, "{phenotype}: {status}");
            for column in ["p_value", "neg_log10_p", "q_value", "score", "in_sample_r2"] {
                assert_eq!(numbers[column][i].is_nan(), is_lost, "{column} {phenotype}");
            }
            assert_eq!(words["training_warranted"][i] == "None", is_lost);
            assert_eq!(numbers["t_hat"][i].is_nan(), is_lost);
        }
        let (predictions, _) = table(&out.join("predictions.parquet"));
        assert!(predictions["many"].iter().all(|it| it.is_finite()));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let record = fs::read_to_string(out.join("run.json")).unwrap();
        let report = fs::read_to_string(out.join("report.html")).unwrap();
        for text in [&said, &record] {
            assert!(
                text.contains(
                    "samples without a value of any feature, which count as average in each: 600"
                ),
                "{text}"
            );
            assert!(text.contains("`s0`, `s1`"), "{text}");
            assert!(text.contains("no_variation: four, hundred, many"), "{text}");
        }
        assert!(
            record.contains("\"samples_without_features\": 600"),
            "{record}"
        );
        assert!(report.contains("no_variation"));
    }
}

/// Features and phenotypes of 760 samples, 40 more without a phenotype, and a covariate that is 1.
fn shifted(folder: &Path, shift: f64) {
    fs::create_dir_all(folder).unwrap();
    let [features, phenotypes, covariates] = paths(folder);
    write(&features, 800, &FEATURES, &|i, j| {
        Some(feature(i, j) + shift)
    });
    write(
        &phenotypes,
        760,
        &["y0", "y1", "y2", "few"],
        &|i, k| match k {
            2 if i % 7 == 3 => None,
            3 if i % 3 != 0 => None,
            _ => Some(outcome(i, k)),
        },
    );
    write(&covariates, 800, &["one"], &|_, _| Some(1.0));
}

/// Tests, fits and predictions of two runs agree.
fn assert_same(a: &Path, b: &Path) {
    let [a_rows, b_rows] = [a, b].map(|it| table(&it.join("phenotypes.parquet")));
    assert_eq!(a_rows.1["status"], b_rows.1["status"]);
    for column in [
        "neg_log10_p",
        "t_hat",
        "t_hat_upper",
        "edf",
        "sigma2",
        "in_sample_r2",
    ] {
        for (a, b) in a_rows.0[column].iter().zip(&b_rows.0[column]) {
            assert!((a - b).abs() <= 1e-4 * b.abs(), "{column}: {a} {b}");
        }
    }
    let [a, b] = [a, b].map(|it| table(&it.join("predictions.parquet")).0);
    assert_close(&a, &b);
}

type Numbers = std::collections::HashMap<String, Vec<f64>>;

fn assert_close(a: &Numbers, b: &Numbers) {
    assert!(a.len() == b.len() && a.len() > 1);
    for (name, values) in a {
        assert_eq!(values.len(), b[name].len());
        for (a, b) in values.iter().zip(&b[name]) {
            assert!((a - b).abs() < 1e-4, "{name}: {a} {b}");
        }
    }
}

/// The linear kernel of shifted features differs by what an intercept takes.
#[test]
fn a_shift_of_the_features_changes_nothing_of_a_linear_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let linear = ["--quiet", "--raw-features", "--depth", "0"];
    let at = |name: &str| folder.path().join(name);
    shifted(&at("plain"), 0.0);
    succeed(&as_str(&run(&at("plain"), &at("0"), &linear)));
    let says_centred = |out: &str, file: &str| {
        let text = fs::read_to_string(at(out).join(file)).unwrap();
        text.contains("\"centred\": true") || text.contains("\"centred\":true")
    };
    for file in ["kernel.zarr/zarr.json", "model/model.json"] {
        assert!(!says_centred("0", file), "{file}");
    }
    // What is left of the trace: 1e-1 to 1e-8.
    for (name, shift) in [("1", 2.5), ("2", 8.0), ("3", 100.0), ("4", 10_000.0)] {
        let inputs = at(&format!("in{name}"));
        shifted(&inputs, shift);
        succeed(&as_str(&run(&inputs, &at(name), &linear)));
        assert_same(&at(name), &at("0"));
        for file in ["kernel.zarr/zarr.json", "model/model.json"] {
            assert!(says_centred(name, file), "{shift}: {file}");
        }
        let new = at(&format!("new{name}.parquet"));
        succeed(&[
            "predict",
            "--quiet",
            "--model",
            &text(&at(name).join("model")),
            "--features",
            &text(&paths(&inputs)[0]),
            "--out",
            &text(&new),
        ]);
        let predicted = table(&at(name).join("predictions.parquet")).0;
        assert_close(&table(&new).0, &predicted);
    }
}

/// Beside a constant that is no intercept of the program's own the kernel stays as it is: below what it carries there is no answer.
#[test]
fn too_little_left_for_single_precision_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [_, _, covariates] = paths(folder.path());
    let covariates = text(&covariates);
    let more = [
        "--raw-features",
        "--depth",
        "0",
        "--no-intercept",
        "--covariates",
        &covariates,
    ];
    shifted(folder.path(), 100.0);
    let out = folder.path().join("some");
    fail(
        &as_str(&run(folder.path(), &out, &more)),
        1,
        &[
            "of the kernel's trace",
            "single precision",
            "--raw-features",
        ],
    );
    shifted(folder.path(), 100_000.0);
    let out = folder.path().join("nothing");
    let output = succeed(&as_str(&run(folder.path(), &out, &more)));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("nothing for the features to explain")
    );
    let (numbers, words) = table(&out.join("phenotypes.parquet"));
    assert!(words["status"].iter().all(|it| it == "no_variation"));
    assert!(numbers["p_value"].iter().all(|p| p.is_nan()));
}

/// Single precision, in which more than 256 features are kept, tells values apart by 1/16 where they are about a million.
#[test]
fn raw_features_far_from_zero_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..300).map(|j| format!("f{j}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let [features, phenotypes, _] = paths(folder.path());
    write(&features, 60, &names, &|i, j| {
        Some(feature(i, j) + if j == 7 { 1e6 } else { 0.0 })
    });
    write(&phenotypes, 60, &["trait"], &|i, k| Some(outcome(i, k)));
    for (name, more, is_said) in [
        ("raw", &["--raw-features"][..], true),
        ("standardised", &[], false),
    ] {
        let out = folder.path().join(name);
        let output = succeed(&as_str(&run(folder.path(), &out, more)));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let sentence = "lose digits in single precision: 1 (`f7`); subtract their means";
        assert_eq!(said.contains(sentence), is_said, "{said}");
    }
}
