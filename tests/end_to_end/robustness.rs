//! Never lose, never lie: killed, cut short, damaged, shared and strange inputs.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::support::{cohort, fail, ntkpipe, results, run_arguments, succeed, table, text};
use ntkpipe_store::results::{Column, read_table, write_table};

#[test]
fn killed_at_twenty_moments_a_run_resumes_to_the_same_bytes() {
    let cohort = cohort(600, 40, 6);
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    // The first run may be slow to start on a busy machine: the shorter of two is the measure.
    let timed = || {
        let started = Instant::now();
        succeed(&run_arguments(&cohort, &text(&whole), &["--force"]));
        started.elapsed()
    };
    let length = timed().min(timed());
    let expected = results(&whole);
    for name in [
        "phenotypes.parquet",
        "predictions.parquet",
        "curves.parquet",
        "model/model.json",
        "kernel.zarr/c/1/0",
    ] {
        assert!(expected.iter().any(|(n, _)| n == Path::new(name)), "{name}");
    }
    let (mut killed, mut seed) = (0, 20_260_527_u64);
    for moment in 0..20_u32 {
        // One moment in each twentieth of the run, where in it by a linear congruence (Knuth).
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let within = (seed >> 40) as f64 / f64::from(1 << 24);
        let wait = length.mul_f64((f64::from(moment) + within) / 20.0);
        let out = folder.path().join(format!("killed-{moment}"));
        let name = text(&out);
        let arguments = run_arguments(&cohort, &name, &[]);
        let mut child = ntkpipe().args(&arguments).spawn().unwrap();
        std::thread::sleep(wait);
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().signal() == Some(9));
        succeed(&arguments);
        let found = results(&out);
        let names = |r: &[(PathBuf, Vec<u8>)]| r.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "after {wait:?}");
        for ((name, a), (_, b)) in found.iter().zip(&expected) {
            assert!(a == b, "{} differs after {wait:?}", name.display());
        }
        fs::remove_dir_all(&out).unwrap();
    }
    // Later moments may find a quick run done; most must not.
    assert!(killed >= 12, "only {killed} of 20 runs were killed");
}

