//! Tables of every type and codec, and the errors of tables that are refused.

use super::*;
use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float32Array,
    Float64Array, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, NullArray,
    RecordBatch, StringArray, StringViewArray, UInt8Array, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes a Parquet file of named arrays.
pub(crate) fn write(
    path: &Path,
    columns: Vec<(&str, ArrayRef)>,
    codec: Compression,
    group_rows: usize,
) {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(codec)
        .set_max_row_group_row_count(Some(group_rows))
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn array<A: Array + 'static>(array: A) -> ArrayRef {
    Arc::new(array)
}

fn floats(values: &[f64]) -> ArrayRef {
    array(Float64Array::from(values.to_vec()))
}

fn ids(n: usize) -> ArrayRef {
    array(StringArray::from_iter_values(
        (0..n).map(|row| format!("S{row}")),
    ))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn table(&self, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let path = self.0.path().join("t.parquet");
        write(&path, columns, Compression::SNAPPY, 3);
        path
    }
}

fn message(result: Result<Table, TableError>) -> String {
    result.unwrap_err().to_string()
}

fn all(path: &Path) -> Result<Table, TableError> {
    Table::open(path, None, &[])
}

fn bits(columns: &[Vec<f64>]) -> Vec<Vec<u64>> {
    columns
        .iter()
        .map(|column| column.iter().map(|value| value.to_bits()).collect())
        .collect()
}

#[test]
fn every_codec_reads_the_same() {
    let folder = Folder::new();
    let n = 5000;
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ];
    let columns: Vec<Vec<f64>> = (0..5)
        .map(|column| {
            (0..n)
                .map(|row| ((row * 7 + column) % 101) as f64 / 3.0)
                .collect()
        })
        .collect();
    for codec in codecs {
        for group_rows in [700, 100_000] {
            let path = folder.0.path().join("t.parquet");
            let named = ["a", "b", "c", "d", "e"]
                .into_iter()
                .zip(columns.iter().map(|it| floats(it)));
            let named = std::iter::once(("id", ids(n))).chain(named).collect();
            write(&path, named, codec, group_rows);
            let table = all(&path).unwrap();
            assert_eq!(
                (table.n_rows(), table.ids[4999].as_str()),
                (n, "S4999"),
                "{codec:?}"
            );
            assert_eq!(
                table.read_columns(&[0, 1, 2, 3, 4]).unwrap(),
                columns,
                "{codec:?}"
            );
            assert_eq!(
                table.read_columns(&[3, 0, 3]).unwrap(),
                [3, 0, 3].map(|it| columns[it].clone())
            );
            for rows in [0..0, 0..1, 699..701, 1400..2100, 4990..5000] {
                let read = table.read_columns_of(&[4, 2], rows.clone()).unwrap();
                assert_eq!(read, [&columns[4][rows.clone()], &columns[2][rows]]);
            }
        }
    }
}

#[test]
fn every_id_type_becomes_text() {
    let folder = Folder::new();
    let small = ["7", "1234567", "-3", "0"];
    let big: [u64; 4] = [7, 9_007_199_254_740_993, u64::MAX, 0];
    let text_cases: Vec<ArrayRef> = vec![
        array(StringArray::from(small.to_vec())),
        array(LargeStringArray::from(small.to_vec())),
        array(StringViewArray::from(small.to_vec())),
        array(small.into_iter().collect::<DictionaryArray<Int32Type>>()),
        array(Int32Array::from(vec![7, 1_234_567, -3, 0])),
        array(Int64Array::from(vec![7, 1_234_567, -3, 0])),
        array(Float64Array::from(vec![7.0, 1_234_567.0, -3.0, 0.0])),
        array(BinaryArray::from(small.map(str::as_bytes).to_vec())),
        array(
            small
                .iter()
                .map(|it| Some(it.as_bytes()))
                .collect::<LargeBinaryArray>(),
        ),
        array(
            Decimal128Array::from(vec![7, 1_234_567, -3, 0])
                .with_precision_and_scale(20, 0)
                .unwrap(),
        ),
        array(
            Decimal128Array::from(vec![700, 123_456_700, -300, 0])
                .with_precision_and_scale(20, 2)
                .unwrap(),
        ),
        array(Float32Array::from(vec![7.0, 1_234_567.0, -3.0, -0.0])),
        array(DictionaryArray::<Int8Type>::new(
            vec![1_i8, 3, 0, 2].into(),
            Arc::new(Int64Array::from(vec![-3, 7, 0, 1_234_567])),
        )),
    ];
    for ids in text_cases {
        let kind = ids.data_type().clone();
        let path = folder.table(vec![("x", floats(&[0.0; 4])), ("id", ids)]);
        assert_eq!(
            Table::open(&path, Some("id"), &[]).unwrap().ids,
            small,
            "{kind}"
        );
    }
    let path = folder.table(vec![
        ("id", array(UInt64Array::from(big.to_vec()))),
        ("x", floats(&[0.0; 4])),
    ]);
    assert_eq!(all(&path).unwrap().ids, big.map(|id| id.to_string()));
    let text = ["007", " 7", "é", "S1"];
    let path = folder.table(vec![
        ("id", array(StringArray::from(text.to_vec()))),
        ("x", floats(&[0.0; 4])),
    ]);
    assert_eq!(all(&path).unwrap().ids, text);
}

