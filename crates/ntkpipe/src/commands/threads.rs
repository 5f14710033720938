//! The pool of threads.

use crate::failure::input;
use crate::log;

/// Room for a thread's calls, as much as the first thread of a process has.
const STACK_BYTES: usize = 8 << 20;

/// Does `work` on a pool of its own, with this many threads; without a number, with as many as there are cores.
///
/// What the work does in parallel neither wakes nor waits for a thread outside the pool, and what it logs goes where [`log::start`] says.
pub fn in_pool<R: Send>(
    threads: Option<usize>,
    work: impl FnOnce() -> anyhow::Result<R> + Send,
) -> anyhow::Result<R> {
    if threads == Some(0) {
        return Err(input(
            "threads is 0, expected at least 1",
            "leave `--threads` out to use every core",
        ));
    }
    // faer's own operators would split by the number of threads, and round by it; ours split by rows and tiles.
    faer::set_global_parallelism(faer::Par::Seq);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .stack_size(STACK_BYTES)
        .start_handler(|_| log::attach())
        .build()?;
    pool.install(work)
}
