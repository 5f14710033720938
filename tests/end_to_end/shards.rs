//! Kernel and fit in shards, by jobs side by side in one run directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Cohort, cohort, fail, ntkpipe, results, run_arguments, succeed, text};

/// Arguments of a stage of the run in `out`.
fn stage<'a>(cohort: &'a Cohort, name: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = run_arguments(cohort, out, &["--tile", "128"]);
    arguments[0] = name;
    arguments.extend_from_slice(more);
    arguments
}

/// The results that a run by stages leaves as well.
fn by_stages(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = results(out);
    found.retain(|(name, _)| name != Path::new("ntkpipe_mqc.json"));
    found
}

#[test]
fn jobs_side_by_side_leave_what_one_would() {
    let cohort = cohort(600, 12, 9);
    let folder = tempfile::tempdir().unwrap();
    let (whole, out) = (folder.path().join("whole"), folder.path().join("shards"));
    let (whole_text, out_text) = (text(&whole), text(&out));
    succeed(&stage(&cohort, "run", &whole_text, &[]));
    let call = |name: &'static str, more: &[&'static str]| {
        succeed(&stage(&cohort, name, &out_text, more));
    };
    let refuse = |name: &'static str, more: &[&'static str], words: &[&str]| {
        fail(&stage(&cohort, name, &out_text, more), 1, words);
    };
    let side_by_side = |name: &'static str, shards: &[&'static str]| {
        let jobs: Vec<_> = shards
            .iter()
            .map(|shard| {
                let arguments = stage(&cohort, name, &out_text, &["--shard", shard]);
                ntkpipe().args(arguments).spawn().unwrap()
            })
            .collect();
        for mut job in jobs {
            assert!(job.wait().unwrap().success());
        }
    };
    // Another stage has to be there first.
    refuse("kernel", &["--shard", "1/3"], &["`kernel` needs `ingest`"]);
    call("ingest", &[]);
    refuse("kernel", &["--join-shards"], &["no shard"]);
    side_by_side("kernel", &["1/3", "2/3"]);
    refuse(
        "kernel",
        &["--join-shards"],
        &["these shards are missing: 3/3"],
    );
    // Of another architecture: not beside these.
    let other = stage(
        &cohort,
        "kernel",
        &out_text,
        &["--shard", "3/3", "--depth", "3"],
    );
    fail(&other, 1, &["another kernel"]);
    call("kernel", &["--shard", "3/3"]);
    let tile = out.join("kernel.zarr/c/4/2");
    let content = fs::read(&tile).unwrap();
    fs::remove_file(&tile).unwrap();
    refuse("kernel", &["--join-shards"], &["c/4/2", "is missing"]);
    fs::write(&tile, content).unwrap();
    call("kernel", &["--join-shards"]);
    // Which processors formed the tiles is not known here.
    let record: Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    let figures = &record["stages"]["kernel"]["figures"];
    assert_eq!(figures.get("amx"), Some(&Value::Null), "{figures}");
    assert_eq!(figures["bytes_written"], 0);
    call("spectrum", &[]);

    side_by_side("fit", &["1/2", "2/2"]);
    // A shard of a fit at another level.
    call("fit", &["--shard", "2/2", "--alpha", "0.01"]);
    refuse(
        "fit",
        &["--join-shards"],
        &["shards were made from other inputs or options", "2/2"],
    );
    call("fit", &["--shard", "2/2"]);
    // One that was killed on its way.
    let journal = out.join("shards/fit-1-of-2");
    let lines = fs::read_to_string(&journal).unwrap();
    let cut: String = lines.split_inclusive('\n').take(3).collect();
    fs::write(&journal, cut).unwrap();
    refuse(
        "fit",
        &["--join-shards"],
        &["shard 1/2 of the fit", "ended before it came to `trait_"],
    );
    call("fit", &["--shard", "1/2"]);
    call("fit", &["--join-shards"]);
    call("predict", &[]);
    assert!(!out.join("shards").exists());
    assert!(by_stages(&out) == by_stages(&whole));
    // A run finds everything done.
    succeed(&stage(&cohort, "run", &out_text, &[]));
    assert!(results(&out) == results(&whole));
}

#[test]
fn a_shard_waits_for_who_works_alone_and_is_given_in_words() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = text(folder.path());
    succeed(&stage(&cohort, "ingest", &out, &[]));
    let lock = fs::File::open(folder.path().join(".lock")).unwrap();
    lock.lock().unwrap();
    let arguments = stage(&cohort, "kernel", &out, &["--shard", "1/2"]);
    fail(&arguments, 1, &["another ntkpipe is at work"]);
    lock.unlock().unwrap();
    lock.lock_shared().unwrap();
    succeed(&arguments);
    let alone = stage(&cohort, "kernel", &out, &["--join-shards"]);
    fail(&alone, 1, &["another ntkpipe is at work"]);
    for wrong in ["0/2", "3/2", "half"] {
        let arguments = stage(&cohort, "kernel", &out, &["--shard", wrong]);
        fail(&arguments, 2, &["I from 1 to N"]);
    }
}

