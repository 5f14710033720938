//! Tables as other programs write them: row numbers and second ids, no header, stray quotes, parts, files of other kinds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::Compression;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};

use super::tests::write;
use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs_err::write(&path, text).unwrap();
        path
    }

    fn open(&self, text: impl AsRef<[u8]>) -> Result<Table, TableError> {
        Table::open(&self.put("t.csv", text), None, &[])
    }

    fn refused(&self, text: impl AsRef<[u8]>) -> String {
        self.open(text).unwrap_err().to_string()
    }

    fn parquet(&self, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let path = self.0.path().join("t.parquet");
        write(&path, columns, Compression::SNAPPY, 3);
        path
    }
}

/// A table of six rows whose columns are given each by its name and values.
fn text(columns: &[(&str, &str)]) -> String {
    let names: Vec<&str> = columns.iter().map(|it| it.0).collect();
    let values: Vec<Vec<&str>> = columns.iter().map(|it| it.1.split(' ').collect()).collect();
    let mut text = names.join(",");
    for row in 0..values[0].len() {
        let fields: Vec<&str> = values.iter().map(|it| it[row]).collect();
        text += &format!("\n{}", fields.join(","));
    }
    text + "\n"
}

const IDS: &str = "1018 1026 1037 1022 1071 1178";
const Y: &str = "4.5 2.5 2.25 3.5 1.5 0.5";

#[test]
fn row_numbers_and_second_ids_are_no_values() {
    let folder = Folder::new();
    let (one, zero) = ("1 2 3 4 5 6", "0 1 2 3 4 5");
    let (some, shuffled) = ("2 3 5 8 9 40", "3 0 1 5 4 2");
    for (first, name, values, id) in [
        (true, "", one, "eid"),
        (true, "\"\"", one, "eid"),
        (true, "Unnamed: 0", zero, "eid"),
        (true, "Unnamed: 0", some, "eid"),
        (true, "Unnamed: 0.1", zero, "eid"),
        (true, "...1", one, "eid"),
        (true, "X", one, "eid"),
        (true, "V1", IDS, "eid"),
        (true, "index", zero, "eid"),
        (true, "index", shuffled, "eid"),
        (true, "index", some, "eid"),
        (true, "rownames", one, "eid"),
        (true, "row_names", IDS, "IID"),
        (false, "Unnamed: 5", zero, "eid"),
        (true, "FID", "0 0 0 0 0 0", "IID"),
        (true, "fid", IDS, "iid"),
        (true, "#FID", IDS, "IID"),
        (true, "eid", IDS, "IID"),
        (true, "ID_1", IDS, "ID_2"),
        (false, "iid", IDS, "IID"),
        (false, "eid", IDS, "f.eid"),
    ] {
        let odd = (name, values);
        let columns = match first {
            true => [odd, (id, IDS), ("y", Y)],
            false => [(id, IDS), ("y", Y), odd],
        };
        let table = folder.open(text(&columns)).unwrap();
        let case = format!("{name} beside {id}");
        assert_eq!(table.columns, ["y"], "{case}");
        assert_eq!(table.ids, IDS.split(' ').collect::<Vec<_>>(), "{case}");
        let said = table.origin.warnings.join("\n");
        let plain = name.trim_matches(['"', '#']);
        assert!(
            said.contains("left out") && said.contains(plain),
            "{case}: {said}"
        );
        if !plain.is_empty() {
            let path = folder.0.path().join("t.csv");
            let table = Table::open(&path, None, &[plain.to_owned()]).unwrap();
            assert_eq!(table.columns, [plain], "named in full, {case}");
            let glob = Table::open(&path, None, &["*".to_owned()]).unwrap();
            assert_eq!(glob.columns, ["y"], "{case}");
            assert!(glob.origin.warnings.join("").contains("left out"), "{case}");
        }
    }
    // The row numbers of a sorted table would join tables by their rows.
    for name in ["", "Unnamed: 0", "index", "rownames"] {
        let csv = text(&[(name, shuffled), ("participant", IDS), ("y", Y)]);
        let table = folder.open(csv).unwrap();
        assert_eq!(table.id_column, "participant", "{name}");
        assert_eq!(table.columns, ["y"], "{name}");
    }
    let table = folder.open(text(&[("nr", one), ("y", Y)])).unwrap();
    let said = table.origin.warnings.join("");
    assert!(
        table.id_column == "nr" && said.contains("count the rows"),
        "{said}"
    );
    // Columns with these names that hold values are kept.
    for (name, values) in [("X", "3 1 1 2 2 1"), ("index", Y), ("V1", shuffled)] {
        let table = folder.open(text(&[("eid", IDS), (name, values)])).unwrap();
        assert_eq!(table.columns, [name]);
    }
    // Others are kept, with a warning.
    for (name, values) in [("visit", one), ("person", IDS)] {
        let csv = text(&[("eid", IDS), (name, values), ("y", Y)]);
        let table = folder.open(csv).unwrap();
        assert_eq!(table.columns, [name, "y"]);
        let said = &table.origin.warnings;
        assert!(said.len() == 1 && said[0].contains(name), "{said:?}");
    }
    let plain = folder.open(text(&[("eid", IDS), ("y", Y)])).unwrap();
    assert_eq!(plain.origin.warnings, Vec::<String>::new());
}

