//! Names for the addresses in EL2's reports of guests.
//!
//! EL2 says numbers. What they are called is known here: of an ELF file by its symbol table, of Linux by the table in its
//! `Image`, else by the file that the machine file names. Where a kernel runs at other addresses than it was linked for,
//! what is between them is found out from VBAR_EL1, which Linux points at its symbol `vectors`, or from where its first
//! byte lies. An address that could have two names has none.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use configs_compiler::Symbols;

use super::esr;

/// Linux moves itself by whole pages of the largest size.
const PAGE: u64 = 64 << 10;
/// What Linux' VBAR_EL1 can be, and how far behind the symbol: on CPUs with Spectre-BHB there are several of the second.
const VECTORS: [(&str, u64); 4] = [
    ("vectors", 0),
    ("__bp_harden_el1_vectors", 0),
    ("__bp_harden_el1_vectors", 0x800),
    ("__bp_harden_el1_vectors", 0x1000),
];

/// Bytes of one.
const INSTRUCTION: u64 = 4;

/// Where the names of a guest's addresses come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// They were read when the machine file was.
    Read(Rc<Symbols>),
    /// From this file, if it has any.
    File(PathBuf),
}

/// A guest, as far as its addresses go.
#[derive(Debug)]
pub struct Guest {
    name: String,
    kernel_at: u64,
    source: Source,
    symbols: OnceCell<Option<Rc<Symbols>>>,
    /// VBAR_EL1 as the report said that is being read.
    vbar: Option<u64>,
}

impl Guest {
    /// A guest of this name, whose kernel lies here.
    pub const fn new(name: String, kernel_at: u64, source: Source) -> Self {
        Self {
            name,
            kernel_at,
            source,
            symbols: OnceCell::new(),
            vbar: None,
        }
    }

    /// The file that a debugger may have its symbols from, and where the kernel lies.
    pub fn debugged(&self) -> (Option<&Path>, u64) {
        let file = match &self.source {
            Source::Read(_) => None,
            Source::File(path) => Some(path.as_path()),
        };
        (file, self.kernel_at)
    }

    fn symbols(&self) -> Option<&Symbols> {
        let read = || match &self.source {
            Source::Read(symbols) => Some(Rc::clone(symbols)),
            Source::File(path) => {
                let bytes = std::fs::read(path).ok()?;
                Symbols::read(&Rc::new(bytes)).map(Rc::new)
            }
        };
        self.symbols.get_or_init(read).as_deref()
    }

    /// How far from where it was linked the guest may run: what VBAR_EL1 says, or else what is possible.
    fn slides(&self, symbols: &Symbols) -> Vec<u64> {
        let said = self.vbar.and_then(|vbar| {
            VECTORS.iter().find_map(|(name, behind)| {
                let at = symbols.address_of(name)?.wrapping_add(*behind);
                Some(vbar.wrapping_sub(at)).filter(|slide| slide.is_multiple_of(PAGE))
            })
        });
        let first = symbols.base().or_else(|| symbols.address_of("_text"));
        let loaded = first.map(|first| self.kernel_at.wrapping_sub(first));
        match said {
            // Before Linux turns its MMU on, it runs where it lies.
            Some(slide) => std::iter::once(slide).chain(loaded).collect(),
            None => std::iter::once(0).chain(loaded).collect(),
        }
    }

    /// What an address is called.
    fn name_of(&self, address: u64) -> Option<String> {
        self.name_from(address, 0)
    }

    /// What a return address is called: by the call before it. The last call of a function may never return, and then
    /// another function begins there.
    fn caller(&self, address: u64) -> Option<String> {
        self.name_from(address.wrapping_sub(INSTRUCTION), INSTRUCTION)
    }

    fn name_from(&self, address: u64, further: u64) -> Option<String> {
        let symbols = self.symbols()?;
        let slides = self.slides(symbols);
        let mut names = slides
            .iter()
            .filter_map(|slide| symbols.at(address.wrapping_sub(*slide)));
        let (name, offset) = names.next()?;
        names
            .all(|other| other == (name, offset))
            .then(|| format!("{}+{:#x}", demangled(name), offset.wrapping_add(further)))
    }
}

/// The guests of a run.
#[derive(Debug)]
pub struct Places {
    guests: Vec<Guest>,
}

impl Places {
    /// Of these guests.
    pub const fn of(guests: Vec<Guest>) -> Self {
        Self { guests }
    }

    /// A line as it is shown: with names behind the addresses of a guest, and what was called from where below.
    pub fn explain(&mut self, line: &str) -> Vec<String> {
        let Some(said) = line.strip_prefix("xdv | ") else {
            return vec![line.to_owned()];
        };
        let Some(guest) = about(&mut self.guests, said) else {
            let plain = said.starts_with("  esr ");
            return vec![if plain {
                spoken(line, |_| None)
            } else {
                line.to_owned()
            }];
        };
        if said.starts_with("guest ") {
            // Another life, or the head of a report.
            guest.vbar = None;
        } else if let Some(vbar) = number_behind(said, "vbar") {
            guest.vbar = Some(vbar);
        }
        let (head, calls) = match line.split_once(", called from ") {
            Some((head, calls)) => (head, calls),
            None => (line, ""),
        };
        let mut lines = vec![spoken(head, |address| guest.name_of(address))];
        let callers = calls.split_whitespace().filter_map(hex);
        lines.extend(callers.map(|address| {
            let name = guest.caller(address).unwrap_or_default();
            format!("xdv |     called from {address:#x} {name}")
                .trim_end()
                .to_owned()
        }));
        lines
    }
}

/// The guest that a line of EL2's is about.
fn about<'g>(guests: &'g mut [Guest], said: &str) -> Option<&'g mut Guest> {
    let rest = ["guest ", "  ", "ctl: "]
        .iter()
        .find_map(|start| said.strip_prefix(start))?;
    let is_about = |guest: &&mut Guest| {
        rest.strip_prefix(&guest.name)
            .is_some_and(|rest| rest.starts_with(": ") || rest.starts_with(" lane "))
    };
    guests.iter_mut().find(is_about)
}

/// A line with words behind its numbers.
fn spoken(line: &str, name: impl Fn(u64) -> Option<String>) -> String {
    let mut words = Vec::new();
    let mut before = "";
    for word in line.split(' ') {
        let number = word.trim_end_matches([',', ')']);
        let said = match (before.trim_start_matches('('), hex(number)) {
            ("pc", Some(address)) => name(address).map(|name| format!(" <{name}>")),
            ("esr" | "ESR_EL2", Some(value)) => Some(format!(" ({})", esr::words(value))),
            _ => None,
        };
        let end = word.get(number.len()..).unwrap_or_default();
        words.push(format!("{number}{}{end}", said.unwrap_or_default()));
        before = word;
    }
    words.join(" ")
}

fn number_behind(said: &str, key: &str) -> Option<u64> {
    let mut words = said.split(' ');
    words.find(|word| *word == key)?;
    hex(words.next()?.trim_end_matches(','))
}

fn hex(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// A name as people write it, without the compiler's own mark at its end.
fn demangled(name: &str) -> String {
    let name = addr2line::demangle_auto(name.into(), None).into_owned();
    match name.rsplit_once("::h") {
        Some((path, mark)) if mark.len() == 16 && mark.bytes().all(|b| b.is_ascii_hexdigit()) => {
            path.to_owned()
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests;
