use super::*;
use proptest::prelude::*;
use rayon::prelude::*;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

fn counted<T: From<u16>>(n: usize) -> Vec<T> {
    (0..n)
        .map(|value| T::from((value % 60_000) as u16 + 1))
        .collect()
}

fn spec(shape: [usize; 2], chunk: [usize; 2]) -> ArraySpec {
    ArraySpec {
        fill_nan: true,
        attributes: json!({ "depth": 2, "wv": 0.1 })
            .as_object()
            .unwrap()
            .clone(),
        dimension_names: Some(["sample".to_owned(), "feature".to_owned()]),
        ..ArraySpec::new(shape, chunk)
    }
}

#[test]
fn array_is_shared_by_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<ZarrArray<f32>>();
    is_shared::<Chunk<f64>>();
    is_shared::<ZarrError>();
}

#[test]
fn metadata_is_what_zarr_readers_expect() {
    let folder = tempfile::tempdir().unwrap();
    ZarrArray::<f32>::create(folder.path(), spec([5, 7], [2, 3])).unwrap();
    let text = fs_err::read_to_string(folder.path().join("zarr.json")).unwrap();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = json!({
        "zarr_format": 3,
        "node_type": "array",
        "shape": [5, 7],
        "data_type": "float32",
        "chunk_grid": { "name": "regular", "configuration": { "chunk_shape": [2, 3] } },
        "chunk_key_encoding": { "name": "default", "configuration": { "separator": "/" } },
        "fill_value": "NaN",
        "codecs": [{ "name": "bytes", "configuration": { "endian": "little" } }, { "name": "crc32c" }],
        "attributes": { "depth": 2, "wv": 0.1 },
        "dimension_names": ["sample", "feature"]
    });
    assert_eq!(found, expected);
    let array = ZarrArray::<f32>::open(folder.path()).unwrap();
    assert_eq!(array.spec(), &spec([5, 7], [2, 3]));
    assert_eq!(array.grid(), [3, 3]);
    assert_eq!(data_type(folder.path()).unwrap(), "float32");
}

#[test]
fn chunk_file_is_values_then_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let array = ZarrArray::<f32>::create(folder.path(), ArraySpec::new([3, 2], [2, 2])).unwrap();
    array.write_all(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    assert_eq!(array.chunk_path(1, 0), folder.path().join("c/1/0"));
    let bytes = fs_err::read(array.chunk_path(1, 0)).unwrap();
    let mut expected: Vec<u8> = [5.0_f32, 6.0, 0.0, 0.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    // Bit by bit, reflected, polynomial 0x1EDC6F41: the textbook CRC-32C.
    let mut crc = !0_u32;
    for byte in &expected {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    expected.extend((!crc).to_le_bytes());
    assert_eq!(bytes, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn rows_read_are_rows_written(n in 1..20_usize, p in 1..20_usize, r in 1..9_usize, c in 1..9_usize, cut in 0..400_usize) {
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<f64> = counted(n * p);
        let array = ZarrArray::<f64>::create(folder.path(), ArraySpec::new([n, p], [r, c])).unwrap();
        array.write_all(&values).unwrap();
        prop_assert_eq!(array.read_all().unwrap(), values.clone());
        let (start, end) = (cut / 20 % n, cut % 20 % n);
        let (start, end) = (start.min(end), start.max(end));
        prop_assert_eq!(array.read_rows(start..end).unwrap(), &values[start * p..end * p]);
        let [down, across] = array.grid();
        let last = array.map_chunk(down - 1, across - 1).unwrap();
        for (index, value) in last.iter().enumerate() {
            let (row, column) = ((down - 1) * r + index / c, (across - 1) * c + index % c);
            prop_assert_eq!(*value == 0.0, row >= n || column >= p);
        }
    }
}

#[test]
fn create_again_opens_an_equal_array_and_refuses_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k.zarr");
    let array = ZarrArray::<f32>::create(&path, spec([4, 4], [2, 2])).unwrap();
    array.write_chunk(0, 0, &[1.0; 4]).unwrap();
    let again = ZarrArray::<f32>::create(&path, spec([4, 4], [2, 2])).unwrap();
    assert!(again.has_chunk(0, 0) && !again.has_chunk(1, 0));

    let error = ZarrArray::<f32>::create(&path, spec([4, 5], [2, 2])).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "another array is at `{}`: its shape is [4, 4], expected [4, 5]",
            path.display()
        )
    );
    let mut other = spec([4, 4], [2, 2]);
    other.attributes.insert("depth".to_owned(), json!(3));
    let error = ZarrArray::<f32>::create(&path, other).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(r#"its attributes is {"depth":2,"wv":0.1}, expected {"depth":3,"#),
        "{error}"
    );
    let error = ZarrArray::<f64>::create(&path, spec([4, 4], [2, 2])).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("zarr.json` has data_type float32, expected float64"),
        "{error}"
    );
}

