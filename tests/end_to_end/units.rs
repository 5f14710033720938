//! Units of features, kernels and phenotypes: they change the units of results, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use ntkpipe_store::results::{Column, write_table};

use crate::support::{fail, ntkpipe, results, succeed, table, text};

/// Results that no unit of the features changes, and how far they may move: features and kernel are rounded to single precision anew.
///
/// The robust p has a Cholesky factor in single precision.
const WITHOUT_UNITS: [(&str, f64); 7] = [
    ("neg_log10_p", 5e-5),
    ("neg_log10_p_gaussian", 1e-5),
    ("edf", 3e-4),
    ("sigma2", 1e-5),
    ("reml_ratio", 1e-5),
    ("in_sample_r2", 1e-5),
    ("out_of_sample_r2", 1e-5),
];

/// Reproducible noise of about a normal's spread.
fn noise(i: usize, j: usize) -> f64 {
    let uniform = |k: usize| {
        let wave = ((i + 1) as f64 * 12.9898 + (7 * j + k) as f64 * 78.233).sin() * 43_758.545_3;
        wave - wave.floor()
    };
    (0..4).map(uniform).sum::<f64>() * 1.732 - 3.464
}

/// A table of columns by sample; NaN is null.
fn write(path: &Path, columns: &[(&str, Vec<f64>)]) {
    let n = columns[0].1.len();
    let ids = (0..n).map(|i| format!("s{i:04}")).collect();
    let mut table = vec![("eid".to_owned(), Column::Text(ids))];
    for (name, values) in columns {
        let values = values.iter().map(|v| v.is_finite().then_some(*v));
        table.push(((*name).to_owned(), Column::Float(values.collect())));
    }
    write_table(path, &table).unwrap();
}

/// Samples with features and phenotypes that are a function of them and noise.
struct Samples {
    folder: tempfile::TempDir,
    features: Vec<Vec<f64>>,
    phenotypes: Vec<Vec<f64>>,
}

const FEATURES: [&str; 6] = ["f0", "f1", "f2", "f3", "f4", "f5"];
const PHENOTYPES: [&str; 3] = ["strong", "weak", "sparse"];

