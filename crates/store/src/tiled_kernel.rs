//! The kernel in square tiles on disk: computed once, then multiplied tile by tile, mapped or copied.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use faer::{Mat, MatRef};
use rayon::prelude::*;
use reml::KernelMatrix;
use serde::Serialize;

use crate::far_rows::{self, FarRows};
use crate::tile_product::{Columns, add_tile, cut, join};
use crate::zarr::{ArraySpec, Attributes, Chunk, ZarrArray, ZarrError};

/// A kernel of up to this many bytes keeps its tiles in memory once they are used: to open and map a tile takes longer than to
/// multiply it.
const KEPT_BYTES: u64 = 32 << 20;

/// Side of a tile for `n` samples: a power of two between 256 and 2048, with at least 8 tiles per side where n allows.
///
/// Rounding depends on the side, so it is a function of n alone.
pub fn default_tile(n: usize) -> usize {
    (n / 8).next_power_of_two().clamp(256, 2048)
}

/// The lower triangle of a symmetric n × n kernel, in square tiles.
#[derive(Debug)]
pub struct TiledKernel {
    array: ZarrArray<f32>,
    access: Access,
    /// Buffers for copied tiles that are not in use.
    spare: Mutex<Vec<Vec<f32>>>,
    /// The tiles of a small kernel, side × side; empty for a larger one.
    kept: Vec<OnceLock<Vec<f32>>>,
    diagonal: Vec<f64>,
    far: FarRows,
    verified: Vec<AtomicBool>,
    done: Counters,
}

/// How tiles come into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Mapped: tiles take no memory beyond the page cache. Checksums are compared when a tile is first used.
    Map,
    /// Copied: for file systems where a page that cannot be read would kill the process, and where writes of another machine
    /// may arrive late. Takes one tile of memory per thread; checksums are compared at each use.
    Copy,
}

/// A tile's values, row-major, padding included.
enum Tile<'k> {
    Kept(&'k [f32]),
    Mapped(Chunk<f32>),
    Copied {
        values: Vec<f32>,
        spare: &'k Mutex<Vec<Vec<f32>>>,
    },
}

impl Deref for Tile<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Kept(values) => values,
            Self::Mapped(chunk) => chunk,
            Self::Copied { values, .. } => values,
        }
    }
}

