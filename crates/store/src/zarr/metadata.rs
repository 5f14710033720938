//! The description of an array, and its form in `zarr.json`.

use std::path::{Path, PathBuf};

use serde_json::json;
use zarrs_metadata::v3::{ArrayMetadataV3, FillValueMetadataV3, MetadataV3};
use zarrs_metadata::{Configuration, DimensionName};

use super::element::Element;
use super::error::ZarrError;

/// JSON object of user attributes, as Zarr keeps it.
pub type Attributes = serde_json::Map<String, serde_json::Value>;

/// Most bytes of a chunk: what a process can address.
pub(super) const MOST_BYTES: usize = 0x7fff_ffff_ffff;

/// The description of an array, without its number type.
#[derive(Debug, Clone, PartialEq)]
pub struct ArraySpec {
    /// Rows and columns of the array.
    pub shape: [usize; 2],
    /// Rows and columns of a chunk, each at least 1.
    pub chunk: [usize; 2],
    /// Whether Zarr readers show missing chunks as NaN (`true`) or as 0.
    pub fill_nan: bool,
    /// User attributes, kept in `zarr.json`.
    pub attributes: Attributes,
    /// Names of the two dimensions.
    pub dimension_names: Option<[String; 2]>,
}

impl ArraySpec {
    /// An array of `shape` in chunks of `chunk`, with fill value 0, without attributes and dimension names.
    pub fn new(shape: [usize; 2], chunk: [usize; 2]) -> Self {
        Self {
            shape,
            chunk,
            fill_nan: false,
            attributes: Attributes::new(),
            dimension_names: None,
        }
    }

    pub(super) fn to_metadata<T: Element>(&self) -> ArrayMetadataV3 {
        let configured = |name: &str, configuration: serde_json::Value| match configuration {
            serde_json::Value::Object(map) => MetadataV3::new_with_configuration(name, map),
            _ => MetadataV3::new_with_configuration(name, Configuration::default()),
        };
        let fill_value = match self.fill_nan {
            true => FillValueMetadataV3::from("NaN"),
            false if T::IS_INTEGER => FillValueMetadataV3::from(0_u64),
            false => FillValueMetadataV3::from(0.0),
        };
        ArrayMetadataV3::new(
            self.shape.iter().map(|length| *length as u64).collect(),
            configured("regular", json!({ "chunk_shape": self.chunk })),
            MetadataV3::new(T::DATA_TYPE),
            fill_value,
            vec![
                configured("bytes", json!({ "endian": "little" })),
                configured("crc32c", json!({})),
            ],
        )
        .with_attributes(self.attributes.clone())
        .with_dimension_names(self.dimension_names.clone())
    }

    pub(super) fn from_metadata(
        path: &Path,
        metadata: &ArrayMetadataV3,
        data_type: &str,
    ) -> Result<Self, ZarrError> {
        if metadata.data_type.name() != data_type {
            let found = &metadata.data_type;
            return Err(unsupported(path, "data_type", data_type, found));
        }
        let shape = pair(&metadata.shape).ok_or_else(|| {
            let found = format!("{:?}", metadata.shape);
            unsupported(path, "shape", "two lengths", found)
        })?;
        let chunk = chunk_shape(metadata).ok_or_else(|| {
            let found = &metadata.chunk_grid;
            unsupported(path, "chunk_grid", "`regular` with two lengths", found)
        })?;
        check_encoding(path, metadata)?;
        let fill_nan = match metadata.fill_value.as_f64() {
            Some(value) if value.is_nan() => true,
            Some(0.0) => false,
            _ => {
                let found = &metadata.fill_value;
                return Err(unsupported(path, "fill_value", "0 or NaN", found));
            }
        };
        let named = |name: &DimensionName| name.clone().unwrap_or_default();
        let dimension_names = match metadata.dimension_names.as_deref() {
            Some([rows, columns]) => Some([named(rows), named(columns)]),
            _ => None,
        };
        Ok(Self {
            shape,
            chunk,
            fill_nan,
            attributes: metadata.attributes.clone(),
            dimension_names,
        })
    }

