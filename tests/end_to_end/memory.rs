//! `--memory` bounds the anonymous memory of every stage.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{Cohort, fail, ntkpipe, run_arguments, succeed, text};

/// Runs the binary to its end; the largest anonymous memory seen, in bytes.
fn peak(arguments: &[&str]) -> u64 {
    let mut child = ntkpipe()
        .args(arguments)
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let status = fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
        let kilobytes = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) << 10);
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "{arguments:?}");
    peak
}

#[test]
fn every_stage_stays_within_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name));
    let cohort_folder = path("cohort");
    succeed(&[
        "simulate",
        "--quiet",
        "--out",
        &cohort_folder,
        "--samples",
        "4000",
        "--features",
        "100",
        "--phenotypes",
        "600",
        "--masked-share",
        "0.2",
        "--noise-phenotypes",
        "0",
    ]);
    let cohort = Cohort {
        features: format!("{cohort_folder}/proteins.parquet"),
        phenotypes: format!("{cohort_folder}/phenotypes.parquet"),
        covariates: format!("{cohort_folder}/covariates.parquet"),
        _folder: tempfile::tempdir().unwrap(),
    };
    let out = path("run");
    let mut unbounded = 0;
    for (bound, is_bound) in [("4GiB", false), ("200MiB", true)] {
        let mut arguments = run_arguments(&cohort, &out, &["--memory", bound, "--threads", "2"]);
        for stage in ["ingest", "kernel", "spectrum", "fit", "predict"] {
            arguments[0] = stage;
            if is_bound && !arguments.contains(&"--force") {
                arguments.push("--force");
            }
            let used = peak(&arguments);
            println!("{stage} {bound}: {used} bytes");
            if is_bound {
                assert!(used <= 200 << 20, "{stage}: {used} bytes");
            } else {
                unbounded = unbounded.max(used);
            }
        }
    }
    // Otherwise the bound says nothing.
    assert!(unbounded > 250 << 20, "{unbounded}");
    let arguments = ["fit", "--out", &out, "--memory", "20MiB", "--force"];
    fail(&arguments, 3, &["`--memory`", "needs", "MiB"]);
}
