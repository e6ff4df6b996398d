//! The machine's RAM in EL2's hands: granted once, then an arena, a guest's RAM or table frames.
//!
//! A [`Grant`] is the right to a piece of RAM. It is given at most once for any byte, only within RAM
//! that EL2 has mapped and never over the image or the device tree, so what is built on a grant can be
//! safe whatever its user gets wrong.

use core::alloc::Layout;
use core::arch::asm;
use core::mem::MaybeUninit;
use core::ptr;

use arrayvec::ArrayVec;
use spin::Mutex;
use stage2::TableQuota;
use stage2_addr::{HostPhys, HostRegion, PAGE_SIZE};
use vcpu::lane::Vcpu;

use crate::cpu::CpuStacks;
use crate::{cache, mmu};

/// Grants at most: eight machines with RAM, tables and slack.
const MAX_GRANTS: usize = 64;
/// RAM regions at most, after image and device tree are cut out.
const MAX_RAM: usize = 32;

/// The bytes of a lane's hot stack; the guard page lies below it.
const HOT_STACK: u64 = PAGE_SIZE;

static RAM: Mutex<ArrayVec<HostRegion, MAX_RAM>> = Mutex::new(ArrayVec::new_const());
static GRANTED: Mutex<ArrayVec<HostRegion, MAX_GRANTS>> = Mutex::new(ArrayVec::new_const());

/// Notes a piece of RAM that EL2 has mapped and that holds neither image nor device tree.
pub(crate) fn add_ram(region: HostRegion) -> bool {
    RAM.lock().try_push(region).is_ok()
}

/// The right to a piece of RAM, given once.
#[derive(Debug)]
pub struct Grant(HostRegion);

impl Grant {
    /// Takes a piece of RAM; `None` when it is not all RAM, or some of it was taken before.
    #[must_use]
    pub fn take(region: HostRegion) -> Option<Self> {
        let inside = RAM.lock().iter().any(|ram| ram.contains_region(&region));
        let mut granted = GRANTED.lock();
        let fresh = !granted.iter().any(|other| other.overlaps(&region));
        (inside && fresh && granted.try_push(region).is_ok()).then_some(Self(region))
    }

    /// The frames.
    #[must_use]
    pub fn region(&self) -> HostRegion {
        self.0
    }

    /// The bytes for reading, for good: the boot bundle.
    #[must_use]
    pub fn into_bytes(self) -> &'static [u8] {
        let (base, len) = raw_parts(self.0);
        // SAFETY: mapped RAM that is ours alone (the grant is consumed), never written again by us, and
        // no guest or device is given it.
        unsafe { core::slice::from_raw_parts(base, len) }
    }

    /// Frames for translation tables.
    #[must_use]
    pub fn into_quota(self) -> TableQuota {
        TableQuota::new(self.0)
    }
}

fn raw_parts(region: HostRegion) -> (*mut u8, usize) {
    let base = usize::try_from(region.base().raw()).unwrap_or(0);
    let len = usize::try_from(region.bytes()).unwrap_or(0);
    (ptr::with_exposed_provenance_mut(base), len)
}

/// EL2's objects: sized by the plan, filled at boot, never freed.
#[derive(Debug)]
pub struct Arena {
    next: u64,
    end: u64,
}

impl Arena {
    /// An arena over granted RAM.
    #[must_use]
    pub fn new(grant: Grant) -> Self {
        Self {
            next: grant.0.base().raw(),
            end: grant.0.end().raw(),
        }
    }

    #[inline(never)]
    fn take(&mut self, bytes: u64, align: u64) -> Option<u64> {
        let base = self.next.checked_next_multiple_of(align)?;
        let next = base.checked_add(bytes)?;
        (next <= self.end).then(|| {
            self.next = next;
            base
        })
    }

