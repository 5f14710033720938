//! Two-dimensional arrays in chunks: Zarr v3, float32, float64 or uint8, codecs `bytes` (little) and `crc32c`.
//!
//! The format is a fixed subset of the Zarr core specification, version 3 (zarr-specs.readthedocs.io, read 2025): regular chunk
//! grid, and chunk key encoding `default` with `/`, so that chunk (i, j) is the file `c/i/j`. The file holds the chunk's
//! values, row-major and little-endian, followed by the CRC-32C of those bytes (RFC 3720, section 12.1) as four little-endian
//! bytes. Chunks at the edge are full size, padded with zeros by the writer. A chunk file is therefore its own memory image and
//! can be mapped directly. Any Zarr reader opens the array.

mod array;
mod chunk;
mod chunk_file;
mod element;
mod error;
mod folder;
mod metadata;

pub use array::ZarrArray;
pub use chunk::Chunk;
pub use element::Element;
pub use error::ZarrError;
pub use folder::{check_chunks, missing_chunk, remove, verify};
pub use metadata::{ArraySpec, Attributes, data_type};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
