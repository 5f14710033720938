//! The targets: one function per kind of file, which gets any bytes as the content of the file.
//!
//! A target writes the bytes where its reader expects a file, reads it, and checks what must be true of any result. An error is
//! fine; a panic, an abort or a huge allocation is a bug.

use std::collections::HashSet;
use std::path::Path;

use faer::Mat;
use ntk::kernel::FiniteKernel;
use ntkpipe_store::features::{FeatureArray, FeatureScaling, Samples};
use ntkpipe_store::id_list::read_id_list;
use ntkpipe_store::network_file::NetworkFile;
use ntkpipe_store::results::read_table;
use ntkpipe_store::spectrum;
use ntkpipe_store::table::{Columns, DropQc, LongReading, Reading, Table};
use ntkpipe_store::tiled_kernel::{Access, TiledKernel};
use ntkpipe_store::zarr::{self, Element, ZarrArray};
use reml::{Covariates, DenseKernel, KernelMatrix as _, Probes, ReferenceSpectrum};

/// A target: its name, which is the name of its corpus folder, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
///
/// Text and Parquet tables are one target with two corpora: the reader tells them apart by content.
pub const TARGETS: [Target; 6] = [
    ("table", table),
    ("text", table),
    ("id_list", id_list),
    ("array", array),
    ("spectrum", spectrum),
    ("network", network),
];

fn in_folder(test: impl FnOnce(&Path)) {
    #[allow(clippy::unwrap_used)]
    let folder = tempfile::tempdir().unwrap();
    test(folder.path());
}

#[allow(clippy::unwrap_used)]
fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A file as an input table, Parquet or text, wide or long; as a result table; as the tables of a run directory.
pub fn table(bytes: &[u8]) {
    in_folder(|folder| {
        let path = folder.join("t.parquet");
        put(&path, bytes);
        let some = Columns::Matching(vec!["[!t]*".to_owned()]);
        let readings = [
            Reading::default(),
            Reading {
                id_column: Some("id".to_owned()),
                columns: some.clone(),
                missing_values: vec!["-9".to_owned()],
                ..Reading::default()
            },
            Reading {
                columns: some,
                text_columns: vec!["*".to_owned()],
                long: LongReading {
                    drop_qc: DropQc::Warn,
                    protein_names: Some(path.clone()),
                    ..LongReading::default()
                },
                ..Reading::default()
            },
        ];
        for reading in readings {
            if let Ok(table) = Table::open_as(&path, &reading) {
                read_whole(&table);
            }
        }
        for (name, column) in read_table(&path).unwrap_or_default() {
            assert!(name.len() <= bytes.len() && column.len() < usize::MAX);
        }
        if let Ok(samples) = Samples::read(&path) {
            assert_eq!(samples.sample_id.len(), samples.in_kernel.len());
            assert_eq!(samples.sample_id.len(), samples.row.len());
        }
        for scaling in [
            FeatureScaling::read(&path),
            FeatureScaling::from_features(&path, true),
        ]
        .into_iter()
        .flatten()
        {
            assert_eq!(scaling.mean.len(), scaling.len());
            assert_eq!(scaling.sd.len(), scaling.len());
        }
    });
}

fn read_whole(table: &Table) {
    let mut seen = HashSet::new();
    for id in &table.ids {
        assert!(!id.is_empty());
        assert!(seen.insert(id) || table.is_withdrawn(id), "{id} repeats");
    }
    for column in 0..table.text_columns.len() {
        if let Ok(texts) = table.read_text(column) {
            assert_eq!(texts.len(), table.n_rows());
        }
    }
    let all: Vec<usize> = (0..table.columns.len()).collect();
    let half = table.n_rows() / 2..table.n_rows();
    let whole = table.read_columns(&all);
    let part = table.read_columns_of(&all, half.clone());
    if let Ok(whole) = &whole {
        for column in whole {
            assert_eq!(column.len(), table.n_rows());
            assert!(column.iter().all(|value| !value.is_infinite()));
        }
        if let Ok(part) = part {
            for (whole, part) in whole.iter().zip(&part) {
                let same = |a: &f64, b: &f64| a.to_bits() == b.to_bits();
                assert!(
                    whole[half.clone()]
                        .iter()
                        .zip(part)
                        .all(|(a, b)| same(a, b))
                );
            }
        }
    }
}

/// A list of sample ids.
pub fn id_list(bytes: &[u8]) {
    in_folder(|folder| {
        let path = folder.join("keep.txt");
        put(&path, bytes);
        for is_known in [|_: &str| false, |id: &str| id.len() > 2] {
            let list = read_id_list(&path, None, &is_known).unwrap_or_default();
            for id in &list.ids {
                // Text in columns is not changed, as in tables.
                let is_plain = id.trim() == id || bytes.starts_with(b"PAR1");
                assert!(!id.is_empty() && is_plain, "{id:?}");
            }
        }
    });
}

