//! A guest's memory that is not there: RAM for tests, at the address where a guest has its own.
//!
//! A `&Ram` is the port ([`GuestMemory`]). What tests do themselves, as the driver, goes by [`Ram::peek`] and
//! [`Ram::poke`], and does not call the hook.

use std::boxed::Box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec;
use std::vec::Vec;

use stage2_addr::Ipa;

use crate::memory::GuestMemory;

/// Where RAM begins.
pub const BASE: u64 = 0x4000_0000;

/// What a device is about to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Whether it writes.
    pub write: bool,
    /// Where.
    pub at: u64,
    /// Bytes.
    pub len: usize,
}

/// What is called before each access of a device, with the memory to change.
pub type Hook = Box<dyn FnMut(&Ram, Access) + Send>;

/// A leaked RAM, whose bytes go when this does: a property has thousands of cases, and megabytes for each.
pub struct Loan(&'static Ram);

impl Loan {
    /// So many bytes from [`BASE`] on, all zero.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Ram::leaked(bytes))
    }

    /// The RAM.
    #[must_use]
    pub const fn ram(&self) -> &'static Ram {
        self.0
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        *lock(&self.0.regions) = Regions::default();
    }
}

/// What there is.
#[derive(Default)]
struct Regions {
    /// Where each begins, and its bytes.
    all: Vec<(u64, Vec<u8>)>,
    /// What was taken away of them: from where to where.
    gone: Vec<(u64, u64)>,
}

impl Regions {
    /// All of a range, if it lies in one of them.
    fn slice(&mut self, at: u64, len: usize) -> Option<&mut [u8]> {
        let end = at.checked_add(len as u64)?;
        if self.gone.iter().any(|&(from, to)| at < to && from < end) {
            return None;
        }
        self.all.iter_mut().find_map(|(base, bytes)| {
            let start = usize::try_from(at.checked_sub(*base)?).ok()?;
            bytes.get_mut(start..start.checked_add(len)?)
        })
    }
}

/// RAM of a guest. Each access is one step: threads that race on it tear nothing that is read or written at once.
pub struct Ram {
    regions: Mutex<Regions>,
    hook: Mutex<Option<Hook>>,
    hooked: AtomicBool,
}

