//! Which sectors of the machine's disks are whose, by their partition tables as they are when EL2 starts.

use core::fmt;

use arrayvec::ArrayVec;
use configs_plan::{Bundle, DiskKind, DiskPlan, MAX_DISKS, Part};
use hypervisor_arch::{fault, timer};
use hypervisor_drivers::Sectors;
use hypervisor_drivers::gpt::{FIRST_SECTORS, GptError, Header, Table};

use super::drives::{Drive, Drives};

/// How many seconds a disk may take to read a part of its table.
const PATIENCE: u64 = 5;

/// What each of the plan's disks is on the machine's, if it is there.
pub type Places = ArrayVec<Option<Place>, MAX_DISKS>;

/// Sectors of one of the machine's disks.
#[derive(Clone, Copy)]
pub struct Place {
    pub drive: &'static Drive,
    pub sectors: Sectors,
    pub is_readonly: bool,
}

/// Finds the places of a plan's disks. No two share a sector.
pub fn find(bundle: &Bundle<'static>, drives: &Drives) -> Places {
    let mut places = Places::new();
    for plan in bundle.plan().disks() {
        let place = place(&plan, drives);
        let names = bundle.plan().disks().map(|plan| plan.name);
        if let Some(place) = &place
            && let Some((other, _)) = names.zip(&places).find(|(_, other)| meet(place, other))
        {
            let (first, count) = (place.sectors.first(), place.sectors.count());
            refuse(
                plan.name,
                format_args!("of its {count} sectors from {first} on, some are {other}'s too"),
            );
        }
        places.push(place);
    }
    places
}

fn meet(one: &Place, other: &Option<Place>) -> bool {
    other.is_some_and(|other| {
        other.drive.unit == one.drive.unit && other.sectors.overlap(one.sectors)
    })
}

fn refuse(name: &str, why: fmt::Arguments<'_>) -> ! {
    fault::refuse(format_args!("disk {name}: {why}"))
}

fn place(plan: &DiskPlan<&str>, drives: &Drives) -> Option<Place> {
    let DiskKind::Machine {
        unit,
        part,
        is_readonly,
    } = &plan.kind
    else {
        return None;
    };
    let drive = *drives.iter().find(|drive| drive.unit == *unit)?;
    let sectors = match part {
        Part::Whole => Sectors::new(0, drive.sectors()),
        Part::From(first) => Sectors::new(*first, plan.sectors),
        Part::Number(number) => Some(partition(plan.name, drive, |table| table.number(*number))),
        Part::Name(name) => Some(partition(plan.name, drive, |table| table.named(name))),
    };
    let all = drive.sectors();
    let Some(sectors) = sectors.filter(|sectors| sectors.end() <= all) else {
        refuse(
            plan.name,
            format_args!("the machine's disk has only {all} sectors"),
        );
    };
    Some(Place {
        drive,
        sectors,
        is_readonly: *is_readonly,
    })
}

/// A partition of a disk.
fn partition(
    name: &str,
    drive: &Drive,
    find: impl Fn(Table<'_>) -> Result<Sectors, GptError>,
) -> Sectors {
    let all = drive.sectors();
    let first = Sectors::new(0, all.min(FIRST_SECTORS as u64));
    let header = read(name, drive, first, |bytes| Header::read(bytes, all));
    let entries = Some(header.entries());
    read(name, drive, entries, |bytes| {
        header.table(bytes).and_then(&find)
    })
}

/// Reads sectors of a disk's table, and what they say.
fn read<R>(
    name: &str,
    drive: &Drive,
    sectors: Option<Sectors>,
    see: impl FnOnce(&[u8]) -> Result<R, GptError>,
) -> R {
    let until = timer::now().saturating_add(timer::frequency().saturating_mul(PATIENCE));
    let wait = || timer::now() < until;
    match sectors.and_then(|sectors| drive.read_now(sectors, wait, see)) {
        Some(Ok(read)) => read,
        Some(Err(error)) => {
            let (words, number) = error.words();
            match number {
                None => refuse(name, format_args!("the machine's disk {words}")),
                Some(number) => {
                    let number = u64::from(number);
                    refuse(name, format_args!("the machine's disk {words}{number}"))
                }
            }
        }
        None => refuse(
            name,
            format_args!("the machine's disk does not read its first sectors"),
        ),
    }
}
