//! libFuzzer on the target that `FUZZ_TARGET` names; docs/fuzzing.md has the command.
#![no_main]

use std::sync::LazyLock;

use targets::{TARGETS, Target};

#[path = "../../crates/store/tests/corpus/targets.rs"]
mod targets;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    // libFuzzer's hook aborts; a panic that becomes an error is none.
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !ntkpipe_store::guard::is_guarded() {
            abort(panic);
        }
    }));
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let known = || TARGETS.map(|(name, _)| name).join(", ");
    let found = TARGETS.into_iter().find(|target| target.0 == name);
    found.unwrap_or_else(|| panic!("FUZZ_TARGET is `{name}`, expected one of {}", known()))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET.1(bytes));
