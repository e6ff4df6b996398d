//! Stage-1 regimes of every granule, sound ones (S2-28) and hostile ones: tables that lie outside RAM (S2-04) or in a
//! device (S2-05).
//!
//! The lower half of the address space stays an identity map, so that this image and its vectors can be reached; what is
//! tried happens in the upper half.
//!
//! Command line: none.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::ops::Range;

use tests_arch::lane::Fault;
use tests_arch::memory::SpareRam;
use tests_arch::probe::{self, Width};
use tests_arch::{mmu, println};
use tests_guests::score::{Case, Score};
use tests_guests::tree;

tests_arch::entry!(main);

const UART: u64 = 0x0900_0000;
const DISTRIBUTOR: u64 = 0x0800_0000;
/// GICD_PIDR2: in the last 4 KiB of the frame.
const PIDR2: u64 = 0xffe8;
/// Nothing is there, and a block of every granule fits.
const HOLE: u64 = 0x2000_0000;

/// Block or page: valid, accessed, inner shareable; MAIR index 0 = Device, 1 = Normal.
const DEVICE: u64 = 1 << 10 | 3 << 8 | 0b01;
const NORMAL: u64 = DEVICE | 1 << 2;
const TABLE: u64 = 0b11;
/// What makes a block a page.
const PAGE: u64 = 0b10;
const CONTIGUOUS: u64 = 1 << 52;

/// TCR_EL1's IRGN1, ORGN1 and SH1, from bit 16 on: walks are write-back and inner shareable.
const WALKS: u64 = 1 << 8 | 1 << 10 | 3 << 12;
const EPD1: u64 = 1 << 7;

/// A translation granule.
struct Granule {
    name: &'static str,
    /// TCR_EL1.TG1.
    tg1: u64,
    /// Bits of an offset within a page.
    shift: u32,
    /// Pages that one contiguous hint spans.
    contiguous: u64,
}

const GRANULES: [Granule; 3] = [
    Granule {
        name: "4 KiB",
        tg1: 2,
        shift: 12,
        contiguous: 16,
    },
    Granule {
        name: "16 KiB",
        tg1: 1,
        shift: 14,
        contiguous: 128,
    },
    Granule {
        name: "64 KiB",
        tg1: 3,
        shift: 16,
        contiguous: 32,
    },
];

impl Granule {
    /// Whether this CPU has it (ID_AA64MMFR0_EL1.TGran4, TGran16, TGran64).
    fn is_here(&self) -> bool {
        let mut x = [0; 31];
        // mrs x0, id_aa64mmfr0_el1
        let _ = probe::run(0xd538_0700, &mut x);
        match self.shift {
            12 => x[0] >> 28 & 0xf != 0xf,
            14 => x[0] >> 20 & 0xf != 0,
            _ => x[0] >> 24 & 0xf != 0xf,
        }
    }

    const fn page(&self) -> u64 {
        1 << self.shift
    }

    /// Bytes of a block at level 2.
    const fn block(&self) -> u64 {
        self.page() << (self.shift - 3)
    }

    /// Address bits of a map that starts at level 2, in a whole table.
    const fn bits(&self) -> u32 {
        self.shift + 2 * (self.shift - 3)
    }

    /// The lowest address of a map of so many bits.
    const fn base(bits: u32) -> u64 {
        u64::MAX << bits
    }

    fn control(&self, bits: u32) -> u64 {
        u64::from(64 - bits) | WALKS | self.tg1 << 14
    }
}

/// A map of the upper half, two levels, in spare RAM.
struct Map<'g> {
    granule: &'g Granule,
    root: u64,
    leaf: u64,
    /// A page of RAM that nobody else uses.
    page: u64,
}

impl<'g> Map<'g> {
    fn new(granule: &'g Granule, spare: u64) -> Self {
        let size = granule.page();
        let root = spare.next_multiple_of(size);
        let map = Self {
            granule,
            root,
            leaf: root + size,
            page: root + 2 * size,
        };
        for word in 0..2 * size / 8 {
            let _ = probe::write(root + word * 8, Width::Double, 0);
        }
        map
    }

