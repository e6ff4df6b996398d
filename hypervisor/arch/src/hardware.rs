//! The CPU that runs this code, as `vcpu`'s ports see it: the virtual GIC interface, the exit's
//! syndrome, the guest's exception registers.

use core::sync::atomic::Ordering;

use vcpu::hot::Hardware;
use vcpu::inject::{El1Regs, VirtualSError};
use vcpu::vgic::port::Interface;
use vcpu::vgic::{MAX_LRS, VirtGic, lr};

use crate::{gic, registers, timer, vectors, world};

/// The CPU that runs this code. A value without content: all state is in the CPU's registers, which no
/// other CPU can reach.
#[derive(Clone, Copy, Debug)]
pub struct ThisCpu;

core::arch::global_asm!(
    r#"
    // Numbered registers: one access and one branch back for each, so that a number is a distance. Not by BL and RET: the
    // hot path, which comes here too, has nowhere to keep x30.
    .pushsection .text.numbered, "ax"
    .global __read_lr
__read_lr:
    .irp    bank, 12, 13
    .irp    number, 0, 1, 2, 3, 4, 5, 6, 7
    mrs     x17, s3_4_c12_c\bank\()_\number
    br      x16
    .endr
    .endr
    .global __write_lr
__write_lr:
    .irp    bank, 12, 13
    .irp    number, 0, 1, 2, 3, 4, 5, 6, 7
    msr     s3_4_c12_c\bank\()_\number, x17
    br      x16
    .endr
    .endr
    // Eight instructions apart: keeps the state (63:62) and sets the rest.
    .balign 4
    .global __pend_lr
__pend_lr:
    .irp    bank, 12, 13
    .irp    number, 0, 1, 2, 3, 4, 5, 6, 7
    mrs     x17, s3_4_c12_c\bank\()_\number
    and     x17, x17, #(3 << 62)
    orr     x17, x17, x15
    msr     s3_4_c12_c\bank\()_\number, x17
    br      x16
    .zero   12
    .endr
    .endr
    // ICH_AP0R<n>_EL2, then ICH_AP1R<n>_EL2.
    .global __read_apr
__read_apr:
    .irp    group, 8, 9
    .irp    number, 0, 1, 2, 3
    mrs     x17, s3_4_c12_c\group\()_\number
    br      x16
    .endr
    .endr
    .global __write_apr
__write_apr:
    .irp    group, 8, 9
    .irp    number, 0, 1, 2, 3
    msr     s3_4_c12_c\group\()_\number, x17
    br      x16
    .endr
    .endr
    .popsection
    "#
);

/// Declares `read(index)` and `write(index, value)` over numbered registers of the virtual CPU interface. Numbers that do
/// not exist read as zero and ignore writes.
macro_rules! numbered_registers {
    ($count:literal: $read:ident by $read_entry:literal, $write:ident by $write_entry:literal) => {
        #[inline(always)]
        fn $read(index: usize) -> u64 {
            if index >= $count {
                return 0;
            }
            let value: u64;
            // SAFETY: the entry for `index` reads one register of the virtual CPU interface into x17 and comes back.
            unsafe {
                core::arch::asm!(
                    concat!("adr {at}, ", $read_entry),
                    "add {at}, {at}, {index}, lsl #3",
                    "adr x16, 2f",
                    "br {at}",
                    "2:",
                    at = out(reg) _, index = in(reg) index, out("x17") value, out("x16") _,
                    options(nomem, nostack, preserves_flags)
                )
            };
            value
        }

        #[inline(always)]
        fn $write(index: usize, value: u64) {
            if index < $count {
                // SAFETY: the entry for `index` writes one register, which concerns only the guest, and comes back.
                unsafe {
                    core::arch::asm!(
                        concat!("adr {at}, ", $write_entry),
                        "add {at}, {at}, {index}, lsl #3",
                        "adr x16, 2f",
                        "br {at}",
                        "2:",
                        at = out(reg) _, index = in(reg) index, in("x17") value, out("x16") _,
                        options(nomem, nostack, preserves_flags)
                    )
                };
            }
        }
    };
}

numbered_registers!(16: read_lr by "__read_lr", write_lr by "__write_lr");
numbered_registers!(8: read_apr by "__read_apr", write_apr by "__write_apr");

/// How many ICH_AP0R<n> and ICH_AP1R<n> exist: PREbits + 1 preemption bits make 2^(n - 5) registers
/// (IHI 0069, ICH_VTR_EL2.PREbits). An access past them is UNDEFINED.
fn active_priority_registers() -> usize {
    match (registers::read_ich_vtr_el2() >> 26) & 7 {
        0..=4 => 1,
        5 => 2,
        _ => 4,
    }
}

/// Whether this CPU has four list registers and, for each group, one register of active priorities: as most have.
pub(crate) fn is_common() -> bool {
    ThisCpu.lr_count() == 4 && active_priority_registers() == 1
}

#[cold]
#[inline(never)]
fn save_many(lrs: &mut [u64; MAX_LRS]) {
    let count = ThisCpu.lr_count();
    for (index, slot) in lrs.iter_mut().enumerate().take(count) {
        *slot = read_lr(index);
    }
}

