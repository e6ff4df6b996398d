//! Explains why a guest's files find no place in its RAM, and what would make room.

use configs_plan::RAM_BASE;

use crate::diagnostic::Diagnostic;
use crate::kernel::Place;
use crate::layout::{Load, NoRoom};
use crate::raw::{Field, RawGuest};
use crate::size::{address, written};
use crate::summary::size;

/// What to say about a guest in whose RAM something found no place.
pub(crate) fn explain(guest: &RawGuest, load: &Load, why: NoRoom) -> Option<Diagnostic> {
    match (why, &guest.load) {
        (NoRoom::Misaligned(nearest), Some(field)) => Some(misaligned(guest, load, field, nearest)),
        (NoRoom::Linked(linked), Some(field)) => Some(fixed(guest, field, linked)),
        (NoRoom::Kernel(_), Some(field)) => outside(guest, load, field),
        (NoRoom::Initrd, _) => initrd(guest, load),
        (NoRoom::Kernel(_) | NoRoom::Dtb | NoRoom::Misaligned(_) | NoRoom::Linked(_), _) => {
            too_small(guest, load)
        }
    }
}

fn name(guest: &RawGuest) -> &str {
    guest
        .name
        .as_ref()
        .map_or("this guest", |name| name.value.as_str())
}

fn takes(load: &Load) -> String {
    format!("takes {} of memory when it runs", size(load.kernel.memory))
}

fn range(start: u64, length: u64) -> String {
    format!(
        "{} to {}",
        address(start),
        address(start.saturating_add(length).saturating_sub(1))
    )
}

fn misaligned(guest: &RawGuest, load: &Load, field: &Field<u64>, nearest: u64) -> Diagnostic {
    let rule = match load.kernel.place {
        Place::Anywhere {
            align, offset: 0, ..
        } => format!(
            "this kernel must lie at a multiple of {} ({})",
            size(align),
            address(align)
        ),
        Place::Anywhere { align, offset, .. } => format!(
            "this kernel must lie {} above a multiple of {}, as its header says",
            address(offset),
            size(align)
        ),
        Place::Fixed(linked) => format!("this kernel was linked at {}", address(linked)),
        Place::Flash => "firmware lies in flash".to_owned(),
    };
    let title = format!(
        "the kernel of `{}` cannot lie at {}",
        name(guest),
        address(field.value)
    );
    let diagnostic = Diagnostic::new(title)
        .at(field.span.clone(), "misaligned")
        .note(rule);
    let help = "an address near it at which it can lie";
    diagnostic.fix(help, field.span.clone(), address(nearest))
}

/// An address for a kernel that has its own.
fn fixed(guest: &RawGuest, field: &Field<u64>, linked: u64) -> Diagnostic {
    let title = format!(
        "the kernel of `{}` cannot lie at {}",
        name(guest),
        address(field.value)
    );
    Diagnostic::new(title)
        .at(
            field.span.clone(),
            format!("it was linked at {}", address(linked)),
        )
        .help("leave `load` out: an ELF file says itself where it lies")
}

fn outside(guest: &RawGuest, load: &Load, field: &Field<u64>) -> Option<Diagnostic> {
    let (memory, kernel) = (guest.memory.as_ref()?, guest.kernel.as_ref()?);
    let diagnostic = Diagnostic::new(format!(
        "the kernel of `{}` lies outside its RAM",
        name(guest)
    ))
    .at(field.span.clone(), range(field.value, load.kernel.memory))
    .see(kernel.span.clone(), takes(load))
    .see(
        memory.span.clone(),
        format!("RAM is {}", range(RAM_BASE, load.memory)),
    );
    Some(diagnostic.help("leave `load` out to have a place chosen"))
}

fn initrd(guest: &RawGuest, load: &Load) -> Option<Diagnostic> {
    let (memory, kernel, initrd) = (
        guest.memory.as_ref()?,
        guest.kernel.as_ref()?,
        guest.initrd.as_ref()?,
    );
    let title = format!(
        "the initrd of `{}` does not fit into its memory",
        name(guest)
    );
    let diagnostic = Diagnostic::new(title)
        .at(
            initrd.span.clone(),
            format!("takes {}", size(load.initrd.unwrap_or(0))),
        )
        .see(kernel.span.clone(), takes(load))
        .see(memory.span.clone(), "holds both, and the device tree");
    Some(more_memory(diagnostic, load, memory))
}

fn too_small(guest: &RawGuest, load: &Load) -> Option<Diagnostic> {
    let (memory, kernel) = (guest.memory.as_ref()?, guest.kernel.as_ref()?);
    let label = format!("{} for the kernel and its device tree", size(load.memory));
    let title = format!(
        "the memory of `{}` is too small for its kernel",
        name(guest)
    );
    let diagnostic = Diagnostic::new(title)
        .at(memory.span.clone(), label)
        .see(kernel.span.clone(), takes(load));
    Some(more_memory(diagnostic, load, memory))
}

fn more_memory(diagnostic: Diagnostic, load: &Load, memory: &Field<u64>) -> Diagnostic {
    match load.least_memory() {
        Some(least) => {
            let help = "the least that holds it all; give it more to work with";
            diagnostic.fix(help, memory.span.clone(), format!("\"{}\"", written(least)))
        }
        None => diagnostic.help("no guest has so much memory: name a smaller file"),
    }
}
