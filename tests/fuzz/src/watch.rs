//! Who watches the memory while a device has it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio::fake::{Access, Ram};

/// Shared with the memory's hook.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<Watched>>);

/// What the watch knows.
#[derive(Default)]
pub struct Watched {
    /// Accesses since the beginning.
    pub accesses: usize,
    /// Where the device may write; everywhere, if there is nothing.
    pub writable: Vec<(u64, u64)>,
    /// Another CPU's stores: before which access, where, what.
    pub stores: Vec<(usize, u64, u16)>,
}

impl Watch {
    /// Watches from now on.
    pub fn on(ram: &Ram) -> Self {
        let watch = Self::default();
        let inside = watch.clone();
        ram.set_hook(move |ram, access| inside.get().see(ram, access));
        watch
    }

    pub fn get(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the device may write there; anywhere, if that is nothing. Where it could before.
    pub fn allow(&self, writable: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
        std::mem::replace(&mut self.get().writable, writable)
    }

    /// Accesses that something takes: no more than so many.
    pub fn bounded<T>(&self, most: usize, work: impl FnOnce() -> T) -> T {
        let before = self.get().accesses;
        let result = work();
        let took = self.get().accesses - before;
        assert!(took <= most, "{took} accesses");
        result
    }
}

impl Watched {
    fn see(&mut self, ram: &Ram, access: Access) {
        self.accesses += 1;
        if access.write && !self.writable.is_empty() {
            let end = access.at + access.len as u64;
            let mut places = self.writable.iter();
            let allowed = places.any(|(at, len)| *at <= access.at && end <= at + len);
            assert!(
                allowed,
                "a write of {} bytes at {:#x}",
                access.len, access.at
            );
        }
        let now = self.accesses;
        self.stores.retain(|(when, at, value)| {
            let due = *when <= now;
            if due {
                ram.poke_u16(*at, *value);
            }
            !due
        });
    }
}
