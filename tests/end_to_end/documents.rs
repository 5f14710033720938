//! What the documents say: their commands run, their columns are those of the files.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ntkpipe_store::results::{Column, read_table, write_table};
use serde_json::Value;

use crate::support::{cohort, python, run_arguments, succeed, table, text};

pub fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap()
}

/// The blocks of a language, one after another.
pub fn blocks(document: &str, language: &str) -> String {
    let fence = format!("```{language}\n");
    let parts = document.split(&fence).skip(1);
    let blocks: Vec<&str> = parts
        .map(|part| part.split("```").next().unwrap())
        .collect();
    assert!(!blocks.is_empty(), "no block of {language}");
    blocks.concat()
}

/// Runs a script in a folder where `ntkpipe` is on the path.
pub fn run(program: &str, options: &[&str], script: &str, folder: &Path) -> Output {
    let binaries = Path::new(env!("CARGO_BIN_EXE_ntkpipe")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(options)
        .args(["-c", script])
        .env("PATH", format!("{}:{path}", binaries.display()))
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn the_tutorial_runs_as_it_stands_and_what_it_leaves_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let tutorial = document("docs/tutorial.md");
    run("sh", &["-eu"], &blocks(&tutorial, "sh"), folder.path());
    // The table that is shown is the one that comes out, to the digits of another processor.
    let found = fs::read_to_string(folder.path().join("ranked.txt")).unwrap();
    let shown = blocks(&tutorial, "text");
    assert!(shown.lines().count() == 6 && found.lines().count() == 31);
    for (shown, found) in shown.lines().zip(found.lines()) {
        let words = |line: &str| -> Vec<String> {
            line.split_whitespace().take(3).map(str::to_owned).collect()
        };
        assert_eq!(words(shown), words(found));
    }
    let (_, words) = table(&folder.path().join("olink/phenotypes.parquet"));
    assert_eq!(words["phenotype"], ["response", "weight", "noise"]);
    assert_eq!(words["status"], ["ok", "ok", "not_warranted"]);
    let (later, ids) = table(&folder.path().join("later.parquet"));
    assert_eq!((ids["sample_id"].len(), later.len()), (500, 30));
    for name in ["report.html", "predictions_oof.parquet"] {
        assert!(folder.path().join("results").join(name).exists(), "{name}");
    }
    if let Some(python) = python("pandas, pyarrow, zarr") {
        let script = blocks(&document("docs/reading.md"), "python");
        let output = run(&python, &[], &script, folder.path());
        assert!(String::from_utf8_lossy(&output.stdout).contains("of the trace in 50 eigenvalues"));
    }
}

#[test]
fn every_column_and_key_is_explained() {
    let files = document("docs/files.md");
    let names = String::from_utf8(succeed(&["schema"]).stdout).unwrap();
    let mut explained = 0;
    // The options explain themselves: `ntkpipe init`.
    for name in names.lines().filter(|name| *name != "options") {
        let schema: Value =
            serde_json::from_str(&document(&format!("schemas/{name}.schema.json"))).unwrap();
        for key in schema["properties"].as_object().unwrap().keys() {
            assert!(files.contains(&format!("`{key}`")), "`{key}` of {name}");
            explained += 1;
        }
    }
    assert!(explained > 45, "{explained}");
}

/// What `docs/files.md` says of the nulls of `phenotypes.parquet`.
#[test]
fn nulls_keep_to_their_rules() {
    let mut cohort = cohort(300, 20, 8);
    let folder = tempfile::tempdir().unwrap();
    let mut columns = read_table(Path::new(&cohort.phenotypes)).unwrap();
    let n = columns[0].1.len();
    let mut add = |name: &str, value: &dyn Fn(usize) -> Option<f64>| {
        columns.push((name.to_owned(), Column::Float((0..n).map(value).collect())));
    };
    add("same", &|_| Some(2.0));
    add("few", &|row| (row < 5).then_some(row as f64));
    add("rare", &|row| Some(f64::from(u8::from(row < 3))));
    cohort.phenotypes = text(&folder.path().join("phenotypes.parquet"));
    write_table(Path::new(&cohort.phenotypes), &columns).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for (name, more) in [
        ("gate", &["--min-cases", "10", "--learning-rate", "0.1"][..]),
        ("all", &["--min-cases", "10", "--no-gate", "--folds", "2"]),
    ] {
        let out = folder.path().join(name);
        succeed(&run_arguments(&cohort, &text(&out), more));
        let (numbers, words) = table(&out.join("phenotypes.parquet"));
        for (i, status) in words["status"].iter().enumerate() {
            let is_there = |column: &str| numbers[column][i].is_finite();
            let expect = |columns: &[&str], expected: bool| {
                for column in columns {
                    assert_eq!(is_there(column), expected, "{column} of {status} ({name})");
                }
            };
            let is = |among: &[&str]| among.contains(&status.as_str());
            let tested = !is(&["constant", "too_few_samples", "too_few_cases"]);
            let fitted = is(&["ok", "at_zero", "unbounded", "not_converged"]);
            let bounded = fitted && !is(&["unbounded"]);
            expect(&["n_samples", "n_missing", "n_covariates", "passes"], true);
            expect(
                &["score", "p_value", "neg_log10_p", "q_value", "in_sample_r2"],
                tested,
            );
            assert_eq!(words["training_warranted"][i] == "None", !tested);
            expect(&["edf", "sigma2", "t_hat_error"], fitted);
            expect(&["t_hat", "t_hat_lower", "reml_ratio"], bounded);
            expect(&["epochs"], bounded && name == "gate");
            let held_out = name == "all" && !is(&["too_few_samples", "too_few_cases", "constant"]);
            expect(&["out_of_sample_r2"], held_out);
            seen.insert(status.clone());
        }
    }
    for status in [
        "ok",
        "not_warranted",
        "at_zero",
        "constant",
        "too_few_samples",
        "too_few_cases",
    ] {
        assert!(seen.contains(status), "{status} not in {seen:?}");
    }
}