#[test]
fn foreign_arrays_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = ZarrArray::<f32>::open(folder.path()).unwrap_err();
    let path = folder.path().display();
    assert_eq!(
        error.to_string(),
        format!("no array at `{path}`: its `zarr.json` is missing")
    );

    ZarrArray::<f32>::create(folder.path(), ArraySpec::new([4, 4], [2, 2])).unwrap();
    let file = folder.path().join("zarr.json");
    let text = fs_err::read_to_string(&file).unwrap();
    let altered = [
        ("crc32c", "gzip", "codecs"),
        ("little", "big", "codecs"),
        ("regular", "rectilinear", "chunk_grid"),
        (
            r#""separator": "/""#,
            r#""separator": ".""#,
            "chunk_key_encoding",
        ),
        (r#""fill_value": 0.0"#, r#""fill_value": 1.5"#, "fill_value"),
    ];
    for (from, to, field) in altered {
        assert!(text.contains(from), "{from} in {text}");
        fs_err::write(&file, text.replace(from, to)).unwrap();
        let error = ZarrArray::<f32>::open(folder.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("has {field} ")), "{error}");
    }
    fs_err::write(&file, "{").unwrap();
    let error = ZarrArray::<f32>::open(folder.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("zarr.json` is not the metadata of a Zarr v3 array"),
        "{error}"
    );
    let error = ZarrArray::<f32>::create(folder.path().join("x"), ArraySpec::new([4, 4], [0, 2]))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("chunks of 0 x 2 are not possible"),
        "{error}"
    );
}

#[test]
fn damage_is_named_and_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let array =
        ZarrArray::<f64>::create(folder.path(), ArraySpec::new([40, 30], [16, 16])).unwrap();
    array.write_all(&counted::<f64>(1200)).unwrap();
    let path = array.chunk_path(1, 1);
    let name = path.display();
    array.verify_chunk(1, 1).unwrap();
    let whole = fs_err::read(&path).unwrap();

    for damaged in [0, 7, 900, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[damaged] ^= 1;
        fs_err::write(&path, &bytes).unwrap();
        let error = array.verify_chunk(1, 1).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ZarrError::ChunkCorrupt { .. }), "{text}");
        assert!(
            text.starts_with(&format!("chunk file `{name}` is damaged: its checksum is ")),
            "{text}"
        );
        assert!(matches!(
            array.read_all(),
            Err(ZarrError::ChunkCorrupt { .. })
        ));
    }

    for length in [0, 1, whole.len() - 1] {
        fs_err::File::create(&path)
            .unwrap()
            .write_all(&whole[..length])
            .unwrap();
        assert!(!array.has_chunk(1, 1));
        assert_eq!(missing_chunk(folder.path()).unwrap(), None);
        assert!(verify(folder.path()).is_err());
        let error = array.map_chunk(1, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("chunk file `{name}` is damaged: expected 2052 bytes, found {length}")
        );
    }

    fs_err::remove_file(&path).unwrap();
    assert_eq!(missing_chunk(folder.path()).unwrap(), Some(path.clone()));
    let error = array.map_chunk(1, 1).unwrap_err();
    assert_eq!(error.to_string(), format!("chunk file `{name}` is missing"));
    assert!(matches!(
        array.read_rows(0..40),
        Err(ZarrError::ChunkMissing { .. })
    ));
    assert_eq!(
        array.read_rows(0..16).unwrap(),
        &counted::<f64>(1200)[..480]
    );
}

#[test]
fn misuse_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let array = ZarrArray::<f32>::create(folder.path(), ArraySpec::new([5, 5], [2, 2])).unwrap();
    let path = folder.path().display();
    let error = array.write_chunk(0, 3, &[0.0; 4]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("chunk (0, 3) is outside the 3 x 3 chunks of `{path}`")
    );
    let error = array.write_chunk(0, 0, &[0.0; 3]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "`{}` takes 4 values, got 3",
            array.chunk_path(0, 0).display()
        )
    );
    let error = array.read_rows(3..6).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("rows 3 to 6 are outside the 5 rows of `{path}`")
    );
}

#[test]
fn many_threads_write_and_map() {
    let folder = tempfile::tempdir().unwrap();
    let array = ZarrArray::<f32>::create(folder.path(), ArraySpec::new([64, 64], [8, 8])).unwrap();
    (0..256_usize).into_par_iter().for_each(|task| {
        let (i, j) = (task % 64 / 8, task % 8);
        array.write_chunk(i, j, &[(i * 8 + j) as f32; 64]).unwrap();
        let chunk = array.map_chunk(i, j).unwrap();
        array.prefetch_chunk(i, j);
        chunk.verify().unwrap();
        assert!(chunk.iter().all(|value| *value == (i * 8 + j) as f32));
    });
    // One folder per row of chunks, and no temporary file in it.
    let names = |path: PathBuf| fs_err::read_dir(path).unwrap().count();
    let rows = folder.path().join("c");
    assert_eq!(names(rows.clone()), 8);
    assert!((0..8).all(|row| names(rows.join(row.to_string())) == 8));
}
