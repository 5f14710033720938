//! Two-dimensional arrays in chunks: Zarr v3, float32 or float64, codecs `bytes` (little) and `crc32c`.
//!
//! The format is a fixed corner of the Zarr core specification, version 3 (zarr-specs.readthedocs.io, read
//! 2025): regular chunk grid, chunk key encoding `default` with `/`, so chunk (i, j) is the file `c/i/j`. The
//! file is the chunk's values, row-major, little-endian, then the CRC-32C of those bytes (RFC 3720, section
//! 12.1) as four little-endian bytes. Chunks at the edge are full size, padded by their writer with zeros. A
//! chunk file is thus its own memory image and is mapped as it stands; any Zarr reader opens the array.

use std::io::Read as _;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};
use rayon::prelude::*;
use serde_json::json;
use zarrs_metadata::v3::{ArrayMetadataV3, FillValueMetadataV3, MetadataV3};
use zarrs_metadata::{Configuration, DimensionName};

use crate::atomic::{self, AtomicError};
use crate::words::counted;

/// JSON object of user attributes, as Zarr keeps it.
pub type Attributes = serde_json::Map<String, serde_json::Value>;

const CHECKSUM_BYTES: usize = 4;

/// What a process can address, and so the most that a chunk can hold.
const MOST_BYTES: usize = 0x7fff_ffff_ffff;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A number that an array holds: `f32` or `f64`, and no other.
pub trait Element:
    bytemuck::Pod + Send + Sync + PartialEq + std::fmt::Debug + sealed::Sealed
{
    /// Name of the type in Zarr v3.
    const DATA_TYPE: &'static str;
}

impl Element for f32 {
    const DATA_TYPE: &'static str = "float32";
}

impl Element for f64 {
    const DATA_TYPE: &'static str = "float64";
}

/// Why an array or one of its chunks cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ZarrError {
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// A file could not be read; the cause names the operation.
    #[error("could not read `{path}`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// There is no array here.
    #[error("no array at `{path}`: its `zarr.json` is missing", path = path.display())]
    NoArray {
        /// Folder of the array.
        path: PathBuf,
    },
    /// `zarr.json` is not the metadata of a Zarr v3 array.
    #[error("`{path}` is not the metadata of a Zarr v3 array", path = path.display())]
    Metadata {
        /// The `zarr.json`.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// `zarr.json` describes an array outside the corner of Zarr that is read here.
    #[error("`{path}` has {field} {found}, expected {expected}", path = path.display())]
    Unsupported {
        /// The `zarr.json`.
        path: PathBuf,
        /// Name of the metadata field.
        field: &'static str,
        /// What would be read.
        expected: String,
        /// What is there, as JSON.
        found: String,
    },
    /// An array of another shape, chunk, fill value, dimension names or attributes stands where one is created.
    #[error(
        "another array is at `{path}`: its {field} is {found}, expected {expected}",
        path = path.display()
    )]
    Differs {
        /// Folder of the array.
        path: PathBuf,
        /// Name of the first field that differs.
        field: &'static str,
        /// The value asked for.
        expected: String,
        /// The value on disk.
        found: String,
    },
    /// A chunk with no rows or no columns, or one too large to address.
    #[error("chunks of {rows} x {columns} are not possible for `{path}`", path = path.display())]
    ChunkShape {
        /// Folder of the array.
        path: PathBuf,
        /// Rows of a chunk.
        rows: usize,
        /// Columns of a chunk.
        columns: usize,
    },
    /// A chunk outside the grid was asked for.
    #[error("chunk ({row}, {column}) is outside the {rows} x {columns} chunks of `{path}`", path = path.display())]
    OutsideGrid {
        /// Folder of the array.
        path: PathBuf,
        /// Row of the chunk in the grid.
        row: usize,
        /// Column of the chunk in the grid.
        column: usize,
        /// Rows of the grid.
        rows: usize,
        /// Columns of the grid.
        columns: usize,
    },
    /// Rows outside the array were asked for.
    #[error("rows {start} to {end} are outside the {n_rows} rows of `{path}`", path = path.display())]
    OutsideRows {
        /// Folder of the array.
        path: PathBuf,
        /// First row.
        start: usize,
        /// One past the last row.
        end: usize,
        /// Rows of the array.
        n_rows: usize,
    },
    /// A slice of the wrong length was given to be written.
    #[error("`{path}` takes {}, got {found}", counted(*expected, "values"), path = path.display())]
    Length {
        /// The chunk file or the folder of the array.
        path: PathBuf,
        /// Values it takes.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A chunk was never written, or was removed.
    #[error("chunk file `{path}` is missing", path = path.display())]
    ChunkMissing {
        /// The chunk file.
        path: PathBuf,
    },
    /// A chunk file has another length than its shape implies.
    #[error(
        "chunk file `{path}` is damaged: expected {expected} bytes, found {found}",
        path = path.display()
    )]
    ChunkTruncated {
        /// The chunk file.
        path: PathBuf,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// The values of a chunk do not have the checksum stored with them.
    #[error(
        "chunk file `{path}` is damaged: its checksum is {expected:08x}, its values give {found:08x}",
        path = path.display()
    )]
    ChunkCorrupt {
        /// The chunk file.
        path: PathBuf,
        /// CRC-32C stored in the file.
        expected: u32,
        /// CRC-32C of the values in the file.
        found: u32,
    },
}

