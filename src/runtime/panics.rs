//! Catches panics of an embedded engine: their text becomes an error and does not reach stderr.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread catches panics.
    static CATCHES: Cell<bool> = const { Cell::new(false) };
}

/// Returns the result of `work`, or the text of its panic.
///
/// The panic hook of the process is silent in a thread while it runs `work`, and unchanged elsewhere.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |panic| {
            if !CATCHES.get() {
                previous(panic);
            }
        }));
    });
    let outer = CATCHES.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHES.set(outer);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "no message".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_text_and_threads_are_told_apart() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| panic!("index {}", 7)).map(|()| 0), Err("index 7".to_owned()));
        let inner = caught(|| caught(|| panic!("inner")).map(|()| 0).unwrap_err());
        assert_eq!(inner, Ok("inner".to_owned()));
        assert!(!CATCHES.get(), "a caught panic leaves the thread as it was");
    }
}
