//! Tables that pyarrow and pandas write are read as they hold them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ntkpipe_store::table::Table;

use crate::support::python;

/// Writes tables into the folder `sys.argv[1]` and prints what they hold: file, then column, then values.
const WRITE: &str = r#"
import decimal, json, sys
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq

n = 500
random = np.random.default_rng(7)
holes = random.random(n) < 0.2
def column(values, kind): return pa.array(values, kind, mask=holes)
def integers(name):
    kind = np.iinfo(name)
    return random.integers(kind.min, kind.max, n, dtype=name, endpoint=True)
values = {name: column(integers(name), name) for name in
          ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")}
x = random.standard_normal(n) * 10.0 ** random.integers(-200, 200, n)
values |= {"double": column(x, pa.float64()), "float": column(random.standard_normal(n).astype("f4"), pa.float32())}
values |= {"half": column(random.standard_normal(n).astype("f2"), pa.float16()), "flag": column(x > 1, pa.bool_())}
for digits, scale in ((9, 4), (18, 18), (38, 10), (76, 40)):
    kind = pa.decimal128 if digits <= 38 else pa.decimal256
    drawn = ["".join(map(str, random.integers(0, 10, digits))) for _ in range(n)]
    numbers = [decimal.Decimal((0, tuple(map(int, text)), -scale)) for text in drawn]
    values[f"decimal{digits}"] = pa.array([None if hole else x for x, hole in zip(numbers, holes)], kind(digits, scale))
values |= {"few": column(np.round(random.standard_normal(n), 1), pa.float64()).dictionary_encode(), "none": pa.nulls(n)}
ids = pa.array([f"S{i}" for i in range(n)])
table = pa.table({"id": ids} | values)
expected = {name: [None if x is None else float(x) for x in column.to_pylist()] for name, column in values.items()}

held = {}
def wrote(name, columns, ids=lambda i: f"S{i}"):
    held[name] = {"id": [ids(i) for i in range(n)]} | columns
for name, how in {
    "plain": {}, "old": {"version": "1.0", "data_page_version": "2.0"}, "groups": {"row_group_size": 37},
    "bare": {"store_schema": False, "use_dictionary": False, "write_statistics": False}, "brotli": {"compression": "brotli"},
    "gzip": {"compression": "gzip"}, "zstd": {"compression": "zstd"}, "lz4": {"compression": "lz4"},
    "checked": {"write_page_checksum": True, "write_page_index": True, "data_page_size": 256},
    "split": {"use_dictionary": False, "column_encoding": {"double": "BYTE_STREAM_SPLIT", "int64": "DELTA_BINARY_PACKED",
              "id": "DELTA_BYTE_ARRAY", "flag": "RLE"}},
}.items():
    pq.write_table(table, f"{sys.argv[1]}/{name}.parquet", **how)
    wrote(name, expected)
for kind in (pa.large_string(), pa.string_view()):
    pq.write_table(table.set_column(0, "id", ids.cast(kind)), f"{sys.argv[1]}/{kind}.parquet")
    wrote(str(kind), expected)
frame = pd.DataFrame({"few": pd.Categorical(np.arange(n) % 3 + 0.5), "whole": pd.array([1, None] * (n // 2), "Int64"),
                      "flag": pd.array([True, None] * (n // 2), "boolean")}, index=pd.Index(range(5, n + 5), name="eid"))
frame.reset_index().to_parquet(f"{sys.argv[1]}/pandas.parquet", index=False)
wrote("pandas", {"few": [i % 3 + 0.5 for i in range(n)], "whole": [1.0, None] * (n // 2), "flag": [1.0, None] * (n // 2)},
      lambda i: str(i + 5))
json.dump(held, sys.stdout)
"#;

type Held = BTreeMap<String, BTreeMap<String, Vec<serde_json::Value>>>;

#[test]
fn tables_of_pyarrow_and_pandas_are_read_as_they_hold_them() {
    let Some(python) = python("numpy, pandas, pyarrow") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let written = Command::new(python)
        .args(["-c", WRITE])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(
        written.status.success(),
        "{}",
        String::from_utf8_lossy(&written.stderr)
    );
    let held: Held = serde_json::from_slice(&written.stdout).unwrap();
    assert!(held.len() > 10);
    for (name, columns) in held {
        read_one(&folder.path().join(format!("{name}.parquet")), columns);
    }
}

fn read_one(path: &Path, mut columns: BTreeMap<String, Vec<serde_json::Value>>) {
    let table = Table::open(path, None, &[]).unwrap();
    assert_eq!(
        columns.remove("id").unwrap(),
        table.ids,
        "{}",
        path.display()
    );
    assert_eq!(columns.len(), table.columns.len(), "{}", path.display());
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let read = table.read_columns(&all).unwrap();
    for (name, found) in table.columns.iter().zip(&read) {
        let expected = columns[name]
            .iter()
            .map(|value| value.as_f64().unwrap_or(f64::NAN));
        for (row, (expected, found)) in expected.zip(found).enumerate() {
            let same = expected.to_bits() == found.to_bits() || expected.is_nan() && found.is_nan();
            assert!(
                same,
                "`{name}` of `{}`, row {row}: {expected} {found}",
                path.display()
            );
        }
    }
}
