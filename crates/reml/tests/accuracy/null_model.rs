//! Null models beside their definitions: all pairs of samples, ties, late entry, separation, units.

use crate::outcome::{at_risk, covariates, disease, efron, event_times, normal, predictor, times};
use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reml::null_model::{NullModel, Unfitted, cox, logistic};
use reml::risk_sets::{InvalidTimes, SurvivalTimes};

fn coefficients(model: &NullModel) -> Vec<f64> {
    let intercept = model.intercept.iter().map(|term| term.coefficient);
    let terms = model.terms.iter().map(|term| term.coefficient);
    intercept.chain(terms).collect()
}

/// Z₁ or Z, by whether there is an intercept.
fn design(z: MatRef<'_, f64>, intercept: bool) -> Mat<f64> {
    let first = usize::from(intercept);
    Mat::from_fn(z.nrows(), z.ncols() + first, |i, j| match j >= first {
        true => z[(i, j - first)],
        false => 1.0,
    })
}

/// Checks that the residual is that of `mean` and orthogonal to the covariates, and that standard errors are those of the score's slope by differences.
fn assert_maximum(
    model: &NullModel,
    z: MatRef<'_, f64>,
    outcome: &[f64],
    mean: impl Fn(&[f64]) -> Vec<f64>,
) {
    let x = design(z, model.intercept.is_some());
    let b = coefficients(model);
    let at = |b: &[f64]| -> Vec<f64> {
        let eta: Vec<f64> = (0..x.nrows())
            .map(|i| (0..x.ncols()).map(|j| x[(i, j)] * b[j]).sum())
            .collect();
        let pairs = outcome.iter().zip(mean(&eta));
        pairs.map(|(y, mean)| y - mean).collect()
    };
    let score = |b: &[f64]| -> Vec<f64> {
        let r = at(b);
        let along = |j: usize| (0..r.len()).map(|i| x[(i, j)] * r[i]).sum();
        (0..x.ncols()).map(along).collect()
    };
    for (got, want) in model.residual.iter().zip(at(&b)) {
        assert!((got - want).abs() < 1e-9, "{got} {want}");
    }
    for (j, slope) in score(&b).into_iter().enumerate() {
        let size: f64 = (0..x.nrows()).map(|i| x[(i, j)].abs()).sum();
        assert!(slope.abs() < 1e-9 * size, "{j}: {slope}");
    }
    let information = {
        let mut information = Mat::<f64>::zeros(b.len(), b.len());
        for j in 0..b.len() {
            let spread = (0..x.nrows()).map(|i| x[(i, j)].abs()).fold(0.0, f64::max);
            let gap = 1e-5 / spread;
            let moved = |by: f64| {
                let mut moved = b.clone();
                moved[j] += by;
                score(&moved)
            };
            let (up, down) = (moved(gap), moved(-gap));
            for i in 0..b.len() {
                information[(i, j)] = (down[i] - up[i]) / (2.0 * gap);
            }
        }
        information
    };
    let variances = information
        .partial_piv_lu()
        .solve(Mat::<f64>::identity(b.len(), b.len()));
    let errors = model.intercept.iter().chain(&model.terms);
    for (j, term) in errors.enumerate() {
        let (got, want) = (
            term.standard_error.expect("independent"),
            variances[(j, j)].sqrt(),
        );
        assert!((got - want).abs() < 1e-5 * want, "{j}: {got} {want}");
    }
}

fn numbers(flags: &[bool]) -> Vec<f64> {
    flags.iter().map(|it| f64::from(u8::from(*it))).collect()
}

