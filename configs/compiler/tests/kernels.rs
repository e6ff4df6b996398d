//! Kernels in every format: what reaches the guest's memory is what was packed, and nothing that is damaged does harm.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod fixtures;

use configs_compiler::{Compiled, RunOptions, compile};
use configs_plan::{Plan, RAM_BASE};
use fixtures::build::{Elf, gzip, zboot, zstd};
use fixtures::{Disk, Header, SMALL};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A machine with one guest whose kernel is `kernel`, with more lines.
fn machine(kernel: &[u8], initrd: usize, lines: &str) -> Result<Compiled, String> {
    let mut text = format!("[[guest]]\nname = \"a\"\nkernel = \"k\"\nlanes = 1\n{lines}");
    if !lines.contains("memory") {
        text += "memory = \"64M\"\n";
    }
    if initrd != 0 {
        text += "initrd = \"i\"\n";
    }
    let disk = Disk::with(&[("k", kernel.to_vec()), ("i", vec![0x30; initrd])]);
    compile("t", text.as_bytes(), &disk, &RunOptions::default()).map_err(|e| e.to_string())
}

/// The kernel as it lies in memory: where, its bytes, and where it is entered.
fn kernel(compiled: &Compiled) -> (u64, Vec<u8>, u64) {
    let plan = Plan::decode(compiled.plan()).expect("EL2 takes it");
    let guest = plan.guests().next().expect("there is one");
    let segment = guest
        .segments()
        .find(|segment| segment.file == "a/kernel")
        .expect("it has one");
    let file = compiled
        .files()
        .iter()
        .find(|file| file.name == "a/kernel")
        .expect("it is there");
    (segment.ipa, file.data.clone(), guest.entry())
}

#[test]
fn what_was_packed_is_what_lies_in_memory() {
    let image = SMALL.image();
    let twice = [gzip(&image[..1000]), gzip(&image[1000..])].concat();
    let skip = [b"\x53\x2A\x4D\x18\x03\0\0\0abc".to_vec(), zstd(&image)].concat();
    for packed in [
        image.clone(),
        gzip(&image),
        twice,
        [gzip(&image), vec![0; 512]].concat(),
        zstd(&image),
        [zstd(&image), skip[..11].to_vec()].concat(),
        zboot("gzip", &gzip(&image)),
        zboot("zstd", &zstd(&image)),
        zboot("zstd22", &zstd(&image)),
        gzip(&zstd(&image)),
    ] {
        let compiled = machine(&packed, 5000, "cmdline = \"quiet\"\n").expect("it is a kernel");
        let (start, bytes, entry) = kernel(&compiled);
        assert_eq!((start, entry), (RAM_BASE, RAM_BASE));
        assert!(bytes == image, "{} bytes", bytes.len());
    }
}

/// Kernels before Linux 5.10 lie `text_offset` above a boundary.
#[test]
fn an_image_lies_where_its_header_says() {
    let old = Header {
        text_offset: 0x8_0000,
        ..SMALL
    };
    for (lines, place) in [("", 0x4008_0000), ("load = 0x4128_0000\n", 0x4128_0000)] {
        let compiled = machine(&gzip(&old.image()), 0, lines).expect("it is a kernel");
        let (start, _, entry) = kernel(&compiled);
        assert_eq!((start, entry), (place, place));
    }
}

#[test]
fn an_image_in_an_elf_file_is_an_image() {
    let image = SMALL.image();
    // Linked at a virtual address, as Linux is, or at 0, as position-independent kernels are; relocations are its own.
    for (address, kind) in [(0xFFFF_8000_8000_0000, 3), (0, 3), (0x8_0000, 2)] {
        let mut elf = Elf::at(address, image.len());
        elf.kind = kind;
        elf.segments[0].data.clone_from(&image);
        let table = [8_u64, 24, 0, 0].map(u64::to_le_bytes).concat();
        let file = elf.with(2, address + 0x800, 32, &table).bytes();
        for file in [gzip(&file), file] {
            let compiled = machine(&file, 0, "load = 0x4100_0000\n").expect("it is a kernel");
            let (start, bytes, entry) = kernel(&compiled);
            assert_eq!((start, entry), (0x4100_0000, 0x4100_0000));
            assert!(bytes == image);
        }
    }
}

