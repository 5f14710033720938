//! Options of a run: what each changes, and what it must not.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Cohort, cohort, ntkpipe, run_arguments, succeed, table};
use ntkpipe_store::results::{Column, read_table, write_table};

/// A copy of the phenotypes in which `change` sees all columns of numbers.
fn phenotypes_with(
    cohort: &Cohort,
    path: PathBuf,
    change: impl Fn(&mut [&mut Vec<Option<f64>>]),
) -> String {
    let mut columns = read_table(Path::new(&cohort.phenotypes)).unwrap();
    let mut numbers: Vec<&mut Vec<Option<f64>>> = columns
        .iter_mut()
        .filter_map(|(_, column)| match column {
            Column::Float(values) => Some(values),
            _ => None,
        })
        .collect();
    assert!(!numbers.is_empty());
    change(&mut numbers);
    write_table(&path, &columns).unwrap();
    path.display().to_string()
}

/// The numbers of `phenotypes.parquet` in a run directory.
fn rows(out: &Path) -> std::collections::HashMap<String, Vec<f64>> {
    table(&out.join("phenotypes.parquet")).0
}

#[test]
fn complete_is_exact_on_the_samples_every_phenotype_has() {
    let cohort = cohort(600, 40, 6);
    let folder = tempfile::tempdir().unwrap();
    let emptied = phenotypes_with(&cohort, folder.path().join("p.parquet"), |columns| {
        for i in 0..columns[0].len() {
            if columns.iter().any(|c| c[i].is_none()) {
                columns.iter_mut().for_each(|c| c[i] = None);
            }
        }
    });
    let (complete, exact) = (folder.path().join("complete"), folder.path().join("exact"));
    let out = complete.display().to_string();
    succeed(&run_arguments(&cohort, &out, &["--missing", "complete"]));
    let out = exact.display().to_string();
    let emptied = Cohort {
        phenotypes: emptied,
        ..cohort
    };
    succeed(&run_arguments(&emptied, &out, &[]));
    let (complete, exact) = (rows(&complete), rows(&exact));
    assert!(
        complete["n_samples"]
            .iter()
            .all(|n| *n == complete["n_samples"][0])
    );
    for name in ["n_samples", "score", "neg_log10_p", "t_hat", "sigma2"] {
        for (a, b) in complete[name].iter().zip(&exact[name]) {
            // The one has the full mask's probes, the other those of a mask of its own.
            assert!(
                (a - b).abs() <= 1e-4 * b.abs().max(1.0) || (a.is_nan() && b.is_nan()),
                "{name}: {a} {b}"
            );
        }
    }
}

#[test]
fn impute_is_exact_on_what_the_intercept_predicts() {
    let cohort = cohort(600, 40, 6);
    let folder = tempfile::tempdir().unwrap();
    let filled = phenotypes_with(&cohort, folder.path().join("p.parquet"), |columns| {
        for column in columns {
            let seen: Vec<f64> = column.iter().flatten().copied().collect();
            let mean = seen.iter().sum::<f64>() / seen.len() as f64;
            column.iter_mut().for_each(|v| *v = v.or(Some(mean)));
        }
    });
    let run = |phenotypes: &str, name: &str, missing: &str| {
        let out = folder.path().join(name);
        let text = out.display().to_string();
        succeed(&[
            "run",
            "--quiet",
            "--features",
            &cohort.features,
            "--phenotypes",
            phenotypes,
            "--out",
            &text,
            "--missing",
            missing,
        ]);
        rows(&out)
    };
    let imputed = run(&cohort.phenotypes, "imputed", "impute");
    let expected = run(&filled, "filled", "exact");
    let masked = run(&cohort.phenotypes, "masked", "exact");
    let apart = |a: &[f64], b: &[f64]| {
        let gaps = a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs());
        gaps.fold(0.0, f64::max)
    };
    for name in ["n_samples", "score", "neg_log10_p", "t_hat"] {
        // The filled table's means are over all its rows, a few more than the kernel's samples.
        let gap = apart(&imputed[name], &expected[name]);
        assert!(gap < 2e-3, "{name}: {gap}");
    }
    // While beside its own samples alone each phenotype looks otherwise; the robust p gives samples without a residual no weight.
    for name in ["n_samples", "neg_log10_p_gaussian", "t_hat"] {
        let gap = apart(&imputed[name], &masked[name]);
        assert!(gap > 2e-2, "{name}: {gap}");
    }
}

