//! The pool of threads.

use crate::failure::input;

/// Makes the pool; without a number, of as many threads as there are cores.
pub fn set_threads(threads: Option<usize>) -> anyhow::Result<()> {
    if threads == Some(0) {
        return Err(input(
            "threads is 0, expected at least 1",
            "leave `--threads` out to use every core",
        ));
    }
    // faer's own operators would split by the number of threads, and round by it; ours split by rows and tiles.
    faer::set_global_parallelism(faer::Par::Seq);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .stack_size(STACK_BYTES)
        .build_global()?;
    Ok(())
}

/// Room for a thread's calls, as much as the first thread of a process has.
const STACK_BYTES: usize = 8 << 20;

/// Does `work` on a thread of the pool, where what it does in parallel neither wakes nor waits for a thread outside.
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}
