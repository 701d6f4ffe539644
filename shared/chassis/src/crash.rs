//! Crash points: places at which a test lets the process die, one after each step that a crash may separate from the next.
//!
//! They do nothing unless the chassis is built with the feature `crash-points`, as `cargo xtask test` and `cargo xtask chaos` do;
//! then `FAILPOINTS` (of the crate `fail`) says which one kills: `FAILPOINTS='reader-after-commit=9*off->return'` the tenth time.

/// Dies here at once, without unwinding or a word to anybody, when the environment says so.
pub(crate) fn point(name: &str) {
    let _ = name;
    fail::fail_point!(name, |_| std::process::abort());
}

/// Reads which points kill, for as long as the value lives.
pub(crate) fn armed() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}
