//! Every input that is committed, through its target: what a fuzzer has found, and a few that go far.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "for tests: whatever is unexpected ends them"
)]

use std::path::{Path, PathBuf};

/// The inputs of a target.
fn inputs(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut all: Vec<PathBuf> = entries.map(|one| one.expect("an entry").path()).collect();
    all.sort();
    all
}

#[test]
fn the_committed_corpus_finds_nothing() {
    for (name, target) in tests_fuzz::TARGETS {
        let all = inputs(name);
        assert!(!all.is_empty(), "{name} has no corpus");
        for path in all {
            eprintln!("{}", path.display());
            target(&std::fs::read(&path).expect("readable"));
        }
    }
}

/// Bytes of a generator, so that each target runs at all, on hosts without a fuzzer too.
#[test]
fn random_bytes_find_nothing() {
    for (name, target) in tests_fuzz::TARGETS {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for round in 0..2000 {
            eprintln!("{name}, round {round}");
            let bytes: Vec<u8> = (0..round % 400)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 32) as u8
                })
                .collect();
            target(&bytes);
        }
    }
}