#[test]
fn an_elf_file_lies_where_it_was_linked() {
    let elf = Elf {
        entry: 0x4030_0010,
        ..Elf::at(0x4030_0000, 0x1000)
    };
    // In the file the segments may stand in any order.
    let mut elf = elf.with(1, 0x4030_4008, 0x100, b"data");
    elf.segments.swap(0, 1);
    let (start, bytes, entry) = kernel(&machine(&elf.bytes(), 0, "").expect("it is a kernel"));
    assert_eq!((start, entry), (0x4030_0000, 0x4030_0010));
    assert_eq!(bytes.len(), 0x400C);
    assert_eq!(bytes[..0x1000], elf.segments[1].data);
    assert!(bytes[0x1000..0x4008].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[0x4008..], *b"data");

    // The entry is an address as linked; the physical one is where it lies.
    let mut high = Elf::at(0xFFFF_0000_0008_0000, 0x1000);
    high.segments[0].phys = 0x4008_0000;
    high.entry += 8;
    let (start, _, entry) = kernel(&machine(&high.bytes(), 0, "").expect("it is a kernel"));
    assert_eq!((start, entry), (0x4008_0000, 0x4008_0008));

    // A first byte that is not on a page lies where it was linked all the same.
    let odd = Elf::at(0x4008_0110, 0x100).bytes();
    let (start, bytes, entry) = kernel(&machine(&odd, 0, "").expect("it is a kernel"));
    assert_eq!(
        (start, entry, bytes.len()),
        (0x4008_0000, 0x4008_0110, 0x210)
    );

    // Position independent, and nothing to relocate: anywhere.
    let mut free = Elf::at(0, 0x1000);
    free.kind = 3;
    let (start, _, entry) = kernel(&machine(&free.bytes(), 0, "").expect("it is a kernel"));
    assert_eq!((start, entry), (RAM_BASE, RAM_BASE));
    let asked = machine(&free.bytes(), 0, "load = 0x4220_0000\n").expect("it is a kernel");
    assert_eq!(kernel(&asked).2, 0x4220_0000);

    // Position independent, but linked in RAM: there.
    let mut there = Elf::at(0x4060_0000, 0x1000);
    there.kind = 3;
    let (start, _, entry) = kernel(&machine(&there.bytes(), 0, "").expect("it is a kernel"));
    assert_eq!((start, entry), (0x4060_0000, 0x4060_0000));
}

#[test]
fn a_raw_kernel_is_never_guessed() {
    for bytes in [
        &b"\x20\0\x80\xD2"[..],
        b"\x1F\x8B raw",
        b"\x7FELF raw",
        &[0; 64],
    ] {
        let refused = machine(bytes, 0, "").expect_err("it has no format");
        assert!(
            refused.contains("is not a kernel that boots here"),
            "{refused}"
        );
        let compiled = machine(bytes, 0, "format = \"raw\"\n").expect("it is said to be one");
        let (start, found, entry) = kernel(&compiled);
        assert_eq!((start, entry), (0x4008_0000, 0x4008_0000));
        assert_eq!(found, bytes);
        let asked = machine(bytes, 0, "format = \"raw\"\nload = 0x4000_0000\n");
        assert_eq!(kernel(&asked.expect("it is in RAM")).2, RAM_BASE);
    }
}

/// A frame of blocks that repeat one byte: 4 bytes of file for each 128 KiB (RFC 8878 3.1.1.2).
fn zstd_bomb(blocks: usize) -> Vec<u8> {
    // No checksum, no size, a window of 128 KiB.
    let mut file = b"\x28\xB5\x2F\xFD\x00\x38".to_vec();
    for block in 1..=blocks {
        let header = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        file.extend_from_slice(&header.to_le_bytes()[..3]);
        file.push(0);
    }
    file
}