impl ZarrError {
    fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read { path, source }
    }

    /// Whether a file is missing or not as it was written, so that making it again is the remedy.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::NoArray { .. }
                | Self::Metadata { .. }
                | Self::Unsupported { .. }
                | Self::ChunkMissing { .. }
                | Self::ChunkTruncated { .. }
                | Self::ChunkCorrupt { .. }
        )
    }
}

/// What an array looks like, apart from its number type.
#[derive(Debug, Clone, PartialEq)]
pub struct ArraySpec {
    /// Rows and columns of the array.
    pub shape: [usize; 2],
    /// Rows and columns of a chunk, each at least 1.
    pub chunk: [usize; 2],
    /// Whether a Zarr reader shows chunks that are not there as NaN (`true`) or as 0.
    pub fill_nan: bool,
    /// User attributes, kept in `zarr.json`.
    pub attributes: Attributes,
    /// Names of the two dimensions.
    pub dimension_names: Option<[String; 2]>,
}

impl ArraySpec {
    /// An array of `shape` in chunks of `chunk`, filled with 0, without attributes and dimension names.
    pub fn new(shape: [usize; 2], chunk: [usize; 2]) -> Self {
        Self {
            shape,
            chunk,
            fill_nan: false,
            attributes: Attributes::new(),
            dimension_names: None,
        }
    }

    fn to_metadata(&self, data_type: &str) -> ArrayMetadataV3 {
        let configured = |name: &str, configuration: serde_json::Value| match configuration {
            serde_json::Value::Object(map) => MetadataV3::new_with_configuration(name, map),
            _ => MetadataV3::new_with_configuration(name, Configuration::default()),
        };
        let fill_value = match self.fill_nan {
            true => FillValueMetadataV3::from("NaN"),
            false => FillValueMetadataV3::from(0.0),
        };
        ArrayMetadataV3::new(
            self.shape.iter().map(|length| *length as u64).collect(),
            configured("regular", json!({ "chunk_shape": self.chunk })),
            MetadataV3::new(data_type),
            fill_value,
            vec![
                configured("bytes", json!({ "endian": "little" })),
                configured("crc32c", json!({})),
            ],
        )
        .with_attributes(self.attributes.clone())
        .with_dimension_names(self.dimension_names.clone())
    }

