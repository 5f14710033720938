//! Long files: new and old exports of Olink, and the table of UK Biobank.

use std::sync::Arc;

use ::parquet::basic::Compression;
use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};

use super::tests::{case, write};
use super::text_tests::same;
use super::*;

fn open(rows: &[&str], reading: &Reading) -> Result<Table, TableError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("npx.csv");
    fs_err::write(&path, rows.join("\n")).unwrap();
    Table::open_as(&path, reading)
}

fn dropped(table: &Table) -> Vec<(&str, usize, usize)> {
    let dropped = table.origin.dropped.iter();
    dropped
        .map(|it| (it.why.as_str(), it.rows, it.of))
        .collect()
}

const EXPLORE: [&str; 8] = [
    "SampleID;SampleType;OlinkID;Assay;AssayType;NPX;PCNormalizedNPX;SampleQC;AssayQC;Normalization",
    "B;SAMPLE;OID2;IL6;assay;1.5;9;PASS;PASS;Plate control",
    "B;SAMPLE;OID1;TNF;assay;2.5;9;WARN;NA;Plate control",
    "B;SAMPLE;OID9;Extension control 1;ext_ctrl;3;9;PASS;NA;Plate control",
    "PC1;PLATE_CONTROL;OID1;TNF;assay;4;9;PASS;PASS;Plate control",
    "A;SAMPLE;OID1;TNF;assay;NA;9;PASS;WARN;Intensity",
    "A;SAMPLE;OID2;IL6;assay;0.25;8;FAIL;PASS;Intensity",
    "C;SAMPLE;OID2;IL6;assay;7;7;FAIL;PASS;Intensity",
];

#[test]
fn explore_files_become_columns() {
    let nan = f64::NAN;
    let table = open(&EXPLORE, &Reading::default()).unwrap();
    assert_eq!(table.ids, ["B", "A"]);
    assert_eq!(table.columns, ["OID2", "OID1"]);
    let read = table.read_columns(&[0, 1]).unwrap();
    assert!(same(&read, &[vec![1.5, nan], vec![2.5, nan]]), "{read:?}");
    let read = table.read_columns_of(&[1, 0, 1], 0..1).unwrap();
    assert_eq!(read, [[2.5], [1.5], [2.5]]);
    assert_eq!(
        dropped(&table),
        [
            ("control samples", 1, 1),
            ("control assays", 1, 1),
            ("samples by their quality control", 2, 2),
            ("samples without a value that is kept", 0, 2),
            ("assays without a value that is kept", 0, 1),
        ]
    );
    let mixed = "normalised in 2 ways (`Plate control`, `Intensity`)";
    let warnings = &table.origin.warnings;
    assert!(warnings.iter().any(|it| it.contains(mixed)), "{warnings:?}");
}

#[test]
fn values_and_quality_control_are_chosen() {
    let with = |value: Option<&str>, drop_qc: DropQc, columns: &[&str]| Reading {
        columns: Columns::Matching(columns.iter().map(|it| (*it).to_owned()).collect()),
        long: LongReading {
            value_column: value.map(str::to_owned),
            drop_qc,
            ..LongReading::default()
        },
        ..Reading::default()
    };
    let all = with(Some("PCNormalizedNPX"), DropQc::None, &["OID2"]);
    let table = open(&EXPLORE, &all).unwrap();
    assert_eq!(table.ids, ["B", "A", "C"]);
    assert_eq!(table.read_columns(&[0]).unwrap(), [[9.0, 8.0, 7.0]]);
    let table = open(&EXPLORE, &with(None, DropQc::Warn, &[])).unwrap();
    assert_eq!((table.ids.len(), table.columns.len()), (1, 1));
    let error = open(&EXPLORE, &with(Some("Ct"), DropQc::Fail, &[])).unwrap_err();
    assert!(
        error.to_string().ends_with(
            "has no column `Ct` of values; name one with `--npx-value`: `NPX`, `PCNormalizedNPX`"
        ),
        "{error}"
    );
}

#[test]
fn second_values_are_refused_unless_the_first_is_dropped() {
    let twice = [EXPLORE[0], EXPLORE[1], EXPLORE[2], EXPLORE[1]];
    let error = open(&twice, &Reading::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("1 row of") && error.contains("`OID2` of `B`"),
        "{error}"
    );
    let rerun = "A;SAMPLE;OID2;IL6;assay;3;8;PASS;PASS;Intensity";
    let table = open(&[EXPLORE[0], EXPLORE[6], rerun], &Reading::default()).unwrap();
    assert_eq!(table.read_columns(&[0]).unwrap(), [[3.0]]);
    let nameless = "A;SAMPLE;;IL6;assay;3;8;PASS;PASS;Intensity";
    let error = open(&[EXPLORE[0], rerun, nameless], &Reading::default()).unwrap_err();
    assert!(
        matches!(&error, TableError::MissingIds { column, row: 2, .. } if column == "OlinkID"),
        "{error}"
    );
}

