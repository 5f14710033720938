//! Text in every layout, the errors of text that is refused, and the column names of UK Biobank.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::basic::Compression;
use arrow_array::{ArrayRef, Float64Array, Int32Array, StringArray};
use flate2::read::GzEncoder;

use super::tests::write;
use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("t.csv")
    }

    fn open(&self, text: impl AsRef<[u8]>) -> Result<Table, TableError> {
        self.open_as(text, &Reading::default())
    }

    fn open_as(&self, text: impl AsRef<[u8]>, reading: &Reading) -> Result<Table, TableError> {
        fs_err::write(self.path(), text).unwrap();
        Table::open_as(&self.path(), reading)
    }

    fn refused(&self, text: impl AsRef<[u8]>) -> String {
        self.open(text).unwrap_err().to_string()
    }
}

/// Whether two sets of columns are the same, NaN equal to itself.
pub(super) fn same(read: &[Vec<f64>], expected: &[Vec<f64>]) -> bool {
    let mut pairs = read.iter().flatten().zip(expected.iter().flatten());
    read.len() == expected.len() && pairs.all(|(a, b)| a == b || (a.is_nan() && b.is_nan()))
}

#[test]
fn every_layout_reads_the_same() {
    let folder = Folder::new();
    let nan = f64::NAN;
    let expected = [vec![1.5, nan, -2e-3, 1.0], vec![7.0, 0.0, nan, 1e300]];
    let layouts = [
        "id,y1,y2\n007,1.5,7\nA b,NA,0\n\"c,d\",-2e-3,\nE,true,1e300\n",
        "\u{feff}id;y1;y2\r\n007;1.5;7\r\nA b;.;0\r\n\"c,d\";-2e-3;null\r\nE;TRUE;1e300",
        "\n #id \ty1\t y2\n007\t1.5\t7\nA b\tnan\t0\n\nc,d\t-2e-3\t#N/A\nE\t+1\t1e300\n",
        "\"y1\",\"y2\",\"IID\"\n1.5,7,007\n,0,A b\n\"-2e-3\",n/a,\"c,d\"\nTrue,1e300,E\n",
    ];
    for layout in layouts {
        let mut gzipped = Vec::new();
        // Two gzip members, as bgzip writes them.
        for part in [&layout.as_bytes()[..9], &layout.as_bytes()[9..]] {
            let mut encoder = GzEncoder::new(part, flate2::Compression::fast());
            encoder.read_to_end(&mut gzipped).unwrap();
        }
        for content in [layout.as_bytes(), &gzipped] {
            let table = folder.open(content).unwrap();
            assert_eq!(table.ids, ["007", "A b", "c,d", "E"], "{layout}");
            assert_eq!(table.columns, ["y1", "y2"], "{layout}");
            let read = table.read_columns(&[0, 1]).unwrap();
            assert!(same(&read, &expected), "{layout} {read:?}");
            let read = table.read_columns_of(&[1, 0, 1], 1..3).unwrap();
            let part = [vec![0.0, nan], vec![nan, -2e-3], vec![0.0, nan]];
            assert!(same(&read, &part), "{layout} {read:?}");
        }
    }
    let plink = "FID IID  y1 y2\nf 007\t1.5 7 \n f A NA 0\n\nf \"B\" -2e-3 .\nf E 1 1e300";
    let table = folder.open(plink).unwrap();
    assert_eq!(table.id_column, "IID");
    assert_eq!(table.ids, ["007", "A", "B", "E"]);
    assert_eq!(table.columns, ["y1", "y2"]);
    assert!(same(&table.read_columns(&[0, 1]).unwrap(), &expected));
}

#[test]
fn what_means_missing_can_be_said() {
    let folder = Folder::new();
    let reading = Reading {
        missing_values: ["-9", "low"].map(str::to_owned).to_vec(),
        text_columns: vec!["site".to_owned()],
        ..Reading::default()
    };
    let text = "id,y,site\na,-9,x\nb,-9.0,-9\nc,low,\nd,9,low\n";
    let table = folder.open_as(text, &reading).unwrap();
    let nan = f64::NAN;
    let read = table.read_columns(&[0]).unwrap();
    assert!(same(&read, &[vec![nan, nan, nan, 9.0]]), "{read:?}");
    let sites = [Some("x".to_owned()), None, None, None];
    assert_eq!(table.read_text(0).unwrap(), sites);
    let error = folder.refused(text);
    assert!(
        error.starts_with("2 of 2 columns selected from")
            && error.contains("`y` (`low` in line 4), `site` (`x` in line 2);")
            && error.contains("--missing-values"),
        "{error}"
    );
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ("y", Arc::new(Float64Array::from(vec![-9.0, 1.0, 2.0]))),
        ("site", Arc::new(Int32Array::from(vec![3, -9, 3]))),
    ];
    write(&folder.path(), columns, Compression::SNAPPY, 2);
    let table = Table::open_as(&folder.path(), &reading).unwrap();
    let read = table.read_columns(&[0]).unwrap();
    assert!(same(&read, &[vec![nan, 1.0, 2.0]]), "{read:?}");
    let sites = [Some("3".to_owned()), None, Some("3".to_owned())];
    assert_eq!(table.read_text(0).unwrap(), sites);
}