    fn from_metadata(
        path: &Path,
        metadata: &ArrayMetadataV3,
        data_type: &str,
    ) -> Result<Self, ZarrError> {
        let refuse = |field: &'static str, expected: &str, found: &dyn std::fmt::Display| {
            ZarrError::Unsupported {
                path: path.to_path_buf(),
                field,
                expected: expected.to_owned(),
                found: found.to_string(),
            }
        };
        if metadata.data_type.name() != data_type {
            return Err(refuse("data_type", data_type, &metadata.data_type));
        }
        let shape = pair(&metadata.shape)
            .ok_or_else(|| refuse("shape", "two lengths", &format!("{:?}", metadata.shape)))?;
        let chunk = metadata
            .chunk_grid
            .configuration()
            .filter(|_| metadata.chunk_grid.name() == "regular")
            .and_then(|configuration| configuration.get("chunk_shape"))
            .and_then(|lengths| serde_json::from_value::<Vec<u64>>(lengths.clone()).ok())
            .and_then(|lengths| pair(&lengths))
            .ok_or_else(|| {
                refuse(
                    "chunk_grid",
                    "`regular` with two lengths",
                    &metadata.chunk_grid,
                )
            })?;
        // The default encoding's default separator is "/".
        let separator = metadata
            .chunk_key_encoding
            .configuration()
            .and_then(|it| it.get("separator"));
        if metadata.chunk_key_encoding.name() != "default" || separator.is_some_and(|it| it != "/")
        {
            let found = &metadata.chunk_key_encoding;
            return Err(refuse(
                "chunk_key_encoding",
                "`default` with separator `/`",
                found,
            ));
        }
        let is_little = |codec: &MetadataV3| {
            let endian = codec.configuration().and_then(|it| it.get("endian"));
            codec.name() == "bytes" && endian.is_some_and(|it| it == "little")
        };
        match metadata.codecs.as_slice() {
            [bytes, checksum] if is_little(bytes) && checksum.name() == "crc32c" => {}
            codecs => {
                let found: Vec<String> = codecs.iter().map(ToString::to_string).collect();
                return Err(refuse(
                    "codecs",
                    "`bytes` (little) and `crc32c`",
                    &found.join(", "),
                ));
            }
        }
        if !metadata.storage_transformers.is_empty() {
            return Err(refuse(
                "storage_transformers",
                "none",
                &metadata.storage_transformers.len(),
            ));
        }
        let fill_nan = match metadata.fill_value.as_f64() {
            Some(value) if value.is_nan() => true,
            Some(0.0) => false,
            _ => return Err(refuse("fill_value", "0 or NaN", &metadata.fill_value)),
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
    fn difference(&self, found: &Self) -> Option<(&'static str, String, String)> {
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

fn fill_name(fill_nan: bool) -> String {
    if fill_nan { "NaN" } else { "0" }.to_owned()
}

/// Two lengths, so small that sums of them do not overflow.
fn pair(lengths: &[u64]) -> Option<[usize; 2]> {
    let length = |length: &u64| usize::try_from(*length).ok().filter(|it| *it <= MOST_BYTES);
    match lengths {
        [rows, columns] => Some([length(rows)?, length(columns)?]),
        _ => None,
    }
}

fn read_metadata(folder: &Path) -> Result<(PathBuf, ArrayMetadataV3), ZarrError> {
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

/// Reads the name of the number type of the array in `folder`: `float32`, `float64` or what else is there.
///
/// # Errors
/// `NoArray`, `Read`, `Metadata`.
pub fn data_type(folder: &Path) -> Result<String, ZarrError> {
    Ok(read_metadata(folder)?.1.data_type.name().to_owned())
}

/// The first chunk file that lacks of the array in `folder`; what is in them is not read.
///
/// # Errors
/// Those of [`ZarrArray::open`].
pub fn missing_chunk(folder: &Path) -> Result<Option<PathBuf>, ZarrError> {
    fn missing<T: Element>(array: &ZarrArray<T>) -> Option<PathBuf> {
        array
            .places()
            .map(|(i, j)| array.chunk_path(i, j))
            .find(|chunk| !chunk.exists())
    }
    Ok(match data_type(folder)?.as_str() {
        <f64 as Element>::DATA_TYPE => missing(&ZarrArray::<f64>::open(folder)?),
        _ => missing(&ZarrArray::<f32>::open(folder)?),
    })
}

/// Sees that every chunk file of the array in `folder` is there with its length, so that the shape can be believed; none is read.
///
/// # Errors
/// Those of [`ZarrArray::open`] and [`ZarrArray::check_chunk`].
pub fn check_chunks(folder: &Path) -> Result<(), ZarrError> {
    fn each<T: Element>(array: &ZarrArray<T>) -> Result<(), ZarrError> {
        array
            .places()
            .try_for_each(|(i, j)| array.check_chunk(i, j))
    }
    match data_type(folder)?.as_str() {
        <f64 as Element>::DATA_TYPE => each(&ZarrArray::<f64>::open(folder)?),
        _ => each(&ZarrArray::<f32>::open(folder)?),
    }
}

/// Removes the array in `folder`; `zarr.json` goes first, so that who still makes chunks of it sees that they are not wanted.
///
/// # Errors
/// `Write`.
pub fn remove(folder: &Path) -> Result<(), ZarrError> {
    // A link to an array is all that is ours of it.
    if !folder.is_symlink() {
        let path = folder.join("zarr.json");
        match fs_err::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(AtomicError { path, source }.into());
            }
            _ => {}
        }
    }
    Ok(atomic::remove_folder(folder)?)
}

/// Reads every chunk of the array in `folder` and compares its checksum, in parallel.
///
/// # Errors
/// Those of [`ZarrArray::open`] and [`ZarrArray::verify_chunk`].
pub fn verify(folder: &Path) -> Result<(), ZarrError> {
    fn each<T: Element>(array: &ZarrArray<T>) -> Result<(), ZarrError> {
        let [down, across] = array.grid();
        let row = |i| {
            let chunks = (0..across).into_par_iter();
            chunks.try_for_each(|j| array.verify_chunk(i, j))
        };
        (0..down).into_par_iter().try_for_each(row)
    }
    match data_type(folder)?.as_str() {
        <f64 as Element>::DATA_TYPE => each(&ZarrArray::<f64>::open(folder)?),
        _ => each(&ZarrArray::<f32>::open(folder)?),
    }
}

/// A Zarr v3 array of `shape[0]` x `shape[1]` numbers in a folder, one file a chunk.
///
/// Holds no open file: it may be shared and cloned freely. Different chunks may be written from many threads
/// and processes at once; of two writers of one chunk the last rename wins, and readers see either whole.
#[derive(Debug, Clone)]
pub struct ZarrArray<T> {
    folder: PathBuf,
    spec: ArraySpec,
    element: PhantomData<fn() -> T>,
}

impl<T: Element> ZarrArray<T> {
    /// Creates the array's folder and `zarr.json`, no chunk. An equal array that is there is opened as it is.
    ///
    /// # Errors
    /// `ChunkShape` for an empty chunk; `Differs` when another array is there; `Unsupported`, `Metadata` when its
    /// `zarr.json` is of a foreign kind; `Read`, `Write`.
    pub fn create(folder: impl Into<PathBuf>, spec: ArraySpec) -> Result<Self, ZarrError> {
        let array = Self::described(folder, spec)?;
        match array.check_described() {
            Err(ZarrError::NoArray { .. }) => {
                let path = array.folder.join("zarr.json");
                atomic::write(&path, &[array.description().as_bytes()])?;
            }
            done => done?,
        }
        Ok(array)
    }

    /// Sees that the folder still holds this array: another machine may have put its own there.
    ///
    /// # Errors
    /// `NoArray`; `Differs` when another array is there; those of [`open`](Self::open).
    pub fn check_described(&self) -> Result<(), ZarrError> {
        // Equal bytes settle it: a float among the attributes may change by a bit when parsed.
        let text = fs_err::read(self.folder.join("zarr.json"));
        if text.is_ok_and(|found| found == self.description().as_bytes()) {
            return Ok(());
        }
        let found = Self::open(&self.folder)?;
        match self.spec.difference(&found.spec) {
            None => Ok(()),
            Some((field, expected, found)) => Err(ZarrError::Differs {
                path: self.folder.clone(),
                field,
                expected,
                found,
            }),
        }
    }

    /// What stands in `zarr.json`.
    fn description(&self) -> String {
        self.spec.to_metadata(T::DATA_TYPE).to_string_pretty() + "\n"
    }

    /// Opens the array in `folder`; reads its `zarr.json` only.
    ///
    /// # Errors
    /// `NoArray`, `Read`, `Metadata`; `Unsupported` when the array is not of this number type, two dimensions,
    /// this chunk key encoding and these codecs.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, ZarrError> {
        let folder = folder.into();
        let (path, metadata) = read_metadata(&folder)?;
        let spec = ArraySpec::from_metadata(&path, &metadata, T::DATA_TYPE)?;
        Self::described(folder, spec)
    }

    /// An array that is not, or not yet, described on disk: its chunks can be written and read all the same.
    pub(crate) fn described(
        folder: impl Into<PathBuf>,
        spec: ArraySpec,
    ) -> Result<Self, ZarrError> {
        let folder = folder.into();
        let [rows, columns] = spec.chunk;
        let bytes = rows
            .checked_mul(columns)
            .and_then(|n| n.checked_mul(size_of::<T>()));
        match bytes {
            Some(1..=MOST_BYTES) => Ok(Self {
                folder,
                spec,
                element: PhantomData,
            }),
            _ => Err(ZarrError::ChunkShape {
                path: folder,
                rows,
                columns,
            }),
        }
    }

    /// The array's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Shape, chunk and the rest of the description.
    pub fn spec(&self) -> &ArraySpec {
        &self.spec
    }

    /// Rows and columns of the array.
    pub fn shape(&self) -> [usize; 2] {
        self.spec.shape
    }

    /// Number of chunks down and across; chunks at the edge may hold less than a chunk of the array.
    pub fn grid(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.spec.shape[axis].div_ceil(self.spec.chunk[axis]))
    }

