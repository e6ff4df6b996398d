//! A debugger on the machine: QEMU's own stub for gdb, and what a person types to get from there into a guest.
//!
//! gdb sees the machine as a CPU does. So the addresses of a guest's kernel are where it was linked, also for
//! breakpoints, whatever the hypervisor maps below them. EL2 runs at addresses of its own, which may be the same ones:
//! the exception level in `$cpsr` tells the two apart.

use std::path::Path;

use super::places::Guest;

/// More than any kernel of a guest.
const LARGEST: u64 = 1 << 30;

/// The arguments that let QEMU wait for a debugger on this machine, and on no other.
pub fn arguments(port: u16) -> [String; 3] {
    let stub = format!("tcp:127.0.0.1:{port}");
    ["-gdb".to_owned(), stub, "-S".to_owned()]
}

/// What to tell the person.
pub fn words(port: u16, guests: &[Guest]) -> Vec<String> {
    let mut words = vec![format!(
        "the machine waits for a debugger at port {port}; in another terminal:"
    )];
    words.extend(guests.iter().map(|guest| {
        let (file, kernel_at) = guest.debugged();
        let (symbols, entry) = symbols(file, kernel_at);
        format!(
            "  gdb-multiarch {symbols}-ex 'target remote :{port}' \
             -ex 'hbreak *{entry:#x} if ($cpsr & 12) == 4' -ex continue"
        )
    }));
    words
}

/// How gdb is given the symbols, if the kernel's file has any, and where the kernel is entered.
fn symbols(file: Option<&Path>, kernel_at: u64) -> (String, u64) {
    let elf = file.and_then(|file| Some((file, std::fs::read(file).ok()?)));
    let Some((file, flat, linked)) = elf.and_then(|(file, bytes)| {
        let flat = configs_compiler::lay_out(&bytes, LARGEST).ok()?;
        Some((file, flat, configs_compiler::linked_at(&bytes)?))
    }) else {
        return (String::new(), kernel_at);
    };
    let file = file.display();
    // Linked where it lies, or for a translation of its own; what is linked below everything lies where it was put.
    let symbols = if linked >= flat.low.max(1) {
        format!("'{file}' ")
    } else {
        format!("-ex 'symbol-file {file} -o {kernel_at:#x}' ")
    };
    (symbols, kernel_at.wrapping_add(flat.entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::places::Source;

    #[test]
    fn the_stub_is_for_this_machine_alone() {
        assert_eq!(arguments(1234).join(" "), "-gdb tcp:127.0.0.1:1234 -S");
    }

    #[test]
    fn what_has_no_symbols_is_stopped_where_it_begins() {
        let file = Source::File("/nowhere/Image".into());
        let guests = [Guest::new("a".to_owned(), 0x4020_0000, file)];
        let words = words(4321, &guests);
        assert_eq!(words.len(), 2);
        assert_eq!(
            words[1],
            "  gdb-multiarch -ex 'target remote :4321' -ex 'hbreak *0x40200000 if ($cpsr & 12) == 4' -ex continue"
        );
    }
}
