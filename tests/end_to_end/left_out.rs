//! Leave-one-out errors: the time that predicts best, the choice among architectures, what is worse than the covariates.

use std::path::Path;

use crate::support::{cohort, ntkpipe, results, run_arguments, succeed, table, text};

/// When each stage of a run was done, as `run.json` has it.
fn fingerprints(out: &Path) -> Vec<(String, serde_json::Value)> {
    let record = std::fs::read_to_string(out.join("run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let stages = record["stages"].as_object().unwrap();
    let of = |(name, stage): (&String, &serde_json::Value)| (name.clone(), stage.clone());
    stages.iter().map(of).collect()
}

#[test]
fn stopping_at_t_loo_takes_kernel_and_spectrum_as_they_are_and_leaves_t_hat() {
    let mut n_apart = 0;
    for samples in [300, 900] {
        let cohort = cohort(samples, 12, 8);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (out, alone) = (text(&path("out")), text(&path("alone")));
        succeed(&run_arguments(&cohort, &out, &["--no-gate"]));
        let (reml, words) = table(&path("out").join("phenotypes.parquet"));
        let before = fingerprints(&path("out"));
        let more = ["--no-gate", "--stop", "loo"];
        succeed(&run_arguments(&cohort, &out, &more));
        let after = fingerprints(&path("out"));
        for ((name, before), (_, after)) in before.iter().zip(&after) {
            let is_kept = ["ingest", "kernel", "spectrum", "test"].contains(&name.as_str());
            assert_eq!(before["seconds"] == after["seconds"], is_kept, "{name}");
        }
        // As if it had been run so at once.
        succeed(&run_arguments(&cohort, &alone, &more));
        assert!(results(&path("out")) == results(&path("alone")));
        let (loo, _) = table(&path("out").join("phenotypes.parquet"));
        let (predicted, _) = table(&path("out").join("predictions.parquet"));
        for (i, name) in words["phenotype"].iter().enumerate() {
            let near = |column: &str| {
                let (a, b) = (reml[column][i], loo[column][i]);
                assert!(
                    a == b || (a.is_nan() && b.is_nan()) || (a / b - 1.0).abs() < 1e-3,
                    "{name}: {column} {a} {b}"
                );
            };
            for column in ["t_hat", "t_hat_lower", "edf", "reml_ratio", "loo_r2"] {
                near(column);
            }
            let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
            assert!(same(reml["t_stop"][i], reml["t_hat"][i]), "{name}");
            assert!(
                loo["t_loo"][i].is_nan() || loo["t_stop"][i] == loo["t_loo"][i],
                "{name}"
            );
            assert!(loo["loo_r2_best"][i] >= loo["loo_r2"][i] - 1e-6, "{name}");
            assert!(loo["loo_r2_best"][i] > -1e-6, "{name}");
            n_apart += usize::from((loo["t_stop"][i] / reml["t_stop"][i] - 1.0).abs() > 0.05);
            if loo["t_stop"][i] > 1.1 * reml["t_stop"][i] {
                assert!(loo["in_sample_r2"][i] > reml["in_sample_r2"][i], "{name}");
                assert!(loo["sigma2"][i] < reml["sigma2"][i], "{name}");
                assert!(loo["edf_loo"][i] > loo["edf"][i], "{name}");
            }
            assert!(predicted[name].iter().any(|it| it.is_finite()), "{name}");
        }
    }
    assert!(n_apart >= 3, "{n_apart}");
}

/// Folds and holdout stop where the fit does, and the leave-one-out R² is near what they find.
#[test]
fn folds_stop_at_t_loo_too() {
    let cohort = cohort(700, 12, 6);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let r2 = |name: &str, stop: &str| {
        let out = text(&path(name));
        succeed(&run_arguments(
            &cohort,
            &out,
            &["--folds", "5", "--stop", stop],
        ));
        table(&path(name).join("phenotypes.parquet")).0
    };
    let (reml, loo) = (r2("reml", "reml"), r2("loo", "loo"));
    let mut n_apart = 0;
    for i in 0..reml["loo_r2"].len() {
        n_apart += usize::from(reml["out_of_sample_r2"][i] != loo["out_of_sample_r2"][i]);
        // The covariates explain some of the phenotype as well, so that the former is the larger.
        if reml["loo_r2"][i].is_finite() {
            let (out_of_fold, left_out) = (reml["out_of_sample_r2"][i], reml["loo_r2"][i]);
            assert!(out_of_fold > left_out - 0.08, "{out_of_fold} {left_out}");
        }
    }
    assert!(n_apart > 0);
}

#[test]
fn the_architecture_of_the_least_leave_one_out_error_is_chosen() {
    let cohort = cohort(600, 12, 6);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let out = text(&path("out"));
    let options = ["--depth", "1,2,4", "--stop", "loo"];
    succeed(&run_arguments(&cohort, &out, &options));
    let (compared, words) = table(&path("out").join("architectures.parquet"));
    let (chosen, names) = table(&path("out").join("phenotypes.parquet"));
    let mut n_chosen = 0;
    for (i, name) in names["phenotype"].iter().enumerate() {
        let rows: Vec<usize> = (0..words["phenotype"].len())
            .filter(|&row| &words["phenotype"][row] == name)
            .filter(|&row| words["training_warranted"][row].contains("true"))
            .collect();
        let by = |a: &&usize, b: &&usize| {
            compared["loo_r2_best"][**a].total_cmp(&compared["loo_r2_best"][**b])
        };
        let Some(&best) = rows.iter().max_by(by) else {
            continue;
        };
        n_chosen += 1;
        assert_eq!(words["architecture"][best], names["architecture"][i]);
        assert_eq!(compared["loo_difference"][best], 0.0);
        assert_eq!(
            compared["t_loo"][best].to_bits(),
            chosen["t_loo"][i].to_bits()
        );
        for &row in &rows {
            let apart = compared["loo_r2_best"][best] - compared["loo_r2_best"][row];
            let difference = compared["loo_difference"][row];
            assert!((difference - apart).abs() < 1e-5, "{difference} {apart}");
            assert!(row == best || compared["loo_difference_se"][row] > 0.0);
        }
    }
    assert!(n_chosen >= 3, "{n_chosen}");
    // Chosen by likelihood there is nothing of it.
    succeed(&run_arguments(&cohort, &out, &["--depth", "1,2,4"]));
    let (compared, _) = table(&path("out").join("architectures.parquet"));
    assert!(!compared.contains_key("loo_difference"));
    assert!(
        !path("out")
            .join("architectures/relu-1/left_out.zarr")
            .exists()
    );
}

/// A network drawn at random that predicts noise before it is trained is named; an antisymmetric one starts from nought.
#[test]
fn what_predicts_worse_than_the_covariates_is_named() {
    let cohort = cohort(400, 10, 4);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let run = |name: &str, more: &[&str]| {
        let network = text(&path(&format!("{name}.safetensors")));
        let mut init = vec!["network", "init", "--inputs", "10", "--widths", "300,300"];
        init.extend(["--scheme", "ntk", "--seed", "3", "--out", &network]);
        init.extend(more);
        succeed(&init);
        let out = text(&path(name));
        let options = ["--network", &network, "--no-gate", "--folds", "4"];
        let mut arguments = run_arguments(&cohort, &out, &options);
        arguments.retain(|it| *it != "--quiet");
        let output = ntkpipe().args(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let (rows, words) = table(&path(name).join("phenotypes.parquet"));
        (rows, words, said)
    };
    let (rows, words, said) = run("drawn", &[]);
    let worse: Vec<&String> = (0..rows["out_of_sample_r2"].len())
        .filter(|&i| words["worse_than_covariates"][i].contains("true"))
        .map(|i| &words["phenotype"][i])
        .collect();
    assert!(!worse.is_empty(), "{:?}", rows["out_of_sample_r2"]);
    assert!(
        said.contains("worse than by their covariates alone"),
        "{said}"
    );
    assert!(said.contains("--antisymmetric"), "{said}");
    assert!(worse.iter().all(|name| said.contains(name.as_str())));

    let (start, _, _) = run("still", &["--antisymmetric"]);
    let (f0, _) = table(&path("still").join("initial_prediction.parquet"));
    assert!(f0["f0"].iter().all(|v| *v == 0.0));
    // Near the infinitely wide network, as that of f₀ = 0 is.
    let out = text(&path("wide"));
    succeed(&run_arguments(
        &cohort,
        &out,
        &["--no-gate", "--folds", "4"],
    ));
    let (wide, _) = table(&path("wide").join("phenotypes.parquet"));
    for (a, b) in start["out_of_sample_r2"]
        .iter()
        .zip(&wide["out_of_sample_r2"])
    {
        assert!((a - b).abs() < 0.05, "{a} {b}");
    }
}