#[test]
fn a_logistic_fit_is_where_the_score_vanishes() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (n, q, intercept) in [(400, 3, 0.0), (300, 0, -1.0), (900, 6, -3.5)] {
        let z = covariates(&mut rng, n, q);
        let is_case = disease(&mut rng, &predictor(z.as_ref()), intercept);
        let model = logistic(&is_case, z.as_ref())
            .expect("valid")
            .expect("fitted");
        let mean = |eta: f64| 1.0 / (1.0 + (-eta).exp());
        assert_maximum(&model, z.as_ref(), &numbers(&is_case), |eta| {
            eta.iter().map(|eta| mean(*eta)).collect()
        });
        let mut value = 0.0;
        for (i, eta) in model.linear_predictor.iter().enumerate() {
            let mu = mean(*eta);
            value += if is_case[i] { mu.ln() } else { (1.0 - mu).ln() };
            assert!((model.variance[i] - mu * (1.0 - mu)).abs() < 1e-12);
        }
        assert!((model.log_likelihood - value).abs() < 1e-9 * value.abs());
        assert_eq!(model.n_separated(), 0);
    }
}

#[test]
fn a_cox_fit_is_where_the_score_vanishes() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for (n, q, step, is_late) in [
        (300, 3, 1e-6, false),
        (300, 2, 1.0, false),
        (250, 0, 0.5, true),
        (300, 4, 1e-6, true),
        (300, 3, 2.0, true),
    ] {
        let z = covariates(&mut rng, n, q);
        let times = times(&mut rng, &predictor(z.as_ref()), step, is_late);
        let model = cox(&times, z.as_ref()).expect("valid").expect("fitted");
        assert_maximum(&model, z.as_ref(), &numbers(times.event()), |eta| {
            efron(&times, eta).1
        });
        let (value, hazard) = efron(&times, &model.linear_predictor);
        assert!((model.log_likelihood - value).abs() < 1e-9 * value.abs());
        for (got, want) in model.variance.iter().zip(hazard) {
            assert!((got - want).abs() < 1e-9);
        }
    }
}

/// R's `coxph` of the test data of its own package (Therneau and Grambsch 2000, appendix E), by hand: with r = exp(β) the score 2 − r/(r+1) − r/(r+3) − r/(r+5)
/// vanishes.
#[test]
fn tied_events_are_those_of_the_textbook() {
    let times = vec![9.0, 1.0, 1.0, 6.0, 6.0, 8.0];
    let event = vec![true, true, false, true, true, false];
    let times = SurvivalTimes::new(times, event, None).expect("valid");
    let x = [0.0, 1.0, 1.0, 1.0, 0.0, 0.0];
    let z = Mat::from_fn(6, 1, |i, _| x[i]);
    let model = cox(&times, z.as_ref()).expect("valid").expect("fitted");
    let beta = model.terms[0].coefficient;
    assert!((beta - 1.676_857).abs() < 1e-6, "{beta}");
    let r = beta.exp();
    let value = 2.0 * beta - (3.0 * r + 3.0).ln() - (r + 3.0).ln() - (0.5 * (r + 5.0)).ln();
    assert!((model.log_likelihood - value).abs() < 1e-12);
    let (first, second, tied) = (1.0 / (3.0 * r + 3.0), 1.0 / (r + 3.0), 1.0 / (r + 5.0));
    let want = [
        1.0 - (first + second + 2.0 * tied + 1.0),
        1.0 - r * first,
        -r * first,
        1.0 - r * (first + second + tied),
        1.0 - (first + second + tied),
        -(first + second + 2.0 * tied),
    ];
    for (got, want) in model.residual.iter().zip(want) {
        assert!((got - want).abs() < 1e-12, "{got} {want}");
    }
}

