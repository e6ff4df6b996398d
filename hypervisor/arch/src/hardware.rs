//! The CPU that runs this code, as `vcpu`'s ports see it: the virtual GIC interface, the exit's
//! syndrome, the guest's exception registers.

use vcpu::hot::Hardware;
use vcpu::inject::El1Regs;
use vcpu::vgic::VirtGic;

use crate::{gic, registers, timer};

/// The CPU that runs this code. A value without content: all state is in the CPU's registers, which no
/// other CPU can reach.
#[derive(Clone, Copy, Debug)]
pub struct ThisCpu;

/// Declares `read_x(index)` and `write_x(index, value)` over numbered system registers. Numbers that do
/// not exist read as zero and ignore writes.
macro_rules! indexed_registers {
    ($read:ident, $write:ident: $($index:literal = $reg:literal),*) => {
        #[inline(always)]
        fn $read(index: usize) -> u64 {
            let value: u64;
            match index {
                $($index => {
                    // SAFETY: reads a register of the virtual CPU interface.
                    unsafe { core::arch::asm!(concat!("mrs {}, ", $reg), out(reg) value, options(nomem, nostack, preserves_flags)) }
                })*
                _ => value = 0,
            }
            value
        }

        #[inline(always)]
        fn $write(index: usize, value: u64) {
            match index {
                $($index => {
                    // SAFETY: the virtual CPU interface concerns only the guest.
                    unsafe { core::arch::asm!(concat!("msr ", $reg, ", {}"), in(reg) value, options(nomem, nostack, preserves_flags)) }
                })*
                _ => {}
            }
        }
    };
}

indexed_registers! { read_lr, write_lr:
    0 = "s3_4_c12_c12_0", 1 = "s3_4_c12_c12_1", 2 = "s3_4_c12_c12_2", 3 = "s3_4_c12_c12_3",
    4 = "s3_4_c12_c12_4", 5 = "s3_4_c12_c12_5", 6 = "s3_4_c12_c12_6", 7 = "s3_4_c12_c12_7",
    8 = "s3_4_c12_c13_0", 9 = "s3_4_c12_c13_1", 10 = "s3_4_c12_c13_2", 11 = "s3_4_c12_c13_3",
    12 = "s3_4_c12_c13_4", 13 = "s3_4_c12_c13_5", 14 = "s3_4_c12_c13_6", 15 = "s3_4_c12_c13_7"
}
indexed_registers! { read_ap0r, write_ap0r:
    0 = "s3_4_c12_c8_0", 1 = "s3_4_c12_c8_1", 2 = "s3_4_c12_c8_2", 3 = "s3_4_c12_c8_3"
}
indexed_registers! { read_ap1r, write_ap1r:
    0 = "s3_4_c12_c9_0", 1 = "s3_4_c12_c9_1", 2 = "s3_4_c12_c9_2", 3 = "s3_4_c12_c9_3"
}

/// How many ICH_AP0R<n> and ICH_AP1R<n> exist: PREbits + 1 preemption bits make 2^(n - 5) registers
/// (IHI 0069, ICH_VTR_EL2.PREbits). An access past them is UNDEFINED.
fn active_priority_registers() -> usize {
    match (registers::read_ich_vtr_el2() >> 26) & 7 {
        0..=4 => 1,
        5 => 2,
        _ => 4,
    }
}

impl VirtGic for ThisCpu {
    #[inline]
    fn lr_count(&self) -> usize {
        // ICH_VTR_EL2.ListRegs, bits 4:0.
        usize::try_from(registers::read_ich_vtr_el2() & 0x1F)
            .map_or(1, |n| n + 1)
            .min(16)
    }

    #[inline(always)]
    fn read_lr(&mut self, index: usize) -> u64 {
        read_lr(index)
    }

    #[inline(always)]
    fn write_lr(&mut self, index: usize, value: u64) {
        write_lr(index, value);
    }

    #[inline]
    fn read_elrsr(&mut self) -> u64 {
        registers::read_ich_elrsr_el2()
    }

    #[inline]
    fn read_hcr(&mut self) -> u64 {
        registers::read_ich_hcr_el2()
    }

    #[inline]
    fn write_hcr(&mut self, value: u64) {
        registers::write_ich_hcr_el2(value);
    }

    #[inline]
    fn read_vmcr(&mut self) -> u64 {
        registers::read_ich_vmcr_el2()
    }

    #[inline]
    fn write_vmcr(&mut self, value: u64) {
        registers::write_ich_vmcr_el2(value);
    }

    fn read_ap0r(&mut self, index: usize) -> u64 {
        if index < active_priority_registers() {
            read_ap0r(index)
        } else {
            0
        }
    }

    fn write_ap0r(&mut self, index: usize, value: u64) {
        if index < active_priority_registers() {
            write_ap0r(index, value);
        }
    }

    fn read_ap1r(&mut self, index: usize) -> u64 {
        if index < active_priority_registers() {
            read_ap1r(index)
        } else {
            0
        }
    }