impl Drop for Tile<'_> {
    fn drop(&mut self) {
        if let Self::Copied { values, spare } = self {
            lock(spare).push(std::mem::take(values));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was read and multiplied since the kernel was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Passes over the kernel.
    pub passes: u64,
    /// Columns multiplied, in all passes together.
    pub columns: u64,
    /// Bytes of tiles read.
    pub bytes_read: u64,
}

#[derive(Debug, Default)]
struct Counters {
    passes: AtomicU64,
    columns: AtomicU64,
    bytes: AtomicU64,
}

/// Describes the array that holds a kernel of `n` samples in tiles of side `tile`. `attributes` go into its `zarr.json`.
pub fn spec(n: usize, tile: usize, attributes: Attributes) -> ArraySpec {
    ArraySpec {
        shape: [n, n],
        chunk: [tile, tile],
        fill_nan: true,
        attributes,
        dimension_names: Some(["sample".into(), "sample".into()]),
    }
}

/// Tiles (i, j), j ≤ i, of the lower triangle, row by row.
pub fn lower_triangle(side: usize) -> Vec<(usize, usize)> {
    (0..side)
        .flat_map(|i| (0..=i).map(move |j| (i, j)))
        .collect()
}

/// Rounds of tiles of the lower triangle: every tile comes once, and each row of tiles at most once per round. The first round
/// is the diagonal; the others follow the circle method of a round-robin tournament.
///
/// Tiles of one round touch different parts of the product, so they run in parallel. Each part is summed in the order of the
/// rounds, so the bits do not depend on the number of threads.
///
/// # Examples
///
/// ```
/// let rounds = ntkpipe_store::tiled_kernel::rounds(3);
/// assert_eq!(rounds[0], [(0, 0), (1, 1), (2, 2)]);
/// assert_eq!(rounds.concat().len(), 3 * (3 + 1) / 2);
/// ```
pub fn rounds(side: usize) -> Vec<Vec<(usize, usize)>> {
    let mut rounds = vec![(0..side).map(|i| (i, i)).collect::<Vec<_>>()];
    let players = side + side % 2;
    for round in 0..players.saturating_sub(1) {
        let seat = |k: usize| {
            if k == 0 {
                0
            } else {
                1 + (round + k - 1) % (players - 1)
            }
        };
        let pairs: Vec<(usize, usize)> = (0..players / 2)
            .map(|k| (seat(k), seat(players - 1 - k)))
            .map(|(a, b)| (a.max(b), a.min(b)))
            .filter(|&(i, _)| i < side)
            .collect();
        if !pairs.is_empty() {
            rounds.push(pairs);
        }
    }
    rounds
}

impl TiledKernel {
    /// Opens a kernel that has all its tiles, and reads its diagonal.
    ///
    /// # Errors
    /// When a tile is missing, cut short, or does not match its checksum; the message names the file.
    pub fn open(folder: &Path, access: Access) -> Result<Self, ZarrError> {
        Self::open_keeping(folder, access, KEPT_BYTES)
    }

    /// [`TiledKernel::open`] with another limit for kernels that are kept in memory.
    fn open_keeping(folder: &Path, access: Access, kept_bytes: u64) -> Result<Self, ZarrError> {
        let array = ZarrArray::<f32>::open(folder)?;
        let (side, tile, n) = (array.grid()[0], array.spec().chunk[0], array.shape()[0]);
        for (field, [rows, columns]) in [
            ("shape", array.shape()),
            ("chunk shape", array.spec().chunk),
        ] {
            if rows != columns {
                return Err(ZarrError::Unsupported {
                    path: folder.join("zarr.json"),
                    field,
                    expected: "two equal lengths".to_owned(),
                    found: format!("[{rows}, {columns}]"),
                });
            }
        }
        for (i, j) in (0..side).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            array.check_chunk(i, j)?;
        }
        let n_tiles = side * (side + 1) / 2;
        let is_kept = n_tiles as u64 * array.chunk_bytes() <= kept_bytes;
        let n_kept = if is_kept { side * side } else { 0 };
        let mut kernel = Self {
            verified: (0..side * side).map(|_| AtomicBool::new(false)).collect(),
            kept: (0..n_kept).map(|_| OnceLock::new()).collect(),
            array,
            access,
            spare: Mutex::default(),
            diagonal: Vec::new(),
            far: FarRows::default(),
            done: Counters::default(),
        };
        let mut diagonal = Vec::with_capacity(n);
        for i in 0..side {
            let chunk = kernel.tile(i, i)?;
            let rows = tile.min(n - i * tile);
            diagonal.extend((0..rows).map(|r| f64::from(chunk[r * tile + r])));
        }
        kernel.far = FarRows::new(&diagonal, tile);
        kernel.diagonal = diagonal;
        kernel.count_anew();
        Ok(kernel)
    }

    /// Side of a tile.
    pub fn tile_side(&self) -> usize {
        self.array.spec().chunk[0]
    }

    /// Sets the counters of [`TiledKernel::traffic`] to zero.
    pub fn count_anew(&self) {
        let Counters {
            passes,
            columns,
            bytes,
        } = &self.done;
        for counter in [passes, columns, bytes] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// What was read and multiplied since the kernel was opened, or since [`count_anew`](Self::count_anew).
    pub fn traffic(&self) -> Traffic {
        Traffic {
            passes: self.done.passes.load(Ordering::Relaxed),
            columns: self.done.columns.load(Ordering::Relaxed),
            bytes_read: self.done.bytes.load(Ordering::Relaxed),
        }
    }

    /// Bytes of memory that tiles take while they are used, beyond the page cache.
    pub fn copied_bytes(&self) -> usize {
        let side = self.array.grid()[0];
        let n_tiles = match (self.kept.is_empty(), self.access) {
            (false, _) => side * (side + 1) / 2,
            (true, Access::Map) => 0,
            (true, Access::Copy) => rayon::current_num_threads(),
        };
        n_tiles * self.array.chunk_bytes() as usize
    }

    fn tile(&self, i: usize, j: usize) -> Result<Tile<'_>, ZarrError> {
        let place = i * self.array.grid()[1] + j;
        let tile = match (self.kept.get(place), self.access) {
            (Some(kept), _) => {
                if kept.get().is_none() {
                    let mut values = Vec::new();
                    self.array.read_chunk(i, j, &mut values)?;
                    // Another thread may have been faster, with the same values.
                    let _ = kept.set(values);
                }
                Tile::Kept(kept.get().map_or(&[], Vec::as_slice))
            }
            (None, Access::Map) => {
                let chunk = self.array.map_chunk(i, j)?;
                let verified = &self.verified[place];
                if !verified.load(Ordering::Relaxed) {
                    chunk.verify()?;
                    verified.store(true, Ordering::Relaxed);
                }
                Tile::Mapped(chunk)
            }
            (None, Access::Copy) => {
                let spare = &self.spare;
                let mut values = lock(spare).pop().unwrap_or_default();
                self.array.read_chunk(i, j, &mut values)?;
                Tile::Copied { values, spare }
            }
        };
        Ok(tile)
    }

    fn count_bytes(&self, n_tiles: usize) {
        let bytes = n_tiles as u64 * self.array.chunk_bytes();
        self.done.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The part of tile (i, j) that holds samples.
    fn values<'t>(&self, tile: &'t [f32], i: usize, j: usize) -> MatRef<'t, f32> {
        let (side, n) = (self.tile_side(), self.n_samples());
        let [rows, columns] = [i, j].map(|at| side.min(n - at * side));
        MatRef::from_row_major_slice(tile, side, side).submatrix(0, 0, rows, columns)
    }

    /// The products of each row of tiles with `parts`, summed in the order of the rounds. Each tile is read once, on one
    /// thread, and serves both triangles. The tiles of the next round are prefetched.
    fn sums_by_rounds(&self, parts: &[Columns], scale: f32) -> Result<Vec<Columns>, ZarrError> {
        let mut sums: Vec<Option<Columns>> = self.no_sums(parts).map(Some).collect();
        let rounds = rounds(parts.len());
        for (r, round) in rounds.iter().enumerate() {
            let mut tasks = Vec::with_capacity(round.len());
            for &(i, j) in round {
                let low = sums[i].take();
                let high = if i == j { None } else { sums[j].take() };
                tasks.push((i, j, low, high));
            }
            let next = rounds.get(r + 1).map_or(&[][..], Vec::as_slice);
            let done: Result<Vec<_>, ZarrError> = tasks
                .into_par_iter()
                .enumerate()
                .map(|(at, (i, j, mut low, mut high))| {
                    if let Some(&(ahead_i, ahead_j)) = next.get(at) {
                        self.array.prefetch_chunk(ahead_i, ahead_j);
                    }
                    let tile = self.tile(i, j)?;
                    let to_low = low.as_mut().map(|low| (low, &parts[j]));
                    let to_high = high.as_mut().map(|high| (high, &parts[i]));
                    add_tile(self.values(&tile, i, j), scale, to_low, to_high);
                    Ok((i, j, low, high))
                })
                .collect();
            for (i, j, low, high) in done? {
                sums[i] = low;
                if i != j {
                    sums[j] = high;
                }
            }
        }
        Ok(sums.into_iter().flatten().collect())
    }

    /// As [`TiledKernel::sums_by_rounds`], but each row of tiles on its own, so that no thread waits for another. Where tiles
    /// are kept in memory, using one twice costs nothing.
    fn sums_by_rows(&self, parts: &[Columns], scale: f32) -> Result<Vec<Columns>, ZarrError> {
        let in_order = rounds(parts.len()).concat();
        let sum_of = |(row, mut sum): (usize, Columns)| {
            for &(i, j) in in_order.iter().filter(|&&(i, j)| i == row || j == row) {
                let tile = self.tile(i, j)?;
                let values = self.values(&tile, i, j);
                match i == row {
                    true => add_tile(values, scale, Some((&mut sum, &parts[j])), None),
                    false => add_tile(values, scale, None, Some((&mut sum, &parts[i]))),
                }
            }
            Ok(sum)
        };
        let sums: Vec<Columns> = self.no_sums(parts).collect();
        sums.into_par_iter().enumerate().map(sum_of).collect()
    }

    /// The sums of each row of tiles before the first tile.
    fn no_sums(&self, parts: &[Columns]) -> impl Iterator<Item = Columns> {
        let of_row = |(row, part): (usize, &Columns)| {
            let [plain, squared] =
                [&part.plain, &part.squared].map(|of| Mat::zeros(of.nrows(), of.ncols()));
            let far_rows = self.far.of(row).to_vec();
            Columns {
                far: Mat::zeros(far_rows.len(), plain.ncols()),
                far_rows,
                plain,
                squared,
            }
        };
        parts.iter().enumerate().map(of_row)
    }
}