#[cold]
#[inline(never)]
fn load_many(lrs: &[u64; MAX_LRS]) {
    let count = ThisCpu.lr_count();
    for (index, value) in lrs.iter().enumerate().take(count) {
        write_lr(index, *value);
    }
}

#[cold]
#[inline(never)]
fn save_priorities(into: &mut Interface) {
    let slots = into.active.iter_mut().enumerate();
    for (index, slot) in slots.take(active_priority_registers()) {
        *slot = [read_apr(index), read_apr(4 + index)];
    }
}

#[cold]
#[inline(never)]
fn load_priorities(from: &Interface) {
    let values = from.active.iter().enumerate();
    for (index, [ap0r, ap1r]) in values.take(active_priority_registers()) {
        write_apr(index, *ap0r);
        write_apr(4 + index, *ap1r);
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
        if index == 0 {
            // The timer's, whose number is known where the code is written.
            registers::write_ich_lr0_el2(value);
        } else {
            write_lr(index, value);
        }
    }

    #[inline(always)]
    fn pend_lr(&mut self, index: usize, body: u64) {
        if index < 16 {
            // SAFETY: the entry for `index` sets one list register, which concerns only the guest, and comes back.
            unsafe {
                core::arch::asm!(
                    "adr {at}, __pend_lr",
                    "add {at}, {at}, {index}, lsl #5",
                    "adr x16, 2f",
                    "br {at}",
                    "2:",
                    at = out(reg) _, index = in(reg) index, in("x15") body | lr::PENDING, out("x16") _, out("x17") _,
                    options(nomem, nostack, preserves_flags)
                )
            };
        }
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

    #[inline(always)]
    fn set_ppis(&mut self, wanted: u32) {
        gic::set_ppis(wanted);
    }

    #[inline(always)]
    fn save_lrs(&mut self, lrs: &mut [u64; MAX_LRS]) {
        if crate::cpu::local().is_common.load(Ordering::Relaxed) {
            let one = registers::read_ich_lr0_el2();
            let two = registers::read_ich_lr1_el2();
            let three = registers::read_ich_lr2_el2();
            let four = registers::read_ich_lr3_el2();
            let [first, second, third, fourth, ..] = lrs;
            (*first, *second, *third, *fourth) = (one, two, three, four);
        } else {
            save_many(lrs);
        }
    }

    #[inline(always)]
    fn load_lrs(&mut self, lrs: &[u64; MAX_LRS]) {
        if crate::cpu::local().is_common.load(Ordering::Relaxed) {
            let [first, second, third, fourth, ..] = *lrs;
            registers::write_ich_lr0_el2(first);
            registers::write_ich_lr1_el2(second);
            registers::write_ich_lr2_el2(third);
            registers::write_ich_lr3_el2(fourth);
        } else {
            load_many(lrs);
        }
    }

    #[inline(always)]
    fn save_interface(&mut self, into: &mut Interface) {
        into.vmcr = registers::read_ich_vmcr_el2();
        let (first, second) = (
            registers::read_ich_ap0r0_el2(),
            registers::read_ich_ap1r0_el2(),
        );
        into.active[0] = [first, second];
        if !crate::cpu::local().is_common.load(Ordering::Relaxed) {
            save_priorities(into);
        }
    }

    #[inline(always)]
    fn load_interface(&mut self, from: &Interface) {
        registers::write_ich_vmcr_el2(from.vmcr);
        let [first, second] = from.active[0];
        registers::write_ich_ap0r0_el2(first);
        registers::write_ich_ap1r0_el2(second);
        if !crate::cpu::local().is_common.load(Ordering::Relaxed) {
            load_priorities(from);
        }
    }

    fn take_late_error(&mut self) {
        if vectors::take_error() {
            world::pend_virtual_serror(VirtualSError { vsesr: 0 });
        }
    }

    fn set_spi_enabled(&mut self, intid: u32, enabled: bool) {
        gic::enable_shared(intid, enabled);
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

    fn translate(&self, va: u64, el0: bool) -> Option<u64> {
        world::guest_address(va, el0)
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

core::arch::global_asm!(
    r#"
    .pushsection .text.asm, "ax"
    // x0 = the register's place in the order of the encoding. One MRS and one RET each.
    .global __id_register
__id_register:
    adr     x1, 0f
    add     x1, x1, x0, lsl #3
    br      x1
0:
    .irp    crm, 1, 2, 3, 4, 5, 6, 7
    .irp    op2, 0, 1, 2, 3, 4, 5, 6, 7
    mrs     x0, s3_0_c0_c\crm\()_\op2
    ret
    .endr
    .endr
    .popsection
    "#
);

unsafe extern "C" {
    fn __id_register(index: u64) -> u64;
}

/// The host's ID register of op0 = 3, op1 = 0, CRn = 0 with this CRm (1 to 7) and op2 (0 to 7).
/// Unallocated ones read as zero (Arm ARM D23.3.1).
#[must_use]
pub fn id_register(crm: u8, op2: u8) -> u64 {
    match (crm, op2) {
        // SAFETY: the index is below 56, and the whole ID space is readable at EL2.
        (1..=7, 0..=7) => unsafe { __id_register(u64::from(crm - 1) * 8 + u64::from(op2)) },
        _ => 0,
    }
}