#[test]
fn parquet_says_what_text_says_of_row_numbers() {
    let folder = Folder::new();
    let ids: Vec<i64> = IDS.split(' ').map(|it| it.parse().unwrap()).collect();
    let integers = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let path = folder.parquet(vec![
        ("Unnamed: 0", integers((0..6).collect())),
        ("IID", integers(ids.clone())),
        ("eid", integers(ids.clone())),
        ("person", integers(ids)),
        (
            "count",
            Arc::new(Float64Array::from_iter_values((1..7).map(f64::from))),
        ),
        ("y", Arc::new(Float64Array::from(vec![0.5; 6]))),
    ]);
    let table = Table::open(&path, None, &[]).unwrap();
    assert_eq!(table.columns, ["person", "count", "y"]);
    let said = table.origin.warnings.join("\n");
    for word in [
        "left out `Unnamed: 0`, `eid`",
        "ids again",
        "`person`",
        "row numbers",
        "`count`",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn row_numbers_are_not_taken_for_ids() {
    let folder = Folder::new();
    for name in ["", "Unnamed: 0", "X", "index"] {
        let rows = (name, "1 2 3 4 5 6");
        let table = folder
            .open(text(&[rows, ("person", IDS), ("y", Y)]))
            .unwrap();
        assert_eq!(
            (table.id_column.as_str(), &table.columns[..]),
            ("person", &["y".to_owned()][..])
        );
        let error = folder.refused(text(&[rows, ("height", Y), ("crp", Y)]));
        assert!(
            error.contains("column `height`") && error.contains("cannot hold sample ids"),
            "{error}"
        );
        // Row numbers with gaps.
        let table = folder
            .open(text(&[(name, "2 3 5 8 9 40"), ("person", IDS), ("y", Y)]))
            .unwrap();
        assert_eq!(table.id_column, "person");
        // The row names of R and pandas are ids if they are not row numbers.
        let table = folder.open(text(&[(name, IDS), ("y", Y)])).unwrap();
        assert_eq!(table.ids[0], "1018");
    }
    let path = folder.put("t.csv", text(&[("X", "1 2 3 4 5 6"), ("y", Y)]));
    assert_eq!(Table::open(&path, Some("X"), &[]).unwrap().ids[0], "1");
}

/// Writes Parquet as pandas does, with its index in the columns `index`.
fn write_pandas(path: &Path, columns: Vec<(&str, ArrayRef)>, index: &[&str]) {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let said = format!("{{\"index_columns\": {index:?}}}");
    let schema = Schema::new_with_metadata(fields, [("pandas".to_owned(), said)]);
    let arrays = columns.into_iter().map(|it| it.1).collect();
    let batch = RecordBatch::try_new(Arc::new(schema), arrays).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn the_index_of_pandas_holds_the_ids_unless_it_counts_rows() {
    let folder = Folder::new();
    let path = folder.0.path().join("t.parquet");
    let integers = |values: &str| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(
            values.split(' ').map(|it| it.parse::<i64>().unwrap()),
        ))
    };
    let floats = || -> ArrayRef { Arc::new(Float64Array::from(vec![0.5; 6])) };
    let unnamed = "__index_level_0__";
    for (first, index, values, expected) in [
        (("height", floats()), unnamed, IDS, unnamed),
        (("height", floats()), "person", IDS, "person"),
        (
            ("dis", integers("0 1 0 1 0 1")),
            unnamed,
            "1018 1026 1037 1040 1071 1178",
            unnamed,
        ),
        (("person", integers(IDS)), unnamed, "0 3 5 8 9 40", "person"),
        (("person", integers(IDS)), unnamed, "0 1 2 3 4 5", "person"),
    ] {
        let columns = vec![first, ("y", floats()), (index, integers(values))];
        write_pandas(&path, columns, &[index]);
        let table = Table::open(&path, None, &[]).unwrap();
        assert_eq!(table.id_column, expected);
        assert!(
            !table.columns.iter().any(|it| it == unnamed),
            "{:?}",
            table.columns
        );
        assert!(!table.origin.warnings.is_empty());
    }
    // One of several levels may be the ids; the others are kept, with a warning.
    let columns = vec![
        ("y", floats()),
        ("eid", integers(IDS)),
        ("visit", integers("0 0 1 1 2 2")),
    ];
    write_pandas(&path, columns, &["eid", "visit"]);
    let table = Table::open(&path, None, &[]).unwrap();
    assert_eq!((table.id_column.as_str(), table.columns.len()), ("eid", 2));
    let said = table.origin.warnings.join("\n");
    let expected =
        "1 column seems to be of pandas' index, and is taken as a value all the same: `visit`";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn row_numbers_that_fall_are_named() {
    let folder = Folder::new();
    let table = folder
        .open(text(&[("eid", IDS), ("left", "6 5 4 3 2 1"), ("y", Y)]))
        .unwrap();
    let said = table.origin.warnings.join("\n");
    assert!(
        said.contains("1 column seems to be row numbers, and is taken as a value"),
        "{said}"
    );
    assert!(said.contains("`left`"), "{said}");
}

#[test]
fn a_table_without_header_is_told() {
    let folder = Folder::new();
    for first in ["1018682,4.1458", "S1,4.5", "S1,NA,1"] {
        let rows = format!("{first}\n{}\n", first.replace('1', "2"));
        let error = folder.refused(&rows);
        assert!(
            error.contains("has no header: its first line is") && error.contains(first),
            "{error}"
        );
    }
    for (line, separator) in [
        ("0 %d 4.5", " "),
        ("%d %d NA", " "),
        ("0 %d 4.5", "\t"),
        ("0 %d 4.5", ","),
        ("10%d %d 4.5", "\t"),
    ] {
        let rows = (11..14).map(|it| line.replace("%d", &it.to_string()).replace(' ', separator));
        let rows: Vec<String> = rows.collect();
        let table = folder.open(rows.join("\n")).unwrap();
        assert_eq!(
            (table.ids.as_slice(), &table.columns[..]),
            (
                &["11", "12", "13"].map(str::to_owned)[..],
                &["value".to_owned()][..]
            )
        );
        let said = table.origin.warnings.join("\n");
        assert!(said.contains("no header"), "{said}");
        assert_eq!(table.read_columns(&[0]).unwrap()[0].len(), 3);
    }
    let fam = folder.open("1 1 0 0 1 2\n2 2 0 0 2 -9\n").unwrap();
    assert_eq!(fam.columns, ["SEX", "PHENO"]);
    let sample = "ID_1 ID_2 missing sex\n0 0 0 D\n7 7 0.01 1\n8 8 0.02 2\n";
    let table = folder.open(sample).unwrap();
    assert_eq!(
        (&table.ids[..], &table.columns[..]),
        (&["7", "8"].map(str::to_owned)[..], &["sex".to_owned()][..])
    );
    let numbers = |values: &[f64]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
    let path = folder.parquet(vec![
        ("1018682", numbers(&[7.0])),
        ("4.1458", numbers(&[1.0])),
    ]);
    let error = Table::open(&path, None, &[]).unwrap_err().to_string();
    assert!(error.contains("called as values are"), "{error}");
}

#[test]
fn stray_quotes_merge_no_rows() {
    let folder = Folder::new();
    let reading = Reading {
        columns: Columns::Matching(vec!["y".to_owned()]),
        text_columns: vec!["note".to_owned()],
        ..Reading::default()
    };
    let path = folder.put(
        "t.tsv",
        "id\tnote\ty\n1\t\"tall\t1\n2\tplain\t2\n\"3\"\t\"5 \"\"feet\"\"\"\t3\n4\t\"small\t4\n5\tb\"c\"\t5\n",
    );
    let table = Table::open_as(&path, &reading).unwrap();
    assert_eq!(table.ids, ["1", "2", "3", "4", "5"]);
    assert_eq!(
        table.read_columns(&[0]).unwrap()[0],
        [1.0, 2.0, 3.0, 4.0, 5.0]
    );
    let notes =
        ["\"tall", "plain", "5 \"feet\"", "\"small", "b\"c\""].map(|it| Some(it.to_owned()));
    assert_eq!(table.read_text(0).unwrap(), notes);
    assert_eq!((table.origin.rows, table.origin.lines), (5, Some(6)));

    for (csv, line) in [
        ("id,note,y\n1,\"tall,1\n2,plain,2\n3,\"small,3\n", 2),
        ("id,note,y\n1,a,1\n2,\"tall,1\n3,small\",2\n", 3),
        ("id,note,y\n\n1,a,1\n2,\"two\nlines\",2\n3,b,3\n", 4),
        ("id;note;y\n1;a;1\n2;b;2\n3;\"never closed;3\n4;c;4\n", 4),
    ] {
        let error = folder.refused(csv);
        assert!(
            error.contains(&format!("begins with a quote in line {line} of")),
            "{csv:?} {error}"
        );
    }
    let path = folder.put(
        "q.csv",
        "id,note,y\r\n1,\"a, \"\"b\"\"\",1\r\n\r\n2,5\" 3\",2",
    );
    let table = Table::open_as(&path, &reading).unwrap();
    let notes = ["a, \"b\"", "5\" 3\""].map(|it| Some(it.to_owned()));
    assert_eq!(table.read_text(0).unwrap(), notes);
    assert_eq!(table.origin.lines, Some(3));
}

#[test]
fn what_is_wrong_with_separators_is_told() {
    let folder = Folder::new();
    for (csv, words) in [
        (
            "FID\tIID\ty\n1 1 4.5\n2 2 3\n",
            "stand between tabs, this line's between blanks",
        ),
        (
            "a,b,c\n1;2;3\n",
            "stand between commas, this line's between semicolons",
        ),
        (
            "id,y\n1,2,\n2,3,\n",
            "ends with a separator that the header lacks",
        ),
        ("id,y,\n1,2\n", "the header ends with a separator"),
        (
            "id;y\n1;4,1458\n2;-0,5\n",
            "a decimal comma, `4,1458` in line 2); write numbers with a decimal point",
        ),
    ] {
        let error = folder.refused(csv);
        assert!(error.contains(words), "{error}");
    }
    for csv in [
        "sep=,\nid,y\n7,1.5\n8,2\n",
        "sep=;\r\nid;y\r\n7;1.5\r\n8;2\r\n",
        "id,y,,\n7,1.5,,\n8,2,,\n",
    ] {
        let table = folder.open(csv).unwrap();
        assert_eq!(
            (&table.ids[..], &table.columns[..]),
            (&["7", "8"].map(str::to_owned)[..], &["y".to_owned()][..]),
            "{csv}"
        );
        assert_eq!(table.read_columns(&[0]).unwrap()[0], [1.5, 2.0]);
    }
}

#[test]
fn files_of_other_kinds_say_what_they_are() {
    let folder = Folder::new();
    let matrix = "Protein.Group\tGenes\tD:\\1.raw\tD:\\2.raw\nP1\tG1\t1\t2\n";
    let numbers: Vec<String> = (0..12).map(|it| (1_018_682 + it).to_string()).collect();
    let turned = format!(
        "gene,description,{}\np1,text{}\n",
        numbers.join(","),
        ",1".repeat(12)
    );
    for (content, words) in [
        (
            &b"PK\x03\x04\x14\0....[Content_Types].xml"[..],
            "Excel workbook (xlsx)",
        ),
        (b"PK\x03\x04\x14\0....a.csv", "zip archive"),
        (b"\xfd7zXZ\0\0\x04", "packed with xz"),
        (b"\x28\xb5\x2f\xfd\x04", "packed with Zstandard"),
        (b"!Checksum\tabc\n^HEADER\n", "SomaLogic's ADAT"),
        (matrix.as_bytes(), "DIA-NN's matrix"),
        (turned.as_bytes(), "turn the table over"),
        (b"eid,y\n", "has no rows"),
    ] {
        let error = folder.refused(content);
        assert!(error.contains(words), "{words}: {error}");
    }
    let empty: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
    let path = folder.parquet(vec![("eid", empty.clone()), ("y", empty)]);
    let error = Table::open(&path, None, &[]).unwrap_err().to_string();
    assert!(error.contains("has no rows"), "{error}");
}

#[test]
fn a_folder_of_parts_is_one_table() {
    let folder = Folder::new();
    let parts = folder.0.path().join("t.parquet");
    fs_err::create_dir(&parts).unwrap();
    let part = |name: &str, ids: &[&str], y: ArrayRef| {
        let ids: ArrayRef = Arc::new(StringArray::from(ids.to_vec()));
        write(
            &parts.join(name),
            vec![("id", ids), ("y", y)],
            Compression::SNAPPY,
            2,
        );
    };
    part(
        "part-1.parquet",
        &["d", "e"],
        Arc::new(Int64Array::from(vec![4, 5])),
    );
    part(
        "part-0.parquet",
        &["a", "b", "c"],
        Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0])),
    );
    fs_err::write(parts.join("_SUCCESS"), "").unwrap();
    fs_err::write(parts.join(".part-0.parquet.crc"), "x").unwrap();
    let table = Table::open(&parts, None, &[]).unwrap();
    assert_eq!(table.ids, ["a", "b", "c", "d", "e"]);
    assert_eq!(
        table.read_columns(&[0]).unwrap()[0],
        [1.0, 2.0, 3.0, 4.0, 5.0]
    );
    assert_eq!(table.read_columns_of(&[0], 2..4).unwrap()[0], [3.0, 4.0]);
    assert_eq!(table.read_columns_of(&[0], 4..5).unwrap()[0], [5.0]);
    assert_eq!(files(&parts).unwrap().len(), 2);

    let refused = || Table::open(&parts, None, &[]).unwrap_err().to_string();
    part(
        "part-2.parquet",
        &["f"],
        Arc::new(StringArray::from(vec!["x"])),
    );
    assert!(
        refused().contains("not numeric: `y` (Utf8)"),
        "{}",
        refused()
    );
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["f"]));
    write(
        &parts.join("part-2.parquet"),
        vec![("id", ids.clone()), ("z", ids)],
        Compression::SNAPPY,
        2,
    );
    assert!(
        refused().contains("which differ in their columns"),
        "{}",
        refused()
    );
    fs_err::write(parts.join("part-2.parquet"), "id,y\n").unwrap();
    assert!(
        refused().contains("`part-2.parquet`, which is no Parquet file"),
        "{}",
        refused()
    );
    fs_err::remove_file(parts.join("part-2.parquet")).unwrap();
    fs_err::create_dir(parts.join("site=1")).unwrap();
    assert!(refused().contains("the folder `site=1`"), "{}", refused());
    let bare = folder.0.path().join("bare");
    fs_err::create_dir(&bare).unwrap();
    let error = Table::open(&bare, None, &[]).unwrap_err().to_string();
    assert!(error.contains("it holds no file"), "{error}");
}

#[test]
fn a_text_table_that_is_too_wide_says_its_limit() {
    let names: String = (0..1_000_000).map(|it| format!(",g{it}")).collect();
    let values = ",7".repeat(1_000_000);
    let error = Folder::new().refused(format!("id{names}\na{values}\n"));
    assert!(
        error.contains("has 1000001 columns, at most 1000000 are read of text"),
        "{error}"
    );
}

#[test]
fn missing_values_hold_for_long_tables() {
    let folder = Folder::new();
    let path = folder.put(
        "npx.csv",
        "SampleID;OlinkID;NPX;QC_Warning\nA;OID1;-9;Pass\nA;OID2;low;Pass\nB;OID1;1;Pass\nB;OID2;2;low\n",
    );
    let reading = Reading {
        missing_values: ["-9.0", "low"].map(str::to_owned).to_vec(),
        ..Reading::default()
    };
    let table = Table::open_as(&path, &reading).unwrap();
    let read = table.read_columns(&[0, 1]).unwrap();
    let nan = f64::NAN;
    assert!(
        super::text_tests::same(&read, &[vec![nan, 1.0], vec![nan, 2.0]]),
        "{read:?}"
    );
}
