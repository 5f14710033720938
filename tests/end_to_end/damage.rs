//! Files of a run directory that are lost, damaged or another run's: named, never used, and made again.

use std::fs;
use std::path::Path;

use crate::support::{Cohort, cohort, fail, results, run_arguments, succeed, text};

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), &target).unwrap()),
        }
    }
}

fn is_chunk(name: &Path) -> bool {
    text(name).contains("/c/")
}

/// A run of every phenotype, and arguments for its like.
fn run(cohort: &Cohort, out: &Path) {
    succeed(&run_arguments(cohort, &text(out), &["--no-gate"]));
}

#[test]
fn every_file_that_is_deleted_comes_back_and_one_that_is_changed_is_named() {
    let cohort = cohort(120, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    run(&cohort, &out);
    let expected = results(&out);
    assert!(expected.len() > 25, "{}", expected.len());
    let resume = ["run", "--quiet", "--out", &text(&out)];
    for (name, bytes) in &expected {
        fs::remove_file(out.join(name)).unwrap();
        succeed(&resume);
        assert!(results(&out) == expected, "{}", name.display());
        if !is_chunk(name) {
            // It may be somebody's work by now. Nothing is lost with one that is empty.
            fs::write(out.join(name), &bytes[..bytes.len() / 2]).unwrap();
            let words = [&text(name), "is not what ntkpipe left", "else delete it"];
            fail(&resume, 1, &words);
            assert!(fs::read(out.join(name)).unwrap() == bytes[..bytes.len() / 2]);
            fs::write(out.join(name), "").unwrap();
            succeed(&resume);
            assert!(results(&out) == expected, "{} cut short", name.display());
        }
    }
}

#[test]
fn a_flipped_byte_ends_the_stage_that_meets_it_and_the_remedy_works() {
    let cohort = cohort(600, 20, 3);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    run(&cohort, &out);
    let expected = results(&out);
    let name = text(&out);
    let remedy = format!("ntkpipe run --out {name}");
    for (stage, chunk) in [
        ("spectrum", "kernel.zarr/c/2/1"),
        ("fit", "kernel.zarr/c/2/1"),
        ("predict", "kernel.zarr/c/2/1"),
        ("fit", "spectrum/probes.zarr/c/0/0"),
        ("fit", "spectrum/projected.zarr/c/0/0"),
        ("fit", "spectrum/ritz_vectors.zarr/c/0/0"),
        ("fit", "spectrum/covariate_products.zarr/c/0/0"),
        ("predict", "model/dual.zarr/c/1/0"),
        ("predict", "features.zarr/c/0/0"),
    ] {
        flip(&out.join(chunk));
        let words = [chunk, "is damaged", "delete the file", &remedy];
        fail(&[stage, "--quiet", "--out", &name], 1, &words);
        fs::remove_file(out.join(chunk)).unwrap();
        succeed(&["run", "--quiet", "--out", &name]);
        assert!(results(&out) == expected, "{stage} {chunk}");
    }
}

#[test]
fn a_lost_file_stops_a_later_stage_by_name() {
    let cohort = cohort(300, 20, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    run(&cohort, &out);
    let name = text(&out);
    for (stage, lost, earlier) in [
        ("predict", "model/dual.zarr/c/1/0", "fit"),
        ("fit", "spectrum/probes.zarr/c/0/0", "spectrum"),
        ("spectrum", "kernel.zarr/c/1/0", "kernel"),
        ("kernel", "features.zarr/c/0/0", "ingest"),
        ("fit", "spectrum/spectrum.json", "spectrum"),
    ] {
        fs::remove_file(out.join(lost)).unwrap();
        let remedy = format!("ntkpipe {earlier} --out {name}");
        fail(&[stage, "--quiet", "--out", &name], 1, &[lost, &remedy]);
        succeed(&["run", "--quiet", "--out", &name]);
    }
}

#[test]
fn a_stored_model_with_a_damaged_chunk_predicts_nothing() {
    let cohort = cohort(300, 20, 2);
    let folder = tempfile::tempdir().unwrap();
    let (out, new) = (folder.path().join("out"), folder.path().join("new.parquet"));
    run(&cohort, &out);
    let expected = results(&out);
    let (name, new) = (text(&out.join("model")), text(&new));
    let predict = [
        "predict",
        "--quiet",
        "--model",
        &name,
        "--features",
        &cohort.features,
        "--covariates",
        &cohort.covariates,
        "--out",
        &new,
    ];
    for chunk in ["model/dual.zarr/c/1/0", "model/features.zarr/c/0/0"] {
        flip(&out.join(chunk));
        fail(&predict, 1, &[chunk, "is damaged", "ntkpipe run --out"]);
        fs::remove_file(out.join(chunk)).unwrap();
        fail(&predict, 1, &[chunk, "is missing", "ntkpipe run --out"]);
        assert!(!Path::new(&new).exists());
        let resume = run_arguments(&cohort, out.to_str().unwrap(), &["--no-gate"]);
        if chunk.contains("features") {
            // The chunk of the run directory is the same file under its first name.
            let first = "features.zarr/c/0/0";
            fail(&resume, 1, &[first, "is damaged", "ntkpipe run --out"]);
            fs::remove_file(out.join(first)).unwrap();
        }
        succeed(&resume);
        assert!(results(&out) == expected, "{chunk}");
        succeed(&predict);
        fs::remove_file(&new).unwrap();
    }
}

#[test]
fn what_belongs_to_another_run_is_not_used() {
    let (cohort, other) = (cohort(300, 20, 2), crate::support::cohort(280, 12, 2));
    let folder = tempfile::tempdir().unwrap();
    let (out, foreign) = (folder.path().join("out"), folder.path().join("foreign"));
    run(&cohort, &out);
    let expected = results(&out);
    run(&other, &foreign);
    let deep = folder.path().join("deep");
    succeed(&run_arguments(&cohort, &text(&deep), &["--depth", "3"]));

    for from in [&foreign, &deep] {
        fs::remove_dir_all(out.join("kernel.zarr")).unwrap();
        copy(&from.join("kernel.zarr"), &out.join("kernel.zarr"));
        let words = ["kernel.zarr/zarr.json", "ntkpipe kernel --out"];
        fail(&["predict", "--quiet", "--out", &text(&out)], 1, &words);
        run(&cohort, &out);
        assert!(results(&out) == expected, "kernel of {}", from.display());

        let scratch = folder.path().join("scratch");
        copy(&from.join("kernel.zarr"), &scratch.join("kernel.zarr"));
        let more = ["--no-gate", "--scratch", &text(&scratch)];
        let fresh = folder.path().join("fresh");
        for out in [&fresh, &out] {
            succeed(&run_arguments(&cohort, &text(out), &more));
            assert!(results(out) == expected, "scratch of {}", from.display());
        }
        run(&cohort, &out);
        fs::remove_dir_all(&fresh).unwrap();
        fs::remove_dir_all(&scratch).unwrap();
        run(&cohort, &out);
        assert!(results(&out) == expected, "scratch gone");

        let record = fs::read(out.join("run.json")).unwrap();
        fs::copy(from.join("run.json"), out.join("run.json")).unwrap();
        run(&cohort, &out);
        assert!(results(&out) == expected, "record of {}", from.display());

        let mixed = folder.path().join("mixed");
        copy(from, &mixed);
        fs::write(mixed.join("run.json"), &record).unwrap();
        run(&cohort, &mixed);
        assert!(results(&mixed) == expected, "results of {}", from.display());
        fs::remove_dir_all(&mixed).unwrap();
    }
}
