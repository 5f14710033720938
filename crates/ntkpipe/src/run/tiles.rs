//! Size and number of the kernel's tiles.

use ntkpipe_store::tiled_kernel;

use crate::options::settings::Settings;

/// Side of a tile: the user's choice, or from the number of samples.
pub fn tile_side(settings: &Settings, n: usize) -> usize {
    settings
        .tile
        .unwrap_or_else(|| tiled_kernel::default_tile(n))
}

/// Bytes of all tiles of `n` samples.
pub fn bytes(n: usize, tile: usize) -> u64 {
    let side = n.div_ceil(tile) as u64;
    side * (side + 1) / 2 * (tile as u64 * tile as u64 * 4 + 4)
}