/// 64 KiB of file that unpack to 2 GiB, alone and in one another.
#[test]
fn bombs_are_refused_at_once() {
    let bomb = zstd_bomb(16_384);
    let start = std::time::Instant::now();
    for file in [bomb.clone(), zboot("zstd", &bomb), gzip(&bomb)] {
        let refused = machine(&file, 0, "").expect_err("it is too large");
        assert!(refused.contains("unpacks to more than 64 MiB"), "{refused}");
    }
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    // Just so large is not too large: this one is no kernel for another reason.
    let refused = machine(&zstd_bomb(512), 0, "").expect_err("it is all zeros");
    assert!(refused.contains("no kernel's signature"), "{refused}");
}

/// A kernel that was unpacked for a large guest is still too large for a small one.
#[test]
fn each_guest_s_memory_bounds_its_kernel() {
    let image = Header {
        file: 3 << 20,
        image_size: 3 << 20,
        ..SMALL
    };
    let disk = Disk::with(&[("k", gzip(&image.image()))]);
    let guest = |name: &str, memory: &str| {
        format!("[[guest]]\nname = \"{name}\"\nkernel = \"k\"\nmemory = \"{memory}\"\nlanes = 1\n")
    };
    let text = guest("large", "64M") + &guest("small", "2M");
    let refused = compile("t", text.as_bytes(), &disk, &RunOptions::default());
    let refused = refused.expect_err("it is too large for one").to_string();
    assert!(refused.contains("unpacks to more than 2 MiB"), "{refused}");
    assert!(!refused.contains("errors"), "{refused}");
}

/// Every size of RAM, odd multiples of 2 MiB among them, with every format: what Linux asks of the places holds.
#[test]
fn places_keep_the_boot_protocol_s_rules() {
    let image = SMALL.image();
    let elf = Elf::at(RAM_BASE + 0x8_0000, 0x1000).bytes();
    let formats = [
        (image.clone(), ""),
        (zstd(&image), ""),
        (elf, ""),
        (vec![1; 5000], "format = \"raw\"\n"),
    ];
    let sizes = [
        2, 4, 6, 10, 62, 64, 510, 512, 514, 1022, 1024, 1026, 4096, 12_290, 16_382, 16_384, 40_960,
        200_000,
    ];
    for (file, lines) in formats {
        for mib in sizes {
            let lines = format!("{lines}memory = \"{mib}M\"\n");
            let compiled = machine(&file, 300_000, &lines);
            let compiled = compiled.map_err(|e| format!("{mib}: {e}"));
            rules(&compiled.expect("it fits"), mib * MIB);
        }
    }
}

fn rules(compiled: &Compiled, memory: u64) {
    let plan = Plan::decode(compiled.plan()).expect("EL2 takes it");
    let guest = plan.guests().next().expect("there is one");
    let ram = RAM_BASE..RAM_BASE + memory;
    let place = |name: &str| {
        let segment = guest.segments().find(|segment| segment.file == name);
        segment.map(|s| s.ipa..s.ipa + s.len).expect(name)
    };
    let (kernel, initrd, dtb) = (place("a/kernel"), place("a/initrd"), place("a/dtb"));
    for part in [&kernel, &initrd, &dtb] {
        assert!(ram.start <= part.start && part.end <= ram.end, "{part:x?}");
    }
    // The device tree: on 8 bytes, at most 2 MiB, within 512 MiB of the kernel (booting.rst 2).
    assert_eq!(dtb.start % 8, 0);
    assert!(dtb.end - dtb.start <= 2 * MIB);
    assert!(dtb.end.max(kernel.end) - dtb.start.min(kernel.start) <= 512 * MIB);
    // The initrd: in one window of 32 GiB with the kernel, which begins on 1 GiB (booting.rst 4).
    let window = kernel.start / GIB * GIB;
    assert!(initrd.start >= window && initrd.end <= window + 32 * GIB);
}

