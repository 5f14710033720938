//! Cross-validation as a stage of its own: what it does again, what it leaves alone, and what it takes back.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{cohort, fail, results, run_arguments, succeed, table, text};

fn record(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap()
}

/// What `run.json` says of the fit and of what builds on it alone.
fn fitted(out: &Path) -> [Value; 2] {
    ["fit", "predict"].map(|stage| record(out)["stages"][stage].clone())
}

fn same(found: &Path, fresh: &Path) {
    let (found, fresh) = (results(found), results(fresh));
    let names = |of: &[(std::path::PathBuf, Vec<u8>)]| -> Vec<_> {
        of.iter().map(|it| it.0.clone()).collect()
    };
    assert_eq!(names(&found), names(&fresh));
    for (a, b) in found.iter().zip(&fresh) {
        assert!(a.1 == b.1, "{}", a.0.display());
    }
}

/// As a kill leaves the record that comes just before the stage would be recorded.
fn unrecord(out: &Path, stages: &[&str]) {
    let mut run = record(out);
    let of_run = run["stages"].as_object_mut().unwrap();
    for stage in stages {
        assert!(of_run.remove(*stage).is_some(), "{stage}");
    }
    fs::write(out.join("run.json"), serde_json::to_vec(&run).unwrap()).unwrap();
}

#[test]
fn other_folds_are_fitted_without_fitting_the_whole_again() {
    let cohort = cohort(400, 20, 5);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = |name: &str, more: &[&str]| {
        succeed(&run_arguments(&cohort, &text(&at(name)), more));
    };
    run("plain", &[]);
    run("three", &["--folds", "3"]);
    run("share", &["--holdout", "0.3"]);
    run("out", &[]);
    let before = fitted(&at("out"));
    let steps: [(&[&str], &str); 6] = [
        (&["--folds", "3"], "three"),
        (&["--holdout", "0.3"], "share"),
        (&[], "plain"),
        (&["--holdout", "0.3"], "share"),
        (&["--folds", "3"], "three"),
        (&[], "plain"),
    ];
    for (more, fresh) in steps {
        run("out", more);
        assert!(fitted(&at("out")) == before, "{more:?} fitted again");
        same(&at("out"), &at(fresh));
        let has = !record(&at("out"))["stages"]["cross-validate"].is_null();
        assert_eq!(has, !more.is_empty());
    }
    let (plain, _) = table(&at("out").join("phenotypes.parquet"));
    assert!(plain["out_of_sample_r2"].iter().all(|r2| r2.is_nan()));
    // Intervals, which come with the predictions, are no reason to fit the folds again.
    run("out", &["--folds", "3"]);
    let cross_validated = record(&at("out"))["stages"]["cross-validate"].clone();
    run("out", &["--folds", "3", "--intervals"]);
    assert!(record(&at("out"))["stages"]["cross-validate"] == cross_validated);
    assert!(at("out").join("prediction_sd.parquet").exists());
}

#[test]
fn killed_between_its_tables_and_its_record_it_costs_no_fit() {
    let cohort = cohort(300, 15, 4);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = |name: &str, more: &[&str]| {
        succeed(&run_arguments(&cohort, &text(&at(name)), more));
    };
    run("plain", &[]);
    run("three", &["--folds", "3"]);
    run("out", &["--folds", "3"]);
    let before = fitted(&at("out"));
    for (more, fresh) in [(&["--folds", "3"][..], "three"), (&[], "plain")] {
        if more.is_empty() {
            // Even where nothing else is left of it.
            fs::remove_file(at("out").join("predictions_oof.parquet")).unwrap();
        }
        unrecord(&at("out"), &["cross-validate", "report"]);
        run("out", more);
        assert!(fitted(&at("out")) == before, "{more:?}");
        same(&at("out"), &at(fresh));
    }
    // A table that is lost is made again from what the fit left.
    for name in ["phenotypes.parquet", "phenotypes.tsv"] {
        fs::remove_file(at("out").join(name)).unwrap();
        run("out", &[]);
        assert!(fitted(&at("out")) == before, "{name}");
        same(&at("out"), &at("plain"));
    }
    run("out", &["--folds", "3"]);
    fs::remove_file(at("out").join("phenotypes.parquet")).unwrap();
    run("out", &["--folds", "3"]);
    assert!(fitted(&at("out")) == before);
    same(&at("out"), &at("three"));
}

