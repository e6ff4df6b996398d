//! Which guests have which disks, and whether they can.

use configs_plan::VirtioDevice;

use super::unknown;
use crate::diagnostic::Diagnostic;
use crate::raw::{RawDisk, RawDiskUse, RawGuest};

/// A guest's use of a disk.
struct Use<'c> {
    guest: &'c RawGuest,
    asked: &'c RawDiskUse,
    disk: usize,
    is_readonly: bool,
}

/// The disks of every guest, in the order of the guests.
pub(super) fn give(
    guests: &[RawGuest],
    disks: &[RawDisk],
    found: &mut Vec<Diagnostic>,
) -> Vec<Vec<VirtioDevice>> {
    let known = found.is_empty() || !disks.is_empty();
    let mut uses: Vec<Use<'_>> = Vec::new();
    let mut all = Vec::new();
    for guest in guests {
        let mut given = Vec::new();
        for asked in &guest.virtio.disks {
            let names = || disks.iter().map(|disk| disk.name.as_ref());
            let called = |name: &str| {
                names().position(|other| other.is_some_and(|other| other.value == name))
            };
            let Some(nth) = called(&asked.name.value) else {
                if known {
                    found.push(unknown("disk", &asked.name, names().flatten()));
                }
                continue;
            };
            let Some(disk) = disks.get(nth) else { continue };
            let Some(is_readonly) = readonly(disk, asked, found) else {
                continue;
            };
            let new = Use {
                guest,
                asked,
                disk: nth,
                is_readonly,
            };
            if let Some(earlier) = uses.iter().find(|earlier| conflict(earlier, &new, disk)) {
                found.push(new.twice(earlier, disk));
            }
            uses.push(new);
            given.push(VirtioDevice::Block {
                disk: u32::try_from(nth).unwrap_or(u32::MAX),
                is_readonly,
            });
        }
        all.push(given);
    }
    // Who is said to have none may have been misspelt.
    let looked_at = if found.is_empty() { disks } else { &[] };
    for (nth, disk) in looked_at.iter().enumerate() {
        let (false, Some(name)) = (uses.iter().any(|user| user.disk == nth), &disk.name) else {
            continue;
        };
        let title = format!("no guest has the disk `{}`", name.value);
        let diagnostic = Diagnostic::new(title).at(name.span.clone(), "named here only");
        let help = format!(
            "give it to a guest, `disks = [\"{}\"]`, or remove it",
            name.value
        );
        found.push(diagnostic.help(help));
    }
    all
}

/// Whether a guest may not write to its disk. `None`: it says what cannot be, which is reported.
fn readonly(disk: &RawDisk, asked: &RawDiskUse, found: &mut Vec<Diagnostic>) -> Option<bool> {
    let of_disk = disk.is_readonly();
    let Some(said) = &asked.readonly else {
        return Some(of_disk);
    };
    if of_disk && !said.value {
        let title = format!("nobody writes to the disk `{}`", asked.name.value);
        let mut diagnostic = Diagnostic::new(title).at(said.span.clone(), "not even this guest");
        if let Some(field) = &disk.readonly {
            diagnostic = diagnostic.see(field.span.clone(), "it is read only");
        }
        found.push(diagnostic.help("leave `readonly` out here, or at the disk"));
        return None;
    }
    Some(said.value || of_disk)
}

/// Whether two uses of one disk cannot both be.
fn conflict(earlier: &Use<'_>, new: &Use<'_>, disk: &RawDisk) -> bool {
    let same_guest = std::ptr::eq(earlier.guest, new.guest);
    let writes = !earlier.is_readonly || !new.is_readonly;
    earlier.disk == new.disk && (same_guest || writes && disk.is_shared())
}

impl Use<'_> {
    fn twice(&self, earlier: &Use<'_>, disk: &RawDisk) -> Diagnostic {
        let name = &self.asked.name;
        if std::ptr::eq(earlier.guest, self.guest) {
            let title = format!("`{}` is named twice for one guest", name.value);
            return Diagnostic::new(title)
                .at(name.span.clone(), "again")
                .see(earlier.asked.name.span.clone(), "here already")
                .help("remove one of the two");
        }
        let word = |one: &Use<'_>| {
            let verb = if one.is_readonly { "reads" } else { "writes" };
            format!("{} {verb} it", one.guest.called())
        };
        let title = format!("the disk `{}` is given to two guests", name.value);
        let diagnostic = Diagnostic::new(title)
            .at(name.span.clone(), word(self))
            .see(
                earlier.asked.name.span.clone(),
                format!("{} already", word(earlier)),
            );
        let note = "what one writes would change under the other's file system";
        let help = if disk.image.is_some() {
            "say `readonly = true` or `snapshot = true` of the disk, or make another one".to_owned()
        } else {
            format!(
                "have both only read it, `disks = [{{ name = \"{}\", readonly = true }}]`, or make another disk",
                name.value
            )
        };
        diagnostic.note(note).help(help)
    }
}
