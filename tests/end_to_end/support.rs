//! Shared by the end-to-end tests: the binary, its cohorts and its results.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ntkpipe_store::results::{Column, read_table};

/// The binary under test.
pub fn ntkpipe() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ntkpipe"))
}

/// Runs the binary and fails with its stderr unless it succeeds.
pub fn succeed(arguments: &[&str]) -> Output {
    let output = ntkpipe()
        .args(arguments)
        .output()
        .expect("the binary starts");
    assert!(
        output.status.success(),
        "{arguments:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Expects exit code `code` and every one of `words` on stderr, and no panic.
pub fn fail(arguments: &[&str], code: i32, words: &[&str]) {
    let output = ntkpipe().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{said}");
    assert!(!said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "{word} not in\n{said}");
    }
}

/// Every result file below `folder` with its bytes; records of time and place, and what the report stage makes of the rest, are left out.
pub fn results(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    fn walk(root: &Path, folder: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            if path.is_dir() {
                walk(root, &path, into);
            } else if ![
                "run.json",
                "run.log",
                "report.html",
                "ntkpipe_mqc.json",
                ".lock",
                ".ntkpipe",
            ]
            .contains(&text(&name).as_str())
            {
                into.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// Arguments that run a simulated cohort.
pub fn run_arguments<'a>(cohort: &'a Cohort, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "run",
        "--quiet",
        "--features",
        &cohort.features,
        "--phenotypes",
        &cohort.phenotypes,
        "--covariates",
        &cohort.covariates,
        "--out",
        out,
    ];
    arguments.extend_from_slice(more);
    arguments
}

/// A simulated cohort.
pub struct Cohort {
    pub features: String,
    pub phenotypes: String,
    pub covariates: String,
    pub _folder: tempfile::TempDir,
}

/// Simulates a cohort.
pub fn cohort(samples: usize, features: usize, phenotypes: usize) -> Cohort {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (n, p, m) = (
        samples.to_string(),
        features.to_string(),
        phenotypes.to_string(),
    );
    succeed(&[
        "simulate",
        "--quiet",
        "--out",
        &folder.path().display().to_string(),
        "--samples",
        &n,
        "--features",
        &p,
        "--phenotypes",
        &m,
        "--seed",
        "7",
    ]);
    Cohort {
        features: path("proteins.parquet"),
        phenotypes: path("phenotypes.parquet"),
        covariates: path("covariates.parquet"),
        _folder: folder,
    }
}

/// Columns of a result table by name, numbers as f64 (null is NaN), text and flags as text.
pub fn table(path: &Path) -> (HashMap<String, Vec<f64>>, HashMap<String, Vec<String>>) {
    let (mut numbers, mut texts) = (HashMap::new(), HashMap::new());
    for (name, column) in read_table(path).expect("a result table") {
        match column {
            Column::Float(v) => {
                drop(numbers.insert(name, v.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect()))
            }
            Column::Int(v) => drop(
                numbers.insert(
                    name,
                    v.into_iter()
                        .map(|x| x.map_or(f64::NAN, |x| x as f64))
                        .collect(),
                ),
            ),
            Column::Bool(v) => {
                drop(texts.insert(name, v.into_iter().map(|x| format!("{x:?}")).collect()))
            }
            Column::Text(v) => drop(texts.insert(name, v)),
            Column::OptionalText(v) => {
                drop(texts.insert(name, v.into_iter().map(Option::unwrap_or_default).collect()))
            }
        }
    }
    (numbers, texts)
}

/// Says that the test at hand skips something, and why: aloud, and in the file that `NTKPIPE_SKIPPED` names, for the gate's summary.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    eprint!("skipped: {line}");
    if let Some(path) = std::env::var_os("NTKPIPE_SKIPPED") {
        let file = fs::File::options().create(true).append(true).open(path);
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// A folder of cases beside the checkout (or in `NTKPIPE_CASES`), or `None`, said aloud.
pub fn case(name: &str) -> Option<PathBuf> {
    let cases = std::env::var_os("NTKPIPE_CASES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases"),
        PathBuf::from,
    );
    let path = cases.join(name);
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("no cases at `{name}` of the shared folder"));
    None
}

/// A Python that has `modules`, or `None`, said aloud.
pub fn python(modules: &str) -> Option<String> {
    let python = std::env::var("NTKPIPE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python)
        .args(["-c", &format!("import {modules}")])
        .output();
    if has.is_ok_and(|o| o.status.success()) {
        return Some(python);
    }
    skipped(&format!("no Python with {modules}"));
    None
}