#[test]
fn statuses_and_what_is_not_valid() {
    let z = Mat::from_fn(4, 1, |i, _| [0.0, 1.0, 0.5, 3.0][i]);
    let status = |is_case: [bool; 4]| logistic(&is_case, z.as_ref()).expect("valid").err();
    assert_eq!(status([false; 4]), Some(Unfitted::NoCases));
    assert_eq!(status([true; 4]), Some(Unfitted::NoControls));
    assert_eq!(
        status([true, false, true, false]),
        Some(Unfitted::Separated)
    );
    assert!(logistic(&[true], z.as_ref()).is_err());
    let holed = Mat::from_fn(4, 1, |i, _| if i == 2 { f64::NAN } else { 0.0 });
    let said = logistic(&[true; 4], holed.as_ref())
        .expect_err("a hole")
        .to_string();
    assert_eq!(said, "covariate 0 of sample 2 is not finite");
    let times = |time: [f64; 2], entry: Option<[f64; 2]>| {
        SurvivalTimes::new(time.to_vec(), vec![false; 2], entry.map(|it| it.to_vec()))
    };
    let none = times([1.0, 2.0], None).expect("valid");
    let z = Mat::zeros(2, 0);
    assert_eq!(
        cox(&none, z.as_ref()).expect("valid").err(),
        Some(Unfitted::NoEvents)
    );
    assert!(matches!(
        times([1.0, -2.0], None),
        Err(InvalidTimes::Time { sample: 1, .. })
    ));
    assert!(matches!(
        times([f64::NAN, 2.0], None),
        Err(InvalidTimes::Time { sample: 0, .. })
    ));
    let late = times([1.0, 2.0], Some([0.0, 2.0]));
    assert!(matches!(late, Err(InvalidTimes::Entry { sample: 1, .. })));
    let short = SurvivalTimes::new(vec![1.0], vec![], None);
    assert!(matches!(short, Err(InvalidTimes::Lengths { .. })));
}

/// Samples with a covariate that only some have, none of whom is a case, and columns that others determine.
#[test]
fn what_the_covariates_tell_is_left_out_of_a_logistic_fit() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let n = 500;
    let z = covariates(&mut rng, n, 3);
    let mut is_case = disease(&mut rng, &predictor(z.as_ref()), -1.0);
    for i in 0..n {
        is_case[i] &= z[(i, 1)] == 0.0;
    }
    let model = logistic(&is_case, z.as_ref())
        .expect("valid")
        .expect("fitted");
    let rest: Vec<usize> = (0..n).filter(|&i| z[(i, 1)] == 0.0).collect();
    let of_rest = Mat::from_fn(rest.len(), 2, |i, j| z[(rest[i], 2 * j)]);
    let cases: Vec<bool> = rest.iter().map(|&i| is_case[i]).collect();
    let alone = logistic(&cases, of_rest.as_ref())
        .expect("valid")
        .expect("fitted");
    assert_eq!(model.n_separated(), n - rest.len());
    for (k, &i) in rest.iter().enumerate() {
        assert!((model.residual[i] - alone.residual[k]).abs() < 1e-12);
    }
    assert!((model.log_likelihood - alone.log_likelihood).abs() < 1e-9);
    assert_eq!(model.terms[1].standard_error, None);
    assert!((model.terms[2].coefficient - alone.terms[1].coefficient).abs() < 1e-10);
    let eta = model.predict(z.as_ref());
    for i in 0..n {
        if z[(i, 1)] == 1.0 {
            assert!(model.is_separated[i] && model.residual[i] == 0.0 && model.variance[i] == 0.0);
            assert!(model.linear_predictor[i] == f64::NEG_INFINITY && eta[i] < -30.0);
        } else {
            assert!((eta[i] - model.linear_predictor[i]).abs() < 1e-9);
        }
    }
    // An outcome that is a covariate itself.
    let same = Mat::from_fn(n, 2, |i, j| [z[(i, 0)], f64::from(u8::from(is_case[i]))][j]);
    let status = logistic(&is_case, same.as_ref()).expect("valid").err();
    assert_eq!(status, Some(Unfitted::Separated));
    // The third is a sum of the others, the fourth does not vary.
    let twice = Mat::from_fn(n, 4, |i, j| match j {
        2 => z[(i, 0)] - 3.0 * z[(i, 2)],
        3 => 7.0,
        j => z[(i, 2 * j)],
    });
    let is_case = disease(&mut rng, &predictor(z.as_ref()), -1.0);
    let model = logistic(&is_case, twice.as_ref())
        .expect("valid")
        .expect("fitted");
    let two = logistic(&is_case, twice.subcols(0, 2))
        .expect("valid")
        .expect("fitted");
    for j in 0..2 {
        assert!((model.terms[j].coefficient - two.terms[j].coefficient).abs() < 1e-9);
    }
    assert!(
        model.terms[2..]
            .iter()
            .all(|it| it.standard_error.is_none() && it.coefficient == 0.0)
    );
}

