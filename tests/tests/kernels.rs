//! Kernels in every format, side by side on one machine: Debian's packed twice, ours as an ELF file, and a few
//! instructions as an ELF file, raw and in flash.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use ruzstd::encoding::{CompressionLevel, compress};
use tests::machine::{self, GRACE, Machine, run, scratch, xtask};
use tests::{archive, elf};

/// Where the ELF file is linked, and where a raw kernel lies unless it is told otherwise.
const LINKED: u64 = 0x4020_0000;

/// A kernel of 60 bytes: when x0 is a device tree it prints what follows it through the PL011 at `0x0900_0000`, then it
/// switches its machine off by PSCI over HVC. Assembled by hand; it runs at any address.
const CODE: [u32; 15] = [
    0xB940_0004, // ldr  w4, [x0]
    0x5281_BA05, // mov  w5, #0x0DD0
    0x72BD_BFC5, // movk w5, #0xEDFE, lsl #16   the magic number, little endian
    0x4A05_0084, // eor  w4, w4, w5
    0x3500_00E4, // cbnz w4, off
    0x1000_0141, // adr  x1, text
    0xD2A1_2002, // mov  x2, #0x0900_0000
    0x3840_1423, // next: ldrb w3, [x1], #1
    0x3400_0063, // cbz  w3, off
    0xB900_0043, // str  w3, [x2]               UARTDR
    0x17FF_FFFD, // b    next
    0xD2B0_8000, // off: mov x0, #0x8400_0000
    0xF280_0100, // movk x0, #8                 SYSTEM_OFF
    0xD400_0002, // hvc  #0
    0x1400_0000, // b    .
];

/// The same as firmware. Before it prints, its device tree is in the first GiB of RAM, the second flash bank reads as
/// erased, and a store over its own text in the first bank, and one into the second that is no command, pass and
/// change nothing.
const FIRMWARE: [u32; 24] = [
    0xB940_0004, // ldr  w4, [x0]
    0x5281_BA05, // mov  w5, #0x0DD0
    0x72BD_BFC5, // movk w5, #0xEDFE, lsl #16
    0x4A05_0084, // eor  w4, w4, w5
    0x3500_0204, // cbnz w4, off
    0xD35E_FC04, // lsr  x4, x0, #30
    0xD100_0484, // sub  x4, x4, #1
    0xB500_01A4, // cbnz x4, off
    0xD2A0_8006, // mov  x6, #0x0400_0000       the second bank
    0xB940_00C7, // ldr  w7, [x6]
    0x2A27_03E7, // mvn  w7, w7
    0x3500_0127, // cbnz w7, off
    0x1000_0181, // adr  x1, text
    0xB900_0027, // str  w7, [x1]
    0xB900_00C7, // str  w7, [x6]
    0xD2A1_2002, // mov  x2, #0x0900_0000
    0x3840_1423, // next: ldrb w3, [x1], #1
    0x3400_0063, // cbz  w3, off
    0xB900_0043, // str  w3, [x2]               UARTDR
    0x17FF_FFFD, // b    next
    0xD2B0_8000, // off: mov x0, #0x8400_0000
    0xF280_0100, // movk x0, #8                 SYSTEM_OFF
    0xD400_0002, // hvc  #0
    0x1400_0000, // b    .
];

/// The kernel that prints this.
fn printing(text: &str) -> Vec<u8> {
    following(&CODE, text)
}

/// Code and the text behind it.
fn following(code: &[u32], text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// An overlay with another model and another command line.
fn overlay() -> anyhow::Result<Vec<u8>> {
    let mut tree = DeviceTree::new();
    for (number, target, name, value) in [
        (0, "/", "model", "a machine of my own"),
        (1, "/chosen", "bootargs", "console=ttyAMA0 from=overlay"),
    ] {
        let mut content = DeviceTreeNode::new("__overlay__")?;
        content.add_property(DeviceTreeProperty::new(name, value)?);
        let mut fragment = DeviceTreeNode::new(format!("fragment@{number}"))?;
        fragment.add_property(DeviceTreeProperty::new("target-path", target)?);
        fragment.add_child(content);
        tree.root.add_child(fragment);
    }
    Ok(tree.to_dtb())
}

/// Debian's kernel and an initrd for it, as `cargo xtask build` puts them into a bundle.
fn debian() -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let mut command = xtask();
    command.args(["build", "configs/linux-hello.toml"]);
    let (status, text) = run(&mut command, "kernels-build", GRACE)?;
    ensure!(status == Some(0), "building failed:\n{text}");
    let bundle = fs::read(machine::target().join("xdv/linux-hello/bundle.cpio"))?;
    let entry = |name: &str| {
        let entry = archive::entry(&bundle, name);
        entry.map(<[u8]>::to_vec).context(name.to_owned())
    };
    Ok((entry("hello/kernel")?, entry("hello/initrd")?))
}