    fn set_root(&self, index: u64, entry: u64) {
        let _ = probe::write(self.root + index * 8, Width::Double, entry);
    }

    fn set_leaf(&self, index: u64, entry: u64) {
        let _ = probe::write(self.leaf + index * 8, Width::Double, entry);
    }

    fn use_it(&self) {
        mmu::upper(self.root, self.granule.control(self.granule.bits()), false);
    }

    /// The address of `offset` in entry `index` of the root.
    const fn block(&self, index: u64, offset: u64) -> u64 {
        Granule::base(self.granule.bits()) + index * self.granule.block() + offset
    }

    /// The address of `offset` in entry `index` of the table below entry 0.
    const fn leaf(&self, index: u64, offset: u64) -> u64 {
        Granule::base(self.granule.bits()) + index * self.granule.page() + offset
    }
}

/// A fault of stage 1 itself, of this level.
fn is_translation(outcome: Result<u64, Fault>, level: u64, address: u64) -> bool {
    matches!(outcome, Err(fault) if fault.is_data_abort() && fault.status() == 4 + level && fault.far == address)
}

/// What the architecture has for an access to where nothing is.
fn is_external(outcome: Result<u64, Fault>, address: u64) -> bool {
    matches!(outcome, Err(fault) if fault.is_data_abort() && fault.is_external() && fault.far == address)
}

/// What it has for a walk to where nothing is: an external abort, on the walk or not, or an address that is too large.
fn is_bad_walk(fault: &Fault, address: u64) -> bool {
    fault.far == address && matches!(fault.status(), 0x00..=0x03 | 0x10 | 0x14..=0x17)
}

/// RAM and devices through pages, blocks and contiguous pages; holes; the edges of the address space.
fn sound(case: &mut Case<'_>, granule: &Granule, ram: &Range<u64>, spare: u64) {
    let map = Map::new(granule, spare);
    let (page, block) = (granule.page(), granule.block());
    let beyond = ram.end.next_multiple_of(page);
    map.set_root(0, map.leaf | TABLE);
    map.set_root(1, (map.page & !(block - 1)) | NORMAL);
    map.set_root(3, HOLE | NORMAL);
    map.set_leaf(0, map.page | NORMAL | PAGE);
    map.set_leaf(1, UART | DEVICE | PAGE);
    map.set_leaf(3, beyond | NORMAL | PAGE);
    map.set_leaf(4, (DISTRIBUTOR + PIDR2) & !(page - 1) | DEVICE | PAGE);
    let span = granule.contiguous;
    let run = map.page & !(span * page - 1);
    for index in span..2 * span {
        let at = run + (index - span) * page;
        map.set_leaf(index, at | NORMAL | PAGE | CONTIGUOUS);
    }
    map.use_it();
    for offset in [0, 8, page / 2, page - 8] {
        let value = 0x5851_f42d_4c95_7f2d ^ offset;
        let place = map.page + offset;
        let _ = probe::write(map.leaf(0, offset), Width::Double, value);
        for (how, seen) in [
            ("itself", place),
            ("a page", map.leaf(0, offset)),
            ("a block", map.block(1, place & (block - 1))),
            ("a run", map.leaf(span, place & (span * page - 1))),
        ] {
            let read = probe::read(seen, Width::Double);
            case.check(
                matches!(read, Ok(read) if read == value),
                format_args!("{}, by {how}: {read:x?}", granule.name),
            );
        }
    }
    for (through, itself) in [
        (map.leaf(1, 0xfe0), UART + 0xfe0),
        (map.leaf(4, PIDR2 & (page - 1)), DISTRIBUTOR + PIDR2),
    ] {
        let (there, here) = (
            probe::read(through, Width::Word),
            probe::read(itself, Width::Word),
        );
        case.check(
            matches!((there, here), (Ok(there), Ok(here)) if there == here && here & 0xff != 0),
            format_args!("{}, device {itself:#x}: {there:x?} {here:x?}", granule.name),
        );
    }
    for (address, level) in [(map.leaf(2, 0x40), 3), (map.block(2, 0x40), 2)] {
        let read = probe::read(address, Width::Word);
        case.check(
            is_translation(read, level, address),
            format_args!("{}, unmapped {address:#x}: {read:x?}", granule.name),
        );
    }
    for address in [map.block(3, 0x1_2345_6788 & (block - 1)), map.leaf(3, 8)] {
        let read = probe::read(address, Width::Double);
        case.check(
            is_external(read, address),
            format_args!("{}, hole {address:#x}: {read:x?}", granule.name),
        );
    }
    edges(case, &map);
}