/// Samples grouped by row of tiles, each with its place in `samples` and its row within the tile.
fn by_row(samples: &[usize], tile: usize) -> BTreeMap<usize, Vec<(usize, usize)>> {
    let mut by_row: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
    for (place, &sample) in samples.iter().enumerate() {
        let row = by_row.entry(sample / tile).or_default();
        row.push((place, sample % tile));
    }
    by_row
}

impl KernelMatrix for TiledKernel {
    type Error = ZarrError;

    fn n_samples(&self) -> usize {
        self.array.shape()[0]
    }

    fn diagonal(&self) -> &[f64] {
        &self.diagonal
    }

    fn submatrix(&self, samples: &[usize]) -> Result<Mat<f32>, ZarrError> {
        let tile = self.tile_side();
        let by_row = by_row(samples, tile);
        let mut sub = Mat::zeros(samples.len(), samples.len());
        for (&i, rows) in &by_row {
            for (&j, columns) in by_row.range(..=i) {
                let chunk = self.tile(i, j)?;
                self.count_bytes(1);
                for &(a, r) in rows {
                    for &(b, c) in columns {
                        sub[(a, b)] = chunk[r * tile + c];
                        sub[(b, a)] = chunk[r * tile + c];
                    }
                }
            }
        }
        Ok(sub)
    }

