//! What a guest did to come to EL2.

use crate::context::Reg;
use crate::rig::{Random, World};
use vcpu_board::{GICD_BASE, GICR_BASE, GICR_STRIDE, PL011_BASE, VIRTIO_BASE, VIRTIO_STRIDE};

pub(super) const HVC: u64 = 0x16;
pub(super) const SMC: u64 = 0x17;
pub(super) const SYSREG: u64 = 0x18;
pub(super) const DATA_ABORT: u64 = 0x24;

/// ESR_EL2 of a class, with a 32-bit instruction.
pub(super) const fn esr(class: u64, iss: u64) -> u64 {
    class << 26 | 1 << 25 | iss & 0x1ff_ffff
}

/// ISS of MRS or MSR: op0, op1, CRn, CRm, op2 as in [`SysReg`](crate::sysreg::SysReg), and Rt.
pub(super) const fn sysreg_iss(raw: u64, rt: u64, read: bool) -> u64 {
    (raw >> 14) << 20
        | (raw & 7) << 17
        | (raw >> 11 & 7) << 14
        | (raw >> 7 & 15) << 10
        | rt << 5
        | (raw >> 3 & 15) << 1
        | read as u64
}

/// A synchronous exit.
#[derive(Clone, Debug)]
pub(super) struct Trap {
    pub(super) esr: u64,
    pub(super) far: u64,
    pub(super) hpfar: u64,
    pub(super) spsr: u64,
    pub(super) big_endian: bool,
    /// A register's number and what it holds.
    pub(super) x: (u64, u64),
}

impl Trap {
    pub(super) const fn new(esr: u64) -> Self {
        Self {
            esr,
            far: 0,
            hpfar: 0,
            spsr: 0x3c5,
            big_endian: false,
            x: (0, 0),
        }
    }

    /// A load or store at `ipa`: SAS, SRT and direction; whatever else it takes to be emulated.
    pub(super) const fn access(ipa: u64, sas: u64, rt: u64, write: bool, value: u64) -> Self {
        // A doubleword is loaded into a 64-bit register: SF.
        let sf = if sas == 3 { 1 << 15 } else { 0 };
        let iss = 1 << 24 | sas << 22 | rt << 16 | sf | (write as u64) << 6 | 0x07;
        Self {
            far: 0xffff_8000_1234_5000 | ipa & 0xfff,
            hpfar: ipa >> 12 << 4,
            x: (rt, value),
            ..Self::new(esr(DATA_ABORT, iss))
        }
    }

    pub(super) fn set(&self, world: &World<'_>, lane: usize) {
        const EE: u64 = 1 << 25;
        world.with(lane, |vcpu, port| {
            let cpu = &mut *port.cpu;
            cpu.esr = self.esr;
            cpu.far = self.far;
            cpu.hpfar = self.hpfar;
            cpu.spsr = self.spsr;
            cpu.el1.sctlr_el1 = cpu.el1.sctlr_el1 & !EE | if self.big_endian { EE } else { 0 };
            let (number, value) = self.x;
            vcpu.context.set(Reg::from_field(number), value);
        });
    }

    /// Any exit, the usual ones more often.
    pub(super) fn random(r: &mut Random, lanes: u64) -> Self {
        let mut trap = match r.below(18) {
            0 => call(r, HVC),
            1 => call(r, SMC),
            2..=3 => identification(r),
            4..=7 => sgi(r, lanes),
            8..=12 => device(r, lanes),
            13 => character(r),
            14 => Self::new(esr(SYSREG, r.next())),
            15..=16 => slot(r),
            _ => Self::new(esr(r.below(64), r.next())),
        };
        trap.spsr = mode(r) | r.next() & 0xf3f0_0fc0;
        trap.big_endian = r.one_in(20);
        // ISS2 and the bits beyond HPFAR_EL2.FIPA mean nothing here.
        trap.esr |= r.next() << 32;
        trap.hpfar |= r.next() & 0xffff_0000_0000_000f;
        if r.one_in(16) {
            trap.esr ^= 1 << r.below(26);
        }
        trap.sensible()
    }

    /// Without what no hardware reports: a doubleword loaded into a 32-bit register.
    const fn sensible(mut self) -> Self {
        const DOUBLE: u64 = 3 << 22;
        if self.esr >> 26 & 0x3f == DATA_ABORT && self.esr & DOUBLE == DOUBLE {
            self.esr |= 1 << 15;
        }
        self
    }
}

/// EL1h as a rule, else EL1t, EL0 or AArch32; never EL2, from which no exit comes.
fn mode(r: &mut Random) -> u64 {
    match r.below(12) {
        0 => 0b00100,
        1 => 0,
        2 => 0b10000 | r.below(16),
        _ => 0b00101,
    }
}

fn call(r: &mut Random, class: u64) -> Trap {
    let imm = if r.one_in(8) { r.below(0x1_0000) } else { 0 };
    let owner = r.of(&[0x80, 0x84, 0x86, 0xc0, 0xc4, 0xc6, 0x8a]) << 24;
    let function = match r.below(4) {
        0 => 0x8400_0000,
        1 => owner | r.of(&[0, 1, 0x100, 0x140, 0x7fff, 0x8000, 0x3fff, 0xff00, 0xff01]),
        2 => owner | r.below(0x1_0000),
        _ => r.next(),
    };
    let upper = if r.one_in(4) { r.next() << 32 } else { 0 };
    Trap {
        x: (0, function | upper),
        ..Trap::new(esr(class, imm))
    }
}