#[test]
fn it_is_all_the_same_whether_tiles_are_mapped_or_copied() {
    let cohort = cohort(600, 12, 9);
    let folder = tempfile::tempdir().unwrap();
    let (mapped, copied) = (folder.path().join("mapped"), folder.path().join("copied"));
    let (mapped_text, copied_text) = (text(&mapped), text(&copied));
    succeed(&stage(&cohort, "run", &mapped_text, &["--folds", "3"]));
    let copy = ["--folds", "3", "--read-tiles", "copy"];
    succeed(&stage(&cohort, "run", &copied_text, &copy));
    assert!(results(&mapped) == results(&copied));
    // Nothing is made anew for it.
    let before = fs::metadata(mapped.join("predictions.parquet")).unwrap();
    succeed(&stage(&cohort, "run", &mapped_text, &copy));
    let after = fs::metadata(mapped.join("predictions.parquet")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    // A tile that changes is found out.
    let tile = copied.join("kernel.zarr/c/4/2");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[77] ^= 4;
    fs::write(&tile, bytes).unwrap();
    let arguments = stage(
        &cohort,
        "spectrum",
        &copied_text,
        &["--force", copy[2], copy[3]],
    );
    fail(&arguments, 1, &["c/4/2", "is damaged: its checksum"]);
}

/// A folder mounted over another by FUSE, until it is dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(of: &Path, at: &Path) -> Option<Self> {
        fs::create_dir_all(of).unwrap();
        fs::create_dir_all(at).unwrap();
        let done = Command::new("bindfs").args([of, at]).output();
        let is_there = done.is_ok_and(|it| it.status.success());
        is_there.then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("fusermount")
            .args(["-u", "-z"])
            .arg(&self.0)
            .status();
    }
}

/// Two mounts of the folder `below`, as two machines would have: each knows only its own locks.
fn two_mounts(below: &Path) -> Option<[Mount; 2]> {
    let mount = |name| Mount::new(below, &below.with_file_name(name));
    let mounts = mount("here").zip(mount("there")).map(<[Mount; 2]>::from);
    if mounts.is_none() {
        crate::support::skipped("bindfs cannot mount a folder here");
    }
    mounts
}

#[test]
#[ignore = "a race, which about one time in thirty stops both"]
fn of_two_runs_that_no_lock_keeps_apart_the_later_one_goes_on() {
    let cohort = cohort(600, 12, 9);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let below = path("below");
    let Some([here, there]) = two_mounts(&below) else {
        return;
    };
    // Small tiles on one thread, so that the first is long at each stage.
    let slow = ["--tile", "16", "--threads", "1"];
    let deeper = ["--tile", "16", "--threads", "1", "--depth", "3"];
    let expected = path("expected");
    succeed(&run_arguments(&cohort, &text(&expected), &deeper));
    let mut n_stopped = 0;
    for seen in [
        ".lock",
        "kernel.zarr/c/3/0",
        "kernel.zarr/c/20/0",
        "fit.jsonl",
    ] {
        let out = seen.replace('/', "-");
        let [ours, theirs] = [&here, &there].map(|mount| text(&mount.0.join(&out)));
        let first = ntkpipe()
            .args(run_arguments(&cohort, &ours, &slow))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while !below.join(&out).join(seen).exists() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        succeed(&run_arguments(&cohort, &theirs, &deeper));
        let first = first.wait_with_output().unwrap();
        let said = String::from_utf8(first.stderr).unwrap();
        // Or it was done before the other began.
        if !first.status.success() {
            assert_eq!(first.status.code(), Some(1), "{said}");
            assert!(said.contains("another ntkpipe began to work"), "{said}");
            n_stopped += 1;
        }
        assert!(results(&below.join(&out)) == results(&expected), "{seen}");
    }
    assert!(n_stopped > 0);
}

#[test]
fn shards_meet_on_a_file_system_that_is_a_networks() {
    let cohort = cohort(600, 12, 9);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let below = path("below");
    let Some([here, there]) = two_mounts(&below) else {
        return;
    };
    let whole = text(&path("whole"));
    succeed(&stage(&cohort, "run", &whole, &[]));
    let [here, there] = [&here, &there].map(|mount| text(&mount.0.join("run")));
    succeed(&stage(&cohort, "ingest", &here, &[]));
    for (name, end) in [("kernel", "--join-shards"), ("fit", "--join-shards")] {
        let jobs = [(&here, "1/2"), (&there, "2/2")].map(|(out, shard)| {
            let arguments = stage(&cohort, name, out, &["--shard", shard]);
            ntkpipe().args(arguments).spawn().unwrap()
        });
        for mut job in jobs {
            assert!(job.wait().unwrap().success());
        }
        succeed(&stage(&cohort, name, &there, &[end]));
        if name == "kernel" {
            let mut arguments = stage(&cohort, "spectrum", &here, &[]);
            arguments.retain(|&word| word != "--quiet");
            let said = String::from_utf8(succeed(&arguments).stderr).unwrap();
            assert!(said.contains("is on FUSE: its tiles are copied"), "{said}");
        }
    }
    succeed(&stage(&cohort, "predict", &there, &[]));
    assert!(by_stages(&below.join("run")) == by_stages(Path::new(&whole)));
}
