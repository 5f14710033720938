//! Training the network of a run to its stopping times, and how far the closed form is from that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::folders::is_ignored;
use crate::support::{
    Cohort, case, cohort, fail, ntkpipe, results, run_arguments, succeed, table, text,
};

/// A run on a new network of these hidden layers.
fn run(cohort: &Cohort, folder: &Path, widths: &str, more: &[&str]) -> PathBuf {
    let network = text(&folder.join(format!("{widths}.safetensors")));
    succeed(&[
        "network", "init", "--inputs", "10", "--widths", widths, "--out", &network,
    ]);
    let out = folder.join(widths);
    let mut options = vec!["--network", network.as_str()];
    options.extend_from_slice(more);
    succeed(&run_arguments(cohort, &text(&out), &options));
    out
}

fn train(out: &Path, more: &[&str]) {
    let out = text(out);
    let mut arguments = vec!["train", "--quiet", "--out", &out];
    arguments.extend_from_slice(more);
    succeed(&arguments);
}

fn refuse(out: &Path, more: &[&str], words: &[&str]) {
    let out = text(out);
    let mut arguments = vec!["train", "--quiet", "--out", &out];
    arguments.extend_from_slice(more);
    fail(&arguments, 1, words);
}

#[test]
fn a_trained_network_goes_to_the_closed_form_as_it_gets_wider() {
    let cohort = cohort(600, 10, 4);
    let folder = tempfile::tempdir().unwrap();
    let mut distances = Vec::new();
    for widths in ["64,64", "1024,1024"] {
        let out = run(&cohort, folder.path(), widths, &[]);
        train(&out, &[]);
        let (of, words) = table(&out.join("trained/trained.parquet"));
        let (fitted, of_fit) = table(&out.join("phenotypes.parquet"));
        let mut worst = [0.0_f64; 2];
        for (i, status) in words["status"].iter().enumerate() {
            let is_warranted = of_fit["training_warranted"][i] == "Some(true)";
            assert_eq!(
                status == "trained",
                is_warranted && fitted["t_hat"][i] > 0.0,
                "{i}"
            );
            if status != "trained" {
                assert!(of["loss_end"][i].is_nan() && words["weights"][i].is_empty());
                continue;
            }
            assert!((of["t"][i] / fitted["t_hat"][i] - 1.0).abs() < 1e-9);
            assert!(of["loss_end"][i] < of["loss_start"][i]);
            assert!(of["learning_rate"][i] * of["lambda_max"][i] < 2.0);
            worst[0] = worst[0].max(of["distance_train"][i]);
            worst[1] = worst[1].max(of["distance_held_out"][i]);
            let difference = of["r2_train"][i] - of["r2_train_closed_form"][i];
            let expected = fitted["in_sample_r2"][i];
            assert!(
                (of["r2_train_closed_form"][i] - expected).abs() < 1e-3,
                "{expected}"
            );
            assert!(difference.abs() < 0.1, "{difference}");
        }
        eprintln!("{widths}: {worst:?}");
        distances.push(worst);
    }
    for (narrow, wide) in distances[0].iter().zip(&distances[1]) {
        assert!(*wide < 0.1 && *wide > 0.0, "{distances:?}");
        assert!(*wide < 0.5 * narrow, "{distances:?}");
    }
}

/// Networks that end far from the closed form are named, and no others.
#[test]
fn a_network_far_from_the_closed_form_is_named() {
    let cohort = cohort(400, 10, 4);
    let folder = tempfile::tempdir().unwrap();
    let mut counts = Vec::new();
    for widths in ["4", "2048"] {
        let out = run(&cohort, folder.path(), widths, &["--no-gate"]);
        let arguments = ["train", "--out", &text(&out), "--all"];
        let said = String::from_utf8(succeed(&arguments).stderr).unwrap();
        let (of, words) = table(&out.join("trained/trained.parquet"));
        let distances = words["phenotype"].iter().zip(&of["distance_train"]);
        let far: Vec<&str> = distances
            .filter(|(_, distance)| **distance > 0.2)
            .map(|(name, _)| name.as_str())
            .collect();
        let warning = said
            .lines()
            .find(|line| line.contains("farther than 0.2 from the closed form"));
        assert_eq!(warning.is_some(), !far.is_empty(), "{said}");
        for name in &words["phenotype"] {
            let is_named = warning.is_some_and(|line| line.contains(name.as_str()));
            assert_eq!(is_named, far.contains(&name.as_str()), "{name}: {said}");
        }
        counts.push(far.len());
    }
    assert!(counts[0] > 0 && counts[1] == 0, "{counts:?}");
}