/// Of rows with whole numbers, those that some direction of {b : G b ≥ 0} makes positive: in two and three dimensions each edge of the cone is orthogonal to all but one of the
/// dimensions' rows.
fn separable(rows: &[Vec<i64>]) -> Vec<bool> {
    let dot = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<i64>();
    let mut candidates: Vec<Vec<i64>> = Vec::new();
    for g in rows {
        match g[..] {
            [a, b] => candidates.extend([vec![b, -a], g.clone()]),
            [a, b, c] => candidates.extend(rows.iter().map(|h| {
                vec![
                    b * h[2] - c * h[1],
                    c * h[0] - a * h[2],
                    a * h[1] - b * h[0],
                ]
            })),
            _ => unreachable!(),
        }
    }
    let negative: Vec<Vec<i64>> = candidates
        .iter()
        .map(|b| b.iter().map(|x| -x).collect())
        .collect();
    candidates.extend(negative);
    candidates.retain(|b| rows.iter().all(|g| dot(g, b) >= 0));
    rows.iter()
        .map(|g| candidates.iter().any(|b| dot(g, b) > 0))
        .collect()
}

fn rank_is_three(rows: &[Vec<i64>]) -> bool {
    let determinant = |a: &[i64], b: &[i64], c: &[i64]| {
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
            + a[2] * (b[0] * c[1] - b[1] * c[0])
    };
    rows.iter().any(|a| {
        rows.iter()
            .any(|b| rows.iter().any(|c| determinant(a, b, c) != 0))
    })
}

