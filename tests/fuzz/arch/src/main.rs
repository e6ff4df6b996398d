//! One program for all targets: `XDV_FUZZ_TARGET` names the one, and libFuzzer's own arguments follow. `cargo xtask fuzz`
//! builds it with every branch counted.
#![no_main]

use std::sync::OnceLock;

use tests_fuzz::Target;

/// The environment variable that names the target.
const VARIABLE: &str = "XDV_FUZZ_TARGET";

static TARGET: OnceLock<Target> = OnceLock::new();

fn target() -> Target {
    let name = std::env::var(VARIABLE).unwrap_or_default();
    let Some(target) = tests_fuzz::find(&name) else {
        eprintln!("{VARIABLE} names no target: {name:?}");
        std::process::exit(2);
    };
    target
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET.get_or_init(target)(bytes));
