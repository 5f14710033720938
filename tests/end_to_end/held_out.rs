//! Predictions of samples held out of the fit.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ntkpipe_store::results::{Column, read_table, write_table};

use crate::support::{cohort, fail, ntkpipe, results, run_arguments, succeed, table, text};

#[test]
fn held_out_samples_are_predicted_as_if_their_phenotypes_were_missing() {
    as_if_missing(&[]);
}

#[test]
fn so_they_are_by_a_network_that_begins_with_a_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let network = text(&folder.path().join("network.safetensors"));
    let init = ["network", "init", "--quiet", "--out", &network];
    succeed(&[&init[..], &["--inputs", "20", "--widths", "16,16"]].concat());
    as_if_missing(&["--network", &network]);
}

fn as_if_missing(more: &[&str]) {
    let cohort = cohort(400, 20, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let out = path("held_out");
    let held_out = [&["--holdout", "0.25"], more].concat();
    succeed(&run_arguments(&cohort, &out, &held_out));
    let (held_out, ids) = table(&Path::new(&out).join("predictions_oof.parquet"));
    let names: Vec<&String> = held_out.keys().collect();
    let is_out = |row: usize| names.iter().any(|name| held_out[*name][row].is_finite());
    let out_ids: Vec<&String> = (0..ids["sample_id"].len())
        .filter(|&row| is_out(row))
        .map(|row| &ids["sample_id"][row])
        .collect();
    // A quarter, to the nearest sample, less those that lack a covariate.
    let quarter = 0.25 * ids["sample_id"].len() as f64;
    let n_out = out_ids.len() as f64;
    assert!(
        n_out <= quarter.round() && n_out >= 0.8 * quarter,
        "{n_out} {quarter}"
    );

    let mut phenotypes = read_table(Path::new(&cohort.phenotypes)).unwrap();
    let rows: Vec<bool> = ids_of(&phenotypes[0].1)
        .iter()
        .map(|id| out_ids.contains(&id))
        .collect();
    for (_, column) in &mut phenotypes {
        if let Column::Float(values) = column {
            for (value, _) in values.iter_mut().zip(&rows).filter(|(_, out)| **out) {
                *value = None;
            }
        }
    }
    let emptied = crate::support::Cohort {
        phenotypes: path("emptied.parquet"),
        ..cohort
    };
    write_table(Path::new(&emptied.phenotypes), &phenotypes).unwrap();
    let other = path("emptied");
    succeed(&run_arguments(&emptied, &other, more));
    let (expected, all) = table(&Path::new(&other).join("predictions.parquet"));
    for name in names {
        for (id, value) in ids["sample_id"].iter().zip(&held_out[name]) {
            let row = all["sample_id"].iter().position(|it| it == id).unwrap();
            if value.is_finite() {
                assert_eq!(
                    value.to_bits(),
                    expected[name][row].to_bits(),
                    "{name} of {id}"
                );
            }
        }
    }
}

#[test]
fn every_sample_is_held_out_once_and_r2_is_of_those() {
    let cohort = cohort(400, 20, 3);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("folds");
    let text = out.display().to_string();
    let plain = folder.path().join("plain").display().to_string();
    succeed(&run_arguments(&cohort, &text, &["--folds", "4"]));
    succeed(&run_arguments(&cohort, &plain, &[]));
    let (rows, texts) = table(&out.join("phenotypes.parquet"));
    let (without, _) = table(&Path::new(&plain).join("phenotypes.parquet"));
    for name in ["neg_log10_p", "t_hat", "in_sample_r2"] {
        let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            bits(&rows[name]),
            bits(&without[name]),
            "folds change {name}"
        );
    }
    assert!(without["out_of_sample_r2"].iter().all(|r2| r2.is_nan()));
    let (oof, ids) = table(&out.join("predictions_oof.parquet"));
    let (fitted, all) = table(&out.join("predictions.parquet"));
    let (observed, _) = table(Path::new(&cohort.phenotypes));
    let phenotype_ids = ids_of(&read_table(Path::new(&cohort.phenotypes)).unwrap()[0].1);
    for (i, name) in texts["phenotype"].iter().enumerate() {
        let mut pairs = Vec::new();
        for (id, predicted) in ids["sample_id"].iter().zip(&oof[name]) {
            let row = all["sample_id"].iter().position(|it| it == id).unwrap();
            assert_eq!(
                predicted.is_nan(),
                fitted[name][row].is_nan(),
                "{name} of {id}"
            );
            let row = phenotype_ids.iter().position(|it| it == id).unwrap();
            let value = observed[name][row];
            if value.is_finite() && predicted.is_finite() {
                pairs.push((value, *predicted));
            }
        }
        let mean = pairs.iter().map(|it| it.0).sum::<f64>() / pairs.len() as f64;
        let variation: f64 = pairs.iter().map(|it| (it.0 - mean).powi(2)).sum();
        let error: f64 = pairs.iter().map(|it| (it.0 - it.1).powi(2)).sum();
        let r2 = rows["out_of_sample_r2"][i];
        assert!(
            (r2 - (1.0 - error / variation)).abs() < 1e-9,
            "{name}: {r2}"
        );
        assert!(r2 < rows["in_sample_r2"][i], "{name}: {r2}");
    }
    for left in ["fold_weights.zarr", "folds.jsonl", "fit.jsonl"] {
        assert!(!out.join(left).exists(), "{left}");
    }
    let refused = ntkpipe()
        .args(run_arguments(&cohort, &text, &["--folds", "1"]))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
}

