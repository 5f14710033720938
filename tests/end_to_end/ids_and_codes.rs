//! Lists of ids, ids that do not all meet, codes and names: nothing is lost or taken for something else unsaid.

use std::fs;
use std::path::{Path, PathBuf};

use ntkpipe_store::results::{Column, read_table, write_table};
use serde_json::Value;

use crate::support::{Cohort, case, cohort, fail, ntkpipe, run_arguments, succeed, table};

/// A small cohort, and a folder for files made of it.
struct Study {
    cohort: Cohort,
    folder: tempfile::TempDir,
}

type Named = Vec<(String, Column)>;

impl Study {
    fn new() -> Self {
        Self {
            cohort: cohort(150, 8, 3),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn write_table(&self, name: &str, columns: &Named) -> String {
        write_table(Path::new(&self.path(name)), columns).unwrap();
        self.path(name)
    }

    /// Ids of the phenotype table, which are in the covariate table and, but for one, among the features.
    fn ids(&self) -> Vec<String> {
        let columns = read_table(Path::new(&self.cohort.phenotypes)).unwrap();
        match &columns[0].1 {
            Column::Int(ids) => ids.iter().map(|id| id.unwrap().to_string()).collect(),
            Column::Text(ids) => ids.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn run(&self, out: &str, more: &[&str]) -> PathBuf {
        let out = self.path(out);
        succeed(&run_arguments(&self.cohort, &out, more));
        out.into()
    }
}

/// Runs on the three tables given.
fn run_on([features, phenotypes, covariates]: [&str; 3], out: &str, more: &[&str]) -> PathBuf {
    let mut arguments = vec!["run", "--quiet", "--features", features, "--out", out];
    arguments.extend(["--phenotypes", phenotypes]);
    if !covariates.is_empty() {
        arguments.extend(["--covariates", covariates]);
    }
    arguments.extend(more);
    succeed(&arguments);
    out.into()
}

fn log(out: &Path) -> String {
    fs::read_to_string(out.join("run.log")).unwrap()
}

fn samples(out: &Path) -> Value {
    let record = fs::read_to_string(out.join("run.json")).unwrap();
    serde_json::from_str::<Value>(&record).unwrap()["samples"].clone()
}

fn same_results(a: &Path, b: &Path) {
    for name in ["phenotypes.tsv", "predictions.parquet"] {
        assert_eq!(
            fs::read(a.join(name)).unwrap(),
            fs::read(b.join(name)).unwrap(),
            "{name}"
        );
    }
}

/// Samples of the kernel, as a plan says it.
fn planned(study: &Study, more: &[&str]) -> u64 {
    let out = study.path("none");
    let mut arguments = run_arguments(&study.cohort, &out, &["--json"]);
    arguments.extend(more);
    arguments[0] = "plan";
    let plan: Value = serde_json::from_slice(&succeed(&arguments).stdout).unwrap();
    plan["samples"].as_u64().unwrap()
}

#[test]
fn a_list_is_read_as_a_table_is() {
    let study = Study::new();
    let features = read_table(Path::new(&study.cohort.features)).unwrap();
    let of_features: Vec<String> = match &features[0].1 {
        Column::Int(ids) => ids.iter().map(|id| id.unwrap().to_string()).collect(),
        Column::Text(ids) => ids.clone(),
        other => panic!("{other:?}"),
    };
    let all = study.ids();
    let ids: Vec<&String> = all
        .iter()
        .filter(|id| of_features.contains(id))
        .take(12)
        .collect();
    let lines = |line: &dyn Fn(usize, &str) -> String| -> String {
        ids.iter()
            .enumerate()
            .map(|(at, id)| line(at + 1, id))
            .collect()
    };
    let plain = lines(&|_, id| format!("{id}\n"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, plain.as_bytes()).unwrap();
    let layouts: Vec<(&str, Vec<u8>)> = vec![
        ("plain", plain.clone().into()),
        ("gzip", gzip.finish().unwrap()),
        ("cr", plain.replace('\n', "\r").into()),
        ("quoted", lines(&|_, id| format!("\"{id}\"\r\n")).into()),
        (
            "reason",
            ("eid,reason\n".to_owned() + &lines(&|_, id| format!("{id},left us\n"))).into(),
        ),
        (
            "unnamed",
            ("person;reason\n".to_owned() + &lines(&|_, id| format!("{id};left us\n"))).into(),
        ),
        ("comma", lines(&|_, id| format!("0,{id}\n")).into()),
        ("blanks", lines(&|_, id| format!("{id} {id}\n")).into()),
        (
            "plink",
            ("#FID\tIID\n".to_owned() + &lines(&|_, id| format!("0\t{id}\n"))).into(),
        ),
        (
            "write_csv",
            ("\"\",\"x\"\n".to_owned() + &lines(&|n, id| format!("\"{n}\",{id}\n"))).into(),
        ),
        (
            "write_table",
            ("\"x\"\n".to_owned() + &lines(&|n, id| format!("\"{n}\" \"{id}\"\n"))).into(),
        ),
        ("fraction", lines(&|_, id| format!("{id}.0\n")).into()),
    ];
    let without = planned(&study, &[]);
    for (name, content) in layouts {
        let list = study.write(name, content);
        assert_eq!(
            planned(&study, &["--remove", &list]),
            without - 12,
            "{name}"
        );
        assert_eq!(planned(&study, &["--keep", &list]), 12, "{name}");
    }
    let numbers = ids.iter().map(|id| id.parse().ok()).collect();
    let columns = vec![("eid".to_owned(), Column::Float(numbers))];
    let list = study.write_table("list.parquet", &columns);
    assert_eq!(planned(&study, &["--remove", &list]), without - 12);
    let out = study.run("removed", &["--remove", &list]);
    assert!(
        log(&out).contains("(column `eid`): 12 ids, 12 found"),
        "{}",
        log(&out)
    );
    assert_eq!(samples(&out)["lists"][0]["found"], 12);

    // A list that meets nobody, and one of which few are found.
    let zeros = study.write("zeros", lines(&|_, id| format!("00{id}\n")));
    let out = study.path("refused");
    let mut arguments = run_arguments(&study.cohort, &out, &["--remove", &zeros]);
    let words = [
        "nobody in the list of `--remove`",
        "leading zeros",
        "--allow-empty-lists",
    ];
    fail(&arguments, 1, &words);
    arguments.push("--allow-empty-lists");
    succeed(&arguments);
    let empty = study.write("empty", "# none this time\n");
    fail(
        &run_arguments(&study.cohort, &out, &["--remove", &empty]),
        1,
        &["the list of `--remove` names nobody", "--allow-empty-lists"],
    );
    let few = lines(&|n, id| {
        if n < 4 {
            format!("{id}\n")
        } else {
            format!("00{id}\n")
        }
    });
    let few = study.write("few", few);
    let out = study.run("few-found", &["--remove", &few]);
    let said = log(&out);
    for words in [
        "few of the list of `--remove` are found",
        "leading zeros",
        "12 ids, 3 found",
    ] {
        assert!(said.contains(words), "{words} not in {said}");
    }
}

#[test]
fn lists_of_the_field_remove_the_same_people() {
    let Some(folder) = case("field") else {
        return;
    };
    let path = |name: &str| folder.join(name).display().to_string();
    let out = tempfile::tempdir().unwrap();
    let clean = [
        path("features.parquet"),
        path("phenotypes.parquet"),
        path("covariates.parquet"),
    ];
    let clean = clean.each_ref().map(String::as_str);
    let run = |list: &str| {
        let out = out.path().join(list).display().to_string();
        run_on(clean, &out, &["--remove", &path(list)])
    };
    let plain = run("remove_plain.txt");
    for list in ["remove_quoted.txt", "remove_two_columns.csv"] {
        let other = run(list);
        same_results(&plain, &other);
        assert!(log(&other).contains("12 ids, 12 found"), "{}", log(&other));
    }
}

#[test]
fn ids_of_which_some_do_not_meet_are_guessed_at() {
    let Some(folder) = case("field") else {
        return;
    };
    let path = |name: &str| folder.join(name).display().to_string();
    let out = tempfile::tempdir().unwrap();
    let [features, phenotypes, covariates] = [
        "features.parquet",
        "phenotypes.parquet",
        "covariates.parquet",
    ]
    .map(path);
    let to = |name: &str| out.path().join(name).display().to_string();
    let said = log(&run_on(
        [&path("lz2_F.parquet"), &phenotypes, &covariates],
        &to("lz"),
        &[],
    ));
    let ids = samples(Path::new(&to("lz")));
    let lost = 150 - ids["kernel_samples"].as_u64().unwrap();
    let words =
        format!("{lost} more seem to differ by leading zeros alone, as `01018682` and `1018682`");
    assert!(
        lost > 10 && said.matches(&words).count() == 2,
        "{words} not in {said}"
    );
    let tables = ["sci_F.parquet", "sci_P.csv", "sci_C.parquet"].map(path);
    let said = log(&run_on(
        tables.each_ref().map(String::as_str),
        &to("sci"),
        &[],
    ));
    assert!(
        said.contains("2 more seem to differ by numbers written with an exponent alone, as `2000000` and `2e+06`"),
        "{said}"
    );
    let said = log(&run_on(
        [&features, &phenotypes, &covariates],
        &to("clean"),
        &[],
    ));
    assert!(!said.contains("WARN"), "{said}");
}

#[test]
fn codes_of_plink_are_pointed_out() {
    let study = Study::new();
    let ids = study.ids();
    let with = |name: &str, code: &dyn Fn(usize) -> Option<f64>| {
        let n = ids.len();
        let columns = vec![
            ("eid".to_owned(), Column::Text(ids.clone())),
            ("cc".to_owned(), Column::Float((0..n).map(code).collect())),
            (
                "qt".to_owned(),
                Column::Float(
                    (0..n)
                        .map(|i| {
                            Some(if i.is_multiple_of(7) {
                                -9.0
                            } else {
                                (i as f64).sin()
                            })
                        })
                        .collect(),
                ),
            ),
        ];
        study.write_table(name, &columns)
    };
    let coded = with("coded.parquet", &|i| {
        Some([1.0, 2.0, 1.0, 0.0, -9.0][i % 5])
    });
    let plain = with("plain.parquet", &|i| {
        [Some(0.0), Some(1.0), Some(0.0), None, None][i % 5]
    });
    let on = |phenotypes: &str, out: &str, more: &[&str]| {
        run_on(
            [&study.cohort.features, phenotypes, &study.cohort.covariates],
            &study.path(out),
            more,
        )
    };
    let said = log(&on(&coded, "unsaid", &[]));
    assert!(
        said.contains("phenotypes: -9 is taken for a number")
            && said.contains(": cc, qt; pass `--missing-values -9`"),
        "{said}"
    );
    assert!(
        said.contains("are taken for numbers: cc; pass `--case-coding 12`"),
        "{said}"
    );
    let told = ["--missing-values", "-9", "--no-gate"];
    let expected = on(&plain, "plain", &told);
    let coding = ["--case-coding", "12"];
    let said = on(&coded, "said", &[&told[..], &coding].concat());
    same_results(&expected, &said);
    assert!(!log(&said).contains("WARN phenotypes"), "{}", log(&said));

    let contrary = study.path("contrary");
    fail(
        &[
            "run",
            "--out",
            &contrary,
            "--one-two",
            "--case-coding",
            "01",
        ],
        1,
        &["`one-two` and `case-coding`", "contradict each other"],
    );

    // The samples that every phenotype has are those after the codes are read; here under the option's earlier name.
    let complete = [&told[..], &["--missing", "complete"]].concat();
    let expected = on(&plain, "plain-complete", &complete);
    let said = on(
        &coded,
        "coded-complete",
        &[&complete[..], &["--one-two"]].concat(),
    );
    same_results(&expected, &said);
    // The codes are options of the spectrum's mask: another run in the same directory does not keep it.
    let out = study.path("coded-complete");
    run_on(
        [&study.cohort.features, &coded, &study.cohort.covariates],
        &out,
        &complete,
    );
    run_on(
        [&study.cohort.features, &coded, &study.cohort.covariates],
        &out,
        &[&complete[..], &coding].concat(),
    );
    same_results(&expected, &said);
}

#[test]
fn a_covariate_of_one_group_does_not_cost_the_group() {
    let study = Study::new();
    let covariates = read_table(Path::new(&study.cohort.covariates)).unwrap();
    let n = covariates[0].1.len();
    let number = |value: &dyn Fn(usize) -> Option<f64>| Column::Float((0..n).map(value).collect());
    let sex = |i: usize| f64::from(u8::from(i.is_multiple_of(3)));
    let mut plain: Named = vec![covariates[0].clone()];
    plain.push((
        "years".to_owned(),
        number(&|i| Some((i as f64 * 0.7).sin())),
    ));
    plain.push(("male".to_owned(), number(&|i| Some(sex(i)))));
    let plain_path = study.write_table("plain.parquet", &plain);
    let on = |covariates: &str, out: &str| {
        run_on(
            [&study.cohort.features, &study.cohort.phenotypes, covariates],
            &study.path(out),
            &["--no-gate"],
        )
    };
    let expected = on(&plain_path, "plain");
    // Asked of women alone: with answers, without any other, and twice.
    let asked = |value: &dyn Fn(usize) -> f64| number(&|i| (sex(i) == 0.0).then(|| value(i)));
    let children = ("children".to_owned(), asked(&|i| (i % 4) as f64));
    let ever = ("ever".to_owned(), asked(&|_| 1.0));
    let age = ("age_first".to_owned(), asked(&|i| 20.0 + (i % 13) as f64));
    let cases = [
        vec![&children],
        vec![&ever],
        vec![&children, &age],
        vec![&age, &ever, &children],
    ];
    for (at, questions) in cases.iter().enumerate() {
        for first in [false, true] {
            let mut columns = plain.clone();
            for question in questions {
                columns.insert(if first { 1 } else { columns.len() }, (*question).clone());
            }
            let path = study.write_table("asked.parquet", &columns);
            let out = on(&path, &format!("asked-{at}-{first}"));
            same_results(&expected, &out);
            let said = log(&out);
            for (name, _) in questions {
                let words = if name == "ever" {
                    "ever".to_owned()
                } else {
                    format!("`{name}` left out: ")
                };
                assert!(said.contains(&words), "{words} not in {said}");
            }
            let recorded = &samples(&out)["covariates"];
            assert_eq!(
                recorded["used"],
                serde_json::json!(["intercept", "years", "male"])
            );
        }
    }
    assert_eq!(
        samples(Path::new(&study.path("asked-0-false")))["covariates"]["dividing"][0]["leaves_constant"],
        serde_json::json!(["male"])
    );
    // One that nobody has is no covariate.
    let mut columns = plain.clone();
    columns.push(("empty".to_owned(), number(&|_| None)));
    let path = study.write_table("empty.parquet", &columns);
    let mut arguments = vec![
        "run",
        "--features",
        &study.cohort.features,
        "--covariates",
        &path,
    ];
    let out = study.path("refused");
    arguments.extend(["--phenotypes", &study.cohort.phenotypes, "--out", &out]);
    fail(
        &arguments,
        1,
        &["has a value of `empty`", "--covariate-columns"],
    );
}

#[test]
fn a_level_that_no_sample_used_has_is_not_predicted() {
    let study = Study::new();
    let covariates = read_table(Path::new(&study.cohort.covariates)).unwrap();
    let n = covariates[0].1.len();
    // A few at Hove, which did not measure.
    let is_at_hove = |i: usize| i % 40 == 2;
    let site = |i: usize| match is_at_hove(i) {
        true => "Hove".to_owned(),
        false => ["Leeds", "Bury"][i % 2].to_owned(),
    };
    let measured = (0..n)
        .map(|i| (!is_at_hove(i)).then(|| (i as f64).cos()))
        .collect();
    let columns = |measured: Vec<Option<f64>>| {
        vec![
            covariates[0].clone(),
            ("site".to_owned(), Column::Text((0..n).map(site).collect())),
            ("measured".to_owned(), Column::Float(measured)),
        ]
    };
    let given = study.write_table("given.parquet", &columns(measured));
    let files = [&study.cohort.features, &study.cohort.phenotypes, &given];
    let out = study.path("out");
    run_on(
        files.map(String::as_str),
        &out,
        &["--categorical-covariates", "site"],
    );
    let recorded = &samples(Path::new(&out))["covariates"];
    assert_eq!(
        recorded["categories"][0]["levels"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(recorded["dividing"], serde_json::json!([]));
    // New samples of that place have what was not measured there.
    let all = study.write_table(
        "all.parquet",
        &columns((0..n).map(|i| Some((i as f64).cos())).collect()),
    );
    let (model, new) = (format!("{out}/model"), study.path("new.parquet"));
    let mut arguments = vec!["predict", "--model", &model, "--features", files[0]];
    arguments.extend(["--covariates", &all, "--out", &new]);
    let said = String::from_utf8(succeed(&arguments).stderr).unwrap();
    assert!(
        said.contains("have a level of `site` that the model does not know"),
        "{said}"
    );
    let (values, _) = table(Path::new(&new));
    let nulls = values
        .values()
        .next()
        .unwrap()
        .iter()
        .filter(|v| v.is_nan())
        .count();
    assert!((3..10).contains(&nulls), "{nulls}");
}

/// A covariate that all but a few of a group lack does not cost the group, which is another than those who have it.
#[test]
fn a_covariate_that_a_group_lacks_does_not_cost_the_group() {
    let study = Study::new();
    let covariates = read_table(Path::new(&study.cohort.covariates)).unwrap();
    let n = covariates[0].1.len();
    let number = |value: &dyn Fn(usize) -> Option<f64>| Column::Float((0..n).map(value).collect());
    let site = |i: usize| ["Leeds", "Bury", "Hove"][i % 3].to_owned();
    let plain = vec![
        covariates[0].clone(),
        ("site".to_owned(), Column::Text((0..n).map(site).collect())),
        (
            "male".to_owned(),
            number(&|i| Some(f64::from(u8::from(i % 4 < 2)))),
        ),
    ];
    let on = |columns: &Named, name: &str| {
        let table = study.write_table(&format!("{name}.parquet"), columns);
        run_on(
            [&study.cohort.features, &study.cohort.phenotypes, &table],
            &study.path(name),
            &["--no-gate", "--categorical-covariates", "site"],
        )
    };
    let expected = on(&plain, "plain");
    let with = |measured: &dyn Fn(usize) -> bool, name: &str| {
        let mut columns = plain.clone();
        let values = number(&|i| measured(i).then(|| (i as f64).cos()));
        columns.insert(1, ("measured".to_owned(), values));
        on(&columns, name)
    };
    let lost = |out: &Path| samples(out)["covariates"]["dividing"][0]["loses_groups"].clone();
    // At two of three sites, and of women and a few men.
    let out = with(&|i| i % 3 != 2 || i < 4, "sites");
    same_results(&expected, &out);
    assert_eq!(lost(&out)[0]["value"], "Hove");
    assert!(log(&out).contains("with `site` Hove; to use it"));
    let out = with(&|i| i % 4 >= 2 || i < 3, "women");
    same_results(&expected, &out);
    assert_eq!(lost(&out)[0]["covariate"], "male");
    assert_eq!(lost(&out)[0]["value"], "1");
    // Missing at random, it decides which samples are used, and enters.
    let out = with(&|i| (i * 7919) % 1009 >= 303, "random");
    let used = samples(&out)["covariates"]["used"].to_string();
    assert!(used.contains("measured"), "{used}");
    assert_eq!(
        samples(&out)["covariates"]["dividing"],
        serde_json::json!([])
    );
}

#[test]
fn predictions_of_new_samples_are_read_as_the_run_read() {
    let study = Study::new();
    let covariates = read_table(Path::new(&study.cohort.covariates)).unwrap();
    let n = covariates[0].1.len();
    let years = |i: usize| 50.0 + 9.0 * (i as f64 * 0.7).sin();
    let rows: Vec<usize> = (0..n).map(|i| n - i).collect();
    let ids = match &covariates[0].1 {
        Column::Int(ids) => ids.iter().map(|id| id.unwrap().to_string()).collect(),
        Column::Text(ids) => ids.clone(),
        other => panic!("{other:?}"),
    };
    // Row numbers first, the ids after; -9 where unknown, or null.
    let given = |name: &str, unknown: Option<f64>, id: &dyn Fn(&str) -> String| {
        let value = |i: usize| if i % 10 == 3 { unknown } else { Some(years(i)) };
        let columns = vec![
            (
                "row".to_owned(),
                Column::Int(rows.iter().map(|r| Some(*r as i64)).collect()),
            ),
            (
                "eid".to_owned(),
                Column::Text(ids.iter().map(|it| id(it)).collect()),
            ),
            (
                "years".to_owned(),
                Column::Float((0..n).map(value).collect()),
            ),
        ];
        study.write_table(name, &columns)
    };
    let coded = given("coded.parquet", Some(-9.0), &|id| id.to_owned());
    let out = study.path("out");
    let files = [&study.cohort.features, &study.cohort.phenotypes, &coded];
    let told = [
        "--missing-values",
        "-9",
        "--covariate-columns",
        "years",
        "--no-gate",
    ];
    run_on(files.map(String::as_str), &out, &told);
    let model = format!("{out}/model");
    let predict = |covariates: &str, name: &str| -> Vec<String> {
        let to = study.path(name);
        [
            "predict",
            "--model",
            &model,
            "--features",
            files[0],
            "--covariates",
            covariates,
            "--out",
            &to,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let said = |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        String::from_utf8(succeed(&arguments).stderr).unwrap()
    };
    // -9 is no age.
    let nulls = given("nulls.parquet", None, &|id| id.to_owned());
    let told = said(&predict(&coded, "a.parquet"));
    said(&predict(&nulls, "b.parquet"));
    assert_eq!(
        fs::read(study.path("a.parquet")).unwrap(),
        fs::read(study.path("b.parquet")).unwrap()
    );
    assert!(
        told.contains("samples get no prediction, for want of covariates: ")
            && told.contains("lack `years`"),
        "{told}"
    );
    // Ids that meet nobody, and some that do not.
    let floats = given("floats.parquet", None, &|id| format!("{id}.0"));
    let arguments = predict(&floats, "c.parquet");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    fail(
        &arguments,
        1,
        &[
            "no new sample is in the table of covariates",
            "numbers written with a fraction",
            "--id-column",
        ],
    );
    assert!(!Path::new(&study.path("c.parquet")).exists());
    let some = given("some.parquet", None, &|id| match id.ends_with(['1', '2']) {
        true => format!("0{id}"),
        false => id.to_owned(),
    });
    let told = said(&predict(&some, "d.parquet"));
    assert!(
        told.contains(" are not in `") && told.contains("seem to differ by leading zeros alone"),
        "{told}"
    );
    // None that has a value.
    let columns = vec![
        covariates[0].clone(),
        ("years".to_owned(), Column::Float(vec![Some(-9.0); n])),
    ];
    let none = study.write_table("none.parquet", &columns);
    let arguments = predict(&none, "e.parquet");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    fail(
        &arguments,
        1,
        &[
            "none of the",
            "has all covariates of the model",
            "lack `years`",
        ],
    );
}

#[test]
fn a_column_of_ids_that_the_run_named_is_the_models() {
    let study = Study::new();
    let renamed = |from: &str, to: &str| {
        let mut columns = read_table(Path::new(from)).unwrap();
        columns[0].0 = "person".to_owned();
        let n = columns[0].1.len() as i64;
        columns.insert(
            0,
            ("number".to_owned(), Column::Int((0..n).map(Some).collect())),
        );
        study.write_table(to, &columns)
    };
    let tables = [
        renamed(&study.cohort.features, "f.parquet"),
        renamed(&study.cohort.phenotypes, "p.parquet"),
        renamed(&study.cohort.covariates, "c.parquet"),
    ];
    let out = study.path("out");
    let columns = [
        "--feature-columns",
        "*_*",
        "--phenotype-columns",
        "trait*",
        "--id-column",
        "person",
    ];
    let columns = [&columns[..], &["--covariate-columns", "age*,sex*"]].concat();
    run_on(tables.each_ref().map(String::as_str), &out, &columns);
    let (model, new) = (format!("{out}/model"), study.path("new.parquet"));
    let predict = [
        "predict",
        "--quiet",
        "--model",
        &model,
        "--features",
        &tables[0],
    ];
    succeed(&[&predict[..], &["--covariates", &tables[2], "--out", &new]].concat());
    let (_, texts) = table(Path::new(&new));
    let (_, expected) = table(&Path::new(&out).join("predictions.parquet"));
    assert_eq!(texts["sample_id"], expected["sample_id"]);
    // Another table, without that column, is read as any is.
    let new = study.path("other.parquet");
    let other = [
        "predict",
        "--quiet",
        "--model",
        &model,
        "--features",
        &study.cohort.features,
    ];
    succeed(
        &[
            &other[..],
            &["--covariates", &study.cohort.covariates, "--out", &new],
        ]
        .concat(),
    );
    let (_, texts) = table(Path::new(&new));
    assert_eq!(texts["sample_id"], expected["sample_id"]);
}

#[test]
fn names_and_options_that_clash_are_refused_before_ingest() {
    let study = Study::new();
    let ids = || ("eid".to_owned(), Column::Text(study.ids()));
    let n = study.ids().len();
    let value = || Column::Float((0..n).map(|i| Some((i as f64).sin())).collect());
    let phenotypes =
        study.write_table("p.parquet", &vec![ids(), ("sample_id".to_owned(), value())]);
    let covariates =
        study.write_table("c.parquet", &vec![ids(), ("phenotype".to_owned(), value())]);
    let levels = (0..n).map(|i| ["a", "b"][i % 2].to_owned()).collect();
    let twice = vec![
        ids(),
        ("site".to_owned(), Column::Text(levels)),
        ("site=b".to_owned(), value()),
        ("site=a".to_owned(), value()),
    ];
    let twice = study.write_table("t.parquet", &twice);
    let (f, p) = (
        study.cohort.features.as_str(),
        study.cohort.phenotypes.as_str(),
    );
    let out = study.path("out");
    let start = ["run", "--out", out.as_str(), "--features", f];
    fn joined<'a>(start: &[&'a str], tables: &[&'a str]) -> Vec<&'a str> {
        [start, tables].concat()
    }
    fail(
        &joined(&start, &["--phenotypes", &phenotypes]),
        1,
        &["phenotype `sample_id`", "p.parquet", "rename"],
    );
    fail(
        &joined(&start, &["--phenotypes", p, "--covariates", &covariates]),
        1,
        &["covariate `phenotype`", "c.parquet", "rename"],
    );
    fail(
        &joined(
            &start,
            &[
                "--phenotypes",
                p,
                "--covariates",
                &twice,
                "--categorical-covariates",
                "site",
            ],
        ),
        1,
        &["covariate `site=", "t.parquet"],
    );
    // Text below what is taken for a header, which is a sample.
    let places = study.ids().into_iter().enumerate();
    let rows: Vec<String> = places
        .map(|(i, id)| format!("{id},{}\n", ["a", "b"][i % 2]))
        .collect();
    let bare = study.path("bare.csv");
    fs::write(&bare, rows.concat()).unwrap();
    let of_bare = ["--covariates", &bare, "--categorical-covariates", "*"];
    fail(
        &joined(&start, &[&["--phenotypes", p][..], &of_bare].concat()),
        1,
        &["bare.csv", "the table has no header"],
    );
    for flag in [
        "--categorical-covariates",
        "--covariate-columns",
        "--covariates-id-column",
    ] {
        fail(
            &joined(&start, &["--phenotypes", p, flag, "sex"]),
            1,
            &[flag, "without `--covariates`"],
        );
    }
    let copy = study.path("copy.parquet");
    fs::copy(f, &copy).unwrap();
    for same in [f, &copy] {
        fail(
            &joined(&start, &["--phenotypes", same]),
            1,
            &["are one file", "--phenotype-columns"],
        );
    }
    assert!(!Path::new(&out).join("features.zarr").exists());
    // Two halves of one table are two tables.
    let columns = read_table(Path::new(f)).unwrap();
    let (first, last) = (columns[1].0.clone(), columns[columns.len() - 1].0.clone());
    let halves = [
        "--phenotypes",
        f,
        "--feature-columns",
        &first,
        "--phenotype-columns",
        &last,
    ];
    succeed(&[&joined(&start, &halves)[..], &["--quiet"]].concat());

    let Some(folder) = case("field") else {
        return;
    };
    let clash = folder.join("clash.parquet").display().to_string();
    let features = folder.join("features.parquet").display().to_string();
    let out = study.path("clash");
    let said = ntkpipe()
        .args([
            "run",
            "--features",
            &features,
            "--phenotypes",
            &clash,
            "--out",
            &out,
        ])
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(!Path::new(&out).exists());
}

/// A pipe can be read once only: what was read of each is compared, not what is left, which is nothing of both.
#[test]
fn two_tables_through_pipes_are_two() {
    let folder = tempfile::tempdir().unwrap();
    let table = |name: &str, of: &dyn Fn(usize) -> usize| {
        let rows: Vec<String> = (0..40).map(|i| format!("s{i},{i},{}\n", of(i))).collect();
        let path = folder.path().join(name);
        fs::write(&path, format!("IID,a,b\n{}", rows.concat())).unwrap();
        path
    };
    let one = table("one.csv", &|i| i * i % 7);
    let other = table("other.csv", &|i| i * i % 11);
    for (phenotypes, code, words) in [
        (&one, 1, "are one file"),
        (&other, 0, "columns of one name"),
    ] {
        let out = folder.path().join(code.to_string());
        let output = std::process::Command::new("bash")
            .args(["-c", "timeout 60 \"$0\" run --features <(cat \"$1\") --phenotypes <(cat \"$2\") --out \"$3\""])
            .args([Path::new(env!("CARGO_BIN_EXE_ntkpipe")), &one, phenotypes, &out])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
    }
}