#[test]
fn separation_of_a_disease_is_what_whole_numbers_say() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut seen = [0; 3];
    for _ in 0..3000 {
        let n = rng.random_range(4..13);
        let top = rng.random_range(1..4);
        let z: Vec<[i64; 2]> = (0..n)
            .map(|_| [0, 0].map(|_: i64| rng.random_range(0..=top)))
            .collect();
        let is_case: Vec<bool> = (0..n).map(|_| rng.random_bool(0.4)).collect();
        let rows: Vec<Vec<i64>> = z
            .iter()
            .zip(&is_case)
            .map(|(z, y)| [1, z[0], z[1]].map(|x| if *y { x } else { -x }).to_vec())
            .collect();
        if !rank_is_three(&rows) || !is_case.contains(&true) || !is_case.contains(&false) {
            continue;
        }
        let want = separable(&rows);
        let covariates = Mat::from_fn(n, 2, |i, j| z[i][j] as f64);
        let fit = logistic(&is_case, covariates.as_ref()).expect("valid");
        let mut live = is_case
            .iter()
            .zip(&want)
            .filter(|(_, it)| !**it)
            .map(|(y, _)| *y);
        let first = live.next();
        if first.is_none_or(|first| live.all(|y| y == first)) {
            seen[0] += 1;
            assert_eq!(fit.err(), Some(Unfitted::Separated), "{z:?} {is_case:?}");
        } else {
            seen[if want.contains(&true) { 1 } else { 2 }] += 1;
            let model = fit.unwrap_or_else(|why| panic!("{why:?}: {z:?} {is_case:?}"));
            assert_eq!(model.is_separated, want, "{z:?} {is_case:?}");
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

/// The samples that are left by the rule of the definition, over all pairs: `None` where nothing is.
fn left_of_times(times: &SurvivalTimes, z: &[[i64; 2]]) -> Option<Vec<bool>> {
    let n = z.len();
    let mut live = vec![true; n];
    loop {
        let mut pairs = Vec::new();
        for i in (0..n).filter(|&i| times.event()[i] && live[i]) {
            let tau = times.time()[i];
            pairs.extend(
                (0..n)
                    .filter(|&j| live[j] && at_risk(times, j, tau))
                    .map(|j| (i, j)),
            );
        }
        let rows: Vec<Vec<i64>> = pairs
            .iter()
            .map(|&(i, j)| vec![z[i][0] - z[j][0], z[i][1] - z[j][1]])
            .collect();
        let positive = separable(&rows);
        if !positive.contains(&true) {
            return Some(live);
        }
        let (mut kept, mut seen) = (vec![false; n], vec![false; n]);
        for (&(_, j), positive) in pairs.iter().zip(positive) {
            seen[j] = true;
            kept[j] |= !positive;
        }
        let gone: Vec<usize> = (0..n).filter(|&j| seen[j] && !kept[j]).collect();
        if gone.is_empty() || kept.iter().filter(|it| **it).count() <= 1 {
            return None;
        }
        gone.into_iter().for_each(|j| live[j] = false);
    }
}

#[test]
fn separation_of_a_time_to_event_is_what_whole_numbers_say() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut seen = [0; 3];
    let mut bad = Vec::new();
    for _ in 0..3000 {
        let n = rng.random_range(4..12);
        let top = rng.random_range(1..4);
        let z: Vec<[i64; 2]> = (0..n)
            .map(|_| [0, 0].map(|_: i64| rng.random_range(0..=top)))
            .collect();
        let time: Vec<f64> = (0..n).map(|_| f64::from(rng.random_range(2..9))).collect();
        let event: Vec<bool> = (0..n).map(|_| rng.random_bool(0.5)).collect();
        let entry: Vec<f64> = time
            .iter()
            .map(|t| f64::from(rng.random_range(0..*t as i32)))
            .collect();
        let entry = rng.random_bool(0.5).then_some(entry);
        if !event.contains(&true) {
            continue;
        }
        let times = SurvivalTimes::new(time, event, entry).expect("valid");
        let covariates = Mat::from_fn(n, 2, |i, j| z[i][j] as f64);
        let fit = cox(&times, covariates.as_ref()).expect("valid");
        let want = left_of_times(&times, &z);
        let got = fit.map(|model| model.is_separated.iter().map(|it| !it).collect::<Vec<_>>());
        seen[match &want {
            None => 0,
            Some(live) if live.contains(&false) => 1,
            Some(_) => 2,
        }] += 1;
        if got != want.clone().ok_or(Unfitted::Separated) {
            bad.push(format!("{got:?} for {want:?}: {times:?} {z:?}"));
        }
    }
    assert!(bad.is_empty(), "{} of {seen:?}: {}", bad.len(), bad[0]);
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

/// Covariates in other units, times in other units, samples in another order.
#[test]
fn units_and_order_do_not_matter() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let n = 400;
    let z = covariates(&mut rng, n, 4);
    let eta = predictor(z.as_ref());
    let is_case = disease(&mut rng, &eta, -2.0);
    let times = times(&mut rng, &eta, 1.0, true);
    let unit = [1e8, 1e-8, 1.0, 3e5];
    let other = Mat::from_fn(n, 4, |i, j| z[(i, j)] * unit[j]);
    let order: Vec<usize> = (0..n).map(|i| (i * 131 + 7) % n).collect();
    let moved = Mat::from_fn(n, 4, |i, j| other[(order[i], j)]);
    let moved_cases: Vec<bool> = order.iter().map(|&i| is_case[i]).collect();
    let fits = [
        (
            logistic(&is_case, z.as_ref()),
            logistic(&moved_cases, moved.as_ref()),
        ),
        (
            cox(&times, z.as_ref()),
            cox(&times.of(&order), moved.as_ref()),
        ),
    ];
    for (plain, other) in fits {
        let (plain, other) = (
            plain.expect("valid").expect("fitted"),
            other.expect("valid").expect("fitted"),
        );
        for (k, &i) in order.iter().enumerate() {
            assert!((plain.residual[i] - other.residual[k]).abs() < 1e-10);
            assert!((plain.variance[i] - other.variance[k]).abs() < 1e-10);
        }
        for (j, unit) in unit.iter().enumerate() {
            let (a, b) = (plain.terms[j], other.terms[j]);
            assert!((a.coefficient - b.coefficient * unit).abs() < 1e-9 * a.coefficient.abs());
            let (a, b) = (
                a.standard_error.expect("kept"),
                b.standard_error.expect("kept"),
            );
            assert!((a - b * unit).abs() < 1e-9 * a);
        }
    }
    let in_days = |t: &[f64]| t.iter().map(|t| t * 365.25).collect::<Vec<f64>>();
    let days = SurvivalTimes::new(
        in_days(times.time()),
        times.event().to_vec(),
        times.entry().map(in_days),
    )
    .expect("valid");
    let [years, days] =
        [times, days].map(|it| cox(&it, z.as_ref()).expect("valid").expect("fitted"));
    assert_eq!(years.residual, days.residual);
    assert_eq!(years.terms, days.terms);
}

/// Late entry with early risk sets of a few samples beside later ones of thousands, and covariates with heavy tails.
#[test]
fn small_early_risk_sets_take_nothing_from_later_ones() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let n = 1500;
    let z = Mat::from_fn(n, 2, |_, _| {
        normal(&mut rng) / normal(&mut rng).abs().powf(0.5)
    });
    let eta: Vec<f64> = (0..n).map(|i| 0.7 * z[(i, 0)]).collect();
    let (mut time, mut event, mut entry) = (Vec::new(), Vec::new(), Vec::new());
    for (i, eta) in eta.iter().enumerate() {
        let start = if i < 5 {
            0.0
        } else {
            1.0 + rng.random_range(0.0..1.0)
        };
        let gap = -rng.random_range(f64::MIN_POSITIVE..1.0).ln() * (-eta).exp();
        time.push(if i < 3 {
            0.1 + 0.2 * i as f64
        } else {
            start + gap.clamp(1e-9, 3.0)
        });
        event.push(i < 3 || gap < 3.0);
        entry.push(start);
    }
    let times = SurvivalTimes::new(time, event, Some(entry)).expect("valid");
    let model = cox(&times, z.as_ref()).expect("valid").expect("fitted");
    let (_, hazard) = efron(&times, &model.linear_predictor);
    for (i, hazard) in hazard.iter().enumerate() {
        let got = model.variance[i];
        assert!(
            (got - hazard).abs() < 1e-10 * hazard.max(1e-3),
            "{i}: {got} {hazard}"
        );
    }
    assert!(event_times(&times).len() > 500);
}

