//! Calibration of the score test on pure noise. Takes minutes: `cargo test --test calibration -- --ignored --nocapture`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod support;

use std::path::Path;

use support::{succeed, table};

#[test]
#[ignore = "minutes; its result stands in docs/model.md"]
fn noise_is_rejected_at_the_nominal_rate() {
    const PHENOTYPES: usize = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let count = PHENOTYPES.to_string();
    succeed(&[
        "simulate",
        "--quiet",
        "--out",
        &path("cohort"),
        "--samples",
        "2000",
        "--features",
        "300",
        "--phenotypes",
        &count,
        "--noise-phenotypes",
        &count,
        "--masked-share",
        "0",
        "--seed",
        "11",
    ]);
    succeed(&[
        "run",
        "--quiet",
        "--features",
        &path("cohort/proteins.parquet"),
        "--phenotypes",
        &path("cohort/phenotypes.parquet"),
        "--covariates",
        &path("cohort/covariates.parquet"),
        "--out",
        &path("results"),
    ]);
    let (numbers, _) = table(&Path::new(&path("results")).join("phenotypes.parquet"));
    let p_values = &numbers["p_value"];
    assert_eq!(p_values.len(), PHENOTYPES);
    for level in [0.05, 0.01, 0.001] {
        let found = p_values.iter().filter(|p| **p < level).count();
        let expected = PHENOTYPES as f64 * level;
        let z = (found as f64 - expected) / (expected * (1.0 - level)).sqrt();
        println!("p < {level}: {found} of {PHENOTYPES}, expected {expected}, z = {z:.2}");
        assert!(z.abs() < 3.0, "p < {level}: {found}, expected {expected}");
    }
}
