//! The whole MRS/MSR space (SR-01, -02, -03, -10, -11, -12): every encoding is passed through, emulated or undefined, and which of these
//! is a golden: a line `reg <class> <name>` for every encoding that is not undefined. Values are not printed.
//!
//! Command line: `quiet` leaves the table out.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::lane::Fault;
use tests_arch::{call, lane, println, probe, sys};
use tests_guests::score::Score;
use tests_guests::tree;

tests_arch::entry!(main);

const MRS: u32 = 0xd520_0000;
const MSR: u32 = 0xd500_0000;
const ISB: u32 = 0xd503_3fdf;
const NOP: u32 = 0xd503_201f;

/// One encoding S<op0>_<op1>_C<n>_C<m>_<op2>.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Register {
    op0: u32,
    op1: u32,
    crn: u32,
    crm: u32,
    op2: u32,
}

impl Register {
    const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Self {
        Self {
            op0,
            op1,
            crn,
            crm,
            op2,
        }
    }

    const fn fields(self) -> u32 {
        self.op0 << 19 | self.op1 << 16 | self.crn << 12 | self.crm << 8 | self.op2 << 5
    }

    /// `mrs x<target>, <self>`
    const fn mrs(self, target: u32) -> u32 {
        MRS | self.fields() | target
    }

    /// `msr <self>, x<source>`
    const fn msr(self, source: u32) -> u32 {
        MSR | self.fields() | source
    }

    fn read(self) -> Result<u64, Fault> {
        let mut x = [0u64; 31];
        probe::run(self.mrs(0), &mut x)?;
        Ok(x[0])
    }
}

impl core::fmt::Display for Register {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "S{}_{}_C{}_C{}_{}",
            self.op0, self.op1, self.crn, self.crm, self.op2
        )
    }
}

/// Every encoding with this op0, in order.
fn space(op0: u32) -> impl Iterator<Item = Register> {
    (0..8u32).flat_map(move |op1| {
        (0..256u32).flat_map(move |middle| {
            (0..8u32).map(move |op2| Register::new(op0, op1, middle >> 4, middle & 15, op2))
        })
    })
}

/// Registers whose change, even for three instructions, would cut the branch this guest sits on.
const UNTOUCHABLE: [Register; 9] = [
    Register::new(3, 0, 1, 0, 0),  // SCTLR_EL1
    Register::new(3, 0, 1, 0, 3),  // SCTLR2_EL1
    Register::new(3, 0, 4, 2, 0),  // SPSel
    Register::new(3, 0, 12, 0, 0), // VBAR_EL1
    Register::new(3, 0, 12, 0, 2), // RMR_EL1
    Register::new(3, 0, 13, 0, 4), // TPIDR_EL1: the lane record
    Register::new(3, 3, 4, 2, 1),  // DAIF
    Register::new(3, 3, 4, 2, 7),  // TCO
    Register::new(3, 0, 4, 3, 0),  // ALLINT
];

/// Undefined; or, with FEAT_IDST, EC 0x18 for an encoding of the ID space that has no register (DDI 0487 D24.2.67).
fn absent(fault: &Fault, register: Register) -> bool {
    fault.is_undefined() || (fault.class() == 0x18 && register.op0 == 3 && register.crn == 0)
}

/// SR-01, SR-12: read everything from EL1. Returns how many have a value.
fn read_all(score: &mut Score, op0: u32, id: &'static str, print: bool) -> u32 {
    let mut case = score.case(id);
    let mut values = 0;
    for register in space(op0) {
        match register.read() {
            Ok(_) => {
                values += 1;
                if print {
                    println!("reg value {register}");
                }
                // op1 4..7 are EL2's and EL3's names, and the _EL12 and _EL02 aliases.
                case.check(
                    register.op1 < 4 || op0 == 2,
                    format_args!("{register} is not EL1's, and has a value"),
                );
            }
            Err(fault) => {
                case.check(
                    absent(&fault, register),
                    format_args!("{register}: {fault:x?}"),
                );
            }
        }
    }
    println!("registers: {values} of op0 {op0} have a value at EL1");
    values
}