    fn places(&self) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let [down, across] = self.grid();
        (0..down).flat_map(move |i| (0..across).map(move |j| (i, j)))
    }

    /// Values in a chunk, padding included.
    pub fn chunk_len(&self) -> usize {
        self.spec.chunk[0] * self.spec.chunk[1]
    }

    /// Bytes of a chunk file, checksum included.
    pub fn chunk_bytes(&self) -> u64 {
        (self.chunk_len() * size_of::<T>() + CHECKSUM_BYTES) as u64
    }

    /// The file of chunk (`i`, `j`), there or not.
    pub fn chunk_path(&self, i: usize, j: usize) -> PathBuf {
        self.folder.join(format!("c/{i}/{j}"))
    }

    /// Whether the file of chunk (`i`, `j`) is there and has the right length. Does not read it.
    pub fn has_chunk(&self, i: usize, j: usize) -> bool {
        std::fs::metadata(self.chunk_path(i, j))
            .is_ok_and(|it| it.is_file() && it.len() == self.chunk_bytes())
    }

    fn inside(&self, i: usize, j: usize) -> Result<(), ZarrError> {
        let [rows, columns] = self.grid();
        if i < rows && j < columns {
            return Ok(());
        }
        let path = self.folder.clone();
        Err(ZarrError::OutsideGrid {
            path,
            row: i,
            column: j,
            rows,
            columns,
        })
    }

    /// Writes chunk (`i`, `j`): `values` is a full chunk, row-major, zeros beyond the edge of the array.
    ///
    /// The file is written beside and renamed, so a chunk that exists is whole; the disk is not waited for.
    ///
    /// # Errors
    /// `Length` when `values` is not a full chunk; `OutsideGrid`; `Write`.
    pub fn write_chunk(&self, i: usize, j: usize, values: &[T]) -> Result<(), ZarrError> {
        self.inside(i, j)?;
        let path = self.chunk_path(i, j);
        if values.len() != self.chunk_len() {
            return Err(ZarrError::Length {
                path,
                expected: self.chunk_len(),
                found: values.len(),
            });
        }
        let bytes: &[u8] = bytemuck::cast_slice(values);
        atomic::write(&path, &[bytes, &crc32c::crc32c(bytes).to_le_bytes()])?;
        Ok(())
    }

    /// Opens the file of chunk (`i`, `j`), which has the right length.
    fn open_chunk(&self, i: usize, j: usize) -> Result<(PathBuf, fs_err::File), ZarrError> {
        self.inside(i, j)?;
        let path = self.chunk_path(i, j);
        let file = match fs_err::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ZarrError::ChunkMissing { path });
            }
            Err(error) => return Err(ZarrError::read(&path)(error)),
        };
        let expected = self.chunk_bytes();
        let found = file.metadata().map_err(ZarrError::read(&path))?.len();
        match found == expected {
            true => Ok((path, file)),
            false => Err(ZarrError::ChunkTruncated {
                path,
                expected,
                found,
            }),
        }
    }

    /// Sees that the file of chunk (`i`, `j`) can be opened and has the right length.
    ///
    /// # Errors
    /// `OutsideGrid`, `ChunkMissing`, `ChunkTruncated`, `Read`.
    pub fn check_chunk(&self, i: usize, j: usize) -> Result<(), ZarrError> {
        self.open_chunk(i, j).map(drop)
    }

    /// Asks the system to start reading chunk (`i`, `j`); returns at once, and a refusal does not matter.
    pub fn prefetch_chunk(&self, i: usize, j: usize) {
        #[cfg(target_os = "linux")]
        if let Ok((_, file)) = self.open_chunk(i, j) {
            let _ = rustix::fs::fadvise(file.file(), 0, None, rustix::fs::Advice::WillNeed);
        }
    }

    /// Reads the values of chunk (`i`, `j`), row-major, padding included, into `values`, and compares their checksum.
    ///
    /// # Errors
    /// `OutsideGrid`, `ChunkMissing`, `ChunkTruncated`, `ChunkCorrupt`, `Read`.
    pub fn read_chunk(&self, i: usize, j: usize, values: &mut Vec<T>) -> Result<(), ZarrError> {
        let (path, mut file) = self.open_chunk(i, j)?;
        values.resize(self.chunk_len(), T::zeroed());
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        let mut checksum = [0; CHECKSUM_BYTES];
        file.read_exact(bytes)
            .and_then(|()| file.read_exact(&mut checksum))
            .map_err(ZarrError::read(&path))?;
        compare(&path, bytes, checksum)
    }

    /// Maps the file of chunk (`i`, `j`) into memory, read-only. Checks its length, not its checksum.
    ///
    /// The pages belong to the page cache, not to this process. Files of an array must be replaced by renaming,
    /// as everything here does, never written in place or cut short while mapped.
    ///
    /// # Errors
    /// `OutsideGrid`, `ChunkMissing`, `ChunkTruncated`, `Read`.
    pub fn map_chunk(&self, i: usize, j: usize) -> Result<Chunk<T>, ZarrError> {
        let (path, file) = self.open_chunk(i, j)?;
        // SAFETY: the map is read-only and no longer than the file, whose length was just read from this very
        // handle. Chunk files are only ever written under a temporary name and renamed, so no one changes or
        // shortens the file behind this handle; that is the documented contract of an array's folder.
        let map = unsafe {
            MmapOptions::new()
                .len(self.chunk_bytes() as usize)
                .map(file.file())
        };
        let map = map.map_err(ZarrError::read(&path))?;
        Ok(Chunk {
            map,
            path,
            element: PhantomData,
        })
    }

    /// Reads chunk (`i`, `j`) and compares its checksum.
    ///
    /// # Errors
    /// Those of [`read_chunk`](Self::read_chunk).
    pub fn verify_chunk(&self, i: usize, j: usize) -> Result<(), ZarrError> {
        self.read_chunk(i, j, &mut Vec::new())
    }

    /// Writes the whole array; `values` is row-major, `shape[0]` x `shape[1]`. For small arrays.
    ///
    /// # Errors
    /// `Length` when `values` does not fill the array; `Write`.
    pub fn write_all(&self, values: &[T]) -> Result<(), ZarrError> {
        let [n_rows, n_columns] = self.spec.shape;
        let [chunk_rows, chunk_columns] = self.spec.chunk;
        if values.len() != n_rows * n_columns {
            let path = self.folder.clone();
            return Err(ZarrError::Length {
                path,
                expected: n_rows * n_columns,
                found: values.len(),
            });
        }
        let [down, across] = self.grid();
        (0..down * across).into_par_iter().try_for_each(|index| {
            let (i, j) = (index / across, index % across);
            let columns = j * chunk_columns..((j + 1) * chunk_columns).min(n_columns);
            let mut chunk = vec![T::zeroed(); self.chunk_len()];
            let rows = i * chunk_rows..((i + 1) * chunk_rows).min(n_rows);
            for (row, into) in rows.zip(chunk.chunks_exact_mut(chunk_columns)) {
                let from = &values[row * n_columns..][columns.clone()];
                into[..from.len()].copy_from_slice(from);
            }
            self.write_chunk(i, j, &chunk)
        })
    }

    /// Reads the whole array, row-major, `shape[0]` x `shape[1]`, comparing every checksum; in parallel.
    ///
    /// # Errors
    /// Those of [`read_rows`](Self::read_rows).
    pub fn read_all(&self) -> Result<Vec<T>, ZarrError> {
        let [n_rows, n_columns] = self.spec.shape;
        let chunk_rows = self.spec.chunk[0];
        let mut values = self.room_for(0..n_rows)?;
        values
            .par_chunks_mut((chunk_rows * n_columns).max(1))
            .enumerate()
            .try_for_each(|(i, band)| self.read_band(i, 0, band))?;
        Ok(values)
    }

    /// Reads `rows`, row-major, `rows.len()` x `shape[1]`, comparing the checksum of every chunk they touch.
    ///
    /// Chunks are read whole, so rows are best taken in multiples of the chunk's. Reads on the calling thread and starts
    /// nothing on another, so it may be called with a lock held.
    ///
    /// # Errors
    /// `OutsideRows`; `ChunkMissing` (the fill value does not stand in), `ChunkTruncated`, `ChunkCorrupt`, `Read`.
    pub fn read_rows(&self, rows: Range<usize>) -> Result<Vec<T>, ZarrError> {
        let [n_rows, n_columns] = self.spec.shape;
        let chunk_rows = self.spec.chunk[0];
        if rows.start > rows.end || rows.end > n_rows {
            let path = self.folder.clone();
            return Err(ZarrError::OutsideRows {
                path,
                start: rows.start,
                end: rows.end,
                n_rows,
            });
        }
        let mut values = self.room_for(rows.clone())?;
        let mut rest = values.as_mut_slice();
        let mut start = rows.start;
        while !rest.is_empty() {
            let i = start / chunk_rows;
            let end = ((i + 1) * chunk_rows).min(rows.end);
            let (band, after) = rest.split_at_mut((end - start) * n_columns);
            self.read_band(i, start - i * chunk_rows, band)?;
            rest = after;
            start = end;
        }
        Ok(values)
    }

    /// Zeros in place of `rows`, once all their chunks are there: a damaged shape must not ask for more than the disk holds.
    fn room_for(&self, rows: Range<usize>) -> Result<Vec<T>, ZarrError> {
        let n_columns = self.spec.shape[1];
        if rows.is_empty() || n_columns == 0 {
            return Ok(Vec::new());
        }
        let chunk_rows = self.spec.chunk[0];
        for i in rows.start / chunk_rows..rows.end.div_ceil(chunk_rows) {
            for j in 0..self.grid()[1] {
                self.check_chunk(i, j)?;
            }
        }
        Ok(vec![T::zeroed(); rows.len() * n_columns])
    }

    /// Fills `band` with rows of the chunks of row `i`, from their row `skip` on.
    fn read_band(&self, i: usize, skip: usize, band: &mut [T]) -> Result<(), ZarrError> {
        let n_columns = self.spec.shape[1];
        let chunk_columns = self.spec.chunk[1];
        let mut chunk = Vec::new();
        for j in 0..self.grid()[1] {
            self.read_chunk(i, j, &mut chunk)?;
            let first = j * chunk_columns;
            let width = chunk_columns.min(n_columns - first);
            let from = chunk[skip * chunk_columns..].chunks_exact(chunk_columns);
            for (into, from) in band.chunks_exact_mut(n_columns).zip(from) {
                into[first..first + width].copy_from_slice(&from[..width]);
            }
        }
        Ok(())
    }
}

