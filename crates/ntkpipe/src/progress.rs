//! Progress: a bar on a terminal, an event of the log every ten seconds elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// All bars of the process; log lines are printed through it so that they do not tear a bar.
pub static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Whether the log is for programs: there are no bars, and the last progress of each stage is logged too.
static FOR_PROGRAMS: AtomicBool = AtomicBool::new(false);

const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress of one stage.
pub struct Progress {
    what: &'static str,
    unit: &'static str,
    /// Bytes read or written for each unit; 0 where that is not known.
    bytes_each: u64,
    /// Units that an earlier run left.
    found: usize,
    started: Instant,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

/// What was said last, and how far it is.
struct State {
    said: Instant,
    said_of: usize,
    done: usize,
    total: usize,
}

/// Silences bars and progress lines.
pub fn hide() {
    BARS.set_draw_target(ProgressDrawTarget::hidden());
}

/// Makes progress a part of the log alone, for programs that read it.
pub fn for_programs() {
    FOR_PROGRAMS.store(true, Ordering::Relaxed);
}

impl Progress {
    /// Starts a stage called `what` that counts `unit`.
    pub fn new(what: &'static str, unit: &'static str) -> Self {
        let is_shown = std::io::stderr().is_terminal() && !FOR_PROGRAMS.load(Ordering::Relaxed);
        let bar = is_shown.then(|| {
            let bar = BARS.add(ProgressBar::new(0));
            let template = format!("{{spinner}} {{prefix:10}} [{{bar:32}}] {{pos}}/{{len}} {unit} ({{elapsed}}, {{eta}} left)");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(what);
            bar
        });
        let started = Instant::now();
        Self {
            what,
            unit,
            bytes_each: 0,
            found: 0,
            started,
            bar,
            state: Mutex::new(State {
                said: started,
                said_of: 0,
                done: 0,
                total: 0,
            }),
        }
    }

    /// The same, where each unit takes so many bytes.
    pub fn of_bytes(mut self, bytes_each: u64) -> Self {
        self.bytes_each = bytes_each;
        self
    }

    /// The same, where so many units were there already.
    pub fn beyond(mut self, found: usize) -> Self {
        self.found = found;
        self
    }

    /// Says that `done` of `total` are done, those found included.
    pub fn set(&self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Threads may come out of turn.
        (state.done, state.total) = (state.done.max(done), total);
        if state.said.elapsed() >= LINE_EVERY && state.done != state.said_of {
            self.say(&mut state);
        }
    }

    fn say(&self, state: &mut State) {
        (state.said, state.said_of) = (Instant::now(), state.done);
        let (done, total) = (state.done, state.total);
        let seconds = self.started.elapsed().as_secs_f64();
        let made = done.saturating_sub(self.found);
        let rate = made as f64 / seconds.max(1e-9);
        let bytes = (self.bytes_each > 0).then_some(made as u64 * self.bytes_each);
        tracing::info!(
            event = "progress",
            stage = self.what,
            unit = self.unit,
            done,
            total,
            seconds,
            rate,
            seconds_left = (made > 0).then(|| total.saturating_sub(done) as f64 / rate),
            bytes,
            bytes_per_second = bytes.map(|bytes| bytes as f64 / seconds.max(1e-9)),
            "{}: {done} of {total} {}",
            self.what,
            self.unit
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if FOR_PROGRAMS.load(Ordering::Relaxed) && state.done != state.said_of {
            self.say(&mut state);
        }
    }
}