    /// Room for so many values, by whatever type: one copy of the code for all.
    #[inline(never)]
    fn room(&mut self, layout: Layout, count: usize) -> Option<*mut ()> {
        let bytes = layout.size().checked_mul(count)?;
        let base = self.take(bytes as u64, layout.align() as u64)?;
        Some(ptr::with_exposed_provenance_mut(
            usize::try_from(base).ok()?,
        ))
    }

    /// Moves a value into the arena.
    pub fn alloc<T>(&mut self, value: T) -> Option<&'static mut T> {
        let place = self.room(Layout::new::<T>(), 1)?.cast::<MaybeUninit<T>>();
        // SAFETY: granted RAM, aligned, large enough, handed out once and mapped for good.
        let place = unsafe { &mut *place };
        Some(place.write(value))
    }

    /// A list in the arena with nothing in it yet: unlike a value, it is never on the stack, and nothing is copied.
    pub fn alloc_list<T, const N: usize>(&mut self) -> Option<&'static mut ArrayVec<T, N>> {
        let place = self.room(Layout::new::<ArrayVec<T, N>>(), 1)?;
        // SAFETY: granted RAM, aligned, large enough, handed out once and mapped for good.
        let place = unsafe { &mut *place.cast::<MaybeUninit<ArrayVec<T, N>>>() };
        Some(place.write(ArrayVec::new_const()))
    }

    /// Collects values into a slice in the arena; `None` when they do not fit.
    pub fn alloc_slice<T>(
        &mut self,
        count: usize,
        mut value: impl FnMut(usize) -> T,
    ) -> Option<&'static mut [T]> {
        let first = self.room(Layout::new::<T>(), count)?.cast::<T>();
        for index in 0..count {
            // SAFETY: within the bytes just taken.
            let place = unsafe { first.add(index) };
            // SAFETY: aligned and ours; nothing of value is overwritten.
            unsafe { place.write(value(index)) };
        }
        // SAFETY: `count` initialised values, handed out once.
        Some(unsafe { core::slice::from_raw_parts_mut(first, count) })
    }

    /// Puts a lane where `enter` expects it: above a page of hot stack, above a guard page.
    pub fn alloc_lane(&mut self, lane: Vcpu<'static>) -> Option<&'static mut Vcpu<'static>> {
        let guard = self.take(PAGE_SIZE, PAGE_SIZE)?;
        self.take(HOT_STACK, PAGE_SIZE)?;
        let lane = self.alloc(lane)?;
        mmu::unmap_guard(HostPhys::new(guard)).ok()?;
        Some(lane)
    }

    /// A CPU's two stacks, each above a guard page.
    pub fn alloc_stacks(&mut self, bytes: u64, emergency: u64) -> Option<CpuStacks> {
        Some(CpuStacks {
            top: self.stack(bytes)?,
            emergency_top: self.stack(emergency)?,
        })
    }

    #[inline(never)]
    fn stack(&mut self, bytes: u64) -> Option<u64> {
        let bytes = bytes.checked_next_multiple_of(PAGE_SIZE)?;
        let guard = self.take(PAGE_SIZE, PAGE_SIZE)?;
        let base = self.take(bytes, PAGE_SIZE)?;
        mmu::unmap_guard(HostPhys::new(guard)).ok()?;
        base.checked_add(bytes)
    }

    /// What [`alloc_lane`](Self::alloc_lane) takes for one lane, at most.
    #[must_use]
    pub const fn lane_bytes() -> u64 {
        2 * PAGE_SIZE + HOT_STACK + size_of::<Vcpu<'static>>() as u64
    }
}

/// A machine's RAM as EL2 reaches it: by copying. No reference into it ever exists, because its lanes
/// change it at any moment.
#[derive(Debug)]
pub struct GuestRam {
    region: HostRegion,
}

impl GuestRam {
    /// The RAM of one machine.
    #[must_use]
    pub fn new(grant: Grant) -> Self {
        Self { region: grant.0 }
    }

    /// The frames.
    #[must_use]
    pub fn region(&self) -> HostRegion {
        self.region
    }

