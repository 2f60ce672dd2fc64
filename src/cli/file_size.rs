//! Limits on the size of files.

/// Makes an error of the write that passes the limit on the size of files (`ulimit -f`), as a full disk does; the signal that
/// Unix sends would end the process and leave drafts behind.
#[cfg(unix)]
pub(super) fn heed_limit() {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    // That there is a handler is enough.
    let heard = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::new(AtomicBool::new(false)));
    if let Err(e) = heard {
        tracing::debug!("a limit on the size of files ends the process: {e}");
    }
}

/// Does nothing: there are no such limits.
#[cfg(not(unix))]
pub(super) fn heed_limit() {}