#[test]
fn every_numeric_type_becomes_float64() {
    let folder = Folder::new();
    let halves = parquet::cast(&floats(&[0.5, -2.0, 0.0]), &DataType::Float16).unwrap();
    let decimals = Decimal128Array::from(vec![Some(12_345), None, Some(-1)])
        .with_precision_and_scale(9, 2)
        .unwrap();
    let dictionary = DictionaryArray::<Int8Type>::new(
        vec![Some(1_i8), None, Some(0)].into(),
        Arc::new(Float64Array::from(vec![2.5, -1.0])),
    );
    let path = folder.table(vec![
        ("id", ids(3)),
        (
            "u8",
            array(UInt8Array::from(vec![Some(255), None, Some(0)])),
        ),
        ("i64", array(Int64Array::from(vec![-5, 0, 1 << 53]))),
        (
            "f32",
            array(Float32Array::from(vec![Some(0.1), Some(f32::NAN), None])),
        ),
        ("f64", floats(&[0.1, f64::NAN, f64::MAX])),
        ("f16", halves),
        (
            "bool",
            array(BooleanArray::from(vec![Some(true), Some(false), None])),
        ),
        ("decimal", array(decimals)),
        ("dictionary", array(dictionary)),
        ("null", array(NullArray::new(3))),
    ]);
    let table = all(&path).unwrap();
    let nan = f64::NAN;
    let expected = vec![
        vec![255.0, nan, 0.0],
        vec![-5.0, 0.0, 9_007_199_254_740_992.0],
        vec![f64::from(0.1_f32), nan, nan],
        vec![0.1, nan, f64::MAX],
        vec![0.5, -2.0, 0.0],
        vec![1.0, 0.0, nan],
        vec![123.45, nan, -0.01],
        vec![-1.0, nan, 2.5],
        vec![nan; 3],
    ];
    let read = table.read_columns(&(0..9).collect::<Vec<_>>()).unwrap();
    for ((name, read), expected) in table.columns.iter().zip(&read).zip(&expected) {
        for (read, expected) in read.iter().zip(expected) {
            assert!(
                read == expected || (read.is_nan() && expected.is_nan()),
                "{name}: {read} {expected}"
            );
        }
    }
    assert_eq!(read.len(), expected.len());
}

#[test]
fn threads_do_not_change_what_is_read() {
    let folder = Folder::new();
    let names: Vec<String> = (0..37).map(|column| format!("x{column}")).collect();
    let mut columns = vec![("id", ids(100))];
    columns.extend(names.iter().enumerate().map(|(column, name)| {
        let values: Vec<f64> = (0..100).map(|row| (row * column) as f64 / 7.0).collect();
        (name.as_str(), floats(&values))
    }));
    let table = all(&folder.table(columns)).unwrap();
    let read = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            bits(
                &table
                    .read_columns(&(0..37).rev().collect::<Vec<_>>())
                    .unwrap(),
            )
        })
    };
    assert_eq!(read(1), read(5));
}