#[test]
#[ignore = "prints seconds"]
fn seconds_of_null_models() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for (n, q) in [(50_000, 14), (300_000, 20)] {
        let z = covariates(&mut rng, n, q);
        let eta: Vec<f64> = predictor(z.as_ref())
            .iter()
            .map(|eta| 0.4 * (eta - 2.0))
            .collect();
        let mut is_case = disease(&mut rng, &eta, -3.0);
        let clock = std::time::Instant::now();
        let _ = logistic(&is_case, z.as_ref())
            .expect("valid")
            .expect("fitted");
        println!("{n} x {q}: logistic {:.1?}", clock.elapsed());
        for i in 0..n {
            is_case[i] &= z[(i, 1)] == 0.0;
        }
        let clock = std::time::Instant::now();
        let model = logistic(&is_case, z.as_ref())
            .expect("valid")
            .expect("fitted");
        println!(
            "  with {} separated {:.1?}",
            model.n_separated(),
            clock.elapsed()
        );
        for (step, is_late) in [(1e-9, false), (1e-9, true), (0.01, true)] {
            let times = times(&mut rng, &eta, step, is_late);
            let clock = std::time::Instant::now();
            let _ = cox(&times, z.as_ref()).expect("valid").expect("fitted");
            println!(
                "  Cox, {} events, late {is_late} {:.1?}",
                times.n_events(),
                clock.elapsed()
            );
        }
        let times = times(&mut rng, &eta, 1e-9, true);
        let event = (0..n)
            .map(|i| times.event()[i] && z[(i, 1)] == 0.0 && i % 10 == 0)
            .collect();
        let entry = times.entry().map(<[f64]>::to_vec);
        let times = SurvivalTimes::new(times.time().to_vec(), event, entry).expect("valid");
        let clock = std::time::Instant::now();
        let model = cox(&times, z.as_ref()).expect("valid").expect("fitted");
        println!(
            "  Cox, {} separated {:.1?}",
            model.n_separated(),
            clock.elapsed()
        );
    }
}
