use super::moments::Moments;
use super::*;
use crate::results::Column;
use crate::results::read_table;
use crate::table::Reading;
use crate::table::Table;
use crate::table::tests::write;
use arrow_array::{ArrayRef, Float64Array, StringArray};
use parquet::basic::Compression;
use proptest::prelude::*;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

type Named = Vec<(String, Vec<f64>)>;

const SCALED: FeatureForm = FeatureForm {
    rint: false,
    standardise: true,
};
const RAW: FeatureForm = FeatureForm {
    rint: false,
    standardise: false,
};

fn table(folder: &Path, columns: &Named) -> Table {
    let path = folder.join("in.parquet");
    let n = columns[0].1.len();
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..n).map(|row| format!("S{row}")),
    ));
    let array = |values: &[f64]| -> ArrayRef {
        Arc::new(Float64Array::from_iter(
            values
                .iter()
                .map(|value| (!value.is_nan()).then_some(*value)),
        ))
    };
    let named = columns
        .iter()
        .map(|(name, values)| (name.as_str(), array(values)));
    write(
        &path,
        std::iter::once(("id", ids)).chain(named).collect(),
        Compression::SNAPPY,
        800,
    );
    Table::open(&path, None, &[]).unwrap()
}

fn identity(n: usize) -> Vec<Option<usize>> {
    (0..n).map(Some).collect()
}

fn quiet(_: usize, _: usize) {}

/// Some values that look random, exactly representable in float32.
fn value(row: usize, column: usize) -> f64 {
    let mixed = (row as u64 * 2_654_435_761 + column as u64 * 40_503 + 12_345) % 1_000_003;
    (mixed % 4096) as f64 / 64.0 - 20.0
}

/// A constant feature, one without a value, and values at the ends of the range.
fn odd_columns() -> Named {
    let nan = f64::NAN;
    vec![
        ("a".to_owned(), vec![1.0, 2.0, nan, 3.0, 100.0, 6.0]),
        ("same".to_owned(), vec![0.1, nan, 0.1, 0.1, 7.0, 0.1]),
        ("none".to_owned(), vec![nan, nan, nan, nan, 7.0, nan]),
        ("b".to_owned(), vec![1e-300, 2e-300, 0.0, 0.0, 7.0, 0.0]),
        (
            "huge".to_owned(),
            vec![1e308, -1e307, 1e308, 1e308, 7.0, 1e308],
        ),
    ]
}

/// Row 4 is dropped, the others are reversed.
const TURNED: [Option<usize>; 6] = [Some(4), Some(3), Some(2), Some(1), None, Some(0)];

#[test]
fn features_are_standardised_and_unusable_ones_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(folder.path(), &odd_columns());
    let calls = RefCell::new(Vec::new());
    let progress = |done, total| calls.borrow_mut().push((done, total));
    let out = folder.path().join("run");
    let ingested = ingest(&table, &TURNED, 5, SCALED, &out, &progress).unwrap();
    assert_eq!(calls.into_inner(), [(0, 5), (5, 5)]);
    assert_eq!(
        (
            ingested.n_samples,
            ingested.n_features(),
            ingested.data_type
        ),
        (5, 3, "float64")
    );
    assert_eq!(ingested.scaling.names, ["a", "b", "huge"]);
    let dropped: Vec<_> = ingested.dropped().collect();
    assert_eq!(
        dropped,
        [
            ("same", DropReason::Constant),
            ("none", DropReason::AllMissing)
        ]
    );
    assert_eq!(ingested.features[1].mean, Some(0.1));

    let array = FeatureArray::open(&out).unwrap();
    assert_eq!(array.shape(), [5, 3]);
    let values = array.read_rows_f64(0..5).unwrap();
    let (mean, sd) = (3.0, 3.5_f64.sqrt());
    let expected = [6.0, 3.0, mean, 2.0, 1.0].map(|x| (x - mean) / sd);
    for (row, expected) in expected.iter().enumerate() {
        assert!((values[row * 3] - expected).abs() < 1e-15, "{row}");
    }
    for column in [1, 2] {
        let column: Vec<f64> = (0..5).map(|row| values[row * 3 + column]).collect();
        let (sum, squares) = column
            .iter()
            .fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
        assert!(
            f64::abs(sum) < 1e-12 && f64::abs(squares - 5.0) < 1e-12,
            "{column:?}"
        );
    }
}

#[test]
fn table_of_features_says_what_was_dropped_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(folder.path(), &odd_columns());
    let out = folder.path().join("run");
    let ingested = ingest(&table, &TURNED, 5, SCALED, &out, &|_, _| {}).unwrap();
    let read = read_table(&out.join("features.parquet")).unwrap();
    let names: Vec<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "feature",
            "mean",
            "sd",
            "missing_rate",
            "n_missing",
            "kept",
            "reason"
        ]
    );
    assert_eq!(
        read[3].1,
        Column::Float([0.2, 0.2, 1.0, 0.0, 0.0].map(Some).to_vec())
    );
    assert_eq!(read[4].1, Column::Int([1, 1, 5, 0, 0].map(Some).to_vec()));
    assert_eq!(
        read[5].1,
        Column::Bool([true, false, false, true, true].map(Some).to_vec())
    );
    let reasons = [None, Some("constant"), Some("all missing"), None, None];
    assert_eq!(
        read[6].1,
        Column::OptionalText(reasons.map(|it| it.map(str::to_owned)).to_vec())
    );
    let read = FeatureScaling::from_features(&out.join("features.parquet"), true).unwrap();
    assert_eq!(read, ingested.scaling);
}