/// Compares the CRC-32C of a chunk's values with the one stored behind them.
fn compare(path: &Path, values: &[u8], stored: [u8; CHECKSUM_BYTES]) -> Result<(), ZarrError> {
    let (expected, found) = (u32::from_le_bytes(stored), crc32c::crc32c(values));
    match expected == found {
        true => Ok(()),
        false => Err(ZarrError::ChunkCorrupt {
            path: path.to_path_buf(),
            expected,
            found,
        }),
    }
}

/// A mapped chunk: its values, row-major, padding included.
#[derive(Debug)]
pub struct Chunk<T> {
    map: Mmap,
    path: PathBuf,
    element: PhantomData<fn() -> T>,
}

impl<T: Element> Chunk<T> {
    /// The chunk file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the values and compares their CRC-32C with the one stored behind them.
    ///
    /// # Errors
    /// `ChunkCorrupt`.
    pub fn verify(&self) -> Result<(), ZarrError> {
        let (values, checksum) = self.map.split_at(self.map.len() - CHECKSUM_BYTES);
        let mut stored = [0; CHECKSUM_BYTES];
        stored.copy_from_slice(checksum);
        compare(&self.path, values, stored)
    }
}

impl<T: Element> Deref for Chunk<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // A map starts on a page, so its values are aligned; the length was checked when it was made.
        bytemuck::cast_slice(&self.map[..self.map.len() - CHECKSUM_BYTES])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
