//! Disks: what each is made of, and whether that can be.

use std::ops::Range;
use std::rc::Rc;

use configs_plan::{
    DiskKind, DiskPlan, Image, MAX_PARTITION_NAME, MAX_SECTORS, PAGE, Part, SECTOR,
};

use crate::diagnostic::Diagnostic;
use crate::files::Files;
use crate::raw::{Field, Partition, RawDisk};
use crate::size::written;
use crate::summary::{size, size_of};

/// The most disks that a machine is asked for.
const MAX_UNITS: u32 = 32;

/// A disk that can be, and the image that goes into the bundle.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) plan: DiskPlan<String>,
    pub(crate) image: Option<Rc<Vec<u8>>>,
    /// What it is, for a person.
    pub(crate) what: String,
}

/// Keys of which a disk has one at most, and what to do about two.
const CONFLICTS: [(&str, &str, &str); 11] = [
    (
        "machine",
        "image",
        "a disk is made of a file, or is one of the machine's own: remove one of the two",
    ),
    (
        "machine",
        "size",
        "the machine's disk has its size: leave `size` out, or take a part of it by `partition`, or by `first_sector` and `sectors`",
    ),
    (
        "machine",
        "snapshot",
        "a snapshot is of an `image`, which nobody changes beneath it: remove one of the two",
    ),
    (
        "machine",
        "snapshot_memory",
        "a snapshot is of an `image`, which nobody changes beneath it: remove one of the two",
    ),
    (
        "partition",
        "first_sector",
        "a partition says itself where it begins: remove one of the two",
    ),
    (
        "partition",
        "sectors",
        "a partition says itself how large it is: remove one of the two",
    ),
    (
        "readonly",
        "snapshot",
        "a snapshot is there to be written to: remove one of the two",
    ),
    (
        "readonly",
        "size",
        "a disk that nobody writes to is as large as its image: leave `size` out",
    ),
    (
        "readonly",
        "snapshot_memory",
        "nobody writes to this disk: leave `snapshot_memory` out",
    ),
    (
        "partition",
        "image",
        "a partition is one of a disk of the machine: write `machine = 0` instead of `image`",
    ),
    (
        "partition",
        "size",
        "a partition is one of a disk of the machine: write `machine = 0` instead of `size`",
    ),
];
/// Keys that are nothing without another, and what to do.
const NEEDS: [(&str, &str, &str); 7] = [
    (
        "snapshot",
        "image",
        "name the file that it is of: `image = \"root.img\"`",
    ),
    (
        "snapshot_memory",
        "snapshot",
        "write `snapshot = true`, or leave `snapshot_memory` out",
    ),
    (
        "partition",
        "machine",
        "say on which of the machine's disks it is: `machine = 0`",
    ),
    (
        "first_sector",
        "machine",
        "say on which of the machine's disks it is: `machine = 0`",
    ),
    (
        "sectors",
        "machine",
        "say on which of the machine's disks they are, `machine = 0`; a disk of another kind has a `size`",
    ),
    (
        "first_sector",
        "sectors",
        "say how many of 512 bytes there are: `sectors = 131072`",
    ),
    (
        "sectors",
        "first_sector",
        "say which is the first: `first_sector = 2048`",
    ),
];

impl RawDisk {
    /// Where a key is said. What is false is not said.
    fn said(&self, key: &str) -> Option<Range<usize>> {
        fn at<T>(field: &Option<Field<T>>) -> Option<Range<usize>> {
            field.as_ref().map(|field| field.span.clone())
        }
        fn on(field: &Option<Field<bool>>) -> Option<Range<usize>> {
            at(&field.clone().filter(|field| field.value))
        }
        match key {
            "image" => at(&self.image),
            "size" => at(&self.size),
            "machine" => at(&self.machine),
            "partition" => at(&self.partition),
            "first_sector" => at(&self.first_sector),
            "sectors" => at(&self.sectors),
            "readonly" => on(&self.readonly),
            "snapshot" => on(&self.snapshot),
            "snapshot_memory" => at(&self.snapshot_memory),
            _ => None,
        }
    }

