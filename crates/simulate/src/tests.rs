use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_select::concat::concat_batches;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::proteome::Proteome;

fn small() -> SimulateOptions {
    SimulateOptions {
        samples: 300,
        features: 40,
        phenotypes: 7,
        seed: 11,
        ..SimulateOptions::default()
    }
}

fn quietly(options: &SimulateOptions, out_dir: &Path) -> CohortSummary {
    simulate(options, out_dir, &|_, _| {}).unwrap()
}

fn read(out_dir: &Path, name: &str) -> RecordBatch {
    let file = std::fs::File::open(out_dir.join(name)).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

fn eids(table: &RecordBatch) -> Vec<i64> {
    assert_eq!(table.schema().field(0).name(), "eid");
    table
        .column(0)
        .as_primitive::<Int64Type>()
        .values()
        .to_vec()
}

/// All people of a cohort as `simulate` draws them, with their signals.
fn regenerate(options: &SimulateOptions) -> (Cohort, Vec<person::Person>, Vec<Vec<f64>>) {
    let cohort = Cohort::draw(options);
    let slabs = Slab::cut(options);
    let moments = cohort.moments(&slabs, |_| {}).unwrap();
    let (mut people, mut signals) = (Vec::new(), Vec::new());
    for slab in &slabs {
        let rows = cohort.rows(slab, &moments);
        let g = cohort.signals(&rows.latent);
        signals.extend(g.chunks_exact(options.phenotypes).map(<[f64]>::to_vec));
        people.extend(rows.people);
    }
    (cohort, people, signals)
}

#[test]
fn bytes_depend_on_the_seed_but_not_on_threads() {
    let write = |options: &SimulateOptions, threads: usize| -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| quietly(options, dir.path()));
        [PROTEINS, PHENOTYPES, COVARIATES, TRUTH, COHORT]
            .map(|name| std::fs::read(dir.path().join(name)).unwrap())
            .into()
    };
    // Two slabs of the feature table, the second with a broken block.
    let options = SimulateOptions {
        samples: 4500,
        ..small()
    };
    let one = write(&options, 1);
    assert!(
        one == write(&options, 2),
        "two threads wrote other bytes than one"
    );
    let other = write(
        &SimulateOptions {
            seed: 12,
            ..options
        },
        2,
    );
    for (i, (a, b)) in one.iter().zip(&other).enumerate() {
        assert!(a != b, "file {i} does not depend on the seed");
    }
}

/// 5000 samples of 70 proteins.
fn wide() -> SimulateOptions {
    SimulateOptions {
        samples: 5000,
        features: 70,
        ..small()
    }
}

#[test]
fn progress_rises_to_both_passes_over_everyone() {
    let dir = tempfile::tempdir().unwrap();
    let options = wide();
    let steps = RefCell::new(Vec::new());
    simulate(&options, dir.path(), &|done, total| {
        steps.borrow_mut().push((done, total));
    })
    .unwrap();
    let steps = steps.into_inner();
    assert!(
        steps
            .windows(2)
            .all(|w| w[0].0 < w[1].0 && w[0].1 == w[1].1)
    );
    assert_eq!(steps.last().unwrap(), &(2 * 5025, 2 * 5025));

    let text = std::fs::read_to_string(dir.path().join(COHORT)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["options"]["seed"], 11);
    let back: SimulateOptions = serde_json::from_value(json["options"].clone()).unwrap();
    assert_eq!(back, options);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 5, "temporary files are left: {left:?}");
}

