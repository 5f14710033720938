//! Files and names that are meant to harm: bounded memory, no forged lines, and an exit code of the documented ones.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::{cohort, fail, ntkpipe, run_arguments, skipped, succeed, text};

/// Runs the binary within 3 GiB of address space and a minute.
fn within_bounds(arguments: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", "ulimit -v 3145728; exec timeout 60 \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_ntkpipe"))
        .args(arguments)
        .output()
        .unwrap()
}

fn refused(arguments: &[&str], word: &str) {
    let output = within_bounds(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(word), "{word} not in {said}");
}

#[test]
fn a_small_gzip_of_gigabytes_takes_no_memory() {
    let cohort = cohort(60, 4, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("out"));
    let rows = folder.path().join("rows");
    let mut gzip = GzEncoder::new(fs::File::create(&rows).unwrap(), Compression::fast());
    gzip.write_all(b"eid,x\n").unwrap();
    let block = b"1,2\n".repeat(1 << 18);
    for _ in 0..160 {
        gzip.write_all(&block).unwrap();
    }
    gzip.finish().unwrap();
    let rows = text(&rows);
    let mut arguments = run_arguments(&cohort, &out, &[]);
    arguments[5] = &rows;
    refused(&arguments, "41943040 rows");
    let megabytes: [(&str, &[u8], u8, &str); 3] = [
        ("line", b"", b'a', "of more than 64 MiB"),
        ("columns", b"id", b',', "at most 1000000 are read"),
        ("quote", b"eid,x\nS1,\"", b'\n', "of more than 64 MiB"),
    ];
    for (name, start, byte, word) in megabytes {
        let path = folder.path().join(name);
        let file = fs::File::create(&path).unwrap();
        let mut gzip = GzEncoder::new(file, Compression::fast());
        gzip.write_all(start).unwrap();
        let block = vec![byte; 1 << 20];
        for _ in 0..3500 {
            gzip.write_all(&block).unwrap();
        }
        gzip.finish().unwrap();
        let mut arguments = run_arguments(&cohort, &out, &[]);
        let path = text(&path);
        arguments[5] = &path;
        refused(&arguments, word);
    }
}

/// A safetensors file of tensors of these shapes, without a value.
fn safetensors(path: &Path, shapes: &[(&str, &str)]) {
    let tensors: Vec<String> = shapes
        .iter()
        .map(|(name, shape)| {
            format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}"#)
        })
        .collect();
    let header = format!("{{{}}}", tensors.join(","));
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length[..], header.as_bytes()].concat()).unwrap();
}

#[test]
fn a_network_without_values_is_refused() {
    let cohort = cohort(60, 4, 2);
    let folder = tempfile::tempdir().unwrap();
    let (out, path) = (
        text(&folder.path().join("out")),
        folder.path().join("w.safetensors"),
    );
    for first in ["[0,1099511627776]", "[1099511627776,0]", "[0,4]"] {
        safetensors(&path, &[("0.weight", first), ("2.weight", "[1,0]")]);
        let more = ["--network", &text(&path)];
        refused(
            &run_arguments(&cohort, &out, &more),
            "lengths of at least 1",
        );
    }
}

#[test]
fn a_model_whose_files_agree_on_a_lie_is_damaged() {
    let cohort = cohort(90, 4, 2);
    let folder = tempfile::tempdir().unwrap();
    let (out, network) = (
        text(&folder.path().join("out")),
        text(&folder.path().join("w")),
    );
    succeed(&[
        "network", "init", "--inputs", "4", "--widths", "3", "--out", &network,
    ]);
    succeed(&run_arguments(&cohort, &out, &["--network", &network]));
    let model = folder.path().join("out/model");
    let lie = |file: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let path = model.join(file);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(path, value.to_string()).unwrap();
    };
    let n = 1_u64 << 40;
    lie("model.json", &|it| {
        it["n_samples"] = n.into();
        for phenotype in it["phenotypes"].as_array_mut().unwrap() {
            phenotype["trained"] = false.into();
        }
    });
    lie("dual.zarr/zarr.json", &|it| it["shape"][1] = n.into());
    lie("features.zarr/zarr.json", &|it| it["shape"][0] = n.into());
    let arguments = [
        "predict",
        "--quiet",
        "--model",
        &text(&model),
        "--features",
        &cohort.features,
        "--covariates",
        &cohort.covariates,
        "--out",
        &text(&folder.path().join("new.parquet")),
    ];
    refused(&arguments, "is missing");
}

/// What no output may hold as it stands.
fn is_clean(text: &str) -> bool {
    !text.contains(['\u{1b}', '\u{202e}', '\u{9b}'])
        && !text.lines().any(|l| l.starts_with("FORGED"))
}