/// R² on the samples that have the phenotype and are not trained on: those that `--missing complete` leaves out.
#[test]
fn a_trained_network_is_judged_on_the_samples_it_never_saw() {
    let cohort = cohort(500, 10, 4);
    let folder = tempfile::tempdir().unwrap();
    for (widths, more) in [("60", &["--missing", "complete"][..]), ("61", &[])] {
        let more = [&["--no-gate"], more].concat();
        let out = run(&cohort, folder.path(), widths, &more);
        train(&out, &["--all"]);
        let (of, words) = table(&out.join("trained/trained.parquet"));
        let (predicted, ids) = table(&out.join("trained/predictions.parquet"));
        let (values, _) = table(Path::new(&cohort.phenotypes));
        let (covariates, _) = table(Path::new(&cohort.covariates));
        let row = |of: &std::collections::HashMap<String, Vec<f64>>, id: &str| {
            of["eid"].iter().position(|it| it.to_string() == id)
        };
        let mut n_judged = 0;
        for (i, name) in words["phenotype"].iter().enumerate() {
            if words["status"][i] != "trained" {
                continue;
            }
            let value = |id: &str| {
                let at = row(&values, id)?;
                Some(values[name][at]).filter(|v| v.is_finite())
            };
            let is_complete = |id: &str| {
                let has = |numbers: &std::collections::HashMap<String, Vec<f64>>, at: usize| {
                    numbers.values().all(|column| column[at].is_finite())
                };
                let in_values = row(&values, id);
                let in_covariates = row(&covariates, id);
                in_values.is_some_and(|at| has(&values, at))
                    && in_covariates.is_some_and(|at| has(&covariates, at))
            };
            let outside = ids["sample_id"].iter().zip(&predicted[name]);
            let pairs: Vec<(f64, f64)> = outside
                .filter(|(id, predicted)| !is_complete(id) && predicted.is_finite())
                .filter_map(|(id, predicted)| Some((value(id)?, *predicted)))
                .collect();
            let r2 = of["r2_held_out"][i];
            if more.len() == 1 {
                assert!(r2.is_nan(), "{name}: {r2}");
                continue;
            }
            let mean = pairs.iter().map(|it| it.0).sum::<f64>() / pairs.len() as f64;
            let left: f64 = pairs.iter().map(|it| (it.0 - it.1).powi(2)).sum();
            let all: f64 = pairs.iter().map(|it| (it.0 - mean).powi(2)).sum();
            assert!(pairs.len() > 20, "{name}: {}", pairs.len());
            assert!((r2 - (1.0 - left / all)).abs() < 1e-6, "{name}: {r2}");
            n_judged += 1;
        }
        assert!(more.len() == 1 || n_judged > 1, "{n_judged}");
    }
}

#[test]
fn what_is_trained_already_is_kept_and_threads_do_not_show() {
    let cohort = cohort(400, 10, 4);
    let folder = tempfile::tempdir().unwrap();
    let out = run(&cohort, folder.path(), "30,20", &[]);
    let to = |name: &str| text(&folder.path().join(name));
    train(&out, &["--threads", "1", "--to", &to("one")]);
    train(&out, &["--threads", "2", "--to", &to("two")]);
    let one = results(Path::new(&to("one")));
    assert!(one == results(Path::new(&to("two"))));
    let weights = |name: &Path| name.extension().is_some_and(|it| it == "safetensors");
    let trained: Vec<&PathBuf> = one
        .iter()
        .map(|(name, _)| name)
        .filter(|n| weights(n))
        .collect();
    assert!(trained.len() >= 2, "{trained:?}");
    // One is lost, one is damaged, the others stand as they were.
    let path = |name: &Path| Path::new(&to("one")).join(name);
    let written = |name: &Path| fs::metadata(path(name)).unwrap().modified().unwrap();
    fs::remove_file(path(trained[0])).unwrap();
    let before = trained
        .iter()
        .skip(1)
        .map(|name| written(name))
        .collect::<Vec<_>>();
    train(&out, &["--to", &to("one")]);
    let after = trained
        .iter()
        .skip(1)
        .map(|name| written(name))
        .collect::<Vec<_>>();
    assert_eq!(before, after);
    // What is damaged may be somebody's: it is made again when it is gone, or nothing is left in it.
    fs::write(path(trained[1]), b"cut short").unwrap();
    let out_text = text(&out);
    let arguments = ["train", "--quiet", "--out", &out_text, "--to", &to("one")];
    let words = [trained[1].to_str().unwrap(), "is not what ntkpipe left"];
    fail(&arguments, 1, &words);
    fs::write(path(trained[1]), b"").unwrap();
    train(&out, &["--to", &to("one")]);
    assert!(one == results(Path::new(&to("one"))));
    // Another schedule is another network.
    train(&out, &["--to", &to("one"), "--epochs", "150"]);
    let (of, _) = table(&path(Path::new("trained.parquet")));
    assert!(of["epochs"].iter().all(|e| e.is_nan() || *e == 150.0));
    assert!(
        fs::read(path(trained[1])).unwrap()
            != fs::read(Path::new(&to("two")).join(trained[1])).unwrap()
    );
    // The weights are a network like the one that they came from.
    let again = to("again");
    let network = text(&path(trained[1]));
    succeed(&run_arguments(&cohort, &again, &["--network", &network]));
}