impl Samples {
    fn new(n: usize) -> Self {
        let column = |j: usize| (0..n).map(|i| noise(i, j)).collect::<Vec<f64>>();
        let features: Vec<Vec<f64>> = (0..FEATURES.len()).map(column).collect();
        let signal = |i: usize| {
            let x = |j: usize| features[j][i];
            (x(0) + x(1)).max(0.0) - (x(2) - x(3)).max(0.0) + 0.5 * x(4)
        };
        let phenotype = |share: f64, missing: usize| -> Vec<f64> {
            let value = |i: usize| match (i * i) % 5 < missing {
                true => f64::NAN,
                false => share * signal(i) + (1.0 - share) * noise(i, 40 + missing),
            };
            (0..n).map(value).collect()
        };
        Self {
            phenotypes: vec![phenotype(0.8, 0), phenotype(0.3, 0), phenotype(0.6, 2)],
            features,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Tables with every feature and every phenotype multiplied.
    fn write(&self, of_features: f64, of_phenotypes: f64) -> [String; 2] {
        let [features, phenotypes] = ["features.parquet", "phenotypes.parquet"]
            .map(|name| self.path(&format!("{of_features:e}_{of_phenotypes:e}_{name}")));
        let scaled = |names: &[&'static str], columns: &[Vec<f64>], by: f64| {
            let columns = columns.iter().map(|c| c.iter().map(|v| v * by).collect());
            names.iter().copied().zip(columns).collect::<Vec<_>>()
        };
        write(&features, &scaled(&FEATURES, &self.features, of_features));
        write(
            &phenotypes,
            &scaled(&PHENOTYPES, &self.phenotypes, of_phenotypes),
        );
        [text(&features), text(&phenotypes)]
    }

    /// Runs them with raw features and phenotypes, everything fitted; the run directory.
    fn run(&self, of_features: f64, of_phenotypes: f64, more: &[&str]) -> PathBuf {
        let [features, phenotypes] = self.write(of_features, of_phenotypes);
        let name = format!("{of_features:e}_{of_phenotypes:e}_{}", more.join("_"));
        let out = self.path(&name);
        let mut arguments = vec![
            "run",
            "--quiet",
            "--no-gate",
            "--intervals",
            "--folds",
            "2",
            "--raw-features",
            "--features",
            &features,
            "--phenotypes",
            &phenotypes,
        ];
        let out_text = text(&out);
        arguments.extend(["--out", &out_text]);
        arguments.extend_from_slice(more);
        succeed(&arguments);
        out
    }
}

/// Numbers of a table of predictions, all columns one after the other.
fn predictions(out: &Path, name: &str) -> Vec<f64> {
    let (numbers, _) = table(&out.join(name));
    PHENOTYPES
        .iter()
        .flat_map(|p| numbers[*p].clone())
        .collect()
}

/// Holds the results in `out` against those in `base`, whose kernel is `of_kernel` times as large and whose phenotypes are `of_phenotypes` times.
fn agree(out: &Path, base: &Path, of_kernel: f64, of_phenotypes: f64, tolerance: f64) {
    let [(got, words), (want, expected)] =
        [out, base].map(|out| table(&out.join("phenotypes.parquet")));
    assert_eq!(words["status"], expected["status"]);
    let close = |what: &str, got: &[f64], want: &[f64], unit: f64, allowed: f64| {
        // Predictions go through 0.
        let sizes: Vec<f64> = want
            .iter()
            .map(|v| v.abs())
            .filter(|v| v.is_finite())
            .collect();
        let usual = match what.ends_with(".parquet") {
            true => sizes.iter().sum::<f64>() / sizes.len() as f64,
            false => 1e-3,
        };
        for (got, want) in got.iter().zip(want) {
            let got = got / unit;
            assert_eq!(got.is_nan(), want.is_nan(), "{what}");
            let apart = (got - want).abs() / want.abs().max(usual);
            assert!(
                apart.is_nan() || apart <= tolerance * allowed,
                "{what}: {got} for {want}, {}",
                out.display()
            );
        }
    };
    for (name, allowed) in WITHOUT_UNITS {
        let unit = match name {
            "sigma2" => of_phenotypes * of_phenotypes,
            _ => 1.0,
        };
        close(name, &got[name], &want[name], unit, allowed);
    }
    for name in ["t_hat", "t_hat_lower", "t_hat_upper"] {
        close(name, &got[name], &want[name], 1.0 / of_kernel, 1e-5);
    }
    close("score", &got["score"], &want["score"], of_kernel, 1e-5);
    for (name, allowed) in [
        ("predictions.parquet", 1e-4),
        ("predictions_oof.parquet", 1e-4),
        ("prediction_sd.parquet", 3e-3),
    ] {
        let [got, want] = [out, base].map(|out| predictions(out, name));
        close(name, &got, &want, of_phenotypes, allowed);
    }
}

/// ReLU without biases: features times k scale the kernel by k² and nothing else. Masks of few samples are decomposed as they stand, the others
/// go through the probes' space.
#[test]
fn units_of_the_features_change_the_unit_of_time_alone() {
    for n in [120, 530] {
        let samples = Samples::new(n);
        let base = samples.run(1.0, 1.0, &[]);
        for scale in [1e-12, 1e-8, 1e7, 1e12] {
            let out = samples.run(scale, 1.0, &[]);
            agree(&out, &base, scale * scale, 1.0, 1.0);
        }
        // A power of two moves no digit at all.
        for power in [-40, 40] {
            let scale = 2f64.powi(power);
            let out = samples.run(scale, 1.0, &[]);
            agree(&out, &base, scale * scale, 1.0, 0.0);
        }
    }
}

/// With ReLU and no bias a weight variance of w makes the kernel (w / 2)^(depth + 1) times that of 2.
#[test]
fn weight_variances_change_the_unit_of_time_alone() {
    for n in [120, 530] {
        let samples = Samples::new(n);
        let base = samples.run(1.0, 1.0, &["--depth", "30"]);
        let small = samples.run(1.0, 1.0, &["--depth", "30", "--weight-variance", "0.5"]);
        agree(&small, &base, 0.25f64.powi(31), 1.0, 1.0);
    }
}

/// The mask of 512 samples is decomposed as it stands, that of 513 goes through the probes' space.
#[test]
fn both_ways_to_a_result_agree_whatever_the_unit() {
    for scale in [1e-12, 1.0, 1e12] {
        let found = [512, 513].map(|n| {
            let samples = Samples::new(n);
            let out = samples.run(scale, 1.0, &[]);
            table(&out.join("phenotypes.parquet")).0
        });
        for name in ["neg_log10_p", "t_hat", "edf", "in_sample_r2"] {
            for (a, b) in found[0][name].iter().zip(&found[1][name]) {
                assert!((a / b - 1.0).abs() < 0.05, "{scale:e} {name}: {a} {b}");
            }
        }
    }
}

#[test]
fn a_kernel_that_single_precision_does_not_hold_is_refused_before_a_tile_is_made() {
    let samples = Samples::new(60);
    let out = samples.path("refused");
    let out_text = text(&out);
    let cases: [(f64, &[&str], &[&str]); 6] = [
        (
            1e20,
            &[],
            &[
                "sample `s",
                "e4",
                "up to 1e34",
                "leave `--raw-features` out",
            ],
        ),
        (1e200, &[], &["beyond 1e308", "leave `--raw-features` out"]),
        (
            1.0,
            &["--weight-variance", "1e4", "--depth", "20"],
            &["up to 1e34", "lower `--weight-variance`"],
        ),
        (1e-17, &[], &["from 1e-30 on", "raise `--weight-variance`"]),
        (
            1e-200,
            &[],
            &["from 1e-30 on", "leave `--raw-features` out"],
        ),
        (
            1.0,
            &["--weight-variance", "0.01", "--depth", "20"],
            &["from 1e-30 on", "raise `--weight-variance`"],
        ),
    ];
    for (scale, more, words) in cases {
        let [features, phenotypes] = samples.write(scale, 1.0);
        let mut arguments = vec!["run", "--quiet", "--raw-features", "--features", &features];
        arguments.extend(["--phenotypes", &phenotypes, "--out", &out_text]);
        arguments.extend_from_slice(more);
        fail(&arguments, 1, words);
        assert!(!out.join("kernel.zarr/c").exists(), "{scale:e} {more:?}");
    }
    // Much that was beyond it once is not.
    for (scale, more) in [
        (1e9, &[][..]),
        (1.0, &["--weight-variance", "1e4", "--depth", "4"][..]),
    ] {
        let found = samples.run(scale, 1.0, more);
        let (numbers, _) = table(&found.join("phenotypes.parquet"));
        assert!(numbers["neg_log10_p"].iter().all(|p| p.is_finite()));
    }
}

#[test]
fn raw_phenotypes_in_any_unit_are_predicted_in_it() {
    for n in [120, 530] {
        let samples = Samples::new(n);
        let raw = &["--raw-phenotypes"];
        let base = samples.run(1.0, 1.0, raw);
        for scale in [
            2f64.powi(-170),
            2f64.powi(130),
            2f64.powi(-480),
            2f64.powi(480),
        ] {
            agree(&samples.run(1.0, scale, raw), &base, 1.0, scale, 0.0);
        }
        for scale in [1e-50, 1e39] {
            let out = samples.run(1.0, scale, raw);
            agree(&out, &base, 1.0, scale, 1.0);
            // The model predicts its own samples as the run did.
            let (again, [features, _]) = (samples.path("again.parquet"), samples.write(1.0, 1.0));
            let (model, again_text) = (text(&out.join("model")), text(&again));
            let files = [
                "--model",
                &model,
                "--features",
                &features,
                "--out",
                &again_text,
            ];
            succeed(&[&["predict", "--quiet"], &files[..]].concat());
            for (got, want) in predictions(samples.folder.path(), "again.parquet")
                .iter()
                .zip(predictions(&out, "predictions.parquet"))
            {
                assert!((got - want).abs() < 1e-5 * scale, "{got} {want}");
            }
        }
    }
}

#[test]
fn phenotypes_far_from_the_output_of_a_network_are_refused() {
    let samples = Samples::new(40);
    let [features, phenotypes] = samples.write(1.0, 1e-50);
    let network = text(&samples.path("w.safetensors"));
    succeed(&[
        "network", "init", "--inputs", "6", "--widths", "5", "--out", &network,
    ]);
    let out = text(&samples.path("out"));
    let mut arguments = vec!["run", "--quiet", "--features", &features, "--out", &out];
    arguments.extend(["--phenotypes", &phenotypes, "--network", &network]);
    succeed(&arguments);
    arguments.push("--raw-phenotypes");
    fail(
        &arguments,
        1,
        &[
            "phenotype `strong` has values of",
            "e-50",
            "`--raw-phenotypes`",
        ],
    );
}

/// A phenotype that is a multiple of the only feature leaves nothing for the noise.
#[test]
fn a_perfect_fit_has_the_same_finite_p_by_every_route() {
    for n in [140, 520] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| text(&folder.path().join(name));
        let feature: Vec<f64> = (0..n).map(|i| noise(i, 1)).collect();
        let of = |f: &dyn Fn(usize) -> f64| (0..n).map(f).collect::<Vec<f64>>();
        let sparse = of(&|i| if i % 4 == 1 { f64::NAN } else { feature[i] });
        let phenotypes = [
            ("multiple", of(&|i| 5.0 - 3.0 * feature[i])),
            ("nearly", of(&|i| feature[i] + 1e-6 * noise(i, 2))),
            ("sparse", sparse),
        ];
        write(&folder.path().join("p.parquet"), &phenotypes);
        write(&folder.path().join("f.parquet"), &[("f", feature)]);
        let (features, phenotypes) = (path("f.parquet"), path("p.parquet"));
        let call = |stage: &str, out: &str, more: &[&str]| {
            let mut arguments = vec![stage, "--quiet", "--features", &features];
            arguments.extend(["--phenotypes", &phenotypes, "--depth", "0", "--out", out]);
            arguments.extend_from_slice(more);
            succeed(&arguments);
        };
        let (whole, shared) = (path("whole"), path("shared"));
        call("run", &whole, &[]);
        for stage in ["ingest", "kernel", "spectrum"] {
            call(stage, &shared, &[]);
        }
        call("fit", &shared, &["--shard", "1/2"]);
        call("fit", &shared, &["--shard", "2/2"]);
        call("fit", &shared, &["--join-shards"]);
        let [(numbers, words), (of_shards, _)] =
            [&whole, &shared].map(|out| table(&Path::new(out).join("phenotypes.parquet")));
        let p = &numbers["neg_log10_p"];
        assert!(p.iter().all(|p| p.is_finite()), "{p:?}");
        assert_eq!(p, &of_shards["neg_log10_p"]);
        let p = &numbers["neg_log10_p_gaussian"];
        assert!(p.iter().all(|p| p.is_finite()), "{p:?}");
        // −log10 p of a beta variable: about (dof − 1) / 2 · 6.
        let dof = n as f64 - 1.0;
        assert!(
            (p[0] / (0.5 * (dof - 1.0) * 6.02) - 1.0).abs() < 0.03,
            "{p:?}"
        );
        // The same precision for all that are nearer to it.
        assert!((p[1] / p[0] - 1.0).abs() < 1e-5, "{p:?}");
        assert_eq!(p, &of_shards["neg_log10_p_gaussian"]);
        assert_eq!(words["status"][0], "unbounded");
        assert_eq!(numbers["edf"][0], 1.0);
        let same = |out: &str| {
            let mut found = results(Path::new(out));
            found.retain(|(name, _)| name.starts_with("phenotypes.parquet"));
            found
        };
        assert!(same(&whole) == same(&shared));
    }
}

/// A run that is killed within the fit takes what is finished from the journal, where infinity has no place.
#[test]
fn a_perfect_fit_comes_back_to_an_interrupted_run() {
    let (n, n_noise) = (700, 30);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name));
    let feature: Vec<f64> = (0..n).map(|i| noise(i, 1)).collect();
    let names: Vec<String> = (0..n_noise).map(|k| format!("noise{k}")).collect();
    let multiple: Vec<f64> = feature.iter().map(|x| 5.0 - 3.0 * x).collect();
    let mut phenotypes = vec![("multiple", multiple)];
    for (k, name) in names.iter().enumerate() {
        let of = |i: usize| match (i * (k + 3)) % 11 {
            0 => f64::NAN,
            _ => feature[i] + noise(i, 2 + k),
        };
        phenotypes.push((name.as_str(), (0..n).map(of).collect()));
    }
    write(&folder.path().join("p.parquet"), &phenotypes);
    write(&folder.path().join("f.parquet"), &[("f", feature)]);
    let (features, phenotypes) = (path("f.parquet"), path("p.parquet"));
    let arguments = |out: &str| -> Vec<String> {
        let files = ["run", "--features", &features, "--phenotypes", &phenotypes];
        let options = ["--depth", "0", "--no-gate", "--out", out];
        let all = files.iter().chain(&options);
        all.map(|it| (*it).to_owned()).collect()
    };
    let run = |out: &str| {
        let arguments = arguments(out);
        succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    };
    let (whole, killed) = (path("whole"), path("killed"));
    run(&whole);
    let mut child = ntkpipe().args(arguments(&killed)).spawn().unwrap();
    let journal = Path::new(&killed).join("fit.jsonl");
    let finished = || {
        let lines = fs::read_to_string(&journal).unwrap_or_default();
        lines.contains("\"phenotype\":\"multiple\"") && lines.ends_with('\n')
    };
    while !finished() {
        assert!(child.try_wait().unwrap().is_none(), "ended before a kill");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!Path::new(&killed).join("phenotypes.parquet").exists());
    run(&killed);
    let log = fs::read_to_string(Path::new(&killed).join("run.log")).unwrap();
    assert!(log.contains("before an interruption"), "{log}");
    let (numbers, _) = table(&Path::new(&killed).join("phenotypes.parquet"));
    for name in ["neg_log10_p", "neg_log10_p_gaussian"] {
        assert!(numbers[name][0].is_finite(), "{name}");
    }
    assert!(results(Path::new(&killed)) == results(Path::new(&whole)));
}