#[test]
fn names_forge_no_lines_and_move_no_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let evil = "a\nFORGED line\u{1b}[2J\u{202e}\u{9b}";
    let ids: Vec<String> = (0..80).map(|i| format!("S{i}")).collect();
    let value = |i: usize, k: usize| ((i * 37 + k * 61) % 101) as f64 + (i as f64).sin();
    let column = |k: usize| {
        let values = (0..ids.len()).map(|i| Some(value(i, k)));
        ntkpipe_store::results::Column::Float(values.collect())
    };
    let write = |name: &str, names: &[&str]| {
        let id = (
            "id".to_owned(),
            ntkpipe_store::results::Column::Text(ids.clone()),
        );
        let columns = names.iter().enumerate();
        let columns = columns.map(|(k, name)| ((*name).to_owned(), column(k + name.len())));
        let table: Vec<_> = std::iter::once(id).chain(columns).collect();
        ntkpipe_store::results::write_table(&path(name), &table).unwrap();
    };
    write("x.parquet", &["p1", "p2", evil]);
    write("y.parquet", &["plain", evil]);
    let (x, y, out) = (
        text(&path("x.parquet")),
        text(&path("y.parquet")),
        text(&path("out")),
    );
    let run = [
        "run",
        "--features",
        &x,
        "--phenotypes",
        &y,
        "--out",
        &out,
        "--no-gate",
    ];
    let output = ntkpipe().args(run).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(is_clean(&said), "{said:?}");
    for file in ["run.log", "phenotypes.tsv", "report.html"] {
        let text = fs::read_to_string(path("out").join(file)).unwrap();
        assert!(is_clean(&text), "{file}: {text:?}");
    }
    let lines = fs::read_to_string(path("out/phenotypes.tsv")).unwrap();
    assert_eq!(lines.lines().count(), 3, "{lines}");
    let shown = succeed(&["status", &out]).stdout;
    assert!(is_clean(&String::from_utf8(shown).unwrap()));
    let model = format!("{out}/model");
    let csv = text(&path("new.csv"));
    succeed(&[
        "predict",
        "--quiet",
        "--model",
        &model,
        "--features",
        &x,
        "--out",
        &csv,
    ]);
    assert!(is_clean(&fs::read_to_string(&csv).unwrap()));
    let json = text(&path("json"));
    let run = [
        "run",
        "--log-format",
        "json",
        "--features",
        &x,
        "--phenotypes",
        &y,
        "--out",
        &json,
    ];
    let said = String::from_utf8(succeed(&run).stderr).unwrap();
    assert!(is_clean(&said) && said.contains("\\u202e"), "{said}");
    assert!(is_clean(&fs::read_to_string(path("json/run.log")).unwrap()));
    let shown = String::from_utf8(succeed(&["status", "--json", &json]).stdout).unwrap();
    assert!(is_clean(&shown));
    // And in errors.
    let wrong = [
        "run",
        "--features",
        &x,
        "--phenotypes",
        &y,
        "--out",
        &out,
        "--covariates",
        &y,
    ];
    let wrong = [
        &wrong[..],
        &["--covariate-columns", evil, "--feature-columns", "none*"],
    ]
    .concat();
    let output = ntkpipe().args(wrong).output().unwrap();
    assert!(!output.status.success() && is_clean(&String::from_utf8_lossy(&output.stderr)));
}

#[test]
fn a_closed_stderr_changes_no_exit_code() {
    let cohort = cohort(80, 5, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("out"));
    let code = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = ntkpipe().args(arguments).stderr(writer).status().unwrap();
        done.code()
    };
    let mut arguments = run_arguments(&cohort, &out, &[]);
    arguments.retain(|word| *word != "--quiet");
    assert_eq!(code(&arguments), Some(0));
    assert_eq!(
        code(&["run", "--log-format", "json", "--out", &out]),
        Some(0)
    );
    assert_eq!(
        code(&[
            "run",
            "--features",
            "nowhere",
            "--phenotypes",
            "x",
            "--out",
            "y"
        ]),
        Some(1)
    );
    assert_eq!(code(&["run", "--no-such-flag"]), Some(2));
    let small = run_arguments(&cohort, &out, &["--memory", "1KB", "--force"]);
    assert_eq!(code(&small), Some(3));
}

#[test]
fn no_color_is_heeded() {
    let cohort = cohort(60, 4, 2);
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("out"));
    let mut arguments = run_arguments(&cohort, &out, &["--dry-run"]);
    arguments.retain(|word| !["--quiet", "--dry-run"].contains(word));
    let command = [&[env!("CARGO_BIN_EXE_ntkpipe")], &arguments[..]]
        .concat()
        .join(" ");
    let on_terminal = |colour: Option<&str>| {
        let mut script = Command::new("script");
        script
            .args(["-qec", &command, "/dev/null"])
            .env_remove("NO_COLOR");
        if let Some(value) = colour {
            script.env("NO_COLOR", value);
        }
        Some(String::from_utf8_lossy(&script.output().ok()?.stdout).into_owned())
    };
    let Some(coloured) = on_terminal(None) else {
        return skipped("no `script` to make a terminal with");
    };
    assert!(coloured.contains("\u{1b}[32m"), "{coloured:?}");
    let plain = on_terminal(Some("1")).unwrap();
    assert!(
        plain.contains("ntkpipe") && !plain.contains("\u{1b}[32m"),
        "{plain:?}"
    );
}

#[test]
fn epochs_beyond_numbers_are_null_and_too_many_are_refused() {
    let cohort = cohort(90, 4, 2);
    let folder = tempfile::tempdir().unwrap();
    let (out, network) = (
        text(&folder.path().join("out")),
        text(&folder.path().join("w")),
    );
    succeed(&[
        "network", "init", "--inputs", "4", "--widths", "3", "--out", &network,
    ]);
    let more = [
        "--network",
        &network,
        "--no-gate",
        "--learning-rate",
        "1e-320",
    ];
    succeed(&run_arguments(&cohort, &out, &more));
    let lines = fs::read_to_string(folder.path().join("out/phenotypes.tsv")).unwrap();
    assert!(!lines.contains("inf"), "{lines}");
    let train = ["train", "--quiet", "--all", "--out", &out];
    let many = [
        &train[..],
        &[
            "--epochs",
            "18446744073709551615",
            "--learning-rate",
            "1e-9",
        ],
    ];
    fail(&many.concat(), 1, &["at most 1000000000"]);
}