/// A few kilobytes with more than a million values for one sample and protein: counting stops.
#[test]
fn second_values_are_counted_up_to_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("npx.parquet");
    let n = 1_300_000;
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value; n])) };
    let columns = vec![
        ("SampleID", text("A")),
        ("OlinkID", text("OID1")),
        ("Assay", text("TNF")),
        (
            "NPX",
            Arc::new(Float64Array::from(vec![1.5; n])) as ArrayRef,
        ),
    ];
    write(&path, columns, Compression::SNAPPY, n);
    let error = Table::open_as(&path, &Reading::default()).unwrap_err();
    let TableError::DuplicateValues {
        n: found, is_least, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert!(*is_least && (1_000_000..n - 1).contains(found), "{found}");
    assert!(error.to_string().starts_with("at least 1"), "{error}");
}

#[test]
fn controls_of_older_files_are_known_by_name() {
    let rows = [
        "SampleID,Index,OlinkID,UniProt,Assay,MissingFreq,Panel,Panel_Version,PlateID,QC_Warning,LOD,NPX",
        "Control_7,1,OID1,P1,TNF,0,CAM,v.1,007,Warning,1,2.5",
        "CONTROL_SAMPLE_AS 1,2,OID1,P1,TNF,0,CAM,v.1,007,Pass,1,9",
        "CONTROL_SAMPLE_AS 1,3,OID1,P1,TNF,0,CAM,v.1,008,Pass,1,9",
        "Control_7,1,OID2,P1,Ext Ctrl,0,CAM,v.1,007,Pass,1,2.5",
    ];
    let table = open(&rows, &Reading::default()).unwrap();
    assert_eq!(table.ids, ["Control_7"]);
    assert_eq!(table.columns, ["OID1"]);
    assert_eq!(
        dropped(&table)[..2],
        [("control samples", 2, 1), ("control assays", 1, 1)]
    );
    assert!(table.origin.warnings[0].contains("`CONTROL_SAMPLE_AS 1`"));
    assert_eq!(table.origin.rows, 4);
}

#[test]
fn uk_biobank_gives_one_instance_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let coding = folder.path().join("coding143.tsv");
    let names = "coding\tmeaning\n0\tAARSD1;Alanyl-tRNA\n10\tHLA-E;HLA class I\n";
    fs_err::write(&coding, names).unwrap();
    let path = folder.path().join("olink.parquet");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("eid", Arc::new(Int64Array::from(vec![5, 5, 5, -1, 4]))),
        ("ins_index", Arc::new(Int32Array::from(vec![0, 0, 2, 0, 2]))),
        (
            "protein_id",
            Arc::new(Int32Array::from(vec![10, 0, 0, 0, 10])),
        ),
        (
            "result",
            Arc::new(Float64Array::from(vec![1.0, 2.0, 9.0, 3.0, 7.0])),
        ),
    ];
    write(&path, columns, Compression::SNAPPY, 2);
    let open = |instance: u32, names: bool| {
        let long = LongReading {
            instance,
            protein_names: names.then(|| coding.clone()),
            ..LongReading::default()
        };
        let reading = Reading {
            long,
            ..Reading::default()
        };
        Table::open_as(&path, &reading).unwrap()
    };
    let table = open(0, true);
    assert_eq!(table.ids, ["5", "-1"]);
    assert!(table.is_withdrawn("-1"));
    assert_eq!(table.columns, ["hla_e", "aarsd1"]);
    let read = table.read_columns(&[0, 1]).unwrap();
    assert!(same(&read, &[vec![1.0, f64::NAN], vec![2.0, 3.0]]));
    let table = open(2, false);
    assert_eq!(table.ids, ["5", "4"]);
    assert_eq!(table.columns, ["0", "10"]);
    assert_eq!(
        dropped(&table)[0],
        ("samples of another instance than 2", 3, 2)
    );
}

#[test]
fn files_of_the_vendor_open_where_they_are() {
    let Some(folder) = case("olink") else {
        return;
    };
    let table = Table::open(&folder.join("npx_long.parquet"), None, &[]).unwrap();
    assert_eq!((table.n_rows(), table.columns.len()), (156, 184));
    assert_eq!(dropped(&table)[0], ("control samples", 736, 2));
    let table = Table::open(&folder.join("npx_data_ext.parquet"), None, &[]).unwrap();
    assert_eq!(
        (table.ids.as_slice(), table.columns.as_slice()),
        (&["Sample_1".to_owned()][..], &["OID42741".to_owned()][..])
    );
    let product = ("Product".to_owned(), "ExploreHT".to_owned());
    assert!(table.origin.remarks.contains(&product));
}
