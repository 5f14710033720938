//! Predictions of samples held out of the fit.

use std::path::Path;

use ntkpipe_store::results::{Column, read_table, write_table};

use crate::support::{cohort, ntkpipe, run_arguments, succeed, table};

#[test]
fn held_out_samples_are_predicted_as_if_their_phenotypes_were_missing() {
    let cohort = cohort(400, 20, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let out = path("held_out");
    succeed(&run_arguments(&cohort, &out, &["--holdout", "0.25"]));
    let (held_out, ids) = table(&Path::new(&out).join("predictions_oof.parquet"));
    let names: Vec<&String> = held_out.keys().collect();
    let is_out = |row: usize| names.iter().any(|name| held_out[*name][row].is_finite());
    let out_ids: Vec<&String> = (0..ids["sample_id"].len())
        .filter(|&row| is_out(row))
        .map(|row| &ids["sample_id"][row])
        .collect();
    // A quarter, to the nearest sample, less those that lack a covariate.
    let quarter = 0.25 * ids["sample_id"].len() as f64;
    let n_out = out_ids.len() as f64;
    assert!(
        n_out <= quarter.round() && n_out >= 0.8 * quarter,
        "{n_out} {quarter}"
    );

    let mut phenotypes = read_table(Path::new(&cohort.phenotypes)).unwrap();
    let rows: Vec<bool> = match &phenotypes[0].1 {
        Column::Int(v) => v
            .iter()
            .map(|id| id.unwrap().to_string())
            .collect::<Vec<_>>(),
        Column::Text(v) => v.clone(),
        _ => unreachable!(),
    }
    .iter()
    .map(|id| out_ids.contains(&id))
    .collect();
    for (_, column) in &mut phenotypes {
        if let Column::Float(values) = column {
            for (value, _) in values.iter_mut().zip(&rows).filter(|(_, out)| **out) {
                *value = None;
            }
        }
    }
    let emptied = crate::support::Cohort {
        phenotypes: path("emptied.parquet"),
        ..cohort
    };
    write_table(Path::new(&emptied.phenotypes), &phenotypes).unwrap();
    let other = path("emptied");
    succeed(&run_arguments(&emptied, &other, &[]));
    let (expected, all) = table(&Path::new(&other).join("predictions.parquet"));
    for name in names {
        for (id, value) in ids["sample_id"].iter().zip(&held_out[name]) {
            let row = all["sample_id"].iter().position(|it| it == id).unwrap();
            if value.is_finite() {
                assert_eq!(
                    value.to_bits(),
                    expected[name][row].to_bits(),
                    "{name} of {id}"
                );
            }
        }
    }
}

#[test]
fn every_sample_is_held_out_once_and_r2_is_of_those() {
    let cohort = cohort(400, 20, 3);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("folds");
    let text = out.display().to_string();
    let plain = folder.path().join("plain").display().to_string();
    succeed(&run_arguments(&cohort, &text, &["--folds", "4"]));
    succeed(&run_arguments(&cohort, &plain, &[]));
    let (rows, texts) = table(&out.join("phenotypes.parquet"));
    let (without, _) = table(&Path::new(&plain).join("phenotypes.parquet"));
    for name in ["neg_log10_p", "t_hat", "in_sample_r2"] {
        let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            bits(&rows[name]),
            bits(&without[name]),
            "folds change {name}"
        );
    }
    assert!(without["out_of_sample_r2"].iter().all(|r2| r2.is_nan()));
    let (oof, ids) = table(&out.join("predictions_oof.parquet"));
    let (fitted, all) = table(&out.join("predictions.parquet"));
    let (observed, _) = table(Path::new(&cohort.phenotypes));
    let phenotype_ids: Vec<String> = match &read_table(Path::new(&cohort.phenotypes)).unwrap()[0].1
    {
        Column::Int(v) => v.iter().map(|id| id.unwrap().to_string()).collect(),
        Column::Text(v) => v.clone(),
        _ => unreachable!(),
    };
    for (i, name) in texts["phenotype"].iter().enumerate() {
        let mut pairs = Vec::new();
        for (id, predicted) in ids["sample_id"].iter().zip(&oof[name]) {
            let row = all["sample_id"].iter().position(|it| it == id).unwrap();
            assert_eq!(
                predicted.is_nan(),
                fitted[name][row].is_nan(),
                "{name} of {id}"
            );
            let row = phenotype_ids.iter().position(|it| it == id).unwrap();
            let value = observed[name][row];
            if value.is_finite() && predicted.is_finite() {
                pairs.push((value, *predicted));
            }
        }
        let mean = pairs.iter().map(|it| it.0).sum::<f64>() / pairs.len() as f64;
        let variation: f64 = pairs.iter().map(|it| (it.0 - mean).powi(2)).sum();
        let error: f64 = pairs.iter().map(|it| (it.0 - it.1).powi(2)).sum();
        let r2 = rows["out_of_sample_r2"][i];
        assert!(
            (r2 - (1.0 - error / variation)).abs() < 1e-9,
            "{name}: {r2}"
        );
        assert!(r2 < rows["in_sample_r2"][i], "{name}: {r2}");
    }
    assert!(!out.join("fold_weights.zarr").exists());
    let refused = ntkpipe()
        .args(run_arguments(&cohort, &text, &["--folds", "1"]))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
}
