//! Goldens: what was printed once and read by a person, compared for ever after.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, ensure};

use crate::machine;

/// Words that are numbers become `#`: addresses, times and counts may differ from run to run, and digests from build to
/// build.
#[must_use]
pub fn normalised<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for line in lines {
        let words: Vec<String> = line.split(' ').map(word).collect();
        text.push_str(words.join(" ").trim_end());
        text.push('\n');
    }
    text
}

fn word(word: &str) -> String {
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let digits = core.strip_prefix("0x").unwrap_or(core);
    let hexadecimal = digits.len() != core.len();
    let number = |c: char| {
        c.is_ascii_digit() || hexadecimal && c.is_ascii_hexdigit() || c == '.' || c == '_'
    };
    let digest = core.len() == 16 && core.chars().all(|c| c.is_ascii_hexdigit());
    if digest || !digits.is_empty() && digits.chars().all(number) {
        word.replacen(core, "#", 1)
    } else {
        word.to_owned()
    }
}

fn path(name: &str) -> PathBuf {
    machine::root()
        .join("tests/goldens")
        .join(format!("{name}.txt"))
}

/// Compares with the golden of this name; with `XDV_BLESS` set, writes it.
///
/// # Errors
/// They differ; the first line that does is the message.
pub fn compare(name: &str, seen: &str) -> anyhow::Result<()> {
    let path = path(name);
    if env::var_os("XDV_BLESS").is_some() {
        return fs::write(&path, seen).with_context(|| format!("cannot write {}", path.display()));
    }
    let wanted = fs::read_to_string(&path)
        .with_context(|| format!("no golden {}: XDV_BLESS=1 writes it", path.display()))?;
    let (mut seen_lines, mut wanted_lines) = (seen.lines(), wanted.lines());
    for number in 1.. {
        let pair = (seen_lines.next(), wanted_lines.next());
        ensure!(
            pair.0 == pair.1,
            "{name}, line {number}: golden {:?}, seen {:?}\nall that was seen:\n{seen}",
            pair.1,
            pair.0
        );
        if pair == (None, None) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_and_names_stay() {
        assert_eq!(
            normalised(["took 12.5 ms at 0x4020_0000, S2-01 of alpha2 (17)"]),
            "took # ms at #, S2-01 of alpha2 (#)\n"
        );
        assert_eq!(normalised(["digest 8b52e35888a057f6"]), "digest #\n");
        assert_eq!(normalised(["0x", "ab 0xzz -", ""]), "0x\nab 0xzz -\n\n");
    }
}