#[test]
fn nothing_is_trained_where_the_test_does_not_warrant_it_unless_asked() {
    let cohort = cohort(400, 10, 4);
    let folder = tempfile::tempdir().unwrap();
    // So strict a level that no phenotype passes.
    let out = run(&cohort, folder.path(), "30", &["--alpha", "1e-300"]);
    train(&out, &[]);
    let (_, words) = table(&out.join("trained/trained.parquet"));
    assert_eq!(words["status"], ["not_warranted"; 4]);
    assert!(
        !fs::read_dir(out.join("trained"))
            .unwrap()
            .any(|file| text(&file.unwrap().path()).ends_with("safetensors"))
    );
    // Asked, but there is no time to stop at.
    train(&out, &["--all"]);
    let (_, words) = table(&out.join("trained/trained.parquet"));
    assert_eq!(words["status"], ["no_stopping_time"; 4]);
    train(
        &out,
        &[
            "--all",
            "--phenotype",
            "*_0002",
            "--epochs",
            "20",
            "--learning-rate",
            "0.01",
        ],
    );
    let (of, words) = table(&out.join("trained/trained.parquet"));
    assert_eq!(words["status"], ["trained"]);
    assert_eq!(words["phenotype"], ["trait_0002"]);
    assert!((of["t"][0] - 0.2).abs() < 1e-12 && of["loss_end"][0] < of["loss_start"][0]);
    // The closed form at that time, in which the network hardly moves.
    for name in ["distance_train", "distance_held_out"] {
        assert!(of[name][0] > 0.0 && of[name][0] < 0.1, "{}", of[name][0]);
    }
    let (predicted, _) = table(&out.join("trained/predictions.parquet"));
    assert!(
        predicted["trait_0002"]
            .iter()
            .filter(|v| v.is_finite())
            .count()
            > 350
    );
}

