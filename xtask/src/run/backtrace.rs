//! Names for the addresses in a panic report of EL2.

use std::path::{Path, PathBuf};

use addr2line::Loader;
/// The symbols of one ELF, read when the first backtrace asks for them.
pub struct Symbols {
    elf: PathBuf,
}

impl Symbols {
    /// The symbols of this ELF.
    pub fn of(elf: &Path) -> Self {
        Self {
            elf: elf.to_path_buf(),
        }
    }

    /// Lines that explain a line of EL2's, if it carries a backtrace.
    pub fn explain(&mut self, line: &str) -> Vec<String> {
        let Some(offsets) = offsets(line) else {
            return Vec::new();
        };
        let loaded = base(&self.elf).and_then(|base| Some((base, Loader::new(&self.elf).ok()?)));
        let Some((base, loader)) = loaded else {
            return vec![format!("xdv |     (no symbols in {})", self.elf.display())];
        };
        let named = offsets.iter().flat_map(|offset| {
            // EL2 gives the instruction itself: the one that failed, then the calls that led there.
            let address = base.wrapping_add(*offset);
            let mut names = frames(&loader, address);
            if names.is_empty() {
                names.push("?".to_owned());
            }
            names
                .into_iter()
                .map(move |name| format!("xdv |     {offset:#x} {name}"))
        });
        named.collect()
    }
}

/// The functions at an address, inlined ones first, with file and line.
fn frames(loader: &Loader, address: u64) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let function = frame
                .function
                .and_then(|function| function.demangle().ok().map(|name| name.into_owned()));
            let place = frame.location.and_then(|at| {
                // Line 0, or none: code that the compiler made, which belongs to no line.
                let line = at.line.filter(|line| *line != 0);
                Some(line.map_or(at.file?.to_owned(), |line| {
                    format!("{}:{line}", at.file.unwrap_or_default())
                }))
            });
            match (function, place) {
                (Some(function), Some(place)) => names.push(format!("{function}  {place}")),
                (Some(only), None) | (None, Some(only)) => names.push(only),
                (None, None) => {}
            }
        }
    }
    if names.is_empty() {
        names.extend(
            loader
                .find_symbol(address)
                .map(|symbol| addr2line::demangle_auto(symbol.into(), None).into_owned()),
        );
    }
    names
}

/// Where the ELF puts the image's first byte.
fn base(elf: &Path) -> Option<u64> {
    configs_compiler::linked_at(&std::fs::read(elf).ok()?)
}

/// The hexadecimal offsets after `backtrace` in a line of EL2's.
fn offsets(line: &str) -> Option<Vec<u64>> {
    let (_, list) = line.strip_prefix("xdv |")?.split_once("backtrace")?;
    let words = list
        .split(|c: char| c.is_whitespace() || c == ',' || c == ':')
        .filter(|word| !word.is_empty());
    let offsets: Vec<u64> = words
        .map_while(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok())
        .collect();
    (!offsets.is_empty()).then_some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_with_and_without_a_prefix() {
        assert_eq!(
            offsets("xdv |   backtrace 0x1f4 2a0 0x10"),
            Some(vec![0x1f4, 0x2a0, 0x10])
        );
        assert_eq!(offsets("xdv |   backtrace: 1f4"), Some(vec![0x1f4]));
    }

    /// This very test, found in this very program: its address less where the program was loaded is its offset.
    #[cfg(target_os = "linux")]
    #[test]
    fn functions_are_named_with_file_and_line() {
        let me = std::env::current_exe().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mine = maps
            .lines()
            .find(|line| line.ends_with(&me.display().to_string()))
            .unwrap();
        let loaded = u64::from_str_radix(mine.split('-').next().unwrap(), 16).unwrap();
        let here = functions_are_named_with_file_and_line as fn() as usize as u64;
        let lines = Symbols::of(&me).explain(&format!("xdv |   backtrace {:#x}", here - loaded));
        let named = |line: &String| {
            line.contains("functions_are_named_with_file_and_line")
                && line.contains("backtrace.rs:")
        };
        assert!(lines.iter().any(named), "{lines:?}");
        assert_eq!(
            Symbols::of(Path::new("/nowhere"))
                .explain("xdv | backtrace 0")
                .len(),
            1
        );
    }

    #[test]
    fn a_guest_s_line_is_never_symbolised() {
        assert_eq!(offsets("alpha | backtrace 0x1f4"), None);
        assert_eq!(offsets("xdv | guest alpha: started"), None);
        assert_eq!(offsets("xdv | no backtrace here, sorry"), None);
    }
}
