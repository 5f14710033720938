//! Training the network of a run to its stopping times, and how far the closed form is from that.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Cohort, case, cohort, fail, results, run_arguments, succeed, table, text};

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
    fs::write(path(trained[1]), b"cut short").unwrap();
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
    assert!(of["distance_train"][0].is_nan());
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