impl Ram {
    /// So many bytes from [`BASE`] on, all zero.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self::with(&[(BASE, bytes)])
    }

    /// Two regions of so many bytes, with a hole between them.
    #[must_use]
    pub fn with_hole(first: usize, hole: usize, second: usize) -> Self {
        let next = BASE + (first + hole) as u64;
        Self::with(&[(BASE, first), (next, second)])
    }

    /// Regions of so many bytes each, which do not touch.
    #[must_use]
    pub fn with(regions: &[(u64, usize)]) -> Self {
        let made = regions.iter().map(|&(at, bytes)| (at, vec![0; bytes]));
        Self {
            regions: Mutex::new(Regions {
                all: made.collect(),
                gone: Vec::new(),
            }),
            hook: Mutex::new(None),
            hooked: AtomicBool::new(false),
        }
    }

    /// The same, for ever.
    #[must_use]
    pub fn leaked(bytes: usize) -> &'static Self {
        Box::leak(Box::new(Self::new(bytes)))
    }

    /// From now on this is called before each access of a device.
    pub fn set_hook(&self, hook: impl FnMut(&Self, Access) + Send + 'static) {
        *lock(&self.hook) = Some(Box::new(hook));
        self.hooked.store(true, Ordering::SeqCst);
    }

    /// From now on nothing is.
    pub fn clear_hook(&self) {
        self.hooked.store(false, Ordering::SeqCst);
        *lock(&self.hook) = None;
    }

    /// Copies out, as the guest.
    ///
    /// # Panics
    /// If there is no RAM.
    #[must_use]
    pub fn peek(&self, at: u64, len: usize) -> Vec<u8> {
        let mut into = vec![0; len];
        assert!(self.get(at, &mut into).is_some(), "no RAM at {at:#x}");
        into
    }

    /// Copies in, as the guest.
    ///
    /// # Panics
    /// If there is no RAM.
    pub fn poke(&self, at: u64, bytes: &[u8]) {
        assert!(self.put(at, bytes).is_some(), "no RAM at {at:#x}");
    }

    /// A number of two bytes, as the guest.
    #[must_use]
    pub fn peek_u16(&self, at: u64) -> u16 {
        let mut bytes = [0; 2];
        assert!(self.get(at, &mut bytes).is_some(), "no RAM at {at:#x}");
        u16::from_le_bytes(bytes)
    }

    /// A number of four bytes, as the guest.
    #[must_use]
    pub fn peek_u32(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        assert!(self.get(at, &mut bytes).is_some(), "no RAM at {at:#x}");
        u32::from_le_bytes(bytes)
    }

    /// Writes a number of two bytes, as the guest.
    pub fn poke_u16(&self, at: u64, value: u16) {
        self.poke(at, &value.to_le_bytes());
    }

    /// Writes a number of four bytes, as the guest.
    pub fn poke_u32(&self, at: u64, value: u32) {
        self.poke(at, &value.to_le_bytes());
    }

    /// Writes a number of eight bytes, as the guest.
    pub fn poke_u64(&self, at: u64, value: u64) {
        self.poke(at, &value.to_le_bytes());
    }

    /// From now on there is no RAM in this range. For a hook as well.
    pub fn take_away(&self, at: u64, len: u64) {
        lock(&self.regions).gone.push((at, at.saturating_add(len)));
    }

    fn before(&self, access: Access) {
        if !self.hooked.load(Ordering::Relaxed) {
            return;
        }
        // What the hook does is not hooked itself.
        let hook = lock(&self.hook).take();
        if let Some(mut hook) = hook {
            hook(self, access);
            lock(&self.hook).get_or_insert(hook);
        }
    }

    fn get(&self, at: u64, into: &mut [u8]) -> Option<()> {
        let mut regions = lock(&self.regions);
        into.copy_from_slice(regions.slice(at, into.len())?);
        Some(())
    }

    fn put(&self, at: u64, bytes: &[u8]) -> Option<()> {
        let mut regions = lock(&self.regions);
        regions.slice(at, bytes.len())?.copy_from_slice(bytes);
        Some(())
    }

    fn load<const N: usize>(&self, at: Ipa) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (&self).read(at, &mut bytes)?;
        Some(bytes)
    }
}

/// A test that has failed while it held a lock leaves memory as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GuestMemory for &Ram {
    fn contains(&self, at: Ipa, len: u64) -> bool {
        let Ok(len) = usize::try_from(len) else {
            return false;
        };
        lock(&self.regions).slice(at.raw(), len).is_some()
    }

    fn read(&self, at: Ipa, into: &mut [u8]) -> Option<()> {
        self.before(Access {
            write: false,
            at: at.raw(),
            len: into.len(),
        });
        self.get(at.raw(), into)
    }

    fn write(&self, at: Ipa, bytes: &[u8]) -> Option<()> {
        self.before(Access {
            write: true,
            at: at.raw(),
            len: bytes.len(),
        });
        self.put(at.raw(), bytes)
    }

    fn copy(&self, from: Ipa, other: &Self, to: Ipa, len: u32) -> Option<()> {
        // Refused as a whole, before anything is read.
        if !self.contains(from, u64::from(len)) || !other.contains(to, u64::from(len)) {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        self.read(from, &mut bytes)?;
        other.write(to, &bytes)
    }

    fn load_u16(&self, at: Ipa) -> Option<u16> {
        self.load(at).map(u16::from_le_bytes)
    }

    fn load_u32(&self, at: Ipa) -> Option<u32> {
        self.load(at).map(u32::from_le_bytes)
    }

    fn load_u64(&self, at: Ipa) -> Option<u64> {
        self.load(at).map(u64::from_le_bytes)
    }

    fn store_u16(&self, at: Ipa, value: u16) -> Option<()> {
        self.write(at, &value.to_le_bytes())
    }

    fn store_u32(&self, at: Ipa, value: u32) -> Option<()> {
        self.write(at, &value.to_le_bytes())
    }

    fn store_u64(&self, at: Ipa, value: u64) -> Option<()> {
        self.write(at, &value.to_le_bytes())
    }

    fn acquire(&self) {}

    fn release(&self) {}

    fn fence(&self) {}
}