/// The smallest address space there is, no upper half at all, and a tag in the top byte.
fn edges(case: &mut Case<'_>, map: &Map<'_>) {
    let granule = map.granule;
    let seen = |address: u64| probe::read(address, Width::Double).ok();
    let expected = seen(map.page);
    // 25 bits, the fewest (T1SZ = 39): level 2 still of 4 KiB, level 3 of 16 KiB.
    if granule.shift < 16 {
        let root = if granule.shift == 12 {
            map.root
        } else {
            map.leaf
        };
        mmu::upper(root, granule.control(25), false);
        let read = seen(Granule::base(25));
        case.check(
            read == expected,
            format_args!("{}, 25 bits: {read:x?}", granule.name),
        );
    }
    let whole = granule.control(granule.bits());
    mmu::upper(map.root, whole | EPD1, false);
    let read = probe::read(map.leaf(0, 0), Width::Double);
    case.check(
        is_translation(read, 0, map.leaf(0, 0)),
        format_args!("{}, EPD1: {read:x?}", granule.name),
    );
    mmu::upper(map.root, whole, true);
    let tagged = |address: u64| address & !(0xff << 56) | 0x5a << 56;
    let read = seen(tagged(map.leaf(0, 0)));
    case.check(
        read == expected,
        format_args!("{}, tagged: {read:x?}", granule.name),
    );
    let hole = tagged(map.block(3, 0x40));
    let read = probe::read(hole, Width::Double);
    case.check(
        is_external(read, hole),
        format_args!("{}, tagged hole {hole:#x}: {read:x?}", granule.name),
    );
}

/// Reads, writes and fetches through tables that are not there.
fn hostile(case: &mut Case<'_>, granule: &Granule, root: u64, address: u64) {
    mmu::upper(root, granule.control(granule.bits()), false);
    for (what, outcome) in [
        ("read", probe::read(address, Width::Word).map(|_| ())),
        ("write", probe::write(address, Width::Word, 0)),
        ("fetch", probe::jump(address)),
    ] {
        case.check(
            matches!(outcome, Err(fault) if is_bad_walk(&fault, address)),
            format_args!(
                "{}, tables at {root:#x}, {what}: {outcome:x?}",
                granule.name
            ),
        );
    }
}

/// Both levels of a walk at each of these places.
fn walks(case: &mut Case<'_>, granule: &Granule, spare: u64, places: &[u64]) {
    for place in places {
        let place = place & !(granule.page() - 1);
        hostile(case, granule, place, Granule::base(granule.bits()) + 0x40);
        let map = Map::new(granule, spare);
        map.set_root(0, place | TABLE);
        hostile(case, granule, map.root, map.leaf(0, 0x40));
    }
}

fn main(tree: &'static [u8]) -> u32 {
    let ram = tree::ram(tree);
    let Some(spare) = SpareRam::behind_image(tree::spare_end(tree)) else {
        println!("regimes: no spare RAM");
        return 1;
    };
    mmu::enable(ram.end);
    let spare = spare.start();
    let mut score = Score::default();
    let here = || GRANULES.iter().filter(|granule| granule.is_here());
    for granule in here() {
        println!("regimes: {}", granule.name);
        sound(&mut score.case("S2-28"), granule, &ram, spare);
    }
    let outside = [
        HOLE,
        ram.end.next_multiple_of(0x1_0000),
        0x80_0000_0000,
        0xff_ffff_0000,
    ];
    let devices = [DISTRIBUTOR, 0x080A_0000, UART, 0x0A00_0000];
    for granule in here() {
        walks(&mut score.case("S2-04"), granule, spare, &outside);
        walks(&mut score.case("S2-05"), granule, spare, &devices);
    }
    score.finish()
}