/// Ids of a simulated table, as text.
fn ids_of(column: &Column) -> Vec<String> {
    match column {
        Column::Int(ids) => ids.iter().map(|id| id.unwrap().to_string()).collect(),
        Column::Text(ids) => ids.clone(),
        _ => unreachable!(),
    }
}

#[test]
fn a_phenotype_on_ranks_or_raw_learns_nothing_of_the_held_out_values() {
    let cohort = cohort(300, 15, 2);
    let folder = tempfile::tempdir().unwrap();
    for more in [
        &["--rint"][..],
        &["--raw-phenotypes"],
        &[],
        &["--missing", "impute"],
    ] {
        let arguments = |out: &str| -> Vec<String> {
            let fixed = ["--holdout", "0.3", "--force"];
            let all = run_arguments(&cohort, out, &[&fixed[..], more].concat());
            all.iter().map(ToString::to_string).collect()
        };
        let run = |phenotypes: &str, name: &str| {
            let out = folder.path().join(name);
            let mut arguments = arguments(&text(&out));
            for argument in &mut arguments {
                if *argument == cohort.phenotypes {
                    *argument = phenotypes.to_owned();
                }
            }
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            succeed(&arguments);
            table(&out.join("predictions_oof.parquet"))
        };
        let (before, ids) = run(&cohort.phenotypes, "before");
        // The values held out are made huge and upside down: the predictions of these very samples must not feel it.
        let mut columns = read_table(Path::new(&cohort.phenotypes)).unwrap();
        let rows = ids_of(&columns[0].1);
        let mut changed = 0;
        for (name, column) in &mut columns {
            let Column::Float(values) = column else {
                continue;
            };
            for (value, id) in values.iter_mut().zip(&rows) {
                let place = ids["sample_id"].iter().position(|it| it == id);
                if place.is_some_and(|at| before[name][at].is_finite()) && value.is_some() {
                    *value = value.map(|v| -1e4 * v);
                    changed += 1;
                }
            }
        }
        assert!(changed > 50, "{changed}");
        let path = text(&folder.path().join("changed.parquet"));
        write_table(Path::new(&path), &columns).unwrap();
        let (after, _) = run(&path, "after");
        for (name, values) in &before {
            let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(values), bits(&after[name]), "{name} with {more:?}");
        }
    }
}

