//! The first and only process of the measured Linux: it says what the counter read when it began, and powers off.

use super::elf;
use crate::initramfs::Initramfs;

/// Where the program's page lies in its address space; Linux gives nobody the lowest pages (`vm.mmap_min_addr`).
const BASE: u64 = 0x1_0000;

/// The program. The counter comes first: nothing of its own is in the figure. Then sixteen hexadecimal digits and a line
/// feed to standard output, as `format!("{:016x}\n")` writes them, and the system calls of arm64 Linux.
const CODE: [u32; 35] = [
    0xd53b_e053, // mrs x19, cntvct_el0
    0xd100_83ff, // sub sp, sp, #32
    0x9100_03f4, // mov x20, sp
    0xaa14_03e1, // mov x1, x20
    0x5280_0803, // mov w3, #64
    0x5100_1063, // 1: sub w3, w3, #4
    0x9ac3_2664, // lsr x4, x19, x3
    0x1200_0c84, // and w4, w4, #15
    0x7100_289f, // cmp w4, #10
    0x1100_c085, // add w5, w4, #'0'
    0x1101_5c86, // add w6, w4, #('a' - 10)
    0x1a86_30a5, // csel w5, w5, w6, lo
    0x3800_1425, // strb w5, [x1], #1
    0x35ff_ff03, // cbnz w3, 1b
    0x5280_0145, // mov w5, #'\n'
    0x3900_0025, // strb w5, [x1]
    0xd280_0020, // mov x0, #1
    0xaa14_03e1, // mov x1, x20
    0xd280_0222, // mov x2, #17
    0xd280_0808, // mov x8, #64: write(1, digits, 17)
    0xd400_0001, // svc #0
    0xd280_0020, // mov x0, #1
    0xd28a_8121, // mov x1, #0x5409
    0xd280_0022, // mov x2, #1
    0xd280_03a8, // mov x8, #29: ioctl(1, TCSBRK, 1), which returns once they are sent
    0xd400_0001, // svc #0
    0xd29b_d5a0, // mov x0, #0xdead
    0xf2bf_dc20, // movk x0, #0xfee1, lsl #16
    0xd283_2d21, // mov x1, #0x1969
    0xf2a5_0241, // movk x1, #0x2812, lsl #16
    0xd29f_db82, // mov x2, #0xfedc
    0xf2a8_6422, // movk x2, #0x4321, lsl #16
    0xd280_11c8, // mov x8, #142: reboot(MAGIC1, MAGIC2, POWER_OFF)
    0xd400_0001, // svc #0
    0x1400_0000, // b .
];

/// An initramfs with that program as `/init`.
pub fn initramfs() -> anyhow::Result<Vec<u8>> {
    let mut archive = Initramfs::default();
    archive
        .folder("dev")?
        .device("dev/console", 5, 1)?
        .program("init", &program())?;
    archive.finish()
}

/// The counter's value in a line of the program's.
pub fn reading(line: &str) -> Option<u64> {
    let digits = line.trim_end();
    let lower = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    (digits.len() == 16 && digits.chars().all(lower))
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

fn program() -> Vec<u8> {
    let code = CODE.map(u32::to_le_bytes);
    let first = BASE + elf::first(1);
    elf::executable(first, &[(first, code.as_flattened())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_the_first_thing_that_the_program_reads() {
        let program = program();
        let code = program
            .get(usize::try_from(elf::first(1)).unwrap()..)
            .unwrap();
        // mrs x19, cntvct_el0
        assert!(code.starts_with(&0xd53b_e053u32.to_le_bytes()));
        assert_eq!(code.len(), CODE.len() * 4);
    }

    #[test]
    fn only_its_own_line_is_a_reading() {
        assert_eq!(reading("00000000075bcd15"), Some(123_456_789));
        assert_eq!(reading("00000000075bcd15\r"), Some(123_456_789));
        for line in [
            "",
            "75bcd15",
            "00000000075BCD15",
            "x0000000075bcd15",
            "+0000000075bcd15",
            "00000000075bcd150",
        ] {
            assert_eq!(reading(line), None, "{line}");
        }
    }

    #[test]
    fn the_initramfs_has_a_console_to_speak_to() {
        let archive = initramfs().unwrap();
        let text = String::from_utf8_lossy(&archive);
        assert!(text.contains("dev/console\0") && text.contains("init\0"));
    }
}