/// Two MiB are enough for a kernel beside which there is room, and what is not enough says what is.
#[test]
fn the_least_memory_is_offered() {
    machine(&SMALL.image(), 0, "memory = \"2M\"\n").expect("it fits");
    let whole = Header {
        image_size: 2 * MIB,
        ..SMALL
    };
    let refused = machine(&whole.image(), 0, "memory = \"2M\"\n");
    let refused = refused.expect_err("no room for a tree");
    assert!(refused.contains("memory = \"4M\""), "{refused}");
    machine(&whole.image(), 0, "memory = \"4M\"\n").expect("it fits");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Kernels with damage: compiled to what EL2 takes and no larger than the guest's RAM, or refused in words.
    #[test]
    fn damaged_kernels_are_compiled_or_refused(
        which in 0usize..8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        early in prop::collection::vec((0usize..200, any::<u8>()), 0..5),
        cut in prop::option::of(any::<prop::sample::Index>()),
        load in prop::option::of(prop::sample::select(vec![0u64, 0x4000_0000, 0x4020_0000, u64::MAX])),
    ) {
        let image = Header { file: 0x1000, ..SMALL }.image();
        let table = [8_u64, 24, 0, 0].map(u64::to_le_bytes).concat();
        let fixed = Elf::at(0x4020_0000, 0x1000).with(1, 0x4020_4000, 0x100, b"data");
        let mut free = Elf::at(0, 0x1000);
        free.kind = 3;
        let mut file = match which {
            0 => image,
            1 => gzip(&image),
            2 => zstd(&image),
            3 => zboot("gzip", &gzip(&image)),
            4 => zboot("zstd", &zstd(&image)),
            5 => fixed.bytes(),
            6 => free.with(2, 0x800, 32, &table).bytes(),
            _ => gzip(&fixed.bytes()),
        };
        for (at, byte) in early {
            let at = at % file.len();
            file[at] = byte;
        }
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let lines = load.map(|load| format!("load = {load:#x}\n")).unwrap_or_default();
        match machine(&file, 0, &lines) {
            Ok(compiled) => {
                let (start, bytes, entry) = kernel(&compiled);
                prop_assert!(start >= RAM_BASE && start - RAM_BASE + bytes.len() as u64 <= 64 * MIB);
                prop_assert!((start..start + bytes.len() as u64).contains(&entry));
            }
            Err(refused) => prop_assert!(!refused.contains("fault of XDV"), "{}", refused),
        }
    }

    /// One byte of a packed kernel changed: refused, or unpacked to what was packed. Both packers have checksums.
    #[test]
    fn no_damage_gets_past_the_checksums(which in 0usize..4, at: prop::sample::Index, flip in 1u8..) {
        let image = Header { file: 0x1000, ..SMALL }.image();
        let (packed, before) = match which {
            0 => (gzip(&image), 0),
            1 => (zstd(&image), 0),
            2 => (zboot("gzip", &gzip(&image)), 0x200),
            _ => (zboot("zstd", &zstd(&image)), 0x200),
        };
        let mut file = packed;
        let at = before + at.index(file.len() - before);
        file[at] ^= flip;
        if let Ok(compiled) = machine(&file, 0, "") {
            prop_assert!(kernel(&compiled).1 == image, "byte {}", at);
        }
    }

    /// Any bytes after a packer's magic number: no panic.
    #[test]
    fn nonsense_is_refused(
        magic in prop::sample::select(vec![&b"\x1F\x8B\x08"[..], b"\x28\xB5\x2F\xFD", b"MZ\0\0zimg", b"\x7FELF\x02\x01\x01"]),
        rest in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let refused = machine(&[magic, &rest].concat(), 0, "");
        if let Err(refused) = refused {
            prop_assert!(!refused.contains("fault of XDV"), "{}", refused);
        }
    }
}
