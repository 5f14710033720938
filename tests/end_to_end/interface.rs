//! What the command says of itself and of a run: pages of `tests/cli`, schemas, `status`, `init`, completions, man pages.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{cohort, ntkpipe, python, run_arguments, succeed, text};
use ntk::kernel::tile::is_on_amx_unit;
use serde_json::{Value, json};

fn stdout(arguments: &[&str]) -> String {
    String::from_utf8(succeed(arguments).stdout).unwrap()
}

/// `TRYCMD=overwrite` writes the pages anew; read the difference before it is committed.
#[test]
fn the_pages_of_the_command_line_are_true() {
    trycmd::TestCases::new().case("tests/cli/*.md");
}

#[test]
fn schemas_are_those_of_the_types() {
    let names = stdout(&["schema"]);
    assert!(names.lines().count() >= 8);
    for name in names.lines() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.schema.json"));
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == stdout(&["schema", name]),
            "`{}` is not what `ntkpipe schema {name}` prints; see schemas/README.md",
            path.display()
        );
    }
}

#[test]
fn the_files_of_a_run_keep_to_their_schemas() {
    let Some(python) = python("jsonschema, pyarrow") else {
        return;
    };
    let cohort = cohort(300, 20, 4);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    succeed(&run_arguments(&cohort, &out, &["--memory", "2GiB"]));
    let options = folder.path().join("ntkpipe.toml").display().to_string();
    succeed(&[
        "init",
        &options,
        "--features",
        &cohort.features,
        "--depth",
        "3",
        "--no-gate",
    ]);
    let status = folder.path().join("status.json");
    fs::write(&status, stdout(&["status", "--json", &out])).unwrap();
    let script = "import json, sys, tomllib
import jsonschema, pyarrow.parquet
schemas, run, options, status = sys.argv[1:]
def validator(name):
    schema = json.load(open(f'{schemas}/{name}.schema.json'))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
def refuses(name, value):
    assert list(validator(name).iter_errors(value)), f'{name} takes {value}'
validator('run').validate(json.load(open(run + '/run.json')))
validator('status').validate(json.load(open(status)))
validator('options').validate(tomllib.load(open(options, 'rb')))
refuses('options', {'dpeth': 3})
refuses('options', {'activation': 'tanh'})
refuses('run', {'version': 1})
for name, files in {'phenotypes': ['phenotypes', 'test'], 'predictions': ['predictions'], 'curves': ['curves'],
                    'features': ['features'], 'samples': ['samples']}.items():
    for file in files:
        rows = pyarrow.parquet.read_table(f'{run}/{file}.parquet').to_pylist()
        assert rows, file
        for row in rows:
            validator(name).validate(row)
        if name != 'predictions':
            refuses(name, {**rows[0], 'more': 1})
        for column in rows[0]:
            if name != 'predictions' or column == 'sample_id':
                refuses(name, {**rows[0], column: []})
";
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let output = Command::new(python)
        .args(["-c", script])
        .args([&schemas, Path::new(&out), Path::new(&options), &status])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_record_says_whether_tiles_come_from_amx() {
    let has_unit = is_on_amx_unit(300, [512; 2]);
    // Up to 256 features are kept in double precision.
    for (features, tile, expected) in [
        (300, "512", has_unit),
        (300, "256", false),
        (256, "512", false),
    ] {
        let cohort = cohort(600, features, 1);
        let folder = tempfile::tempdir().unwrap();
        let out = text(folder.path());
        succeed(&run_arguments(&cohort, &out, &["--tile", tile]));
        let record = fs::read_to_string(folder.path().join("run.json")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        let said = &record["stages"]["kernel"]["figures"]["amx"];
        assert_eq!(
            *said,
            json!(expected),
            "{features} features, tiles of {tile}"
        );
    }
}

#[test]
fn status_says_what_is_done_and_what_is_left() {
    let cohort = cohort(700, 30, 4);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    succeed(&run_arguments(&cohort, &out, &["--tile", "256"]));
    let status =
        || -> Value { serde_json::from_str(&stdout(&["status", "--json", &out])).unwrap() };
    let done = status();
    let states = |status: &Value| -> Vec<String> {
        let stages = status["stages"].as_array().unwrap().iter();
        stages
            .map(|s| {
                format!(
                    "{} {}",
                    s["stage"].as_str().unwrap(),
                    s["state"].as_str().unwrap()
                )
            })
            .collect()
    };
    assert!(
        states(&done).iter().all(|s| s.ends_with(" done")),
        "{done:#}"
    );
    assert_eq!(done["stages"].as_array().unwrap().len(), 7);
    let counts = done["phenotypes"].as_object().unwrap().values();
    assert_eq!(counts.map(|n| n.as_u64().unwrap()).sum::<u64>(), 4);
    assert_eq!(
        (done["at_work"].as_bool(), done["seconds_left"].as_f64()),
        (Some(false), Some(0.0))
    );
    assert!(stdout(&["status", &out]).ends_with("all done\n"));
    // As a run leaves it that is at work on the kernel: two of six tiles are there.
    let record = folder.path().join("run.json");
    let mut run: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let stages = run["stages"].as_object_mut().unwrap();
    stages.retain(|stage, _| stage == "ingest");
    fs::write(&record, serde_json::to_vec(&run).unwrap()).unwrap();
    for tile in ["1/1", "2/0", "2/1", "2/2"] {
        fs::remove_file(folder.path().join("kernel.zarr/c").join(tile)).unwrap();
    }
    let stopped = status();
    assert_eq!(
        states(&stopped),
        [
            "ingest done",
            "kernel to_do",
            "spectrum to_do",
            "fit to_do",
            "predict to_do",
            "report to_do"
        ]
    );
    let kernel = &stopped["stages"][1];
    assert_eq!(
        (kernel["tiles_done"].as_u64(), kernel["tiles"].as_u64()),
        (Some(2), Some(6))
    );
    assert!(stopped["seconds_left"].as_f64().unwrap() > 0.0);
    let lock = fs::File::create(folder.path().join(".lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(states(&status())[1], "kernel at_work");
    assert_eq!(status()["at_work"], true);
    let said = stdout(&["status", &out]);
    assert!(
        said.contains("at work   2 of 6") && said.contains("ntkpipe is at work; about"),
        "{said}"
    );
    // The lock is where it was: a run still finds the directory taken, and goes on once it is free.
    assert!(
        !ntkpipe()
            .args(run_arguments(&cohort, &out, &[]))
            .output()
            .unwrap()
            .status
            .success()
    );
    drop(lock);
    succeed(&run_arguments(&cohort, &out, &["--tile", "256"]));
    assert!(states(&status()).iter().all(|s| s.ends_with(" done")));
}

#[test]
fn warnings_stand_in_the_record_the_status_and_the_report() {
    let mut cohort = cohort(200, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let mut columns = ntkpipe_store::results::read_table(Path::new(&cohort.features)).unwrap();
    let n = columns[0].1.len();
    columns.push((
        "FLAT<1>".into(),
        ntkpipe_store::results::Column::Float(vec![Some(2.5); n]),
    ));
    let features = folder.path().join("x.parquet");
    ntkpipe_store::results::write_table(&features, &columns).unwrap();
    cohort.features = features.display().to_string();
    let out = folder.path().join("out").display().to_string();
    succeed(&run_arguments(&cohort, &out, &[]));
    assert!(stdout(&["status", &out]).contains("warning: ingest: feature `FLAT<1>` dropped: "));
    let page = fs::read_to_string(Path::new(&out).join("report.html")).unwrap();
    assert!(page.contains("<li>ingest: feature `FLAT&#60;1&#62;` dropped: "));
}

#[test]
fn an_options_file_that_init_wrote_runs() {
    let cohort = cohort(120, 10, 2);
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = ntkpipe()
            .current_dir(folder.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(&[
        "init",
        "--features",
        &cohort.features,
        "--phenotypes",
        &cohort.phenotypes,
        "--out",
        "results",
        "--depth",
        "1",
    ]);
    run(&["run", "--quiet"]);
    let record = fs::read_to_string(folder.path().join("results/run.json")).unwrap();
    assert!(record.contains("\"depth\": 1"), "{record}");
}

#[test]
fn shells_and_man_can_read_what_is_made_for_them() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&["completions", shell]);
        assert!(
            script.contains("phenotype-columns") && script.contains("status"),
            "{shell}"
        );
    }
    let bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn();
    if let Ok(mut bash) = bash {
        let script = stdout(&["completions", "bash"]);
        bash.stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        assert!(bash.wait().unwrap().success());
    }
    assert!(stdout(&["man"]).contains("ntkpipe\\-run(1)"));
    assert!(stdout(&["man", "run"]).contains("\\-\\-phenotype\\-columns"));
}
