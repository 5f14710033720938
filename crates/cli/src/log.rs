//! The log: stderr for people, `run.log` for the record.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use anyhow::Context as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::options::LogFormat;
use crate::progress::BARS;

/// Writes lines to stderr between redraws of the progress bars.
#[derive(Clone, Copy)]
struct BesideBars;

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
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
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(f.join("run.log"))
                .with_context(|| format!("could not write in the folder `{}`", f.display()))
        })
        .transpose()?;
    let person = match (quiet, format) {
        (true, _) => None,
        (false, LogFormat::Text) => Some(
            tracing_subscriber::fmt::layer()
                .with_target(false)
                .with_ansi(io::stderr().is_terminal())
                .without_time()
                .with_writer(BesideBars)
                .boxed(),
        ),
        (false, LogFormat::Json) => Some(
            tracing_subscriber::fmt::layer()
                .json()
                .with_writer(BesideBars)
                .boxed(),
        ),
    };
    let record = file.map(|f| {
        let f = std::sync::Mutex::new(f);
        match format {
            LogFormat::Text => tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_target(false)
                .with_writer(f)
                .boxed(),
            LogFormat::Json => tracing_subscriber::fmt::layer()
                .json()
                .with_writer(f)
                .boxed(),
        }
    });
    tracing_subscriber::registry()
        .with(LevelFilter::INFO)
        .with(person)
        .with(record)
        .try_init()?;
    Ok(())
}