#[test]
fn raw_features_are_kept_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let columns = vec![
        ("a".to_owned(), vec![1.5, f64::NAN, 3.0]),
        ("same".to_owned(), vec![2.0; 3]),
        ("none".to_owned(), vec![f64::NAN; 3]),
    ];
    let table = table(folder.path(), &columns);
    let ingested = ingest(&table, &identity(3), 3, RAW, folder.path(), &quiet).unwrap();
    let values = FeatureArray::open(folder.path())
        .unwrap()
        .read_rows_f64(0..3)
        .unwrap();
    assert_eq!(values, [1.5, 2.0, 0.0, 0.0, 2.0, 0.0, 3.0, 2.0, 0.0]);
    assert_eq!(ingested.dropped().count(), 0);
    let read =
        FeatureScaling::from_features(&folder.path().join("features.parquet"), false).unwrap();
    assert_eq!(read, ingested.scaling);
    assert_eq!((read.mean, read.sd), (vec![0.0; 3], vec![1.0; 3]));
    assert_eq!(
        standardise_rows(&table, &ingested.scaling, 0..3).unwrap(),
        values
    );
}

#[test]
fn wide_features_are_float32_and_threads_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let (n, p) = (2100, 300);
    let columns: Named = (0..p)
        .map(|column| {
            let values = (0..n).map(|row| {
                if column % 50 == 7 {
                    1.0
                } else {
                    value(row, column)
                }
            });
            (format!("f{column}"), values.collect())
        })
        .collect();
    let table = table(folder.path(), &columns);
    let files = |threads: usize| -> Vec<Vec<u8>> {
        let out = folder.path().join(format!("run{threads}"));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        // Twice: the second replaces the first.
        for _ in 0..2 {
            pool.install(|| ingest(&table, &identity(n), n, SCALED, &out, &|_, _| ()))
                .unwrap();
        }
        assert_eq!(fs_err::read_dir(&out).unwrap().count(), 2);
        let chunks =
            (0..3).flat_map(|i| [0, 1].map(|j| out.join(format!("features.zarr/c/{i}/{j}"))));
        chunks
            .chain([out.join("features.zarr/zarr.json")])
            .map(|file| fs_err::read(file).unwrap())
            .collect()
    };
    let one = files(1);
    assert!(one == files(4));

    let array = FeatureArray::open(&folder.path().join("run1")).unwrap();
    assert!(matches!(array, FeatureArray::F32(_)));
    assert_eq!(array.shape(), [n, 294]);
    let scaling =
        FeatureScaling::from_features(&folder.path().join("run1/features.parquet"), true).unwrap();
    let stored = array.read_rows_f32(0..n).unwrap();
    let again = standardise_rows(&table, &scaling, 0..n).unwrap();
    assert!(
        stored
            .iter()
            .zip(&again)
            .all(|(stored, again)| *stored == *again as f32)
    );
    assert_eq!(stored.len(), again.len());

    // The same values, streamed in blocks.
    for rows in [0..n, 5..6, 100..2000] {
        let mut streamed = Vec::new();
        let mut next = rows.start;
        for block in StandardisedRows::new(&table, &scaling, rows.clone(), 256).unwrap() {
            let (block, values) = block.unwrap();
            assert_eq!((block.start, values.len()), (next, block.len() * 294));
            next = block.end;
            streamed.extend(values);
        }
        assert_eq!(next, rows.end);
        assert!(streamed == again[rows.start * 294..rows.end * 294]);
    }
}

#[test]
fn ranks_of_the_kept_rows_take_the_place_of_values() {
    let folder = tempfile::tempdir().unwrap();
    let columns = vec![
        ("a".to_owned(), vec![1.0, 2.0, f64::NAN, 300.0, 9.0]),
        ("b".to_owned(), vec![5.0, 6.0, 5.0, 5.0, 9.0]),
    ];
    let table = table(folder.path(), &columns);
    let destination = [Some(0), Some(1), Some(2), Some(3), None];
    let form = FeatureForm {
        rint: true,
        ..SCALED
    };
    ingest(&table, &destination, 4, form, folder.path(), &quiet).unwrap();
    let read = FeatureArray::open(folder.path())
        .unwrap()
        .read_rows_f64(0..4)
        .unwrap();
    // Three ranks, symmetric about the middle one, and the missing value at their mean.
    assert!((read[0] + 1.5_f64.sqrt()).abs() < 1e-12, "{read:?}");
    assert!(read[2].abs() < 1e-12 && read[4] == 0.0, "{read:?}");
    assert!((read[6] - 1.5_f64.sqrt()).abs() < 1e-12, "{read:?}");
    assert!(
        read[1] == read[5] && read[5] == read[7] && read[3] > 1.7,
        "{read:?}"
    );
}