/// An array: its `zarr.json`, then the chunk files, each after an empty line: (0, 0), (0, 1), (1, 0), (1, 1).
///
/// A chunk that ends in `=` gets its checksum in its place: a fuzzer never guesses one. Read as an array of either
/// number type, as features, and as a kernel.
pub fn array(bytes: &[u8]) {
    in_folder(|folder| {
        let path = folder.join("features.zarr");
        let mut rest = bytes;
        for place in ["zarr.json", "c/0/0", "c/0/1", "c/1/0", "c/1/1"] {
            let end = rest.windows(2).position(|pair| pair == b"\n\n");
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            match part.strip_suffix(b"=") {
                Some(values) => put(&path.join(place), &sealed(values)),
                None => put(&path.join(place), part),
            }
            if end.is_none() {
                break;
            }
            rest = &after[2..];
        }
        let _ = zarr::missing_chunk(&path);
        let _ = zarr::verify(&path);
        read_array::<f32>(&path);
        read_array::<f64>(&path);
        if let Ok(features) = FeatureArray::open(folder) {
            let rows = features.shape()[0].min(2);
            let _ = features.read_rows_f32(0..rows);
            let _ = features.read_rows_f64(0..rows);
        }
        for access in [Access::Map, Access::Copy] {
            let Ok(kernel) = TiledKernel::open(&path, access) else {
                continue;
            };
            let n = kernel.n_samples();
            assert_eq!(kernel.diagonal().len(), n);
            let x = Mat::<f32>::zeros(n, 1);
            if let Ok((product, squares)) = kernel.multiply(x.as_ref(), x.as_ref()) {
                assert_eq!((product.nrows(), squares.nrows()), (n, n));
            }
            let _ = kernel.submatrix(&(0..n.min(3)).collect::<Vec<_>>());
        }
    });
}

/// `values` and their CRC-32C, as a chunk file holds them.
fn sealed(values: &[u8]) -> Vec<u8> {
    [values, &crc32c::crc32c(values).to_le_bytes()].concat()
}

fn read_array<T: Element>(path: &Path) {
    let Ok(array) = ZarrArray::<T>::open(path) else {
        return;
    };
    let [rows, columns] = array.shape();
    if let Ok(values) = array.read_all() {
        assert_eq!(Some(values.len()), rows.checked_mul(columns));
    }
    for start in [0, 1, rows / 2, rows.saturating_sub(1)] {
        let _ = array.read_rows(start..start.saturating_add(1));
    }
    for (i, j) in [(0, 0), (1, 1), array.grid().into()] {
        if let Ok(chunk) = array.map_chunk(i, j) {
            assert_eq!(chunk.len(), array.chunk_len());
            let _ = chunk.verify();
        }
    }
}

/// `spectrum.json` in a folder with intact arrays: the spectrum of 12 samples.
pub fn spectrum(bytes: &[u8]) {
    in_folder(|folder| {
        let n = 12;
        let k = Mat::from_fn(n, n, |i, j| (-(i.abs_diff(j) as f64).powi(2) / 20.0).exp());
        #[allow(clippy::unwrap_used)]
        let kernel = DenseKernel::new(k.as_ref()).unwrap();
        let covariates = Covariates::new(n, &[vec![1.0; n]]);
        let mask = vec![true; n];
        #[allow(clippy::unwrap_used)]
        let made = ReferenceSpectrum::new(
            &kernel,
            &covariates,
            &mask,
            Probes {
                columns: 2,
                passes: 3,
                seed: 1,
            },
            |_| {},
        )
        .unwrap();
        let path = folder.join("spectrum");
        #[allow(clippy::unwrap_used)]
        drop(spectrum::write(&path, &made).unwrap());
        put(&path.join("spectrum.json"), bytes);
        if let Ok((back, record)) = spectrum::read(&path, made.operator().clone()) {
            assert_eq!(record.dof, back.operator().dof());
            assert!(back.leading_eigenvalues().len() <= n);
            drop(back.probes().residuals());
        }
    });
}

/// A network in a safetensors file: read, applied to a sample, and written again.
pub fn network(bytes: &[u8]) {
    let path = Path::new("w.safetensors");
    let Ok(file) = NetworkFile::parse(bytes, path, None) else {
        return;
    };
    let n_features = file.network.n_features();
    // Each feature has a weight in the file.
    assert!(0 < n_features && n_features <= bytes.len());
    let kernel = FiniteKernel::new(file.network.clone());
    if let Ok(output) = kernel.output(&vec![0.5_f64; n_features], n_features) {
        assert_eq!(output.len(), 1);
    }
    if let Ok(written) = file.to_bytes() {
        let again = NetworkFile::parse(&written, path, Some(file.network.nonlinearity()));
        assert!(again.is_ok(), "{again:?}");
    }
}