#[test]
fn a_network_is_compared_with_the_closed_form_at_its_own_time() {
    // More samples than are decomposed as they stand.
    let cohort = cohort(900, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = run(&cohort, folder.path(), "512,512", &["--no-gate"]);
    let (fitted, _) = table(&out.join("phenotypes.parquet"));
    let of = |t: f64| {
        let rate = (t / 100.0).to_string();
        train(
            &out,
            &[
                "--all",
                "--phenotype",
                "*_0001",
                "--epochs",
                "100",
                "--learning-rate",
                &rate,
            ],
        );
        table(&out.join("trained/trained.parquet")).0
    };
    let t_hat = fitted["t_hat"][0];
    // So near t_hat that the fit's own weights serve, then by a fit of its own: the networks are all but the same.
    let (at_t_hat, beside) = (of(t_hat), of(t_hat * (1.0 + 1e-6)));
    for name in [
        "distance_train",
        "distance_held_out",
        "r2_train_closed_form",
    ] {
        let (a, b) = (at_t_hat[name][0], beside[name][0]);
        assert!((a - b).abs() < 1e-3 && a > 0.0, "{name}: {a} {b}");
    }
    let later = of(2.0 * t_hat);
    assert!(later["r2_train_closed_form"][0] > at_t_hat["r2_train_closed_form"][0] + 1e-3);
    assert!(
        later["distance_train"][0] < 0.2,
        "{:?}",
        later["distance_train"]
    );
}

#[test]
fn training_that_diverges_is_said_to() {
    let cohort = cohort(400, 10, 4);
    let folder = tempfile::tempdir().unwrap();
    let out = run(&cohort, folder.path(), "20,20", &["--no-gate"]);
    train(&out, &["--all", "--epochs", "1", "--learning-rate", "0.01"]);
    let (of, _) = table(&out.join("trained/trained.parquet"));
    let lambda = of["lambda_max"].iter().fold(0.0, |a: f64, b| a.max(*b));
    // Below 2/λ, and yet the kernel of so narrow a network grows on the way.
    let mut n_diverged = 0;
    for share in [0.85, 0.9, 0.95, 0.99] {
        let rate = (share * 2.0 / lambda).to_string();
        let words = [
            "train",
            "--out",
            &text(&out),
            "--all",
            "--epochs",
            "2000",
            "--learning-rate",
            &rate,
        ];
        let said = String::from_utf8(succeed(&words).stderr).unwrap();
        let (of, words) = table(&out.join("trained/trained.parquet"));
        let (predicted, _) = table(&out.join("trained/predictions.parquet"));
        for (i, name) in words["phenotype"].iter().enumerate() {
            let diverged = words["status"][i] == "diverged";
            let weights = out.join("trained").join(format!("{name}.safetensors"));
            assert_eq!(weights.exists(), !diverged, "{name}");
            assert_eq!(predicted.contains_key(name), !diverged, "{name}");
            assert_eq!(of["loss_end"][i].is_nan(), diverged, "{name}");
            if diverged {
                n_diverged += 1;
                assert!(
                    said.contains(&format!("`{name}` diverged by epoch")),
                    "{said}"
                );
                assert!(said.contains("pass a lower `--learning-rate`"), "{said}");
            }
        }
    }
    assert!(n_diverged > 0);
}

#[test]
fn an_interrupted_training_goes_on() {
    let cohort = cohort(400, 10, 4);
    let folder = tempfile::tempdir().unwrap();
    let out = run(&cohort, folder.path(), "40,40", &["--no-gate"]);
    let to = |name: &str| folder.path().join(name);
    let more = [
        "--all",
        "--epochs",
        "3000",
        "--learning-rate",
        "0.05",
        "--to",
    ];
    let words = |name: &str| -> Vec<String> {
        let more = more.iter().map(ToString::to_string);
        more.chain([text(&to(name))]).collect()
    };
    let undisturbed = words("undisturbed");
    train(
        &out,
        &undisturbed.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    for (signal, number) in [("-TERM", 15), ("-INT", 2)] {
        if is_ignored(number) {
            crate::support::skipped(&format!("{signal} is ignored by who started the tests"));
            continue;
        }
        let name = &signal[1..];
        let mut job = ntkpipe()
            .args(["train", "--quiet", "--out", &text(&out)])
            .args(words(name))
            .spawn()
            .unwrap();
        let is_weights = |it: &Path| it.extension().is_some_and(|it| it == "safetensors");
        let trained = || {
            let files = fs::read_dir(to(name)).into_iter().flatten().flatten();
            files.filter(|it| is_weights(&it.path())).count()
        };
        let begun = Instant::now();
        while trained() < 1 && begun.elapsed() < Duration::from_secs(120) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Command::new("kill")
            .args([signal, &job.id().to_string()])
            .status()
            .unwrap();
        assert!(!job.wait().unwrap().success(), "{signal}");
        assert!(trained() < 4, "{signal}");
        train(
            &out,
            &words(name).iter().map(String::as_str).collect::<Vec<_>>(),
        );
        assert!(
            results(&to(name)) == results(&to("undisturbed")),
            "{signal}"
        );
    }
}

#[test]
fn training_that_cannot_be_is_refused_with_what_to_do() {
    let cohort = cohort(300, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    refuse(
        &path("nothing"),
        &[],
        &["holds no run", "ntkpipe run --network"],
    );
    let infinite = path("infinite");
    succeed(&run_arguments(&cohort, &text(&infinite), &[]));
    refuse(
        &infinite,
        &[],
        &["infinitely wide", "`ntkpipe network init`"],
    );
    let out = run(&cohort, folder.path(), "20", &["--no-gate"]);
    refuse(
        &out,
        &["--phenotype", "weight"],
        &["`weight`", "phenotypes.tsv"],
    );
    refuse(
        &out,
        &["--all", "--learning-rate", "1e6"],
        &["1000000", "2/λ", "trait_000"],
    );
    refuse(&out, &["--learning-rate", "0"], &["learning rate is 0"]);
    refuse(&out, &["--epochs", "0"], &["epochs is 0"]);
    let begun = path("begun");
    let network = text(&path("20.safetensors"));
    let text = text(&begun);
    let mut arguments = run_arguments(&cohort, &text, &["--network", &network]);
    arguments[0] = "ingest";
    succeed(&arguments);
    refuse(&begun, &[], &["training needs `kernel`", "ntkpipe kernel"]);
}

#[test]
fn the_authors_network_follows_its_kernel() {
    let Some(case) = case("ntk_re_a") else { return };
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
    train(folder.path(), &[]);
    let (of, words) = table(&folder.path().join("trained/trained.parquet"));
    assert_eq!(words["status"], ["trained", "trained", "not_warranted"]);
    for name in ["distance_train", "distance_held_out"] {
        let distances = &of[name][..2];
        assert!(
            distances.iter().all(|d| *d > 0.0 && *d < 0.05),
            "{distances:?}"
        );
    }
    assert_eq!(of["n_held_out"][..2], [60.0; 2]);
}
