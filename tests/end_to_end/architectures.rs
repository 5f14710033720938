//! Several architectures in one run, and the choice among them.

use std::path::Path;

use crate::support::{cohort, fail, results, run_arguments, succeed, table, text};

#[test]
fn each_architecture_is_as_if_run_alone_and_the_likeliest_is_chosen() {
    let cohort = cohort(600, 12, 6);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let out = text(&path("all"));
    let options = ["--depth", "1,3", "--activation", "relu,erf"];
    let arguments = run_arguments(&cohort, &out, &options);
    succeed(&arguments);

    // Each as if run alone at a quarter of the level.
    let names = ["erf-1", "erf-3", "relu-1", "relu-3"];
    for name in names {
        let (activation, depth) = name.split_once('-').unwrap();
        let alone = text(&path(name));
        let options = [
            "--activation",
            activation,
            "--depth",
            depth,
            "--alpha",
            "0.0125",
        ];
        succeed(&run_arguments(&cohort, &alone, &options));
        let part = path("all").join("architectures").join(name);
        assert!(results(&part) == results(&path(name)), "{name}");
    }

    // The choice is the largest likelihood of those warranted.
    let (chosen, words) = table(&path("all").join("phenotypes.parquet"));
    let (compared, which) = table(&path("all").join("architectures.parquet"));
    let mut n_warranted = 0;
    for (i, phenotype) in words["phenotype"].iter().enumerate() {
        let name = &words["architecture"][i];
        let rows =
            (0..which["phenotype"].len()).filter(|&row| &which["phenotype"][row] == phenotype);
        let warranted: Vec<usize> = rows
            .filter(|&row| which["training_warranted"][row].contains("true"))
            .collect();
        let Some(best) = warranted
            .iter()
            .copied()
            .max_by(|&a, &b| compared["reml_ratio"][a].total_cmp(&compared["reml_ratio"][b]))
        else {
            assert_eq!(words["status"][i], "not_warranted");
            continue;
        };
        n_warranted += 1;
        assert_eq!(&which["architecture"][best], name);
        assert_eq!(compared["reml_difference"][best], 0.0);
        assert_eq!(compared["t_hat"][best], chosen["t_hat"][i]);
        let p = compared["p_value"][best] * 4.0;
        assert!(
            (chosen["p_value"][i] - p.min(1.0)).abs() <= 1e-12 * p,
            "{phenotype}"
        );
    }
    assert!(n_warranted >= 3, "{n_warranted}");

    // The page of the choice has each phenotype under its architecture, with that one's curve, and leads to the others' pages.
    let page = std::fs::read_to_string(path("all").join("report.html")).unwrap();
    let data = page.split_once(r#"id="data">"#).unwrap().1;
    let data = data.split_once("</script>").unwrap().0;
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    for (i, name) in words["phenotype"].iter().enumerate() {
        let shown = &data["phenotypes"][i];
        assert_eq!(shown["name"], name.as_str());
        let row = page
            .split_once(&format!(r#"<th scope="row">{name}</th>"#))
            .unwrap()
            .1;
        let row = row.split_once("</tr>").unwrap().0;
        let architecture = &words["architecture"][i];
        assert!(row.contains(&format!("<td>{architecture}</td>")), "{row}");
        let Some(t_hat) = shown["t_hat"].as_f64() else {
            continue;
        };
        assert_eq!(t_hat, chosen["t_hat"][i]);
        // The curve's least value is at the time of the architecture chosen.
        let numbers = |key: &str| -> Vec<f64> {
            serde_json::from_value(shown["curve"][key].clone()).unwrap()
        };
        let (t, q) = (numbers("t"), numbers("q"));
        let least = (0..t.len()).min_by(|&a, &b| q[a].total_cmp(&q[b])).unwrap();
        assert!(
            (t[least] - t_hat).abs() <= t[1] - t[0],
            "{name}: {} {t_hat}",
            t[least]
        );
    }
    for name in names {
        assert!(
            page.contains(&format!(r#"href="architectures/{name}/report.html""#)),
            "{name}"
        );
        assert!(
            page.contains(&format!("reml_<wbr>difference_<wbr>{name}")),
            "{name}"
        );
    }
    assert!(path("all").join("ntkpipe_mqc.json").exists());

    // Predictions are those of the architecture chosen; the model predicts them again.
    let (predicted, ids) = table(&path("all").join("predictions.parquet"));
    let again = text(&path("again.parquet"));
    succeed(&[
        "predict",
        "--quiet",
        "--model",
        &text(&path("all").join("model")),
        "--features",
        &cohort.features,
        "--covariates",
        &cohort.covariates,
        "--out",
        &again,
    ]);
    let (again, again_ids) = table(Path::new(&again));
    assert_eq!(ids["sample_id"], again_ids["sample_id"]);
    for (i, phenotype) in words["phenotype"].iter().enumerate() {
        let (of_one, _) = table(&path(&words["architecture"][i]).join("predictions.parquet"));
        let same = |a: &[f64], b: &[f64]| format!("{a:?}") == format!("{b:?}");
        assert!(
            same(&of_one[phenotype], &predicted[phenotype]),
            "{phenotype}"
        );
        for (a, b) in predicted[phenotype].iter().zip(&again[phenotype]) {
            assert!(
                a.is_nan() && b.is_nan() || (a - b).abs() < 1e-3 * b.abs().max(1.0),
                "{a} {b}"
            );
        }
    }

    // Stage by stage it is the same; a part that is damaged is made again.
    let stages = text(&path("stages"));
    for stage in ["ingest", "kernel", "spectrum", "fit", "predict"] {
        let mut arguments = run_arguments(&cohort, &stages, &options);
        arguments[0] = stage;
        succeed(&arguments);
    }
    let of_parts = |run: &str| names.map(|it| results(&path(run).join("architectures").join(it)));
    assert!(of_parts("stages") == of_parts("all"));
    let tile = path("stages").join("architectures/erf-3/kernel.zarr/c/0/0");
    std::fs::remove_file(&tile).unwrap();
    succeed(&["run", "--quiet", "--out", &stages]);
    assert!(of_parts("stages") == of_parts("all"));
}

#[test]
fn architectures_are_given_once_and_in_words() {
    let cohort = cohort(60, 5, 1);
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("out"));
    let refuse = |options: &[&str], code: i32, words: &[&str]| {
        fail(&run_arguments(&cohort, &out, options), code, words);
    };
    refuse(&["--depth", "2,2"], 1, &["relu-2", "twice"]);
    refuse(&["--depth", "2,x"], 2, &["--depth", "`x`"]);
    refuse(
        &["--activation", "tanh"],
        2,
        &["--activation", "relu or erf"],
    );
    refuse(&["--depth", "2,99"], 1, &["depth is 99"]);
}