#[test]
fn columns_are_selected_by_name_and_glob() {
    let folder = Folder::new();
    let x = || floats(&[0.0]);
    let path = folder.table(vec![
        ("prot_A", x()),
        ("prot_B", x()),
        ("id", ids(1)),
        ("IL1/IL2", x()),
        ("a[1]", x()),
        ("__index_level_0__", x()),
        ("note", ids(1)),
    ]);
    let select = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
        Table::open(&path, Some("id"), &patterns).map(|table| table.columns)
    };
    assert_eq!(select(&["prot_*"]).unwrap(), ["prot_A", "prot_B"]);
    assert_eq!(select(&["prot_B", "prot_?"]).unwrap(), ["prot_A", "prot_B"]);
    assert_eq!(select(&["I*2", "a[1]"]).unwrap(), ["IL1/IL2", "a[1]"]);
    assert_eq!(select(&["{prot_A,IL*}"]).unwrap(), ["prot_A", "IL1/IL2"]);
    assert_eq!(
        select(&["!note"]).unwrap(),
        ["prot_A", "prot_B", "IL1/IL2", "a[1]"]
    );
    assert_eq!(
        select(&["__index_level_0__"]).unwrap(),
        ["__index_level_0__"]
    );
    assert_eq!(
        select(&["prot_A", "gene_*", "id"]).unwrap_err().to_string(),
        format!(
            "no column of `{}` matches `gene_*`, `id`; its columns are `prot_A`, `prot_B`, `IL1/IL2`, `a[1]`, `note`",
            path.display()
        )
    );

    let names = ["prot_B", "a[1]", "prot_A"].map(str::to_owned);
    let named = |names: &[String]| {
        let reading = Reading {
            id_column: Some("id".to_owned()),
            columns: Columns::Named(names.to_vec()),
            ..Reading::default()
        };
        Table::open_as(&path, &reading)
    };
    let table = named(&names).unwrap();
    assert_eq!(table.columns, names);
    assert_eq!(table.find_columns(&names[1..]).unwrap(), [1, 2]);
    let wanted = ["x1", "prot_A", "x2"].map(str::to_owned);
    assert_eq!(
        message(named(&wanted)),
        format!("`{}` lacks 2 of 3 columns: `x1`, `x2`", path.display())
    );
}