/// y along the leading eigenvector of the linear kernel beside an intercept, by power iteration: its residual is where λ exceeds the mean.
fn leading(features: &[Vec<f64>]) -> Vec<f64> {
    let n = features[0].len();
    let mut y: Vec<f64> = features[0].clone();
    for _ in 0..300 {
        let mut next = vec![0.0; n];
        for x in features {
            let mean = x.iter().sum::<f64>() / n as f64;
            let along: f64 = x.iter().zip(&y).map(|(x, y)| (x - mean) * y).sum();
            next.iter_mut()
                .zip(x)
                .for_each(|(v, x)| *v += (x - mean) * along);
        }
        let size = next.iter().map(|v| v * v).sum::<f64>().sqrt();
        y = next.iter().map(|v| v / size).collect();
    }
    y
}

/// At t = ∞ the degrees of freedom are the rank of the kernel off the covariates.
#[test]
fn training_to_the_end_has_the_rank_of_the_kernel_as_degrees_of_freedom() {
    // Samples, features, samples that are another once more, rank beside the intercept.
    for (n, p, n_twice, rank) in [
        (150, 2, 0, 2.0),
        (150, 40, 15, 40.0),
        (100, 160, 12, 87.0),
        (530, 2, 0, 2.0),
        (530, 40, 0, 40.0),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| text(&folder.path().join(name));
        // The last samples are the first once more.
        let twin = |i: usize| if i < n - n_twice { i } else { i + n_twice - n };
        let size = |j: usize| 1.0 + 3.0 / (1 + j) as f64;
        let column = |j: usize| {
            (0..n)
                .map(|i| size(j) * noise(twin(i), j))
                .collect::<Vec<f64>>()
        };
        let features: Vec<Vec<f64>> = (0..p).map(column).collect();
        let y = leading(&features);
        let names: Vec<String> = (0..p).map(|j| format!("f{j}")).collect();
        let columns: Vec<(&str, Vec<f64>)> =
            names.iter().map(String::as_str).zip(features).collect();
        write(&folder.path().join("f.parquet"), &columns);
        let sparse = (0..n).map(|i| if i % 9 == 4 { f64::NAN } else { y[i] });
        let phenotypes = [("whole", y.clone()), ("sparse", sparse.collect())];
        write(&folder.path().join("p.parquet"), &phenotypes);
        let out = path("out");
        let files = [path("f.parquet"), path("p.parquet")];
        succeed(&[
            "run",
            "--quiet",
            "--raw-features",
            "--no-gate",
            "--depth",
            "0",
            "--features",
            &files[0],
            "--phenotypes",
            &files[1],
            "--out",
            &out,
        ]);
        let (numbers, words) = table(&Path::new(&out).join("phenotypes.parquet"));
        assert_eq!(words["status"][0], "unbounded", "{n} {p}");
        assert_eq!(numbers["edf"][0], rank, "{n} {p}");
        if words["status"][1] == "unbounded" && p <= 40 {
            assert_eq!(numbers["edf"][1], p as f64, "{n} {p}, sparse");
        }
    }
}