    /// Names the first field in which `self` (asked for) and `found` (on disk) differ.
    pub(super) fn difference(&self, found: &Self) -> Option<(&'static str, String, String)> {
        let shown = |value: &Attributes| serde_json::Value::Object(value.clone()).to_string();
        [
            (
                "shape",
                format!("{:?}", self.shape),
                format!("{:?}", found.shape),
            ),
            (
                "chunk shape",
                format!("{:?}", self.chunk),
                format!("{:?}", found.chunk),
            ),
            (
                "fill value",
                fill_name(self.fill_nan),
                fill_name(found.fill_nan),
            ),
            (
                "dimension names",
                format!("{:?}", self.dimension_names),
                format!("{:?}", found.dimension_names),
            ),
            (
                "attributes",
                shown(&self.attributes),
                shown(&found.attributes),
            ),
        ]
        .into_iter()
        .find(|(_, expected, found)| expected != found)
    }
}

/// The error for a field of `zarr.json` that this crate does not read.
fn unsupported(
    path: &Path,
    field: &'static str,
    expected: &str,
    found: impl std::fmt::Display,
) -> ZarrError {
    ZarrError::Unsupported {
        path: path.to_path_buf(),
        field,
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}

/// Rows and columns of a chunk, when the grid is regular and has two dimensions.
fn chunk_shape(metadata: &ArrayMetadataV3) -> Option<[usize; 2]> {
    let grid = &metadata.chunk_grid;
    let configuration = grid.configuration().filter(|_| grid.name() == "regular")?;
    let lengths = configuration.get("chunk_shape")?;
    pair(&serde_json::from_value::<Vec<u64>>(lengths.clone()).ok()?)
}

/// Checks the names of the chunk files and the form of their content.
fn check_encoding(path: &Path, metadata: &ArrayMetadataV3) -> Result<(), ZarrError> {
    let keys = &metadata.chunk_key_encoding;
    // The default encoding's default separator is "/".
    let separator = keys.configuration().and_then(|it| it.get("separator"));
    if keys.name() != "default" || separator.is_some_and(|it| it != "/") {
        let expected = "`default` with separator `/`";
        return Err(unsupported(path, "chunk_key_encoding", expected, keys));
    }
    let is_little = |codec: &MetadataV3| {
        let endian = codec.configuration().and_then(|it| it.get("endian"));
        codec.name() == "bytes" && endian.is_some_and(|it| it == "little")
    };
    match metadata.codecs.as_slice() {
        [bytes, checksum] if is_little(bytes) && checksum.name() == "crc32c" => {}
        codecs => {
            let found: Vec<String> = codecs.iter().map(ToString::to_string).collect();
            let expected = "`bytes` (little) and `crc32c`";
            return Err(unsupported(path, "codecs", expected, found.join(", ")));
        }
    }
    match metadata.storage_transformers.len() {
        0 => Ok(()),
        n => Err(unsupported(path, "storage_transformers", "none", n)),
    }
}

fn fill_name(fill_nan: bool) -> String {
    if fill_nan { "NaN" } else { "0" }.to_owned()
}

/// Two lengths, small enough that their sums do not overflow.
fn pair(lengths: &[u64]) -> Option<[usize; 2]> {
    let length = |length: &u64| usize::try_from(*length).ok().filter(|it| *it <= MOST_BYTES);
    match lengths {
        [rows, columns] => Some([length(rows)?, length(columns)?]),
        _ => None,
    }
}

pub(super) fn read_metadata(folder: &Path) -> Result<(PathBuf, ArrayMetadataV3), ZarrError> {
    let path = folder.join("zarr.json");
    let text = match fs_err::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ZarrError::NoArray {
                path: folder.to_path_buf(),
            });
        }
        Err(error) => return Err(ZarrError::read(&path)(error)),
    };
    match serde_json::from_slice(&text) {
        Ok(metadata) => Ok((path, metadata)),
        Err(source) => Err(ZarrError::Metadata { path, source }),
    }
}

/// Reads the number type of the array in `folder`: `float32`, `float64`, `uint8` or another.
///
/// # Errors
/// `NoArray`, `Read`, `Metadata`.
pub fn data_type(folder: &Path) -> Result<String, ZarrError> {
    Ok(read_metadata(folder)?.1.data_type.name().to_owned())
}