#[test]
fn a_tile_cut_short_is_named_with_its_remedy() {
    let cohort = cohort(300, 20, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = text(folder.path());
    succeed(&run_arguments(&cohort, &out, &[]));
    let tile = folder.path().join("kernel.zarr/c/0/0");
    let whole = fs::read(&tile).unwrap();
    for length in [0, 4, 4096, whole.len() - 1] {
        fs::write(&tile, &whole[..length]).unwrap();
        let again = ["--alpha", "0.5"];
        fail(
            &run_arguments(&cohort, &out, &again),
            1,
            &[
                "c/0/0",
                "is damaged",
                "delete the file",
                &format!("ntkpipe run --out {out}"),
            ],
        );
    }
    // The remedy is one.
    fs::remove_file(&tile).unwrap();
    succeed(&run_arguments(&cohort, &out, &["--alpha", "0.5"]));
    assert!(fs::read(&tile).unwrap() == whole);
}

#[test]
fn a_dual_weight_cut_short_is_no_untrained_phenotype() {
    let cohort = cohort(300, 20, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = text(folder.path());
    succeed(&run_arguments(&cohort, &out, &["--no-gate"]));
    let dual = folder.path().join("model/dual.zarr/c/0/0");
    let whole = fs::read(&dual).unwrap();
    fs::write(&dual, &whole[..whole.len() - 1]).unwrap();
    fail(
        &["predict", "--quiet", "--out", &out],
        1,
        &["dual.zarr/c/0/0", "is damaged"],
    );
}

#[test]
fn a_damaged_record_is_named_and_never_used() {
    let cohort = cohort(120, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = text(folder.path());
    succeed(&run_arguments(&cohort, &out, &[]));
    let record = folder.path().join("run.json");
    for bytes in [&b"{ \"version\": 3"[..], b"\x00\xff"] {
        fs::write(&record, bytes).unwrap();
        fail(
            &run_arguments(&cohort, &out, &[]),
            1,
            &["run.json", "damaged"],
        );
    }
    fs::remove_file(&record).unwrap();
    succeed(&run_arguments(&cohort, &out, &[]));
}

#[test]
fn a_file_where_a_folder_should_be_is_named() {
    let cohort = cohort(120, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let (file, out) = (text(&file), text(&folder.path().join("out")));
    fail(&run_arguments(&cohort, &file, &[]), 1, &[&file]);
    fail(
        &run_arguments(&cohort, &out, &["--scratch", &file]),
        1,
        &[&file],
    );
}

/// A copy of a cohort's table whose columns of numbers `change` has seen.
fn changed(from: &str, to: &Path, change: impl Fn(&mut Vec<(String, Column)>)) -> String {
    let mut columns = read_table(Path::new(from)).unwrap();
    change(&mut columns);
    write_table(to, &columns).unwrap();
    text(to)
}

fn numbers(column: &mut Column) -> &mut Vec<Option<f64>> {
    match column {
        Column::Float(values) => values,
        other => panic!("{other:?}"),
    }
}

#[test]
fn infinite_features_are_refused_before_the_kernel() {
    let mut cohort = cohort(120, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    cohort.features = changed(&cohort.features, &folder.path().join("x.parquet"), |c| {
        numbers(&mut c[1].1)[3] = Some(f64::INFINITY);
    });
    let out = text(&folder.path().join("out"));
    fail(
        &run_arguments(&cohort, &out, &[]),
        1,
        &["x.parquet", "infinite", "replace it"],
    );
    assert!(!Path::new(&out).join("kernel.zarr").exists());
}

#[test]
fn strange_phenotypes_have_a_status_or_a_right_answer() {
    let mut cohort = cohort(300, 20, 3);
    let folder = tempfile::tempdir().unwrap();
    cohort.phenotypes = changed(&cohort.phenotypes, &folder.path().join("y.parquet"), |c| {
        let mut first = c[1].1.clone();
        let values = numbers(&mut first).clone();
        let add = |c: &mut Vec<(String, Column)>, name: &str, values: Vec<Option<f64>>| {
            c.push((name.to_owned(), Column::Float(values)));
        };
        let sign = |v: &Option<f64>| v.map(|v| 1e308 * v.signum());
        add(c, "huge", values.iter().map(sign).collect());
        let scaled = |v: &Option<f64>| v.map(|v| v.signum());
        add(c, "signs", values.iter().map(scaled).collect());
        add(c, "constant", vec![Some(4.5); values.len()]);
        let mut three = vec![None; values.len()];
        for (i, at) in three.iter_mut().enumerate().take(3) {
            *at = Some(i as f64);
        }
        add(c, "three", three);
        add(c, "copy", values);
    });
    let out = folder.path().join("out");
    succeed(&run_arguments(&cohort, &text(&out), &["--no-gate"]));
    let (n, t) = table(&out.join("phenotypes.parquet"));
    let row = |name: &str| t["phenotype"].iter().position(|p| p == name).unwrap();
    assert_eq!(t["status"][row("constant")], "constant");
    assert_eq!(t["status"][row("three")], "too_few_samples");
    assert_eq!(t["status"][row("huge")], t["status"][row("signs")]);
    for name in ["neg_log10_p", "t_hat", "edf"] {
        let (huge, signs) = (n[name][row("huge")], n[name][row("signs")]);
        let same = (huge - signs).abs() <= 1e-4 * signs.abs().max(1.0);
        assert!(
            same || huge.is_nan() && signs.is_nan(),
            "{name} {huge} {signs}"
        );
        assert_eq!(
            n[name][0].to_bits(),
            n[name][row("copy")].to_bits(),
            "{name}"
        );
    }
}

#[test]
fn copied_samples_and_few_features_work() {
    for n_features in [1, 2, 4] {
        let mut cohort = cohort(300, 4, 2);
        let folder = tempfile::tempdir().unwrap();
        cohort.features = changed(&cohort.features, &folder.path().join("x.parquet"), |c| {
            c.truncate(1 + n_features);
            for (_, column) in &mut c[1..] {
                let values = numbers(column);
                let half = values.len() / 2;
                let (from, to) = values.split_at_mut(half);
                to[..half].copy_from_slice(from);
            }
        });
        let out = folder.path().join("out");
        succeed(&run_arguments(&cohort, &text(&out), &["--no-gate"]));
        let (n, _) = table(&out.join("phenotypes.parquet"));
        for p in &n["p_value"] {
            assert!((0.0..=1.0).contains(p), "{p}");
        }
        let (predictions, _) = table(&out.join("predictions.parquet"));
        assert_eq!(predictions.len(), 2);
        assert!(
            predictions
                .values()
                .all(|v| v.iter().any(|x| x.is_finite()))
        );
    }
}

/// A run killed after the test was recorded and before the fit: rows that are not fitted are taken from the test as they stand.
#[test]
fn a_run_that_had_only_its_test_recorded_resumes_to_the_same_bytes() {
    let cohort = cohort(600, 40, 6);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    succeed(&run_arguments(&cohort, &text(&out), &[]));
    let expected = results(&out);
    let record = out.join("run.json");
    let mut run: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let stages = run["stages"].as_object_mut().unwrap();
    assert!(stages.remove("fit").is_some() && stages.remove("predict").is_some());
    fs::write(&record, serde_json::to_vec(&run).unwrap()).unwrap();
    succeed(&run_arguments(&cohort, &text(&out), &[]));
    assert!(results(&out) == expected);
}

/// As a kill leaves it that comes after the fit is recorded and before its journals go.
#[test]
fn journals_of_a_recorded_fit_go_with_the_next_run() {
    let cohort = cohort(120, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    succeed(&run_arguments(&cohort, &text(&out), &[]));
    let expected = results(&out);
    for name in ["fit.jsonl", "folds.jsonl"] {
        fs::write(out.join(name), "0".repeat(64) + "\n").unwrap();
    }
    succeed(&run_arguments(&cohort, &text(&out), &[]));
    assert!(results(&out) == expected);
}

/// `model/features.zarr` is made of hard links: predicting again must not copy a file onto itself.
#[test]
fn predicting_again_leaves_the_features_as_they_are() {
    let cohort = cohort(300, 20, 3);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    succeed(&run_arguments(&cohort, &text(&out), &[]));
    let expected = results(&out);
    succeed(&["predict", "--out", &text(&out), "--quiet"]);
    assert!(results(&out) == expected);
}
