//! A syndrome in words: what an exception was (ESR_ELx, DDI 0487 D19.2.37).

/// What the number says.
pub fn words(esr: u64) -> String {
    let class = esr >> 26 & 0x3f;
    let what = match class {
        0x00 => "an undefined instruction, or nothing yet",
        0x01 => "WFI or WFE",
        0x03..=0x06 | 0x08 | 0x0c => "an AArch32 coprocessor access",
        0x07 => "FP or SIMD, which is off",
        0x09 => "pointer authentication, which is off",
        0x0d => "a branch to no landing pad",
        0x0e => "an illegal state",
        0x11 | 0x15 => return format!("SVC #{}", esr & 0xffff),
        0x12 | 0x16 => return format!("HVC #{}", esr & 0xffff),
        0x13 | 0x17 => return format!("SMC #{}", esr & 0xffff),
        0x18 => return system_register(esr),
        0x19 => "SVE, which is off",
        0x1c => "a pointer that is not authentic",
        0x1d => "SME, which is off",
        0x20 | 0x21 => return abort("instruction abort", esr, class == 0x20, ""),
        0x22 => "a misaligned pc",
        0x24 | 0x25 => {
            let way = if esr & (1 << 6) == 0 { "read" } else { "write" };
            return abort("data abort", esr, class == 0x24, way);
        }
        0x26 => "a misaligned stack pointer",
        0x28 | 0x2c => "a floating-point exception",
        0x2f => "SError",
        0x30 | 0x31 => "a breakpoint",
        0x32 | 0x33 => "a single step",
        0x34 | 0x35 => "a watchpoint",
        0x38 => return format!("BKPT #{}", esr & 0xffff),
        0x3c => return format!("BRK #{:#x}", esr & 0xffff),
        _ => return format!("exception class {class:#x}"),
    };
    what.to_owned()
}

fn bits(esr: u64, from: u32, count: u32) -> usize {
    usize::try_from(esr >> from & ((1 << count) - 1)).unwrap_or(0)
}

/// MRS and MSR, and the instructions that are encoded like them.
fn system_register(esr: u64) -> String {
    let way = if esr & 1 == 0 { "write" } else { "read" };
    format!(
        "{way} of the system register S{}_{}_C{}_C{}_{}",
        bits(esr, 20, 2),
        bits(esr, 14, 3),
        bits(esr, 10, 4),
        bits(esr, 1, 4),
        bits(esr, 17, 3)
    )
}

fn abort(what: &str, esr: u64, lower: bool, way: &str) -> String {
    let level = esr & 3;
    let fault = match esr & 0x3f {
        0x00..=0x03 => format!("address size fault, level {level}"),
        0x04..=0x07 => format!("translation fault, level {level}"),
        0x08..=0x0b => format!("access flag fault, level {level}"),
        0x0c..=0x0f => format!("permission fault, level {level}"),
        0x10 => "external abort".to_owned(),
        0x11 => "tag check fault".to_owned(),
        0x14..=0x17 => format!("external abort on a walk, level {level}"),
        0x21 => "misaligned".to_owned(),
        0x30 => "TLB conflict".to_owned(),
        0x34 | 0x35 => "exclusive access to what is no memory".to_owned(),
        other => format!("fault status {other:#x}"),
    };
    let from = if lower { " from a lower level" } else { "" };
    let (comma, way) = if way.is_empty() {
        ("", "")
    } else {
        (", ", way)
    };
    format!("{what}{from}: {fault}{comma}{way}")
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn syndromes_are_put_into_words() {
        for (esr, expected) in [
            (
                0x9380_0005,
                "data abort from a lower level: translation fault, level 1, read",
            ),
            (0x9600_0050, "data abort: external abort, write"),
            (0x8600_000f, "instruction abort: permission fault, level 3"),
            (0x5600_0000, "SVC #0"),
            (0x5a00_0000, "HVC #0"),
            (0xf200_0800, "BRK #0x800"),
            (0x6230_0009, "read of the system register S3_0_C0_C4_0"),
            (0x0000_0000, "an undefined instruction, or nothing yet"),
            (0x0600_0001, "WFI or WFE"),
            (0xfc00_0000, "exception class 0x3f"),
        ] {
            assert_eq!(words(esr), expected, "{esr:#x}");
        }
    }

    #[test]
    fn every_class_has_words() {
        for class in 0..64u64 {
            for low in [0, 0x3f, 0x1ff_ffff, 0x155_5555] {
                assert!(!words(class << 26 | low).is_empty());
            }
        }
    }
}
