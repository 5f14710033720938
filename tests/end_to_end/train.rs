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
