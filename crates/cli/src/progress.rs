//! Progress: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::IsTerminal;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// All bars of the process; log lines are printed through it so that they do not tear a bar.
pub static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress of one stage.
pub struct Progress {
    what: &'static str,
    unit: &'static str,
    bar: Option<ProgressBar>,
    last: Mutex<(Instant, u64)>,
}

/// Silences bars and progress lines.
pub fn hide() {
    BARS.set_draw_target(ProgressDrawTarget::hidden());
}

impl Progress {
    /// Starts a stage called `what` that counts `unit`.
    pub fn new(what: &'static str, unit: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = BARS.add(ProgressBar::new(0));
            let template = format!("{{spinner}} {{prefix:10}} [{{bar:32}}] {{pos}}/{{len}} {unit} ({{elapsed}}, {{eta}} left)");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(what);
            bar
        });
        Self {
            what,
            unit,
            bar,
            last: Mutex::new((Instant::now(), 0)),
        }
    }

    /// Says that `done` of `total` are done.
    pub fn set(&self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.elapsed() >= LINE_EVERY && done as u64 != last.1 {
            *last = (Instant::now(), done as u64);
            tracing::info!("{}: {done} of {total} {}", self.what, self.unit);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
