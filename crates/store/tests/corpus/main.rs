//! Runs the corpus of every target, unchanged and damaged at random, without a fuzzer.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod damage;
mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use damage::Damage;
use targets::{TARGETS, Target};

/// Largest allocation allowed for a file of a few kilobytes: buffers for a batch of rows, and a decompressed page.
const MOST_BYTES: usize = 64 << 20;

/// Largest allocation allowed for the Parquet library: a batch of rows with the longest text that may be in many rows. Sizes that
/// pages claim are checked before the library sees them.
const MOST_OF_LIBRARY: usize = 256 << 20;

/// The system's allocator, which records the largest allocation of this program and of the Parquet library.
struct Watched;

static LARGEST: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

fn remember(size: usize) {
    let is_library = ntkpipe_store::guard::is_guarded();
    LARGEST[usize::from(is_library)].fetch_max(size, Ordering::Relaxed);
}

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        remember(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        remember(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        remember(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Places in the Parquet library whose panics became errors.
static CAUGHT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut files: Vec<PathBuf> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Runs a case, after writing it to `trace` in case the process does not survive.
fn survive((name, test): Target, bytes: &[u8], trace: &Path) {
    std::fs::write(trace, bytes).unwrap();
    LARGEST
        .iter()
        .for_each(|largest| largest.store(0, Ordering::Relaxed));
    let outcome = std::panic::catch_unwind(|| test(bytes));
    let [ours, library] = [0, 1].map(|whose: usize| LARGEST[whose].load(Ordering::Relaxed));
    assert!(
        outcome.is_ok() && ours <= MOST_BYTES && library <= MOST_OF_LIBRARY,
        "{name} does not survive `{}`; largest allocations {ours} bytes, of the Parquet library {library}",
        trace.display()
    );
}

/// Replays the corpus, then damages it until `enough` returns true for the number of cases and the time since the start.
fn hunt(target: Target, seed: u64, enough: impl Fn(usize, Duration) -> bool) -> usize {
    std::panic::set_hook(Box::new(|panic| match panic.location() {
        Some(place) if ntkpipe_store::guard::is_guarded() => {
            let mut caught = CAUGHT.lock().unwrap();
            caught.insert(format!("{}:{}", place.file(), place.line()));
        }
        _ => eprintln!("{panic}"),
    }));
    let files = corpus(target.0);
    let trace = Path::new(env!("CARGO_TARGET_TMPDIR")).join(target.0);
    for bytes in &files {
        survive(target, bytes, &trace);
    }
    let started = Instant::now();
    let mut damage = Damage::new(seed);
    let mut cases = 0;
    while !enough(cases, started.elapsed()) {
        let (one, other) = (
            &files[damage.below(files.len())],
            &files[damage.below(files.len())],
        );
        survive(target, &damage.of(one, other), &trace);
        cases += 1;
    }
    cases
}

#[test]
fn the_corpus_and_a_few_hundred_damaged_copies_are_survived() {
    for target in TARGETS {
        hunt(target, 1, |cases, _| cases == 400);
    }
}

/// `NTKPIPE_FUZZ_SECONDS=3600 cargo test -p ntkpipe-store --test corpus -- --ignored --nocapture`
#[test]
#[ignore = "runs for as long as NTKPIPE_FUZZ_SECONDS says"]
fn damaged_copies_are_survived_for_as_long_as_asked() {
    let asked = std::env::var("NTKPIPE_FUZZ_SECONDS").map(|text| text.parse().unwrap());
    let each = Duration::from_secs(asked.unwrap_or(60)) / TARGETS.len() as u32;
    let seed = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    for target in TARGETS {
        let cases = hunt(target, seed, |_, time| time > each);
        eprintln!("{}: {cases} cases from seed {seed}", target.0);
    }
    for place in CAUGHT.lock().unwrap().iter() {
        eprintln!("a panic at {place} became an error");
    }
}
