//! The machine that a guest sees, without a hypervisor: QEMU's own `virt` at EL1, its memory filled with the very bytes that
//! EL2 would put into the guest's, device tree included, at the same places.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use configs_plan::Bundle;

use super::elf;
use crate::qemu::Qemu;
use crate::run::launch::{COUNTING, PLAIN};

/// The last page of the guest's memory: the kernel finds memory there like any other.
const STUB_SIZE: u64 = 4096;
/// What a boot loader does (Linux, `Documentation/arch/arm64/booting.rst`): the device tree in x0, nothing in x1 to x3.
const STUB: [u32; 6] = [
    0x5800_00c0, // ldr x0, the first word behind the code
    0x5800_00e4, // ldr x4, the second
    0xaa1f_03e1, // mov x1, xzr
    0xaa1f_03e2, // mov x2, xzr
    0xaa1f_03e3, // mov x3, xzr
    0xd61f_0080, // br x4
];

/// QEMU with the one guest of a bundle as its machine. What its memory holds goes into `image`: an ELF, because QEMU loads
/// that as it is and puts nothing of its own into memory beside it.
///
/// # Errors
/// When the bundle has not one guest, or that is none that `virt` can be.
pub fn machine(qemu: &Qemu, cpu: &str, bundle: &[u8], image: &Path) -> anyhow::Result<Command> {
    let bundle = Bundle::open(bundle).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut guests = bundle.plan().guests();
    let guest = guests.next().context("the bundle has no guest")?;
    ensure!(guests.next().is_none(), "the bundle has several guests");
    let (ram, lanes) = (guest.ram(), guest.lanes().count());
    ensure!(
        ram.ipa == 0x4000_0000,
        "`virt` has its memory at 1 GiB, and the guest at {:#x}",
        ram.ipa
    );
    let stub_at = ram.ipa + ram.size - STUB_SIZE;
    let mut stub = STUB.map(u32::to_le_bytes).as_flattened().to_vec();
    stub.extend(guest.dtb().to_le_bytes());
    stub.extend(guest.entry().to_le_bytes());
    let mut memory = vec![(stub_at, stub.as_slice())];
    for segment in guest.segments() {
        ensure!(
            segment.ipa >= ram.ipa && segment.ipa + segment.len <= stub_at,
            "{} leaves no room for the first instructions",
            segment.file
        );
        let bytes = bundle
            .segment(&segment)
            .with_context(|| format!("the bundle has no {}", segment.file))?;
        memory.push((segment.ipa, bytes));
    }
    fs::write(image, elf::executable(stub_at, &memory))
        .with_context(|| format!("cannot write {}", image.display()))?;
    let mut command = qemu.command();
    command
        .args(["-M", "virt,gic-version=3", "-cpu", cpu])
        .args(PLAIN)
        .args(COUNTING)
        .args(["-smp", &lanes.to_string()])
        .args(["-m", &format!("{}M", ram.size >> 20)])
        .arg("-kernel")
        .arg(image);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::Version;
    use configs_compiler::{HostFiles, RunOptions};
    use object::{Object, ObjectSegment};

    #[test]
    fn the_memory_is_the_guest_s_and_the_first_instructions_are_behind_it() {
        let folder = std::env::temp_dir().join(format!("xdv-bare-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut kernel = vec![0; 4096];
        kernel[16..24].copy_from_slice(&8192u64.to_le_bytes());
        kernel[56..60].copy_from_slice(b"ARM\x64");
        fs::write(folder.join("Image"), &kernel).unwrap();
        let config = b"[[guest]]\nname = \"a\"\nkernel = \"Image\"\nmemory = \"16M\"\nlanes = 1\n";
        let files = HostFiles::new(&folder);
        let options = RunOptions::default();
        let compiled = configs_compiler::compile("a.toml", config, &files, &options).unwrap();
        let qemu = Qemu {
            program: "qemu".into(),
            version: Version::default(),
            unpacked: None,
        };
        let image = folder.join("bare.elf");
        let command = machine(&qemu, "max", compiled.bundle(), &image).unwrap();
        let words: Vec<_> = command
            .get_args()
            .filter_map(|word| word.to_str())
            .collect();
        assert!(
            words
                .windows(2)
                .any(|pair| pair == ["-M", "virt,gic-version=3"])
        );
        assert!(words.windows(2).any(|pair| pair == ["-m", "16M"]));
        let bytes = fs::read(&image).unwrap();
        let elf = object::File::parse(bytes.as_slice()).unwrap();
        let at = |address| {
            let mut segments = elf.segments();
            let found = segments.find(|segment| segment.address() == address);
            found.unwrap().data().unwrap().to_vec()
        };
        let stub = at(elf.entry());
        assert_eq!(elf.entry(), 0x4000_0000 + (16 << 20) - STUB_SIZE);
        let word = |index: usize| {
            let bytes = stub.get(24 + 8 * index..32 + 8 * index).unwrap();
            u64::from_le_bytes(bytes.try_into().unwrap())
        };
        assert_eq!(at(word(1)), kernel);
        assert!(at(word(0)).starts_with(&0xd00d_feedu32.to_be_bytes()));
        assert!(machine(&qemu, "max", b"no bundle", &image).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