#[test]
fn new_samples_are_scaled_as_the_training_samples() {
    let folder = tempfile::tempdir().unwrap();
    let training = vec![
        ("a".to_owned(), vec![1.0, 3.0]),
        ("b".to_owned(), vec![0.0, 4.0]),
    ];
    let train = table(folder.path(), &training);
    let scaling = ingest(&train, &identity(2), 2, SCALED, folder.path(), &quiet)
        .unwrap()
        .scaling;
    let file = folder.path().join("scaling.parquet");
    scaling.write(&file).unwrap();
    assert_eq!(FeatureScaling::read(&file).unwrap(), scaling);

    let new: Named = vec![
        ("extra".to_owned(), vec![9.0; 3]),
        ("b".to_owned(), vec![2.0, f64::NAN, 6.0]),
        ("a".to_owned(), vec![2.0, 4.0, f64::NAN]),
    ];
    let new = table(folder.path(), &new);
    let expected = [0.0, 0.0, 2.0, 0.0, 0.0, 2.0];
    assert_eq!(standardise_rows(&new, &scaling, 0..3).unwrap(), expected);
    let opened = scaling.open_table(&new.path, &Reading::default()).unwrap();
    assert_eq!(opened.columns, ["a", "b"]);
    assert_eq!(
        standardise_rows(&opened, &scaling, 1..3).unwrap(),
        expected[2..]
    );

    let lacking = table(folder.path(), &vec![("c".to_owned(), vec![0.0])]);
    let expected = format!(
        "`{}` lacks 2 of the 2 features the model was trained on: `a`, `b`; add them, null where unknown",
        lacking.path.display()
    );
    assert_eq!(
        standardise_rows(&lacking, &scaling, 0..1)
            .unwrap_err()
            .to_string(),
        expected
    );
    assert_eq!(
        StandardisedRows::new(&lacking, &scaling, 0..1, 8)
            .unwrap_err()
            .to_string(),
        expected
    );
    assert_eq!(
        scaling
            .open_table(&lacking.path, &Reading::default())
            .unwrap_err()
            .to_string(),
        expected
    );
}

#[test]
fn what_cannot_be_taken_in_is_an_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = tempfile::tempdir().unwrap();
    let columns = vec![
        ("same".to_owned(), vec![1.0, 1.0]),
        ("none".to_owned(), vec![f64::NAN; 2]),
    ];
    let table = table(input.path(), &columns);
    let name = table.path.display();
    let message = |destination: &[Option<usize>], n_rows: usize| {
        ingest(&table, destination, n_rows, SCALED, folder.path(), &quiet)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        message(&identity(2), 2),
        format!(
            "none of the 2 features selected from `{name}` can be used: 1 is constant and 1 all missing over \
                 the kept samples; look at `--feature-columns`, `--keep` and `--remove`"
        )
    );
    let expected = format!("no sample of `{name}` is kept; look at `--keep` and `--remove`");
    assert_eq!(message(&[None, None], 0), expected);
    let wrong = [
        (vec![Some(0), Some(0)], 2),
        (vec![Some(0), None], 2),
        (vec![Some(2), Some(0)], 2),
        (identity(1), 1),
    ];
    for (destination, n_rows) in wrong {
        assert!(
            message(&destination, n_rows).contains("do not fill"),
            "{destination:?}"
        );
    }
    let wide: Named = (0..257)
        .map(|column| (format!("f{column}"), vec![1e300, 2.0]))
        .collect();
    let wide = self::table(input.path(), &wide);
    let error = ingest(&wide, &identity(2), 2, RAW, folder.path(), &quiet)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("feature `f0` of `") && error.contains("too large to keep as float32;"),
        "{error}"
    );
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
}

proptest! {
    #[test]
    fn moments_agree_with_exact_sums(values in prop::collection::vec(-1000..1000_i64, 2..50), shift in 0..1_000_000_i64) {
        let floats: Vec<f64> = values.iter().map(|value| (value + shift) as f64).collect();
        let moments = Moments::of(&floats).unwrap();
        let n = values.len() as i64;
        let sum: i64 = values.iter().sum();
        let squares: i64 = values.iter().map(|value| value * value).sum();
        let mean = shift as f64 + sum as f64 / n as f64;
        let sd = ((n * squares - sum * sum) as f64).sqrt() / n as f64;
        prop_assert!((moments.mean - mean).abs() <= 1e-15 * mean.abs().max(1.0) * 4.0);
        prop_assert!((moments.sd - sd).abs() <= 1e-10 * sd);
        prop_assert_eq!(moments.is_constant, values.iter().all(|value| *value == values[0]));
    }
}
