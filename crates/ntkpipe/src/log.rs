//! The log: stderr for people, `run.log` for the record.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::{IsTerminal as _, Read as _, Write};
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use ntkpipe_store::{file_system, printable};
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Subscriber, dispatcher};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format;
use tracing_subscriber::fmt::format::FormatFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt, layer};

use crate::options::values::LogFormat;
use crate::progress::BARS;

/// Where lines go.
struct Sinks {
    /// The format that a person, or a program, reads on stderr.
    person: Option<LogFormat>,
    /// The file of the record, and its format.
    record: Option<(LogFormat, File)>,
}

static SINKS: Mutex<Sinks> = Mutex::new(Sinks {
    person: None,
    record: None,
});

fn sinks() -> MutexGuard<'static, Sinks> {
    SINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes lines of one format to stderr, between redraws of the progress bars, where that format is read there.
#[derive(Clone, Copy)]
struct ToPerson(LogFormat);

impl Write for ToPerson {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if sinks().person == Some(self.0) {
            // Where stderr is closed, nobody reads it; the run goes on.
            let _ = BARS.suspend(|| io::stderr().write_all(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines of one format to the record, where it is of that format.
#[derive(Clone, Copy)]
struct ToRecord(LogFormat);

impl Write for ToRecord {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((format, file)) = &mut sinks().record
            && *format == self.0
        {
            file.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes lines of JSON on; characters that could control a terminal become JSON escapes.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A line comes whole.
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(printable::json(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Warnings since they were last taken, for `run.json`.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes the warnings logged since the last call.
pub fn take_warnings() -> Vec<String> {
    std::mem::take(&mut *WARNINGS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Keeps every warning for [`take_warnings`].
struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        if *event.metadata().level() == Level::WARN {
            let mut line = Line::default();
            event.record(&mut line);
            let mut warnings = WARNINGS.lock().unwrap_or_else(PoisonError::into_inner);
            warnings.push(line.message + &line.fields);
        }
    }
}

/// An event as text: its message, then its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields += &format!(" {name}={value:?}"),
        }
    }
}

/// Lines for people: the message alone, since the fields only repeat its numbers. Control characters in names are escaped.
fn text<S>() -> fmt::Layer<S, impl for<'w> FormatFields<'w> + use<S>> {
    let message = format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{}", printable::message(&format!("{value:?}"))),
        _ => Ok(()),
    });
    fmt::layer().with_target(false).fmt_fields(message)
}

/// One JSON object per line, the fields beside time, level and message.
fn json<S>() -> fmt::Layer<S, format::JsonFields, format::Format<format::Json>> {
    fmt::layer().json().flatten_event(true).with_target(false)
}

/// Whether colours are not wanted: `NO_COLOR` is set and not empty (no-color.org, read 2026).
fn is_colour_refused() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The log of a folder.
pub const LOG: &str = "run.log";

/// Whether the file is a log of ntkpipe's, by the time or the JSON that its first line begins with, or an empty one of anybody's; a link is
/// not.
pub fn is_ours(path: &Path) -> bool {
    let Ok(true) = path.symlink_metadata().map(|it| it.is_file()) else {
        return false;
    };
    let mut start = Vec::new();
    let read = File::open(path).and_then(|it| it.take(1 << 10).read_to_end(&mut start));
    let text = String::from_utf8_lossy(&start);
    let first = text.lines().next().unwrap_or_default();
    let time = first.strip_prefix("{\"timestamp\":\"").unwrap_or(first);
    let shape = "0000-00-00T00:00:00.";
    let is_time = time.len() > shape.len()
        && time
            .bytes()
            .zip(shape.bytes())
            .all(|(byte, of_shape)| match of_shape {
                b'0' => byte.is_ascii_digit(),
                it => byte == it,
            });
    read.is_ok() && (first.is_empty() || is_time)
}

/// The events of the program's own threads, to the sinks.
static EVENTS: LazyLock<Dispatch> = LazyLock::new(|| {
    let is_coloured = io::stderr().is_terminal() && !is_colour_refused();
    let person = text()
        .with_ansi(is_coloured)
        .log_internal_errors(false)
        .without_time()
        .with_writer(|| ToPerson(LogFormat::Text));
    let person_json = json()
        .log_internal_errors(false)
        .with_writer(|| Escaping(ToPerson(LogFormat::Json)));
    let record = text()
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(|| ToRecord(LogFormat::Text));
    let record_json = json()
        .log_internal_errors(false)
        .with_writer(|| Escaping(ToRecord(LogFormat::Json)));
    let registry = tracing_subscriber::registry()
        .with(LevelFilter::INFO)
        .with(Keep);
    Dispatch::new(
        registry
            .with(person)
            .with(person_json)
            .with(record)
            .with(record_json),
    )
});

/// Sends what this thread logs to the log, until it ends.
pub fn attach() {
    std::mem::forget(dispatcher::set_default(&EVENTS));
}

/// Starts the log; `folder` is the run directory, where `run.log` is appended to.
pub fn start(folder: Option<&Path>, quiet: bool, format: LogFormat) -> anyhow::Result<()> {
    if quiet {
        crate::progress::hide();
    }
    let file: Option<File> = folder
        .map(|f| {
            std::fs::create_dir_all(f)
                .with_context(|| format!("could not create the folder `{}`", f.display()))?;
            file_system::open_itself(OpenOptions::new().create(true).append(true), &f.join(LOG))
                .with_context(|| format!("could not write in the folder `{}`", f.display()))
        })
        .transpose()?;
    if format == LogFormat::Json {
        crate::progress::for_programs();
    }
    *sinks() = Sinks {
        person: (!quiet).then_some(format),
        record: file.map(|it| (format, it)),
    };
    Ok(())
}

/// Ends the log, and forgets the warnings that nobody took.
pub fn stop() {
    *sinks() = Sinks {
        person: None,
        record: None,
    };
    take_warnings();
}
