//! How fast this machine is: matrix products of a core, fresh files on the disk of the tiles.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

/// Rows, columns and depth of the product that is timed.
const SIDE: usize = 256;

const DEPTH: usize = 1024;

/// Bytes that each thread writes.
const WRITTEN: usize = 1 << 20;

/// Times that a product is formed and bytes are written, at most; the best counts.
const MOST_TURNS: usize = 20;

/// Bytes of tiles that one more turn is worth: the estimate is to be a small part of the run.
const WORTH_A_TURN: u64 = 16 << 20;

/// Bytes a second where nothing could be written to try it.
const USUAL_WRITING: f64 = 1e9;

/// Rates with all threads at work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// f32 multiply-adds a second, all threads together.
    pub multiply_adds: f64,
    /// Bytes a second into fresh files, all threads together.
    pub bytes_written: f64,
}

impl Machine {
    /// Measures both for a run with `tile_bytes` of tiles, in a hundredth of a second to a tenth; a file in `folder`, or in the nearest
    /// folder above that exists, is written and vanishes.
    pub fn measure(folder: &Path, tile_bytes: u64) -> Self {
        let turns = (tile_bytes / WORTH_A_TURN).clamp(2, MOST_TURNS as u64) as usize;
        Self {
            multiply_adds: multiply_adds(turns),
            bytes_written: bytes_written(folder, turns).unwrap_or(USUAL_WRITING),
        }
    }
}

/// Bytes of anonymous memory that this process holds now; `None` where the system does not say.
pub fn anonymous_memory() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

fn multiply_adds(turns: usize) -> f64 {
    let rates = rayon::broadcast(|_| {
        let x = Mat::<f32>::full(SIDE, DEPTH, 1.0);
        let mut product = Mat::<f32>::zeros(SIDE, SIDE);
        let turn = |_| {
            let started = Instant::now();
            matmul(&mut product, Accum::Add, &x, x.transpose(), 1.0, Par::Seq);
            (SIDE * SIDE * DEPTH) as f64 / started.elapsed().as_secs_f64()
        };
        (0..turns).map(turn).fold(0.0, f64::max)
    });
    rates.iter().sum()
}

fn bytes_written(folder: &Path, turns: usize) -> Option<f64> {
    let folder = folder.ancestors().find(|f| f.is_dir())?;
    let block = vec![1_u8; WRITTEN];
    let write = || -> std::io::Result<std::fs::File> {
        let mut file = tempfile::tempfile_in(folder)?;
        file.write_all(&block)?;
        Ok(file)
    };
    // The disk may be busy with what was written before.
    let turn = |_| {
        let started = Instant::now();
        let files = rayon::broadcast(|_| write());
        let written = files.iter().filter(|file| file.is_ok()).count() * WRITTEN;
        written as f64 / started.elapsed().as_secs_f64()
    };
    (0..turns)
        .map(turn)
        .reduce(f64::max)
        .filter(|rate| *rate > 0.0)
}
