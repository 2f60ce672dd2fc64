//! What is logged, on stderr.

use std::io::{self, Write};

use crate::shown::escaped;

/// Starts the log, at more levels for each `-v`.
pub(super) fn start(verbose: u8) {
    let level = match verbose {
        0 => "warn,ort=error,tract=off",
        1 => "info,ort=warn",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("DFQ_ONNX_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false);
    // A second command in one process keeps the first one's log.
    let _ = subscriber.with_writer(|| Lines).try_init();
}

/// Stderr, on which what is written at once is one line.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        writeln!(io::stderr(), "{}", escaped(text.trim_end_matches('\n')))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