    /// The address of `len` bytes at `offset`, if all of them are inside.
    fn at(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        (end <= self.region.bytes()).then_some(())?;
        let address = self.region.base().raw().checked_add(offset)?;
        Some(ptr::with_exposed_provenance_mut(
            usize::try_from(address).ok()?,
        ))
    }

    /// Copies bytes in; `None`, with nothing written, when they do not fit. Before the machine runs.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Option<()> {
        let to = self.at(offset, bytes.len())?;
        // Files in the bundle are aligned to 4, and `memcpy` may not count on an MMU, which this does: normal memory
        // takes any address.
        // SAFETY: inside granted RAM, which no Rust reference covers; `bytes` is EL2's own memory.
        unsafe {
            asm!(
                "b 3f",
                "2: ldp {a}, {b}, [{from}], #16",
                "stp {a}, {b}, [{to}], #16",
                "3: subs {left}, {left}, #16",
                "b.hs 2b",
                "adds {left}, {left}, #16",
                "b.eq 5f",
                "4: ldrb {a:w}, [{from}], #1",
                "strb {a:w}, [{to}], #1",
                "subs {left}, {left}, #1",
                "b.ne 4b",
                "5:",
                a = out(reg) _, b = out(reg) _,
                from = inout(reg) bytes.as_ptr() => _,
                to = inout(reg) to => _,
                left = inout(reg) bytes.len() => _,
                options(nostack),
            );
        }
        Some(())
    }

    /// Copies bytes out, once: what the guest changes meanwhile is not seen. `None` when some are outside.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        let from = self.at(offset, into.len())?;
        for (index, byte) in into.iter_mut().enumerate() {
            // SAFETY: inside the range checked above.
            let place = unsafe { from.add(index) };
            // SAFETY: mapped RAM; volatile, as the guest may write it now.
            *byte = unsafe { place.read_volatile() };
        }
        Some(())
    }

    /// Zeroes `len` bytes at `offset`, by the cache line where the CPU can (DC ZVA). `None`, with nothing done, when they
    /// are not whole pages of it. While the machine does not run.
    pub fn scrub(&self, offset: u64, len: u64) -> Option<()> {
        let whole = (offset | len).is_multiple_of(PAGE_SIZE);
        let len = usize::try_from(len).ok().filter(|_| whole)?;
        let base = self.at(offset, len)?;
        let dczid: u64;
        // SAFETY: readable at EL2.
        unsafe {
            asm!("mrs {}, dczid_el0", out(reg) dczid, options(nomem, nostack, preserves_flags))
        };
        let block = 4usize << (dczid & 0xF);
        if dczid & (1 << 4) != 0 || block > 1024 {
            // SAFETY: granted RAM that no Rust reference covers.
            unsafe { ptr::write_bytes(base, 0, len) };
            return Some(());
        }
        let (first, end) = (base.addr(), base.addr() + len);
        // SAFETY: as above; whole pages are whole blocks, and a multiple of four of them.
        unsafe {
            asm!(
                "b 3f",
                "2: dc zva, {at}",
                "add {at}, {at}, {block}",
                "dc zva, {at}",
                "add {at}, {at}, {block}",
                "dc zva, {at}",
                "add {at}, {at}, {block}",
                "dc zva, {at}",
                "add {at}, {at}, {block}",
                "3: cmp {at}, {end}",
                "b.lo 2b",
                at = inout(reg) first => _, block = in(reg) block, end = in(reg) end,
                options(nostack),
            );
        }
        Some(())
    }

    /// Makes memory itself hold what EL2 wrote into `len` bytes at `offset`, and drops stale instructions: the machine
    /// starts with its caches off, and nothing older may come back from one. `None` when some are outside.
    pub fn hand_over(&self, offset: u64, len: u64) -> Option<()> {
        let base = self.at(offset, usize::try_from(len).ok()?)?;
        cache::hand_over(base.addr() as u64, len);
        Some(())
    }
}
