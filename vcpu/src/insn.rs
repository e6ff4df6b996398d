//! Loads and stores that the hardware does not describe (ISV = 0), decoded from the instruction itself.
//!
//! Only LDP, STP, LDPSW, LDNP, STNP and the pre- and post-indexed LDR and STR of general registers are understood.
//! Exclusives, atomics, SIMD and FP, tags, DC ZVA and everything whose effect the architecture leaves open are not:
//! the guest gets the synchronous external abort that real device memory may answer with. The word is an allegation:
//! another lane may have changed it since it faulted, so the address it computes must be the one that faulted.

use crate::context::{Context, Reg, spsr};
use crate::mmio::{Endian, Width, extend};

/// A base register: a general register or the current stack pointer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Base {
    /// X0 to X30.
    General(Reg),
    /// SP.
    StackPointer,
}

/// When the offset is added, and whether the base is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Indexing {
    /// The offset counts; the base stays.
    Offset,
    /// The access is at the base, which then moves.
    Post,
    /// The base moves, and the access is there.
    Pre,
}

/// A decoded load or store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Instruction {
    /// The first transfer register.
    pub rt: Reg,
    /// The second, of a pair.
    pub rt2: Option<Reg>,
    /// The base.
    pub base: Base,
    /// The offset in bytes.
    pub offset: i64,
    /// How it counts.
    pub indexing: Indexing,
    /// The width of each element.
    pub width: Width,
    /// A store.
    pub write: bool,
    /// The load extends the sign.
    pub sign_extend: bool,
    /// The register is 64 bits wide.
    pub sixty_four: bool,
}

/// The load or store that an A64 instruction word is, if it is one of those understood here.
#[must_use]
pub const fn decode(word: u32) -> Option<Instruction> {
    // Op 29:27 = 101 with V = 0: pairs. 111 with V = 0, 25:24 = 0: single registers.
    match word & 0x3c00_0000 {
        0x2800_0000 => pair(word),
        0x3800_0000 => single(word),
        _ => None,
    }
}

const fn reg(word: u32, shift: u32) -> Reg {
    Reg::from_field((word >> shift) as u64)
}

const fn base(word: u32) -> Base {
    match reg(word, 5) {
        Reg::XZR => Base::StackPointer,
        general => Base::General(general),
    }
}

const fn signed(bits: u32, width: u32) -> i64 {
    ((bits as u64) << (64 - width)).cast_signed() >> (64 - width)
}

/// Write-back to a register that is also transferred is CONSTRAINED UNPREDICTABLE (Arm ARM K1.2).
const fn clashes(base: Base, rt: Reg) -> bool {
    match base {
        Base::General(n) => n.number() == rt.number(),
        Base::StackPointer => false,
    }
}

/// Load/store pair (Arm ARM C4.1.88): opc 31:30, V 26, index 25:23, L 22, imm7, Rt2, Rn, Rt.
const fn pair(word: u32) -> Option<Instruction> {
    let load = word & (1 << 22) != 0;
    let no_allocate = (word >> 23) & 7 == 0;
    let (width, sign_extend) = match word >> 30 {
        0 => (Width::Word, false),
        // LDPSW. Without L this is STGP, and the non-temporal form is unallocated.
        1 if load && !no_allocate => (Width::Word, true),
        2 => (Width::Double, false),
        _ => return None,
    };
    let indexing = match (word >> 23) & 7 {
        0 | 2 => Indexing::Offset,
        1 => Indexing::Post,
        3 => Indexing::Pre,
        _ => return None,
    };
    let (rt, rt2, base) = (reg(word, 0), reg(word, 10), base(word));
    let moves = !matches!(indexing, Indexing::Offset);
    if load && rt.number() == rt2.number() || moves && (clashes(base, rt) || clashes(base, rt2)) {
        return None;
    }
    Some(Instruction {
        rt,
        rt2: Some(rt2),
        base,
        offset: signed((word >> 15) & 0x7f, 7) << width as u32,
        indexing,
        width,
        write: !load,
        sign_extend,
        sixty_four: sign_extend || matches!(width, Width::Double),
    })
}

