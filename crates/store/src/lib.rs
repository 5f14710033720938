//! Everything ntkpipe keeps on disk: Parquet tables keyed by sample id, Zarr arrays of tiles, result tables.
//!
//! Files are written under a temporary name and renamed ([`atomic`]), so a file that exists is whole. Unsafe code of the
//! program is in this crate ([`zarr`] maps its chunks) and in `amx-gemm`; each use carries a `SAFETY` comment.

#[cfg(target_endian = "big")]
compile_error!(
    "chunk files are little-endian and are mapped as they stand: big-endian targets are not supported"
);

pub mod atomic;
mod far_rows;
pub mod features;
pub mod file_system;
pub mod guard;
pub mod id_list;
pub mod kernel_tiles;
pub mod masks;
mod memory;
pub mod network_file;
pub mod printable;
pub mod results;
pub mod row_groups;
pub mod samples;
pub mod scaling;
pub mod spectrum;
pub mod table;
mod tile_product;
pub mod tiled_kernel;
pub mod words;
pub mod zarr;