/// SR-01 from EL0. MMU off, so EL0 reaches the slot.
fn read_all_el0(score: &mut Score, print: bool) {
    let mut case = score.case("SR-01u");
    for register in space(3) {
        let (fault, _) = probe::run_el0(register.mrs(0), 0);
        if probe::returned(&fault) {
            if print {
                println!("reg el0 {register}");
            }
            case.check(
                register.op1 == 3,
                format_args!("{register} is readable at EL0"),
            );
        } else {
            // Undefined, or a trap to EL1 that this guest has asked for (EC 0x18).
            let good = fault.is_undefined() || matches!(fault.class(), 0x18 | 0x19 | 0x1d | 7);
            case.check(good, format_args!("{register} at EL0: {fault:x?}"));
        }
    }
}

/// SR-02: write 0, ones and noise to everything, put it back in the same breath, see what stuck; then the registers this guest
/// lives on must be what they were.
fn write_all(score: &mut Score, op0: u32, id: &'static str, print: bool) {
    let watched = [
        Register::new(3, 0, 1, 0, 0),
        Register::new(3, 0, 12, 0, 0),
        Register::new(3, 0, 13, 0, 4),
    ];
    let before = watched.map(|register| register.read().ok());
    let mut case = score.case(id);
    for register in space(op0) {
        if UNTOUCHABLE.contains(&register) {
            continue;
        }
        let mut writable = false;
        for pattern in [0, u64::MAX, 0x5a0f_c3e1_9b27_d468] {
            let mut x = [0u64; 31];
            x[1] = pattern;
            // Write-only registers keep what the last pattern left: IRQs are masked and every one is this guest's own.
            let readable = probe::run_words([register.mrs(2), NOP, NOP, NOP], &mut x).is_ok();
            let restore = if readable { register.msr(2) } else { NOP };
            let outcome = probe::run_words([register.msr(1), ISB, restore, ISB], &mut x);
            writable |= outcome.is_ok();
            if let Err(fault) = outcome {
                case.check(
                    fault.is_undefined(),
                    format_args!("write {register}: {fault:x?}"),
                );
            } else {
                case.check(
                    register.op1 < 4 || op0 == 2,
                    format_args!("{register} is not EL1's, and took a write"),
                );
            }
        }
        if writable && print {
            println!("reg write {register}");
        }
    }
    let after = watched.map(|register| register.read().ok());
    case.check(
        before == after,
        format_args!("SCTLR, VBAR, TPIDR were {before:x?}, are {after:x?}"),
    );
}

/// SR-11: the ID space reads, its reserved part as zero, and is nobody's to write.
fn identification(score: &mut Score) {
    let mut case = score.case("SR-11");
    for crm in 1..8 {
        for op2 in 0..8 {
            let register = Register::new(3, 0, 0, crm, op2);
            let value = register.read();
            case.check(value.is_ok(), format_args!("{register}: {value:x?}"));
            let mut x = [0u64; 31];
            let written = probe::run(register.msr(0), &mut x);
            case.check(
                written.is_err_and(|fault| fault.is_undefined()),
                format_args!("{register} took a write"),
            );
            // DDI 0487 D24.7: reserved, read as zero.
            let reserved = matches!((crm, op2), (3, 3 | 7) | (4, 6) | (6, 5..) | (7, 5..));
            case.check(
                !reserved || value == Ok(0),
                format_args!("{register} is reserved: {value:x?}"),
            );
        }
    }
    // What is not offered must not be announced: EL2, EL3, RAS error records, AMU, MPAM, SVE, SME, MTE (SR-07, SR-08).
    let features = Register::new(3, 0, 0, 4, 0).read().unwrap_or(u64::MAX);
    for (name, shift) in [
        ("EL2", 8),
        ("EL3", 12),
        ("SVE", 32),
        ("MPAM", 40),
        ("AMU", 44),
    ] {
        let field = features >> shift & 0xf;
        case.check(field == 0, format_args!("ID_AA64PFR0.{name} = {field}"));
    }
}