#[test]
fn stage_by_stage_it_comes_before_the_report() {
    let cohort = cohort(300, 15, 3);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    succeed(&run_arguments(
        &cohort,
        &text(&at("whole")),
        &["--folds", "2"],
    ));
    succeed(&run_arguments(&cohort, &text(&at("plain")), &[]));
    for (name, more) in [("whole", &["--folds", "2"][..]), ("plain", &[])] {
        let out = text(&at("stages"));
        for stage in ["ingest", "kernel", "spectrum", "fit", "predict"] {
            let mut arguments = run_arguments(&cohort, &out, more);
            arguments[0] = stage;
            succeed(&arguments);
        }
        let report = ["report", "--quiet", "--out", &out];
        if name == "whole" {
            let words = [
                "`report` needs `cross-validate`",
                "ntkpipe cross-validate --out",
            ];
            fail(&report, 1, &words);
        } else {
            // A run without folds does not need it.
            succeed(&report);
        }
        succeed(&["cross-validate", "--quiet", "--out", &out]);
        succeed(&report);
        same(&at("stages"), &at(name));
        fs::remove_dir_all(at("stages")).unwrap();
    }
    // The folds come with the command, and go with a run that does not name them.
    let out = text(&at("plain"));
    let before = fitted(&at("plain"));
    succeed(&["cross-validate", "--quiet", "--out", &out, "--folds", "2"]);
    succeed(&["report", "--quiet", "--out", &out]);
    same(&at("plain"), &at("whole"));
    assert!(fitted(&at("plain")) == before);
}

#[test]
fn status_and_plan_name_it_where_samples_are_held_out() {
    let cohort = cohort(300, 15, 4);
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("out"));
    let plan = |more: &[&str]| -> Value {
        let mut arguments = run_arguments(&cohort, &out, &[&["--json"], more].concat());
        arguments[0] = "plan";
        serde_json::from_slice(&succeed(&arguments).stdout).unwrap()
    };
    let status = || String::from_utf8(succeed(&["status", &out]).stdout).unwrap();
    let (without, with) = (plan(&[]), plan(&["--folds", "3"]));
    assert!(without["seconds"]["cross-validate"].is_null());
    let seconds = |of: &Value, stage: &str| of["seconds"][stage].as_f64().unwrap();
    // Three times as many fits, on nearly as many samples.
    assert!(seconds(&with, "cross-validate") > 2.0 * seconds(&with, "fit"));
    succeed(&run_arguments(&cohort, &out, &[]));
    assert!(!status().contains("cross-validate"), "{}", status());
    let mut predict = run_arguments(&cohort, &out, &["--folds", "3"]);
    predict[0] = "predict";
    succeed(&predict);
    let said = status();
    let line = said.lines().find(|it| it.starts_with("cross-validate"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(
        line.contains("to do") && line.contains("0 of 12 fits"),
        "{line}"
    );
    succeed(&run_arguments(&cohort, &out, &["--folds", "3"]));
    assert!(status().contains("all done"), "{}", status());
}

/// A warning is of the results that are there, not of those that were.
#[test]
fn warnings_do_not_depend_on_what_was_run_before() {
    let cohort = cohort(300, 10, 4);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let network = text(&at("network.safetensors"));
    let init = [
        "network", "init", "--quiet", "--out", &network, "--inputs", "10",
    ];
    let more = ["--widths", "300,300", "--scheme", "ntk", "--seed", "3"];
    succeed(&[&init[..], &more].concat());
    let run = |name: &str, more: &[&str]| {
        let fixed = ["--network", &network, "--no-gate"];
        let more = [&fixed[..], more].concat();
        succeed(&run_arguments(&cohort, &text(&at(name)), &more));
        let stages = record(&at(name))["stages"].clone();
        ["fit", "predict", "cross-validate"].map(|stage| stages[stage]["warnings"].clone())
    };
    let (plain, folds) = (run("plain", &[]), run("folds", &["--folds", "4"]));
    let says = |warnings: &Value, words: &str| warnings.to_string().contains(words);
    let worse = "predicted worse than by their covariates alone, by";
    assert!(
        says(&folds[2], &format!("{worse} the samples held out")),
        "{folds:?}"
    );
    assert!(
        says(&plain[0], &format!("{worse} leave-one-out error")),
        "{plain:?}"
    );
    assert_eq!(run("folds", &[]), plain);
    assert_eq!(run("plain", &["--folds", "4"]), folds);
}