#[test]
fn tables_have_the_promised_columns_and_people() {
    let dir = tempfile::tempdir().unwrap();
    let summary = quietly(&wide(), dir.path());
    let file = std::fs::File::open(dir.path().join(PROTEINS)).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let rows: Vec<i64> = builder
        .metadata()
        .row_groups()
        .iter()
        .map(|g| g.num_rows())
        .collect();
    assert_eq!(rows, [4096, 904]);

    let proteins = read(dir.path(), PROTEINS);
    assert_eq!((proteins.num_rows(), proteins.num_columns()), (5000, 71));
    let schema = proteins.schema();
    assert_eq!(schema.field(1).name(), "cardio_0001");
    let names: HashSet<&String> = schema.fields().iter().map(|f| f.name()).collect();
    assert_eq!(names.len(), 71);
    assert!(
        schema.fields()[1..]
            .iter()
            .all(|f| f.data_type() == &DataType::Float32)
    );
    let in_features = eids(&proteins);
    let unique: HashSet<i64> = in_features.iter().copied().collect();
    assert_eq!(unique.len(), 5000);

    let mut in_all = unique.clone();
    for name in [PHENOTYPES, COVARIATES] {
        let table = read(dir.path(), name);
        let ids: HashSet<i64> = eids(&table).into_iter().collect();
        assert_eq!(ids.len(), table.num_rows());
        let lacking = unique.difference(&ids).count();
        let extra = ids.difference(&unique).count();
        assert!((5..=60).contains(&lacking), "{name} lacks {lacking}");
        assert!(
            (15..=25).contains(&extra),
            "{name} has {extra} extra people"
        );
        in_all.retain(|id| ids.contains(id));
    }
    assert_eq!(summary.feature_rows, 5000);
    assert_eq!(summary.shared_rows, in_all.len());

    let covariates = read(dir.path(), COVARIATES);
    assert_eq!(covariates.num_rows(), summary.covariate_rows);
    let names: Vec<_> = covariates
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    assert_eq!(names[..5], ["eid", "age", "sex", "batch", "pc1"]);
    assert_eq!(names.len(), 14);
    for (column, low, high) in [(1, 40, 70), (2, 0, 1), (3, 1, 7)] {
        let values: HashSet<i64> = covariates
            .column(column)
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .copied()
            .collect();
        assert_eq!(values, (low..=high).collect::<HashSet<i64>>());
    }

    let phenotypes = read(dir.path(), PHENOTYPES);
    assert_eq!(phenotypes.num_rows(), summary.phenotype_rows);
    assert_eq!(phenotypes.schema().field(7).name(), "trait_0007");
    assert!(
        phenotypes.schema().fields()[1..]
            .iter()
            .all(|f| f.data_type() == &DataType::Float64)
    );
}

#[test]
fn the_truth_names_kind_and_causal_proteins_of_each_phenotype() {
    let dir = tempfile::tempdir().unwrap();
    quietly(&wide(), dir.path());
    let schema = read(dir.path(), PROTEINS).schema();
    let truth = read(dir.path(), TRUTH);
    let mut kinds: HashMap<&str, usize> = HashMap::new();
    for row in 0..7 {
        let kind = truth.column(1).as_string::<i32>().value(row);
        *kinds.entry(kind).or_default() += 1;
        let share = truth.column(2).as_primitive::<Float64Type>().value(row);
        let causal = truth.column(5).as_string::<i32>().value(row);
        let causal: HashSet<&str> = causal.split(',').filter(|name| !name.is_empty()).collect();
        assert_eq!(
            causal.len() as i64,
            truth.column(3).as_primitive::<Int64Type>().value(row)
        );
        if kind == "noise" {
            assert_eq!((share, causal.len()), (0.0, 0));
        } else {
            assert!((0.02..=0.8).contains(&share));
            assert_eq!(causal.len(), 50);
            assert!(
                causal
                    .iter()
                    .all(|name| schema.field_with_name(name).is_ok())
            );
        }
    }
    let expected = [
        ("linear", 2),
        ("threshold", 2),
        ("interaction", 2),
        ("noise", 1),
    ];
    assert_eq!(kinds, HashMap::from(expected));
}

#[test]
fn proteins_explain_the_stated_share_of_each_phenotype() {
    let dir = tempfile::tempdir().unwrap();
    let options = SimulateOptions {
        samples: 6000,
        features: 120,
        phenotypes: 16,
        ..small()
    };
    quietly(&options, dir.path());
    let (cohort, people, signals) = regenerate(&options);
    let place: HashMap<i64, usize> = people.iter().enumerate().map(|(i, p)| (p.eid, i)).collect();
    let table = read(dir.path(), PHENOTYPES);
    let ids = eids(&table);
    for (k, phenotype) in cohort.phenotypes.iter().enumerate() {
        let column = table.column(k + 1).as_primitive::<Float64Type>();
        let (mut y, mut g) = (Vec::new(), Vec::new());
        for (row, id) in ids
            .iter()
            .enumerate()
            .filter(|&(row, _)| column.is_valid(row))
        {
            let person = place[id];
            let effect = phenotype.covariate_effect(&people[person].covariates());
            y.push(column.value(row) - effect);
            g.push(signals[person][k]);
        }
        let n = y.len() as f64;
        let (mean_y, var_y) = mean_and_variance(&y);
        let (mean_g, var_g) = mean_and_variance(&g);
        assert!(
            (var_y - 1.0).abs() < 0.2,
            "{}: variance {var_y}",
            phenotype.name
        );
        let share = phenotype.signal_share;
        if phenotype.kind == Kind::Noise {
            assert_eq!((share, var_g), (0.0, 0.0));
            continue;
        }
        let covariance: f64 = y
            .iter()
            .zip(&g)
            .map(|(y, g)| (y - mean_y) * (g - mean_g))
            .sum::<f64>()
            / n;
        let found = covariance * covariance / (var_y * var_g);
        // Delta method: sd of r² is at most about 2 √s (1 − s) √(1 + 2s) / √n; heavy tails of g add a little.
        let error = 2.0 * share.sqrt() * (1.0 - share) * (1.0 + 2.0 * share).sqrt() / n.sqrt();
        assert!(
            (found - share).abs() < 5.0 * error + 0.002,
            "{} ({:?}): proteins explain {found}, {share} stated, error {error}",
            phenotype.name,
            phenotype.kind
        );
    }
}