    fn columns(&self, samples: &[usize]) -> Result<Mat<f32>, ZarrError> {
        let (tile, n) = (self.tile_side(), self.n_samples());
        let by_row = by_row(samples, tile);
        let rows = (0..n.div_ceil(tile)).into_par_iter();
        let parts: Result<Vec<Mat<f32>>, ZarrError> = rows
            .map(|i| {
                let len = tile.min(n - i * tile);
                let mut part = Mat::zeros(len, samples.len());
                for (&j, wanted) in &by_row {
                    let chunk = self.tile(i.max(j), i.min(j))?;
                    self.count_bytes(1);
                    // Along the rows of the tile, as they are stored.
                    match j <= i {
                        true => {
                            for (r, row) in chunk.chunks_exact(tile).take(len).enumerate() {
                                for &(place, at) in wanted {
                                    part[(r, place)] = row[at];
                                }
                            }
                        }
                        false => {
                            for &(place, at) in wanted {
                                let row = &chunk[at * tile..][..len];
                                part.col_as_slice_mut(place).copy_from_slice(row);
                            }
                        }
                    }
                }
                Ok(part)
            })
            .collect();
        let mut columns = Mat::zeros(n, samples.len());
        for (i, part) in parts?.iter().enumerate() {
            columns.subrows_mut(i * tile, part.nrows()).copy_from(part);
        }
        Ok(columns)
    }

    fn multiply(
        &self,
        x: MatRef<'_, f32>,
        squared: MatRef<'_, f32>,
    ) -> Result<(Mat<f32>, Mat<f32>), ZarrError> {
        let (side, tile, n) = (self.array.grid()[0], self.tile_side(), self.n_samples());
        let cut = cut(x, side, tile).into_iter().zip(cut(squared, side, tile));
        let parts: Vec<Columns> = cut
            .map(|(plain, squared)| Columns {
                plain,
                squared,
                far_rows: Vec::new(),
                far: Mat::new(),
            })
            .collect();
        let scale = (1.0 / self.unit()) as f32;
        let mut sums = match self.kept.is_empty() {
            true => self.sums_by_rounds(&parts, scale)?,
            false => self.sums_by_rows(&parts, scale)?,
        };
        self.done.passes.fetch_add(1, Ordering::Relaxed);
        let columns = x.ncols() + squared.ncols();
        self.done
            .columns
            .fetch_add(columns as u64, Ordering::Relaxed);
        self.count_bytes(side * (side + 1) / 2);
        // The number of phenotypes in a batch assumes three copies of the block at once, including the caller's.
        drop(parts);
        for sum in &mut sums {
            far_rows::put(&sum.far_rows, &sum.far, sum.plain.as_mut());
        }
        let (products, squares): (Vec<_>, Vec<_>) =
            sums.into_iter().map(|s| (s.plain, s.squared)).unzip();
        Ok((
            join(&products, n, x.ncols()),
            join(&squares, n, squared.ncols()),
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