/// A first layer of as many inputs as the weight variance learns at a rate of 1, which is not the absence of rates.
#[test]
fn a_network_in_the_ntk_parameterisation_stays_in_it() {
    let samples = Samples::new(40);
    let [features, phenotypes] = samples.write(1.0, 1.0);
    let diagonal = |weight_variance: &str| {
        let network = text(&samples.path(&format!("{weight_variance}.safetensors")));
        let scheme = ["--scheme", "ntk", "--weight-variance", weight_variance];
        let size = ["--inputs", "6", "--widths", "300", "--bias-variance", "1"];
        succeed(
            &[
                &["network", "init", "--out", &network],
                &scheme[..],
                &size[..],
            ]
            .concat(),
        );
        let out = text(&samples.path(&format!("out{weight_variance}")));
        let files = ["--features", &features, "--phenotypes", &phenotypes];
        let run = [
            "run",
            "--quiet",
            "--raw-features",
            "--network",
            &network,
            "--out",
            &out,
        ];
        succeed(&[&run[..], &files[..]].concat());
        let record = fs::read_to_string(Path::new(&out).join("spectrum/spectrum.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        record["trace"].as_f64().unwrap()
    };
    // The kernel is of the same size just beside it.
    let (beside, at) = (diagonal("5.999"), diagonal("6"));
    assert!((at / beside - 1.0).abs() < 0.05, "{at} {beside}");
}