#[test]
fn phenotypes_miss_the_stated_shares() {
    let dir = tempfile::tempdir().unwrap();
    let options = SimulateOptions {
        samples: 3000,
        phenotypes: 20,
        masked_share: 0.6,
        ..small()
    };
    quietly(&options, dir.path());
    let (table, truth) = (read(dir.path(), PHENOTYPES), read(dir.path(), TRUTH));
    let mut masked = 0;
    for k in 0..20 {
        let rate = truth.column(4).as_primitive::<Float64Type>().value(k);
        let found = table.column(k + 1).null_count() as f64 / table.num_rows() as f64;
        assert!((found - rate).abs() < 5.0 * (rate * (1.0 - rate) / 3000.0).sqrt() + 1e-12);
        masked += usize::from(rate > 0.0);
        assert!(rate == 0.0 || (0.02..=0.4).contains(&rate));
    }
    assert_eq!(masked, 12);
}

#[test]
fn proteins_are_missing_by_panel_by_limit_and_here_and_there() {
    let dir = tempfile::tempdir().unwrap();
    let options = SimulateOptions {
        samples: 6000,
        features: 400,
        phenotypes: 1,
        ..small()
    };
    let summary = quietly(&options, dir.path());
    let table = read(dir.path(), PROTEINS);
    let (cohort, people, _) = regenerate(&options);
    let mut nulls = 0;
    let mut panel_missing = [0; 8];
    for (j, protein) in cohort.proteome.proteins.iter().enumerate() {
        let column = table.column(j + 1).as_primitive::<Float32Type>();
        assert!(column.values().iter().all(|x| x.is_finite()));
        nulls += column.null_count();
        let lacking = (0..6000)
            .filter(|&i| people[i].lacks_panel(protein.panel))
            .count();
        panel_missing[protein.panel] = lacking;
        let elsewhere = (0..6000)
            .filter(|&i| column.is_null(i) && !people[i].lacks_panel(protein.panel))
            .count() as f64
            / (6000 - lacking) as f64;
        assert!((0..6000).all(|i| column.is_null(i) || !people[i].lacks_panel(protein.panel)));
        if protein.detection.is_finite() {
            assert!(
                (0.17..0.44).contains(&elsewhere),
                "{}: {elsewhere}",
                protein.name
            );
        } else {
            assert!(
                (0.001..0.022).contains(&elsewhere),
                "{}: {elsewhere}",
                protein.name
            );
        }
    }
    let faint = cohort
        .proteome
        .proteins
        .iter()
        .filter(|p| p.detection.is_finite());
    assert_eq!(faint.count(), 8);
    for (found, rate) in panel_missing.iter().zip(&summary.panel_missing_rates) {
        assert!((0.06..0.12).contains(rate));
        let found = f64::from(*found as u32) / 6000.0;
        assert!(
            (found - rate).abs() < 5.0 * (rate / 6000.0).sqrt(),
            "{found} against {rate}"
        );
    }
    let share = nulls as f64 / (6000.0 * 400.0);
    assert_eq!(share, summary.feature_missing_share);
}

#[test]
fn correlation_eigenvalues_fall_about_as_a_power() {
    let (n, p) = (2000, 400);
    let dir = tempfile::tempdir().unwrap();
    let options = SimulateOptions {
        samples: n,
        features: p,
        phenotypes: 1,
        ..small()
    };
    quietly(&options, dir.path());
    let table = read(dir.path(), PROTEINS);
    // Standardised, a missing value at the mean, as the program reads features.
    let columns: Vec<Vec<f64>> = (0..p)
        .map(|j| {
            let column = table.column(j + 1).as_primitive::<Float32Type>();
            let present: Vec<f64> = column.iter().flatten().map(f64::from).collect();
            let (mean, variance) = mean_and_variance(&present);
            column
                .iter()
                .map(|x| x.map_or(0.0, |x| (f64::from(x) - mean) / variance.sqrt()))
                .collect()
        })
        .collect();
    let mut matrix = vec![vec![0.0; p]; p];
    for i in 0..p {
        for j in 0..=i {
            let dot: f64 = columns[i].iter().zip(&columns[j]).map(|(a, b)| a * b).sum();
            matrix[i][j] = dot / n as f64;
            matrix[j][i] = dot / n as f64;
        }
    }
    let eigenvalues = jacobi_eigenvalues(matrix);
    let points: Vec<(f64, f64)> = (2..=50)
        .map(|j| ((j as f64).ln(), eigenvalues[j - 1].ln()))
        .collect();
    let mean_x = points.iter().map(|q| q.0).sum::<f64>() / points.len() as f64;
    let mean_y = points.iter().map(|q| q.1).sum::<f64>() / points.len() as f64;
    let slope = points
        .iter()
        .map(|q| (q.0 - mean_x) * (q.1 - mean_y))
        .sum::<f64>()
        / points.iter().map(|q| (q.0 - mean_x).powi(2)).sum::<f64>();
    let leading = &eigenvalues[..5];
    assert!(
        (-1.2..=-0.6).contains(&slope),
        "slope {slope}, leading {leading:?}"
    );
    assert!(
        (20.0..100.0).contains(&eigenvalues[0]),
        "leading {leading:?}"
    );
}

