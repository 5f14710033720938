//! The files people have: each form gives what the same data give as wide Parquet, and trouble is explained.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use ntkpipe_store::results::{Column, read_table, write_table};
use serde_json::Value;

use crate::support::{Cohort, case, cohort, fail, ntkpipe, succeed, table};

/// A simulated cohort with its tables in memory, and a folder for other forms of them.
struct Study {
    cohort: Cohort,
    folder: tempfile::TempDir,
}

type Named = Vec<(String, Column)>;

/// A field of a text table.
fn field(column: &Column, row: usize, missing: &str) -> String {
    match column {
        Column::Float(v) => v[row].map_or(missing.to_owned(), |x| format!("{x}")),
        Column::Int(v) => v[row].map_or(missing.to_owned(), |x| x.to_string()),
        Column::Bool(v) => v[row].map_or(missing.to_owned(), |x| x.to_string()),
        Column::Text(v) => v[row].clone(),
        Column::OptionalText(v) => v[row].clone().unwrap_or(missing.to_owned()),
    }
}

/// Columns as text: floats by their shortest digits, which read back the same.
fn text(columns: &Named, separator: &str, missing: &str, end: &str) -> String {
    let names: Vec<&str> = columns.iter().map(|it| it.0.as_str()).collect();
    let mut text = names.join(separator) + end;
    for row in 0..columns[0].1.len() {
        let fields: Vec<String> = columns
            .iter()
            .map(|it| field(&it.1, row, missing))
            .collect();
        text += &(fields.join(separator) + end);
    }
    text
}

