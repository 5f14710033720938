//! `ntkpipe::run`: the command's results from within a program, again and again in one process.

use std::path::Path;

use ntkpipe::{Failure, OneOrMore, Options, run};

use crate::support::{Cohort, cohort, results, run_arguments, succeed, text};

fn options(cohort: &Cohort, out: &Path, depth: usize) -> Options {
    Options {
        features: Some(cohort.features.clone().into()),
        phenotypes: Some(cohort.phenotypes.clone().into()),
        covariates: Some(cohort.covariates.clone().into()),
        out: Some(out.to_path_buf()),
        depth: Some(OneOrMore::One(depth)),
        threads: Some(2),
        ..Options::default()
    }
}

#[test]
fn a_program_gets_what_the_command_gives_run_after_run() {
    let cohort = cohort(300, 10, 3);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for depth in [1, 2] {
        let (of_library, of_command) = (at(&format!("lib-{depth}")), at(&format!("cli-{depth}")));
        let record = run(&options(&cohort, &of_library, depth)).unwrap();
        let depth = depth.to_string();
        let out = text(&of_command);
        succeed(&run_arguments(&cohort, &out, &["--depth", &depth]));
        assert_eq!(results(&of_library), results(&of_command));
        let stages: Vec<&str> = record.stages.names().collect();
        assert!(
            stages.contains(&"fit") && stages.contains(&"report"),
            "{stages:?}"
        );
        // Each run has a log of its own.
        let log = std::fs::read_to_string(of_library.join("run.log")).unwrap();
        assert_eq!(log.matches("ntkpipe 0.").count(), 1, "{log}");
        assert!(log.contains("report in"), "{log}");
    }
    // What is done is not done again, and options that are not given are those of the directory.
    let again = run(&Options {
        out: Some(at("lib-2")),
        ..Options::default()
    });
    assert_eq!(again.unwrap().options.depth, Some(OneOrMore::One(2)));
    let log = std::fs::read_to_string(at("lib-2").join("run.log")).unwrap();
    assert!(log.contains("fit: current"), "{log}");
}

#[test]
fn an_error_of_the_library_says_what_to_do_and_spoils_no_later_run() {
    let cohort = cohort(100, 5, 1);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("results");
    let wrong = Options {
        phenotypes: Some(folder.path().join("nowhere.csv")),
        ..options(&cohort, &out, 1)
    };
    let error = run(&wrong).unwrap_err();
    assert!(format!("{error:#}").contains("nowhere.csv"), "{error:#}");
    let none = Options {
        threads: Some(0),
        ..options(&cohort, &out, 1)
    };
    let error = run(&none).unwrap_err();
    let Some(Failure::Input {
        hint: Some(hint), ..
    }) = error.downcast_ref::<Failure>()
    else {
        panic!("{error:#}");
    };
    assert!(hint.contains("--threads"), "{hint}");
    run(&options(&cohort, &out, 1)).unwrap();
}