/// SR-12 once more, by instruction: EL2's TLBI and AT (S2-18, S2-19), ERET to nowhere is SR-15's.
fn el2_instructions(score: &mut Score) {
    let mut case = score.case("S2-18");
    // AT S1E2R/W, AT S12E1R/W, S12E0R/W; TLBI ALLE2, ALLE1, VMALLS12E1, IPAS2E1(IS), VAE2 and their IS forms.
    let words = [
        0xd50c_7800u32,
        0xd50c_7820,
        0xd50c_7880,
        0xd50c_78a0,
        0xd50c_78c0,
        0xd50c_78e0,
        0xd50c_871f,
        0xd50c_879f,
        0xd50c_87df,
        0xd50c_8420,
        0xd50c_8020,
        0xd50c_8720,
        0xd50c_831f,
        0xd50c_839f,
        0xd50c_83df,
    ];
    for word in words {
        let mut x = [0u64; 31];
        let outcome = probe::run(word, &mut x);
        case.check(
            outcome.is_err_and(|fault| fault.is_undefined()),
            format_args!("{word:#010x}: {outcome:x?}"),
        );
    }
    drop(case);
    let mut case = score.case("S2-18s");
    // AT S1E1R, S1E1W, S1E0R, S1E0W on whatever address: they answer in PAR_EL1 and nowhere else.
    for word in [0xd508_7800u32, 0xd508_7820, 0xd508_7840, 0xd508_7860] {
        for address in [0, 0x0800_0000, 0x4000_0000, 1 << 40, u64::MAX] {
            let mut x = [0u64; 31];
            x[0] = address;
            let outcome = probe::run(word, &mut x);
            case.check(
                outcome.is_ok(),
                format_args!("{word:#010x} of {address:#x}: {outcome:x?}"),
            );
        }
    }
}

/// SR-29: every target register, XZR too.
fn targets(score: &mut Score) {
    let mut case = score.case("SR-29");
    let register = Register::new(3, 0, 0, 4, 0);
    let expected = register.read().unwrap_or(0);
    for target in 0..32u32 {
        let mut x = [0x1111_1111_1111_1111u64; 31];
        let outcome = probe::run(register.mrs(target), &mut x);
        case.check(outcome.is_ok(), format_args!("mrs x{target}: {outcome:x?}"));
        for (index, value) in (0..31u32).zip(x) {
            let wanted = if index == target {
                expected
            } else {
                0x1111_1111_1111_1111
            };
            case.check(
                value == wanted,
                format_args!("mrs x{target}: x{index} = {value:#x}"),
            );
        }
    }
}

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let print = !line.contains("quiet");
    println!(
        "sysregs: midr {:#x}, hypervisor {}",
        sys::midr(),
        tests_arch::console::by_hypercall()
    );
    let mut score = Score::default();
    read_all(&mut score, 3, "SR-01", print);
    read_all(&mut score, 2, "SR-03", print);
    read_all_el0(&mut score, print);
    write_all(&mut score, 3, "SR-02", print);
    write_all(&mut score, 2, "SR-03w", print);
    identification(&mut score);
    el2_instructions(&mut score);
    targets(&mut score);
    {
        let serrors = lane::current().serrors();
        let mut case = score.case("SR-alive");
        case.check(serrors == 0, format_args!("{serrors} SErrors"));
        let [version, ..] = call::hvc([call::id::PSCI_VERSION, 0, 0, 0]);
        case.check(
            (0x1_0000..0x10_0000).contains(&version),
            format_args!("PSCI version {version:#x}"),
        );
    }
    score.finish()
}
