//! Any numeric Parquet table reads back bit for bit, for every type and layout.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, LargeStringArray, ListArray, NullArray, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow_schema::{Field, Schema};
use ntkpipe_store::table::Table;
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;

/// A column, and the values expected from it; NaN is missing.
type Case = (ArrayRef, Vec<f64>);

fn numbers<T: Copy>(values: &[Option<T>], number: impl Fn(T) -> f64) -> Vec<f64> {
    let number = |value: &Option<T>| value.map_or(f64::NAN, &number);
    values.iter().map(number).collect()
}

fn case<A, T>(values: Vec<Option<T>>, number: impl Fn(T) -> f64) -> Case
where
    A: Array + From<Vec<Option<T>>> + 'static,
    T: Copy,
{
    let expected = numbers(&values, number);
    (Arc::new(A::from(values)), expected)
}

fn integers<A, T>(n: usize) -> BoxedStrategy<Case>
where
    A: Array + From<Vec<Option<T>>> + 'static,
    T: Arbitrary + Copy + ToString + 'static,
{
    // The text of an integer parses to the nearest float64.
    let nearest = |value: T| value.to_string().parse().unwrap();
    vec(weighted(0.8, any::<T>()), n)
        .prop_map(move |values| case::<A, T>(values, nearest))
        .boxed()
}

fn decimal((values, scale): (Vec<Option<i128>>, i8)) -> Case {
    let nearest = |value: i128| format!("{value}e{}", -scale).parse().unwrap();
    let expected = numbers(&values, nearest);
    let array = Decimal128Array::from(values).with_precision_and_scale(38, scale);
    (Arc::new(array.unwrap()), expected)
}

/// A dictionary of a few values, null among the keys.
fn dictionary((keys, values): (Vec<Option<i32>>, Vec<f64>)) -> Case {
    let place = |key: i32| key % values.len() as i32;
    let expected = numbers(&keys, |key| values[place(key) as usize]);
    let keys = keys.into_iter().map(|key| key.map(place)).collect();
    let array = DictionaryArray::<Int32Type>::new(keys, Arc::new(Float64Array::from(values)));
    (Arc::new(array), expected)
}

fn column(n: usize) -> BoxedStrategy<Case> {
    use proptest::num::{f32, f64};
    let double = f64::NORMAL | f64::SUBNORMAL | f64::ZERO | f64::QUIET_NAN;
    let single = f32::NORMAL | f32::SUBNORMAL | f32::ZERO | f32::QUIET_NAN;
    let digits = -10_i128.pow(38) + 1..10_i128.pow(38);
    let keys = vec(weighted(0.8, 0..100_i32), n);
    prop_oneof![
        vec(weighted(0.8, double), n).prop_map(|it| case::<Float64Array, f64>(it, |x| x)),
        vec(weighted(0.8, single), n).prop_map(|it| case::<Float32Array, f32>(it, f64::from)),
        vec(weighted(0.8, any::<bool>()), n)
            .prop_map(|it| case::<BooleanArray, bool>(it, |x| f64::from(u8::from(x)))),
        integers::<Int8Array, i8>(n),
        integers::<Int16Array, i16>(n),
        integers::<Int32Array, i32>(n),
        integers::<Int64Array, i64>(n),
        integers::<UInt8Array, u8>(n),
        integers::<UInt16Array, u16>(n),
        integers::<UInt32Array, u32>(n),
        integers::<UInt64Array, u64>(n),
        (vec(weighted(0.8, digits), n), 0..38_i8).prop_map(decimal),
        (keys, vec(f64::NORMAL, 1..5_usize)).prop_map(dictionary),
        Just((Arc::new(NullArray::new(n)) as ArrayRef, vec![f64::NAN; n])),
    ]
    .boxed()
}

/// Distinct ids of each type that can hold them, and the ids expected.
fn ids(n: usize) -> BoxedStrategy<(ArrayRef, Vec<String>)> {
    (0..6_u8, "[^\\x00]{0,6}")
        .prop_map(move |(kind, word)| {
            let texts: Vec<String> = (0..n).map(|row| format!("{word}{row}")).collect();
            let whole: Vec<i64> = (-3..n as i64 - 3).collect();
            let array: ArrayRef = match kind {
                0 => Arc::new(StringArray::from(texts.clone())),
                1 => Arc::new(LargeStringArray::from(texts.clone())),
                2 => Arc::new(StringViewArray::from_iter_values(&texts)),
                3 => {
                    let texts = texts.iter().map(String::as_str);
                    Arc::new(texts.collect::<DictionaryArray<Int32Type>>())
                }
                4 => Arc::new(Int64Array::from(whole.clone())),
                _ => Arc::new(Float64Array::from_iter_values(
                    whole.iter().map(|id| *id as f64),
                )),
            };
            let read = match kind {
                0..=3 => texts,
                _ => whole.iter().map(ToString::to_string).collect(),
            };
            (array, read)
        })
        .boxed()
}