/// Load/store register, immediate pre- and post-indexed (Arm ARM C4.1.88): size 31:30, opc 23:22, 21 = 0, imm9, 11:10.
const fn single(word: u32) -> Option<Instruction> {
    if word & (1 << 25 | 1 << 24 | 1 << 21) != 0 {
        return None;
    }
    let indexing = match (word >> 10) & 3 {
        1 => Indexing::Post,
        3 => Indexing::Pre,
        _ => return None,
    };
    let width = Width::from_sas((word >> 30) as u64);
    let (write, sign_extend, sixty_four) = match ((word >> 22) & 3, width) {
        (0, _) => (true, false, matches!(width, Width::Double)),
        (1, _) => (false, false, matches!(width, Width::Double)),
        (2, Width::Byte | Width::Half | Width::Word) => (false, true, true),
        (3, Width::Byte | Width::Half) => (false, true, false),
        _ => return None,
    };
    let (rt, base) = (reg(word, 0), base(word));
    if clashes(base, rt) {
        return None;
    }
    Some(Instruction {
        rt,
        rt2: None,
        base,
        offset: signed((word >> 12) & 0x1ff, 9),
        indexing,
        width,
        write,
        sign_extend,
        sixty_four,
    })
}

/// One access of a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Access {
    /// How far behind the first byte of the transfer, which is where the fault was. No access is in two pages, but the
    /// second one may be in the next.
    pub offset: u64,
    /// The width.
    pub width: Width,
    /// For a store, what goes onto the bus.
    pub store: Option<u64>,
}

/// The stack pointer's new value, to be written to SP_EL0 or SP_EL1, whichever the guest was using.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub struct StackPointer(pub u64);

/// A decoded instruction bound to the fault it is to resolve. Nothing has changed yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Transfer {
    instruction: Instruction,
    first: Access,
    second: Option<Access>,
    write_back: Option<u64>,
    endian: Endian,
}

/// What the guest's state is, besides its general registers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Situation {
    /// SPSR_EL2
    pub spsr: u64,
    /// The guest's current stack pointer.
    pub sp: u64,
    /// FAR_EL2
    pub far: u64,
    /// WnR of the syndrome.
    pub write: bool,
    /// The byte order of data.
    pub endian: Endian,
}

impl Transfer {
    /// Binds the instruction to the fault. `None`: answer with an external abort. That is so when the word is not
    /// understood, when the guest was in AArch32, when the word does not compute the address that faulted, when its
    /// direction is another, or when the transfer is misaligned or a store that leaves the page.
    #[must_use]
    pub fn prepare(word: u32, context: &Context, at: Situation) -> Option<Self> {
        let instruction = decode(word)?;
        if at.spsr & spsr::AARCH32 != 0 || instruction.write != at.write {
            return None;
        }
        let base = match instruction.base {
            Base::General(n) => context.get(n),
            Base::StackPointer => at.sp,
        };
        let moved = base.wrapping_add_signed(instruction.offset);
        let (address, write_back) = match instruction.indexing {
            Indexing::Offset => (moved, None),
            Indexing::Post => (base, Some(moved)),
            Indexing::Pre => (moved, Some(moved)),
        };
        let bytes = instruction.width.bytes();
        let last = (address & 0xfff) + bytes * (1 + u64::from(instruction.rt2.is_some())) - 1;
        let leaves = instruction.write && last > 0xfff;
        if address != at.far || address & (bytes - 1) != 0 || leaves {
            return None;
        }
        let access = |reg, offset| Access {
            offset,
            width: instruction.width,
            store: instruction.write.then(|| {
                let value = context.get(reg) & instruction.width.mask();
                at.endian.swap(value, instruction.width)
            }),
        };
        Some(Self {
            instruction,
            first: access(instruction.rt, 0),
            second: instruction.rt2.map(|reg| access(reg, bytes)),
            write_back,
            endian: at.endian,
        })
    }

    /// The accesses, one or two, in the order in which they are made.
    pub fn accesses(&self) -> impl Iterator<Item = Access> + use<> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    /// The instruction.
    #[must_use]
    pub const fn instruction(&self) -> &Instruction {
        &self.instruction
    }

    /// Ends the instruction once every access has succeeded: registers are loaded from `bus`, one value for each
    /// access, and the base moves. A value that was not given counts as zero. What is left for the caller is a new
    /// stack pointer, if there is one, and to move the PC.
    pub fn complete(&self, context: &mut Context, bus: [u64; 2]) -> Option<StackPointer> {
        let i = &self.instruction;
        if !i.write {
            let [first, second] = bus;
            context.set(i.rt, self.loaded(first));
            if let Some(rt2) = i.rt2 {
                context.set(rt2, self.loaded(second));
            }
        }
        let value = self.write_back?;
        match i.base {
            Base::General(n) => {
                context.set(n, value);
                None
            }
            Base::StackPointer => Some(StackPointer(value)),
        }
    }

    fn loaded(&self, bus: u64) -> u64 {
        let i = &self.instruction;
        let value = self.endian.swap(bus & i.width.mask(), i.width);
        extend(value, i.width, i.sign_extend, i.sixty_four)
    }
}

#[cfg(test)]
mod tests;
