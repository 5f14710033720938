//! Files as they come from the field: each gives what the clean tables give, or says what it is.

use std::fs;
use std::path::{Path, PathBuf};

use ntkpipe_store::results::{Column, read_table, write_table};
use serde_json::Value;

use crate::support::{Cohort, case, cohort, ntkpipe, succeed};

/// Runs the command and gives its exit code and what it said.
fn said(arguments: &[&str]) -> (Option<i32>, String) {
    let output = ntkpipe().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// Arguments of a run of these features, phenotypes and covariates.
fn run<'a>(files: [&'a str; 3], out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let [features, phenotypes, covariates] = files;
    let mut arguments = vec!["run", "--features", features, "--phenotypes", phenotypes];
    arguments.extend(["--covariates", covariates, "--out", out]);
    arguments.extend(more);
    arguments
}

/// Asserts that two runs gave the same results, byte by byte.
fn assert_same(expected: &Path, found: &Path, what: &str) {
    for name in ["phenotypes.tsv", "predictions.parquet"] {
        let read = |folder: &Path| fs::read(folder.join(name)).unwrap();
        assert!(read(expected) == read(found), "{name} differs: {what}");
    }
}

fn record(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap()
}

/// A table as comma-separated text, its columns behind those of `before`.
fn text(path: &str, before: &[(&str, &dyn Fn(usize) -> String)], id: &str) -> String {
    let columns = read_table(Path::new(path)).unwrap();
    let n = columns[0].1.len();
    let names = columns.iter().enumerate();
    let names = names.map(|(at, it)| if at == 0 { id } else { it.0.as_str() });
    let names: Vec<&str> = before.iter().map(|it| it.0).chain(names).collect();
    let mut text = names.join(",") + "\n";
    for row in 0..n {
        let field = |column: &Column| match column {
            Column::Float(v) => v[row].map_or("NA".to_owned(), |x| x.to_string()),
            Column::Int(v) => v[row].map_or("NA".to_owned(), |x| x.to_string()),
            Column::Bool(v) => v[row].map_or("NA".to_owned(), |x| x.to_string()),
            Column::Text(v) => v[row].clone(),
            Column::OptionalText(v) => v[row].clone().unwrap_or("NA".to_owned()),
        };
        let odd = before.iter().map(|it| it.1(row));
        let fields: Vec<String> = odd.chain(columns.iter().map(|it| field(&it.1))).collect();
        text += &(fields.join(",") + "\n");
    }
    text
}

fn files(cohort: &Cohort) -> [&str; 3] {
    [&cohort.features, &cohort.phenotypes, &cohort.covariates]
}

/// A cohort, its run, and a folder for other forms of its tables.
struct Study {
    cohort: Cohort,
    folder: tempfile::TempDir,
}

