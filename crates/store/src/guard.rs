//! Panics of the Parquet library on damaged files, turned into errors.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_schema::ArrowError;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would become an error now.
///
/// For panic hooks: such a panic is not a bug to report.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs `decode`, a call into the Parquet library, and turns its panic into an error.
///
/// The library panics on some damaged files. Its maintainers call that well-defined behaviour, and replace the panics by errors
/// case by case (arrow-rs issues 5332, 9742, read 2026). A panic leaves behind a reader, which the caller drops, and no lock or
/// static of this program.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(decode));
    GUARDED.set(outer);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("the Parquet library panicked");
        Err(ArrowError::ParquetError(text.to_owned()))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_of_its_words() {
        let error = guarded::<()>(|| panic!("row {}", 7)).unwrap_err();
        assert_eq!(error.to_string(), "Parquet argument error: row 7");
        assert!(!is_guarded());
        assert!(guarded(|| Ok(is_guarded())).unwrap());
    }
}
