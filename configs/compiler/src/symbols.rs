//! The names of a kernel's addresses, for whoever reads where it stopped.
//!
//! They come from an ELF file's symbol table, from a `System.map` (what `nm` prints), or from the table that a Linux
//! `Image` carries of itself. Nothing of it reaches EL2, which says numbers.

mod kallsyms;

use object::LittleEndian;
use object::elf::{FileHeader64, SHF_EXECINSTR, STT_FUNC, STT_NOTYPE, STT_OBJECT};
use object::read::elf::{FileHeader as _, SectionHeader as _, Sym as _};

use crate::elf;
use crate::environment::MAX_FILE;
use crate::unpack;
use std::rc::Rc;

const LE: LittleEndian = LittleEndian;

/// What follows the last symbol belongs to it for so long.
const LAST: u64 = 64 << 10;

/// One symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Symbol {
    address: u64,
    /// 0: up to the next one.
    size: u64,
    /// It is executed. Other symbols end those that are.
    code: bool,
    name: String,
}

/// A kernel's symbols. Those of an `Image` count from its first one: only differences of theirs mean something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbols {
    /// In the order of their addresses.
    list: Vec<Symbol>,
    /// The lowest address that is loaded, where the file says so.
    base: Option<u64>,
}

impl Symbols {
    /// The symbols in a file, packed or not. `None`: there are none.
    #[must_use]
    pub fn read(file: &Rc<Vec<u8>>) -> Option<Self> {
        let (bytes, _) = unpack::unpack(file, MAX_FILE).ok()?;
        let (mut list, base) = if bytes.starts_with(elf::MAGIC) {
            of_elf(&bytes)?
        } else if let Some(list) = of_map(&bytes) {
            (list, None)
        } else {
            (of_image(&bytes)?, None)
        };
        list.sort_by(|a, b| {
            // Of several at one address the last is found: code, and of that the one that people call.
            let rank = |symbol: &Symbol| (symbol.code, !symbol.name.starts_with('_'));
            (a.address, rank(a)).cmp(&(b.address, rank(b)))
        });
        let code = list.iter().any(|symbol| symbol.code);
        code.then_some(Self { list, base })
    }

    /// The lowest address that the file says is loaded.
    #[must_use]
    pub const fn base(&self) -> Option<u64> {
        self.base
    }

    /// The address of a symbol, if there is just one of that name.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<u64> {
        let mut all = self.list.iter().filter(|symbol| symbol.name == name);
        let first = all.next()?.address;
        all.all(|symbol| symbol.address == first).then_some(first)
    }

    /// The function that an address is in, and how far.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<(&str, u64)> {
        let next = self.list.partition_point(|one| one.address <= address);
        let symbol = self.list.get(next.checked_sub(1)?)?;
        let offset = address.checked_sub(symbol.address)?;
        let limit = match (symbol.size, self.list.get(next)) {
            (0, None) => LAST,
            (0, Some(_)) => u64::MAX,
            (size, _) => size,
        };
        (symbol.code && offset < limit).then_some((symbol.name.as_str(), offset))
    }
}

/// The symbol table of an ELF file, and its lowest address.
fn of_elf(file: &[u8]) -> Option<(Vec<Symbol>, Option<u64>)> {
    let header = FileHeader64::<LittleEndian>::parse(file).ok()?;
    let sections = header.sections(LE, file).ok()?;
    let table = sections.symbols(LE, file, object::elf::SHT_SYMTAB).ok()?;
    let mut list = Vec::new();
    for (nth, symbol) in table.enumerate() {
        let name = symbol.name(LE, table.strings()).ok()?;
        let kind = symbol.st_type();
        // `$x` and `$d` tell code from data, `.L` is the assembler's own.
        let is_named = !name.is_empty() && !name.starts_with(b"$") && !name.starts_with(b".L");
        if !is_named || ![STT_FUNC, STT_NOTYPE, STT_OBJECT].contains(&kind) {
            continue;
        }
        let Ok(Some(index)) = table.symbol_section(LE, symbol, nth) else {
            continue;
        };
        let Ok(section) = sections.section(index) else {
            continue;
        };
        let executed = section.sh_flags(LE).contains(SHF_EXECINSTR);
        list.push(Symbol {
            address: symbol.st_value(LE),
            size: symbol.st_size(LE),
            code: executed && kind != STT_OBJECT,
            name: String::from_utf8_lossy(name).into_owned(),
        });
    }
    Some((list, elf::lowest(file)))
}

/// Lines such as `ffff800008010800 T vectors`. Every one must be of that form.
fn of_map(file: &[u8]) -> Option<Vec<Symbol>> {
    let text = std::str::from_utf8(file).ok()?;
    let mut list = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
        // Behind a module's symbols stands the module.
        if kind.len() != 1 || address.len() < 8 {
            return None;
        }
        // Undefined ones have no address, and absolute ones are no place.
        if ["U", "w", "v", "a", "A"].contains(&kind) {
            continue;
        }
        list.push(Symbol {
            address: u64::from_str_radix(address, 16).ok()?,
            size: 0,
            code: is_code(kind),
            name: name.to_owned(),
        });
    }
    // The stub that Debian has in its place names one thing, which is not a place.
    (list.len() > 1).then_some(list)
}

/// Whether what `nm` calls so is executed.
fn is_code(kind: &str) -> bool {
    matches!(kind, "t" | "T" | "W")
}

/// What a Linux `Image` knows of itself.
fn of_image(file: &[u8]) -> Option<Vec<Symbol>> {
    let found = kallsyms::read(file)?;
    let symbol = |(address, name): (u64, String)| {
        let kind = name.get(..1)?;
        Some(Symbol {
            address,
            size: 0,
            code: is_code(kind),
            name: name.get(1..)?.to_owned(),
        })
    };
    Some(found.into_iter().filter_map(symbol).collect())
}

#[cfg(test)]
mod tests;