fn identification(r: &mut Random) -> Trap {
    // op0 3, op1 0, CRn 0.
    let raw = 3 << 14 | r.below(16) << 3 | r.below(8);
    Trap::new(esr(SYSREG, sysreg_iss(raw, r.below(32), !r.one_in(6))))
}

fn sgi(r: &mut Random, lanes: u64) -> Trap {
    let target = match r.below(6) {
        0 => r.below(256),
        1 => 1 << r.below(16),
        _ => 1 << r.below(lanes),
    };
    let mut value = r.below(16) << 24 | target;
    if r.one_in(10) {
        value |= 1 << r.of(&[16, 28, 32, 40, 41, 44, 48, 56, 63]);
    }
    // ICC_SGI1R_EL1 as a rule, else ICC_DIR_EL1, ICC_ASGI1R_EL1 or ICC_SGI0R_EL1.
    let op2 = if r.one_in(8) { r.of(&[1, 6, 7]) } else { 5 };
    let rt = if r.one_in(6) {
        r.below(32)
    } else {
        r.below(20)
    };
    let raw = 3 << 14 | 12 << 7 | 11 << 3 | op2;
    Trap {
        x: (rt, value),
        ..Trap::new(esr(SYSREG, sysreg_iss(raw, rt, r.one_in(12))))
    }
}

/// Registers of the distributor that are worth a visit.
const DISTRIBUTOR: &[u64] = &[
    0x0, 0x4, 0x8, 0x84, 0x104, 0x108, 0x10c, 0x100, 0x184, 0x188, 0x204, 0x208, 0x284, 0x304,
    0x384, 0x420, 0x424, 0x440, 0xc08, 0xc0c, 0x6100, 0x6108, 0xffe8,
];
/// Of a redistributor.
const REDISTRIBUTOR: &[u64] = &[
    0x0, 0x4, 0x8, 0xc, 0x14, 0x1_0080, 0x1_0100, 0x1_0100, 0x1_0180, 0x1_0200, 0x1_0280, 0x1_0300,
    0x1_0380, 0x1_0400, 0x1_0404, 0x1_0418, 0x1_0c00,
];
/// Of the UART.
const UART: &[u64] = &[0, 0x18, 0x18, 0x2c, 0x30, 0x38, 0x3c, 0x40, 0x44, 0xfe0];

/// What a driver does to send one: a look at the flags, or the store.
fn character(r: &mut Random) -> Trap {
    let write = !r.one_in(4);
    let offset = if write { 0 } else { 0x18 };
    let rt = if r.one_in(8) {
        r.below(32)
    } else {
        r.below(20)
    };
    let byte = match r.below(8) {
        0 => r.of(b"\r\n\t\x1b\xc3\xbc").into(),
        1 => r.below(256),
        _ => 0x20 + r.below(0x5f),
    };
    let value = byte | r.next() & !0xff;
    Trap::access(PL011_BASE + offset, r.below(4), rt, write, value)
}

/// A virtio driver's.
fn slot(r: &mut Random) -> Trap {
    let slot = match r.below(8) {
        0..=5 => r.below(4),
        _ => r.below(33),
    };
    let (offset, write) = match r.below(8) {
        0..=2 => (0x50, true),
        3 => (0x60, false),
        4..=5 => (0x64, true),
        _ => (r.below(0x20) * 4 + r.below(2), r.one_in(2)),
    };
    let rt = r.below(32);
    let value = match offset {
        // One slot or none, or any number of them.
        0x50 => r.of(&[0, 0x0101, 0x0201, 0x0401]) | ((r.next() & 0xffff) * u64::from(r.one_in(6))),
        _ => r.below(4) | r.next() << 32,
    };
    let sas = if r.one_in(12) { r.below(4) } else { 2 };
    let write = write != r.one_in(20);
    Trap::access(
        VIRTIO_BASE + slot * VIRTIO_STRIDE + offset,
        sas,
        rt,
        write,
        value,
    )
}

fn device(r: &mut Random, lanes: u64) -> Trap {
    let ipa = match r.below(8) {
        0..=1 => GICD_BASE + r.of(&[0x4, 0x8, 0x104, 0x108, 0x104, 0x108]),
        2..=3 => GICD_BASE + r.of(DISTRIBUTOR),
        4 => GICR_BASE + r.below(lanes + 1) * GICR_STRIDE + r.of(REDISTRIBUTOR),
        5 => GICR_BASE + r.below(lanes + 1) * GICR_STRIDE + r.of(&[8, 8, 0xc]),
        6 => PL011_BASE + r.of(UART),
        _ => r.of(&[GICD_BASE, GICR_BASE, PL011_BASE, 0x4000_0000]) + r.below(0x2_0000),
    };
    let sas = if r.one_in(5) { r.below(4) } else { 2 };
    let rt = if r.one_in(6) {
        r.below(32)
    } else {
        r.below(20)
    };
    let write = r.one_in(2);
    let mut value = u64::from(r.bits());
    if ipa == GICD_BASE && !r.one_in(8) {
        value = 3;
    }
    let mut trap = Trap::access(ipa, sas, rt, write, value);
    if r.one_in(8) {
        trap.esr = trap.esr & !0x3f | r.below(64);
    }
    if r.one_in(16) {
        trap.esr |= 1 << 21;
    }
    // Interrupts that software has made active are ended, where list registers are short, in an order that depends
    // on when those were filled last: the slow path itself does not come out the same twice.
    if matches!(ipa.wrapping_sub(GICD_BASE), 0x300..0x380) {
        trap.esr &= !(1 << 6);
    }
    if matches!(
        ipa.wrapping_sub(GICR_BASE) % GICR_STRIDE,
        0x1_0300..0x1_0380
    ) {
        trap.esr &= !(1 << 6);
    }
    trap
}