#[test]
fn latent_values_are_standard_normal() {
    let options = SimulateOptions {
        features: 30,
        ..small()
    };
    let proteome = Proteome::draw(&options);
    let mut z = vec![0.0_f32; 64 * 30];
    let mut columns = vec![Vec::new(); 30];
    for block in 0..200 {
        proteome.latent(block, &mut z);
        for row in z.chunks_exact(30) {
            for (column, &z) in columns.iter_mut().zip(row) {
                column.push(f64::from(z));
            }
        }
    }
    for column in &columns {
        let (mean, variance) = mean_and_variance(column);
        assert!(
            mean.abs() < 0.05 && (variance - 1.0).abs() < 0.07,
            "{mean} {variance}"
        );
    }
}

#[test]
fn the_smallest_cohort_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let options = SimulateOptions {
        samples: 10,
        features: 2,
        phenotypes: 1,
        ..SimulateOptions::default()
    };
    let summary = quietly(&options, &dir.path().join("new").join("directory"));
    assert_eq!((summary.feature_rows, summary.panels), (10, 1));
}

#[test]
fn impossible_options_are_refused_before_anything_is_written() {
    type Change = fn(&mut SimulateOptions);
    let cases: [(Change, &str); 11] = [
        (|it| it.samples = 9, "at least 10 samples, 9 asked for"),
        (|it| it.features = 1, "at least 2 features"),
        (|it| it.phenotypes = 0, "at least 1 phenotypes"),
        (|it| it.causal_features = 1, "at least 2 causal features"),
        (|it| it.features = 40_000, "at most 32766 features"),
        (|it| it.samples = 8_990_000, "seven digits give 9000000"),
        (|it| it.samples = usize::MAX, "seven digits"),
        (
            |it| it.noise_phenotypes = Some(21),
            "at most 20 noise phenotypes",
        ),
        (|it| it.masked_share = 1.5, "`masked_share` is 1.5"),
        (|it| it.max_signal = f64::NAN, "`max_signal` is NaN"),
        (
            |it| it.min_missing = 0.5,
            "`min_missing` is 0.5, above `max_missing`",
        ),
    ];
    for (change, words) in cases {
        let mut options = SimulateOptions::default();
        change(&mut options);
        let dir = tempfile::tempdir().unwrap();
        let out_dir = dir.path().join("cohort");
        let error = simulate(&options, &out_dir, &|_, _| {}).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(words), "{message}");
        assert!(!out_dir.exists());
    }
}

#[test]
fn files_of_others_are_not_replaced_but_an_earlier_cohort_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(PHENOTYPES), "mine").unwrap();
    let error = simulate(&small(), dir.path(), &|_, _| {}).unwrap_err();
    assert!(matches!(error, SimulateError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read(dir.path().join(PHENOTYPES)).unwrap(), b"mine");

    std::fs::remove_file(dir.path().join(PHENOTYPES)).unwrap();
    quietly(&small(), dir.path());
    let wider = SimulateOptions {
        features: 41,
        ..small()
    };
    quietly(&wider, dir.path());
    assert_eq!(read(dir.path(), PROTEINS).num_columns(), 42);
}

fn mean_and_variance(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n)
}

/// Eigenvalues of a symmetric matrix, falling, by cyclic Jacobi rotations (Golub and Van Loan §8.5).
fn jacobi_eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    for _ in 0..6 {
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q].abs() < 1e-9 {
                    continue;
                }
                let tau = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
                let c = (1.0 + t * t).sqrt().recip();
                let s = t * c;
                let (above, below) = a.split_at_mut(q);
                for (x, y) in above[p].iter_mut().zip(below[0].iter_mut()) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
                for row in &mut a {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
            }
        }
    }
    let mut eigenvalues: Vec<f64> = (0..n).map(|i| a[i][i]).collect();
    eigenvalues.sort_by(|x, y| y.total_cmp(x));
    eigenvalues
}