/// The layout of a table in its file.
fn layout() -> BoxedStrategy<WriterProperties> {
    let codec = prop_oneof![
        Just(Compression::UNCOMPRESSED),
        Just(Compression::SNAPPY),
        Just(Compression::GZIP(GzipLevel::default())),
        Just(Compression::BROTLI(BrotliLevel::default())),
        Just(Compression::LZ4),
        Just(Compression::LZ4_RAW),
        Just(Compression::ZSTD(ZstdLevel::default())),
    ];
    let version = prop_oneof![
        Just(WriterVersion::PARQUET_1_0),
        Just(WriterVersion::PARQUET_2_0)
    ];
    (codec, version, 1..40_usize, 1..20_usize, any::<bool>())
        .prop_map(|(codec, version, group_rows, page_rows, has_dictionary)| {
            WriterProperties::builder()
                .set_compression(codec)
                .set_writer_version(version)
                .set_max_row_group_row_count(Some(group_rows))
                .set_data_page_row_count_limit(page_rows)
                .set_write_batch_size(page_rows)
                .set_dictionary_enabled(has_dictionary)
                .build()
        })
        .boxed()
}

/// Writes the columns `id`, `c0`, `c1` and so on.
fn write<'a>(
    path: &Path,
    ids: &ArrayRef,
    columns: impl IntoIterator<Item = &'a ArrayRef>,
    layout: WriterProperties,
) {
    let mut fields = vec![Field::new("id", ids.data_type().clone(), false)];
    let mut arrays = vec![ids.clone()];
    for (place, array) in columns.into_iter().enumerate() {
        let name = format!("c{place}");
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array.clone());
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(layout)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn texts(n: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(
        (0..n).map(|row| format!("S{row}")),
    ))
}

fn same(expected: &[f64], found: &[f64]) -> bool {
    let equal = |a: &f64, b: &f64| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    expected.len() == found.len() && expected.iter().zip(found).all(|(a, b)| equal(a, b))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_is_read_as_it_was_written(
        ((id_column, ids), columns, start, end) in (1..80_usize).prop_flat_map(|n| {
            (ids(n), vec(column(n), 1..6), 0..=n, 0..=n)
        }),
        layout in layout(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        write(&path, &id_column, columns.iter().map(|column| &column.0), layout);
        let table = Table::open(&path, None, &[]).unwrap();
        prop_assert_eq!(&table.ids, &ids);
        let all: Vec<usize> = (0..columns.len()).collect();
        let whole = table.read_columns(&all).unwrap();
        let rows = start.min(end)..start.max(end);
        let part = table.read_columns_of(&all, rows.clone()).unwrap();
        for (((array, expected), whole), part) in columns.iter().zip(&whole).zip(&part) {
            prop_assert!(same(expected, whole), "{:?}\n{expected:?}\n{whole:?}", array.data_type());
            prop_assert!(same(&expected[rows.clone()], part), "{rows:?} of {expected:?}\n{part:?}");
        }
    }

    #[test]
    fn every_infinite_value_is_counted_and_the_first_named(
        values in vec(
            prop_oneof![8 => any::<f32>(), 1 => Just(f32::INFINITY), 1 => Just(f32::NEG_INFINITY)],
            1..50,
        ),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let column: ArrayRef = Arc::new(Float32Array::from(values.clone()));
        write(&path, &texts(values.len()), [&column], WriterProperties::new());
        let read = Table::open(&path, None, &[]).unwrap().read_columns(&[0]);
        let n = values.iter().filter(|value| value.is_infinite()).count();
        match values.iter().position(|value| value.is_infinite()) {
            None => prop_assert!(read.is_ok()),
            Some(row) => {
                let said = read.unwrap_err().to_string();
                let counted = if n == 1 { "1 value of".to_owned() } else { format!("{n} values of") };
                prop_assert!(said.starts_with(&counted), "{said}");
                prop_assert!(said.contains(&format!("infinite: column `c0` of sample `S{row}`")), "{said}");
            }
        }
    }
}

#[test]
fn what_is_no_number_is_refused_by_name_and_type() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)]), None]);
    let bytes = FixedSizeBinaryArray::try_from_iter([b"ab", b"cd"].into_iter()).unwrap();
    let wrong: [(ArrayRef, &str); 4] = [
        (Arc::new(Date32Array::from(vec![1, 2])), "Date32"),
        (
            Arc::new(TimestampMicrosecondArray::from(vec![1, 2])),
            "Timestamp",
        ),
        (Arc::new(lists), "List"),
        (Arc::new(bytes), "FixedSizeBinary"),
    ];
    let number: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.5]));
    for (array, kind) in wrong {
        write(&path, &texts(2), [&number, &array], WriterProperties::new());
        let said = Table::open(&path, None, &[]).unwrap_err().to_string();
        assert!(said.contains("1 of 2 columns selected"), "{said}");
        assert!(said.contains(&format!("`c1` ({kind}")), "{said}");
        let numeric = Table::open(&path, None, &["c0".to_owned()]).unwrap();
        assert_eq!(numeric.read_columns(&[0]).unwrap(), [[0.5, 1.5]]);
    }
}