#[test]
fn killed_among_its_folds_a_run_goes_on_from_them_to_the_same_bytes() {
    let cohort = cohort(700, 40, 40);
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let more = ["--folds", "3", "--memory", "64MiB"];
    succeed(&run_arguments(&cohort, &text(&whole), &more));
    let out = folder.path().join("killed");
    let name = text(&out);
    let arguments = run_arguments(&cohort, &name, &more);
    let mut child = ntkpipe().args(&arguments).spawn().unwrap();
    let finished = || {
        let text = fs::read_to_string(out.join("folds.jsonl")).unwrap_or_default();
        text.lines().count().saturating_sub(1)
    };
    let started = Instant::now();
    while finished() == 0 && started.elapsed() < Duration::from_secs(120) {
        assert!(
            child.try_wait().unwrap().is_none(),
            "ended before its folds"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = finished();
    assert!(before > 0 && out.join("fold_weights.zarr").exists());
    let status = succeed(&["status", &name]).stdout;
    let status = String::from_utf8(status).unwrap();
    let line = status.lines().find(|it| it.starts_with("cross-validate"));
    let line = line.unwrap_or_else(|| panic!("{status}"));
    let fits = format!("{before} of 120 fits");
    assert!(line.contains(&fits), "{fits} not in\n{status}");
    let fitted = |out: &Path| -> serde_json::Value {
        let record = fs::read(out.join("run.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        record["stages"]["fit"].clone()
    };
    let fit = fitted(&out);
    assert!(fit.is_object());
    succeed(&arguments);
    let log = fs::read_to_string(out.join("run.log")).unwrap();
    assert!(
        log.contains(&format!("cross-validate: {before} fit"))
            && log.contains("before an interruption"),
        "{log}"
    );
    assert!(fitted(&out) == fit, "fitted again");
    let (expected, found) = (results(&whole), results(&out));
    assert_eq!(expected.len(), found.len());
    for ((name, a), (other, b)) in expected.iter().zip(&found) {
        assert!(name == other && a == b, "{} differs", name.display());
    }
    // The record's folds give way to a share; without either nothing of them stays.
    succeed(&["run", "--quiet", "--out", &name, "--holdout", "0.5"]);
    assert!(out.join("predictions_oof.parquet").exists());
    succeed(&run_arguments(&cohort, &name, &[]));
    assert!(!out.join("predictions_oof.parquet").exists());
}

#[test]
fn memory_does_not_change_what_is_held_out() {
    let cohort = cohort(300, 15, 12);
    let folder = tempfile::tempdir().unwrap();
    let run = |memory: &str| {
        let out = folder.path().join(memory);
        let more = ["--folds", "3", "--memory", memory];
        succeed(&run_arguments(&cohort, &text(&out), &more));
        [
            "predictions_oof.parquet",
            "predictions.parquet",
            "phenotypes.parquet",
        ]
        .map(|name| fs::read(out.join(name)).unwrap())
    };
    assert!(run("32MiB") == run("1GiB"));
}

#[test]
fn a_plan_counts_the_fits_of_the_folds() {
    let cohort = cohort(300, 15, 5);
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("out"));
    let plan = |more: &[&str]| -> (String, f64) {
        let all = [&["--dry-run"], more].concat();
        let text = String::from_utf8(succeed(&run_arguments(&cohort, &out, &all)).stdout).unwrap();
        let passes = text
            .lines()
            .find(|l| l.starts_with("multiply-adds, passes"));
        let passes = passes.unwrap().split_whitespace().last().unwrap();
        (text.clone(), passes.parse().unwrap())
    };
    let (_, without) = plan(&[]);
    let (text_of_folds, with) = plan(&["--folds", "4"]);
    assert!(
        text_of_folds.contains("bytes of folds, for a while "),
        "{text_of_folds}"
    );
    let fits = text_of_folds
        .lines()
        .find(|l| l.starts_with("fits "))
        .unwrap();
    assert!(
        fits.ends_with("25 (each phenotype also without each of 4 folds)"),
        "{fits}"
    );
    // 320 columns of the probes; 11 columns a fit, 0.7 a prediction.
    let ratio = (320.0 + 25.0 * 11.7) / (320.0 + 5.0 * 11.7);
    assert!(
        (with / without / ratio - 1.0).abs() < 2e-3,
        "{with} {without}"
    );
    fail(
        &run_arguments(&cohort, &out, &["--folds", "5000"]),
        1,
        &["folds is 5000, expected at most the"],
    );
    fail(
        &run_arguments(&cohort, &out, &["--holdout", "0.00001"]),
        1,
        &["holdout is 0.00001, which is 0 of the"],
    );
}

#[test]
fn a_fold_that_leaves_too_few_samples_predicts_none() {
    let mut cohort = cohort(300, 15, 1);
    let folder = tempfile::tempdir().unwrap();
    let mut columns = read_table(Path::new(&cohort.phenotypes)).unwrap();
    // Few enough for a quarter of them to matter: the covariates take most of the degrees of freedom.
    let values: Vec<Option<f64>> = match &columns[1].1 {
        Column::Float(values) => values.clone(),
        _ => unreachable!(),
    };
    let out = folder.path().join("out");
    let mut seen = [false, false];
    for observed in 4..24 {
        let mut left = observed;
        let few = values.iter().map(|value| {
            let is_kept = value.is_some() && left > 0;
            left -= usize::from(is_kept);
            value.filter(|_| is_kept)
        });
        columns[1].1 = Column::Float(few.collect());
        let path = text(&folder.path().join("few.parquet"));
        write_table(Path::new(&path), &columns).unwrap();
        cohort.phenotypes = path;
        succeed(&run_arguments(&cohort, &text(&out), &["--folds", "4"]));
        let (_, words) = table(&out.join("phenotypes.parquet"));
        let (oof, _) = table(&out.join("predictions_oof.parquet"));
        let (fitted, _) = table(&out.join("predictions.parquet"));
        let count = |v: &[f64]| v.iter().filter(|x| x.is_finite()).count();
        let [n_oof, n_fitted] = [&oof["trait_0001"], &fitted["trait_0001"]].map(|v| count(v));
        if words["status"][0] == "too_few_samples" {
            assert_eq!((n_oof, n_fitted), (0, 0));
            seen[0] = true;
        } else if n_oof < n_fitted {
            seen[1] = true;
        }
    }
    assert_eq!(seen, [true, true]);
}