#[test]
fn wrong_id_columns_are_named_with_the_remedy() {
    let folder = Folder::new();
    let path = folder.table(vec![
        ("P1", floats(&[3.0, 0.5])),
        ("P2", floats(&[1.0, 2.0])),
        ("person", ids(2)),
    ]);
    let name = path.display();
    assert_eq!(
        message(all(&path)),
        format!(
            "column `P1` of `{name}` cannot hold sample ids (Float64, 0.5 in row 2); \
             name the id column with `--id-column` (`--features-id-column` and the like for one table): `person`"
        )
    );
    assert_eq!(
        message(Table::open(&path, Some("iid"), &[])),
        format!(
            "`{name}` has no column `iid` for its sample ids; \
             pass one of its columns as `--id-column`, or as `--features-id-column` and the like for one table: \
             `P1`, `P2`, `person`"
        )
    );
    for (column, kind) in [
        (array(BooleanArray::from(vec![true, false])), "Boolean"),
        (
            array(BinaryArray::from(vec![b"a".as_ref(), b"\xff"])),
            "Binary, bytes that are no UTF-8 in row 2",
        ),
        (
            array(
                Decimal128Array::from(vec![100, 250])
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
            "Decimal128(9, 2), 2.50 in row 2",
        ),
    ] {
        let path = folder.table(vec![("id", column), ("x", floats(&[1.0, 2.0]))]);
        let expected = format!(
            "column `id` of `{name}` cannot hold sample ids ({kind}); name the id column with `--id-column` \
             (`--features-id-column` and the like for one table)"
        );
        assert_eq!(message(all(&path)), expected);
    }
}

#[test]
fn missing_and_repeated_ids_are_counted() {
    let folder = Folder::new();
    let missing: [ArrayRef; 3] = [
        array(StringArray::from(vec![
            Some("a"),
            Some("b"),
            Some("c"),
            None,
            Some(""),
        ])),
        array(Int64Array::from(vec![
            Some(1),
            Some(2),
            Some(3),
            None,
            None,
        ])),
        array(Float64Array::from(vec![
            Some(1.0),
            Some(2.0),
            Some(3.0),
            None,
            Some(f64::NAN),
        ])),
    ];
    for ids in missing {
        let path = folder.table(vec![("id", ids), ("x", floats(&[0.0; 5]))]);
        assert_eq!(
            message(all(&path)),
            format!(
                "2 sample ids of `{}` are missing in column `id`, the first in row 4; \
                 remove these rows, or name another column with `--id-column`",
                path.display()
            )
        );
    }
    let repeated = [
        "a", "b", "a", "c", "b", "b", "b", "d", "d", "e", "e", "f", "f", "g", "g",
    ];
    let ids = array(StringArray::from(repeated.to_vec()));
    let path = folder.table(vec![("id", ids), ("x", floats(&[0.0; 15]))]);
    assert_eq!(
        message(all(&path)),
        format!(
            "6 sample ids of `{}` stand in more than one row in column `id`: `a` (rows 1, 3), \
             `b` (rows 2, 5, 6), `d` (rows 8, 9), `e` (rows 10, 11), `f` (rows 12, 13) and 1 more; \
             keep one row per sample, or name the id column with `--id-column` \
             (`--features-id-column` and the like for one table)",
            path.display()
        )
    );
}

#[test]
fn wrong_types_are_reported_at_once() {
    let folder = Folder::new();
    let mut columns = vec![("id", ids(2)), ("x", floats(&[0.0; 2]))];
    columns.extend(["t1", "t2", "t3", "t4", "t5", "t6", "t7"].map(|name| (name, ids(2))));
    let path = folder.table(columns);
    assert_eq!(
        message(all(&path)),
        format!(
            "7 of 8 columns selected from `{}` are not numeric: `t1` (Utf8), `t2` (Utf8), `t3` (Utf8), \
             `t4` (Utf8), `t5` (Utf8) and 2 more; \
             select the numeric ones by name or glob, or rewrite them as numbers",
            path.display()
        )
    );
    let path = folder.table(vec![("id", ids(2))]);
    let expected = format!(
        "`{}` has no column beside its sample ids `id`",
        path.display()
    );
    assert_eq!(message(all(&path)), expected);
    let path = folder.table(vec![
        ("id", ids(1)),
        ("x", floats(&[0.0])),
        ("x", floats(&[0.0])),
    ]);
    let expected = format!(
        "`{}` has more than one column of the name `x`; rename them",
        path.display()
    );
    assert_eq!(message(all(&path)), expected);
}

#[test]
fn infinite_values_are_named() {
    let folder = Folder::new();
    let inf = f64::INFINITY;
    let path = folder.table(vec![
        ("id", ids(4)),
        ("x", floats(&[0.0, inf, -inf, 1.0])),
        ("y", floats(&[0.0; 4])),
        ("z", floats(&[inf; 4])),
    ]);
    let table = all(&path).unwrap();
    assert_eq!(
        table.read_columns(&[0, 1, 2]).unwrap_err().to_string(),
        format!(
            "6 values of `{}` are infinite: column `x` of sample `S1`, column `x` of sample `S2`, \
             column `z` of sample `S0`, column `z` of sample `S1`, column `z` of sample `S2` and 1 more; \
             replace them by numbers, or by null where missing",
            path.display()
        )
    );
    let error = table.read_columns_of(&[0], 2..4).unwrap_err().to_string();
    assert!(
        error.contains("1 value of") && error.contains("column `x` of sample `S2`;"),
        "{error}"
    );
    assert_eq!(table.read_columns(&[1]).unwrap(), [[0.0; 4]]);
}

#[test]
fn other_files_are_refused_by_name() {
    let folder = Folder::new();
    let path = folder.0.path().join("t.parquet");
    let name = path.display();
    fs_err::write(&path, b"\x80\x00id,x\nS1,0\n").unwrap();
    assert_eq!(
        message(all(&path)),
        format!(
            "`{name}` is neither Parquet nor UTF-8 text (line 1); write it as Parquet, CSV or TSV in UTF-8"
        )
    );
    fs_err::write(&path, "").unwrap();
    assert_eq!(
        message(all(&path)),
        format!("`{name}` is empty; expected a header and one row per sample")
    );

    let whole = fs_err::read(folder.table(vec![("id", ids(9)), ("x", floats(&[0.5; 9]))])).unwrap();
    fs_err::write(&path, &whole[..whole.len() - 10]).unwrap();
    let expected =
        format!("`{name}` is damaged, incomplete, or of a Parquet kind that cannot be read");
    assert_eq!(message(all(&path)), expected);

    let error = all(&folder.0.path().join("absent.parquet")).unwrap_err();
    assert!(
        error.to_string().starts_with("could not read `")
            && error.to_string().ends_with("absent.parquet`")
    );
    assert!(std::error::Error::source(&error).is_some());
    assert_eq!(message(all(folder.0.path())), expected);
}

/// A folder of cases next to the workspace (or in `NTKPIPE_CASES`); `None`, with a message, if there is none.
#[allow(clippy::print_stderr)]
pub(super) fn case(name: &str) -> Option<PathBuf> {
    let cases = std::env::var_os("NTKPIPE_CASES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases"),
        PathBuf::from,
    );
    let folder = cases.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no cases at {}", folder.display());
    None
}

#[test]
fn mice_tables_open_where_they_are() {
    let Some(folder) = case("mice") else {
        return;
    };
    let features = all(&folder.join("features.parquet")).unwrap();
    let phenotypes = all(&folder.join("phenotypes.parquet")).unwrap();
    assert!(features.n_rows() > 0 && !phenotypes.columns.is_empty());
    let read = features
        .read_columns(&(0..features.columns.len()).collect::<Vec<_>>())
        .unwrap();
    assert!(read.iter().all(|column| column.len() == features.n_rows()));
}