impl Study {
    fn new() -> Self {
        let study = Self {
            cohort: cohort(200, 8, 2),
            folder: tempfile::tempdir().unwrap(),
        };
        succeed(&run(files(&study.cohort), &study.at("clean"), &["--quiet"]));
        study
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn put(&self, name: &str, content: &str) -> String {
        fs::write(self.at(name), content).unwrap();
        self.at(name)
    }

    fn clean(&self) -> PathBuf {
        self.folder.path().join("clean")
    }
}

#[test]
fn row_numbers_and_second_ids_are_left_out_of_every_table() {
    let study = Study::new();
    let count = |row: usize| (row + 1).to_string();
    let from_zero = |row: usize| row.to_string();
    let nothing = |_: usize| "0".to_owned();
    let odd: [(&str, &dyn Fn(usize) -> String); 3] =
        [("", &count), ("Unnamed: 0", &from_zero), ("fid", &nothing)];
    let [features, phenotypes, covariates] = files(&study.cohort);
    let tables = [
        study.put("f.csv", &text(features, &odd[..1], "eid")),
        study.put("p.csv", &text(phenotypes, &odd[1..2], "eid")),
        study.put("c.csv", &text(covariates, &odd[2..], "iid")),
    ];
    let tables = tables.each_ref().map(String::as_str);
    let out = study.at("odd");
    succeed(&run(tables, &out, &[]));
    let out = Path::new(&out);
    assert_same(&study.clean(), out, "row numbers");
    let warnings = record(out)["warnings"].to_string();
    for word in ["1 column without a name", "`Unnamed: 0`", "`fid`"] {
        assert!(warnings.contains(word), "{word}: {warnings}");
    }
    let log = fs::read_to_string(out.join("run.log")).unwrap();
    assert!(log.contains("200 rows of 201 lines"), "{log}");
    // Named in full, it is a phenotype.
    let named = study.at("named");
    succeed(&run(
        tables,
        &named,
        &["--quiet", "--phenotype-columns", "Unnamed: 0"],
    ));
    let table = fs::read_to_string(Path::new(&named).join("phenotypes.tsv")).unwrap();
    assert!(table.contains("Unnamed: 0"), "{table}");
}

#[test]
fn each_table_may_have_its_own_id_column() {
    let study = Study::new();
    let height = |row: usize| ((row % 7) as f64 / 2.0).to_string();
    let [features, phenotypes, covariates] = files(&study.cohort);
    let odd: [(&str, &dyn Fn(usize) -> String); 1] = [("weight", &height)];
    let other = study.put("p.csv", &text(phenotypes, &odd, "participant"));
    let id = read_table(Path::new(features)).unwrap()[0].0.clone();
    let tables = [features, other.as_str(), covariates];
    let (code, said) = said(&run(tables, &study.at("refused"), &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--features-id-column"), "{said}");
    let out = study.at("own");
    let names: Vec<String> = read_table(Path::new(phenotypes))
        .unwrap()
        .into_iter()
        .skip(1)
        .map(|it| it.0)
        .collect();
    let more = [
        "--quiet",
        "--id-column",
        &id,
        "--phenotypes-id-column",
        "participant",
        "--phenotype-columns",
        &names.join(","),
    ];
    succeed(&run(tables, &out, &more));
    assert_same(&study.clean(), Path::new(&out), "own id column");
}

#[test]
fn missing_values_hold_for_features() {
    let study = Study::new();
    let [features, phenotypes, covariates] = files(&study.cohort);
    let mut columns = read_table(Path::new(features)).unwrap();
    let Column::Float(values) = &mut columns[1].1 else {
        panic!("a feature of numbers");
    };
    values[3] = None;
    let nulls = study.at("nulls.parquet");
    write_table(Path::new(&nulls), &columns).unwrap();
    let written = text(&nulls, &[], "eid");
    let words = study.put("words.csv", &written.replacen("NA", "Filtered", 1));
    let expected = study.at("expected");
    succeed(&run(
        [&nulls, phenotypes, covariates],
        &expected,
        &["--quiet"],
    ));
    let tables = [words.as_str(), phenotypes, covariates];
    let (code, said) = said(&run(tables, &study.at("refused"), &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("`Filtered` in line") && said.contains("--missing-values"),
        "{said}"
    );
    let out = study.at("words");
    let more = ["--quiet", "--missing-values", "Filtered"];
    succeed(&run(tables, &out, &more));
    assert_same(Path::new(&expected), Path::new(&out), "missing values");
    // What means missing is part of what the features are.
    let Column::Float(values) = &mut columns[1].1 else {
        panic!("a feature of numbers");
    };
    values[3] = Some(-9.0);
    let coded = study.at("coded.parquet");
    write_table(Path::new(&coded), &columns).unwrap();
    let tables = [coded.as_str(), phenotypes, covariates];
    let out = study.at("coded");
    succeed(&run(tables, &out, &["--quiet"]));
    succeed(&run(tables, &out, &["--quiet", "--missing-values", "-9"]));
    assert_same(
        Path::new(&expected),
        Path::new(&out),
        "missing values, told later",
    );
}

#[test]
fn a_folder_of_parts_is_digested_whole() {
    let study = Study::new();
    let [features, phenotypes, covariates] = files(&study.cohort);
    let parts = study.at("parts.parquet");
    fs::create_dir(&parts).unwrap();
    let part = Path::new(&parts).join("part-00000.parquet");
    fs::copy(phenotypes, &part).unwrap();
    fs::write(Path::new(&parts).join("_SUCCESS"), "").unwrap();
    let out = study.at("out");
    let tables = [features, parts.as_str(), covariates];
    succeed(&run(tables, &out, &["--quiet"]));
    let out = Path::new(&out);
    assert_same(&study.clean(), out, "a folder of parts");
    let before = record(out)["inputs"]["phenotypes"].clone();
    assert!(before["bytes"].as_u64().unwrap() > 0, "{before}");
    fs::copy(covariates, &part).unwrap();
    succeed(&run(tables, &out.display().to_string(), &["--quiet"]));
    assert_ne!(
        record(out)["inputs"]["phenotypes"]["blake3"],
        before["blake3"]
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_once() {
    use std::process::Command;

    let study = Study::new();
    let tables = files(&study.cohort);
    let pipes = ["f", "p", "c"].map(|name| study.at(name));
    for pipe in &pipes {
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
    let writers: Vec<_> = pipes
        .iter()
        .zip(tables)
        .map(|(pipe, table)| {
            let command = format!("cat '{table}' > '{pipe}'");
            Command::new("sh").args(["-c", &command]).spawn().unwrap()
        })
        .collect();
    let out = study.at("out");
    succeed(&run(pipes.each_ref().map(String::as_str), &out, &[]));
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let out = Path::new(&out);
    assert_same(&study.clean(), out, "pipes");
    let (clean, found) = (record(&study.clean()), record(out));
    for name in ["features", "phenotypes", "covariates"] {
        let (clean, found) = (&clean["inputs"][name], &found["inputs"][name]);
        assert_eq!(clean["blake3"], found["blake3"]);
        assert_ne!(clean["path"], found["path"]);
    }
    assert_eq!(found["inputs"]["features"]["path"], pipes[0].as_str());
    let log = fs::read_to_string(out.join("run.log")).unwrap();
    assert!(log.contains("read from its copy"), "{log}");
    let left = fs::read_dir(out).unwrap().map(|it| it.unwrap().file_name());
    let left: Vec<_> = left
        .filter(|it| it.to_string_lossy().starts_with("piped-"))
        .collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());

    // Going on, what came from a pipe is asked for again; with the same content nothing is done anew.
    fs::remove_file(&pipes[1]).unwrap();
    let stages = || -> Value {
        let mut stages = record(out)["stages"].clone();
        // The report names the files.
        stages.as_object_mut().unwrap().remove("report");
        stages
    };
    let (to, before) = (out.display().to_string(), stages());
    let (code, told) = said(&["run", "--out", &to]);
    assert_eq!(code, Some(1), "{told}");
    for words in [
        format!(
            "started with the phenotypes from a pipe, `{}`, which is gone",
            pipes[1]
        ),
        "compared by its digest".to_owned(),
        "`--phenotypes FILE`".to_owned(),
    ] {
        assert!(told.contains(&words), "{words} not in {told}");
    }
    succeed(&run(tables, &to, &["--quiet"]));
    assert_eq!(stages(), before);
    // The number of a descriptor means another file to another process.
    let to = study.at("stdin");
    let tables_but_one = run(["/dev/stdin", tables[1], tables[2]], &to, &["--quiet"]);
    let command = format!("cat '{}' | \"$0\" \"$@\"", tables[0]);
    let piped = Command::new("sh")
        .args(["-c", &command, env!("CARGO_BIN_EXE_ntkpipe")])
        .args(tables_but_one)
        .status();
    assert!(piped.unwrap().success());
    let (code, told) = said(&["run", "--out", &to]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("the features from a pipe, `/dev/stdin`"),
        "{told}"
    );

    let (code, said) = said(&run(
        [tables[0], "/dev/zero", tables[2]],
        &study.at("zero"),
        &[],
    ));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is a device"), "{said}");
}

#[test]
fn options_of_long_tables_are_said_to_have_no_effect_on_wide_ones() {
    let study = Study::new();
    let tables = files(&study.cohort);
    let long = ["--instance", "2", "--npx-value", "NPX"];
    let (code, told) = said(&run(tables, &study.at("out"), &long));
    assert_eq!(code, Some(0), "{told}");
    let expected = "`--npx-value`, `--instance` have no effect: no table here has one row per sample and protein";
    assert!(told.contains(expected), "{told}");
    let told = said(&run(tables, &study.at("none"), &[])).1;
    assert!(!told.contains("no effect"), "{told}");
}

#[test]
fn tables_of_the_field_give_what_the_clean_ones_give() {
    let Some(field) = case("field") else { return };
    let at = |name: &str| field.join(name).display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name).display().to_string();
    let clean = ["features", "phenotypes", "covariates"].map(|it| at(&format!("{it}.parquet")));
    let clean = clean.each_ref().map(String::as_str);
    let expected = out("clean");
    succeed(&run(clean, &expected, &["--quiet"]));
    let by_id = ["--phenotypes-id-column", "participant_id"];
    let same: [(usize, &str, &[&str]); 15] = [
        (0, "feat_write_csv.csv", &[]),
        (1, "write_csv.csv", &[]),
        (1, "unnamed0.csv", &[]),
        (1, "binary_id.parquet", &[]),
        (1, "dec_ids.parquet", &[]),
        (1, "pd_unnamed_index.parquet", &[]),
        (1, "idthird.csv", &by_id),
        (1, "sep_line.csv", &[]),
        (1, "spark_dir.parquet", &[]),
        (1, "trailing_commas.csv", &[]),
        (1, "pipe.csv.gz", &[]),
        (2, "cov_write_csv.csv", &[]),
        (2, "cov_unnamed0.csv", &[]),
        (1, "phenotypes.parquet", &[]),
        (2, "covariates.parquet", &[]),
    ];
    for (place, name, more) in same {
        let (mut tables, other, to) = (clean, at(name), out(name));
        tables[place] = &other;
        succeed(&run(tables, &to, &[&["--quiet"], more].concat()));
        assert_same(Path::new(&expected), Path::new(&to), name);
    }
    let refused = [
        (0, "transposed.csv", "called as samples of"),
        (0, "report.pg_matrix.tsv", "DIA-NN's matrix"),
        (0, "spectronaut.tsv", "--missing-values"),
        (0, "x.adat", "SomaLogic's ADAT"),
        (0, "zero_rows_F.parquet", "has no rows"),
        (1, "zero_rows.parquet", "has no rows"),
        (
            1,
            "nohead.csv",
            "has no header: its first line is `1018682,4.1458`",
        ),
        (1, "decimal_comma.csv", "a decimal comma, `4,1458`"),
        (
            1,
            "hdr_tab_rows_space.txt",
            "between tabs, this line's between blanks",
        ),
        (1, "idthird.csv", "`participant_id`"),
    ];
    for (place, name, words) in refused {
        let (mut tables, other, to) = (clean, at(name), out("refused"));
        tables[place] = &other;
        let (code, said) = said(&run(tables, &to, &[]));
        assert_eq!(code, Some(1), "{name}: {said}");
        assert!(said.contains(words), "{name}: {said}");
    }
    // The first phenotype alone, without a header.
    let first = out("first");
    succeed(&run(
        clean,
        &first,
        &["--quiet", "--phenotype-columns", "height"],
    ));
    let row = |folder: &str| {
        let table = fs::read_to_string(Path::new(folder).join("phenotypes.tsv")).unwrap();
        let row = table.lines().nth(1).unwrap();
        row.split_once('\t').unwrap().1.to_owned()
    };
    for name in ["fid0.phen", "fid_eq_iid.phen"] {
        let to = out(name);
        let other = at(name);
        succeed(&run([clean[0], &other, clean[2]], &to, &["--quiet"]));
        assert_eq!(row(&first), row(&to), "{name}");
    }
}