#[test]
fn scratch_holds_the_tiles_and_changes_no_byte() {
    let cohort = cohort(300, 20, 2);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(path("scratch")).unwrap();
    succeed(&run_arguments(&cohort, &path("plain"), &[]));
    succeed(&run_arguments(
        &cohort,
        &path("apart"),
        &["--scratch", &path("scratch")],
    ));
    assert!(Path::new(&path("scratch/kernel.zarr/zarr.json")).exists());
    assert!(Path::new(&path("apart/kernel.zarr")).is_symlink());
    for name in ["phenotypes.tsv", "predictions.parquet", "kernel.zarr/c/0/0"] {
        assert_eq!(
            fs::read(Path::new(&path("plain")).join(name)).unwrap(),
            fs::read(Path::new(&path("apart")).join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_file_of_options_is_relative_to_itself_and_yields_to_the_command_line() {
    let cohort = cohort(200, 20, 3);
    let folder = tempfile::tempdir().unwrap();
    for (name, from) in [
        ("x", &cohort.features),
        ("y", &cohort.phenotypes),
        ("z", &cohort.covariates),
    ] {
        fs::copy(from, folder.path().join(format!("{name}.parquet"))).unwrap();
    }
    let file = folder.path().join("ntkpipe.toml");
    fs::write(
        &file,
        "features = \"x.parquet\"\ncovariates = \"z.parquet\"\nout = \"r\"\ndepth = 1\nactivation = \"erf\"\nno-gate = true\n",
    )
    .unwrap();
    // The default name, in the working directory.
    let run = |more: &[&str]| {
        let output = ntkpipe()
            .current_dir(folder.path())
            .args(["run", "--quiet", "--phenotypes", "y.parquet"])
            .args(more)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(&[]);
    let used = |out: &str| fs::read_to_string(folder.path().join(out).join("run.json")).unwrap();
    assert!(
        used("r").contains("\"depth\": 1") && used("r").contains("\"erf\""),
        "{}",
        used("r")
    );
    run(&["--depth", "3", "--out", "s"]);
    assert!(
        used("s").contains("\"depth\": 3") && used("s").contains("\"erf\""),
        "{}",
        used("s")
    );
    // By name, from elsewhere.
    let file_name = file.display().to_string();
    let phenotypes = cohort.phenotypes.as_str();
    fs::remove_dir_all(folder.path().join("r")).unwrap();
    succeed(&[
        "run",
        "--quiet",
        "--config",
        &file_name,
        "--phenotypes",
        phenotypes,
    ]);
    assert!(folder.path().join("r/phenotypes.parquet").exists());
    // A word it does not know is named.
    fs::write(&file, "dpeth = 1\n").unwrap();
    let output = ntkpipe()
        .args(["run", "--config", &file_name, "--phenotypes", phenotypes])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success()
            && said.contains("line 1: there is no key `dpeth`; did you mean `depth`?")
            && said.contains("ntkpipe.toml"),
        "{said}"
    );
}

#[test]
fn a_dry_run_says_what_it_would_take_and_leaves_nothing() {
    let cohort = cohort(300, 20, 4);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("r").display().to_string();
    let output = succeed(&run_arguments(&cohort, &out, &["--dry-run"]));
    let said = String::from_utf8(output.stdout).unwrap();
    for words in [
        "samples in the kernel",
        "phenotypes                  4",
        "tiles",
        "estimated time",
    ] {
        assert!(said.contains(words), "{words} not in\n{said}");
    }
    assert!(said.contains("about 4 for the phenotypes + 1\n"), "{said}");
    // Intervals take a pass more, and time.
    let more = run_arguments(&cohort, &out, &["--dry-run", "--intervals"]);
    let more = String::from_utf8(succeed(&more).stdout).unwrap();
    assert!(more.contains("about 4 for the phenotypes + 2\n"), "{more}");
    // The same for programs.
    let mut arguments = run_arguments(&cohort, &out, &["--json"]);
    arguments[0] = "plan";
    let plan: serde_json::Value = serde_json::from_slice(&succeed(&arguments).stdout).unwrap();
    assert_eq!(plan["phenotypes"], 4);
    let bytes = plan["kernel_bytes"].as_u64().unwrap();
    assert!(
        said.contains(&format!("bytes of tiles              {bytes}\n")),
        "{said}"
    );
    assert!(plan["seconds"]["kernel"].as_f64().unwrap() > 0.0);
    assert!(!Path::new(&out).exists());
}