/// The guest kernel as its linker left it. Cargo keeps it where `cargo xtask build` builds it.
fn ours() -> PathBuf {
    machine::target().join("guest/aarch64-unknown-none-softfloat/release/guest-kernel")
}

fn guest(name: &str, kernel: &Path, memory: &str, more: &str) -> String {
    let kernel = kernel.display();
    format!(
        "[[guest]]\nname = \"{name}\"\nkernel = \"{kernel}\"\nmemory = \"{memory}\"\nlanes = 1\n{more}\n"
    )
}

/// The guests of our own few instructions: linked, as they are, and in flash.
fn by_hand(keep: &impl Fn(&str, &[u8]) -> anyhow::Result<PathBuf>) -> anyhow::Result<String> {
    Ok([
        guest(
            "elf",
            &keep("kernel.elf", &elf::linked(LINKED, &printing("linked\n")))?,
            "4M",
            "",
        ),
        guest(
            "raw",
            &keep("kernel.bin", &printing("as it is\n"))?,
            "2M",
            "format = \"raw\"\n",
        ),
        guest(
            "flash",
            &keep("firmware.bin", &following(&FIRMWARE, "from flash\n"))?,
            "2M",
            "format = \"firmware\"\n",
        ),
    ]
    .concat())
}

#[test]
fn every_format_boots() -> anyhow::Result<()> {
    let (image, initrd) = debian()?;
    let folder = scratch()?.join("kernels");
    fs::create_dir_all(&folder)?;
    let keep = |name: &str, bytes: &[u8]| -> anyhow::Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&image)?;
    let mut zstd = Vec::new();
    compress(image.as_slice(), &mut zstd, CompressionLevel::Fastest);
    let initrd = keep("initrd.cpio", &initrd)?;
    let overlay = keep("mine.dtbo", &overlay()?)?;
    let linux = format!("initrd = \"{}\"\n", initrd.display());
    let plain = linux.clone() + "cmdline = \"console=ttyAMA0 from=file\"\n";
    let changed = plain.clone() + &format!("overlay = \"{}\"\n", overlay.display());
    let machine = [
        guest("gzip", &keep("Image.gz", &gzip.finish()?)?, "256M", &plain),
        guest("zstd", &keep("Image.zst", &zstd)?, "256M", &changed),
        guest("ours", &ours(), "64M", ""),
    ];
    let machine = machine.concat() + &by_hand(&keep)?;
    let file = keep("kernels.toml", machine.as_bytes())?;

    let transcript = Machine::of(&file.display().to_string())
        .smp(2)
        .seconds(600)
        .run()?;
    transcript.no_panic()?;
    for guest in ["gzip", "zstd", "ours", "elf", "raw", "flash"] {
        transcript.well(guest)?;
    }
    transcript.ended(0)?;
    let said = |guest: &str, words: &str| {
        let found = transcript.lines_of(guest).any(|line| line.contains(words));
        ensure!(
            found,
            "{guest} does not say `{words}`:\n{}",
            transcript.text()
        );
        Ok(())
    };
    said("elf", "linked")?;
    said("raw", "as it is")?;
    said("flash", "from flash")?;
    said("gzip", "Machine model: XDV guest")?;
    said("gzip", "Kernel command line: console=ttyAMA0 from=file")?;
    said("zstd", "Machine model: a machine of my own")?;
    said("zstd", "Kernel command line: console=ttyAMA0 from=overlay")?;
    for guest in ["gzip", "zstd"] {
        said(guest, "KASLR enabled")?;
        said(guest, "9010000.pl031: registered")?;
        said(guest, "aarch64 GNU/Linux")?;
    }
    Ok(())
}