impl Study {
    fn new() -> Self {
        Self {
            cohort: cohort(260, 12, 3),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn columns(&self, path: &str) -> Named {
        read_table(Path::new(path)).unwrap()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn arguments(&self, files: [&str; 3], out: &Path, more: &[&str]) -> Vec<String> {
        let [features, phenotypes, covariates] = files;
        let mut arguments: Vec<String> =
            ["run", "--features", features, "--phenotypes", phenotypes]
                .map(str::to_owned)
                .to_vec();
        if !covariates.is_empty() {
            arguments.extend(["--covariates".to_owned(), covariates.to_owned()]);
        }
        arguments.extend(["--out".to_owned(), out.display().to_string()]);
        arguments.extend(more.iter().map(|it| (*it).to_owned()));
        arguments
    }

    /// Runs these features, phenotypes and covariates (none when empty); gives the run directory.
    fn run(&self, files: [&str; 3], name: &str, more: &[&str]) -> PathBuf {
        let out = self.out(name);
        let arguments = self.arguments(files, &out, more);
        succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        out
    }

    /// Runs, expects a failure of the input, and gives what is said.
    fn refused(&self, files: [&str; 3], more: &[&str]) -> String {
        let arguments = self.arguments(files, &self.out("refused"), more);
        let output = ntkpipe().args(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }

    fn files(&self) -> [&str; 3] {
        let Cohort {
            features,
            phenotypes,
            covariates,
            ..
        } = &self.cohort;
        [features, phenotypes, covariates]
    }
}

fn samples(out: &Path) -> Value {
    let text = fs::read(out.join("run.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()["samples"].clone()
}

/// Asserts that two runs gave the same results, byte by byte.
fn assert_same(a: &Path, b: &Path) {
    for name in ["phenotypes.tsv", "predictions.parquet"] {
        let (a, b) = (
            fs::read(a.join(name)).unwrap(),
            fs::read(b.join(name)).unwrap(),
        );
        assert!(a == b, "{name} differs");
    }
}

#[test]
fn text_gives_what_parquet_gives() {
    let study = Study::new();
    let expected = study.run(study.files(), "parquet", &["--quiet"]);
    let [features, phenotypes, covariates] = study.files().map(|path| study.columns(path));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut gzip, text(&features, ",", "NA", "\n").as_bytes()).unwrap();
    // The name does not say that it is gzipped.
    let features = study.write("proteins.csv", gzip.finish().unwrap());
    let windows = format!("\u{feff}{}", text(&phenotypes, "\t", "", "\r\n"));
    let phenotypes = study.write("phenotypes.txt", windows);
    let mut plink: Named = covariates;
    plink[0].0 = "IID".to_owned();
    let family = Column::Text(vec!["0".to_owned(); plink[0].1.len()]);
    plink.insert(0, ("FID".to_owned(), family));
    let covariates = study.write("covariates.cov", text(&plink, " ", "-9", "\n"));
    let files = [&features, &phenotypes, &covariates].map(String::as_str);
    let out = study.run(files, "text", &["--missing-values", "-9", "--quiet"]);
    assert_same(&expected, &out);
    let samples = samples(&out);
    assert_eq!(samples["files"][0]["form"], "text");
    assert_eq!(samples["files"][2]["id_column"], "IID");
}

/// The feature table as a long Olink file, one row per sample and protein.
fn long(features: &Named, header: &str, row: impl Fn(&str, usize, &str) -> String) -> String {
    let mut text = header.to_owned() + "\n";
    for sample in 0..features[0].1.len() {
        let id = field(&features[0].1, sample, "");
        for (protein, (_, column)) in features.iter().enumerate().skip(1) {
            text += &(row(&id, protein, &field(column, sample, "NA")) + "\n");
        }
    }
    text
}

#[test]
fn long_olink_gives_what_wide_gives() {
    let study = Study::new();
    let [_, phenotypes, covariates] = study.files();
    let expected = study.run(study.files(), "wide", &["--quiet"]);
    let features = study.columns(&study.cohort.features);
    let header =
        "SampleID;SampleType;OlinkID;Assay;AssayType;PlateID;NPX;PCNormalizedNPX;SampleQC;AssayQC";
    let mut explore = long(&features, header, |id, protein, value| {
        format!("{id};SAMPLE;OID{protein:05};P{protein};assay;007;1;{value};PASS;NA")
    });
    for control in [
        "NC1;NEGATIVE_CONTROL;OID00001;P1;assay",
        "NC2;SAMPLE;OID9;Ext;ext_ctrl",
    ] {
        writeln!(explore, "{control};007;1;1;PASS;NA").unwrap();
    }
    writeln!(explore, "failed;SAMPLE;OID00001;P1;assay;007;1;1;FAIL;NA").unwrap();
    let explore = study.write("npx.csv", explore);
    let more = ["--npx-value", "PCNormalizedNPX"];
    let out = study.run([&explore, phenotypes, covariates], "explore", &more);
    assert_same(&expected, &out);
    let file = samples(&out)["files"][0].clone();
    assert_eq!(file["form"], "Olink NPX, long");
    assert_eq!(file["samples"], features[0].1.len());
    assert_eq!(file["rows"], features[0].1.len() * 12 + 3);
    let dropped = file["dropped"].to_string();
    for why in ["control samples", "control assays", "quality control"] {
        assert!(dropped.contains(why), "{dropped}");
    }
    let log = fs::read_to_string(out.join("run.log")).unwrap();
    assert!(log.contains("1 row dropped (1 control sample)"), "{log}");

    let header = "SampleID,Index,OlinkID,UniProt,Assay,MissingFreq,Panel,Panel_Version,PlateID,QC_Warning,LOD,NPX";
    let older = long(&features, header, |id, protein, value| {
        format!("{id},1,OID{protein:05},Q,P{protein},0,CAM,v.1,007,Pass,1,{value}")
    });
    let older = study.write("older.txt", older);
    let out = study.run([&older, phenotypes, covariates], "older", &["--quiet"]);
    assert_same(&expected, &out);

    let second = study.write(
        "twice.csv",
        fs::read_to_string(&older).unwrap() + older_row(&features).as_str(),
    );
    let said = study.refused([&second, phenotypes, covariates], &[]);
    assert!(
        said.contains("another value of a protein it has: `OID00001` of `"),
        "{said}"
    );
}

/// A second value of the first sample and protein.
fn older_row(features: &Named) -> String {
    let id = field(&features[0].1, 0, "");
    format!("{id},1,OID00001,Q,P1,0,CAM,v.1,007,Pass,1,1\n")
}

#[test]
fn uk_biobank_gives_what_a_plain_table_gives() {
    let study = Study::new();
    let expected = study.run(study.files(), "plain", &["--quiet"]);
    let [features, phenotypes, covariates] = study.files().map(|path| study.columns(path));
    let renamed = |columns: &Named, id: &str, name: &dyn Fn(usize) -> String| -> Named {
        let names = (0..columns.len()).map(|it| if it == 0 { id.to_owned() } else { name(it) });
        names.zip(columns.iter().map(|it| it.1.clone())).collect()
    };
    // Two who withdrew, the same number twice.
    let mut wide = text(
        &renamed(&features, "olink_instance_0.eid", &|it| {
            format!("olink_instance_0.p{it}")
        }),
        ",",
        "",
        "\n",
    );
    for _ in 0..2 {
        wide += &("-1".to_owned() + &",1".repeat(features.len() - 1) + "\n");
    }
    let wide = study.write("olink.csv", wide);
    let traits = renamed(&phenotypes, "eid", &|it| format!("{}-0.0", 30 + it));
    let traits = study.write("ukb.tsv", text(&traits, "\t", "NA", "\n"));
    let names: Vec<String> = covariates.iter().map(|it| it.0.clone()).collect();
    let others = renamed(&covariates, "participant.eid", &|it| names[it].clone());
    let others = study.write("participant.csv", text(&others, ",", "", "\n"));
    let out = study.run(
        [&wide, &traits, &others],
        "wide",
        &["--quiet", "--feature-columns", "p*"],
    );
    assert_same_but_names(&expected, &out);
    assert_eq!(samples(&out)["withdrawn"], 2);

    let mut rows = long(
        &features,
        "eid\tins_index\tprotein_id\tresult",
        |id, protein, value| format!("{id}\t0\t{protein}\t{value}"),
    );
    writeln!(rows, "{}\t2\t1\t99", field(&features[0].1, 0, "")).unwrap();
    let rows = study.write("olink_data.txt", rows);
    let coding: String = (1..features.len())
        .map(|it| format!("{it}\tP-{it};Protein\n"))
        .collect();
    let coding = study.write("coding143.tsv", "coding\tmeaning\n".to_owned() + &coding);
    let more = [
        "--quiet",
        "--protein-names",
        &coding,
        "--feature-columns",
        "p_*",
    ];
    let out = study.run([&rows, &traits, &others], "long", &more);
    assert_same_but_names(&expected, &out);
    let (_, features) = table(&out.join("features.parquet"));
    assert_eq!(features["feature"][0], "p_1");
    let model = out.join("model").display().to_string();
    let new = study.out("new.parquet").display().to_string();
    let predict = [
        "predict",
        "--quiet",
        "--model",
        &model,
        "--covariates",
        &others,
    ];
    let predict = [&predict[..], &["--features", &rows, "--out", &new]].concat();
    fail(
        &predict,
        1,
        &["lacks", "hint: none is there", "`--protein-names`"],
    );
    succeed(&[&predict[..], &["--protein-names", &coding]].concat());
}

/// As [`assert_same`], where the phenotypes have other names.
fn assert_same_but_names(a: &Path, b: &Path) {
    for name in ["phenotypes.parquet", "predictions.parquet"] {
        let columns = [a, b].map(|out| read_table(&out.join(name)).unwrap());
        for (a, b) in columns[0].iter().zip(&columns[1]) {
            match (&a.1, &b.1) {
                (Column::Float(x), Column::Float(y)) => {
                    let bits = |v: &[Option<f64>]| -> Vec<_> {
                        v.iter().map(|x| x.map(f64::to_bits)).collect()
                    };
                    assert_eq!(bits(x), bits(y), "{} of {name}", a.0);
                }
                _ => assert!(a.0 == "phenotype" || a.1 == b.1, "{} of {name}", a.0),
            }
        }
    }
}

#[test]
fn files_of_the_vendor_are_analysed() {
    let Some(folder) = case("olink") else {
        return;
    };
    let npx = folder.join("npx_long.parquet");
    let study = Study::new();
    let long = read_table(&npx).unwrap();
    let column = |name: &str| &long.iter().find(|it| it.0 == name).unwrap().1;
    let (Column::Text(ids), Column::Text(proteins), Column::Float(values)) =
        (column("SampleID"), column("OlinkID"), column("NPX"))
    else {
        panic!("other types than expected");
    };
    let mut samples: Vec<String> = Vec::new();
    let mut assays: Vec<String> = Vec::new();
    let mut cells = std::collections::HashMap::new();
    for ((id, protein), value) in ids.iter().zip(proteins).zip(values) {
        if id.starts_with("CONTROL") {
            continue;
        }
        let sample = samples.iter().position(|it| it == id).unwrap_or_else(|| {
            samples.push(id.clone());
            samples.len() - 1
        });
        let assay = assays
            .iter()
            .position(|it| it == protein)
            .unwrap_or_else(|| {
                assays.push(protein.clone());
                assays.len() - 1
            });
        cells.insert((sample, assay), *value);
    }
    let mut wide: Named = vec![("SampleID".to_owned(), Column::Text(samples.clone()))];
    for (assay, name) in assays.iter().enumerate() {
        let values =
            (0..samples.len()).map(|sample| cells.get(&(sample, assay)).copied().flatten());
        wide.push((name.clone(), Column::Float(values.collect())));
    }
    let wide_path = study.out("wide.parquet");
    write_table(&wide_path, &wide).unwrap();
    let Column::Float(first) = &wide[1].1 else {
        unreachable!()
    };
    let phenotype = first
        .iter()
        .enumerate()
        .map(|(i, x)| x.map(|x| x + (i as f64).sin()));
    let phenotypes = study.out("phenotypes.parquet");
    let columns = [
        ("SampleID".to_owned(), Column::Text(samples)),
        ("y".to_owned(), Column::Float(phenotype.collect())),
    ];
    write_table(&phenotypes, &columns).unwrap();
    let phenotypes = phenotypes.display().to_string();
    let more = ["--quiet", "--no-gate"];
    let expected = study.run(
        [&wide_path.display().to_string(), &phenotypes, ""],
        "w",
        &more,
    );
    let out = study.run([&npx.display().to_string(), &phenotypes, ""], "l", &more);
    assert_same(&expected, &out);
}

#[test]
fn categories_are_columns_of_their_levels() {
    let study = Study::new();
    let [features, phenotypes, covariates] = study.files();
    let columns = study.columns(covariates);
    let n = columns[0].1.len();
    let site = |row: usize| ["Leeds", "Bury", "Leeds", "Hove"][row % 4];
    let with_site = |extra: &dyn Fn(usize) -> Vec<String>, names: &str| {
        let mut lines = text(&columns, ",", "", "\n");
        lines = lines
            .lines()
            .enumerate()
            .map(|(line, it)| match line {
                0 => format!("{it},{names}\n"),
                _ => format!("{it},{}\n", extra(line - 1).join(",")),
            })
            .collect();
        lines
    };
    let flag = |is: bool| u8::from(is).to_string();
    let indicators = study.write(
        "indicators.csv",
        with_site(
            &|row| vec![flag(site(row) == "Bury"), flag(site(row) == "Hove")],
            "bury,hove",
        ),
    );
    let sites = |name: &str| {
        // A constant and a copy besides: both are spanned by what comes before them.
        let extra = |row: usize| vec!["3".to_owned(), site(row).to_owned()];
        study.write(name, with_site(&extra, "lot,site"))
    };
    let text_sites = sites("sites.csv");
    let expected = study.run(
        [features, phenotypes, &indicators],
        "indicators",
        &["--quiet"],
    );
    let out = study.run(
        [features, phenotypes, &text_sites],
        "sites",
        &["--categorical-covariates", "si*"],
    );
    assert_same(&expected, &out);
    let recorded = samples(&out)["covariates"].clone();
    assert_eq!(recorded["collinear"], serde_json::json!(["lot"]));
    assert_eq!(
        recorded["categories"][0]["levels"],
        serde_json::json!(["Leeds", "Bury", "Hove"])
    );
    let log = fs::read_to_string(out.join("run.log")).unwrap();
    assert!(
        log.contains(
            "1 left out (constant, or determined by the others, on the samples used): lot"
        ),
        "{log}"
    );

    // The model knows its levels, and says nothing of samples with another.
    let other = fs::read_to_string(&text_sites)
        .unwrap()
        .replacen("Bury", "York", 1);
    let other = study.write("other.csv", other);
    let model = out.join("model").display().to_string();
    let written = study.out("new.parquet").display().to_string();
    succeed(&[
        "predict",
        "--quiet",
        "--model",
        &model,
        "--features",
        features,
        "--covariates",
        &other,
        "--out",
        &written,
    ]);
    let (new, ids) = table(Path::new(&written));
    let (old, _) = table(&out.join("predictions.parquet"));
    let york = field(&columns[0].1, 1, "");
    assert!(n > 2);
    for (name, values) in &new {
        for ((value, before), id) in values.iter().zip(&old[name]).zip(&ids["sample_id"]) {
            let is_unknown = *id == york;
            assert!(
                (is_unknown && value.is_nan())
                    || (!is_unknown && ((value - before).abs() < 1e-4 || before.is_nan())),
                "{name} of {id}: {value} {before}"
            );
        }
    }

    let said = study.refused([features, phenotypes, &text_sites], &[]);
    assert!(
        said.contains("`site` (`Leeds` in line 2)") && said.contains("--categorical-covariates"),
        "{said}"
    );
}

#[test]
fn ids_that_do_not_meet_are_explained() {
    let study = Study::new();
    let [features, phenotypes, _] = study.files();
    let columns = study.columns(phenotypes);
    let rewritten = |rewrite: &dyn Fn(String) -> String| {
        let mut columns = columns.clone();
        let n = columns[0].1.len();
        let ids = (0..n).map(|row| rewrite(field(&columns[0].1, row, "")));
        columns[0].1 = Column::Text(ids.collect());
        study.write("rewritten.csv", text(&columns, ",", "", "\n"))
    };
    let cases: [(&dyn Fn(String) -> String, &str); 4] = [
        (&|id| format!("000{id}"), "leading zeros"),
        (&|id| format!("UKB_{id}"), "a prefix"),
        (&|id| format!("{id}.0"), "numbers written with a fraction"),
        (&|id| format!("{id}_{id}"), "what follows the first part"),
    ];
    for (rewrite, guess) in cases {
        let said = study.refused([features, &rewritten(rewrite), ""], &[]);
        assert!(
            said.contains("no sample is in all tables")
                && said.contains("only there: `")
                && said.contains(&format!("they seem to differ by {guess}, as `")),
            "{said}"
        );
    }
    // A few that meet are a warning.
    let few = rewritten(&|id| {
        if id.ends_with('7') {
            id
        } else {
            format!("x{id}")
        }
    });
    let out = study.run([features, &few, ""], "few", &["--quiet"]);
    let log = fs::read_to_string(out.join("run.log")).unwrap();
    assert!(
        log.contains("WARN few samples meet: ") && log.contains("a prefix"),
        "{log}"
    );
}

#[test]
fn every_sample_is_accounted_for() {
    let study = Study::new();
    let [features, phenotypes, covariates] = study.files();
    let columns = study.columns(phenotypes);
    let ids: Vec<String> = (0..20).map(|row| field(&columns[0].1, row, "")).collect();
    let remove = study.write("remove.txt", ids.join("\n"));
    let out = study.run(
        study.files(),
        "accounted",
        &["--remove", &remove, "--quiet"],
    );
    let samples = samples(&out);
    let steps = samples["steps"].as_array().unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    for pair in steps.windows(2) {
        assert_eq!(
            number(&pair[0]["left"]) - number(&pair[1]["lost"]),
            number(&pair[1]["left"])
        );
    }
    assert_eq!(steps.last().unwrap()["left"], samples["kernel_samples"]);
    assert!(
        steps
            .iter()
            .any(|it| it["step"] == "in the remove list" && number(&it["lost"]) > 0)
    );
    let (rows, _) = table(&out.join("phenotypes.parquet"));
    for (i, it) in samples["phenotypes"].as_array().unwrap().iter().enumerate() {
        let lost = number(&it["without_covariates"]) + number(&it["without_value"]);
        assert_eq!(number(&it["kernel_samples"]) - lost, number(&it["used"]));
        assert_eq!(number(&it["used"]) as f64, rows["n_samples"][i]);
    }
    let log = fs::read_to_string(out.join("run.log")).unwrap();
    assert_eq!(
        log.matches(" without a value = ").count(),
        columns.len() - 1
    );
    assert!(log.contains(features) && log.contains(covariates));
}

#[test]
fn ranks_and_codes_of_phenotypes() {
    let study = Study::new();
    let [features, phenotypes, _] = study.files();
    let columns = study.columns(phenotypes);
    let n = columns[0].1.len();
    let Column::Float(values) = &columns[1].1 else {
        panic!("a phenotype is numeric");
    };
    let with = |name: &str, value: &dyn Fn(usize, f64) -> Option<f64>| {
        let values = values
            .iter()
            .enumerate()
            .map(|(i, x)| x.and_then(|x| value(i, x)));
        let path = study.out(name);
        let columns = [
            columns[0].clone(),
            ("y".to_owned(), Column::Float(values.collect())),
        ];
        write_table(&path, &columns).unwrap();
        path.display().to_string()
    };
    // Ranks do not see a monotone change.
    let plain = with("plain.parquet", &|_, x| Some(x));
    let bent = with("bent.parquet", &|_, x| Some((x / 3.0).exp()));
    let run = |path: &str, name: &str, more: &[&str]| {
        let more: Vec<&str> = ["--quiet", "--no-gate"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        study.run([features, path, ""], name, &more)
    };
    let (a, b) = (
        run(&plain, "a", &["--rint"]),
        run(&bent, "b", &["--rint=phenotypes"]),
    );
    assert_same(&a, &b);
    let both = run(&plain, "both", &["--rint=both"]);
    let t_hat = |out: &Path| table(&out.join("phenotypes.parquet")).0["neg_log10_p"][0];
    assert!((t_hat(&a) - t_hat(&both)).abs() > 1e-6);

    let binary = with("binary.parquet", &|_, x| Some(f64::from(u8::from(x > 0.0))));
    let coded = with("coded.parquet", &|_, x| {
        Some(f64::from(u8::from(x > 0.0)) + 1.0)
    });
    let binary_out = run(&binary, "binary", &[]);
    assert_same(&binary_out, &run(&coded, "coded", &["--case-coding", "12"]));
    let log = fs::read_to_string(binary_out.join("run.log")).unwrap();
    assert!(
        log.contains("1 binary phenotype, with values of 0 and 1, analysed as quantitative (")
            && log.contains("`--min-cases`): y"),
        "{log}"
    );
    let rare = with("rare.parquet", &|i, _| {
        Some(f64::from(u8::from(i % (n / 3) == 1)))
    });
    let out = run(&rare, "rare", &["--min-cases", "10"]);
    let (numbers, texts) = table(&out.join("phenotypes.parquet"));
    assert_eq!(texts["status"], ["too_few_cases"]);
    assert!(numbers["p_value"][0].is_nan() && numbers["n_samples"][0] > 100.0);
    let (predictions, _) = table(&out.join("predictions.parquet"));
    assert!(predictions["y"].iter().all(|it| it.is_nan()));
    assert_eq!(samples(&out)["phenotypes"][0]["analysed"], false);
}
