//! Whatever was done in a directory before, its tables are those of a fresh run.

use std::fs;
use std::path::Path;

use crate::support::{cohort, results, run_arguments, succeed, text};

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

#[test]
fn tables_do_not_depend_on_what_was_run_before() {
    let cohort = cohort(500, 30, 8);
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| text(&folder.path().join(name));
    let at = |name: &str| folder.path().join(name);
    let run = |name: &str, more: &[&str]| succeed(&run_arguments(&cohort, &place(name), more));
    run("gate", &[]);
    run("no-gate", &["--no-gate"]);
    let (_, texts) = crate::support::table(&at("gate").join("phenotypes.parquet"));
    assert!(texts["status"].contains(&"not_warranted".to_owned()));

    run("a", &["--no-gate"]);
    run("a", &[]);
    same(&at("a"), &at("gate"));
    run("a", &["--no-gate"]);
    same(&at("a"), &at("no-gate"));
    // The test by itself, then the fit with another gate, and with the same.
    for (name, more, fresh) in [("b", &["--no-gate"][..], "no-gate"), ("c", &[], "gate")] {
        for stage in ["ingest", "kernel", "spectrum", "test"] {
            let name = place(name);
            let mut arguments = run_arguments(&cohort, &name, &[]);
            arguments[0] = stage;
            succeed(&arguments);
        }
        run(name, more);
        same(&at(name), &at(fresh));
    }
    // Options that leave more, then none of them.
    run(
        "d",
        &[
            "--folds",
            "3",
            "--intervals",
            "--learning-rate",
            "0.1",
            "--alpha",
            "0.5",
        ],
    );
    run("d", &[]);
    same(&at("d"), &at("gate"));
    fs::remove_file(at("d").join("test.parquet")).unwrap();
    run("d", &[]);
    same(&at("d"), &at("gate"));
}