#[test]
fn what_is_no_table_is_named_by_line() {
    let folder = Folder::new();
    let path = folder.path();
    let name = path.display();
    assert_eq!(
        folder.refused("id,dob,note,x\na,1950-01-02,,1\n\nb,,see file,2\n"),
        format!(
            "2 of 3 columns selected from `{name}` are not numeric: `dob` (a date, `1950-01-02` in line 2), \
             `note` (`see file` in line 4); select the numeric ones by name or glob, rewrite them as numbers, \
             or say with `--missing-values` what means missing"
        )
    );
    assert_eq!(
        folder.refused("id,x\na,1\nb,1,2\n"),
        format!(
            "line 3 of `{name}` has 3 fields, the header 2; give every row a field for each column \
             (R writes row names without a header unless `row.names = FALSE`)"
        )
    );
    for (text, line) in [
        ("FID IID x\n1 1 1\n\n1 2\n", 4),
        ("id,x\r\na,1\r\nb,1\r\n\r\nc\r\n", 5),
        ("id,x\ra,1\rb\r", 3),
    ] {
        let error = folder.refused(text);
        assert!(
            error.starts_with(&format!("line {line} of")),
            "{text:?} {error}"
        );
    }
    assert!(folder.refused(b"id,x\na,1\nb,\xff\n").contains("(line 3)"));
    assert!(
        folder
            .refused(b"\xff\xfei\0d\0")
            .contains("neither Parquet nor UTF-8 text (line 1)")
    );
    assert!(
        folder
            .refused(b"\x1f\x8b\x08not gzip")
            .starts_with("could not read `")
    );
    assert!(folder.refused("id,x\n,1\n").starts_with("1 sample id of"));
    assert!(
        folder
            .refused("id,x,x\na,1,1\n")
            .contains("more than one column of the name `x`")
    );
    assert!(folder.refused("\n\n").contains("is empty"));
    assert!(
        folder
            .refused("id\na\n")
            .contains("no column beside its sample ids `id`")
    );
    let infinite = folder.open("id,x\na,inf\n").unwrap();
    let error = infinite.read_columns(&[0]).unwrap_err().to_string();
    assert!(error.contains("column `x` of sample `a`"), "{error}");
}

#[test]
fn columns_too_large_for_memory_are_kept_in_a_file_without_a_name() {
    let folder = Folder::new();
    let (n, p) = (900, 10_000);
    let mut text = String::from("id");
    (0..p).for_each(|column| text.push_str(&format!(",x{column}")));
    for row in 0..n {
        text.push_str(&format!("\nS{row}"));
        (0..p).for_each(|column| text.push_str(&format!(",{}", (row * 7 + column) % 10)));
    }
    let reading = |name: &str| Reading {
        folder: Some(folder.0.path().join(name)),
        ..Reading::default()
    };
    fs_err::create_dir(folder.0.path().join("kept")).unwrap();
    let table = folder.open_as(&text, &reading("kept")).unwrap();
    assert_eq!(
        fs_err::read_dir(folder.0.path().join("kept"))
            .unwrap()
            .count(),
        0
    );
    let read = table.read_columns(&[9_999, 3]).unwrap();
    for (column, values) in [(9_999, &read[0]), (3, &read[1])] {
        assert_eq!(values.len(), n);
        for (row, value) in values.iter().enumerate() {
            assert_eq!(*value, ((row * 7 + column) % 10) as f64);
        }
    }
    let error = folder
        .open_as(&text, &reading("absent"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("could not keep the columns of") && error.contains("--scratch"),
        "{error}"
    );
    // Small ones need no folder.
    assert!(folder.open_as("id,x\na,1\n", &reading("absent")).is_ok());
}

#[test]
fn names_of_uk_biobank_are_known() {
    let folder = Folder::new();
    let wide = "olink_instance_0.il6,participant.eid,participant.p31,olink_instance_0.eid\n\
                1,1000012,0,1\n2,-3,1,2\n3,-3,1,2\n";
    let table = folder.open(wide).unwrap();
    assert_eq!(table.id_column, "participant.eid");
    assert_eq!(table.columns, ["olink_instance_0.il6", "participant.p31"]);
    let said = &table.origin.warnings;
    assert!(
        said.len() == 1 && said[0].starts_with("left out `olink_instance_0.eid`, "),
        "{said:?}"
    );
    assert!(table.is_withdrawn("-3") && !table.is_withdrawn("1000012"));
    for (patterns, expected) in [
        (&["il6"][..], &["olink_instance_0.il6"][..]),
        (&["p31"], &["participant.p31"]),
        (&["participant.*"], &["participant.p31"]),
        (&["olink_instance_0.eid"], &["olink_instance_0.eid"]),
    ] {
        let patterns: Vec<String> = patterns.iter().map(|it| (*it).to_owned()).collect();
        let table = Table::open(&folder.path(), None, &patterns).unwrap();
        assert_eq!(table.columns, expected);
    }
    for (header, id) in [
        ("f.31.0.0,f.eid", "f.eid"),
        ("31-0.0,eid", "eid"),
        ("x,n_eid", "n_eid"),
    ] {
        let table = folder.open(format!("{header}\n1,5\n")).unwrap();
        assert_eq!((table.id_column.as_str(), table.ids[0].as_str()), (id, "5"));
    }
    let error = folder.refused("person,x\n-1,1\n-1,1\n");
    assert!(
        error.contains("1 sample id of") && error.contains("stands in more than one row"),
        "{error}"
    );
}
