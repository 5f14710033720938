use std::io::Write as _;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use super::*;

const KNOWN: [&str; 6] = ["S1", "S2", "1018682", "1026337", "7", "NEG CONTROL"];

fn read_known(text: &[u8], id_column: Option<&str>) -> Result<IdList, IdListError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keep.txt");
    fs_err::write(&path, text).unwrap();
    read_id_list(&path, id_column, &|id| KNOWN.contains(&id))
}

fn read(text: &[u8]) -> Result<Vec<String>, IdListError> {
    Ok(read_known(text, None)?.ids)
}

#[test]
fn every_layout_gives_the_same_ids() {
    let layouts = [
        "S1\nS2\nS1\n",
        "S1\r\nS2\r\n\r\nS1",
        "S1\rS2\rS1\r",
        "\u{feff}S1\nS2\nS1\n",
        "IID\nS1\nS2\nS1\n",
        "#IID\nS1\nS2\nS1\n",
        "#IID SEX\nS1 1\nS2 2\nS1 1\n",
        "F S1\nF S2\nF\tS1\n",
        "F S1\rF S2\r",
        "FID IID\nF S1\nF S2\nF S1\n",
        "fid,iid\nF,S1\nF,S2\n",
        "F,S1\nF,S2\n",
        "#FID\tIID\tSEX\nF\tS1\t1\nF\tS2\t2\nF\tS1\t1\n",
        "# made by hand\nS1\n# more\nS2\nS1\n",
        "# made by hand, \"today\nS1\nS2\n",
        "person,reason\nS1,left\nS2,\"left, and moved\"\n",
        "\"S1\"\n\"S2\"\n",
        "S1,left\nS2,moved\n",
        "S1;1\nS2;2\n",
        "S1\tleft \"us\nS2\t\"moved\n",
        "S1 left the study\nS2 moved\n",
        "eid\nS1,\nS2,\n",
        "S1,\nS2,\n",
        "\"\",\"x\"\n\"1\",\"S1\"\n\"2\",\"S2\"\n",
        "\"x\"\n\"1\" \"S1\"\n\"2\" \"S2\"\n",
        "x\n1\tS1\n2\tS2\n",
        "Unnamed: 0,person\n0,S1\n1,S2\n",
        ",0\n0,S1\n1,S2\n",
        "n,person,reason\n1,S1,left\n2,S2,moved\n",
    ];
    for layout in layouts {
        assert_eq!(read(layout.as_bytes()).unwrap(), ["S1", "S2"], "{layout:?}");
    }
    assert_eq!(read(b"").unwrap(), Vec::<String>::new());
    assert_eq!(read(b"IID\n").unwrap(), Vec::<String>::new());
}

#[test]
fn the_first_line_may_be_an_id() {
    for text in [
        "1018682\n1026337\n",
        "1018682",
        "S1\nS9\n",
        "unknown\nS1x\n",
    ] {
        let first = text.lines().next().unwrap();
        let is_id = first != "unknown";
        assert_eq!(
            read(text.as_bytes()).unwrap()[0] == first,
            is_id,
            "{text:?}"
        );
    }
}

#[test]
fn numbers_with_a_fraction_and_ids_with_blanks() {
    let list = read_known(b"eid\n1018682.0\n1026337.00\n5.5\n", None).unwrap();
    assert_eq!(list.ids, ["1018682", "1026337", "5.5"]);
    assert!(
        list.warnings[0].starts_with("2 ids have a fraction"),
        "{:?}",
        list.warnings
    );
    assert_eq!(read(b"S1\nNEG CONTROL\n").unwrap(), ["S1", "NEG CONTROL"]);
    assert_eq!(read(b"NEG CONTROL\n").unwrap(), ["NEG CONTROL"]);
}

#[test]
fn a_column_by_name_and_one_that_meets() {
    let text = b"IID,other\nS1,S2\n";
    assert_eq!(read_known(text, Some("other")).unwrap().ids, ["S2"]);
    assert_eq!(read_known(text, Some("absent")).unwrap().ids, ["S1"]);
    let list = read_known(b"number,person\n1,S1\n2,S2\n", None).unwrap();
    assert_eq!(list.column, "column `person`");
    assert!(
        list.warnings[0].contains("no id in column `number`"),
        "{:?}",
        list.warnings
    );
    // Both columns have known ids: the second is the id, with a warning.
    let list = read_known(b"7 1018682\n7 1026337\n", None).unwrap();
    assert_eq!(list.ids, ["1018682", "1026337"]);
    assert!(
        list.warnings[0].contains("there is no header"),
        "{:?}",
        list.warnings
    );
    // If both are the same id, there is no warning.
    let list = read_known(b"S1 S1\nS2 S2\n", None).unwrap();
    assert_eq!((list.ids.len(), list.warnings.len()), (2, 0));
}

#[test]
fn gzip_and_parquet() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"eid,reason\nS1,left\nS2,left\n").unwrap();
    assert_eq!(read(&gzip.finish().unwrap()).unwrap(), ["S1", "S2"]);
    let parquet = |columns: Vec<(&str, ArrayRef)>| {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        read(&writer.into_inner().unwrap()).unwrap()
    };
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["S1", "S2", "S1"]));
    assert_eq!(parquet(vec![("person", texts.clone())]), ["S1", "S2"]);
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1018682.0, 7.0, 1026337.0]));
    assert_eq!(parquet(vec![("eid", floats)]), ["1018682", "7", "1026337"]);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 2]));
    assert_eq!(
        parquet(vec![("n", numbers), ("person", texts)]),
        ["S1", "S2"]
    );
}

#[test]
fn errors_name_the_file_and_line() {
    let said = |text: &[u8]| read(text).unwrap_err().to_string();
    let error = said(b"S1\nF S2\n");
    assert!(error.starts_with("line 2 of the id list `"), "{error}");
    assert!(
        error.contains("has 2 fields, the lines before it 1; write one sample id per line"),
        "{error}"
    );
    assert!(
        said(b"eid,reason\nS1,left\nS2\n").contains("line 3"),
        "a line without a reason"
    );
    let error = said(b"eid,reason\nS1,\"left\nS2,left\"\nS3,left\n");
    assert!(error.contains("a quote that is not closed"), "{error}");
    assert!(
        said(b"S1,S2,1018682\n").contains("line 1 of the id list")
            && said(b"S1 S2 7").contains("holds 3 ids")
    );
    let error = said(b"eid,reason\n# none\n,left\n");
    assert!(
        error.contains("line 3") && error.contains("no id in column `eid`"),
        "{error}"
    );
    let error = said(b"\xff\xfe\x00");
    assert!(error.contains("could not read the id list"), "{error}");
    assert!(
        said(b"S\xff").contains("neither Parquet nor UTF-8 text"),
        "Latin-1"
    );
    let absent = read_id_list(Path::new("no/such/list"), None, &|_| false);
    let error = absent.unwrap_err().to_string();
    assert_eq!(error, "could not read the id list `no/such/list`");
}
