use super::text::write_float;
use super::*;
use crate::table::Parquet;

fn columns() -> Vec<(String, Column)> {
    let texts = ["a", "b\tc", "d \"e\"", "", "é"]
        .map(str::to_owned)
        .to_vec();
    let floats = vec![
        Some(0.1),
        None,
        Some(-1.5e-300),
        Some(1e22),
        Some(f64::INFINITY),
    ];
    vec![
        ("phenotype".to_owned(), Column::Text(texts.clone())),
        (
            "reason".to_owned(),
            Column::OptionalText(vec![None, Some("x".to_owned()), None, None, None]),
        ),
        ("t_hat".to_owned(), Column::Float(floats)),
        (
            "n".to_owned(),
            Column::Int(vec![Some(1), Some(i64::MIN), None, Some(3), Some(4)]),
        ),
        (
            "warranted".to_owned(),
            Column::Bool(vec![Some(true), None, Some(false), None, None]),
        ),
    ]
}

#[test]
fn a_table_reads_back_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("phenotypes.parquet");
    write_table(&path, &columns()).unwrap();
    assert_eq!(read_table(&path).unwrap(), columns());
    write_table(&path, &columns()[..1]).unwrap();
    assert_eq!(read_table(&path).unwrap(), columns()[..1]);
    let empty = vec![("x".to_owned(), Column::Float(vec![]))];
    write_table(&path, &empty).unwrap();
    assert_eq!(read_table(&path).unwrap(), empty);
    let nulls = vec![("x".to_owned(), Column::Float(vec![None; 3]))];
    write_table(&path, &nulls).unwrap();
    assert_eq!(read_table(&path).unwrap(), nulls);
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn tsv_is_plain_and_floats_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("phenotypes.tsv");
    write_tsv(&path, &columns()).unwrap();
    let expected = "phenotype\treason\tt_hat\tn\twarranted\n\
                        a\t\t0.1\t1\ttrue\n\
                        b\\tc\tx\t\t-9223372036854775808\t\n\
                        \"d \"\"e\"\"\"\t\t-1.5e-300\t\tfalse\n\
                        \t\t1e22\t3\t\n\
                        é\t\tinf\t4\t\n";
    assert_eq!(fs_err::read_to_string(&path).unwrap(), expected);
    for value in [
        0.1 + 0.2,
        1e-5,
        9.999e-6,
        1e15 + 0.5,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        -0.0,
        123456.789,
    ] {
        let mut text = Vec::new();
        write_float(value, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text.parse::<f64>().unwrap().to_bits(),
            value.to_bits(),
            "{text}"
        );
        assert!(text.len() < 25, "{text}");
    }
}

#[test]
fn predictions_in_any_blocks_are_one_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("predictions.parquet");
    let phenotypes = ["height", "weight", "odd/name"].map(str::to_owned);
    let value = |sample: usize, phenotype: usize| match (sample + phenotype) % 7 {
        0 => f64::NAN,
        _ => sample as f64 + phenotype as f64 / 8.0,
    };
    let mut writer = PredictionWriter::create(&path, &phenotypes).unwrap();
    let mut start = 0;
    for rows in [0, 1, 1500, 3, 700] {
        let ids: Vec<String> = (start..start + rows)
            .map(|sample| format!("S{sample}"))
            .collect();
        let block: Vec<f64> = (0..3)
            .flat_map(|column| (start..start + rows).map(move |sample| value(sample, column)))
            .collect();
        writer.write_block(&ids, &block).unwrap();
        start += rows;
    }
    assert!(!path.exists());
    writer.finish().unwrap();
    let read = read_table(&path).unwrap();
    let Column::Text(ids) = &read[0].1 else {
        panic!("{read:?}")
    };
    assert_eq!(
        (read[0].0.as_str(), ids.len(), ids[2203].as_str()),
        ("sample_id", 2204, "S2203")
    );
    for (column, (name, values)) in read[1..].iter().enumerate() {
        assert_eq!(name, &phenotypes[column]);
        let expected: Vec<Option<f64>> = (0..2204)
            .map(|sample| Some(value(sample, column)).filter(|it| !it.is_nan()))
            .collect();
        assert_eq!(values, &Column::Float(expected));
    }
}

#[test]
fn predictions_by_phenotype_are_the_table_of_those_by_sample() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let phenotypes = ["height", "odd/name", "none"].map(str::to_owned);
    let ids: Vec<String> = (0..3000).map(|i| format!("S{i}")).collect();
    let column = |j: usize| -> Vec<f64> {
        let value = |i: usize| (i * 7 + j) as f64 / 8.0;
        let is_there = |i: usize| j < 2 && !(i + j).is_multiple_of(5);
        (0..3000)
            .map(|i| if is_there(i) { value(i) } else { f64::NAN })
            .collect()
    };
    let mut writer = PredictionWriter::create(&path("rows"), &phenotypes).unwrap();
    let all: Vec<f64> = (0..3).flat_map(column).collect();
    writer.write_block(&ids, &all).unwrap();
    writer.finish().unwrap();
    let texts: Vec<&str> = ids.iter().map(String::as_str).collect();
    let columns = |n: usize| {
        PredictionColumns::write(&path("columns"), &phenotypes, &texts, |table| {
            (0..n).try_for_each(|j| table.push(&column(j)))
        })
    };
    // One too few, one too many: no file.
    for n in [2, 4] {
        assert!(matches!(columns(n), Err(ResultsError::Encode { .. })));
    }
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    columns(3).unwrap();
    let [rows, columns] = ["rows", "columns"].map(|name| read_table(&path(name)).unwrap());
    assert_eq!(rows, columns);
}

#[test]
fn wide_predictions_come_in_several_row_groups() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("predictions.parquet");
    let phenotypes: Vec<String> = (0..9000).map(|phenotype| format!("P{phenotype}")).collect();
    let mut writer = PredictionWriter::create(&path, &phenotypes).unwrap();
    for block in 0..3 {
        let ids: Vec<String> = (0..500)
            .map(|sample| format!("S{}", block * 500 + sample))
            .collect();
        writer
            .write_block(&ids, &vec![block as f64; 500 * 9000])
            .unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(Parquet::open(&path).unwrap().group_rows(), [1024, 476]);
}

#[test]
fn errors_name_file_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let name = path.display();
    let floats = |n: usize| Column::Float(vec![None; n]);
    let uneven = [("a".to_owned(), floats(2)), ("b".to_owned(), floats(3))];
    let error = write_table(&path, &uneven).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("column `b` of `{name}` has 3 rows, the first column 2")
    );
    let twice = [("a".to_owned(), floats(2)), ("a".to_owned(), floats(2))];
    let error = write_tsv(&path, &twice).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("column `a` stands more than once in `{name}`; rename it in the input")
    );
    let error = PredictionWriter::create(&path, &["sample_id".to_owned()])
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("column `sample_id` stands more than once"),
        "{error}"
    );
    let mut writer = PredictionWriter::create(&path, &["a".to_owned()]).unwrap();
    let error = writer
        .write_block(&["S1".to_owned()], &[1.0, 2.0])
        .unwrap_err()
        .to_string();
    assert_eq!(error, format!("`{name}` takes 1 value for 1 sample, got 2"));
    drop(writer);
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    write_table(&path, &uneven[..1]).unwrap();
    let error = Columns::read(&path)
        .unwrap()
        .text("a")
        .unwrap_err()
        .to_string();
    assert_eq!(error, format!("`{name}` has no text column `a`"));
}