    fn write_ap1r(&mut self, index: usize, value: u64) {
        if index < active_priority_registers() {
            write_ap1r(index, value);
        }
    }

    #[inline(always)]
    fn send_sgi(&mut self, value: u64) {
        // What the mailbox holds must be visible to the CPU that the interrupt reaches. No ISB after it:
        // the exception return that follows is one.
        aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISHST);
        registers::write_icc_sgi1r_el1(value);
    }

    fn relax(&mut self) {
        // YIELD lets an emulator's other CPUs run; the ISB makes a kick that was just sent leave this CPU.
        // SAFETY: a hint.
        unsafe { core::arch::asm!("yield", options(nomem, nostack, preserves_flags)) };
        registers::isb();
    }

    #[inline]
    fn deactivate(&mut self, intid: u32) {
        registers::write_icc_dir_el1(u64::from(intid));
    }

    fn set_ppi_enabled(&mut self, intid: u32, enabled: bool) {
        gic::enable_private(crate::cpu::affinity(), intid, enabled);
    }
}

impl Hardware for ThisCpu {
    #[inline(always)]
    fn esr(&self) -> u64 {
        registers::read_esr_el2()
    }

    #[inline(always)]
    fn far(&self) -> u64 {
        registers::read_far_el2()
    }

    #[inline(always)]
    fn hpfar(&self) -> u64 {
        registers::read_hpfar_el2()
    }

    #[inline(always)]
    fn elr(&self) -> u64 {
        registers::read_elr_el2()
    }

    #[inline(always)]
    fn set_elr(&mut self, value: u64) {
        registers::write_elr_el2(value);
    }

    #[inline(always)]
    fn spsr(&self) -> u64 {
        registers::read_spsr_el2()
    }

    #[inline(always)]
    fn set_spsr(&mut self, value: u64) {
        registers::write_spsr_el2(value);
    }

    #[inline(always)]
    fn sctlr_el1(&self) -> u64 {
        registers::read_sctlr_el1()
    }

    fn count(&self) -> u64 {
        timer::now()
    }

    fn frequency(&self) -> u64 {
        timer::frequency()
    }

    #[inline(always)]
    fn acknowledge(&mut self) -> u32 {
        // Bits 23:0 hold the INTID; the rest is RES0.
        u32::try_from(registers::read_icc_iar1_el1() & 0xFF_FFFF).unwrap_or(1023)
    }

    #[inline(always)]
    fn drop_priority(&mut self, intid: u32) {
        registers::write_icc_eoir1_el1(u64::from(intid));
    }
}

/// The guest's exception registers, live in the CPU while its lane runs here.
macro_rules! el1_registers {
    ($(read $get:ident: $read:literal;)* $(write $set:ident: $write:literal;)*) => {
        impl El1Regs for ThisCpu {
            $(
                fn $get(&self) -> u64 {
                    let value: u64;
                    // SAFETY: reads an EL1 register.
                    unsafe { core::arch::asm!(concat!("mrs {}, ", $read), out(reg) value, options(nomem, nostack, preserves_flags)) };
                    value
                }
            )*
            $(
                fn $set(&mut self, value: u64) {
                    // SAFETY: an EL1 register has no effect at EL2.
                    unsafe { core::arch::asm!(concat!("msr ", $write, ", {}"), in(reg) value, options(nomem, nostack, preserves_flags)) };
                }
            )*
        }
    };
}

el1_registers! {
    read vbar: "vbar_el1";
    read sctlr: "sctlr_el1";
    write set_elr: "elr_el1";
    write set_spsr: "spsr_el1";
    write set_esr: "esr_el1";
    write set_far: "far_el1";
}

/// MIDR_EL1: who made this CPU, and which it is.
#[must_use]
pub fn main_id() -> u64 {
    aarch64_cpu::registers::Readable::get(&aarch64_cpu::registers::MIDR_EL1)
}

/// The host's ID register of op0 = 3, op1 = 0, CRn = 0 with this CRm (1 to 7) and op2 (0 to 7).
/// Unallocated ones read as zero (Arm ARM D23.3.1).
#[must_use]
pub fn id_register(crm: u8, op2: u8) -> u64 {
    macro_rules! table {
        ($($crm:literal: $($op2:literal)*;)*) => {
            match (crm, op2) {
                $($(($crm, $op2) => {
                    let value: u64;
                    // SAFETY: the whole ID space is readable at EL2.
                    unsafe { core::arch::asm!(concat!("mrs {}, s3_0_c0_c", $crm, "_", $op2), out(reg) value, options(nomem, nostack, preserves_flags)) };
                    value
                })*)*
                _ => 0,
            }
        };
    }
    table! {
        1: 0 1 2 3 4 5 6 7;
        2: 0 1 2 3 4 5 6 7;
        3: 0 1 2 3 4 5 6 7;
        4: 0 1 2 3 4 5 6 7;
        5: 0 1 2 3 4 5 6 7;
        6: 0 1 2 3 4 5 6 7;
        7: 0 1 2 3 4 5 6 7;
    }
}