    /// Whether nobody writes to it.
    pub(crate) fn is_readonly(&self) -> bool {
        self.said("readonly").is_some()
    }

    /// Whether what one guest writes is what another would read.
    pub(crate) fn is_shared(&self) -> bool {
        !self.is_readonly() && self.said("snapshot").is_none()
    }
}

/// Judges a disk. `None`: something is wrong, and reported.
pub(super) fn judge(
    disk: &RawDisk,
    files: &mut Files<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Disk> {
    if disk.is_refused {
        return None;
    }
    let before = found.len();
    for (a, b, help) in CONFLICTS {
        // Of an empty disk there is more to say.
        if (a, b) == ("readonly", "size") && disk.image.is_none() {
            continue;
        }
        if let (Some(first), Some(second)) = (disk.said(a), disk.said(b)) {
            let title = format!("a disk cannot have both `{a}` and `{b}`");
            let diagnostic = Diagnostic::new(title).at(second, "here");
            found.push(diagnostic.see(first, "and here").help(help));
        }
    }
    // One complaint is enough: what a disk with two sources needs is nobody's guess.
    if found.len() == before {
        for (key, needed, help) in NEEDS {
            if let (Some(span), None) = (disk.said(key), disk.said(needed)) {
                let title = format!("`{key}` is nothing without `{needed}`");
                found.push(Diagnostic::new(title).at(span, "here").help(help));
                break;
            }
        }
    }
    if found.len() != before {
        return None;
    }
    let name = disk.name.as_ref()?.value.clone();
    let (sectors, kind, image, what) = match (&disk.image, &disk.size, &disk.machine) {
        (Some(image), _, _) => of_image(&name, disk, image, files, found)?,
        (None, Some(size), None) => empty(disk, size, found)?,
        (None, _, Some(unit)) => of_machine(disk, unit, found)?,
        (None, None, None) => {
            let diagnostic = Diagnostic::new("this disk is made of nothing");
            let help = "add one line such as:\n\nimage = \"root.img\"   # a file: what is in it at first\nsize = \"64M\"         # empty, in the machine's memory\nmachine = 0          # the machine's own first disk";
            let label = "neither `image` nor `size` nor `machine`";
            found.push(diagnostic.at(disk.span.clone(), label).help(help));
            return None;
        }
    };
    let plan = DiskPlan {
        name,
        sectors,
        kind,
    };
    Some(Disk { plan, image, what })
}

type Made = (u64, DiskKind<String>, Option<Rc<Vec<u8>>>, String);

/// A disk with the bytes of a file.
fn of_image(
    name: &str,
    disk: &RawDisk,
    field: &Field<String>,
    files: &mut Files<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Made> {
    let bytes = files.image(field, found)?;
    let length = u64::try_from(bytes.len()).ok()?;
    let stated = match &disk.size {
        Some(size) => Some(whole_sectors(size, found)?),
        None => None,
    };
    let all = stated.unwrap_or(length);
    if let (Some(field), true) = (&disk.size, all < length) {
        let diagnostic = Diagnostic::new(format!("the disk `{name}` is smaller than its image"))
            .at(field.span.clone(), size(all))
            .see(disk.said("image")?, format!("has {}", size_of(bytes.len())));
        let help = "leave `size` out for a disk as large as the image";
        let least = written(length.next_multiple_of(1 << 20));
        found.push(diagnostic.note(help).fix(
            "the next MiB",
            field.span.clone(),
            format!("\"{least}\""),
        ));
        return None;
    }
    let image = Image {
        file: format!("disks/{name}"),
        len: length,
    };
    let word = &field.value;
    let (kind, what) = if disk.is_readonly() {
        let what = format!("`{word}`, read only");
        (DiskKind::Readonly { image }, what)
    } else if disk.said("snapshot").is_some() {
        let memory = snapshot_memory(disk, all, found)?;
        let what = format!("`{word}`, and {} for what each writes", size(memory));
        (DiskKind::Snapshot { image, memory }, what)
    } else {
        let image = Some(image);
        let what = format!("`{word}`, copied into memory at boot");
        (DiskKind::Memory { image }, what)
    };
    Some((all / SECTOR, kind, Some(bytes), what))
}

/// How much a guest can write to a snapshot.
fn snapshot_memory(disk: &RawDisk, all: u64, found: &mut Vec<Diagnostic>) -> Option<u64> {
    let Some(field) = &disk.snapshot_memory else {
        return all.checked_next_multiple_of(PAGE);
    };
    if field.value == 0 {
        let diagnostic = Diagnostic::new("a snapshot needs memory for what is written to it");
        let help = "write an amount, `snapshot_memory = \"16M\"`, or leave it out for as much as the disk is large";
        found.push(diagnostic.at(field.span.clone(), "none").help(help));
        return None;
    }
    let most = all.checked_next_multiple_of(PAGE)?;
    let memory = field.value.checked_next_multiple_of(PAGE);
    if let Some(memory) = memory.filter(|memory| *memory <= most) {
        return Some(memory);
    }
    let diagnostic = Diagnostic::new("a snapshot never needs more memory than its disk has");
    let label = format!("the disk has {}", size(all));
    let help = "leave `snapshot_memory` out for as much as the disk is large";
    found.push(diagnostic.at(field.span.clone(), label).help(help));
    None
}

/// A disk that is empty at first.
fn empty(disk: &RawDisk, size: &Field<u64>, found: &mut Vec<Diagnostic>) -> Option<Made> {
    if let Some(span) = disk.said("readonly") {
        let diagnostic = Diagnostic::new("an empty disk that nobody writes to stays empty");
        let help = "name what is in it, `image = \"root.img\"`, or leave `readonly` out";
        found.push(diagnostic.at(span, "here").help(help));
        return None;
    }
    let bytes = whole_sectors(size, found)?;
    let kind = DiskKind::Memory { image: None };
    let what = "empty, in memory".to_owned();
    Some((bytes / SECTOR, kind, None, what))
}

/// A size that a disk can have.
fn whole_sectors(field: &Field<u64>, found: &mut Vec<Diagnostic>) -> Option<u64> {
    let (label, help) = match field.value {
        0 => ("nothing", "write an amount: `size = \"64M\"`"),
        more if more / SECTOR > MAX_SECTORS => ("more than any machine has", "write a smaller one"),
        // Sizes are written in KiB at the least.
        some => return Some(some),
    };
    let diagnostic = Diagnostic::new("a disk cannot have this size");
    found.push(diagnostic.at(field.span.clone(), label).help(help));
    None
}

/// One of the machine's disks, or a part of it.
fn of_machine(disk: &RawDisk, unit: &Field<u32>, found: &mut Vec<Diagnostic>) -> Option<Made> {
    if unit.value >= MAX_UNITS {
        let diagnostic = Diagnostic::new(format!("no machine has a disk {}", unit.value));
        let help = format!("they count from 0, and there are at most {MAX_UNITS}");
        let label = "its number on the machine";
        found.push(diagnostic.at(unit.span.clone(), label).help(help));
        return None;
    }
    let of = format!("of the machine's disk {}", unit.value);
    let (sectors, part, what) = match (&disk.partition, &disk.first_sector, &disk.sectors) {
        (Some(field), _, _) => {
            let part = partition(field, found)?;
            let what = match &field.value {
                Partition::Number(number) => format!("partition {number} {of}"),
                Partition::Name(name) => format!("partition `{name}` {of}"),
            };
            (0, part, what)
        }
        (None, Some(first), Some(sectors)) => {
            let end = first.value.checked_add(sectors.value);
            if sectors.value == 0 || end.is_none_or(|end| end > MAX_SECTORS) {
                let diagnostic = Diagnostic::new("no disk has these sectors")
                    .at(sectors.span.clone(), "so many")
                    .see(first.span.clone(), "from here on");
                let help = "sectors have 512 bytes: 64 MiB are `sectors = 131072`";
                found.push(diagnostic.help(help));
                return None;
            }
            let last = end?.checked_sub(1)?;
            let what = format!("sectors {} to {last} {of}", first.value);
            (sectors.value, Part::From(first.value), what)
        }
        _ => (0, Part::Whole, format!("the machine's disk {}", unit.value)),
    };
    let is_readonly = disk.is_readonly();
    let kind = DiskKind::Machine {
        unit: unit.value,
        part,
        is_readonly,
    };
    let what = if is_readonly {
        format!("{what}, read only")
    } else {
        what
    };
    Some((sectors, kind, None, what))
}

fn partition(field: &Field<Partition>, found: &mut Vec<Diagnostic>) -> Option<Part<String>> {
    let (title, help) = match &field.value {
        Partition::Number(0) => (
            "no disk has a partition 0".to_owned(),
            "partitions count from 1".to_owned(),
        ),
        Partition::Number(number) => return Some(Part::Number(*number)),
        Partition::Name(name) => {
            let printable = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            if printable && (1..=MAX_PARTITION_NAME).contains(&name.len()) {
                return Some(Part::Name(name.clone()));
            }
            (
                format!("{name:?} cannot be the name of a partition here"),
                format!(
                    "a name has 1 to {MAX_PARTITION_NAME} printable ASCII characters; a number does as well: `partition = 2`"
                ),
            )
        }
    };
    found.push(
        Diagnostic::new(title)
            .at(field.span.clone(), "here")
            .help(help),
    );
    None
}

/// Refuses disks of the machine that have a sector in common, as far as the file says where they are.
pub(super) fn judge_parts(raw: &[RawDisk], disks: &[Option<Disk>], found: &mut Vec<Diagnostic>) {
    let all: Vec<_> = raw
        .iter()
        .zip(disks)
        .filter_map(|(raw, disk)| Some((raw, disk.as_ref()?)))
        .collect();
    for (nth, (raw, disk)) in all.iter().enumerate() {
        let mut earlier = all.iter().take(nth);
        let Some((first, other)) = earlier.find(|(_, other)| meet(&other.plan, &disk.plan)) else {
            continue;
        };
        let (Some(here), Some(there)) = (raw.place(), first.place()) else {
            continue;
        };
        let title = format!(
            "the disks `{}` and `{}` have sectors in common",
            other.plan.name, disk.plan.name
        );
        let diagnostic = Diagnostic::new(title).at(here, disk.what.as_str());
        let help = "what is on one disk of a machine file is on no other: guests can share one that is `readonly`";
        found.push(diagnostic.see(there, other.what.as_str()).help(help));
    }
}

impl RawDisk {
    /// Where it says which part of the machine's disk it is.
    fn place(&self) -> Option<Range<usize>> {
        let keys = ["partition", "first_sector", "machine"];
        keys.into_iter().find_map(|key| self.said(key))
    }
}

fn meet(a: &DiskPlan<String>, b: &DiskPlan<String>) -> bool {
    let (
        DiskKind::Machine { unit, part, .. },
        DiskKind::Machine {
            unit: other,
            part: theirs,
            ..
        },
    ) = (&a.kind, &b.kind)
    else {
        return false;
    };
    let range = |first: u64, sectors: u64| first..first.saturating_add(sectors);
    unit == other
        && match (part, theirs) {
            (Part::Whole, _) | (_, Part::Whole) => true,
            (Part::From(mine), Part::From(other)) => {
                let (mine, other) = (range(*mine, a.sectors), range(*other, b.sectors));
                mine.start < other.end && other.start < mine.end
            }
            (Part::Number(mine), Part::Number(other)) => mine == other,
            (Part::Name(mine), Part::Name(other)) => mine == other,
            (Part::From(_) | Part::Number(_) | Part::Name(_), _) => false,
        }
}
