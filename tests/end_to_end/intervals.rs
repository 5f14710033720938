//! Standard deviations of predictions.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use faer::{Mat, Side};
use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::masks::Masks;
use ntkpipe_store::results::{Column, read_table, write_table};
use ntkpipe_store::tiled_kernel::{Access, TiledKernel};
use ntkpipe_store::zarr::ZarrArray;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use reml::KernelMatrix;
use serde_json::Value;

use crate::support::{Cohort, cohort, fail, run_arguments, succeed, table, text};

/// Seconds that each stage took, as `run.json` has them: those of a stage that is not run again stay what they were.
fn seconds(out: &Path) -> HashMap<String, f64> {
    let record = fs::read(out.join("run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let stages = record["stages"].as_object().unwrap().iter();
    stages
        .map(|(name, stage)| (name.clone(), stage["seconds"].as_f64().unwrap()))
        .collect()
}

/// A table of phenotypes without its last `n` rows, whose samples are then in the feature table alone.
fn without_last(cohort: Cohort, folder: &Path, n: usize) -> Cohort {
    let mut columns = read_table(Path::new(&cohort.phenotypes)).unwrap();
    for (_, column) in &mut columns {
        match column {
            Column::Float(v) => v.truncate(v.len() - n),
            Column::Int(v) => v.truncate(v.len() - n),
            Column::Text(v) => v.truncate(v.len() - n),
            _ => unreachable!(),
        }
    }
    let phenotypes = text(&folder.join("phenotypes.parquet"));
    write_table(Path::new(&phenotypes), &columns).unwrap();
    Cohort {
        phenotypes,
        ..cohort
    }
}

#[test]
fn deviations_go_with_predictions_and_only_they_are_made_when_asked_for_later() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = without_last(cohort(800, 30, 8), folder.path(), 90);
    let out = folder.path().join("out");
    let directory = text(&out);
    succeed(&run_arguments(&cohort, &directory, &[]));
    let sds = out.join("prediction_sd.parquet");
    assert!(!sds.exists());
    let before = seconds(&out);
    succeed(&run_arguments(&cohort, &directory, &["--intervals"]));
    let after = seconds(&out);
    for (stage, seconds) in &before {
        let is_later = ["predict", "report"].contains(&stage.as_str());
        assert_eq!(*seconds != after[stage], is_later, "{stage}");
    }
    let (sd, sd_ids) = table(&sds);
    let (predicted, ids) = table(&out.join("predictions.parquet"));
    assert_eq!(sd_ids, ids);
    let (rows, names) = table(&out.join("phenotypes.parquet"));
    let (observed, _) = table(Path::new(&cohort.phenotypes));
    let phenotype_ids: Vec<String> = match &read_table(Path::new(&cohort.phenotypes)).unwrap()[0].1
    {
        Column::Int(v) => v.iter().map(|id| id.unwrap().to_string()).collect(),
        Column::Text(v) => v.clone(),
        _ => unreachable!(),
    };
    let mut n_trained = 0;
    for (i, name) in names["phenotype"].iter().enumerate() {
        let nulls = |values: &[f64]| values.iter().map(|v| v.is_nan()).collect::<Vec<_>>();
        assert_eq!(nulls(&sd[name]), nulls(&predicted[name]), "{name}");
        let known = sd[name].iter().filter(|v| !v.is_nan());
        if names["status"][i] != "ok" {
            assert!(known.into_iter().all(|v| *v == 0.0), "{name}");
            continue;
        }
        n_trained += 1;
        assert!(known.into_iter().all(|v| *v > 0.0), "{name}");
        let on_mask = |row: &usize| {
            let id = &ids["sample_id"][*row];
            let place = phenotype_ids.iter().position(|it| it == id);
            place.is_some_and(|at| observed[name][at].is_finite()) && sd[name][*row].is_finite()
        };
        let squares: f64 = (0..sd[name].len())
            .filter(on_mask)
            .map(|row| sd[name][row].powi(2))
            .sum();
        let (edf, sigma2) = (rows["edf"][i], rows["sigma2"][i]);
        assert!(
            (squares / sigma2 / edf - 1.0).abs() < 1e-2,
            "{name}: {} of {edf}",
            squares / sigma2
        );
    }
    assert!(n_trained >= 3, "{:?}", names["status"]);

    // The stored model says the same of the samples that only the feature table has.
    let new = text(&folder.path().join("new.parquet"));
    succeed(&[
        "predict",
        "--quiet",
        "--model",
        &text(&out.join("model")),
        "--features",
        &cohort.features,
        "--covariates",
        &cohort.covariates,
        "--out",
        &new,
    ]);
    let (of_model, model_ids) = table(&folder.path().join("new_sd.parquet"));
    let (plain, _) = table(Path::new(&new));
    let mut compared = 0;
    for name in &names["phenotype"] {
        for (row, id) in model_ids["sample_id"].iter().enumerate() {
            assert_eq!(of_model[name][row].is_nan(), plain[name][row].is_nan());
            let place = ids["sample_id"].iter().position(|it| it == id).unwrap();
            let is_other = !phenotype_ids.contains(id);
            if is_other && sd[name][place].is_finite() {
                let off = of_model[name][row] - sd[name][place];
                assert!(off.abs() <= 1e-5 * sd[name][place], "{name} of {id}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared}");

    // Without the option nothing of it stays.
    succeed(&run_arguments(&cohort, &directory, &["--intervals=false"]));
    assert!(!sds.exists() && !out.join("model/training.parquet").exists());
}

/// Σ sd² / σ² over the samples of a fit is its edf, whatever network the kernel is of; a choice has the chosen one's deviations; and so
/// have their models.
#[test]
fn deviations_of_a_network_and_of_a_choice_are_those_of_their_kernels() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = without_last(cohort(800, 20, 4), folder.path(), 60);
    let path = |name: &str| folder.path().join(name);
    let network = text(&path("network.safetensors"));
    let init = [
        "network", "init", "--inputs", "20", "--widths", "60,40", "--out",
    ];
    succeed(&[&init[..], &[network.as_str()]].concat());
    let choices = [
        ("network", vec!["--network", network.as_str()]),
        ("choice", vec!["--depth", "1,3"]),
    ];
    for (run, mut options) in choices {
        options.extend(["--intervals", "--no-gate"]);
        let out = path(run);
        succeed(&run_arguments(&cohort, &text(&out), &options));
        let (sd, ids) = table(&out.join("prediction_sd.parquet"));
        let (rows, names) = table(&out.join("phenotypes.parquet"));
        let (observed, _) = table(Path::new(&cohort.phenotypes));
        let phenotype_ids = match &read_table(Path::new(&cohort.phenotypes)).unwrap()[0].1 {
            Column::Int(v) => v.iter().map(|id| id.unwrap().to_string()).collect(),
            Column::Text(v) => v.clone(),
            _ => unreachable!(),
        };
        let new = text(&path("new.parquet"));
        let model = text(&out.join("model"));
        let mut predict = vec!["predict", "--quiet", "--model", &model, "--out", &new];
        predict.extend([
            "--features",
            &cohort.features,
            "--covariates",
            &cohort.covariates,
        ]);
        succeed(&predict);
        let (again, _) = table(&path("new_sd.parquet"));
        let mut n_fitted = 0;
        for (i, name) in names["phenotype"].iter().enumerate() {
            if let Some(architecture) = names.get("architecture") {
                let of = out.join("architectures").join(&architecture[i]);
                let (chosen, _) = table(&of.join("prediction_sd.parquet"));
                let bits = |of: &HashMap<String, Vec<f64>>| -> Vec<u64> {
                    of[name].iter().map(|v| v.to_bits()).collect()
                };
                assert_eq!(bits(&sd), bits(&chosen), "{name}");
            }
            if names["status"][i] != "ok" {
                continue;
            }
            n_fitted += 1;
            let (mut squares, mut others) = (0.0, 0);
            for (row, id) in ids["sample_id"].iter().enumerate() {
                let place = phenotype_ids.iter().position(|it: &String| it == id);
                match (place, sd[name][row]) {
                    (_, sd) if sd.is_nan() => {}
                    (Some(at), sd) if observed[name][at].is_finite() => squares += sd * sd,
                    (Some(_), _) => {}
                    (None, sd) => {
                        assert!((again[name][row] / sd - 1.0).abs() < 1e-5, "{name} of {id}");
                        others += 1;
                    }
                }
            }
            let edf = squares / rows["sigma2"][i];
            assert!(
                (edf / rows["edf"][i] - 1.0).abs() < 1e-2,
                "{run} {name}: {edf}"
            );
            assert!(others > 40, "{others}");
        }
        assert!(n_fitted >= 2, "{run}: {:?}", names["status"]);
    }
}

/// A sample whose dual weight is 0 is one of those that the phenotype was analysed on all the same.
#[test]
fn a_model_keeps_its_masks_and_does_not_guess_them_from_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = without_last(cohort(300, 15, 4), folder.path(), 40);
    let path = |name: &str| folder.path().join(name);
    let out = path("out");
    let options = ["--intervals", "--no-gate"];
    succeed(&run_arguments(&cohort, &text(&out), &options));
    let (model, new) = (out.join("model"), text(&path("new.parquet")));
    let of_model = text(&model);
    let mut predict = vec!["predict", "--quiet", "--model", &of_model, "--out", &new];
    predict.extend(["--features", &cohort.features]);
    predict.extend(["--covariates", &cohort.covariates]);
    let deviations = || {
        succeed(&predict);
        fs::read(path("new_sd.parquet")).unwrap()
    };
    let expected = deviations();

    let read_record = || -> Value {
        serde_json::from_slice(&fs::read(model.join("model.json")).unwrap()).unwrap()
    };
    let record = read_record();
    let n = record["n_samples"].as_u64().unwrap() as usize;
    let masks = Masks::open(&model.join("masks.zarr"), n).unwrap().unwrap();
    let dual = ZarrArray::<f32>::open(model.join("dual.zarr")).unwrap();
    let (rows, _) = table(&out.join("phenotypes.parquet"));
    let mut used = Vec::new();
    for (i, phenotype) in record["phenotypes"].as_array().unwrap().iter().enumerate() {
        let row = phenotype["mask"].as_u64().unwrap() as usize;
        let mask = masks.read(row).unwrap();
        let n_in = mask.iter().filter(|&&is_in| is_in).count();
        assert_eq!(n_in as f64, rows["n_samples"][i]);
        if phenotype["trained"] == true {
            let mut weights = dual.read_rows(i..i + 1).unwrap();
            assert!(
                weights
                    .iter()
                    .zip(&mask)
                    .all(|(w, is_in)| *is_in || *w == 0.0)
            );
            let inside = (0..n).filter(|&sample| mask[sample]);
            for sample in inside.step_by(9) {
                weights[sample] = 0.0;
            }
            dual.write_chunk(i, 0, &weights).unwrap();
            used.extend(phenotype["t_stop"].as_f64().map(|_| row));
        }
    }
    assert!(deviations() == expected);

    // A lost mask is named, and the run makes it again.
    assert!(used.len() >= 2, "{used:?}");
    let lost = masks.path_of(used[0]);
    fs::remove_file(&lost).unwrap();
    let words = ["masks.zarr/c/", "is missing", "ntkpipe run --out"];
    fail(&predict, 1, &words);
    succeed(&run_arguments(&cohort, &text(&out), &options));
    assert!(lost.exists());

    // A model of an earlier version, which kept no masks, is refused before anything is written.
    fs::remove_file(&new).unwrap();
    let mut record = read_record();
    for phenotype in record["phenotypes"].as_array_mut().unwrap() {
        assert!(phenotype.as_object_mut().unwrap().remove("mask").is_some());
    }
    fs::write(model.join("model.json"), record.to_string()).unwrap();
    let words = [
        "does not say which samples `trait_",
        "ntkpipe run --out DIR",
    ];
    fail(&predict, 1, &words);
    assert!(!Path::new(&new).exists());
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// The model itself on one mask, decomposed: what draws of u need.
struct Prior {
    inside: Vec<usize>,
    outside: Vec<usize>,
    lambda: Vec<f64>,
    u: Mat<f64>,
    /// U'w of each sample outside, and κ.
    w: Mat<f64>,
    kappa: Vec<f64>,
}

impl Prior {
    /// With an intercept alone.
    fn new(k: &Mat<f32>, mask: &[bool]) -> Self {
        let pick = |wanted: bool| (0..mask.len()).filter(|&i| mask[i] == wanted).collect();
        let (inside, outside): (Vec<usize>, Vec<usize>) = (pick(true), pick(false));
        let n = inside.len();
        let at = |i: usize, j: usize| f64::from(k[(i, j)]);
        let mean_of = |x: usize| inside.iter().map(|&i| at(i, x)).sum::<f64>() / n as f64;
        let means: Vec<f64> = (0..mask.len()).map(mean_of).collect();
        let mean = inside.iter().map(|&i| means[i]).sum::<f64>() / n as f64;
        let centred = |i: usize, x: usize| (at(i, x) - means[i] - means[x] + mean) / n as f64;
        let a = Mat::from_fn(n, n, |i, j| centred(inside[i], inside[j]));
        let eigen = a.self_adjoint_eigen(Side::Lower).unwrap();
        let values = eigen.S().column_vector();
        // The smallest is that of the intercept.
        let lambda = (1..n).map(|j| values[j].max(1e-12)).collect();
        let u = eigen.U().subcols(1, n - 1).to_owned();
        let w = Mat::from_fn(n, outside.len(), |i, x| centred(inside[i], outside[x]));
        Self {
            w: u.transpose() * w,
            kappa: outside.iter().map(|&x| centred(x, x)).collect(),
            inside,
            outside,
            lambda,
            u,
        }
    }

    /// u of every sample for σ² = 1.
    fn draw(&self, t: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let z: Vec<f64> = self
            .lambda
            .iter()
            .map(|l| (t * l).exp_m1().sqrt() * normal(rng))
            .collect();
        let mut drawn = vec![0.0; self.inside.len() + self.outside.len()];
        for (i, &sample) in self.inside.iter().enumerate() {
            drawn[sample] = (0..z.len()).map(|j| self.u[(i, j)] * z[j]).sum();
        }
        for (x, &sample) in self.outside.iter().enumerate() {
            let known = |j: usize| self.w[(j, x)] / self.lambda[j];
            let mean: f64 = (0..z.len()).map(|j| known(j) * z[j]).sum();
            let spread: f64 = (0..z.len()).map(|j| known(j) * self.w[(j, x)]).sum();
            let beyond = (t * (self.kappa[x] - spread)).max(0.0);
            drawn[sample] = mean + beyond.sqrt() * normal(rng);
        }
        drawn
    }
}

/// Prints how often 95 % intervals hold the truth: draws of the model itself, and functions of the features.
#[test]
#[ignore = "about a minute"]
fn coverage() {
    const DRAWS: usize = 50;
    let folder = tempfile::tempdir().unwrap();
    let Cohort {
        features,
        phenotypes,
        _folder,
        ..
    } = cohort(1000, 200, 2);
    let first = folder.path().join("first");
    let arguments = |phenotypes: &str, out: &Path, command: &str| -> Vec<String> {
        let words = [
            command,
            "--quiet",
            "--features",
            &features,
            "--phenotypes",
            phenotypes,
            "--out",
            &text(out),
        ];
        words.map(str::to_owned).to_vec()
    };
    let go = |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        succeed(&arguments);
    };
    go(&arguments(&phenotypes, &first, "run"));
    let (_, ids) = table(&first.join("samples.parquet"));
    let in_kernel = ids["in_kernel"]
        .iter()
        .filter(|it| it.contains("true"))
        .count();
    let ids = &ids["sample_id"][..in_kernel];
    let kernel = TiledKernel::open(&first.join("kernel.zarr"), Access::Map).unwrap();
    let everyone: Vec<usize> = (0..kernel.n_samples()).collect();
    let k = kernel.submatrix(&everyone).unwrap();
    let n = everyone.len();
    let x: Vec<f64> = match FeatureArray::open(&first).unwrap() {
        FeatureArray::F32(array) => {
            let values = array.read_rows(0..n).unwrap();
            values.into_iter().map(f64::from).collect()
        }
        FeatureArray::F64(array) => array.read_rows(0..n).unwrap(),
    };
    let p = x.len() / n;
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mask: Vec<bool> = (0..n).map(|_| !rng.random_bool(0.2)).collect();
    let prior = Prior::new(&k, &mask);
    let largest = prior.lambda.iter().copied().fold(0.0, f64::max);

    let mut truths: Vec<(String, Vec<f64>, f64)> = Vec::new();
    for product in [1.0, 4.0, 16.0] {
        for _ in 0..DRAWS {
            let u = prior.draw(product / largest, &mut rng);
            truths.push((format!("the model, t λ₁ = {product}"), u, 1.0));
        }
    }
    type Shape = fn(f64) -> f64;
    let shapes: [(&str, Shape); 3] = [
        ("linear", |s| s),
        ("sin(2 s)", |s| (2.0 * s).sin()),
        ("step at 1", |s| f64::from(u8::from(s > 1.0))),
    ];
    for (name, shape) in shapes {
        for (n_causal, share) in [(20, 0.2_f64), (20, 0.5), (200, 0.5)] {
            for _ in 0..DRAWS {
                let mut slopes = vec![0.0; p];
                for _ in 0..n_causal {
                    slopes[rng.random_range(0..p)] += normal(&mut rng);
                }
                let scores: Vec<f64> = x
                    .chunks(p)
                    .map(|row| row.iter().zip(&slopes).map(|(x, s)| x * s).sum())
                    .collect();
                let standard = |values: &[f64]| -> Vec<f64> {
                    let mean = values.iter().sum::<f64>() / n as f64;
                    let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
                    let sd = (square / n as f64).sqrt();
                    values.iter().map(|v| (v - mean) / sd).collect()
                };
                let shaped: Vec<f64> = standard(&scores).into_iter().map(shape).collect();
                let signal = standard(&shaped)
                    .into_iter()
                    .map(|v| v * share.sqrt())
                    .collect();
                truths.push((
                    format!("{name}, {n_causal} proteins, share {share}"),
                    signal,
                    1.0 - share,
                ));
            }
        }
    }
    let mut columns = vec![("eid".to_owned(), Column::Text(ids.to_vec()))];
    let mut complete = Vec::new();
    for (at, (_, truth, noise)) in truths.iter().enumerate() {
        let y: Vec<f64> = truth
            .iter()
            .map(|v| v + noise.sqrt() * normal(&mut rng))
            .collect();
        let seen = y.iter().zip(&mask).map(|(v, is_in)| is_in.then_some(*v));
        columns.push((format!("p{at}"), Column::Float(seen.collect())));
        complete.push(y);
    }
    let drawn = text(&folder.path().join("drawn.parquet"));
    write_table(Path::new(&drawn), &columns).unwrap();
    let second = folder.path().join("second");
    let mut with = arguments(&drawn, &second, "run");
    with.extend(["--intervals", "--no-gate"].map(str::to_owned));
    go(&with);
    let (predicted, order) = table(&second.join("predictions.parquet"));
    let (sd, _) = table(&second.join("prediction_sd.parquet"));
    let (rows, _) = table(&second.join("phenotypes.parquet"));
    let place: HashMap<&String, usize> = order["sample_id"]
        .iter()
        .enumerate()
        .map(|(i, id)| (id, i))
        .collect();

    println!(
        "| truth | signal in the fit | signal of others | new observation | t_hat λ₁, median | at zero |"
    );
    println!("|---|---|---|---|---|---|");
    for setting in truths.chunks(DRAWS).enumerate() {
        let (group, truths) = setting;
        let (mut held, mut times, mut at_zero) = ([(0, 0); 3], Vec::new(), 0);
        for (draw, (_, truth, _)) in truths.iter().enumerate() {
            let at = group * DRAWS + draw;
            let name = format!("p{at}");
            let (t, sigma2) = (rows["t_hat"][at], rows["sigma2"][at]);
            times.push(t * largest);
            if t.is_nan() || t <= 0.0 {
                at_zero += 1;
                continue;
            }
            for (sample, id) in ids.iter().enumerate() {
                let row = place[id];
                let (mean, sd) = (predicted[&name][row], sd[&name][row]);
                let mut count = |which: usize, off: f64, sd: f64| {
                    held[which].0 += usize::from(off.abs() <= 1.959_964 * sd);
                    held[which].1 += 1;
                };
                let off = mean - truth[sample];
                count(usize::from(!mask[sample]), off, sd);
                if !mask[sample] {
                    let off = mean - complete[at][sample];
                    count(2, off, (sd * sd + sigma2).sqrt());
                }
            }
        }
        times.sort_by(f64::total_cmp);
        let percent = held.map(|(held, of)| 100.0 * held as f64 / of as f64);
        println!(
            "| {} | {:.1} % | {:.1} % | {:.1} % | {:.2} | {at_zero} of {DRAWS} |",
            truths[0].0,
            percent[0],
            percent[1],
            percent[2],
            times[DRAWS / 2]
        );
        if group < 3 {
            for (what, percent) in ["in the fit", "others", "observations"].iter().zip(percent) {
                assert!(
                    (percent - 95.0).abs() < 3.0,
                    "{}: {what}: {percent} %",
                    truths[0].0
                );
            }
        }
    }
}
