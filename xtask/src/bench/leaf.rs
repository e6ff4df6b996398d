//! The hot path has no stack frame.
//!
//! One call in the middle of it, to something cold, makes the compiler save callee-saved registers on every exit; the
//! figures would show it as a few per cent. This shows it as what it is.

use std::path::Path;

use anyhow::{Context, bail};
use object::{Object, ObjectSection, ObjectSymbol};

/// The functions that the vectors call, and where the first goes on.
const HOT: [&str; 3] = ["vectors8hot_sync", "vectors7hot_irq", "3hot4uart"];

/// Looks at the instructions of the hot functions in EL2's ELF.
///
/// # Errors
/// When one of them is not there any more, or builds a stack frame.
pub fn check(elf: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(elf).with_context(|| format!("reading {}", elf.display()))?;
    let file = object::File::parse(bytes.as_slice())?;
    for name in HOT {
        let symbol = file
            .symbols()
            .find(|symbol| symbol.name().is_ok_and(|mangled| mangled.contains(name)))
            .with_context(|| format!("{} has no function `{name}`", elf.display()))?;
        let section = symbol
            .section_index()
            .context("the symbol has no section")?;
        let code = file
            .section_by_index(section)?
            .data_range(symbol.address(), symbol.size())?
            .context("the function has no code")?;
        if let Some(at) = frame(code) {
            bail!(
                "`{name}` builds a stack frame (at {:#x} of the image): every exit pays for it; let what is cold be a \
                 tail call of its own",
                symbol.address() + at
            );
        }
    }
    Ok(())
}

/// The offset of the first instruction that makes room on the stack.
fn frame(code: &[u8]) -> Option<u64> {
    let words = code
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word));
    words
        .zip((0..).step_by(4))
        .find_map(|(word, at)| makes_room(word).then_some(at))
}

/// SUB SP, SP, #n; STP or STR with pre-index on SP (Arm ARM C6.2).
const fn makes_room(word: u32) -> bool {
    word & 0xFF80_03FF == 0xD100_03FF
        || word & 0xFFC0_03E0 == 0xA980_03E0
        || word & 0xFFE0_0FE0 == 0xF800_0FE0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_seen_and_a_store_into_the_guests_frame_is_not() {
        let code = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        // mrs x8, esr_el2; str x8, [x0, #8]; ret
        assert_eq!(frame(&code(&[0xd53c_5208, 0xf900_0408, 0xd65f_03c0])), None);
        // nop; stp x29, x30, [sp, #-16]!
        assert_eq!(frame(&code(&[0xd503_201f, 0xa9bf_7bfd])), Some(4));
        // sub sp, sp, #0x20
        assert_eq!(frame(&code(&[0xd100_83ff])), Some(0));
        // str x30, [sp, #-0x30]!
        assert_eq!(frame(&code(&[0xf81d_0ffe])), Some(0));
    }
}
