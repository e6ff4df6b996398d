//! Every machine file in `tests/rejected` is refused with exactly the message beside it, every one in
//! `tests/accepted` and every config of the project compiles to exactly the summary beside it.
//!
//! `BLESS=1 cargo test -p configs-compiler --test goldens` writes the messages anew: then read them.
//! A first line such as `# --smp 2 --memory 512M` gives the machine's limits.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of a test fail by panicking"
)]

mod fixtures;

use std::fs;
use std::path::{Path, PathBuf};

use configs_compiler::{RunOptions, compile};
use fixtures::Fixtures;

/// The machine files of a folder, by name.
fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<_> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    cases.sort();
    cases
}

/// Compares with the golden, or writes it.
fn compare(golden: &Path, found: &str, failures: &mut Vec<String>) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(golden, found).expect("the golden can be written");
        return;
    }
    let expected = fs::read_to_string(golden).unwrap_or_default();
    if expected != found {
        failures.push(format!(
            "{}\n--- expected\n{expected}\n--- found\n{found}",
            golden.display()
        ));
    }
}

fn run(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).expect("the case can be read");
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .expect("names of cases are text");
    let environment = Fixtures::with_limits_of(&bytes);
    let options = RunOptions::default();
    let first = compile(name, &bytes, &environment, &options);
    let again = compile(name, &bytes, &environment, &options);
    match (first, again) {
        (Ok(first), Ok(again)) => {
            assert_eq!(first, again, "{name}: the same input gives the same bytes");
            Ok(first.summary().to_string())
        }
        (Err(first), Err(again)) => {
            assert_eq!(
                first.to_string(),
                again.to_string(),
                "{name}: the same input gives the same message"
            );
            assert!(
                first.render(true).contains("\x1b["),
                "{name}: colour on request"
            );
            Err(first.to_string())
        }
        _ => panic!("{name}: the same input gives the same result"),
    }
}

#[test]
fn rejected() {
    let mut failures = Vec::new();
    let cases = cases(Path::new("tests/rejected"));
    assert!(cases.len() >= 24, "only {} cases", cases.len());
    for case in cases {
        match run(&case) {
            Ok(_) => failures.push(format!("{} was accepted", case.display())),
            Err(message) => {
                assert!(
                    !message.contains('\x1b'),
                    "{}: plain means plain",
                    case.display()
                );
                compare(&case.with_extension("stderr"), &message, &mut failures);
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn accepted() {
    let mut failures = Vec::new();
    for case in cases(Path::new("tests/accepted")) {
        match run(&case) {
            Ok(summary) => compare(&case.with_extension("stdout"), &summary, &mut failures),
            Err(message) => failures.push(format!("{} was refused:\n{message}", case.display())),
        }
    }
    // The project's own configs: their goldens stand with those of the cases.
    for config in cases(Path::new("..")) {
        let golden =
            Path::new("tests/accepted/configs").join(config.file_name().expect("it has a name"));
        match run(&config) {
            Ok(summary) => compare(&golden.with_extension("stdout"), &summary, &mut failures),
            Err(message) => failures.push(format!("{} was refused:\n{message}", config.display())),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn two_guests_take_at_most_15_lines_and_no_address() {
    let text = fs::read_to_string("../two-guests.toml").expect("the config is there");
    assert!(text.lines().count() <= 15, "{} lines", text.lines().count());
    assert!(!text.contains("0x"));
    assert_eq!(text.matches("[[guest]]").count(), 2);
}
