//! What programs that watch a run are told: the log as JSON lines, `status --json`, `run.json`.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::documents::{blocks, document, run};
use crate::support::{cohort, ntkpipe, run_arguments, succeed, text};

/// Arguments of a run whose log is for programs.
fn loud(mut arguments: Vec<&str>) -> Vec<&str> {
    arguments.retain(|&word| word != "--quiet");
    arguments.extend(["--log-format", "json"]);
    arguments
}

fn lines(log: &str) -> Vec<Value> {
    let line = |it: &str| serde_json::from_str(it).unwrap_or_else(|e| panic!("{e}: {it}"));
    log.lines().map(line).collect()
}

#[test]
fn the_log_for_programs_tells_each_stage_in_numbers() {
    let cohort = cohort(500, 20, 6);
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("results");
    let out = text(&folder);
    let arguments = loud(run_arguments(&cohort, &out, &["--tile", "64"]));
    let said = String::from_utf8(succeed(&arguments).stderr).unwrap();
    let log = lines(&said);
    let kept = lines(&fs::read_to_string(folder.join("run.log")).unwrap());
    let untimed = |log: &[Value]| -> Vec<Value> {
        let mut log = log.to_vec();
        for line in &mut log {
            line["timestamp"].take();
        }
        log
    };
    assert_eq!(untimed(&kept), untimed(&log));
    let record = fs::read(folder.join("run.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let of = |event: &str, stage: &str| -> Vec<&Value> {
        let is_it = |line: &&Value| line["event"] == event && line["stage"] == stage;
        log.iter().filter(is_it).collect()
    };
    for line in &log {
        assert!(
            line["timestamp"].is_string() && line["level"].is_string(),
            "{line}"
        );
        assert!(line["message"].is_string(), "{line}");
    }
    for stage in ["ingest", "kernel", "spectrum", "fit", "predict", "report"] {
        // The fit also tests, and begins with that.
        let first = if stage == "fit" { "test" } else { stage };
        assert_eq!(of("begin", first).len(), 1, "{stage}");
        let done = of("done", stage);
        assert_eq!(done.len(), 1, "{stage}");
        let recorded = &record["stages"][stage];
        assert_eq!(done[0]["seconds"], recorded["seconds"], "{stage}");
        for figure in ["passes", "columns", "bytes_read", "bytes_written"] {
            assert_eq!(
                done[0][figure], recorded["figures"][figure],
                "{stage} {figure}"
            );
        }
    }
    assert!(
        of("done", "spectrum")[0]["bytes_read_per_second"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    // However short, a stage says how far it came in the end.
    let kernel = of("progress", "kernel");
    let last = kernel.last().unwrap();
    assert_eq!((&last["done"], &last["total"]), (&36.into(), &36.into()));
    assert_eq!(last["unit"], "tiles");
    assert_eq!(
        last["bytes"],
        record["stages"]["kernel"]["figures"]["bytes_written"]
    );
    assert!(last["rate"].as_f64().unwrap() > 0.0);
    assert_eq!(last["seconds_left"], 0.0);
    let fit = of("progress", "fit");
    assert_eq!(fit.last().unwrap()["done"], 6);
    assert!(fit.last().unwrap()["rate"].as_f64().unwrap() > 0.0);

    // Tiles that were found are no part of the rate.
    fs::remove_file(folder.join("kernel.zarr/c/3/1")).unwrap();
    let said = String::from_utf8(succeed(&arguments).stderr).unwrap();
    let last = lines(&said);
    let last = last.iter().rfind(|line| line["unit"] == "tiles").unwrap();
    assert_eq!((&last["done"], &last["bytes"]), (&36.into(), &16388.into()));

    // The page's own examples.
    if Command::new("jq").arg("--version").output().is_ok() {
        let script = blocks(&document("docs/observability.md"), "sh");
        let shown = run("bash", &["-euo", "pipefail"], &script, parent.path());
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("\"stage\":\"spectrum\""), "{shown}");
        assert!(shown.contains("predict 6/6 0"), "{shown}");
        assert!(shown.contains("\"at_work\": false"), "{shown}");
    } else {
        eprintln!("SKIPPED: no jq; the examples of docs/observability.md were not run");
    }

    // For people the same run is told in words, each number once.
    let mut arguments = run_arguments(&cohort, &out, &["--tile", "64", "--force"]);
    arguments.retain(|&word| word != "--quiet");
    let said = String::from_utf8(succeed(&arguments).stderr).unwrap();
    assert!(said.contains("kernel: done in"), "{said}");
    assert!(!said.contains("event="), "{said}");
}

#[test]
fn a_shard_tells_that_it_is_done() {
    let cohort = cohort(700, 20, 6);
    let parent = tempfile::tempdir().unwrap();
    let out = text(&parent.path().join("results"));
    let tables = run_arguments(&cohort, &out, &["--tile", "64"]);
    let done = |stage: &str, shard: &str| -> Vec<Value> {
        let mut arguments = loud(tables.clone());
        arguments[0] = stage;
        match shard {
            "" => {}
            "--join-shards" => arguments.push(shard),
            _ => arguments.extend(["--shard", shard]),
        }
        let said = String::from_utf8(succeed(&arguments).stderr).unwrap();
        let is_done = |line: &Value| line["event"] == "done" && line["stage"] == stage;
        lines(&said).into_iter().filter(is_done).collect()
    };
    done("ingest", "");
    for (shard, tiles) in [("1/2", 33_u64), ("2/2", 33), ("2/2", 0)] {
        let said = done("kernel", shard);
        assert_eq!(said.len(), 1, "{shard}");
        assert_eq!(said[0]["shard"], shard);
        assert_eq!(said[0]["bytes_written"], tiles * 16388);
    }
    assert!(done("kernel", "--join-shards")[0]["shard"].is_null());
    done("spectrum", "");
    let said = done("fit", "2/2");
    assert_eq!(said[0]["shard"], "2/2");
    for figure in ["seconds", "passes", "columns", "bytes_read"] {
        assert!(said[0][figure].as_f64().unwrap() > 0.0, "{figure}");
    }
}

#[test]
fn an_error_is_words_on_stderr_whatever_the_log() {
    let cohort = cohort(60, 4, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = text(folder.path());
    let arguments = loud(run_arguments(&cohort, &out, &["--id-column", "nobody"]));
    let output = ntkpipe().args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nobody"));
    assert!(output.stdout.is_empty());
}

#[test]
fn status_tells_of_every_architecture() {
    let cohort = cohort(150, 8, 3);
    let folder = tempfile::tempdir().unwrap();
    let out = text(folder.path());
    succeed(&run_arguments(&cohort, &out, &["--depth", "1,2"]));
    let status = succeed(&["status", &out, "--json"]).stdout;
    let status: Value = serde_json::from_slice(&status).unwrap();
    for name in ["relu-1", "relu-2"] {
        let stages = status["architectures"][name]["stages"].as_array().unwrap();
        let is_done = |stage: &Value| stage["state"] == "done" && stage["seconds"].is_number();
        assert!(stages.len() >= 5 && stages.iter().all(is_done), "{status}");
    }
    assert_eq!(status["seconds_left"], 0.0);
    let words = String::from_utf8(succeed(&["status", &out]).stdout).unwrap();
    assert!(words.contains("architecture relu-2\n"), "{words}");
}
